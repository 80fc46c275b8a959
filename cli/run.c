#include "cli/run.h"

#include <errno.h>
#include <string.h>

#include "cli/check.h"
#include "cli/command_line.h"
#include "cli/debian.h"
#include "cli/doctor.h"
#include "cli/options.h"
#include "soft/engine.h"
#include "soft/soft.h"
#include "vmm/log.h"
#include "vmm/vmm.h"

#define CMDLINE_DEFAULT "console=ttyS0"

/* What vmm/ is not to know of, but to be given. */
static const struct host_provider soft = {
	.name = "soft",
	.open = soft_open,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
	.writes_open = soft_writes_open,
	.writes_close = soft_writes_close,
	.wrote = soft_wrote,
};

/* As soft/engine.h calls them. */
static const char *const engines[] = {
	[SOFT_INTERPRET] = "interpret",
	[SOFT_TRANSLATE] = "translate",
	[SOFT_TRANSLATE_CHECKED] = "translate-checked",
	[SOFT_TRANSLATE_EXACT] = "translate-exact",
};

void run_help(FILE *out)
{
	fputs("usage: yado run --kernel FILE [OPTION]...\n"
	      "       yado run debian [OPTION]...\n"
	      "       yado run --config FILE [OPTION]...\n\n"
	      "Starts a VM and stays with it to its end. `debian` is a ready guest, made from\n"
	      "Debian's packages when it is first asked for. A default stands in parentheses.\n\n",
	      out);
	options_help(out);
	fputs("\nKEYS are KEY=VALUE, separated by commas; write ,, for a comma in a value.\n\n"
	      "exit status: 0 the guest shut down, 1 the host failed, 2 bad options or files,\n"
	      "3 the guest asked for a reboot, 4 the guest's kernel panicked, 5 ended by the "
	      "user\n",
	      out);
}

/* The ready guest's parts, where the user did not choose others. */
static int use_debian(struct cli_config *c, const struct debian_guest *guest)
{
	struct vm_config *vm = &c->vm;

	if (vm->ndisks == CONFIG_DISKS_MAX) {
		log_error("--disk: the ready guest brings a disk; it has room for %d others",
			  CONFIG_DISKS_MAX - 1);
		return -EINVAL;
	}
	if (vm->kernel == NULL) {
		vm->kernel = guest->kernel;
		vm->initrd = vm->initrd != NULL ? vm->initrd : guest->initrd;
	}
	vm->cmdline = vm->cmdline != NULL ? vm->cmdline : guest->cmdline;
	/* Its root is the first disk, /dev/vda. */
	memmove(&vm->disk[1], &vm->disk[0], vm->ndisks * sizeof(vm->disk[0]));
	vm->disk[0] = (struct disk_config){.path = guest->disk, .queues = 1};
	vm->ndisks++;
	return 0;
}

/* A ready guest has a network unless the user says which. */
static void add_network(struct vm_config *vm)
{
	char where[128];

	if (vm->nnets > 0) {
		return;
	}
	if (!find_program("passt", where, sizeof(where))) {
		log_warn("there is no passt, so the guest has no network: apt-get install passt");
		return;
	}
	vm->net[vm->nnets++] = (struct net_config){.queue_pairs = 1};
}

/* What was not said follows from what was. */
static void fill_in(struct cli_config *c)
{
	struct vm_config *vm = &c->vm;

	if (vm->virtio_console.kind == CONSOLE_TTY && !c->console_given) {
		vm->console = (struct console_config){.kind = CONSOLE_NONE};
	}
	if (vm->kernel == NULL && c->debian) {
		return; /* comes with it */
	}
	if (vm->cmdline == NULL) {
		vm->cmdline = CMDLINE_DEFAULT;
	}
}

/* Before the ready guest is made, which takes a while, as bad options are to be told at once. */
static int check_options(const struct cli_config *c)
{
	struct vm_config vm = c->vm;
	struct host_facts host;

	if (vm.kernel == NULL && c->debian) {
		vm.kernel = "debian"; /* there will be one */
	}
	host_facts_read(&host);
	return config_check(&vm, &host);
}

/* The ready guest is made if need be. Return: enum vm_end. */
static int start_debian(struct cli_config *c)
{
	struct debian_guest guest;
	int status = VM_END_USAGE;

	if (debian_prepare(&guest) != 0) {
		return VM_END_FAILED;
	}
	if (c->prepare) {
		status = 0;
	} else if (use_debian(c, &guest) == 0) {
		add_network(&c->vm);
		status = (int)vmm_run(&c->vm, &soft);
	}
	debian_guest_fini(&guest);
	return status;
}

/* Who chooses one wants the CPUs in software. */
static int choose_engine(struct vm_config *vm)
{
	if (vm->soft == SOFT_AUTO) {
		return 0;
	}
	vm->accel = ACCEL_SOFT;
	if (soft_engine_choose(engines[vm->soft]) == 0) {
		return 0;
	}
	log_error("--soft: this host's CPU has no BMI2, which translated code needs; "
		  "--soft=interpret does without");
	return -ENODEV;
}

static int start(struct cli_config *c)
{
	log_init(c->vm.name, c->vm.json);
	fill_in(c);
	if (check_options(c) != 0) {
		return VM_END_USAGE;
	}
	if (choose_engine(&c->vm) != 0) {
		return VM_END_FAILED;
	}
	return c->debian ? start_debian(c) : (int)vmm_run(&c->vm, &soft);
}

int run_main(int argc, char **argv)
{
	struct cli_config c;
	int status;

	cli_config_init(&c);
	if (command_line_parse(&c, argc, argv) != 0) {
		status = VM_END_USAGE;
	} else if (c.help) {
		run_help(stdout);
		status = 0;
	} else {
		status = start(&c);
	}
	cli_config_fini(&c);
	return status;
}
