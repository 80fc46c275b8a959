#include "core/sys/console.h"

#include <asm/ioctls.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/termbits.h>
#include <asm/termios.h>
#include <errno.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/console.h"
#include "core/hw/user.h"
#include "core/lock.h"
#include "core/sys/dev.h"
#include "core/sys/random.h"
#include "core/sys/tree.h"
#include "core/task/process.h"
#include "core/task/sched.h"
#include "core/task/work.h"

#define INPUT_BYTES 4096
#define ERASED	    "\b \b"
#define CTRL(c)	    ((c)&0x1f)

static struct {
	struct wait_queue changed;
	struct work work;
	struct spinlock lock;
	/* Guarded by lock. */
	struct termios settings;
	struct winsize size;
	uint8_t ring[INPUT_BYTES]; /* [taken, ready) can be read, [ready, end) is being edited */
	uint32_t taken, ready, end;
	uint32_t ends_of_file; /* ^D on empty lines */
	int foreground;	       /* process group */
} tty = {
	.lock = SPINLOCK_INIT(LOCK_FILE),
	.settings =
		{
			.c_iflag = ICRNL | IXON,
			.c_oflag = OPOST | ONLCR,
			.c_cflag = B115200 | CS8 | CREAD | HUPCL | CLOCAL,
			.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | IEXTEN,
			.c_cc = {[VINTR] = CTRL('C'),
				 [VQUIT] = CTRL('\\'),
				 [VERASE] = 0x7f,
				 [VKILL] = CTRL('U'),
				 [VEOF] = CTRL('D'),
				 [VMIN] = 1,
				 [VSTART] = CTRL('Q'),
				 [VSTOP] = CTRL('S'),
				 [VSUSP] = CTRL('Z'),
				 [VWERASE] = CTRL('W')},
		},
	.size = {.ws_row = 24, .ws_col = 80},
	.foreground = PROCESS_INIT,
};

/* Input. All under the lock. */

static void echo(uint8_t c)
{
	if ((tty.settings.c_lflag & ECHO) == 0) {
		return;
	}
	if (c == '\n') {
		console_put("\r\n", 2);
	} else if (c < ' ' && c != '\t') {
		const uint8_t pair[2] = {'^', c + '@'};

		console_put(pair, 2);
	} else {
		console_put(&c, 1);
	}
}

static void store(uint8_t c)
{
	if (tty.end - tty.taken < INPUT_BYTES) {
		tty.ring[tty.end++ % INPUT_BYTES] = c;
	}
}

static void erase(bool all)
{
	do {
		if (tty.end == tty.ready) {
			return;
		}
		tty.end--;
		if ((tty.settings.c_lflag & ECHO) != 0) {
			console_put(ERASED, strlen(ERASED));
		}
	} while (all);
}

/* Return: the signal that the character stands for, or 0. */
static int signal_of(uint8_t c)
{
	const uint8_t *cc = tty.settings.c_cc;

	if ((tty.settings.c_lflag & ISIG) == 0 || c == 0) {
		return 0;
	}
	return c == cc[VINTR] ? SIGINT : c == cc[VQUIT] ? SIGQUIT : c == cc[VSUSP] ? SIGTSTP : 0;
}

static void edit(uint8_t c)
{
	const uint8_t *cc = tty.settings.c_cc;

	if ((tty.settings.c_lflag & ICANON) == 0) {
		store(c);
		tty.ready = tty.end;
		echo(c);
	} else if (c == cc[VERASE] || c == '\b') {
		erase(false);
	} else if (c == cc[VKILL]) {
		erase(true);
	} else if (c == cc[VEOF] && c != 0) {
		tty.ends_of_file += tty.ready == tty.end;
		tty.ready = tty.end;
	} else {
		store(c);
		echo(c);
		if (c == '\n') {
			tty.ready = tty.end;
		}
	}
}

/* Return: a signal to be sent, or 0. */
static int take_in(uint8_t c)
{
	int signo;

	if (c == '\r' && (tty.settings.c_iflag & IGNCR) != 0) {
		return 0;
	}
	if (c == '\r' && (tty.settings.c_iflag & ICRNL) != 0) {
		c = '\n';
	} else if (c == '\n' && (tty.settings.c_iflag & INLCR) != 0) {
		c = '\r';
	}
	signo = signal_of(c);
	if (signo != 0) {
		echo(c);
		if ((tty.settings.c_lflag & NOFLSH) == 0) {
			tty.taken = tty.ready = tty.end;
		}
		return signo;
	}
	edit(c);
	return 0;
}

/* On the worker: bytes have come, or there is room for more output. */
static void on_work(struct work *w)
{
	uint8_t chunk[64];
	size_t len;

	(void)w;
	while ((len = console_get(chunk, sizeof(chunk))) > 0) {
		random_stir(clock_now_ns());
		for (size_t i = 0; i < len; i++) {
			int signo, group;

			spin_take(&tty.lock);
			signo = take_in(chunk[i]);
			group = tty.foreground;
			spin_give(&tty.lock);
			if (signo != 0) {
				process_signal_many(
					group,
					&(struct signal_info){.signo = signo, .code = SI_KERNEL});
			}
		}
	}
	wait_wake(&tty.changed, READY_IN | READY_OUT);
}

static void on_event(void *ctx)
{
	(void)ctx;
	work_add(&tty.work);
}

/* Return: bytes, 0: end of file, -EAGAIN: nothing yet. */
static int64_t take_out(uint8_t *to, size_t size)
{
	int64_t len = 0;
	bool lines;

	spin_take(&tty.lock);
	lines = (tty.settings.c_lflag & ICANON) != 0;
	while (tty.taken != tty.ready && (size_t)len < size) {
		uint8_t c = tty.ring[tty.taken++ % INPUT_BYTES];

		to[len++] = c;
		if (lines && c == '\n') {
			break;
		}
	}
	if (len == 0) {
		if (tty.ends_of_file > 0) {
			tty.ends_of_file--;
		} else if (lines || tty.settings.c_cc[VMIN] != 0) {
			len = -EAGAIN;
		}
	}
	spin_give(&tty.lock);
	return len;
}

static int64_t tty_read(struct file *f, struct uio *u, uint64_t *offset)
{
	uint8_t chunk[256];
	int64_t len;
	int error;

	(void)offset;
	if (u->left == 0) {
		return 0;
	}
	len = take_out(chunk, MIN(u->left, (uint64_t)sizeof(chunk)));
	if (len == -EAGAIN && !file_is_nonblocking(f)) {
		wait_until(&tty.changed,
			   (len = take_out(chunk, MIN(u->left, (uint64_t)sizeof(chunk)))) !=
				   -EAGAIN,
			   CLOCK_NEVER, true, error);
		if (error != 0) {
			return -ERESTARTSYS;
		}
	}
	return len > 0 ? uio_put(u, chunk, (size_t)len) : len;
}

/* Return: bytes written of what has been taken from the writer, or -errno if none. */
static int64_t write_all(struct file *f, const uint8_t *from, size_t len)
{
	size_t done = 0;
	int error;

	while (done < len) {
		done += console_put(from + done, len - done);
		if (done == len) {
			break;
		}
		if (file_is_nonblocking(f)) {
			return done > 0 ? (int64_t)done : -EAGAIN;
		}
		wait_until(&tty.changed, console_can_put(), CLOCK_NEVER, true, error);
		if (error != 0) {
			return done > 0 ? (int64_t)done : -ERESTARTSYS;
		}
	}
	return (int64_t)done;
}

/* With line ends made CR LF. Return: bytes of @from written, or -errno. */
static int64_t write_cooked(struct file *f, const uint8_t *from, size_t len)
{
	size_t done = 0;

	while (done < len) {
		const uint8_t *end = memchr(from + done, '\n', len - done);
		size_t part = end != NULL ? (size_t)(end - (from + done)) : len - done;
		int64_t r = part > 0 ? write_all(f, from + done, part) : 0;

		if (r < 0 || (size_t)r < part) {
			done += r > 0 ? (size_t)r : 0;
			return done > 0 ? (int64_t)done : r;
		}
		done += part;
		if (end != NULL) {
			r = write_all(f, (const uint8_t *)"\r\n", 2);
			if (r < 0) {
				return done > 0 ? (int64_t)done : r;
			}
			done++;
		}
	}
	return (int64_t)done;
}

static int64_t tty_write(struct file *f, struct uio *u, uint64_t *offset)
{
	uint8_t chunk[256];
	int64_t total = 0;

	(void)offset;
	while (u->left > 0) {
		bool cooked = (tty.settings.c_oflag & (OPOST | ONLCR)) == (OPOST | ONLCR);
		int64_t len = uio_get(u, chunk, sizeof(chunk)), done;

		if (len < 0) {
			return total > 0 ? total : len;
		}
		done = cooked ? write_cooked(f, chunk, (size_t)len)
			      : write_all(f, chunk, (size_t)len);
		if (done < 0) {
			return total > 0 ? total : done;
		}
		total += done;
		if (done < len) {
			break;
		}
	}
	return total;
}

static uint32_t tty_poll(struct file *f, struct poll_table *t)
{
	uint32_t events;

	(void)f;
	poll_wait(t, &tty.changed);
	spin_take(&tty.lock);
	events = tty.taken != tty.ready || tty.ends_of_file != 0 ? READY_IN : 0;
	spin_give(&tty.lock);
	return events | (console_can_put() ? READY_OUT : 0);
}

/* Settings. */

static void set_settings(const struct termios *in, bool flush)
{
	spin_take(&tty.lock);
	tty.settings = *in;
	if (flush) {
		tty.taken = tty.ready = tty.end;
	}
	/* What has been typed of a line is read as it is from now on. */
	if ((in->c_lflag & ICANON) == 0) {
		tty.ready = tty.end;
	}
	spin_give(&tty.lock);
	wait_wake(&tty.changed, READY_IN);
}

static int64_t set_group(uint64_t va)
{
	uint32_t group;

	if (user_get32(va, &group) != 0) {
		return -EFAULT;
	}
	if ((int)group <= 0) {
		return -EINVAL;
	}
	tty.foreground = (int)group;
	return 0;
}

static int64_t tty_ioctl(struct file *f, uint32_t command, uint64_t argument)
{
	struct termios settings;
	struct winsize size;

	(void)f;
	switch (command) {
	case TCGETS:
		spin_take(&tty.lock);
		settings = tty.settings;
		spin_give(&tty.lock);
		return user_write(argument, &settings, sizeof(settings));
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		if (user_read(&settings, argument, sizeof(settings)) != 0) {
			return -EFAULT;
		}
		if (command != TCSETS) {
			console_drain();
		}
		set_settings(&settings, command == TCSETSF);
		return 0;
	case TIOCGWINSZ:
		return user_write(argument, &tty.size, sizeof(tty.size));
	case TIOCSWINSZ:
		if (user_read(&size, argument, sizeof(size)) != 0) {
			return -EFAULT;
		}
		tty.size = size;
		return 0;
	case TIOCGPGRP:
		return user_put32(argument, (uint32_t)tty.foreground);
	case TIOCSPGRP:
		return set_group(argument);
	case TIOCGSID:
		return user_put32(argument, (uint32_t)process_current()->session);
	case TIOCSCTTY:
		return 0;
	case TCFLSH:
		spin_take(&tty.lock);
		tty.taken = tty.ready = tty.end;
		spin_give(&tty.lock);
		return 0;
	case TCSBRK:
		console_drain();
		return 0;
	case FIONREAD:
		return user_put32(argument, tty.ready - tty.taken);
	default:
		return -ENOTTY;
	}
}

static int tty_stat(struct file *f, struct file_stat *st)
{
	node_stat(f->node, st);
	return 0;
}

static const struct file_ops tty_ops = {
	.read = tty_read,
	.write = tty_write,
	.poll = tty_poll,
	.ioctl = tty_ioctl,
	.stat = tty_stat,
};

static const struct node_ops tty_node = {.f_ops = &tty_ops};

int console_start(void)
{
	int error;

	wait_queue_init(&tty.changed);
	tty.work.fn = on_work;
	console_set_events(on_event, NULL);
	work_add(&tty.work); /* what was typed before */
	error = dev_add("/dev/console", 5, 1, &tty_node);
	return error != 0 ? error : dev_add("/dev/tty", 5, 0, &tty_node);
}
