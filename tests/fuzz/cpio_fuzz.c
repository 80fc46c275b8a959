/*
 * Any bytes as an initramfs: entries are within the archive, and reading ends.
 */
#include <stdlib.h>

#include "core/boot/cpio.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cpio_entry e;
	struct cpio c;
	size_t position = 0;

	cpio_init(&c, data, size);
	while (cpio_next(&c, &e) > 0) {
		if (c.position <= position || c.position > size || e.name_len >= CPIO_NAME_MAX ||
		    e.data < data || e.len > size - (size_t)(e.data - data) ||
		    e.name[e.name_len] != '\0') {
			abort();
		}
		position = c.position;
	}
	return 0;
}
