/* KVM_TRANSLATE: where a linear address lies, in every mode of paging. Nothing runs. */
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define TABLE0 0x100000
#define TABLE1 0x101000
#define TABLE2 0x102000

PAYLOAD(16, nothing16, "hlt");
PAYLOAD(32, nothing32, "hlt");
PAYLOAD(64, nothing64, "hlt");

static struct kvm_translation translate(struct vcpu *vcpu, uint64_t address)
{
	struct kvm_translation it = {.linear_address = address};

	must(kvm_ioctl(vcpu->fd, KVM_TRANSLATE, &it));
	return it;
}

static void expect_at(struct vcpu *vcpu, uint64_t linear, uint64_t physical)
{
	struct kvm_translation it = translate(vcpu, linear);

	expect_eq(it.valid, 1);
	expect_eq(it.physical_address, physical);
}

static void expect_nowhere(struct vcpu *vcpu, uint64_t linear)
{
	expect_eq(translate(vcpu, linear).valid, 0);
}

static void real_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, nothing16);

	expect_at(vcpu, 0x12345, 0x12345);
}

static void without_paging(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, nothing32);

	expect_at(vcpu, 0x12345, 0x12345);
	expect_at(vcpu, VM_HOLE + 1, VM_HOLE + 1);
}

static void turn_paging_on(struct vcpu *vcpu, uint64_t cr4)
{
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.cr0 |= CR0_PG;
	sregs.cr3 = TABLE0;
	sregs.cr4 |= cr4;
	vcpu_set_sregs(vcpu, &sregs);
}

static void paging_32_bit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, nothing32);
	uint32_t *directory = (uint32_t *)(vm.ram + TABLE0), *table = (uint32_t *)(vm.ram + TABLE1);

	directory[1] = TABLE1 | 3;
	table[2] = 0x55000 | 3;
	directory[3] = 0x800000 | 0x83;
	turn_paging_on(vcpu, 0x10);
	expect_at(vcpu, 0x402123, 0x55123);
	expect_nowhere(vcpu, 0x403000);
	expect_nowhere(vcpu, 0x800000);
	expect_at(vcpu, 0xc12345, 0x812345);
}

static void paging_pae(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, nothing32);
	uint64_t *pointers = scene_word(&vm, TABLE0), *directory = scene_word(&vm, TABLE1);
	uint64_t *table = scene_word(&vm, TABLE2);

	pointers[3] = TABLE1 | 1;
	directory[1] = TABLE2 | 3;
	directory[2] = 0x123400000 | 0x83;
	table[5] = 0x987654000 | 3;
	turn_paging_on(vcpu, 0x20);
	expect_at(vcpu, 0xc0205678, 0x987654678);
	expect_at(vcpu, 0xc0412345, 0x123412345);
	expect_nowhere(vcpu, 0xc0206000);
	expect_nowhere(vcpu, 0x80205000);
}

static void paging_long_mode(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, nothing64);
	uint64_t *pml4 = scene_word(&vm, VM_TABLES), *pdpt = scene_word(&vm, TABLE0);
	uint64_t *directory = scene_word(&vm, TABLE1), *table = scene_word(&vm, TABLE2);

	pml4[511] = TABLE0 | 3;
	pdpt[510] = TABLE1 | 3;
	directory[7] = TABLE2 | 3;
	table[9] = 0x987654000 | 3;
	directory[8] = 0x123400000 | 0x83;
	expect_at(vcpu, 0xffffffff80e09abc, 0x987654abc);
	expect_at(vcpu, 0xffffffff81012345, 0x123412345);
	expect_at(vcpu, 0x12345, 0x12345);
	expect_nowhere(vcpu, 0xffffffff80e0a000);
	expect_nowhere(vcpu, 0xffffffffc0000000);
	expect_nowhere(vcpu, 0xffffff0000000000);
}

static void pages_of_1_gib(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, nothing64);

	if ((vm_cpuid_leaf(&vm, 0x80000001, 0).edx & 1u << 26) == 0) {
		test_skip("the CPU has no pages of 1 GiB");
	}
	*scene_word(&vm, VM_TABLES + 0x1000 + 8 * 5) = 0x7c0000000 | 0x83;
	expect_at(vcpu, 0x15aaaaaaa, 0x7daaaaaaa);
}

/* It asks as the system does: what the guest's CPL 3, or a write, may not do is no matter. */
static void asks_as_supervisor(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, nothing64);

	*scene_pte(&vm, 0x400000) = 0x55000 | 1;
	scene_user(vcpu, 0);
	expect_at(vcpu, 0x400123, 0x55123);
}

#define SPEC "KVM API 4.15"

const struct test_case translate_cases[] = {
	{"translate/real_mode", SPEC, real_mode},
	{"translate/without_paging", SPEC, without_paging},
	{"translate/paging_32_bit", SPEC, paging_32_bit},
	{"translate/paging_pae", SPEC, paging_pae},
	{"translate/paging_long_mode", SPEC, paging_long_mode},
	{"translate/pages_of_1_gib", SPEC, pages_of_1_gib},
	{"translate/asks_as_supervisor", SPEC, asks_as_supervisor},
	TEST_END,
};
