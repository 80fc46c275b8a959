/* Protection keys as a program sees them; what it prints is the same on every CPU that has them. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE   4096
#define ROUNDS 2000

static sigjmp_buf back;
static volatile int code;
static volatile unsigned found_key;

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	code = info->si_code;
	found_key = info->si_pkey;
	siglongjmp(back, 1);
}

/* Return: "ok", or what kind of fault it is. */
static const char *access_to(volatile uint8_t *page, int write, unsigned key)
{
	int rights = pkey_get((int)key);

	if (sigsetjmp(back, 1) != 0) {
		pkey_set((int)key, (unsigned)rights); /* the handler has its own */
		return code == SEGV_PKUERR ? found_key == key ? "SEGV_PKUERR" : "wrong key"
					   : "another fault";
	}
	if (write) {
		page[5] = 1;
	} else {
		(void)page[5];
	}
	return "ok";
}

static void try_all(uint8_t *page, int key, const char *what)
{
	static int file[2];
	ssize_t got;

	if (file[1] == 0 && pipe(file) != 0) {
		return;
	}
	printf("%s: read %s", what, access_to(page, 0, (unsigned)key));
	printf(", write %s", access_to(page, 1, (unsigned)key));
	/* The kernel obeys, too. */
	got = write(file[1], page, 1);
	printf(", write() %s", got == 1 ? "ok" : strerror(errno));
	if (got != 1) {
		got = write(file[1], "x", 1);
	}
	got = read(file[0], page, 1);
	printf(", read() %s\n", got == 1 ? "ok" : strerror(errno));
	if (got != 1) {
		char byte;

		got = read(file[0], &byte, 1);
	}
}

/* Often, so that other programs run in between, with other rights. */
static unsigned wrong_in_rounds(uint8_t *page, int key)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned rights = i % 3 == 0   ? 0
				  : i % 3 == 1 ? PKEY_DISABLE_WRITE
					       : PKEY_DISABLE_ACCESS;

		pkey_set(key, rights);
		if (i % 16 == 0) {
			usleep(1);
		}
		wrong += pkey_get(key) != (int)rights;
		wrong += (strcmp(access_to(page, 0, (unsigned)key), "ok") == 0) !=
			 (rights != PKEY_DISABLE_ACCESS);
		wrong += (strcmp(access_to(page, 1, (unsigned)key), "ok") == 0) != (rights == 0);
	}
	pkey_set(key, 0);
	return wrong;
}

static uint8_t *shared;
static int shared_key;

/* Rights are a thread's own: those that it began with. */
static void *other_thread(void *arg)
{
	(void)arg;
	printf("another thread: %s\n", access_to(shared, 0, (unsigned)shared_key));
	pkey_set(shared_key, 0);
	printf("with rights of its own: %s\n", access_to(shared, 0, (unsigned)shared_key));
	return NULL;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	uint8_t *page =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int key = pkey_alloc(0, 0), status = 0;
	pthread_t thread;
	pid_t child;

	if (key < 0) {
		puts("no protection keys");
		return 0;
	}
	sigaction(SIGSEGV, &action, NULL);
	if (page == MAP_FAILED || pkey_mprotect(page, PAGE, PROT_READ | PROT_WRITE, key) != 0) {
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	try_all(page, key, "all rights");
	pkey_set(key, PKEY_DISABLE_WRITE);
	try_all(page, key, "no writing");
	pkey_set(key, PKEY_DISABLE_ACCESS);
	try_all(page, key, "no access");
	shared = page;
	shared_key = key;
	if (pthread_create(&thread, NULL, other_thread, NULL) == 0) {
		pthread_join(thread, NULL);
	}
	printf("after it: %s\n", access_to(page, 0, (unsigned)key));
	child = fork();
	printf("%u wrong\n", wrong_in_rounds(page, key));
	if (child == 0) {
		_exit(0);
	}
	waitpid(child, &status, 0);
	printf("child: %d\n", status);
	/* Linux makes code that cannot be read by a key of its own. */
	key = mprotect(page, PAGE, PROT_EXEC);
	printf("execute only: %d, read %s\n", key,
	       strcmp(access_to(page, 0, 0), "ok") == 0 ? "ok" : "no");
	return 0;
}
