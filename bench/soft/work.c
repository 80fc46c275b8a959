/*
 * Small pieces of work, each about one thing that a CPU or a kernel does: `work NAME TIMES`.
 * Exit status: 0; 77 if the CPU cannot do it; 1 if a result is wrong.
 */
#include <err.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB	 (1UL << 20)
#define SKIPPED	 77
#define MATRIX	 256
#define CHASE	 (32 * MIB / sizeof(void *))
#define LINE	 (64 / sizeof(void *))
#define COPY	 (16 * MIB)
#define FAULTING (32 * MIB)

static void do_getpid(unsigned long times)
{
	while (times-- > 0) {
		syscall(SYS_getpid);
	}
}

/* One byte goes to another process and back. */
static void do_pipe(unsigned long times)
{
	int there[2], back[2];
	char byte = 'x';
	pid_t pid;

	if (pipe(there) != 0 || pipe(back) != 0 || (pid = fork()) < 0) {
		err(1, "pipe");
	}
	if (pid == 0) {
		while (times-- > 0 && read(there[0], &byte, 1) == 1 &&
		       write(back[1], &byte, 1) == 1) {
		}
		_exit(0);
	}
	while (times-- > 0) {
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
			errx(1, "the other end is gone");
		}
	}
	waitpid(pid, NULL, 0);
}

/* The first access to each page of fresh memory. */
static void do_faults(unsigned long times)
{
	while (times-- > 0) {
		char *memory = mmap(NULL, FAULTING, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED) {
			err(1, "mmap");
		}
		madvise(memory, FAULTING, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < FAULTING; i += 4096) {
			memory[i] = 1;
		}
		munmap(memory, FAULTING);
	}
}

static char *filled(size_t bytes)
{
	char *memory = aligned_alloc(4096, bytes);

	if (memory == NULL) {
		err(1, "memory");
	}
	memset(memory, 1, bytes);
	return memory;
}

static void do_memcpy(unsigned long times)
{
	char *from = filled(COPY), *to = filled(COPY);

	while (times-- > 0) {
		memcpy(to, from, COPY);
		__asm__ volatile("" : : "r"(to) : "memory");
	}
}

/* Within the first cache. */
static void do_memcpy4k(unsigned long times)
{
	char *from = filled(4096), *to = filled(4096);

	while (times-- > 0) {
		memcpy(to, from, 4096);
		__asm__ volatile("" : : "r"(to) : "memory");
	}
}

/* Each load's address comes from the one before; a permutation with one cycle. */
static void do_chase(unsigned long times)
{
	void **memory = (void **)filled(CHASE * sizeof(void *));
	size_t lines = CHASE / LINE, at = 0;
	void **p = memory;

	/* A full period needs an odd increment and a multiplier of 1 modulo 4. */
	for (size_t i = 0; i < lines; i++) {
		size_t next = (at * 1664525 + 1013904223) & (lines - 1);

		memory[at * LINE] = &memory[next * LINE];
		at = next;
	}
	while (times-- > 0) {
		p = *p;
	}
	__asm__ volatile("" : : "r"(p));
}

static float a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];

static void matrices(void)
{
	for (int i = 0; i < MATRIX; i++) {
		for (int j = 0; j < MATRIX; j++) {
			a[i][j] = (float)(i % 7);
			b[i][j] = (float)(j % 5);
		}
	}
}

/* Sums of small whole numbers are exact. */
static void check_product(void)
{
	for (int i = 0; i < MATRIX; i++) {
		for (int j = 0; j < MATRIX; j++) {
			if (c[i][j] != (float)(MATRIX * (i % 7) * (j % 5))) {
				errx(1, "the product is wrong");
			}
		}
	}
}

__attribute__((optimize("no-tree-vectorize"))) static void do_scalar(unsigned long times)
{
	matrices();
	while (times-- > 0) {
		for (int i = 0; i < MATRIX; i++) {
			for (int j = 0; j < MATRIX; j++) {
				c[i][j] = 0;
			}
			for (int k = 0; k < MATRIX; k++) {
				for (int j = 0; j < MATRIX; j++) {
					c[i][j] += a[i][k] * b[k][j];
				}
			}
		}
	}
	check_product();
}

__attribute__((target("avx2,fma"))) static void multiply_avx2(void)
{
	for (int i = 0; i < MATRIX; i++) {
		for (int j = 0; j < MATRIX; j += 32) {
			__m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(),
					 _mm256_setzero_ps(), _mm256_setzero_ps()};

			for (int k = 0; k < MATRIX; k++) {
				__m256 factor = _mm256_broadcast_ss(&a[i][k]);

				for (int n = 0; n < 4; n++) {
					sum[n] = _mm256_fmadd_ps(
						factor, _mm256_loadu_ps(&b[k][j + 8 * n]), sum[n]);
				}
			}
			for (int n = 0; n < 4; n++) {
				_mm256_storeu_ps(&c[i][j + 8 * n], sum[n]);
			}
		}
	}
}

static void do_avx2(unsigned long times)
{
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
		exit(SKIPPED);
	}
	matrices();
	while (times-- > 0) {
		multiply_avx2();
	}
	check_product();
}

static void do_fork(unsigned long times)
{
	while (times-- > 0) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/bin/work", "work", "getpid", "1", NULL);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
			err(1, "fork");
		}
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*act)(unsigned long times);
	} pieces[] = {
		{"getpid", do_getpid}, {"pipe", do_pipe},	  {"faults", do_faults},
		{"memcpy", do_memcpy}, {"memcpy4k", do_memcpy4k}, {"chase", do_chase},
		{"scalar", do_scalar}, {"avx2", do_avx2},	  {"fork", do_fork},
	};

	for (size_t i = 0; argc == 3 && i < sizeof(pieces) / sizeof(*pieces); i++) {
		if (strcmp(argv[1], pieces[i].name) == 0) {
			pieces[i].act(strtoul(argv[2], NULL, 10));
			return 0;
		}
	}
	errx(1, "usage: work NAME TIMES");
}
