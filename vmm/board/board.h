/*
 * The chips and legacy devices of the q35 subset, wired to buses and interrupts.
 */
#pragma once

#include "vmm/board/bus.h"
#include "vmm/board/irq.h"
#include "vmm/board/pci.h"
#include "vmm/dev/char_backend.h"
#include "vmm/loop.h"
#include "vmm/memory.h"

enum board_event {
	BOARD_POWEROFF, /* sleep state S5 */
	BOARD_RESET,	/* by the i8042, port 0x92, or the reset control register */
	BOARD_PANIC,	/* the guest's kernel told pvpanic */
};

struct board_env {
	struct bus *pio;
	struct bus *mmio;
	struct pci_bus *pci;
	struct irq *irq;
	struct loop *loop;
	const struct guest_memory *mem;
	bool own_pit; /* the provider has none */
	unsigned cpus;
	struct char_backend *serial; /* of the first serial port; NULL: nothing there */
	/* Context: a vCPU's thread. */
	void (*event)(void *ctx, enum board_event event);
	void *ctx;
};

struct board;

/** board_create() - all of it. Return: 0 or -errno, logged. */
must_use int board_create(struct board **out, const struct board_env *env);
void board_destroy(struct board *board);

/** board_power_button() - presses it; what follows is the guest's decision. Any thread. */
void board_power_button(struct board *board);
