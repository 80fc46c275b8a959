/*
 * The translator against the interpreter: random programs on random states, then all registers,
 * flags, memory, accesses to a device and exceptions are compared. What differs is made as short as
 * it goes, and shown.
 *
 *	soft_engines_test			what the unit tests run
 *	soft_engines_test SEED COUNT [FIRST]	so many programs, from number FIRST (0) on
 *	soft_engines_test -k SEED COUNT [FIRST]	keeps translations from one program to the next,
 *						which has to notice that its code is another
 *	soft_engines_test -s SEED COUNT [FIRST]	so, too, in a cache that is full all the time
 *	soft_engines_test -e SEED COUNT [FIRST]	by translate-exact: flags at faults are compared
 */
#include <cpuid.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/insn/decode.h"
#include "tests/soft/program.h"
#include "tests/soft/witness.h"
#include "tests/unit.h"

#define SEED	1
#define COUNT	4000
#define SHOWN	10 /* differences, until it gives up */
#define FLAGS	UINT64_C(0x8d5)
#define FLAG_AF UINT64_C(0x10)
#define RFLAGS	(ARENA_FRAME + 4096 - 24) /* as an exception pushes it */

static struct arena interpreter, translator, exact;
static struct arena_start start;
static struct arena_end interpreted, translated, before;
static uint8_t ram_before[ARENA_RAM];
static struct program program;
static bool fresh = true; /* each program finds no translations of those before */
static const char *engine = "translate-checked";
static bool all_flags; /* at faults, too */
static unsigned mnemonics[INSN_NMNEMONICS];

static struct {
	unsigned run, ended, endless, different, places, lost;
	unsigned vectors[256];
} counts;

static bool host_is_amd(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;

	__get_cpuid(0, &a, &b, &c, &d);
	return c == 0x444d4163; /* "cAMD" */
}

/* The vector whose HLT it ended at, or 256. */
static unsigned vector_of(const struct arena_end *end)
{
	uint64_t rip = end->regs.rip - 1 - ARENA_HALTS;

	return end->result == KVM_EXIT_HLT && rip < 256 ? (unsigned)rip : 256;
}

/* Flags at a fault are those that the program could still have used: not compared. */
static void forget_flags(struct arena_end *end, uint8_t *ram)
{
	/* A shift, which code changes itself to, leaves AF to the CPU. */
	uint64_t flags = all_flags ? FLAG_AF : FLAGS;

	if (vector_of(end) == ARENA_END) {
		return;
	}
	end->regs.rflags &= ~flags;
	store_le64(ram + RFLAGS, load_le64(ram + RFLAGS) & ~flags);
}

/*
 * Where the last x87 instruction was and its operand, the translator may have forgotten; and of an
 * operand of an instruction before it, which segment it was in.
 */
static void forget_places(void)
{
	struct kvm_fpu *a = &interpreted.fpu, *b = &translated.fpu;
	uint64_t base = b->last_dp - a->last_dp;

	a->last_ip = b->last_ip == 0 ? 0 : a->last_ip;
	a->last_opcode = b->last_opcode == 0 ? 0 : a->last_opcode;
	if (b->last_dp == 0 || base == ARENA_FS || base == ARENA_GS) {
		a->last_dp = b->last_dp = 0;
	}
}

/* ---- comparison ---- */

static void say(FILE *out, const char *what, uint64_t interpreted, uint64_t translated)
{
	if (out != NULL) {
		fprintf(out, "  %s: %#" PRIx64 " interpreted, %#" PRIx64 " translated\n", what,
			interpreted, translated);
	}
}

static bool bytes_differ(FILE *out, const char *what, const void *a, const void *b, size_t len)
{
	const uint8_t *x = a, *y = b;
	char text[64];

	if (memcmp(a, b, len) == 0) {
		return false;
	}
	for (size_t i = 0, shown = 0; i < len && shown < 4; i += 8) {
		size_t n = len - i < 8 ? len - i : 8;

		if (memcmp(x + i, y + i, n) != 0) {
			snprintf(text, sizeof(text), "%s + %#zx", what, i);
			say(out, text, load_le(x + i, (unsigned)n), load_le(y + i, (unsigned)n));
			shown++;
		}
	}
	return true;
}

#define PART_DIFFERS(out, a, b, part) \
	bytes_differ((out), #part, &(a)->part, &(b)->part, sizeof((a)->part))

/* Return: is there a difference? It is said, if @out is not NULL. */
static bool compare(FILE *out)
{
	struct arena_end *a = &interpreted, *b = &translated;
	bool differs = false;

	forget_flags(a, interpreter.ram);
	forget_flags(b, translator.ram);
	forget_places();
	if (vector_of(a) != vector_of(b) || a->result != b->result) {
		say(out, "vector", vector_of(a), vector_of(b));
		say(out, "exit", (uint64_t)(int64_t)a->result, (uint64_t)(int64_t)b->result);
		differs = true;
	}
	differs |= PART_DIFFERS(out, a, b, exits);
	differs |= PART_DIFFERS(out, a, b, devices);
	differs |= PART_DIFFERS(out, a, b, regs);
	differs |= PART_DIFFERS(out, a, b, sregs);
	differs |= PART_DIFFERS(out, a, b, fpu);
	differs |= PART_DIFFERS(out, a, b, ymm_high);
	differs |= PART_DIFFERS(out, a, b, pkru);
	differs |= PART_DIFFERS(out, a, b, debugregs);
	differs |= PART_DIFFERS(out, a, b, events);
	differs |= bytes_differ(out, "memory", interpreter.ram, translator.ram, ARENA_RAM);
	return differs;
}

/* ---- arenas ---- */

static bool open_arenas(void)
{
	return arena_init(&exact, "translate-exact") && arena_init(&translator, engine) &&
	       arena_init(&interpreter, "interpret");
}

static void close_arenas(void)
{
	arena_fini(&interpreter);
	arena_fini(&translator);
	arena_fini(&exact);
}

static void on_tick(int number)
{
	(void)number;
}

/* In the test, for cmocka takes the signals when one starts. Return: false: not on this CPU. */
static bool start_arenas(void)
{
	struct sigaction action = {.sa_handler = on_tick};

	sigaction(SIGPROF, &action, NULL);
	if (!open_arenas()) {
		print_message("this CPU has no BMI2\n");
		return false;
	}
	return true;
}

/* ---- duels ---- */

/* Return: 0 no difference, 1 a difference, -1 nothing can be said. */
static int duel(FILE *out)
{
	program_write(&program, &start);
	/* Both: a REP that overwrites itself and comes to a page that is not mapped yet begins
	 * anew.
	 */
	if (fresh) {
		arena_forget(&interpreter);
		arena_forget(&translator);
	}
	if (!arena_run(&interpreter, &start, &interpreted) ||
	    !arena_run(&translator, &start, &translated)) {
		close_arenas();
		assert_true(open_arenas());
		return -1;
	}
	return compare(out) ? 1 : 0;
}

/*
 * The translator does not keep flags that no code needs which follows; should an instruction
 * overwrite that code by such as does, it has lost them. Return: is that the difference? Then the
 * program has changed itself, and there is none where all flags are kept.
 */
static bool has_lost_flags(void)
{
	bool same;

	if (memcmp(start.ram + ARENA_CODE, interpreter.ram + ARENA_CODE, ARENA_CODE_BYTES) == 0) {
		return false;
	}
	before = translated;
	memcpy(ram_before, translator.ram, ARENA_RAM);
	arena_forget(&exact);
	same = arena_run(&exact, &start, &translated);
	memcpy(translator.ram, exact.ram, ARENA_RAM);
	same = same && !compare(NULL);
	translated = before;
	memcpy(translator.ram, ram_before, ARENA_RAM);
	return same;
}

/* ---- what is left of a program that differs ---- */

static void shrink(void)
{
	bool changed = true;
	uint32_t rounds = program.rounds;

	program.rounds = 1;
	if (duel(NULL) != 1) {
		program.rounds = rounds;
	}
	while (changed) {
		changed = false;
		for (unsigned i = 0; i < program.ngroups; i++) {
			if (program.group[i].off) {
				continue;
			}
			program.group[i].off = true;
			if (duel(NULL) == 1) {
				changed = true;
			} else {
				program.group[i].off = false;
			}
		}
	}
}

static void show(uint64_t seed, uint64_t number)
{
	static const char *const modes[] = {"kernel", "user", "compat"};
	const uint64_t *gpr = (const uint64_t *)&start.regs;

	fprintf(stderr, "seed %" PRIu64 ", program %" PRIu64 ":\n", seed, number);
	compare(stderr);
	shrink();
	program_write(&program, &start);
	fprintf(stderr,
		" shortened, %s, %u rounds; rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 ...:\n ",
		modes[program.mode], program.rounds);
	for (unsigned i = 0; i < 16; i++) {
		fprintf(stderr, " %" PRIx64, gpr[i]);
	}
	fprintf(stderr, " rflags %llx\n", start.regs.rflags);
	program_print(stderr, &program, &start);
	if (duel(stderr) != 1) {
		fputs("  (it does not happen again)\n", stderr);
	}
}

static void run(uint64_t seed, uint64_t first, uint64_t count)
{
	bool amd = host_is_amd();
	struct random r;

	for (uint64_t i = first; i < first + count && counts.different < SHOWN; i++) {
		int outcome;

		random_begin(&r, seed, i);
		program_draw(&program, &start, &r, amd, mnemonics);
		outcome = duel(NULL);
		counts.run++;
		counts.endless += outcome < 0;
		counts.vectors[vector_of(&interpreted) & 255]++;
		counts.places += translated.fpu.last_ip != 0;
		if (outcome == 1 && has_lost_flags()) {
			counts.lost++;
		} else if (outcome == 1) {
			counts.different++;
			show(seed, i);
		}
	}
}

static void print_counts(void)
{
	unsigned kinds = 0;

	for (unsigned i = 0; i < INSN_NMNEMONICS; i++) {
		kinds += mnemonics[i] != 0;
	}
	print_message("%u programs, %u without end, %u different; %u kinds of instructions; they "
		      "ended by themselves %u times, by #PF %u, #GP %u, #UD %u, #DE %u, #MF %u, "
		      "#XM %u; %u times the last x87 instruction was known; %u lost flags by "
		      "changing themselves\n",
		      counts.run, counts.endless, counts.different, kinds,
		      counts.vectors[ARENA_END], counts.vectors[14], counts.vectors[13],
		      counts.vectors[6], counts.vectors[0], counts.vectors[16], counts.vectors[19],
		      counts.places, counts.lost);
}

static void use_exact(void)
{
	engine = "translate-exact";
	all_flags = true;
}

/* With this engine, handlers of faults find the flags of hardware. */
static void compare_exact(void)
{
	use_exact();
	memset(&counts, 0, sizeof(counts));
	assert_true(start_arenas());
	run(SEED, COUNT, COUNT);
	print_counts();
	assert_int_equal(counts.different + counts.lost, 0);
	assert_true(counts.vectors[14] > COUNT / 50);
	close_arenas();
}

static void test_engines(void **state)
{
	(void)state;
	if (!start_arenas()) {
		skip();
	}
	run(SEED, 0, COUNT);
	print_counts();
	assert_int_equal(counts.different, 0);
	assert_true(counts.endless < COUNT / 100);
	assert_true(counts.vectors[ARENA_END] > COUNT / 8);
	assert_true(counts.vectors[14] > COUNT / 50);
	assert_true(counts.places > COUNT / 200);
	assert_true(counts.lost <= COUNT / 2000);
	assert_true(witness_blocks() > COUNT);
	close_arenas();
	/* Not in a test of its own: cmocka would take the signals. */
	compare_exact();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_engines),
	};

	witness_begin();
	if (argc == 1) {
		return cmocka_run_group_tests(tests, NULL, NULL);
	}
	if (strcmp(argv[1], "-k") == 0 || strcmp(argv[1], "-s") == 0) {
		fresh = false;
		engine = argv[1][1] == 's' ? "translate-small" : engine;
		argv++;
		argc--;
	}
	if (strcmp(argv[1], "-e") == 0) {
		use_exact();
		argv++;
		argc--;
	}
	if (argc < 3) {
		fputs("usage: soft_engines_test [[-k | -s | -e] SEED COUNT [FIRST]]\n", stderr);
		return 2;
	}
	if (!start_arenas()) {
		return 77;
	}
	run(strtoull(argv[1], NULL, 0), argc > 3 ? strtoull(argv[3], NULL, 0) : 0,
	    strtoull(argv[2], NULL, 0));
	print_counts();
	return counts.different != 0;
}
