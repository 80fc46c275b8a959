/*
 * What the IOAPIC shares with its state: bits of a redirection entry.
 */
#pragma once

#include "lib/chip/ioapic.h"

#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL	 BIT(15)
#define ENTRY_WRITABLE	 UINT64_C(0xff0000000001afff)
