/*
 * The keys by which a user at the terminal talks to yado instead of the guest: Ctrl-] and then a
 * letter. Pure: bytes in, what to do out.
 */
#pragma once

#include "lib/base/types.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */

enum escape_action {
	ESCAPE_NOTHING, /* the byte was part of a command */
	ESCAPE_BYTE,	/* it is the guest's */
	ESCAPE_QUIT,
	ESCAPE_HELP,
	ESCAPE_PAUSE,
	ESCAPE_POWER,
	ESCAPE_BALLOON_ASK, /* digits follow, to be shown */
	ESCAPE_BALLOON_ECHO,
	ESCAPE_BALLOON_ERASE,
	ESCAPE_BALLOON_SET, /* @number MiB it is */
	ESCAPE_CANCELLED,
	ESCAPE_UNKNOWN, /* no such command */
};

#define ESCAPE_DIGITS_MAX 7 /* 1 TiB is 1048576 MiB */

struct escape {
	enum {
		ESCAPE_STATE_NORMAL,
		ESCAPE_STATE_COMMAND,
		ESCAPE_STATE_BALLOON,
	} state;
	uint64_t number;
	unsigned digits;
};

/** escape_feed() - the user typed @byte. @e starts zeroed. */
enum escape_action escape_feed(struct escape *e, uint8_t byte);
