/* Paging: when a change of the tables takes effect. */
#include "tests/guest/bare/snippet.h"

#define VA  (UINT64_C(1) << 40)
#define ALL (PTE_P | PTE_W | PTE_U)

#define CR3_NO_FLUSH  (UINT64_C(1) << 63)
#define LEAF1_PCID    (1u << 17)
#define LEAF7_INVPCID (1u << 10)

static uint64_t new_page(uint64_t word)
{
	uint64_t page = bare_page();

	*(volatile uint64_t *)page = word;
	return page;
}

static uint64_t word(void)
{
	return *(volatile uint64_t *)VA;
}

/* Maps VA to a page that holds the number. */
static void map_word(uint64_t value, uint64_t flags)
{
	bare_map(VA, new_page(value), 1, flags);
}

BARE_CASE(cr3_write_flushes, "paging/cr3_write_flushes", "AMD APM vol. 2, 5.5.2")
{
	for (uint64_t i = 1; i <= 8; i++) {
		map_word(i, ALL);
		write_cr3(read_cr3());
		check_eq(word(), i);
	}
}

BARE_CASE(invlpg_flushes_global, "paging/invlpg_flushes_global", "AMD APM vol. 2, 5.5.1")
{
	write_cr4(read_cr4() | CR4_PGE);
	for (uint64_t i = 1; i <= 8; i++) {
		map_word(i, ALL | PTE_G);
		invlpg(VA + 0x123);
		check_eq(word(), i);
	}
}

BARE_CASE(pge_toggle_flushes, "paging/pge_toggle_flushes", "AMD APM vol. 2, 5.5.2")
{
	write_cr4(read_cr4() | CR4_PGE);
	map_word(1, ALL | PTE_G);
	invlpg(VA);
	for (uint64_t i = 1; i <= 8; i++) {
		check_eq(word(), i);
		map_word(i + 1, ALL | PTE_G);
		write_cr4(read_cr4() & ~CR4_PGE);
		write_cr4(read_cr4() | CR4_PGE);
	}
	check_eq(word(), 9);
}

BARE_CASE(write_protect_toggles, "paging/write_protect_toggles", "AMD APM vol. 2, 5.5.2")
{
	map_word(1, PTE_P);
	for (unsigned int i = 0; i < 4; i++) {
		check_eq(access_try(ACCESS_WRITE, false, VA), PF_P | PF_W);
		write_cr0(read_cr0() & ~CR0_WP);
		check_eq(access_try(ACCESS_WRITE, false, VA), NO_FAULT);
		write_cr0(read_cr0() | CR0_WP);
	}
}

BARE_CASE(invlpg_whole_large_page, "paging/invlpg_whole_large_page", "AMD APM vol. 2, 5.5.1")
{
	uint64_t first = 0x1000000, second = 0x1200000;

	*(volatile uint64_t *)first = 1;
	*(volatile uint64_t *)(first + 0x1ff000) = 2;
	*(volatile uint64_t *)second = 3;
	*(volatile uint64_t *)(second + 0x1ff000) = 4;
	bare_map(VA, first, 2, ALL);
	check_eq(word(), 1);
	check_eq(*(volatile uint64_t *)(VA + 0x1ff000), 2);
	bare_map(VA, second, 2, ALL);
	__asm__ volatile(".globl bare_fault_invlpg_large\nbare_fault_invlpg_large: invlpg (%0)"
			 :
			 : "a"(VA + 0x100800)
			 : "memory");
	check_eq(word(), 3);
	check_eq(*(volatile uint64_t *)(VA + 0x1ff000), 4);
}

BARE_CASE(large_page_split, "paging/large_page_split", "AMD APM vol. 2, 5.5.1")
{
	uint64_t first = 0x1000000;

	*(volatile uint64_t *)first = 1;
	*(volatile uint64_t *)(first + 0x1000) = 2;
	bare_map(VA, first, 2, ALL);
	check_eq(word(), 1);
	check_eq(*(volatile uint64_t *)(VA + 0x1000), 2);
	map_word(3, ALL);
	invlpg(VA);
	check_eq(word(), 3);
	check_eq(*(volatile uint64_t *)(VA + 0x1000), 2);
	/* And back. */
	bare_map(VA, first, 2, ALL);
	invlpg(VA);
	check_eq(word(), 1);
}

BARE_CASE(upper_level_change, "paging/upper_level_change", "Intel SDM vol. 3A, 4.10.4.1")
{
	uint64_t other;

	for (unsigned int level = 2; level <= 4; level++) {
		uint64_t table = bare_page(), *entry;

		map_word(1, ALL);
		invlpg(VA);
		check_eq(word(), 1);
		entry = bare_pte(VA, level);
		other = *entry;
		/* A copy of the table below, but for VA. */
		for (unsigned int i = 0; i < 512; i++) {
			((uint64_t *)table)[i] = ((uint64_t *)(other & PTE_ADDRESS))[i];
		}
		*entry = table | ALL;
		map_word(level * 10, ALL);
		invlpg(VA);
		check_eq(word(), level * 10);
		*entry = other;
		write_cr3(read_cr3());
	}
}

BARE_CASE(present_without_flush, "paging/present_without_flush",
	  "Intel SDM vol. 3A, 4.10.2.3; AMD APM vol. 2, 5.5.2")
{
	bare_map(VA, 0, 1, 0);
	for (uint64_t i = 1; i <= 8; i++) {
		check_eq(access_try(ACCESS_READ, false, VA), 0);
		map_word(i, ALL);
		/* What is not present is not in the TLB. */
		check_eq(word(), i);
		bare_map(VA, 0, 1, 0);
		invlpg(VA);
	}
}

static uint32_t retries;

static void retry(struct bare_frame *frame)
{
	(void)frame;
	check(++retries < 2);
}

BARE_CASE(more_rights_without_flush, "paging/more_rights_without_flush",
	  "Intel SDM vol. 3A, 4.10.4.3")
{
	map_word(1, PTE_P);
	check_eq(word(), 1);
	*bare_pte(VA, 1) |= PTE_W;
	bare_on(VECTOR_PF, retry);
	/* It may fault once; that drops what the TLB had. */
	*(volatile uint64_t *)VA = 2;
	check_eq(word(), 2);
}

BARE_CASE(table_seen_by_itself, "paging/table_seen_by_itself", "AMD APM vol. 2, 5.3.3")
{
	volatile uint64_t *entry;

	/* The page table that maps VA, mapped at VA + 4096 by itself. */
	map_word(1, ALL);
	bare_map(VA + 4096, *bare_pte(VA, 2) & PTE_ADDRESS, 1, ALL);
	entry = (volatile uint64_t *)(VA + 4096);
	check_eq(entry[0] & PTE_ADDRESS, *bare_pte(VA, 1) & PTE_ADDRESS);
	for (uint64_t i = 2; i < 10; i++) {
		check_eq(word(), i - 1);
		entry[0] = new_page(i) | ALL;
		invlpg(VA);
	}
	check_eq(word(), 9);
}

BARE_CASE(many_address_spaces, "paging/many_address_spaces", "AMD APM vol. 2, 5.5.2")
{
	uint64_t start = read_cr3(), roots[20];

	for (unsigned int i = 0; i < 20; i++) {
		roots[i] = bare_page();
		((uint64_t *)roots[i])[0] = ((uint64_t *)start)[0];
		((uint64_t *)roots[i])[1] = ((uint64_t *)start)[1];
		write_cr3(roots[i]);
		map_word(1000 + i, ALL);
	}
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 20; i++) {
			write_cr3(roots[i]);
			check_eq(read_cr3(), roots[i]);
			check_eq(word(), 1000 + i);
		}
	}
	write_cr3(start);
	check_eq(access_try(ACCESS_READ, false, VA), 0);
}

/* ---- process-context identifiers ---- */

static uint64_t second_root(uint64_t value)
{
	uint64_t start = read_cr3() & PTE_ADDRESS, root = bare_page();

	((uint64_t *)root)[0] = ((uint64_t *)start)[0];
	((uint64_t *)root)[1] = ((uint64_t *)start)[1];
	write_cr3(root);
	map_word(value, ALL);
	write_cr3(start);
	return root;
}

static void need_pcid(void)
{
	if ((cpuid(1, 0).ecx & LEAF1_PCID) == 0) {
		bare_skip("the CPU has no PCID");
	}
}

BARE_CASE(pcid_keeps_apart, "paging/pcid_keeps_apart", "Intel SDM vol. 3A, 4.10.1")
{
	uint64_t a, b;

	need_pcid();
	a = second_root(1);
	b = second_root(2);
	write_cr4(read_cr4() | CR4_PCIDE);
	for (unsigned int i = 0; i < 8; i++) {
		write_cr3(a | 1 | (i > 0 ? CR3_NO_FLUSH : 0));
		check_eq(read_cr3(), a | 1);
		check_eq(word(), 1);
		write_cr3(b | 0xfff | (i > 0 ? CR3_NO_FLUSH : 0));
		check_eq(read_cr3(), b | 0xfff);
		check_eq(word(), 2);
	}
}

BARE_CASE(pcid_flush, "paging/pcid_flush", "Intel SDM vol. 3A, 4.10.4.1")
{
	uint64_t start = read_cr3(), a;

	need_pcid();
	a = second_root(1);
	write_cr4(read_cr4() | CR4_PCIDE);
	for (uint64_t i = 2; i < 8; i++) {
		write_cr3(a | 1);
		check_eq(word(), i - 1);
		write_cr3(start | 2);
		write_cr3(a | 3);
		map_word(i, ALL);
		write_cr3(a | 1); /* without bit 63: PCID 1 is flushed */
		check_eq(word(), i);
	}
}

static void invpcid(uint64_t type, uint64_t pcid, uint64_t va)
{
	uint64_t descriptor[2] = {pcid, va};

	__asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

static void invpcid_bad_type(void *argument)
{
	invpcid((uint64_t)argument, 0, 0);
}

static void invpcid_bad_pcid(void *argument)
{
	invpcid(1, (uint64_t)argument, 0);
}

BARE_CASE(invpcid_types, "paging/invpcid_types", "Intel SDM vol. 2A, INVPCID")
{
	struct bare_trap trap;

	if ((cpuid(7, 0).ebx & LEAF7_INVPCID) == 0) {
		bare_skip("the CPU has no INVPCID");
	}
	for (uint64_t type = 0; type < 4; type++) {
		map_word(1, type == 2 ? ALL | PTE_G : ALL);
		invlpg(VA);
		check_eq(word(), 1);
		map_word(2 + type, ALL);
		invpcid(type, 0, VA);
		check_eq(word(), 2 + type);
	}
	bare_try(&trap, invpcid_bad_type, (void *)4);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	bare_try(&trap, invpcid_bad_pcid, (void *)0x1000);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
}

/* ---- other CPUs ---- */

#define SHOOT_VECTOR 0x60

static volatile uint32_t turn, shot;

static void on_shootdown(struct bare_frame *frame)
{
	(void)frame;
	invlpg(VA);
	shot++;
	apic_eoi();
}

static void reader(void *seen)
{
	volatile uint64_t *values = seen;

	apic_enable();
	cpu_sti();
	for (uint32_t i = 0; i < 16; i++) {
		bare_wait(&turn, 2 * i + 1);
		values[i] = word();
		__atomic_store_n(&turn, 2 * i + 2, __ATOMIC_RELEASE);
	}
	for (;;) {
		cpu_pause(); /* the last one is still to come */
	}
}

BARE_CASE_ON(shootdown, "paging/shootdown", "Intel SDM vol. 3A, 4.10.5", 2, 0)
{
	uint64_t seen[16] = {0};

	apic_enable();
	bare_on(SHOOT_VECTOR, on_shootdown);
	map_word(1, ALL);
	bare_start_cpu(1, reader, seen);
	for (uint32_t i = 0; i < 16; i++) {
		__atomic_store_n(&turn, 2 * i + 1, __ATOMIC_RELEASE);
		bare_wait(&turn, 2 * i + 2);
		check_eq(seen[i], i + 1);
		map_word(i + 2, ALL);
		apic_send(1, 0x4000 | SHOOT_VECTOR);
		bare_wait(&shot, i + 1);
	}
}

static void faulting_reader(void *result)
{
	while (*(volatile uint64_t *)VA != 0x600d) {
		cpu_pause();
	}
	__atomic_store_n((uint32_t *)result, 1, __ATOMIC_RELEASE);
}

static volatile uint32_t faulted;

static void wait_for_page(struct bare_frame *frame)
{
	(void)frame;
	__atomic_store_n(&faulted, 1, __ATOMIC_RELEASE);
	cpu_pause();
}

BARE_CASE_ON(present_by_other_cpu, "paging/present_by_other_cpu", "Intel SDM vol. 3A, 4.10.2.3", 2,
	     0)
{
	volatile uint32_t done = 0;

	apic_enable();
	bare_on(VECTOR_PF, wait_for_page);
	bare_map(VA, 0, 1, 0);
	bare_start_cpu(1, faulting_reader, (void *)(uintptr_t)&done);
	bare_wait(&faulted, 1);
	bare_map(VA, new_page(0x600d), 1, ALL);
	/* No flush there: it faults until it finds the page. */
	bare_wait(&done, 1);
}
