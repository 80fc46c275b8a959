/*
 * The debug port of PC firmware: bytes written to it are a log. Whole lines go to yado's messages,
 * within the bounds of log_guest().
 * Spec: QEMU docs/specs (isa-debugcon)
 */
#pragma once

#include <pthread.h>

#include "lib/base/state.h"
#include "vmm/board/bus.h"

#define DEBUG_PORT_LINE 120

struct debug_port {
	pthread_mutex_t lock; /* guards the rest */
	uint8_t len;
	char line[DEBUG_PORT_LINE];
};

/** Accesses to its one port; the device is a struct debug_port. */
extern const struct bus_ops debug_port_ops;

void debug_port_init(struct debug_port *port);
void debug_port_fini(struct debug_port *port);

/** debug_port_state() - saves or loads the line that is not complete yet. */
void debug_port_state(struct debug_port *port, struct state *s);
