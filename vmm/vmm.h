/*
 * The virtual machine monitor's face to the command line.
 */
#pragma once

#include "vmm/config.h"
#include "vmm/host/provider.h"

/**
 * How a VM ended: the exit code of `yado run`. Documented in yado(1); scripts rely on it.
 */
enum vm_end {
	VM_END_POWEROFF = 0, /* the guest shut itself down */
	VM_END_FAILED = 1,   /* the host could not go on */
	VM_END_USAGE = 2,    /* bad options or files; nothing was started */
	VM_END_RESET = 3,    /* the guest asked for a reboot */
	VM_END_PANIC = 4,    /* the guest's kernel reported a panic, or triple-faulted */
	VM_END_QUIT = 5,     /* the user ended it: Ctrl-] q, SIGTERM, SIGINT, SIGHUP */
};

/**
 * vmm_run() - builds the VM of @config, runs it to its end and takes it down.
 * @soft: the provider in software that the program brings, or NULL: there is none.
 * Whatever is wrong is logged. Return: how it ended.
 */
enum vm_end vmm_run(const struct vm_config *config, const struct host_provider *soft);
