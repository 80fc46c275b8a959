#include "core/format.h"

struct out {
	char *buf;
	size_t size;
	size_t len; /* of the whole text */
};

struct spec {
	bool left, zero, upper, negative;
	unsigned width;
	int precision; /* -1: none */
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size) {
		o->buf[o->len] = c;
	}
	o->len++;
}

static void pad(struct out *o, char c, size_t have, size_t want)
{
	for (; have < want; have++) {
		put(o, c);
	}
}

static void put_text(struct out *o, const struct spec *s, const char *text)
{
	size_t len = 0;
	size_t most = s->precision < 0 ? SIZE_MAX : (size_t)s->precision;

	while (len < most && text[len] != '\0') {
		len++;
	}
	if (!s->left) {
		pad(o, ' ', len, s->width);
	}
	for (size_t i = 0; i < len; i++) {
		put(o, text[i]);
	}
	if (s->left) {
		pad(o, ' ', len, s->width);
	}
}

static void put_number(struct out *o, const struct spec *s, uint64_t value, unsigned base)
{
	const char *digits = s->upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char text[24];
	size_t n = 0;

	for (; value != 0 || n == 0; value /= base) {
		text[n++] = digits[value % base];
	}
	size_t want = s->precision < 0 ? 0 : (size_t)s->precision;
	if (s->zero && s->precision < 0 && !s->left && s->width > s->negative) {
		want = s->width - s->negative;
	}
	size_t len = MAX(n, want) + s->negative;
	if (!s->left) {
		pad(o, ' ', len, s->width);
	}
	if (s->negative) {
		put(o, '-');
	}
	pad(o, '0', n, want);
	while (n > 0) {
		put(o, text[--n]);
	}
	if (s->left) {
		pad(o, ' ', len, s->width);
	}
}

static int number(const char **p, va_list *args)
{
	int n = 0;

	if (**p == '*') {
		++*p;
		return va_arg(*args, int);
	}
	for (; **p >= '0' && **p <= '9'; ++*p) {
		n = n * 10 + (**p - '0');
	}
	return n;
}

/* The sizes of an integer argument: -2 hh, -1 h, 0, 1 l and z, 2 ll. */
static int length(const char **p)
{
	int n = 0;

	for (;; ++*p) {
		if (**p == 'l' || **p == 'z') {
			n++;
		} else if (**p == 'h') {
			n--;
		} else {
			return n;
		}
	}
}

static uint64_t unsigned_arg(int size, va_list *args)
{
	if (size > 0) {
		return va_arg(*args, uint64_t);
	}
	unsigned v = va_arg(*args, unsigned);
	return size == -2 ? (uint8_t)v : size == -1 ? (uint16_t)v : v;
}

static int64_t signed_arg(int size, va_list *args)
{
	if (size > 0) {
		return va_arg(*args, int64_t);
	}
	int v = va_arg(*args, int);
	return size == -2 ? (int8_t)v : size == -1 ? (int16_t)v : v;
}

static void convert(struct out *o, struct spec *s, char c, int size, va_list *args)
{
	char one[2] = {0};
	int64_t v;

	switch (c) {
	case 'd':
	case 'i':
		v = signed_arg(size, args);
		s->negative = v < 0;
		put_number(o, s, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
		break;
	case 'u':
		put_number(o, s, unsigned_arg(size, args), 10);
		break;
	case 'X':
		s->upper = true;
		put_number(o, s, unsigned_arg(size, args), 16);
		break;
	case 'x':
		put_number(o, s, unsigned_arg(size, args), 16);
		break;
	case 'p':
		put_text(o, &(struct spec){.precision = -1}, "0x");
		put_number(o, s, va_arg(*args, uint64_t), 16);
		break;
	case 's': {
		const char *text = va_arg(*args, const char *);
		put_text(o, s, text != NULL ? text : "(null)");
		break;
	}
	case 'c':
		one[0] = (char)va_arg(*args, int);
		put_text(o, s, one);
		break;
	default:
		put(o, c);
	}
}

size_t format_list(char *buf, size_t size, const char *fmt, va_list list)
{
	struct out o = {.buf = buf, .size = size};
	va_list args;

	va_copy(args, list); /* so that its address can be passed on */
	for (const char *p = fmt; *p != '\0'; p++) {
		if (*p != '%') {
			put(&o, *p);
			continue;
		}
		struct spec s = {.precision = -1};
		for (p++; *p == '-' || *p == '0'; p++) {
			s.left |= *p == '-';
			s.zero |= *p == '0';
		}
		s.width = (unsigned)number(&p, &args);
		if (*p == '.') {
			p++;
			s.precision = number(&p, &args);
		}
		int size_of = length(&p);
		if (*p == '\0') {
			break;
		}
		convert(&o, &s, *p, size_of, &args);
	}
	va_end(args);
	if (size > 0) {
		buf[MIN(o.len, size - 1)] = '\0';
	}
	return o.len;
}

size_t format(char *buf, size_t size, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	size_t len = format_list(buf, size, fmt, args);
	va_end(args);
	return len;
}
