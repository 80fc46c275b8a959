/*
 * The vCPUs as firmware would leave them: CPUID, local APIC wires, memory types, and the boot
 * CPU at the kernel's entry. The others wait for INIT and SIPI.
 */
#pragma once

#include "vmm/boot/boot.h"
#include "vmm/config.h"
#include "vmm/vcpu.h"

/**
 * cpu_setup() - prepares every vCPU of @set for its first run.
 * @ram_end: the first guest-physical address after RAM.
 * Return: 0 or -errno, logged; -ENOTSUP if the provider lacks features of the CPU model.
 */
must_use int cpu_setup(struct vcpus *set, const struct vm_config *config, uint64_t ram_end,
		       const struct boot_entry *entry);
