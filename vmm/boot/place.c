#include "vmm/boot/place.h"

#include <errno.h>
#include <string.h>

#include "vmm/board/layout.h"
#include "vmm/log.h"
#include "vmm/memory.h"

#define PAGE 4096

static unsigned long long mib(uint64_t bytes)
{
	return ALIGN_UP(bytes, MIB) / MIB;
}

static int too_small(const struct vm_config *config, uint64_t need)
{
	const char *what = config->initrd != NULL ? "kernel and initrd need" : "the kernel needs";

	if (need <= LAYOUT_LOW_RAM_SPLIT) {
		log_error(
			"memory of %llu MiB is too small: %s at least %llu MiB; use --memory %lluM",
			(unsigned long long)(config->memory_bytes / MIB), what, mib(need),
			mib(need));
	} else {
		log_error(
			"%s %llu MiB, more than the %llu MiB below the PCI hole; use a smaller %s",
			what, mib(need), (unsigned long long)(LAYOUT_LOW_RAM_SPLIT / MIB),
			config->initrd != NULL ? "initrd" : "kernel");
	}
	return -ENOMEM;
}

int boot_place(const struct vm_config *config, const struct boot_needs *needs, uint64_t initrd_size,
	       struct boot_place *out)
{
	uint64_t low = guest_memory_low(config->memory_bytes);
	uint64_t max = MIN(needs->cmdline_max, LAYOUT_CMDLINE_SIZE - 1);
	uint64_t need;

	*out = (struct boot_place){.cmdline = config->cmdline != NULL ? config->cmdline : ""};
	out->cmdline_len = strlen(out->cmdline);
	if (out->cmdline_len > max) {
		log_error(
			"the kernel's command line has %llu bytes, the kernel takes at most %llu; "
			"shorten --cmdline",
			(unsigned long long)out->cmdline_len, (unsigned long long)max);
		return -E2BIG;
	}

	/* File and kernel sizes are far from 2^64: the parsers hold @end below 2^33. */
	if (!range_end(needs->end, initrd_size, &need) || need > UINT64_MAX - 2 * PAGE) {
		return too_small(config, UINT64_MAX - MIB);
	}
	uint64_t first = ALIGN_UP(needs->end, PAGE);
	need = first + ALIGN_UP(initrd_size, PAGE);
	if (need > low) {
		return too_small(config, need);
	}
	if (initrd_size == 0) {
		return 0;
	}
	uint64_t limit = MIN(low, needs->initrd_limit);
	if (limit < first || ALIGN_DOWN(limit, PAGE) - first < ALIGN_UP(initrd_size, PAGE)) {
		log_error("initrd '%s' of %llu MiB does not fit below 0x%llx, where the kernel "
			  "wants it; "
			  "use a smaller one",
			  config->initrd, mib(initrd_size), (unsigned long long)limit);
		return -ENOMEM;
	}
	/* As high as it may be: the kernel unpacks itself upwards from below. */
	out->initrd = gpa(ALIGN_DOWN(limit - initrd_size, PAGE));
	out->initrd_size = initrd_size;
	return 0;
}
