/*
 * The pair of 8259A interrupt controllers of a PC, as in Intel's ICH: a master whose input 2 is
 * the output of a slave, and the edge/level registers (ELCR) beside them.
 *
 *	pins 0, 1, 3..7 -> master -> intr         ports 0x20, 0x21; ELCR1 0x4d0
 *	pins 8..15 -> slave -> input 2 of master  ports 0xa0, 0xa1; ELCR2 0x4d1
 *
 * An edge is latched until it is acknowledged, even if the wire falls before; that is what KVM's
 * model does (the 8259A forgets it), and guests whose devices pulse their wires rely on it. A
 * level that falls before it is acknowledged gives the spurious interrupt 7 or 15.
 */
#pragma once

#include "lib/base/irq_line.h"

struct state;

#define PIC_PINS 16

#define PIC_MASTER_COMMAND 0x20
#define PIC_MASTER_DATA	   0x21
#define PIC_SLAVE_COMMAND  0xa0
#define PIC_SLAVE_DATA	   0xa1
#define PIC_ELCR1	   0x4d0
#define PIC_ELCR2	   0x4d1

/** One 8259A; the caller looks at none of it. */
struct pic_chip {
	uint8_t lines; /* levels of the input wires */
	uint8_t irr, imr, isr;
	uint8_t elcr; /* 1: the input is level-triggered */
	uint8_t icw2; /* vector of input 0; the low three bits are 0 */
	uint8_t icw3;
	uint8_t next_icw;  /* the initialization word awaited at the data port: 2, 3, 4; 0: none */
	uint8_t lowest;	   /* the input that has the lowest priority */
	bool ic4;	   /* ICW1: an ICW4 will come */
	bool single;	   /* ICW1: SNGL */
	bool fully_nested; /* ICW4: SFNM */
	bool auto_eoi;	   /* ICW4: AEOI */
	bool rotate_in_aeoi; /* OCW2 */
	bool special_mask;   /* OCW3: SMM */
	bool read_isr;	     /* OCW3: RIS */
	bool poll;	     /* OCW3: P */
};

struct pic {
	struct irq_line intr; /* constant after init */
	struct pic_chip master, slave;
	bool intr_level;
};

/**
 * pic_init() - both chips as after power-on: nothing latched, in service or masked.
 * @intr: what the INTR output drives; called from within the functions below, on changes.
 */
void pic_init(struct pic *pic, struct irq_line intr);

/**
 * pic_read() / pic_write() - one byte at an I/O port.
 * @port: one of the PIC_* above; others read as 0xff and ignore writes.
 * Spec: Intel 8259A data sheet, "Programming the 8259A"; ICH9 data sheet, "8259 Interrupt
 * Controller (PIC) Registers"
 */
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);

/**
 * pic_set_irq() - drives an input wire.
 * @pin: 0 to 15; 2 is the cascade and not a wire, it and numbers above 15 are ignored.
 */
void pic_set_irq(struct pic *pic, unsigned pin, bool level);

/**
 * pic_ack() - the CPU's INTA cycles.
 * Return: the vector; that of input 7 of the chip that was asked, when its request has gone.
 */
uint8_t pic_ack(struct pic *pic);

/** pic_intr() - the level of the INTR output. */
static inline bool pic_intr(const struct pic *pic)
{
	return pic->intr_level;
}

/** pic_state() - saves or loads both chips. Loading does not drive the INTR wire. */
void pic_state(struct pic *pic, struct state *s);
