#include "cli/host/vm_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/capture.h"
#include "vmm/log.h"

static const struct host_facts facts = {.memory_bytes = 2 * GIB, .cpus = 2};
static char directory[] = "/tmp/vm_file_test.XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	assert_int_equal(fclose(file), 0);
}

static void drop(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	assert_int_equal(unlink(path), 0);
}

/* Loads @text as a.json; nothing is said on stderr, whatever is wrong with it. */
static void load(struct vm_file *f, const char *text)
{
	struct capture cap;

	put("a.json", text);
	capture_begin(&cap);
	vm_file_load(f, directory, "a.json", &facts);
	assert_silent(&cap);
	drop("a.json");
}

static void refused(const char *text, const char *reason)
{
	struct vm_file f;

	load(&f, text);
	if (strncmp(f.reason, reason, strlen(reason)) != 0) {
		fail_msg("%s is refused with \"%s\", not \"%s\"", text, f.reason, reason);
	}
	assert_null(strpbrk(f.reason, "\n\r\033"));
	assert_string_equal(f.name, "a");
	vm_file_fini(&f);
}

static void good(void **unused)
{
	struct vm_file f;

	(void)unused;
	load(&f, "{\"kernel\": \"/bin/sh\", \"cpus\": 2, \"memory\": \"64M\","
		 " \"restart\": \"always\", \"json\": true}");
	assert_string_equal(f.reason, "");
	assert_string_equal(f.name, "a");
	assert_ptr_equal(f.config.vm.name, f.name);
	assert_int_equal(f.config.vm.cpus, 2);
	assert_int_equal(f.config.restart, RESTART_ALWAYS);
	vm_file_fini(&f);
	/* The file may say another name; "json" is for its VM, not for us. */
	load(&f, "{\"kernel\": \"/bin/sh\", \"name\": \"web\"}");
	assert_string_equal(f.name, "web");
	vm_file_fini(&f);

	struct capture cap;

	capture_begin(&cap);
	log_error("e");
	assert_string_equal(capture_end(&cap), "yado: e\n");
}

static void bad(void **unused)
{
	struct vm_file f;

	(void)unused;
	refused("{\"kernle\": \"x\"}", "unknown key \"kernle\"; did you mean \"kernel\"?");
	refused("{", "line 1, column 1: ");
	refused("", "line 1, column 0: ");
	refused("{}", "it names no kernel");
	refused("{\"kernel\": \"/bin/sh\", \"cpus\": 3}", "it wants 3 CPUs; this machine has 2");
	refused("{\"kernel\": \"/bin/sh\", \"memory\": \"3G\"}",
		"memory: 3072M is more than this host has (2048M)");
	refused("{\"kernel\": \"/bin/sh\", \"memory\": \"1M\"}", "memory: it must be 16M to 1T");
	refused("{\"kernel\": \"/none\"}", "kernel \"/none\": No such file or directory");
	refused("{\"kernel\": \"/none\\u001b[2J\"}", "kernel \"/none?[2J\": No such file");
	refused("{\"kernel\": \"/tmp\"}", "kernel \"/tmp\" is a directory, not a file");
	refused("{\"kernel\": \"/bin/sh\", \"initrd\": \"/none\"}", "initrd \"/none\": No such");
	refused("{\"kernel\": \"/bin/sh\", \"disk\": [\"path=/none\"]}", "disk \"/none\": No such");
	refused("{\"kernel\": \"/bin/sh\", \"restart\": 1}", "restart: it must be a string");

	vm_file_load(&f, directory, "none.json", &facts);
	assert_non_null(strstr(f.reason, "No such file or directory"));
	assert_string_equal(f.name, "none");
	vm_file_fini(&f);
}

static void lists_in_order(void **unused)
{
	static const char *const files[] = {"b.json",  "a.json", "c.txt",
					    ".d.json", ".json",	 "e.json"};
	char **names;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		put(files[i], "{}");
	}
	assert_int_equal(vm_file_list(directory, &names), 3);
	assert_string_equal(names[0], "a.json");
	assert_string_equal(names[1], "b.json");
	assert_string_equal(names[2], "e.json");
	for (unsigned i = 0; i < 3; i++) {
		free(names[i]);
	}
	free(names);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		drop(files[i]);
	}
	assert_int_equal(vm_file_list("/nowhere", &names), -ENOENT);
}

static void conflicts(void **unused)
{
	struct vm_file readers, writer, other;

	(void)unused;
	load(&readers, "{\"kernel\": \"/bin/sh\", \"disk\": [\"path=/bin/sh,readonly=on\"]}");
	load(&writer, "{\"kernel\": \"/bin/sh\", \"disk\": [\"path=/etc/passwd\","
		      " \"path=/bin/../bin/sh\"]}");
	load(&other, "{\"kernel\": \"/bin/sh\", \"disk\": [\"path=/etc/group\"]}");
	assert_null(vm_file_conflict(&readers, &readers));
	assert_string_equal(vm_file_conflict(&readers, &writer), "/bin/sh");
	assert_string_equal(vm_file_conflict(&writer, &readers), "/bin/../bin/sh");
	assert_null(vm_file_conflict(&other, &writer));
	vm_file_fini(&readers);
	vm_file_fini(&writer);
	vm_file_fini(&other);
}

static int make_directory(void **unused)
{
	(void)unused;
	return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **unused)
{
	(void)unused;
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(bad),
		cmocka_unit_test(lists_in_order),
		cmocka_unit_test(conflicts),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
