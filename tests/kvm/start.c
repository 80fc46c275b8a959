/* vcpu_start(): a vCPU in real, protected or long mode, at the first instruction of a payload. */
#include <string.h>

#include "tests/kvm/vm.h"

#define CR0_PROTECTED 0x00010033 /* WP, NE, ET, MP, PE */
#define EFER_LMA      0x400

#define GATE_INTERRUPT 0x8e

static const uint64_t gdt[] = {
	[SEL_CODE32 / 8] = 0x00cf9b000000ffff,
	[SEL_CODE64 / 8] = 0x00af9b000000ffff,
	[SEL_DATA / 8] = 0x00cf93000000ffff,
	[SEL_USER_CODE32 / 8] = 0x00cffb000000ffff,
	[SEL_USER_DATA / 8] = 0x00cff3000000ffff,
	[SEL_USER_CODE64 / 8] = 0x00affb000000ffff,
	[SEL_CODE16 / 8] = 0x00009b000000ffff,
	[SEL_DATA16 / 8] = 0x000093000000ffff,
	[SEL_TSS / 8] = 0x00008b0000000067 | (uint64_t)VM_TSS << 16,
	0, /* the upper half of the TSS's, in 64-bit mode */
};

static void make_tables(struct vm *vm)
{
	uint64_t *pml4 = (uint64_t *)(vm->ram + VM_TABLES);
	uint64_t *pdpt = pml4 + 512, *pd = pdpt + 512;

	memset(pml4, 0, 2 * 4096);
	pml4[0] = (VM_TABLES + 0x1000) | 0x7;
	for (unsigned int i = 0; i < 4; i++) {
		pdpt[i] = (VM_TABLES + 0x2000 + 0x1000 * i) | 0x7;
	}
	for (uint64_t i = 0; i < 2048; i++) {
		pd[i] = i << 21 | 0x87;
	}
}

void vm_gate(struct vm *vm, int bits, uint8_t vector, uint64_t handler)
{
	uint32_t *gate = (uint32_t *)(vm->ram + VM_IDT + (bits == 64 ? 16 : 8) * vector);
	uint16_t selector = bits == 64 ? SEL_CODE64 : SEL_CODE32;

	if (bits == 16) {
		uint16_t *far = (uint16_t *)(vm->ram + VM_IVT + 4 * vector);

		far[0] = (uint16_t)(handler - VM_CODE);
		far[1] = VM_CODE >> 4;
		return;
	}
	gate[0] = (uint32_t)selector << 16 | (uint16_t)handler;
	gate[1] = ((uint32_t)handler & 0xffff0000) | GATE_INTERRUPT << 8;
	if (bits == 64) {
		gate[2] = (uint32_t)(handler >> 32);
		gate[3] = 0;
	}
}

static struct kvm_segment segment(uint16_t selector, int bits, bool code)
{
	bool real = bits == 16;

	return (struct kvm_segment){
		.selector = selector,
		.limit = real ? 0xffff : 0xffffffff,
		.type = code ? 11 : 3,
		.present = 1,
		.s = 1,
		.db = bits == 32 || (bits == 64 && !code),
		.l = bits == 64 && code,
		.g = !real,
	};
}

static void set_segments(struct kvm_sregs *sregs, int bits)
{
	static const uint16_t code[] = {[1] = VM_CODE >> 4, [2] = SEL_CODE32, [4] = SEL_CODE64};
	struct kvm_segment data = segment(bits == 16 ? 0 : SEL_DATA, bits, false);

	sregs->cs = segment(code[bits / 16], bits, true);
	sregs->cs.base = bits == 16 ? VM_CODE : 0;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){
		.selector = SEL_TSS,
		.base = VM_TSS,
		.limit = 0x67,
		.type = 11,
		.present = 1,
	};
	sregs->gdt.base = VM_GDT;
	sregs->gdt.limit = sizeof(gdt) - 1;
	sregs->idt.base = bits == 16 ? VM_IVT : VM_IDT;
	sregs->idt.limit = bits == 16 ? 0x3ff : 0xfff;
}

void vcpu_start(struct vcpu *vcpu, int bits, const char *code, const char *code_end)
{
	struct vm *vm = vcpu->vm;
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	struct kvm_regs regs = {.rflags = 2, .rsp = VM_STACK - 0x400 * vcpu->id};
	size_t bytes = (size_t)(code_end - code);

	expect(bytes <= 0x10000 && (bits == 16 || bits == 32 || bits == 64));
	memcpy(vm->ram + VM_CODE, code, bytes);
	memcpy(vm->ram + VM_GDT, gdt, sizeof(gdt));
	set_segments(&sregs, bits);
	sregs.cr0 = bits == 16 ? 0x10 : CR0_PROTECTED;
	sregs.cr4 = sregs.efer = sregs.cr3 = 0;
	if (bits == 64) {
		make_tables(vm);
		sregs.cr0 = CR0_AT_START;
		sregs.cr3 = VM_TABLES;
		sregs.cr4 = CR4_AT_START;
		sregs.efer = EFER_AT_START | EFER_LMA;
	}
	regs.rip = bits == 16 ? 0 : VM_CODE;
	vcpu_set_sregs(vcpu, &sregs);
	vcpu_set_regs(vcpu, &regs);
	if (vm->irqchip != IRQCHIP_NONE && vcpu->id != 0) {
		struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};

		must(kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &state));
	}
}

struct vcpu *vm_begin(struct vm *vm, enum vm_irqchip irqchip, int bits, const char *code,
		      const char *code_end)
{
	struct vcpu *vcpu;

	vm_create(vm, irqchip);
	vcpu = vm_add_vcpu(vm);
	vcpu_start(vcpu, bits, code, code_end);
	return vcpu;
}
