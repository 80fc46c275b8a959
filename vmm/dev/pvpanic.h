/*
 * pvpanic: one port by which a guest's kernel says that it has panicked. It has no state.
 */
#pragma once

#include "vmm/board/bus.h"

/** Events, as the guest writes them. */
#define PVPANIC_PANICKED     0x01
#define PVPANIC_CRASH_LOADED 0x02 /* a crash kernel was loaded and takes over */

struct pvpanic {
	/*
	 * Called with the known events of a write.
	 * Context: a vCPU's thread.
	 */
	void (*event)(void *ctx, uint8_t events);
	void *ctx;
};

/**
 * Accesses to port 0x505; the device is a struct pvpanic that its owner filled in.
 * Spec: QEMU, docs/specs/pvpanic
 */
extern const struct bus_ops pvpanic_ops;
