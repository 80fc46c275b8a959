/*
 * Signalfds: signals of whoever reads, as Linux has it.
 */
#include <asm/signal.h>
#include <errno.h>
#include <linux/signalfd.h>

#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/sys/fd.h"
#include "core/sys/file.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"
#include "core/task/sched.h"

struct signalfd {
	_Atomic uint64_t set;
	struct process *owner; /* held: who polls may outlive it */
};

static int64_t put_info(struct uio *u, const struct signal_info *info)
{
	const struct signalfd_siginfo out = {
		.ssi_signo = (uint32_t)info->signo,
		.ssi_errno = info->error,
		.ssi_code = info->code,
		.ssi_pid = (uint32_t)info->pid,
		.ssi_uid = (uint32_t)info->uid,
		.ssi_status = info->status,
		.ssi_ptr = info->value,
		.ssi_int = (int32_t)info->value,
		.ssi_addr = info->address,
	};

	return uio_put(u, &out, sizeof(out));
}

static int64_t signalfd_read(struct file *f, struct uio *u, uint64_t *offset)
{
	struct signalfd *s = f->data;
	struct signal_info info;
	int64_t total = 0, done;
	int error;

	(void)offset;
	if (u->left < sizeof(struct signalfd_siginfo)) {
		return -EINVAL;
	}
	while (u->left >= sizeof(struct signalfd_siginfo)) {
		if (signal_take(s->set, &info) == 0) {
			if (total > 0) {
				break;
			}
			if (file_is_nonblocking(f)) {
				return -EAGAIN;
			}
			wait_until(&process_current()->signals.arrived,
				   signal_waiting(s->set) != 0, CLOCK_NEVER, true, error);
			if (error != 0) {
				return -ERESTARTSYS;
			}
			continue;
		}
		done = put_info(u, &info);
		if (done < 0) {
			return total > 0 ? total : done;
		}
		total += done;
	}
	return total;
}

static uint32_t signalfd_poll(struct file *f, struct poll_table *t)
{
	struct signalfd *s = f->data;

	poll_wait(t, &s->owner->signals.arrived);
	return signal_waiting(s->set) != 0 ? READY_IN : 0;
}

static void signalfd_release(struct file *f)
{
	process_put(((struct signalfd *)f->data)->owner);
	mem_free(f->data, sizeof(struct signalfd));
}

static const struct file_ops signalfd_ops = {.read = signalfd_read,
					     .poll = signalfd_poll,
					     .release = signalfd_release,
					     .name = "anon_inode:[signalfd]"};

static int64_t create(uint64_t set, uint64_t flags)
{
	struct signalfd *s = mem_alloc(sizeof(*s));
	int fd;

	if (s == NULL) {
		return -ENOMEM;
	}
	s->set = set;
	s->owner = process_current();
	process_get(s->owner);
	fd = anon_fd(&signalfd_ops, s, FILE_READWRITE | (uint32_t)(flags & SFD_NONBLOCK),
		     (flags & SFD_CLOEXEC) != 0);
	if (fd < 0) {
		process_put(s->owner);
		mem_free(s, sizeof(*s));
	}
	return fd;
}

SYSCALL(signalfd4)
{
	struct file *f;
	uint64_t set;
	int64_t result = (int)a[0];

	if (a[2] != sizeof(set) || (a[3] & ~(uint64_t)(SFD_CLOEXEC | SFD_NONBLOCK)) != 0) {
		return -EINVAL;
	}
	if (user_get64(a[1], &set) != 0) {
		return -EFAULT;
	}
	set &= ~(SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP));
	if ((int)a[0] == -1) {
		return create(set, a[3]);
	}
	f = fd_get((int)a[0]);
	if (f == NULL) {
		return -EBADF;
	}
	if (f->ops == &signalfd_ops) {
		((struct signalfd *)f->data)->set = set;
	} else {
		result = -EINVAL;
	}
	file_put(f);
	return result;
}
