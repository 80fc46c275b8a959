/*
 * The seam between a device that carries characters (a UART, a virtio console) and what is at the
 * other end of the wire (a terminal, a socket, a file).
 *
 *	guest -> device -> ops->write()        be->writable() says that it takes more again
 *	guest <- device <- be->input()         ops->input_ready() says that it takes more again
 *
 * The device fills in input, writable and user when it is made; the back end fills in ops before.
 * Everything here happens on the loop thread, and nothing blocks.
 */
#pragma once

#include "lib/base/types.h"

struct char_backend;

struct char_backend_ops {
	/*
	 * Takes up to @n bytes from the guest; returns how many. Fewer than @n mean that the rest
	 * would block: the back end calls be->writable(be->user) once it takes more.
	 */
	size_t (*write)(struct char_backend *be, const uint8_t *buf, size_t n);

	/* The device has room again, after be->input() had taken fewer bytes than it was given. */
	void (*input_ready)(struct char_backend *be);
};

struct char_backend {
	const struct char_backend_ops *ops;

	/* Gives @n bytes to the guest; returns how many the device took. */
	size_t (*input)(void *user, const uint8_t *buf, size_t n);
	/* ops->write() takes bytes again. */
	void (*writable)(void *user);
	void *user;
};
