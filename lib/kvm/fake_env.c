#include "lib/kvm/fake_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/kvm/caps.h"
#include "lib/kvm/emul_here.h"
#include "lib/x86/cpuid.h"

static struct fake *of_env(struct kvm_env *env)
{
	return container_of(env, struct fake, env);
}

static struct fake *of_vcpu(struct kvm_vcpu *vcpu)
{
	return of_env(vcpu->env);
}

/* ---- storage and locks ---- */

static void *fake_alloc(struct kvm_env *env, enum kvm_store kind, size_t bytes)
{
	struct fake *f = of_env(env);
	void *p;

	(void)kind;
	if (f->fail_in != 0 && --f->fail_in == 0) {
		return NULL;
	}
	p = aligned_alloc(4096, ALIGN_UP(MAX(bytes, (size_t)1), (size_t)4096));
	assert_non_null(p);
	memset(p, 0, bytes);
	f->allocated++;
	return p;
}

static void fake_free(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes)
{
	(void)kind;
	(void)bytes;
	of_env(env)->allocated--;
	free(p);
}

/* opaque[0]: kind + 1; [1]: held for writing; [2]: readers */
static void fake_lock_init(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind)
{
	(void)env;
	lock->opaque[0] = (uint64_t)kind + 1;
}

static void fake_lock_fini(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	assert_int_equal(lock->opaque[1] | lock->opaque[2], 0);
	lock->opaque[0] = 0;
}

static void fake_lock(struct kvm_env *env, struct kvm_lock *lock)
{
	assert_int_not_equal(lock->opaque[0], 0);
	assert_int_equal(lock->opaque[1], 0);
	assert_int_equal(lock->opaque[2], 0);
	lock->opaque[1] = 1;
	of_env(env)->locks_held++;
}

static void fake_unlock(struct kvm_env *env, struct kvm_lock *lock)
{
	assert_int_equal(lock->opaque[1], 1);
	lock->opaque[1] = 0;
	of_env(env)->locks_held--;
}

static void fake_lock_read(struct kvm_env *env, struct kvm_lock *lock)
{
	assert_int_equal(lock->opaque[0], KVM_LOCK_RW + 1);
	assert_int_equal(lock->opaque[1], 0);
	lock->opaque[2]++;
	of_env(env)->locks_held++;
}

static void fake_unlock_read(struct kvm_env *env, struct kvm_lock *lock)
{
	assert_int_not_equal(lock->opaque[2], 0);
	lock->opaque[2]--;
	of_env(env)->locks_held--;
}

static int fake_lock_killable(struct kvm_env *env, struct kvm_lock *lock)
{
	fake_lock(env, lock);
	return 0;
}

/* ---- user memory ---- */

static bool is_there(const struct fake *f, uint64_t user, uint64_t bytes)
{
	if (f->only_end != 0 && !range_inside(user, bytes, f->only, f->only_end - f->only)) {
		return false;
	}
	return user >= 4096 && user < BIT(47) && bytes < BIT(47) - user &&
	       (user + bytes <= f->hole || user >= f->hole_end);
}

static int fake_copy_in(struct kvm_env *env, void *to, uint64_t user, size_t bytes)
{
	if (!is_there(of_env(env), user, bytes)) {
		return -EFAULT;
	}
	memcpy(to, (void *)(uintptr_t)user, bytes);
	return 0;
}

static int fake_copy_out(struct kvm_env *env, uint64_t user, const void *from, size_t bytes)
{
	if (!is_there(of_env(env), user, bytes)) {
		return -EFAULT;
	}
	memcpy((void *)(uintptr_t)user, from, bytes);
	return 0;
}

static int fake_cmpxchg(struct kvm_env *env, uint64_t user, const void *old, const void *new,
			unsigned bytes)
{
	if (!is_there(of_env(env), user, bytes)) {
		return -EFAULT;
	}
	if (memcmp((void *)(uintptr_t)user, old, bytes) != 0) {
		return -EAGAIN;
	}
	memcpy((void *)(uintptr_t)user, new, bytes);
	return 0;
}

static bool fake_user_range(struct kvm_env *env, uint64_t user, uint64_t bytes)
{
	(void)env;
	return user < BIT(47) && bytes <= BIT(47) - user;
}

static bool fake_owns(struct kvm_env *env, struct kvm_vm *vm)
{
	(void)vm;
	return !of_env(env)->stranger;
}

/* ---- time ---- */

static uint64_t fake_now(struct kvm_env *env)
{
	return of_env(env)->now_ns;
}

static uint64_t fake_wall(struct kvm_env *env)
{
	return of_env(env)->wall_ns;
}

static uint64_t fake_tsc(struct kvm_env *env)
{
	return of_env(env)->tsc;
}

static bool fake_now_and_tsc(struct kvm_env *env, uint64_t *now_ns, uint64_t *tsc)
{
	*now_ns = of_env(env)->now_ns;
	*tsc = of_env(env)->tsc;
	return of_env(env)->tsc_stable;
}

static void fake_timer_arm(struct kvm_env *env, struct kvm_timer *timer, uint64_t deadline_ns)
{
	(void)env;
	timer->opaque[0] = deadline_ns;
}

static void fake_timer_cancel(struct kvm_env *env, struct kvm_timer *timer)
{
	(void)env;
	timer->opaque[0] = 0;
}

/* ---- eventfds ---- */

static int fake_eventfd_get(struct kvm_env *env, int fd, void **eventfd)
{
	struct fake *f = of_env(env);

	if (fd < FAKE_FD_EVENT || fd >= FAKE_FD_EVENT + FAKE_EVENTS) {
		return -EBADF;
	}
	f->event_refs[fd - FAKE_FD_EVENT]++;
	*eventfd = &f->rings[fd - FAKE_FD_EVENT];
	return 0;
}

static void fake_eventfd_put(struct kvm_env *env, void *eventfd)
{
	struct fake *f = of_env(env);
	size_t i = (size_t)((unsigned *)eventfd - f->rings);

	assert_int_not_equal(f->event_refs[i], 0);
	f->event_refs[i]--;
}

static void fake_eventfd_signal(struct kvm_env *env, void *eventfd)
{
	(void)env;
	++*(unsigned *)eventfd;
}

static int fake_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	(void)env;
	(void)eventfd;
	(void)watch;
	return 0;
}

static void fake_eventfd_unwatch(struct kvm_env *env, void *eventfd,
				 struct kvm_eventfd_watch *watch)
{
	(void)env;
	(void)eventfd;
	(void)watch;
}

/* ---- descriptors and threads ---- */

static int fake_vm_fd(struct kvm_env *env, struct kvm_vm *vm)
{
	if (of_env(env)->no_fds) {
		return -EMFILE;
	}
	of_env(env)->vm = vm;
	return 10;
}

static int fake_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct fake *f = of_env(env);

	if (f->no_fds) {
		return -EMFILE;
	}
	f->vcpu[f->vcpus++] = vcpu;
	return 20 + (int)vcpu->index;
}

static void fake_run_begin(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	if (of_env(env)->late) {
		vcpu->run->immediate_exit = 1;
	}
}

static void fake_run_end(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	(void)vcpu;
}

static bool fake_signal_pending(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return of_env(env)->signal;
}

static int fake_signal_mask(struct kvm_env *env, struct kvm_vcpu *vcpu, uint64_t user,
			    unsigned bytes)
{
	(void)vcpu;
	return bytes == 0 || is_there(of_env(env), user, bytes) ? 0 : -EFAULT;
}

static void fake_block(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	/* Nobody will come: a signal does. */
	of_env(env)->blocks++;
	of_env(env)->signal = true;
}

static void fake_kick(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	of_env(env)->kicks++;
}

static uint64_t fake_steal(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return of_env(env)->steal_ns;
}

static enum insn_outcome fake_emulate(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct fake *f = of_env(env);

	return f->emulate != NULL ? f->emulate(vcpu) : kvm_emulate_here(vcpu, NULL);
}

static int fake_find_code(struct kvm_env *env, const struct kvm_slot *slot, struct kvm_code *code)
{
	code->user = slot->user + code->linear;
	return of_env(env)->finds_code ? 0 : -EAGAIN;
}

static struct kvm_code_bytes fake_fetch_code(struct kvm_env *env, const struct kvm_code *code,
					     unsigned at)
{
	struct kvm_code_bytes bytes;

	(void)env;
	memcpy(&bytes, (const void *)(code->user + at), sizeof(bytes));
	return bytes;
}

static const struct kvm_env_ops fake_ops = {
	.find_code = fake_find_code,
	.fetch_code = fake_fetch_code,
	.emulate = fake_emulate,
	.alloc = fake_alloc,
	.free = fake_free,
	.lock_init = fake_lock_init,
	.lock_fini = fake_lock_fini,
	.lock = fake_lock,
	.unlock = fake_unlock,
	.lock_read = fake_lock_read,
	.unlock_read = fake_unlock_read,
	.lock_killable = fake_lock_killable,
	.copy_in = fake_copy_in,
	.copy_out = fake_copy_out,
	.cmpxchg = fake_cmpxchg,
	.user_range = fake_user_range,
	.owns = fake_owns,
	.now_ns = fake_now,
	.wall_ns = fake_wall,
	.tsc = fake_tsc,
	.now_and_tsc = fake_now_and_tsc,
	.timer_arm = fake_timer_arm,
	.timer_cancel = fake_timer_cancel,
	.eventfd_get = fake_eventfd_get,
	.eventfd_put = fake_eventfd_put,
	.eventfd_signal = fake_eventfd_signal,
	.eventfd_watch = fake_eventfd_watch,
	.eventfd_unwatch = fake_eventfd_unwatch,
	.vm_fd = fake_vm_fd,
	.vcpu_fd = fake_vcpu_fd,
	.run_begin = fake_run_begin,
	.run_end = fake_run_end,
	.signal_pending = fake_signal_pending,
	.resched = fake_run_end,
	.signal_mask = fake_signal_mask,
	.block = fake_block,
	.kick = fake_kick,
	.steal_ns = fake_steal,
};

/* ---- the backend ---- */

static void fake_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	memset(regs, 0, 4 * sizeof(regs[0]));
	switch (leaf) {
	case 0:
		regs[CPUID_EAX] = 0xd;
		memcpy(&regs[CPUID_EBX], "Auth", 4);
		memcpy(&regs[CPUID_EDX], "enti", 4);
		memcpy(&regs[CPUID_ECX], "cAMD", 4);
		break;
	case 1:
		regs[CPUID_EAX] = 0x00a20f10;
		regs[CPUID_EBX] = 0x05020800;
		regs[CPUID_ECX] = UINT32_MAX;
		regs[CPUID_EDX] = UINT32_MAX;
		break;
	case 7:
		regs[CPUID_EAX] = subleaf == 0 ? 1 : UINT32_MAX;
		regs[CPUID_EBX] = regs[CPUID_ECX] = regs[CPUID_EDX] = UINT32_MAX;
		break;
	case 0xd:
		if (subleaf == 1) {
			regs[CPUID_EAX] = 0xf;
		} else if (subleaf == 2) {
			regs[CPUID_EAX] = 256;
			regs[CPUID_EBX] = 576;
		}
		break;
	case 0x80000000:
		regs[CPUID_EAX] = 0x80000008;
		break;
	case 0x80000001:
		regs[CPUID_ECX] = regs[CPUID_EDX] = UINT32_MAX;
		break;
	case 0x80000008:
		regs[CPUID_EAX] = 0x3030;
		break;
	default:
		break;
	}
}

static int fake_vm_init(struct kvm_vm *vm)
{
	(void)vm;
	return 0;
}

static void fake_vm_fini(struct kvm_vm *vm)
{
	(void)vm;
}

static int fake_vcpu_init(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return 0;
}

static void fake_nothing(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
}

static void fake_load(struct kvm_vcpu *vcpu, uint32_t groups)
{
	vcpu->loaded |= groups;
}

static void fake_enter(struct kvm_vcpu *vcpu, struct kvm_stop *stop)
{
	struct fake *f = of_vcpu(vcpu);

	assert_int_equal(f->locks_held, 1); /* the vCPU's */
	f->enters++;
	if (kvm_vcpu_must_not_enter(vcpu)) {
		stop->undelivered = vcpu->inject;
		return;
	}
	vcpu->changed = 0;
	vcpu->loaded = KVM_REGS_CORE; /* the rest has to be asked for */
	if (vcpu->inject.kind != KVM_EVENT_NONE && f->deliveries < ARRAY_SIZE(f->delivered)) {
		f->delivered[f->deliveries++] = vcpu->inject;
	}
	if (f->guest != NULL) {
		f->guest(vcpu, stop);
	} else if (f->at < f->steps) {
		const struct fake_step *step = &f->step[f->at++];

		*stop = step->stop;
		if (step->before != NULL) {
			step->before(vcpu);
		}
	} else {
		stop->reason = KVM_STOP_HLT;
		stop->insn_len = 1;
	}
}

static void note(struct fake *f, char what, uint64_t gfn, uint64_t pages)
{
	if (f->changes < FAKE_CHANGES) {
		f->change[f->changes].what = what;
		f->change[f->changes].gfn = gfn;
		f->change[f->changes++].pages = pages;
	}
}

static int fake_map(struct kvm_vcpu *vcpu, const struct kvm_fault *fault)
{
	struct fake *f = of_vcpu(vcpu);

	f->last_fault = *fault;
	note(f, 'm', fault->gfn, 1);
	return f->map_result;
}

static void fake_unmap(struct kvm_vm *vm, uint64_t gfn, uint64_t pages)
{
	note(of_env(vm->env), 'u', gfn, pages);
}

static void fake_protect(struct kvm_vm *vm, uint64_t gfn, uint64_t mask)
{
	note(of_env(vm->env), 'p', gfn, mask);
}

static void fake_flush(struct kvm_vm *vm)
{
	of_env(vm->env)->flushes++;
}

void fake_init(struct fake *f)
{
	memset(f, 0, sizeof(*f));
	f->backend = (struct kvm_backend){
		.name = "fake",
		.amd = true,
		.phys_bits = 48,
		.xcr0 = 7,
		.xsave_bytes = 832,
		.arch_capabilities = 0x61,
		.host_cpuid = fake_cpuid,
		.vm_init = fake_vm_init,
		.vm_fini = fake_vm_fini,
		.vcpu_init = fake_vcpu_init,
		.vcpu_fini = fake_nothing,
		.load = fake_load,
		.features_changed = fake_nothing,
		.enter = fake_enter,
		.flush_guest_tlb = fake_nothing,
		.map = fake_map,
		.unmap = fake_unmap,
		.write_protect = fake_protect,
		.flush = fake_flush,
	};
	f->env.ops = &fake_ops;
	f->env.backend = &f->backend;
	f->env.max_vcpus = 8;
	f->env.cpus = 2;
	f->env.tsc_khz = 1000000;
	f->now_ns = 1000;
	f->tsc = 5000;
	f->tsc_stable = true;
	f->wall_ns = UINT64_C(1700000000000000000);
}

void fake_end(struct fake *f)
{
	assert_int_equal(f->allocated, 0);
	assert_int_equal(f->locks_held, 0);
	assert_int_equal(f->env.vms, 0);
	for (unsigned i = 0; i < FAKE_EVENTS; i++) {
		assert_int_equal(f->event_refs[i], 0);
	}
}

struct kvm_vm *fake_vm(struct fake *f)
{
	assert_int_equal(kvm_system_ioctl(&f->env, KVM_CREATE_VM, 0), 10);
	return f->vm;
}

struct kvm_vcpu *fake_vcpu(struct fake *f, uint32_t id)
{
	assert_true(kvm_vm_ioctl(f->vm, KVM_CREATE_VCPU, id) >= 20);
	return f->vcpu[f->vcpus - 1];
}

void fake_close(struct fake *f)
{
	for (unsigned i = 0; i < f->vcpus; i++) {
		kvm_vcpu_release(f->vcpu[i]);
	}
	f->vcpus = 0;
	kvm_vm_release(f->vm);
	f->vm = NULL;
}

int64_t fake_slot(struct fake *f, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t bytes,
		  const void *user)
{
	struct kvm_userspace_memory_region region = {
		.slot = id,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)user,
	};

	return vm_call(f, KVM_SET_USER_MEMORY_REGION, &region);
}

void fake_play(struct fake *f, const struct fake_step *steps, unsigned count)
{
	f->step = steps;
	f->steps = count;
	f->at = 0;
}
