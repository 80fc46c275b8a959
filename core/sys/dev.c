#include "core/sys/dev.h"

#include <errno.h>

#include "core/mem/object.h"
#include "core/sys/random.h"
#include "core/sys/tree.h"
#include "core/task/signal.h"

static int64_t null_read(struct file *f, struct uio *u, uint64_t *offset)
{
	(void)f;
	(void)u;
	(void)offset;
	return 0;
}

static int64_t null_write(struct file *f, struct uio *u, uint64_t *offset)
{
	(void)f;
	(void)offset;
	return (int64_t)u->left;
}

static int64_t zero_read(struct file *f, struct uio *u, uint64_t *offset)
{
	static const uint8_t zeros[512];
	int64_t total = 0, done;

	(void)f;
	(void)offset;
	while (u->left > 0) {
		done = uio_put(u, zeros, sizeof(zeros));
		if (done < 0) {
			return total > 0 ? total : done;
		}
		total += done;
		if (signal_is_pending()) {
			break;
		}
	}
	return total;
}

static int zero_map(struct file *f, struct file_map *m)
{
	(void)f;
	m->object = object_create(m->offset + m->len);
	return m->object != NULL ? 0 : -ENOMEM;
}

static int64_t full_write(struct file *f, struct uio *u, uint64_t *offset)
{
	(void)f;
	(void)u;
	(void)offset;
	return -ENOSPC;
}

static int64_t random_read(struct file *f, struct uio *u, uint64_t *offset)
{
	uint8_t chunk[256];
	int64_t total = 0, done;

	(void)f;
	(void)offset;
	while (u->left > 0) {
		random_bytes(chunk, sizeof(chunk));
		done = uio_put(u, chunk, sizeof(chunk));
		if (done < 0) {
			return total > 0 ? total : done;
		}
		total += done;
		if (signal_is_pending()) {
			break;
		}
	}
	return total;
}

static int device_stat(struct file *f, struct file_stat *st)
{
	node_stat(f->node, st);
	return 0;
}

static const struct file_ops null_ops = {
	.read = null_read, .write = null_write, .stat = device_stat};
static const struct file_ops zero_ops = {
	.read = zero_read, .write = null_write, .map = zero_map, .stat = device_stat};
static const struct file_ops full_ops = {
	.read = zero_read, .write = full_write, .stat = device_stat};
static const struct file_ops random_ops = {
	.read = random_read, .write = null_write, .stat = device_stat};

static const struct node_ops null_node = {.f_ops = &null_ops};
static const struct node_ops zero_node = {.f_ops = &zero_ops};
static const struct node_ops full_node = {.f_ops = &full_ops};
static const struct node_ops random_node = {.f_ops = &random_ops};

int dev_add(const char *path, unsigned major, unsigned minor, const struct node_ops *ops)
{
	return tree_make_node(path, NODE_CHAR | 0666, (uint64_t)major << 8 | minor, ops);
}

int dev_init(void)
{
	static const struct {
		const char *path;
		unsigned minor;
		const struct node_ops *ops;
	} device[] = {
		{"/dev/null", 3, &null_node},	  {"/dev/zero", 5, &zero_node},
		{"/dev/full", 7, &full_node},	  {"/dev/random", 8, &random_node},
		{"/dev/urandom", 9, &random_node},
	};
	int error = tree_make_dir("/dev", false);

	for (unsigned i = 0; i < ARRAY_SIZE(device) && error == 0; i++) {
		error = dev_add(device[i].path, 1, device[i].minor, device[i].ops);
	}
	return error;
}
