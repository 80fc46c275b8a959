#include "vmm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit.h"

static void low_end(void **unused)
{
	(void)unused;
	assert_int_equal(guest_memory_low(512 * MIB), 512 * MIB);
	assert_int_equal(guest_memory_low(0xb0000000 - 4096), 0xb0000000 - 4096);
	assert_int_equal(guest_memory_low(0xb0000000), 0x80000000);
	assert_int_equal(guest_memory_low(TIB), 0x80000000);
}

static void small(void **unused)
{
	struct guest_memory mem;
	uint32_t v = 0x12345678;
	uint32_t back = 0;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, 64 * MIB + 4096), 0);
	assert_int_equal(mem.nregions, 1);
	assert_int_equal(mem.region[0].base.v, 0);
	assert_int_equal(mem.region[0].len, 64 * MIB + 4096);
	assert_int_equal(guest_memory_size(&mem), 64 * MIB + 4096);
	assert_int_equal((uintptr_t)mem.region[0].host % (2 * MIB), 0);

	/* The last bytes are there, and nothing after them. */
	gpa_t last = gpa(64 * MIB + 4096 - sizeof(v));
	assert_int_equal(guest_write(&mem, last, &v, sizeof(v)), 0);
	assert_int_equal(guest_read(&mem, last, &back, sizeof(back)), 0);
	assert_int_equal(back, v);
	assert_int_equal(guest_write(&mem, gpa_add(last, 1), &v, sizeof(v)), -EFAULT);
	back = 7;
	assert_int_equal(guest_read(&mem, gpa_add(last, 1), &back, sizeof(back)), -EFAULT);
	assert_int_equal(back, 7);

	/* The memfd shows the same bytes. */
	assert_int_equal(pread(mem.fd, &back, sizeof(back), (off_t)last.v), sizeof(back));
	assert_int_equal(back, v);
	guest_memory_fini(&mem);
	assert_int_equal(mem.nregions, 0);
}

static void hole(void **unused)
{
	struct guest_memory mem;
	uint64_t size = 5 * GIB;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, size), 0);
	assert_int_equal(mem.nregions, 2);
	assert_int_equal(mem.region[0].len, 2 * GIB);
	assert_int_equal(mem.region[1].base.v, 4 * GIB);
	assert_int_equal(mem.region[1].len, 3 * GIB);
	assert_int_equal(mem.region[1].file_offset, 2 * GIB);
	assert_int_equal(guest_memory_size(&mem), size);

	assert_non_null(guest_ptr(&mem, gpa(2 * GIB - 1), 1));
	assert_null(guest_ptr(&mem, gpa(2 * GIB - 1), 2));
	assert_null(guest_ptr(&mem, gpa(2 * GIB), 1));
	assert_null(guest_ptr(&mem, gpa(4 * GIB - 1), 1));
	assert_null(guest_ptr(&mem, gpa(4 * GIB - 1), 2));
	assert_ptr_equal(guest_ptr(&mem, gpa(4 * GIB), 3 * GIB), mem.region[1].host);
	assert_null(guest_ptr(&mem, gpa(7 * GIB), 1));
	/* Ranges that wrap lie nowhere. */
	assert_null(guest_ptr(&mem, gpa(UINT64_MAX), 2));
	assert_null(guest_ptr(&mem, gpa(1), UINT64_MAX));
	guest_memory_fini(&mem);
}

/* The largest VM needs address space only, until it is used. */
static void largest(void **unused)
{
	struct guest_memory mem;
	uint8_t byte = 0xa5;
	uint8_t back = 0;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, TIB), 0);
	gpa_t last = gpa(4 * GIB + TIB - 2 * GIB - 1);
	assert_int_equal(guest_write(&mem, last, &byte, 1), 0);
	assert_int_equal(guest_read(&mem, last, &back, 1), 0);
	assert_int_equal(back, byte);
	assert_int_equal(guest_write(&mem, gpa_add(last, 1), &byte, 1), -EFAULT);
	guest_memory_fini(&mem);
}

static void sealed(void **unused)
{
	struct guest_memory mem;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, 4 * MIB), 0);
	assert_int_equal(ftruncate(mem.fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(mem.fd, (off_t)(8 * MIB)), -1);
	assert_true((fcntl(mem.fd, F_GETFD) & FD_CLOEXEC) != 0);
	/* The balloon gives pages back through holes. */
	int holes = fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MIB);
	assert_int_equal(holes, 0);
	guest_memory_fini(&mem);
}

/* What @offset from the start of RAM does to a process that writes there: the signal, or 0. */
static int write_at(const struct guest_memory *mem, int64_t offset)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		*(volatile uint8_t *)(mem->region[0].host + offset) = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void guarded(void **unused)
{
	struct guest_memory mem;
	int64_t size = 4 * MIB;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, (uint64_t)size), 0);
	assert_int_equal(write_at(&mem, 0), 0);
	assert_int_equal(write_at(&mem, size - 1), 0);
	assert_int_equal(write_at(&mem, -1), SIGSEGV);
	assert_int_equal(write_at(&mem, size), SIGSEGV);
	guest_memory_fini(&mem);
}

static void refuses(void **unused)
{
	struct guest_memory mem;

	(void)unused;
	assert_int_equal(guest_memory_init(&mem, 0), -EINVAL);
	assert_int_equal(guest_memory_init(&mem, 4095), -EINVAL);
	assert_int_equal(guest_memory_init(&mem, TIB + 4096), -EINVAL);
	guest_memory_fini(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(low_end), cmocka_unit_test(small),  cmocka_unit_test(hole),
		cmocka_unit_test(largest), cmocka_unit_test(sealed), cmocka_unit_test(guarded),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
