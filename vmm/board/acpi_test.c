#include "vmm/board/acpi.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"

static struct guest_memory mem;

static int set_up(void **unused)
{
	(void)unused;
	return guest_memory_init(&mem, 2 * MIB);
}

static int tear_down(void **unused)
{
	(void)unused;
	guest_memory_fini(&mem);
	return 0;
}

/* The bytes at a guest-physical address, which must lie where the memory map reserves them. */
static const uint8_t *at(uint64_t addr, uint64_t len)
{
	assert_true(range_inside(addr, len, LAYOUT_ACPI, LAYOUT_ACPI_SIZE));
	return guest_ptr(&mem, gpa(addr), len);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	for (size_t i = 0; i < len; i++) {
		s = (uint8_t)(s + p[i]);
	}
	return s;
}

/* A table with the right signature, length and checksum. */
static const uint8_t *table_at(uint64_t addr, const char *signature, uint32_t *len)
{
	const uint8_t *p = at(addr, 36);

	assert_memory_equal(p, signature, 4);
	*len = load_le32(p + 4);
	assert_true(*len >= 36);
	p = at(addr, *len);
	assert_int_equal(sum(p, *len), 0);
	return p;
}

/* Finds a table as an operating system does. */
static const uint8_t *find(gpa_t rsdp, const char *signature, uint32_t *len)
{
	const uint8_t *root = at(rsdp.v, 36);
	uint32_t size;

	assert_memory_equal(root, "RSD PTR ", 8);
	assert_int_equal(sum(root, 20), 0);
	assert_int_equal(sum(root, 36), 0);
	assert_int_equal(root[15], 2);
	assert_int_equal(load_le32(root + 20), 36);
	assert_int_equal(rsdp.v % 16, 0);

	const uint8_t *xsdt = table_at(load_le64(root + 24), "XSDT", &size);
	for (uint32_t i = 36; i < size; i += 8) {
		uint64_t addr = load_le64(xsdt + i);

		if (memcmp(at(addr, 4), signature, 4) == 0) {
			return table_at(addr, signature, len);
		}
	}
	fail_msg("no table %s", signature);
	return NULL;
}

static void check_gas(const uint8_t *p, uint16_t address, uint8_t bits)
{
	assert_int_equal(p[0], 1);
	assert_int_equal(p[1], bits);
	assert_int_equal(load_le64(p + 4), address);
}

/* Offsets by ACPI 6.4, table 5.9. */
static void fadt(void **unused)
{
	uint32_t len, size;
	const uint8_t *t = find(acpi_build(&mem, 1), "FACP", &len);

	(void)unused;
	assert_int_equal(len, 276);
	assert_int_equal(t[8], 6);
	table_at(load_le32(t + 40), "DSDT", &size);
	assert_int_equal(load_le64(t + 140), load_le32(t + 40));
	const uint8_t *facs = at(load_le32(t + 36), 64);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(load_le32(facs + 4), 64);
	assert_int_equal(load_le32(t + 36) % 64, 0);
	assert_int_equal(load_le16(t + 46), 9);
	assert_int_equal(load_le32(t + 48), 0);
	assert_int_equal(load_le32(t + 56), 0x600);
	assert_int_equal(load_le32(t + 64), 0x604);
	assert_int_equal(load_le32(t + 76), 0x608);
	assert_int_equal(load_le32(t + 80), 0x620);
	assert_int_equal(t[88], 4);
	assert_int_equal(t[89], 2);
	assert_int_equal(t[91], 4);
	assert_int_equal(t[92], 16);
	assert_int_equal(t[108], 0x32);
	assert_int_equal(load_le16(t + 109), 7);
	/* A reset register; a fixed power button; none for sleep; not hardware-reduced. */
	assert_int_equal(load_le32(t + 112), 0x465);
	check_gas(t + 116, 0xcf9, 8);
	assert_int_equal(t[128], 0xf);
	check_gas(t + 148, 0x600, 32);
	check_gas(t + 172, 0x604, 16);
	check_gas(t + 208, 0x608, 32);
	check_gas(t + 220, 0x620, 128);
}

/* How many MADT entries of @type there are; the last one is in @last. All lengths must add up. */
static unsigned count(const uint8_t *t, uint32_t len, uint8_t type, const uint8_t **last)
{
	unsigned n = 0;
	uint32_t i = 44;

	while (i < len) {
		assert_true(t[i + 1] >= 6 && t[i + 1] <= len - i);
		if (t[i] == type) {
			n++;
			*last = t + i;
		}
		i += t[i + 1];
	}
	assert_int_equal(i, len);
	return n;
}

static void madt(void **unused)
{
	uint32_t len;
	const uint8_t *e = NULL;
	const uint8_t *t = find(acpi_build(&mem, 4), "APIC", &len);

	(void)unused;
	assert_int_equal(load_le32(t + 36), 0xfee00000);
	assert_int_equal(load_le32(t + 40), 1);
	assert_int_equal(count(t, len, 0, &e), 4);
	assert_int_equal(e[2], 3);
	assert_int_equal(e[3], 3);
	assert_int_equal(load_le32(e + 4), 1);
	assert_int_equal(count(t, len, 1, &e), 1);
	assert_int_equal(load_le32(e + 4), 0xfec00000);
	assert_int_equal(load_le32(e + 8), 0);
	assert_int_equal(count(t, len, 2, &e), 2);
	assert_memory_equal(e - 10, "\x02\x0a\x00\x00\x02\x00\x00\x00\x00\x00", 10);
	assert_memory_equal(e, "\x02\x0a\x00\x09\x09\x00\x00\x00\x0d\x00", 10);
	assert_int_equal(count(t, len, 4, &e), 1);
	assert_memory_equal(e, "\x04\x06\xff\x00\x00\x01", 6);
	assert_int_equal(count(t, len, 9, &e), 0);
	assert_int_equal(count(t, len, 10, &e), 0);
}

/* IDs from 255 on need the wider entries. */
static void madt_x2apic(void **unused)
{
	uint32_t len;
	const uint8_t *e = NULL;
	const uint8_t *t = find(acpi_build(&mem, 300), "APIC", &len);

	(void)unused;
	assert_int_equal(count(t, len, 0, &e), 255);
	assert_int_equal(e[3], 254);
	assert_int_equal(count(t, len, 9, &e), 45);
	assert_int_equal(load_le32(e + 4), 299);
	assert_int_equal(load_le32(e + 8), 1);
	assert_int_equal(load_le32(e + 12), 299);
	assert_int_equal(count(t, len, 10, &e), 1);

	t = find(acpi_build(&mem, 255), "APIC", &len);
	assert_int_equal(count(t, len, 9, &e), 0);
	find(acpi_build(&mem, ACPI_CPUS_MAX), "APIC", &len);
}

static void mcfg(void **unused)
{
	uint32_t len;
	const uint8_t *t = find(acpi_build(&mem, 1), "MCFG", &len);

	(void)unused;
	assert_int_equal(len, 60);
	assert_int_equal(load_le64(t + 44), 0xb0000000);
	assert_int_equal(load_le16(t + 52), 0);
	assert_int_equal(t[54], 0);
	assert_int_equal(t[55], 0); /* there is one bus */
}

/* Of one configuration there is one result. */
static void repeatable(void **unused)
{
	static uint8_t first[LAYOUT_ACPI_SIZE];
	uint8_t *area = guest_ptr(&mem, gpa(LAYOUT_ACPI), LAYOUT_ACPI_SIZE);
	gpa_t rsdp = acpi_build(&mem, 2);

	(void)unused;
	memcpy(first, area, sizeof(first));
	assert_int_equal(acpi_build(&mem, 2).v, rsdp.v);
	assert_memory_equal(first, area, sizeof(first));
}

/* Disassembles one table. Return: the text, to be freed. */
static char *disassemble(const char *dir, const uint8_t *t, uint32_t len)
{
	char path[128], command[512];
	char *text = NULL;
	size_t size = 0;

	snprintf(path, sizeof(path), "%s/t.aml", dir);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(t, len, 1, f), 1);
	fclose(f);
	snprintf(command, sizeof(command), "iasl -d -p %s/t %s >%s/log 2>&1 && cat %s/log %s/t.dsl",
		 dir, path, dir, dir, dir);
	f = popen(command, "r");
	assert_non_null(f);
	FILE *all = open_memstream(&text, &size);
	assert_non_null(all);
	for (int c = fgetc(f); c != EOF; c = fgetc(f)) {
		fputc(c, all);
	}
	fclose(all);
	assert_int_equal(pclose(f), 0);
	return text;
}

/* ACPICA reads what we wrote, and finds in it what the layout says. */
static void disassembles(void **unused)
{
	static const struct {
		const char *table, *words;
	} wanted[] = {
		{"FACP", "Reset Register : [Generic Address Structure]"},
		{"APIC", "Local Apic Address : FEE00000"},
		{"MCFG", "Base Address : 00000000B0000000"},
		{"DSDT", "Device (PCI0)"},
		{"DSDT", "0x0001,             // Length"}, /* of the range of buses */
		{"DSDT", "Name (_HID, \"QEMU0002\")"},
	};
	char dir[] = "/tmp/acpi_test.XXXXXX";
	char command[64];
	gpa_t rsdp = acpi_build(&mem, 2);

	(void)unused;
	if (system("command -v iasl >/dev/null") != 0) {
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
		uint32_t len;
		const uint8_t *t;

		if (strcmp(wanted[i].table, "DSDT") == 0) {
			t = find(rsdp, "FACP", &len);
			t = table_at(load_le32(t + 40), "DSDT", &len);
		} else {
			t = find(rsdp, wanted[i].table, &len);
		}
		char *text = disassemble(dir, t, len);
		if (strstr(text, wanted[i].words) == NULL || strstr(text, "Error") != NULL ||
		    strstr(text, "Invalid") != NULL) {
			fail_msg("%s: %s", wanted[i].table, text);
		}
		free(text);
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(fadt), T(madt), T(madt_x2apic), T(mcfg), T(repeatable), T(disassembles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
