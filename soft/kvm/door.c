/*
 * Descriptors: which thing is behind a number. Each thing has a pipe, through which nothing goes:
 * its reading end is what the user has, and has an identity that dup() keeps; the writing end tells
 * when there are no more readers.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/kvm/kvm.h"
#include "soft/kvm/surroundings.h"
#include "soft/soft.h"

#define PAGE 4096

enum kind {
	SYSTEM,
	VM,
	VCPU,
};

struct file {
	struct file *next;
	enum kind kind;
	dev_t dev;
	ino_t ino;
	int other_end;
	union {
		struct kvm_vm *vm;
		struct kvm_vcpu *vcpu;
	};
	unsigned refs; /* lock: calls that use it, and 1 while there are descriptors */
	bool closed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *files; /* lock */

/* ---- with the lock ---- */

static struct file *find(dev_t dev, ino_t ino)
{
	struct file *file = files;

	while (file != NULL && (file->dev != dev || file->ino != ino)) {
		file = file->next;
	}
	return file;
}

static void take_out(const struct file *file)
{
	struct file **at = &files;

	while (*at != file) {
		at = &(*at)->next;
	}
	*at = file->next;
}

/* ---- */

/* What is behind @fd, held; or NULL and errno. */
static struct file *get(int fd)
{
	struct stat st;
	struct file *file;

	if (fstat(fd, &st) != 0) {
		return NULL;
	}
	pthread_mutex_lock(&lock);
	file = find(st.st_dev, st.st_ino);
	if (file != NULL) {
		file->refs++;
	} else {
		errno = ENOTTY;
	}
	pthread_mutex_unlock(&lock);
	return file;
}

static void put(struct file *file)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --file->refs == 0;
	if (last) {
		take_out(file);
	}
	pthread_mutex_unlock(&lock);
	if (!last) {
		return;
	}
	if (file->kind == VM) {
		kvm_vm_release(file->vm);
	} else if (file->kind == VCPU) {
		kvm_vcpu_release(file->vcpu);
	}
	close(file->other_end);
	free(file);
}

/* Return: a descriptor of a new thing, or -errno. */
static int make(enum kind kind, void *object)
{
	struct file *file = calloc(1, sizeof(*file));
	struct stat st;
	int ends[2];

	if (file == NULL) {
		return -ENOMEM;
	}
	if (pipe2(ends, O_CLOEXEC) != 0) {
		int error = -errno;

		free(file);
		return error;
	}
	if (fstat(ends[0], &st) != 0) {
		int error = -errno;

		close(ends[0]);
		close(ends[1]);
		free(file);
		return error;
	}
	*file = (struct file){
		.kind = kind,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.other_end = ends[1],
		.refs = 1,
	};
	if (kind == VM) {
		file->vm = object;
	} else if (kind == VCPU) {
		file->vcpu = object;
	}
	pthread_mutex_lock(&lock);
	file->next = files;
	files = file;
	pthread_mutex_unlock(&lock);
	return ends[0];
}

int soft_vm_fd(struct kvm_env *env, struct kvm_vm *vm)
{
	(void)env;
	return make(VM, vm);
}

int soft_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	(void)env;
	return make(VCPU, vcpu);
}

/* ---- the calls ---- */

int soft_open(void)
{
	int fd;

	if (soft_env() == NULL) {
		return -1;
	}
	fd = make(SYSTEM, NULL);
	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	return fd;
}

int soft_ioctl(int fd, unsigned long request, uintptr_t argument)
{
	struct file *file = get(fd);
	int64_t r;

	if (file == NULL) {
		return -1;
	}
	switch (file->kind) {
	case SYSTEM:
		r = kvm_system_ioctl(soft_env(), (uint32_t)request, argument);
		break;
	case VM:
		r = kvm_vm_ioctl(file->vm, (uint32_t)request, argument);
		break;
	default:
		r = kvm_vcpu_ioctl(file->vcpu, (uint32_t)request, argument);
		break;
	}
	put(file);
	if (r < 0) {
		errno = (int)-r;
		return -1;
	}
	return (int)r;
}

void *soft_writes_open(int vm_fd)
{
	struct file *file = get(vm_fd);

	if (file != NULL && file->kind != VM) {
		put(file);
		file = NULL;
		errno = EINVAL;
	}
	return file;
}

void soft_writes_close(void *writes)
{
	put(writes);
}

void soft_wrote(void *writes, const void *at, size_t bytes)
{
	const struct file *file = writes;

	soft_code_written(file->vm, (uintptr_t)at, bytes);
}

/* Maps the shared page @from at @to, too. */
static bool map_also(void *from, uint8_t *to, int protection)
{
	return mremap(from, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED &&
	       mprotect(to, PAGE, protection) == 0;
}

static void *map_vcpu(struct kvm_vcpu *vcpu, size_t bytes, int protection, uint64_t first)
{
	uint8_t *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		return MAP_FAILED;
	}
	for (size_t i = 0; i * PAGE < bytes; i++) {
		void *page = kvm_vcpu_mmap(vcpu, first + i);

		if (page != NULL && !map_also(page, at + i * PAGE, protection)) {
			int error = errno;

			munmap(at, bytes);
			errno = error;
			return MAP_FAILED;
		}
	}
	return at;
}

void *soft_mmap(size_t bytes, int protection, int flags, int fd, off_t offset)
{
	struct file *file = get(fd);
	void *at = MAP_FAILED;

	if (file == NULL) {
		return MAP_FAILED;
	}
	if (file->kind != VCPU) {
		errno = ENODEV;
	} else if (bytes == 0 || offset < 0 || offset % PAGE != 0 ||
		   (flags & MAP_TYPE) != MAP_SHARED) {
		errno = EINVAL;
	} else {
		at = map_vcpu(file->vcpu, bytes, protection, (uint64_t)offset / PAGE);
	}
	put(file);
	return at;
}

/* Has anybody another descriptor of it? */
static bool has_other(const struct file *file)
{
	struct pollfd end = {.fd = file->other_end};

	return poll(&end, 1, 0) == 0 || (end.revents & POLLERR) == 0;
}

int soft_close(int fd)
{
	struct file *file = get(fd);
	bool last = false;

	if (close(fd) != 0) {
		return -1;
	}
	if (file == NULL) {
		return 0;
	}
	if (!has_other(file)) {
		pthread_mutex_lock(&lock);
		last = !file->closed;
		file->closed = true;
		pthread_mutex_unlock(&lock);
	}
	if (last) {
		put(file);
	}
	/* Two references: the table's, and that of get(), which the analyzer does not count. */
	put(file); /* NOLINT(clang-analyzer-unix.Malloc) */
	return 0;
}
