#include "cli/options.h"

#include <errno.h>
#include <string.h>

#include "vmm/log.h"

#define IN(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)

/* --disk */

struct disk_words {
	const char *path;
	const char *serial;
	unsigned queues;
	bool readonly, direct;
};

static const struct field disk_keys[] = {
	{"path", "FILE", "the image or block device", FIELD_STRING, IN(struct disk_words, path)},
	{"readonly", "on|off", "the guest cannot write (off)", FIELD_SWITCH,
	 IN(struct disk_words, readonly)},
	{"serial", "TEXT", "serial number the guest sees, up to 20 characters", FIELD_STRING,
	 IN(struct disk_words, serial)},
	{"queues", "N", "request queues, 1 to 16 (1)", FIELD_NUMBER, IN(struct disk_words, queues),
	 .min = 1, .max = 16},
	{"direct", "on|off", "go past the host's page cache (off)", FIELD_SWITCH,
	 IN(struct disk_words, direct)},
};

static int disk_finish(struct cli_config *c, const char *where, const void *words)
{
	const struct disk_words *w = words;

	if (w->path == NULL) {
		log_error("%s: it needs a file, as in path=disk.img", where);
		return -EINVAL;
	}
	if (c->vm.ndisks == CONFIG_DISKS_MAX) {
		log_error("%s: a VM has at most %d disks", where, CONFIG_DISKS_MAX);
		return -EINVAL;
	}
	c->vm.disk[c->vm.ndisks++] = (struct disk_config){
		.path = w->path,
		.readonly = w->readonly,
		.serial = w->serial,
		.queues = w->queues,
		.direct = w->direct,
	};
	return 0;
}

static const struct group disk_group = {
	.keys = disk_keys,
	.nkeys = ARRAY_SIZE(disk_keys),
	.defaults = &(const struct disk_words){.queues = 1},
	.size = sizeof(struct disk_words),
	.finish = disk_finish,
};

/* --net */

struct net_words {
	const char *tap;
	const char *args;
	struct mac_value mac;
	unsigned queues;
	bool passt;
};

static const struct field net_keys[] = {
	{"tap", "NAME", "a TAP interface of the host", FIELD_STRING, IN(struct net_words, tap)},
	{"passt", NULL, "the host's network through passt(1), without privileges", FIELD_FLAG,
	 IN(struct net_words, passt)},
	{"mac", "ADDRESS", "the guest's address, as in 52:54:00:12:34:56", FIELD_MAC,
	 IN(struct net_words, mac)},
	{"queues", "N", "queue pairs, 1 to 8, more than 1 only with tap (1)", FIELD_NUMBER,
	 IN(struct net_words, queues), .min = 1, .max = 8},
	{"args", "WORDS", "further arguments for passt, separated by spaces", FIELD_STRING,
	 IN(struct net_words, args)},
};

static int net_finish(struct cli_config *c, const char *where, const void *words)
{
	const struct net_words *w = words;
	struct net_config net = {
		.tap = w->tap,
		.passt_args = w->args,
		.mac_given = w->mac.given,
		.queue_pairs = w->queues,
	};

	if ((w->tap != NULL) == w->passt) {
		log_error("%s: it needs either tap=NAME or passt", where);
		return -EINVAL;
	}
	if (w->args != NULL && !w->passt) {
		log_error("%s: args are passt's; a tap has none", where);
		return -EINVAL;
	}
	if (w->queues > 1 && w->passt) {
		log_error("%s: passt has one queue; more than one needs a tap", where);
		return -EINVAL;
	}
	if (c->vm.nnets == CONFIG_NETS_MAX) {
		log_error("%s: a VM has at most %d network devices", where, CONFIG_NETS_MAX);
		return -EINVAL;
	}
	memcpy(net.mac, w->mac.mac, sizeof(net.mac));
	c->vm.net[c->vm.nnets++] = net;
	return 0;
}

static const struct group net_group = {
	.keys = net_keys,
	.nkeys = ARRAY_SIZE(net_keys),
	.defaults = &(const struct net_words){.queues = 1},
	.size = sizeof(struct net_words),
	.finish = net_finish,
};

/* --vsock */

struct vsock_words {
	uint64_t cid;
	const char *socket;
};

static const struct field vsock_keys[] = {
	{"cid", "N", "the guest's context ID, 3 to 4294967294", FIELD_NUMBER,
	 IN(struct vsock_words, cid), .min = 3, .max = 0xfffffffe},
	{"socket", "PATH", "the Unix socket where the host meets the guest", FIELD_STRING,
	 IN(struct vsock_words, socket)},
};

static int vsock_finish(struct cli_config *c, const char *where, const void *words)
{
	const struct vsock_words *w = words;

	if (w->cid == 0 || w->socket == NULL) {
		log_error("%s: it needs cid and socket, as in cid=3,socket=vsock.sock", where);
		return -EINVAL;
	}
	c->vm.vsock_cid = w->cid;
	c->vm.vsock_socket = w->socket;
	return 0;
}

static const struct group vsock_group = {
	.keys = vsock_keys,
	.nkeys = ARRAY_SIZE(vsock_keys),
	.defaults = &(const struct vsock_words){0},
	.size = sizeof(struct vsock_words),
	.finish = vsock_finish,
};

/* --console and --virtio-console */

struct console_words {
	const char *socket;
	const char *file;
	bool tty, none;
};

static const struct field console_keys[] = {
	{"tty", NULL, "this terminal; Ctrl-] ? lists its commands", FIELD_FLAG,
	 IN(struct console_words, tty)},
	{"socket", "PATH", "a Unix socket that one client at a time connects to", FIELD_STRING,
	 IN(struct console_words, socket)},
	{"file", "FILE", "output only, appended to a file", FIELD_STRING,
	 IN(struct console_words, file)},
	{"none", NULL, "nothing", FIELD_FLAG, IN(struct console_words, none)},
};

static int console_from_words(const char *where, const struct console_words *w,
			      struct console_config *out)
{
	int given = w->tty + w->none + (w->socket != NULL) + (w->file != NULL);

	if (given != 1) {
		log_error("%s: it needs one of tty, socket=PATH, file=FILE and none", where);
		return -EINVAL;
	}
	if (w->socket != NULL) {
		*out = (struct console_config){CONSOLE_SOCKET, w->socket};
	} else if (w->file != NULL) {
		*out = (struct console_config){CONSOLE_FILE, w->file};
	} else {
		*out = (struct console_config){.kind = w->tty ? CONSOLE_TTY : CONSOLE_NONE};
	}
	return 0;
}

static int console_finish(struct cli_config *c, const char *where, const void *words)
{
	c->console_given = true;
	return console_from_words(where, words, &c->vm.console);
}

static int virtio_console_finish(struct cli_config *c, const char *where, const void *words)
{
	return console_from_words(where, words, &c->vm.virtio_console);
}

static const struct group console_group = {
	.keys = console_keys,
	.nkeys = ARRAY_SIZE(console_keys),
	.defaults = &(const struct console_words){0},
	.size = sizeof(struct console_words),
	.finish = console_finish,
};

static const struct group virtio_console_group = {
	.keys = console_keys,
	.nkeys = ARRAY_SIZE(console_keys),
	.defaults = &(const struct console_words){0},
	.size = sizeof(struct console_words),
	.finish = virtio_console_finish,
};

/* In the order of the enums in vmm/config.h. */
static const char *const cpu_models[] = {"host", "x86-64-v2", "x86-64-v3", NULL};
static const char *const accels[] = {"auto", "kvm", "soft", NULL};
static const char *const softs[] = {
	"auto", "interpret", "translate", "translate-checked", "translate-exact", NULL};
static const char *const restarts[] = {"no", "on-failure", "always", NULL};

const struct field options[] = {
	{"config", "FILE", "a JSON file with any of these options, under the same names",
	 FIELD_STRING, IN(struct cli_config, file), .command_line_only = true},
	{"name", "NAME", "the VM's name in messages (yado)", FIELD_STRING,
	 IN(struct cli_config, vm.name)},
	{"kernel", "FILE", "the guest's kernel: a bzImage, or an ELF file with a PVH entry",
	 FIELD_STRING, IN(struct cli_config, vm.kernel)},
	{"initrd", "FILE", "the guest's initial RAM disk", FIELD_STRING,
	 IN(struct cli_config, vm.initrd)},
	{"cmdline", "TEXT", "the kernel's command line (console=ttyS0)", FIELD_STRING,
	 IN(struct cli_config, vm.cmdline), .may_be_empty = true},
	{"cpus", "N", "vCPUs, 1 to 64 (2)", FIELD_NUMBER, IN(struct cli_config, vm.cpus), .min = 1,
	 .max = CONFIG_CPUS_MAX},
	{"memory", "SIZE", "RAM, such as 512M or 4G; 16M to 1T (512M)", FIELD_SIZE,
	 IN(struct cli_config, vm.memory_bytes)},
	{"cpu", "host|x86-64-v2|x86-64-v3", "the CPU model the guest sees (host)", FIELD_CHOICE,
	 IN(struct cli_config, vm.cpu), .choices = cpu_models},
	{"disk", "KEYS", "a virtio disk; up to 16", FIELD_GROUP, .list = true,
	 .group = &disk_group},
	{"net", "KEYS", "a virtio network device; up to 8", FIELD_GROUP, .list = true,
	 .group = &net_group},
	{"vsock", "KEYS", "a virtio socket device", FIELD_GROUP, .group = &vsock_group},
	{"console", "KEYS", "where the first serial port goes (tty)", FIELD_GROUP,
	 .group = &console_group},
	{"virtio-console", "KEYS",
	 "adds a virtio console and says where it goes (none);\n"
	 "the terminal can be given to one console only",
	 FIELD_GROUP, .group = &virtio_console_group},
	{"balloon", "SIZE", "how much of its memory the guest gives back at first (0M)", FIELD_SIZE,
	 IN(struct cli_config, vm.balloon_bytes)},
	{"accel", "auto|kvm|soft", "who runs the guest's CPUs (auto); see `yado doctor`",
	 FIELD_CHOICE, IN(struct cli_config, vm.accel), .choices = accels},
	{"soft", "auto|interpret|translate|translate-checked|translate-exact",
	 "--accel soft, and how it executes guest code (auto):\n"
	 "the translator is fast, the interpreter its reference;\n"
	 "checked, each piece of translated code is judged before it runs;\n"
	 "exact, it keeps flags that nobody reads but a handler of faults",
	 FIELD_CHOICE, IN(struct cli_config, vm.soft), .choices = softs},
	{"sandbox", "on|off", "drop privileges and system calls after set-up (on)", FIELD_SWITCH,
	 IN(struct cli_config, vm.sandbox)},
	{"json", NULL, "messages as JSON objects, one a line", FIELD_FLAG,
	 IN(struct cli_config, vm.json)},
	{"restart", "no|on-failure|always",
	 "in a file for `yado host`: when to start a VM that has ended again (no)", FIELD_CHOICE,
	 IN(struct cli_config, restart), .file_only = true, .choices = restarts},
	{"prepare", NULL, "with debian: make the guest and stop", FIELD_FLAG,
	 IN(struct cli_config, prepare), .command_line_only = true},
	{"help", NULL, "this list", FIELD_FLAG, IN(struct cli_config, help),
	 .command_line_only = true},
};

const size_t noptions = ARRAY_SIZE(options);

#define HELP_COLUMN 30

/* @left in the left column, the lines of @f->help in the right one. */
static void help_line(FILE *out, const char *left, const struct field *f)
{
	const char *help = f->help;

	fprintf(out, "%-*s", HELP_COLUMN, left);
	if (strlen(left) >= HELP_COLUMN) {
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	}
	while (help != NULL) {
		const char *end = strchr(help, '\n');
		int len = end != NULL ? (int)(end - help) : (int)strlen(help);

		fprintf(out, "%.*s\n", len, help);
		help = end != NULL ? end + 1 : NULL;
		if (help != NULL) {
			fprintf(out, "%*s", HELP_COLUMN, "");
		}
	}
}

void options_help(FILE *out)
{
	char left[64];

	for (size_t i = 0; i < noptions; i++) {
		const struct field *f = &options[i];

		if (f->file_only) {
			continue;
		}
		snprintf(left, sizeof(left), "  --%s%s%s", f->name, f->value != NULL ? " " : "",
			 f->value != NULL ? f->value : "");
		help_line(out, left, f);
		if (f->type != FIELD_GROUP || f->group == &virtio_console_group) {
			continue; /* the second console's keys are those of the first */
		}
		for (size_t k = 0; k < f->group->nkeys; k++) {
			const struct field *key = &f->group->keys[k];

			snprintf(left, sizeof(left), "      %s%s%s", key->name,
				 key->value != NULL ? "=" : "",
				 key->value != NULL ? key->value : "");
			help_line(out, left, key);
		}
	}
}
