/*
 * System calls that say what a file is.
 */
#include <asm/stat.h>
#include <errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "core/hw/user.h"
#include "core/mem/page.h"
#include "core/sys/fd.h"
#include "core/sys/path.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"

#define BLOCK_BYTES 4096
#define NS_PER_S    UINT64_C(1000000000)

static int of_file(struct file *f, struct file_stat *st)
{
	if (f->ops->stat != NULL) {
		return f->ops->stat(f, st);
	}
	*st = (struct file_stat){.inode = 1, .mode = 0600, .links = 1, .file_system = 3};
	return 0;
}

/* @flags: AT_*. */
static int look(uint64_t dir, uint64_t va, uint64_t flags, struct file_stat *st)
{
	struct path p;
	struct node *n;
	int error = path_init(&p, dir, va);

	if (error != 0) {
		return error;
	}
	if (p.is_empty && (flags & AT_EMPTY_PATH) != 0 && p.file != NULL) {
		error = of_file(p.file, st);
	} else {
		error = tree_find(p.from, p.is_empty && (flags & AT_EMPTY_PATH) != 0 ? "." : p.text,
				  (flags & AT_SYMLINK_NOFOLLOW) != 0 ? TREE_NOFOLLOW : 0, &n);
		if (error == 0) {
			node_stat(n, st);
			node_put(n);
		}
	}
	path_fini(&p);
	return error;
}

static int64_t write_stat(uint64_t va, const struct file_stat *st)
{
	const struct stat out = {
		.st_dev = st->file_system,
		.st_ino = st->inode,
		.st_nlink = st->links,
		.st_mode = st->mode,
		.st_uid = st->uid,
		.st_gid = st->gid,
		.st_rdev = st->device_number,
		.st_size = (int64_t)st->size,
		.st_blksize = BLOCK_BYTES,
		.st_blocks = (int64_t)st->blocks,
		.st_atime = st->mtime_ns / NS_PER_S,
		.st_mtime = st->mtime_ns / NS_PER_S,
		.st_mtime_nsec = st->mtime_ns % NS_PER_S,
		.st_ctime = st->mtime_ns / NS_PER_S,
	};

	_Static_assert(sizeof(out) == 144, "struct stat");
	return user_write(va, &out, sizeof(out));
}

SYSCALL(newfstatat)
{
	struct file_stat st;
	int error = look(a[0], a[1], a[3], &st);

	return error != 0 ? error : write_stat(a[2], &st);
}

SYSCALL(stat)
{
	struct file_stat st;
	int error = look((uint64_t)AT_FDCWD, a[0], 0, &st);

	return error != 0 ? error : write_stat(a[1], &st);
}

SYSCALL(lstat)
{
	struct file_stat st;
	int error = look((uint64_t)AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW, &st);

	return error != 0 ? error : write_stat(a[1], &st);
}

SYSCALL(fstat)
{
	struct file *f = fd_get((int)a[0]);
	struct file_stat st;
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = of_file(f, &st);
	file_put(f);
	return result != 0 ? result : write_stat(a[1], &st);
}

static struct statx_timestamp stamp(uint64_t ns)
{
	return (struct statx_timestamp){.tv_sec = (int64_t)(ns / NS_PER_S),
					.tv_nsec = (uint32_t)(ns % NS_PER_S)};
}

SYSCALL(statx)
{
	struct file_stat st;
	struct statx out = {0};
	int error = look(a[0], a[1], a[2], &st);

	if (error != 0) {
		return error;
	}
	out.stx_mask = STATX_BASIC_STATS;
	out.stx_blksize = BLOCK_BYTES;
	out.stx_nlink = st.links;
	out.stx_uid = st.uid;
	out.stx_gid = st.gid;
	out.stx_mode = (uint16_t)st.mode;
	out.stx_ino = st.inode;
	out.stx_size = st.size;
	out.stx_blocks = st.blocks;
	out.stx_atime = out.stx_mtime = out.stx_ctime = stamp(st.mtime_ns);
	out.stx_rdev_major = (uint32_t)(st.device_number >> 8);
	out.stx_rdev_minor = (uint32_t)(st.device_number & 0xff);
	out.stx_dev_minor = (uint32_t)st.file_system;
	return user_write(a[4], &out, sizeof(out));
}

/* Root may do all but execute what nobody may, and write where nothing can be written. */
static int64_t check_access(uint64_t dir, uint64_t va, uint64_t mode, uint64_t flags)
{
	struct path p;
	struct node *n;
	int error;

	if ((mode & ~UINT64_C(7)) != 0) {
		return -EINVAL;
	}
	error = path_init(&p, dir, va);
	if (error != 0) {
		return error;
	}
	error = tree_find(p.from, p.text, (flags & AT_SYMLINK_NOFOLLOW) != 0 ? TREE_NOFOLLOW : 0,
			  &n);
	if (error == 0) {
		if ((mode & 2) != 0 && n->mode != NODE_CHAR && !n->may_change) {
			error = -EROFS;
		} else if ((mode & 1) != 0 && n->mode != NODE_DIR && (n->permissions & 0111) == 0) {
			error = -EACCES;
		}
		node_put(n);
	}
	path_fini(&p);
	return error;
}

SYSCALL(access)
{
	return check_access((uint64_t)AT_FDCWD, a[0], a[1], 0);
}

SYSCALL(faccessat)
{
	return check_access(a[0], a[1], a[2], 0);
}

SYSCALL(faccessat2)
{
	return check_access(a[0], a[1], a[2], a[3]);
}

/* struct statfs: a file system in memory. */
static int64_t write_statfs(uint64_t va)
{
	const uint64_t out[15] = {0x01021994, PAGE_SIZE, page_total(), page_used(PAGE_USE_FREE),
				  page_used(PAGE_USE_FREE), 0, 0, 0, NODE_NAME_MAX, PAGE_SIZE};

	return user_write(va, out, sizeof(out));
}

SYSCALL(statfs)
{
	struct file_stat st;
	int error = look((uint64_t)AT_FDCWD, a[0], 0, &st);

	return error != 0 ? error : write_statfs(a[1]);
}

SYSCALL(fstatfs)
{
	struct file *f = fd_get((int)a[0]);

	if (f == NULL) {
		return -EBADF;
	}
	file_put(f);
	return write_statfs(a[1]);
}

/* Modes of what is in memory. */

static int64_t set_mode(struct node *n, uint64_t mode)
{
	if (n == NULL || !n->may_change) {
		return n == NULL ? 0 : -EROFS;
	}
	mutex_take(&tree_lock);
	n->permissions = (uint32_t)mode & 07777;
	mutex_give(&tree_lock);
	return 0;
}

SYSCALL(fchmod)
{
	struct file *f = fd_get((int)a[0]);
	int64_t result;

	if (f == NULL) {
		return -EBADF;
	}
	result = set_mode(f->node, a[1]);
	file_put(f);
	return result;
}

SYSCALL(fchmodat)
{
	struct path p;
	struct node *n;
	int64_t result = path_init(&p, a[0], a[1]);

	if (result == 0) {
		result = tree_find(p.from, p.text, 0, &n);
		if (result == 0) {
			result = set_mode(n, a[2]);
			node_put(n);
		}
		path_fini(&p);
	}
	return result;
}

SYSCALL(chmod)
{
	const uint64_t at[6] = {(uint64_t)AT_FDCWD, a[0], a[1]};

	return sys_fchmodat(at);
}
