#include "core/log.h"

#include <string.h>

#include "core/format.h"
#include "core/hw/clock.h"
#include "core/hw/console.h"
#include "core/lock.h"

static struct {
	_Atomic unsigned level; /* relaxed: each message stands for itself */

	struct spinlock lock;
	/* Guarded by lock: the byte of position p is log_ring[p % LOG_RING_BYTES]. */
	uint64_t end;
} log_state = {
	.level = LOG_DEBUG,
	.lock = SPINLOCK_INIT(LOCK_LOG),
};

void log_set_level(unsigned level)
{
	atomic_store_explicit(&log_state.level, level, memory_order_relaxed);
}

/* By itself, so that the image does not have it. */
static char log_ring[LOG_RING_BYTES];

static void keep(const char *text, size_t len)
{
	uint64_t flags = spin_take_irq(&log_state.lock);

	for (size_t i = 0; i < len; i++) {
		log_ring[log_state.end++ % LOG_RING_BYTES] = text[i];
	}
	spin_give_irq(&log_state.lock, flags);
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_BYTES];
	uint64_t now_us = clock_now_ns() / 1000;
	va_list args;

	size_t len =
		format(line, sizeof(line), "[%5lu.%06lu] ", now_us / 1000000, now_us % 1000000);
	va_start(args, fmt);
	len += format_list(line + len, sizeof(line) - len, fmt, args);
	va_end(args);
	len = MIN(len, sizeof(line) - 1);
	line[len++] = '\n';
	keep(line, len);
	if (level < atomic_load_explicit(&log_state.level, memory_order_relaxed)) {
		console_write(line, len);
	}
}

size_t log_read(uint64_t *position, char *buf, size_t len)
{
	uint64_t flags = spin_take_irq(&log_state.lock);
	uint64_t begin = log_state.end > LOG_RING_BYTES ? log_state.end - LOG_RING_BYTES : 0;
	size_t n = 0;

	*position = MIN(MAX(*position, begin), log_state.end);
	while (n < len && *position < log_state.end) {
		buf[n++] = log_ring[(*position)++ % LOG_RING_BYTES];
	}
	spin_give_irq(&log_state.lock, flags);
	return n;
}
