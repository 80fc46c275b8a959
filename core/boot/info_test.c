#include "core/boot/info.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/unit.h"

#define BASE 0x10000

static struct {
	uint8_t data[8192];
	size_t len;
} ram;

static const void *mem(void *ctx, uint64_t pa, uint64_t len)
{
	(void)ctx;
	return range_inside(pa, len, BASE, sizeof(ram.data)) ? ram.data + (pa - BASE) : NULL;
}

static void put32(uint32_t v)
{
	store_le32(ram.data + ram.len, v);
	ram.len += 4;
}

static void put64(uint64_t v)
{
	put32((uint32_t)v);
	put32((uint32_t)(v >> 32));
}

static void entry(uint64_t base, uint64_t len, uint32_t type)
{
	put64(base);
	put64(len);
	put32(type);
	put32(0);
}

static void put_map(void)
{
	entry(0x100000, 0x700000, 1);
	entry(0, 0x9fc00, 1);
	entry(0x200000, 0x1000, 2); /* reserved, in the middle of RAM */
}

static void check_map(const struct memmap *m)
{
	assert_int_equal(m->n, 3);
	assert_int_equal(m->range[0].len, 0x9f000);
	assert_int_equal(m->range[1].base, 0x100000);
	assert_int_equal(m->range[1].len, 0x100000);
	assert_int_equal(m->range[2].base, 0x201000);
}

static void multiboot2(void)
{
	memset(&ram, 0, sizeof(ram));
	put64(0); /* total size, later */
	put32(1); /* command line */
	put32(8 + 9);
	memcpy(ram.data + ram.len, "loglevel=", 9); /* and no zero */
	ram.len += 16;
	put32(3); /* module */
	put32(16);
	put32(0x300000);
	put32(0x300123);
	put32(6); /* memory map */
	put32(16 + 3 * 24);
	put32(24);
	put32(0);
	put_map();
	put32(14); /* RSDP */
	put32(8 + 20);
	memcpy(ram.data + ram.len, "RSD PTR ", 8);
	ram.len += 24;
	put32(0);
	put32(8);
	store_le32(ram.data, (uint32_t)ram.len);
}

static void multiboot2_is_understood(void **state)
{
	struct boot_info info;

	(void)state;
	multiboot2();
	assert_int_equal(boot_info_multiboot2(&info, BASE, mem, NULL), 0);
	assert_string_equal(info.cmdline, "loglevel=");
	assert_false(info.cmdline_cut);
	assert_int_equal(info.module, 0x300000);
	assert_int_equal(info.module_len, 0x123);
	assert_int_equal(info.rsdp_copy_len, 20);
	assert_memory_equal(info.rsdp_copy, "RSD PTR ", 8);
	check_map(&info.ram);
}

static void broken_multiboot2_is_refused(void **state)
{
	struct boot_info info;

	(void)state;
	assert_int_equal(boot_info_multiboot2(&info, 0, mem, NULL), -EINVAL);
	multiboot2();
	for (uint32_t total = 0; total < ram.len; total++) {
		store_le32(ram.data, total); /* its end is cut off */
		assert_int_equal(boot_info_multiboot2(&info, BASE, mem, NULL), -EINVAL);
	}
	store_le32(ram.data, 0xffffffff);
	assert_int_equal(boot_info_multiboot2(&info, BASE, mem, NULL), -EINVAL);
	multiboot2();
	store_le32(ram.data + 12, 7); /* a tag shorter than its header */
	assert_int_equal(boot_info_multiboot2(&info, BASE, mem, NULL), -EINVAL);
	/* Any wrong byte: an answer, and no more. */
	for (size_t i = 0; i < ram.len; i++) {
		multiboot2();
		ram.data[i] ^= 0xff;
		int r = boot_info_multiboot2(&info, BASE, mem, NULL);
		assert_true(r == 0 || r == -EINVAL);
	}
}

static void pvh(void)
{
	memset(&ram, 0, sizeof(ram));
	put32(0x336ec578);
	put32(1);
	put32(0);
	put32(1);	    /* modules */
	put64(BASE + 256);  /* their list */
	put64(BASE + 512);  /* command line */
	put64(0xf5a40);	    /* RSDP */
	put64(BASE + 1024); /* memory map */
	put32(3);
	ram.len = 256;
	put64(0x300000);
	put64(0x456);
	strcpy((char *)ram.data + 512, "cpus=1");
	ram.len = 1024;
	put_map();
}

static void pvh_is_understood(void **state)
{
	struct boot_info info;

	(void)state;
	pvh();
	assert_int_equal(boot_info_pvh(&info, BASE, mem, NULL), 0);
	assert_string_equal(info.cmdline, "cpus=1");
	assert_int_equal(info.module, 0x300000);
	assert_int_equal(info.module_len, 0x456);
	assert_int_equal(info.rsdp, 0xf5a40);
	check_map(&info.ram);
	memset(ram.data + 512, 'x', 2000 - 512 + 512);
	pvh();
	memset(ram.data + 2048, 'x', 2048);
	store_le64(ram.data + 24, BASE + 2048);
	assert_int_equal(boot_info_pvh(&info, BASE, mem, NULL), 0);
	assert_true(info.cmdline_cut);
	assert_int_equal(strlen(info.cmdline), BOOT_CMDLINE_BYTES - 1);
}

static void broken_pvh_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
	} cases[] = {
		{0, 0},		       /* magic and version */
		{16, 1},	       /* module list out of memory */
		{40, UINT64_MAX - 10}, /* memory map out of memory */
		{48, 0},	       /* empty */
	};
	struct boot_info info;

	(void)state;
	assert_int_equal(boot_info_pvh(&info, 1, mem, NULL), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pvh();
		store_le64(ram.data + cases[i].at, cases[i].value);
		assert_int_equal(boot_info_pvh(&info, BASE, mem, NULL), -EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(multiboot2_is_understood),
		cmocka_unit_test(broken_multiboot2_is_refused),
		cmocka_unit_test(pvh_is_understood),
		cmocka_unit_test(broken_pvh_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
