/*
 * /dev/console: the machine's console as a terminal. Input is edited by lines or raw, with the few
 * settings of termios(3) that mean something to a serial line.
 */
#pragma once

#include "lib/base/types.h"

/** console_start() - makes /dev/console and /dev/tty. Return: 0, -errno. */
must_use int console_start(void);
