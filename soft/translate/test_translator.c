#include "soft/translate/test_translator.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit.h"

struct st_translator *test_translator(void)
{
	struct st_translator *t = aligned_alloc(_Alignof(struct st_translator), sizeof(*t));

	if (t == NULL) {
		return NULL;
	}
	memset(t, 0, sizeof(*t));
	if (st_cache_init(t) != 0) {
		free(t);
		return NULL;
	}
	st_frame_init(t->frame, true);
	t->nframes = 1;
	st_common(t);
	st_reset(t);
	return t;
}

void test_translator_free(struct st_translator *t)
{
	st_cache_fini(t);
	free(t);
}

struct st_block *test_block(struct st_translator *t, const uint8_t *code, size_t len,
			    unsigned offset)
{
	static uint8_t page[4096];
	uint32_t number;

	memset(page, 0, sizeof(page));
	memcpy(page, code, len);
	number = st_translate(t,
			      &(struct st_source){.page = 0x7000,
						  .linear = TEST_RIP,
						  .map = st_map(t, TEST_RIP, 0x7000),
						  .amd = true,
						  .bytes = page,
						  .length = sizeof(page)},
			      offset, INSN_64 | ST_MODE_USER | ST_MODE_SSE);
	assert_true(number != ST_NONE);
	return &t->blocks[number];
}
