/*
 * The bare payloads (tests/guest/bare) under both engines of soft: each must end in the same state,
 * of the first vCPU and of memory, whoever executed it.
 *
 * Not all of a final state is the program's doing: there are readings of clocks in it. So each
 * payload runs under each engine several times, and only the words are compared that are the same
 * in all runs under one engine: a difference has to stay in a dozen. A payload that waits for
 * timers is compared by fewer words, no more. And a word of memory or of a general register that
 * may be RFLAGS as an exception pushed it may differ in the arithmetic flags: the translator does
 * not keep those that the program could not have used any more.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/types.h"
#include "tests/guest/bare/bare.h"
#include "tests/kvm/bare_machine.h"
#include "tests/kvm/saved.h"

#define RUNS_MIN   3	/* under each engine, where the first two differ */
#define RUNS_MAX   12	/* where the engines differ after these: readings may agree by chance */
#define PAGES_MAX  2048 /* that a payload may leave other than zero */
#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / 8)
#define SECONDS	   120
#define FLAGS	   UINT64_C(0x8d5)

/* What one run ended in. Shared with the child that ran it. The vCPU's general registers come
 * first. */
struct state {
	struct saved_vcpu vcpu;
	struct kvm_fpu fpu;
	uint32_t npages;
	uint32_t number[PAGES_MAX]; /* ascending */
	uint64_t page[PAGES_MAX][PAGE_WORDS];
};

#define FSW_ES		 0x80
#define IMAGE_FOP	 6 /* of the XSAVE area: Intel SDM vol. 1, "FXSAVE Area" */
#define IMAGE_MXCSR	 24
#define APIC_TMCCT	 0x390
#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0

_Static_assert(offsetof(struct state, vcpu.regs) == 0, "differs() tells them by their place");

static const char *const engines[] = {"soft:interpret", "soft:translate"};
static struct state *states[ARRAY_SIZE(engines)][RUNS_MAX];

/* ---- one run, in a process of its own ---- */

static void save_memory(struct state *state, const uint8_t *ram)
{
	static const uint8_t zero[PAGE_BYTES];

	for (uint32_t i = 0; i < BARE_RAM / PAGE_BYTES; i++) {
		const uint8_t *page = ram + (size_t)i * PAGE_BYTES;

		if (memcmp(page, zero, PAGE_BYTES) == 0) {
			continue;
		}
		expect(state->npages < PAGES_MAX);
		state->number[state->npages] = i;
		memcpy(state->page[state->npages++], page, PAGE_BYTES);
	}
}

/* Clocks' readings are nobody's doing. */
static void level_clocks(struct saved_vcpu *vcpu)
{
	vcpu->tsc_offset = 0;
	memset(vcpu->lapic.regs + APIC_TMCCT, 0, 4);
	for (uint32_t i = 0; i < vcpu->msr_count; i++) {
		struct kvm_msr_entry *msr = &vcpu->msrs[i];

		if (msr->index == MSR_TSC) {
			msr->data = 0;
		} else if (msr->index == MSR_TSC_DEADLINE) {
			msr->data = msr->data != 0; /* armed? */
		}
	}
}

/* CPUs of AMD's, and the translator, keep the last x87 instruction's address, operand and opcode
 * for exceptions that wait only. */
static void level_x87(struct state *state)
{
	uint8_t *image = (uint8_t *)state->vcpu.xsave;

	if ((state->fpu.fsw & FSW_ES) != 0) {
		return;
	}
	state->fpu.last_opcode = 0;
	state->fpu.last_ip = state->fpu.last_dp = 0;
	memset(image + IMAGE_FOP, 0, IMAGE_MXCSR - IMAGE_FOP);
}

static _Noreturn void run_here(struct state *state, const char *engine,
			       const struct bare_listed *listed)
{
	static struct bare_machine machine;

	door_set_path(engine);
	bare_machine_init(&machine, listed->name, listed->cpus,
			  (listed->needs & BARE_PC) != 0 ? IRQCHIP_FULL : IRQCHIP_SPLIT);
	while (bare_run(&machine) == 0) {
		/* It syncs with nobody here. */
	}
	saved_settle(machine.vm.vcpus[0]);
	saved_vcpu_take(&state->vcpu, machine.vm.vcpus[0]);
	must(kvm_ioctl(machine.vm.vcpus[0]->fd, KVM_GET_FPU, &state->fpu));
	level_clocks(&state->vcpu);
	level_x87(state);
	save_memory(state, machine.ram);
	test_pass();
}

/* Return: enum test_status. What the child says goes where our words go. */
static int run_apart(struct state *state, const char *engine, const struct bare_listed *listed)
{
	int status = 0;
	pid_t pid;

	memset(state, 0, offsetof(struct state, page));
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		fail("cannot start a process");
	}
	if (pid == 0) {
		alarm(SECONDS);
		run_here(state, engine, listed);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status)) {
		printf("killed by SIG%s: ", sigabbrev_np(WTERMSIG(status)));
		return TEST_FAILED;
	}
	return WEXITSTATUS(status);
}

/* ---- comparison ---- */

static const uint64_t *page_of(const struct state *state, uint32_t number)
{
	static const uint64_t zero[PAGE_WORDS];

	for (uint32_t i = 0; i < state->npages; i++) {
		if (state->number[i] == number) {
			return state->page[i];
		}
	}
	return zero;
}

/* One word of what is compared, in all runs; @rflags: it may be a copy of RFLAGS. Return: do the
 * engines differ? */
static bool word_differs(const uint64_t *words[][RUNS_MAX], unsigned runs, size_t at, bool rflags)
{
	uint64_t first[ARRAY_SIZE(engines)];

	for (size_t e = 0; e < ARRAY_SIZE(engines); e++) {
		first[e] = words[e][0][at];
		for (unsigned i = 1; i < runs; i++) {
			if (words[e][i][at] != first[e]) {
				return false; /* not the program's doing */
			}
		}
	}
	if (rflags && ((first[0] ^ first[1]) & ~FLAGS) == 0 && (first[0] & 2) != 0 &&
	    (first[0] >> 22) == 0) {
		return false;
	}
	return first[0] != first[1];
}

/* Return: is there a difference? The last time it is looked for, the first one is said. */
static bool differs(const char *name, unsigned runs)
{
	const size_t registers = offsetof(struct state, npages) / 8;
	const uint64_t *words[ARRAY_SIZE(engines)][RUNS_MAX];
	bool say = runs == RUNS_MAX;

	for (size_t e = 0; e < ARRAY_SIZE(engines); e++) {
		for (unsigned i = 0; i < runs; i++) {
			words[e][i] = (const uint64_t *)states[e][i];
		}
	}
	for (size_t at = 0; at < registers; at++) {
		if (word_differs(words, runs, at, at < sizeof(struct kvm_regs) / 8)) {
			if (say) {
				printf("FAIL  %s: byte 0x%zx of struct state: 0x%" PRIx64
				       " interpreted, 0x%" PRIx64 " translated\n",
				       name, at * 8, words[0][0][at], words[1][0][at]);
			}
			return true;
		}
	}
	for (uint32_t number = 0; number < BARE_RAM / PAGE_BYTES; number++) {
		for (size_t e = 0; e < ARRAY_SIZE(engines); e++) {
			for (unsigned i = 0; i < runs; i++) {
				words[e][i] = page_of(states[e][i], number);
			}
		}
		for (size_t at = 0; at < PAGE_WORDS; at++) {
			if (word_differs(words, runs, at, true)) {
				if (say) {
					printf("FAIL  %s: memory at 0x%zx: 0x%" PRIx64
					       " interpreted, 0x%" PRIx64 " translated\n",
					       name, (size_t)number * PAGE_BYTES + at * 8,
					       words[0][0][at], words[1][0][at]);
				}
				return true;
			}
		}
	}
	return false;
}

struct counts {
	unsigned same, different, skipped;
};

static void judge(struct counts *counts, const struct bare_listed *listed)
{
	bool different = true;

	for (unsigned i = 0; i < RUNS_MAX && different; i++) {
		for (size_t e = 0; e < ARRAY_SIZE(engines); e++) {
			int status = run_apart(states[e][i], engines[e], listed);

			if (status == TEST_SKIPPED) {
				printf("skip  %s\n", listed->name);
				counts->skipped++;
				return;
			}
			if (status != TEST_PASSED) {
				printf("FAIL  %s under %s\n", listed->name, engines[e]);
				counts->different++;
				return;
			}
		}
		if (i == 0 && memcmp(states[0][0], states[1][0], sizeof(struct state)) == 0) {
			different = false; /* needs no second opinion */
		} else if (i + 1 >= RUNS_MIN) {
			different = differs(listed->name, i + 1);
		}
	}
	if (different) {
		counts->different++;
	} else {
		counts->same++;
	}
}

int main(int argc, char **argv)
{
	struct counts counts = {0};
	struct bare_listed listed;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fputs("usage: soft-states [PAYLOAD]\n\nRuns the bare payloads that are for one "
		      "CPU, or the one, under both engines of soft,\nand compares what they end "
		      "in.\n",
		      stderr);
		return 2;
	}
	for (size_t i = 0; i < ARRAY_SIZE(engines) * RUNS_MAX; i++) {
		void *memory = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		expect(memory != MAP_FAILED);
		states[i / RUNS_MAX][i % RUNS_MAX] = memory;
	}
	for (size_t i = 0; bare_listed(i, &listed); i++) {
		/* What several CPUs do to memory has no order. */
		if (listed.cpus == 1 && (argc == 1 || strcmp(argv[1], listed.name) == 0)) {
			judge(&counts, &listed);
			fflush(stdout);
		}
	}
	printf("%u the same, %u different, %u skipped\n", counts.same, counts.different,
	       counts.skipped);
	return counts.different != 0 || counts.same == 0 ? 1 : 0;
}
