#include "vmm/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "vmm/block/lock.h"
#include "vmm/log.h"

/* Buffers handed to the kernel in one call; on the stack, 4 KiB. */
#define BATCH 256

/* For hosts that do not say what O_DIRECT wants: enough for every disk there is. */
#define DIRECT_ALIGN_DEFAULT 4096

#define ZEROES_LEN (64 * KIB)
#define ZEROES_IOV 16

/* Never written to. In .bss, so that it costs no file size. */
static uint8_t zeroes[ZEROES_LEN] __attribute__((aligned(4096)));

static int refuse_kind(const char *path, const struct stat *st)
{
	const char *what = "a socket";

	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)) {
		return 0;
	}
	if (S_ISDIR(st->st_mode)) {
		what = "a directory";
	} else if (S_ISCHR(st->st_mode)) {
		what = "a character device";
	} else if (S_ISFIFO(st->st_mode)) {
		what = "a pipe";
	}
	log_error("disk %s: is %s; a disk is an image file or a block device", path, what);
	return -EINVAL;
}

static int refuse_open(const char *path, bool readonly, int error)
{
	const char *why = strerror(error);
	bool denied = error == EACCES || error == EPERM || error == EROFS || error == ETXTBSY;

	if (error == ENOENT) {
		log_error("disk %s: no such file; 'truncate -s 4G FILE' makes an empty disk", path);
	} else if (error == EBUSY) {
		log_error("disk %s: in use on the host: mounted, or another VM has it; unmount it, "
			  "or use "
			  "readonly=on",
			  path);
	} else if (denied && !readonly && access(path, R_OK) == 0) {
		log_error("disk %s: cannot be written (%s); with readonly=on the guest can read it",
			  path, why);
	} else if (denied) {
		log_error("disk %s: cannot be read: %s; check the permissions of it and of its "
			  "folders",
			  path, why);
	} else {
		log_error("disk %s: cannot be opened: %s", path, why);
	}
	return -error;
}

/* Linux opens a write-protected block device for writing, and fails the writes. */
static int refuse_protected(const struct block *b, const struct stat *st)
{
	int protected = 0;

	if (!S_ISBLK(st->st_mode) || b->readonly || ioctl(b->fd, BLKROGET, &protected) != 0 ||
	    protected == 0) {
		return 0;
	}
	log_error("disk %s: is write-protected; with readonly=on the guest can read it", b->path);
	return -EROFS;
}

static int open_fd(struct block *b, struct stat *st)
{
	int flags = (b->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;

	/* Asked first: to open some devices is to act on them, and a pipe would wait. */
	if (stat(b->path, st) != 0) {
		return refuse_open(b->path, b->readonly, errno);
	}
	int ret = refuse_kind(b->path, st);
	if (ret != 0) {
		return ret;
	}
	/* For a block device O_EXCL means: not mounted, and not part of another device. */
	if (S_ISBLK(st->st_mode) && !b->readonly) {
		flags |= O_EXCL;
	}
	b->fd = open(b->path, flags);
	if (b->fd < 0) {
		return refuse_open(b->path, b->readonly, errno);
	}
	if (fstat(b->fd, st) != 0) {
		return refuse_open(b->path, b->readonly, errno);
	}
	ret = refuse_kind(b->path, st);
	return ret != 0 ? ret : refuse_protected(b, st);
}

/* What the guest is told of the disk's blocks, and how large the disk is. */
static int measure(struct block *b, const struct stat *st)
{
	int logical = BLOCK_SECTOR;
	unsigned physical = (unsigned)st->st_blksize;

	b->size = (uint64_t)st->st_size;
	if (b->is_device &&
	    (ioctl(b->fd, BLKGETSIZE64, &b->size) != 0 || ioctl(b->fd, BLKSSZGET, &logical) != 0 ||
	     ioctl(b->fd, BLKPBSZGET, &physical) != 0)) {
		int error = errno;

		log_error("disk %s: its size cannot be read: %s", b->path, strerror(error));
		return -error;
	}
	if (b->size == 0) {
		log_error("disk %s: is empty%s", b->path,
			  b->is_device ? "; is there a medium in it?"
				       : "; 'truncate -s 4G FILE' gives it a size");
		return -EINVAL;
	}
	if (b->size % BLOCK_SECTOR != 0) {
		log_error("disk %s: %llu bytes are not a multiple of 512; is it a raw image, and "
			  "all of it?",
			  b->path, (unsigned long long)b->size);
		return -EINVAL;
	}
	b->logical_block = logical < BLOCK_SECTOR ? BLOCK_SECTOR : (uint32_t)logical;
	/* Network file systems name their transfer size here; the guest would align to it. */
	b->physical_block = physical > 4096 && !b->is_device ? 4096 : physical;
	if ((b->physical_block & (b->physical_block - 1)) != 0 ||
	    b->physical_block < b->logical_block) {
		b->physical_block = b->logical_block;
	}
	return 0;
}

/* A raw disk has no format of its own: a guest may have written anything. So this only warns. */
static void warn_of_format(const struct block *b)
{
	char head[4];

	if (!b->is_device && pread(b->fd, head, sizeof(head), 0) == sizeof(head) &&
	    memcmp(head, "QFI\xfb", sizeof(head)) == 0) {
		log_warn("disk %s: looks like a qcow2 image, but is used as a raw one; "
			 "'qemu-img convert -O raw' makes it one",
			 b->path);
	}
}

/* A number from the device's queue folder in sysfs; 0 if it is not there. */
static uint64_t queue_limit(dev_t dev, const char *name)
{
	/* A partition has no queue folder; the disk it lies on is its parent. */
	static const char *const where[] = {"queue", "../queue"};
	char path[128];
	char text[32];

	for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(dev), minor(dev),
			 where[i], name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		ssize_t len = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (len > 0) {
			text[len] = '\0';
			return strtoull(text, NULL, 10);
		}
	}
	return 0;
}

static void probe_discard(struct block *b, const struct stat *st)
{
	if (b->readonly) {
		return;
	}
	if (b->is_device) {
		uint64_t unit = queue_limit(st->st_rdev, "discard_granularity");

		b->can_discard = queue_limit(st->st_rdev, "discard_max_bytes") > 0;
		b->discard_block = unit < b->logical_block || unit > UINT32_MAX ? b->logical_block
										: (uint32_t)unit;
	} else {
		/* A hole behind the end changes nothing, but tells. */
		b->can_discard = fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)ALIGN_UP(b->size, UINT64_C(4096)), 4096) == 0;
		b->discard_block = b->physical_block;
		b->no_punch = !b->can_discard;
	}
	if (!b->can_discard) {
		b->discard_block = 0;
	}
}

static uint32_t direct_alignment(const struct block *b)
{
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(b->direct_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    (sx.stx_mask & STATX_DIOALIGN) != 0 && sx.stx_dio_offset_align != 0) {
		return MAX(sx.stx_dio_mem_align, sx.stx_dio_offset_align);
	}
#endif
	return b->is_device ? b->logical_block : DIRECT_ALIGN_DEFAULT;
}

/* A second descriptor, for O_DIRECT. The first one stays for what is not aligned. */
static int open_direct(struct block *b, const struct stat *first)
{
	struct stat st;

	b->direct_fd = open(b->path, (b->readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (b->direct_fd < 0) {
		int error = errno;

		log_error("disk %s: cannot be opened with direct=on: %s%s", b->path,
			  strerror(error),
			  error == EINVAL ? "; its file system does not offer it" : "");
		return -error;
	}
	if (fstat(b->direct_fd, &st) != 0 || st.st_dev != first->st_dev ||
	    st.st_ino != first->st_ino) {
		log_error("disk %s: was replaced while it was opened; try again", b->path);
		return -EAGAIN;
	}
	b->direct_align = direct_alignment(b);
	return 0;
}

int block_open(struct block *b, const struct disk_config *config)
{
	struct stat st;

	*b = (struct block){
		.path = config->path,
		.fd = -1,
		.direct_fd = -1,
		.readonly = config->readonly,
	};
	int ret = open_fd(b, &st);
	if (ret == 0) {
		b->is_device = S_ISBLK(st.st_mode);
		ret = block_lock(b->fd, b->path, b->readonly);
	}
	if (ret == 0) {
		ret = measure(b, &st);
	}
	if (ret == 0 && config->direct) {
		ret = open_direct(b, &st);
	}
	if (ret != 0) {
		block_close(b);
		return ret;
	}
	warn_of_format(b);
	probe_discard(b, &st);
	return 0;
}

void block_close(struct block *b)
{
	if (b->direct_fd >= 0) {
		close(b->direct_fd);
		b->direct_fd = -1;
	}
	if (b->fd >= 0) {
		close(b->fd);
		b->fd = -1;
	}
}

/*
 * O_DIRECT wants aligned offsets, lengths and addresses. What is not aligned goes through the page
 * cache, which serves as the bounce buffer and also merges partial blocks; the kernel keeps the two
 * ways coherent.
 */
static int choose_fd(const struct block *b, const struct iovec *iov, unsigned n, uint64_t offset)
{
	if (b->direct_fd < 0) {
		return b->fd;
	}
	uint64_t bits = offset;
	for (unsigned i = 0; i < n; i++) {
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	}
	return (bits & (b->direct_align - 1)) == 0 ? b->direct_fd : b->fd;
}

/*
 * Fills @part with the next buffers: up to @len bytes from byte @skip of @iov.
 * Return: how many entries of @part are used.
 */
static unsigned next_batch(struct iovec *part, const struct iovec *iov, unsigned n, uint64_t skip,
			   uint64_t len)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n && count < BATCH && len > 0; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		uint64_t take = MIN(iov[i].iov_len - skip, len);
		part[count++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, take};
		len -= take;
		skip = 0;
	}
	return count;
}

/* How many of the buffers hold exactly @len bytes, if one call takes them as they are; else 0. */
static unsigned whole_batch(const struct iovec *iov, unsigned n, uint64_t len)
{
	unsigned count = 0;

	while (len > 0 && count < MIN(n, BATCH) && iov[count].iov_len <= len) {
		len -= iov[count++].iov_len;
	}
	return len == 0 ? count : 0;
}

/* One system call. Linux copies to and from a single buffer with fewer instructions a page. */
static ssize_t move(struct block *b, bool write, const struct iovec *iov, unsigned n,
		    uint64_t offset)
{
	int fd = choose_fd(b, iov, n, offset);

	if (n == 1) {
		return write ? pwrite(fd, iov->iov_base, iov->iov_len, (off_t)offset)
			     : pread(fd, iov->iov_base, iov->iov_len, (off_t)offset);
	}
	return write ? pwritev(fd, iov, (int)n, (off_t)offset)
		     : preadv(fd, iov, (int)n, (off_t)offset);
}

static int transfer(struct block *b, bool write, const struct iovec *iov, unsigned n, uint64_t skip,
		    uint64_t len, uint64_t offset)
{
	struct iovec part[BATCH];

	while (len > 0) {
		while (n > 0 && skip >= iov->iov_len) {
			skip -= iov->iov_len;
			iov++;
			n--;
		}
		const struct iovec *batch = iov;
		unsigned count = skip == 0 ? whole_batch(iov, n, len) : 0;
		if (count == 0) {
			batch = part;
			count = next_batch(part, iov, n, skip, len);
			check(count > 0);
		}
		ssize_t done = move(b, write, batch, count, offset);

		if (done < 0 && errno == EINTR) {
			continue;
		}
		if (done <= 0) {
			/* 0: the file ends before the disk does; somebody cut it. */
			return done < 0 ? -errno : -EIO;
		}
		skip += (uint64_t)done;
		len -= (uint64_t)done;
		offset += (uint64_t)done;
	}
	return 0;
}

int block_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t skip, uint64_t len,
		uint64_t offset)
{
	return transfer(b, false, iov, n, skip, len, offset);
}

int block_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t skip, uint64_t len,
		 uint64_t offset)
{
	return transfer(b, true, iov, n, skip, len, offset);
}

int block_flush(struct block *b)
{
	return fdatasync(b->fd) == 0 ? 0 : -errno;
}

/* Errors that mean "not this way", not "failed". EINVAL: a device wants whole blocks. */
static bool not_offered(int ret)
{
	return ret == -EOPNOTSUPP || ret == -ENOSYS || ret == -ENODEV || ret == -EINVAL;
}

static int allocate(struct block *b, int mode, uint64_t offset, uint64_t len)
{
	int ret;

	do {
		ret = fallocate(b->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	} while (ret != 0 && errno == EINTR);
	return ret == 0 ? 0 : -errno;
}

static int punch(struct block *b, uint64_t offset, uint64_t len)
{
	if (atomic_load_explicit(&b->no_punch, memory_order_relaxed)) {
		return -EOPNOTSUPP;
	}
	int ret = allocate(b, FALLOC_FL_PUNCH_HOLE, offset, len);
	if (ret == -EOPNOTSUPP || ret == -ENOSYS) {
		atomic_store_explicit(&b->no_punch, true, memory_order_relaxed);
	}
	return ret;
}

static int zero_range(struct block *b, uint64_t offset, uint64_t len)
{
	if (atomic_load_explicit(&b->no_zero_range, memory_order_relaxed)) {
		return -EOPNOTSUPP;
	}
	int ret = allocate(b, FALLOC_FL_ZERO_RANGE, offset, len);
	if (ret == -EOPNOTSUPP || ret == -ENOSYS) {
		atomic_store_explicit(&b->no_zero_range, true, memory_order_relaxed);
	}
	return ret;
}

int block_discard(struct block *b, uint64_t offset, uint64_t len)
{
	if (!b->can_discard) {
		return -EOPNOTSUPP;
	}
	if (len == 0) {
		return 0;
	}
	if (!b->is_device) {
		return punch(b, offset, len);
	}
	/* A device discards whole blocks; what sticks out keeps its content, as it may. */
	uint64_t start = ALIGN_UP(offset, (uint64_t)b->logical_block);
	uint64_t end = ALIGN_DOWN(offset + len, (uint64_t)b->logical_block);
	if (start >= end) {
		return 0;
	}
	uint64_t range[2] = {start, end - start};
	return ioctl(b->fd, BLKDISCARD, range) == 0 ? 0 : -errno;
}

static int write_zero_bytes(struct block *b, uint64_t offset, uint64_t len)
{
	struct iovec iov[ZEROES_IOV];

	for (unsigned i = 0; i < ZEROES_IOV; i++) {
		iov[i] = (struct iovec){zeroes, sizeof(zeroes)};
	}
	while (len > 0) {
		uint64_t now = MIN(len, ZEROES_IOV * ZEROES_LEN);
		int ret = block_writev(b, iov, ZEROES_IOV, 0, now, offset);

		if (ret != 0) {
			return ret;
		}
		offset += now;
		len -= now;
	}
	return 0;
}

int block_write_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	int ret = -EOPNOTSUPP;

	if (len == 0) {
		return 0;
	}
	if (unmap) {
		/* Of a block device too: it then frees only where it reads as zeroes after. */
		ret = punch(b, offset, len);
	}
	if (not_offered(ret)) {
		ret = zero_range(b, offset, len);
	}
	if (not_offered(ret)) {
		ret = write_zero_bytes(b, offset, len);
	}
	return ret;
}
