/*
 * Open files: whatever a descriptor stands for. Each kind brings a struct file_ops; /dev/kvm and
 * its VMs and vCPUs, too (core/kvm).
 */
#pragma once

#include <stdatomic.h>

#include "core/list.h"
#include "core/lock.h"
#include "core/sys/uio.h"
#include "core/task/mutex.h"
#include "core/task/wait.h"
#include "lib/base/types.h"

struct file;
struct node;
struct object;

/* O_* of x86-64 Linux that last; the others matter to open() only. */
#define FILE_READONLY  0x0
#define FILE_WRITEONLY 0x1
#define FILE_READWRITE 0x2
#define FILE_ACCESS    0x3
#define FILE_APPEND    0x400
#define FILE_NONBLOCK  0x800
#define FILE_PATH      0x200000

/* As EPOLL*. */
#define READY_IN    0x1
#define READY_PRI   0x2
#define READY_OUT   0x4
#define READY_ERR   0x8
#define READY_HUP   0x10
#define READY_RDHUP 0x2000

/** Who polls a file: add() is called for each queue that the file's state changes wake. */
struct poll_table {
	void (*add)(struct poll_table *t, struct wait_queue *q);
};

struct file_stat {
	uint64_t inode, size, blocks, device_number; /* blocks of 512 bytes */
	uint32_t mode, links, uid, gid;
	uint64_t mtime_ns; /* since 1970 */
	uint64_t file_system;
};

/** What is to be mapped, and the answer. */
struct file_map {
	uint64_t offset, len;
	bool shared, write;
	struct object *object; /* set by map(), held for the caller */
};

/* Each may be NULL: then the call fails as Linux has it for such a file. All are called without a
 * lock held, on a thread. */
struct file_ops {
	/** read() / write() - @offset: where; moved on. For what has no positions, NULL is passed.
	 * Return: bytes, or -errno; -EAGAIN where FILE_NONBLOCK is set and it would wait. */
	int64_t (*read)(struct file *f, struct uio *u, uint64_t *offset);
	int64_t (*write)(struct file *f, struct uio *u, uint64_t *offset);
	/** write_word() - as write() of eight bytes or more, where no more than these count. For
	 * files that are always open for writing. */
	int64_t (*write_word)(struct file *f, uint64_t value);
	/** poll() - Return: READY_* that hold now. With @t, poll_wait() for each queue first. */
	uint32_t (*poll)(struct file *f, struct poll_table *t);
	int64_t (*ioctl)(struct file *f, uint32_t command, uint64_t argument);
	int (*map)(struct file *f, struct file_map *m);
	int (*stat)(struct file *f, struct file_stat *st);
	int (*truncate)(struct file *f, uint64_t size);
	int (*allocate)(struct file *f, int mode, uint64_t offset, uint64_t len);
	/** size() - of what has positions: lseek() and pread() work then. */
	uint64_t (*size)(struct file *f);
	/** release() - the last reference is gone. */
	void (*release)(struct file *f);
	const char *name; /* for /proc: "anon_inode:[eventfd]" */
};

struct file {
	/* Constant after creation. */
	const struct file_ops *ops;
	void *data;	   /* of the ops */
	struct node *node; /* in the tree, held; NULL for others */

	_Atomic uint32_t flags;	   /* FILE_* */
	_Atomic uint64_t position; /* of read() and write() */
	_Atomic uint64_t refs; /* a descriptor in a message costs 8 bytes: 32 bits can be filled */
	struct list epoll_items; /* guarded by epoll.c */
};

void file_init(void);

/**
 * file_create() - one reference. @node: NULL, or a reference that the file takes over on success.
 * Return: it, or NULL without memory.
 */
must_use struct file *file_create(const struct file_ops *ops, void *data, uint32_t flags,
				  struct node *node);

void file_get(struct file *f);
/** file_put() - Context: thread, no lock held, interrupts on. */
void file_put(struct file *f);

/** poll_wait() - for ops: @t hears of @q. @t may be NULL. */
static inline void poll_wait(struct poll_table *t, struct wait_queue *q)
{
	if (t != NULL) {
		t->add(t, q);
	}
}

/** file_poll() - files that have no poll() can always be read and written. */
uint32_t file_poll(struct file *f, struct poll_table *t);

/** file_may_read() / file_may_write() - by how it was opened. */
bool file_may_read(const struct file *f);
bool file_may_write(const struct file *f);

/** file_is_nonblocking() - now. */
bool file_is_nonblocking(const struct file *f);

/**
 * anon_fd() - a new descriptor of the current process for a file that is in no tree.
 * @flags: FILE_*. @close_on_exec: closed by execve().
 * Return: the descriptor; -ENOMEM, -EMFILE: nothing was kept, release() has not been called.
 */
must_use int anon_fd(const struct file_ops *ops, void *data, uint32_t flags, bool close_on_exec);

/** file_read_kernel() - into the kernel's memory, from @offset on. Return: bytes or -errno. */
must_use int64_t file_read_kernel(struct file *f, void *buf, size_t len, uint64_t offset);
