/*
 * The types and small helpers every part uses. An address is a one-field struct, so that mixing a
 * guest-physical with a guest-virtual or host-physical address does not compile.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A guest-physical address. */
typedef struct {
	uint64_t v;
} gpa_t;

/** A guest-virtual address. */
typedef struct {
	uint64_t v;
} gva_t;

/** A host-physical address. */
typedef struct {
	uint64_t v;
} hpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){v};
}

static inline gpa_t gpa_add(gpa_t a, uint64_t bytes)
{
	return (gpa_t){a.v + bytes};
}

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define BIT(n)	      (UINT64_C(1) << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/** ALIGN_UP() / ALIGN_DOWN() - to a power of two; the caller excludes overflow. */
#define ALIGN_DOWN(x, to) ((x) & ~((__typeof__(x))(to)-1))
#define ALIGN_UP(x, to)	  ALIGN_DOWN((x) + (__typeof__(x))(to)-1, to)

/** container_of() - the structure of @type whose @member is at @ptr. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/** must_use - the caller has to look at the result. */
#define must_use __attribute__((warn_unused_result))

/** rare - a function for what seldom happens: out of line, so that the usual way past it is short.
 */
#define rare __attribute__((cold, noinline))

/** printf_like() - lets the compiler check a format string. */
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

/**
 * range_end() - base + len, checked.
 * @end: set to the first byte after the range, when the sum does not wrap.
 * Return: false if base + len wraps around 2^64.
 */
static inline must_use bool range_end(uint64_t base, uint64_t len, uint64_t *end)
{
	return !__builtin_add_overflow(base, len, end);
}

/**
 * range_inside() - does [base, base+len) lie within [outer, outer+outer_len)?
 * Wrapping ranges lie in nothing.
 */
static inline must_use bool range_inside(uint64_t base, uint64_t len, uint64_t outer,
					 uint64_t outer_len)
{
	return base >= outer && len <= outer_len && base - outer <= outer_len - len;
}
