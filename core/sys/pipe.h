/*
 * Pipes: bytes from writers to readers. Local sockets are made of two.
 */
#pragma once

#include "core/sys/file.h"
#include "lib/base/types.h"

#define PIPE_BYTES 65536u

/* Something that travels with the bytes: descriptors, on sockets. It arrives with the byte at
 * `position`, and no read goes over it. */
struct pipe_passenger {
	struct list node;
	uint32_t position;
	void (*drop)(struct pipe_passenger *p); /* nobody takes it */
};

struct pipe {
	uint64_t inode; /* constant */
	struct mutex lock;
	struct wait_queue changed;
	/* Written under lock; may be read without, by who looks again under it. */
	uint8_t *bytes;
	uint32_t start, end; /* counted on and on */
	unsigned readers, writers;
	_Atomic uint32_t refs; /* of readers and writers, and pipe_get() */
	struct list passengers;
};

/** pipe_create() - with one reader and one writer. Return: it, or NULL. */
must_use struct pipe *pipe_create(void);

/** pipe_get() / pipe_put() - holds it without reading or writing. */
void pipe_get(struct pipe *p);
void pipe_put(struct pipe *p);

/** pipe_close() - one reader or writer less. The last of all frees it. Context: thread. */
void pipe_close(struct pipe *p, bool writer);

/** pipe_read() - @who: NULL (passengers are dropped), or set to who came with the first byte.
 * Return: bytes; 0: all writers or readers have gone; -EAGAIN, -ERESTARTSYS, -EFAULT. */
int64_t pipe_read(struct pipe *p, struct uio *u, bool nonblocking, struct pipe_passenger **who);

/** pipe_peek() - as pipe_read(), but all stays; does not wait and takes nobody off. */
int64_t pipe_peek(struct pipe *p, struct uio *u);

/** pipe_write() - @who: NULL, or a passenger; set to NULL once it is on its way.
 * Return: bytes; -EPIPE: all readers or writers have gone; -EAGAIN, -ERESTARTSYS, -EFAULT. */
int64_t pipe_write(struct pipe *p, struct uio *u, bool nonblocking, struct pipe_passenger **who);

/** pipe_poll_read() / pipe_poll_write() - READY_* for the ends. */
uint32_t pipe_poll_read(struct pipe *p, struct poll_table *t);
uint32_t pipe_poll_write(struct pipe *p, struct poll_table *t);

/** pipe_open() - two descriptors. Return: 0 or -errno. */
must_use int pipe_open(uint32_t flags, bool close_on_exec, int fds[2]);
