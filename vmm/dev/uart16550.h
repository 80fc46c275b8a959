/*
 * A 16550A UART: a serial port of a PC.
 *
 * Its wire has no speed. What the guest writes goes into a queue and counts as sent at once; the
 * transmitter shows that it is busy only when the queue is nearly full, until the back end has
 * taken half of it. What comes from the back end waits there until the receive FIFO has room, so
 * that neither direction loses a byte and nobody waits.
 *
 * Except for who polls LSR with the transmitter's interrupt off, as Linux does for the kernel's own
 * messages, ten milliseconds for each byte: to wait there for a reader that sleeps would be to stop
 * the guest. When nothing was read for UART_PATIENCE_NS, such output is lost until somebody reads.
 *
 *	COM1: ports 0x3f8 to 0x3ff, IRQ 4      COM2: ports 0x2f8 to 0x2ff, IRQ 3
 */
#pragma once

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/dev/char_queue.h"
#include "vmm/lock.h"

#define UART_PORTS 8

#define UART_FIFO_SIZE	 16
#define UART_PATIENCE_NS UINT64_C(2000000000)

struct uart {
	/* constant after init */
	struct irq_line irq;
	struct char_backend *be;

	struct char_queue tx; /* locks for itself */

	struct lock lock; /* guards the rest; taken before the queue's and the irq's */
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t errors;	    /* the error bits of LSR */
	uint16_t divisor;   /* DLM, DLL */
	bool thr_empty;	    /* the interrupt for it is due */
	bool tx_full;	    /* THRE is clear until the queue has room */
	bool level;	    /* of the interrupt wire */
	bool refused;	    /* the back end has input that did not fit */
	bool losing;	    /* while tx_full: nobody reads, and a CPU polls */
	bool warned;	    /* of that */
	uint64_t polled_ns; /* since when a CPU polls and nothing was read; 0: none does */
	size_t polled_room; /* of the queue, when that was last looked at */
	uint8_t rx_head, rx_count;
	uint8_t rx[UART_FIFO_SIZE];
};

/** Accesses to its eight ports; the device is a struct uart. */
extern const struct bus_ops uart_ops;

/**
 * uart_init() - a UART after reset.
 * @be: the other end of the wire, whose callbacks it takes; NULL discards output.
 * Return: 0 or -errno, logged.
 */
must_use int uart_init(struct uart *uart, struct loop *loop, struct irq_line irq,
		       struct char_backend *be);

/** uart_fini() - hands what is left to the back end, as far as it does not block. No vCPU runs. */
void uart_fini(struct uart *uart);

/**
 * uart_receive() - bytes from the wire to the guest.
 * Return: how many fitted; when fewer than @n, the back end's input_ready() is called later.
 * Context: loop thread.
 */
size_t uart_receive(struct uart *uart, const uint8_t *buf, size_t n);

/**
 * uart_state() - saves or loads registers, the FIFO and what is still in the queue.
 * Context: loop thread, no vCPU runs. Loading does not drive the interrupt wire.
 */
void uart_state(struct uart *uart, struct state *s);
