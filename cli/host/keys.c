#include "cli/host/keys.h"

enum keys_action keys_feed(struct keys *k, uint8_t byte)
{
	if (!k->command) {
		k->command = byte == KEYS_ESCAPE;
		return k->command ? KEYS_NOTHING : KEYS_BYTE;
	}
	k->command = false;
	switch (byte) {
	case KEYS_ESCAPE:
		return KEYS_BYTE;
	case 'n':
		return KEYS_NEXT;
	case '0':
		return KEYS_HOST;
	case '?':
	case 'h':
		return KEYS_HELP;
	default:
		return KEYS_UNKNOWN;
	}
}
