/*
 * The i8042 keyboard controller, with no keyboard and no auxiliary port, and port 0x92 beside it:
 * what is left of both is how a PC resets and how it opens the A20 gate.
 *
 * Whatever is sent to a device is answered at once as a controller does after a time-out (0xfe and
 * the time-out bit), so that nobody who probes for a keyboard waits. The A20 gate is remembered
 * and has no effect: address line 20 is always there.
 */
#pragma once

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/lock.h"

struct i8042 {
	/* constant after init */
	struct irq_line irq;
	void (*reset)(void *ctx); /* the guest wants the machine reset; a vCPU's thread, no lock */
	void *ctx;

	struct lock lock; /* guards the rest */
	uint8_t config;	  /* the command byte */
	uint8_t status;	  /* OBF, A2 and time-out */
	uint8_t output;
	uint8_t command; /* whose data byte is awaited, 0 for none */
	bool a20;
	bool level; /* of the interrupt wire */
};

/** Accesses to ports 0x60, 0x64 and 0x92, a range of one byte each; the device is the same. */
extern const struct bus_ops i8042_data_ops;
extern const struct bus_ops i8042_command_ops;
extern const struct bus_ops i8042_port92_ops;

/**
 * i8042_init() - the controller as firmware leaves it: tested, translating, interrupt on.
 * Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
 * Controller"; ICH9 data sheet, "PORT92"
 */
void i8042_init(struct i8042 *k, struct irq_line irq, void (*reset)(void *ctx), void *ctx);
void i8042_fini(struct i8042 *k);

/** i8042_state() - saves or loads; loading does not drive the interrupt wire. */
void i8042_state(struct i8042 *k, struct state *s);
