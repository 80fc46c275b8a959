/*
 * The physical console is one for all: what its user types goes to the VM that is shown, but for
 * Ctrl-], which starts a command to the host.
 */
#pragma once

#include "lib/base/types.h"

#define KEYS_ESCAPE 0x1d /* Ctrl-] */

enum keys_action {
	KEYS_BYTE,    /* it belongs to who is shown */
	KEYS_NOTHING, /* a command has begun */
	KEYS_NEXT,    /* show the next VM */
	KEYS_HOST,    /* show the host's prompt */
	KEYS_HELP,
	KEYS_UNKNOWN, /* no such command; the byte is gone */
};

/** What has been typed of a command; all zero at first. */
struct keys {
	bool command;
};

/** keys_feed() - one byte was typed. Return: what to do about it. */
enum keys_action keys_feed(struct keys *k, uint8_t byte);
