/* Numbers that look random and repeat exactly. */
#pragma once

#include <stdint.h>

struct random {
	uint64_t state;
};

/** random_begin() - the sequence number @n of those that @seed has. */
static inline void random_begin(struct random *r, uint64_t seed, uint64_t n)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + n;

	/* Of its neighbours a seed is to have nothing: the end of SplitMix64. */
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	r->state = x != 0 ? x : 1;
}

static inline uint64_t random_next(struct random *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state;
}

/** random_below() - 0 to @n - 1. */
static inline unsigned random_below(struct random *r, unsigned n)
{
	return (unsigned)(random_next(r) >> 20) % n;
}
