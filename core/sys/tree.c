#include "core/sys/tree.h"

#include <errno.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/mem/heap.h"
#include "core/mem/object.h"
#include "core/task/process.h"

#define LINKS_MAX    40
#define NAME_BUCKETS 512
#define MADE_ANEW    BIT(40) /* positions of entries that their directory makes, from here on */

struct mutex tree_lock;

static uint64_t last_position = 1;	/* tree_lock; 0 and 1 are "." and ".." */
static struct node *root;		/* constant after tree_init() */
static struct list names[NAME_BUCKETS]; /* tree_lock: what is in directories, by its name there */

struct node *tree_root(void)
{
	return root;
}

/* Names. Callers hold the lock. */

static struct list *bucket_of(const struct node *dir, const char *name, size_t len)
{
	uint64_t hash = dir->inode;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
	}
	return &names[(hash >> 32) % NAME_BUCKETS];
}

static struct node *child_named(struct node *dir, const char *name, size_t len)
{
	list_each(bucket_of(dir, name, len), l)
	{
		struct node *n = container_of(l, struct node, in_names);

		if (n->parent == dir && strlen(n->name) == len && memcmp(n->name, name, len) == 0) {
			return n;
		}
	}
	return NULL;
}

/* One step down (or up). Return: 0 and a held node. */
static int step(struct node *dir, const char *name, size_t len, struct node **out)
{
	struct node *n;

	if (dir->mode != NODE_DIR) {
		return -ENOTDIR;
	}
	if (len > NODE_NAME_MAX) {
		return -ENAMETOOLONG;
	}
	if (len == 1 && name[0] == '.') {
		n = dir;
	} else if (len == 2 && name[0] == '.' && name[1] == '.') {
		n = dir->parent != NULL ? dir->parent : dir;
	} else {
		n = child_named(dir, name, len);
		if (n == NULL && dir->ops != NULL && dir->ops->lookup != NULL) {
			return dir->ops->lookup(dir, name, len, out);
		}
	}
	if (n == NULL) {
		return -ENOENT;
	}
	node_get(n);
	*out = n;
	return 0;
}

/* A path that is being followed: links put their targets in front of what is left. */
struct walk {
	struct node *at; /* held */
	unsigned links;
	const char *rest;
	char *buf; /* two halves of NODE_PATH_MAX, used in turn */
	unsigned half;
};

static int follow(struct walk *w, struct node *link)
{
	char *out = w->buf + w->half * NODE_PATH_MAX;
	size_t len, rest = strlen(w->rest);

	if (++w->links > LINKS_MAX) {
		return -ELOOP;
	}
	if (link->ops != NULL && link->ops->link != NULL) {
		int error = link->ops->link(link, out, NODE_PATH_MAX);

		if (error != 0) {
			return error;
		}
		len = strlen(out);
	} else {
		len = link->target_len;
		if (len < NODE_PATH_MAX) {
			memcpy(out, link->target, len);
		}
	}
	if (len + rest + 2 > NODE_PATH_MAX) {
		return -ENAMETOOLONG;
	}
	out[len] = '/';
	memcpy(out + len + 1, w->rest, rest + 1);
	if (rest == 0) {
		out[len] = '\0';
	}
	w->rest = out;
	w->half ^= 1;
	if (out[0] == '/') {
		node_put(w->at);
		w->at = root;
		node_get(root);
	}
	return 0;
}

/* Goes on to the end, or with @last to the last name, which is copied. */
static int go(struct walk *w, unsigned flags, char *last, bool *must_be_dir)
{
	for (;;) {
		struct node *next;
		const char *name, *after;
		size_t len;
		int error;

		while (*w->rest == '/') {
			w->rest++;
		}
		name = w->rest;
		if (*name == '\0') {
			return last != NULL ? -EEXIST : 0;
		}
		for (len = 0; name[len] != '\0' && name[len] != '/';) {
			len++;
		}
		for (after = name + len; *after == '/';) {
			after++;
		}
		if (last != NULL && *after == '\0') {
			if (len > NODE_NAME_MAX) {
				return -ENAMETOOLONG;
			}
			memcpy(last, name, len);
			last[len] = '\0';
			*must_be_dir = name[len] == '/';
			if (w->at->mode != NODE_DIR) {
				return -ENOTDIR;
			}
			return strcmp(last, ".") == 0 || strcmp(last, "..") == 0 ? -EEXIST : 0;
		}
		error = step(w->at, name, len, &next);
		if (error != 0) {
			return error;
		}
		w->rest = name + len;
		if (next->mode == NODE_LINK && (name[len] == '/' || (flags & TREE_NOFOLLOW) == 0)) {
			error = follow(w, next);
			node_put(next);
			if (error != 0) {
				return error;
			}
			continue;
		}
		if (name[len] == '/' && next->mode != NODE_DIR) {
			node_put(next);
			return -ENOTDIR;
		}
		node_put(w->at);
		w->at = next;
	}
}

static int start(struct walk *w, struct node *from, const char *path)
{
	if (path[0] == '\0') {
		return -ENOENT;
	}
	*w = (struct walk){.rest = path, .buf = mem_alloc(2 * NODE_PATH_MAX)};
	if (w->buf == NULL) {
		return -ENOMEM;
	}
	if (path[0] == '/') {
		w->at = root;
	} else {
		w->at = from != NULL ? from : process_current()->cwd;
	}
	node_get(w->at);
	return 0;
}

static void end(struct walk *w)
{
	if (w->at != NULL) {
		node_put(w->at);
	}
	mem_free(w->buf, 2 * NODE_PATH_MAX);
}

int tree_find(struct node *from, const char *path, unsigned flags, struct node **out)
{
	struct walk w;
	int error;

	mutex_take(&tree_lock);
	error = start(&w, from, path);
	if (error == 0) {
		error = go(&w, flags, NULL, NULL);
		if (error == 0 && (flags & TREE_DIRECTORY) != 0 && w.at->mode != NODE_DIR) {
			error = -ENOTDIR;
		}
		if (error == 0) {
			*out = w.at;
			w.at = NULL;
		}
		end(&w);
	}
	mutex_give(&tree_lock);
	return error;
}

int tree_find_parent(struct node *from, const char *path, struct node **dir,
		     char last[NODE_NAME_MAX + 1], bool *must_be_dir)
{
	struct walk w;
	int error;

	mutex_take(&tree_lock);
	error = start(&w, from, path);
	if (error == 0) {
		error = go(&w, 0, last, must_be_dir);
		if (error == 0) {
			*dir = w.at;
			w.at = NULL;
		}
		end(&w);
	}
	mutex_give(&tree_lock);
	return error;
}

/* Changes. */

static int set_name(struct node *n, const char *name)
{
	size_t len = strlen(name);
	char *copy = mem_alloc(len + 1);

	if (copy == NULL) {
		return -ENOMEM;
	}
	memcpy(copy, name, len + 1);
	if (n->name != NULL) {
		mem_free(n->name, strlen(n->name) + 1);
	}
	n->name = copy;
	return 0;
}

static void attach(struct node *dir, struct node *n)
{
	node_get(n);
	node_get(dir);
	n->parent = dir;
	n->links = 1;
	n->position = ++last_position;
	list_add_last(&dir->children, &n->in_parent);
	list_add_first(bucket_of(dir, n->name, strlen(n->name)), &n->in_names);
}

/* Whether ring 3 may is the caller's to ask. Caller holds the lock. */
static int add_locked(struct node *dir, const char *name, struct node *n)
{
	int error;

	if (child_named(dir, name, strlen(name)) != NULL) {
		return -EEXIST;
	}
	error = set_name(n, name);
	if (error != 0) {
		return error;
	}
	attach(dir, n);
	dir->mtime_ns = clock_wall_ns();
	return 0;
}

static void remove_locked(struct node *n)
{
	struct node *dir = n->parent;

	list_remove(&n->in_parent);
	list_remove(&n->in_names);
	n->parent = NULL;
	n->links = 0;
	dir->mtime_ns = clock_wall_ns();
	node_put(n);
	node_put(dir);
}

int tree_add(struct node *dir, const char *name, struct node *n)
{
	int error;

	mutex_take(&tree_lock);
	if (!dir->may_change) {
		error = child_named(dir, name, strlen(name)) != NULL ? -EEXIST : -EROFS;
	} else if (dir->parent == NULL) {
		error = -ENOENT;
	} else {
		error = add_locked(dir, name, n);
	}
	mutex_give(&tree_lock);
	return error;
}

/* Caller holds the lock. */
static int may_remove(struct node *dir, struct node *n, bool directory)
{
	if (n == NULL) {
		return -ENOENT;
	}
	if (!dir->may_change || !n->may_change) {
		return -EROFS;
	}
	if (directory && n->mode != NODE_DIR) {
		return -ENOTDIR;
	}
	if (!directory && n->mode == NODE_DIR) {
		return -EISDIR;
	}
	return list_is_empty(&n->children) ? 0 : -ENOTEMPTY;
}

int tree_remove(struct node *dir, const char *name, bool directory)
{
	struct node *n;
	int error;

	mutex_take(&tree_lock);
	n = child_named(dir, name, strlen(name));
	error = may_remove(dir, n, directory);
	if (error == 0) {
		remove_locked(n);
	}
	mutex_give(&tree_lock);
	return error;
}

static bool is_below(const struct node *n, const struct node *top)
{
	for (; n != NULL; n = n->parent) {
		if (n == top) {
			return true;
		}
	}
	return false;
}

int tree_rename(struct node *from_dir, const char *from, struct node *to_dir, const char *to)
{
	struct node *n, *other;
	int error = 0;

	mutex_take(&tree_lock);
	n = child_named(from_dir, from, strlen(from));
	other = child_named(to_dir, to, strlen(to));
	if (n == NULL) {
		error = -ENOENT;
	} else if (!from_dir->may_change || !to_dir->may_change || !n->may_change) {
		error = -EROFS;
	} else if (to_dir->parent == NULL) {
		error = -ENOENT;
	} else if (is_below(to_dir, n)) {
		error = -EINVAL;
	} else if (other != NULL && other != n) {
		error = may_remove(to_dir, other, n->mode == NODE_DIR);
	}
	if (error == 0 && other != n) {
		node_get(n);
		error = set_name(n, to);
		if (error == 0) {
			if (other != NULL) {
				remove_locked(other);
			}
			remove_locked(n);
			attach(to_dir, n);
		}
		node_put(n);
	}
	mutex_give(&tree_lock);
	return error;
}

/* Looking. */

int tree_path_locked(struct node *n, char *buf, size_t size)
{
	size_t at = size;

	if (at < 2) {
		return -ENAMETOOLONG;
	}
	buf[--at] = '\0';
	if (n == root) {
		buf[--at] = '/';
	}
	for (; n != root; n = n->parent) {
		size_t len = n->name != NULL ? strlen(n->name) : 0;

		if (n->parent == NULL || len == 0) {
			return -ENOENT; /* removed, in no directory, or made anew each time */
		}
		if (len + 1 > at) {
			return -ENAMETOOLONG;
		}
		at -= len;
		memcpy(buf + at, n->name, len);
		buf[--at] = '/';
	}
	memmove(buf, buf + at, size - at);
	return (int)(size - at);
}

int tree_path(struct node *n, char *buf, size_t size)
{
	int result;

	mutex_take(&tree_lock);
	result = tree_path_locked(n, buf, size);
	mutex_give(&tree_lock);
	return result;
}

/* The first one at *index or behind it: what is removed meanwhile hides none of the others. */
static int child_entry(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1],
		       uint64_t *inode, uint32_t *mode)
{
	list_each(&dir->children, l)
	{
		struct node *n = container_of(l, struct node, in_parent);

		if (n->position >= *index) {
			memcpy(name, n->name, strlen(n->name) + 1);
			*inode = n->inode;
			*mode = n->mode;
			*index = n->position + 1;
			return 0;
		}
	}
	if (dir->ops != NULL && dir->ops->list != NULL) {
		uint64_t own = MAX(*index, MADE_ANEW) - MADE_ANEW;
		int error = dir->ops->list(dir, &own, name, mode);

		*inode = 1;
		*index = own + MADE_ANEW;
		return error;
	}
	return -ENOENT;
}

int tree_entry(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1], uint64_t *inode,
	       uint32_t *mode)
{
	int error = 0;

	mutex_take(&tree_lock);
	if (*index < 2) {
		struct node *n = *index == 1 && dir->parent != NULL ? dir->parent : dir;

		memcpy(name, "..", 3);
		name[*index + 1] = '\0';
		*inode = n->inode;
		*mode = NODE_DIR;
		++*index;
	} else {
		error = child_entry(dir, index, name, inode, mode);
	}
	mutex_give(&tree_lock);
	return error;
}

struct node *tree_new_file(uint32_t permissions)
{
	struct node *n = node_create(NODE_FILE | (permissions & 07777));

	if (n != NULL) {
		n->may_change = true;
		n->object = object_create(0);
		if (n->object == NULL) {
			node_put(n);
			return NULL;
		}
	}
	return n;
}

static void set(struct node **of_process, struct node *n)
{
	struct node *old;

	if (n != NULL) {
		node_get(n);
	}
	mutex_take(&tree_lock);
	old = *of_process;
	*of_process = n;
	mutex_give(&tree_lock);
	if (old != NULL) {
		node_put(old);
	}
}

void tree_set_cwd(struct process *p, struct node *dir)
{
	set(&p->cwd, dir);
}

void tree_set_exe(struct process *p, struct node *program)
{
	set(&p->exe, program);
}

void tree_forget(struct process *p)
{
	set(&p->cwd, NULL);
	set(&p->exe, NULL);
}

struct node *tree_get_cwd(struct process *p)
{
	struct node *n;

	mutex_take(&tree_lock);
	n = p->cwd;
	node_get(n);
	mutex_give(&tree_lock);
	return n;
}

/* Start-up. */

int tree_make_node(const char *path, uint32_t mode, uint64_t device_number,
		   const struct node_ops *ops)
{
	char last[NODE_NAME_MAX + 1];
	struct node *dir = NULL, *n;
	bool slash;
	int error = tree_find_parent(root, path, &dir, last, &slash);

	if (error != 0) {
		return error;
	}
	n = node_create(mode);
	error = n != NULL ? 0 : -ENOMEM;
	if (error == 0) {
		n->device_number = device_number;
		n->ops = ops;
		mutex_take(&tree_lock);
		error = add_locked(dir, last, n);
		mutex_give(&tree_lock);
		node_put(n);
	}
	node_put(dir);
	return error;
}

int tree_make_dir(const char *path, bool may_change)
{
	struct node *n;
	int error = tree_make_node(path, NODE_DIR | 0755, 0, NULL);

	if (error != 0 && error != -EEXIST) {
		return error;
	}
	error = tree_find(root, path, TREE_DIRECTORY, &n);
	if (error == 0) {
		n->may_change |= may_change;
		node_put(n);
	}
	return error;
}

int tree_init(void)
{
	mutex_init(&tree_lock);
	node_init();
	for (unsigned i = 0; i < NAME_BUCKETS; i++) {
		list_init(&names[i]);
	}
	root = node_create(NODE_DIR | 0755);
	return root != NULL ? 0 : -ENOMEM;
}

int tree_make_memory(void)
{
	static const char *const path[] = {"/tmp", "/run", "/dev/shm"};
	int error = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(path) && error == 0; i++) {
		error = tree_make_dir(path[i], true);
	}
	return error;
}
