#include "core/boot/cpio.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES 110

/* Fields of a header, eight hexadecimal digits each, behind the six digits of the magic. */
enum field {
	F_INO,
	F_MODE,
	F_UID,
	F_GID,
	F_NLINK,
	F_MTIME,
	F_FILESIZE,
	F_MAJOR,
	F_MINOR,
	F_RMAJOR,
	F_RMINOR,
	F_NAMESIZE,
	F_CHECKSUM,
	F_COUNT,
};

_Static_assert(6 + 8 * F_COUNT == HEADER_BYTES, "newc");

void cpio_init(struct cpio *c, const void *data, size_t len)
{
	*c = (struct cpio){.data = data, .len = len};
}

static must_use int parse_header(const uint8_t *p, uint32_t field[F_COUNT])
{
	if (memcmp(p, "070701", 6) != 0 && memcmp(p, "070702", 6) != 0) {
		return -EINVAL;
	}
	for (size_t i = 0; i < F_COUNT; i++) {
		field[i] = 0;
		for (size_t k = 0; k < 8; k++) {
			uint8_t c = p[6 + 8 * i + k];
			uint32_t digit = c >= '0' && c <= '9'	? c - (uint32_t)'0'
					 : c >= 'a' && c <= 'f' ? c - 'a' + 10U
					 : c >= 'A' && c <= 'F' ? c - 'A' + 10U
								: 16;
			if (digit > 15) {
				return -EINVAL;
			}
			field[i] = field[i] << 4 | digit;
		}
	}
	return 0;
}

/* Between archives, and behind the last one, there may be any number of zeros. */
static void skip_zeros(struct cpio *c)
{
	while (c->position < c->len && c->data[c->position] == 0) {
		c->position++;
	}
}

static must_use int read_entry(struct cpio *c, struct cpio_entry *entry)
{
	uint32_t field[F_COUNT];
	size_t left = c->len - c->position;
	const uint8_t *p = c->data + c->position;

	/* Positions are below 2^63 and sizes below 2^32: no sum here wraps. */
	if (left < HEADER_BYTES || parse_header(p, field) != 0) {
		return -EINVAL;
	}
	size_t name_len = field[F_NAMESIZE];
	size_t data = ALIGN_UP(c->position + HEADER_BYTES + name_len, 4);
	if (name_len == 0 || name_len > CPIO_NAME_MAX || name_len > left - HEADER_BYTES ||
	    data > c->len || field[F_FILESIZE] > c->len - data) {
		return -EINVAL;
	}
	const char *name = (const char *)p + HEADER_BYTES;
	if (memchr(name, '\0', name_len) != name + name_len - 1) {
		return -EINVAL; /* a zero at its end and nowhere else */
	}
	*entry = (struct cpio_entry){
		.name = name,
		.name_len = name_len - 1,
		.mode = field[F_MODE],
		.inode = field[F_INO],
		.links = field[F_NLINK],
		.mtime = field[F_MTIME],
		.device_major = field[F_RMAJOR],
		.device_minor = field[F_RMINOR],
		.data = c->data + data,
		.len = field[F_FILESIZE],
	};
	/* The last entry of a file may lack its padding. */
	c->position = MIN(ALIGN_UP(data + entry->len, 4), c->len);
	return 0;
}

int cpio_next(struct cpio *c, struct cpio_entry *entry)
{
	do {
		skip_zeros(c);
		if (c->position == c->len) {
			return 0;
		}
		int r = read_entry(c, entry);
		if (r != 0) {
			return r;
		}
	} while (strcmp(entry->name, "TRAILER!!!") == 0);
	return 1;
}
