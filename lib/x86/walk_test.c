#include "lib/x86/walk.h"

#include <errno.h>
#include <string.h>

#include "lib/x86/regs.h"
#include "tests/unit.h"

#define PAGES 16
#define P_ALL (PTE_P | PTE_RW | PTE_US)

/* Physical memory of a few pages; tables at 0x1000 and up. */
static uint64_t memory[PAGES * 512];
static unsigned races; /* how many exchanges are lost */

static int read_entry(void *ctx, uint64_t gpa, void *entry, unsigned bytes)
{
	(void)ctx;
	if (gpa + bytes > sizeof(memory)) {
		return -ENOENT;
	}
	memcpy(entry, (char *)memory + gpa, bytes);
	return 0;
}

static int exchange(void *ctx, uint64_t gpa, const void *old, const void *new, unsigned bytes)
{
	(void)ctx;
	if (gpa + bytes > sizeof(memory)) {
		return -ENOENT;
	}
	if (races != 0) {
		races--;
		return -EAGAIN;
	}
	assert_memory_equal((char *)memory + gpa, old, bytes);
	memcpy((char *)memory + gpa, new, bytes);
	return 0;
}

static const struct walk_ops ops = {read_entry, exchange};

static struct walk_mode mode;
static struct walk_result result;

static uint64_t *entry8(uint64_t table, unsigned index)
{
	return &memory[table / 8 + index];
}

static uint32_t *entry4(uint64_t table, unsigned index)
{
	return (uint32_t *)memory + table / 4 + index;
}

/* 4 levels; linear 0x8000401000 is page 0x5000 by a 4 KiB page; others by large ones. */
static int set_up(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	races = 0;
	mode = (struct walk_mode){
		.cr0 = CR0_PE | CR0_PG | CR0_WP,
		.cr3 = 0x1000,
		.cr4 = CR4_PAE | CR4_PGE,
		.efer = EFER_LME | EFER_LMA | EFER_NXE,
		.phys_bits = 40,
		.pages_1g = true,
	};
	*entry8(0x1000, 1) = 0x2000 | P_ALL;
	*entry8(0x2000, 0) = 0x3000 | P_ALL;
	*entry8(0x3000, 2) = 0x4000 | P_ALL;
	*entry8(0x4000, 1) = 0x5000 | P_ALL;
	*entry8(0x2000, 1) = 0x40000000 | P_ALL | PTE_PS;
	*entry8(0x3000, 3) = 0x00600000 | P_ALL | PTE_PS | PTE_G;
	return 0;
}

#define SMALL UINT64_C(0x8000401000)
#define LARGE UINT64_C(0x8000600000)
#define HUGE  UINT64_C(0x8040000000)

static enum walk_outcome go(uint64_t linear, unsigned access)
{
	return walk(&mode, &ops, NULL, linear, access, &result);
}

static void expect_fault(uint64_t linear, unsigned access, uint32_t error)
{
	assert_int_equal(go(linear, access), WALK_FAULT);
	assert_int_equal(result.error, error);
}

static void pages_of_all_sizes(void **state)
{
	(void)state;
	assert_int_equal(go(SMALL + 0x123, 0), WALK_OK);
	assert_true(result.gpa == 0x5123);
	assert_int_equal(result.page_shift, 12);
	assert_int_equal(go(LARGE + 0x12345, 0), WALK_OK);
	assert_true(result.gpa == 0x612345);
	assert_int_equal(result.page_shift, 21);
	assert_true(result.global);
	assert_int_equal(go(HUGE + 0x1234567, 0), WALK_OK);
	assert_true(result.gpa == 0x41234567);
	assert_int_equal(result.page_shift, 30);
	assert_false(result.global);
}

static void nothing_is_written_unasked(void **state)
{
	(void)state;
	assert_int_equal(go(SMALL, WALK_WRITE), WALK_OK);
	assert_true(*entry8(0x4000, 1) == (0x5000 | P_ALL));
	assert_int_equal(go(SMALL, WALK_SET_AD), WALK_OK);
	assert_true(*entry8(0x1000, 1) == (0x2000 | P_ALL | PTE_A));
	assert_true(*entry8(0x4000, 1) == (0x5000 | P_ALL | PTE_A));
	assert_false(result.dirty);
	assert_int_equal(go(SMALL, WALK_SET_AD | WALK_WRITE), WALK_OK);
	assert_true(*entry8(0x4000, 1) == (0x5000 | P_ALL | PTE_A | PTE_D));
	assert_true(*entry8(0x3000, 2) == (0x4000 | P_ALL | PTE_A));
	assert_true(result.dirty);
}

static void lost_races_begin_anew(void **state)
{
	(void)state;
	races = 3;
	assert_int_equal(go(SMALL, WALK_SET_AD | WALK_WRITE), WALK_OK);
	assert_int_equal(races, 0);
	races = 100000;
	*entry8(0x4000, 1) &= ~PTE_A;
	assert_int_equal(go(SMALL, WALK_SET_AD), WALK_FAULT);
	assert_true(races > 90000); /* it came to an end */
}

static void rights(void **state)
{
	(void)state;
	expect_fault(SMALL + 0x1000, 0, 0);
	expect_fault(SMALL + 0x1000, WALK_WRITE | WALK_USER, PFERR_W | PFERR_U);
	expect_fault(SMALL + 0x1000, WALK_FETCH, PFERR_I);
	*entry8(0x3000, 2) &= ~PTE_RW;
	expect_fault(SMALL, WALK_WRITE, PFERR_P | PFERR_W);
	assert_int_equal(go(SMALL, 0), WALK_OK);
	assert_false(result.writable);
	mode.cr0 &= ~CR0_WP;
	assert_int_equal(go(SMALL, WALK_WRITE), WALK_OK);
	assert_true(result.writable);
	expect_fault(SMALL, WALK_WRITE | WALK_USER, PFERR_P | PFERR_W | PFERR_U);
	*entry8(0x1000, 1) |= PTE_NX;
	expect_fault(SMALL, WALK_FETCH, PFERR_P | PFERR_I);
	*entry8(0x1000, 1) &= ~(PTE_NX | PTE_US);
	expect_fault(SMALL, WALK_USER, PFERR_P | PFERR_U);
	assert_int_equal(go(SMALL, 0), WALK_OK);
	assert_false(result.user);
}

static void smep_smap_and_keys(void **state)
{
	(void)state;
	mode.cr4 |= CR4_SMEP;
	expect_fault(SMALL, WALK_FETCH, PFERR_P | PFERR_I);
	assert_int_equal(go(SMALL, WALK_FETCH | WALK_USER), WALK_OK);
	mode.cr4 |= CR4_SMAP;
	expect_fault(SMALL, 0, PFERR_P);
	expect_fault(SMALL, WALK_WRITE, PFERR_P | PFERR_W);
	mode.ac = true;
	assert_int_equal(go(SMALL, 0), WALK_OK);
	expect_fault(SMALL, WALK_IMPLICIT, PFERR_P);
	assert_int_equal(go(SMALL, WALK_USER), WALK_OK);
	mode.cr4 |= CR4_PKE;
	*entry8(0x4000, 1) |= UINT64_C(3) << 59;
	mode.pkru = 2u << 6; /* key 3: no writes */
	assert_int_equal(go(SMALL, WALK_USER), WALK_OK);
	assert_int_equal(result.key, 3);
	expect_fault(SMALL, WALK_USER | WALK_WRITE, PFERR_P | PFERR_PK | PFERR_U | PFERR_W);
	mode.pkru = 1u << 6;
	expect_fault(SMALL, WALK_USER, PFERR_P | PFERR_PK | PFERR_U);
	assert_int_equal(go(SMALL, WALK_USER | WALK_FETCH), WALK_OK);
	mode.cr4 &= ~CR4_PKE;
	assert_int_equal(go(SMALL, WALK_USER), WALK_OK);
	assert_int_equal(result.key, 0);
}

static void reserved_bits(void **state)
{
	(void)state;
	*entry8(0x4000, 1) |= BIT(41);
	expect_fault(SMALL, WALK_USER, PFERR_P | PFERR_RSVD | PFERR_U);
	*entry8(0x2000, 1) |= BIT(13);
	expect_fault(HUGE, 0, PFERR_P | PFERR_RSVD);
	*entry8(0x2000, 1) = 0x40000000 | P_ALL | PTE_PS;
	mode.pages_1g = false;
	expect_fault(HUGE, 0, PFERR_P | PFERR_RSVD);
	*entry8(0x1000, 1) |= PTE_PS;
	expect_fault(SMALL, 0, PFERR_P | PFERR_RSVD);
	(void)set_up(state);
	mode.efer &= ~EFER_NXE;
	*entry8(0x4000, 1) |= PTE_NX;
	expect_fault(SMALL, 0, PFERR_P | PFERR_RSVD);
	/* Without NX fetches are not told apart. */
	*entry8(0x4000, 1) = 0;
	expect_fault(SMALL, WALK_FETCH, 0);
}

static void five_levels(void **state)
{
	(void)state;
	mode.cr4 |= CR4_LA57;
	mode.cr3 = 0x6000;
	*entry8(0x6000, 3) = 0x1000 | P_ALL;
	assert_int_equal(go((UINT64_C(3) << 48) + SMALL, 0), WALK_OK);
	assert_true(result.gpa == 0x5000);
	expect_fault(SMALL, 0, 0);
}

static void pae(void **state)
{
	const uint64_t pdptr[4] = {0, 0x3000 | PTE_P, 0, 0};

	(void)state;
	mode.efer = EFER_NXE;
	mode.pdptr = pdptr;
	/* Directory entry 2, table entry 1; 2 MiB pages at entry 3. */
	assert_int_equal(go(0x40401000, WALK_USER | WALK_WRITE), WALK_OK);
	assert_true(result.gpa == 0x5000);
	assert_int_equal(go(0x40600000, 0), WALK_OK);
	assert_true(result.gpa == 0x600000);
	expect_fault(0x00401000, 0, 0);
	*entry8(0x4000, 1) |= BIT(55);
	expect_fault(0x40401000, 0, PFERR_P | PFERR_RSVD);
	assert_int_equal(go(UINT64_C(0x140600000), 0), WALK_OK); /* 32 bits of it count */
}

static void two_levels(void **state)
{
	(void)state;
	mode.efer = 0;
	mode.cr4 = 0;
	*entry4(0x1000, 5) = 0x6000 | (uint32_t)P_ALL;
	*entry4(0x6000, 7) = 0xa000 | (uint32_t)(PTE_P | PTE_US);
	assert_int_equal(go(5 << 22 | 7 << 12 | 0x45, WALK_SET_AD), WALK_OK);
	assert_true(result.gpa == 0xa045);
	assert_int_equal(*entry4(0x6000, 7), 0xa000 | PTE_P | PTE_US | PTE_A);
	expect_fault(5 << 22 | 7 << 12, WALK_WRITE, PFERR_P | PFERR_W);
	*entry4(0x1000, 6) = 0x00802000 | (uint32_t)(P_ALL | PTE_PS);
	/* Without PSE the bit means nothing, and this is a table. */
	assert_int_equal(go(6 << 22, 0), WALK_NOWHERE);
	mode.cr4 = CR4_PSE;
	assert_int_equal(go(6 << 22 | 0x12345, 0), WALK_OK);
	assert_true(result.gpa == UINT64_C(0x100812345)); /* PSE-36 */
	assert_int_equal(result.page_shift, 22);
	*entry4(0x1000, 6) |= (uint32_t)BIT(21);
	expect_fault(6 << 22, 0, PFERR_P | PFERR_RSVD);
}

static void without_paging(void **state)
{
	(void)state;
	mode.cr0 = CR0_PE;
	assert_int_equal(go(UINT64_C(0x1ffff1234), WALK_WRITE | WALK_USER), WALK_OK);
	assert_true(result.gpa == 0xffff1234);
}

static void tables_where_no_memory_is(void **state)
{
	(void)state;
	*entry8(0x3000, 2) = UINT64_C(0x1000000) | P_ALL;
	assert_int_equal(go(SMALL, 0), WALK_NOWHERE);
	assert_true(result.gpa == 0x1000008);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pages_of_all_sizes, set_up),
		cmocka_unit_test_setup(nothing_is_written_unasked, set_up),
		cmocka_unit_test_setup(lost_races_begin_anew, set_up),
		cmocka_unit_test_setup(rights, set_up),
		cmocka_unit_test_setup(smep_smap_and_keys, set_up),
		cmocka_unit_test_setup(reserved_bits, set_up),
		cmocka_unit_test_setup(five_levels, set_up),
		cmocka_unit_test_setup(pae, set_up),
		cmocka_unit_test_setup(two_levels, set_up),
		cmocka_unit_test_setup(without_paging, set_up),
		cmocka_unit_test_setup(tables_where_no_memory_is, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
