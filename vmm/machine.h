/*
 * One machine: guest RAM, buses, interrupts, chips, devices and vCPUs, wired together from a
 * configuration. The order of construction is the table in machine.c.
 */
#pragma once

#include "vmm/vmm.h"

struct machine;

/**
 * machine_create() - builds the machine with everything loaded, up to the vCPUs' first step.
 * @end: set when it fails: VM_END_USAGE if the configuration or a file it names is wrong,
 * VM_END_FAILED if the host cannot.
 * Return: 0 or -errno, logged; nothing is left behind.
 */
must_use int machine_create(struct machine **out, const struct vm_config *config,
			    const struct host_provider *provider, enum vm_end *end);

/** machine_run() - runs the guest until it ends. Context: the thread that created it. */
enum vm_end machine_run(struct machine *m);

/** machine_destroy() - ends what runs beside the vCPUs, and frees. Context: as machine_run(). */
void machine_destroy(struct machine *m);
