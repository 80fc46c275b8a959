/*
 * Starts the other CPUs.
 */
#pragma once

#include "core/hw/acpi.h"
#include "lib/base/types.h"

/**
 * smp_start() - one after the other. A CPU that does not come up is told of and left out, with
 * those behind it.
 * @page: a free page below 1 MiB, for the first instructions.
 * @most: how many CPUs to use, this one included.
 * @main: what each of them does when it is up: with interrupts off, on a kernel stack of its own;
 * does not return.
 */
void smp_start(const struct acpi_info *acpi, hpa_t page, unsigned most, void (*main)(void));
