#include "bench/micro/clock.h"

#define TRIES 32

int64_t clock_baseline(void)
{
	int64_t least = INT64_MAX;

	for (unsigned i = 0; i < TRIES; i++) {
		int64_t start = clock_ticks();
		int64_t ticks = clock_ticks() - start;

		if (ticks < least) {
			least = ticks;
		}
	}
	return least;
}

static int64_t spin_ticks(uint64_t loops)
{
	int64_t start = clock_ticks();

	clock_spin(loops);
	return clock_ticks() - start;
}

bool clock_counts_instructions(void)
{
	unsigned exact = 0;

	/* An interrupt of the host may come between; most of the time none does. */
	for (unsigned i = 0; i < TRIES; i++) {
		if (spin_ticks(2000) - spin_ticks(1000) == 2000) {
			exact++;
		}
	}
	return exact > TRIES / 2;
}
