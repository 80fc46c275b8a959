/*
 * Tables of descriptors. A number is reserved first and gets its file last, when nothing can fail
 * any more.
 */
#pragma once

#include "lib/base/types.h"

struct fd_table;
struct file;

#define FD_MAX 4096

/** fd_table_create() - empty, one holder. Return: it, or NULL without memory. */
must_use struct fd_table *fd_table_create(void);

/** fd_table_copy() - with the same files. Return: it, or NULL. */
must_use struct fd_table *fd_table_copy(struct fd_table *t);

/** fd_table_put() - the last holder closes all. Context: thread, no lock held. */
void fd_table_put(struct fd_table *t);

/** fd_get() - the file behind a descriptor of the current process, counted: file_put(). NULL: there
 * is none. */
must_use struct file *fd_get(int fd);

/* A file for the length of one system call. */
struct fd_loan {
	struct file *file; /* NULL: there is none */
	bool counted;	   /* file_put() is needed afterwards */
};

/**
 * fd_borrow() - as fd_get(), for the length of one system call. A process with one thread and a
 * table of its own cannot close it meanwhile: then it is not counted.
 */
must_use struct fd_loan fd_borrow(int fd);

/** fd_reserve() - the lowest free number from @least on. Return: it; -EMFILE, -ENOMEM, -EINVAL. */
must_use int fd_reserve(struct fd_table *t, int least);
void fd_unreserve(struct fd_table *t, int fd);

/** fd_install() - into a reserved number; takes over the caller's reference. */
void fd_install(struct fd_table *t, int fd, struct file *f, bool close_on_exec);

/** fd_replace() - as dup2(): @fd stands for @f now; takes over the caller's reference on success.
 * Return: @fd, -EBADF, -EBUSY, -ENOMEM. */
must_use int fd_replace(struct fd_table *t, int fd, struct file *f, bool close_on_exec);

/** fd_close() - Return: 0 or -EBADF. */
int fd_close(struct fd_table *t, int fd);

/** fd_close_range() - all in [first, last]; or only marks them to be closed by execve(). */
void fd_close_range(struct fd_table *t, unsigned first, unsigned last, bool mark_only);

/** fd_close_on_exec() - execve(): closes what is marked. */
void fd_close_on_exec(struct fd_table *t);

/** fd_is_marked() / fd_mark() - FD_CLOEXEC. Return: 0 or 1, -EBADF. */
must_use int fd_is_marked(struct fd_table *t, int fd);
must_use int fd_mark(struct fd_table *t, int fd, bool close_on_exec);

/** fd_next() - the first open one from @fd on, for /proc/self/fd. Return: it, -ENOENT. */
must_use int fd_next(struct fd_table *t, int fd);

/** fd_table_file() - as fd_get(), of any table. */
must_use struct file *fd_table_file(struct fd_table *t, int fd);

/** fd_inspect() - fn(ctx, file) under the table's lock, if the descriptor is open. */
void fd_inspect(struct fd_table *t, int fd, void (*fn)(void *ctx, struct file *f), void *ctx);
