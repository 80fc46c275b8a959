/*
 * What the PIC shares with its state.
 */
#pragma once

#include "lib/chip/pic.h"

/* Timer, keyboard, cascade, RTC and FPU inputs are edge-triggered for good (ICH9, ELCR1/2). */
#define ELCR1_WRITABLE 0xf8
#define ELCR2_WRITABLE 0xde

/** pic_update() - recomputes the output, and tells of it if it changes. */
void pic_update(struct pic *pic);
