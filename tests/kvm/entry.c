/* The states in which a vCPU can and cannot be entered: reset, refused registers, MP states. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define CR0_PE	 UINT64_C(1)
#define CR0_NW	 (UINT64_C(1) << 29)
#define CR4_PAE	 UINT64_C(0x20)
#define CR4_SMEP (UINT64_C(1) << 20)
#define EFER_LMA UINT64_C(0x400)

/* ---- reset ---- */

static void expect_reset_segment(const struct kvm_segment *segment, uint16_t selector,
				 uint64_t base)
{
	expect_eq(segment->selector, selector);
	expect_eq(segment->base, base);
	expect_eq(segment->limit, 0xffff);
	expect_eq(segment->present, 1);
}

static void new_vcpu_is_reset(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	regs = vcpu_regs(vcpu);
	sregs = vcpu_sregs(vcpu);
	expect_eq(regs.rip, 0xfff0);
	expect_eq(regs.rflags, 2);
	expect_eq(regs.rax | regs.rbx | regs.rcx | regs.rsi | regs.rdi | regs.rbp | regs.rsp, 0);
	expect_eq(sregs.cr0, 0x60000010);
	expect_eq(sregs.cr2 | sregs.cr3 | sregs.cr4 | sregs.efer, 0);
	expect_reset_segment(&sregs.cs, 0xf000, 0xffff0000);
	expect_reset_segment(&sregs.ds, 0, 0);
	expect_reset_segment(&sregs.es, 0, 0);
	expect_reset_segment(&sregs.fs, 0, 0);
	expect_reset_segment(&sregs.gs, 0, 0);
	expect_reset_segment(&sregs.ss, 0, 0);
	expect_eq(sregs.gdt.base | sregs.idt.base, 0);
	expect_eq(sregs.gdt.limit, 0xffff);
	expect_eq(sregs.idt.limit, 0xffff);
}

static void first_instruction_is_below_4_gib(void)
{
	static const uint8_t code[] = {0xb0, 0x5a, 0xe6, 0x10}; /* mov $0x5a, %al; out %al, $0x10 */
	uint8_t *rom = vm_memory(16 * PAGE);
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	memcpy(rom + 0xfff0, code, sizeof(code));
	must(vm_set_slot(&vm, 1, 0, 0xffff0000, 16 * PAGE, rom));
	expect_out(vm_add_vcpu(&vm), 0x10, 1, 0x5a);
}

/* ---- refused registers ---- */

/* The vCPU stays as it was. */
static void expect_sregs_refused(struct vcpu *vcpu, const struct kvm_sregs *bad)
{
	struct kvm_sregs before = vcpu_sregs(vcpu), after;

	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_SREGS, bad), EINVAL);
	after = vcpu_sregs(vcpu);
	expect(memcmp(&before, &after, sizeof(before)) == 0);
	guest_store(vcpu, VM_FREE, 1);
}

static void paging_needs_protection(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 &= ~CR0_PE;
	sregs.efer = 0;
	sregs.cs.l = 0;
	sregs.cs.db = 1;
	expect_sregs_refused(vcpu, &sregs);
}

static void nw_needs_cd(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 |= CR0_NW;
	expect_sregs_refused(vcpu, &sregs);
}

static void cr0_has_32_bits(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 |= UINT64_C(1) << 32;
	expect_sregs_refused(vcpu, &sregs);
}

static void long_mode_needs_pae(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr4 &= ~CR4_PAE;
	expect_sregs_refused(vcpu, &sregs);
}

static void lme_and_paging_need_lma(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.efer &= ~EFER_LMA;
	expect_sregs_refused(vcpu, &sregs);
}

static void lma_needs_lme(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.efer &= ~(uint64_t)EFER_LME;
	expect_sregs_refused(vcpu, &sregs);
}

static void lma_needs_paging(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 &= ~(uint64_t)CR0_PG;
	expect_sregs_refused(vcpu, &sregs);
}

static void long_code_needs_long_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 &= ~(uint64_t)CR0_PG;
	sregs.efer = 0;
	expect_eq(sregs.cs.l, 1);
	expect_sregs_refused(vcpu, &sregs);
}

static void cr4_reserved_bits(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs good = vcpu_sregs(vcpu), bad;

	for (unsigned int bit = 33; bit < 64; bit += 10) {
		bad = good;
		bad.cr4 |= UINT64_C(1) << bit;
		expect_sregs_refused(vcpu, &bad);
	}
	bad = good;
	bad.cr4 |= 1 << 15;
	expect_sregs_refused(vcpu, &bad);
}

static void cr4_of_an_absent_feature(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(&vm);
	struct kvm_sregs sregs;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 7 && cpuid->entries[i].index == 0) {
			cpuid->entries[i].ebx &= ~(UINT32_C(1) << 7); /* SMEP */
		}
	}
	/* A vCPU that has run may keep the CPUID that it has: take a new one. */
	vcpu = vm_add_plain_vcpu(&vm);
	vcpu_set_cpuid(vcpu, cpuid);
	access_start_vcpu(vcpu);
	sregs = vcpu_sregs(vcpu);
	sregs.cr4 |= CR4_SMEP;
	expect_sregs_refused(vcpu, &sregs);
}

static void cr3_beyond_the_address_width(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr3 |= UINT64_C(1) << 60;
	expect_sregs_refused(vcpu, &sregs);
}

/* No CPU takes code that is both 64-bit and 32-bit. Some providers know at once, some ask it. */
static void code_both_64_and_32_bit(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	int result;

	sregs.cs.db = 1;
	result = kvm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
	if (result == 0) {
		access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
		expect_exit(vcpu, KVM_EXIT_FAIL_ENTRY);
	} else {
		expect_errno(result, EINVAL);
	}
	expect_eq(access_word(vm.ram + VM_FREE), 0);
	access_start_vcpu(vcpu);
	guest_store(vcpu, VM_FREE, 2);
	expect_eq(access_word(vm.ram + VM_FREE), 2);
}

/* ---- MP states ---- */

static uint32_t mp_state(struct vcpu *vcpu)
{
	struct kvm_mp_state state = {.mp_state = UINT32_MAX};

	must(kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
	return state.mp_state;
}

static int set_mp_state(struct vcpu *vcpu, uint32_t mp_state)
{
	struct kvm_mp_state state = {.mp_state = mp_state};

	return kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &state);
}

static void without_chips_all_are_runnable(void)
{
	static const uint32_t others[] = {
		KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_HALTED,
		KVM_MP_STATE_SIPI_RECEIVED, KVM_MP_STATE_STOPPED,	77,
	};
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm), *other = vm_add_vcpu(&vm);

	expect_eq(mp_state(vcpu), KVM_MP_STATE_RUNNABLE);
	expect_eq(mp_state(other), KVM_MP_STATE_RUNNABLE);
	expect_eq(set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		expect_errno(set_mp_state(vcpu, others[i]), EINVAL);
	}
	guest_store(vcpu, VM_FREE, 1);
}

static void with_chips_the_others_wait(enum vm_irqchip irqchip)
{
	struct vm vm;

	vm_create(&vm, irqchip);
	expect_eq(mp_state(vm_add_vcpu(&vm)), KVM_MP_STATE_RUNNABLE);
	expect_eq(mp_state(vm_add_vcpu(&vm)), KVM_MP_STATE_UNINITIALIZED);
	expect_eq(mp_state(vm_add_vcpu(&vm)), KVM_MP_STATE_UNINITIALIZED);
}

static void with_split_chips_the_others_wait(void)
{
	with_chips_the_others_wait(IRQCHIP_SPLIT);
}

static void with_full_chips_the_others_wait(void)
{
	with_chips_the_others_wait(IRQCHIP_FULL);
}

static void mp_states_are_kept(void)
{
	static const uint32_t states[] = {
		KVM_MP_STATE_HALTED,
		KVM_MP_STATE_INIT_RECEIVED,
		KVM_MP_STATE_UNINITIALIZED,
		KVM_MP_STATE_RUNNABLE,
	};
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	for (uint32_t cpu = 0; cpu < 2; cpu++) {
		struct vcpu *vcpu = vm_add_vcpu(&vm);

		for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
			expect_eq(set_mp_state(vcpu, states[i]), 0);
			expect_eq(mp_state(vcpu), states[i]);
		}
	}
}

/* ---- vCPUs that wait ---- */

static void on_signal(int number)
{
	(void)number;
}

static int run_ended; /* by the thread */

/* Runs until a signal finds it waiting. Return (as a pointer): what KVM_RUN said. */
static void *run_until_kicked(void *argument)
{
	struct vcpu *vcpu = argument;
	int result;

	do {
		result = vcpu_run(vcpu);
	} while (result == -EAGAIN ||
		 (result == -EINTR && mp_state(vcpu) == KVM_MP_STATE_RUNNABLE));
	__atomic_store_n(&run_ended, 1, __ATOMIC_RELEASE);
	return (void *)(intptr_t)result;
}

/* Runs the vCPU in a thread until it waits, and a signal ends that. */
static void expect_kicked_out(struct vcpu *vcpu)
{
	struct sigaction action = {.sa_handler = on_signal};
	void *result;

	expect_eq(sigaction(SIGUSR1, &action, NULL), 0);
	run_ended = 0;
	vcpu_in_thread(vcpu, run_until_kicked);
	/* A signal before KVM_RUN begins is lost, so there are many; but not so many that the guest
	 * would never get in. */
	for (unsigned int i = 1; !__atomic_load_n(&run_ended, __ATOMIC_ACQUIRE); i++) {
		sched_yield();
		if (i % 32 == 0) {
			pthread_kill(vcpu->thread, SIGUSR1);
		}
	}
	expect_eq(pthread_join(vcpu->thread, &result), 0);
	expect_errno((intptr_t)result, EINTR);
}

static void waiting_vcpu_can_be_kicked(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_regs before, after;

	vm_create(&vm, IRQCHIP_SPLIT);
	vm_add_vcpu(&vm);
	vcpu = vm_add_vcpu(&vm);
	access_start_vcpu(vcpu);
	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
	expect_eq(set_mp_state(vcpu, KVM_MP_STATE_UNINITIALIZED), 0);
	before = vcpu_regs(vcpu);
	expect_kicked_out(vcpu);
	after = vcpu_regs(vcpu);
	expect(memcmp(&before, &after, sizeof(before)) == 0);
	expect_eq(mp_state(vcpu), KVM_MP_STATE_UNINITIALIZED);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
}

static void waiting_vcpu_exits_immediately(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vm_add_vcpu(&vm);
	vcpu = vm_add_vcpu(&vm);
	vcpu->run->immediate_exit = 1;
	expect_errno(vcpu_run(vcpu), EINTR);
	expect_eq(mp_state(vcpu), KVM_MP_STATE_UNINITIALIZED);
}

PAYLOAD(64, halt_and_tell, "hlt; out %al, %dx");

static struct vcpu *start_halting(struct vm *vm)
{
	struct vcpu *vcpu;
	struct kvm_regs regs;

	vm_create(vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(vm);
	vcpu_start(vcpu, 64, halt_and_tell, halt_and_tell_end);
	regs = vcpu_regs(vcpu);
	regs.rax = 0x77;
	regs.rdx = 0x510;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

/* With local APICs HLT is KVM's: the vCPU stays there, and a signal does not wake the guest. */
static void halted_vcpu_can_be_kicked(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_halting(&vm);

	expect_kicked_out(vcpu);
	expect_eq(mp_state(vcpu), KVM_MP_STATE_HALTED);
	expect_eq(vcpu_regs(vcpu).rip, VM_CODE + 1);
	expect_kicked_out(vcpu);
	expect_eq(mp_state(vcpu), KVM_MP_STATE_HALTED);
	expect_eq(set_mp_state(vcpu, KVM_MP_STATE_RUNNABLE), 0);
	expect_out(vcpu, 0x510, 1, 0x77);
}

static void vcpu_made_halted_does_not_run(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	access_start_vcpu(vcpu);
	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
	expect_eq(set_mp_state(vcpu, KVM_MP_STATE_HALTED), 0);
	expect_kicked_out(vcpu);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
	expect_eq(mp_state(vcpu), KVM_MP_STATE_HALTED);
}

/* ---- what a VMM sets before ---- */

static void tss_is_below_4_gib(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xffffe000), EINVAL);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_TSS_ADDR, UINT64_C(0x100000000)), EINVAL);
	expect_eq(kvm_ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000), 0);
}

static void identity_map_comes_before_vcpus(void)
{
	uint64_t address = 0xfffbc000;
	struct vm vm;

	vm_create_bare(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_IDENTITY_MAP_ADDR, 8), EFAULT);
	expect_eq(kvm_ioctl(vm.fd, KVM_SET_IDENTITY_MAP_ADDR, &address), 0);
	vm_add_vcpu(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_IDENTITY_MAP_ADDR, &address), EINVAL);
}

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define PVCLOCK_FLAGS		29 /* of struct pvclock_vcpu_time_info */
#define PVCLOCK_GUEST_STOPPED	2

static void paused_guest_is_told(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	if ((vm_cpuid_leaf(&vm, 0x40000001, 0).eax & 1 << 3) == 0) {
		test_skip("the provider has no kvmclock");
	}
	vm_need(&vm, KVM_CAP_KVMCLOCK_CTRL, "KVM_CAP_KVMCLOCK_CTRL");
	expect_errno(kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0), EINVAL);
	expect_eq(vcpu_set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, VM_FREE | 1), 1);
	guest_load(vcpu, VM_FREE);
	expect_eq(vm.ram[VM_FREE + PVCLOCK_FLAGS] & PVCLOCK_GUEST_STOPPED, 0);
	expect_eq(kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0), 0);
	guest_load(vcpu, VM_FREE);
	expect_eq(vm.ram[VM_FREE + PVCLOCK_FLAGS] & PVCLOCK_GUEST_STOPPED, PVCLOCK_GUEST_STOPPED);
}

const struct test_case entry_cases[] = {
	{"entry/new_vcpu_is_reset", "KVM API 4.7; Intel SDM vol. 3A, 10.1.1", new_vcpu_is_reset},
	{"entry/first_instruction_is_below_4_gib", "Intel SDM vol. 3A, 10.1.4",
	 first_instruction_is_below_4_gib},
	{"entry/paging_needs_protection", "KVM API 4.14; Intel SDM vol. 3A, 2.5",
	 paging_needs_protection},
	{"entry/nw_needs_cd", "KVM API 4.14; AMD APM vol. 2, 15.5.1", nw_needs_cd},
	{"entry/cr0_has_32_bits", "KVM API 4.14; AMD APM vol. 2, 15.5.1", cr0_has_32_bits},
	{"entry/long_mode_needs_pae", "KVM API 4.14; AMD APM vol. 2, 14.6.1", long_mode_needs_pae},
	{"entry/lme_and_paging_need_lma", "KVM API 4.14; AMD APM vol. 2, 3.1.7",
	 lme_and_paging_need_lma},
	{"entry/lma_needs_lme", "KVM API 4.14; AMD APM vol. 2, 3.1.7", lma_needs_lme},
	{"entry/lma_needs_paging", "KVM API 4.14; AMD APM vol. 2, 3.1.7", lma_needs_paging},
	{"entry/long_code_needs_long_mode", "KVM API 4.14; AMD APM vol. 2, 4.8.1",
	 long_code_needs_long_mode},
	{"entry/cr4_reserved_bits", "KVM API 4.14; AMD APM vol. 2, 3.1.3", cr4_reserved_bits},
	{"entry/cr4_of_an_absent_feature", "KVM API 4.14; AMD APM vol. 2, 3.1.3",
	 cr4_of_an_absent_feature},
	{"entry/cr3_beyond_the_address_width", "KVM API 4.14; AMD APM vol. 2, 3.1.2",
	 cr3_beyond_the_address_width},
	{"entry/code_both_64_and_32_bit", "KVM API 5, KVM_EXIT_FAIL_ENTRY; AMD APM vol. 2, 15.5.1",
	 code_both_64_and_32_bit},
	{"entry/without_chips_all_are_runnable", "KVM API 4.38, 4.39",
	 without_chips_all_are_runnable},
	{"entry/with_split_chips_the_others_wait", "KVM API 4.38",
	 with_split_chips_the_others_wait},
	{"entry/with_full_chips_the_others_wait", "KVM API 4.38", with_full_chips_the_others_wait},
	{"entry/mp_states_are_kept", "KVM API 4.38, 4.39", mp_states_are_kept},
	{"entry/waiting_vcpu_can_be_kicked", "KVM API 4.10, 4.38", waiting_vcpu_can_be_kicked},
	{"entry/waiting_vcpu_exits_immediately", "KVM API 4.38, 5", waiting_vcpu_exits_immediately},
	{"entry/halted_vcpu_can_be_kicked", "KVM API 4.10, 4.38", halted_vcpu_can_be_kicked},
	{"entry/vcpu_made_halted_does_not_run", "KVM API 4.39", vcpu_made_halted_does_not_run},
	{"entry/tss_is_below_4_gib", "KVM API 4.36", tss_is_below_4_gib},
	{"entry/identity_map_comes_before_vcpus", "KVM API 4.40", identity_map_comes_before_vcpus},
	{"entry/paused_guest_is_told", "KVM API 4.70", paused_guest_is_told},
	TEST_END,
};
