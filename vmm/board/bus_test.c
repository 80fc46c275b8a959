#include "vmm/board/bus.h"

#include <errno.h>

#include "tests/unit.h"

/* A device that remembers its last accesses, and answers with its name and the offset. */
struct probe {
	uint64_t answer;
	unsigned naccesses;
	struct {
		bool write;
		uint64_t offset, value;
		unsigned len;
	} access[4];
	struct bus *unmap_from; /* unmaps itself while it is called */
	uint64_t unmap_base;
};

static void note(struct probe *p, bool write, uint64_t offset, unsigned len, uint64_t value)
{
	if (p->naccesses < ARRAY_SIZE(p->access)) {
		p->access[p->naccesses].write = write;
		p->access[p->naccesses].offset = offset;
		p->access[p->naccesses].len = len;
		p->access[p->naccesses].value = value;
	}
	p->naccesses++;
	if (p->unmap_from != NULL) {
		bus_unmap(p->unmap_from, p->unmap_base);
	}
}

static uint64_t probe_read(void *dev, uint64_t offset, unsigned len)
{
	struct probe *p = dev;

	note(p, false, offset, len, 0);
	return p->answer + offset;
}

static void probe_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	note(dev, true, offset, len, value);
}

static const struct bus_ops probe_ops = {probe_read, probe_write};

static void dispatch(void **unused)
{
	struct bus bus;
	struct probe a = {.answer = 0xa0}, b = {.answer = 0xb0}, c = {.answer = 0xc0};

	(void)unused;
	bus_init(&bus);
	/* In no order, and next to each other. */
	assert_int_equal(bus_map(&bus, 0x2000, 0x10, &probe_ops, &b), 0);
	assert_int_equal(bus_map(&bus, 0x1000, 0x10, &probe_ops, &a), 0);
	assert_int_equal(bus_map(&bus, 0x2010, 0x10, &probe_ops, &c), 0);

	assert_int_equal(bus_read(&bus, 0x1000, 1), 0xa0);
	assert_int_equal(bus_read(&bus, 0x100f, 1), 0xaf);
	assert_int_equal(bus_read(&bus, 0x2008, 4), 0xb8);
	assert_int_equal(bus_read(&bus, 0x2010, 8), 0xc0);
	bus_write(&bus, 0x2012, 2, 0x12345);
	assert_true(c.access[1].write);
	assert_int_equal(c.access[1].offset, 2);
	assert_int_equal(c.access[1].len, 2);
	assert_int_equal(c.access[1].value, 0x2345);

	/* Nothing there, or not in one range. */
	a.naccesses = b.naccesses = c.naccesses = 0;
	assert_int_equal(bus_read(&bus, 0xfff, 1), 0xff);
	assert_int_equal(bus_read(&bus, 0xfff, 2), 0xffff);
	assert_int_equal(bus_read(&bus, 0x100e, 4), 0xffffffff);
	assert_int_equal(bus_read(&bus, 0x200c, 8), UINT64_MAX);
	assert_int_equal(bus_read(&bus, 0x2020, 1), 0xff);
	assert_int_equal(bus_read(&bus, UINT64_MAX, 8), UINT64_MAX);
	bus_write(&bus, 0x1010, 1, 0);
	bus_write(&bus, 0x200f, 2, 0);
	assert_int_equal(a.naccesses + b.naccesses + c.naccesses, 0);

	bus_unmap(&bus, 0x2001); /* not a start */
	assert_int_equal(bus_read(&bus, 0x2000, 1), 0xb0);
	bus_unmap(&bus, 0x2000);
	assert_int_equal(bus_read(&bus, 0x2000, 1), 0xff);
	assert_int_equal(bus_read(&bus, 0x1000, 1), 0xa0);
	assert_int_equal(bus_read(&bus, 0x2010, 1), 0xc0);
	bus_fini(&bus);
}

/* Odd lengths come in pieces that devices know. */
static void odd_lengths(void **unused)
{
	struct bus bus;
	struct probe p = {.answer = 0x1111111111111110};

	(void)unused;
	bus_init(&bus);
	assert_int_equal(bus_map(&bus, 0x100, 0x10, &probe_ops, &p), 0);
	bus_write(&bus, 0x101, 7, 0xff77665544332211);
	assert_int_equal(p.naccesses, 3);
	assert_int_equal(p.access[0].offset, 1);
	assert_int_equal(p.access[0].len, 4);
	assert_int_equal(p.access[0].value, 0x44332211);
	assert_int_equal(p.access[1].offset, 5);
	assert_int_equal(p.access[1].len, 2);
	assert_int_equal(p.access[1].value, 0x6655);
	assert_int_equal(p.access[2].offset, 7);
	assert_int_equal(p.access[2].len, 1);
	assert_int_equal(p.access[2].value, 0x77);
	p.naccesses = 0;
	assert_int_equal(bus_read(&bus, 0x100, 3), 0x121110);
	assert_int_equal(p.naccesses, 2);
	bus_fini(&bus);
}

static void refuses(void **unused)
{
	static const struct {
		uint64_t base, len;
		int result;
	} cases[] = {
		{0x1000, 0, -EINVAL},
		{UINT64_MAX, 2, -EINVAL},
		{1, UINT64_MAX, -EINVAL},
		{0x1000, 1, -EEXIST},
		{0x10ff, 1, -EEXIST},
		{0xfff, 2, -EEXIST},
		{0x0, 0x10000, -EEXIST},
		{0x1010, 0x10, -EEXIST},
		{0x10f0, 0x100, -EEXIST},
		{0x1100, 1, 0},
		{0xfff, 1, 0},
		{UINT64_MAX - 1, 1, 0},
	};
	struct bus bus;
	struct probe p = {0};
	unsigned n = 0;

	(void)unused;
	bus_init(&bus);
	assert_int_equal(bus_map(&bus, 0x1000, 0x100, &probe_ops, &p), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(bus_map(&bus, cases[i].base, cases[i].len, &probe_ops, &p),
				 cases[i].result);
	}
	while (bus.nranges < BUS_RANGES_MAX) {
		assert_int_equal(bus_map(&bus, 0x100000 + 16 * n++, 16, &probe_ops, &p), 0);
	}
	assert_int_equal(bus_map(&bus, 0x900000, 16, &probe_ops, &p), -ENOSPC);
	bus_unmap(&bus, 0x100000);
	assert_int_equal(bus_map(&bus, 0x900000, 16, &probe_ops, &p), 0);
	bus_fini(&bus);
}

/* A device may change the bus from within an access: the lock is not held there. */
static void changes_from_within(void **unused)
{
	struct bus bus;
	struct probe p = {.unmap_from = &bus, .unmap_base = 0x10};

	(void)unused;
	bus_init(&bus);
	assert_int_equal(bus_map(&bus, 0x10, 8, &probe_ops, &p), 0);
	bus_write(&bus, 0x10, 7, 0);
	assert_int_equal(p.naccesses, 3);
	assert_int_equal(bus_read(&bus, 0x10, 1), 0xff);
	bus_fini(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dispatch),
		cmocka_unit_test(odd_lengths),
		cmocka_unit_test(refuses),
		cmocka_unit_test(changes_from_within),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
