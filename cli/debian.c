#include "cli/debian.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/log.h"

#define DISK_BYTES   (2 * GIB) /* sparse: about 300 MiB of it are used at first */
#define CMDLINE	     "console=ttyS0 root=/dev/vda rw quiet systemd.show_status=1"
#define SUITE	     "bookworm"
#define SEARCH_PATHS "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char packages[] =
	"systemd-sysv,systemd-resolved,udev,kmod,iproute2,iputils-ping,netbase,procps,less,nano";

/* The hook writes the results to these; mmdebstrap's shell wants the single-digit ones. */
enum {
	FD_KERNEL = 107,
	FD_INITRD = 108,
	FD_DISK = 109,
	FD_HOOK = 110, /* itself */
};

static const char hook[] = {
#include "cli/debian_guest.inc"
};

/* What the guest consists of. The command line comes last: it is written when the rest is done. */
static const struct part {
	const char *name;
	int fd;
} parts[] = {
	{"vmlinuz", FD_KERNEL},
	{"initrd.img", FD_INITRD},
	{"root.img", FD_DISK},
};

/* asprintf() that returns its string, or NULL. */
static char *format(const char *fmt, ...) printf_like(1, 2);

static char *format(const char *fmt, ...)
{
	char *s = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&s, fmt, args) < 0) {
		s = NULL;
	}
	va_end(args);
	return s;
}

static int fail(int error, const char *what)
{
	log_error("%s: %s", what, strerror(-error));
	return error;
}

/* Makes a directory and those above it. */
static int make_directories(char *path)
{
	for (char *p = path + 1;; p++) {
		char end = *p;
		if (end == '/' || end == '\0') {
			*p = '\0';
			int result = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
			*p = end;
			if (result != 0 || end == '\0') {
				return result;
			}
		}
	}
}

/* Return: the directory that holds `debian`, made if need be; NULL: the reason has been said. */
static char *data_directory(void)
{
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	char *path;

	if (data != NULL && data[0] == '/') {
		path = format("%s/yado", data);
	} else if (home != NULL && home[0] == '/') {
		path = format("%s/.local/share/yado", home);
	} else {
		log_error("neither XDG_DATA_HOME nor HOME says where to keep the Debian guest");
		return NULL;
	}
	int result = path == NULL ? -ENOMEM : make_directories(path);
	if (result != 0) {
		fail(result, path == NULL ? "the Debian guest" : path);
		free(path);
		return NULL;
	}
	return path;
}

static bool on_path(const char *program)
{
	char *paths = format("%s:%s", getenv("PATH") != NULL ? getenv("PATH") : "", SEARCH_PATHS);
	bool found = false;
	char *rest = paths;
	char *directory;

	while (!found && rest != NULL && (directory = strsep(&rest, ":")) != NULL) {
		char *path = format("%s/%s", directory, program);
		found = path != NULL && directory[0] == '/' && access(path, X_OK) == 0;
		free(path);
	}
	free(paths);
	return found;
}

/* Says all that is missing at once. */
static int find_programs(void)
{
	static const struct {
		const char *program;
		const char *package;
		bool without_root;
	} needed[] = {
		{"mmdebstrap", "mmdebstrap", false},
		{"mke2fs", "e2fsprogs", false},
		{"apt-get", "apt", false},
		{"newuidmap", "uidmap", true},
	};
	char missing[128] = "";

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		if ((!needed[i].without_root || geteuid() != 0) && !on_path(needed[i].program)) {
			size_t used = strlen(missing);
			snprintf(missing + used, sizeof(missing) - used, " %s", needed[i].package);
		}
	}
	if (missing[0] != '\0') {
		log_error("making the Debian guest takes more programs; apt-get install%s",
			  missing);
		return -ENOENT;
	}
	return 0;
}

/* Removes a directory that has files only. */
static int remove_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (dir == NULL) {
		return errno == ENOENT ? 0 : -errno;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			unlinkat(dirfd(dir), entry->d_name, 0);
		}
	}
	closedir(dir);
	return rmdir(path) < 0 ? -errno : 0;
}

/*
 * Opens the files that the hook fills. Without root it is another user who does, in a namespace
 * that cannot see our home: it gets them open, but mke2fs opens the disk once more, by its mode.
 * The directory around is closed to all others meanwhile.
 */
static int open_parts(const char *directory, int fds[ARRAY_SIZE(parts)])
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		char *path = format("%s/%s", directory, parts[i].name);
		int fd =
			path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		free(path);
		if (fd < 0) {
			return -errno;
		}
		/* Above those numbers, so that dup2() in the child hits none of them. */
		fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, FD_HOOK + 1);
		close(fd);
		if (fds[i] < 0 || fchmod(fds[i], 0666) < 0) {
			return -errno;
		}
	}
	return ftruncate(fds[ARRAY_SIZE(parts) - 1], (off_t)DISK_BYTES) < 0 ? -errno : 0;
}

static _Noreturn void exec_mmdebstrap(const int fds[ARRAY_SIZE(parts)])
{
	char *argv[] = {
		"mmdebstrap",
		"--variant=minbase",
		"--format=null",
		format("--include=%s", packages),
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
		format("--customize-hook=/proc/self/fd/%d", FD_HOOK),
		SUITE,
		"/dev/null",
		NULL,
	};
	char *path = format("%s:%s", getenv("PATH") != NULL ? getenv("PATH") : "", SEARCH_PATHS);

	int script = memfd_create("debian_guest.sh", 0);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (script < 0 || write(script, hook, strlen(hook)) != (ssize_t)strlen(hook) ||
	    dup2(script, FD_HOOK) < 0) {
		_exit(126);
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (dup2(fds[i], parts[i].fd) < 0) {
			_exit(126);
		}
	}
	/* Progress belongs to stderr, as all that yado says. */
	dup2(STDERR_FILENO, STDOUT_FILENO);
	if (path == NULL || argv[3] == NULL || argv[8] == NULL || setenv("PATH", path, 1) < 0) {
		_exit(126);
	}
	unsetenv("APT_CONFIG");
	setenv("LC_ALL", "C.UTF-8", 1);
	execvp(argv[0], argv);
	_exit(127);
}

static int run_mmdebstrap(const int fds[ARRAY_SIZE(parts)])
{
	int status;
	pid_t pid = fork();

	if (pid < 0) {
		return fail(-errno, "fork");
	}
	if (pid == 0) {
		exec_mmdebstrap(fds);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return fail(-errno, "waitpid");
		}
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		log_error("mmdebstrap failed; see its messages above (is there a network, and room "
			  "in /tmp and here?)");
		return -EIO;
	}
	return 0;
}

static int write_cmdline(const char *directory)
{
	char *path = format("%s/cmdline", directory);
	int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int result = 0;

	free(path);
	if (fd < 0) {
		return -errno;
	}
	if (write(fd, CMDLINE "\n", sizeof(CMDLINE)) != (ssize_t)sizeof(CMDLINE)) {
		result = errno != 0 ? -errno : -ENOSPC;
	}
	close(fd);
	return result;
}

/* All parts are there, with something in them, and on the disk for good. */
static int seal_parts(const int fds[ARRAY_SIZE(parts)])
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct stat st;
		if (fstat(fds[i], &st) < 0 || fchmod(fds[i], 0600) < 0 || fsync(fds[i]) < 0) {
			return -errno;
		}
		if (st.st_size == 0) {
			return -ENODATA;
		}
	}
	return 0;
}

/* Fills @work and renames it to @target. */
static int make_guest(const char *work, const char *target)
{
	int fds[ARRAY_SIZE(parts)] = {-1, -1, -1};
	int result = remove_directory(work); /* of a run that was interrupted */

	if (result == 0 && mkdir(work, 0700) < 0) {
		result = -errno;
	}
	if (result == 0) {
		result = open_parts(work, fds);
	}
	if (result != 0) {
		fail(result, work);
		goto out;
	}
	result = run_mmdebstrap(fds);
	if (result != 0) {
		goto out;
	}
	result = seal_parts(fds);
	if (result == 0) {
		result = write_cmdline(work);
	}
	if (result == 0 && (remove_directory(target) != 0 || rename(work, target) < 0)) {
		result = -errno;
	}
	if (result != 0) {
		fail(result, target);
	}
out:
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
	if (result != 0) {
		remove_directory(work);
	}
	return result;
}

static bool is_complete(const char *target)
{
	static const char *const names[] = {"vmlinuz", "initrd.img", "root.img", "cmdline"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path = format("%s/%s", target, names[i]);
		bool there = path != NULL && access(path, F_OK) == 0;
		free(path);
		if (!there) {
			return false;
		}
	}
	return true;
}

/* Makes the guest in @data, one yado at a time. */
static int make_locked(const char *data, const char *target)
{
	char *lock_path = format("%s/debian.lock", data);
	char *work = format("%s/debian.new", data);
	int lock = lock_path == NULL ? -1 : open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int result;

	if (lock < 0 || work == NULL) {
		result = fail(-errno, data);
	} else if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		log_error("another yado is making the Debian guest; wait for it");
		result = -EBUSY;
	} else if (is_complete(target)) {
		result = 0; /* it was faster */
	} else {
		result = find_programs();
		if (result == 0) {
			log_info("making the Debian guest in %s from Debian's packages; it takes a "
				 "minute, once",
				 target);
			result = make_guest(work, target);
		}
	}
	if (lock >= 0) {
		close(lock);
	}
	free(work);
	free(lock_path);
	return result;
}

int debian_prepare(struct debian_guest *out)
{
	char *data = data_directory();
	char *target = data == NULL ? NULL : format("%s/debian", data);
	int result = target == NULL ? -ENOENT : 0;

	*out = (struct debian_guest){0};
	if (result == 0 && !is_complete(target)) {
		result = make_locked(data, target);
	}
	if (result == 0) {
		out->kernel = format("%s/vmlinuz", target);
		out->initrd = format("%s/initrd.img", target);
		out->disk = format("%s/root.img", target);
		out->cmdline = format("%s", CMDLINE);
		if (out->kernel == NULL || out->initrd == NULL || out->disk == NULL ||
		    out->cmdline == NULL) {
			debian_guest_fini(out);
			result = fail(-ENOMEM, target);
		}
	}
	free(target);
	free(data);
	return result;
}

void debian_guest_fini(struct debian_guest *guest)
{
	free(guest->kernel);
	free(guest->initrd);
	free(guest->disk);
	free(guest->cmdline);
	*guest = (struct debian_guest){0};
}
