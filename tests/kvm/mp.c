/* States of CPUs: waiting for INIT and SIPI, halted, running; and what wakes them. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

static uint32_t state_of(struct vcpu *vcpu)
{
	struct kvm_mp_state state = {.mp_state = 99};

	must(kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
	return state.mp_state;
}

static int set_state(struct vcpu *vcpu, uint32_t value)
{
	struct kvm_mp_state state = {.mp_state = value};

	return kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &state);
}

static int send(struct vm *vm, uint32_t address, uint32_t data)
{
	struct kvm_msi message = {.address_lo = address, .data = data};

	return kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &message);
}

static void at_first(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	expect_eq(state_of(vm_add_vcpu(&vm)), KVM_MP_STATE_RUNNABLE);
	expect_eq(state_of(vm_add_vcpu(&vm)), KVM_MP_STATE_UNINITIALIZED);
	expect_eq(state_of(vm_add_vcpu(&vm)), KVM_MP_STATE_UNINITIALIZED);
}

static void without_irqchip(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_NONE);
	vm_add_vcpu(&vm);
	vcpu = vm_add_vcpu(&vm);
	expect_eq(state_of(vcpu), KVM_MP_STATE_RUNNABLE);
	must(set_state(vcpu, KVM_MP_STATE_RUNNABLE));
	expect_errno(set_state(vcpu, KVM_MP_STATE_HALTED), EINVAL);
	expect_errno(set_state(vcpu, KVM_MP_STATE_UNINITIALIZED), EINVAL);
	expect_eq(state_of(vcpu), KVM_MP_STATE_RUNNABLE);
}

static void unknown_states(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	expect_errno(set_state(vcpu, 77), EINVAL);
	expect_errno(set_state(vcpu, UINT32_MAX), EINVAL);
	expect_eq(state_of(vcpu), KVM_MP_STATE_RUNNABLE);
}

static void round_trip(void)
{
	static const uint32_t states[] = {KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED,
					  KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE};
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	for (unsigned int i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		must(set_state(vcpu, states[i]));
		expect_eq(state_of(vcpu), states[i]);
	}
}

static void boot_cpu(void)
{
	struct vm vm;
	struct vcpu *first, *second;

	vm_create(&vm, IRQCHIP_SPLIT);
	vm_need(&vm, KVM_CAP_SET_BOOT_CPU_ID, "KVM_CAP_SET_BOOT_CPU_ID");
	must(kvm_ioctl(vm.fd, KVM_SET_BOOT_CPU_ID, 1));
	first = vm_add_vcpu(&vm);
	second = vm_add_vcpu(&vm);
	expect_eq(state_of(first), KVM_MP_STATE_UNINITIALIZED);
	expect_eq(state_of(second), KVM_MP_STATE_RUNNABLE);
	expect_eq(vcpu_sregs(first).apic_base & 0x100, 0);
	expect_eq(vcpu_sregs(second).apic_base & 0x100, 0x100);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_BOOT_CPU_ID, 0), EBUSY);
}

static void halted_waits(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	struct kvm_regs regs;

	/* Between two of its instructions, interrupts on, as if one more HLT had been there. */
	hand_begin_open(vcpu);
	vcpu->run->immediate_exit = 1;
	expect_eq(vcpu_run(vcpu), -EINTR); /* completes the OUT */
	vcpu->run->immediate_exit = 0;
	regs = vcpu_regs(vcpu);
	regs.rflags |= 0x200;
	vcpu_set_regs(vcpu, &regs);
	must(set_state(vcpu, KVM_MP_STATE_HALTED));
	expect_eq(send(&vm, 0xfee00000, 0x45), 1);
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
	expect_eq(hand_count(vcpu), 1);
	expect_eq(state_of(vcpu), KVM_MP_STATE_RUNNABLE);
}

/* ---- a vCPU halted in a thread, and signals ---- */

static void on_signal(int number)
{
	(void)number;
}

static void let_signals_interrupt(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	expect_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

static int thread_result;
static uint32_t thread_done;

static void *run_once(void *vcpu)
{
	thread_result = vcpu_run(vcpu);
	__atomic_store_n(&thread_done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Nothing tells that a vCPU sleeps; so what is tried here is right at any time, and tried again
 * after more of it. */
static void let_it_run(int ms)
{
	poll(NULL, 0, ms);
}

/* Interrupts the thread's KVM_RUN. */
static void interrupt_run(struct vcpu *vcpu, int ms)
{
	let_it_run(ms);
	/* The thread may not be in KVM_RUN yet; immediate_exit covers that. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	expect_eq(pthread_kill(vcpu->thread, SIGUSR1), 0);
	vcpu_join(vcpu);
	vcpu->run->immediate_exit = 0;
	expect_eq(thread_result, -EINTR);
}

static void kick_a_halted(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	let_signals_interrupt();
	hand_begin_halt(vcpu);
	for (int ms = 4; state_of(vcpu) != KVM_MP_STATE_HALTED; ms *= 2) {
		vcpu_in_thread(vcpu, run_once);
		interrupt_run(vcpu, ms);
	}
	expect_eq(hand_count(vcpu), 0);
	/* It goes on where it was: halted, until an interrupt. */
	expect_eq(send(&vm, 0xfee00000, 0x45), 1);
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
	expect_eq(hand_count(vcpu), 1);
	expect_eq(state_of(vcpu), KVM_MP_STATE_RUNNABLE);
}

static void nmi_wakes(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);

	hand_begin_halt(vcpu);
	vcpu_in_thread(vcpu, run_once);
	/* By MSI: KVM_NMI would wait for the KVM_RUN. */
	while (__atomic_load_n(&thread_done, __ATOMIC_ACQUIRE) == 0) {
		let_it_run(2);
		expect_eq(send(&vm, 0xfee00000, 0x400), 1);
	}
	vcpu_join(vcpu);
	expect_eq(thread_result, KVM_EXIT_IO);
	expect(hand_is_done(vcpu));
	expect(hand_count(vcpu) >= 1);
	expect_eq(hand_vector(vcpu, 0), 2);
}

static void kick_one_waiting_for_sipi(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	let_signals_interrupt();
	vm_create(&vm, IRQCHIP_SPLIT);
	vm_add_vcpu(&vm);
	vcpu = vm_add_vcpu(&vm);
	vcpu_in_thread(vcpu, run_once);
	interrupt_run(vcpu, 20);
	expect_eq(state_of(vcpu), KVM_MP_STATE_UNINITIALIZED);
}

/* ---- INIT and SIPI from another CPU ---- */

/* Return: the second. Linux KVM takes notice of a new local APIC when one is next written to. */
static struct vcpu *two_cpus(struct vm *vm)
{
	vm_create(vm, IRQCHIP_SPLIT);
	vm_add_vcpu(vm);
	vm_add_vcpu(vm);
	hand_start(vm->vcpus[0]);
	return vm->vcpus[1];
}

PAYLOAD(16, real_mode_done, "out %eax, $0xe1; hlt");

static void sipi(void)
{
	struct vm vm;
	struct vcpu *b = two_cpus(&vm), *a = vm.vcpus[0];
	struct kvm_sregs sregs;

	memcpy(vm.ram + 0x7000, real_mode_done, (size_t)(real_mode_done_end - real_mode_done));
	hand_write32(a, HAND_APIC + 0x310, 0x01000000);
	hand_write32(a, HAND_APIC + 0x300, 0x4500);
	expect_eq(state_of(b), KVM_MP_STATE_INIT_RECEIVED);
	sregs = vcpu_sregs(b);
	expect_eq(sregs.cr0 & ~UINT64_C(0x60000000), 0x10);
	hand_write32(a, HAND_APIC + 0x300, 0x4607);
	expect_eq(state_of(b), KVM_MP_STATE_RUNNABLE);
	sregs = vcpu_sregs(b);
	expect_eq(sregs.cs.selector, 0x700);
	expect_eq(sregs.cs.base, 0x7000);
	expect_eq(vcpu_regs(b).rip, 0);
	expect_out(b, 0xe1, 4, 0);
}

static void sipi_needs_init(void)
{
	struct vm vm;
	struct vcpu *b = two_cpus(&vm), *a = vm.vcpus[0];

	hand_write32(a, HAND_APIC + 0x310, 0x01000000);
	hand_write32(a, HAND_APIC + 0x300, 0x4607);
	expect_eq(state_of(b), KVM_MP_STATE_UNINITIALIZED);
	hand_write32(a, HAND_APIC + 0x300, 0x4500);
	expect_eq(state_of(b), KVM_MP_STATE_INIT_RECEIVED); /* the SIPI was not kept */
}

/* ---- no wake-up is lost ---- */

#define ROUNDS 2000

static void *halt_often(void *vcpu)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		hand_halt(vcpu);
		expect_eq(hand_count(vcpu), 1);
		hand_write32(vcpu, HAND_APIC_EOI, 0);
		hand_forget(vcpu);
		/* The other side sends the next one now. */
		__atomic_add_fetch(&thread_result, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void wake_often(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	if (vm_svm_is_emulated()) {
		test_skip("QEMU's VMRUN does not load the interrupt shadow");
	}
	vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	vcpu_in_thread(vcpu, halt_often);
	for (int i = 0; i < ROUNDS; i++) {
		while (__atomic_load_n(&thread_result, __ATOMIC_SEQ_CST) != i) {
			sched_yield();
		}
		expect_eq(send(&vm, 0xfee00000, 0x45), 1);
	}
	vcpu_join(vcpu);
}

const struct test_case mp_cases[] = {
	{"mp/the_first_runs_and_the_others_wait", "KVM API 4.38", at_first},
	{"mp/without_irqchip_all_run", "KVM API 4.39", without_irqchip},
	{"mp/unknown_states_are_einval", "KVM API 4.39", unknown_states},
	{"mp/states_round_trip", "KVM API 4.39", round_trip},
	{"mp/boot_cpu_is_set_before_vcpus", "KVM API 4.41", boot_cpu},
	{"mp/set_halted_waits_for_an_interrupt", "KVM API 4.39", halted_waits},
	{"mp/a_kicked_halted_one_stays_halted", "KVM API 4.38", kick_a_halted},
	{"mp/nmi_wakes_a_halted_one", "AMD APM vol. 3, HLT", nmi_wakes},
	{"mp/a_kicked_one_waits_on_for_init", "KVM API 4.38", kick_one_waiting_for_sipi},
	{"mp/init_and_sipi_set_state", "AMD APM vol. 2, 14.1.3", sipi},
	{"mp/sipi_without_init_is_dropped", "AMD APM vol. 2, 14.1.3", sipi_needs_init},
	{"mp/no_wake_up_is_lost", "KVM API 5, KVM_EXIT_HLT", wake_often},
	TEST_END,
};
