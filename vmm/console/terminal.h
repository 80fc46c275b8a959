/*
 * The user's terminal in raw mode, and back, whatever happens to the process. There is one
 * terminal a process, and signal handlers have to reach it: hence the only state of the console
 * that is not in an object.
 *
 * Handled: exit(), the signals that crash or end a process, being stopped and continued. Not
 * handled, as nothing can: SIGKILL; `stty sane` helps then.
 */
#pragma once

#include <signal.h>

#include "lib/base/types.h"

/**
 * terminal_init() - remembers how the terminal is, makes it raw and catches the signals that
 * matter. Signals whose handling is not the default are left alone.
 * @fd: the terminal, open as long as this lasts.
 * @notify_fd: an eventfd that is written when the window's size changed or the process continues;
 * its owner then calls terminal_resume().
 * Return: 0, -EBUSY if there is one already, or -errno of the terminal.
 */
must_use int terminal_init(int fd, int notify_fd);

/** terminal_fini() - restores the terminal and the signals. Harmless without terminal_init(). */
void terminal_fini(void);

/** terminal_restore() - as it was before. Context: any thread, signal handlers. */
void terminal_restore(void);

/** terminal_resume() - raw again after a stop, if the process is in the foreground. */
void terminal_resume(void);

/** terminal_is_ours() - is the process in the terminal's foreground, so that it may read? */
bool terminal_is_ours(int fd);
