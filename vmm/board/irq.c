#include "vmm/board/irq.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "lib/chip/ioapic.h"
#include "lib/chip/pic.h"
#include "vmm/board/layout.h"
#include "vmm/host/host.h"
#include "vmm/lock.h"
#include "vmm/log.h"

#define WIRES	    24
#define PIC_WIRES   16
#define ROUTES_MAX  1024
#define IOAPIC_PAGE 0x1000

/* What the guest is told by the DSDT is where the chip decodes. */
_Static_assert(PORT_PIC1 == PIC_MASTER_COMMAND && PORT_PIC2 == PIC_SLAVE_COMMAND &&
		       PORT_ELCR == PIC_ELCR1,
	       "ports of the interrupt controllers");

/* Intel SDM vol. 3A, "Message Data Register Format": trigger mode. */
#define MSI_DATA_LEVEL (1U << 15)

/*
 * Our chips over the provider's local APICs (split):
 *
 *	wire 0..15 ---> pic ----> INTR ---> vCPU 0, KVM_INTERRUPT
 *	     0..23 ---> ioapic -> message -> KVM_SIGNAL_MSI
 *	                                     KVM_EXIT_IOAPIC_EOI -> ioapic
 *
 * The provider has to know which vectors are level-triggered IOAPIC interrupts, to report their
 * EOI: the first WIRES entries of its routing table mirror those redirection entries.
 */
struct irq {
	/* constant after irq_create() */
	struct host_vm *vm;
	void (*kick)(void *ctx); /* makes vCPU 0 ask for PIC interrupts */
	void *ctx;

	struct lock chips_lock; /* guards the two chips; taken before routes_lock */
	struct pic pic;
	struct ioapic ioapic;
	atomic_bool intr; /* the PIC's INTR wire; written under chips_lock, read without */

	struct lock routes_lock;			/* guards the rest */
	unsigned gsi_end;				/* GSIs from here on were never given out */
	bool gsi_free[ROUTES_MAX];			/* given back; below gsi_end */
	struct kvm_irq_routing_entry route[ROUTES_MAX]; /* by GSI; type 0: no route */
	struct kvm_irq_routing *table;			/* room for all of them */
};

/* ---- routes ---- */

/* Gives the provider the whole table anew. Return: 0 or -errno. Context: routes_lock. */
static int commit_routes(struct irq *irq)
{
	struct kvm_irq_routing *table = irq->table;

	table->nr = 0;
	table->flags = 0;
	for (unsigned gsi = 0; gsi < irq->gsi_end; gsi++) {
		if (irq->route[gsi].type != 0) {
			table->entries[table->nr++] = irq->route[gsi];
		}
	}
	return host_set_routing(irq->vm, table);
}

static bool same_message(const struct kvm_irq_routing_entry *r, uint64_t addr, uint32_t data)
{
	return r->type == KVM_IRQ_ROUTING_MSI && r->u.msi.address_lo == (uint32_t)addr &&
	       r->u.msi.address_hi == (uint32_t)(addr >> 32) && r->u.msi.data == data;
}

static void route_message(struct irq *irq, unsigned gsi, uint64_t addr, uint32_t data)
{
	struct kvm_irq_routing_entry *r = &irq->route[gsi];

	lock_take(&irq->routes_lock);
	if (!same_message(r, addr, data)) {
		*r = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = (uint32_t)addr,
				  .address_hi = (uint32_t)(addr >> 32),
				  .data = data},
		};
		int error = commit_routes(irq);

		if (error != 0) {
			/* Without this entry, so that it does not spoil later ones. */
			r->type = 0;
			log_guest("the provider refuses message address 0x%llx data 0x%x: %s",
				  (unsigned long long)addr, data, strerror(-error));
		}
	}
	lock_give(&irq->routes_lock);
}

/* The provider's own chips have their usual routes, which a new table must repeat. */
static void route_full_chips(struct irq *irq)
{
	for (unsigned gsi = 0; gsi < WIRES; gsi++) {
		irq->route[gsi] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi == 0 ? 2 : gsi},
		};
	}
	irq->route[2].type = 0; /* pin 2 of the IOAPIC is wire 0, the PIT */
}

int irq_msi_create(struct irq *irq, struct irq_msi *msi)
{
	int error = 0;
	unsigned gsi;

	msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (msi->fd < 0) {
		error = -errno;
		log_error("cannot create an eventfd for an interrupt: %s", strerror(errno));
		return error;
	}

	lock_take(&irq->routes_lock);
	for (gsi = WIRES; gsi < irq->gsi_end && !irq->gsi_free[gsi]; gsi++) {
	}
	if (gsi == ROUTES_MAX) {
		error = -ENOSPC;
		log_error("the VM has too many message interrupts: %d; give it fewer devices "
			  "or queues",
			  ROUTES_MAX - WIRES);
	} else {
		error = host_irqfd(irq->vm, msi->fd, gsi, true);
		if (error != 0) {
			log_error("the provider refuses an irqfd: %s", strerror(-error));
		} else {
			irq->gsi_free[gsi] = false;
			irq->gsi_end = MAX(irq->gsi_end, gsi + 1);
			msi->gsi = gsi;
		}
	}
	lock_give(&irq->routes_lock);
	if (error != 0) {
		close(msi->fd);
	}
	return error;
}

void irq_msi_destroy(struct irq *irq, struct irq_msi *msi)
{
	lock_take(&irq->routes_lock);
	/* The eventfd is ours and bound, so this cannot fail; a dead entry would be harmless. */
	int error = host_irqfd(irq->vm, msi->fd, msi->gsi, false);
	check(error == 0);
	irq->route[msi->gsi].type = 0;
	irq->gsi_free[msi->gsi] = true;
	lock_give(&irq->routes_lock);
	close(msi->fd);
	msi->fd = -1;
}

void irq_msi_set(struct irq *irq, struct irq_msi *msi, uint64_t addr, uint32_t data)
{
	route_message(irq, msi->gsi, addr, data);
}

void irq_msi_trigger(const struct irq_msi *msi)
{
	/* Full only after 2^64-2 triggers that nobody took: then the interrupt is pending anyway.
	 */
	(void)eventfd_write(msi->fd, 1);
}

/* ---- wires and chips ---- */

static void drive_wire(void *ctx, unsigned gsi, bool level)
{
	struct irq *irq = ctx;

	if (!irq->vm->split) {
		host_irq_line(irq->vm, gsi, level);
		return;
	}
	lock_take(&irq->chips_lock);
	if (gsi < PIC_WIRES) {
		pic_set_irq(&irq->pic, gsi, level);
	}
	ioapic_set_irq(&irq->ioapic, gsi == 0 ? 2 : gsi, level);
	lock_give(&irq->chips_lock);
}

struct irq_line irq_wire(struct irq *irq, unsigned gsi)
{
	check(gsi < WIRES);
	return (struct irq_line){.set = drive_wire, .ctx = irq, .pin = gsi};
}

/* The PIC's INTR output. Context: chips_lock. */
static void intr_changed(void *ctx, unsigned pin, bool level)
{
	struct irq *irq = ctx;

	(void)pin;
	/*
	 * Before the kick, as vCPU 0 clears the kick before it looks: no rise is missed. Pairs with
	 * the load in irq_pic_pending().
	 */
	atomic_store_explicit(&irq->intr, level, memory_order_seq_cst);
	if (level) {
		irq->kick(irq->ctx);
	}
}

bool irq_pic_pending(struct irq *irq)
{
	/* Pairs with the store in intr_changed(). */
	return atomic_load_explicit(&irq->intr, memory_order_seq_cst);
}

int irq_pic_ack(struct irq *irq)
{
	int vector = -1;

	lock_take(&irq->chips_lock);
	if (pic_intr(&irq->pic)) {
		vector = pic_ack(&irq->pic);
	}
	lock_give(&irq->chips_lock);
	return vector;
}

static void send_message(void *ctx, uint64_t addr, uint32_t data)
{
	struct irq *irq = ctx;

	host_signal_msi(irq->vm, addr, data);
}

/* Edge-triggered entries have no EOI to report, and so need no route. Context: chips_lock. */
static void redirection_changed(void *ctx, unsigned pin)
{
	struct irq *irq = ctx;
	uint64_t addr;
	uint32_t data;

	if (ioapic_msi(&irq->ioapic, pin, &addr, &data) && (data & MSI_DATA_LEVEL) != 0) {
		route_message(irq, pin, addr, data);
	}
}

static const struct ioapic_ops ioapic_ops = {
	.deliver = send_message,
	.changed = redirection_changed,
};

void irq_eoi(struct irq *irq, uint8_t vector)
{
	lock_take(&irq->chips_lock);
	ioapic_eoi(&irq->ioapic, vector);
	lock_give(&irq->chips_lock);
}

/* ---- the chips on the buses ---- */

static uint64_t pic_bus_read(void *dev, uint64_t offset, unsigned len, uint16_t port)
{
	struct irq *irq = dev;
	uint64_t value = 0;

	lock_take(&irq->chips_lock);
	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)pic_read(&irq->pic, (uint16_t)(port + offset + i)) << (8 * i);
	}
	lock_give(&irq->chips_lock);
	return value;
}

static void pic_bus_write(void *dev, uint64_t offset, unsigned len, uint64_t value, uint16_t port)
{
	struct irq *irq = dev;

	lock_take(&irq->chips_lock);
	for (unsigned i = 0; i < len; i++) {
		pic_write(&irq->pic, (uint16_t)(port + offset + i), (uint8_t)(value >> (8 * i)));
	}
	lock_give(&irq->chips_lock);
}

static uint64_t master_read(void *dev, uint64_t offset, unsigned len)
{
	return pic_bus_read(dev, offset, len, PIC_MASTER_COMMAND);
}

static void master_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	pic_bus_write(dev, offset, len, value, PIC_MASTER_COMMAND);
}

static uint64_t slave_read(void *dev, uint64_t offset, unsigned len)
{
	return pic_bus_read(dev, offset, len, PIC_SLAVE_COMMAND);
}

static void slave_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	pic_bus_write(dev, offset, len, value, PIC_SLAVE_COMMAND);
}

static uint64_t elcr_read(void *dev, uint64_t offset, unsigned len)
{
	return pic_bus_read(dev, offset, len, PIC_ELCR1);
}

static void elcr_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	pic_bus_write(dev, offset, len, value, PIC_ELCR1);
}

static const struct bus_ops master_ops = {.read = master_read, .write = master_write};
static const struct bus_ops slave_ops = {.read = slave_read, .write = slave_write};
static const struct bus_ops elcr_ops = {.read = elcr_read, .write = elcr_write};

static uint64_t ioapic_bus_read(void *dev, uint64_t offset, unsigned len)
{
	struct irq *irq = dev;
	uint64_t value;

	(void)len; /* the guest reads 32 bits; a wider read shows zeroes above */
	lock_take(&irq->chips_lock);
	value = ioapic_read(&irq->ioapic, offset);
	lock_give(&irq->chips_lock);
	return value;
}

static void ioapic_bus_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct irq *irq = dev;

	(void)len;
	lock_take(&irq->chips_lock);
	ioapic_write(&irq->ioapic, offset, (uint32_t)value);
	lock_give(&irq->chips_lock);
}

static const struct bus_ops ioapic_bus_ops = {.read = ioapic_bus_read, .write = ioapic_bus_write};

int irq_map(struct irq *irq, struct bus *pio, struct bus *mmio)
{
	int r = 0;

	if (!irq->vm->split) {
		return 0; /* the provider's chips serve these themselves */
	}
	r = bus_map(pio, PIC_MASTER_COMMAND, 2, &master_ops, irq);
	if (r == 0) {
		r = bus_map(pio, PIC_SLAVE_COMMAND, 2, &slave_ops, irq);
	}
	if (r == 0) {
		r = bus_map(pio, PIC_ELCR1, 2, &elcr_ops, irq);
	}
	if (r == 0) {
		r = bus_map(mmio, LAYOUT_IOAPIC, IOAPIC_PAGE, &ioapic_bus_ops, irq);
	}
	return r;
}

/* ---- doorbells ---- */

static int doorbell(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd,
		    uint32_t flags)
{
	struct kvm_ioeventfd spec = {
		.addr = addr.v,
		.len = len,
		.fd = fd,
		.datamatch = datamatch != NULL ? *datamatch : 0,
		.flags = flags | (datamatch != NULL ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
	};

	return host_ioeventfd(irq->vm, &spec);
}

int irq_doorbell_add(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd)
{
	int r = doorbell(irq, addr, len, datamatch, fd, 0);

	if (r != 0) {
		log_error("the provider refuses a doorbell at 0x%llx: %s",
			  (unsigned long long)addr.v, strerror(-r));
	}
	return r;
}

void irq_doorbell_del(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd)
{
	int r = doorbell(irq, addr, len, datamatch, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);

	check(r == 0); /* it was added with the same words */
}

/* ---- life ---- */

int irq_create(struct irq **out, struct host_vm *vm, void (*kick)(void *ctx), void *ctx)
{
	struct irq *irq = calloc(1, sizeof(*irq));
	struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + ROUTES_MAX * sizeof(table->entries[0]));

	if (irq == NULL || table == NULL) {
		free(irq);
		free(table);
		log_error("no memory for the interrupt routes");
		return -ENOMEM;
	}
	irq->vm = vm;
	irq->kick = kick;
	irq->ctx = ctx;
	irq->table = table;
	irq->gsi_end = WIRES;
	lock_init(&irq->chips_lock, LOCK_IRQ_CHIPS);
	lock_init(&irq->routes_lock, LOCK_IRQ_ROUTES);
	pic_init(&irq->pic, (struct irq_line){.set = intr_changed, .ctx = irq});
	ioapic_init(&irq->ioapic, &ioapic_ops, irq);
	if (!vm->split) {
		route_full_chips(irq);
	}
	*out = irq;
	return 0;
}

void irq_destroy(struct irq *irq)
{
	lock_fini(&irq->routes_lock);
	lock_fini(&irq->chips_lock);
	free(irq->table);
	free(irq);
}

void irq_state(struct irq *irq, struct state *s)
{
	lock_take(&irq->chips_lock);
	state_begin(s, "irq", 1);
	pic_state(&irq->pic, s);
	ioapic_state(&irq->ioapic, s);
	state_end(s);
	if (s->loading && s->error == 0) {
		intr_changed(irq, 0, pic_intr(&irq->pic));
	}
	lock_give(&irq->chips_lock);
}
