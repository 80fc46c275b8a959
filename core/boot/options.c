#include "core/boot/options.h"

#include <errno.h>
#include <string.h>

#include "core/hw/cpu.h"

#define COM1 0x3f8

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* A number up to the end of the text or to @stop, which is left at *text. */
static must_use int parse_number(const char **text, unsigned base, uint64_t most, uint64_t *value)
{
	const char *p = *text;

	*value = 0;
	for (;; p++) {
		unsigned digit = *p >= '0' && *p <= '9'	  ? (unsigned)(*p - '0')
				 : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a' + 10)
							  : 16;
		if (digit >= base) {
			break;
		}
		if (digit > most || *value > (most - digit) / base) {
			return -EINVAL;
		}
		*value = *value * base + digit;
	}
	if (p == *text) {
		return -EINVAL;
	}
	*text = p;
	return 0;
}

static int set_console(struct boot_options *o, const char *v)
{
	static const uint16_t ports[] = {COM1, 0x2f8, 0x3e8, 0x2e8};
	uint64_t n;

	if (strcmp(v, "none") == 0) {
		o->console_port = 0;
		return 0;
	}
	if (starts(v, "ttyS") && v[4] >= '0' && v[4] <= '3') {
		o->console_port = ports[v[4] - '0'];
		v += 5;
	} else if (starts(v, "0x")) {
		v += 2;
		/* The UART has eight ports. */
		if (parse_number(&v, 16, 0xfff8, &n) != 0 || n < 0x100) {
			return -EINVAL;
		}
		o->console_port = (uint16_t)n;
	} else {
		return -EINVAL;
	}
	o->console_baud = 0;
	if (*v == ',') {
		v++;
		/* As a divisor of 115200; Linux's parity and bits (115200n8) may follow. */
		if (parse_number(&v, 10, 115200, &n) != 0 || n == 0 || 115200 % n != 0) {
			return -EINVAL;
		}
		o->console_baud = (unsigned)n;
		if (strcmp(v, "n8") == 0) {
			v += 2;
		}
	}
	return *v == '\0' ? 0 : -EINVAL;
}

static int set_loglevel(struct boot_options *o, const char *v)
{
	uint64_t n;

	if (parse_number(&v, 10, 8, &n) != 0 || *v != '\0') {
		return -EINVAL;
	}
	o->loglevel = (unsigned)n;
	return 0;
}

static int set_init(struct boot_options *o, const char *v)
{
	if (v[0] != '/' || strlen(v) >= sizeof(o->init)) {
		return -EINVAL;
	}
	strcpy(o->init, v);
	return 0;
}

static int set_cpus(struct boot_options *o, const char *v)
{
	uint64_t n;

	if (parse_number(&v, 10, CPU_MAX, &n) != 0 || *v != '\0' || n == 0) {
		return -EINVAL;
	}
	o->cpus = (unsigned)n;
	return 0;
}

/* Numbers and ranges with commas between: 0,2-3. */
static int set_isolated(struct boot_options *o, const char *v)
{
	uint64_t cpus = 0;
	uint64_t from, to;

	for (;; v++) {
		if (parse_number(&v, 10, CPU_MAX - 1, &from) != 0) {
			return -EINVAL;
		}
		to = from;
		if (*v == '-') {
			v++;
			if (parse_number(&v, 10, CPU_MAX - 1, &to) != 0 || to < from) {
				return -EINVAL;
			}
		}
		cpus |= (UINT64_MAX >> (CPU_MAX - 1 - to)) & (UINT64_MAX << from);
		if (*v != ',') {
			break;
		}
	}
	o->isolated_cpus = cpus;
	return *v == '\0' ? 0 : -EINVAL;
}

static int set_memory(struct boot_options *o, const char *v)
{
	unsigned shift = 0;
	uint64_t n;

	if (parse_number(&v, 10, UINT64_MAX >> 30, &n) != 0) {
		return -EINVAL;
	}
	if (*v == 'K' || *v == 'M' || *v == 'G') {
		shift = *v == 'K' ? 10 : *v == 'M' ? 20 : 30;
		v++;
	}
	if (*v != '\0' || n == 0) {
		return -EINVAL;
	}
	o->memory_bytes = n << shift;
	return 0;
}

static const struct {
	const char *key;
	int (*set)(struct boot_options *o, const char *value);
	const char *wants;
} keys[] = {
	{"console=", set_console, "wants ttyS0 to ttyS3 or a port such as 0x3f8, or none"},
	{"loglevel=", set_loglevel, "wants a number from 0 to 8"},
	{"init=", set_init, "wants an absolute path"},
	{"cpus=", set_cpus, "wants a number from 1 to 64"},
	{"isolcpus=", set_isolated, "wants numbers of CPUs such as 0,2-3"},
	{"memory=", set_memory, "wants a number with K, M or G behind it"},
};

_Static_assert(CPU_MAX == 64, "cpus= says so above");

static int take_word(struct boot_options *o, const char *word, options_complain *complain,
		     void *ctx)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!starts(word, keys[i].key)) {
			continue;
		}
		int r = keys[i].set(o, word + strlen(keys[i].key));
		if (r != 0) {
			complain(ctx, word, keys[i].wants);
		}
		return r;
	}
	complain(ctx, word, "is not known");
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

/* What follows "--": words for the first program, each with its zero. Quotes keep blanks. */
static void take_arguments(struct boot_options *o, const char *p)
{
	char *out = o->arguments;

	for (;;) {
		bool is_quoted = false;

		while (is_blank(*p)) {
			p++;
		}
		if (*p == '\0') {
			return;
		}
		for (; *p != '\0' && (is_quoted || !is_blank(*p)); p++) {
			if (*p == '"') {
				is_quoted = !is_quoted;
			} else {
				*out++ = *p;
			}
		}
		*out++ = '\0';
		o->argument_count++;
	}
}

int options_parse(struct boot_options *o, char *cmdline, options_complain *complain, void *ctx)
{
	int result = 0;

	*o = (struct boot_options){
		.init = "/init",
		.loglevel = 7,
		.cpus = CPU_MAX,
		.memory_bytes = UINT64_MAX,
		.console_port = COM1,
	};
	for (char *p = cmdline; *p != '\0';) {
		while (is_blank(*p)) {
			p++;
		}
		char *word = p;
		while (*p != '\0' && !is_blank(*p)) {
			p++;
		}
		if (*p != '\0') {
			*p++ = '\0';
		}
		if (strcmp(word, "--") == 0) {
			take_arguments(o, p);
			return result;
		}
		if (*word != '\0') {
			int r = take_word(o, word, complain, ctx);
			result = result != 0 ? result : r;
		}
	}
	return result;
}
