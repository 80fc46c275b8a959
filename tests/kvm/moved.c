/*
 * A machine is saved in mid-flight, loaded into a new VM, and goes on there: the bare cases of area
 * exit moved at each of their syncs, and payloads moved at awkward moments.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/guest/bare/bare.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/bare_machine.h"
#include "tests/kvm/saved.h"

static struct saved_machine saved;

/* ---- the bare cases ---- */

static atomic_bool stopping;

static void interrupted(int number)
{
	(void)number; /* it has ended KVM_RUN */
}

static void *run_until_stopped(void *vcpu)
{
	while (!atomic_load(&stopping)) {
		int result = vcpu_run(vcpu);

		if (result != -EINTR && result != -EAGAIN) {
			fail("CPU 1: %s",
			     result < 0 ? strerror(-result) : vm_exit_name((uint32_t)result));
		}
	}
	return NULL;
}

static void start_others(struct vm *vm)
{
	atomic_store(&stopping, false);
	for (unsigned int i = 1; i < vm->vcpu_count; i++) {
		vcpu_in_thread(vm->vcpus[i], run_until_stopped);
	}
}

static void stop_others(struct vm *vm)
{
	atomic_store(&stopping, true);
	for (unsigned int i = 1; i < vm->vcpu_count; i++) {
		/* A signal before KVM_RUN would be lost, but for this. */
		vm->vcpus[i]->run->immediate_exit = 1;
		must(-pthread_kill(vm->vcpus[i]->thread, SIGUSR1));
		vcpu_join(vm->vcpus[i]);
		vm->vcpus[i]->run->immediate_exit = 0;
	}
}

/* What is untouched need not be copied. */
static void copy_ram(uint8_t *to, uint8_t *from, size_t bytes)
{
	size_t pages = bytes / 4096;
	unsigned char *resident = malloc(pages);

	expect(resident != NULL && mincore(from, bytes, resident) == 0);
	for (size_t i = 0; i < pages; i++) {
		if ((resident[i] & 1) != 0) {
			memcpy(to + 4096 * i, from + 4096 * i, 4096);
		}
	}
	free(resident);
}

static void move(struct bare_machine *machine)
{
	struct bare_machine old = *machine;
	bool pit = old.vm.irqchip == IRQCHIP_FULL;

	saved_settle(old.vm.vcpus[0]);
	saved_take(&saved, &old.vm, pit);
	for (unsigned int i = 0; i < old.vm.vcpu_count; i++) {
		old.vm.vcpus[i]->vm = &old.vm;
	}
	bare_machine_init_empty(machine, old.vm.vcpu_count, old.vm.irqchip);
	copy_ram(machine->ram, old.ram, BARE_RAM);
	vm_destroy(&old.vm);
	munmap(old.ram, BARE_RAM);
	saved_put(&saved, &machine->vm, pit);
}

static void move_through(const char *name, uint32_t cpus, enum vm_irqchip irqchip)
{
	static struct bare_machine machine;
	struct sigaction action = {.sa_handler = interrupted};
	unsigned int moves = 0;

	sigaction(SIGUSR1, &action, NULL);
	bare_machine_init(&machine, name, cpus, irqchip);
	start_others(&machine.vm);
	while (bare_run(&machine) == 0) {
		stop_others(&machine.vm);
		move(&machine);
		moves++;
		start_others(&machine.vm);
	}
	expect(moves > 0);
}

#define MOVED(rule, cpus, irqchip)                          \
	static void rule(void)                              \
	{                                                   \
		move_through("exit/" #rule, cpus, irqchip); \
	}

MOVED(keeps_registers, 1, IRQCHIP_SPLIT)
MOVED(keeps_flags, 1, IRQCHIP_SPLIT)
MOVED(keeps_vectors, 1, IRQCHIP_SPLIT)
MOVED(keeps_x87, 1, IRQCHIP_SPLIT)
MOVED(keeps_avx, 1, IRQCHIP_SPLIT)
MOVED(keeps_system_msrs, 1, IRQCHIP_SPLIT)
MOVED(keeps_control_registers, 1, IRQCHIP_SPLIT)
MOVED(keeps_debug_registers, 1, IRQCHIP_SPLIT)
MOVED(keeps_a_watchpoint, 1, IRQCHIP_SPLIT)
MOVED(keeps_descriptor_tables, 1, IRQCHIP_SPLIT)
MOVED(keeps_hidden_segments, 1, IRQCHIP_SPLIT)
MOVED(keeps_real_mode, 1, IRQCHIP_SPLIT)
MOVED(keeps_protected_mode, 1, IRQCHIP_SPLIT)
MOVED(keeps_cpl_3, 1, IRQCHIP_SPLIT)
MOVED(keeps_pending_interrupts, 1, IRQCHIP_SPLIT)
MOVED(keeps_interrupts_in_service, 1, IRQCHIP_SPLIT)
MOVED(keeps_apic_registers, 1, IRQCHIP_SPLIT)
MOVED(keeps_one_shot_timer, 1, IRQCHIP_SPLIT)
MOVED(keeps_periodic_timer, 1, IRQCHIP_SPLIT)
MOVED(keeps_deadline_timer, 1, IRQCHIP_SPLIT)
MOVED(keeps_time, 1, IRQCHIP_SPLIT)
MOVED(keeps_other_cpus, 2, IRQCHIP_SPLIT)
MOVED(keeps_waiting_cpus, 2, IRQCHIP_SPLIT)
MOVED(keeps_pic, 1, IRQCHIP_FULL)
MOVED(keeps_ioapic, 1, IRQCHIP_FULL)
MOVED(keeps_pit, 1, IRQCHIP_FULL)

/* ---- awkward moments ---- */

/* Replaces a VM of one vCPU by another one with its state and RAM. */
static struct vcpu *move_vm(struct vm *vm)
{
	static struct vm next;
	struct vm old = *vm;

	for (unsigned int i = 0; i < old.vcpu_count; i++) {
		old.vcpus[i]->vm = &old;
	}
	saved_take(&saved, &old, false);
	vm_create(&next, old.irqchip);
	*vm = next;
	vm_add_vcpu(vm);
	copy_ram(vm->ram, old.ram, VM_RAM);
	vm_destroy(&old);
	saved_put(&saved, vm, false);
	return vm->vcpus[0];
}

PAYLOAD(64, work,
	"	mov $0x20000, %rdi; mov $0x1234567, %rax; mov $8, %rcx; cld\n"
	"	rep stosq\n"
	"	mov $0x20000, %rsi; mov $0x20100, %rdi; mov $64, %rcx\n"
	"	rep movsb\n"
	"	push %rax; push %rcx; lahf; mov %rax, %rbx; pop %rcx; pop %rdx\n"
	"	mov $3, %r8\n"
	"1:	imul $0x10001, %rax; rol $7, %rax; adc %rdx, %rax; dec %r8; jnz 1b\n"
	"	movq %rax, %xmm3; pshufd $0x4e, %xmm3, %xmm4; paddq %xmm4, %xmm3\n"
	"	movdqu %xmm3, 0x20200; fld1; fldpi; faddp; fstpl 0x20210\n"
	"	mov $0x1234567, %rcx; xchg %rcx, %rax; lock cmpxchg %rcx, 0x20000\n"
	"	setz %r9b; mov %r9, 0x20218; mov %rbx, 0x20220; call 2f; hlt\n"
	"2:	mov %rsp, 0x20228; ret");

static void run_work(uint8_t result[0x300], bool moving)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, work);
	unsigned int steps = 0;

	for (;;) {
		struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE |
							   KVM_GUESTDBG_SINGLESTEP};
		int reason;

		if (moving) {
			must(kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
		}
		reason = vcpu_run(vcpu);
		if (reason == KVM_EXIT_HLT) {
			break;
		}
		expect(moving);
		expect_eq(reason, KVM_EXIT_DEBUG);
		debug.control = 0;
		must(kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
		vcpu = move_vm(&vm);
		steps++;
	}
	expect(!moving || steps > 40);
	memcpy(result, vm.ram + VM_FREE, 0x300);
}

static void at_every_instruction(void)
{
	static uint8_t straight[0x300], moved[0x300];

	run_work(straight, false);
	run_work(moved, true);
	for (unsigned int i = 0; i < sizeof(straight); i++) {
		if (straight[i] != moved[i]) {
			fail("RAM at 0x%x: 0x%x, want 0x%x", VM_FREE + i, moved[i], straight[i]);
		}
	}
	expect_eq(*(uint32_t *)(moved + 8), 0x1234567);
}

PAYLOAD(64, read_mmio, "mov (%rbx), %rax; out %eax, $0x10; hlt");

static void amid_an_mmio_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_mmio);
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rbx = VM_HOLE;
	vcpu_set_regs(vcpu, &regs);
	expect_mmio_read(vcpu, VM_HOLE, 8, 0x1122334455667788);
	saved_settle(vcpu);
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x10, 4, 0x55667788);
	expect_eq(vcpu_regs(vcpu).rax, 0x1122334455667788);
}

PAYLOAD(64, read_port, "mov $0x1111, %eax; in $0x20, %al; out %eax, $0x10; hlt");

static void amid_a_port_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_port);

	expect_in(vcpu, 0x20, 1, 0x5a);
	saved_settle(vcpu);
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x10, 4, 0x115a);
}

PAYLOAD(64, write_string, "mov $0x20000, %rsi; mov $0x10, %dx; mov $10, %ecx; cld; rep outsb; hlt");

static void amid_a_string_write(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, write_string);
	uint8_t next = 'a';

	memcpy(vm.ram + VM_FREE, "abcdefghij", 10);
	while (vcpu_run(vcpu) == KVM_EXIT_IO) {
		const uint8_t *data = (uint8_t *)vcpu->run + vcpu->run->io.data_offset;

		expect_eq(vcpu->run->io.size, 1);
		for (uint32_t i = 0; i < vcpu->run->io.count; i++) {
			expect_eq(data[i], next++);
		}
		saved_settle(vcpu);
		vcpu = move_vm(&vm);
	}
	expect_eq(vcpu->run->exit_reason, KVM_EXIT_HLT);
	expect_eq(next, 'a' + 10);
}

PAYLOAD(64, handled,
	"	sti; nop; hlt\n"
	"handled_nmi: mov $2, %al; out %al, $0x10; iretq\n"
	"handled_gp: pop %rax; out %eax, $0x11; iretq\n"
	"handled_irq: mov $1, %al; out %al, $0x10; iretq");
extern const char handled_nmi[], handled_gp[], handled_irq[];

static struct vcpu *begin_handled(struct vm *vm, enum vm_irqchip irqchip)
{
	struct vcpu *vcpu = vm_begin(vm, irqchip, 64, handled, handled_end);

	vm_gate(vm, 64, VECTOR_NMI, PAYLOAD_AT(handled, handled_nmi));
	vm_gate(vm, 64, VECTOR_GP, PAYLOAD_AT(handled, handled_gp));
	vm_gate(vm, 64, 0x41, PAYLOAD_AT(handled, handled_irq));
	return vcpu;
}

static void with_a_pending_nmi(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_handled(&vm, IRQCHIP_NONE);

	must(kvm_ioctl(vcpu->fd, KVM_NMI, 0));
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x10, 1, 2);
}

static void with_a_blocked_nmi(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_handled(&vm, IRQCHIP_NONE);

	must(kvm_ioctl(vcpu->fd, KVM_NMI, 0));
	expect_out(vcpu, 0x10, 1, 2);
	must(kvm_ioctl(vcpu->fd, KVM_NMI, 0));
	saved_settle(vcpu);
	/* In the handler of the first one: the second waits for its IRET. */
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x10, 1, 2);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void with_a_pending_exception(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_handled(&vm, IRQCHIP_NONE);
	struct kvm_vcpu_events events;

	must(kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	events.exception.injected = 1;
	events.exception.nr = VECTOR_GP;
	events.exception.has_error_code = 1;
	events.exception.error_code = 0x1230;
	must(kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x11, 4, 0x1230);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void with_an_injected_interrupt(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_handled(&vm, IRQCHIP_NONE);
	struct kvm_regs regs = vcpu_regs(vcpu);
	struct kvm_interrupt interrupt = {.irq = 0x41};

	regs.rflags |= 1 << 9;
	vcpu_set_regs(vcpu, &regs);
	must(kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt));
	vcpu = move_vm(&vm);
	expect_out(vcpu, 0x10, 1, 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void while_halted(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_handled(&vm, IRQCHIP_SPLIT);
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_HALTED};
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rip += 2; /* at the HLT, as if behind it */
	vcpu_set_regs(vcpu, &regs);
	must(kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &state));
	vcpu = move_vm(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
	expect_eq(state.mp_state, KVM_MP_STATE_HALTED);
	must(kvm_ioctl(vcpu->fd, KVM_NMI, 0));
	expect_out(vcpu, 0x10, 1, 2);
}

#define MOVED_CASE(rule)                          \
	{                                         \
		"moved/" #rule, "KVM API 5", rule \
	}

const struct test_case moved_cases[] = {
	MOVED_CASE(keeps_registers),
	MOVED_CASE(keeps_flags),
	MOVED_CASE(keeps_vectors),
	MOVED_CASE(keeps_x87),
	MOVED_CASE(keeps_avx),
	MOVED_CASE(keeps_system_msrs),
	MOVED_CASE(keeps_control_registers),
	MOVED_CASE(keeps_debug_registers),
	MOVED_CASE(keeps_a_watchpoint),
	MOVED_CASE(keeps_descriptor_tables),
	MOVED_CASE(keeps_hidden_segments),
	MOVED_CASE(keeps_real_mode),
	MOVED_CASE(keeps_protected_mode),
	MOVED_CASE(keeps_cpl_3),
	MOVED_CASE(keeps_pending_interrupts),
	MOVED_CASE(keeps_interrupts_in_service),
	MOVED_CASE(keeps_apic_registers),
	MOVED_CASE(keeps_one_shot_timer),
	MOVED_CASE(keeps_periodic_timer),
	MOVED_CASE(keeps_deadline_timer),
	MOVED_CASE(keeps_time),
	MOVED_CASE(keeps_other_cpus),
	MOVED_CASE(keeps_waiting_cpus),
	MOVED_CASE(keeps_pic),
	MOVED_CASE(keeps_ioapic),
	MOVED_CASE(keeps_pit),
	MOVED_CASE(at_every_instruction),
	MOVED_CASE(amid_an_mmio_read),
	MOVED_CASE(amid_a_port_read),
	MOVED_CASE(amid_a_string_write),
	MOVED_CASE(with_a_pending_nmi),
	MOVED_CASE(with_a_blocked_nmi),
	MOVED_CASE(with_a_pending_exception),
	MOVED_CASE(with_an_injected_interrupt),
	MOVED_CASE(while_halted),
	TEST_END,
};
