#include "cli/nearest.h"

#include <stdio.h>
#include <string.h>

/*
 * Optimal string alignment: three rows of the usual table are enough, as a swap of neighbours
 * looks two rows back.
 */
unsigned edit_distance(const char *a, const char *b)
{
	unsigned rows[3][NEAREST_WORD_MAX + 1];
	size_t an = strnlen(a, NEAREST_WORD_MAX);
	size_t bn = strnlen(b, NEAREST_WORD_MAX);

	for (size_t j = 0; j <= bn; j++) {
		rows[0][j] = (unsigned)j;
	}
	for (size_t i = 1; i <= an; i++) {
		unsigned *now = rows[i % 3];
		const unsigned *before = rows[(i - 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= bn; j++) {
			unsigned replace = before[j - 1] + (a[i - 1] != b[j - 1]);
			unsigned least = MIN(replace, MIN(before[j], now[j - 1]) + 1);

			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				least = MIN(least, rows[(i - 2) % 3][j - 2] + 1);
			}
			now[j] = least;
		}
	}
	return rows[an % 3][bn];
}

void nearest_offer(struct nearest *n, const char *known)
{
	unsigned distance = edit_distance(n->word, known);

	if (n->best == NULL || distance < n->distance) {
		n->best = known;
		n->distance = distance;
	}
}

const char *nearest_hint(const struct nearest *n, char *buf, size_t size)
{
	if (n->best == NULL) {
		buf[0] = '\0';
	} else {
		snprintf(buf, size, "; did you mean \"%s\"?", n->best);
	}
	return buf;
}

const char *printable(const char *text, char *buf, size_t size)
{
	size_t n = 0;

	while (text[n] != '\0' && n + 4 < size) {
		unsigned char c = (unsigned char)text[n];

		buf[n++] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
	}
	strcpy(buf + n, text[n] != '\0' ? "..." : "");
	return buf;
}
