#include "cli/host_facts.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

bool read_text(const char *path, char *buf, size_t size)
{
	FILE *file = fopen(path, "re");

	buf[0] = '\0';
	if (file == NULL) {
		return false;
	}
	buf[fread(buf, 1, size - 1, file)] = '\0';
	fclose(file);
	return true;
}

uint64_t meminfo_value(const char *text, const char *name)
{
	size_t len = strlen(name);

	while (text != NULL) {
		if (strncmp(text, name, len) == 0 && text[len] == ':') {
			char *end;
			uint64_t value = strtoull(text + len + 1, &end, 10);

			return strncmp(end, " kB", 3) == 0 ? value * KIB : value;
		}
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	return 0;
}

void host_facts_read(struct host_facts *facts)
{
	char meminfo[8192];
	struct sysinfo info;
	cpu_set_t cpus[8]; /* 8192 CPUs: all that Linux can have; it refuses too short a set */

	*facts = (struct host_facts){0};
	if (sched_getaffinity(0, sizeof(cpus), cpus) == 0) {
		facts->cpus = (unsigned)CPU_COUNT_S(sizeof(cpus), cpus);
	}
	if (sysinfo(&info) == 0) {
		facts->memory_bytes = (uint64_t)info.totalram * info.mem_unit;
	}
	if (read_text("/proc/meminfo", meminfo, sizeof(meminfo))) {
		facts->available_bytes = meminfo_value(meminfo, "MemAvailable");
	}
}
