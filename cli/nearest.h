/*
 * "Did you mean ...?": the known word nearest to a mistyped one.
 */
#pragma once

#include "lib/base/types.h"

#define NEAREST_WORD_MAX 64

/** edit_distance() - insertions, deletions, replacements and swaps of neighbours from @a to @b.
 * Only the first NEAREST_WORD_MAX bytes of each count. */
unsigned edit_distance(const char *a, const char *b);

/** A search for the nearest word; offer the known words one by one. */
struct nearest {
	const char *word;
	const char *best; /* NULL while nothing was offered */
	unsigned distance;
};

/** nearest_offer() - @known is a candidate; it must outlive the search. */
void nearest_offer(struct nearest *n, const char *known);

/**
 * nearest_hint() - the end of an error message about an unknown word.
 * Return: @buf, as `; did you mean "X"?`.
 */
const char *nearest_hint(const struct nearest *n, char *buf, size_t size);

/**
 * printable() - @text fit to be shown: bytes outside printable ASCII become '?', and what does
 * not fit becomes "...". Return: @buf.
 */
const char *printable(const char *text, char *buf, size_t size);
