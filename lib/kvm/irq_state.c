/* The interrupt half: KVM_GET and KVM_SET of PIC, IOAPIC and PIT. */
#include <errno.h>

#include "lib/kvm/irq_internal.h"

#define IOAPIC_BASE 0xfec00000

#define ELCR_MASTER 0xf8
#define ELCR_SLAVE  0xde

#define ENTRY_KNOWN	 UINT64_C(0xff0000000001ffff)
#define ENTRY_STATUS	 BIT(12)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_LEVEL	 BIT(15)

/* ---- PIC. init_state counts 0 for ready, then the words that are still to come. ---- */

static void get_pic(const struct pic_chip *chip, uint8_t elcr_mask, struct kvm_pic_state *state)
{
	*state = (struct kvm_pic_state){
		.last_irr = chip->lines,
		.irr = chip->irr,
		.imr = chip->imr,
		.isr = chip->isr,
		.priority_add = (chip->lowest + 1) & 7,
		.irq_base = chip->icw2,
		.read_reg_select = chip->read_isr,
		.poll = chip->poll,
		.special_mask = chip->special_mask,
		.init_state = chip->next_icw == 0 ? 0 : chip->next_icw - 1,
		.auto_eoi = chip->auto_eoi,
		.rotate_on_auto_eoi = chip->rotate_in_aeoi,
		.special_fully_nested_mode = chip->fully_nested,
		.init4 = chip->ic4,
		.elcr = chip->elcr,
		.elcr_mask = elcr_mask,
	};
}

static int set_pic(struct pic_chip *chip, uint8_t elcr_mask, const struct kvm_pic_state *state)
{
	if (state->priority_add > 7 || state->init_state > 3 || (state->irq_base & 7) != 0) {
		return -EINVAL;
	}
	*chip = (struct pic_chip){
		.lines = state->last_irr,
		.irr = state->irr,
		.imr = state->imr,
		.isr = state->isr,
		.elcr = state->elcr & elcr_mask,
		.icw2 = state->irq_base,
		.icw3 = chip->icw3,
		.next_icw = state->init_state == 0 ? 0 : (uint8_t)(state->init_state + 1),
		.lowest = (state->priority_add + 7) & 7,
		.ic4 = state->init4 != 0,
		.fully_nested = state->special_fully_nested_mode != 0,
		.auto_eoi = state->auto_eoi != 0,
		.rotate_in_aeoi = state->rotate_on_auto_eoi != 0,
		.special_mask = state->special_mask != 0,
		.read_isr = state->read_reg_select != 0,
		.poll = state->poll != 0,
	};
	return 0;
}

/* Has the chips look at their inputs again: a wire that is driven as it was does that. */
static void pic_look(struct pic *pic)
{
	__atomic_store_n(&pic->intr_level, false, __ATOMIC_RELAXED);
	pic_set_irq(pic, 0, (pic->master.lines & 1) != 0);
}

/* ---- IOAPIC ---- */

static void get_ioapic(const struct ioapic *ioapic, struct kvm_ioapic_state *state)
{
	*state = (struct kvm_ioapic_state){
		.base_address = IOAPIC_BASE,
		.ioregsel = ioapic->ioregsel,
		.id = ioapic->id,
		.irr = ioapic->lines,
	};
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		state->redirtbl[pin].bits = ioapic->redirection[pin];
	}
}

/* Wires that are high are driven anew, so that what waits behind a mask or an EOI goes on. */
static void set_ioapic(struct ioapic *ioapic, const struct kvm_ioapic_state *state)
{
	ioapic->ioregsel = (uint8_t)state->ioregsel;
	ioapic->id = state->id & 15;
	ioapic->lines = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t entry = state->redirtbl[pin].bits & ENTRY_KNOWN & ~ENTRY_STATUS;

		if ((entry & ENTRY_LEVEL) == 0) {
			entry &= ~ENTRY_REMOTE_IRR;
		}
		ioapic->redirection[pin] = entry;
	}
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((state->irr & BIT(pin)) != 0) {
			ioapic_set_irq(ioapic, pin, true);
		}
	}
}

int kvm_irq_get_chip(struct kvm_vm *vm, struct kvm_irqchip *chip)
{
	struct kvm_irq *irq = vm->irq;
	int error = 0;

	if (vm->irqchip != KVM_IRQCHIP_FULL) {
		return -ENXIO;
	}
	irq_lock(vm);
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
		get_pic(&irq->pic.master, ELCR_MASTER, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_PIC_SLAVE:
		get_pic(&irq->pic.slave, ELCR_SLAVE, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		get_ioapic(&irq->ioapic, &chip->chip.ioapic);
		break;
	default:
		error = -EINVAL;
		break;
	}
	irq_unlock(vm);
	return error;
}

int kvm_irq_set_chip(struct kvm_vm *vm, const struct kvm_irqchip *chip)
{
	struct kvm_irq *irq = vm->irq;
	int error = 0;

	if (vm->irqchip != KVM_IRQCHIP_FULL) {
		return -ENXIO;
	}
	irq_lock(vm);
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
		error = set_pic(&irq->pic.master, ELCR_MASTER, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_PIC_SLAVE:
		error = set_pic(&irq->pic.slave, ELCR_SLAVE, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		set_ioapic(&irq->ioapic, &chip->chip.ioapic);
		break;
	default:
		error = -EINVAL;
		break;
	}
	if (error == 0 && chip->chip_id != KVM_IRQCHIP_IOAPIC) {
		pic_look(&irq->pic);
	}
	irq_unlock(vm);
	return error;
}

/* ---- PIT ---- */

#define NS_PER_S UINT64_C(1000000000)

#define CONTROL_BCD BIT(0)
#define RW_BOTH	    3

/* As the registers have it: 0 for the highest count. */
static uint32_t count_of(const struct pit_counter *c)
{
	return c->reload & 0xffff;
}

static void get_counter(const struct pit_counter *c, uint64_t now_ns,
			struct kvm_pit_channel_state *state)
{
	uint32_t passed = c->running && c->count < c->reload ? c->reload - c->count : 0;

	*state = (struct kvm_pit_channel_state){
		.count = count_of(c),
		.latched_count = c->latch,
		.count_latched = c->count_latched ? c->control >> 4 & 3 : 0,
		.status_latched = c->status_latched,
		.status = c->status,
		.read_state = c->read_msb ? 4 : c->control >> 4 & 3,
		.write_state = c->write_msb ? 4 : c->control >> 4 & 3,
		.write_latch = c->write_lsb,
		.rw_mode = c->control >> 4 & 3,
		.mode = c->control >> 1 & 7,
		.bcd = c->control & CONTROL_BCD,
		.gate = c->gate,
		.count_load_time = (int64_t)(now_ns - passed * NS_PER_S / PIT_HZ),
	};
}

int kvm_irq_get_pit(struct kvm_vm *vm, struct kvm_pit_state2 *state)
{
	struct kvm_irq *irq = vm->irq;
	uint64_t now = kvm_ops(vm->env)->now_ns(vm->env);

	if (!irq->pit_there) {
		return -ENXIO;
	}
	irq_lock(vm);
	pit_run(&irq->pit, now);
	*state = (struct kvm_pit_state2){0};
	for (unsigned i = 0; i < 3; i++) {
		get_counter(&irq->pit.counter[i], now, &state->channels[i]);
	}
	state->flags = (irq->pit.port_b & 2) != 0 ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0;
	irq_unlock(vm);
	return 0;
}

/*
 * The counter starts with its count anew, as Linux has it; by its own registers, so that it can
 * only come into states that it knows.
 */
static void set_counter(struct pit *pit, unsigned i, const struct kvm_pit_channel_state *state,
			uint64_t now)
{
	struct pit_counter *c = &pit->counter[i];
	uint16_t port = (uint16_t)(PIT_COUNTER0 + i);
	uint8_t mode = state->mode & 7;
	uint8_t bcd = state->bcd != 0 ? CONTROL_BCD : 0;
	uint8_t rw = state->rw_mode & RW_BOTH;

	if (rw == 0) {
		rw = RW_BOTH; /* never programmed, in Linux's model */
	}
	if (i != 2) {
		c->gate = true;
	}
	pit_write(pit, PIT_CONTROL, (uint8_t)(i << 6 | RW_BOTH << 4 | mode << 1 | bcd), now);
	pit_write(pit, port, (uint8_t)state->count, now);
	pit_write(pit, port, (uint8_t)(state->count >> 8), now);
	c->control = (uint8_t)(rw << 4 | mode << 1 | bcd);
	c->read_msb = rw == RW_BOTH && state->read_state == 4;
	c->write_msb = rw == RW_BOTH && state->write_state == 4;
	c->write_lsb = state->write_latch;
	c->count_latched = state->count_latched != 0;
	c->latch = state->latched_count;
	c->status_latched = state->status_latched != 0;
	c->status = state->status;
}

int kvm_irq_set_pit(struct kvm_vm *vm, const struct kvm_pit_state2 *state)
{
	struct kvm_irq *irq = vm->irq;
	uint64_t now = kvm_ops(vm->env)->now_ns(vm->env), deadline;
	uint8_t port_b = 0;

	if (!irq->pit_there) {
		return -ENXIO;
	}
	port_b = (uint8_t)((state->channels[2].gate != 0 ? 1 : 0) |
			   ((state->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0 ? 2 : 0));
	irq_lock(vm);
	pit_write(&irq->pit, PIT_PORT_B, port_b, now);
	for (unsigned i = 0; i < 3; i++) {
		set_counter(&irq->pit, i, &state->channels[i], now);
	}
	pit_run(&irq->pit, now);
	deadline = pit_deadline(&irq->pit);
	if (deadline != UINT64_MAX) {
		kvm_ops(vm->env)->timer_arm(vm->env, &irq->pit_timer, deadline);
	}
	irq_unlock(vm);
	return 0;
}
