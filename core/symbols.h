/*
 * Names of the kernel's functions, for backtraces. The table comes from the first link of the
 * kernel, by way of core/symbols.py, and is empty in that.
 */
#pragma once

#include "lib/base/types.h"

/** symbol_at() - the function that @address is in, and how far. Return: its name; "?" if none. */
const char *symbol_at(uint64_t address, uint64_t *offset);
