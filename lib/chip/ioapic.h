/*
 * The I/O APIC of a PC: 24 input wires, each with a redirection entry that says which message goes
 * to the local APICs. It is an 82093AA with the EOI register of later chips (version 0x20).
 *
 * Inputs are active high, whatever the polarity bit says: it describes the board's wire, and a
 * virtual wire has none. KVM and QEMU do the same.
 */
#pragma once

#include "lib/base/irq_line.h"

struct state;

#define IOAPIC_PINS    24
#define IOAPIC_VERSION 0x20

/** Offsets of the registers in its page. */
#define IOAPIC_IOREGSEL 0x00
#define IOAPIC_IOWIN	0x10
#define IOAPIC_EOIR	0x40

/** What the I/O APIC does to the rest of the machine; called from within the functions below. */
struct ioapic_ops {
	/* Sends a message, in the form of an MSI. */
	void (*deliver)(void *ctx, uint64_t addr, uint32_t data);
	/*
	 * The redirection entry of @pin was written: ioapic_msi() may give something else now.
	 * When it gives nothing, a route that exists should stay as it is: an interrupt that was
	 * sent by it may be in service still, and its EOI has to find the way back.
	 */
	void (*changed)(void *ctx, unsigned pin);
};

struct ioapic {
	const struct ioapic_ops *ops; /* constant after init, as the next */
	void *ctx;
	uint8_t ioregsel;
	uint8_t id;	/* bits 24 to 27 of IOAPICID */
	uint32_t lines; /* levels of the wires */
	uint64_t redirection[IOAPIC_PINS];
};

/** ioapic_init() - all entries masked, all wires low. */
void ioapic_init(struct ioapic *ioapic, const struct ioapic_ops *ops, void *ctx);

/**
 * ioapic_read() / ioapic_write() - one 32-bit access at @offset of its page.
 * Offsets without a register read as 0 and ignore writes.
 * Spec: Intel 82093AA data sheet, "Register Description"; ICH9 data sheet, "APIC Registers"
 */
uint32_t ioapic_read(const struct ioapic *ioapic, uint64_t offset);
void ioapic_write(struct ioapic *ioapic, uint64_t offset, uint32_t value);

/** ioapic_set_irq() - drives a wire. @pin: 0 to 23, others are ignored. */
void ioapic_set_irq(struct ioapic *ioapic, unsigned pin, bool level);

/**
 * ioapic_eoi() - a local APIC ended the service of @vector: level-triggered interrupts of that
 * vector may be sent again, and are, where the wire is still high.
 */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

/**
 * ioapic_msi() - the message that an interrupt at @pin sends, as its entry stands now.
 * Return: false if there is none: the pin is masked, or its delivery mode is ExtINT (that is the
 * PIC's way to the CPU, which has no message) or reserved.
 * Spec: Intel SDM vol. 3A, "Message Signalled Interrupts"
 */
must_use bool ioapic_msi(const struct ioapic *ioapic, unsigned pin, uint64_t *addr, uint32_t *data);

/** ioapic_state() - saves or loads; loading delivers nothing, but tells of all 24 entries. */
void ioapic_state(struct ioapic *ioapic, struct state *s);
