/* KVM_INTERRUPT and KVM_NMI: when they come, what they push, what wakes and what waits. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define VECTOR 0x40

static int interrupt(struct vcpu *vcpu, uint32_t vector)
{
	struct kvm_interrupt it = {.irq = vector};

	return kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &it);
}

/* What a VMM does that has the interrupt controllers itself: only when the vCPU can take it. */
static void interrupt_when_ready(struct vcpu *vcpu)
{
	expect_eq(vcpu->run->if_flag, 1);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
	must(interrupt(vcpu, VECTOR));
}

#define DELIVER "sti; nop; out %al, $1; "
PAYLOAD(16, deliver16, DELIVER "deliver16_after: hlt; deliver16_irq: pushf; pop %ax; hlt");
PAYLOAD(32, deliver32, DELIVER "deliver32_after: hlt; deliver32_irq: pushf; pop %eax; hlt");
PAYLOAD(64, deliver64, DELIVER "deliver64_after: hlt; deliver64_irq: pushf; pop %rax; hlt");
extern const char deliver16_after[], deliver32_after[], deliver64_after[];
extern const char deliver16_irq[], deliver32_irq[], deliver64_irq[];

static void delivered_real_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, deliver16);
	uint16_t frame[3];

	vm_gate(&vm, 16, VECTOR, PAYLOAD_AT(deliver16, deliver16_irq));
	expect_out(vcpu, 1, 1, 0);
	interrupt_when_ready(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax & FLAG_IF, 0);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 6);
	memcpy(frame, vm.ram + VM_STACK - 6, sizeof(frame));
	expect_eq(frame[0], deliver16_after - deliver16);
	expect_eq(frame[1], VM_CODE >> 4);
	expect_eq(frame[2] & FLAG_IF, FLAG_IF);
}

static void delivered_protected_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, deliver32);
	uint32_t frame[3];

	vm_gate(&vm, 32, VECTOR, PAYLOAD_AT(deliver32, deliver32_irq));
	expect_out(vcpu, 1, 1, 0);
	interrupt_when_ready(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax & FLAG_IF, 0);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 12);
	memcpy(frame, vm.ram + VM_STACK - 12, sizeof(frame));
	expect_eq(frame[0], PAYLOAD_AT(deliver32, deliver32_after));
	expect_eq(frame[1], SEL_CODE32);
	expect_eq(frame[2] & FLAG_IF, FLAG_IF);
}

static void delivered_long_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, deliver64);

	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(deliver64, deliver64_irq));
	expect_out(vcpu, 1, 1, 0);
	interrupt_when_ready(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax & FLAG_IF, 0);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 40);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(deliver64, deliver64_after));
	expect_eq(*scene_word(&vm, VM_STACK - 32), SEL_CODE64);
	expect_eq(*scene_word(&vm, VM_STACK - 24) & FLAG_IF, FLAG_IF);
	expect_eq(*scene_word(&vm, VM_STACK - 16), VM_STACK);
}

PAYLOAD(64, in_user, "out %al, $1; in_user_after: out %al, $9; in_user_irq: hlt");
extern const char in_user_after[], in_user_irq[];

static void delivered_from_user_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, in_user);

	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(in_user, in_user_irq));
	scene_user(vcpu, FLAG_IF | FLAGS_IO);
	expect_out(vcpu, 1, 1, 0);
	interrupt_when_ready(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rsp, USER_STACK0 - 40);
	expect_eq(vcpu_sregs(vcpu).cs.selector, SEL_CODE64);
	expect_eq(*scene_word(&vm, USER_STACK0 - 40), PAYLOAD_AT(in_user, in_user_after));
	expect_eq(*scene_word(&vm, USER_STACK0 - 32), SEL_USER_CODE64);
	expect_eq(*scene_word(&vm, USER_STACK0 - 16), VM_STACK);
	expect_eq(*scene_word(&vm, USER_STACK0 - 8), SEL_USER_DATA);
}

PAYLOAD(64, idle, "sti; hlt; idle_after: cli; hlt; idle_irq: inc %ecx; iretq");
extern const char idle_after[], idle_irq[];

static void hlt_ends_by_an_interrupt(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, idle);

	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(idle, idle_irq));
	expect_exit(vcpu, KVM_EXIT_HLT);
	interrupt_when_ready(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(idle, idle_after) + 2);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(idle, idle_after));
}

/* ---- the interrupt window ---- */

PAYLOAD(64, window, "out %al, $1; sti; inc %ecx; nop; out %al, $9");

static void window_opens_with_if(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, window);

	vcpu->run->request_interrupt_window = 1;
	expect_out(vcpu, 1, 1, 0);
	expect_eq(vcpu->run->if_flag, 0);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 0);
	expect_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	expect_eq(vcpu->run->if_flag, 1);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
}

/* STI holds interrupts off until the instruction after it is done. */
static void window_is_shut_after_sti(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, window);

	vcpu->run->request_interrupt_window = 1;
	expect_out(vcpu, 1, 1, 0);
	expect_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
}

PAYLOAD(64, no_window, "sti; cli; out %al, $1; mov $0x18, %eax; mov %eax, %ss; hlt");

static void window_never_opens_between_sti_and_cli(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, no_window);

	vcpu->run->request_interrupt_window = 1;
	expect_out(vcpu, 1, 1, 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, open_window, "sti; nop; out %al, $1; out %al, $2; nop; out %al, $9");

static void window_that_is_open_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, open_window);
	int result;

	/* Nobody asked until now. */
	expect_out(vcpu, 1, 1, 0);
	vcpu->run->request_interrupt_window = 1;
	result = vcpu_run(vcpu);
	if (result == KVM_EXIT_IO) {
		result = vcpu_run(vcpu);
	}
	expect_eq(result, KVM_EXIT_IRQ_WINDOW_OPEN);
}

PAYLOAD(64, no_request, "sti; nop; nop; cli; out %al, $1; hlt");

static void window_unasked_is_no_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, no_request);

	expect_steps(vcpu, OUT(1, 1, 0));
}

/* ---- what is refused, and the split irqchip ---- */

static void vector_256_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, idle);

	expect_errno(interrupt(vcpu, 256), EINVAL);
	expect_errno(interrupt(vcpu, UINT32_MAX), EINVAL);
}

static void full_irqchip_refuses(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(interrupt(vm_add_vcpu(&vm), VECTOR), ENXIO);
}

PAYLOAD(64, masked,
	"out %al, $1; inc %ecx; sti; nop; nop; out %al, $9;"
	"masked_irq: out %al, $2; iretq");
extern const char masked_irq[];

static void split_irqchip_waits_for_if(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, masked, masked_end);
	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(masked, masked_irq));
	expect_out(vcpu, 1, 1, 0);
	must(interrupt(vcpu, VECTOR));
	expect_out(vcpu, 2, 1, 0);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
}

static void split_irqchip_holds_one(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, masked, masked_end);
	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(masked, masked_irq));
	expect_out(vcpu, 1, 1, 0);
	must(interrupt(vcpu, VECTOR));
	expect_errno(interrupt(vcpu, VECTOR + 1), EEXIST);
	expect_out(vcpu, 2, 1, 0);
	must(interrupt(vcpu, VECTOR));
}

/* ---- NMI ---- */

static void nmi(struct vcpu *vcpu)
{
	vm_need(vcpu->vm, KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI");
	must(kvm_ioctl(vcpu->fd, KVM_NMI, 0));
}

PAYLOAD(64, nmis,
	"cli; out %al, $1; nmis_after: out %al, $2; hlt;"
	"nmis_nmi: inc %ecx; out %al, $3; out %al, $4; iretq;"
	"nmis_irq: inc %edx; iretq");
extern const char nmis_after[], nmis_nmi[], nmis_irq[];

static struct vcpu *start_nmis(struct vm *vm)
{
	struct vcpu *vcpu = START(vm, 64, nmis);

	vm_gate(vm, 64, 2, PAYLOAD_AT(nmis, nmis_nmi));
	vm_gate(vm, 64, VECTOR, PAYLOAD_AT(nmis, nmis_irq));
	expect_out(vcpu, 1, 1, 0);
	return vcpu;
}

static void nmi_does_not_ask_if(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_nmis(&vm);

	nmi(vcpu);
	expect_steps(vcpu, OUT(3, 1, 0), OUT(4, 1, 0), OUT(2, 1, 0));
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(nmis, nmis_after));
}

static void nmi_waits_for_iret(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_nmis(&vm);

	nmi(vcpu);
	expect_out(vcpu, 3, 1, 0);
	nmi(vcpu);
	/* The first goes on to its end; the second follows before the interrupted program. */
	expect_steps(vcpu, OUT(4, 1, 0), OUT(3, 1, 0), OUT(4, 1, 0), OUT(2, 1, 0));
	expect_eq(vcpu_regs(vcpu).rcx, 2);
}

static void nmi_one_waits(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_nmis(&vm);

	nmi(vcpu);
	expect_out(vcpu, 3, 1, 0);
	nmi(vcpu);
	nmi(vcpu);
	nmi(vcpu);
	expect_steps(vcpu, OUT(4, 1, 0), OUT(3, 1, 0), OUT(4, 1, 0), OUT(2, 1, 0));
	expect_eq(vcpu_regs(vcpu).rcx, 2);
}

PAYLOAD(64, nmi_idle, "cli; hlt; nmi_idle_after: mov $1, %edx; hlt; nmi_idle_nmi: inc %ecx; iretq");
extern const char nmi_idle_after[], nmi_idle_nmi[];

static void nmi_ends_hlt(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, nmi_idle);

	vm_gate(&vm, 64, 2, PAYLOAD_AT(nmi_idle, nmi_idle_nmi));
	expect_exit(vcpu, KVM_EXIT_HLT);
	nmi(vcpu);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	expect_eq(vcpu_regs(vcpu).rdx, 1);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(nmi_idle, nmi_idle_after));
}

PAYLOAD(64, nmi_first,
	"sti; nop; out %al, $1; nop; out %al, $9;"
	"nmi_first_nmi: inc %ecx; iretq; nmi_first_irq: out %al, $2; hlt");
extern const char nmi_first_nmi[], nmi_first_irq[];

/* Both wait: the NMI goes first, and its handler is not interrupted. */
static void nmi_before_interrupt(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, nmi_first, nmi_first_end);
	vm_gate(&vm, 64, 2, PAYLOAD_AT(nmi_first, nmi_first_nmi));
	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(nmi_first, nmi_first_irq));
	expect_out(vcpu, 1, 1, 0);
	must(interrupt(vcpu, VECTOR));
	nmi(vcpu);
	expect_out(vcpu, 2, 1, 0);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 40);
}

PAYLOAD(64, exception_first,
	"sti; nop; out %al, $1; exception_first_at: hlt;"
	"exception_first_ud: out %al, $3; iretq;"
	"exception_first_irq: out %al, $2; hlt");
extern const char exception_first_at[], exception_first_ud[], exception_first_irq[];

static void exception_before_interrupt(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_vcpu_events events;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, exception_first, exception_first_end);
	vm_gate(&vm, 64, 6, PAYLOAD_AT(exception_first, exception_first_ud));
	vm_gate(&vm, 64, VECTOR, PAYLOAD_AT(exception_first, exception_first_irq));
	expect_out(vcpu, 1, 1, 0);
	complete_only(vcpu);
	must(kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	events.exception.injected = 1;
	events.exception.nr = 6;
	events.exception.has_error_code = 0;
	must(kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	must(interrupt(vcpu, VECTOR));
	/* The handler of the exception is not interrupted; what it returns to is. */
	expect_out(vcpu, 3, 1, 0);
	expect_out(vcpu, 2, 1, 0);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 40);
	expect_eq(*scene_word(&vm, VM_STACK - 40), PAYLOAD_AT(exception_first, exception_first_at));
}

#define SPEC_INTERRUPT "KVM API 4.16"
#define SPEC_NMI       "KVM API 4.64; AMD APM vol. 2, 8.2.3"

const struct test_case inject_cases[] = {
	{"inject/interrupt_real_mode", SPEC_INTERRUPT, delivered_real_mode},
	{"inject/interrupt_protected_mode", SPEC_INTERRUPT, delivered_protected_mode},
	{"inject/interrupt_long_mode", SPEC_INTERRUPT, delivered_long_mode},
	{"inject/interrupt_from_user_mode", SPEC_INTERRUPT, delivered_from_user_mode},
	{"inject/hlt_ends_by_an_interrupt", SPEC_INTERRUPT, hlt_ends_by_an_interrupt},
	{"inject/window_opens_with_if", "KVM API 5, request_interrupt_window",
	 window_opens_with_if},
	{"inject/window_is_shut_after_sti", "AMD APM vol. 3, STI", window_is_shut_after_sti},
	{"inject/window_never_opens_between_sti_and_cli", "AMD APM vol. 3, STI",
	 window_never_opens_between_sti_and_cli},
	{"inject/window_that_is_open_is_an_exit", "KVM API 5, request_interrupt_window",
	 window_that_is_open_is_an_exit},
	{"inject/window_unasked_is_no_exit", "KVM API 5, request_interrupt_window",
	 window_unasked_is_no_exit},
	{"inject/vector_256_is_refused", SPEC_INTERRUPT, vector_256_is_refused},
	{"inject/full_irqchip_refuses", SPEC_INTERRUPT, full_irqchip_refuses},
	{"inject/split_irqchip_waits_for_if", SPEC_INTERRUPT, split_irqchip_waits_for_if},
	{"inject/split_irqchip_holds_one", SPEC_INTERRUPT, split_irqchip_holds_one},
	{"inject/nmi_does_not_ask_if", SPEC_NMI, nmi_does_not_ask_if},
	{"inject/nmi_waits_for_iret", SPEC_NMI, nmi_waits_for_iret},
	{"inject/nmi_one_waits", SPEC_NMI, nmi_one_waits},
	{"inject/nmi_ends_hlt", SPEC_NMI, nmi_ends_hlt},
	{"inject/nmi_before_interrupt", "AMD APM vol. 2, 8.5", nmi_before_interrupt},
	{"inject/exception_before_interrupt", "AMD APM vol. 2, 8.5", exception_before_interrupt},
	TEST_END,
};
