/*
 * What the translator knows is of one mode, and of one mapping: where these change, so does what
 * the guest finds.
 */
#include <cpuid.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/soft/arena.h"
#include "tests/unit.h"

#define STACK	  (ARENA_DATA + 8192)
#define DIRECTORY UINT64_C(0x6008)   /* in the arena's page directory: of the 2 MiB page at LARGE */
#define LARGE	  UINT64_C(0x200000) /* another linear address of all memory */
#define RIGHTS	  UINT64_C(7)	     /* present, for writing, for CPL 3 */
#define SEEN	  UINT64_C(0x60)     /* accessed, dirty */
#define PS	  UINT64_C(0x80)
#define FLAG_AC	  UINT64_C(0x40000)
#define EXC_NM	  7

/* The function is known when CR0.TS comes to forbid it. */
ARENA_PROGRAM(forbidden, "	mov $100, %ecx\n"
			 "	lea 2f(%rip), %rdx\n"
			 "1:	call *%rdx\n"
			 "	dec %ecx\n"
			 "	jnz 1b\n"
			 "	mov %cr0, %rax\n"
			 "	or $8, %rax\n"
			 "	mov %rax, %cr0\n"
			 "	call *%rdx\n"
			 "	int $0x80\n"
			 "2:	fld1\n"
			 "	fstp %st(0)\n"
			 "	ret\n");

/*
 * With RFLAGS.AC, CPL 0 reads by a large page for CPL 3, the first to do so; then there are small
 * ones in its place, and INVLPG names another part of it.
 */
ARENA_PROGRAM(split, "	mov %cr0, %rax\n"
		     "	btr $16, %rax\n" /* WP: the tables cannot be written to otherwise */
		     "	mov %rax, %cr0\n"
		     "	mov %cr4, %rax\n"
		     "	bts $21, %rax\n" /* SMAP */
		     "	mov %rax, %cr4\n"
		     "	mov (%rdi), %ebx\n"
		     "	mov %rdx, (%rsi)\n"
		     "	invlpg 0x1000(%rdi)\n"
		     "	mov (%rdi), %ecx\n"
		     "	mov %cr4, %rax\n"
		     "	btr $21, %rax\n"
		     "	mov %rax, %cr4\n"
		     "	int $0x80\n");

static struct arena_start start;

static void begin(const char *code, const char *end)
{
	memset(&start, 0, sizeof(start));
	arena_template(start.ram);
	start.mode = ARENA_KERNEL;
	start.regs.rip = ARENA_CODE;
	start.regs.rsp = STACK;
	start.regs.rflags = 2;
	memcpy(start.ram + ARENA_CODE, code, (size_t)(end - code));
}

/* Return: the vector that it ended with. */
static uint64_t run(const char *engine, struct arena_end *end)
{
	struct arena a;

	if (!arena_init(&a, engine)) {
		skip();
	}
	assert_true(arena_run(&a, &start, end));
	arena_fini(&a);
	assert_int_equal(end->result, KVM_EXIT_HLT);
	return end->regs.rip - 1 - ARENA_HALTS;
}

static const char *const engines[] = {"interpret", "translate-checked"};

static void calls_what_is_forbidden_by_now(void **state)
{
	struct arena_end end;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		begin(forbidden, forbidden_end);
		assert_int_equal(run(engines[i], &end), EXC_NM);
	}
}

static void forgets_all_of_a_large_page(void **state)
{
	unsigned a = 0, b = 0, c = 0, d = 0;
	struct arena_end end;

	(void)state;
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & UINT32_C(1) << 20) == 0) {
		skip(); /* no SMAP */
	}
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		begin(split, split_end);
		start.regs.rflags |= FLAG_AC;
		start.regs.rdi = LARGE + ARENA_DATA;
		start.regs.rsi = DIRECTORY;
		start.regs.rdx = ARENA_MORE | RIGHTS | SEEN;
		store_le64(start.ram + DIRECTORY, RIGHTS | PS);
		store_le64(start.ram + ARENA_MORE + 8 * (ARENA_DATA / 4096),
			   ARENA_FIXED | RIGHTS | SEEN);
		store_le32(start.ram + ARENA_DATA, 1);
		store_le32(start.ram + ARENA_FIXED, 2);
		assert_int_equal(run(engines[i], &end), ARENA_END);
		assert_int_equal(end.regs.rbx, 1);
		assert_int_equal(end.regs.rcx, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_what_is_forbidden_by_now),
		cmocka_unit_test(forgets_all_of_a_large_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
