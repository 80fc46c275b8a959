/*
 * Runs a VMM whose guest works (guest/work.c), and says what the work costs, in ticks of the TSC,
 * which in the lab's counting mode are instructions. What the machine spends idle is taken off, and
 * so is what an empty piece of work costs.
 *
 *	measure work VMM [ARGUMENT]...		prints: ROW|COST|UNIT, one a line
 *	measure memory VMM [ARGUMENT]...	prints: ROW|KIB|KiB
 *
 * Memory is looked at when the guest's first program runs, and every few milliseconds.
 */
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include "bench/work.h"

#define INIT	       "bench: init"
#define EMPTIES	       15
#define SAMPLE_MS      5
#define MAPPINGS_EVERY 20 /* samples */

struct measure {
	bool memory;
	pid_t vmm;
	uint64_t begun;
	uint64_t empty[EMPTIES]; /* what a piece of work costs in which nothing is done, sorted */
	unsigned nempty;
	char row[128];
	unsigned long long count;
	char unit[32];
	unsigned samples;
	long own_init, own_peak, mapped_peak; /* KiB */
};

static _Noreturn void run_vmm(char **argv, int out)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execvp(argv[0], argv);
	err(127, "%s", argv[0]);
}

/* The value behind @key in a file of /proc, or 0. */
static unsigned long long proc_value(const char *path, const char *key)
{
	static char text[64 * 1024];
	size_t len = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY);

	while (fd >= 0 && len < sizeof(text) - 1 &&
	       (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
	}
	if (fd >= 0) {
		close(fd);
	}
	text[len] = '\0';
	const char *found = strstr(text, key);
	return found == NULL ? 0 : strtoull(found + strcspn(found, "0123456789"), NULL, 10);
}

/* Ticks that were not spent idle. The TSC ticks once a nanosecond there. */
static uint64_t busy(void)
{
	uint64_t idle = proc_value("/proc/timer_list", ".idle_sleeptime");

	return __rdtsc() - idle;
}

/* What is resident of all mappings but those of a memfd, which is the guest's RAM: KiB. */
static long mapped_beside(pid_t pid)
{
	char line[512];
	bool guest = false;
	long sum = 0;
	long kib;

	snprintf(line, sizeof(line), "/proc/%d/smaps", (int)pid);
	FILE *f = fopen(line, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		/* Mappings begin with an address in small letters, fields with a capital one. */
		if (line[0] < 'A' || line[0] > 'Z') {
			guest = strstr(line, "memfd:") != NULL;
		} else if (!guest && sscanf(line, "Rss: %ld kB", &kib) == 1) {
			sum += kib;
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	return sum;
}

/* Anonymous memory now; all that is mapped now and then, since that takes long to say. */
static void look_at_memory(struct measure *m, bool init)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)m->vmm);
	long own = (long)proc_value(path, "RssAnon:");

	m->own_init = init ? own : m->own_init;
	m->own_peak = own > m->own_peak ? own : m->own_peak;
	if (m->samples++ % MAPPINGS_EVERY == 0) {
		long mapped = mapped_beside(m->vmm);

		m->mapped_peak = mapped > m->mapped_peak ? mapped : m->mapped_peak;
	}
}

static void empty_ended(struct measure *m, uint64_t cost)
{
	unsigned at = m->nempty;

	if (at == EMPTIES) {
		return;
	}
	for (; at > 0 && m->empty[at - 1] > cost; at--) {
		m->empty[at] = m->empty[at - 1];
	}
	m->empty[at] = cost;
	m->nempty++;
}

/* The median of the empty ones is taken off: some have a timer's work in them that others lack. */
static void work_ended(struct measure *m, uint64_t now)
{
	uint64_t cost = now - m->begun;

	if (m->row[0] == '\0') {
		empty_ended(m, cost);
	} else {
		printf("%s|%.0f|instructions/%s\n", m->row,
		       ((double)cost - (double)m->empty[m->nempty / 2]) / (double)m->count,
		       m->unit);
		fflush(stdout);
	}
}

static void line_came(struct measure *m, const char *line)
{
	const char *at;

	if (m->memory) {
		if (strstr(line, INIT) != NULL) {
			look_at_memory(m, true);
		}
	} else if (strstr(line, WORK_END) != NULL) {
		work_ended(m, busy());
	} else if ((at = strstr(line, WORK_BEGIN)) != NULL) {
		m->row[0] = '\0';
		at += strlen(WORK_BEGIN);
		if (sscanf(at, "%127[^|]|%llu|%31s", m->row, &m->count, m->unit) == 3 ||
		    at[0] == '|') {
			m->begun = busy();
		}
	} else if (strstr(line, "work: ") != NULL || strstr(line, "init: ") != NULL) {
		fprintf(stderr, "measure: the guest says: %s\n", line);
	}
}

/* Reads what the VMM prints, to its end. */
static void listen_to(struct measure *m, int in)
{
	struct pollfd poll_in = {.fd = in, .events = POLLIN};
	char line[1024];
	size_t len = 0;
	char text[1024];
	ssize_t n;

	for (;;) {
		if (m->memory && poll(&poll_in, 1, SAMPLE_MS) == 0) {
			look_at_memory(m, false);
			continue;
		}
		n = read(in, text, sizeof(text));
		if (n <= 0) {
			return;
		}
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] == '\n') {
				line[len] = '\0';
				line_came(m, line);
				len = 0;
			} else if (len < sizeof(line) - 1) {
				line[len++] = text[i];
			}
		}
	}
}

int main(int argc, char **argv)
{
	struct measure m = {0};
	int fds[2];
	int status;

	if (argc < 3 || pipe2(fds, O_CLOEXEC) != 0) {
		fputs("usage: measure work|memory VMM [ARGUMENT]...\n", stderr);
		return 2;
	}
	m.memory = strcmp(argv[1], "memory") == 0;
	m.vmm = fork();
	if (m.vmm == 0) {
		run_vmm(argv + 2, fds[1]);
	}
	close(fds[1]);
	listen_to(&m, fds[0]);
	if (m.vmm < 0 || waitpid(m.vmm, &status, 0) != m.vmm || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0) {
		errx(1, "%s failed", argv[2]);
	}
	if (m.memory) {
		printf("own anonymous memory at guest init|%ld|KiB\n", m.own_init);
		printf("own anonymous memory, peak|%ld|KiB\n", m.own_peak);
		printf("resident beside guest RAM, peak|%ld|KiB\n", m.mapped_peak);
	}
	return 0;
}
