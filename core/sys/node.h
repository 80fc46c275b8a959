/*
 * What stands in the file tree: directories, files, links, devices, sockets. A node in the tree is
 * held by it; open files and mappings hold it longer.
 */
#pragma once

#include <stdatomic.h>

#include "core/list.h"
#include "core/sys/file.h"
#include "lib/base/types.h"

/* As S_IF* of Linux's <linux/stat.h>. */
#define NODE_TYPE   0170000
#define NODE_SOCKET 0140000
#define NODE_LINK   0120000
#define NODE_FILE   0100000
#define NODE_DIR    0040000
#define NODE_CHAR   0020000
#define NODE_PIPE   0010000

#define NODE_NAME_MAX 255
#define NODE_PATH_MAX 4096

struct node;

/** A device or anything else that makes its own files. */
struct node_ops {
	/** open() - @f, made by the tree, gets its ops by @f_ops and its data by @data.
	 * Return: 0 or -errno. NULL: only @f_ops. */
	int (*open)(struct node *n, uint32_t flags, void **data);
	const struct file_ops *f_ops;
	/* Directories whose entries are made when they are looked for: */
	/** lookup() - Return: 0 and a held node, or -errno. */
	int (*lookup)(struct node *dir, const char *name, size_t len, struct node **out);
	/** list() - the name of entry @index (the "." and ".." are not among them) and its mode.
	 * Return: 0, -ENOENT at the end. */
	int (*list)(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1],
		    uint32_t *mode);
	/** link() - of a link that is made anew each time. Return: 0, -errno. */
	int (*link)(struct node *n, char *target, size_t size);
	/** text() - contents of a small file, made at open. Return: bytes, -errno. */
	int64_t (*text)(struct node *n, char *buf, size_t size);
};

struct node {
	/* Constant after creation. */
	uint64_t inode;
	uint32_t mode; /* the type bits */
	uint64_t device_number;
	const struct node_ops *ops; /* NULL: the tree's own kinds */
	uint64_t argument;	    /* of ops */
	bool may_change;	    /* in memory: can be written to, removed */
	const uint8_t *data;	    /* a file of the initramfs */
	size_t data_len;
	struct object *object; /* a file in memory */
	char *target;	       /* a link */
	size_t target_len;

	/* Guarded by the tree's lock. */
	struct list in_parent, in_names;
	struct node *parent; /* held; NULL: the root, or removed */
	uint64_t position;   /* in its directory: who came later has a larger one */
	struct list children;
	char *name;
	uint32_t permissions;
	uint32_t links;
	void *socket; /* who is bound here */

	struct mutex contents; /* of one write at a time, or use of an open file's position */

	_Atomic uint64_t mtime_ns;
	_Atomic uint64_t refs; /* 64 bits: see struct file */
};

void node_init(void);

/** node_create() - @mode with type. Return: it, with one reference and in no directory; NULL. */
must_use struct node *node_create(uint32_t mode);

/** node_number() - an inode number that nothing else has; also for what is in no directory. */
uint64_t node_number(void);

void node_get(struct node *n);
void node_put(struct node *n);

/** node_open() - a file over it. The caller's reference stays the caller's.
 * Return: 0 and @out, or -errno. */
must_use int node_open(struct node *n, uint32_t flags, struct file **out);

/** node_stat() - what stat() says of it. */
void node_stat(struct node *n, struct file_stat *st);

/** node_size() - bytes of a file's contents. */
uint64_t node_size(struct node *n);
