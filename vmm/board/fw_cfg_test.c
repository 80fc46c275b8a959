#include "vmm/board/fw_cfg.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/capture.h"
#include "tests/state_rig.h"
#include "tests/unit.h"

#define REQUEST 0x1000
#define DATA	0x2000

static struct guest_memory mem;
static struct fw_cfg fw;

static int set_up(void **unused)
{
	(void)unused;
	return guest_memory_init(&mem, 64 * MIB) != 0 || fw_cfg_init(&fw, &mem, 3) != 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	fw_cfg_fini(&fw);
	guest_memory_fini(&mem);
	return 0;
}

static void out(unsigned offset, unsigned len, uint32_t value)
{
	fw_cfg_bus_ops.write(&fw, offset, len, value);
}

static uint64_t in(unsigned offset, unsigned len)
{
	return fw_cfg_bus_ops.read(&fw, offset, len);
}

static void read_item(uint16_t key, void *to, unsigned len)
{
	uint8_t *p = to;

	out(0, 2, key);
	for (unsigned i = 0; i < len; i++) {
		p[i] = (uint8_t)in(1, 1);
	}
}

static uint64_t read_number(uint16_t key, unsigned len)
{
	uint8_t raw[8] = {0};

	read_item(key, raw, len);
	return load_le64(raw);
}

static uint32_t be32(const uint8_t *p)
{
	return __builtin_bswap32(load_le32(p));
}

/* Runs one DMA request and gives its control word after it. */
static uint32_t dma(uint32_t control, uint32_t len, uint64_t addr)
{
	uint8_t request[16];

	store_le32(request, __builtin_bswap32(control));
	store_le32(request + 4, __builtin_bswap32(len));
	store_le64(request + 8, __builtin_bswap64(addr));
	assert_int_equal(guest_write(&mem, gpa(REQUEST), request, sizeof(request)), 0);
	out(4, 4, 0);
	out(8, 4, __builtin_bswap32(REQUEST));
	assert_int_equal(guest_read(&mem, gpa(REQUEST), request, 4), 0);
	return be32(request);
}

static void standard_items(void **unused)
{
	char signature[6];

	(void)unused;
	read_item(0, signature, 6);
	assert_memory_equal(signature, "QEMU\0\0", 6);
	assert_int_equal(read_number(1, 4), 3);
	assert_int_equal(read_number(3, 8), 64 * MIB);
	assert_int_equal(read_number(5, 2), 3);
	assert_int_equal(read_number(0xf, 2), 3);
	/* Items that are not there, in and out of the table, read as zero. */
	assert_int_equal(read_number(2, 8), 0);
	assert_int_equal(read_number(0xffff, 8), 0);
	assert_int_equal(read_number(FW_CFG_ITEMS, 8), 0);
}

/* Finds @name in the directory. Return: its key. */
static uint16_t look_up(const char *name, uint32_t *len)
{
	uint8_t count[4];
	uint8_t entry[64];

	read_item(0x19, count, 4);
	for (unsigned i = 0; i < be32(count); i++) {
		for (unsigned j = 0; j < sizeof(entry); j++) {
			entry[j] = (uint8_t)in(1, 1);
		}
		if (strcmp((char *)entry + 8, name) == 0) {
			*len = be32(entry);
			return (uint16_t)(entry[4] << 8 | entry[5]);
		}
	}
	return 0;
}

static void files(void **unused)
{
	uint8_t map[100];
	uint32_t len = 0;
	char text[8];

	(void)unused;
	uint16_t key = look_up("etc/e820", &len);
	assert_true(key >= 0x20);
	assert_int_equal(len, 5 * 20);
	read_item(key, map, sizeof(map));
	assert_int_equal(load_le64(map + 40), MIB);
	assert_int_equal(load_le64(map + 48), 63 * MIB);
	assert_int_equal(load_le32(map + 56), 1);

	assert_int_equal(fw_cfg_add_file(&fw, "opt/word", "hello", 5), 0);
	assert_int_equal(fw_cfg_add_file(&fw, "opt/nothing", "", 0), 0);
	assert_int_equal(fw_cfg_add_file(&fw, "opt/word", "again", 5), -EEXIST);
	key = look_up("opt/word", &len);
	assert_int_equal(len, 5);
	read_item(key, text, 7);
	assert_memory_equal(text, "hello\0\0", 7);
	key = look_up("opt/nothing", &len);
	assert_true(key >= 0x20);
	assert_int_equal(len, 0);
	assert_int_equal(look_up("opt/other", &len), 0);
}

static void file_limits(void **unused)
{
	char name[64];

	(void)unused;
	memset(name, 'n', sizeof(name));
	name[56] = '\0';
	assert_int_equal(fw_cfg_add_file(&fw, name, "x", 1), -ENAMETOOLONG);
	name[55] = '\0';
	assert_int_equal(fw_cfg_add_file(&fw, name, "x", 1), 0);
	for (unsigned i = 2; i < FW_CFG_FILES_MAX; i++) {
		snprintf(name, sizeof(name), "opt/%u", i);
		assert_int_equal(fw_cfg_add_file(&fw, name, "x", 1), 0);
	}
	assert_int_equal(fw_cfg_add_file(&fw, "opt/last", "x", 1), -ENOSPC);
}

static void registers(void **unused)
{
	(void)unused;
	assert_int_equal(in(4, 4), load_le32("QEMU"));
	assert_int_equal(in(8, 4), load_le32(" CFG"));
	assert_int_equal(in(5, 1), 'E');
	assert_int_equal(in(11, 1), 'G');
	assert_int_equal(in(4, 8), load_le64("QEMU CFG"));
	/* Widths and places that the device does not know. */
	assert_int_equal(in(0, 2), UINT64_MAX);
	assert_int_equal(in(1, 2), UINT64_MAX);
	out(0, 2, 0);
	out(0, 1, 5);
	out(1, 1, 5);
	out(0, 4, 5);
	assert_int_equal(in(1, 1), 'Q');
}

static void dma_transfers(void **unused)
{
	char text[8];

	(void)unused;
	assert_int_equal(fw_cfg_add_file(&fw, "opt/word", "abcdefgh", 8), 0);
	uint32_t key = 0x21;

	/* Select and read, then on from there, then past the end. */
	assert_int_equal(dma(key << 16 | 8 | 2, 3, DATA), 0);
	assert_int_equal(dma(4, 2, 0), 0);
	assert_int_equal(dma(2, 5, DATA + 3), 0);
	assert_int_equal(guest_read(&mem, gpa(DATA), text, 8), 0);
	assert_memory_equal(text, "abcfgh\0\0", 8);
	/* A skip stops at the end; what is read then is zero. */
	assert_int_equal(dma(key << 16 | 8 | 4, UINT32_MAX, 0), 0);
	assert_int_equal(dma(2, 2, DATA), 0);
	assert_int_equal(guest_read(&mem, gpa(DATA), text, 3), 0);
	assert_memory_equal(text, "\0\0c", 3);
	/* An item that is not there. */
	assert_int_equal(dma(UINT32_C(0xffff) << 16 | 8 | 2, 3, DATA), 0);
	assert_int_equal(dma(2, 0, DATA), 0);
	assert_int_equal(guest_read(&mem, gpa(DATA), text, 3), 0);
	assert_memory_equal(text, "\0\0\0", 3);
}

static void dma_refusals(void **unused)
{
	struct capture said;
	uint64_t end = 64 * MIB;

	(void)unused;
	/* Nothing is writable. */
	assert_int_equal(dma(3u << 16 | 8 | 16, 4, DATA), 1);
	/* Not RAM, at its end, and wrapping. */
	assert_int_equal(dma(8 | 2, 4, end), 1);
	assert_int_equal(dma(8 | 2, 4, end - 3), 1);
	assert_int_equal(dma(8 | 2, 4, UINT64_MAX - 1), 1);
	assert_int_equal(dma(8 | 2, UINT32_MAX, 0), 1);
	assert_int_equal(dma(8 | 2, 4, end - 4), 0);
	/* Item 0 has four bytes. Zeroes without end would hold the CPU. */
	assert_int_equal(dma(8 | 2, 4 + (1 << 20), MIB), 0);
	assert_int_equal(dma(8 | 2, 5 + (1 << 20), MIB), 1);

	/* A request that is not in RAM, or only half of it, is dropped and said. */
	capture_begin(&said);
	out(4, 4, UINT32_MAX);
	out(8, 4, 0);
	out(8, 4, __builtin_bswap32((uint32_t)end - 8));
	capture_end(&said);
	assert_non_null(strstr(said.text, "0xffffffff00000000"));
	assert_non_null(strstr(said.text, "0x3fffff8"));
}

static void state_round_trip(void **unused)
{
	uint8_t buf[64];

	(void)unused;
	out(0, 2, 3);
	in(1, 1);
	in(1, 1);
	out(4, 4, __builtin_bswap32(1));
	size_t len = state_saved(fw_cfg_state, &fw, buf, sizeof(buf));

	out(0, 2, 0);
	out(8, 4, __builtin_bswap32(REQUEST));
	assert_int_equal(state_loaded(fw_cfg_state, &fw, buf, len), 0);
	assert_int_equal(fw.selector, 3);
	assert_int_equal(fw.offset, 2);
	assert_int_equal(fw.dma_address, UINT64_C(1) << 32);
	assert_int_equal(in(1, 1), 0);
	assert_int_equal(in(1, 1), 4); /* 64 MiB, byte 3 */

	/* An offset past the item's end, an item that is not there, half an address. */
	static const struct {
		unsigned at;
		uint8_t value;
	} bad[] = {{26, 9}, {24, 2}, {25, 0xff}, {30, 1}};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t broken[64];

		memcpy(broken, buf, sizeof(buf));
		broken[bad[i].at] = bad[i].value;
		assert_int_equal(state_loaded(fw_cfg_state, &fw, broken, len), -EINVAL);
		assert_int_equal(fw.selector, 3);
		assert_int_equal(fw.offset, 4);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(standard_items), T(files),	    T(file_limits),	 T(registers),
		T(dma_transfers),  T(dma_refusals), T(state_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
