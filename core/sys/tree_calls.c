/*
 * System calls about names: opening, looking, making, removing.
 */
#include <errno.h>
#include <linux/fcntl.h>
#include <string.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/path.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/process.h"

#define LASTING (FILE_ACCESS | FILE_APPEND | FILE_NONBLOCK | FILE_PATH)

int path_init(struct path *p, uint64_t dir_fd, uint64_t va)
{
	struct file *f;
	int64_t len;

	*p = (struct path){.text = mem_alloc(NODE_PATH_MAX)};
	if (p->text == NULL) {
		return -ENOMEM;
	}
	len = user_read_string(p->text, va, NODE_PATH_MAX);
	if (len < 0) {
		path_fini(p);
		return (int)len;
	}
	p->is_empty = len == 0;
	if (p->text[0] == '/' || (int)dir_fd == AT_FDCWD) {
		return 0;
	}
	f = fd_get((int)dir_fd);
	if (f == NULL) {
		path_fini(p);
		return -EBADF;
	}
	p->file = f;
	p->from = f->node;
	if (!p->is_empty && (f->node == NULL || f->node->mode != NODE_DIR)) {
		path_fini(p);
		return -ENOTDIR;
	}
	return 0;
}

void path_fini(struct path *p)
{
	mem_free(p->text, NODE_PATH_MAX);
	if (p->file != NULL) {
		file_put(p->file);
	}
}

/* Opening. */

static int create(struct path *p, uint32_t mode, struct node **out)
{
	char last[NODE_NAME_MAX + 1];
	struct node *dir, *n;
	bool slash;
	int error = tree_find_parent(p->from, p->text, &dir, last, &slash);

	if (error != 0) {
		return error;
	}
	n = slash ? NULL : tree_new_file(mode & ~022u);
	error = n != NULL ? tree_add(dir, last, n) : (slash ? -EISDIR : -ENOMEM);
	node_put(dir);
	if (error != 0 && n != NULL) {
		node_put(n);
	} else {
		*out = n;
	}
	return error;
}

/* The node that open() is about. */
static int find(struct path *p, uint64_t flags, uint32_t mode, struct node **out)
{
	unsigned find_flags = ((flags & O_NOFOLLOW) != 0 ? TREE_NOFOLLOW : 0u) |
			      ((flags & O_DIRECTORY) != 0 ? TREE_DIRECTORY : 0u);
	int error;

	for (unsigned i = 0; i < 2; i++) {
		error = tree_find(p->from, p->text, find_flags, out);
		if (error == 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
			node_put(*out);
			return -EEXIST;
		}
		if (error != -ENOENT || (flags & O_CREAT) == 0) {
			return error;
		}
		error = create(p, mode, out);
		if (error != -EEXIST || (flags & O_EXCL) != 0) {
			return error;
		}
	}
	return error;
}

static int check_open(struct node *n, uint64_t flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;

	if ((flags & O_PATH) != 0) {
		return 0;
	}
	if (n->mode == NODE_LINK) {
		return -ELOOP;
	}
	if (n->mode == NODE_DIR && (write || (flags & O_CREAT) != 0)) {
		return -EISDIR;
	}
	if (n->mode == NODE_FILE && (write || (flags & O_TRUNC) != 0) && n->object == NULL) {
		return n->ops != NULL ? -EACCES : -EROFS;
	}
	return 0;
}

static int64_t open_path(struct path *p, uint64_t flags, uint32_t mode)
{
	struct fd_table *table = process_current()->files;
	struct file *f;
	struct node *n;
	int fd, error = find(p, flags, mode, &n);

	if (error != 0) {
		return error;
	}
	error = check_open(n, flags);
	fd = error == 0 ? fd_reserve(table, 0) : error;
	if (fd >= 0) {
		error = node_open(n, (uint32_t)flags & LASTING, &f);
		/* O_PATH leaves all alone. */
		if (error == 0 && (flags & (O_TRUNC | O_PATH)) == O_TRUNC && n->object != NULL) {
			error = f->ops->truncate(f, 0);
			if (error != 0) {
				file_put(f);
			}
		}
		if (error == 0) {
			fd_install(table, fd, f, (flags & O_CLOEXEC) != 0);
		} else {
			fd_unreserve(table, fd);
			fd = error;
		}
	}
	node_put(n);
	return fd;
}

static int64_t do_open(uint64_t dir, uint64_t va, uint64_t flags, uint64_t mode)
{
	struct path p;
	int64_t result = path_init(&p, dir, va);

	if (result == 0) {
		result = open_path(&p, flags, (uint32_t)mode);
		path_fini(&p);
	}
	return result;
}

SYSCALL(openat)
{
	return do_open(a[0], a[1], a[2], a[3]);
}

SYSCALL(open)
{
	return do_open((uint64_t)AT_FDCWD, a[0], a[1], a[2]);
}

SYSCALL(creat)
{
	return do_open((uint64_t)AT_FDCWD, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]);
}

/* Directories. */

#define ENTRY_HEAD 19 /* of struct linux_dirent64, before the name */

static int64_t list(struct file *f, uint64_t va, uint64_t size)
{
	uint8_t out[ENTRY_HEAD + NODE_NAME_MAX + 1 + 8];
	uint64_t done = 0, index = atomic_load(&f->position);

	for (;;) {
		char name[NODE_NAME_MAX + 1];
		uint64_t inode, next = index;
		uint32_t mode;
		uint16_t bytes;
		int error = tree_entry(f->node, &next, name, &inode, &mode);

		if (error == -ENOENT) {
			break;
		}
		if (error != 0) {
			return error;
		}
		bytes = (uint16_t)ALIGN_UP(ENTRY_HEAD + strlen(name) + 1, sizeof(uint64_t));
		if (bytes > size - done) {
			if (done == 0) {
				return -EINVAL;
			}
			break;
		}
		memset(out, 0, sizeof(out));
		memcpy(out, &inode, 8);
		memcpy(out + 8, &next, 8);
		memcpy(out + 16, &bytes, 2);
		out[18] = (uint8_t)(mode >> 12);
		memcpy(out + ENTRY_HEAD, name, strlen(name));
		if (user_write(va + done, out, bytes) != 0) {
			return -EFAULT;
		}
		done += bytes;
		index = next;
	}
	atomic_store(&f->position, index);
	return (int64_t)done;
}

SYSCALL(getdents64)
{
	struct file *f = fd_get((int)a[0]);
	int64_t result = -ENOTDIR;

	if (f == NULL) {
		return -EBADF;
	}
	if (f->node != NULL && f->node->mode == NODE_DIR) {
		result = list(f, a[1], (uint32_t)a[2]);
	}
	file_put(f);
	return result;
}

static int64_t make_dir(uint64_t dir_fd, uint64_t va, uint64_t mode)
{
	char last[NODE_NAME_MAX + 1];
	struct node *dir, *n;
	struct path p;
	bool slash;
	int error = path_init(&p, dir_fd, va);

	if (error != 0) {
		return error;
	}
	error = tree_find_parent(p.from, p.text, &dir, last, &slash);
	if (error == 0) {
		n = node_create(NODE_DIR | ((uint32_t)mode & 0755));
		error = -ENOMEM;
		if (n != NULL) {
			n->may_change = true;
			error = tree_add(dir, last, n);
			node_put(n);
		}
		node_put(dir);
	}
	path_fini(&p);
	return error;
}

SYSCALL(mkdir)
{
	return make_dir((uint64_t)AT_FDCWD, a[0], a[1]);
}

SYSCALL(mkdirat)
{
	return make_dir(a[0], a[1], a[2]);
}

static int64_t remove(uint64_t dir_fd, uint64_t va, bool directory)
{
	char last[NODE_NAME_MAX + 1];
	struct node *dir;
	struct path p;
	bool slash;
	int error = path_init(&p, dir_fd, va);

	if (error != 0) {
		return error;
	}
	error = tree_find_parent(p.from, p.text, &dir, last, &slash);
	if (error == 0) {
		error = slash && !directory ? -ENOTDIR : tree_remove(dir, last, directory);
		node_put(dir);
	} else if (error == -EEXIST) {
		error = directory ? -EBUSY : -EISDIR;
	}
	path_fini(&p);
	return error;
}

SYSCALL(unlink)
{
	return remove((uint64_t)AT_FDCWD, a[0], false);
}

SYSCALL(rmdir)
{
	return remove((uint64_t)AT_FDCWD, a[0], true);
}

SYSCALL(unlinkat)
{
	return (a[2] & ~(uint64_t)AT_REMOVEDIR) != 0
		       ? -EINVAL
		       : remove(a[0], a[1], (a[2] & AT_REMOVEDIR) != 0);
}

static int64_t rename(uint64_t from_fd, uint64_t from, uint64_t to_fd, uint64_t to)
{
	char from_last[NODE_NAME_MAX + 1], to_last[NODE_NAME_MAX + 1];
	struct node *from_dir, *to_dir;
	struct path p, q;
	bool slash;
	int error = path_init(&p, from_fd, from);

	if (error != 0) {
		return error;
	}
	error = path_init(&q, to_fd, to);
	if (error == 0) {
		error = tree_find_parent(p.from, p.text, &from_dir, from_last, &slash);
		if (error == 0) {
			error = tree_find_parent(q.from, q.text, &to_dir, to_last, &slash);
			if (error == 0) {
				error = tree_rename(from_dir, from_last, to_dir, to_last);
				node_put(to_dir);
			}
			node_put(from_dir);
		}
		path_fini(&q);
	}
	path_fini(&p);
	return error == -EEXIST ? -EBUSY : error;
}

SYSCALL(rename)
{
	return rename((uint64_t)AT_FDCWD, a[0], (uint64_t)AT_FDCWD, a[1]);
}

SYSCALL(renameat)
{
	return rename(a[0], a[1], a[2], a[3]);
}

SYSCALL(renameat2)
{
	return a[4] != 0 ? -EINVAL : rename(a[0], a[1], a[2], a[3]);
}

static int64_t read_link(uint64_t dir_fd, uint64_t va, uint64_t buf, uint64_t size)
{
	struct path p;
	struct node *n;
	int64_t result = path_init(&p, dir_fd, va);

	if (result != 0) {
		return result;
	}
	result = tree_find(p.from, p.text, TREE_NOFOLLOW, &n);
	if (result == 0) {
		const char *target = n->target;

		if (n->mode != NODE_LINK || (int)size <= 0) {
			result = -EINVAL;
		} else if (n->ops != NULL && n->ops->link != NULL) {
			mutex_take(&tree_lock);
			result = n->ops->link(n, p.text, NODE_PATH_MAX);
			mutex_give(&tree_lock);
			target = p.text;
		}
		if (result == 0) {
			uint64_t len = MIN(strlen(target), (uint64_t)(int)size);

			result = user_write(buf, target, len) != 0 ? -EFAULT : (int64_t)len;
		}
		node_put(n);
	}
	path_fini(&p);
	return result;
}

SYSCALL(readlink)
{
	return read_link((uint64_t)AT_FDCWD, a[0], a[1], a[2]);
}

SYSCALL(readlinkat)
{
	return read_link(a[0], a[1], a[2], a[3]);
}

SYSCALL(symlinkat)
{
	char last[NODE_NAME_MAX + 1], *target = mem_alloc(NODE_PATH_MAX);
	int64_t len = target != NULL ? user_read_string(target, a[0], NODE_PATH_MAX) : -ENOMEM;
	struct node *dir, *n;
	struct path p;
	bool slash;
	int64_t error = len > 0 ? path_init(&p, a[1], a[2]) : (len == 0 ? -ENOENT : len);

	if (error == 0) {
		error = tree_find_parent(p.from, p.text, &dir, last, &slash);
		if (error == 0) {
			n = node_create(NODE_LINK | 0777);
			error = -ENOMEM;
			if (n != NULL) {
				n->may_change = true;
				n->target = mem_alloc((size_t)len + 1);
				if (n->target != NULL) {
					memcpy(n->target, target, (size_t)len + 1);
					n->target_len = (size_t)len;
					error = tree_add(dir, last, n);
				}
				node_put(n);
			}
			node_put(dir);
		}
		path_fini(&p);
	}
	mem_free(target, NODE_PATH_MAX);
	return error;
}

SYSCALL(symlink)
{
	const uint64_t at[6] = {a[0], (uint64_t)AT_FDCWD, a[1]};

	return sys_symlinkat(at);
}

/* The working directory. */

SYSCALL(getcwd)
{
	char *buf = mem_alloc(NODE_PATH_MAX);
	struct node *cwd = tree_get_cwd(process_current());
	int64_t len = buf != NULL ? tree_path(cwd, buf, NODE_PATH_MAX) : -ENOMEM;

	node_put(cwd);
	if (len > 0 && (uint64_t)len > a[1]) {
		len = -ERANGE;
	}
	if (len > 0 && user_write(a[0], buf, (size_t)len) != 0) {
		len = -EFAULT;
	}
	mem_free(buf, NODE_PATH_MAX);
	return len;
}

SYSCALL(chdir)
{
	struct path p;
	struct node *n;
	int error = path_init(&p, (uint64_t)AT_FDCWD, a[0]);

	if (error != 0) {
		return error;
	}
	error = tree_find(p.from, p.text, TREE_DIRECTORY, &n);
	if (error == 0) {
		tree_set_cwd(process_current(), n);
		node_put(n);
	}
	path_fini(&p);
	return error;
}

SYSCALL(fchdir)
{
	struct file *f = fd_get((int)a[0]);
	int error = -ENOTDIR;

	if (f == NULL) {
		return -EBADF;
	}
	if (f->node != NULL && f->node->mode == NODE_DIR) {
		tree_set_cwd(process_current(), f->node);
		error = 0;
	}
	file_put(f);
	return error;
}
