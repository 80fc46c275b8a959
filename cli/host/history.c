#include "cli/host/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int history_init(struct history *h)
{
	*h = (struct history){.bytes = malloc(HISTORY_SIZE)};
	return h->bytes != NULL ? 0 : -ENOMEM;
}

void history_fini(struct history *h)
{
	free(h->bytes);
	*h = (struct history){0};
}

void history_add(struct history *h, const void *buf, size_t n)
{
	const uint8_t *from = buf;

	while (n > 0) {
		size_t at = h->end % HISTORY_SIZE;
		size_t part = MIN(n, HISTORY_SIZE - at);

		memcpy(h->bytes + at, from, part);
		h->end += part;
		from += part;
		n -= part;
	}
}

bool history_is_at_line_start(const struct history *h)
{
	return h->end == 0 || h->bytes[(h->end - 1) % HISTORY_SIZE] == '\n';
}

uint64_t history_start(const struct history *h)
{
	return h->end > HISTORY_SIZE ? h->end - HISTORY_SIZE : 0;
}

size_t history_read(const struct history *h, uint64_t *at, void *buf, size_t n)
{
	uint8_t *to = buf;
	size_t done = 0;

	*at = MIN(MAX(*at, history_start(h)), h->end);
	while (done < n && *at < h->end) {
		size_t in = *at % HISTORY_SIZE;
		size_t part = MIN(MIN(n - done, HISTORY_SIZE - in), h->end - *at);

		memcpy(to + done, h->bytes + in, part);
		*at += part;
		done += part;
	}
	return done;
}

uint64_t history_lines(const struct history *h, unsigned n)
{
	uint64_t start = history_start(h);
	uint64_t at = h->end;

	if (n == 0 || at == start) {
		return at;
	}
	/* A line feed at the very end begins no line. */
	at--;
	while (at > start && (h->bytes[(at - 1) % HISTORY_SIZE] != '\n' || --n > 0)) {
		at--;
	}
	return at;
}
