/*
 * From the files that the user names to a guest ready to run: which kind of kernel it is, whether
 * the VM's memory can hold it, and the loading.
 */
#pragma once

#include "lib/base/types.h"
#include "vmm/boot/entry.h"
#include "vmm/config.h"
#include "vmm/memory.h"

/**
 * boot_check() - can kernel, initrd and command line of @config be started? Needs no guest memory
 * and starts nothing. Return: 0 or -errno; one logged line says what is wrong and what to do.
 */
must_use int boot_check(const struct vm_config *config);

/**
 * boot_load() - loads kernel, initrd, command line and boot data into @mem, which is fresh (zero)
 * but for the ACPI tables.
 * @rsdp: where the ACPI root pointer is.
 * @entry: how the first vCPU starts.
 * Return: 0 or -errno, logged, as boot_check().
 */
must_use int boot_load(const struct vm_config *config, struct guest_memory *mem, gpa_t rsdp,
		       struct boot_entry *entry);
