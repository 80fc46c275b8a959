#include "core/boot/options.h"

#include <errno.h>
#include <string.h>

#include "tests/unit.h"

static unsigned complaints;

static void complain(void *ctx, const char *word, const char *reason)
{
	(void)ctx;
	assert_true(strlen(word) > 0 && strlen(reason) > 0);
	complaints++;
}

static int parse(struct boot_options *o, const char *text)
{
	char copy[BOOT_CMDLINE_BYTES];

	strcpy(copy, text);
	complaints = 0;
	return options_parse(o, copy, complain, NULL);
}

static void nothing_said_nothing_changed(void **state)
{
	struct boot_options o;

	(void)state;
	assert_int_equal(parse(&o, "  \t "), 0);
	assert_string_equal(o.init, "/init");
	assert_int_equal(o.console_port, 0x3f8);
	assert_int_equal(o.console_baud, 0);
	assert_true(o.memory_bytes == UINT64_MAX);
	assert_int_equal(complaints, 0);
}

static void all_of_it(void **state)
{
	struct boot_options o;

	(void)state;
	assert_int_equal(
		parse(&o, " console=ttyS1,9600 loglevel=3\tinit=/bin/x cpus=2 memory=2G cpus=7"),
		0);
	assert_string_equal(o.init, "/bin/x");
	assert_int_equal(o.console_port, 0x2f8);
	assert_int_equal(o.console_baud, 9600);
	assert_int_equal(o.loglevel, 3);
	assert_int_equal(o.cpus, 7);
	assert_int_equal(o.memory_bytes, 2 * GIB);
	assert_int_equal(o.isolated_cpus, 0);
	assert_int_equal(parse(&o, "isolcpus=0,2-4,63"), 0);
	assert_true(o.isolated_cpus == (BIT(63) | 0x1d));
	assert_int_equal(parse(&o, "isolcpus=0-63"), 0);
	assert_true(o.isolated_cpus == UINT64_MAX);
	assert_int_equal(parse(&o, "console=0x2e8 memory=4096"), 0);
	assert_int_equal(o.console_port, 0x2e8);
	assert_int_equal(o.memory_bytes, 4096);
	assert_int_equal(parse(&o, "console=ttyS0,115200n8"), 0);
	assert_int_equal(parse(&o, "console=none"), 0);
	assert_int_equal(o.console_port, 0);
	assert_int_equal(complaints, 0);
}

static void what_follows_is_for_init(void **state)
{
	struct boot_options o;

	(void)state;
	assert_int_equal(parse(&o, "loglevel=3 -- run --memory\t256M  cpus=0 \"\" --x=\"a b\" -- "),
			 0);
	assert_int_equal(o.argument_count, 7);
	static const char wanted[] = "run\0--memory\0"
				     "256M\0"
				     "cpus=0\0"
				     "\0"
				     "--x=a b\0"
				     "--";
	assert_memory_equal(o.arguments, wanted, sizeof(wanted));
	assert_int_equal(complaints, 0);
	assert_int_equal(o.loglevel, 3);
	/* A quote that does not end goes to the end. */
	assert_int_equal(parse(&o, "-- \"a b "), 0);
	assert_int_equal(o.argument_count, 1);
	assert_string_equal(o.arguments, "a b ");
	assert_int_equal(parse(&o, "--"), 0);
	assert_int_equal(o.argument_count, 0);
}

static void unknown_words_are_told(void **state)
{
	struct boot_options o;

	(void)state;
	assert_int_equal(parse(&o, "quiet root=/dev/sda1 loglevel=8"), 0);
	assert_int_equal(complaints, 2);
	assert_int_equal(o.loglevel, 8);
}

static void bad_values_are_refused(void **state)
{
	static const char *const bad[] = {
		"console=",
		"console=tty0",
		"console=ttyS4",
		"console=0x10",
		"console=0xfffff",
		"console=ttyS0,7",
		"console=ttyS0x",
		"console=ttyS0,",
		"loglevel=",
		"loglevel=9",
		"loglevel=-1",
		"loglevel=1x",
		"init=",
		"init=bin",
		"cpus=0",
		"cpus=65",
		"cpus=99999999999999999999",
		"isolcpus=",
		"isolcpus=64",
		"isolcpus=2-1",
		"isolcpus=0,",
		"isolcpus=0-",
		"isolcpus=1x",
		"memory=0",
		"memory=M",
		"memory=1T",
		"memory=18446744073709551616",
		"memory=1MM",
	};
	struct boot_options o;
	char path[BOOT_INIT_BYTES + 10] = "init=/";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(parse(&o, bad[i]), -EINVAL);
		assert_int_equal(complaints, 1);
	}
	memset(path + 6, 'x', BOOT_INIT_BYTES - 2);
	assert_int_equal(parse(&o, path), 0);
	memset(path + 6, 'x', BOOT_INIT_BYTES - 1);
	assert_int_equal(parse(&o, path), -EINVAL);
	/* The rest is still read. */
	assert_int_equal(parse(&o, "cpus=x loglevel=2"), -EINVAL);
	assert_int_equal(o.loglevel, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_said_nothing_changed),
		cmocka_unit_test(all_of_it),
		cmocka_unit_test(what_follows_is_for_init),
		cmocka_unit_test(unknown_words_are_told),
		cmocka_unit_test(bad_values_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
