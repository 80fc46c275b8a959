/*
 * Interrupts of the machine: wires (GSI 0 to 23) and messages (MSI), whichever chips carry them:
 * the provider's full irqchip, or ours (lib/chip) over the provider's local APICs.
 */
#pragma once

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/board/bus.h"

struct host_vm;
struct irq;

/** irq_wire() - the line that drives @gsi (0 to 23). Lines may be driven from any thread. */
struct irq_line irq_wire(struct irq *irq, unsigned gsi);

/** One message-signalled interrupt of a device. */
struct irq_msi {
	int fd;	      /* eventfd: a write of 1 delivers the message; constant after creation */
	unsigned gsi; /* the route that @fd is bound to */
};

/** irq_msi_create() - a new message interrupt, without a target yet. Return: 0 or -errno, logged.
 */
must_use int irq_msi_create(struct irq *irq, struct irq_msi *msi);
void irq_msi_destroy(struct irq *irq, struct irq_msi *msi);

/**
 * irq_msi_set() - where the message goes: the address and data that the guest programmed.
 * Context: any thread. What a guest programs cannot fail; a route that the provider refuses is
 * reported by log_guest() and delivers nothing.
 */
void irq_msi_set(struct irq *irq, struct irq_msi *msi, uint64_t addr, uint32_t data);

/** irq_msi_trigger() - delivers it. Context: any thread. */
void irq_msi_trigger(const struct irq_msi *msi);

/**
 * irq_doorbell_add() - writes of the guest to @addr wake @fd without an exit to the VMM.
 * @len: 0 for any width, or 1, 2, 4, 8.
 * @datamatch: when not NULL, only writes of this value.
 * Return: 0 or -errno, logged.
 * Spec: KVM API, "KVM_IOEVENTFD"
 */
must_use int irq_doorbell_add(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch,
			      int fd);
void irq_doorbell_del(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd);

/**
 * irq_create() - the machine's interrupts over @vm.
 * @kick: makes vCPU 0 leave the guest to ask irq_pic_pending(); any thread, no locks of the caller
 * but those of devices. May be called before the vCPUs exist only if no wire is driven.
 * Return: 0 or -errno, logged.
 */
must_use int irq_create(struct irq **out, struct host_vm *vm, void (*kick)(void *ctx), void *ctx);
void irq_destroy(struct irq *irq);

/** irq_map() - puts the chips that are ours on the buses. Return: 0 or what bus_map() gives. */
must_use int irq_map(struct irq *irq, struct bus *pio, struct bus *mmio);

/** irq_eoi() - KVM_EXIT_IOAPIC_EOI: a level interrupt of the IOAPIC was acknowledged. */
void irq_eoi(struct irq *irq, uint8_t vector);

/** irq_pic_pending() - is the PIC's INTR wire up? Context: any thread, no lock. */
bool irq_pic_pending(struct irq *irq);

/** irq_pic_ack() - the INTA cycle. Return: the vector, or -1 if INTR went down meanwhile. */
int irq_pic_ack(struct irq *irq);

/** irq_state() - the chips that are ours; the provider's are the provider's to save. */
void irq_state(struct irq *irq, struct state *s);
