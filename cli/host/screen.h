/*
 * The physical console: standard input and output, usually a terminal in raw mode. What is to be
 * shown waits in a queue, so that a slow line holds nobody up.
 */
#pragma once

#include "vmm/loop.h"
#include "vmm/watch.h"

/* A whole history, with a carriage return for each line feed, and something to spare. */
#define SCREEN_QUEUE (160 * 1024)

struct screen_ops {
	void (*input)(void *ctx, const uint8_t *buf, size_t n);
	void (*drained)(void *ctx); /* everything is shown */
};

struct screen {
	struct loop *loop;
	const struct screen_ops *ops;
	void *ctx;
	struct watch in, out, signals;
	bool in_is_tty;
	bool out_nonblocking;
	bool out_failed;
	size_t chunk;
	size_t start, len; /* of what waits in the ring */
	uint8_t *queue;
};

/**
 * screen_init() - makes the terminal raw, if there is one.
 * @own: nobody else uses standard input and output, so their flags may be changed.
 * Return: 0 or -errno, logged.
 */
must_use int screen_init(struct screen *s, struct loop *loop, const struct screen_ops *ops,
			 void *ctx, bool own);

/** screen_fini() - shows what waits, but not for longer than a second, and restores the terminal.
 */
void screen_fini(struct screen *s);

/** screen_put() - bytes as they are. What there is no room for is lost. */
void screen_put(struct screen *s, const void *buf, size_t n);

/** screen_text() - text whose lines end in a line feed only. */
void screen_text(struct screen *s, const char *text);

/** screen_waiting() - how many bytes are still to be shown. */
size_t screen_waiting(const struct screen *s);
