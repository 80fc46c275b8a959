/*
 * The last of what somebody has said: a ring of bytes. A place in it is the number of bytes that
 * came before, which grows for ever and so tells what is gone.
 */
#pragma once

#include "lib/base/types.h"

#define HISTORY_SIZE (64 * 1024)

struct history {
	uint64_t end; /* bytes that have come in all */
	uint8_t *bytes;
};

/** history_init() - Return: 0 or -ENOMEM, not logged. */
must_use int history_init(struct history *h);
void history_fini(struct history *h);

/** history_add() - the oldest bytes make room. */
void history_add(struct history *h, const void *buf, size_t n);

/** history_is_at_line_start() - did the last byte end a line? */
bool history_is_at_line_start(const struct history *h);

/** history_start() - the oldest place there is. */
uint64_t history_start(const struct history *h);

/**
 * history_read() - up to @n bytes.
 * @at: where from; moved behind what was read, and first to the oldest place if that is later.
 * Return: how many bytes; 0 at the end.
 */
size_t history_read(const struct history *h, uint64_t *at, void *buf, size_t n);

/** history_lines() - the place where the last @n lines start; one that is not ended counts. */
uint64_t history_lines(const struct history *h, unsigned n);
