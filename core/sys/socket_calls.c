/*
 * System calls of sockets: addresses, messages, descriptors in messages.
 */
#include <asm/signal.h>
#include <asm/socket.h>
#include <errno.h>
#include <linux/socket.h>
#include <linux/un.h>
#include <string.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/socket.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"

#define SOCKET_TYPE	 0xf
#define TYPE_STREAM	 1
#define OPEN_CLOSE_EXEC	 02000000
#define MESSAGE_PEEK	 0x2
#define MESSAGE_CTRUNC	 0x8
#define MESSAGE_DONTWAIT 0x40
#define MESSAGE_NOSIGNAL 0x4000
#define MESSAGE_CLOEXEC	 0x40000000
#define MESSAGE_KNOWN	 (MESSAGE_DONTWAIT | MESSAGE_NOSIGNAL | MESSAGE_CLOEXEC)
#define RIGHTS		 1
#define PASSED_MAX	 253
#define CONTROL_MAX	 4096
#define FAMILY_LOCAL	 1

/* As struct msghdr and struct cmsghdr. */
struct message {
	uint64_t name;
	uint32_t name_len, pad;
	uint64_t iov, iov_count, control, control_len;
	int32_t flags, pad2;
};

struct control {
	uint64_t len;
	int32_t level, type;
};

/* Descriptors on their way. */
struct passed {
	struct pipe_passenger passenger;
	unsigned count;
	struct file *file[];
};

static size_t passed_bytes(unsigned count)
{
	return sizeof(struct passed) + count * sizeof(struct file *);
}

static void drop_passed(struct pipe_passenger *who)
{
	struct passed *p = container_of(who, struct passed, passenger);

	for (unsigned i = 0; i < p->count; i++) {
		if (p->file[i] != NULL) {
			file_put(p->file[i]);
		}
	}
	mem_free(p, passed_bytes(p->count));
}

static struct file *get(uint64_t fd, struct socket **s, int64_t *error)
{
	struct file *f = fd_get((int)fd);

	*error = f == NULL ? -EBADF : 0;
	if (f != NULL && !socket_is(f)) {
		file_put(f);
		f = NULL;
		*error = -ENOTSOCK;
	}
	*s = f != NULL ? f->data : NULL;
	return f;
}

static int check_kind(const uint64_t *a)
{
	uint32_t type = (uint32_t)a[1];

	if ((int)a[0] != FAMILY_LOCAL) {
		return -EAFNOSUPPORT;
	}
	if ((type & SOCKET_TYPE) != TYPE_STREAM || a[2] != 0) {
		return -EPROTONOSUPPORT;
	}
	return (type & ~(uint32_t)(SOCKET_TYPE | FILE_NONBLOCK | OPEN_CLOSE_EXEC)) != 0 ? -EINVAL
											: 0;
}

SYSCALL(socket)
{
	int error = check_kind(a);

	return error != 0
		       ? error
		       : socket_open((uint32_t)a[1] & FILE_NONBLOCK, (a[1] & OPEN_CLOSE_EXEC) != 0);
}

SYSCALL(socketpair)
{
	int error = check_kind(a), fds[2];

	if (error == 0) {
		error = socket_pair((uint32_t)a[1] & FILE_NONBLOCK, (a[1] & OPEN_CLOSE_EXEC) != 0,
				    fds);
	}
	if (error == 0 && user_write(a[3], fds, sizeof(fds)) != 0) {
		fd_close(process_current()->files, fds[0]);
		fd_close(process_current()->files, fds[1]);
		error = -EFAULT;
	}
	return error;
}

/* Return: 0 with the path of a struct sockaddr_un, or -errno. */
static int read_address(uint64_t va, uint64_t len, char path[SOCKET_PATH_MAX + 1])
{
	struct sockaddr_un sa = {0};

	if ((uint32_t)len > sizeof(sa) || (uint32_t)len < 2) {
		return -EINVAL;
	}
	if (user_read(&sa, va, (uint32_t)len) != 0) {
		return -EFAULT;
	}
	if (sa.sun_family != FAMILY_LOCAL || sa.sun_path[0] == '\0') {
		return -EINVAL; /* names without a file are not offered */
	}
	memcpy(path, sa.sun_path, SOCKET_PATH_MAX);
	path[SOCKET_PATH_MAX] = '\0';
	return 0;
}

static int write_address(uint64_t va, uint64_t len_va, const char *path)
{
	struct sockaddr_un sa = {.sun_family = FAMILY_LOCAL};
	uint32_t room, len = sizeof(sa.sun_family);

	if (va == 0) {
		return 0;
	}
	if (user_get32(len_va, &room) != 0) {
		return -EFAULT;
	}
	if (path[0] != '\0') {
		memcpy(sa.sun_path, path, strnlen(path, SOCKET_PATH_MAX));
		len += (uint32_t)strnlen(path, SOCKET_PATH_MAX - 1) + 1;
	}
	if (user_write(va, &sa, MIN(room, len)) != 0) {
		return -EFAULT;
	}
	return user_put32(len_va, len);
}

/* @call is socket_bind() or socket_connect(). */
static int64_t with_address(const uint64_t a[6], int (*call)(struct socket *s, const char *path))
{
	char path[SOCKET_PATH_MAX + 1];
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = read_address(a[1], a[2], path);
		error = error != 0 ? error : call(s, path);
		file_put(f);
	}
	return error;
}

SYSCALL(bind)
{
	return with_address(a, socket_bind);
}

SYSCALL(connect)
{
	return with_address(a, socket_connect);
}

SYSCALL(listen)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = socket_listen(s, (int)a[1]);
		file_put(f);
	}
	return error;
}

static int64_t do_accept(const uint64_t *a, uint64_t flags)
{
	char path[SOCKET_PATH_MAX];
	struct socket *s;
	int64_t result;
	struct file *f = get(a[0], &s, &result);

	if (f == NULL) {
		return result;
	}
	result = socket_accept(s, file_is_nonblocking(f), (uint32_t)flags & FILE_NONBLOCK,
			       (flags & OPEN_CLOSE_EXEC) != 0, path);
	file_put(f);
	if (result >= 0 && write_address(a[1], a[2], path) != 0) {
		fd_close(process_current()->files, (int)result);
		result = -EFAULT;
	}
	return result;
}

SYSCALL(accept)
{
	return do_accept(a, 0);
}

SYSCALL(accept4)
{
	return (a[3] & ~(uint64_t)(FILE_NONBLOCK | OPEN_CLOSE_EXEC)) != 0 ? -EINVAL
									  : do_accept(a, a[3]);
}

SYSCALL(shutdown)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = a[1] > 2 ? -EINVAL : socket_shutdown(s, (unsigned)a[1] + 1);
		file_put(f);
	}
	return error;
}

SYSCALL(getsockname)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = write_address(a[1], a[2], s->path);
		file_put(f);
	}
	return error;
}

SYSCALL(getpeername)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = s->state != SOCKET_CONNECTED ? -ENOTCONN
						     : write_address(a[1], a[2], s->peer_path);
		file_put(f);
	}
	return error;
}

/* Options: buffers have one size, and what asks for another is believed to be content. */

SYSCALL(setsockopt)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		bool harmless = a[2] == SO_SNDBUF || a[2] == SO_RCVBUF || a[2] == SO_REUSEADDR ||
				a[2] == SO_SNDBUFFORCE || a[2] == SO_RCVBUFFORCE;

		error = a[1] == SOL_SOCKET && harmless ? 0 : -ENOPROTOOPT;
		file_put(f);
	}
	return error;
}

static int64_t get_option(const struct socket *s, uint64_t option, uint64_t va, uint64_t len_va)
{
	uint32_t value[3] = {0}, len = 4, room;

	switch (option) {
	case SO_TYPE:
		value[0] = TYPE_STREAM;
		break;
	case SO_DOMAIN:
		value[0] = FAMILY_LOCAL;
		break;
	case SO_ERROR:
	case SO_PROTOCOL:
		break;
	case SO_ACCEPTCONN:
		value[0] = s->state == SOCKET_LISTENING;
		break;
	case SO_SNDBUF:
	case SO_RCVBUF:
		value[0] = PIPE_BYTES;
		break;
	case SO_PEERCRED:
		value[0] = (uint32_t)s->peer_pid;
		len = 12;
		break;
	default:
		return -ENOPROTOOPT;
	}
	if (user_get32(len_va, &room) != 0 || user_write(va, value, MIN(room, len)) != 0) {
		return -EFAULT;
	}
	return user_put32(len_va, MIN(room, len));
}

SYSCALL(getsockopt)
{
	struct socket *s;
	int64_t error;
	struct file *f = get(a[0], &s, &error);

	if (f != NULL) {
		error = a[1] == SOL_SOCKET ? get_option(s, a[2], a[3], a[4]) : -EOPNOTSUPP;
		file_put(f);
	}
	return error;
}

/* Messages. */

static int64_t send(struct file *f, struct uio *u, uint64_t flags, struct pipe_passenger **who)
{
	struct socket *s = f->data;
	bool nonblocking = file_is_nonblocking(f) || (flags & MESSAGE_DONTWAIT) != 0;
	int64_t done;

	if ((flags & ~(uint64_t)MESSAGE_KNOWN) != 0) {
		return -EOPNOTSUPP;
	}
	if (s->state != SOCKET_CONNECTED) {
		return -ENOTCONN;
	}
	done = pipe_write(s->tx, u, nonblocking, who);
	if (done == -EPIPE && (flags & MESSAGE_NOSIGNAL) == 0) {
		signal_send_thread(thread_current(), &(struct signal_info){.signo = SIGPIPE});
	}
	return done;
}

static int64_t receive(struct file *f, struct uio *u, uint64_t flags, struct pipe_passenger **who)
{
	struct socket *s = f->data;
	bool nonblocking = file_is_nonblocking(f) || (flags & MESSAGE_DONTWAIT) != 0;

	if ((flags & ~(uint64_t)(MESSAGE_KNOWN | MESSAGE_PEEK)) != 0) {
		return -EOPNOTSUPP;
	}
	if (s->state != SOCKET_CONNECTED) {
		return -ENOTCONN;
	}
	if ((flags & MESSAGE_PEEK) != 0) {
		return pipe_peek(s->rx, u);
	}
	return pipe_read(s->rx, u, nonblocking, who);
}

SYSCALL(sendto)
{
	struct socket *s;
	struct uio u;
	int64_t result;
	struct file *f = get(a[0], &s, &result);

	if (f != NULL) {
		result = a[4] != 0 ? -EISCONN : uio_init(&u, a[1], a[2]);
		result = result != 0 ? result : send(f, &u, a[3], NULL);
		file_put(f);
	}
	return result;
}

SYSCALL(recvfrom)
{
	struct socket *s;
	struct uio u;
	int64_t result;
	struct file *f = get(a[0], &s, &result);

	if (f != NULL) {
		result = uio_init(&u, a[1], a[2]);
		result = result != 0 ? result : receive(f, &u, a[3], NULL);
		if (result >= 0 && write_address(a[4], a[5], "") != 0) {
			result = -EFAULT;
		}
		file_put(f);
	}
	return result;
}

/* One array of descriptors becomes files. Sockets are not passed: two that hold each other in
 * flight could never be freed. */
static int collect(const uint8_t *data, size_t len, struct passed **out)
{
	unsigned count = (unsigned)(len / sizeof(int32_t));
	struct passed *p;
	int error = 0;

	if (count > PASSED_MAX || *out != NULL) {
		return -EINVAL;
	}
	p = mem_alloc(passed_bytes(count));
	if (p == NULL) {
		return -ENOMEM;
	}
	p->count = count;
	p->passenger.drop = drop_passed;
	for (unsigned i = 0; i < count && error == 0; i++) {
		int32_t fd;

		memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
		p->file[i] = fd_get(fd);
		if (p->file[i] == NULL) {
			error = -EBADF;
		} else if (socket_is(p->file[i])) {
			error = -EINVAL;
		}
	}
	if (error != 0) {
		drop_passed(&p->passenger);
		return error;
	}
	*out = p;
	return 0;
}

static int parse_control(const uint8_t *buf, size_t len, struct passed **out)
{
	size_t at = 0;

	while (len - at >= sizeof(struct control)) {
		struct control c;
		int error;

		memcpy(&c, buf + at, sizeof(c));
		if (c.len < sizeof(c) || c.len > len - at) {
			return -EINVAL;
		}
		if (c.level != SOL_SOCKET || c.type != RIGHTS) {
			return -EINVAL;
		}
		error = collect(buf + at + sizeof(c), c.len - sizeof(c), out);
		if (error != 0) {
			return error;
		}
		at += MIN(ALIGN_UP(c.len, UINT64_C(8)), len - at);
	}
	return 0;
}

static int read_control(const struct message *m, struct passed **out)
{
	uint8_t *buf;
	int error;

	if (m->control_len == 0) {
		return 0;
	}
	if (m->control_len > CONTROL_MAX) {
		return -EINVAL;
	}
	buf = mem_alloc(m->control_len);
	if (buf == NULL) {
		return -ENOMEM;
	}
	error = user_read(buf, m->control, m->control_len);
	if (error == 0) {
		error = parse_control(buf, m->control_len, out);
	}
	mem_free(buf, m->control_len);
	return error;
}

SYSCALL(sendmsg)
{
	struct pipe_passenger *who = NULL;
	struct passed *passed = NULL;
	struct message m;
	struct socket *s;
	struct uio u;
	int64_t result;
	struct file *f = get(a[0], &s, &result);

	if (f == NULL) {
		return result;
	}
	result = user_read(&m, a[1], sizeof(m));
	if (result == 0) {
		result = read_control(&m, &passed);
		who = passed != NULL ? &passed->passenger : NULL;
	}
	if (result == 0) {
		result = uio_init_list(&u, m.iov, m.iov_count);
		if (result == 0) {
			result = send(f, &u, a[2], &who);
			uio_fini(&u);
		}
	}
	if (who != NULL) {
		who->drop(who);
	}
	file_put(f);
	return result;
}

/* Gives the files numbers. Return: bytes of control data written, or -errno; what does not fit is
 * closed, and @flags says so. */
static int64_t deliver(struct passed *p, const struct message *m, bool close_on_exec,
		       int32_t *flags)
{
	struct fd_table *table = process_current()->files;
	size_t room = m->control_len < sizeof(struct control)
			      ? 0
			      : (m->control_len - sizeof(struct control)) / sizeof(int32_t);
	struct control c = {.level = SOL_SOCKET, .type = RIGHTS};
	unsigned done = 0;

	for (; done < p->count && done < room; done++) {
		int32_t fd = fd_reserve(table, 0);

		if (fd < 0) {
			break;
		}
		if (user_write(m->control + sizeof(c) + done * sizeof(fd), &fd, sizeof(fd)) != 0) {
			fd_unreserve(table, fd);
			return -EFAULT;
		}
		fd_install(table, fd, p->file[done], close_on_exec);
		p->file[done] = NULL;
	}
	*flags |= done < p->count ? MESSAGE_CTRUNC : 0;
	if (done == 0) {
		return 0;
	}
	c.len = sizeof(c) + done * sizeof(int32_t);
	return user_write(m->control, &c, sizeof(c)) != 0
		       ? -EFAULT
		       : (int64_t)MIN(ALIGN_UP(c.len, UINT64_C(8)), m->control_len);
}

SYSCALL(recvmsg)
{
	struct pipe_passenger *who = NULL;
	struct message m;
	struct socket *s;
	struct uio u;
	int64_t result, control = 0;
	struct file *f = get(a[0], &s, &result);

	if (f == NULL) {
		return result;
	}
	result = user_read(&m, a[1], sizeof(m));
	if (result == 0) {
		result = uio_init_list(&u, m.iov, m.iov_count);
		if (result == 0) {
			result = receive(f, &u, a[2], &who);
			uio_fini(&u);
		}
	}
	m.flags = 0;
	if (who != NULL && result >= 0) {
		control = deliver(container_of(who, struct passed, passenger), &m,
				  (a[2] & MESSAGE_CLOEXEC) != 0, &m.flags);
	}
	if (who != NULL) {
		who->drop(who);
	}
	file_put(f);
	if (result >= 0) {
		m.control_len = control > 0 ? (uint64_t)control : 0;
		m.name_len = 0;
		if (control < 0 || user_write(a[1], &m, sizeof(m)) != 0) {
			result = -EFAULT;
		}
	}
	return result;
}
