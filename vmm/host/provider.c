#include "vmm/host/provider.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int kvm_open(void)
{
	return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

static int kvm_ioctl(int fd, unsigned long request, uintptr_t argument)
{
	return ioctl(fd, request, argument);
}

static void *kvm_map(size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return mmap(NULL, bytes, protection, flags, fd, offset);
}

const struct host_provider host_kvm = {
	.name = "/dev/kvm",
	.open = kvm_open,
	.ioctl = kvm_ioctl,
	.map = kvm_map,
	.close = close,
};
