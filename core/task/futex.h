/*
 * Futexes: waiting until a word of user memory changes. A private futex is known by its address
 * space and address; a shared one by the physical page that holds it, which a waiter holds on to.
 */
#pragma once

#include "lib/base/types.h"

void futex_init(void);

#define FUTEX_ANY 0xffffffffu /* every bit: FUTEX_BITSET_MATCH_ANY */

/**
 * futex_wait() - sleeps if the word is @expected.
 * Return: 0 after a wake-up; -EAGAIN: the word differs; -EFAULT, -EINVAL; -ETIMEDOUT; -EINTR.
 */
must_use int futex_wait(uint64_t va, bool shared, uint32_t expected, uint32_t bits,
			uint64_t deadline_ns);

/** futex_wake() - wakes up to @count waiters that share a bit with @bits. Return: how many, or
 * -EFAULT, -EINVAL. */
int futex_wake(uint64_t va, bool shared, unsigned count, uint32_t bits);

/**
 * futex_requeue() - wakes up to @wake and makes up to @move others wait for @to.
 * @expected: NULL, or what the word must be: else -EAGAIN.
 * Return: how many were woken or moved, or -errno.
 */
int futex_requeue(uint64_t va, bool shared, unsigned wake, unsigned move, uint64_t to,
		  const uint32_t *expected);
