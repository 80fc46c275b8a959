/*
 * The state codec: one function per device describes its state, and the same function saves and
 * loads it, so that the two cannot drift apart.
 *
 *	void uart_state(struct uart *u, struct state *s)
 *	{
 *		uint32_t version = state_begin(s, "uart", 1);
 *		state_u8(s, &u->ier);
 *		if (version >= 2) { ... fields added later; defaults set before ... }
 *		state_end(s);
 *	}
 *
 * Wire format, little-endian, one section per device, sections may nest:
 *
 *	0       16        20       24
 *	+-------+---------+--------+----------------
 *	| name  | version | length | fields ...
 *	+-------+---------+--------+----------------
 *
 * A loaded stream is foreign data: every length is checked, and the first error sticks; after it
 * all calls do nothing and loads leave their variables alone. Values that a device cannot hold are
 * the device's to refuse, by state_fail().
 */
#pragma once

#include "lib/base/types.h"

#define STATE_NAME_MAX 16
#define STATE_DEPTH    8

struct state {
	bool loading;
	int error; /* 0 or the first -errno */
	uint8_t *buf;
	size_t size;
	size_t pos;
	unsigned depth;
	struct {
		size_t start; /* saving: offset of the length field; loading: end of section */
	} section[STATE_DEPTH];
};

/** state_save_init() - a codec that writes to @buf of @size bytes; overflow is -ENOSPC. */
void state_save_init(struct state *s, void *buf, size_t size);

/** state_load_init() - a codec that reads @size bytes at @buf, which is not changed. */
void state_load_init(struct state *s, const void *buf, size_t size);

/**
 * state_begin() - opens a section.
 * @name: at most STATE_NAME_MAX bytes; loading another name is -EINVAL.
 * @version: the version this code writes, from 1; loading a newer or zero one is -ENOTSUP.
 * Return: the version of the data: @version when saving or after an error, else the one read.
 */
uint32_t state_begin(struct state *s, const char *name, uint32_t version);

/** state_end() - closes the section; unread bytes of a loaded section are -EINVAL. */
void state_end(struct state *s);

/** state_u8(), state_u16(), state_u32(), state_u64() - one number, little-endian. */
void state_u8(struct state *s, uint8_t *v);
void state_u16(struct state *s, uint16_t *v);
void state_u32(struct state *s, uint32_t *v);
void state_u64(struct state *s, uint64_t *v);

/** state_bool() - one byte; loading other than 0 and 1 is -EINVAL. */
void state_bool(struct state *s, bool *v);

/** state_bytes() - @len raw bytes. */
void state_bytes(struct state *s, void *p, size_t len);

/**
 * state_fail() - refuses the data with @error (-errno), if there was no error before.
 * Saving never needs it.
 */
void state_fail(struct state *s, int error);
