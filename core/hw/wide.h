/* Atomic compare and exchange of 1 to 16 bytes, of a length known only when it runs. */
#pragma once

#include "lib/base/types.h"

#define WIDE_CMPXCHG(type)                                                                     \
	do {                                                                                   \
		type expected = *(const type *)old;                                            \
                                                                                               \
		return __atomic_compare_exchange_n((type *)p, &expected, *(const type *)new,   \
						   false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
	} while (0)

/**
 * wide_cmpxchg() - @p is aligned to @bytes: 1, 2, 4, 8, 16.
 * Return: was it @old, and is @new now?
 */
static inline bool wide_cmpxchg(void *p, const void *old, const void *new, unsigned bytes)
{
	const uint64_t *o = old, *n = new;
	uint64_t low, high;
	bool done;

	switch (bytes) {
	case 1:
		WIDE_CMPXCHG(uint8_t);
	case 2:
		WIDE_CMPXCHG(uint16_t);
	case 4:
		WIDE_CMPXCHG(uint32_t);
	case 8:
		WIDE_CMPXCHG(uint64_t);
	default:
		low = o[0];
		high = o[1];
		__asm__ volatile("lock cmpxchg16b %1"
				 : "=@ccz"(done), "+m"(*(uint64_t(*)[2])p), "+a"(low), "+d"(high)
				 : "b"(n[0]), "c"(n[1])
				 : "memory");
		return done;
	}
}
