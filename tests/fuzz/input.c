#include "tests/fuzz/input.h"

#include <string.h>

#include "lib/base/types.h"

uint64_t input_take(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (; bytes > 0 && in->size > 0; bytes--) {
		v = v << 8 | *in->data++;
		in->size--;
	}
	return v;
}

void input_copy(struct input *in, void *to, size_t len)
{
	len = MIN(len, in->size);
	memcpy(to, in->data, len);
	in->data += len;
	in->size -= len;
}
