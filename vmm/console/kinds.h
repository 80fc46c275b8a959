/*
 * Shared by the kinds of console; not for others.
 */
#pragma once

#include "vmm/console/console.h"
#include "vmm/watch.h"

#define CONSOLE_SAYS "console" /* what messages start with */

struct console {
	struct char_backend be;
	struct loop *loop;
	void (*destroy)(struct console *con);
	void (*resume)(struct console *con);					    /* or NULL */
	void (*size)(const struct console *con, uint16_t *columns, uint16_t *rows); /* or NULL */
};

/**
 * console_tty_create() and the others - a console of one kind; see console_create(), which
 * chooses. Return: 0 or -errno, logged.
 */
must_use int console_tty_create(struct console **out, struct loop *loop,
				const struct console_commands *commands, void *ctx);
must_use int console_socket_create(struct console **out, const char *path, struct loop *loop);
must_use int console_file_create(struct console **out, const char *path, struct loop *loop);
must_use int console_none_create(struct console **out, struct loop *loop);

/** Input on its way to the front end, and an eventfd that has it tried on the loop thread. */
struct inbox {
	struct char_backend *be;
	struct watch kick;
	void (*emptied)(void *arg); /* all was taken: time to read more */
	void *arg;
	size_t len;
	uint8_t buf[4096];
};

/** inbox_init() - an empty one towards @be's front end. Return: 0 or -errno, not logged. */
must_use int inbox_init(struct inbox *in, struct char_backend *be, struct loop *loop,
			void (*emptied)(void *arg), void *arg);

/** inbox_fini() - what is still inside is lost. Context: loop thread. */
void inbox_fini(struct inbox *in);

/** inbox_kick() - delivers soon. Context: any thread. */
void inbox_kick(struct inbox *in);

/** inbox_deliver() - gives the front end what it takes now. */
void inbox_deliver(struct inbox *in);
