/*
 * Any bytes as what a boot loader left: by Multiboot2 and by PVH, and a command line.
 */
#include <stdlib.h>
#include <string.h>

#include "core/boot/info.h"
#include "core/boot/options.h"
#include "tests/fuzz/input.h"

#define BASE 0x1000

struct memory {
	const uint8_t *data;
	size_t size;
};

static const void *mem(void *ctx, uint64_t pa, uint64_t len)
{
	const struct memory *m = ctx;

	return range_inside(pa, len, BASE, m->size) ? m->data + (pa - BASE) : NULL;
}

static void complain(void *ctx, const char *word, const char *reason)
{
	(void)ctx;
	if (strlen(word) == 0 || strlen(reason) == 0) {
		abort();
	}
}

static void look_at(struct boot_info *info)
{
	struct boot_options options;

	for (size_t i = 1; i < info->ram.n; i++) {
		if (info->ram.range[i - 1].base + info->ram.range[i - 1].len >=
		    info->ram.range[i].base) {
			abort();
		}
	}
	if (options_parse(&options, info->cmdline, complain, NULL) == 0 &&
	    (options.init[0] != '/' || options.loglevel > 8 || options.cpus == 0)) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct boot_info info;
	struct memory m = {data, size};

	if (boot_info_multiboot2(&info, BASE, mem, &m) == 0) {
		look_at(&info);
	}
	if (boot_info_pvh(&info, BASE, mem, &m) == 0) {
		look_at(&info);
	}
	return 0;
}
