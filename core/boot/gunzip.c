/*
 * Spec: RFC 1952, "GZIP file format specification version 4.3"
 */
#include "core/boot/gunzip.h"

#include <errno.h>
#include <zlib.h>

#include "core/hw/context.h"
#include "lib/base/bytes.h"

#define TRAILER_BYTES 8
#define HEADER_BYTES  10
#define GZIP_WINDOW   (15 + 16) /* inflateInit2(): the largest window, a gzip header */
#define CHUNK_MAX     (1U << 30)

struct arena {
	uint8_t *next;
	size_t left;
};

struct job {
	z_stream stream;
	struct arena arena;
	uint64_t out_left; /* beyond what stream.avail_out can say */
	uint64_t in_left;
	int result;
};

bool gunzip_is_packed(const void *data, size_t len)
{
	const uint8_t *p = data;

	return len >= HEADER_BYTES + TRAILER_BYTES && p[0] == 0x1f && p[1] == 0x8b;
}

uint64_t gunzip_size(const void *data, size_t len)
{
	return load_le32((const uint8_t *)data + len - 4);
}

/* These two names are zlib's own for what it uses by itself; taken here, malloc() is not asked for.
 */
void *zcalloc(void *opaque, unsigned items, unsigned bytes);
void zcfree(void *opaque, void *p);

void *zcalloc(void *opaque, unsigned items, unsigned bytes)
{
	struct arena *a = opaque;
	size_t want = ALIGN_UP((size_t)items * bytes, 64);

	if (want > a->left) {
		return NULL;
	}
	a->next += want;
	a->left -= want;
	return a->next - want;
}

void zcfree(void *opaque, void *p)
{
	(void)opaque;
	(void)p; /* the arena goes as a whole */
}

static void refill(unsigned *avail, uint64_t *left)
{
	if (*avail == 0) {
		*avail = (unsigned)MIN(*left, CHUNK_MAX);
		*left -= *avail;
	}
}

static void run(void *arg)
{
	struct job *job = arg;
	z_stream *z = &job->stream;

	job->result = inflateInit2(z, GZIP_WINDOW);
	while (job->result == Z_OK) {
		refill(&z->avail_in, &job->in_left);
		refill(&z->avail_out, &job->out_left);
		/* At the end of either one it says Z_BUF_ERROR. */
		job->result = inflate(z, Z_NO_FLUSH);
	}
}

int gunzip(const void *data, size_t len, void *out, size_t *out_len, void *work)
{
	struct job job = {
		.stream = {.next_in = (void *)(uintptr_t)data,
			   .next_out = out,
			   .zalloc = zcalloc,
			   .zfree = zcfree},
		.arena = {work, GUNZIP_WORK_BYTES},
		.in_left = len,
		.out_left = *out_len,
	};

	job.stream.opaque = &job.arena;
	context_call_foreign(run, &job);
	if (job.result != Z_STREAM_END) {
		return -EINVAL;
	}
	*out_len -= job.out_left + job.stream.avail_out;
	return 0;
}
