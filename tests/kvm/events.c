/* KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: events that are on their way. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define UD 6
#define DF 8
#define GP 13
#define PF 14

static struct kvm_vcpu_events get_events(struct vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	memset(&events, 0xff, sizeof(events));
	must(kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	return events;
}

static int set_events(struct vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	return kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, events);
}

static void inject(struct vcpu *vcpu, uint8_t vector, bool has_error, uint32_t error)
{
	struct kvm_vcpu_events events = get_events(vcpu);

	events.exception.injected = 1;
	events.exception.nr = vector;
	events.exception.has_error_code = has_error;
	events.exception.error_code = error;
	must(set_events(vcpu, &events));
}

/* EBX says which handler ran (EDX: the NMI's); the frame stays where the CPU put it. */
PAYLOAD(64, program,
	"nop; inc %ecx; hlt; program_ud: mov $6, %ebx; hlt; program_df: mov $8, %ebx; "
	"hlt; program_gp: mov $13, %ebx; hlt; program_pf: mov $14, %ebx; mov %cr2, %rax; hlt;"
	"program_nmi: mov $2, %edx; hlt; program_db: mov $1, %ebx; mov %dr6, %rax; hlt;"
	"program_irq: mov $0x40, %ebx; hlt");
extern const char program_ud[], program_df[], program_gp[], program_pf[];
extern const char program_nmi[], program_db[], program_irq[];

static struct vcpu *start(struct vm *vm)
{
	struct vcpu *vcpu = START(vm, 64, program);

	vm_need(vm, KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS");
	vm_gate(vm, 64, 1, PAYLOAD_AT(program, program_db));
	vm_gate(vm, 64, 2, PAYLOAD_AT(program, program_nmi));
	vm_gate(vm, 64, UD, PAYLOAD_AT(program, program_ud));
	vm_gate(vm, 64, DF, PAYLOAD_AT(program, program_df));
	vm_gate(vm, 64, GP, PAYLOAD_AT(program, program_gp));
	vm_gate(vm, 64, PF, PAYLOAD_AT(program, program_pf));
	vm_gate(vm, 64, 0x40, PAYLOAD_AT(program, program_irq));
	return vcpu;
}

static void expect_handler(struct vcpu *vcpu, uint64_t vector)
{
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, vector);
}

static void exception_without_error_code(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	inject(vcpu, UD, false, 0);
	expect_handler(vcpu, UD);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 40);
	expect_eq(*scene_word(&vm, VM_STACK - 40), VM_CODE);
	expect_eq(*scene_word(&vm, VM_STACK - 32), SEL_CODE64);
	expect_eq(vcpu_regs(vcpu).rcx, 0);
}

static void exception_with_error_code(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	inject(vcpu, GP, true, 0x1234);
	expect_handler(vcpu, GP);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 48);
	expect_eq(*scene_word(&vm, VM_STACK - 48), 0x1234);
	expect_eq(*scene_word(&vm, VM_STACK - 40), VM_CODE);
}

static void page_fault_finds_cr2(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr2 = 0x123456789abc;
	vcpu_set_sregs(vcpu, &sregs);
	inject(vcpu, PF, true, 6);
	expect_handler(vcpu, PF);
	expect_eq(vcpu_regs(vcpu).rax, 0x123456789abc);
	expect_eq(*scene_word(&vm, VM_STACK - 48), 6);
}

PAYLOAD(32, program32, "nop; hlt; program32_gp: mov $13, %ebx; hlt");
PAYLOAD(16, program16, "nop; hlt; program16_gp: mov $13, %ebx; hlt");
extern const char program32_gp[], program16_gp[];

static void exception_protected_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, program32);

	vm_gate(&vm, 32, GP, PAYLOAD_AT(program32, program32_gp));
	inject(vcpu, GP, true, 0x1234);
	expect_handler(vcpu, GP);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 16);
	expect_eq(*scene_word(&vm, VM_STACK - 16), (uint64_t)VM_CODE << 32 | 0x1234);
}

/* In real mode there are no error codes. */
static void exception_real_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, program16);

	vm_gate(&vm, 16, GP, PAYLOAD_AT(program16, program16_gp));
	inject(vcpu, GP, false, 0);
	expect_handler(vcpu, GP);
	expect_eq(vcpu_regs(vcpu).rsp, VM_STACK - 6);
	expect_eq(*scene_word(&vm, VM_STACK - 6) & 0xffffffff, VM_CODE >> 4 << 16);
}

static void exception_before_nmi(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.exception.injected = 1;
	events.exception.nr = UD;
	events.nmi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	must(set_events(vcpu, &events));
	expect_exit(vcpu, KVM_EXIT_HLT);
	/* Both frames are on the stack, the NMI's above that of the exception. */
	expect_eq(vcpu_regs(vcpu).rdx, 2);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
	expect_eq(*scene_word(&vm, VM_STACK - 40), VM_CODE);
	expect_eq(*scene_word(&vm, vcpu_regs(vcpu).rsp), PAYLOAD_AT(program, program_ud));
}

static void exception_is_given_back(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events;

	inject(vcpu, GP, true, 0x1234);
	events = get_events(vcpu);
	expect_eq(events.exception.injected, 1);
	expect_eq(events.exception.nr, GP);
	expect_eq(events.exception.has_error_code, 1);
	expect_eq(events.exception.error_code, 0x1234);
	events.exception.injected = 0;
	must(set_events(vcpu, &events));
	expect_handler(vcpu, 0);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
}

static void interrupt_is_given_back(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_regs regs = vcpu_regs(vcpu);
	struct kvm_interrupt interrupt = {.irq = 0x40};
	struct kvm_vcpu_events events, none;

	regs.rflags |= FLAG_IF;
	vcpu_set_regs(vcpu, &regs);
	none = get_events(vcpu);
	expect_eq(none.interrupt.injected, 0);
	must(kvm_ioctl(vcpu->fd, KVM_INTERRUPT, &interrupt));
	events = get_events(vcpu);
	expect_eq(events.interrupt.injected, 1);
	expect_eq(events.interrupt.nr, 0x40);
	must(set_events(vcpu, &none));
	expect_handler(vcpu, 0);
	regs.rip = VM_CODE;
	vcpu_set_regs(vcpu, &regs);
	must(set_events(vcpu, &events));
	expect_handler(vcpu, 0x40);
}

static void nothing_on_its_way_is_0(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	expect_eq(events.exception.injected, 0);
	expect_eq(events.exception.pending, 0);
	expect_eq(events.interrupt.injected, 0);
	expect_eq(events.interrupt.shadow, 0);
	expect_eq(events.nmi.injected, 0);
	expect_eq(events.nmi.pending, 0);
	expect_eq(events.nmi.masked, 0);
	expect_eq(events.sipi_vector, 0);
	expect_eq(events.flags & KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SHADOW);
	for (size_t i = 0; i < sizeof(events.reserved); i++) {
		expect_eq(events.reserved[i], 0);
	}
}

static void invalid_vectors_are_refused(void)
{
	static const uint8_t vectors[] = {2, 32, 255};
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.exception.injected = 1;
	for (size_t i = 0; i < sizeof(vectors); i++) {
		events.exception.nr = vectors[i];
		expect_errno(set_events(vcpu, &events), EINVAL);
	}
	expect_handler(vcpu, 0);
}

static void unknown_flags_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.flags = 1u << 31;
	expect_errno(set_events(vcpu, &events), EINVAL);
	events.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	/* Nobody turned the capability on. */
	expect_errno(set_events(vcpu, &events), EINVAL);
}

static void invalid_parts_are_left_alone(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.nmi.pending = 1;
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	events.flags = 0;
	must(set_events(vcpu, &events));
	events = get_events(vcpu);
	expect_eq(events.nmi.pending, 0);
	expect_eq(events.interrupt.shadow, 0);
}

static void nmi_pending_is_delivered(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.nmi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	must(set_events(vcpu, &events));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, 2);
	expect_eq(get_events(vcpu).nmi.masked, 1);
	expect_eq(get_events(vcpu).nmi.pending, 0);
}

static void nmi_masked_holds_it_off(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_vcpu_events events = get_events(vcpu);

	events.nmi.masked = 1;
	events.nmi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	must(set_events(vcpu, &events));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, 0);
	expect_eq(vcpu_regs(vcpu).rcx, 1);
	events = get_events(vcpu);
	expect_eq(events.nmi.masked, 1);
	expect_eq(events.nmi.pending, 1);
	events.nmi.masked = 0;
	must(set_events(vcpu, &events));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rdx, 2);
}

static void shadow_holds_interrupts_off(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_regs regs = vcpu_regs(vcpu);
	struct kvm_vcpu_events events;

	regs.rflags |= FLAG_IF;
	vcpu_set_regs(vcpu, &regs);
	complete_only(vcpu);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
	events = get_events(vcpu);
	events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	must(set_events(vcpu, &events));
	expect((get_events(vcpu).interrupt.shadow & KVM_X86_SHADOW_INT_STI) != 0);
	complete_only(vcpu);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(get_events(vcpu).interrupt.shadow, 0);
}

static void triple_fault_is_a_shutdown(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};
	struct kvm_vcpu_events events = get_events(vcpu);

	vm_need(&vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, "KVM_CAP_X86_TRIPLE_FAULT_EVENT");
	events.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events.triple_fault.pending = 1;
	expect_errno(set_events(vcpu, &events), EINVAL);
	must(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap));
	expect_eq(get_events(vcpu).triple_fault.pending, 0);
	must(set_events(vcpu, &events));
	expect_eq(get_events(vcpu).triple_fault.pending, 1);
	expect_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

/* ---- payloads ---- */

static void pend(struct vcpu *vcpu, uint8_t vector, bool has_error, uint64_t payload)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
	struct kvm_vcpu_events events;

	vm_need(vcpu->vm, KVM_CAP_EXCEPTION_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD");
	must(kvm_ioctl(vcpu->vm->fd, KVM_ENABLE_CAP, &cap));
	events = get_events(vcpu);
	events.exception.injected = 0;
	events.exception.pending = 1;
	events.exception.nr = vector;
	events.exception.has_error_code = has_error;
	events.exception.error_code = 0;
	events.exception_has_payload = 1;
	events.exception_payload = payload;
	events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	must(set_events(vcpu, &events));
}

static void payload_of_a_page_fault_is_cr2(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	pend(vcpu, PF, true, 0x123456789abc);
	expect_eq(vcpu_sregs(vcpu).cr2, 0);
	expect_eq(get_events(vcpu).exception.pending, 1);
	expect_eq(get_events(vcpu).exception_payload, 0x123456789abc);
	expect_handler(vcpu, PF);
	expect_eq(vcpu_regs(vcpu).rax, 0x123456789abc);
}

static void payload_of_a_debug_exception_is_dr6(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);

	pend(vcpu, 1, false, 1u << 14);
	expect_handler(vcpu, 1);
	expect_eq(vcpu_regs(vcpu).rax, 0xffff4ff0);
}

/* ---- faults while an event is delivered ---- */

/* The IDT lies across two pages, the second of which is absent from gate @first on. */
static struct vcpu *start_broken_idt(struct vm *vm, uint8_t first)
{
	struct vcpu *vcpu = start(vm);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	memcpy(vm->ram + VM_FREE + 0x1000 - 16 * first, vm->ram + VM_IDT, 16 * (size_t)first);
	*scene_pte(vm, 0x400000) = VM_FREE | 0x7;
	*scene_pte(vm, 0x401000) = 0;
	sregs.idt.base = 0x401000 - 16 * first;
	vcpu_set_sregs(vcpu, &sregs);
	return vcpu;
}

static void absent_gate_is_a_page_fault(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_broken_idt(&vm, 32);
	struct kvm_vcpu_events events = get_events(vcpu);
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rflags |= FLAG_IF;
	vcpu_set_regs(vcpu, &regs);
	events.interrupt.injected = 1;
	events.interrupt.nr = 0x40;
	must(set_events(vcpu, &events));
	expect_handler(vcpu, PF);
	expect_eq(vcpu_regs(vcpu).rax, 0x401000 + 16 * (0x40 - 32));
	expect_eq(*scene_word(&vm, VM_STACK - 40), VM_CODE);
}

static void absent_gate_of_page_fault_is_a_double_fault(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_broken_idt(&vm, PF);

	inject(vcpu, PF, true, 0);
	expect_handler(vcpu, DF);
	expect_eq(*scene_word(&vm, VM_STACK - 48), 0);
}

static void absent_idt_is_a_shutdown(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_broken_idt(&vm, 0);

	inject(vcpu, UD, false, 0);
	expect_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

#define SPEC "KVM API 4.31, 4.32"

const struct test_case events_cases[] = {
	{"events/exception_without_error_code", SPEC, exception_without_error_code},
	{"events/exception_with_error_code", SPEC, exception_with_error_code},
	{"events/page_fault_finds_cr2", SPEC, page_fault_finds_cr2},
	{"events/exception_protected_mode", SPEC, exception_protected_mode},
	{"events/exception_real_mode", SPEC, exception_real_mode},
	{"events/exception_before_nmi", "AMD APM vol. 2, 8.5", exception_before_nmi},
	{"events/exception_is_given_back", SPEC, exception_is_given_back},
	{"events/interrupt_is_given_back", SPEC, interrupt_is_given_back},
	{"events/nothing_on_its_way_is_0", SPEC, nothing_on_its_way_is_0},
	{"events/invalid_vectors_are_refused", SPEC, invalid_vectors_are_refused},
	{"events/unknown_flags_are_refused", SPEC, unknown_flags_are_refused},
	{"events/invalid_parts_are_left_alone", SPEC, invalid_parts_are_left_alone},
	{"events/nmi_pending_is_delivered", SPEC, nmi_pending_is_delivered},
	{"events/nmi_masked_holds_it_off", SPEC, nmi_masked_holds_it_off},
	{"events/shadow_holds_interrupts_off", SPEC, shadow_holds_interrupts_off},
	{"events/triple_fault_is_a_shutdown", SPEC, triple_fault_is_a_shutdown},
	{"events/payload_of_a_page_fault_is_cr2", "KVM API 7.17", payload_of_a_page_fault_is_cr2},
	{"events/payload_of_a_debug_exception_is_dr6", "KVM API 7.17",
	 payload_of_a_debug_exception_is_dr6},
	{"events/absent_gate_is_a_page_fault", "AMD APM vol. 2, 8.2.15",
	 absent_gate_is_a_page_fault},
	{"events/absent_gate_of_page_fault_is_a_double_fault", "AMD APM vol. 2, 8.2.9",
	 absent_gate_of_page_fault_is_a_double_fault},
	{"events/absent_idt_is_a_shutdown", "AMD APM vol. 2, 8.2.9", absent_idt_is_a_shutdown},
	TEST_END,
};
