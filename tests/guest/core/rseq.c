/*
 * rseq(), from ring 3: says `pass NAME` or `FAIL NAME` for each thing it looks at. A plain static
 * program of libc, which has registered each thread itself; it runs on Linux, too.
 */
#include <errno.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SIGNATURE   0x53053053 /* libc's */
#define REGISTERED  32	       /* bytes */
#define OTHERS_TURN 20000      /* us: longer than a slice */

/* libc's own, beside a thread's local storage. */
extern const ptrdiff_t __rseq_offset;

/*
 * bool spin(struct rseq *r, struct rseq_cs *section): announces the section, which is a loop of
 * some seconds. Return: was it aborted?
 */
bool spin(struct rseq *r, struct rseq_cs *section);
extern const char spin_start[], spin_end[], spin_abort[];
__asm__("	.text\n"
	"spin:	mov	%rsi, 8(%rdi)\n"
	"spin_start:\n"
	"	mov	$6000000000, %rax\n"
	"1:	dec	%rax\n"
	"	jnz	1b\n"
	"spin_end:\n"
	"	xor	%eax, %eax\n"
	"	ret\n"
	"	.long	0x53053053\n"
	"spin_abort:\n"
	"	mov	$1, %eax\n"
	"	ret\n");

static struct rseq own;
static struct rseq_cs section;

static void say(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "pass" : "FAIL", name);
	fflush(stdout);
}

static struct rseq *libcs(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

/* Return: 0 or errno. */
static int call(void *at, uint32_t length, int flags, uint32_t signature)
{
	return syscall(SYS_rseq, at, length, flags, signature) == 0 ? 0 : errno;
}

static bool tells_cpu(const struct rseq *r)
{
	unsigned cpu;

	return syscall(SYS_getcpu, &cpu, NULL, NULL) == 0 &&
	       atomic_load((const _Atomic uint32_t *)&r->cpu_id) == cpu && r->cpu_id_start == cpu;
}

static bool refusals(void)
{
	struct rseq *r = libcs();
	bool ok = tells_cpu(r) && call(r, REGISTERED, 0, SIGNATURE) == EBUSY &&
		  call(r, REGISTERED, 0, 1) == EPERM &&
		  call(&own, REGISTERED, 0, SIGNATURE) == EINVAL;

	ok = ok && call(r, REGISTERED, RSEQ_FLAG_UNREGISTER, 1) == EPERM &&
	     call(r, 64, RSEQ_FLAG_UNREGISTER, SIGNATURE) == EINVAL &&
	     call(r, REGISTERED, RSEQ_FLAG_UNREGISTER, SIGNATURE) == 0;
	ok = ok && r->cpu_id == (uint32_t)RSEQ_CPU_ID_UNINITIALIZED && r->cpu_id_start == 0;
	ok = ok && call(r, REGISTERED, RSEQ_FLAG_UNREGISTER, SIGNATURE) == EINVAL &&
	     call(NULL, 0, 0, 0) == EINVAL && call(&own, 16, 0, SIGNATURE) == EINVAL &&
	     call(&own, REGISTERED, 2, SIGNATURE) == EINVAL &&
	     call((char *)&own + 8, REGISTERED, 0, SIGNATURE) == EINVAL &&
	     call((void *)0xffff800000000000, REGISTERED, 0, SIGNATURE) == EFAULT;
	return ok && call(&own, REGISTERED, 0, SIGNATURE) == 0 && tells_cpu(&own);
}

static bool go_to(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static bool numbers(void)
{
	bool ok = true;

	for (unsigned cpu = (unsigned)sysconf(_SC_NPROCESSORS_ONLN); ok && cpu-- > 0;) {
		ok = go_to(cpu) && own.cpu_id == cpu && tells_cpu(&own);
	}
	return ok; /* on CPU 0 */
}

static struct rseq_cs spinning(void)
{
	return (struct rseq_cs){.start_ip = (uintptr_t)spin_start,
				.post_commit_offset = (uintptr_t)(spin_end - spin_start),
				.abort_ip = (uintptr_t)spin_abort};
}

static atomic_bool stop;

static void *compete(void *arg)
{
	while (!atomic_load(&stop)) {
	}
	return arg;
}

/* Another thread has its turn on this CPU. */
static bool preempted(void)
{
	pthread_t thread;
	bool ok;

	section = spinning();
	atomic_store(&stop, false);
	if (pthread_create(&thread, NULL, compete, NULL) != 0) {
		return false;
	}
	ok = spin(&own, &section) && own.rseq_cs == 0;
	atomic_store(&stop, true);
	return pthread_join(thread, NULL) == 0 && ok;
}

static volatile uintptr_t interrupted_at;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	interrupted_at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

static void *send_signal(void *arg)
{
	usleep(OTHERS_TURN);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

/*
 * The handler must never see the section, but where it was aborted. Other threads may abort it
 * before, and then the signal may come when it has been left.
 */
static bool interrupted(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	uintptr_t start = (uintptr_t)spin_start, end = (uintptr_t)spin_end;
	pthread_t self = pthread_self(), thread;
	bool ok = sigaction(SIGUSR1, &action, NULL) == 0;

	for (unsigned i = 0; ok && i < 50 && interrupted_at != (uintptr_t)spin_abort; i++) {
		section = spinning();
		interrupted_at = 0;
		ok = pthread_create(&thread, NULL, send_signal, &self) == 0;
		while (ok && interrupted_at == 0) {
			ok = spin(&own, &section);
		}
		ok = ok && pthread_join(thread, NULL) == 0 && own.rseq_cs == 0 &&
		     (interrupted_at < start || interrupted_at >= end);
	}
	return ok && interrupted_at == (uintptr_t)spin_abort;
}

/* What is announced and over is forgotten, and nothing else happens. */
static bool outside(void)
{
	section = spinning();
	own.rseq_cs = (uintptr_t)&section;
	for (unsigned i = 0; i < 10 && own.rseq_cs != 0; i++) {
		usleep(OTHERS_TURN);
	}
	return own.rseq_cs == 0;
}

/* Return: how it ended, as wait() says. */
static int child(void (*run)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		run();
		_exit(1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static void as_parent(void)
{
	_exit(tells_cpu(&own) && call(&own, REGISTERED, 0, SIGNATURE) == EBUSY ? 0 : 1);
}

/* libc does as the thread that made it, which has none of libc's any more. */
static void *of_thread(void *arg)
{
	return call(arg, REGISTERED, RSEQ_FLAG_UNREGISTER, SIGNATURE) == EINVAL &&
			       call(libcs(), REGISTERED, 0, SIGNATURE) == 0 && tells_cpu(libcs())
		       ? arg
		       : NULL;
}

/* By a child, and not by a thread. */
static bool inherited(void)
{
	pthread_t thread;
	void *result = NULL;

	return child(as_parent) == 0 && pthread_create(&thread, NULL, of_thread, &own) == 0 &&
	       pthread_join(thread, &result) == 0 && result == &own;
}

/* Structures that are wrong end the process, at the latest when it is preempted. */

static void gone(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	call(&own, REGISTERED, RSEQ_FLAG_UNREGISTER, SIGNATURE);
	call(at, REGISTERED, 0, SIGNATURE);
	munmap(at, 4096);
	usleep(OTHERS_TURN);
}

static void announced(uint64_t at)
{
	own.rseq_cs = at;
	usleep(OTHERS_TURN);
}

static void kernels(void)
{
	announced(0xffff800000000000);
}

static void not_canonical(void)
{
	announced(0x8000000000000000);
}

static void with_version(void)
{
	section = spinning();
	section.version = 1;
	announced((uintptr_t)&section);
}

static void without_signature(void)
{
	section = spinning();
	section.abort_ip++;
	announced((uintptr_t)&section);
}

static void aborted_in_itself(void)
{
	section = spinning();
	section.post_commit_offset = (uintptr_t)(spin_abort - spin_start) + 1;
	announced((uintptr_t)&section);
}

static void aborted_nowhere(void)
{
	section = spinning();
	section.abort_ip = 0;
	announced((uintptr_t)&section);
}

static void everywhere(void)
{
	section = spinning();
	section.post_commit_offset = UINT64_MAX;
	announced((uintptr_t)&section);
}

static void with_flags(void)
{
	section = spinning();
	section.flags = RSEQ_CS_FLAG_NO_RESTART_ON_PREEMPT;
	spin(&own, &section);
}

static bool faults(void)
{
	void (*const ways[])(void) = {gone,
				      kernels,
				      not_canonical,
				      with_version,
				      without_signature,
				      aborted_in_itself,
				      aborted_nowhere,
				      everywhere,
				      with_flags};
	pthread_t thread;
	bool ok;

	/* So that each of them is preempted. */
	atomic_store(&stop, false);
	ok = pthread_create(&thread, NULL, compete, NULL) == 0;
	for (size_t i = 0; ok && i < sizeof(ways) / sizeof(ways[0]); i++) {
		int status = child(ways[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) {
			printf("way %zu: ends with %#x\n", i, (unsigned)status);
			ok = false;
		}
	}
	atomic_store(&stop, true);
	return ok && pthread_join(thread, NULL) == 0;
}

int main(void)
{
	say("refusals", refusals());
	say("numbers", numbers());
	say("preempted", preempted());
	say("interrupted", interrupted());
	say("outside", outside());
	say("inherited", inherited());
	say("faults", faults());
	return 7;
}
