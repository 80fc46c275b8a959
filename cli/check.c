#include "cli/check.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vmm/log.h"
#include "vmm/unix_socket.h"

#define NAME_MAX_BYTES	 64
#define SERIAL_MAX	 20
#define MEMORY_MIN	 (16 * MIB)
#define MEMORY_MAX	 TIB
#define INTERFACE_MAX	 15 /* IFNAMSIZ less the NUL */
#define SOCKET_PATH_MAX	 (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)
#define VSOCK_SUFFIX_MAX 11 /* "_4294967295": a guest's connection goes to PATH_PORT */

static int check_name(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c >= 0x80 || (!isalnum(c) && (i == 0 || strchr("._-", c) == NULL))) {
			log_error(
				"--name: only letters, digits, '.', '_' and '-' are allowed, and a "
				"letter or digit comes first");
			return -EINVAL;
		}
	}
	if (len == 0 || len > NAME_MAX_BYTES) {
		log_error("--name: it must have 1 to %d characters", NAME_MAX_BYTES);
		return -EINVAL;
	}
	return 0;
}

static int check_cpus(const struct vm_config *config, const struct host_facts *host)
{
	if (config->cpus < 1 || config->cpus > CONFIG_CPUS_MAX) {
		log_error("--cpus: %u is out of range; it takes 1 to %d", config->cpus,
			  CONFIG_CPUS_MAX);
		return -EINVAL;
	}
	if (host->cpus != 0 && config->cpus > host->cpus) {
		log_warn("--cpus: %u vCPUs share %u CPU%s of this host; the guest will be slow",
			 config->cpus, host->cpus, host->cpus == 1 ? "" : "s");
	}
	return 0;
}

static int check_memory(const struct vm_config *config, const struct host_facts *host)
{
	uint64_t memory = config->memory_bytes;

	if (memory < MEMORY_MIN || memory > MEMORY_MAX) {
		log_error("--memory: it must be 16M to 1T");
		return -EINVAL;
	}
	if (memory % (4 * KIB) != 0) {
		log_error("--memory: it must be a multiple of 4K");
		return -EINVAL;
	}
	if (host->memory_bytes != 0 && memory > host->memory_bytes) {
		log_error("--memory: %lluM is more than this host has (%lluM)",
			  (unsigned long long)(memory / MIB),
			  (unsigned long long)(host->memory_bytes / MIB));
		return -EINVAL;
	}
	if (host->available_bytes != 0 && memory > host->available_bytes) {
		log_warn("--memory: %lluM is more than this host has available now (%lluM); it may "
			 "swap, or end the VM",
			 (unsigned long long)(memory / MIB),
			 (unsigned long long)(host->available_bytes / MIB));
	}
	if (config->balloon_bytes % (4 * KIB) != 0 || config->balloon_bytes >= memory) {
		log_error("--balloon: it must be a multiple of 4K, and less than the memory");
		return -EINVAL;
	}
	return 0;
}

static int check_serial(unsigned i, const char *serial)
{
	if (serial == NULL) {
		return 0;
	}
	if (strlen(serial) > SERIAL_MAX) {
		log_error("--disk: the serial number of disk %u has more than %d characters", i + 1,
			  SERIAL_MAX);
		return -EINVAL;
	}
	for (; *serial != '\0'; serial++) {
		if (*serial < 0x20 || *serial > 0x7e) {
			log_error("--disk: the serial number of disk %u must be printable ASCII",
				  i + 1);
			return -EINVAL;
		}
	}
	return 0;
}

bool config_same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	if (stat(a, &sa) != 0 || stat(b, &sb) != 0) {
		return strcmp(a, b) == 0;
	}
	if (S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode)) {
		return sa.st_rdev == sb.st_rdev;
	}
	return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int check_disks(const struct vm_config *config)
{
	for (unsigned i = 0; i < config->ndisks; i++) {
		const struct disk_config *disk = &config->disk[i];
		int error = check_serial(i, disk->serial);

		if (error != 0) {
			return error;
		}
		for (unsigned j = 0; j < i; j++) {
			const struct disk_config *other = &config->disk[j];

			if ((!disk->readonly || !other->readonly) &&
			    config_same_file(disk->path, other->path)) {
				log_error("--disk: disks %u and %u are the same file, \"%s\"; that "
					  "works only if both have readonly=on",
					  j + 1, i + 1, disk->path);
				return -EINVAL;
			}
		}
	}
	return 0;
}

static int check_mac(const uint8_t *mac)
{
	static const uint8_t zero[6];

	if ((mac[0] & 1) != 0) {
		log_error("--net: %02x:%02x:%02x:%02x:%02x:%02x is a multicast address; the first "
			  "byte of a device's MAC address is even, as in 52:54:00:12:34:56",
			  mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		return -EINVAL;
	}
	if (memcmp(mac, zero, sizeof(zero)) == 0) {
		log_error("--net: a MAC address of zeroes is none");
		return -EINVAL;
	}
	return 0;
}

static int check_tap(const char *tap)
{
	if (tap != NULL && (strlen(tap) > INTERFACE_MAX || strpbrk(tap, "/ \t\n%:") != NULL)) {
		log_error("--net: \"%s\" cannot be an interface's name: up to %d characters, "
			  "without '/', ':', '%%' and spaces",
			  tap, INTERFACE_MAX);
		return -EINVAL;
	}
	return 0;
}

static int check_nets(const struct vm_config *config)
{
	for (unsigned i = 0; i < config->nnets; i++) {
		const struct net_config *net = &config->net[i];
		int error = check_tap(net->tap);

		if (error == 0 && net->mac_given) {
			error = check_mac(net->mac);
		}
		if (error != 0) {
			return error;
		}
		for (unsigned j = 0; j < i; j++) {
			const struct net_config *other = &config->net[j];

			if (net->mac_given && other->mac_given &&
			    memcmp(net->mac, other->mac, sizeof(net->mac)) == 0) {
				log_error("--net: devices %u and %u have the same MAC address, "
					  "%02x:%02x:%02x:%02x:%02x:%02x; give each its own",
					  j + 1, i + 1, net->mac[0], net->mac[1], net->mac[2],
					  net->mac[3], net->mac[4], net->mac[5]);
				return -EINVAL;
			}
			if (net->tap != NULL && other->tap != NULL &&
			    strcmp(net->tap, other->tap) == 0) {
				log_error("--net: devices %u and %u are the same tap, \"%s\"",
					  j + 1, i + 1, net->tap);
				return -EINVAL;
			}
		}
	}
	return 0;
}

static int check_socket(const char *option, const char *path, size_t max)
{
	if (strlen(path) > max) {
		log_error(
			"%s: the path of a Unix socket has at most %zu bytes here; \"%s\" has %zu",
			option, max, path, strlen(path));
		return -EINVAL;
	}
	return unix_socket_check(option, path) == 0 ? 0 : -EINVAL;
}

static int check_console(const char *option, const struct console_config *console)
{
	struct stat st;

	if (console->kind == CONSOLE_SOCKET) {
		return check_socket(option, console->path, SOCKET_PATH_MAX);
	}
	if (console->kind == CONSOLE_FILE && stat(console->path, &st) == 0 && S_ISDIR(st.st_mode)) {
		log_error("%s: \"%s\" is a directory, not a file", option, console->path);
		return -EINVAL;
	}
	return 0;
}

static int check_consoles(const struct vm_config *config)
{
	const struct console_config *a = &config->console, *b = &config->virtio_console;
	int error = check_console("--console", a);

	if (error == 0) {
		error = check_console("--virtio-console", b);
	}
	if (error != 0) {
		return error;
	}
	if (a->kind == CONSOLE_TTY && b->kind == CONSOLE_TTY) {
		log_error("--virtio-console: the terminal is --console's already; give that one "
			  "another place, such as --console none");
		return -EINVAL;
	}
	if (a->path != NULL && b->path != NULL && strcmp(a->path, b->path) == 0) {
		log_error("--virtio-console: \"%s\" is --console's already", b->path);
		return -EINVAL;
	}
	return 0;
}

static int check_vsock(const struct vm_config *config)
{
	const char *path = config->vsock_socket;

	if (config->vsock_cid == 0) {
		return 0;
	}
	if (config->vsock_cid < 3 || config->vsock_cid > 0xfffffffe) {
		log_error(
			"--vsock: cid must be 3 to 4294967294; others have a meaning of their own");
		return -EINVAL;
	}
	if ((config->console.path != NULL && strcmp(path, config->console.path) == 0) ||
	    (config->virtio_console.path != NULL &&
	     strcmp(path, config->virtio_console.path) == 0)) {
		log_error("--vsock: \"%s\" is a console's already", path);
		return -EINVAL;
	}
	return check_socket("--vsock", path, SOCKET_PATH_MAX - VSOCK_SUFFIX_MAX);
}

static int check_accel(const struct vm_config *config)
{
	if (config->soft != SOFT_AUTO && config->accel == ACCEL_KVM) {
		log_error("--soft: it is about CPUs in software, and --accel kvm asks for KVM's");
		return -EINVAL;
	}
	return 0;
}

int config_check(const struct vm_config *config, const struct host_facts *host)
{
	int error = check_name(config->name);

	if (error == 0 && config->kernel == NULL) {
		log_error("there is no kernel: give --kernel FILE, or start the ready guest with "
			  "`yado run debian`");
		error = -EINVAL;
	}
	if (error == 0) {
		error = check_cpus(config, host);
	}
	if (error == 0) {
		error = check_memory(config, host);
	}
	if (error == 0) {
		error = check_disks(config);
	}
	if (error == 0) {
		error = check_nets(config);
	}
	if (error == 0) {
		error = check_consoles(config);
	}
	if (error == 0) {
		error = check_vsock(config);
	}
	if (error == 0) {
		error = check_accel(config);
	}
	return error;
}
