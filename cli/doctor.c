#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What to expect of the provider in software. */
#define TRANSLATE_SPEED \
	"by its translator: most programs take two to seven times as long as on hardware"
#define INTERPRET_SPEED \
	"by its interpreter, some hundred times slower than hardware: the CPU has no BMI2"

#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"

bool find_program(const char *name, char *buf, size_t size)
{
	const char *path = getenv("PATH");

	path = path != NULL ? path : PATH_DEFAULT;
	while (*path != '\0') {
		int len = (int)strcspn(path, ":");
		int n = snprintf(buf, size, "%.*s/%s", len, len > 0 ? path : ".", name);

		if (len == 0) {
			n = snprintf(buf, size, "./%s", name);
		}
		if (n > 0 && (size_t)n < size && access(buf, X_OK) == 0) {
			return true;
		}
		path += len;
		path += *path == ':';
	}
	buf[0] = '\0';
	return false;
}

void chosen_word(const char *line, char *buf, size_t size)
{
	const char *open = strchr(line, '[');
	const char *close = open != NULL ? strchr(open, ']') : NULL;

	buf[0] = '\0';
	if (close != NULL) {
		snprintf(buf, size, "%.*s", (int)(close - open - 1), open + 1);
	}
}

void cpuinfo_model(const char *text, char *buf, size_t size)
{
	const char *line = strstr(text, "model name");
	const char *value = line != NULL ? strchr(line, ':') : NULL;

	buf[0] = '\0';
	if (value != NULL && value < strchrnul(line, '\n')) {
		value += 1 + strspn(value + 1, " ");
		snprintf(buf, size, "%.*s", (int)strcspn(value, "\n"), value);
	}
}

void doctor_probe(struct doctor_facts *facts, const char *soft_engine)
{
	char text[16384];

	*facts = (struct doctor_facts){.soft_engine = soft_engine};
	accel_probe(&facts->accel);
	host_facts_read(&facts->host);
	read_text("/proc/cpuinfo", text, sizeof(text));
	cpuinfo_model(text, facts->cpu_model, sizeof(facts->cpu_model));
	read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text, sizeof(text));
	chosen_word(text, facts->shmem_huge, sizeof(facts->shmem_huge));
	read_text("/proc/meminfo", text, sizeof(text));
	facts->huge_pages_free = meminfo_value(text, "HugePages_Free");
	facts->huge_page_bytes = meminfo_value(text, "Hugepagesize");
	find_program("passt", facts->passt, sizeof(facts->passt));
	facts->tun_error = access("/dev/net/tun", R_OK | W_OK) == 0 ? 0 : -errno;
}

/* One finding: what, whether it is good, and a sentence. */
static void say(FILE *out, const char *what, const char *mark, const char *text)
{
	fprintf(out, "%-12s%-6s%s\n", what, mark, text);
}

static void report_memory(FILE *out, const struct doctor_facts *facts)
{
	char text[160];
	const struct host_facts *host = &facts->host;

	snprintf(text, sizeof(text), "%llu MiB, %llu MiB available",
		 (unsigned long long)(host->memory_bytes / MIB),
		 (unsigned long long)(host->available_bytes / MIB));
	say(out, "memory", "", text);

	bool transparent = facts->shmem_huge[0] != '\0' &&
			   strcmp(facts->shmem_huge, "never") != 0 &&
			   strcmp(facts->shmem_huge, "deny") != 0;

	if (transparent) {
		snprintf(text, sizeof(text), "transparent ones for shared memory: \"%s\"",
			 facts->shmem_huge);
		say(out, "huge pages", "yes", text);
	} else if (facts->huge_pages_free > 0) {
		snprintf(text, sizeof(text), "%llu reserved ones of %llu KiB are free",
			 (unsigned long long)facts->huge_pages_free,
			 (unsigned long long)(facts->huge_page_bytes / KIB));
		say(out, "huge pages", "yes", text);
	} else {
		say(out, "huge pages", "no",
		    "guests run, a little slower; as root: echo advise > "
		    "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	}
}

static void report_network(FILE *out, const struct doctor_facts *facts)
{
	if (facts->passt[0] != '\0') {
		say(out, "passt", "yes", facts->passt);
	} else {
		say(out, "passt", "no", "for --net passt: apt-get install passt");
	}
	switch (facts->tun_error) {
	case 0:
		say(out, "tap", "yes", "/dev/net/tun");
		break;
	case -ENOENT:
		say(out, "tap", "no", "for --net tap=NAME: modprobe tun");
		break;
	default:
		say(out, "tap", "no",
		    "you may not open /dev/net/tun; --net passt needs no privileges");
		break;
	}
}

void doctor_report(FILE *out, const struct doctor_facts *facts)
{
	const char *why_not = accel_why_not(&facts->accel);
	char text[160];

	snprintf(text, sizeof(text), "%u usable%s%s", facts->host.cpus,
		 facts->cpu_model[0] != '\0' ? ", " : "", facts->cpu_model);
	say(out, "cpus", "", text);
	say(out, "kvm", why_not == NULL ? "yes" : "no",
	    why_not == NULL ? ACCEL_DEVICE ", on hardware virtualization" : why_not);
	say(out, "soft", "yes",
	    strcmp(facts->soft_engine, "interpret") == 0 ? INTERPRET_SPEED : TRANSLATE_SPEED);
	report_memory(out, facts);
	report_network(out, facts);
	fprintf(out, "\n%s\n",
		why_not == NULL ? "A guest can run here, by KVM: try `yado run debian`."
				: "A guest can run here, in software: try `yado run debian`.");
}
