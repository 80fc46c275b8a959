/* What the files of the interrupt half share. */
#pragma once

#include <stdatomic.h>

#include "lib/chip/ioapic.h"
#include "lib/chip/lapic.h"
#include "lib/chip/pic.h"
#include "lib/chip/pit.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/vcpu.h"

/* Who holds a wire up: it is high as long as one of them does. */
enum kvm_irq_source {
	KVM_SOURCE_USER,     /* KVM_IRQ_LINE, irqfds that give an edge */
	KVM_SOURCE_RESAMPLE, /* irqfds that wait for the EOI */
	KVM_SOURCE_PIT,
};

/* One entry of the routing table. */
struct kvm_route {
	uint16_t gsi;
	bool msi;
	uint8_t chip; /* KVM_IRQCHIP_*; its pin */
	uint8_t pin;
	uint32_t data;
	uint64_t address;
};

/* The routing table; sorted by GSI. Replaced as a whole. */
struct kvm_routes {
	size_t bytes;
	uint32_t count;
	uint32_t gsis;	 /* one more than the highest */
	uint16_t *first; /* of each GSI, and one more; behind the routes */
	struct kvm_route route[];
};

/* One KVM_IRQFD. */
struct kvm_irqfd_entry {
	struct kvm_eventfd_watch watch;
	struct kvm_irq *irq;
	void *eventfd;
	void *resample; /* eventfd, or NULL */
	uint32_t gsi;
	struct kvm_irqfd_entry *next; /* guarded by irqfds_lock */

	/* its signals only, which come one after the other: where its message goes, */
	struct lapic *target;
	struct lapic_message message;
	uint32_t layout; /* as long as this is the VM's; 0: not known */
};

/* A VM's. */
struct kvm_irq {
	/* constant after creation */
	struct kvm_vm *vm;
	struct lapic **lapics;	/* by vcpu->index; those below kvm_vm_count() are there */
	uint32_t pins_reserved; /* split: GSIs that user space's IOAPIC has */
	bool pit_there;
	bool speaker; /* port 0x61 is the PIT's */

	/* vm->lock; atomic for those who read */
	_Atomic uint32_t x2apic_flags;

	/* counts changes of what decides where a GSI's message goes; never 0 */
	_Atomic uint32_t layout;

	/* vm->irq_lock */
	struct kvm_routes *routes; /* NULL: none */
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	uint8_t pic_sources[PIC_PINS]; /* bits: enum kvm_irq_source */
	uint8_t ioapic_sources[IOAPIC_PINS];
	int delivered; /* what the IOAPIC's last message came to */

	struct kvm_timer pit_timer;

	/* a mutex, outside of irq_lock */
	struct kvm_lock irqfds_lock;
	struct kvm_irqfd_entry *irqfds;
	_Atomic uint32_t resamplers;
};

/* A vCPU's. */
struct kvm_apic {
	struct lapic lapic; /* see lapic.h for what is whose */
	struct kvm_vcpu *vcpu;
	struct kvm_timer timer;
	int extint;	   /* vector of KVM_INTERRUPT that waits, or -1; own thread */
	uint32_t early_ns; /* that much before a deadline the timer expires; own thread */
	bool early_counts; /* the timer had the time for that; own thread */
	_Atomic bool expired;
	_Atomic uint32_t arrived; /* APIC_ARRIVED_* */
	_Atomic uint32_t sipi_vector;
};

#define APIC_ARRIVED_INIT BIT(0)
#define APIC_ARRIVED_SIPI BIT(1)

static inline void irq_lock(struct kvm_vm *vm)
{
	kvm_ops(vm->env)->lock(vm->env, &vm->irq_lock);
}

static inline void irq_unlock(struct kvm_vm *vm)
{
	kvm_ops(vm->env)->unlock(vm->env, &vm->irq_lock);
}

/* Routes, or what local APICs are called, have changed. Any context. */
static inline void irq_layout_changed(struct kvm_irq *irq)
{
	/* Pairs with the acquire in irq_fd.c: who knows this number sees the change. */
	atomic_fetch_add_explicit(&irq->layout, 2, memory_order_release);
}

/* The message that is all that a GSI leads to. Return: is it so? irq_lock is held. */
bool irq_message(const struct kvm_irq *irq, uint32_t gsi, struct lapic_message *message);

/* A message of a device to local APICs. Return: how many took it, or -1. Any context. */
int irq_send_msi(struct kvm_irq *irq, uint64_t address, uint32_t data);

/* Drives all wires of a GSI. Return: as KVM_IRQ_LINE_STATUS tells. irq_lock is held. */
int irq_set(struct kvm_irq *irq, enum kvm_irq_source source, uint32_t gsi, bool level);

/* A message or an edge at a GSI. irq_lock is held. */
void irq_edge(struct kvm_irq *irq, uint32_t gsi);

/* Irqfds: one for the edge or the level at @gsi; who waits for EOI at a pin (bits) hears of it. */
void irq_fd_acknowledged(struct kvm_irq *irq, unsigned chip, uint32_t pins);
void irq_fd_fini(struct kvm_irq *irq);

/* Chips. irq_lock is held for irq_chip_set(). */
void irq_chips_init(struct kvm_irq *irq);
int irq_chip_set(struct kvm_irq *irq, enum kvm_irq_source source, unsigned chip, unsigned pin,
		 bool level);
void irq_chips_eoi(struct kvm_irq *irq, uint8_t vector);
uint8_t irq_pic_accept(struct kvm_irq *irq);

/* Routes. */
struct kvm_routes *irq_routes_default(struct kvm_irq *irq);
void irq_routes_free(struct kvm_irq *irq, struct kvm_routes *routes);

/* Is there a level-triggered message to @vector among the pins of user space's IOAPIC? */
bool irq_routes_level(struct kvm_irq *irq, uint8_t vector);

/* An access to the local APIC's page. Return: is it there? */
bool irq_apic_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data, bool write);
