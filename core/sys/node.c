#include "core/sys/node.h"

#include <errno.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/mem/object.h"
#include "core/mem/page.h"

#define CHUNK	   512
#define TEXT_BYTES (16 * KIB)

static struct heap heap;
static _Atomic uint64_t last_inode = 1;

void node_init(void)
{
	heap_init(&heap, "node", sizeof(struct node));
}

uint64_t node_number(void)
{
	return atomic_fetch_add(&last_inode, 1) + 1;
}

struct node *node_create(uint32_t mode)
{
	struct node *n = heap_alloc(&heap);

	if (n == NULL) {
		return NULL;
	}
	n->inode = node_number();
	n->mode = mode & NODE_TYPE;
	n->permissions = mode & 07777;
	n->refs = 1;
	n->mtime_ns = clock_wall_ns();
	list_init(&n->in_parent);
	list_init(&n->children);
	mutex_init(&n->contents);
	return n;
}

void node_get(struct node *n)
{
	atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
}

void node_put(struct node *n)
{
	/* The parents of what is made anew may follow. */
	while (n != NULL && atomic_fetch_sub(&n->refs, 1) == 1) {
		struct node *parent = n->parent;

		if (n->object != NULL) {
			object_put(n->object);
		}
		if (n->target != NULL) {
			mem_free(n->target, n->target_len + 1);
		}
		if (n->name != NULL) {
			mem_free(n->name, strlen(n->name) + 1);
		}
		heap_free(&heap, n);
		n = parent;
	}
}

uint64_t node_size(struct node *n)
{
	if (n->object != NULL) {
		return object_size(n->object);
	}
	return n->mode == NODE_LINK ? n->target_len : n->data_len;
}

void node_stat(struct node *n, struct file_stat *st)
{
	*st = (struct file_stat){
		.inode = n->inode,
		.size = node_size(n),
		.mode = n->mode | n->permissions,
		.links = n->mode == NODE_DIR ? 2 : n->links,
		.device_number = n->device_number,
		.mtime_ns = n->mtime_ns,
		.file_system = n->may_change ? 2 : 1,
	};
	st->blocks = n->object != NULL ? object_pages(n->object) * (PAGE_SIZE / 512)
				       : (st->size + 511) / 512;
}

/* Files of the initramfs: bytes that lie there. */

static int64_t data_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct node *n = f->node;
	int64_t done;

	if (*offset >= n->data_len) {
		return 0;
	}
	done = uio_put(u, n->data + *offset, n->data_len - *offset);
	*offset += done > 0 ? (uint64_t)done : 0;
	return done;
}

static int fill_page(void *ctx, uint64_t offset, void *page)
{
	const struct node *n = ctx;

	if (offset < n->data_len) {
		memcpy(page, n->data + offset, MIN(n->data_len - offset, PAGE_SIZE));
	}
	return 0;
}

/* The initramfs stays for ever, and its nodes are never removed. */
static int data_map(struct file *f, struct file_map *m)
{
	if (f->data == NULL) {
		struct object *o = object_create_filled(f->node->data_len, fill_page, f->node);
		void *expected = NULL;

		if (o == NULL) {
			return -ENOMEM;
		}
		if (!__atomic_compare_exchange_n(&f->data, &expected, (void *)o, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			object_put(o);
		}
	}
	m->object = f->data;
	object_get(m->object);
	return 0;
}

static void data_release(struct file *f)
{
	if (f->data != NULL) {
		object_put(f->data);
	}
}

static uint64_t file_size(struct file *f)
{
	return node_size(f->node);
}

static int file_stat(struct file *f, struct file_stat *st)
{
	node_stat(f->node, st);
	return 0;
}

static const struct file_ops data_ops = {
	.read = data_read,
	.map = data_map,
	.stat = file_stat,
	.size = file_size,
	.release = data_release,
};

/* Files in memory: an object. Also what memfd_create() gives. */

static int64_t memory_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct object *o = f->node->object;
	uint8_t chunk[CHUNK];
	int64_t total = 0;

	while (u->left > 0) {
		uint64_t size = object_size(o);
		size_t len = MIN(u->left, (uint64_t)sizeof(chunk));
		int64_t done;

		if (*offset >= size) {
			break;
		}
		len = MIN(len, size - *offset);
		done = object_read(o, *offset, chunk, len);
		if (done == 0) {
			done = uio_put(u, chunk, len);
		}
		if (done < 0) {
			return total > 0 ? total : done;
		}
		*offset += (uint64_t)done;
		total += done;
		if ((size_t)done < len) {
			break;
		}
	}
	return total;
}

/* Return: bytes of one chunk, or -errno. */
static int64_t write_chunk(struct object *o, struct uio *u, uint64_t offset)
{
	uint8_t chunk[CHUNK];
	int64_t len = uio_get(u, chunk, sizeof(chunk));
	int error = 0;

	if (len <= 0) {
		return len;
	}
	if (offset + (uint64_t)len > object_size(o)) {
		error = object_resize(o, offset + (uint64_t)len);
	}
	if (error == 0) {
		error = object_write(o, offset, chunk, (size_t)len);
	}
	return error != 0 ? error : len;
}

static int64_t memory_write(struct file *f, struct uio *u, uint64_t *offset)
{
	struct object *o = f->node->object;
	int64_t total = 0;

	if ((atomic_load(&f->flags) & FILE_APPEND) != 0) {
		*offset = object_size(o);
	}
	while (u->left > 0) {
		int64_t done;

		if (*offset > OBJECT_SIZE_MAX - CHUNK) {
			return total > 0 ? total : -EFBIG;
		}
		done = write_chunk(o, u, *offset);
		if (done <= 0) {
			return total > 0 ? total : done;
		}
		*offset += (uint64_t)done;
		total += done;
	}
	f->node->mtime_ns = clock_wall_ns();
	return total;
}

static int memory_map(struct file *f, struct file_map *m)
{
	m->object = f->node->object;
	object_get(m->object);
	return 0;
}

static int memory_truncate(struct file *f, uint64_t size)
{
	int error;

	mutex_take(&f->node->contents);
	error = object_resize(f->node->object, size);
	mutex_give(&f->node->contents);
	return error;
}

#define KEEP_SIZE  0x1
#define PUNCH_HOLE 0x2

/* Caller holds the lock of the contents. */
static int allocate(struct object *o, int mode, uint64_t offset, uint64_t len)
{
	uint64_t size = object_size(o), end;
	int error = 0;

	if (!range_end(offset, len, &end) || end > OBJECT_SIZE_MAX) {
		return -EFBIG;
	}
	if (mode == (PUNCH_HOLE | KEEP_SIZE)) {
		return offset < size ? object_punch(o, offset, MIN(len, size - offset)) : 0;
	}
	if (mode != 0 && mode != KEEP_SIZE) {
		return -EOPNOTSUPP;
	}
	if (mode == 0 && end > size) {
		error = object_resize(o, end);
	}
	if (error == 0 && offset < object_size(o)) {
		error = object_populate(o, offset, MIN(len, object_size(o) - offset));
	}
	return error == -ENOMEM ? -ENOSPC : error;
}

static int memory_allocate(struct file *f, int mode, uint64_t offset, uint64_t len)
{
	int error;

	mutex_take(&f->node->contents);
	error = allocate(f->node->object, mode, offset, len);
	mutex_give(&f->node->contents);
	return error;
}

static const struct file_ops memory_ops = {
	.read = memory_read,
	.write = memory_write,
	.map = memory_map,
	.stat = file_stat,
	.truncate = memory_truncate,
	.allocate = memory_allocate,
	.size = file_size,
};

/* Small files that are written when they are opened. */

struct text {
	size_t len;
	char bytes[];
};

static int64_t text_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct text *t = f->data;
	int64_t done;

	if (*offset >= t->len) {
		return 0;
	}
	done = uio_put(u, t->bytes + *offset, t->len - *offset);
	*offset += done > 0 ? (uint64_t)done : 0;
	return done;
}

static uint64_t text_size(struct file *f)
{
	return ((struct text *)f->data)->len;
}

static void text_release(struct file *f)
{
	mem_free(f->data, sizeof(struct text) + ((struct text *)f->data)->len);
}

static const struct file_ops text_ops = {
	.read = text_read,
	.stat = file_stat,
	.size = text_size,
	.release = text_release,
};

/* Return: 0 with the text, cut to what it needs, or -errno. */
static int make_text(struct node *n, void **data)
{
	char *buf = mem_alloc(TEXT_BYTES);
	int64_t len = -ENOMEM;

	if (buf != NULL) {
		len = n->ops->text(n, buf, TEXT_BYTES);
	}
	if (len >= 0) {
		struct text *t;

		len = MIN(len, (int64_t)TEXT_BYTES - 1);
		t = mem_alloc(sizeof(*t) + (size_t)len);
		if (t != NULL) {
			t->len = (size_t)len;
			memcpy(t->bytes, buf, (size_t)len);
			*data = t;
			len = 0;
		} else {
			len = -ENOMEM;
		}
	}
	mem_free(buf, TEXT_BYTES);
	return (int)len;
}

/* Directories, and what was opened by O_PATH only. */

static const struct file_ops plain_ops = {.stat = file_stat};

static int prepare(struct node *n, uint32_t flags, const struct file_ops **ops, void **data)
{
	*data = NULL;
	*ops = &plain_ops;
	if ((flags & FILE_PATH) != 0 || n->mode == NODE_DIR) {
		return 0;
	}
	if (n->ops != NULL && n->ops->text != NULL) {
		*ops = &text_ops;
		return make_text(n, data);
	}
	if (n->ops != NULL && n->ops->f_ops != NULL) {
		*ops = n->ops->f_ops;
		return n->ops->open != NULL ? n->ops->open(n, flags, data) : 0;
	}
	if (n->mode != NODE_FILE) {
		return -ENXIO;
	}
	*ops = n->object != NULL ? &memory_ops : &data_ops;
	return 0;
}

int node_open(struct node *n, uint32_t flags, struct file **out)
{
	const struct file_ops *ops;
	struct file *f;
	void *data = NULL;
	int error = prepare(n, flags, &ops, &data);

	if (error != 0) {
		return error;
	}
	f = file_create(ops, data, flags, n);
	if (f == NULL) {
		if (data != NULL && ops == &text_ops) {
			mem_free(data, sizeof(struct text) + ((struct text *)data)->len);
		}
		return -ENOMEM;
	}
	node_get(n);
	*out = f;
	return 0;
}
