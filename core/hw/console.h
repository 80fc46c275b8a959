/*
 * The machine's console: a 16550 UART at COM1 (or as `console=` says). Log lines and panics are
 * written at once and wait for the UART; what ring 3 writes goes into a buffer that interrupts
 * drain. From the UART comes what has been typed.
 */
#pragma once

#include "lib/base/types.h"

/** console_write() - all of it, at once, behind what is buffered. Line ends become CR LF.
 * Context: any. */
void console_write(const char *text, size_t len);

/** console_put() - as much as the buffer takes, unchanged (no CR is added). Return: how many bytes;
 * less than @len: console_set_events() tells when there is room again. Context: any. */
size_t console_put(const void *data, size_t len);

/** console_get() - what has been typed. Return: how many bytes, 0 if there are none. What comes
 * when CONSOLE_RX_BYTES wait unread is lost. Context: any. */
size_t console_get(void *data, size_t len);

#define CONSOLE_RX_BYTES 4096
#define CONSOLE_TX_BYTES 4096

bool console_can_put(void);

/** console_set_events() - fn(ctx) is called when bytes came in or room came free. In an interrupt
 * handler, no lock held. Once, for /dev/console. */
void console_set_events(void (*fn)(void *ctx), void *ctx);

/** console_drain() - waits until all that is buffered is out. Context: any. */
void console_drain(void);

/* Start-up, and the end. */

/** console_init() - from now on console_write() goes there; without interrupts. @port: 0: nowhere.
 * @baud: 0: as the firmware has left it. */
void console_init(uint16_t port, unsigned baud);

/** console_connect() - interrupts from now on. Return: is there a UART that can? */
bool console_connect(void);

/** console_break() - for panic(): whoever holds the console's lock has been stopped. */
void console_break(void);
