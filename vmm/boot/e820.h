/*
 * The memory map that a guest is told at boot.
 */
#pragma once

#include <asm/bootparam.h>

#include "lib/base/types.h"
#include "vmm/memory.h"

#define E820_RAM      1
#define E820_RESERVED 2

#define E820_ENTRIES_MAX 8

/**
 * e820_build() - RAM and what lies reserved between (see vmm/board/layout.h), by address.
 * Return: how many of @out are filled in.
 * Spec: ACPI 6.4, 15 "System Address Map Interfaces"
 */
unsigned e820_build(const struct guest_memory *mem, struct boot_e820_entry out[E820_ENTRIES_MAX]);
