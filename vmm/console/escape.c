#include "vmm/console/escape.h"

static enum escape_action command(struct escape *e, uint8_t byte)
{
	e->state = ESCAPE_STATE_NORMAL;
	switch (byte) {
	case ESCAPE_KEY:
		return ESCAPE_BYTE;
	case 'q':
		return ESCAPE_QUIT;
	case '?':
	case 'h':
		return ESCAPE_HELP;
	case 'p':
		return ESCAPE_PAUSE;
	case 'b':
		return ESCAPE_POWER;
	case 'm':
		*e = (struct escape){.state = ESCAPE_STATE_BALLOON};
		return ESCAPE_BALLOON_ASK;
	default:
		return ESCAPE_UNKNOWN;
	}
}

static enum escape_action balloon(struct escape *e, uint8_t byte)
{
	if (byte >= '0' && byte <= '9') {
		if (e->digits == ESCAPE_DIGITS_MAX) {
			return ESCAPE_NOTHING;
		}
		e->number = e->number * 10 + (byte - '0');
		e->digits++;
		return ESCAPE_BALLOON_ECHO;
	}
	if ((byte == 0x7f || byte == '\b') && e->digits > 0) {
		e->number /= 10;
		e->digits--;
		return ESCAPE_BALLOON_ERASE;
	}
	e->state = ESCAPE_STATE_NORMAL;
	return (byte == '\r' || byte == '\n') && e->digits > 0 ? ESCAPE_BALLOON_SET
							       : ESCAPE_CANCELLED;
}

enum escape_action escape_feed(struct escape *e, uint8_t byte)
{
	switch (e->state) {
	case ESCAPE_STATE_COMMAND:
		return command(e, byte);
	case ESCAPE_STATE_BALLOON:
		return balloon(e, byte);
	case ESCAPE_STATE_NORMAL:
		break;
	}
	if (byte == ESCAPE_KEY) {
		e->state = ESCAPE_STATE_COMMAND;
		return ESCAPE_NOTHING;
	}
	return ESCAPE_BYTE;
}
