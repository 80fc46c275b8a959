/*
 * From the initramfs into the tree. The archive's bytes are not copied: files point to them.
 */
#include <errno.h>
#include <string.h>

#include "core/boot/cpio.h"
#include "core/log.h"
#include "core/mem/heap.h"
#include "core/sys/tree.h"

#define LINKED_MAX 64 /* files with several names whose bytes come with the last of them */
#define LOAD_PATH_MAX 1024 /* longer ones are passed over */

/* Names of one file: only the last of them carries the bytes. */
struct linked {
	uint32_t inode, major, minor;
	struct node *node;
};

struct loader {
	struct linked linked[LINKED_MAX];
	unsigned count;
	unsigned passed_over;
};

static int make_directories(const char *path)
{
	char part[LOAD_PATH_MAX];
	size_t len = strlen(path);

	for (size_t i = 1; i < len; i++) {
		if (path[i] == '/') {
			int error;

			memcpy(part, path, i);
			part[i] = '\0';
			error = tree_make_dir(part, false);
			if (error != 0) {
				return error;
			}
		}
	}
	return 0;
}

static struct linked *find_linked(struct loader *l, const struct cpio_entry *e)
{
	for (unsigned i = 0; i < l->count; i++) {
		struct linked *k = &l->linked[i];

		if (k->inode == e->inode && k->major == e->device_major &&
		    k->minor == e->device_minor) {
			return k;
		}
	}
	if (l->count < LINKED_MAX) {
		struct linked *k = &l->linked[l->count++];

		*k = (struct linked){e->inode, e->device_major, e->device_minor, NULL};
		return k;
	}
	return NULL;
}

static void give_data(struct node *n, const struct cpio_entry *e)
{
	n->data = e->data;
	n->data_len = e->len;
	n->mtime_ns = (uint64_t)e->mtime * 1000000000;
}

/* Several nodes with the same bytes stand for one file with several names: nothing is written to
 * them, so nobody sees a difference. */
static void add_link(struct loader *l, const struct cpio_entry *e, struct node *n)
{
	struct linked *k = find_linked(l, e);

	if (k == NULL) {
		return;
	}
	if (k->node == NULL || e->len != 0) {
		k->node = n;
	} else if (k->node->data_len != 0) {
		n->data = k->node->data;
		n->data_len = k->node->data_len;
	}
}

static int set_target(struct node *n, const struct cpio_entry *e)
{
	if (e->len == 0 || e->len >= NODE_PATH_MAX || memchr(e->data, '\0', e->len) != NULL) {
		return -EINVAL;
	}
	n->target = mem_alloc(e->len + 1);
	if (n->target == NULL) {
		return -ENOMEM;
	}
	memcpy(n->target, e->data, e->len);
	n->target_len = e->len;
	return 0;
}

static int add(struct loader *l, const struct cpio_entry *e)
{
	uint32_t type = e->mode & NODE_TYPE;
	char path[LOAD_PATH_MAX];
	struct node *n;
	int error;

	if (e->name_len + 2 > sizeof(path)) {
		return -ENAMETOOLONG;
	}
	path[0] = '/';
	memcpy(path + 1, e->name, e->name_len + 1);
	error = make_directories(path);
	if (type == NODE_DIR || error != 0) {
		return error != 0 || strcmp(e->name, ".") == 0 ? error : tree_make_dir(path, false);
	}
	if (type != NODE_FILE && type != NODE_LINK) {
		return 0; /* devices are the kernel's own */
	}
	error = tree_make_node(path, e->mode, 0, NULL);
	if (error == 0) {
		error = tree_find(NULL, path, TREE_NOFOLLOW, &n);
	}
	if (error != 0) {
		return error;
	}
	if (type == NODE_LINK) {
		error = set_target(n, e);
	} else {
		give_data(n, e);
		if (e->links > 1) {
			add_link(l, e, n);
		}
	}
	node_put(n);
	return error;
}

/* Names that came before the bytes get them now. */
static int share_data(struct loader *l, const void *archive, size_t len)
{
	struct cpio_entry e;
	struct cpio c;
	int more;

	cpio_init(&c, archive, len);
	while ((more = cpio_next(&c, &e)) == 1) {
		char path[LOAD_PATH_MAX];
		struct linked *k;
		struct node *n;

		if ((e.mode & NODE_TYPE) != NODE_FILE || e.links < 2 || e.len != 0 ||
		    e.name_len + 2 > sizeof(path)) {
			continue;
		}
		k = find_linked(l, &e);
		path[0] = '/';
		memcpy(path + 1, e.name, e.name_len + 1);
		if (k != NULL && k->node != NULL && tree_find(NULL, path, TREE_NOFOLLOW, &n) == 0) {
			if (n->mode == NODE_FILE && n->object == NULL) {
				n->data = k->node->data;
				n->data_len = k->node->data_len;
			}
			node_put(n);
		}
	}
	return more;
}

int tree_load(const void *archive, size_t len)
{
	struct loader *l = mem_alloc(sizeof(*l));
	struct cpio_entry e;
	struct cpio c;
	int more;

	if (l == NULL) {
		return -ENOMEM;
	}
	cpio_init(&c, archive, len);
	while ((more = cpio_next(&c, &e)) == 1) {
		int error = add(l, &e);

		if (error == -ENOMEM) {
			more = error;
			break;
		}
		if (error != 0 && l->passed_over++ < 8) {
			log_warning("initramfs: '%s' is passed over: error %d", e.name, -error);
		}
	}
	if (more == 0 && l->count != 0) {
		more = share_data(l, archive, len);
	}
	mem_free(l, sizeof(*l));
	return more;
}
