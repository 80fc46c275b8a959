/* What a CPU may keep in its TLB when it changes spaces, and what not. */
#include "core/mem/pcid.h"

#include "tests/unit.h"

static void what_has_not_changed_is_kept(void **state)
{
	struct pcids p = {0};
	uint64_t a = pcid_choose(&p, 1, 10);
	uint64_t b = pcid_choose(&p, 2, 10);

	(void)state;
	assert_int_equal(a & PCID_KEEP, 0);
	assert_int_equal(b & PCID_KEEP, 0);
	assert_true(a != 0 && b != 0 && a != b);
	assert_int_equal(pcid_choose(&p, 1, 10), a | PCID_KEEP);
	assert_int_equal(pcid_choose(&p, 2, 10), b | PCID_KEEP);
	/* Once flushed elsewhere: forgotten, once. */
	assert_int_equal(pcid_choose(&p, 1, 11), a);
	assert_int_equal(pcid_choose(&p, 1, 11), a | PCID_KEEP);
	assert_int_equal(pcid_choose(&p, 2, 10), b | PCID_KEEP);
}

static void who_gives_way_is_forgotten(void **state)
{
	struct pcids p = {0};
	uint64_t of[PCID_SLOTS + 1];

	(void)state;
	for (unsigned i = 0; i <= PCID_SLOTS; i++) {
		of[i] = pcid_choose(&p, i + 1, 0);
		assert_int_equal(of[i] & PCID_KEEP, 0);
		assert_in_range(of[i], 1, PCID_SLOTS);
		for (unsigned j = 0; j < i && i < PCID_SLOTS; j++) {
			assert_int_not_equal(of[i], of[j]);
		}
	}
	assert_int_equal(of[PCID_SLOTS], of[0]);
	/* The first one comes back to another place, and finds nothing there. */
	assert_int_equal(pcid_choose(&p, 1, 0), of[1]);
	assert_int_equal(pcid_choose(&p, PCID_SLOTS + 1, 0), of[0] | PCID_KEEP);
}

/* The number may be any, the one that stands in an empty place as well. */
static void a_new_space_keeps_nothing(void **state)
{
	static const uint64_t seqs[] = {0, 1, UINT64_MAX};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(seqs); i++) {
		struct pcids p = {0};

		assert_int_equal(pcid_choose(&p, 5, seqs[i]), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_has_not_changed_is_kept),
		cmocka_unit_test(who_gives_way_is_forgotten),
		cmocka_unit_test(a_new_space_keeps_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
