/*
 * Little-endian loads and stores at any alignment, for wire formats and device registers.
 */
#pragma once

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Yado runs on little-endian hosts");

static inline uint16_t load_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t load_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t load_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void store_le16(void *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_le32(void *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void store_le64(void *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

/**
 * load_le() - the low @len bytes (1 to 8) at @p as a number; bytes above are zero.
 */
static inline uint64_t load_le(const void *p, unsigned len)
{
	uint64_t v = 0;
	memcpy(&v, p, len);
	return v;
}

/** store_le() - the low @len bytes (1 to 8) of @v to @p. */
static inline void store_le(void *p, uint64_t v, unsigned len)
{
	memcpy(p, &v, len);
}
