#include "vmm/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GUEST_LINES_MAX 100

static const char *vm_name;
static bool as_json;
static struct log_sink sink;
static atomic_uint guest_lines;
static atomic_bool raw_terminal;

void log_init(const char *vm, bool json)
{
	vm_name = vm;
	as_json = json;
}

struct log_sink log_set_sink(struct log_sink to)
{
	struct log_sink before = sink;

	sink = to;
	return before;
}

void log_raw_terminal(bool raw)
{
	atomic_store_explicit(&raw_terminal, raw, memory_order_relaxed);
}

/* Appends @text as the inside of a JSON string. */
static size_t json_escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 7 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			out[n++] = '\\';
			out[n++] = (char)c;
		} else if (c < 0x20) {
			n += (size_t)snprintf(out + n, size - n, "\\u%04x", c);
		} else {
			out[n++] = (char)c;
		}
	}
	out[n] = '\0';
	return n;
}

/* One write() a line: lines of several threads do not mix. */
static void say(const char *level, const char *fmt, va_list args)
{
	char text[768];
	char line[2048];
	int len;

	vsnprintf(text, sizeof(text), fmt, args);
	if (sink.fn != NULL) {
		sink.fn(sink.ctx, level, text);
		return;
	}
	if (as_json) {
		char escaped[1024];
		char name[256];

		json_escape(escaped, sizeof(escaped), text);
		json_escape(name, sizeof(name), vm_name != NULL ? vm_name : "");
		len = snprintf(line, sizeof(line),
			       "{\"level\":\"%s\",\"vm\":\"%s\",\"message\":\"%s\"}\n", level, name,
			       escaped);
	} else {
		const char *mark = strcmp(level, "warning") == 0 ? "warning: " : "";

		len = snprintf(line, sizeof(line), "yado: %s%s\n", mark, text);
	}
	if (atomic_load_explicit(&raw_terminal, memory_order_relaxed)) {
		memcpy(line + len - 1, "\r\n", 2);
		len++;
	}
	if (write(STDERR_FILENO, line, (size_t)len) < 0) {
		return; /* there is nobody left to tell */
	}
}

void log_error(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("error", fmt, args);
	va_end(args);
}

void log_warn(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("warning", fmt, args);
	va_end(args);
}

void log_info(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say("info", fmt, args);
	va_end(args);
}

void log_guest(const char *fmt, ...)
{
	va_list args;
	unsigned n = atomic_fetch_add_explicit(&guest_lines, 1, memory_order_relaxed);

	if (n >= GUEST_LINES_MAX) {
		if (n == GUEST_LINES_MAX) {
			log_warn("the guest caused %d messages; further ones are not shown",
				 GUEST_LINES_MAX);
		}
		return;
	}
	va_start(args, fmt);
	say("guest", fmt, args);
	va_end(args);
}
