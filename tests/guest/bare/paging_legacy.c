/* Paging outside of long mode: two levels of 32-bit entries, and PAE's three. */
#include "tests/guest/bare/flat.h"

#define VA    0x40000000u
#define ALL   7u
#define BIG   0x80u
#define DIRTY 0x60u

/* edi: CR3. Then a read, a write and another read at VA. */
FLAT_CODE(paged, "	mov %edi, %cr3\n"
		 "	mov %cr0, %eax\n"
		 "	or $0x80010000, %eax\n"
		 "	mov %eax, %cr0\n"
		 "	jmp 1f\n"
		 "1:	mov $0x40000000, %esi\n"
		 "paged_read: mov (%esi), %eax\n"
		 "paged_write: movl $0x5a5a, 4(%esi)\n"
		 "	mov 4(%esi), %ecx");
LABEL(paged_read);
LABEL(paged_write);

/* The same at CPL 3, entered when paging is on: by IRET. */
FLAT_CODE(paged_user, "	mov %edi, %cr3\n"
		      "	mov %cr0, %eax\n"
		      "	or $0x80010000, %eax\n"
		      "	mov %eax, %cr0\n"
		      "	push $0x2b\n"
		      "	push $0\n"
		      "	push $2\n"
		      "	push $0x23\n"
		      "	push $0x40000000\n"
		      "	iret");

/* Two levels: the first 4 MiB to themselves, for all. */
static uint32_t *make_two_levels(uint32_t flags)
{
	uint32_t *directory = (uint32_t *)bare_page(), *table = (uint32_t *)bare_page();

	for (uint32_t i = 0; i < 1024; i++) {
		table[i] = i << 12 | flags;
	}
	directory[0] = (uint32_t)(uintptr_t)table | ALL;
	return directory;
}

static uint32_t *map_two_levels(uint32_t *directory, uint64_t page, uint32_t flags)
{
	uint32_t *table = (uint32_t *)bare_page();

	directory[VA >> 22] = (uint32_t)(uintptr_t)table | ALL;
	table[0] = (uint32_t)page | flags;
	return table;
}

static uint64_t marked_page(void)
{
	uint64_t page = bare_page();

	*(volatile uint32_t *)page = 0x12345678;
	return page;
}

static void run_paged(const void *root)
{
	flat_kernel(paged, (uint32_t)(uintptr_t)root);
}

static void check_worked(uint64_t page)
{
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eax, 0x12345678);
	check_eq(flat_frame.ecx, 0x5a5a);
	check_eq(*(volatile uint32_t *)(page + 4), 0x5a5a);
}

BARE_CASE(two_levels, "paging/two_levels", "AMD APM vol. 2, 5.2.1")
{
	uint32_t *directory = make_two_levels(3);
	uint64_t page = marked_page();
	uint32_t *table = map_two_levels(directory, page, 3);

	run_paged(directory);
	check_worked(page);
	check_eq(table[0] & DIRTY, DIRTY);
	check_eq(directory[VA >> 22] & DIRTY, 0x20);
}

BARE_CASE(two_levels_faults, "paging/two_levels_faults", "AMD APM vol. 2, 5.2.1; 8.2.15")
{
	uint32_t *directory = make_two_levels(3);
	uint32_t *table = map_two_levels(directory, marked_page(), 1);

	run_paged(directory);
	check_flat(VECTOR_PF, PF_P | PF_W, paged_write);
	check_eq(flat_frame.cr2, VA + 4);
	check_eq(table[0] & 0x40, 0);
	table[0] = 0;
	run_paged(directory);
	check_flat(VECTOR_PF, 0, paged_read);
	check_eq(flat_frame.cr2, VA);
	directory[VA >> 22] = 0;
	run_paged(directory);
	check_flat(VECTOR_PF, 0, paged_read);
	/* Of CPL 3, which may do nothing here; without PAE there is no I/D bit. */
	map_two_levels(directory, marked_page(), 3);
	flat_kernel(paged_user, (uint32_t)(uintptr_t)directory);
	check_flat(VECTOR_PF, PF_P | PF_U, NULL);
	check_eq(flat_frame.eip, VA);
	check_eq(flat_frame.cr2, VA);
}

BARE_CASE(page_4m, "paging/page_4m", "AMD APM vol. 2, 5.2.2, CR4.PSE")
{
	uint32_t *directory = (uint32_t *)bare_page();
	uint64_t at = 0x1000000;

	directory[0] = BIG | 3;
	directory[VA >> 22] = (uint32_t)at | BIG | 3;
	*(volatile uint32_t *)at = 0x12345678;
	flat_cr4 = CR4_PSE;
	run_paged(directory);
	check_worked(at);
	check_eq(directory[VA >> 22] & DIRTY, DIRTY);
	/* Its upper half, too: bit 21 is of the offset. */
	directory[VA >> 22] = (uint32_t)at | BIG | 1;
	run_paged(directory);
	check_flat(VECTOR_PF, PF_P | PF_W, paged_write);
}

BARE_CASE(page_4m_off, "paging/page_4m_off", "AMD APM vol. 2, 5.2.1, CR4.PSE")
{
	uint32_t *directory = make_two_levels(3);
	uint64_t page = marked_page();

	/* Without CR4.PSE the bit does not matter. */
	map_two_levels(directory, page, 3);
	directory[VA >> 22] |= BIG;
	run_paged(directory);
	check_worked(page);
}

static uint64_t *make_pae(void)
{
	uint64_t *pointers = (uint64_t *)bare_page();
	uint64_t *low = (uint64_t *)bare_page(), *high = (uint64_t *)bare_page();

	pointers[0] = (uint64_t)low | 1;
	pointers[1] = (uint64_t)high | 1;
	low[0] = BIG | 3;
	low[1] = 0x200000 | BIG | 3;
	return pointers;
}

static uint64_t *pae_entry(const uint64_t *pointers)
{
	return (uint64_t *)(pointers[1] & PTE_ADDRESS);
}

BARE_CASE(pae_4k, "paging/pae_4k", "AMD APM vol. 2, 5.2.3")
{
	uint64_t *pointers = make_pae(), *table = (uint64_t *)bare_page();
	uint64_t page = marked_page();

	*pae_entry(pointers) = (uint64_t)table | ALL;
	table[0] = page | 3;
	flat_cr4 = CR4_PAE;
	run_paged(pointers);
	check_worked(page);
	check_eq(table[0] & DIRTY, DIRTY);
	check_eq(*pae_entry(pointers) & DIRTY, 0x20);
}

BARE_CASE(pae_2m, "paging/pae_2m", "AMD APM vol. 2, 5.2.4")
{
	uint64_t *pointers = make_pae(), at = 0x1200000;

	*(volatile uint32_t *)at = 0x12345678;
	*pae_entry(pointers) = at | BIG | 3;
	flat_cr4 = CR4_PAE;
	run_paged(pointers);
	check_worked(at);
	check_eq(*pae_entry(pointers) & DIRTY, DIRTY);
}

BARE_CASE(pae_faults, "paging/pae_faults", "AMD APM vol. 2, 5.2.3; 8.2.15")
{
	uint64_t at = 0x1200000, *pointers = make_pae();

	flat_cr4 = CR4_PAE;
	run_paged(pointers);
	check_flat(VECTOR_PF, 0, paged_read);
	/* New tables each time: QEMU sets A in the four pointers, where it is reserved. */
	pointers = make_pae();
	*pae_entry(pointers) = at | BIG | 1;
	run_paged(pointers);
	check_flat(VECTOR_PF, PF_P | PF_W, paged_write);
	check_eq(flat_frame.cr2, VA + 4);
	pointers = make_pae();
	*pae_entry(pointers) = at | BIG | ALL | PTE_NX; /* EFER.NXE is on here, too */
	flat_kernel(paged_user, (uint32_t)(uintptr_t)pointers);
	check_flat(VECTOR_PF, PF_P | PF_U | PF_I, NULL);
	check_eq(flat_frame.cr2, VA);
	pointers = make_pae();
	pointers[1] = 0;
	run_paged(pointers);
	check_flat(VECTOR_PF, 0, paged_read);
}

FLAT_CODE(pae_reload, "	mov %edi, %cr3\n"
		      "	mov %cr0, %eax\n"
		      "	or $0x80010000, %eax\n"
		      "	mov %eax, %cr0\n"
		      "	mov 0x40000000, %ecx\n"
		      "	mov 16(%edi), %eax\n"
		      "	mov %eax, 8(%edi)\n"
		      "	mov %edi, %cr3\n"
		      "	mov 0x40000000, %edx");

BARE_CASE(pae_pointers_by_cr3, "paging/pae_pointers_by_cr3",
	  "AMD APM vol. 2, 5.2.3; Intel SDM vol. 3A, 4.4.1")
{
	/* The code moves the third pointer to the second's place: the table has to lie in what is
	 * mapped, below 4 MiB. */
	uint64_t *pointers = make_pae(), *other = (uint64_t *)bare_page();
	uint64_t *low = (uint64_t *)(uintptr_t)LOW_DATA - 64;

	*(volatile uint32_t *)(uintptr_t)0x1200000 = 1;
	*(volatile uint32_t *)(uintptr_t)0x1400000 = 2;
	*pae_entry(pointers) = 0x1200000 | BIG | 3;
	*other = 0x1400000 | BIG | 3;
	for (unsigned int i = 0; i < 4; i++) {
		low[i] = pointers[i];
	}
	low[2] = (uint64_t)other | 1;
	flat_cr4 = CR4_PAE;
	flat_kernel(pae_reload, (uint32_t)(uintptr_t)low);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.ecx, 1);
	check_eq(flat_frame.edx, 2);
}

static void set_la57(void *argument)
{
	(void)argument;
	write_cr4(read_cr4() ^ CR4_LA57);
}

BARE_CASE(levels_fixed_in_long_mode, "paging/levels_fixed_in_long_mode",
	  "AMD APM vol. 2, 5.3.6; Intel SDM vol. 3A, 2.5, CR4.LA57")
{
	struct bare_trap trap;

	bare_try(&trap, set_la57, NULL);
	if (!trap.happened) {
		bare_excuse("QEMU's TCG lets CR4.LA57 change in long mode");
	}
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	check_eq(trap.error, 0);
}
