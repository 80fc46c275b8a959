#include "vmm/dev/char_log.h"

#include "vmm/log.h"

static void put(struct char_log *log, uint8_t c)
{
	if (c >= 0x20 && c < 0x7f) {
		log->line[log->len++] = (char)c;
	}
	if (log->len == CHAR_LOG_LINE || (c == '\n' && log->len > 0)) {
		log_guest("%s: %.*s", log->what, (int)log->len, log->line);
		log->len = 0;
	}
}

static size_t char_log_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct char_log *log = container_of(be, struct char_log, be);

	for (size_t i = 0; i < n; i++) {
		put(log, buf[i]);
	}
	return n;
}

static void char_log_input_ready(struct char_backend *be)
{
	(void)be; /* there never is any input */
}

static const struct char_backend_ops char_log_ops = {
	.write = char_log_write,
	.input_ready = char_log_input_ready,
};

void char_log_init(struct char_log *log, const char *what)
{
	*log = (struct char_log){.be = {.ops = &char_log_ops}, .what = what};
}
