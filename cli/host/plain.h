/*
 * Text without what moves a terminal's cursor or changes its state: fit to be shown long after.
 */
#pragma once

#include "lib/base/types.h"

/** What has been seen of an escape sequence; all zero at first. */
struct plain {
	enum {
		PLAIN_TEXT,
		PLAIN_ESC,
		PLAIN_CSI,
		PLAIN_STRING
	} state;
};

/**
 * plain_feed() - Return: is the byte text? Line feeds, tabs and bytes above ASCII are; other
 * controls and the whole of an escape sequence are not.
 * Spec: ECMA-48, 5.3 to 5.6
 */
bool plain_feed(struct plain *p, uint8_t byte);
