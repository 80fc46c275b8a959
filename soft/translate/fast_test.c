#include "soft/translate/fast.h"

#include <stdlib.h>
#include <string.h>

#include "soft/translate/translator.h"
#include "soft/vcpu.h"
#include "tests/unit.h"

#define SITE 0x1234

/* One of so many is the interpreter's, which counts it, too, and lets others run. */
static void pauses_leave_now_and_then(void **state)
{
	struct st_translator *t = aligned_alloc(_Alignof(struct st_translator), sizeof(*t));
	struct soft_vcpu *vcpu = aligned_alloc(_Alignof(struct soft_vcpu), sizeof(*vcpu));
	unsigned left = 0;

	(void)state;
	assert_non_null(t);
	assert_non_null(vcpu);
	memset(t, 0, sizeof(*t));
	memset(vcpu, 0, sizeof(*vcpu));
	assert_int_equal(st_cache_init(t), 0);
	t->frame->site = SITE;
	vcpu->translator = t;
	for (unsigned i = 1; i <= 10 * SOFT_PAUSES; i++) {
		uint64_t at = st_fast_system(vcpu, 0, ST_SYSTEM_PAUSE);

		if (at == 0) {
			assert_int_equal(i % SOFT_PAUSES, 0);
			assert_true(soft_vcpu_yields(vcpu));
			vcpu->pauses++;
			left++;
		} else {
			assert_int_equal(at, SITE);
		}
	}
	assert_int_equal(left, 10);
	st_cache_fini(t);
	free(vcpu);
	free(t);
}

/* Others than those of 64-bit mode are the interpreter's: not this one. */
static void pause_is_one_in_all_modes(void **state)
{
	static const uint8_t code[] = {0xf3, 0x90};
	struct insn insn;

	(void)state;
	assert_int_equal(insn_decode(&insn, INSN_64, code, sizeof(code)), INSN_OK);
	assert_int_equal(ST_SYSTEM_KIND(st_system_of(&insn, INSN_64 | ST_MODE_USER)),
			 ST_SYSTEM_PAUSE);
	assert_int_equal(insn_decode(&insn, INSN_32, code, sizeof(code)), INSN_OK);
	assert_int_equal(ST_SYSTEM_KIND(st_system_of(&insn, INSN_32)), ST_SYSTEM_PAUSE);
	assert_int_equal(insn_decode(&insn, INSN_64, code + 1, 1), INSN_OK);
	assert_int_equal(st_system_of(&insn, INSN_64), 0);
}

/* A window in a block may be what WRPKRU forbids: it ends it. */
static void wrpkru_ends_a_block(void **state)
{
	static const uint8_t read[] = {0x0f, 0x01, 0xee}, write[] = {0x0f, 0x01, 0xef};
	struct insn insn;

	(void)state;
	assert_int_equal(insn_decode(&insn, INSN_64, read, sizeof(read)), INSN_OK);
	assert_int_equal(ST_SYSTEM_KIND(st_system_of(&insn, INSN_64)), ST_SYSTEM_RDPKRU);
	assert_true(ST_SYSTEM_RDPKRU < ST_SYSTEM_ENDS);
	assert_int_equal(insn_decode(&insn, INSN_64, write, sizeof(write)), INSN_OK);
	assert_int_equal(ST_SYSTEM_KIND(st_system_of(&insn, INSN_64 | ST_MODE_USER)),
			 ST_SYSTEM_WRPKRU);
	assert_true(ST_SYSTEM_WRPKRU > ST_SYSTEM_ENDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pauses_leave_now_and_then),
		cmocka_unit_test(pause_is_one_in_all_modes),
		cmocka_unit_test(wrpkru_ends_a_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
