#include "core/log.h"

#include <stdatomic.h>

#include "core/format.h"
#include "core/hw/clock.h"
#include "core/hw/console.h"
#include "core/lock.h"

#define NS_PER_S      1000000000
#define PROGRAM_BURST 64 /* lines of log_program() at once; then it is one a second */

static _Atomic unsigned threshold = LOG_DEBUG; /* relaxed: each message stands for itself */

static struct {
	struct spinlock lock;
	/* Guarded by lock. */
	uint64_t due_ns; /* each line moves it on by a second; not beyond now */
	uint64_t left_out;
} programs = {.lock = SPINLOCK_INIT(LOCK_LOG)};

void log_set_level(unsigned level)
{
	atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

static bool is_shown(enum log_level level)
{
	return level < atomic_load_explicit(&threshold, memory_order_relaxed);
}

static void say(const char *fmt, va_list args)
{
	char line[LOG_LINE_BYTES];
	uint64_t now_us = clock_now_ns() / 1000;
	size_t len =
		format(line, sizeof(line), "[%5lu.%06lu] ", now_us / 1000000, now_us % 1000000);

	len += format_list(line + len, sizeof(line) - len, fmt, args);
	len = MIN(len, sizeof(line) - 1);
	line[len++] = '\n';
	console_write(line, len);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	va_list args;

	if (is_shown(level)) {
		va_start(args, fmt);
		say(fmt, args);
		va_end(args);
	}
}

/* May one more line be said? @left_out: how many have not been, since the last one that was. */
static bool program_may(uint64_t *left_out)
{
	const uint64_t burst_ns = PROGRAM_BURST * (uint64_t)NS_PER_S;
	uint64_t now_ns = clock_now_ns() + burst_ns;
	uint64_t flags = spin_take_irq(&programs.lock);
	bool may;

	programs.due_ns = MAX(programs.due_ns, now_ns - burst_ns);
	may = programs.due_ns < now_ns;
	*left_out = may ? programs.left_out : 0;
	if (may) {
		programs.due_ns += NS_PER_S;
		programs.left_out = 0;
	} else {
		programs.left_out++;
	}
	spin_give_irq(&programs.lock, flags);
	return may;
}

void log_program(const char *fmt, ...)
{
	uint64_t left_out;
	va_list args;

	if (!is_shown(LOG_NOTICE) || !program_may(&left_out)) {
		return;
	}
	if (left_out != 0) {
		log_notice("%lu messages about programs were left out", left_out);
	}
	va_start(args, fmt);
	say(fmt, args);
	va_end(args);
}
