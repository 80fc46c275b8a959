#include "soft/translate/check.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "soft/translate/test_translator.h"
#include "tests/unit.h"

static struct st_translator *t;

static int set_up(void **state)
{
	(void)state;
	t = test_translator();
	return t != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	test_translator_free(t);
	return 0;
}

/* The block of some code, which ends by UD2. */
#define BLOCK(...)                                                \
	test_block(t, (const uint8_t[]){__VA_ARGS__, 0x0f, 0x0b}, \
		   sizeof((uint8_t[]){__VA_ARGS__, 0x0f, 0x0b}), 0)

static void what_is_made_is_allowed(void **state)
{
	(void)state;
	assert_true(st_check_block(t, BLOCK(0x48, 0x89, 0x07), NULL)); /* mov %rax, (%rdi) */
	assert_true(
		st_check_block(t, BLOCK(0x4c, 0x8b, 0x4c, 0x24, 8), NULL)); /* mov 8(%rsp), %r9 */
	assert_true(st_check_block(t, BLOCK(0x53, 0x5b, 0xc3), NULL)); /* push, pop %rbx; ret */
	assert_true(st_check_block(t, BLOCK(0xf0, 0x48, 0x0f, 0xab, 0x07), NULL)); /* lock bts */
	assert_true(st_check_block(t, BLOCK(0x0f, 0x10, 0x06, 0x74, 0xfb), NULL)); /* movups; je */
	assert_true(st_check_block(t, BLOCK(0xf3, 0xa4, 0x9c, 0xff, 0xe0), NULL));
	/* push four registers; add, mov, movaps by one register */
	assert_true(st_check_block(t, BLOCK(0x53, 0x55, 0x41, 0x54, 0x41, 0x51, 0xc3), NULL));
	assert_true(st_check_block(
		t, BLOCK(0x01, 0x47, 8, 0x8b, 0x0f, 0x0f, 0x28, 0x47, 16, 0xff, 0x57, 32), NULL));
	assert_true(st_check_block(t, BLOCK(0x13, 0x07, 0xe8, 0, 1, 0, 0), NULL)); /* adc; call */
}

/* Other instructions in the place of some that were made, behind the guard. */
static void put_instead(struct st_block *b, const uint8_t *code, size_t len, uint32_t at)
{
	memcpy(t->rx - t->em.to_rx + b->entry + at, code, len);
}

#define INSTEAD(b, at, ...) \
	put_instead((b), (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), (at))

static void other_memory_is_refused(void **state)
{
	struct st_block *b;

	(void)state;
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0x48, 0x29, 0xd8); /* sub %rbx, %rax: why not */
	assert_true(st_check_block(t, b, NULL));
	INSTEAD(b, 0, 0x89, 0x07, 0x90); /* mov %eax, (%rdi) */
	assert_false(st_check_block(t, b, NULL));
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0x41, 0x89, 0x02); /* mov %eax, (%r10): nothing was looked up */
	assert_false(st_check_block(t, b, NULL));
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0x50, 0x58, 0x90); /* push, pop %rax */
	assert_false(st_check_block(t, b, NULL));
}

static void other_instructions_are_refused(void **state)
{
	struct st_block *b;

	(void)state;
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0x0f, 0x05, 0x90); /* syscall */
	assert_false(st_check_block(t, b, NULL));
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0xff, 0xe0, 0x90); /* jmp *%rax */
	assert_false(st_check_block(t, b, NULL));
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0xc3, 0x90, 0x90); /* ret */
	assert_false(st_check_block(t, b, NULL));
	b = BLOCK(0x48, 0x01, 0xd8);
	INSTEAD(b, 0, 0xcd, 0x80, 0x90); /* int $0x80 */
	assert_false(st_check_block(t, b, NULL));
}

/* A look-up for 4 bytes is none for 8, one for reading is none for writing. */
static void more_than_was_looked_up_is_refused(void **state)
{
	struct st_block *b;
	uint8_t *code;
	unsigned found = 0;

	(void)state;
	b = BLOCK(0x8b, 0x07, 0x01, 0xc0); /* mov (%rdi), %eax; add %eax, %eax: flags are dead */
	assert_true(st_check_block(t, b, NULL));
	code = t->rx - t->em.to_rx + b->code;
	for (uint32_t i = 0; i + 3 <= b->code_end - b->code; i++) {
		if (code[i] == 0x41 && code[i + 1] == 0x8b && code[i + 2] == 0x02) {
			code[i] = 0x49;
			assert_false(st_check_block(t, b, NULL));
			code[i] = 0x41;
			code[i + 1] = 0x89;
			assert_false(st_check_block(t, b, NULL));
			code[i + 1] = 0x8b;
			found++;
		}
	}
	assert_int_equal(found, 1);
	assert_true(st_check_block(t, b, NULL));
}

/* Where @bytes, which occur once, are in the block's code. */
static uint8_t *find_code(const struct st_block *b, const uint8_t *bytes, size_t len)
{
	const uint32_t parts[2][2] = {{b->code, b->code_end}, {b->cold, b->cold_end}};
	uint8_t *found = NULL;

	for (unsigned k = 0; k < 2; k++) {
		uint8_t *code = t->rx - t->em.to_rx + parts[k][0];

		for (uint32_t i = 0; i + len <= parts[k][1] - parts[k][0]; i++) {
			if (memcmp(code + i, bytes, len) == 0) {
				assert_null(found);
				found = code + i;
			}
		}
	}
	assert_non_null(found);
	return found;
}

#define FIND(b, ...) \
	find_code((b), (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

/* mov %rax, 16(%rdi); mov (%rdi), %rbx; mov %rcx, 24(%rdi): 32 bytes from RDI. */
static void windows_are_not_left(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x48, 0x89, 0x47, 16, 0x48, 0x8b, 0x1f, 0x48, 0x89, 0x4f, 24, 0x31, 0xc0);
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x49, 0x89, 0x4a, 24); /* mov %rcx, 24(%r10) */
	at[3] = 25;
	assert_false(st_check_block(t, b, NULL));
	at[3] = 0xff;
	assert_false(st_check_block(t, b, NULL));
	at[3] = 24;
	assert_true(st_check_block(t, b, NULL));
	/* Of bytes that may be read only. */
	b = BLOCK(0x48, 0x8b, 0x47, 16, 0x48, 0x8b, 0x1f, 0x31, 0xc0);
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x49, 0x8b, 0x1a); /* mov (%r10), %rbx */
	at[1] = 0x89;
	assert_false(st_check_block(t, b, NULL));
}

/* mov %rax, (%rdi); mov (%rsi), %rbx; mov %rcx, 8(%rdi): the window waits in the frame. */
static void only_what_was_looked_up_is_kept(void **state)
{
	const uint8_t field = offsetof(struct st_frame, window_at);
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x48, 0x89, 0x07, 0x48, 0x8b, 0x1e, 0x48, 0x89, 0x4f, 8, 0x31, 0xc0);
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x65, 0x4c, 0x89, 0x14, 0x25, field, 0, 0, 0); /* mov %r10, %gs:.. */
	at[3] = 0x1c;						    /* %r11 */
	assert_false(st_check_block(t, b, NULL));
	at[3] = 0x14;
	at = FIND(b, 0x65, 0x4c, 0x8b, 0x14, 0x25, field, 0, 0, 0);
	at[5] = (uint8_t)(field + 8); /* another window, which is not open */
	assert_false(st_check_block(t, b, NULL));
	at[5] = field;
	assert_true(st_check_block(t, b, NULL));
}

/* A loop is there eight times, and looks once: 1: mov (%rsi), %eax; add $4, %rsi; dec %ecx; jnz 1b
 */
static void rounds_stay_in_their_window(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x8b, 0x06, 0x48, 0x83, 0xc6, 4, 0xff, 0xc9, 0x75, 0xf6);
	assert_true(st_check_block(t, b, NULL));
	FIND(b, 0xc4, 0x43, 0xfb, 0xf0, 0xda, 9); /* rorx $9, %r10, %r11, of the look-up */
	FIND(b, 0x41, 0x8b, 0x02);		  /* mov (%r10), %eax */
	FIND(b, 0x41, 0x8b, 0x42, 4);
	FIND(b, 0x41, 0x8b, 0x42, 24);
	at = FIND(b, 0x41, 0x8b, 0x42, 28);
	at[3] = 29;
	assert_false(st_check_block(t, b, NULL));
	/* Once, if nobody knows how far it goes: add %rax, %rsi; and where it closes another loop.
	 */
	b = BLOCK(0x8b, 0x06, 0x48, 0x01, 0xc6, 0xff, 0xc9, 0x75, 0xf7);
	assert_true(st_check_block(t, b, NULL));
	FIND(b, 0xff, 0xc9);
	b = BLOCK(0x90, 0x8b, 0x06, 0x48, 0x83, 0xc6, 4, 0xff, 0xc9, 0x75, 0xf6);
	assert_true(st_check_block(t, b, NULL));
	FIND(b, 0xff, 0xc9);
}

/* call; what is behind it does not matter */
static void the_shadow_stack_is_kept(void **state)
{
	const uint8_t limit = (uint8_t)offsetof(struct st_frame, shadow_limit);
	const uint8_t limit_high = (uint8_t)(offsetof(struct st_frame, shadow_limit) >> 8);
	struct st_block *b;
	uint8_t *at, was;

	(void)state;
	b = BLOCK(0x31, 0xc0, 0xe8, 0, 1, 0, 0); /* xor; call */
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x41, 0x53, 0xe8); /* push %r11; call */
	at[1] = 0x50;			/* %r8 */
	assert_false(st_check_block(t, b, NULL));
	at[1] = 0x53;
	at[2] = 0xe9; /* jmp: a return address is missing */
	assert_false(st_check_block(t, b, NULL));
	at[2] = 0xe8;
	was = at[3];
	at[3] = 0; /* to the middle of something */
	assert_false(st_check_block(t, b, NULL));
	at[3] = was;
	at[0] = at[1] = 0x90; /* no entry */
	assert_false(st_check_block(t, b, NULL));
	at[0] = 0x41;
	at[1] = 0x53;
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x65, 0x48, 0x3b, 0x24, 0x25, limit, limit_high, 0, 0); /* cmp */
	at[5] = (uint8_t)(limit + 8); /* something else than the limit */
	assert_false(st_check_block(t, b, NULL));
	at[5] = limit;
	at[10] = 0x83; /* jae */
	assert_false(st_check_block(t, b, NULL));
	at[10] = 0x82;
	at = FIND(b, 0x65, 0x48, 0x8b, 0x24, 0x25, (uint8_t)(limit - 8), limit_high, 0, 0);
	at[5] = (uint8_t)(limit + 16); /* RSP is something else than the base */
	assert_false(st_check_block(t, b, NULL));
	at[5] = (uint8_t)(limit - 8);
	assert_true(st_check_block(t, b, NULL));
}

static void returns_are_of_entries(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x31, 0xc0, 0xc3); /* xor; ret */
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0xc2, 8, 0); /* ret $8 */
	at[1] = 16;
	assert_false(st_check_block(t, b, NULL));
	at[1] = 8;
	at = FIND(b, 0x4c, 0x3b, 0x54, 0x24, 8); /* cmp 8(%rsp), %r10 */
	at[4] = 16;
	assert_false(st_check_block(t, b, NULL));
	at[4] = 8;
	at[2] = 0x5c; /* %r11 */
	assert_false(st_check_block(t, b, NULL));
	at[2] = 0x54;
	at[5] = 0x74; /* je */
	assert_false(st_check_block(t, b, NULL));
	at[5] = 0x75;
	assert_true(st_check_block(t, b, NULL));
	/* The table of another view. */
	at = FIND(b, 0xc2, 8, 0, 0x41, 0xbb, 8, 0, 0, 0, 0xe8) + 10; /* mov, call */
	store_le32(at,
		   load_le32(at) + (uint32_t)(t->lookup[ST_VIEW_KERNEL] - t->lookup[ST_VIEW_USER]));
	assert_false(st_check_block(t, b, NULL));
}

static void the_table_has_an_end(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x31, 0xc0, 0xff, 0xe0); /* xor; jmp *%rax */
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x41, 0x81, 0xe3, 0xf0, 0xff, 7, 0); /* and $.., %r11d */
	at[5] = 0x0f;
	assert_false(st_check_block(t, b, NULL));
	at[5] = 7;
	assert_true(st_check_block(t, b, NULL));
	b = BLOCK(0x31, 0xc0, 0xff, 0xd0); /* call *%rax */
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x41, 0x52, 0x65); /* push %r10; call *.. */
	at[0] = at[1] = 0x90;
	assert_false(st_check_block(t, b, NULL));
}

/* The flags of PUSHFQ are gone before anything else is done with the stack. */
static void flags_do_not_stay(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x01, 0xc8, 0x9c, 0x74, 0x10); /* add; pushf; je */
	assert_true(st_check_block(t, b, NULL));
	at = FIND(b, 0x9c);
	*at = 0x90;
	assert_false(st_check_block(t, b, NULL));
	*at = 0x9c;
	at = FIND(b, 0x9d);
	*at = 0x90;
	assert_false(st_check_block(t, b, NULL));
	*at = 0x9c;
	assert_false(st_check_block(t, b, NULL));
	*at = 0x9d;
	assert_true(st_check_block(t, b, NULL));
}

/* What C calls by, and where stacks are, is not for blocks to write to. */
static void most_of_the_frame_is_not_theirs(void **state)
{
	struct st_block *b;
	uint8_t *at;

	(void)state;
	b = BLOCK(0x4d, 0x89, 0xd3, 0x31, 0xc0); /* mov %r10, %r11 */
	at = FIND(b, 0x65, 0x4c, 0x89, 0x1c, 0x25, offsetof(struct st_frame, gpr[11]), 0, 0, 0);
	assert_true(st_check_block(t, b, NULL));
	for (size_t field = offsetof(struct st_frame, fpu); field < offsetof(struct st_frame, view);
	     field++) {
		store_le32(at + 5, (uint32_t)field);
		assert_false(st_check_block(t, b, NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_made_is_allowed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_memory_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_instructions_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_than_was_looked_up_is_refused, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(windows_are_not_left, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rounds_stay_in_their_window, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_what_was_looked_up_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_shadow_stack_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(returns_are_of_entries, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_table_has_an_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(flags_do_not_stay, set_up, tear_down),
		cmocka_unit_test_setup_teardown(most_of_the_frame_is_not_theirs, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
