#include "cli/command_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "tests/capture.h"
#include "vmm/log.h"

#define WORDS_MAX 64

/* Parses "run" and then @line, cut at its spaces. */
static int parse(struct cli_config *c, const char *line)
{
	static char words[2048];
	char *argv[WORDS_MAX] = {"run"};
	int argc = 1;
	char *save = NULL;

	assert_true(strlen(line) < sizeof(words));
	strcpy(words, line);
	for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
		assert_true(argc < WORDS_MAX - 1);
		argv[argc++] = w;
	}
	cli_config_init(c);
	return command_line_parse(c, argc, argv);
}

static void refused(const char *line, const char *message)
{
	struct cli_config c;
	struct capture cap;

	capture_begin(&cap);
	int error = parse(&c, line);
	assert_said(&cap, message);
	assert_true(error < 0);
	cli_config_fini(&c);
}

static void defaults(void **unused)
{
	struct cli_config c;

	(void)unused;
	assert_int_equal(parse(&c, ""), 0);
	assert_string_equal(c.vm.name, "yado");
	assert_null(c.vm.kernel);
	assert_null(c.vm.cmdline);
	assert_int_equal(c.vm.cpus, 2);
	assert_int_equal(c.vm.memory_bytes, 512 * MIB);
	assert_int_equal(c.vm.cpu, CPU_HOST);
	assert_int_equal(c.vm.accel, ACCEL_AUTO);
	assert_int_equal(c.vm.soft, SOFT_AUTO);
	assert_int_equal(c.vm.console.kind, CONSOLE_TTY);
	assert_int_equal(c.vm.virtio_console.kind, CONSOLE_NONE);
	assert_true(c.vm.sandbox);
	assert_false(c.vm.json || c.debian || c.prepare);
	cli_config_fini(&c);
}

static void every_option(void **unused)
{
	static const uint8_t mac[] = {0x52, 0x54, 0, 0xab, 0xCD, 0xef};
	struct cli_config c;

	(void)unused;
	assert_int_equal(
		parse(&c, "--name web-1 --kernel K --initrd=I --cmdline root=/dev/vda --cpus 64 "
			  "--memory 3G --cpu x86-64-v3 --accel soft --balloon 1024K --sandbox off "
			  "--soft=translate-checked "
			  "--disk path=a,,b.img,readonly=on,serial=S-1,queues=4,direct=on "
			  "--disk path=c.img --net tap=tap0,mac=52:54:00:ab:CD:ef,queues=8 "
			  "--net passt,args=-t --vsock cid=4294967294,socket=v "
			  "--console socket=con --virtio-console file=log"),
		0);
	assert_string_equal(c.vm.name, "web-1");
	assert_string_equal(c.vm.kernel, "K");
	assert_string_equal(c.vm.initrd, "I");
	assert_string_equal(c.vm.cmdline, "root=/dev/vda");
	assert_int_equal(c.vm.cpus, 64);
	assert_int_equal(c.vm.memory_bytes, 3 * GIB);
	assert_int_equal(c.vm.cpu, CPU_X86_64_V3);
	assert_int_equal(c.vm.accel, ACCEL_SOFT);
	assert_int_equal(c.vm.soft, SOFT_TRANSLATE_CHECKED);
	assert_int_equal(c.vm.balloon_bytes, MIB);
	assert_false(c.vm.sandbox);
	assert_int_equal(c.vm.ndisks, 2);
	assert_string_equal(c.vm.disk[0].path, "a,b.img");
	assert_true(c.vm.disk[0].readonly && c.vm.disk[0].direct);
	assert_string_equal(c.vm.disk[0].serial, "S-1");
	assert_int_equal(c.vm.disk[0].queues, 4);
	assert_string_equal(c.vm.disk[1].path, "c.img");
	assert_false(c.vm.disk[1].readonly || c.vm.disk[1].direct);
	assert_int_equal(c.vm.disk[1].queues, 1);
	assert_int_equal(c.vm.nnets, 2);
	assert_string_equal(c.vm.net[0].tap, "tap0");
	assert_true(c.vm.net[0].mac_given);
	assert_memory_equal(c.vm.net[0].mac, mac, 6);
	assert_int_equal(c.vm.net[0].queue_pairs, 8);
	assert_null(c.vm.net[1].tap);
	assert_string_equal(c.vm.net[1].passt_args, "-t");
	assert_false(c.vm.net[1].mac_given);
	assert_int_equal(c.vm.vsock_cid, 0xfffffffe);
	assert_string_equal(c.vm.vsock_socket, "v");
	assert_int_equal(c.vm.console.kind, CONSOLE_SOCKET);
	assert_string_equal(c.vm.console.path, "con");
	assert_int_equal(c.vm.virtio_console.kind, CONSOLE_FILE);
	assert_string_equal(c.vm.virtio_console.path, "log");
	cli_config_fini(&c);
}

static void ready_guest(void **unused)
{
	struct cli_config c;

	(void)unused;
	assert_int_equal(parse(&c, "--cpus 1 debian --memory 1G"), 0);
	assert_true(c.debian);
	assert_int_equal(c.vm.cpus, 1);
	assert_int_equal(c.vm.memory_bytes, GIB);
	cli_config_fini(&c);
	assert_int_equal(parse(&c, "debian --prepare"), 0);
	assert_true(c.debian && c.prepare);
	cli_config_fini(&c);

	refused("debain", "no ready guest \"debain\"");
	refused("debian debian", "no ready guest");
	refused("--prepare", "yado run debian");
}

static void help_asks_for_nothing_else(void **unused)
{
	struct cli_config c;

	(void)unused;
	assert_int_equal(parse(&c, "--help"), 0);
	assert_true(c.help);
	cli_config_fini(&c);
	assert_int_equal(parse(&c, "--cpus nonsense -h"), 0);
	assert_true(c.help);
	cli_config_fini(&c);
}

static void last_scalar_wins(void **unused)
{
	struct cli_config c;

	(void)unused;
	assert_int_equal(parse(&c, "--cpus 1 --cpus 3 --console none --console tty"), 0);
	assert_int_equal(c.vm.cpus, 3);
	assert_int_equal(c.vm.console.kind, CONSOLE_TTY);
	cli_config_fini(&c);
}

static void unknown_options(void **unused)
{
	(void)unused;
	refused("--memroy 1G", "unknown option \"--memroy\"; did you mean \"--memory\"?");
	refused("--memroy=1G", "did you mean \"--memory\"?");
	refused("--mem 1G", "unknown option \"--mem\""); /* no abbreviations */
	refused("--mem=1G", "unknown option \"--mem=1G\"");
	refused("--c 1", "unknown option \"--c\"");
	refused("-x", "unknown option \"-x\"");
	refused("--kernel", "--kernel: it needs a value");
	refused("--json=yes", "--json: it takes no value");
	refused("--restart always", "--restart: it stands in a file only");
	refused("--dis\033k", "unknown option \"--dis?k\"; did you mean \"--disk\"?");
}

static void unknown_keys(void **unused)
{
	(void)unused;
	refused("--disk pth=a", "--disk: unknown key \"pth\"; did you mean \"path\"?");
	refused("--disk disk.img", "--disk: unknown key \"disk.img\"");
	refused("--disk path=a,", "unknown key \"\"");
	refused("--net pasta", "--net: unknown key \"pasta\"; did you mean \"passt\"?");
	refused("--vsock id=3", "did you mean \"cid\"?");
	refused("--console tti", "did you mean \"tty\"?");
}

static void bad_values(void **unused)
{
	(void)unused;
	refused("--cpus 0", "--cpus: 0 is out of range; it takes 1 to 64");
	refused("--cpus 65", "out of range");
	refused("--cpus -1", "no number");
	refused("--cpus 2x", "\"2x\" is no number");
	refused("--cpus 18446744073709551617", "no number");
	refused("--memory 512", "\"512\" is no size");
	refused("--memory 1.5G", "no size");
	refused("--memory 1GB", "no size");
	refused("--memory -1G", "no size");
	refused("--memory G", "no size");
	refused("--memory 99999999999T", "no size");
	refused("--memory 99999999999999999999M", "no size");
	refused("--cpu x86-64-v4",
		"\"x86-64-v4\" is none of host|x86-64-v2|x86-64-v3; did you mean");
	refused("--accel tcg", "none of auto|kvm|soft");
	refused("--soft=jit", "--soft: \"jit\" is none of "
			      "auto|interpret|translate|translate-checked|translate-exact");
	refused("--soft=", "is none of auto|");
	refused("--sandbox yes", "\"yes\" is neither on nor off");
	refused("--name=", "--name: it must not be empty");
	refused("--kernel=", "must not be empty");
	refused("--disk readonly=on", "--disk: it needs a file");
	refused("--disk path=", "--disk: path: it must not be empty");
	refused("--disk path", "--disk: path: it needs a value, as in path=FILE");
	refused("--disk path=a,readonly=1", "readonly: \"1\" is neither on nor off");
	refused("--disk path=a,queues=17", "queues: 17 is out of range");
	refused("--disk path=a,path=b", "path: it is given twice");
	refused("--net mac=52:54:00:12:34:56", "either tap=NAME or passt");
	refused("--net passt,tap=t", "either tap=NAME or passt");
	refused("--net passt=on", "passt: it takes no value");
	refused("--net passt,queues=2", "passt has one queue");
	refused("--net tap=t,queues=9", "out of range");
	refused("--net tap=t,args=-x", "args are passt's");
	refused("--net passt,mac=52:54:00:12:34", "no MAC address");
	refused("--net passt,mac=52:54:00:12:34:5g", "no MAC address");
	refused("--net passt,mac=52-54-00-12-34-56", "no MAC address");
	refused("--vsock cid=3", "it needs cid and socket");
	refused("--vsock socket=s", "it needs cid and socket");
	refused("--vsock cid=2,socket=s", "out of range");
	refused("--vsock cid=4294967295,socket=s", "out of range");
	refused("--console tty,none", "one of tty");
	refused("--console socket", "needs a value");
	refused("--config a --config b", "--config: it can be given once only");
	refused("--config /nonexistent/vm.json", "cannot open \"/nonexistent/vm.json\"");
	refused("--config /", "cannot read \"/\"");
}

static void too_many(void **unused)
{
	char line[1024] = "";

	(void)unused;
	for (int i = 0; i <= CONFIG_DISKS_MAX; i++) {
		strcat(line, "--disk path=d ");
	}
	refused(line, "at most 16 disks");
	line[0] = '\0';
	for (int i = 0; i <= CONFIG_NETS_MAX; i++) {
		strcat(line, "--net passt ");
	}
	refused(line, "at most 8 network devices");
}

static void the_command_line_wins_over_the_file(void **unused)
{
	static const char text[] = "{\"cpus\": 4, \"memory\": \"1G\", \"name\": \"file\","
				   " \"disk\": [{\"path\": \"one\"}], \"sandbox\": false}";
	char path[] = "/tmp/yado-test-XXXXXX";
	char line[256];
	struct cli_config c;
	int fd = mkstemp(path);

	(void)unused;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	snprintf(line, sizeof(line), "--cpus 8 --disk path=two --config %s --name line", path);
	assert_int_equal(parse(&c, line), 0);
	unlink(path);
	assert_int_equal(c.vm.cpus, 8);
	assert_int_equal(c.vm.memory_bytes, GIB);
	assert_string_equal(c.vm.name, "line");
	assert_false(c.vm.sandbox);
	assert_int_equal(c.vm.ndisks, 2);
	assert_string_equal(c.vm.disk[0].path, "one");
	assert_string_equal(c.vm.disk[1].path, "two");
	cli_config_fini(&c);
}

static void json_errors(void **unused)
{
	struct cli_config c;
	struct capture cap;

	(void)unused;
	capture_begin(&cap);
	assert_int_equal(parse(&c, "--cpus 0 --json"), -EINVAL);
	assert_said(&cap, "{\"level\":\"error\",\"vm\":\"\",\"message\":\"--cpus: 0 is out");
	cli_config_fini(&c);
	log_init(NULL, false);
}

static void help_lists_every_option_and_key(void **unused)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)unused;
	assert_non_null(out);
	options_help(out);
	fclose(out);
	for (size_t i = 0; i < noptions; i++) {
		char wanted[64];

		snprintf(wanted, sizeof(wanted), "  --%s", options[i].name);
		if (options[i].file_only) {
			assert_null(strstr(text, wanted));
			continue;
		}
		assert_non_null(strstr(text, wanted));
		for (size_t k = 0; options[i].group != NULL && k < options[i].group->nkeys; k++) {
			snprintf(wanted, sizeof(wanted), "\n      %s",
				 options[i].group->keys[k].name);
			assert_non_null(strstr(text, wanted));
		}
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(every_option),
		cmocka_unit_test(ready_guest),
		cmocka_unit_test(help_asks_for_nothing_else),
		cmocka_unit_test(last_scalar_wins),
		cmocka_unit_test(unknown_options),
		cmocka_unit_test(unknown_keys),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(too_many),
		cmocka_unit_test(the_command_line_wins_over_the_file),
		cmocka_unit_test(json_errors),
		cmocka_unit_test(help_lists_every_option_and_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
