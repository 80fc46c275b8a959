/*
 * Memory of the guest that it touches for the first time, and the slots that it comes by.
 *
 * What the host has not touched it must clear: where instructions are counted, each byte that
 * REP STOSB writes is one. Linux with init_on_alloc=1 clears pages of 2 MiB twice.
 */
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "bench/micro/clock.h"
#include "bench/micro/machine.h"
#include "bench/micro/payload.h"
#include "bench/micro/row.h"

#define SMALL_BYTES   0x1000UL
#define LARGE_BYTES   0x200000UL
#define SMALL_SAMPLES 512
#define LARGE_SAMPLES 16
#define SLOT	      1
#define SLOT_SAMPLES  64
#define SLOT_BYTES    0x100000UL

/* Flags of the rows touch-*. */
#define LARGE	  1 /* the host uses pages of 2 MiB */
#define POPULATED 2 /* the host has its page already */

/* Memory of the host, and the part of it that a slot has. */
struct backing {
	uint8_t *mapped;
	size_t mapped_bytes;
	uint8_t *memory;
	size_t bytes;
};

/*
 * For small pages it lies one of them off the guest's pages of 2 MiB, so that no host can map it in
 * large ones.
 */
static enum verdict map_backing(struct backing *b, unsigned flags, size_t bytes,
				struct result *result)
{
	uintptr_t at;

	b->bytes = bytes;
	b->mapped_bytes = bytes + 2 * LARGE_BYTES;
	b->mapped = mmap(NULL, b->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (b->mapped == MAP_FAILED) {
		b->mapped = NULL;
		return result_errno(result, "mmap");
	}
	at = ((uintptr_t)b->mapped + LARGE_BYTES - 1) & ~(LARGE_BYTES - 1);
	b->memory = b->mapped + (at - (uintptr_t)b->mapped) + (flags & LARGE ? 0 : SMALL_BYTES);
	/* Advice that a host need not know; whether pages are large is seen by what they cost. */
	(void)madvise(b->mapped, b->mapped_bytes, flags & LARGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (flags & POPULATED) {
		memset(b->memory, 1, bytes);
	}
	return MEASURED;
}

static enum verdict touch_all(struct machine *m, const struct start *start, struct result *result)
{
	enum verdict verdict = machine_start(m, 0, start, result);

	return verdict == MEASURED ? machine_run_to_port(m, 0, PORT_DONE, result) : verdict;
}

/* A large page is there at once: a touch elsewhere in it costs next to nothing. */
static enum verdict check_large(struct machine *m, struct start start, struct result *result)
{
	static struct result again;
	enum verdict verdict;

	start.rbx += LARGE_BYTES / 2;
	verdict = touch_all(m, &start, result);
	if (verdict != MEASURED) {
		return verdict;
	}
	result_sort(result);
	again.count = 0;
	for (unsigned i = 0; i < start.samples; i++) {
		result_add(&again, machine_samples(m, 0)[i]);
	}
	result_sort(&again);
	if (again.ticks[again.count / 2] > result->ticks[result->count / 2] / 2) {
		return result_skip(result, "the host gave no pages of 2 MiB");
	}
	return MEASURED;
}

static enum verdict touch_in(struct machine *m, struct backing *b, unsigned flags,
			     struct result *result)
{
	bool large = (flags & LARGE) != 0;
	struct start start = {
		.routine = guest_touch,
		.samples = WARM_UP + (large ? LARGE_SAMPLES : SMALL_SAMPLES),
		.rbx = SLOT_GPA,
		.r12 = large ? LARGE_BYTES : SMALL_BYTES,
	};
	int64_t baseline = 0;
	enum verdict verdict = map_backing(b, flags, start.samples * start.r12, result);

	if (verdict == MEASURED &&
	    machine_add_slot(m->vm, SLOT, SLOT_GPA, b->memory, b->bytes) != 0) {
		verdict = result_errno(result, "KVM_SET_USER_MEMORY_REGION");
	}
	if (verdict == MEASURED) {
		verdict = machine_baseline(m, &baseline, result);
	}
	if (verdict == MEASURED) {
		verdict = touch_all(m, &start, result);
	}
	if (verdict == MEASURED) {
		machine_collect(m, 0, start.samples, baseline, result);
	}
	if (verdict == MEASURED && large) {
		verdict = check_large(m, start, result);
	}
	return verdict;
}

/* @variant: the flags. */
static enum verdict touch(const struct row *row, struct result *result)
{
	struct backing backing = {0};
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	if (verdict == MEASURED) {
		verdict = touch_in(&m, &backing, row->variant, result);
	}
	machine_destroy(&m);
	if (backing.mapped != NULL) {
		munmap(backing.mapped, backing.mapped_bytes);
	}
	return verdict;
}

enum {
	ADD,
	DELETE
};

/* @variant: which of the two is measured; the guest has touched all of the slot. */
static enum verdict add_and_delete(struct machine *m, uint8_t *memory, unsigned which,
				   int64_t *ticks, struct result *result)
{
	struct start start = {.routine = guest_touch,
			      .samples = SLOT_BYTES / SMALL_BYTES,
			      .rbx = SLOT_GPA,
			      .r12 = SMALL_BYTES};
	int64_t begin = clock_ticks();
	enum verdict verdict;

	if (machine_add_slot(m->vm, SLOT, SLOT_GPA, memory, SLOT_BYTES) != 0) {
		return result_errno(result, "KVM_SET_USER_MEMORY_REGION");
	}
	*ticks = clock_ticks() - begin;
	if (which == ADD) {
		verdict = MEASURED;
	} else {
		verdict = touch_all(m, &start, result);
	}
	begin = clock_ticks();
	if (verdict == MEASURED && machine_add_slot(m->vm, SLOT, SLOT_GPA, memory, 0) != 0) {
		return result_errno(result, "KVM_SET_USER_MEMORY_REGION of 0 bytes");
	}
	if (which == DELETE) {
		*ticks = clock_ticks() - begin;
	}
	return verdict;
}

static enum verdict slot(const struct row *row, struct result *result)
{
	int64_t baseline = clock_baseline();
	struct backing backing = {0};
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	if (verdict == MEASURED) {
		verdict = map_backing(&backing, POPULATED, SLOT_BYTES, result);
	}
	for (unsigned i = 0; i < WARM_UP + SLOT_SAMPLES && verdict == MEASURED; i++) {
		int64_t ticks = 0;

		verdict = add_and_delete(&m, backing.memory, row->variant, &ticks, result);
		if (verdict == MEASURED && i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	machine_destroy(&m);
	if (backing.mapped != NULL) {
		munmap(backing.mapped, backing.mapped_bytes);
	}
	return verdict;
}

const struct row memory_rows[] = {
	{"touch-4k", "first write to 4 KiB of guest memory that the host has not touched either",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", touch, NULL, 0},
	{"touch-4k-populated", "first write to 4 KiB of guest memory for which the host has a page",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", touch, NULL, POPULATED},
	{"touch-2m", "first write to a page of 2 MiB that the host has not touched either",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", touch, NULL, LARGE},
	{"touch-2m-populated", "first write to a page of 2 MiB which the host has",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", touch, NULL, LARGE | POPULATED},
	{"slot-add", "a slot of 1 MiB beside another, with one vCPU outside of KVM_RUN",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", slot, NULL, ADD},
	{"slot-delete", "the same slot's end, with all of it mapped in the guest",
	 "api.rst, KVM_SET_USER_MEMORY_REGION", slot, NULL, DELETE},
	{0},
};
