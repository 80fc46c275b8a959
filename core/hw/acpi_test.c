#include "core/hw/acpi.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/unit.h"

#define BASE 0x7fe0000

static uint8_t ram[16384];
static uint8_t rsdp[36];

static const void *map(void *ctx, uint64_t pa, uint64_t len)
{
	(void)ctx;
	return range_inside(pa, len, BASE, sizeof(ram)) ? ram + (pa - BASE) : NULL;
}

static void sum(uint8_t *p, size_t len, size_t at)
{
	uint8_t s = 0;

	p[at] = 0;
	for (size_t i = 0; i < len; i++) {
		s = (uint8_t)(s + p[i]);
	}
	p[at] = (uint8_t)-s;
}

static uint8_t *table(size_t at, const char *signature, size_t len)
{
	memcpy(ram + at, signature, 4);
	store_le32(ram + at + 4, (uint32_t)len);
	return ram + at;
}

static void seal(size_t at)
{
	sum(ram + at, load_le32(ram + at + 4), 9);
}

static const size_t tables[] = {0x200, 0x400, 0x600, 0x800}; /* MADT, FADT, HPET, MCFG */

static void make_madt(uint8_t *p)
{
	static const uint8_t entries[] = {
		0, 8,  0, 0, 1, 0, 0,	 0,				 /* CPU 0 */
		0, 8,  1, 1, 1, 0, 0,	 0,				 /* CPU 1 */
		0, 8,  2, 2, 0, 0, 0,	 0,				 /* disabled */
		9, 16, 0, 0, 1, 0, 0,	 0,    1,   0, 0, 0, 1, 0, 0, 0, /* CPU 1 once more */
		9, 16, 0, 0, 0, 1, 0,	 0,    1,   0, 0, 0, 7, 0, 0, 0, /* APIC ID 256 */
		1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0,   0, 0, 0,		 /* IOAPIC */
		2, 10, 0, 0, 2, 0, 0,	 0,    0,   0,			 /* IRQ 0 is wire 2 */
		2, 10, 0, 9, 9, 0, 0,	 0,    0xf, 0,			 /* IRQ 9: low, level */
		2, 10, 1, 5, 7, 0, 0,	 0,    0,   0,			 /* not of ISA */
	};

	store_le32(p + 36, 0xfee00000);
	store_le32(p + 40, 1);
	memcpy(p + 44, entries, sizeof(entries));
	store_le32(p + 4, 44 + sizeof(entries));
}

static void make_fadt(uint8_t *p)
{
	store_le32(p + 40, BASE + 0xa00); /* DSDT */
	store_le32(p + 48, 0xb2);
	p[52] = 0xf1;
	store_le32(p + 64, 0x604);
	store_le32(p + 76, 0x608);
	p[91] = 4;
	store_le32(p + 112, BIT(8) | BIT(10));
	p[116] = 1; /* reset register: a port */
	store_le64(p + 120, 0xcf9);
	p[128] = 0xf;
}

static void make_all(void)
{
	static const uint8_t s5[] = {0x08, '\\', '_',  'S',  '5',  '_',	 0x12,
				     0x08, 0x04, 0x0a, 0x05, 0x01, 0x00, 0x00};

	memset(ram, 0, sizeof(ram));
	table(0, "XSDT", 36 + sizeof(tables) / sizeof(tables[0]) * 8);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		store_le64(ram + 36 + 8 * i, BASE + tables[i]);
	}
	make_madt(table(tables[0], "APIC", 44));
	make_fadt(table(tables[1], "FACP", 244));
	store_le64(table(tables[2], "HPET", 56) + 44, 0xfed00000);
	uint8_t *mcfg = table(tables[3], "MCFG", 60);
	store_le64(mcfg + 44, 0xb0000000);
	mcfg[55] = 0xff;
	memcpy(table(0xa00, "DSDT", 100) + 50, s5, sizeof(s5));
	seal(0);
	seal(0xa00);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		seal(tables[i]);
	}
	memcpy(rsdp, "RSD PTR ", 8);
	rsdp[15] = 2;
	store_le32(rsdp + 16, 0);
	store_le32(rsdp + 20, 36);
	store_le64(rsdp + 24, BASE);
	sum(rsdp, 20, 8);
	sum(rsdp, 36, 32);
}

static void tables_are_understood(void **state)
{
	struct acpi_info a;

	(void)state;
	make_all();
	assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), 0);
	assert_int_equal(a.n_cpus, 3);
	assert_int_equal(a.cpus[1].apic_id, 1);
	assert_int_equal(a.cpus[2].apic_id, 256);
	assert_int_equal(a.cpus[2].acpi_id, 7);
	assert_int_equal(a.n_ioapics, 1);
	assert_int_equal(a.ioapics[0].base, 0xfec00000);
	assert_int_equal(a.lapic_base, 0xfee00000);
	assert_true(a.has_pics);
	assert_int_equal(a.isa[0].gsi, 2);
	assert_true(a.isa[9].is_low && a.isa[9].is_level);
	assert_int_equal(a.isa[5].gsi, 5);
	assert_true(a.has_fadt);
	assert_int_equal(a.pm1a_control, 0x604);
	assert_int_equal(a.pm1b_control, 0);
	assert_int_equal(a.pm_timer, 0x608);
	assert_int_equal(a.smi_command, 0xb2);
	assert_int_equal(a.acpi_enable, 0xf1);
	assert_int_equal(a.reset.kind, ACPI_REGISTER_PORT);
	assert_int_equal(a.reset.address, 0xcf9);
	assert_int_equal(a.reset_value, 0xf);
	assert_true(a.has_s5);
	assert_int_equal(a.s5_a, 5);
	assert_int_equal(a.s5_b, 1);
	assert_int_equal(a.hpet, 0xfed00000);
	assert_int_equal(a.n_ecams, 1);
	assert_int_equal(a.ecams[0].base, 0xb0000000);
	assert_int_equal(a.ecams[0].bus_last, 0xff);
}

static void the_old_root_table_does(void **state)
{
	struct acpi_info a;

	(void)state;
	make_all();
	table(0, "RSDT", 40);
	store_le32(ram + 36, BASE + (uint32_t)tables[0]);
	seal(0);
	store_le32(rsdp + 16, BASE);
	rsdp[15] = 0;
	sum(rsdp, 20, 8);
	assert_int_equal(acpi_parse(&a, rsdp, 20, map, NULL), 0);
	assert_int_equal(a.n_cpus, 3);
	assert_false(a.has_fadt);
}

static void a_broken_table_is_as_none(void **state)
{
	struct acpi_info a;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		make_all();
		ram[tables[i] + 20] ^= 1; /* the sum is wrong */
		assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), 0);
		assert_int_equal(a.n_cpus == 0, i == 0);
		assert_int_equal(a.has_fadt, i != 1);
		assert_int_equal(a.has_s5, i != 1);
		assert_int_equal(a.hpet == 0, i == 2);
		assert_int_equal(a.n_ecams == 0, i == 3);
	}
	make_all();
	ram[0xa00 + 20] ^= 1;
	assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), 0);
	assert_true(a.has_fadt && !a.has_s5);
	make_all();
	ram[20] ^= 1;
	assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), -ENOENT);
	make_all();
	rsdp[0] = 'X';
	assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), -ENOENT);
	assert_int_equal(acpi_parse(&a, rsdp, 10, map, NULL), -ENOENT);
}

/* Entries of any length end the list at worst. */
static void odd_entries_end_the_list(void **state)
{
	struct acpi_info a;

	(void)state;
	for (unsigned len = 0; len < 256; len++) {
		make_all();
		ram[tables[0] + 44 + 8 + 1] = (uint8_t)len; /* the second entry */
		seal(tables[0]);
		assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), 0);
		assert_true(a.n_cpus >= 1);
	}
}

static void cut_s5_is_none(void **state)
{
	struct acpi_info a;

	(void)state;
	for (uint32_t len = 36; len < 61; len++) {
		make_all();
		store_le32(ram + 0xa00 + 4, len);
		seal(0xa00);
		assert_int_equal(acpi_parse(&a, rsdp, sizeof(rsdp), map, NULL), 0);
		assert_false(a.has_s5);
	}
}

static void the_rsdp_is_found(void **state)
{
	static uint8_t area[4096 + 20];

	(void)state;
	make_all();
	assert_int_equal(acpi_find_rsdp(area, sizeof(area)), -ENOENT);
	memcpy(area + 8, rsdp, 36); /* not on a multiple of 16 */
	assert_int_equal(acpi_find_rsdp(area, sizeof(area)), -ENOENT);
	memcpy(area + 4096, rsdp, 20);
	assert_int_equal(acpi_find_rsdp(area, sizeof(area)), 4096);
	assert_int_equal(acpi_find_rsdp(area, sizeof(area) - 1), -ENOENT);
	assert_int_equal(acpi_find_rsdp(area, 5), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_understood),
		cmocka_unit_test(the_old_root_table_does),
		cmocka_unit_test(a_broken_table_is_as_none),
		cmocka_unit_test(odd_entries_end_the_list),
		cmocka_unit_test(cut_s5_is_none),
		cmocka_unit_test(the_rsdp_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
