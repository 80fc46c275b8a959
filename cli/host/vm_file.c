#include "cli/host/vm_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/check.h"
#include "cli/json_file.h"
#include "cli/nearest.h"
#include "vmm/log.h"

#define SUFFIX ".json"

static bool is_vm_file(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > strlen(SUFFIX) &&
	       strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int vm_file_list(const char *directory, char ***names)
{
	DIR *dir = opendir(directory);
	char **list = calloc(VM_FILES_MAX, sizeof(*list));
	struct dirent *entry;
	int n = 0;

	if (dir == NULL || list == NULL) {
		n = dir == NULL ? -errno : -ENOMEM;
		free(list);
		if (dir != NULL) {
			closedir(dir);
		}
		return n;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (!is_vm_file(entry)) {
			continue;
		}
		if (n == VM_FILES_MAX) {
			log_warn("%s holds more than %d VMs; some of them are left out", directory,
				 VM_FILES_MAX);
			break;
		}
		list[n] = strdup(entry->d_name);
		n += list[n] != NULL;
	}
	closedir(dir);
	qsort(list, (size_t)n, sizeof(*list), by_name);
	*names = list;
	return n;
}

static void refuse(struct vm_file *f, const char *fmt, ...) printf_like(2, 3);

static void refuse(struct vm_file *f, const char *fmt, ...)
{
	char first[VM_FILE_REASON];
	va_list args;

	va_start(args, fmt);
	vsnprintf(first, sizeof(first), fmt, args);
	va_end(args);
	if (f->reason[0] == '\0') {
		strcpy(f->reason, first);
	}
}

/* The first error is the reason. Its beginning may be what everybody knows: which file it is. */
static void take_error(void *ctx, const char *level, const char *text)
{
	struct vm_file *f = ctx;
	size_t len = strlen(f->path);

	if (strcmp(level, "error") != 0) {
		return;
	}
	if (strncmp(text, f->path, len) == 0 && strncmp(text + len, ": ", 2) == 0) {
		text += len + 2;
	}
	refuse(f, "%s", strncmp(text, "--", 2) == 0 ? text + 2 : text);
}

static void check_there(struct vm_file *f, const char *what, const char *path)
{
	struct stat st;
	char shown[160];

	if (path == NULL) {
		return;
	}
	if (stat(path, &st) != 0) {
		refuse(f, "%s \"%s\": %s", what, printable(path, shown, sizeof(shown)),
		       strerror(errno));
	} else if (S_ISDIR(st.st_mode)) {
		refuse(f, "%s \"%s\" is a directory, not a file", what,
		       printable(path, shown, sizeof(shown)));
	}
}

static void check_all(struct vm_file *f, const struct host_facts *facts)
{
	const struct vm_config *vm = &f->config.vm;

	if (vm->kernel == NULL) {
		refuse(f, "it names no kernel");
	}
	if (facts->cpus != 0 && vm->cpus > facts->cpus) {
		refuse(f, "it wants %u CPUs; this machine has %u", vm->cpus, facts->cpus);
	}
	if (config_check(vm, facts) != 0) {
		refuse(f, "its configuration is refused");
	}
	check_there(f, "kernel", vm->kernel);
	check_there(f, "initrd", vm->initrd);
	for (unsigned i = 0; i < vm->ndisks; i++) {
		check_there(f, "disk", vm->disk[i].path);
	}
}

void vm_file_load(struct vm_file *f, const char *directory, const char *name,
		  const struct host_facts *facts)
{
	char stem[VM_FILE_NAME];
	struct log_sink sink;
	int len;

	*f = (struct vm_file){0};
	cli_config_init(&f->config);
	snprintf(stem, sizeof(stem), "%.*s",
		 (int)MIN(strlen(name) - strlen(SUFFIX), sizeof(stem) - 1), name);
	len = snprintf(f->path, sizeof(f->path), "%s/%s", directory, name);
	f->config.vm.name = stem;
	if (len < 0 || (size_t)len >= sizeof(f->path)) {
		refuse(f, "the path of its file is longer than %zu characters",
		       sizeof(f->path) - 1);
	} else {
		sink = log_set_sink((struct log_sink){take_error, f});
		if (json_file_read(&f->config, f->path) != 0) {
			refuse(f, "its file cannot be read");
		} else {
			check_all(f, facts);
		}
		(void)log_set_sink(sink);
		log_init(NULL, false); /* "json" in a file is for its VM */
	}
	printable(f->config.vm.name, f->name, sizeof(f->name));
	f->config.vm.name = f->name;
}

void vm_file_fini(struct vm_file *f)
{
	cli_config_fini(&f->config);
}

const char *vm_file_conflict(const struct vm_file *f, const struct vm_file *other)
{
	const struct vm_config *a = &f->config.vm, *b = &other->config.vm;

	for (unsigned i = 0; i < a->ndisks; i++) {
		for (unsigned j = 0; j < b->ndisks; j++) {
			if ((!a->disk[i].readonly || !b->disk[j].readonly) &&
			    config_same_file(a->disk[i].path, b->disk[j].path)) {
				return a->disk[i].path;
			}
		}
	}
	return NULL;
}
