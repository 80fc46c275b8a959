/* Memory slots: where they may be, what becomes of a guest's view when they change. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define BASE  UINT64_C(0x10000000) /* of the slots tried here: RAM of slot 0 ends far below */
#define OTHER UINT64_C(0x18000000)
#define BYTES (16 * PAGE)

static void put(uint8_t *memory, uint64_t value)
{
	memcpy(memory, &value, sizeof(value));
}

/* Slot 1 of BYTES at BASE. Return: its memory, filled with a pattern. */
static uint8_t *add_slot(struct vm *vm)
{
	uint8_t *memory = vm_memory(BYTES);

	memset(memory, 0xa1, BYTES);
	must(vm_set_slot(vm, 1, 0, BASE, BYTES, memory));
	return memory;
}

/* ---- layout ---- */

static void memory_is_shared(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	put(memory + 8, 0x1122334455667788);
	expect_eq(guest_load(vcpu, BASE + 8), 0x1122334455667788);
	guest_store(vcpu, BASE + BYTES - 8, 0x99aabbccddeeff00);
	expect_eq(access_word(memory + BYTES - 8), 0x99aabbccddeeff00);
	put(memory + BYTES - 8, 7);
	expect_eq(guest_load(vcpu, BASE + BYTES - 8), 7);
}

static void many_slots(void)
{
	enum {
		COUNT = 24
	};
	uint8_t *memory = vm_memory(COUNT * PAGE);
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	/* Neither numbers nor places in order, and holes between them. */
	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t place = (i * 7) % COUNT;

		put(memory + i * PAGE, 100 + place);
		must(vm_set_slot(&vm, 1 + (uint32_t)(i * 5) % COUNT, 0, BASE + place * 2 * PAGE,
				 PAGE, memory + i * PAGE));
	}
	for (uint64_t place = 0; place < COUNT; place++) {
		expect_eq(guest_load(vcpu, BASE + place * 2 * PAGE), 100 + place);
		expect_hole(vcpu, BASE + place * 2 * PAGE + PAGE);
	}
}

static void numbers_go_to_the_limit(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint32_t limit = (uint32_t)vm_has(&vm, KVM_CAP_NR_MEMSLOTS);
	uint8_t *memory = vm_memory(PAGE);

	expect_errno(vm_set_slot(&vm, limit, 0, BASE, PAGE, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 0xffff, 0, BASE, PAGE, memory), EINVAL);
	must(vm_set_slot(&vm, limit - 1, 0, BASE, PAGE, memory));
	put(memory, 9);
	expect_eq(guest_load(vcpu, BASE), 9);
}

/* Two slots that touch, of memory that does not: the second half lies before the first. */
static void add_adjacent(struct vm *vm, uint8_t **first, uint8_t **second)
{
	uint8_t *memory = vm_memory(3 * PAGE);

	*first = memory + 2 * PAGE;
	*second = memory;
	must(vm_set_slot(vm, 1, 0, BASE, PAGE, *first));
	must(vm_set_slot(vm, 2, 0, BASE + PAGE, PAGE, *second));
}

static void access_across_adjacent_slots(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *first, *second;

	add_adjacent(&vm, &first, &second);
	guest_store(vcpu, BASE + PAGE - 3, 0x0807060504030201);
	expect_eq(first[PAGE - 1], 3);
	expect_eq(second[0], 4);
	expect_eq(second[4], 8);
	expect_eq(second[5], 0);
	expect_eq(guest_load(vcpu, BASE + PAGE - 3), 0x0807060504030201);
	guest_access(vcpu, ACCESS_ADD, BASE + PAGE - 3, 0x0101010101010101);
	expect_eq(first[PAGE - 1], 4);
	expect_eq(second[4], 9);
}

static void code_across_adjacent_slots(void)
{
	static const uint8_t code[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xc3}; /* mov, ret */
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *first, *second;

	add_adjacent(&vm, &first, &second);
	memcpy(first + PAGE - 5, code, 5);
	memcpy(second, code + 5, sizeof(code) - 5);
	expect_eq(guest_access(vcpu, ACCESS_CALL, BASE + PAGE - 5, 0), 0x0807060504030201);
}

static void nothing_is_between_slots(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = vm_memory(3 * PAGE);

	must(vm_set_slot(&vm, 1, 0, BASE, PAGE, memory));
	must(vm_set_slot(&vm, 2, 0, BASE + 2 * PAGE, PAGE, memory + 2 * PAGE));
	guest_store(vcpu, BASE + PAGE - 8, 1);
	expect_hole(vcpu, BASE + PAGE);
	expect_hole(vcpu, BASE + 2 * PAGE - 8);
	guest_store(vcpu, BASE + 2 * PAGE, 2);
	access_begin(vcpu, ACCESS_STORE_8, BASE + PAGE, 3);
	expect_mmio_write(vcpu, BASE + PAGE, 8, 3);
	expect_eq(access_word(memory + PAGE), 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void slot_above_4_gib(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint64_t *directory = (uint64_t *)(vm.ram + VM_TABLES + 0x3000); /* for 1 GiB to 2 GiB */
	uint8_t *high = vm_memory(BYTES), *low = vm_memory(BYTES);
	const uint64_t gpa = UINT64_C(0x100000000) + BASE;

	directory[0] = gpa | 0x87;
	must(vm_set_slot(&vm, 1, 0, gpa, BYTES, high));
	must(vm_set_slot(&vm, 2, 0, BASE, BYTES, low));
	guest_store(vcpu, 0x40000000 + PAGE, 0x1234);
	expect_eq(access_word(high + PAGE), 0x1234);
	expect_eq(access_word(low + PAGE), 0);
	access_begin(vcpu, ACCESS_STORE_8, 0x40000000 + BYTES, 5);
	expect_mmio_write(vcpu, gpa + BYTES, 8, 5);
}

static void one_memory_in_two_slots(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	/* The second begins in the middle of the first's memory. */
	must(vm_set_slot(&vm, 2, 0, OTHER, BYTES / 2, memory + BYTES / 2));
	guest_store(vcpu, BASE + BYTES / 2, 0x11);
	expect_eq(guest_load(vcpu, OTHER), 0x11);
	guest_store(vcpu, OTHER, 0x22);
	expect_eq(guest_load(vcpu, BASE + BYTES / 2), 0x22);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	guest_store(vcpu, OTHER, 0x33);
	expect_eq(access_word(memory + BYTES / 2), 0x33);
	expect_hole(vcpu, BASE + BYTES / 2);
}

static void one_memory_in_two_vms(void)
{
	struct vm vm, vm2;
	struct vcpu *vcpu = access_start(&vm), *vcpu2 = access_start(&vm2);
	uint8_t *memory = add_slot(&vm);

	must(vm_set_slot(&vm2, 1, 0, OTHER, BYTES, memory));
	guest_store(vcpu, BASE, 0x44);
	expect_eq(guest_load(vcpu2, OTHER), 0x44);
	guest_store(vcpu2, OTHER, 0x55);
	expect_eq(guest_load(vcpu, BASE), 0x55);
	expect_hole(vcpu2, BASE);
}

/* ---- changes ---- */

static void moved_slot_is_elsewhere(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	guest_store(vcpu, BASE, 0x66);
	expect_hole(vcpu, OTHER);
	must(vm_set_slot(&vm, 1, 0, OTHER, BYTES, memory));
	expect_eq(guest_load(vcpu, OTHER), 0x66);
	expect_hole(vcpu, BASE);
	guest_store(vcpu, OTHER + BYTES - 8, 0x77);
	expect_eq(access_word(memory + BYTES - 8), 0x77);
}

static void slot_moves_onto_its_own_place(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	put(memory, 0x11);
	put(memory + PAGE, 0x22);
	expect_eq(guest_load(vcpu, BASE + PAGE), 0x22);
	must(vm_set_slot(&vm, 1, 0, BASE + PAGE, BYTES, memory));
	expect_eq(guest_load(vcpu, BASE + PAGE), 0x11);
	expect_eq(guest_load(vcpu, BASE + 2 * PAGE), 0x22);
	expect_hole(vcpu, BASE);
	guest_store(vcpu, BASE + BYTES, 1);
}

static void deleted_memory_is_gone(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	guest_store(vcpu, BASE, 1);
	must(vm_set_slot(&vm, 1, 0, BASE, 0, NULL));
	access_begin(vcpu, ACCESS_STORE_8, BASE, 2);
	expect_mmio_write(vcpu, BASE, 8, 2);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_hole(vcpu, BASE);
	expect_eq(access_word(memory), 1);
	guest_store(vcpu, VM_FREE, 3);
}

static void recreated_slot_has_the_new_memory(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm), *memory2 = vm_memory(BYTES);

	guest_store(vcpu, BASE, 1);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory2));
	expect_eq(guest_load(vcpu, BASE), 0);
	guest_store(vcpu, BASE, 2);
	expect_eq(access_word(memory), 1);
	expect_eq(access_word(memory2), 2);
}

static void recreated_code_is_the_new_code(void)
{
	static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}, two[] = {0xb8, 2, 0, 0, 0, 0xc3};
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm), *memory2 = vm_memory(BYTES);

	memcpy(memory, one, sizeof(one));
	memcpy(memory2, two, sizeof(two));
	expect_eq(guest_access(vcpu, ACCESS_CALL, BASE, 0), 1);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory2));
	expect_eq(guest_access(vcpu, ACCESS_CALL, BASE, 0), 2);
}

static void memory_appears_where_mmio_was(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory;

	expect_hole(vcpu, BASE);
	expect_hole(vcpu, BASE);
	memory = add_slot(&vm);
	expect_eq(guest_load(vcpu, BASE), 0xa1a1a1a1a1a1a1a1);
	guest_store(vcpu, BASE, 1);
	expect_eq(access_word(memory), 1);
}

/* CR3 to a table of one page in slot 1, whose entry 0 is the usual one or, moved, another's. */
static uint64_t *start_with_tables(struct vm *vm, struct vcpu **vcpu)
{
	struct kvm_sregs sregs;
	uint64_t *table = vm_memory(PAGE);

	*vcpu = access_start(vm);
	memcpy(table, vm->ram + VM_TABLES, PAGE);
	must(vm_set_slot(vm, 1, 0, BASE, PAGE, table));
	sregs = vcpu_sregs(*vcpu);
	sregs.cr3 = BASE;
	vcpu_set_sregs(*vcpu, &sregs);
	return table;
}

static void page_tables_move_with_their_slot(void)
{
	struct kvm_sregs sregs;
	struct vm vm;
	struct vcpu *vcpu;
	uint64_t *table = start_with_tables(&vm, &vcpu);

	guest_store(vcpu, VM_FREE, 1);
	must(vm_set_slot(&vm, 1, 0, OTHER, PAGE, table));
	sregs = vcpu_sregs(vcpu);
	sregs.cr3 = OTHER;
	vcpu_set_sregs(vcpu, &sregs);
	guest_store(vcpu, VM_FREE + 0x200000, 2);
	guest_store(vcpu, VM_FREE, 3);
	expect_eq(access_word(vm.ram + VM_FREE), 3);
	expect_eq(access_word(vm.ram + VM_FREE + 0x200000), 2);
}

PAYLOAD(64, reload_cr3, "mov %cr3, %rax; mov %rax, %cr3; mov (%rbx), %rax; hlt");

static void page_tables_in_a_replaced_slot(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	uint64_t *table = start_with_tables(&vm, &vcpu), *table2 = vm_memory(PAGE);
	uint64_t *pdpt = (uint64_t *)(vm.ram + VM_FREE), *pd = pdpt + 512;
	struct kvm_regs regs;

	/* In the new tables the second 2 MiB are the third 2 MiB. */
	memcpy(pdpt, vm.ram + VM_TABLES + 0x1000, PAGE);
	memcpy(pd, vm.ram + VM_TABLES + 0x2000, PAGE);
	pdpt[0] = (VM_FREE + PAGE) | 7;
	pd[1] = 0x400087;
	memcpy(table2, table, PAGE);
	table2[0] = VM_FREE | 7;
	put(vm.ram + 0x200000, 2);
	put(vm.ram + 0x400000, 4);
	expect_eq(guest_load(vcpu, 0x200000), 2);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 1, 0, BASE, PAGE, table2));
	memcpy(vm.ram + VM_CODE, reload_cr3, (size_t)(reload_cr3_end - reload_cr3));
	regs = vcpu_regs(vcpu);
	regs.rip = VM_CODE;
	regs.rbx = 0x200000;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 4);
}

/* ---- refusals ---- */

static void overlap_is_refused(void)
{
	static const struct {
		uint64_t gpa, bytes;
	} overlaps[] = {
		{BASE, BYTES},
		{BASE, PAGE},
		{BASE + BYTES - PAGE, PAGE},
		{BASE + PAGE, PAGE},
		{BASE - PAGE, 2 * PAGE},
		{BASE + BYTES - PAGE, 2 * PAGE},
		{BASE - PAGE, BYTES + 2 * PAGE},
	};
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm), *other = vm_memory(BYTES + 2 * PAGE);

	for (size_t i = 0; i < sizeof(overlaps) / sizeof(overlaps[0]); i++) {
		expect_errno(vm_set_slot(&vm, 2, 0, overlaps[i].gpa, overlaps[i].bytes, other),
			     EEXIST);
	}
	must(vm_set_slot(&vm, 2, 0, BASE - PAGE, PAGE, other));
	must(vm_set_slot(&vm, 3, 0, BASE + BYTES, PAGE, other));
	guest_store(vcpu, BASE + PAGE, 4);
	expect_eq(access_word(memory + PAGE), 4);
}

static void move_onto_another_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm), *other = vm_memory(BYTES);

	must(vm_set_slot(&vm, 2, 0, OTHER, BYTES, other));
	expect_errno(vm_set_slot(&vm, 2, 0, BASE + BYTES - PAGE, BYTES, other), EEXIST);
	guest_store(vcpu, BASE + BYTES - PAGE, 1);
	expect_eq(access_word(memory + BYTES - PAGE), 1);
	guest_store(vcpu, OTHER, 2);
	expect_eq(access_word(other), 2);
}

static void unaligned_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = vm_memory(BYTES);

	expect_errno(vm_set_slot(&vm, 1, 0, BASE + 0x800, PAGE, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE + 1, PAGE, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, PAGE + 0x800, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, 1, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, PAGE, memory + 0x10), EINVAL);
	expect_hole(vcpu, BASE);
}

static void wrapping_is_refused(void)
{
	struct vm vm;
	uint8_t *memory = vm_memory(BYTES);

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(vm_set_slot(&vm, 1, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, UINT64_MAX - PAGE + 1, PAGE, memory), EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, UINT64_MAX - PAGE + 1, memory), EINVAL);
}

static void kernel_memory_is_refused(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, PAGE, (void *)(uintptr_t)0xffff888000000000),
		     EINVAL);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, PAGE, (void *)(uintptr_t)-PAGE), EINVAL);
}

static void unknown_flags_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = vm_memory(PAGE);

	for (unsigned int bit = 2; bit < 32; bit++) {
		expect_errno(vm_set_slot(&vm, 1, UINT32_C(1) << bit, BASE, PAGE, memory), EINVAL);
	}
	expect_hole(vcpu, BASE);
}

static void deleting_nothing_is_refused(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, 0, NULL), EINVAL);
	add_slot(&vm);
	must(vm_set_slot(&vm, 1, 0, BASE, 0, NULL));
	expect_errno(vm_set_slot(&vm, 1, 0, BASE, 0, NULL), EINVAL);
}

/* Slot 1 stays as it is. */
static void expect_change_refused(uint32_t flags, uint64_t bytes, size_t hva_offset)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	guest_store(vcpu, BASE, 1);
	expect_errno(vm_set_slot(&vm, 1, flags, BASE, bytes, memory + hva_offset), EINVAL);
	guest_store(vcpu, BASE, 2);
	expect_eq(access_word(memory), 2);
	guest_store(vcpu, BASE + BYTES - PAGE, 3);
	expect_eq(access_word(memory + BYTES - PAGE), 3);
}

static void growing_is_refused(void)
{
	expect_change_refused(0, BYTES + PAGE, 0);
}

static void shrinking_is_refused(void)
{
	expect_change_refused(0, BYTES - PAGE, 0);
}

static void other_memory_is_refused(void)
{
	expect_change_refused(0, BYTES, PAGE);
}

static void becoming_read_only_is_refused(void)
{
	expect_change_refused(KVM_MEM_READONLY, BYTES, 0);
}

static void no_change_is_no_error(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint8_t *memory = add_slot(&vm);

	guest_store(vcpu, BASE, 1);
	must(vm_set_slot(&vm, 1, 0, BASE, BYTES, memory));
	expect_eq(guest_load(vcpu, BASE), 1);
}

/* Address space 1 is what a guest sees in SMM. */
static void other_address_space_is_apart(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint32_t spaces = (uint32_t)vm_has(&vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	uint8_t *memory = add_slot(&vm), *other = vm_memory(2 * BYTES);

	expect_errno(vm_set_slot(&vm, (spaces == 0 ? 1 : spaces) << 16, 0, OTHER, BYTES, other),
		     EINVAL);
	if (spaces < 2) {
		test_skip("the provider has one address space only");
	}
	must(vm_set_slot(&vm, 1 << 16 | 1, 0, BASE, 2 * BYTES, other));
	guest_store(vcpu, BASE, 1);
	expect_eq(access_word(memory), 1);
	expect_eq(access_word(other), 0);
	expect_hole(vcpu, BASE + BYTES);
	must(vm_set_slot(&vm, 1, 0, 0, 0, NULL));
	expect_hole(vcpu, BASE);
}

const struct test_case slots_cases[] = {
	{"slots/memory_is_shared", "KVM API 4.35", memory_is_shared},
	{"slots/many_slots", "KVM API 4.35", many_slots},
	{"slots/numbers_go_to_the_limit", "KVM API 4.35", numbers_go_to_the_limit},
	{"slots/access_across_adjacent_slots", "KVM API 4.35", access_across_adjacent_slots},
	{"slots/code_across_adjacent_slots", "KVM API 4.35", code_across_adjacent_slots},
	{"slots/nothing_is_between_slots", "KVM API 4.35, 5", nothing_is_between_slots},
	{"slots/slot_above_4_gib", "KVM API 4.35", slot_above_4_gib},
	{"slots/one_memory_in_two_slots", "KVM API 4.35", one_memory_in_two_slots},
	{"slots/one_memory_in_two_vms", "KVM API 4.35", one_memory_in_two_vms},
	{"slots/moved_slot_is_elsewhere", "KVM API 4.35", moved_slot_is_elsewhere},
	{"slots/slot_moves_onto_its_own_place", "KVM API 4.35", slot_moves_onto_its_own_place},
	{"slots/deleted_memory_is_gone", "KVM API 4.35", deleted_memory_is_gone},
	{"slots/recreated_slot_has_the_new_memory", "KVM API 4.35",
	 recreated_slot_has_the_new_memory},
	{"slots/recreated_code_is_the_new_code", "KVM API 4.35", recreated_code_is_the_new_code},
	{"slots/memory_appears_where_mmio_was", "KVM API 4.35", memory_appears_where_mmio_was},
	{"slots/page_tables_move_with_their_slot", "KVM API 4.35",
	 page_tables_move_with_their_slot},
	{"slots/page_tables_in_a_replaced_slot", "KVM API 4.35; AMD APM vol. 2, 5.5.2",
	 page_tables_in_a_replaced_slot},
	{"slots/overlap_is_refused", "KVM API 4.35", overlap_is_refused},
	{"slots/move_onto_another_is_refused", "KVM API 4.35", move_onto_another_is_refused},
	{"slots/unaligned_is_refused", "KVM API 4.35", unaligned_is_refused},
	{"slots/wrapping_is_refused", "KVM API 4.35", wrapping_is_refused},
	{"slots/kernel_memory_is_refused", "KVM API 4.35", kernel_memory_is_refused},
	{"slots/unknown_flags_are_refused", "KVM API 4.35", unknown_flags_are_refused},
	{"slots/deleting_nothing_is_refused", "KVM API 4.35", deleting_nothing_is_refused},
	{"slots/growing_is_refused", "KVM API 4.35", growing_is_refused},
	{"slots/shrinking_is_refused", "KVM API 4.35", shrinking_is_refused},
	{"slots/other_memory_is_refused", "KVM API 4.35", other_memory_is_refused},
	{"slots/becoming_read_only_is_refused", "KVM API 4.35", becoming_read_only_is_refused},
	{"slots/no_change_is_no_error", "KVM API 4.35", no_change_is_no_error},
	{"slots/other_address_space_is_apart", "KVM API 4.35", other_address_space_is_apart},
	TEST_END,
};
