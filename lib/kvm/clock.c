#include "lib/kvm/clock.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"

#define NS_PER_S      UINT64_C(1000000000)
#define TOLERANCE_PPM 250
#define STABLE	      1 /* flags of the page */
#define GUEST_STOPPED 2
#define PAGE_ENABLED  1

/* What the guest reads. Spec: Linux Documentation/virt/kvm/x86/msr.rst */
struct time_page {
	uint32_t version; /* odd while it is written */
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};
_Static_assert(sizeof(struct time_page) == 32, "layout of the kvmclock page");

struct wall_page {
	uint32_t version;
	uint32_t sec;
	uint32_t nsec;
};
_Static_assert(sizeof(struct wall_page) == 12, "layout of the wall clock");

/* @a * @b >> @shift, of which the result must fit. */
static uint64_t mul_shift(uint64_t a, uint64_t b, unsigned shift)
{
	return (uint64_t)((unsigned __int128)a * b >> shift);
}

/* @a * @b / @c, or all ones. */
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	uint64_t high = (uint64_t)(product >> 64);
	uint64_t low = (uint64_t)product;
	uint64_t quotient = 0;

	if (high >= c) {
		return UINT64_MAX;
	}
	if (high == 0) {
		return low / c;
	}
	/* A division of 128 by 64 bits; the compiler's own needs a library. */
	for (unsigned i = 0; i < 64; i++) {
		bool carry = high >> 63 != 0;

		high = high << 1 | low >> 63;
		low <<= 1;
		quotient <<= 1;
		if (carry || high >= c) {
			high -= c;
			quotient |= 1;
		}
	}
	return quotient;
}

void kvm_clock_scale(uint64_t to_hz, uint64_t from_hz, int8_t *shift, uint32_t *mul)
{
	int s = 0;

	/* Bring from_hz into (to_hz, 2 * to_hz], then it is a fraction below 1 in 32 bits. */
	while (from_hz > to_hz * 2 || from_hz >> 32 != 0) {
		from_hz >>= 1;
		s--;
	}
	while (from_hz <= to_hz || to_hz >> 32 != 0) {
		if (from_hz >> 31 != 0 || to_hz >> 32 != 0) {
			to_hz >>= 1;
		} else {
			from_hz <<= 1;
		}
		s++;
	}
	*shift = (int8_t)s;
	*mul = (uint32_t)((to_hz << 32) / from_hz);
}

/* ---- TSC ---- */

static uint64_t scaled(const struct kvm_vcpu *vcpu, uint64_t host_tsc)
{
	if (vcpu->tsc_ratio == 0) {
		return host_tsc;
	}
	return mul_shift(host_tsc, vcpu->tsc_ratio, vcpu->env->backend->tsc_scale_bits);
}

uint64_t kvm_vcpu_guest_tsc(struct kvm_vcpu *vcpu)
{
	return scaled(vcpu, kvm_ops(vcpu->env)->tsc(vcpu->env)) + vcpu->tsc_offset;
}

uint64_t kvm_clock_host_tsc(struct kvm_vcpu *vcpu, uint64_t tsc, uint64_t now)
{
	if (vcpu->tsc_ratio == 0) {
		return tsc - vcpu->tsc_offset;
	}
	return kvm_ops(vcpu->env)->tsc(vcpu->env) +
	       mul_div(tsc - now, vcpu->env->tsc_khz, vcpu->tsc_khz) + 1;
}

void kvm_clock_move_tsc(struct kvm_vcpu *vcpu, uint64_t offset)
{
	vcpu->tsc_offset = offset;
	kvm_vcpu_note(vcpu, KVM_REQ_CLOCK);
	if (vcpu->apic != NULL) {
		kvm_irq_tsc_changed(vcpu);
	}
}

void kvm_clock_write_tsc(struct kvm_vcpu *vcpu, uint64_t value)
{
	struct kvm_vm *vm = vcpu->vm;
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_tsc_write *last = &vm->tsc_write;
	uint64_t hz = vcpu->tsc_khz * 1000;
	uint64_t offset;
	uint64_t now;
	bool same;

	ops->lock(vcpu->env, &vm->clock_lock);
	now = ops->now_ns(vcpu->env);
	offset = value - scaled(vcpu, ops->tsc(vcpu->env));
	same = last->khz == vcpu->tsc_khz;
	if (same && value != 0) {
		uint64_t expected =
			last->value + mul_div(now - last->at_ns, vcpu->tsc_khz, 1000000);

		same = value < expected + hz && value + hz > expected;
	}
	if (same) {
		offset = last->offset;
	}
	*last = (struct kvm_tsc_write){value, now, offset, vcpu->tsc_khz};
	ops->unlock(vcpu->env, &vm->clock_lock);
	kvm_clock_move_tsc(vcpu, offset);
}

void kvm_clock_set_offset(struct kvm_vcpu *vcpu, uint64_t offset)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t tsc;

	ops->lock(vcpu->env, &vcpu->vm->clock_lock);
	tsc = scaled(vcpu, ops->tsc(vcpu->env));
	vcpu->vm->tsc_write =
		(struct kvm_tsc_write){tsc + offset, ops->now_ns(vcpu->env), offset, vcpu->tsc_khz};
	ops->unlock(vcpu->env, &vcpu->vm->clock_lock);
	kvm_clock_move_tsc(vcpu, offset);
}

int kvm_clock_set_khz(struct kvm_vcpu *vcpu, uint64_t khz)
{
	const struct kvm_backend *backend = vcpu->env->backend;
	uint64_t host = vcpu->env->tsc_khz;
	uint64_t tolerance = host * TOLERANCE_PPM / 1000000;

	if (khz == 0) {
		khz = host;
	}
	if (khz + tolerance >= host && khz <= host + tolerance) {
		vcpu->tsc_ratio = 0;
	} else if (backend->tsc_scale_bits != 0 && khz <= UINT32_MAX) {
		uint64_t ratio = mul_div(khz, BIT(backend->tsc_scale_bits), host);

		/* The integer part has 8 bits. Spec: AMD APM vol. 2, 15.30.5 */
		if (ratio == 0 || ratio >> (backend->tsc_scale_bits + 8) != 0) {
			return -EINVAL;
		}
		vcpu->tsc_ratio = ratio;
	} else {
		return -EINVAL;
	}
	vcpu->tsc_khz = khz;
	kvm_vcpu_note(vcpu, KVM_REQ_CLOCK);
	return 0;
}

void kvm_clock_vcpu_init(struct kvm_vcpu *vcpu)
{
	vcpu->tsc_khz = vcpu->env->tsc_khz;
	if (vcpu->vm->default_tsc_khz != 0 &&
	    kvm_clock_set_khz(vcpu, vcpu->vm->default_tsc_khz) != 0) {
		vcpu->tsc_khz = vcpu->env->tsc_khz;
	}
	kvm_clock_write_tsc(vcpu, 0);
}

/* ---- kvmclock ---- */

void kvm_clock_vm_init(struct kvm_vm *vm)
{
	vm->clock_offset_ns = -(int64_t)kvm_ops(vm->env)->now_ns(vm->env);
}

void kvm_clock_get(struct kvm_vm *vm, struct kvm_clock_data *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint64_t now;
	uint64_t tsc;

	memset(data, 0, sizeof(*data));
	ops->lock(vm->env, &vm->clock_lock);
	if (ops->now_and_tsc(vm->env, &now, &tsc)) {
		data->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
		data->realtime = ops->wall_ns(vm->env);
		data->host_tsc = tsc;
	}
	data->clock = now + (uint64_t)vm->clock_offset_ns;
	ops->unlock(vm->env, &vm->clock_lock);
}

int kvm_clock_set(struct kvm_vm *vm, const struct kvm_clock_data *data)
{
	const struct kvm_env_ops *ops = kvm_ops(vm->env);
	uint64_t clock = data->clock;

	if ((data->flags & ~(uint32_t)KVM_CLOCK_REALTIME) != 0) {
		return -EINVAL;
	}
	ops->lock(vm->env, &vm->clock_lock);
	if ((data->flags & KVM_CLOCK_REALTIME) != 0) {
		uint64_t wall = ops->wall_ns(vm->env);

		/* Time that passed between saving and loading passes for the guest, too. */
		if (wall > data->realtime) {
			clock += wall - data->realtime;
		}
	}
	vm->clock_offset_ns = (int64_t)(clock - ops->now_ns(vm->env));
	ops->unlock(vm->env, &vm->clock_lock);
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		kvm_vcpu_request(kvm_vm_vcpu(vm, i), KVM_REQ_CLOCK);
	}
	return 0;
}

/* ---- pages of the guest's memory ---- */

/* Writes a record of the guest's, if it lies in one page; where there is no memory, nothing. */
static bool put(struct kvm_vcpu *vcpu, uint64_t gpa, const void *data, unsigned bytes)
{
	return (gpa & (KVM_PAGE_BYTES - 1)) + bytes <= KVM_PAGE_BYTES &&
	       kvm_memory_write(vcpu, gpa, data, bytes) == 0;
}

static bool fetch(struct kvm_vcpu *vcpu, uint64_t gpa, void *data, unsigned bytes)
{
	return (gpa & (KVM_PAGE_BYTES - 1)) + bytes <= KVM_PAGE_BYTES &&
	       kvm_memory_read(vcpu, gpa, data, bytes) == 0;
}

void kvm_clock_set_page(struct kvm_vcpu *vcpu, uint64_t value)
{
	vcpu->msr[KVM_MSR_SYSTEM_TIME] = value;
	vcpu->clock_page_set = (value & PAGE_ENABLED) != 0;
	vcpu->clock_version = 0;
	kvm_vcpu_note(vcpu, KVM_REQ_CLOCK);
}

static void fill_time(struct kvm_vcpu *vcpu, struct time_page *page)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	struct kvm_vm *vm = vcpu->vm;
	uint64_t now;
	uint64_t tsc;
	bool stable;

	ops->lock(vcpu->env, &vm->clock_lock);
	stable = ops->now_and_tsc(vcpu->env, &now, &tsc);
	page->system_time = now + (uint64_t)vm->clock_offset_ns;
	/* All vCPUs read one clock only if their TSCs do. */
	stable = stable && vcpu->tsc_offset == vm->tsc_write.offset;
	ops->unlock(vcpu->env, &vm->clock_lock);
	page->tsc_timestamp = scaled(vcpu, tsc) + vcpu->tsc_offset;
	kvm_clock_scale(NS_PER_S, vcpu->tsc_khz * 1000, &page->tsc_shift, &page->tsc_to_system_mul);
	page->flags = stable ? STABLE : 0;
	if (vcpu->pv_time_guest_stopped) {
		page->flags |= GUEST_STOPPED;
	}
}

void kvm_clock_update(struct kvm_vcpu *vcpu)
{
	uint64_t gpa = vcpu->msr[KVM_MSR_SYSTEM_TIME] & ~(uint64_t)PAGE_ENABLED;
	struct time_page page = {0};
	struct time_page old;

	if (!vcpu->clock_page_set) {
		return;
	}
	fill_time(vcpu, &page);
	kvm_ops(vcpu->env)->lock_read(vcpu->env, &vcpu->vm->memory);
	if (fetch(vcpu, gpa, &old, sizeof(old))) {
		/* A guest that did not see GUEST_STOPPED yet shall still see it. */
		page.flags |= vcpu->clock_version != 0 ? old.flags & GUEST_STOPPED : 0;
		page.version = (vcpu->clock_version == 0 ? old.version : vcpu->clock_version) | 1;
		if (put(vcpu, gpa, &page.version, sizeof(page.version))) {
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			(void)put(vcpu, gpa + 4, (char *)&page + 4, sizeof(page) - 4);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			page.version++;
			(void)put(vcpu, gpa, &page.version, sizeof(page.version));
			vcpu->clock_version = page.version;
			vcpu->pv_time_guest_stopped = false;
		}
	}
	kvm_ops(vcpu->env)->unlock_read(vcpu->env, &vcpu->vm->memory);
}

int kvm_clock_pause(struct kvm_vcpu *vcpu)
{
	if (!vcpu->clock_page_set) {
		return -EINVAL;
	}
	vcpu->pv_time_guest_stopped = true;
	kvm_vcpu_note(vcpu, KVM_REQ_CLOCK);
	return 0;
}

void kvm_clock_write_wall(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t boot_ns;
	struct wall_page page;
	uint32_t version;

	if (gpa == 0) {
		return;
	}
	boot_ns = ops->wall_ns(vcpu->env) -
		  (ops->now_ns(vcpu->env) + (uint64_t)vcpu->vm->clock_offset_ns);
	page.sec = (uint32_t)(boot_ns / NS_PER_S);
	page.nsec = (uint32_t)(boot_ns % NS_PER_S);
	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	if (fetch(vcpu, gpa, &version, sizeof(version))) {
		version |= 1;
		(void)put(vcpu, gpa, &version, sizeof(version));
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		(void)put(vcpu, gpa + 4, &page.sec, 8);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		version++;
		(void)put(vcpu, gpa, &version, sizeof(version));
	}
	ops->unlock_read(vcpu->env, &vcpu->vm->memory);
}

/* ---- steal time ---- */

#define STEAL_RESERVED UINT64_C(0x3e)
#define STEAL_ENABLED  1

int kvm_clock_set_steal(struct kvm_vcpu *vcpu, uint64_t value)
{
	if (kvm_ops(vcpu->env)->steal_ns == NULL || (value & STEAL_RESERVED) != 0) {
		return -EINVAL;
	}
	vcpu->msr[KVM_MSR_STEAL_TIME] = value;
	if ((value & STEAL_ENABLED) != 0) {
		kvm_vcpu_note(vcpu, KVM_REQ_STEAL);
	}
	return 0;
}

void kvm_clock_update_steal(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t gpa = vcpu->msr[KVM_MSR_STEAL_TIME] & ~UINT64_C(0x3f);
	struct kvm_steal_time record;
	uint64_t stolen;

	if ((vcpu->msr[KVM_MSR_STEAL_TIME] & STEAL_ENABLED) == 0 || ops->steal_ns == NULL) {
		return;
	}
	stolen = ops->steal_ns(vcpu->env, vcpu);
	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	if (fetch(vcpu, gpa, &record, sizeof(record))) {
		record.version |= 1;
		(void)put(vcpu, gpa + 8, &record.version, 4);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		record.steal += stolen - vcpu->steal_last_ns;
		(void)put(vcpu, gpa, &record.steal, 8);
		record.preempted = 0;
		(void)put(vcpu, gpa + 16, &record.preempted, 1);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		record.version++;
		(void)put(vcpu, gpa + 8, &record.version, 4);
		vcpu->steal_last_ns = stolen;
	}
	ops->unlock_read(vcpu->env, &vcpu->vm->memory);
}
