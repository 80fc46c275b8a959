/*
 * The pvpanic device: a port that the guest's kernel tells of its panic. It has no state.
 * Spec: QEMU docs/specs/pvpanic.txt
 */
#pragma once

#include "vmm/board/bus.h"

#define PVPANIC_PANICKED     BIT(0)
#define PVPANIC_CRASH_LOADED BIT(1) /* a crash kernel takes over: the guest goes on */

struct pvpanic {
	/* Called with the bits that the guest wrote. Context: a vCPU's thread. */
	void (*event)(void *ctx, uint8_t events); /* constant, as the next */
	void *ctx;
};

/** Accesses to its one port; the device is a struct pvpanic. */
extern const struct bus_ops pvpanic_ops;
