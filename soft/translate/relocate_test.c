#include <stdlib.h>
#include <string.h>

#include "soft/translate/test_translator.h"
#include "tests/unit.h"

#define HERE  UINT64_C(0x00007f0012345000)
#define THERE UINT64_C(0x000055aa98765000)
#define MODE  (INSN_64 | ST_MODE_USER | ST_MODE_SSE)

/* call +11; lea 64(%rip), %rax; ret; nop; jne -4 (the ret); je -21 (the call); ud2 */
static const uint8_t code[] = {0xe8, 0x0b, 0,	 0,    0,    0x48, 0x8d, 0x05, 64,   0,	   0,
			       0,    0xc3, 0x90, 0x90, 0x90, 0x75, 0xfa, 0x74, 0xec, 0x0f, 0x0b};

static struct st_translator *t;
static uint8_t *page;

static int set_up(void **state)
{
	(void)state;
	t = test_translator();
	page = aligned_alloc(4096, 4096);
	if (t == NULL || page == NULL) {
		return -1;
	}
	memset(page, 0xcc, 4096);
	memcpy(page, code, sizeof(code));
	/* The first numbers of mappings are ones that instructions have in a byte. */
	for (uint64_t i = 0; i < 200; i++) {
		(void)st_map(t, i << 12, 0x7000);
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	test_translator_free(t);
	free(page);
	return 0;
}

/* What is executed at @linear is the page. */
static struct st_source source_at(uint64_t linear)
{
	struct st_source source = {.page = (uintptr_t)page,
				   .linear = linear,
				   .map = st_map(t, linear, (uintptr_t)page),
				   .amd = true,
				   .bytes = page,
				   .length = 4096};

	st_view_exec(&t->frame->view[ST_VIEW_USER], linear, source.map);
	return source;
}

/* A block at @offset of the page, for @linear, as the engine makes it. */
static uint32_t translated(uint64_t linear, unsigned offset, unsigned mode)
{
	struct st_source source = source_at(linear);
	struct st_page *known = st_page_make(t, source.page);
	uint32_t b = st_translate(t, &source, offset, mode);

	assert_non_null(known);
	assert_true(b != ST_NONE);
	memcpy(known->bytes, page, 4096);
	known->mask |= t->blocks[b].pieces;
	st_block_add(t, b, NULL);
	st_link_known(t, &t->blocks[b]);
	return b;
}

static uint32_t relocated(uint64_t linear, unsigned offset, unsigned mode)
{
	struct st_source source = source_at(linear);

	return st_relocate(t, &source, offset, mode);
}

/* In this mode of the translator each copy is compared with a translation. */
static void copies_are_what_is_translated(void **state)
{
	static const unsigned offsets[] = {0, 5, 12, 16, 18};

	(void)state;
	t->checked = true;
	for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (unsigned plain = 0; plain < 4; plain++) {
			unsigned mode = MODE | ((plain & 1) != 0 ? ST_MODE_PLAIN : 0) |
					((plain & 2) != 0 ? ST_MODE_SAVED : 0);

			(void)translated(HERE, offsets[i], mode);
			assert_true(relocated(THERE, offsets[i], mode) != ST_NONE);
			assert_true(st_find(t, (uintptr_t)page, THERE + offsets[i], mode) !=
				    ST_NONE);
		}
	}
	assert_true(st_find(t, (uintptr_t)page, THERE + 1, MODE) == ST_NONE);
}

/* The call's target is translated, and the call is linked to it: both come along, linked. */
static void what_it_led_to_comes_along(void **state)
{
	const struct st_block *copy;
	uint32_t target, b, at;

	(void)state;
	b = translated(HERE, 0, MODE);
	for (uint32_t i = 0; i < t->blocks[b].links; i++) {
		const struct st_link *link = &t->link[t->blocks[b].first_link + i];

		(void)translated(HERE, (unsigned)(link->rip - HERE), MODE | link->how);
	}
	/* Once more: what it leads to is there now. */
	st_link_known(t, &t->blocks[b]);
	at = relocated(THERE, 0, MODE);
	assert_true(at != ST_NONE);
	copy = &t->blocks[at];
	assert_int_equal(copy->linear, THERE);
	assert_int_equal(copy->links, t->blocks[b].links);
	assert_true(copy->links > 0);
	for (uint32_t i = 0; i < copy->links; i++) {
		const struct st_link *link = &t->link[copy->first_link + i];

		target = st_find(t, (uintptr_t)page, link->rip, MODE | link->how);
		assert_true(target != ST_NONE);
		assert_int_equal(link->rip & ~UINT64_C(4095), THERE);
		assert_int_equal(link->target, target);
	}
}

static void others_are_translated(void **state)
{
	(void)state;
	assert_true(relocated(THERE, 0, MODE) == ST_NONE); /* there is none yet */
	(void)translated(HERE, 0, MODE);
	assert_true(relocated(THERE, 0, MODE | ST_MODE_AVX) == ST_NONE);
	assert_true(relocated(THERE, 5, MODE) == ST_NONE);
	/* Its addresses would be shorter, or none. */
	assert_true(relocated(0x400000, 0, MODE) == ST_NONE);
	assert_true(relocated(UINT64_C(0xffffffffc0000000), 0, MODE) == ST_NONE);
	assert_true(relocated((UINT64_C(1) << 47) - 4096, 0, MODE) == ST_NONE);
	assert_true(relocated(THERE, 0, MODE) != ST_NONE);
}

static void what_was_written_to_is_not_copied(void **state)
{
	uint32_t b;

	(void)state;
	b = translated(HERE, 0, MODE);
	assert_true(st_verify(t, (uintptr_t)page));
	assert_false(t->blocks[b].dead);
	page[1000] ^= 1; /* no code of it */
	assert_true(st_verify(t, (uintptr_t)page));
	assert_false(t->blocks[b].dead);
	page[1] ^= 1;
	assert_true(st_verify(t, (uintptr_t)page));
	assert_true(t->blocks[b].dead);
	assert_true(relocated(THERE, 0, MODE) == ST_NONE);
}

/* Of a page that is doubted `exec` is 0 until it has been compared. */
static void doubt_ends_by_comparison(void **state)
{
	struct st_view *v = &t->frame->view[ST_VIEW_USER];
	unsigned slot = (HERE >> 12) % ST_EXEC;
	uint32_t b, map;

	(void)state;
	b = translated(HERE, 0, MODE);
	map = v->exec[slot];
	assert_true(map != 0);
	st_doubt_exec(v);
	assert_int_equal(v->exec[slot], 0);
	assert_int_equal(st_known_map(t, ST_VIEW_USER, HERE + 3), map);
	assert_int_equal(v->exec[slot], map);
	st_doubt_exec(v);
	page[0] = 0x90;
	assert_int_equal(st_known_map(t, ST_VIEW_USER, HERE), map);
	assert_true(t->blocks[b].dead);
	st_flush_page(v, HERE);
	assert_int_equal(st_known_map(t, ST_VIEW_USER, HERE), 0);
	(void)source_at(HERE);
	st_flush_exec(v);
	assert_int_equal(st_known_map(t, ST_VIEW_USER, HERE), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(copies_are_what_is_translated, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_it_led_to_comes_along, set_up, tear_down),
		cmocka_unit_test_setup_teardown(others_are_translated, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_was_written_to_is_not_copied, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(doubt_ends_by_comparison, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
