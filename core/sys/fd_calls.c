/*
 * System calls about descriptors themselves.
 */
#include <asm/ioctl.h>
#include <asm/ioctls.h>
#include <errno.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>

#include "core/hw/user.h"
#include "core/mem/object.h"
#include "core/sys/fd.h"
#include "core/sys/node.h"
#include "core/sys/pipe.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/process.h"

#define CLOSE_ON_EXEC 1 /* FD_CLOEXEC */
#define MAY_CHANGE    (FILE_APPEND | FILE_NONBLOCK)
#define SEALS_KNOWN   0xf

static struct fd_table *table(void)
{
	return process_current()->files;
}

SYSCALL(close)
{
	return fd_close(table(), (int)a[0]);
}

SYSCALL(close_range)
{
	uint64_t known = CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE;

	if ((uint32_t)a[0] > (uint32_t)a[1] || (a[2] & ~known) != 0) {
		return -EINVAL;
	}
	fd_close_range(table(), (uint32_t)a[0], (uint32_t)a[1], (a[2] & CLOSE_RANGE_CLOEXEC) != 0);
	return 0;
}

static int64_t duplicate(uint64_t fd, int least, bool close_on_exec)
{
	struct file *f = fd_get((int)fd);
	int copy;

	if (f == NULL) {
		return -EBADF;
	}
	copy = fd_reserve(table(), least);
	if (copy < 0) {
		file_put(f);
		return copy;
	}
	fd_install(table(), copy, f, close_on_exec);
	return copy;
}

SYSCALL(dup)
{
	return duplicate(a[0], 0, false);
}

static int64_t replace(uint64_t fd, uint64_t copy, bool close_on_exec)
{
	struct file *f = fd_get((int)fd);
	int result;

	if (f == NULL) {
		return -EBADF;
	}
	result = fd_replace(table(), (int)copy, f, close_on_exec);
	if (result < 0) {
		file_put(f);
	}
	return result;
}

SYSCALL(dup2)
{
	if ((int)a[0] == (int)a[1]) {
		int marked = fd_is_marked(table(), (int)a[0]);

		return marked < 0 ? marked : (int)a[1];
	}
	return replace(a[0], a[1], false);
}

SYSCALL(dup3)
{
	if ((int)a[0] == (int)a[1] || (a[2] & ~(uint64_t)O_CLOEXEC) != 0) {
		return -EINVAL;
	}
	return replace(a[0], a[1], a[2] != 0);
}

/* Locks: this kernel's files are in memory and written by one process at a time, so a lock is
 * granted and means nothing. */
static int64_t lock(struct file *f, uint64_t command, uint64_t va)
{
	uint16_t type;

	if (f->node == NULL || f->node->mode != NODE_FILE) {
		return -EINVAL;
	}
	if (command == F_GETLK || command == F_OFD_GETLK) {
		type = F_UNLCK;
		return user_write(va, &type, sizeof(type));
	}
	return user_read(&type, va, sizeof(type));
}

static int64_t seals(struct file *f, uint64_t command, uint64_t set)
{
	int error;

	if (f->node == NULL || f->node->object == NULL) {
		return -EINVAL;
	}
	if (command == F_GET_SEALS) {
		return object_seals(f->node->object);
	}
	if ((set & ~(uint64_t)SEALS_KNOWN) != 0) {
		return -EINVAL;
	}
	if (!file_may_write(f)) {
		return -EPERM;
	}
	/* A write that has looked at the seals already ends before. */
	mutex_take(&f->node->contents);
	error = object_add_seals(f->node->object, (uint32_t)set);
	mutex_give(&f->node->contents);
	return error;
}

static int64_t control(struct file *f, const uint64_t *a)
{
	uint32_t before;

	switch ((int)a[1]) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return duplicate(a[0], (int)a[2], (int)a[1] == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fd_is_marked(table(), (int)a[0]);
	case F_SETFD:
		return fd_mark(table(), (int)a[0], (a[2] & CLOSE_ON_EXEC) != 0);
	case F_GETFL:
		return f->flags | 0100000; /* O_LARGEFILE */
	case F_SETFL:
		before = atomic_load(&f->flags);
		while (!atomic_compare_exchange_weak(&f->flags, &before,
						     (before & ~(uint32_t)MAY_CHANGE) |
							     ((uint32_t)a[2] & MAY_CHANGE))) {
			continue;
		}
		return 0;
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return lock(f, a[1], a[2]);
	case F_ADD_SEALS:
	case F_GET_SEALS:
		return seals(f, a[1], a[2]);
	case F_SETPIPE_SZ:
	case F_GETPIPE_SZ:
		return PIPE_BYTES;
	default:
		return -EINVAL;
	}
}

SYSCALL(fcntl)
{
	struct file *f = fd_get((int)a[0]);
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = control(f, a);
	file_put(f);
	return result;
}

SYSCALL(flock)
{
	struct file *f = fd_get((int)a[0]);

	if (f == NULL) {
		return -EBADF;
	}
	file_put(f);
	return 0;
}

static int64_t set_nonblocking(struct file *f, uint64_t va)
{
	uint32_t on;

	if (user_get32(va, &on) != 0) {
		return -EFAULT;
	}
	if (on != 0) {
		atomic_fetch_or(&f->flags, FILE_NONBLOCK);
	} else {
		atomic_fetch_and(&f->flags, ~(uint32_t)FILE_NONBLOCK);
	}
	return 0;
}

/* Those that every file has. */
static int64_t ioctl_of_all(struct file *f, int fd, uint32_t command, uint64_t argument)
{
	switch (command) {
	case FIONBIO:
		return set_nonblocking(f, argument);
	case FIOCLEX:
	case FIONCLEX:
		return fd_mark(table(), fd, command == FIOCLEX);
	default:
		return f->ops->ioctl != NULL ? f->ops->ioctl(f, command, argument) : -ENOTTY;
	}
}

static __attribute__((noinline)) int64_t ioctl_of_any(const uint64_t a[6])
{
	struct file *f = fd_get((int)a[0]);
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = ioctl_of_all(f, (int)a[0], (uint32_t)a[1], a[2]);
	file_put(f);
	return result;
}

SYSCALL(ioctl)
{
	uint32_t command = (uint32_t)a[1];
	struct file *f = fd_own((int)a[0]);

	if (f == NULL || _IOC_TYPE(command) == _IOC_TYPE(FIONBIO) || f->ops->ioctl == NULL) {
		return ioctl_of_any(a);
	}
	return f->ops->ioctl(f, command, a[2]);
}

static int64_t make_pipe(uint64_t va, uint64_t flags)
{
	int fds[2], error;

	if ((flags & ~(uint64_t)(O_CLOEXEC | O_NONBLOCK)) != 0) {
		return -EINVAL;
	}
	error = pipe_open((uint32_t)flags & FILE_NONBLOCK, (flags & O_CLOEXEC) != 0, fds);
	if (error == 0 && user_write(va, fds, sizeof(fds)) != 0) {
		fd_close(table(), fds[0]);
		fd_close(table(), fds[1]);
		error = -EFAULT;
	}
	return error;
}

SYSCALL(pipe2)
{
	return make_pipe(a[0], a[1]);
}

SYSCALL(pipe)
{
	return make_pipe(a[0], 0);
}
