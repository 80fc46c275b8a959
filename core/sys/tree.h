/*
 * The file tree: the initramfs, read-only, and what is made in memory below /tmp, /run and
 * /dev/shm. There are no users: everything belongs to root.
 */
#pragma once

#include "core/sys/node.h"
#include "core/task/mutex.h"
#include "lib/base/types.h"

struct process;

/** The lock over names and directories. Held by callers where said. */
extern struct mutex tree_lock;

/** tree_init() - an empty tree with /dev, /proc, /run, /tmp. Return: 0 or -ENOMEM. */
must_use int tree_init(void);

/** tree_load() - adds an initramfs. Names that go out of the tree, or through what is no directory,
 * are told and passed over. Return: 0, -EINVAL for a broken archive, -ENOMEM. */
must_use int tree_load(const void *archive, size_t len);

struct node *tree_root(void);

#define TREE_NOFOLLOW  BIT(0) /* a link at the end stands for itself */
#define TREE_DIRECTORY BIT(1) /* anything else at the end is -ENOTDIR */

/**
 * tree_find() - the node behind a path.
 * @from: where relative paths begin; NULL: the current process's directory.
 * Return: 0 and @out, held; -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG, -ENOMEM.
 * Context: thread, without tree_lock.
 */
must_use int tree_find(struct node *from, const char *path, unsigned flags, struct node **out);

/**
 * tree_find_parent() - the directory that the last name of a path is in.
 * @last: the name, cut out of @path; "." and ".." are -EEXIST.
 * @must_be_dir: did a slash follow?
 * Return: as tree_find().
 */
must_use int tree_find_parent(struct node *from, const char *path, struct node **dir,
			      char last[NODE_NAME_MAX + 1], bool *must_be_dir);

/** tree_add() - gives @n a name in @dir. Return: 0; -EEXIST, -EROFS, -ENOENT (the directory is
 * gone), -ENOMEM. */
must_use int tree_add(struct node *dir, const char *name, struct node *n);

/** tree_remove() - unlink() or rmdir(). Return: 0; -ENOENT, -EROFS, -EISDIR, -ENOTDIR, -ENOTEMPTY,
 * -EBUSY. */
must_use int tree_remove(struct node *dir, const char *name, bool directory);

/** tree_rename() - within what is in memory. Return: 0, -errno. */
must_use int tree_rename(struct node *from_dir, const char *from, struct node *to_dir,
			 const char *to);

/** tree_path() - the path of @n. Return: its length with the zero; -ENAMETOOLONG, -ENOENT. */
must_use int tree_path(struct node *n, char *buf, size_t size);
/** tree_path_locked() - for those who are called with tree_lock held. */
must_use int tree_path_locked(struct node *n, char *buf, size_t size);

/** tree_entry() - the entry at @index of a directory; "." and ".." come first. @index is moved on.
 * Return: 0; -ENOENT at the end. */
must_use int tree_entry(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1],
			uint64_t *inode, uint32_t *mode);

/** tree_new_file() - an empty file in memory, in no directory. Return: it, or NULL. */
must_use struct node *tree_new_file(uint32_t permissions);

/** tree_set_cwd() / tree_set_exe() / tree_forget() - what a process has of the tree. */
void tree_set_cwd(struct process *p, struct node *dir);
void tree_set_exe(struct process *p, struct node *program);
void tree_forget(struct process *p);
/** tree_get_cwd() - held. */
struct node *tree_get_cwd(struct process *p);

/** tree_make_dir() / tree_make_node() - for the kernel: with all directories above. Return: 0,
 * -errno. */
must_use int tree_make_dir(const char *path, bool may_change);
must_use int tree_make_node(const char *path, uint32_t mode, uint64_t device_number,
			    const struct node_ops *ops);

/** tree_make_memory() - the directories that ring 3 may write to. After tree_load(). Return: 0,
 * -errno. */
must_use int tree_make_memory(void);
