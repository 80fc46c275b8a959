/*
 * The ACPI tables: what they say is in vmm/board/layout.h and vmm/board/dsdt.asl.
 * Spec: ACPI 6.4, 5.2 "ACPI System Description Tables"; PCI Firmware Specification 3.3, 4.1
 */
#pragma once

#include "lib/base/types.h"
#include "vmm/memory.h"

#define ACPI_CPUS_MAX 1024

/**
 * acpi_build() - writes all tables to LAYOUT_ACPI and on, where a BIOS would have them.
 * @mem: at least 1 MiB of RAM, which boot_check() has seen to.
 * @ncpus: 1 to ACPI_CPUS_MAX; APIC IDs count from 0.
 * Return: the address of the root pointer (RSDP).
 */
gpa_t acpi_build(struct guest_memory *mem, unsigned ncpus);
