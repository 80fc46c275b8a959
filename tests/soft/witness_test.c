/* The witness sees what would be wrong: each case ends the process that it is in. */
#include "tests/soft/witness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "soft/translate/check.h"
#include "soft/translate/test_translator.h"
#include "tests/unit.h"

static struct st_translator *t;

static int set_up(void **state)
{
	(void)state;
	t = test_translator();
	if (t == NULL) {
		return -1;
	}
	witness_begin();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	test_translator_free(t);
	return 0;
}

/* mov %rax, (%rdi); add %rbx, %rax; mov 8(%rsp), %rcx; jmp to the next one, which is UD2 */
static const uint8_t code[] = {0x48, 0x89, 0x07, 0x48, 0x01, 0xd8, 0x48, 0x8b,
			       0x4c, 0x24, 0x08, 0xeb, 0x00, 0x0f, 0x0b};

static uint8_t *writable(uint32_t at)
{
	return t->rx - t->em.to_rx + at;
}

/* Does the witness let it pass? @link: that, of the block, else the block. */
static bool passes(const struct st_block *b, const struct st_link *link)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		if (freopen("/dev/null", "w", stderr) == NULL) {
			_exit(2);
		}
		if (link != NULL) {
			st_witness->link(t, b, link);
		} else {
			st_witness->block(t, b);
		}
		_exit(0);
	}
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_true(status == 0 || WIFSIGNALED(status));
	return status == 0;
}

static void what_is_made_passes(void **state)
{
	static const uint8_t more[] = {
		0x53, 0x55, 0xf0, 0x48, 0x0f, 0xab, 0x07, /* push; push; lock bts */
		0x0f, 0x10, 0x06, 0x74, 0xf4,		  /* movups; je */
		0xf3, 0xa4, 0x9c, 0xff, 0xd0,		  /* rep movsb; pushf; call *%rax */
	};
	struct st_block *b = test_block(t, code, sizeof(code), 0);

	(void)state;
	assert_true(passes(b, NULL));
	assert_true(passes(test_block(t, more, sizeof(more), 0), NULL));
	st_witness->block(t, b);
	assert_int_equal(witness_blocks(), 1);
	assert_true(witness_instructions() > 10);
}

/* Each instead of what ADD has become. */
static void what_is_wrong_does_not(void **state)
{
	static const uint8_t instead[][3] = {
		{0x0f, 0x05, 0x90}, /* syscall */
		{0x0f, 0x34, 0x90}, /* sysenter */
		{0xcd, 0x80, 0x90}, /* int $0x80 */
		{0xcc, 0x90, 0x90}, /* int3 */
		{0xee, 0x90, 0x90}, /* out %al, %dx */
		{0xf4, 0x90, 0x90}, /* hlt */
		{0xfd, 0x90, 0x90}, /* std */
		{0xfa, 0x90, 0x90}, /* cli */
		{0x8e, 0xe8, 0x90}, /* mov %eax, %gs */
		{0x0f, 0x22, 0xd8}, /* mov %rax, %cr3 */
		{0x0f, 0x01, 0xf8}, /* swapgs */
		{0x0f, 0x01, 0xd1}, /* xsetbv */
		{0x48, 0x89, 0x07}, /* mov %rax, (%rdi) */
		{0x48, 0x8b, 0x07}, /* mov (%rdi), %rax */
		{0x41, 0x89, 0x03}, /* mov %eax, (%r11) */
		{0x43, 0x88, 0x03}, /* another, with REX bits that say nothing */
		{0xaa, 0x90, 0x90}, /* stosb */
		{0xc3, 0x90, 0x90}, /* ret */
		{0xc2, 0x10, 0x00}, /* ret $16 */
		{0xff, 0xe0, 0x90}, /* jmp *%rax */
		{0xff, 0xd0, 0x90}, /* call *%rax */
		{0xeb, 0x7f, 0x90}, /* jmp to nowhere */
		{0xeb, 0xff, 0x90}, /* jmp into itself */
		{0xc9, 0x90, 0x90}, /* leave */
		{0x0f, 0x0b, 0x90}, /* ud2 */
		{0x06, 0x90, 0x90}, /* none at all */
		{0x49, 0x89, 0xc2}, /* mov %rax, %r10: what is behind uses it no more, see below */
	};
	struct st_block *b = test_block(t, code, sizeof(code), 0);
	uint8_t *at = writable(b->code), *end = writable(b->code_end);

	(void)state;
	while (at < end && memcmp(at, code + 3, 3) != 0) {
		at++;
	}
	assert_true(at < end);
	for (unsigned i = 0; i < ARRAY_SIZE(instead); i++) {
		memcpy(at, instead[i], 3);
		assert_int_equal(passes(b, NULL), i == ARRAY_SIZE(instead) - 1);
	}
	memcpy(at, code + 3, 3);
	assert_true(passes(b, NULL));
}

/* R10 is followed: what comes between the look-up and the access is seen. */
static void r10_is_followed(void **state)
{
	static const uint8_t nop7[] = {0x0f, 0x1f, 0x80, 0, 0, 0, 0};
	struct st_block *b = test_block(t, code, sizeof(code), 0);
	uint8_t *at = writable(b->code), *end = writable(b->code_end), *store;

	(void)state;
	/* mov %rax, (%r10) */
	for (store = at; store < end && memcmp(store, "\x49\x89\x02", 3) != 0; store++) {
	}
	assert_true(store < end);
	for (; at < store && memcmp(at, "\x65\x4d\x03\x93", 4) != 0 &&
	       memcmp(at, "\x4f\x8d\x14\x1a", 4) != 0;
	     at++) {
	}
	assert_true(at < store);
	if (at[0] == 0x65) {
		memcpy(at, nop7, 7); /* add %gs:..(%r11), %r10: 8 bytes */
		at[7] = 0x90;
	} else {
		memcpy(at, "\x4d\x8d\x1c\x1a", 4); /* lea to R11 */
	}
	assert_false(passes(b, NULL));
}

/* What others may not be told: the frame's other fields. */
static void the_frame_is_kept(void **state)
{
	/* mov %r10, %r11; xor; ud2 */
	static const uint8_t mov[] = {0x4d, 0x89, 0xd3, 0x31, 0xc0, 0x0f, 0x0b};
	struct st_block *b = test_block(t, mov, sizeof(mov), 0);
	uint8_t *at = writable(b->code), *end = writable(b->code_end);
	uint8_t store[9] = {0x65, 0x4c, 0x89, 0x1c, 0x25};

	(void)state;
	store_le32(store + 5, offsetof(struct st_frame, gpr[11]));
	for (; at < end && memcmp(at, store, sizeof(store)) != 0; at++) {
	}
	assert_true(at < end);
	assert_true(passes(b, NULL));
	store_le32(at + 5, offsetof(struct st_frame, slow));
	assert_false(passes(b, NULL));
	store_le32(at + 5, offsetof(struct st_frame, fpu) - 7);
	assert_false(passes(b, NULL));
	store_le32(at + 5, (uint32_t)-8);
	assert_false(passes(b, NULL));
	at[0] = 0x64; /* FS */
	store_le32(at + 5, offsetof(struct st_frame, gpr[11]));
	assert_false(passes(b, NULL));
}

static void the_common_code_is_seen(void **state)
{
	struct st_block *b = test_block(t, code, sizeof(code), 0);
	uint8_t *last = writable(t->start - 1);

	(void)state;
	assert_true(passes(b, NULL));
	assert_int_equal(*last, 0xc3);
	*last = 0xf4; /* hlt */
	assert_false(passes(b, NULL));
}

/* A jump is linked to beginnings of blocks only. */
static void links_are_seen(void **state)
{
	struct st_block *b = test_block(t, code, sizeof(code), 0);
	struct st_block *target;
	struct st_link *link = &t->link[b->first_link];
	uint8_t *behind;

	(void)state;
	assert_int_equal(b->links, 1);
	target = test_block(t, code, sizeof(code), (unsigned)(link->rip - TEST_RIP));
	if ((target->mode ^ b->mode) != link->how) {
		target->mode = b->mode | link->how;
	}
	t->checked = true;
	st_link_to(t, b, link, (uint32_t)(target - t->blocks));
	assert_true(st_check_link(t, b, link));
	assert_true(passes(b, link));
	behind = writable(link->behind);
	store_le32(behind - 4, load_le32(behind - 4) + 1);
	assert_false(st_check_link(t, b, link));
	assert_false(passes(b, link));
	store_le32(behind - 4, load_le32(behind - 4) - 1);
	assert_true(st_check_link(t, b, link));
	link->behind--;
	assert_false(st_check_link(t, b, link));
	assert_false(passes(b, link));
	link->behind++;
	link->rip++;
	assert_false(st_check_link(t, b, link));
	link->rip--;
	target->dead = true;
	assert_false(st_check_link(t, b, link));
	target->dead = false;
	target->mode ^= ST_MODE_AVX;
	assert_false(st_check_link(t, b, link));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_made_passes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_wrong_does_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(r10_is_followed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_frame_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_common_code_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(links_are_seen, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
