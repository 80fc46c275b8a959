#include "tests/kvm/hand.h"

#include <string.h>

#define DONE_PORT 0xe0
#define NMI	  2

/* rbx: the box. What it says is done, then the loop comes round. */
PAYLOAD(64, hand_code,
	"hand_loop: out %eax, $0xe0\n"
	"	mov 8(%rbx), %rdx\n"
	"	mov 16(%rbx), %rax\n"
	"	jmp *(%rbx)\n"
	"hand_op_out8: out %al, %dx\n"
	"	jmp hand_loop\n"
	"hand_op_in8: in %dx, %al\n"
	"	mov %al, 24(%rbx)\n"
	"	jmp hand_loop\n"
	"hand_op_write32: mov %eax, (%rdx)\n"
	"	jmp hand_loop\n"
	"hand_op_read32: mov (%rdx), %eax\n"
	"	mov %eax, 24(%rbx)\n"
	"	jmp hand_loop\n"
	"hand_op_open: sti\n"
	"	.rept 16\n"
	"	nop\n"
	"	.endr\n"
	"	cli\n"
	"	jmp hand_loop\n"
	"hand_op_halt: sti\n"
	"	hlt\n"
	"	cli\n"
	"	jmp hand_loop\n"
	"hand_arrived: push %rax\n"
	"	push %rcx\n"
	"	mov 32(%rbx), %ecx\n"
	"	cmp $63, %ecx\n"
	"	ja 1f\n"
	"	mov 16(%rsp), %al\n"
	"	mov %al, 64(%rbx, %rcx)\n"
	"1:	incl 32(%rbx)\n"
	"	pop %rcx\n"
	"	pop %rax\n"
	"	add $8, %rsp\n"
	"	iretq\n"
	"	.balign 16\n"
	"hand_entries:\n"
	"	vector = 0\n"
	"	.rept 256\n"
	"	.balign 16\n"
	"	pushq $vector\n"
	"	jmp hand_arrived\n"
	"	vector = vector + 1\n"
	"	.endr\n");

extern const char hand_op_out8[], hand_op_in8[], hand_op_write32[], hand_op_read32[];
extern const char hand_op_open[], hand_op_halt[], hand_entries[];

struct box {
	uint64_t op, address, value, result;
	uint32_t count;
	uint32_t reserved[7];
	uint8_t vectors[HAND_LOG_MAX];
};
_Static_assert(offsetof(struct box, count) == 32, "known to the payload");
_Static_assert(offsetof(struct box, vectors) == 64, "known to the payload");

static uint64_t box_gpa(const struct vcpu *vcpu)
{
	return VM_FREE + UINT64_C(0x1000) * vcpu->id;
}

static volatile struct box *box(struct vcpu *vcpu)
{
	return (volatile struct box *)(vcpu->vm->ram + box_gpa(vcpu));
}

void hand_start(struct vcpu *vcpu)
{
	uint64_t entries = PAYLOAD_AT(hand_code, hand_entries);
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, hand_code, hand_code_end);
	vm_gate(vcpu->vm, 64, NMI, entries + UINT64_C(16) * NMI);
	for (uint32_t i = 32; i < 256; i++) {
		vm_gate(vcpu->vm, 64, (uint8_t)i, entries + UINT64_C(16) * i);
	}
	regs = vcpu_regs(vcpu);
	regs.rbx = box_gpa(vcpu);
	vcpu_set_regs(vcpu, &regs);
	expect_out(vcpu, DONE_PORT, 4, 0);
	hand_write32(vcpu, HAND_APIC_SVR, 0x1ff);
	hand_write32(vcpu, HAND_APIC_LVT0, 0x10000);
}

struct vcpu *hand_vm(struct vm *vm, enum vm_irqchip irqchip)
{
	struct vcpu *vcpu;

	vm_create(vm, irqchip);
	vcpu = vm_add_vcpu(vm);
	hand_start(vcpu);
	return vcpu;
}

static void begin(struct vcpu *vcpu, const char *op, uint64_t address, uint64_t value)
{
	volatile struct box *b = box(vcpu);

	b->op = PAYLOAD_AT(hand_code, op);
	b->address = address;
	b->value = value;
	b->result = 0;
}

bool hand_is_done(struct vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_IO &&
	       vcpu->run->io.direction == KVM_EXIT_IO_OUT && vcpu->run->io.port == DONE_PORT;
}

static uint64_t do_op(struct vcpu *vcpu, const char *op, uint64_t address, uint64_t value)
{
	begin(vcpu, op, address, value);
	expect_exit(vcpu, KVM_EXIT_IO);
	if (!hand_is_done(vcpu)) {
		fail("an exit for port 0x%x", vcpu->run->io.port);
	}
	return box(vcpu)->result;
}

void hand_out8(struct vcpu *vcpu, uint16_t port, uint8_t value)
{
	do_op(vcpu, hand_op_out8, port, value);
}

uint8_t hand_in8(struct vcpu *vcpu, uint16_t port)
{
	return (uint8_t)do_op(vcpu, hand_op_in8, port, 0);
}

void hand_write32(struct vcpu *vcpu, uint64_t gpa, uint32_t value)
{
	do_op(vcpu, hand_op_write32, gpa, value);
}

uint32_t hand_read32(struct vcpu *vcpu, uint64_t gpa)
{
	return (uint32_t)do_op(vcpu, hand_op_read32, gpa, 0);
}

void hand_ioapic_write(struct vcpu *vcpu, uint8_t index, uint32_t value)
{
	hand_write32(vcpu, 0xfec00000, index);
	hand_write32(vcpu, 0xfec00010, value);
}

uint32_t hand_ioapic_read(struct vcpu *vcpu, uint8_t index)
{
	hand_write32(vcpu, 0xfec00000, index);
	return hand_read32(vcpu, 0xfec00010);
}

void hand_open(struct vcpu *vcpu)
{
	do_op(vcpu, hand_op_open, 0, 0);
}

void hand_halt(struct vcpu *vcpu)
{
	do_op(vcpu, hand_op_halt, 0, 0);
}

void hand_begin_write32(struct vcpu *vcpu, uint64_t gpa, uint32_t value)
{
	begin(vcpu, hand_op_write32, gpa, value);
}

void hand_begin_open(struct vcpu *vcpu)
{
	begin(vcpu, hand_op_open, 0, 0);
}

void hand_begin_halt(struct vcpu *vcpu)
{
	begin(vcpu, hand_op_halt, 0, 0);
}

uint32_t hand_count(struct vcpu *vcpu)
{
	return box(vcpu)->count;
}

uint8_t hand_vector(struct vcpu *vcpu, uint32_t index)
{
	return box(vcpu)->vectors[index % HAND_LOG_MAX];
}

void hand_forget(struct vcpu *vcpu)
{
	box(vcpu)->count = 0;
}

void hand_expect(const char *file, int line, struct vcpu *vcpu, bool open, const uint8_t *vectors,
		 size_t count)
{
	if (open) {
		hand_open(vcpu);
	} else {
		hand_halt(vcpu);
	}
	for (uint32_t i = 0; i < hand_count(vcpu) && i < count; i++) {
		test_expect_eq(file, line, "the vector", hand_vector(vcpu, i), vectors[i]);
	}
	test_expect_eq(file, line, "interrupts that arrived", hand_count(vcpu), count);
	hand_forget(vcpu);
}
