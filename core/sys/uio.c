#include "core/sys/uio.h"

#include <errno.h>
#include <string.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"

int uio_init(struct uio *u, uint64_t va, uint64_t len)
{
	len = MIN(len, UIO_BYTES_MAX);
	if (!user_range_ok(va, len)) {
		return -EFAULT;
	}
	u->piece = u->own;
	u->own[0] = (struct uio_piece){va, len};
	u->count = 1;
	u->at = 0;
	u->done_in_piece = 0;
	u->left = len;
	u->kernel = false;
	return 0;
}

static int check_list(struct uio *u)
{
	u->left = 0;
	for (unsigned i = 0; i < u->count; i++) {
		struct uio_piece *p = &u->piece[i];

		if ((int64_t)p->len < 0) {
			return -EINVAL;
		}
		p->len = MIN(p->len, UIO_BYTES_MAX - u->left);
		if (!user_range_ok(p->base, p->len)) {
			return -EFAULT;
		}
		u->left += p->len;
	}
	return 0;
}

int uio_init_list(struct uio *u, uint64_t va, uint64_t count)
{
	int error;

	if (count > UIO_MAX) {
		return -EINVAL;
	}
	*u = (struct uio){.count = (unsigned)count};
	u->piece = u->own;
	if (count > UIO_INLINE) {
		u->piece = mem_alloc(count * sizeof(*u->piece));
		if (u->piece == NULL) {
			return -ENOMEM;
		}
	}
	error = user_read(u->piece, va, count * sizeof(*u->piece));
	if (error == 0) {
		error = check_list(u);
	}
	if (error != 0) {
		uio_fini(u);
	}
	return error;
}

void uio_init_kernel(struct uio *u, void *buf, size_t len)
{
	u->piece = u->own;
	u->own[0] = (struct uio_piece){(uint64_t)buf, len};
	u->count = 1;
	u->at = 0;
	u->done_in_piece = 0;
	u->left = len;
	u->kernel = true;
}

void uio_fini(struct uio *u)
{
	if (u->piece != u->own) {
		mem_free(u->piece, u->count * sizeof(*u->piece));
		u->piece = u->own;
	}
}

/* Return: how many bytes of @len went. */
static size_t copy(const struct uio *u, uint64_t va, void *buf, size_t len, bool put)
{
	if (u->kernel) {
		if (put) {
			memcpy((void *)va, buf, len);
		} else {
			memcpy(buf, (const void *)va, len);
		}
		return len;
	}
	return put ? user_write_some(va, buf, len) : user_read_some(buf, va, len);
}

static int64_t transfer(struct uio *u, void *buf, size_t len, bool put)
{
	size_t total = 0;

	len = MIN(len, u->left);
	while (total < len) {
		const struct uio_piece *p = &u->piece[u->at];
		size_t part = MIN(len - total, p->len - u->done_in_piece);
		size_t done = copy(u, p->base + u->done_in_piece, (uint8_t *)buf + total, part, put);

		total += done;
		u->done_in_piece += done;
		u->left -= done;
		if (done < part) {
			return total > 0 ? (int64_t)total : -EFAULT;
		}
		if (u->done_in_piece == p->len) {
			u->at++;
			u->done_in_piece = 0;
		}
	}
	return (int64_t)total;
}

int64_t uio_put(struct uio *u, const void *from, size_t len)
{
	return transfer(u, (void *)(uintptr_t)from, len, true);
}

int64_t uio_get(struct uio *u, void *to, size_t len)
{
	return transfer(u, to, len, false);
}
