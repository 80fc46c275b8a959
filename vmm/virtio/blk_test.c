#include "vmm/virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <string.h>

#include "vmm/virtio/test_blk.h"

static void read_and_write(bool packed, bool indirect)
{
	struct rig r = {.packed = packed, .indirect = indirect};
	uint8_t want[4096];
	uint8_t file[4096];

	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < 300; i++) { /* more than once around the ring */
		uint64_t sector = i * 6;
		uint32_t len = 512 * (1 + i % 8);

		pattern(want, len, i);
		memcpy(ram(&r, DATA), want, len);
		assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, sector, len, false), 0);
		read_file(&r, file, len, (off_t)sector * 512);
		assert_memory_equal(file, want, len);
		memset(ram(&r, DATA), 0, len);
		assert_int_equal(request(&r, VIRTIO_BLK_T_IN, sector, len, true), 0);
		assert_memory_equal(ram(&r, DATA), want, len);
	}
	assert_int_equal(atomic_load(&r.interrupts), 600);
	assert_int_equal(atomic_load(&host.syncs), 0);
	rig_fini(&r);
}

static void split(void **unused)
{
	(void)unused;
	read_and_write(false, false);
	read_and_write(false, true);
}

static void packed(void **unused)
{
	(void)unused;
	read_and_write(true, false);
	read_and_write(true, true);
}

/* A driver may cut a request anywhere. */
static void framing(void **unused)
{
	struct rig r = {.indirect = true};
	uint8_t want[1024];
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	/* Header and data in one buffer. */
	set_header(&r, DATA, VIRTIO_BLK_T_OUT, 3);
	pattern(want, 1024, 1);
	memcpy((uint8_t *)ram(&r, DATA) + 16, want, 1024);
	add(&r, 0, (struct driver_buf[]){{DATA, 16 + 1024, false}, {STATUS, 1, true}}, 2);
	ring(&r, 0);
	assert_int_equal(wait_used(&r, 0, &id), 1);
	assert_int_equal(*(uint8_t *)ram(&r, STATUS), 0);

	/* The header in three parts, the last with data; data and status in one buffer. */
	set_header(&r, HEADER, VIRTIO_BLK_T_OUT, 4);
	memcpy(ram(&r, DATA), ram(&r, HEADER), 16);
	pattern((uint8_t *)ram(&r, DATA) + 16, 512, 2);
	memcpy(want + 512, (uint8_t *)ram(&r, DATA) + 16, 512);
	add(&r, 0,
	    (struct driver_buf[]){{DATA, 1, false},
				  {DATA + 1, 8, false},
				  {DATA + 9, 100, false},
				  {DATA + 109, 419, false},
				  {STATUS, 1, true}},
	    5);
	ring(&r, 0);
	wait_used(&r, 0, &id);
	assert_int_equal(*(uint8_t *)ram(&r, STATUS), 0);

	set_header(&r, HEADER, VIRTIO_BLK_T_IN, 3);
	memset(ram(&r, DATA), 0xcc, 2048);
	add(&r, 0,
	    (struct driver_buf[]){{HEADER, 7, false},
				  {HEADER + 7, 9, false},
				  {DATA, 3, true},
				  {DATA + 3, 1022, true}},
	    4);
	ring(&r, 0);
	assert_int_equal(wait_used(&r, 0, &id), 1025);
	assert_memory_equal(ram(&r, DATA), want, 1024);
	assert_int_equal(((uint8_t *)ram(&r, DATA))[1024], 0); /* the status */
	assert_int_equal(((uint8_t *)ram(&r, DATA))[1025], 0xcc);
	rig_fini(&r);
}

static void bounds(void **unused)
{
	static const uint64_t bad[] = {
		SECTORS,	SECTORS - 1, UINT64_MAX,	 UINT64_MAX / 512,
		UINT64_MAX - 1, 1ull << 55,  (1ull << 55) - 1ul, INT64_MAX / 512 + 1};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(request(&r, VIRTIO_BLK_T_IN, bad[i], 1024, true), 1);
		assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, bad[i], 1024, false), 1);
	}
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 511, true), 1);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 513, false), 1);
	assert_int_equal(atomic_load(&host.writes), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, SECTORS - 2, 1024, true), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, SECTORS - 2, 1024, false), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, SECTORS, 0, true), 0);
	rig_fini(&r);
}

static void unknown_types(void **unused)
{
	static const uint32_t types[] = {2, 3, 5, VIRTIO_BLK_T_SECURE_ERASE, 99, UINT32_MAX};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(request(&r, types[i], 0, 512, true), VIRTIO_BLK_S_UNSUPP);
	}
	rig_fini(&r);
}

static void read_only(void **unused)
{
	struct rig r = {.config.readonly = true};
	uint8_t file[512];
	uint8_t zero[512] = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	assert_true(virtio_has(r.dev, VIRTIO_BLK_F_RO));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_DISCARD));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_WRITE_ZEROES));
	memset(ram(&r, DATA), 1, 512);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&r, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&r, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 512, true), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	read_file(&r, file, 512, 0);
	assert_memory_equal(file, zero, 512);
	assert_int_equal(atomic_load(&host.writes), 0);
	rig_fini(&r);
}

static void serial_number(void **unused)
{
	struct rig r = {.config.serial = "12345678901234567890"};
	uint8_t *data;

	(void)unused;
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 64, true), 0);
	assert_memory_equal(data, "12345678901234567890", 20);
	assert_int_equal(data[20], 0xaa);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 5, true), 0);
	assert_memory_equal(data, "12345\xaa", 6);
	rig_fini(&r);

	r = (struct rig){.config.serial = "ab"};
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	memset(data, 0xaa, 64);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 20, true), 0);
	assert_memory_equal(data, "ab\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	rig_fini(&r);

	/* Without one in the configuration: its own, not empty. */
	r = (struct rig){0};
	rig_init(&r, FEATURES);
	data = ram(&r, DATA);
	assert_int_equal(request(&r, VIRTIO_BLK_T_GET_ID, 0, 20, true), 0);
	assert_memory_equal(data, "yado", 4);
	assert_true(data[19] != 0);
	rig_fini(&r);
}

static void configuration(void **unused)
{
	struct rig r = {.nqueues = 3};
	struct virtio_device *dev = NULL;

	(void)unused;
	rig_init(&r, FEATURES);
	assert_int_equal(config_of(&r)->capacity, SECTORS);
	assert_int_equal(config_of(&r)->blk_size, 512);
	assert_int_equal(config_of(&r)->num_queues, 3);
	assert_int_equal(config_of(&r)->seg_max, 254);
	assert_int_equal(config_of(&r)->wce, 1);
	assert_true(config_of(&r)->max_write_zeroes_sectors > 0);
	assert_true(virtio_has(r.dev, VIRTIO_BLK_F_MQ));
	assert_false(virtio_has(r.dev, VIRTIO_BLK_F_RO));
	/* Of the configuration the driver may write one bit. */
	for (unsigned i = 0; i < r.dev->config_len; i++) {
		assert_int_equal(r.dev->config_wmask[i],
				 i == offsetof(struct virtio_blk_config, wce) ? 1 : 0);
	}

	/* And what cannot be is refused. */
	struct disk_config bad = r.config;
	bad.queues = 17;
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	bad.queues = 0;
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	bad = r.config;
	bad.serial = "123456789012345678901";
	assert_int_equal(blk_create(&dev, &bad, NULL, NULL), -EINVAL);
	assert_int_equal(blk_create(&dev, &r.config, NULL, NULL), -EBUSY); /* locked */
	assert_null(dev);
	rig_fini(&r);
}

static void when_writes_last(void **unused)
{
	const uint64_t wce = BIT(VIRTIO_BLK_F_CONFIG_WCE);
	const uint64_t flush = BIT(VIRTIO_BLK_F_FLUSH);
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 1);
	config_of(&r)->wce = 0; /* the driver turns the cache off */
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 2);
	assert_int_equal(request(&r, VIRTIO_BLK_T_IN, 0, 512, true), 0);
	assert_int_equal(atomic_load(&host.syncs), 2);
	rig_reset(&r);
	assert_int_equal(config_of(&r)->wce, 1);

	/* A driver that cannot flush. */
	rig_activate(&r, FEATURES & ~(flush | wce));
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 3);
	rig_reset(&r);
	rig_activate(&r, FEATURES & ~flush);
	r.dev->ops->config_read(r.dev);
	assert_int_equal(config_of(&r)->wce, 0);
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 4);
	rig_reset(&r);

	/* One that can, but does not know of the switch. */
	rig_activate(&r, FEATURES & ~wce);
	config_of(&r)->wce = 0;
	assert_int_equal(request(&r, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	assert_int_equal(atomic_load(&host.syncs), 4);
	rig_fini(&r);
}

static uint8_t ranges(struct rig *r, uint32_t type, unsigned n,
		      const struct virtio_blk_discard_write_zeroes *range)
{
	memcpy(ram(r, DATA), range, n * sizeof(*range));
	return request(r, type, 0, (uint32_t)(n * sizeof(*range)), false);
}

static void fill_disk(struct rig *r, uint64_t sectors)
{
	memset(ram(r, DATA), 0x5a, 512 * 64);
	for (uint64_t i = 0; i < sectors; i += 64) {
		assert_int_equal(request(r, VIRTIO_BLK_T_OUT, i, 512 * 64, false), 0);
	}
}

static void discard_and_write_zeroes(void **unused)
{
	const uint32_t zero = VIRTIO_BLK_T_WRITE_ZEROES;
	const uint32_t discard = VIRTIO_BLK_T_DISCARD;
	struct rig r = {0};
	struct virtio_blk_discard_write_zeroes many[17] = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	fill_disk(&r, 256);
	many[0] = (struct virtio_blk_discard_write_zeroes){8, 8, 1};
	many[1] = (struct virtio_blk_discard_write_zeroes){33, 3, 0};
	assert_int_equal(ranges(&r, zero, 2, many), 0);
	assert_file(&r, 0, 8, 0x5a);
	assert_file(&r, 8, 8, 0);
	assert_file(&r, 16, 17, 0x5a);
	assert_file(&r, 33, 3, 0);
	assert_file(&r, 36, 28, 0x5a);
	if (virtio_has(r.dev, VIRTIO_BLK_F_DISCARD)) {
		many[0] = (struct virtio_blk_discard_write_zeroes){64, 64, 0};
		assert_int_equal(ranges(&r, discard, 1, many), 0);
		assert_file(&r, 64, 64, 0);
		assert_file(&r, 128, 128, 0x5a);
		/* A discard has no flags. */
		many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 1};
		assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_UNSUPP);
		assert_file(&r, 128, 128, 0x5a);
	}
	many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 2};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_UNSUPP);
	many[0] = (struct virtio_blk_discard_write_zeroes){SECTORS - 1, 2, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	many[0] = (struct virtio_blk_discard_write_zeroes){UINT64_MAX, 2, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_IOERR);
	many[0] = (struct virtio_blk_discard_write_zeroes){0, UINT32_MAX, 0};
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_IOERR);
	/* One bad range, and none is done. */
	many[0] = (struct virtio_blk_discard_write_zeroes){128, 8, 0};
	many[1] = (struct virtio_blk_discard_write_zeroes){SECTORS, 1, 0};
	assert_int_equal(ranges(&r, zero, 2, many), VIRTIO_BLK_S_IOERR);
	assert_file(&r, 128, 128, 0x5a);
	/* Too many ranges; half a range; none. */
	memset(many, 0, sizeof(many));
	assert_int_equal(ranges(&r, zero, 17, many), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(&r, zero, 16, many), 0);
	assert_int_equal(request(&r, zero, 0, 17, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&r, zero, 0, 0, false), 0);

	rig_reset(&r);
	rig_activate(&r, 0);
	assert_int_equal(ranges(&r, zero, 1, many), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(&r, discard, 1, many), VIRTIO_BLK_S_UNSUPP);
	rig_fini(&r);
}

/* A request that cannot even be answered breaks the device, until a reset. */
static void broken_requests(void **unused)
{
	static const struct driver_buf bad[][2] = {
		{{HEADER, 15, false}, {STATUS, 1, true}},
		{{HEADER, 16, false}, {DATA, 512, false}},
		{{DATA, 512, true}, {STATUS, 1, true}},
	};
	struct rig r = {0};

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		set_header(&r, HEADER, VIRTIO_BLK_T_FLUSH, 0);
		add(&r, 0, bad[i], 2);
		ring(&r, 0);
		assert_true((r.dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0);
		assert_int_equal(atomic_load(&r.config_interrupts), i + 1);
		assert_nothing_used(&r);
		ring(&r, 0); /* and nothing happens */
		rig_reset(&r);
		rig_activate(&r, FEATURES);
		assert_int_equal(request(&r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	}
	rig_fini(&r);
}

/* More in the ring than the device works on at a time. */
static void full_ring(void **unused)
{
	struct rig r = {0};
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 128; i++) {
			uint64_t at = DRIVER_BUFFERS + i * 32;

			set_header(&r, at, VIRTIO_BLK_T_FLUSH, 0);
			*(uint8_t *)ram(&r, at + 16) = 0xff;
			add(&r, 0, (struct driver_buf[]){{at, 16, false}, {at + 16, 1, true}}, 2);
		}
		ring(&r, 0);
		for (unsigned i = 0; i < 128; i++) {
			wait_used(&r, 0, &id);
		}
		for (unsigned i = 0; i < 128; i++) {
			assert_int_equal(*(uint8_t *)ram(&r, DRIVER_BUFFERS + i * 32 + 16), 0);
		}
		assert_nothing_used(&r);
	}
	rig_fini(&r);
}

static void many_queues(void **unused)
{
	struct rig r = {.nqueues = 4};
	uint16_t id;

	(void)unused;
	rig_init(&r, FEATURES);
	for (unsigned i = 0; i < 4; i++) {
		set_header(&r, HEADER + i * 32, VIRTIO_BLK_T_OUT, i);
		memset(ram(&r, DATA + i * 512), (int)i + 1, 512);
		add(&r, i,
		    (struct driver_buf[]){{HEADER + i * 32, 16, false},
					  {DATA + i * 512, 512, false},
					  {STATUS + i, 1, true}},
		    3);
		ring(&r, i);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(wait_used(&r, i, &id), 1);
		assert_int_equal(*(uint8_t *)ram(&r, STATUS + i), 0);
		assert_file(&r, i, 1, (uint8_t)(i + 1));
	}
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split),
		cmocka_unit_test(packed),
		cmocka_unit_test(framing),
		cmocka_unit_test(bounds),
		cmocka_unit_test(unknown_types),
		cmocka_unit_test(read_only),
		cmocka_unit_test(serial_number),
		cmocka_unit_test(configuration),
		cmocka_unit_test(when_writes_last),
		cmocka_unit_test(discard_and_write_zeroes),
		cmocka_unit_test(broken_requests),
		cmocka_unit_test(full_ring),
		cmocka_unit_test(many_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
