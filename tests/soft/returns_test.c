/*
 * Calls and returns that do not fit each other, under both engines: what translated code does about
 * returns (soft/translate/branch.c) is to be seen by nobody.
 */
#include <signal.h>
#include <string.h>

#include "tests/soft/arena.h"
#include "tests/unit.h"

#define STACK (ARENA_DATA + 8192)

/* More levels than there are entries: each adds 1 on its way in, 1000 on its way out. */
ARENA_PROGRAM(deep, "	mov $900, %ecx\n"
		    "	xor %eax, %eax\n"
		    "	call 1f\n"
		    "	int $0x80\n"
		    "1:	inc %eax\n"
		    "	dec %ecx\n"
		    "	jz 2f\n"
		    "	call 1b\n"
		    "	add $1000, %eax\n"
		    "2:	ret\n");

/* In each of 1000 rounds a CALL that nobody returns from, on each of three levels. */
ARENA_PROGRAM(popped, "	mov $1000, %ecx\n"
		      "	xor %eax, %eax\n"
		      "1:	call 2f\n"
		      "	dec %ecx\n"
		      "	jnz 1b\n"
		      "	int $0x80\n"
		      "2:	call 3f\n"
		      "	inc %eax\n"
		      "	ret\n"
		      "3:	call 4f\n"
		      "4:	pop %rdx\n"
		      "	call 5f\n"
		      "	add $16, %eax\n"
		      "	ret\n"
		      "5:	call 6f\n"
		      "6:	pop %rdx\n"
		      "	add $256, %eax\n"
		      "	ret\n");

/* 30 levels down and back by one step, 50 times. */
ARENA_PROGRAM(longjmp_, "	mov $50, %ecx\n"
			"	xor %eax, %eax\n"
			"1:	call 2f\n"
			"	dec %ecx\n"
			"	jnz 1b\n"
			"	int $0x80\n"
			"2:	mov %rsp, %rbp\n"
			"	mov $30, %edx\n"
			"	call 3f\n"
			"	ud2\n"
			"3:	inc %eax\n"
			"	dec %edx\n"
			"	jz 4f\n"
			"	call 3b\n"
			"	ud2\n"
			"4:	mov %rbp, %rsp\n"
			"	ret\n");

/* Two stacks, whose functions take turns. */
ARENA_PROGRAM(turns, "	lea -4096(%rsp), %rbx\n"
		     "	lea 3f(%rip), %rdx\n"
		     "	sub $8, %rbx\n"
		     "	mov %rdx, (%rbx)\n"
		     "	mov $200, %ecx\n"
		     "	xor %eax, %eax\n"
		     "1:	call 2f\n"
		     "	add $1, %eax\n"
		     "	dec %ecx\n"
		     "	jnz 1b\n"
		     "	int $0x80\n"
		     "2:	xchg %rsp, %rbx\n"
		     "	ret\n"
		     "3:	call 4f\n"
		     "	jmp 3b\n"
		     "4:	add $1000, %eax\n"
		     "	call 2b\n"
		     "	add $100000, %eax\n"
		     "	ret\n");

/* RET that drops arguments, RET as a jump, and a return address that was moved on. */
ARENA_PROGRAM(others, "	mov $300, %ecx\n"
		      "	xor %eax, %eax\n"
		      "1:	push $1\n"
		      "	push $2\n"
		      "	call 2f\n"
		      "	call 3f\n"
		      "	add $0x10000000, %eax\n"
		      "	lea 4f(%rip), %rdx\n"
		      "	push %rdx\n"
		      "	ret\n"
		      "	ud2\n"
		      "4:	dec %ecx\n"
		      "	jnz 1b\n"
		      "	int $0x80\n"
		      "2:	add 8(%rsp), %eax\n"
		      "	add 16(%rsp), %eax\n"
		      "	ret $16\n"
		      "3:	addq $5, (%rsp)\n" /* over the ADD */
		      "	ret\n");

/* The code that is returned to is written to meanwhile. */
ARENA_PROGRAM(written, "	mov $100, %ecx\n"
		       "	xor %eax, %eax\n"
		       "1:	call 2f\n"
		       "3:	.byte 5\n" /* add $.., %eax */
		       "	.long 0\n"
		       "	dec %ecx\n"
		       "	jnz 1b\n"
		       "	int $0x80\n"
		       "2:	mov %ecx, 3b+1(%rip)\n"
		       "	ret\n");

/* By a pointer, from two places, with the target in a register and in memory. */
ARENA_PROGRAM(pointers, "	mov $500, %ecx\n"
			"	xor %eax, %eax\n"
			"	lea 3f(%rip), %rdx\n"
			"	lea 4f(%rip), %rsi\n"
			"1:	call *%rdx\n"
			"	push %rdx\n"
			"	call *(%rsp)\n"
			"	pop %rdi\n"
			"	xchg %rdx, %rsi\n"
			"	dec %ecx\n"
			"	jnz 1b\n"
			"	int $0x80\n"
			"3:	add $1, %eax\n"
			"	ret\n"
			"4:	add $1000, %eax\n"
			"	ret\n");

static const struct {
	const char *name, *begin, *end;
	uint64_t rax;
} programs[] = {
	{"deep", deep, deep_end, 900 + 899 * 1000},
	{"popped", popped, popped_end, 1000 * (1 + 16 + 256)},
	{"longjmp", longjmp_, longjmp__end, 50 * 30},
	{"turns", turns, turns_end, 200 * 1001 + 199 * 100000},
	{"others", others, others_end, 300 * 3},
	{"written", written, written_end, 100 * 101 / 2},
	{"pointers", pointers, pointers_end, 500 * 1001},
};

static struct arena_start start;

static void on_tick(int number)
{
	(void)number;
}

static void under(const char *engine)
{
	struct sigaction action = {.sa_handler = on_tick};
	struct arena a;
	struct arena_end end;

	sigaction(SIGPROF, &action, NULL);
	if (!arena_init(&a, engine)) {
		skip();
	}
	/* The second time all of it is known. */
	for (unsigned i = 0; i < 2 * 2 * ARRAY_SIZE(programs); i++) {
		unsigned n = i / 4;

		memset(&start, 0, sizeof(start));
		arena_template(start.ram);
		start.mode = i % 4 < 2 ? ARENA_KERNEL : ARENA_USER;
		start.regs.rip = ARENA_CODE;
		start.regs.rsp = STACK;
		start.regs.rflags = 2;
		memcpy(start.ram + ARENA_CODE, programs[n].begin,
		       (size_t)(programs[n].end - programs[n].begin));
		assert_true(arena_run(&a, &start, &end));
		if (end.regs.rax != programs[n].rax) {
			print_error("%s, %s: %llx\n", engine, programs[n].name,
				    (unsigned long long)end.regs.rax);
		}
		assert_int_equal(end.regs.rax, programs[n].rax);
		assert_int_equal(end.regs.rip - ARENA_HALTS, ARENA_END + 1);
	}
	arena_fini(&a);
}

static void interpreted(void **state)
{
	(void)state;
	under("interpret");
}

static void translated(void **state)
{
	(void)state;
	under("translate-checked");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interpreted),
		cmocka_unit_test(translated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
