/*
 * The 8254 programmable interval timer of a PC: three counters at 1.193182 MHz, and port 0x61
 * that gates counter 2 and shows its output.
 *
 *	counter 0: gate high, OUT -> IRQ 0           port 0x40
 *	counter 1: gate high, OUT -> nothing         port 0x41
 *	counter 2: gate = port 0x61 bit 0, OUT -> port 0x61 bit 5    port 0x42
 *
 * The counters are simulated by clock pulses, but any number of pulses costs the same: each call
 * brings all three from the time of the last call to @now_ns. Time that goes back is taken as not
 * having moved.
 */
#pragma once

#include "lib/base/irq_line.h"

struct state;

#define PIT_HZ 1193182

#define PIT_COUNTER0 0x40
#define PIT_COUNTER1 0x41
#define PIT_COUNTER2 0x42
#define PIT_CONTROL  0x43
#define PIT_PORT_B   0x61

/**
 * A periodic counter 0 asks to be run at most this often, whatever it is programmed to, so that a
 * guest cannot keep its host busy with a period of two pulses.
 */
#define PIT_PERIOD_MIN_NS 200000

/** One counter; the caller looks at none of it. */
struct pit_counter {
	uint8_t control; /* RW, M and BCD, as last written */
	bool gate, out;
	uint32_t reload;	  /* CR: 1 to 65536 */
	uint32_t count;		  /* CE, binary, up to 65536 (which shows as 0) */
	bool programmed;	  /* a count was written after the control word */
	bool null_count;	  /* CR was not yet moved into CE */
	bool load;		  /* the next clock pulse moves CR into CE */
	bool running;		  /* CE was loaded after the control word */
	bool armed;		  /* modes 0, 1, 4, 5: reaching zero changes OUT */
	bool odd;		  /* mode 3: the count of this half cycle is odd */
	bool rose;		  /* OUT went high since this was last cleared */
	bool write_msb, read_msb; /* the next byte of a two-byte access is the second */
	uint8_t write_lsb;
	bool count_latched, status_latched;
	uint16_t latch; /* OL */
	uint8_t status;
};

struct pit {
	struct irq_line irq0; /* constant after init */
	uint64_t tick;	      /* clock pulses, up to the last call */
	uint64_t edge_tick;   /* when IRQ 0 last rose */
	struct pit_counter counter[3];
	uint8_t port_b; /* bits 0 to 3 */
	bool irq_level;
};

/**
 * pit_init() - counters that were never programmed and do not count; IRQ 0 is low.
 * @irq0: called from within the functions below.
 */
void pit_init(struct pit *pit, struct irq_line irq0, uint64_t now_ns);

/**
 * pit_read() / pit_write() - one byte at an I/O port, at @now_ns (monotonic).
 * @port: one of the PIT_* above; others read as 0xff and ignore writes.
 * Spec: Intel 8254 data sheet; ICH9 data sheet, "Timer I/O Registers" and "NMI_SC"
 */
uint8_t pit_read(struct pit *pit, uint16_t port, uint64_t now_ns);
void pit_write(struct pit *pit, uint16_t port, uint8_t value, uint64_t now_ns);

/**
 * pit_run() - brings the timer to @now_ns and drives IRQ 0. Rising edges that were missed since
 * the last call become one edge; the phase of a periodic counter is kept.
 */
void pit_run(struct pit *pit, uint64_t now_ns);

/**
 * pit_deadline() - when pit_run() has to be called next: the time at which OUT of counter 0 rises,
 * or a later one for periods below PIT_PERIOD_MIN_NS. Any call above may change it.
 * Return: monotonic ns, UINT64_MAX for never.
 */
uint64_t pit_deadline(const struct pit *pit);

/**
 * pit_state() - saves or loads the timer at @now_ns; no time passes for it in between.
 * Loading does not drive IRQ 0.
 */
void pit_state(struct pit *pit, struct state *s, uint64_t now_ns);
