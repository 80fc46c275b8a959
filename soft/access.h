/*
 * Memory that may not be there: the VMM's, whatever it has made of it since. A fault in one of
 * these functions ends it with -EFAULT.
 */
#pragma once

#include "lib/base/types.h"

/** soft_access_init() - installs the handlers of SIGSEGV, SIGBUS, SIGFPE and
 * SIGILL, once. Return: 0 or -errno. */
must_use int soft_access_init(void);

/**
 * soft_access_hook() - who is asked about each SIGSEGV, SIGBUS, SIGFPE and SIGILL that is not of
 * these functions; once, before threads. It returns whether it was its own, after changing
 * @context.
 */
void soft_access_hook(bool (*hook)(int number, void *context));

/** soft_access_copy() - one of the sides is the VMM's, or both. Return: 0 or -EFAULT. */
must_use int soft_access_copy(void *to, const void *from, size_t bytes);

/** soft_access_fill() - @count times the low @bytes (1, 2, 4, 8) of @value. */
must_use int soft_access_fill(void *to, uint64_t value, unsigned bytes, size_t count);

/** soft_access_load() / _store() - as a copy, in one access if @bytes is 1, 2, 4 or 8. */
must_use int soft_access_load(void *to, const void *from, size_t bytes);
must_use int soft_access_store(void *to, const void *from, size_t bytes);

/** soft_access_load8() - of 8 bytes, without vector registers. */
must_use int soft_access_load8(void *to, const void *from);

/** soft_copy_bytes(), soft_fill1() to _fill8() - soft_access_copy(), _fill() without them. */
must_use int soft_copy_bytes(void *to, const void *from, size_t bytes);
must_use int soft_fill1(void *to, uint64_t value, size_t count);
must_use int soft_fill2(void *to, uint64_t value, size_t count);
must_use int soft_fill4(void *to, uint64_t value, size_t count);
must_use int soft_fill8(void *to, uint64_t value, size_t count);

/**
 * soft_access_xsavec(), soft_access_xrstor() - XSAVEC64, XRSTOR64 of @components at @area, of
 * 64-byte alignment. Return: 0 or -EFAULT, also if the image is one that XRSTOR refuses.
 */
must_use int soft_access_xsavec(void *area, uint64_t components);
must_use int soft_access_xrstor(const void *area, uint64_t components);

/**
 * soft_access_pkru() - adds @pkru to an image that XSAVEC has made without, @place bytes behind its
 * begin; if it is 0, only that the image has a place for it. Return: 0 or -EFAULT.
 */
must_use int soft_access_pkru(void *area, uint64_t place, uint32_t pkru);

/**
 * soft_access_same() - compares @count times 32 bytes, at least one, without vector registers.
 * Return: 0: they are equal; 1: they are not; -EFAULT.
 */
must_use int soft_access_same(const void *at, const void *bytes, size_t count);

/** soft_access_equal16() - 16 bytes of each. Return: a bit for each that is equal, or -EFAULT. */
must_use int soft_access_equal16(const void *at, const void *bytes);

/**
 * soft_access_cmpxchg() - LOCK CMPXCHG of 1, 2, 4, 8 or 16 bytes; only 16 have to be aligned.
 * Return: 0; -EAGAIN if there was not @old; -EFAULT; -EINVAL for another length.
 */
must_use int soft_access_cmpxchg(void *at, const void *old, const void *new, unsigned bytes);
