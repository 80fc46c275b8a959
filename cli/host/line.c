#include "cli/host/line.h"

#define CTRL(c) ((c)&0x1f)
#define ESC	0x1b
#define DEL	0x7f

static enum line_action erase(struct line *l, size_t count)
{
	l->erased = MIN(count, l->len);
	l->len -= l->erased;
	l->text[l->len] = '\0';
	return l->erased > 0 ? LINE_ERASE : LINE_NOTHING;
}

static size_t last_word(const struct line *l)
{
	size_t at = l->len;

	while (at > 0 && l->text[at - 1] == ' ') {
		at--;
	}
	while (at > 0 && l->text[at - 1] != ' ') {
		at--;
	}
	return l->len - at;
}

/*
 * Return: is the byte part of an escape sequence, as arrow keys send them?
 * Spec: ECMA-48, 5.4, "Control sequences"
 */
static bool swallow(struct line *l, uint8_t byte)
{
	switch (l->key) {
	case LINE_KEY_PLAIN:
		if (byte != ESC) {
			return false;
		}
		l->key = LINE_KEY_ESC;
		return true;
	case LINE_KEY_ESC:
		l->key = byte == '[' || byte == 'O' ? LINE_KEY_CSI : LINE_KEY_PLAIN;
		return byte >= ' ';
	case LINE_KEY_CSI:
		if (byte < ' ') {
			l->key = LINE_KEY_PLAIN;
			return false;
		}
		if (byte >= 0x40) {
			l->key = LINE_KEY_PLAIN;
		}
		return true;
	}
	return false;
}

static enum line_action control(struct line *l, uint8_t byte)
{
	switch (byte) {
	case '\r':
	case '\n':
		l->done = true;
		l->after_cr = byte == '\r';
		return LINE_DONE;
	case '\b':
	case DEL:
		return erase(l, 1);
	case CTRL('U'):
		return erase(l, l->len);
	case CTRL('W'):
		return erase(l, last_word(l));
	case CTRL('C'):
		(void)erase(l, l->len);
		return LINE_CANCEL;
	default:
		return LINE_REFUSE;
	}
}

enum line_action line_feed(struct line *l, uint8_t byte)
{
	bool after_cr = l->after_cr;

	l->after_cr = false;
	if (l->done) {
		l->done = false;
		l->len = 0;
		l->text[0] = '\0';
	}
	if (after_cr && byte == '\n') {
		return LINE_NOTHING;
	}
	if (swallow(l, byte)) {
		return LINE_NOTHING;
	}
	if (byte == '\t') {
		byte = ' ';
	}
	if (byte < ' ' || byte == DEL) {
		return control(l, byte);
	}
	if (byte > DEL || l->len == sizeof(l->text) - 1) {
		return LINE_REFUSE;
	}
	l->text[l->len++] = (char)byte;
	l->text[l->len] = '\0';
	return LINE_ECHO;
}
