#include "tests/kvm/scene.h"

#include <errno.h>
#include <string.h>

void scene_steps(const char *file, int line, struct vcpu *vcpu, const struct step *steps)
{
	for (const struct step *s = steps; s->kind != STEP_END; s++) {
		switch (s->kind) {
		case STEP_MMIO_READ:
			vm_expect_mmio_read(file, line, vcpu, s->address, s->bytes, s->value);
			break;
		case STEP_MMIO_WRITE:
			vm_expect_mmio_write(file, line, vcpu, s->address, s->bytes, s->value);
			break;
		case STEP_IN:
			vm_expect_in(file, line, vcpu, (uint16_t)s->address, (uint8_t)s->bytes,
				     (uint32_t)s->value);
			break;
		default:
			vm_expect_out(file, line, vcpu, (uint16_t)s->address, (uint8_t)s->bytes,
				      (uint32_t)s->value);
			break;
		}
	}
	vm_expect_exit(file, line, vcpu, KVM_EXIT_HLT);
}

void scene_user(struct vcpu *vcpu, uint64_t rflags)
{
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	struct kvm_regs regs = vcpu_regs(vcpu);
	uint64_t stack = USER_STACK0;
	uint16_t iomap = 0xffff;

	memcpy(vcpu->vm->ram + VM_TSS + 4, &stack, sizeof(stack));
	memcpy(vcpu->vm->ram + VM_TSS + 0x66, &iomap, sizeof(iomap));
	sregs.cs.selector = SEL_USER_CODE64;
	sregs.ss.selector = SEL_USER_DATA;
	sregs.ds.selector = sregs.es.selector = SEL_USER_DATA;
	sregs.cs.dpl = sregs.ss.dpl = sregs.ds.dpl = sregs.es.dpl = 3;
	regs.rflags = 2 | rflags;
	vcpu_set_sregs(vcpu, &sregs);
	vcpu_set_regs(vcpu, &regs);
}

uint64_t *scene_pte(struct vm *vm, uint64_t gva)
{
	uint64_t *pd = (uint64_t *)(vm->ram + VM_TABLES + 0x2000) + (gva >> 21);
	uint64_t *table = NULL;

	expect(gva < UINT64_C(1) << 32);
	for (uint64_t at = SCENE_TABLES; at < SCENE_TABLES + 0x4000; at += 0x1000) {
		table = (uint64_t *)(vm->ram + at);
		if ((*pd & 0xfffffffffff80) == at) {
			break;
		}
		if ((*pd & 0x80) != 0 && table[0] == 0 && table[1] == 0) {
			for (uint64_t i = 0; i < 512; i++) {
				table[i] = (gva >> 21 << 21) | i << 12 | 0x7;
			}
			*pd = at | 0x7;
			break;
		}
		table = NULL;
	}
	expect(table != NULL);
	return &table[gva >> 12 & 511];
}

uint64_t *scene_word(struct vm *vm, uint64_t gpa)
{
	expect(gpa <= VM_RAM - 8);
	return (uint64_t *)(vm->ram + gpa);
}

void scene_set_rip(struct vcpu *vcpu, uint64_t rip)
{
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rip = rip;
	vcpu_set_regs(vcpu, &regs);
}

void scene_complete(const char *file, int line, struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	test_expect_errno(file, line, "KVM_RUN with immediate_exit", vcpu_run(vcpu), EINTR);
	vcpu->run->immediate_exit = 0;
}
