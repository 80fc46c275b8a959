#include "lib/base/state.h"

#include <errno.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"

#define SECTION_HEADER (STATE_NAME_MAX + 4 + 4)

void state_save_init(struct state *s, void *buf, size_t size)
{
	*s = (struct state){.buf = buf, .size = size};
}

void state_load_init(struct state *s, const void *buf, size_t size)
{
	*s = (struct state){.loading = true, .buf = (uint8_t *)(uintptr_t)buf, .size = size};
}

void state_fail(struct state *s, int error)
{
	if (s->error == 0) {
		s->error = error;
	}
}

/* The next @len bytes of the stream, or NULL after an error or at its end. */
static uint8_t *take(struct state *s, size_t len)
{
	size_t end = s->size;

	if (s->error != 0) {
		return NULL;
	}
	if (s->loading && s->depth > 0) {
		end = s->section[s->depth - 1].start;
	}
	if (len > end - s->pos) {
		state_fail(s, s->loading ? -EINVAL : -ENOSPC);
		return NULL;
	}
	s->pos += len;
	return s->buf + s->pos - len;
}

static void move(struct state *s, void *value, size_t len)
{
	uint8_t *p = take(s, len);

	if (p == NULL) {
		return;
	}
	if (s->loading) {
		memcpy(value, p, len);
	} else {
		memcpy(p, value, len);
	}
}

uint32_t state_begin(struct state *s, const char *name, uint32_t version)
{
	size_t name_len = strlen(name);
	char padded[STATE_NAME_MAX] = {0};

	check(name_len <= STATE_NAME_MAX && version > 0 && s->depth < STATE_DEPTH);
	memcpy(padded, name, name_len);

	uint8_t *p = take(s, SECTION_HEADER);
	/* Depth counts after an error too, so that begin and end stay paired. */
	s->depth++;
	if (p == NULL) {
		return version;
	}
	if (!s->loading) {
		memcpy(p, padded, STATE_NAME_MAX);
		store_le32(p + STATE_NAME_MAX, version);
		s->section[s->depth - 1].start = s->pos - 4;
		return version;
	}

	uint32_t found = load_le32(p + STATE_NAME_MAX);
	uint32_t len = load_le32(p + STATE_NAME_MAX + 4);
	size_t limit = s->depth > 1 ? s->section[s->depth - 2].start : s->size;

	if (memcmp(p, padded, STATE_NAME_MAX) != 0 || len > limit - s->pos) {
		state_fail(s, -EINVAL);
		return version;
	}
	if (found == 0 || found > version) {
		state_fail(s, -ENOTSUP);
		return version;
	}
	s->section[s->depth - 1].start = s->pos + len;
	return found;
}

void state_end(struct state *s)
{
	check(s->depth > 0);
	s->depth--;
	if (s->error != 0) {
		return;
	}
	size_t start = s->section[s->depth].start;
	if (!s->loading) {
		store_le32(s->buf + start, (uint32_t)(s->pos - start - 4));
	} else if (s->pos != start) {
		state_fail(s, -EINVAL);
	}
}

void state_u8(struct state *s, uint8_t *v)
{
	move(s, v, sizeof(*v));
}

void state_u16(struct state *s, uint16_t *v)
{
	move(s, v, sizeof(*v));
}

void state_u32(struct state *s, uint32_t *v)
{
	move(s, v, sizeof(*v));
}

void state_u64(struct state *s, uint64_t *v)
{
	move(s, v, sizeof(*v));
}

void state_bool(struct state *s, bool *v)
{
	uint8_t byte = *v;

	move(s, &byte, 1);
	if (byte > 1) {
		state_fail(s, -EINVAL);
		return;
	}
	*v = byte != 0;
}

void state_bytes(struct state *s, void *p, size_t len)
{
	move(s, p, len);
}
