#include "cli/host/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "cli/host/inn.h"
#include "cli/nearest.h"
#include "vmm/log.h"
#include "vmm/vmm.h"

void host_help(FILE *out)
{
	fputs("usage: yado host [DIRECTORY]\n\n"
	      "Starts a VM for each DIRECTORY/*.json (/etc/yado), looks after them, and shares "
	      "this\n"
	      "console among them: Ctrl-] n shows the next VM, Ctrl-] 0 the host's prompt, where\n"
	      "`help` lists the commands. The files are those of `yado run --config`.\n"
	      "As the first program of a machine it turns the machine off at its end.\n",
	      out);
}

int host_main(int argc, char **argv)
{
	/* As the first program it gets words of the kernel's command line. */
	bool first = getpid() == 1;
	const char *directory = argc > 1 && !first ? argv[1] : INN_DIRECTORY;
	struct inn *inn;
	char shown[NEAREST_WORD_MAX];
	int error;

	if (argc > 2 && !first) {
		log_error("`yado host` takes one directory; \"%s\" is another",
			  printable(argv[2], shown, sizeof(shown)));
		return VM_END_USAGE;
	}
	inn = calloc(1, sizeof(*inn));
	if (inn == NULL) {
		log_error("out of memory");
		return VM_END_FAILED;
	}
	error = inn_init(inn, directory, first);
	if (error == 0) {
		error = inn_run(inn);
		inn_fini(inn);
	}
	free(inn);
	if (first) {
		sync();
		reboot(RB_POWER_OFF);
	}
	return error == 0 ? 0 : VM_END_FAILED;
}
