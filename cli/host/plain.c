#include "cli/host/plain.h"

#include <string.h>

#define ESC 0x1b
#define BEL 0x07

/* What follows ESC. */
static void begin(struct plain *p, uint8_t byte)
{
	if (byte == '[') {
		p->state = PLAIN_CSI;
	} else if (byte != '\0' && strchr("]PX^_", byte) != NULL) {
		p->state = PLAIN_STRING;
	} else if (byte >= 0x30) {
		p->state = PLAIN_TEXT; /* below it are intermediate bytes: more follow */
	}
}

bool plain_feed(struct plain *p, uint8_t byte)
{
	if (byte == ESC) {
		p->state = PLAIN_ESC;
		return false;
	}
	if (byte == '\n') {
		p->state = PLAIN_TEXT; /* one that was broken off hides no more than its line */
		return true;
	}
	switch (p->state) {
	case PLAIN_ESC:
		begin(p, byte);
		return false;
	case PLAIN_CSI:
		if (byte >= 0x40) {
			p->state = PLAIN_TEXT;
		}
		return false;
	case PLAIN_STRING:
		if (byte == BEL) {
			p->state = PLAIN_TEXT;
		}
		return false;
	case PLAIN_TEXT:
		break;
	}
	return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}
