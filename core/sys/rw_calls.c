/*
 * Reading, writing, seeking.
 */
#include <errno.h>
#include <linux/fs.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/node.h"
#include "core/sys/syscall.h"

/* One transfer. @offset: NULL: at the file's own position. */
static int64_t transfer(struct file *f, struct uio *u, uint64_t *offset, bool write)
{
	int64_t (*fn)(struct file *, struct uio *, uint64_t *) =
		write ? f->ops->write : f->ops->read;
	bool alone = write || offset == NULL;
	uint64_t position;
	int64_t done;

	if (write ? !file_may_write(f) : !file_may_read(f)) {
		return -EBADF;
	}
	if (fn == NULL) {
		return f->node != NULL && f->node->mode == NODE_DIR ? -EISDIR : -EINVAL;
	}
	if (f->ops->size == NULL) {
		return offset != NULL ? -ESPIPE : fn(f, u, NULL);
	}
	if (offset != NULL && (int64_t)*offset < 0) {
		return -EINVAL;
	}
	/* What has positions is in the tree, or as if it were. */
	if (alone) {
		mutex_take(&f->node->contents);
	}
	position = offset != NULL ? *offset : atomic_load(&f->position);
	done = fn(f, u, &position);
	if (done > 0 && offset == NULL) {
		atomic_store(&f->position, position);
	}
	if (alone) {
		mutex_give(&f->node->contents);
	}
	return done;
}

static int64_t one(uint64_t fd, uint64_t va, uint64_t len, uint64_t *offset, bool write)
{
	struct file *own = fd_own((int)fd);
	struct file *f = own != NULL ? own : fd_get((int)fd);
	struct uio u;
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = uio_init(&u, va, len);
	if (result == 0) {
		result = transfer(f, &u, offset, write);
	}
	if (own == NULL) {
		file_put(f);
	}
	return result;
}

static int64_t many(const uint64_t *a, uint64_t *offset, bool write)
{
	struct file *f = fd_get((int)a[0]);
	struct uio u;
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = uio_init_list(&u, a[1], a[2]);
	if (result == 0) {
		result = transfer(f, &u, offset, write);
		uio_fini(&u);
	}
	file_put(f);
	return result;
}

SYSCALL(read)
{
	return one(a[0], a[1], a[2], NULL, false);
}

/* What only takes a word has it without the detour by struct uio. */
SYSCALL(write)
{
	struct file *f = fd_own((int)a[0]);

	if (f != NULL && f->ops->write_word != NULL && a[2] >= sizeof(uint64_t)) {
		struct user_word w = user_get_word(a[1]);

		return w.error != 0 ? -EFAULT : f->ops->write_word(f, w.value);
	}
	return one(a[0], a[1], a[2], NULL, true);
}

SYSCALL(pread64)
{
	uint64_t offset = a[3];

	return one(a[0], a[1], a[2], &offset, false);
}

SYSCALL(pwrite64)
{
	uint64_t offset = a[3];

	return one(a[0], a[1], a[2], &offset, true);
}

SYSCALL(readv)
{
	return many(a, NULL, false);
}

SYSCALL(writev)
{
	return many(a, NULL, true);
}

SYSCALL(preadv)
{
	uint64_t offset = a[3];

	return many(a, &offset, false);
}

SYSCALL(pwritev)
{
	uint64_t offset = a[3];

	return many(a, &offset, true);
}

/* Files are in memory: flags about how hard to try change nothing. */
static int64_t many2(const uint64_t *a, bool write)
{
	uint64_t offset = a[3];

	if ((a[5] & ~UINT64_C(0x1f)) != 0) {
		return -EOPNOTSUPP;
	}
	return many(a, offset == UINT64_MAX ? NULL : &offset, write);
}

SYSCALL(preadv2)
{
	return many2(a, false);
}

SYSCALL(pwritev2)
{
	return many2(a, true);
}

static int64_t seek(struct file *f, int64_t offset, uint64_t whence)
{
	uint64_t size, base = 0;
	int64_t to;

	if (f->node != NULL && f->node->mode == NODE_DIR && whence == SEEK_SET) {
		atomic_store(&f->position, (uint64_t)offset);
		return offset;
	}
	if (f->ops->size == NULL) {
		return -ESPIPE;
	}
	size = f->ops->size(f);
	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = atomic_load(&f->position);
		break;
	case SEEK_END:
		base = size;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if (offset < 0 || (uint64_t)offset >= size) {
			return -ENXIO;
		}
		base = whence == SEEK_HOLE ? size - (uint64_t)offset : 0;
		break;
	default:
		return -EINVAL;
	}
	if (__builtin_add_overflow((int64_t)base, offset, &to) || to < 0) {
		return -EINVAL;
	}
	atomic_store(&f->position, (uint64_t)to);
	return to;
}

SYSCALL(lseek)
{
	struct file *f = fd_get((int)a[0]);
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = seek(f, (int64_t)a[1], a[2]);
	file_put(f);
	return result;
}

static int64_t on_file(uint64_t fd, int64_t (*fn)(struct file *f, const uint64_t *a),
		       const uint64_t *a)
{
	struct file *f = fd_get((int)fd);
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = fn(f, a);
	file_put(f);
	return result;
}

static int64_t nothing(struct file *f, const uint64_t *a)
{
	(void)f;
	(void)a;
	return 0;
}

/* In memory there is nothing to be written back. */
SYSCALL(fsync)
{
	return on_file(a[0], nothing, a);
}

SYSCALL(fdatasync)
{
	return on_file(a[0], nothing, a);
}

SYSCALL(fadvise64)
{
	return on_file(a[0], nothing, a);
}

SYSCALL(sync)
{
	(void)a;
	return 0;
}

static int64_t truncate(struct file *f, const uint64_t *a)
{
	if (!file_may_write(f) || f->ops->truncate == NULL || (int64_t)a[1] < 0) {
		return -EINVAL;
	}
	return f->ops->truncate(f, a[1]);
}

SYSCALL(ftruncate)
{
	return on_file(a[0], truncate, a);
}

static int64_t allocate(struct file *f, const uint64_t *a)
{
	if (!file_may_write(f)) {
		return -EBADF;
	}
	if ((int64_t)a[2] < 0 || (int64_t)a[3] <= 0) {
		return -EINVAL;
	}
	if (f->ops->allocate == NULL) {
		return -EOPNOTSUPP;
	}
	return f->ops->allocate(f, (int)a[1], a[2], a[3]);
}

SYSCALL(fallocate)
{
	return on_file(a[0], allocate, a);
}

/* Copies by a buffer; for busybox's cat and cp. */
static int64_t copy(struct file *out, struct file *in, uint64_t *offset, uint64_t len)
{
	const size_t size = 4096;
	uint8_t *buf = mem_alloc(size);
	int64_t total = 0, done = buf != NULL ? 0 : -ENOMEM;

	if (in->ops->size == NULL) {
		done = -EINVAL;
	}
	while (done >= 0 && (uint64_t)total < len) {
		uint64_t at = offset != NULL ? *offset : atomic_load(&in->position);
		struct uio u;

		uio_init_kernel(&u, buf, MIN(len - (uint64_t)total, size));
		done = transfer(in, &u, &at, false);
		if (done <= 0) {
			break;
		}
		uio_init_kernel(&u, buf, (size_t)done);
		done = transfer(out, &u, NULL, true);
		if (done <= 0) {
			break;
		}
		total += done;
		if (offset != NULL) {
			*offset += (uint64_t)done;
		} else {
			atomic_fetch_add(&in->position, (uint64_t)done);
		}
	}
	mem_free(buf, size);
	return total > 0 ? total : done;
}

SYSCALL(sendfile)
{
	struct file *out = fd_get((int)a[0]), *in = fd_get((int)a[1]);
	uint64_t offset = 0;
	int64_t result = -EBADF;

	if (out != NULL && in != NULL) {
		result = a[2] != 0 ? user_get64(a[2], &offset) : 0;
		if (result == 0) {
			result =
				copy(out, in, a[2] != 0 ? &offset : NULL, MIN(a[3], UIO_BYTES_MAX));
		}
		if (result >= 0 && a[2] != 0 && user_put64(a[2], offset) != 0) {
			result = -EFAULT;
		}
	}
	if (out != NULL) {
		file_put(out);
	}
	if (in != NULL) {
		file_put(in);
	}
	return result;
}
