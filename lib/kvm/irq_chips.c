/* The interrupt half: the full irqchip's PIC, IOAPIC and PIT, and how a guest reaches them. */
#include <errno.h>

#include "lib/base/bytes.h"
#include "lib/kvm/irq_internal.h"

#define IOAPIC_BASE  UINT64_C(0xfec00000)
#define IOAPIC_BYTES 0x100

#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL	 BIT(15)
#define ENTRY_MASK	 BIT(16)

/* ---- wires ---- */

static uint8_t *sources_of(struct kvm_irq *irq, unsigned chip, unsigned pin)
{
	switch (chip) {
	case KVM_IRQCHIP_PIC_MASTER:
		return &irq->pic_sources[pin];
	case KVM_IRQCHIP_PIC_SLAVE:
		return &irq->pic_sources[8 + pin];
	default:
		return &irq->ioapic_sources[pin];
	}
}

/* What KVM_IRQ_LINE_STATUS tells: -1 masked, 0 coalesced with one before, else it was sent. */
static int set_ioapic(struct kvm_irq *irq, unsigned pin, bool level)
{
	bool was = (irq->ioapic.lines & BIT(pin)) != 0;
	bool edge = (irq->ioapic.redirection[pin] & ENTRY_LEVEL) == 0;

	irq->delivered = level ? (was && edge ? 0 : -1) : 1;
	ioapic_set_irq(&irq->ioapic, pin, level);
	return irq->delivered;
}

static int set_pic(struct kvm_irq *irq, unsigned chip, unsigned pin, bool level)
{
	bool slave = chip == KVM_IRQCHIP_PIC_SLAVE;
	const struct pic_chip *of = slave ? &irq->pic.slave : &irq->pic.master;
	bool waits = (of->irr & BIT(pin)) != 0;

	pic_set_irq(&irq->pic, pin + (slave ? 8 : 0), level);
	if ((of->imr & BIT(pin)) != 0) {
		return -1;
	}
	return level && waits ? 0 : 1;
}

int irq_chip_set(struct kvm_irq *irq, enum kvm_irq_source source, unsigned chip, unsigned pin,
		 bool level)
{
	uint8_t *sources = sources_of(irq, chip, pin);
	uint8_t bit = (uint8_t)(1u << source);

	*sources = (uint8_t)(level ? *sources | bit : *sources & ~bit);
	level = *sources != 0;
	return chip == KVM_IRQCHIP_IOAPIC ? set_ioapic(irq, pin, level)
					  : set_pic(irq, chip, pin, level);
}

static void deliver(void *ctx, uint64_t addr, uint32_t data)
{
	struct kvm_irq *irq = ctx;

	irq->delivered = irq_send_msi(irq, addr, data);
}

static void redirection_changed(void *ctx, unsigned pin)
{
	(void)ctx;
	(void)pin; /* nothing is derived from it */
}

static const struct ioapic_ops ioapic_ops = {
	.deliver = deliver,
	.changed = redirection_changed,
};

/* INTR rose: those look whom it reaches. */
static void intr_changed(void *ctx, unsigned pin, bool level)
{
	struct kvm_irq *irq = ctx;

	(void)pin;
	for (uint32_t i = 0; level && i < kvm_vm_count(irq->vm); i++) {
		if (lapic_takes_extint(irq->lapics[i])) {
			kvm_vcpu_request(kvm_vm_vcpu(irq->vm, i), KVM_REQ_EVENT);
		}
	}
}

void irq_chips_init(struct kvm_irq *irq)
{
	pic_init(&irq->pic, (struct irq_line){.set = intr_changed, .ctx = irq});
	/* The wires that are never levels (ICH9, ELCR) are known to the chip itself. */
	ioapic_init(&irq->ioapic, &ioapic_ops, irq);
}

/* ---- ends of service ---- */

/* Level-triggered pins whose interrupt @vector is in service. */
static uint32_t pins_in_service(const struct kvm_irq *irq, uint8_t vector)
{
	uint32_t pins = 0;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t entry = irq->ioapic.redirection[pin];

		if ((uint8_t)entry == vector && (entry & ENTRY_REMOTE_IRR) != 0) {
			pins |= (uint32_t)BIT(pin);
		}
	}
	return pins;
}

/* Those who wait for the EOI lower their wires before the IOAPIC looks at them again. */
void irq_chips_eoi(struct kvm_irq *irq, uint8_t vector)
{
	uint32_t pins;

	irq_lock(irq->vm);
	pins = pins_in_service(irq, vector);
	irq_unlock(irq->vm);
	irq_fd_acknowledged(irq, KVM_IRQCHIP_IOAPIC, pins);
	irq_lock(irq->vm);
	ioapic_eoi(&irq->ioapic, vector);
	irq_unlock(irq->vm);
}

struct pic_service {
	uint8_t master, slave;
};

static struct pic_service pic_service(const struct kvm_irq *irq)
{
	return (struct pic_service){irq->pic.master.isr, irq->pic.slave.isr};
}

/* Tells of what was in service @before and is not any more. */
static void pic_acknowledged(struct kvm_irq *irq, struct pic_service before, struct pic_service now)
{
	irq_fd_acknowledged(irq, KVM_IRQCHIP_PIC_MASTER, before.master & (uint8_t)~now.master);
	irq_fd_acknowledged(irq, KVM_IRQCHIP_PIC_SLAVE, before.slave & (uint8_t)~now.slave);
}

uint8_t irq_pic_accept(struct kvm_irq *irq)
{
	struct pic_service ended = {0};
	uint8_t vector;

	irq_lock(irq->vm);
	vector = pic_ack(&irq->pic);
	if (irq->pic.master.auto_eoi) {
		ended.master = (uint8_t)(1u << (vector & 7));
	}
	irq_unlock(irq->vm);
	pic_acknowledged(irq, ended, (struct pic_service){0});
	return vector;
}

/* ---- the PIT ---- */

/* Sets the timer to when OUT rises next. irq_lock is held. */
static void arm_pit(struct kvm_irq *irq)
{
	struct kvm_env *env = irq->vm->env;
	uint64_t deadline = pit_deadline(&irq->pit);

	if (deadline != UINT64_MAX) {
		kvm_ops(env)->timer_arm(env, &irq->pit_timer, deadline);
	}
}

static void pit_expired(struct kvm_timer *timer)
{
	struct kvm_irq *irq = timer->owner;

	irq_lock(irq->vm);
	pit_run(&irq->pit, kvm_ops(irq->vm->env)->now_ns(irq->vm->env));
	arm_pit(irq);
	irq_unlock(irq->vm);
}

static void pit_output(void *ctx, unsigned pin, bool level)
{
	(void)irq_set(ctx, KVM_SOURCE_PIT, pin, level);
}

int kvm_irq_create_pit(struct kvm_vm *vm, uint32_t flags)
{
	struct kvm_irq *irq = vm->irq;
	struct kvm_env *env = vm->env;

	if (irq->pit_there) {
		return -EEXIST;
	}
	irq->pit_timer.expired = pit_expired;
	irq->pit_timer.owner = irq;
	irq_lock(vm);
	pit_init(&irq->pit, (struct irq_line){.set = pit_output, .ctx = irq, .pin = 0},
		 kvm_ops(env)->now_ns(env));
	irq->speaker = (flags & KVM_PIT_SPEAKER_DUMMY) != 0;
	irq->pit_there = true;
	irq_unlock(vm);
	return 0;
}

/*
 * A tick that the guest had no time for becomes one with the next (lib/chip/pit.h), whatever is
 * asked for here: vCPUs do not wait for user space before they get one.
 */
int kvm_irq_reinject(const struct kvm_vm *vm)
{
	return vm->irq->pit_there ? 0 : -ENXIO;
}

/* ---- accesses ---- */

static uint8_t port_access(struct kvm_irq *irq, uint16_t port, uint8_t value, bool write, bool pit)
{
	uint64_t now = pit ? kvm_ops(irq->vm->env)->now_ns(irq->vm->env) : 0;

	if (!pit) {
		if (!write) {
			return pic_read(&irq->pic, port);
		}
		pic_write(&irq->pic, port, value);
	} else if (!write) {
		value = pit_read(&irq->pit, port, now);
	} else {
		pit_write(&irq->pit, port, value, now);
		arm_pit(irq);
	}
	return value;
}

bool kvm_irq_pio(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, void *data, bool write)
{
	struct kvm_irq *irq = vcpu->vm->irq;
	bool pic = (port & ~0x81u) == PIC_MASTER_COMMAND || (port & ~1u) == PIC_ELCR1;
	bool pit = (port & ~3u) == PIT_COUNTER0 || (port == PIT_PORT_B && irq->speaker);
	struct pic_service before, after;
	uint8_t value = *(const uint8_t *)data;

	if (vcpu->vm->irqchip != KVM_IRQCHIP_FULL || (!pic && !(pit && irq->pit_there))) {
		return false;
	}
	if (bytes != 1) {
		/* The chips have eight wires: wider accesses are nothing to them. */
		if (!write) {
			store_le(data, 0, bytes);
		}
		return true;
	}
	irq_lock(vcpu->vm);
	before = pic_service(irq);
	value = port_access(irq, port, value, write, pit);
	after = pic_service(irq);
	irq_unlock(vcpu->vm);
	if (!write) {
		*(uint8_t *)data = value;
	} else if (pic) {
		pic_acknowledged(irq, before, after);
		kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	}
	return true;
}

static bool ioapic_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data, bool write)
{
	struct kvm_irq *irq = vcpu->vm->irq;
	uint64_t offset = gpa - IOAPIC_BASE;

	if (vcpu->vm->irqchip != KVM_IRQCHIP_FULL || offset >= IOAPIC_BYTES) {
		return false;
	}
	if (write && offset == IOAPIC_EOIR) {
		/* Linux's IOAPIC has no such register; its guests do not look for one. */
		return true;
	}
	irq_lock(vcpu->vm);
	if (write) {
		ioapic_write(&irq->ioapic, offset, (uint32_t)load_le(data, MIN(bytes, 4u)));
	} else {
		store_le(data, ioapic_read(&irq->ioapic, offset), bytes);
	}
	irq_unlock(vcpu->vm);
	return true;
}

bool kvm_irq_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data, bool write)
{
	return irq_apic_mmio(vcpu, gpa, bytes, data, write) ||
	       ioapic_mmio(vcpu, gpa, bytes, data, write);
}
