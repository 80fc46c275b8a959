#include "tests/kvm/door.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/test.h"

#define RUNS_MAX 4096 /* file descriptors whose run structure is remembered */

static const char *device = "/dev/kvm";
static const struct door_provider *provider; /* NULL: the kernel's device */
static door_filter *filter;
static struct kvm_run *runs[RUNS_MAX];

bool door_is_linked(const char *path)
{
	bool is = false;

	for (size_t i = 0; door_providers[i] != NULL; i++) {
		is |= strcmp(path, door_providers[i]->name) == 0;
	}
	return is;
}

void door_set_path(const char *path)
{
	device = path;
	provider = NULL;
	for (size_t i = 0; door_providers[i] != NULL; i++) {
		if (strcmp(path, door_providers[i]->name) == 0) {
			provider = door_providers[i];
		}
	}
}

void door_set_filter(door_filter *new_filter)
{
	filter = new_filter;
}

int kvm_open(void)
{
	int fd = provider != NULL ? provider->open() : open(device, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		fail("%s: %s", device, strerror(errno));
	}
	return fd;
}

int door_call(int fd, unsigned long request, uintptr_t argument)
{
	int result = provider != NULL ? provider->ioctl(fd, request, argument)
				      : ioctl(fd, request, argument);

	return result < 0 ? -errno : result;
}

int door_ioctl(int fd, unsigned long request, uintptr_t argument)
{
	return filter != NULL ? filter(fd, request, argument) : door_call(fd, request, argument);
}

void *kvm_map(size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return provider != NULL ? provider->map(bytes, protection, flags, fd, offset)
				: mmap(NULL, bytes, protection, flags, fd, offset);
}

struct kvm_run *kvm_map_run(int vcpu_fd, size_t bytes)
{
	struct kvm_run *run = kvm_map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);

	if (run == MAP_FAILED) {
		fail("mapping a vCPU: %s", strerror(errno));
	}
	if (vcpu_fd < RUNS_MAX) {
		runs[vcpu_fd] = run;
	}
	return run;
}

struct kvm_run *kvm_run_of(int fd)
{
	return fd >= 0 && fd < RUNS_MAX ? runs[fd] : NULL;
}

int kvm_close(int fd)
{
	if (fd >= 0 && fd < RUNS_MAX) {
		runs[fd] = NULL;
	}
	return (provider != NULL ? provider->close(fd) : close(fd)) < 0 ? -errno : 0;
}
