/*
 * This machine's IOAPICs, and its PICs, which are turned off.
 *
 * Spec: Intel 82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC), May 1996
 */
#pragma once

#include "core/hw/acpi.h"
#include "lib/base/types.h"

/**
 * io_apic_mask_pics() - the PICs ask for nothing any more. Before local_apic_start(): once that has
 * shut their way to the CPU (LINT0), a request that is under way cannot be taken back, and QEMU
 * delivers it as an interrupt without a vector.
 */
void io_apic_mask_pics(const struct acpi_info *acpi);

/** io_apic_init() - all wires masked. IOAPICs that cannot be mapped are left out. */
void io_apic_init(const struct acpi_info *acpi);

/** io_apic_connect_isa() - leads an ISA interrupt to @vector of the first CPU. Start-up.
 * @is_level: is it one? Written before the first can come.
 * Return: 0 or -ENODEV.
 */
must_use int io_apic_connect_isa(unsigned irq, unsigned vector, bool *is_level);
