/*
 * /init on core: starts hostile programs, one after the other, and compares what the kernel holds
 * before and after each. Says `pass NAME` or `FAIL NAME: why`.
 *
 * /etc/hostile, if it is there, has one line: SEED CALLS [GROUP]...
 */
#include "tests/core/hostile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNTS_MAX   64
#define SETTLE_MS    3000
#define LIMIT_S	     60
#define SWEEP_S	     400
#define SLACK	     16 /* pages: others than before are partly filled, or cut up */
#define FUZZ_AT_ONCE 3
#define GUESTS	     3
#define FUZZ_PIECE   30000 /* calls of a process */

struct counts {
	unsigned n;
	struct {
		char name[40];
		unsigned long value;
	} of[COUNTS_MAX];
};

static unsigned failed;

static void say(bool ok, const char *group, const char *name, const char *why)
{
	printf("%s %s/%s%s%s\n", ok ? "pass" : "FAIL", group, name, ok ? "" : ": ", ok ? "" : why);
	fflush(stdout);
	failed += !ok;
}

/* Lines of a name and a number, perhaps with more behind it. */
static void add_counts(struct counts *c, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[200];

	while (f != NULL && c->n < COUNTS_MAX && fgets(line, sizeof(line), f) != NULL) {
		c->n += sscanf(line, "%39s %lu", c->of[c->n].name, &c->of[c->n].value) == 2;
	}
	if (f != NULL) {
		fclose(f);
	}
}

static void take_counts(struct counts *c)
{
	c->n = 0;
	add_counts(c, "/proc/vmstat");
	add_counts(c, "/proc/slabinfo");
}

static unsigned long count_of(const struct counts *c, const char *name)
{
	for (unsigned i = 0; i < c->n; i++) {
		if (strcmp(c->of[i].name, name) == 0) {
			return c->of[i].value;
		}
	}
	return 0;
}

/*
 * What is more than it was. Free pages follow from the others. Stacks that are free stay stacks,
 * with their tables, in blocks that stay cut up; nr_kernel_stacks are those in use.
 */
static bool has_grown(const struct counts *before, const struct counts *now, char *why, size_t size)
{
	unsigned long stacks = count_of(now, "nr_stack_pages") - count_of(before, "nr_stack_pages");
	bool grown = false;

	*why = '\0';
	for (unsigned i = 0; i < now->n && i < before->n; i++) {
		unsigned long allowed = before->of[i].value;

		if (strcmp(now->of[i].name, "nr_free_pages") == 0 ||
		    strcmp(now->of[i].name, "nr_stack_pages") == 0) {
			continue;
		}
		if (strcmp(now->of[i].name, "nr_heap_pages") == 0) {
			allowed += SLACK;
		}
		if (strcmp(now->of[i].name, "nr_table_pages") == 0 ||
		    strcmp(now->of[i].name, "nr_boot_pages") == 0) {
			allowed += 4 * SLACK + stacks / 128;
		}
		if (now->of[i].value > allowed) {
			size_t len = strlen(why);

			snprintf(why + len, size - len, "%s %lu->%lu; ", now->of[i].name,
				 before->of[i].value, now->of[i].value);
			grown = true;
		}
	}
	return grown;
}

static void sleep_ms(long ms)
{
	const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

static void remove_all(const char *directory)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	char path[600];

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
			continue;
		}
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		if (unlink(path) != 0) {
			remove_all(path);
			rmdir(path);
		}
	}
	if (d != NULL) {
		closedir(d);
	}
}

/* Return: is all as it was? It may take a moment until those who ended have gone. */
static bool settles(const struct counts *before, char *why, size_t size)
{
	struct counts now;

	for (int ms = 0; ms < SETTLE_MS; ms += 50) {
		reap();
		remove_all("/tmp");
		remove_all("/run");
		remove_all("/dev/shm");
		take_counts(&now);
		if (now.n > 10 && !has_grown(before, &now, why, size)) {
			return true;
		}
		sleep_ms(50);
	}
	if (now.n <= 10) {
		snprintf(why, size, "/proc/vmstat cannot be read");
	}
	return false;
}

static pid_t start(char *const argv[])
{
	pid_t pid;

	const char *path = argv[0][0] == '/' ? argv[0] : "/init";

	return posix_spawn(&pid, path, NULL, NULL, argv, environ) == 0 ? pid : -1;
}

static bool wait_within(pid_t pid, int *status, long seconds)
{
	for (long ms = 0; ms < seconds * 1000; ms += 5) {
		if (waitpid(pid, status, WNOHANG) == pid) {
			return true;
		}
		sleep_ms(5);
	}
	kill(pid, SIGKILL);
	waitpid(pid, status, 0);
	return false;
}

/* Return: has it ended in time? */
static bool wait_for(pid_t pid, int *status)
{
	return wait_within(pid, status, LIMIT_S);
}

/*
 * One program, from start to end. @signal: what it is to end with, or 0. Return: did it end as it
 * should? If not, @why tells.
 */
static bool ran(char *const argv[], int signal, bool must_succeed, long seconds, char *why,
		size_t size)
{
	pid_t pid = start(argv);
	int status = 0;

	*why = '\0';
	if (pid < 0) {
		snprintf(why, size, "cannot be started");
	} else if (!wait_within(pid, &status, seconds)) {
		snprintf(why, size, "does not end");
	} else if (signal != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == signal)) {
		snprintf(why, size, "ends with %#x, not by signal %d", status, signal);
	} else if (must_succeed && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
		snprintf(why, size, "ends with status %d", WEXITSTATUS(status));
	}
	return *why == '\0';
}

static void one(const char *group, const char *name, unsigned number, int signal, bool must_succeed)
{
	char text[16], why[1000];
	char *const argv[] = {"hostile", (char *)(uintptr_t)group, text, NULL};
	struct counts before;

	snprintf(text, sizeof(text), "%u", number);
	take_counts(&before);
	bool ok = ran(argv, signal, must_succeed, LIMIT_S, why, sizeof(why)) &&
		  settles(&before, why, sizeof(why));

	say(ok, group, name, why);
}

static void run_crashes(void)
{
	for (unsigned i = 0; crash_name(i) != NULL; i++) {
		one("crash", crash_name(i), i, crash_signal(i), false);
	}
}

static void run_annex(void)
{
	for (unsigned i = 0; annex_name(i) != NULL; i++) {
		one("annex", annex_name(i), i, annex_signal(i), true);
	}
}

static void run_pointers(void)
{
	one("pointers", "calls", 0, 0, true);
	one("pointers", "ioctls", 1, 0, true);
	one("pointers", "ioctls_irqchip", 2, 0, true);
}

/* Several processes at once, until so many calls are done. */
static void run_fuzz(unsigned seed, unsigned long calls)
{
	char why[1000] = "";
	pid_t pids[FUZZ_AT_ONCE] = {0};
	unsigned first = seed, late = 0;
	struct counts before;
	int fd = memfd_create("count", 0);
	struct fuzz_count *count;

	if (fd != FUZZ_FD || ftruncate(fd, PAGE) != 0) {
		say(false, "fuzz", "calls", "no shared memory");
		return;
	}
	count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	count->calls = 0;
	take_counts(&before);
	unsigned long ticks[FUZZ_AT_ONCE] = {0};

	while (atomic_load(&count->calls) < calls) {
		for (unsigned i = 0; i < FUZZ_AT_ONCE; i++) {
			char text[16];
			char *const argv[] = {"hostile", "fuzz", text, NULL};

			if (pids[i] > 0 && kill(pids[i], 0) == 0 && ticks[i]++ < LIMIT_S * 20) {
				continue;
			}
			if (pids[i] > 0 && kill(pids[i], 0) == 0) {
				late++;
				kill(pids[i], SIGKILL);
			}
			ticks[i] = 0;
			snprintf(text, sizeof(text), "%u", seed++);
			pids[i] = start(argv);
		}
		sleep_ms(50);
		reap();
	}
	for (unsigned i = 0; i < FUZZ_AT_ONCE; i++) {
		kill(pids[i], SIGKILL);
	}
	bool ok = settles(&before, why, sizeof(why));

	printf("fuzz: %lu calls, %lu errors, %lu runs of guests; %u processes from seed %u, %u "
	       "late\n",
	       (unsigned long)count->calls, (unsigned long)count->errors,
	       (unsigned long)count->vm_runs, seed - first, first, late);
	munmap(count, PAGE);
	close(fd);
	say(ok, "fuzz", "calls", why);
}

static pid_t start_neighbour(void)
{
	char *const argv[] = {"hostile", "neighbour", NULL};
	pid_t pid = start(argv);

	sleep_ms(500); /* it has all that it wants by then */
	return pid;
}

static void end_resting(pid_t pid, const char *name)
{
	char why[100];
	int status = 0;

	if (kill(pid, SIGTERM) != 0) {
		say(false, "neighbour", name, "has ended");
		return;
	}
	bool ok = wait_for(pid, &status) && WIFEXITED(status) && WEXITSTATUS(status) == 0;

	snprintf(why, sizeof(why), "ends with %#x", status);
	say(ok, "neighbour", name, why);
}

/* Beside a neighbour, but for what kills all there are. */
static void run_leaks(void)
{
	for (unsigned i = 0; leak_name(i) != NULL; i++) {
		bool alone = strcmp(leak_name(i), "forks") == 0;
		pid_t pid = alone ? -1 : start_neighbour();

		one("leak", leak_name(i), i, 0, true);
		if (!alone) {
			end_resting(pid, leak_name(i));
		}
	}
}

static void run_guests(void)
{
	for (unsigned seed = 0; seed < GUESTS; seed++) {
		char name[16];
		pid_t pid = start_neighbour();

		snprintf(name, sizeof(name), "%u", seed);
		one("guests", name, seed, 0, true);
		end_resting(pid, name);
	}
}

/* ---- the sweep, and who computes beside it ---- */

#define NEIGHBOURS 2

struct neighbour {
	pid_t pid;
	unsigned cpu, percent; /* of a processor's time, that it must get at least */
	unsigned long long before_ns;
};

static void on_cpus(const cpu_set_t *cpus)
{
	if (sched_setaffinity(0, sizeof(*cpus), cpus) != 0) {
		printf("FAIL sweep: no affinity\n");
		failed++;
	}
}

/* The processor time of a process of one thread. */
static unsigned long long used_ns(pid_t pid)
{
	unsigned long long ns = 0;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	FILE *f = fopen(path, "re");

	if (f != NULL) {
		if (fscanf(f, "%llu", &ns) != 1) {
			ns = 0;
		}
		fclose(f);
	}
	return ns;
}

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000000 + (unsigned long long)t.tv_nsec;
}

static void end_neighbour(const struct neighbour *n, const char *part, unsigned long long ns)
{
	unsigned got = (unsigned)((used_ns(n->pid) - n->before_ns) * 100 / ns);
	char name[40], why[100];
	int status = 0;

	snprintf(name, sizeof(name), "%s/%u", part, n->cpu);
	snprintf(why, sizeof(why), "gets %u%% of a processor, not %u%%", got, n->percent);
	if (kill(n->pid, SIGTERM) != 0) {
		say(false, "neighbour", name, "has ended");
		return;
	}
	bool ok = wait_for(n->pid, &status) && WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (!ok) {
		snprintf(why, sizeof(why), "ends with %#x", status);
	}
	printf("%s: %u%% for its neighbour on processor %u, in %llu ms\n", part, got, n->cpu,
	       ns / 1000000);
	say(ok && got >= n->percent, "neighbour", name, why);
}

/*
 * One part, on the last of the processors, which are one or two. Who computes there, too, must get
 * four fifths of its share; the vCPUs of the part are @vcpus. Who computes on the other must not
 * notice much.
 */
static void run_part(const char *part, unsigned vcpus)
{
	char *const compute[] = {"hostile", "compute", NULL};
	char *const sweep[] = {"/bin/sweep", "/dev/kvm", (char *)(uintptr_t)part, NULL};
	struct neighbour neighbours[NEIGHBOURS];
	cpu_set_t all, one;
	unsigned count = 0;
	struct counts before;
	char why[1000];

	take_counts(&before);
	if (sched_getaffinity(0, sizeof(all), &all) != 0) {
		CPU_ZERO(&all);
	}
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && count < NEIGHBOURS; cpu++) {
		if (CPU_ISSET(cpu, &all)) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			on_cpus(&one);
			neighbours[count++] = (struct neighbour){
				.pid = start(compute), .cpu = cpu, .percent = 80};
		}
	}
	if (count > 0) {
		neighbours[count - 1].percent /= 1 + vcpus;
	}
	sleep_ms(500); /* they have all that they want by then */
	for (unsigned i = 0; i < count; i++) {
		neighbours[i].before_ns = used_ns(neighbours[i].pid);
	}
	unsigned long long from = now_ns();

	bool ok = ran(sweep, 0, true, SWEEP_S, why, sizeof(why));
	unsigned long long ns = now_ns() - from;

	for (unsigned i = 0; i < count; i++) {
		end_neighbour(&neighbours[i], part, ns);
	}
	on_cpus(&all);
	ok = ok && settles(&before, why, sizeof(why));
	say(ok, "sweep", part, why);
}

/* /etc/sweep has a line for each part: its name, and how many vCPUs it has. */
static void run_sweep(void)
{
	FILE *f = fopen("/etc/sweep", "re");
	char part[32];
	unsigned vcpus;

	while (f != NULL && fscanf(f, "%31s %u", part, &vcpus) == 2) {
		run_part(part, vcpus);
	}
	if (f != NULL) {
		fclose(f);
	}
}

/* After all of it: does the kernel still do its work? */
static void run_vm(void)
{
	const uint8_t code[] = {0xb0, 0x2a, 0xe6, 0x80};
	struct vm vm;

	vm_create(&vm, code, sizeof(code));
	bool ok = ioctl(vm.vcpu, KVM_RUN, 0) == 0 && vm.run->exit_reason == KVM_EXIT_IO &&
		  ((uint8_t *)vm.run)[vm.run->io.data_offset] == 0x2a;

	say(ok, "alive", "vm", "a guest does not run");
}

/* All pages that init itself will ever have. */
static void settle_init(void)
{
	extern char __executable_start[], end[];
	volatile char stack[65536];

	for (size_t at = 0; at < sizeof(stack); at += PAGE) {
		stack[at] = 1;
	}
	for (char *p = __executable_start; p < end; p += PAGE) {
		(void)access(p, F_OK); /* reads it, if it is there */
	}
	mallopt(M_TRIM_THRESHOLD, 64 << 20);
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	char *room = malloc(1 << 20);

	memset(room, 1, 1 << 20);
	__asm__ volatile("" : : "r"(room) : "memory");
	free(room);
}

static bool wanted(const char *groups, const char *group)
{
	return *groups == '\0' || strstr(groups, group) != NULL;
}

static int run_all(void)
{
	char groups[100] = "";
	unsigned seed = 1;
	unsigned long calls = 100000;
	FILE *f = fopen("/etc/hostile", "re");

	if (f != NULL) {
		if (fscanf(f, "%u %lu %99[^\n]", &seed, &calls, groups) < 2) {
			printf("FAIL /etc/hostile\n");
		}
		fclose(f);
	}
	/* What the kernel makes at the first use, and keeps, is there before anything is counted.
	 */
	char *const nothing[] = {"hostile", "nothing", NULL};
	char *const warm[] = {"hostile", "warm", NULL};
	int status;

	static struct counts none;
	char why[200];

	settle_init();
	wait_for(start(nothing), &status);
	wait_for(start(warm), &status);
	settles(&none, why, sizeof(why));
	if (wanted(groups, "crash")) {
		run_crashes();
	}
	if (wanted(groups, "leak")) {
		run_leaks();
	}
	if (wanted(groups, "annex")) {
		run_annex();
	}
	if (wanted(groups, "pointers")) {
		run_pointers();
	}
	if (wanted(groups, "guests")) {
		run_guests();
	}
	if (wanted(groups, "sweep")) {
		run_sweep();
	}
	if (wanted(groups, "fuzz")) {
		run_fuzz(seed, calls);
	}
	run_vm();
	printf("hostile: done, %u failed\n", failed);
	return failed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (getpid() == 1) {
		return run_all();
	}
	if (argc < 2 || strcmp(argv[1], "nothing") == 0) {
		return 0;
	}
	unsigned number = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

	if (strcmp(argv[1], "warm") == 0) {
		struct vm vm;

		vm_create(&vm, vm_storm, sizeof(vm_storm));
		vm_start(&vm);
		return 0;
	}
	if (strcmp(argv[1], "crash") == 0) {
		return crash(number);
	}
	if (strcmp(argv[1], "leak") == 0) {
		return leak(number);
	}
	if (strcmp(argv[1], "annex") == 0) {
		return annex_attack(number);
	}
	if (strcmp(argv[1], "pointers") == 0) {
		return pointers(number);
	}
	if (strcmp(argv[1], "guests") == 0) {
		return guests_attack(number);
	}
	if (strcmp(argv[1], "neighbour") == 0) {
		return guests_neighbour(false);
	}
	if (strcmp(argv[1], "compute") == 0) {
		return guests_neighbour(true);
	}
	if (strcmp(argv[1], "fuzz") == 0) {
		return fuzz(number, FUZZ_PIECE);
	}
	return 2;
}
