/* Faults of a vCPU's state, of clocks and of the CPU itself. */
#include <string.h>

#include "tests/kvm/faults.h"

static int swapped_registers(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_regs *regs = (struct kvm_regs *)argument;
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_REGS && result == 0) {
		uint64_t rsi = regs->rsi;

		regs->rsi = regs->rdi;
		regs->rdi = rsi;
	}
	return result;
}

static int lost_flag(int fd, unsigned long request, uintptr_t argument)
{
	if (request == KVM_SET_REGS) {
		((struct kvm_regs *)argument)->rflags &= ~UINT64_C(0x10); /* AF */
	}
	return door_call(fd, request, argument);
}

static int short_base(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_sregs sregs;

	if (request != KVM_SET_SREGS) {
		return door_call(fd, request, argument);
	}
	sregs = *(const struct kvm_sregs *)argument;
	sregs.fs.base &= 0xffffffff;
	return door_call(fd, request, (uintptr_t)&sregs);
}

static int dropped_msr(int fd, unsigned long request, uintptr_t argument)
{
	const struct kvm_msrs *msrs = (const struct kvm_msrs *)argument;

	if (request == KVM_SET_MSRS && msrs->nmsrs == 1 && msrs->entries[0].index == 0xc0000082) {
		return 1;
	}
	return door_call(fd, request, argument);
}

static int one_index(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)argument;

	for (uint32_t i = 0; request == KVM_SET_CPUID2 && i < cpuid->nent; i++) {
		cpuid->entries[i].flags = 0;
	}
	return door_call(fd, request, argument);
}

static int lost_vectors(int fd, unsigned long request, uintptr_t argument)
{
	if (request == KVM_SET_XSAVE) {
		memset((char *)((struct kvm_xsave *)argument)->region + 160, 0, 256);
	}
	return door_call(fd, request, argument);
}

static int pending_not_moved(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_LAPIC) {
		memset(((struct kvm_lapic_state *)argument)->regs + 0x200, 0, 0x80);
	}
	return result;
}

static int nmi_not_moved(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_VCPU_EVENTS) {
		((struct kvm_vcpu_events *)argument)->nmi.pending = 0;
	}
	return result;
}

static int stuck_clock(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_CLOCK ? 0 : door_call(fd, request, argument);
}

static int ignored_dirty_registers(int fd, unsigned long request, uintptr_t argument)
{
	if (request == KVM_RUN) {
		kvm_run_of(fd)->kvm_dirty_regs = 0;
	}
	return door_call(fd, request, argument);
}

const struct fault state_faults[] = {
	{"swapped_registers", "state/regs_come_from_the_guest", swapped_registers, NULL, 0},
	{"lost_flag", "state/regs_reach_the_guest", lost_flag, NULL, 0},
	{"short_base", "state/sregs_round_trip", short_base, NULL, 0},
	{"dropped_msr", "msr/lstar_is_shared", dropped_msr, NULL, 0},
	{"one_index", "cpuid/subleaves_are_told_apart", one_index, NULL, 0},
	{"lost_vectors", "fpu/xsave_reaches_the_guest", lost_vectors, NULL, 0},
	{"vectors_not_moved", "moved/keeps_vectors", lost_vectors, NULL, 0},
	{"pending_not_moved", "moved/keeps_pending_interrupts", pending_not_moved, NULL, 0},
	{"nmi_not_moved", "moved/with_a_pending_nmi", nmi_not_moved, NULL, 0},
	{"stuck_clock", "clock/clock_can_be_set", stuck_clock, NULL, 0},
	{"ignored_dirty_registers", "state/dirty_registers_are_loaded", ignored_dirty_registers,
	 NULL, 0},
	{"stale_tlb", "self/stale_tlb", NULL, "bare_fault_invlpg", 3},
	{"stale_large_page", "paging/invlpg_whole_large_page", NULL, "bare_fault_invlpg_large", 3},
	{"smap_stays_open", "paging/smap", NULL, "bare_fault_clac", 3},
	{"no_swapgs", "modes/swapgs", NULL, "bare_fault_swapgs", 3},
	{"wrong_flag", "insn/inc_dec_keep_carry", NULL, "bare_fault_stc", 1},
	FAULT_END,
};
