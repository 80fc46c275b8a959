#include "vmm/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/capture.h"
#include "tests/unit.h"

#define SIZE MIB

/*
 * The kernel's calls, as the back end sees them: they may give less than was asked for, or be
 * interrupted, as they may anywhere.
 */
static struct {
	size_t at_most; /* bytes a call; 0: no limit */
	unsigned interrupts;
	unsigned calls;
	bool device;	/* files are block devices */
	bool protected; /* which cannot be written */
} host;

static ssize_t limited(long nr, int fd, const struct iovec *iov, int n, off_t offset)
{
	struct iovec first = iov[0];

	host.calls++;
	if (host.interrupts > 0) {
		host.interrupts--;
		errno = EINTR;
		return -1;
	}
	if (host.at_most > 0) {
		first.iov_len = MIN(first.iov_len, host.at_most);
		return syscall(nr, fd, &first, 1L, (long)offset, 0L);
	}
	return syscall(nr, fd, iov, (long)n, (long)offset, 0L);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
	return limited(SYS_preadv, fd, iov, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return limited(SYS_pwritev, fd, iov, n, offset);
}

ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	return limited(SYS_preadv, fd, &(struct iovec){buf, len}, 1, offset);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return limited(SYS_pwritev, fd, &(struct iovec){(void *)buf, len}, 1, offset);
}

int fstat(int fd, struct stat *st)
{
	int ret = (int)syscall(SYS_fstat, fd, st);

	if (ret == 0 && host.device) {
		st->st_mode = S_IFBLK | 0600;
	}
	return ret;
}

int stat(const char *path, struct stat *st)
{
	int ret = (int)syscall(SYS_stat, path, st);

	if (ret == 0 && host.device) {
		st->st_mode = S_IFBLK | 0600;
	}
	return ret;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;

	va_start(args, request);
	void *out = va_arg(args, void *);
	va_end(args);
	switch (host.device ? request : 0) {
	case BLKROGET:
		*(int *)out = host.protected;
		return 0;
	case BLKGETSIZE64:
		*(uint64_t *)out = SIZE;
		return 0;
	case BLKSSZGET:
		*(int *)out = 512;
		return 0;
	case BLKPBSZGET:
		*(unsigned *)out = 4096;
		return 0;
	default:
		return (int)syscall(SYS_ioctl, fd, request, out);
	}
}

static char folder[] = "/tmp/yado-block-XXXXXX";

/* A path in the test's folder; valid until the next call but one. */
static const char *in_folder(const char *name)
{
	static char path[2][64];
	static unsigned next;

	next ^= 1;
	snprintf(path[next], sizeof(path[next]), "%s/%s", folder, name);
	return path[next];
}

static const char *make_file(const char *name, off_t size)
{
	const char *path = in_folder(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	return path;
}

/* block_open() gives @error and one line that names the disk and contains @words. */
static void assert_refused(const struct disk_config *config, int error, const char *words)
{
	struct capture cap;
	struct block b;

	capture_begin(&cap);
	int ret = block_open(&b, config);
	const char *text = capture_end(&cap);
	const char *end = strchr(text, '\n');

	assert_int_equal(ret, error);
	assert_non_null(strstr(text, config->path));
	if (strstr(text, words) == NULL) {
		fail_msg("no '%s' in: %s", words, text);
	}
	assert_true(end != NULL && end[1] == '\0');
	assert_int_equal(b.fd, -1);
	assert_int_equal(b.direct_fd, -1);
}

static void refusals(void **unused)
{
	(void)unused;
	assert_refused(&(struct disk_config){.path = in_folder("none")}, -ENOENT, "no such file");
	assert_refused(&(struct disk_config){.path = folder}, -EINVAL, "is a directory");
	assert_refused(&(struct disk_config){.path = folder, .readonly = true}, -EINVAL,
		       "is a directory");
	assert_refused(&(struct disk_config){.path = "/dev/null"}, -EINVAL, "character device");
	assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
	assert_refused(&(struct disk_config){.path = in_folder("pipe"), .readonly = true}, -EINVAL,
		       "is a pipe");
	assert_refused(&(struct disk_config){.path = make_file("empty", 0)}, -EINVAL, "is empty");
	assert_refused(&(struct disk_config){.path = make_file("odd", 513)}, -EINVAL,
		       "not a multiple of 512");
	/* A program that runs cannot be written, whoever asks. */
	assert_refused(&(struct disk_config){.path = "/proc/self/exe"}, -ETXTBSY, "readonly=on");
}

/* Linux opens such a device for writing. */
static void write_protected_device(void **unused)
{
	struct disk_config config = {.path = make_file("device", SIZE)};
	struct block b;

	(void)unused;
	host.device = true;
	host.protected = true;
	assert_refused(&config, -EROFS, "readonly=on");
	config.readonly = true;
	assert_int_equal(block_open(&b, &config), 0);
	assert_true(b.is_device && b.readonly);
	block_close(&b);
	host.protected = false;
	config.readonly = false;
	assert_int_equal(block_open(&b, &config), 0);
	assert_true(b.is_device && !b.readonly);
	block_close(&b);
	host.device = false;
}

static void unreadable(void **unused)
{
	const char *path = make_file("secret", SIZE);
	int status;

	(void)unused;
	assert_int_equal(chmod(path, 0), 0);
	assert_int_equal(chmod(folder, 0711), 0);
	pid_t pid = fork();
	if (pid == 0) {
		/* For root there are no permissions. */
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) {
			_exit(2);
		}
		assert_refused(&(struct disk_config){.path = path}, -EACCES, "permissions");
		assert_refused(&(struct disk_config){.path = path, .readonly = true}, -EACCES,
			       "permissions");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void one_writer(void **unused)
{
	struct disk_config rw = {.path = make_file("locked", SIZE)};
	struct disk_config ro = {.path = rw.path, .readonly = true};
	struct block a;
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&a, &rw), 0);
	assert_refused(&rw, -EBUSY, "given twice");
	assert_refused(&ro, -EBUSY, "given twice");
	block_close(&a);

	assert_int_equal(block_open(&a, &ro), 0);
	assert_int_equal(block_open(&b, &ro), 0);
	assert_refused(&rw, -EBUSY, "given twice");
	block_close(&b);
	assert_refused(&rw, -EBUSY, "given twice");
	block_close(&a);
	assert_int_equal(block_open(&a, &rw), 0);
	block_close(&a);
}

static void names_the_holder(void **unused)
{
	struct disk_config rw = {.path = make_file("held", SIZE)};
	int ready[2];
	char byte;
	char words[64];

	(void)unused;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct block b;
		int ret = block_open(&b, &rw);

		byte = ret == 0 ? 'y' : 'n';
		if (write(ready[1], &byte, 1) == 1) {
			pause();
		}
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	snprintf(words, sizeof(words), "locked by process %d", (int)pid);
	assert_refused(&rw, -EBUSY, words);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);

	/* The lock went with its holder. */
	struct block b;
	assert_int_equal(block_open(&b, &rw), 0);
	block_close(&b);
	close(ready[0]);
	close(ready[1]);
}

static void geometry(void **unused)
{
	struct disk_config config = {.path = make_file("geometry", SIZE + 512)};
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&b, &config), 0);
	assert_int_equal(b.size, SIZE + 512);
	assert_int_equal(b.logical_block, 512);
	assert_true(b.physical_block >= 512 && b.physical_block <= 4096);
	assert_false(b.is_device);
	block_close(&b);
}

static void warns_of_qcow2(void **unused)
{
	struct disk_config config = {.path = make_file("cow", SIZE)};
	struct capture cap;
	struct block b;
	int fd = open(config.path, O_WRONLY | O_CLOEXEC);

	(void)unused;
	assert_int_equal(pwrite(fd, "QFI\xfb", 4, 0), 4);
	close(fd);
	capture_begin(&cap);
	int ret = block_open(&b, &config);
	const char *text = capture_end(&cap);
	assert_int_equal(ret, 0);
	assert_non_null(strstr(text, "warning: "));
	assert_non_null(strstr(text, "qcow2"));
	block_close(&b);
}

static void fill_pattern(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		p[i] = (uint8_t)(i * 7 + i / 251 + seed);
	}
}

/* Writes through odd buffers, reads through others, and compares with the file itself. */
static void round_trip(struct block *b)
{
	const uint64_t skip = 16;
	const uint64_t len = 300 * 512;
	const uint64_t offset = 5 * 512;
	uint8_t *out = test_malloc(skip + len);
	uint8_t *in = test_malloc(skip + len);
	uint8_t *file = test_malloc(len);
	struct iovec iov[700];
	unsigned n = 0;
	size_t at = 0;

	fill_pattern(out, skip + len, host.calls);
	memset(in, 0xee, skip + len);
	/* More buffers than go into one call; some empty, none of a sector's size. */
	while (at < skip + len && n < ARRAY_SIZE(iov) - 1) {
		size_t part = MIN((size_t)(n % 10 == 9 ? 0 : 223 + n), skip + len - at);

		iov[n++] = (struct iovec){out + at, part};
		at += part;
	}
	assert_int_equal(at, skip + len);
	assert_true(n > 256);
	assert_int_equal(block_writev(b, iov, n, skip, len, offset), 0);
	assert_int_equal(block_flush(b), 0);
	assert_int_equal(syscall(SYS_pread64, b->fd, file, len, (long)offset), len);
	assert_memory_equal(file, out + skip, len);

	for (unsigned i = 0; i < n; i++) {
		iov[i].iov_base = in + ((uint8_t *)iov[i].iov_base - out);
	}
	assert_int_equal(block_readv(b, iov, n, skip, len, offset), 0);
	assert_memory_equal(in + skip, out + skip, len);
	for (unsigned i = 0; i < skip; i++) {
		assert_int_equal(in[i], 0xee);
	}
	test_free(out);
	test_free(in);
	test_free(file);
}

static void transfers(void **unused)
{
	struct disk_config config = {.path = make_file("data", SIZE)};
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&b, &config), 0);
	round_trip(&b);
	host.interrupts = 3;
	round_trip(&b);
	assert_int_equal(host.interrupts, 0);
	host.at_most = 97;
	round_trip(&b);
	host.at_most = 0;
	block_close(&b);
}

/* Buffers that are wanted from end to end: as they are in one call, and what is behind stays. */
static void whole_buffers(void **unused)
{
	struct disk_config config = {.path = make_file("data", SIZE)};
	static uint8_t out[3 * 512 + 1], in[3 * 512 + 1], file[3 * 512];
	struct iovec to[] = {{out, 512}, {out + 512, 1024}, {out + 1536, 1}};
	struct iovec from[] = {{in, 512}, {in + 512, 1024}, {in + 1536, 1}};
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&b, &config), 0);
	for (unsigned n = 1; n <= 2; n++) {
		size_t len = n == 1 ? 512 : 1536;

		for (size_t at_most = 0; at_most <= 700; at_most += 350) {
			fill_pattern(out, sizeof(out), (unsigned)(n + at_most));
			memset(in, 0xee, sizeof(in));
			host.at_most = at_most;
			host.calls = 0;
			assert_int_equal(block_writev(&b, to, 3, 0, len, 1024), 0);
			assert_int_equal(block_readv(&b, from, 3, 0, len, 1024), 0);
			assert_true(at_most != 0 || host.calls == 2);
			assert_int_equal(syscall(SYS_pread64, b.fd, file, len, 1024L), len);
			assert_memory_equal(file, out, len);
			assert_memory_equal(in, out, len);
			assert_int_equal(in[len], 0xee);
		}
	}
	host.at_most = 0;
	block_close(&b);
}

static void errors(void **unused)
{
	struct disk_config config = {.path = make_file("short", SIZE)};
	static uint8_t buf[4096];
	struct iovec iov = {buf, sizeof(buf)};
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&b, &config), 0);
	/* Cut by somebody else while the VM runs. */
	assert_int_equal(truncate(config.path, SIZE - 2048), 0);
	assert_int_equal(block_readv(&b, &iov, 1, 0, sizeof(buf), SIZE - sizeof(buf)), -EIO);
	block_close(&b);

	config.readonly = true;
	assert_int_equal(block_open(&b, &config), 0);
	assert_int_equal(block_writev(&b, &iov, 1, 0, sizeof(buf), 0), -EBADF);
	assert_int_equal(block_discard(&b, 0, 4096), -EOPNOTSUPP);
	block_close(&b);
}

static blkcnt_t blocks_of(const struct block *b)
{
	struct stat st;

	assert_int_equal(fstat(b->fd, &st), 0);
	return st.st_blocks;
}

/* Fills the disk, and checks that exactly [@offset, @offset+@len) is zero after @way. */
static void check_zeroed(struct block *b, uint64_t offset, uint64_t len, bool unmap, bool discard)
{
	uint8_t *data = test_malloc(SIZE);
	struct iovec iov = {data, SIZE};

	memset(data, 0x5a, SIZE);
	assert_int_equal(block_writev(b, &iov, 1, 0, SIZE, 0), 0);
	assert_int_equal(block_flush(b), 0);
	blkcnt_t before = blocks_of(b);
	if (discard) {
		assert_int_equal(block_discard(b, offset, len), 0);
	} else {
		assert_int_equal(block_write_zeroes(b, offset, len, unmap), 0);
	}
	assert_int_equal(block_flush(b), 0);
	blkcnt_t after = blocks_of(b);
	assert_int_equal(block_readv(b, &iov, 1, 0, SIZE, 0), 0);
	for (uint64_t i = 0; i < SIZE; i++) {
		uint8_t want = i >= offset && i - offset < len ? 0 : 0x5a;

		if (data[i] != want) {
			fail_msg("byte %llu is %#x", (unsigned long long)i, data[i]);
		}
	}
	bool frees = (discard || unmap) && !atomic_load(&b->no_punch) && len >= 64 * KIB;
	if (frees) {
		assert_true(after < before);
	} else {
		assert_true(after >= before || len < 64 * KIB);
	}
	test_free(data);
}

static void zeroes(void **unused)
{
	struct disk_config config = {.path = make_file("zeroes", SIZE)};
	struct block b;

	(void)unused;
	assert_int_equal(block_open(&b, &config), 0);
	for (int way = 0; way < 3; way++) {
		/* As the host is; without holes; and without anything but writing. */
		atomic_store(&b.no_punch, way >= 1 || !b.can_discard);
		atomic_store(&b.no_zero_range, way >= 2);
		check_zeroed(&b, 128 * KIB, 256 * KIB, false, false);
		check_zeroed(&b, 128 * KIB, 256 * KIB, true, false);
		check_zeroed(&b, 512, 512 * 3, true, false);
		check_zeroed(&b, 0, SIZE, false, false);
		check_zeroed(&b, SIZE - 512, 512, true, false);
		check_zeroed(&b, 4096, 0, true, false);
	}
	assert_int_equal(b.can_discard ? 0 : -EOPNOTSUPP, block_discard(&b, 0, 0));
	if (b.can_discard) {
		atomic_store(&b.no_punch, false);
		assert_true(b.discard_block >= 512);
		check_zeroed(&b, 64 * KIB, 128 * KIB, false, true);
	}
	assert_int_equal(b.size, SIZE);
	block_close(&b);
}

static void direct(void **unused)
{
	struct disk_config config = {.path = make_file("direct", SIZE), .direct = true};
	struct capture cap;
	uint8_t *page;
	struct block b;

	(void)unused;
	capture_begin(&cap);
	int ret = block_open(&b, &config);
	const char *text = capture_end(&cap);
	if (ret == -EINVAL && strstr(text, "does not offer it") != NULL) {
		skip(); /* this folder's file system is one of those */
	}
	assert_int_equal(ret, 0);
	assert_true(b.direct_align >= 1 && (b.direct_align & (b.direct_align - 1)) == 0);
	round_trip(&b); /* nothing in it is aligned */

	/* Aligned and not in turns: each sees what the other wrote. */
	page = aligned_alloc(4096, 8192);
	struct iovec iov = {page, 4096};
	fill_pattern(page, 8192, 1);
	assert_int_equal(block_writev(&b, &iov, 1, 0, 4096, 8192), 0);
	struct iovec odd = {page + 4096 + 8, 512};
	assert_int_equal(block_writev(&b, &odd, 1, 0, 512, 8192 + 1024), 0);
	memset(page, 0, 4096);
	assert_int_equal(block_readv(&b, &iov, 1, 0, 4096, 8192), 0);
	assert_memory_equal(page + 1024, page + 4096 + 8, 512);
	assert_int_equal(page[1], 8);
	memset(page + 4096, 0, 4096);
	assert_int_equal(block_readv(&b, &odd, 1, 0, 512, 8192 + 1024), 0);
	assert_memory_equal(page + 1024, page + 4096 + 8, 512);
	free(page);
	block_close(&b);
}

static int make_folder(void **unused)
{
	(void)unused;
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **unused)
{
	static const char *const names[] = {"pipe",   "empty",	  "odd",   "secret", "locked",
					    "held",   "geometry", "cow",   "data",   "short",
					    "zeroes", "direct",	  "device"};

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		unlink(in_folder(names[i]));
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),   cmocka_unit_test(unreadable),
		cmocka_unit_test(one_writer), cmocka_unit_test(names_the_holder),
		cmocka_unit_test(geometry),   cmocka_unit_test(warns_of_qcow2),
		cmocka_unit_test(transfers),  cmocka_unit_test(whole_buffers),
		cmocka_unit_test(errors),     cmocka_unit_test(zeroes),
		cmocka_unit_test(direct),     cmocka_unit_test(write_protected_device),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
