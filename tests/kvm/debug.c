/* KVM_SET_GUEST_DEBUG, KVM_GET_DEBUGREGS and KVM_SET_DEBUGREGS. */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define DB     1
#define BP     3
#define DR6_BS 0x4000u

/* DR7 for breakpoint 0: enabled, and the bit that is always 1. */
#define DR7_EXECUTE 0x402u
#define DR7_WRITE_4 0xd0402u

static int set_debug(struct vcpu *vcpu, uint32_t control, uint64_t dr0, uint64_t dr7)
{
	struct kvm_guest_debug debug = {.control = control};

	vm_need(vcpu->vm, KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG");
	debug.arch.debugreg[0] = dr0;
	debug.arch.debugreg[7] = dr7;
	return kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug);
}

static void step(struct vcpu *vcpu, bool on)
{
	must(set_debug(vcpu, on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0, 0, 0));
}

static void expect_step(struct vcpu *vcpu, uint64_t pc)
{
	expect_exit(vcpu, KVM_EXIT_DEBUG);
	expect_eq(vcpu->run->debug.arch.pc, pc);
	expect_eq(vcpu->run->debug.arch.exception, DB);
	expect_eq(vcpu->run->debug.arch.dr6 & DR6_BS, DR6_BS);
	expect_eq(vcpu_regs(vcpu).rip, pc);
}

PAYLOAD(64, plain,
	"nop; mov $5, %ecx; jmp plain_to; hlt; plain_to: inc %ecx; hlt;"
	"plain_db: mov $1, %ebx; hlt");
extern const char plain_to[], plain_db[];

static struct vcpu *start_plain(struct vm *vm)
{
	struct vcpu *vcpu = START(vm, 64, plain);

	vm_gate(vm, 64, DB, PAYLOAD_AT(plain, plain_db));
	return vcpu;
}

static void step_is_one_instruction(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_plain(&vm);

	step(vcpu, true);
	expect_step(vcpu, VM_CODE + 1);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
	expect_step(vcpu, VM_CODE + 6);
	expect_eq(vcpu_regs(vcpu).rcx, 5);
	expect_step(vcpu, PAYLOAD_AT(plain, plain_to));
	expect_step(vcpu, PAYLOAD_AT(plain, plain_to) + 2);
	expect_eq(vcpu_regs(vcpu).rcx, 6);
}

static void step_ends_when_told(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_plain(&vm);

	step(vcpu, true);
	expect_step(vcpu, VM_CODE + 1);
	step(vcpu, false);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 6);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
}

static void step_hides_its_flag(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_plain(&vm);

	step(vcpu, true);
	expect_eq(vcpu_regs(vcpu).rflags & FLAG_TF, 0);
	expect_step(vcpu, VM_CODE + 1);
	expect_eq(vcpu_regs(vcpu).rflags & FLAG_TF, 0);
	step(vcpu, false);
	expect_eq(vcpu_regs(vcpu).rflags & FLAG_TF, 0);
}

PAYLOAD(64, emulated, "cpuid; emulated_1: mov $0x1b, %ecx; rdmsr; emulated_2: nop; hlt");
extern const char emulated_1[], emulated_2[];

static void step_over_what_is_emulated(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, emulated);

	step(vcpu, true);
	expect_step(vcpu, PAYLOAD_AT(emulated, emulated_1));
	expect_step(vcpu, PAYLOAD_AT(emulated, emulated_1) + 5);
	expect_step(vcpu, PAYLOAD_AT(emulated, emulated_2));
	expect_step(vcpu, PAYLOAD_AT(emulated, emulated_2) + 1);
}

PAYLOAD(64, port_io, "out %al, $1; in $2, %al; hlt");

static void step_over_port_io(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, port_io);

	step(vcpu, true);
	expect_out(vcpu, 1, 1, 0);
	expect_step(vcpu, VM_CODE + 2);
	expect_in(vcpu, 2, 1, 0x77);
	expect_step(vcpu, VM_CODE + 4);
	expect_eq(vcpu_regs(vcpu).rax, 0x77);
}

PAYLOAD(64, memory_io, "mov $0xd0000000, %ebx; mov (%rbx), %eax; nop; hlt");

/* A read: kernels before 6.15 forget the step of a write. */
static void step_over_mmio(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, memory_io);

	step(vcpu, true);
	expect_step(vcpu, VM_CODE + 5);
	expect_mmio_read(vcpu, VM_HOLE, 4, 0x81828384);
	expect_step(vcpu, VM_CODE + 7);
	expect_eq(vcpu_regs(vcpu).rax, 0x81828384);
}

PAYLOAD(64, repeated, "mov $0x20000, %edi; mov $3, %ecx; repeated_1: rep stosb; repeated_2: hlt");
extern const char repeated_1[], repeated_2[];

/* Each iteration of a repeated instruction is a step. */
static void step_is_one_iteration(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, repeated);

	scene_set_rip(vcpu, VM_CODE);
	step(vcpu, true);
	expect_step(vcpu, VM_CODE + 5);
	expect_step(vcpu, PAYLOAD_AT(repeated, repeated_1));
	expect_step(vcpu, PAYLOAD_AT(repeated, repeated_1));
	expect_eq(vcpu_regs(vcpu).rcx, 2);
	expect_step(vcpu, PAYLOAD_AT(repeated, repeated_1));
	expect_step(vcpu, PAYLOAD_AT(repeated, repeated_2));
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

PAYLOAD(64, blocked,
	"sti; nop; out %al, $1; blocked_1: nop; blocked_2: hlt; blocked_irq: out %al, "
	"$2; hlt");
extern const char blocked_1[], blocked_2[], blocked_irq[];

static void blockirq_keeps_interrupts_waiting(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_interrupt interrupt = {.irq = 0x40};

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	if ((vm_has(&vm, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ) == 0) {
		test_skip("the provider has no KVM_GUESTDBG_BLOCKIRQ");
	}
	vcpu_start(vcpu, 64, blocked, blocked_end);
	vm_gate(&vm, 64, 0x40, PAYLOAD_AT(blocked, blocked_irq));
	expect_out(vcpu, 1, 1, 0);
	must(kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt));
	must(set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ,
		       0, 0));
	expect_step(vcpu, PAYLOAD_AT(blocked, blocked_1));
	expect_step(vcpu, PAYLOAD_AT(blocked, blocked_2));
	step(vcpu, false);
	expect_out(vcpu, 2, 1, 0);
}

/* ---- breakpoints ---- */

static bool host_is_tcg(void)
{
	uint32_t eax = 0, sign[3] = {0};

	__cpuid(0x40000000, eax, sign[0], sign[1], sign[2]);
	(void)eax;
	return memcmp(sign, "TCGTCGTCGTCG", sizeof(sign)) == 0;
}

/* Runs until a breakpoint in the debug registers; QEMU's SVM does not look at them. */
static void run_to_breakpoint(struct vcpu *vcpu)
{
	int result = vcpu_run(vcpu);

	if (result == KVM_EXIT_HLT && vcpu_regs(vcpu).rbx == 0 && host_is_tcg()) {
		test_skip("QEMU's TCG takes no breakpoints from a VMCB");
	}
	expect_eq(result, KVM_EXIT_DEBUG);
}

PAYLOAD(64, breakpoints,
	"mov $7, %ecx; breakpoints_1: inc %ecx; mov %ecx, 0x20000;"
	"breakpoints_2: mov 0x20000, %eax; mov %dr0, %rdx; mov %dr7, %rsi; hlt;"
	"breakpoints_db: mov $1, %ebx; hlt");
extern const char breakpoints_1[], breakpoints_2[], breakpoints_db[];

static struct vcpu *start_breakpoints(struct vm *vm, uint64_t dr0, uint64_t dr7)
{
	struct vcpu *vcpu = START(vm, 64, breakpoints);

	vm_gate(vm, 64, DB, PAYLOAD_AT(breakpoints, breakpoints_db));
	must(set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, dr0, dr7));
	return vcpu;
}

static void execute_breakpoint(void)
{
	struct vm vm;
	uint64_t at = PAYLOAD_AT(breakpoints, breakpoints_1);
	struct vcpu *vcpu = start_breakpoints(&vm, at, DR7_EXECUTE);

	run_to_breakpoint(vcpu);
	expect_eq(vcpu->run->debug.arch.exception, DB);
	expect_eq(vcpu->run->debug.arch.pc, at);
	expect_eq(vcpu->run->debug.arch.dr6 & 0xf, 1);
	expect_eq(vcpu->run->debug.arch.dr7, DR7_EXECUTE);
	expect_eq(vcpu_regs(vcpu).rcx, 7);
	must(set_debug(vcpu, 0, 0, 0));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 8);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
}

static void write_breakpoint(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_breakpoints(&vm, VM_FREE, DR7_WRITE_4);

	run_to_breakpoint(vcpu);
	/* After the write, and not again at the read. */
	expect_eq(vcpu->run->debug.arch.pc, PAYLOAD_AT(breakpoints, breakpoints_2));
	expect_eq(vcpu->run->debug.arch.dr6 & 0xf, 1);
	expect_eq(*scene_word(&vm, VM_FREE), 8);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
}

static struct kvm_debugregs get_debugregs(struct vcpu *vcpu)
{
	struct kvm_debugregs regs;

	vm_need(vcpu->vm, KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS");
	must(kvm_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &regs));
	return regs;
}

static int set_debugregs(struct vcpu *vcpu, const struct kvm_debugregs *regs)
{
	return kvm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, regs);
}

static void breakpoints_hide_from_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu =
		start_breakpoints(&vm, PAYLOAD_AT(breakpoints, breakpoints_1), DR7_EXECUTE);
	struct kvm_debugregs regs = get_debugregs(vcpu);

	expect_eq(regs.db[0], 0);
	regs.db[0] = 0x1234;
	must(set_debugregs(vcpu, &regs));
	scene_set_rip(vcpu, PAYLOAD_AT(breakpoints, breakpoints_2));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, 0x1234);
	expect_eq(vcpu_regs(vcpu).rsi, 0x400);
	expect_eq(get_debugregs(vcpu).db[0], 0x1234);
}

PAYLOAD(64, software,
	"nop; software_1: int3; software_2: hlt; software_bp: mov (%rsp), %rdx; hlt;"
	"software_db: mov $1, %ebx; hlt");
extern const char software_1[], software_2[], software_bp[], software_db[];

static struct vcpu *start_software(struct vm *vm)
{
	struct vcpu *vcpu = START(vm, 64, software);

	vm_gate(vm, 64, BP, PAYLOAD_AT(software, software_bp));
	vm_gate(vm, 64, DB, PAYLOAD_AT(software, software_db));
	return vcpu;
}

static void software_breakpoint(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_software(&vm);
	int result;

	must(set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0));
	result = vcpu_run(vcpu);
	if (result == KVM_EXIT_HLT && host_is_tcg()) {
		test_skip("QEMU's TCG does not intercept #BP");
	}
	expect_eq(result, KVM_EXIT_DEBUG);
	expect_eq(vcpu->run->debug.arch.exception, BP);
	expect_eq(vcpu->run->debug.arch.pc, PAYLOAD_AT(software, software_1));
}

static void breakpoint_of_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_software(&vm);

	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, PAYLOAD_AT(software, software_2));
}

static void inject_db(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_software(&vm);

	must(set_debug(vcpu, KVM_GUESTDBG_INJECT_DB, 0, 0));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, 1);
	expect_eq(*scene_word(&vm, VM_STACK - 40), VM_CODE);
}

/* A breakpoint that is the guest's own is given back to it. */
static void inject_bp(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_software(&vm);

	must(set_debug(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0));
	if (vcpu_run(vcpu) != KVM_EXIT_DEBUG && host_is_tcg()) {
		/* No exit there, but the rest can be tried. */
		vcpu_start(vcpu, 64, software, software_end);
		scene_set_rip(vcpu, PAYLOAD_AT(software, software_1));
	}
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(software, software_1));
	must(set_debug(vcpu, KVM_GUESTDBG_INJECT_BP, 0, 0));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, PAYLOAD_AT(software, software_2));
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 40);
}

static void inject_one(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_software(&vm);

	must(set_debug(vcpu, KVM_GUESTDBG_INJECT_DB, 0, 0));
	expect_errno(set_debug(vcpu, KVM_GUESTDBG_INJECT_DB, 0, 0), EBUSY);
}

/* ---- the guest's own debug registers ---- */

PAYLOAD(64, registers,
	"mov %dr0, %rax; mov %dr1, %rbx; mov %dr2, %rcx; mov %dr3, %rdx;"
	"mov %dr7, %rsi; mov %rdx, %dr0; mov %rax, %dr3; hlt");

static void debugregs_are_the_guests(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, registers);
	struct kvm_debugregs regs = get_debugregs(vcpu);

	expect_eq(regs.dr6, 0xffff0ff0);
	expect_eq(regs.dr7, 0x400);
	for (uint64_t i = 0; i < 4; i++) {
		regs.db[i] = 0x123456780 + i;
	}
	regs.dr7 = 0x100400;
	must(set_debugregs(vcpu, &regs));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x123456780);
	expect_eq(vcpu_regs(vcpu).rbx, 0x123456781);
	expect_eq(vcpu_regs(vcpu).rcx, 0x123456782);
	expect_eq(vcpu_regs(vcpu).rdx, 0x123456783);
	expect_eq(vcpu_regs(vcpu).rsi, 0x100400);
	regs = get_debugregs(vcpu);
	expect_eq(regs.db[0], 0x123456783);
	expect_eq(regs.db[3], 0x123456780);
	expect_eq(regs.dr7, 0x100400);
}

static void debugregs_refuse_reserved_bits(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, registers);
	struct kvm_debugregs good = get_debugregs(vcpu), bad = good;

	bad.flags = 1;
	expect_errno(set_debugregs(vcpu, &bad), EINVAL);
	bad = good;
	bad.dr6 |= UINT64_C(1) << 32;
	expect_errno(set_debugregs(vcpu, &bad), EINVAL);
	bad = good;
	bad.dr7 |= UINT64_C(1) << 32;
	expect_errno(set_debugregs(vcpu, &bad), EINVAL);
	must(set_debugregs(vcpu, &good));
}

static void breakpoint_of_the_guests_registers(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_breakpoints(&vm, 0, 0);
	struct kvm_debugregs regs = get_debugregs(vcpu);

	must(set_debug(vcpu, 0, 0, 0));
	regs.db[0] = PAYLOAD_AT(breakpoints, breakpoints_1);
	regs.dr7 = DR7_EXECUTE;
	must(set_debugregs(vcpu, &regs));
	expect_exit(vcpu, KVM_EXIT_HLT);
	if (vcpu_regs(vcpu).rbx == 0 && host_is_tcg()) {
		test_skip("QEMU's TCG takes no breakpoints from a VMCB");
	}
	expect_eq(vcpu_regs(vcpu).rbx, 1);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(breakpoints, breakpoints_1));
	expect_eq(get_debugregs(vcpu).dr6 & 0xf, 1);
}

#define SPEC	  "KVM API 4.87"
#define SPEC_REGS "KVM API 4.33, 4.34"

const struct test_case debug_cases[] = {
	{"debug/step_is_one_instruction", SPEC, step_is_one_instruction},
	{"debug/step_ends_when_told", SPEC, step_ends_when_told},
	{"debug/step_hides_its_flag", SPEC, step_hides_its_flag},
	{"debug/step_over_what_is_emulated", SPEC, step_over_what_is_emulated},
	{"debug/step_over_port_io", SPEC, step_over_port_io},
	{"debug/step_over_mmio", SPEC, step_over_mmio},
	{"debug/step_is_one_iteration", "AMD APM vol. 2, 13.1.4", step_is_one_iteration},
	{"debug/blockirq_keeps_interrupts_waiting", SPEC, blockirq_keeps_interrupts_waiting},
	{"debug/execute_breakpoint", SPEC, execute_breakpoint},
	{"debug/write_breakpoint", SPEC, write_breakpoint},
	{"debug/breakpoints_hide_from_the_guest", SPEC, breakpoints_hide_from_the_guest},
	{"debug/software_breakpoint", SPEC, software_breakpoint},
	{"debug/breakpoint_of_the_guest", SPEC, breakpoint_of_the_guest},
	{"debug/inject_db", SPEC, inject_db},
	{"debug/inject_bp", SPEC, inject_bp},
	{"debug/inject_one", SPEC, inject_one},
	{"debug/debugregs_are_the_guests", SPEC_REGS, debugregs_are_the_guests},
	{"debug/debugregs_refuse_reserved_bits", SPEC_REGS, debugregs_refuse_reserved_bits},
	{"debug/breakpoint_of_the_guests_registers", SPEC_REGS, breakpoint_of_the_guests_registers},
	TEST_END,
};
