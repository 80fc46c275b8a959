#include "vmm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/board/layout.h"
#include "vmm/log.h"

#define HUGE_PAGE (2 * MIB)
#define GUARD	  HUGE_PAGE /* before and after RAM: nothing is there, and touching it faults */
#define RAM_MAX	  TIB

uint64_t guest_memory_low(uint64_t size)
{
	return size < LAYOUT_LOW_RAM_MAX ? size : LAYOUT_LOW_RAM_SPLIT;
}

/* Guards included. */
static uint64_t mapping_size(uint64_t size)
{
	return ALIGN_UP(size, HUGE_PAGE) + 2 * GUARD;
}

/*
 * Reserves address space for RAM of @size bytes between two guards, with RAM on a 2 MiB boundary:
 * guest-physical and host-virtual addresses must agree modulo the huge page size, or the provider
 * cannot map huge pages. Return: where RAM goes, or NULL.
 */
static uint8_t *reserve(uint64_t size)
{
	uint64_t want = mapping_size(size);
	uint64_t len = want + HUGE_PAGE;
	uint8_t *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		return NULL;
	}
	uint64_t head = -(uint64_t)(uintptr_t)p & (HUGE_PAGE - 1);
	if (head > 0) {
		munmap(p, head);
	}
	if (head < HUGE_PAGE) {
		munmap(p + head + want, HUGE_PAGE - head);
	}
	return p + head + GUARD;
}

static void unreserve(uint8_t *ram, uint64_t size)
{
	munmap(ram - GUARD, mapping_size(size));
}

/* A sealed memfd of @size bytes, so that nobody can shrink it under the guest (SIGBUS). */
static int create_file(uint64_t size, unsigned flags)
{
	int fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static int map_file(uint8_t *at, uint64_t size, int fd, int flags)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, fd, 0);

	return p == MAP_FAILED ? -errno : 0;
}

/*
 * RAM of reserved huge pages. Mapping them without MAP_NORESERVE takes all of them or fails; to ask
 * sysfs how many are free first would only be a guess. Return: the file, or -errno.
 */
static int map_huge(uint8_t *at, uint64_t size)
{
	uint64_t len = ALIGN_UP(size, HUGE_PAGE);
	int fd = create_file(len, MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd < 0) {
		return fd;
	}
	int error = map_file(at, len, fd, 0);
	if (error != 0) {
		close(fd);
		return error;
	}
	return fd;
}

static int map_plain(uint8_t *at, uint64_t size)
{
	int fd = create_file(size, 0);

	if (fd < 0) {
		log_error("cannot create guest memory of %llu MiB: %s",
			  (unsigned long long)(size / MIB), strerror(-fd));
		return fd;
	}
	int error = map_file(at, size, fd, MAP_NORESERVE);
	if (error != 0) {
		log_error("cannot map guest memory of %llu MiB: %s; use less --memory",
			  (unsigned long long)(size / MIB), strerror(-error));
		close(fd);
		return error;
	}
	/* A wish; a kernel without transparent huge pages has none to give. */
	(void)madvise(at, size, MADV_HUGEPAGE);
	return fd;
}

int guest_memory_init(struct guest_memory *mem, uint64_t size)
{
	*mem = (struct guest_memory){.fd = -1};
	if (size == 0 || size % (4 * KIB) != 0 || size > RAM_MAX) {
		log_error("memory of %llu bytes: must be a multiple of 4K and at most 1024G",
			  (unsigned long long)size);
		return -EINVAL;
	}

	uint8_t *ram = reserve(size);
	if (ram == NULL) {
		int error = -errno;

		log_error("no address space for guest memory of %llu MiB: %s; "
			  "use less --memory, or raise the limit (ulimit -v)",
			  (unsigned long long)(size / MIB), strerror(-error));
		return error;
	}
	int fd = map_huge(ram, size);
	mem->huge = fd >= 0;
	if (fd < 0) {
		fd = map_plain(ram, size);
	}
	if (fd < 0) {
		unreserve(ram, size);
		return fd;
	}
	/* A core dump of the VMM must not hold the guest, for its size and its secrets. */
	(void)madvise(ram, size, MADV_DONTDUMP);

	uint64_t low = guest_memory_low(size);
	mem->fd = fd;
	mem->region[mem->nregions++] =
		(struct guest_region){.base = gpa(0), .len = low, .host = ram, .file_offset = 0};
	if (low < size) {
		mem->region[mem->nregions++] = (struct guest_region){
			.base = gpa(LAYOUT_HIGH_RAM),
			.len = size - low,
			.host = ram + low,
			.file_offset = low,
		};
	}
	return 0;
}

void guest_memory_fini(struct guest_memory *mem)
{
	if (mem->nregions > 0) {
		unreserve(mem->region[0].host, guest_memory_size(mem));
		close(mem->fd);
	}
	*mem = (struct guest_memory){.fd = -1};
}

uint64_t guest_memory_size(const struct guest_memory *mem)
{
	uint64_t size = 0;

	for (unsigned i = 0; i < mem->nregions; i++) {
		size += mem->region[i].len;
	}
	return size;
}

void *guest_ptr(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct guest_region *r = &mem->region[i];

		if (range_inside(addr.v, len, r->base.v, r->len)) {
			return r->host + (addr.v - r->base.v);
		}
	}
	return NULL;
}

int guest_read(const struct guest_memory *mem, gpa_t addr, void *dst, uint64_t len)
{
	const void *p = guest_ptr(mem, addr, len);

	if (p == NULL) {
		return -EFAULT;
	}
	memcpy(dst, p, len);
	return 0;
}

int guest_write(const struct guest_memory *mem, gpa_t addr, const void *src, uint64_t len)
{
	void *p = guest_ptr(mem, addr, len);

	if (p == NULL) {
		return -EFAULT;
	}
	memcpy(p, src, len);
	guest_wrote(mem, p, len);
	return 0;
}
