#include "cli/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/capture.h"

static const struct host_facts host = {
	.memory_bytes = 8 * GIB,
	.available_bytes = 4 * GIB,
	.cpus = 4,
};

static char directory[] = "/tmp/yado-check-XXXXXX";

static struct vm_config good(void)
{
	return (struct vm_config){
		.name = "yado",
		.kernel = "K",
		.cpus = 2,
		.memory_bytes = 512 * MIB,
		.console = {.kind = CONSOLE_TTY},
		.virtio_console = {.kind = CONSOLE_NONE},
	};
}

static void refused(const struct vm_config *config, const char *message)
{
	struct capture cap;

	capture_begin(&cap);
	int error = config_check(config, &host);
	assert_said(&cap, message);
	assert_int_equal(error, -EINVAL);
}

static void accepted(const struct vm_config *config)
{
	struct capture cap;

	capture_begin(&cap);
	int error = config_check(config, &host);
	assert_silent(&cap);
	assert_int_equal(error, 0);
}

static void warned(const struct vm_config *config, const char *message)
{
	struct capture cap;

	capture_begin(&cap);
	int error = config_check(config, &host);
	assert_said(&cap, message);
	assert_int_equal(error, 0);
}

/* A path in the test's directory. */
static const char *in_directory(const char *name)
{
	static char paths[4][160];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void make_file(const char *path)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fclose(file);
}

static void a_good_one(void **unused)
{
	struct vm_config c = good();

	(void)unused;
	accepted(&c);
}

static void kernel_and_name(void **unused)
{
	static const char *const bad_names[] = {"a b", "a/b",	   "-a",  ".a",
						"a\n", "\xc3\xa9", "a\"b"};
	struct vm_config c = good();
	char name[80];

	(void)unused;
	c.kernel = NULL;
	refused(&c, "there is no kernel: give --kernel FILE");
	c = good();
	for (size_t i = 0; i < ARRAY_SIZE(bad_names); i++) {
		c.name = bad_names[i];
		refused(&c, "--name: only letters, digits");
	}
	memset(name, 'n', sizeof(name));
	name[65] = '\0';
	c.name = name;
	refused(&c, "1 to 64 characters");
	name[64] = '\0';
	accepted(&c);
	c.name = "0.web_server-1";
	accepted(&c);
}

static void cpus(void **unused)
{
	struct vm_config c = good();

	(void)unused;
	c.cpus = 0;
	refused(&c, "--cpus: 0 is out of range");
	c.cpus = 65;
	refused(&c, "--cpus: 65 is out of range");
	c.cpus = 4;
	accepted(&c);
	c.cpus = 64;
	warned(&c, "warning: --cpus: 64 vCPUs share 4 CPUs");
}

static void memory(void **unused)
{
	struct vm_config c = good();

	(void)unused;
	c.memory_bytes = 0;
	refused(&c, "--memory: it must be 16M to 1T");
	c.memory_bytes = 16 * MIB - 4 * KIB;
	refused(&c, "16M to 1T");
	c.memory_bytes = 16 * MIB;
	accepted(&c);
	c.memory_bytes = 16 * MIB + KIB;
	refused(&c, "multiple of 4K");
	c.memory_bytes = TIB + 4 * KIB;
	refused(&c, "16M to 1T");
	c.memory_bytes = TIB;
	refused(&c, "more than this host has (8192M)");
	c.memory_bytes = 8 * GIB + 4 * KIB;
	refused(&c, "more than this host has");
	c.memory_bytes = 8 * GIB;
	warned(&c, "more than this host has available now (4096M)");
	c.memory_bytes = GIB;
	c.balloon_bytes = GIB;
	refused(&c, "--balloon");
	c.balloon_bytes = MIB + 1;
	refused(&c, "--balloon");
	c.balloon_bytes = 512 * MIB;
	accepted(&c);
}

static void an_unknown_host_refuses_nothing(void **unused)
{
	struct vm_config c = good();
	struct host_facts nothing = {0};
	struct capture cap;

	(void)unused;
	c.memory_bytes = TIB;
	c.cpus = 64;
	capture_begin(&cap);
	assert_int_equal(config_check(&c, &nothing), 0);
	assert_silent(&cap);
}

static void disks(void **unused)
{
	struct vm_config c = good();
	const char *image = in_directory("disk.img");
	const char *link = in_directory("link.img");

	(void)unused;
	make_file(image);
	assert_int_equal(symlink("disk.img", link), 0);
	c.ndisks = 2;
	c.disk[0] = (struct disk_config){.path = image, .queues = 1, .readonly = true};
	c.disk[1] = (struct disk_config){.path = link, .queues = 1};
	refused(&c, "disks 1 and 2 are the same file");
	c.disk[0].readonly = false;
	refused(&c, "disks 1 and 2 are the same file");
	c.disk[0].readonly = c.disk[1].readonly = true;
	accepted(&c);
	c.disk[0] = c.disk[1] = (struct disk_config){.path = "/nonexistent/a", .queues = 1};
	refused(&c, "the same file");
	c.disk[1].path = "/nonexistent/b";
	accepted(&c);
	c.disk[1].serial = "12345678901234567890";
	accepted(&c);
	c.disk[1].serial = "123456789012345678901";
	refused(&c, "disk 2 has more than 20 characters");
	c.disk[1].serial = "a\tb";
	refused(&c, "printable ASCII");
	unlink(image);
	unlink(link);
}

static void nets(void **unused)
{
	struct vm_config c = good();
	struct net_config a = {
		.tap = "a", .mac = {0x52, 0x54, 0, 0, 0, 1}, .mac_given = true, .queue_pairs = 1};
	struct net_config b = {
		.tap = "b", .mac = {0x52, 0x54, 0, 0, 0, 2}, .mac_given = true, .queue_pairs = 1};

	(void)unused;
	c.nnets = 2;
	c.net[0] = a;
	c.net[1] = b;
	accepted(&c);
	c.net[1].mac[5] = 1;
	refused(&c, "devices 1 and 2 have the same MAC address");
	c.net[1].mac_given = false; /* then the bytes mean nothing */
	accepted(&c);
	c.net[1] = b;
	c.net[1].mac[0] = 0x53;
	refused(&c, "53:54:00:00:00:02 is a multicast address");
	memset(c.net[1].mac, 0xff, 6);
	refused(&c, "multicast");
	memset(c.net[1].mac, 0, 6);
	refused(&c, "zeroes");
	c.net[1] = b;
	c.net[1].tap = "a";
	refused(&c, "devices 1 and 2 are the same tap");
	c.net[1].tap = "sixteen-chars-xx";
	refused(&c, "cannot be an interface's name");
	c.net[1].tap = "../x";
	refused(&c, "cannot be an interface's name");
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void consoles(void **unused)
{
	struct vm_config c = good();
	char path[160];

	(void)unused;
	c.virtio_console.kind = CONSOLE_TTY;
	refused(&c, "the terminal is --console's already");
	c.console.kind = CONSOLE_NONE;
	accepted(&c);
	c.console = c.virtio_console =
		(struct console_config){CONSOLE_SOCKET, in_directory("both.sock")};
	refused(&c, "is --console's already");

	c = good();
	c.console = (struct console_config){CONSOLE_FILE, directory};
	refused(&c, "is a directory");
	memset(path, 'p', sizeof(path));
	path[108] = '\0';
	c.console = (struct console_config){CONSOLE_SOCKET, path};
	refused(&c, "at most 107 bytes here");
	c.console.path = "/nonexistent/con.sock";
	refused(&c, "no socket can be made at \"/nonexistent/con.sock\": No such file");
	c.console.path = in_directory("con.sock");
	accepted(&c);
	make_file(c.console.path);
	refused(&c, "exists and is no socket");
	unlink(c.console.path);

	int fd = listen_at(c.console.path);

	refused(&c, "another program listens");
	close(fd);
	accepted(&c); /* stale now */
	unlink(c.console.path);
}

static void vsock(void **unused)
{
	struct vm_config c = good();
	char path[160];

	(void)unused;
	c.vsock_socket = in_directory("vsock.sock");
	c.vsock_cid = 2;
	refused(&c, "cid must be 3 to 4294967294");
	c.vsock_cid = UINT64_C(0xffffffff);
	refused(&c, "cid must be");
	c.vsock_cid = 0xfffffffe;
	accepted(&c);
	c.console = (struct console_config){CONSOLE_SOCKET, c.vsock_socket};
	refused(&c, "is a console's already");
	c.console = (struct console_config){.kind = CONSOLE_NONE};
	memset(path, 'p', sizeof(path));
	path[97] = '\0'; /* with "_4294967295" it would be 108 */
	c.vsock_socket = path;
	refused(&c, "at most 96 bytes here");
}

static int set_up(void **unused)
{
	(void)unused;
	return mkdtemp(directory) == NULL;
}

static int tear_down(void **unused)
{
	(void)unused;
	return rmdir(directory);
}

static void engines_of_soft(void **unused)
{
	struct vm_config c = good();

	(void)unused;
	c.soft = SOFT_INTERPRET;
	accepted(&c);
	c.accel = ACCEL_SOFT;
	accepted(&c);
	c.accel = ACCEL_KVM;
	refused(&c, "--soft: it is about CPUs in software, and --accel kvm asks for KVM's");
	c.soft = SOFT_AUTO;
	accepted(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_one),
		cmocka_unit_test(kernel_and_name),
		cmocka_unit_test(cpus),
		cmocka_unit_test(memory),
		cmocka_unit_test(an_unknown_host_refuses_nothing),
		cmocka_unit_test(disks),
		cmocka_unit_test(nets),
		cmocka_unit_test(consoles),
		cmocka_unit_test(vsock),
		cmocka_unit_test(engines_of_soft),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
