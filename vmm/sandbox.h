/*
 * The sandbox: what the process gives up once its VM is built. A guest that breaks out of a device
 * model then has the VM's own files, and no way to others.
 */
#pragma once

#include "vmm/config.h"

/**
 * sandbox_enter() - @accel: who runs the guest's CPUs; the others' calls are not allowed. For good:
 * no new privileges, no capabilities, no core dumps, no ptrace by others, and of the system calls
 * only those that abi/linux/syscalls.def marks as needed while a VM runs. All threads of the
 * process are in, those to come too. A call that is not allowed ends the process by SIGSYS, after a
 * message and with the terminal restored where the thread does not block that signal. Return: 0 or
 * -errno, logged; then the process must not go on. Context: once, after set-up, in any thread.
 */
must_use int sandbox_enter(enum accel accel);

/** sandbox_drop_capabilities() - the part about capabilities, for all threads. */
must_use int sandbox_drop_capabilities(void);
