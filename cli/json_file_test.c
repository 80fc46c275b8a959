#include "cli/json_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/capture.h"
#include "vmm/log.h"

static int parse(struct cli_config *c, const char *text)
{
	cli_config_init(c);
	return json_config_parse(c, "vm.json", text, strlen(text));
}

static void refused(const char *text, const char *message)
{
	struct cli_config c;
	struct capture cap;

	capture_begin(&cap);
	assert_true(parse(&c, text) < 0);
	assert_said(&cap, message);
	cli_config_fini(&c);
}

static void every_key(void **unused)
{
	static const uint8_t mac[] = {0x52, 0x54, 0, 1, 2, 3};
	struct cli_config c;

	(void)unused;
	assert_int_equal(
		parse(&c,
		      "{\"name\": \"n\", \"kernel\": \"K\", \"initrd\": \"I\", \"cmdline\": \"\","
		      " \"cpus\": 3, \"memory\": \"2G\", \"cpu\": \"x86-64-v2\","
		      " \"disk\": [{\"path\": \"a,b\", \"readonly\": true, \"queues\": 2},"
		      "            \"path=c,serial=x\"],"
		      " \"net\": [{\"passt\": true, \"mac\": \"52:54:00:01:02:03\"},"
		      "           {\"tap\": \"t\", \"passt\": false}],"
		      " \"vsock\": {\"cid\": 7, \"socket\": \"v\"}, \"console\": \"none\","
		      " \"virtio-console\": {\"socket\": \"h\"}, \"balloon\": \"4M\","
		      " \"accel\": \"auto\", \"soft\": \"interpret\", \"sandbox\": true, \"json\": "
		      "false,"
		      " \"restart\": \"on-failure\"}"),
		0);
	assert_string_equal(c.vm.name, "n");
	assert_string_equal(c.vm.kernel, "K");
	assert_string_equal(c.vm.initrd, "I");
	assert_string_equal(c.vm.cmdline, "");
	assert_int_equal(c.vm.cpus, 3);
	assert_int_equal(c.vm.memory_bytes, 2 * GIB);
	assert_int_equal(c.vm.cpu, CPU_X86_64_V2);
	assert_int_equal(c.vm.ndisks, 2);
	assert_string_equal(c.vm.disk[0].path, "a,b");
	assert_true(c.vm.disk[0].readonly);
	assert_int_equal(c.vm.disk[0].queues, 2);
	assert_string_equal(c.vm.disk[1].serial, "x");
	assert_int_equal(c.vm.nnets, 2);
	assert_null(c.vm.net[0].tap);
	assert_memory_equal(c.vm.net[0].mac, mac, 6);
	assert_string_equal(c.vm.net[1].tap, "t");
	assert_int_equal(c.vm.vsock_cid, 7);
	assert_int_equal(c.vm.console.kind, CONSOLE_NONE);
	assert_int_equal(c.vm.virtio_console.kind, CONSOLE_SOCKET);
	assert_int_equal(c.vm.balloon_bytes, 4 * MIB);
	assert_int_equal(c.vm.accel, ACCEL_AUTO);
	assert_int_equal(c.vm.soft, SOFT_INTERPRET);
	assert_int_equal(c.restart, RESTART_ON_FAILURE);
	cli_config_fini(&c);
}

static void syntax(void **unused)
{
	(void)unused;
	refused("", "vm.json: line 1, column 0");
	refused("{\n  \"cpus\": }", "vm.json: line 2, column ");
	refused("{} x", "line 1");
	refused("[]", "must be one JSON object");
	refused("{\"cpus\": 1, \"cpus\": 2}", "duplicate object key");
	refused("{\"disk\": [{\"path\": \"a\", \"path\": \"b\"}]}", "duplicate object key");
	refused("{\"cpus\": 99999999999999999999}", "too big integer");
	refused("{\"name\": \"\xff\"}", "line 1");
	refused("{\"name\": \"a\\u0000b\"}", "\\u0000 is not allowed");
}

static void unknown_keys(void **unused)
{
	(void)unused;
	refused("{\"memroy\": \"1G\"}",
		"vm.json: unknown key \"memroy\"; did you mean \"memory\"?");
	refused("{\"disks\": []}", "unknown key \"disks\"; did you mean \"disk\"?");
	refused("{\"disk\": [{\"path\": \"a\", \"read-only\": true}]}",
		"vm.json: disk[0]: unknown key \"read-only\"; did you mean \"readonly\"?");
	refused("{\"config\": \"other.json\"}", "\"config\" is for the command line only");
	refused("{\"prepare\": true}", "\"prepare\" is for the command line only");
	refused("{\"a\x1b\": 1}", "vm.json");
}

static void wrong_types(void **unused)
{
	(void)unused;
	refused("{\"cpus\": \"2\"}", "vm.json: cpus: it must be a whole number, not a string");
	refused("{\"cpus\": 2.5}", "not a number with a fraction");
	refused("{\"cpus\": -2}", "cpus: it must not be negative");
	refused("{\"cpus\": 65}", "cpus: 65 is out of range");
	refused("{\"cpus\": null}", "not null");
	refused("{\"restart\": \"on-falure\"}",
		"restart: \"on-falure\" is none of no|on-failure|always; did you mean");
	refused("{\"restart\": true}", "restart: it must be a string, not true");
	refused("{\"memory\": 512}", "memory: it must be a string such as \"512M\", not a number");
	refused("{\"memory\": \"512\"}", "\"512\" is no size");
	refused("{\"name\": true}", "name: it must be a string, not true");
	refused("{\"sandbox\": \"on\"}", "sandbox: it must be true or false, not a string");
	refused("{\"json\": 1}", "json: it must be true or false, not a number");
	refused("{\"cpu\": 2}", "cpu: it must be a string");
	refused("{\"disk\": {\"path\": \"a\"}}", "disk: it must be an array, not an object");
	refused("{\"disk\": [7]}", "disk[0]: it must be an object");
	refused("{\"disk\": [{\"path\": [\"a\"]}]}",
		"disk[0]: path: it must be a string, not an array");
	refused("{\"disk\": [{\"path\": \"a\"}, {}]}", "disk[1]: it needs a file");
	refused("{\"net\": [{\"passt\": \"on\"}]}", "net[0]: passt: it must be true or false");
	refused("{\"net\": [{\"passt\": true, \"mac\": \"x\"}]}", "net[0]: mac: \"x\" is no MAC");
	refused("{\"vsock\": [3]}", "vsock: it must be an object");
	refused("{\"console\": false}", "console: it must be an object");
}

static void deep_and_large(void **unused)
{
	size_t len = 100000;
	char *text = malloc(len);
	struct cli_config c;
	struct capture cap;

	(void)unused;
	assert_non_null(text);
	memset(text, '[', len);
	cli_config_init(&c);
	capture_begin(&cap);
	assert_int_equal(json_config_parse(&c, "vm.json", text, len), -EINVAL);
	assert_said(&cap, "maximum parsing depth");
	cli_config_fini(&c);
	free(text);
}

static void file_size_is_limited(void **unused)
{
	char path[] = "/tmp/yado-test-XXXXXX";
	struct cli_config c;
	struct capture cap;
	int fd = mkstemp(path);

	(void)unused;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, JSON_FILE_MAX + 1), 0);
	close(fd);
	cli_config_init(&c);
	capture_begin(&cap);
	assert_int_equal(json_file_read(&c, path), -EFBIG);
	assert_said(&cap, "larger than 1 MiB");
	unlink(path);
	cli_config_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key),	  cmocka_unit_test(syntax),
		cmocka_unit_test(unknown_keys),	  cmocka_unit_test(wrong_types),
		cmocka_unit_test(deep_and_large), cmocka_unit_test(file_size_is_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
