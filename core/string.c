/*
 * What of <string.h> is not in core/hw/string.S.
 */
#include <string.h>

#include "lib/base/types.h"

size_t strnlen(const char *s, size_t most)
{
	size_t n = 0;

	while (n < most && s[n] != '\0') {
		n++;
	}
	return n;
}

int strncmp(const char *a, const char *b, size_t most)
{
	for (size_t i = 0; i < most; i++) {
		if (a[i] != b[i] || a[i] == '\0') {
			return (unsigned char)a[i] - (unsigned char)b[i];
		}
	}
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}

char *strcpy(char *restrict to, const char *restrict from)
{
	memcpy(to, from, strlen(from) + 1);
	return to;
}

void *memchr(const void *p, int c, size_t len)
{
	const unsigned char *bytes = p;

	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == (unsigned char)c) {
			return (void *)(uintptr_t)&bytes[i];
		}
	}
	return NULL;
}
