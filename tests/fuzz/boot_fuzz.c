/*
 * Any bytes as a kernel: the parsers and loaders must refuse or load, and nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "vmm/boot/boot.h"

#define MEMORY (32 * MIB)

static struct guest_memory mem;
static int fd = -1;
static char path[64];

static void set_up(void)
{
	fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || guest_memory_init(&mem, MEMORY) != 0) {
		abort();
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vm_config config = {.kernel = path, .cmdline = "x", .memory_bytes = MEMORY};
	struct boot_entry entry;
	struct kvm_regs regs;
	struct kvm_sregs sregs = {0};

	if (fd < 0) {
		set_up();
	}
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
		abort();
	}
	bool good = boot_check(&config) == 0;
	/* The same files are judged alike with and without memory. */
	if ((boot_load(&config, &mem, gpa(0xe0000), &entry) == 0) != good) {
		abort();
	}
	if (good) {
		boot_entry_apply(&entry, &regs, &sregs);
		/* The first instruction is fetched from RAM. */
		if (guest_ptr(&mem, gpa(regs.rip), 1) == NULL) {
			abort();
		}
	}
	return 0;
}
