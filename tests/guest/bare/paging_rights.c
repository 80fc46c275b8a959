/* Paging: page sizes, and who may do what: P, W, U, NX, CR0.WP, SMEP, SMAP, protection keys. */
#include "tests/guest/bare/snippet.h"

#define VA (UINT64_C(1) << 40)

#define ALL (PTE_P | PTE_W | PTE_U)
#define RET 0xc3

#define LEAF7_SMEP  (1u << 7)
#define LEAF7_SMAP  (1u << 20)
#define LEAF7_PKU   (1u << 3)
#define LEAF7_OSPKE (1u << 4)
#define PTE_PKEY(k) ((uint64_t)(k) << 59)

/* One 4 KiB page of RAM at VA, by tables of its own, that begins with a RET. */
static uint64_t map_one(uint64_t flags)
{
	uint64_t page = bare_page();

	*(volatile uint8_t *)page = RET;
	bare_map(VA, page, 1, flags);
	invlpg(VA);
	return page;
}

/* Takes bits from the entry of one level, or gives them. */
static void change(unsigned int level, uint64_t clear, uint64_t set)
{
	uint64_t *entry = bare_pte(VA, level);

	*entry = (*entry & ~clear) | set;
	invlpg(VA);
}

static void check_offsets(unsigned int level)
{
	uint64_t size = UINT64_C(1) << (12 + 9 * (level - 1));
	uint64_t ram = level == 1 ? bare_page() : level == 2 ? UINT64_C(0x1000000) : 0;
	/* Only what is RAM, and nobody's: the rest of 1 GiB is not there. */
	uint64_t at = level == 3 ? 0x1234560 : 0x18;
	uint64_t last = level == 3 ? BARE_RAM - 0x100000 : size - 8;

	bare_map(VA, ram, level, PTE_P | PTE_W);
	*(volatile uint64_t *)(VA + at) = UINT64_C(0x1122334455667788);
	*(volatile uint64_t *)(VA + last) = UINT64_C(0x99aabbccddeeff00);
	check_eq(*(volatile uint64_t *)(ram + at), UINT64_C(0x1122334455667788));
	check_eq(*(volatile uint64_t *)(ram + last), UINT64_C(0x99aabbccddeeff00));
	*(volatile uint8_t *)(ram + at + 1) = 1;
	check_eq(*(volatile uint64_t *)(VA + at), UINT64_C(0x1122334455660188));
}

BARE_CASE(page_4k, "paging/page_4k", "AMD APM vol. 2, 5.3.3")
{
	check_offsets(1);
}

BARE_CASE(page_2m, "paging/page_2m", "AMD APM vol. 2, 5.3.4")
{
	check_offsets(2);
}

BARE_CASE(page_1g, "paging/page_1g", "AMD APM vol. 2, 5.3.5")
{
	if ((cpuid(0x80000001, 0).edx & 1u << 26) == 0) {
		bare_skip("the CPU has no 1 GiB pages");
	}
	check_offsets(3);
}

BARE_CASE(present_each_level, "paging/present_each_level", "AMD APM vol. 2, 5.6.1, 8.2.15")
{
	map_one(ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		change(level, PTE_P, 0);
		check_eq(access_try(ACCESS_READ, false, VA + 5), 0);
		check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_W);
		check_eq(access_try(ACCESS_READ, true, VA + 5), PF_U);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), PF_U | PF_W);
		check_eq(access_try(ACCESS_FETCH, false, VA), PF_I);
		check_eq(access_try(ACCESS_FETCH, true, VA), PF_U | PF_I);
		change(level, 0, PTE_P);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
	}
}

BARE_CASE(write_each_level, "paging/write_each_level", "AMD APM vol. 2, 5.6.2")
{
	map_one(ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		change(level, PTE_W, 0);
		check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_P | PF_W);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), PF_P | PF_W | PF_U);
		check_eq(access_try(ACCESS_READ, true, VA + 5), NO_FAULT);
		check_eq(access_try(ACCESS_FETCH, true, VA), NO_FAULT);
		change(level, 0, PTE_W);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
	}
}

BARE_CASE(user_each_level, "paging/user_each_level", "AMD APM vol. 2, 5.6.3")
{
	map_one(ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		change(level, PTE_U, 0);
		check_eq(access_try(ACCESS_READ, true, VA + 5), PF_P | PF_U);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), PF_P | PF_W | PF_U);
		check_eq(access_try(ACCESS_FETCH, true, VA), PF_P | PF_U | PF_I);
		check_eq(access_try(ACCESS_WRITE, false, VA + 5), NO_FAULT);
		check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
		change(level, 0, PTE_U);
		check_eq(access_try(ACCESS_READ, true, VA + 5), NO_FAULT);
	}
}

BARE_CASE(large_page_rights, "paging/large_page_rights", "AMD APM vol. 2, 5.6")
{
	uint64_t ram = 0x1000000;

	*(volatile uint8_t *)ram = RET;
	bare_map(VA, ram, 2, PTE_P | PTE_U | PTE_NX);
	check_eq(access_try(ACCESS_READ, true, VA + 0x1fffff), NO_FAULT);
	check_eq(access_try(ACCESS_WRITE, true, VA + 0x1fffff), PF_P | PF_W | PF_U);
	check_eq(access_try(ACCESS_FETCH, true, VA), PF_P | PF_U | PF_I);
	bare_map(VA, ram, 2, PTE_P | PTE_W);
	invlpg(VA);
	check_eq(access_try(ACCESS_WRITE, true, VA + 0x1fffff), PF_P | PF_W | PF_U);
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
}

BARE_CASE(write_protect_off, "paging/write_protect_off", "AMD APM vol. 2, 5.6.2, CR0.WP")
{
	map_one(PTE_P | PTE_U);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_P | PF_W);
	write_cr0(read_cr0() & ~CR0_WP);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), NO_FAULT);
	check_eq(*(volatile uint8_t *)(VA + 5), 0x5a);
	/* Of CPL 3 it takes no notice. */
	check_eq(access_try(ACCESS_WRITE, true, VA + 5), PF_P | PF_W | PF_U);
	write_cr0(read_cr0() | CR0_WP);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_P | PF_W);
}

BARE_CASE(no_execute_each_level, "paging/no_execute_each_level", "AMD APM vol. 2, 5.6.4")
{
	map_one(ALL);
	for (unsigned int level = 1; level <= 4; level++) {
		change(level, 0, PTE_NX);
		check_eq(access_try(ACCESS_FETCH, false, VA), PF_P | PF_I);
		check_eq(access_try(ACCESS_FETCH, true, VA), PF_P | PF_U | PF_I);
		check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
		change(level, PTE_NX, 0);
		check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
	}
}

BARE_CASE(no_execute_off, "paging/no_execute_off", "AMD APM vol. 2, 3.1.7, EFER.NXE")
{
	map_one(ALL);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~UINT64_C(0x800));
	change(1, PTE_P, 0);
	/* Then the error code does not tell fetches either. */
	check_eq(access_try(ACCESS_FETCH, false, VA), 0);
	change(1, 0, PTE_P);
	check_eq(access_try(ACCESS_READ, false, VA), NO_FAULT);
	change(1, 0, PTE_NX);
	check_eq(access_try(ACCESS_READ, false, VA) & ~(uint64_t)PF_P, PF_RSVD);
}

BARE_CASE(smep, "paging/smep", "AMD APM vol. 2, 5.6.5")
{
	if ((cpuid(7, 0).ebx & LEAF7_SMEP) == 0) {
		bare_skip("the CPU has no SMEP");
	}
	map_one(ALL);
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
	write_cr4(read_cr4() | CR4_SMEP);
	check_eq(access_try(ACCESS_FETCH, false, VA), PF_P | PF_I);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), NO_FAULT);
	check_eq(access_try(ACCESS_FETCH, true, VA), NO_FAULT);
	/* One supervisor level on the way, and it is a supervisor's page. */
	change(3, PTE_U, 0);
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
	change(3, 0, PTE_U);
	write_cr4(read_cr4() & ~CR4_SMEP);
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
}

SNIPPET(read_with_ac, "stac; mov (%rdi), %al; movb $1, (%rdi); clac");
SNIPPET(read_after_clac, "stac; .globl bare_fault_clac; bare_fault_clac: clac; mov (%rdi), %al");
SNIPPET(read_with_popped_ac, "pushfq; orl $0x40000, (%rsp); popfq; mov (%rdi), %al; clac");

static void need_smap(void)
{
	if ((cpuid(7, 0).ebx & LEAF7_SMAP) == 0) {
		bare_skip("the CPU has no SMAP");
	}
}

BARE_CASE(smap, "paging/smap", "AMD APM vol. 2, 5.6.6")
{
	struct bare_trap trap;

	need_smap();
	map_one(ALL);
	write_cr4(read_cr4() | CR4_SMAP);
	check_eq(access_try(ACCESS_READ, false, VA + 5), PF_P);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_P | PF_W);
	check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
	change(4, PTE_U, 0);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), NO_FAULT);
	change(4, 0, PTE_U);
	bare_try(&trap, read_with_ac, (void *)(VA + 5));
	check(!trap.happened);
	bare_try(&trap, read_with_popped_ac, (void *)(VA + 5));
	check(!trap.happened);
	bare_try(&trap, read_after_clac, (void *)(VA + 5));
	check(trap.happened);
	check_eq(trap.error, PF_P);
	write_cr4(read_cr4() & ~CR4_SMAP);
	check_eq(access_try(ACCESS_READ, false, VA + 5), NO_FAULT);
}

BARE_CASE(smap_fetch, "paging/smap_fetch", "AMD APM vol. 2, 5.6.6")
{
	need_smap();
	map_one(ALL);
	write_cr4(read_cr4() | CR4_SMAP);
	/* It is about data. */
	check_eq(access_try(ACCESS_FETCH, false, VA), NO_FAULT);
}

/* An LDT on a page for CPL 3 with one descriptor, a data segment for CPL 3; its selector is 7. */
static void make_user_ldt(void)
{
	uint64_t page = map_one(ALL);

	*(volatile uint64_t *)page = bare_gdt[SEL_USER_DATA / 8];
	bare_gdt[SEL_SPARE / 8] =
		0xf | (VA & 0xffffff) << 16 | UINT64_C(0x82) << 40 | (VA >> 24 & 0xff) << 56;
	bare_gdt[SEL_SPARE / 8 + 1] = VA >> 32;
	__asm__ volatile("lldt %w0" : : "r"(SEL_SPARE));
}

USER_SNIPPET(user_load_fs, "mov %edi, %fs; mov %fs, %eax");
SNIPPET(load_fs_with_ac, "stac; mov %edi, %fs; clac");

BARE_CASE(smap_implicit, "paging/smap_implicit", "AMD APM vol. 2, 5.6.6; Intel SDM vol. 3A, 4.6.1")
{
	struct bare_trap trap;

	need_smap();
	make_user_ldt();
	check_eq(snippet_in_user(&trap, user_load_fs, 7), 7);
	check(!trap.happened);
	write_cr4(read_cr4() | CR4_SMAP);
	/* The load of a descriptor is a supervisor's access, whatever the CPL ... */
	snippet_in_user(&trap, user_load_fs, 7);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.cr2, VA);
	check_eq(trap.error, PF_P);
	/* ... and an implicit one, which AC does not excuse. */
	bare_try(&trap, load_fs_with_ac, (void *)7);
	if (!trap.happened) {
		bare_excuse("QEMU's TCG takes loads of descriptors for explicit accesses");
	}
	check(trap.happened);
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.error, PF_P);
}

BARE_CASE(implicit_is_supervisor, "paging/implicit_is_supervisor", "AMD APM vol. 2, 5.6.3")
{
	struct bare_trap trap;

	make_user_ldt();
	change(1, PTE_U, 0);
	/* CPL 3 may use the descriptor on a page that it may not read. */
	check_eq(snippet_in_user(&trap, user_load_fs, 7), 7);
	check(!trap.happened);
	change(1, PTE_P, 0);
	snippet_in_user(&trap, user_load_fs, 7);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.cr2, VA);
	check_eq(trap.error, 0);
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

BARE_CASE(protection_keys, "paging/protection_keys", "AMD APM vol. 2, 5.6.7")
{
	if ((cpuid(7, 0).ecx & LEAF7_PKU) == 0) {
		bare_skip("the CPU has no protection keys");
	}
	write_cr4(read_cr4() | CR4_PKE);
	check((cpuid(7, 0).ecx & LEAF7_OSPKE) != 0);
	map_one(ALL | PTE_PKEY(5));
	write_pkru(0);
	check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
	write_pkru(1u << 10); /* AD of key 5 */
	check_eq(access_try(ACCESS_READ, true, VA + 5), PF_P | PF_U | PF_PK);
	check_eq(access_try(ACCESS_READ, false, VA + 5), PF_P | PF_PK);
	check_eq(access_try(ACCESS_FETCH, true, VA), NO_FAULT);
	write_pkru(1u << 11); /* WD of key 5 */
	check_eq(access_try(ACCESS_READ, true, VA + 5), NO_FAULT);
	check_eq(access_try(ACCESS_WRITE, true, VA + 5), PF_P | PF_W | PF_U | PF_PK);
	check_eq(access_try(ACCESS_WRITE, false, VA + 5), PF_P | PF_W | PF_PK);
	write_pkru(~(3u << 10 | 3u)); /* of all others but 0, the stack's */
	check_eq(access_try(ACCESS_WRITE, true, VA + 5), NO_FAULT);
}
