#include "vmm/boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/log.h"

static int refuse(struct boot_file *f, int error, const char *why)
{
	log_error("%s '%s': %s", f->what, f->path, why);
	boot_file_close(f);
	return error;
}

int boot_file_open(struct boot_file *f, const char *what, const char *path)
{
	struct stat st;

	/* A FIFO without a writer must not make us wait for one. */
	*f = (struct boot_file){.what = what, .path = path};
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd < 0) {
		int error = -errno;

		log_error("cannot open %s '%s': %s", what, path, strerror(-error));
		return error;
	}
	if (fstat(f->fd, &st) < 0) {
		int error = -errno;

		return refuse(f, error, strerror(-error));
	}
	if (S_ISDIR(st.st_mode)) {
		return refuse(f, -EISDIR, "is a directory; give a file");
	}
	if (!S_ISREG(st.st_mode)) {
		return refuse(f, -EINVAL, "is not a regular file; copy it to one");
	}
	if (st.st_size == 0) {
		return refuse(f, -EINVAL, "is empty");
	}
	f->size = (uint64_t)st.st_size;
	return 0;
}

void boot_file_close(struct boot_file *f)
{
	if (f->fd >= 0) {
		close(f->fd);
		f->fd = -1;
	}
}

int boot_file_read(const struct boot_file *f, uint64_t offset, void *dst, uint64_t len)
{
	uint8_t *p = dst;

	while (len > 0) {
		ssize_t n = pread(f->fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			int error = -errno;

			log_error("cannot read %s '%s': %s", f->what, f->path, strerror(-error));
			return error;
		}
		if (n == 0) {
			log_error("%s '%s' became shorter while it was read; try again", f->what,
				  f->path);
			return -EINVAL;
		}
		p += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int boot_file_load(const struct boot_file *f, uint64_t offset, struct guest_memory *mem, gpa_t addr,
		   uint64_t len)
{
	void *p = guest_ptr(mem, addr, len);

	if (p == NULL) {
		log_error("%s '%s': 0x%llx bytes at 0x%llx are not in the guest's memory", f->what,
			  f->path, (unsigned long long)len, (unsigned long long)addr.v);
		return -EFAULT;
	}
	return boot_file_read(f, offset, p, len);
}
