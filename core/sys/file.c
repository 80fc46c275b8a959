#include "core/sys/file.h"

#include <errno.h>

#include "core/mem/heap.h"
#include "core/sys/epoll.h"
#include "core/sys/fd.h"
#include "core/sys/node.h"
#include "core/task/process.h"

static struct heap heap;

void file_init(void)
{
	heap_init(&heap, "file", sizeof(struct file));
}

struct file *file_create(const struct file_ops *ops, void *data, uint32_t flags, struct node *node)
{
	struct file *f = heap_alloc(&heap);

	if (f == NULL) {
		return NULL;
	}
	f->ops = ops;
	f->data = data;
	f->node = node;
	f->flags = flags;
	f->refs = 1;
	list_init(&f->epoll_items);
	return f;
}

void file_get(struct file *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

void file_put(struct file *f)
{
	if (atomic_fetch_sub(&f->refs, 1) != 1) {
		return;
	}
	epoll_forget(f);
	if (f->ops->release != NULL) {
		f->ops->release(f);
	}
	if (f->node != NULL) {
		node_put(f->node);
	}
	heap_free(&heap, f);
}

uint32_t file_poll(struct file *f, struct poll_table *t)
{
	return f->ops->poll != NULL ? f->ops->poll(f, t) : READY_IN | READY_OUT;
}

bool file_may_read(const struct file *f)
{
	uint32_t flags = atomic_load_explicit(&f->flags, memory_order_relaxed);

	return (flags & FILE_ACCESS) != FILE_WRITEONLY && (flags & FILE_PATH) == 0;
}

bool file_may_write(const struct file *f)
{
	uint32_t flags = atomic_load_explicit(&f->flags, memory_order_relaxed);

	return (flags & FILE_ACCESS) != FILE_READONLY && (flags & FILE_PATH) == 0;
}

bool file_is_nonblocking(const struct file *f)
{
	return (atomic_load_explicit(&f->flags, memory_order_relaxed) & FILE_NONBLOCK) != 0;
}

int anon_fd(const struct file_ops *ops, void *data, uint32_t flags, bool close_on_exec)
{
	struct fd_table *table = process_current()->files;
	struct file *f;
	int fd = fd_reserve(table, 0);

	if (fd < 0) {
		return fd;
	}
	f = file_create(ops, data, flags, NULL);
	if (f == NULL) {
		fd_unreserve(table, fd);
		return -ENOMEM;
	}
	fd_install(table, fd, f, close_on_exec);
	return fd;
}

int64_t file_read_kernel(struct file *f, void *buf, size_t len, uint64_t offset)
{
	struct uio u;

	if (f->ops->read == NULL || f->ops->size == NULL) {
		return -EINVAL;
	}
	uio_init_kernel(&u, buf, len);
	return f->ops->read(f, &u, &offset);
}
