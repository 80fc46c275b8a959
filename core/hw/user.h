/*
 * Memory of ring 3, by its addresses, while its address space is loaded. Pages that are not there
 * yet come by faults, as if ring 3 itself had touched them. Addresses are hostile: anything that is
 * not ring 3's, or may not be touched so, is -EFAULT. Nothing else in the kernel goes through user
 * addresses; SMAP holds that.
 *
 * Context of all but the _nofault ones: a thread, interrupts on, no spinlock held.
 */
#pragma once

#include "lib/base/types.h"

#define USER_END UINT64_C(0x00007ffffffff000) /* first address that is not ring 3's */

/** user_range_ok() - do the addresses belong to ring 3? Not whether anything is there. */
static inline bool user_range_ok(uint64_t va, uint64_t len)
{
	return len <= USER_END && va <= USER_END - len;
}

/** user_read() / user_write() - @len bytes. Return: 0, or -EFAULT; then a part may have been
 * copied. */
must_use int user_read(void *to, uint64_t va, size_t len);
must_use int user_write(uint64_t va, const void *from, size_t len);

/** user_clear() - @len zero bytes. */
must_use int user_clear(uint64_t va, size_t len);

/** user_read_some() / user_write_some() - as user_read(). Return: how many bytes were copied before
 * the first bad address. */
size_t user_read_some(void *to, uint64_t va, size_t len);
size_t user_write_some(uint64_t va, const void *from, size_t len);

/**
 * user_read_string() - up to and with the terminating zero.
 * Return: its length without the zero; -EFAULT; -ENAMETOOLONG if there is no zero in @size bytes.
 */
must_use int64_t user_read_string(char *to, uint64_t va, size_t size);

/** user_get32() and so on - one number; alignment does not matter, but atomic only if aligned. */
must_use int user_get32(uint64_t va, uint32_t *value);
must_use int user_get64(uint64_t va, uint64_t *value);

/** user_get_word() - as user_get64(), for those who have no time: both in registers, and nobody
 * checks that the caller may sleep. Context: the beginning of a system call. */
struct user_word {
	int64_t error; /* or 0 */
	uint64_t value;
};
struct user_word user_get_word(uint64_t va);

/**
 * user_recheck() - two words of ring 3's at @at, if all of @step still have their values. Addresses
 * must be ring 3's.
 * @count: 2 to 4.
 * Return: zeros also if they have not, or something is not there.
 */
struct user_step {
	uint64_t at, value;
};
struct user_words {
	uint64_t word[2];
};
struct user_words user_recheck(const struct user_step *step, unsigned count, uint64_t at);

must_use int user_put32(uint64_t va, uint32_t value);
must_use int user_put64(uint64_t va, uint64_t value);

/**
 * user_get32_nofault() - for futexes, under a spinlock: no fault is served.
 * Return: 0; -EFAULT if the page is not mapped at this moment: give the lock up, user_get32(),
 * start again.
 */
must_use int user_get32_nofault(uint64_t va, uint32_t *value);

/**
 * user_cmpxchg32_nofault() - atomically: if *va is @expected it becomes @value.
 * @old: what was there.
 * Return: 0 (whether or not it matched) or -EFAULT, as user_get32_nofault(). @va is 4-aligned.
 */
must_use int user_cmpxchg32_nofault(uint64_t va, uint32_t expected, uint32_t value, uint32_t *old);

/** user_init() - start-up, after cpu_read_features(). */
void user_init(void);
