/*
 * Ports for firmware that has no other way to say something: QEMU's debug console (0x402), which
 * passes each byte on, and the POST code port (0x80), whose writes go nowhere.
 */
#pragma once

#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/dev/char_queue.h"

struct debug_port {
	struct char_queue queue;
};

/** Accesses to port 0x402; the device is a struct debug_port. */
extern const struct bus_ops debug_port_ops;

/** Accesses to port 0x80; there is no device, and reads give ones. */
extern const struct bus_ops debug_post_ops;

/**
 * debug_port_init() - the debug console.
 * @be: takes what firmware says, and has its callbacks set; NULL discards it.
 * Return: 0 or -errno, logged.
 */
must_use int debug_port_init(struct debug_port *port, struct loop *loop, struct char_backend *be);
void debug_port_fini(struct debug_port *port);

/** debug_port_state() - saves or loads what the back end has not yet taken. */
void debug_port_state(struct debug_port *port, struct state *s);
