/*
 * A path of ring 3, with where it begins.
 */
#pragma once

#include "lib/base/types.h"

struct file;
struct node;

struct path {
	char *text;
	struct node *from; /* NULL: the working directory */
	struct file *file; /* held for `from`; with an empty path it is what is meant */
	bool is_empty;
};

/** path_init() - as the ...at() calls: @dir_fd, @va. Return: 0; -EFAULT, -ENAMETOOLONG, -EBADF,
 * -ENOTDIR, -ENOMEM. path_fini() afterwards. */
must_use int path_init(struct path *p, uint64_t dir_fd, uint64_t va);
void path_fini(struct path *p);
