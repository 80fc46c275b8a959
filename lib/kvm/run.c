#include "lib/kvm/run.h"

#include <errno.h>
#include <string.h>

#include "lib/chip/lapic.h"
#include "lib/kvm/bus.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/dirty.h"
#include "lib/kvm/dirty_ring.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/events.h"
#include "lib/kvm/exits.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"
#include "lib/kvm/registers.h"
#include "lib/kvm/state.h"
#include "lib/x86/regs.h"

#define MSR_X2APIC_ICR (LAPIC_MSR_FIRST + LAPIC_ICR / 16)

#define EXC_DB 1
#define EXC_BP 3
#define EXC_UD 6
#define EXC_GP 13
#define EXC_PF 14

#define CPUID_FAULT_ENABLED BIT(0) /* of MISC_FEATURES_ENABLES */

#define SYNC_KNOWN (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

/* What a step of the loop comes to; errors are negative. */
enum {
	EXIT = 0, /* user space has an exit */
	GO_ON = 1,
	LOOK = 2, /* go on, but see first whether somebody waits for the thread */
};

static int exit_if(bool exit)
{
	return exit ? EXIT : GO_ON;
}

void kvm_vcpu_request(struct kvm_vcpu *vcpu, enum kvm_request request)
{
	kvm_vcpu_note(vcpu, request);
	kvm_ops(vcpu->env)->kick(vcpu->env, vcpu);
}

void kvm_vcpu_nmi(struct kvm_vcpu *vcpu)
{
	__atomic_fetch_add((uint32_t *)&vcpu->nmi_arrived, 1, __ATOMIC_RELEASE);
	kvm_vcpu_request(vcpu, KVM_REQ_NMI);
}

void kvm_vcpu_eoi_exit(struct kvm_vcpu *vcpu, uint8_t vector)
{
	vcpu->eoi_vector = vector;
	kvm_vcpu_note(vcpu, KVM_REQ_EOI_EXIT);
}

static void lock_memory(struct kvm_vcpu *vcpu)
{
	kvm_ops(vcpu->env)->lock_read(vcpu->env, &vcpu->vm->memory);
}

static void unlock_memory(struct kvm_vcpu *vcpu)
{
	kvm_ops(vcpu->env)->unlock_read(vcpu->env, &vcpu->vm->memory);
}

/* ---- stops ---- */

/* An access without a mapping: memory that is to be mapped, or a device. */
static int on_memory(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint64_t gfn = stop->memory.gpa >> KVM_PAGE_SHIFT;
	uint32_t offset;
	/* The local APIC's page lies above memory. */
	const struct kvm_slot *slot =
		vcpu->apic != NULL && kvm_irq_apic_page(vcpu, stop->memory.gpa, &offset)
			? NULL
			: kvm_memory_slot(vcpu, gfn);
	struct kvm_fault fault;
	int r;

	if (slot == NULL || (stop->memory.write && (slot->flags & KVM_MEM_READONLY) != 0)) {
		return exit_if(stop->memory.exact
				       ? kvm_emul_access(vcpu, stop->memory.gpa, stop->memory.write)
				       : kvm_emul_insn(vcpu));
	}
	fault = (struct kvm_fault){
		.slot = slot,
		.gfn = gfn,
		.user = kvm_memory_user(slot, gfn << KVM_PAGE_SHIFT),
		.write = stop->memory.write,
		.may_write = (slot->flags & KVM_MEM_READONLY) == 0 &&
			     (stop->memory.write || kvm_dirty_is_marked(slot, gfn)),
		.fetch = stop->memory.fetch,
		.large = (slot->flags & KVM_MEM_LOG_DIRTY_PAGES) == 0,
	};
	/* Before the page can be written to, so that no write is missed. */
	if (fault.write) {
		kvm_dirty_mark(vcpu, slot, gfn);
	}
	r = vcpu->env->backend->map(vcpu, &fault);
	/* A log taken between the two has cleared the mark, and found no mapping to protect. */
	if (r == 0 && fault.may_write) {
		kvm_dirty_mark(vcpu, slot, gfn);
	}
	return r == 0 || r == -EAGAIN ? GO_ON : r;
}

static int on_exception(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint8_t vector = stop->exception.vector;

	if (vector == EXC_DB || vector == EXC_BP) {
		return exit_if(kvm_debug_exception(vcpu, vector, stop->exception.dr6));
	}
	if (vector == EXC_UD && kvm_emul_foreign_hypercall(vcpu)) {
		return GO_ON;
	}
	if (vector == EXC_PF) {
		kvm_event_exception_payload(vcpu, vector, stop->exception.error,
					    stop->exception.dr6);
	} else {
		kvm_event_exception(vcpu, vector, stop->exception.error);
	}
	return GO_ON;
}

static __attribute__((noinline)) int on_cpuid(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint64_t *gpr = vcpu->cpu.gpr;
	uint32_t regs[4] = {(uint32_t)gpr[0], 0, (uint32_t)gpr[1], 0};

	if ((vcpu->msr[KVM_MSR_MISC_FEATURES] & CPUID_FAULT_ENABLED) != 0) {
		kvm_regs_need(vcpu, KVM_REGS_MODE);
		if (vcpu->cpu.cpl != 0) {
			kvm_event_exception(vcpu, EXC_GP, 0);
			return GO_ON;
		}
	}
	kvm_cpuid_query(vcpu, regs);
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	gpr[0] = regs[CPUID_EAX];
	gpr[3] = regs[CPUID_EBX];
	gpr[1] = regs[CPUID_ECX];
	gpr[2] = regs[CPUID_EDX];
	return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
}

static int on_hlt(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	bool stepped = kvm_emul_skip(vcpu, stop->insn_len);

	/* User space that has the APIC hears of HLT even when it steps. */
	if (vcpu->apic == NULL) {
		vcpu->run->exit_reason = KVM_EXIT_HLT;
		return EXIT;
	}
	kvm_event_take_nmis(vcpu);
	if (!kvm_event_wakes(vcpu)) {
		vcpu->mp_state = KVM_MP_STATE_HALTED;
	} else {
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	}
	return exit_if(stepped);
}

static __attribute__((noinline)) int on_msr(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	bool write = stop->reason == KVM_STOP_MSR_WRITE;
	bool sends = write && (uint32_t)vcpu->cpu.gpr[1] == MSR_X2APIC_ICR;

	if (kvm_exit_msr(vcpu, write, stop->insn_len)) {
		return EXIT;
	}
	/* Whom that has woken may have the better claim to this CPU. */
	return sends ? LOOK : GO_ON;
}

static int on_xsetbv(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint64_t value = (uint32_t)vcpu->cpu.gpr[0] | vcpu->cpu.gpr[2] << 32;

	kvm_regs_need(vcpu, KVM_REGS_MODE);
	if (vcpu->cpu.cpl != 0 || (uint32_t)vcpu->cpu.gpr[1] != 0 ||
	    kvm_reg_set_xcr0(vcpu, value) != 0) {
		kvm_event_exception(vcpu, EXC_GP, 0);
		return GO_ON;
	}
	return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
}

static int on_cr8(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint64_t before = kvm_reg_cr8(vcpu);

	if (kvm_reg_set_cr8(vcpu, stop->value) != 0) {
		kvm_event_exception(vcpu, EXC_GP, 0);
		return GO_ON;
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	if (kvm_emul_skip(vcpu, stop->insn_len)) {
		return EXIT;
	}
	if (vcpu->apic == NULL && stop->value < before) {
		/* User space's APIC may have something that was held off. */
		vcpu->run->exit_reason = KVM_EXIT_SET_TPR;
		return EXIT;
	}
	return GO_ON;
}

/* MONITOR and MWAIT wait for nothing; without them in CPUID Linux is as lenient, by a quirk. */
static int on_monitor(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	if ((vcpu->vm->quirks_off & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) != 0 &&
	    !kvm_cpuid_has(vcpu, CPUID_FEATURES, CPUID_ECX, BIT(3))) {
		kvm_event_exception(vcpu, EXC_UD, 0);
		return GO_ON;
	}
	return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
}

static int on_shutdown(struct kvm_vcpu *vcpu)
{
	/* The state is not defined: user space finds that of a reset. */
	kvm_vcpu_reset(vcpu, true);
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return EXIT;
}

static int on_hardware(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	struct kvm_run *run = vcpu->run;

	if (stop->reason == KVM_STOP_FAIL_ENTRY) {
		run->exit_reason = KVM_EXIT_FAIL_ENTRY;
		run->fail_entry.hardware_entry_failure_reason = stop->hardware;
		run->fail_entry.cpu = 0;
		return EXIT;
	}
	kvm_exit_internal(vcpu, stop->reason == KVM_STOP_TASK_SWITCH
					? KVM_INTERNAL_ERROR_EMULATION
					: KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
	if (stop->reason != KVM_STOP_TASK_SWITCH) {
		run->internal.ndata = 2;
		run->internal.data[0] = stop->hardware;
		run->internal.data[1] = 0;
	}
	return EXIT;
}

static int on_port(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	if (kvm_bus_has_ports(vcpu->vm)) {
		bool served;

		lock_memory(vcpu);
		served = kvm_exit_port_served(vcpu, stop->io.port, stop->io.bytes, stop->io.in);
		unlock_memory(vcpu);
		if (served) {
			return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
		}
	}
	kvm_exit_port(vcpu, stop->io.port, stop->io.bytes, stop->io.in, stop->insn_len);
	return EXIT;
}

/* Those that reach memory or the buses; vm->memory is held. */
static int on_bus_stop(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	switch (stop->reason) {
	case KVM_STOP_MEMORY:
		return on_memory(vcpu, stop);
	case KVM_STOP_EXCEPTION:
		return on_exception(vcpu, stop);
	case KVM_STOP_CR:
		return exit_if(kvm_emul_cr(vcpu, stop));
	default:
		return exit_if(kvm_emul_insn(vcpu));
	}
}

static int on_stop(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	int r;

	switch (stop->reason) {
	case KVM_STOP_NONE:
		return LOOK;
	case KVM_STOP_IRQ_WINDOW:
	case KVM_STOP_NMI_WINDOW:
		vcpu->want_irq_window = false;
		vcpu->want_nmi_window = false;
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
		return LOOK;
	case KVM_STOP_CPUID:
		return on_cpuid(vcpu, stop);
	case KVM_STOP_HLT:
		return on_hlt(vcpu, stop);
	case KVM_STOP_MSR_READ:
	case KVM_STOP_MSR_WRITE:
		return on_msr(vcpu, stop);
	case KVM_STOP_IO:
		return on_port(vcpu, stop);
	case KVM_STOP_MEMORY:
	case KVM_STOP_EXCEPTION:
	case KVM_STOP_EMULATE:
	case KVM_STOP_CR:
		lock_memory(vcpu);
		r = on_bus_stop(vcpu, stop);
		unlock_memory(vcpu);
		return r;
	case KVM_STOP_CR8_WRITE:
		return on_cr8(vcpu, stop);
	case KVM_STOP_XSETBV:
		return on_xsetbv(vcpu, stop);
	case KVM_STOP_RDPMC:
		kvm_event_exception(vcpu, EXC_GP, 0);
		return GO_ON;
	case KVM_STOP_HYPERCALL:
		return exit_if(kvm_exit_hypercall(vcpu, stop->insn_len));
	case KVM_STOP_MONITOR:
	case KVM_STOP_MWAIT:
		return on_monitor(vcpu, stop);
	case KVM_STOP_PAUSE:
		kvm_ops(vcpu->env)->resched(vcpu->env, vcpu);
		return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
	case KVM_STOP_FLUSH:
		return exit_if(kvm_emul_skip(vcpu, stop->insn_len));
	case KVM_STOP_UNDEFINED:
		kvm_event_exception(vcpu, EXC_UD, 0);
		return GO_ON;
	case KVM_STOP_SHUTDOWN:
		return on_shutdown(vcpu);
	default:
		return on_hardware(vcpu, stop);
	}
}

/* ---- one entry ---- */

/*
 * All but KVM_REQ_EVENT.
 * Return: GO_ON: enter; EXIT; or another value of the loop that skips the entry.
 */
static __attribute__((noinline)) int serve_requests(struct kvm_vcpu *vcpu)
{
	if (__atomic_load_n((bool *)&vcpu->vm->dead, __ATOMIC_RELAXED)) {
		return -EIO;
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_KICK)) {
		return LOOK;
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_RING_FULL) && kvm_ring_is_full(vcpu)) {
		kvm_vcpu_note(vcpu, KVM_REQ_RING_FULL);
		vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
		return EXIT;
	}
	(void)kvm_vcpu_take(vcpu, KVM_REQ_DEAD);
	(void)kvm_vcpu_take(vcpu, KVM_REQ_UNHALT);
	if (kvm_vcpu_take(vcpu, KVM_REQ_FILTER)) {
		vcpu->env->backend->features_changed(vcpu);
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_CLOCK)) {
		kvm_regs_change(vcpu, KVM_REGS_MSRS); /* how the TSC runs is among them */
		kvm_clock_update(vcpu);
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_STEAL)) {
		kvm_clock_update_steal(vcpu);
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_TRIPLE_FAULT)) {
		vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
		return EXIT;
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_NMI)) {
		kvm_event_take_nmis(vcpu);
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	}
	if (kvm_vcpu_take(vcpu, KVM_REQ_EOI_EXIT)) {
		vcpu->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		vcpu->run->eoi.vector = vcpu->eoi_vector;
		return EXIT;
	}
	return GO_ON;
}

/* Does user space wait for the moment to hand over an interrupt? */
static bool wants_window(const struct kvm_vcpu *vcpu)
{
	return *(volatile __u8 *)&vcpu->run->request_interrupt_window != 0 &&
	       vcpu->vm->irqchip != KVM_IRQCHIP_FULL;
}

/* There are requests. Return: as serve_requests(). */
static __attribute__((noinline)) int before_entry(struct kvm_vcpu *vcpu)
{
	if (__atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_RELAXED) != 1u << KVM_REQ_EVENT) {
		int r = serve_requests(vcpu);

		if (r != GO_ON) {
			return r;
		}
	}
	if (!kvm_vcpu_take(vcpu, KVM_REQ_EVENT)) {
		return GO_ON;
	}
	if (vcpu->apic != NULL) {
		kvm_irq_sync(vcpu);
		if (kvm_irq_has_init_sipi(vcpu)) {
			kvm_irq_take_init_sipi(vcpu);
		}
		if (vcpu->mp_state != KVM_MP_STATE_RUNNABLE) {
			kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
			return LOOK;
		}
	}
	kvm_event_prepare(vcpu);
	if (wants_window(vcpu)) {
		vcpu->want_irq_window = true;
	}
	return GO_ON;
}

static int enter(struct kvm_vcpu *vcpu)
{
	struct kvm_stop stop;

	if (__atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_RELAXED) != 0) {
		int r = before_entry(vcpu);

		if (r != GO_ON) {
			return r;
		}
	}
	/* What else is in it depends on the reason. */
	stop.reason = KVM_STOP_NONE;
	stop.insn_len = 0;
	stop.undelivered.kind = KVM_EVENT_NONE;
	if (vcpu->single_step) {
		kvm_debug_before(vcpu);
	}
	vcpu->env->backend->enter(vcpu, &stop);
	if (vcpu->single_step) {
		kvm_debug_after(vcpu);
	}
	if (vcpu->inject.kind != KVM_EVENT_NONE || stop.undelivered.kind != KVM_EVENT_NONE) {
		kvm_event_stopped(vcpu, &stop.undelivered);
	}
	return on_stop(vcpu, &stop);
}

/* ---- vCPUs that wait ---- */

/* Something may have come that ends the wait. Return: does it run now? */
static bool look_at_news(struct kvm_vcpu *vcpu)
{
	bool news = false;

	if (__atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_RELAXED) != 0) {
		news = kvm_vcpu_take(vcpu, KVM_REQ_EVENT);
		if (kvm_vcpu_take(vcpu, KVM_REQ_NMI)) {
			kvm_event_take_nmis(vcpu);
			news = true;
		}
		(void)kvm_vcpu_take(vcpu, KVM_REQ_UNHALT);
	}
	if (news) {
		kvm_irq_sync(vcpu);
	}
	if (kvm_irq_has_init_sipi(vcpu)) {
		kvm_irq_take_init_sipi(vcpu);
	}
	if (vcpu->mp_state == KVM_MP_STATE_HALTED &&
	    ((news && kvm_event_wakes(vcpu)) ||
	     __atomic_load_n((uint32_t *)&vcpu->kicked, __ATOMIC_ACQUIRE) != 0)) {
		__atomic_store_n((uint32_t *)&vcpu->kicked, 0, __ATOMIC_RELAXED);
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	return vcpu->mp_state == KVM_MP_STATE_RUNNABLE;
}

/* HLT, or the time before a start-up IPI. Whoever has news says so by a request. */
static __attribute__((noinline)) int wait_for_events(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);

	while (!look_at_news(vcpu)) {
		if (__atomic_load_n((bool *)&vcpu->vm->dead, __ATOMIC_RELAXED)) {
			return -EIO;
		}
		if (ops->signal_pending(vcpu->env, vcpu)) {
			return LOOK;
		}
		ops->block(vcpu->env, vcpu);
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return LOOK;
}

static int loop(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);

	for (;;) {
		int r = vcpu->mp_state == KVM_MP_STATE_RUNNABLE ? enter(vcpu)
								: wait_for_events(vcpu);

		/* Who wants the thread has the backend come back with KVM_STOP_NONE. */
		if (r == GO_ON && !vcpu->want_irq_window) {
			continue;
		}
		if (r <= EXIT) {
			return r;
		}
		if (wants_window(vcpu) && kvm_event_window_open(vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			return EXIT;
		}
		if (ops->signal_pending(vcpu->env, vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_INTR;
			return -EINTR;
		}
		ops->resched(vcpu->env, vcpu);
	}
}

/* Before the first SIPI: KVM_RUN returns once when the vCPU has been started. */
static rare int wait_for_start(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);

	if (!kvm_irq_has_init_sipi(vcpu) && !ops->signal_pending(vcpu->env, vcpu)) {
		ops->block(vcpu->env, vcpu);
	}
	if (kvm_irq_has_init_sipi(vcpu)) {
		kvm_irq_take_init_sipi(vcpu);
	}
	if (ops->signal_pending(vcpu->env, vcpu)) {
		vcpu->run->exit_reason = KVM_EXIT_INTR;
		return -EINTR;
	}
	return -EAGAIN;
}

/* ---- KVM_RUN ---- */

/* Registers that user space gives by the shared page instead of by ioctls. */
static __attribute__((noinline)) int take_synced(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t dirty = __atomic_load_n(&run->kvm_dirty_regs, __ATOMIC_RELAXED);
	uint64_t valid = __atomic_load_n(&run->kvm_valid_regs, __ATOMIC_RELAXED);
	/* User space may write while we read: check what is used. */
	union {
		struct kvm_regs regs;
		struct kvm_sregs sregs;
		struct kvm_vcpu_events events;
	} copy;

	if (((dirty | valid) & ~(uint64_t)SYNC_KNOWN) != 0) {
		return -EINVAL;
	}
	if ((dirty & KVM_SYNC_X86_REGS) != 0) {
		copy.regs = run->s.regs.regs;
		kvm_state_set_regs(vcpu, &copy.regs);
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
	}
	if ((dirty & KVM_SYNC_X86_SREGS) != 0) {
		copy.sregs = run->s.regs.sregs;
		if (kvm_state_set_sregs(vcpu, &copy.sregs) != 0) {
			return -EINVAL;
		}
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_SREGS;
	}
	if ((dirty & KVM_SYNC_X86_EVENTS) != 0) {
		copy.events = run->s.regs.events;
		if (kvm_state_set_events(vcpu, &copy.events) != 0) {
			return -EINVAL;
		}
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_EVENTS;
	}
	return 0;
}

static __attribute__((noinline)) void give_synced(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t valid = __atomic_load_n(&run->kvm_valid_regs, __ATOMIC_RELAXED);

	if ((valid & KVM_SYNC_X86_REGS) != 0) {
		kvm_state_get_regs(vcpu, &run->s.regs.regs);
	}
	if ((valid & KVM_SYNC_X86_SREGS) != 0) {
		kvm_state_get_sregs(vcpu, &run->s.regs.sregs);
	}
	if ((valid & KVM_SYNC_X86_EVENTS) != 0) {
		kvm_state_get_events(vcpu, &run->s.regs.events);
	}
}

static void tell_user_space(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (__atomic_load_n(&run->kvm_valid_regs, __ATOMIC_RELAXED) != 0) {
		give_synced(vcpu);
	}
	run->if_flag = (vcpu->cpu.rflags & RFLAGS_IF) != 0;
	run->cr8 = kvm_reg_cr8(vcpu);
	run->apic_base = kvm_irq_apic_base(vcpu);
	run->ready_for_interrupt_injection = vcpu->vm->irqchip == KVM_IRQCHIP_FULL ||
					     (run->if_flag != 0 && kvm_event_window_open(vcpu));
}

/* What reaches memory or the buses needs the lock; registers do not. */
static bool complete(struct kvm_vcpu *vcpu)
{
	const uint32_t locked = BIT(KVM_PENDING_STRING_IN) | BIT(KVM_PENDING_MMIO_READ) |
				BIT(KVM_PENDING_MMIO_WRITE);
	bool exit;

	if ((locked >> vcpu->exits->pending & 1) == 0) {
		return kvm_exit_complete(vcpu);
	}
	lock_memory(vcpu);
	exit = kvm_exit_complete(vcpu);
	unlock_memory(vcpu);
	return exit;
}

static int run_locked(struct kvm_vcpu *vcpu, bool immediate)
{
	struct kvm_run *run = vcpu->run;
	uint64_t cr8;
	int r;

	run->flags = 0;
	if (vcpu->mp_state == KVM_MP_STATE_UNINITIALIZED) {
		return immediate ? -EINTR : wait_for_start(vcpu);
	}
	r = (__atomic_load_n(&run->kvm_dirty_regs, __ATOMIC_RELAXED) |
	     __atomic_load_n(&run->kvm_valid_regs, __ATOMIC_RELAXED)) != 0
		    ? take_synced(vcpu)
		    : 0;
	if (r != 0) {
		return r;
	}
	cr8 = __atomic_load_n(&run->cr8, __ATOMIC_RELAXED);
	if (vcpu->apic == NULL && cr8 != vcpu->cr8 && kvm_reg_set_cr8(vcpu, cr8) != 0) {
		return -EINVAL;
	}
	if (vcpu->exits->pending != KVM_PENDING_NONE) {
		if (complete(vcpu)) {
			return EXIT;
		}
	}
	if (immediate) {
		return -EINTR;
	}
	if (kvm_ops(vcpu->env)->signal_pending(vcpu->env, vcpu)) {
		run->exit_reason = KVM_EXIT_INTR;
		return -EINTR;
	}
	if (wants_window(vcpu)) {
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	}
	vcpu->ran = true;
	return loop(vcpu);
}

int kvm_run(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	int r;

	ops->run_begin(vcpu->env, vcpu);
	/* From now on signals wait: a handler that sets it has done so, or ends what follows. */
	r = run_locked(vcpu, *(volatile __u8 *)&vcpu->run->immediate_exit != 0);
	tell_user_space(vcpu);
	ops->run_end(vcpu->env, vcpu);
	return r;
}
