/*
 * /init on core-provoke.elf: has the kernel do what its argument names (tests/core/provoke.h), or
 * with "umip" does by itself what ring 3 must not; says "went on" if nothing came of it.
 */
#include "tests/core/provoke.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
#define NAME(name) #name,
	PROVOKE_LIST(NAME)};

static sigjmp_buf back;

static void on_fault(int signo)
{
	(void)signo;
	siglongjmp(back, 1);
}

/* What the kernel is given to call, read and write: of pages that are there. */
__attribute__((noinline)) static void function_of_ring_3(void)
{
	asm volatile("");
}

static void say(const char *what, const char *result)
{
	printf("%s: %s\n", what, result);
	fflush(stdout);
}

#define TRY(name, operands)                       \
	do {                                      \
		if (sigsetjmp(back, 1) == 0) {    \
			asm volatile operands;    \
			say(name, "went on");     \
		} else {                          \
			say(name, "was refused"); \
		}                                 \
	} while (0)

static void try_umip(void)
{
	char table[16];
	unsigned long word;

	signal(SIGSEGV, on_fault);
	TRY("sgdt", ("sgdt %0" : "=m"(table)));
	TRY("sidt", ("sidt %0" : "=m"(table)));
	TRY("sldt", ("sldt %0" : "=r"(word)));
	TRY("str", ("str %0" : "=r"(word)));
	TRY("smsw", ("smsw %0" : "=r"(word)));
}

int main(int argc, char **argv)
{
	static volatile char data[1];
	cpu_set_t last;

	/* The last processor: not the one that started the others, if there are others. */
	CPU_ZERO(&last);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	if (sched_setaffinity(0, sizeof(last), &last) != 0) {
		return 2;
	}

	if (argc == 2 && strcmp(argv[1], "umip") == 0) {
		try_umip();
		return 0;
	}
	for (unsigned i = 0; argc == 2 && i < PROVOKE_COUNT; i++) {
		if (strcmp(argv[1], names[i]) == 0) {
			function_of_ring_3();
			data[0] = 1;
			syscall(PROVOKE_CALL, i,
				i == PROVOKE_execute_user ? (void *)function_of_ring_3
							  : (void *)data);
			say(argv[1], "went on");
			return 0;
		}
	}
	return 2;
}
