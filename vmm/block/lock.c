#include "vmm/block/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/log.h"

#define CMDLINE_MAX 4096

/* Does descriptor @fd of process @pid have the file of @st open, and a lock on it? */
static bool holds_lock(const char *pid, const char *fd, const struct stat *st)
{
	char path[64];
	char line[256];
	bool found = false;
	struct stat other;

	snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid, fd);
	if (stat(path, &other) != 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino) {
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	FILE *info = fopen(path, "re");
	if (info == NULL) {
		return false;
	}
	while (!found && fgets(line, sizeof(line), info) != NULL) {
		found = strncmp(line, "lock:", 5) == 0;
	}
	fclose(info);
	return found;
}

static bool process_holds_lock(const char *pid, const struct stat *st)
{
	char path[64];
	bool found = false;
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	DIR *dir = opendir(path);
	if (dir == NULL) {
		return false; /* gone, or another user's */
	}
	while (!found && (entry = readdir(dir)) != NULL) {
		found = entry->d_name[0] != '.' && holds_lock(pid, entry->d_name, st);
	}
	closedir(dir);
	return found;
}

/*
 * The process that holds a lock on the file. The kernel does not name the holder of an open file
 * description lock (F_OFD_GETLK gives -1), but shows the lock in the holder's fdinfo.
 * Return: its pid, or 0.
 */
static pid_t find_holder(const struct stat *st)
{
	pid_t pid = 0;
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	if (dir == NULL) {
		return 0;
	}
	while (pid == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
		    process_holds_lock(entry->d_name, st)) {
			pid = (pid_t)strtol(entry->d_name, NULL, 10);
		}
	}
	closedir(dir);
	return pid;
}

/* The VM's name, if process @pid was started with --name: into @name, "" otherwise. */
static void find_vm_name(pid_t pid, char *name, size_t size)
{
	char path[64];
	char args[CMDLINE_MAX + 1];

	name[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return;
	}
	ssize_t len = read(fd, args, CMDLINE_MAX);
	close(fd);
	if (len <= 0) {
		return;
	}
	args[len] = '\0';
	for (const char *a = args; a < args + len; a += strlen(a) + 1) {
		const char *next = a + strlen(a) + 1;

		if (strcmp(a, "--name") == 0 && next < args + len) {
			snprintf(name, size, "%s", next);
		} else if (strncmp(a, "--name=", 7) == 0) {
			snprintf(name, size, "%s", a + 7);
		}
	}
}

static void say_holder(int fd, const char *path, bool readonly)
{
	struct stat st;
	char name[64] = "";
	pid_t pid = fstat(fd, &st) == 0 ? find_holder(&st) : 0;
	const char *hint = readonly ? "" : " (two VMs can share it if both have readonly=on)";

	if (pid == getpid()) {
		log_error("disk %s: given twice; a disk that is written can be in a VM once", path);
		return;
	}
	if (pid == 0) {
		log_error("disk %s: locked by another VM or program%s", path, hint);
		return;
	}
	find_vm_name(pid, name, sizeof(name));
	if (name[0] != '\0') {
		log_error("disk %s: locked by VM '%s', process %d%s", path, name, (int)pid, hint);
	} else {
		log_error("disk %s: locked by process %d%s", path, (int)pid, hint);
	}
}

int block_lock(int fd, const char *path, bool readonly)
{
	struct flock lock = {
		.l_type = readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET, /* and a length of 0: all of the file */
	};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
		return 0;
	}
	if (errno == EAGAIN || errno == EACCES) {
		say_holder(fd, path, readonly);
		return -EBUSY;
	}
	log_warn("disk %s: cannot be locked (%s); make sure that no other VM uses it", path,
		 strerror(errno));
	return 0;
}
