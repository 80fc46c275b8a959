/*
 * What is at the other end of a character device: a terminal, a socket, a file. The front end
 * (a UART, the virtio console) sets the callbacks; the back end sets the ops.
 */
#pragma once

#include "lib/base/types.h"

struct char_backend;

struct char_backend_ops {
	/*
	 * Output of the guest. May take fewer than @n bytes (0: would block); then writable() is
	 * called later. Context: loop thread. Return: bytes taken.
	 */
	size_t (*write)(struct char_backend *be, const uint8_t *buf, size_t n);
	/* The front end, which took fewer bytes than input() offered, has room again. */
	void (*input_ready)(struct char_backend *be);
};

struct char_backend {
	const struct char_backend_ops *ops;
	/* Set by the front end: */
	size_t (*input)(void *user, const uint8_t *buf, size_t n); /* Return: bytes taken */
	void (*writable)(void *user); /* after write() took too few; may be NULL */
	void *user;
};
