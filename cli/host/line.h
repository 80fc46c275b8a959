/*
 * One line of text as it is typed, with the few keys that every terminal has.
 */
#pragma once

#include "lib/base/types.h"

#define LINE_SIZE 160

enum line_action {
	LINE_NOTHING,
	LINE_ECHO,   /* the byte was taken: show it */
	LINE_ERASE,  /* @erased characters are gone from the end: wipe them out */
	LINE_REFUSE, /* the byte cannot be taken: ring the bell */
	LINE_CANCEL, /* Ctrl-C: the line is empty again */
	LINE_DONE,   /* Return: the line is in @text, until the next byte */
};

/** All zero at first. */
struct line {
	char text[LINE_SIZE]; /* NUL-terminated after each byte */
	size_t len;
	size_t erased;
	bool done;
	bool after_cr; /* a line feed that follows belongs to it */
	enum {
		LINE_KEY_PLAIN,
		LINE_KEY_ESC,
		LINE_KEY_CSI
	} key;
};

/**
 * line_feed() - one byte was typed. Backspace and Ctrl-H erase a character, Ctrl-U the line, Ctrl-W
 * a word. Keys that send escape sequences do nothing.
 */
enum line_action line_feed(struct line *l, uint8_t byte);
