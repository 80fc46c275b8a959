/* Paging: the A and D bits. */
#include "tests/guest/bare/snippet.h"

#define VA  (UINT64_C(1) << 40)
#define ALL (PTE_P | PTE_W | PTE_U)
#define AD  (PTE_A | PTE_D)

static void map_clean(unsigned int level, uint64_t flags)
{
	bare_map(VA, level == 1 ? bare_page() : level == 2 ? 0x1000000 : 0, level, flags);
	for (unsigned int at = level; at <= 4; at++) {
		*bare_pte(VA, at) &= ~AD;
	}
	write_cr3(read_cr3());
}

static uint64_t bits(unsigned int level)
{
	return *(volatile uint64_t *)bare_pte(VA, level) & AD;
}

static void check_all(unsigned int leaf, uint64_t leaf_bits)
{
	check_eq(bits(leaf), leaf_bits);
	for (unsigned int level = leaf + 1; level <= 4; level++) {
		check_eq(bits(level) & PTE_A, PTE_A);
	}
}

BARE_CASE(accessed_by_read, "paging/accessed_by_read", "AMD APM vol. 2, 5.4.1, A")
{
	map_clean(1, ALL);
	check_eq(bits(1) | bits(2) | bits(3) | bits(4), 0);
	check_eq(access_try(ACCESS_READ, false, VA + 4), NO_FAULT);
	check_all(1, PTE_A);
}

BARE_CASE(dirty_by_write, "paging/dirty_by_write", "AMD APM vol. 2, 5.4.1, D")
{
	map_clean(1, ALL);
	check_eq(access_try(ACCESS_WRITE, true, VA + 4), NO_FAULT);
	check_all(1, AD);
}

BARE_CASE(dirty_after_read, "paging/dirty_after_read", "AMD APM vol. 2, 5.4.1, D")
{
	map_clean(1, ALL);
	check_eq(access_try(ACCESS_READ, false, VA + 4), NO_FAULT);
	check_eq(bits(1), PTE_A);
	/* Now the TLB has it, clean; the write has to walk again. */
	check_eq(access_try(ACCESS_WRITE, false, VA + 4), NO_FAULT);
	check_eq(bits(1), AD);
}

BARE_CASE(dirty_of_large_pages, "paging/dirty_of_large_pages", "AMD APM vol. 2, 5.4.1")
{
	map_clean(2, ALL);
	check_eq(access_try(ACCESS_READ, false, VA + 0x1234), NO_FAULT);
	check_all(2, PTE_A);
	check_eq(access_try(ACCESS_WRITE, false, VA + 0x1ff234), NO_FAULT);
	check_all(2, AD);
}

BARE_CASE(dirty_of_1g, "paging/dirty_of_1g", "AMD APM vol. 2, 5.4.1")
{
	if ((cpuid(0x80000001, 0).edx & 1u << 26) == 0) {
		bare_skip("the CPU has no 1 GiB pages");
	}
	map_clean(3, ALL);
	check_eq(access_try(ACCESS_READ, false, VA + 0x1234), NO_FAULT);
	check_all(3, PTE_A);
	check_eq(access_try(ACCESS_WRITE, false, VA + 0x1801234), NO_FAULT);
	check_all(3, AD);
}

BARE_CASE(fetch_is_accessed, "paging/fetch_is_accessed", "AMD APM vol. 2, 5.4.1, A")
{
	map_clean(1, ALL);
	*(volatile uint8_t *)(*bare_pte(VA, 1) & PTE_ADDRESS) = 0xc3;
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
	check_all(1, PTE_A);
}

BARE_CASE(not_dirty_by_fault, "paging/not_dirty_by_fault",
	  "AMD APM vol. 2, 5.4.1; Intel SDM vol. 3A, 4.8")
{
	map_clean(1, PTE_P);
	check_eq(access_try(ACCESS_WRITE, false, VA + 4), PF_P | PF_W);
	check_eq(bits(1) & PTE_D, 0);
	check_eq(access_try(ACCESS_WRITE, true, VA + 4), PF_P | PF_W | PF_U);
	check_eq(bits(1) & PTE_D, 0);
	map_clean(1, 0);
	check_eq(access_try(ACCESS_WRITE, false, VA + 4), PF_W);
	check_eq(bits(1), 0);
}

BARE_CASE(bits_come_again, "paging/bits_come_again", "AMD APM vol. 2, 5.4.1; 5.5.2")
{
	map_clean(1, ALL);
	for (unsigned int i = 0; i < 3; i++) {
		check_eq(access_try(ACCESS_WRITE, false, VA + 4), NO_FAULT);
		check_eq(bits(1), AD);
		*bare_pte(VA, 1) &= ~AD;
		invlpg(VA);
		check_eq(access_try(ACCESS_READ, false, VA + 4), NO_FAULT);
		check_eq(bits(1), PTE_A);
		*bare_pte(VA, 1) &= ~AD;
		write_cr3(read_cr3());
	}
}

BARE_CASE(other_bits_kept, "paging/other_bits_kept", "AMD APM vol. 2, 5.4.1")
{
	uint64_t extra = UINT64_C(0x5) << 9 | UINT64_C(0x2a) << 52 | PTE_NX | PTE_PWT, before;

	map_clean(1, ALL | extra);
	before = *bare_pte(VA, 1);
	check_eq(access_try(ACCESS_WRITE, false, VA + 4), NO_FAULT);
	check_eq(*bare_pte(VA, 1), before | AD);
}

BARE_CASE(crossing_marks_both, "paging/crossing_marks_both", "AMD APM vol. 2, 5.4.1")
{
	map_clean(1, ALL);
	bare_map(VA + 4096, bare_page(), 1, ALL);
	write_cr3(read_cr3());
	*(volatile uint64_t *)(VA + 4092) = 1;
	check_eq(bits(1), AD);
	check_eq(*bare_pte(VA + 4096, 1) & AD, AD);
}

SNIPPET(load_es, "mov %edi, %es; mov $0x18, %eax; mov %eax, %es");

BARE_CASE(implicit_marks, "paging/implicit_marks", "AMD APM vol. 2, 5.4.1; 4.7.1")
{
	volatile uint64_t *ldt;

	map_clean(1, PTE_P | PTE_W);
	ldt = (volatile uint64_t *)(*bare_pte(VA, 1) & PTE_ADDRESS);
	ldt[0] = 0x00cf92000000ffff; /* a data segment that nobody has loaded */
	bare_gdt[SEL_SPARE / 8] = 0xf | (VA & 0xffffff) << 16 | UINT64_C(0x82) << 40;
	bare_gdt[SEL_SPARE / 8 + 1] = VA >> 32;
	__asm__ volatile("lldt %w0" : : "r"(SEL_SPARE));
	*bare_pte(VA, 1) &= ~AD;
	write_cr3(read_cr3());
	load_es((void *)4);
	/* The descriptor's own accessed bit has been set, which was a write. */
	check_eq(ldt[0], 0x00cf93000000ffff);
	check_all(1, AD);
	*bare_pte(VA, 1) &= ~AD;
	write_cr3(read_cr3());
	load_es((void *)4);
	check_all(1, PTE_A);
}

BARE_CASE(walk_by_exception, "paging/walk_by_exception", "AMD APM vol. 2, 5.4.1; 8.9.3")
{
	map_clean(1, PTE_P | PTE_W);
	bare_cpu()->tss.ist[1] = VA + 4096;
	bare_idt[VECTOR_BP].ist = 2;
	/* The handler finds its CPU by the stack: do with the saved RIP alone. */
	__asm__ volatile("mov %%rsp, %%rbx\n"
			 "lea 1f(%%rip), %%rax\n"
			 "mov %%ax, %0\n"
			 "shr $16, %%rax\n"
			 "mov %%ax, %1\n"
			 "int3\n"
			 "1: mov %%rbx, %%rsp"
			 : "=m"(bare_idt[VECTOR_BP].offset0), "=m"(bare_idt[VECTOR_BP].offset16)
			 :
			 : "rax", "rbx", "memory");
	check_all(1, AD);
	check_eq(*(volatile uint64_t *)(VA + 4096 - 8), SEL_DATA);
}
