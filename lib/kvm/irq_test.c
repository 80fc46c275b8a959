/* The interrupt half over a made-up VM: its vCPUs only record what they are asked for. */
#include "lib/kvm/irq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/chip/lapic.h"
#include "lib/kvm/backend.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/vcpu.h"
#include "tests/unit.h"

#define CPUS   2
#define EVENTS 4

/* ---- surroundings ---- */

struct event {
	unsigned holders, signals;
	struct kvm_eventfd_watch *watch;
};

static uint64_t now;
static int64_t allocated;
static struct kvm_timer *timer[8];
static uint64_t deadline[8];
static struct event events[EVENTS];
static unsigned nmis, eoi_exits, resets, sipi_page;
static uint8_t eoi_vector;
static int locked;

static void *env_alloc(struct kvm_env *env, enum kvm_store kind, size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	(void)env;
	(void)kind;
	assert_non_null(p);
	memset(p, 0, bytes);
	allocated += (int64_t)bytes;
	return p;
}

static void env_free(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes)
{
	(void)env;
	(void)kind;
	allocated -= (int64_t)bytes;
	free(p);
}

static void env_lock_init(struct kvm_env *env, struct kvm_lock *lock, enum kvm_lock_kind kind)
{
	(void)env;
	lock->opaque[0] = 0;
	lock->opaque[1] = kind;
}

static void env_lock_fini(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	assert_int_equal(lock->opaque[0], 0);
}

static void env_lock(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	assert_int_equal(lock->opaque[0], 0);
	if (lock->opaque[1] == KVM_LOCK_SPIN) {
		locked++;
	} else {
		assert_int_equal(locked, 0); /* who holds a spin lock does not sleep */
	}
	lock->opaque[0] = 1;
}

static void env_unlock(struct kvm_env *env, struct kvm_lock *lock)
{
	(void)env;
	assert_int_equal(lock->opaque[0], 1);
	lock->opaque[0] = 0;
	locked -= lock->opaque[1] == KVM_LOCK_SPIN;
}

static uint64_t env_now(struct kvm_env *env)
{
	(void)env;
	return now;
}

static unsigned timer_place(struct kvm_timer *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(timer); i++) {
		if (timer[i] == t || timer[i] == NULL) {
			timer[i] = t;
			return i;
		}
	}
	fail();
	return 0;
}

static void env_timer_arm(struct kvm_env *env, struct kvm_timer *t, uint64_t at)
{
	(void)env;
	deadline[timer_place(t)] = at;
}

static void env_timer_cancel(struct kvm_env *env, struct kvm_timer *t)
{
	(void)env;
	deadline[timer_place(t)] = UINT64_MAX;
}

static int env_eventfd_get(struct kvm_env *env, int fd, void **eventfd)
{
	(void)env;
	if (fd < 0 || fd >= EVENTS) {
		return -EBADF;
	}
	events[fd].holders++;
	*eventfd = &events[fd];
	return 0;
}

static void env_eventfd_put(struct kvm_env *env, void *eventfd)
{
	struct event *e = eventfd;

	(void)env;
	assert_true(e->holders > 0);
	e->holders--;
}

static void env_eventfd_signal(struct kvm_env *env, void *eventfd)
{
	struct event *e = eventfd;

	(void)env;
	assert_int_equal(locked, 0);
	e->signals++;
}

static int env_eventfd_watch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct event *e = eventfd;

	(void)env;
	e->watch = watch;
	if (e->signals != 0) {
		e->signals = 0;
		watch->signalled(watch);
	}
	return 0;
}

static void env_eventfd_unwatch(struct kvm_env *env, void *eventfd, struct kvm_eventfd_watch *watch)
{
	struct event *e = eventfd;

	(void)env;
	assert_ptr_equal(e->watch, watch);
	e->watch = NULL;
}

static const struct kvm_env_ops env_ops = {
	.alloc = env_alloc,
	.free = env_free,
	.lock_init = env_lock_init,
	.lock_fini = env_lock_fini,
	.lock = env_lock,
	.unlock = env_unlock,
	.now_ns = env_now,
	.timer_arm = env_timer_arm,
	.timer_cancel = env_timer_cancel,
	.eventfd_get = env_eventfd_get,
	.eventfd_put = env_eventfd_put,
	.eventfd_signal = env_eventfd_signal,
	.eventfd_watch = env_eventfd_watch,
	.eventfd_unwatch = env_eventfd_unwatch,
};

static struct kvm_backend backend;
static struct kvm_env env = {
	.ops = &env_ops, .backend = &backend, .max_vcpus = 8, .tsc_khz = 2000000};

/* ---- what the vCPUs are asked for ---- */

void kvm_vcpu_request(struct kvm_vcpu *vcpu, enum kvm_request request)
{
	kvm_vcpu_note(vcpu, request);
}

void kvm_vcpu_nmi(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	nmis++;
}

void kvm_vcpu_eoi_exit(struct kvm_vcpu *vcpu, uint8_t vector)
{
	(void)vcpu;
	eoi_exits++;
	eoi_vector = vector;
}

void kvm_vcpu_init_reset(struct kvm_vcpu *vcpu)
{
	resets++;
	kvm_irq_vcpu_reset(vcpu, true);
}

void kvm_vcpu_sipi(struct kvm_vcpu *vcpu, uint8_t page)
{
	(void)vcpu;
	sipi_page = page;
}

uint64_t kvm_vcpu_guest_tsc(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return 2 * now;
}

#define HOST_TSC_AHEAD 100

uint64_t kvm_clock_host_tsc(struct kvm_vcpu *vcpu, uint64_t tsc, uint64_t at)
{
	(void)vcpu;
	(void)at;
	return tsc + HOST_TSC_AHEAD;
}

bool kvm_cpuid_has(const struct kvm_vcpu *vcpu, uint32_t leaf, enum cpuid_reg reg, uint32_t bits)
{
	(void)vcpu;
	(void)leaf;
	(void)reg;
	(void)bits;
	return true;
}

void kvm_cpuid_refresh(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
}

/* ---- a VM ---- */

struct fixture {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu[CPUS];
	struct kvm_vcpu *list[CPUS];
};

static void add_vcpu(struct fixture *f, unsigned i)
{
	f->vcpu[i] = (struct kvm_vcpu){.vm = &f->vm, .env = &env, .id = i, .index = i};
	f->vcpu[i].tsc_khz = 2000000;
	f->vcpu[i].features.phys_bits = 40;
	f->list[i] = &f->vcpu[i];
	assert_int_equal(kvm_irq_vcpu_init(&f->vcpu[i]), 0);
	f->vm.vcpu_count = i + 1;
}

static int accept_irq(struct kvm_vcpu *vcpu)
{
	bool more;
	int vector = kvm_irq_accept(vcpu, &more);

	if (!more) {
		assert_int_equal(kvm_irq_pending(vcpu), -1);
	}
	return vector;
}

static struct fixture *start(enum kvm_irqchip_form form)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	now = 1000000;
	memset(timer, 0, sizeof(timer));
	memset(deadline, 0xff, sizeof(deadline));
	memset(events, 0, sizeof(events));
	nmis = eoi_exits = resets = sipi_page = 0;
	f->vm.env = &env;
	f->vm.vcpus = f->list;
	env_lock_init(&env, &f->vm.irq_lock, KVM_LOCK_SPIN);
	assert_int_equal(kvm_irq_vm_init(&f->vm), 0);
	if (form == KVM_IRQCHIP_FULL) {
		assert_int_equal(kvm_irq_create_full(&f->vm), 0);
	} else if (form == KVM_IRQCHIP_SPLIT) {
		assert_int_equal(kvm_irq_create_split(&f->vm, 24), 0);
	}
	for (unsigned i = 0; i < CPUS; i++) {
		add_vcpu(f, i);
	}
	return f;
}

/* Runs those timers whose time has come. */
static void run_timers(uint64_t until)
{
	now = until;
	for (unsigned i = 0; i < ARRAY_SIZE(timer); i++) {
		if (timer[i] != NULL && deadline[i] <= now) {
			deadline[i] = UINT64_MAX;
			timer[i]->expired(timer[i]);
		}
	}
}

static void finish(struct fixture *f)
{
	kvm_irq_vm_closed(&f->vm);
	kvm_irq_vm_stop(&f->vm);
	for (unsigned i = 0; i < CPUS; i++) {
		kvm_irq_vcpu_fini(&f->vcpu[i]);
	}
	run_timers(now + UINT64_C(1000000000000)); /* none is left that looks for them */
	kvm_irq_vm_fini(&f->vm);
	env_lock_fini(&env, &f->vm.irq_lock);
	for (unsigned i = 0; i < EVENTS; i++) {
		assert_int_equal(events[i].holders, 0);
		assert_null(events[i].watch);
	}
	assert_int_equal(allocated, 0);
	free(f);
}

static void apic_write(struct fixture *f, unsigned cpu, uint32_t offset, uint32_t value)
{
	uint8_t data[4];

	store_le32(data, value);
	assert_true(kvm_irq_mmio(&f->vcpu[cpu], LAPIC_BASE + offset, 4, data, true));
}

static uint32_t apic_read(struct fixture *f, unsigned cpu, uint32_t offset)
{
	uint8_t data[4];

	assert_true(kvm_irq_mmio(&f->vcpu[cpu], LAPIC_BASE + offset, 4, data, false));
	return load_le32(data);
}

static void ioapic_write(struct fixture *f, uint8_t reg, uint32_t value)
{
	uint8_t data[4];

	store_le32(data, reg);
	assert_true(kvm_irq_mmio(&f->vcpu[0], 0xfec00000, 4, data, true));
	store_le32(data, value);
	assert_true(kvm_irq_mmio(&f->vcpu[0], 0xfec00010, 4, data, true));
}

static void out(struct fixture *f, uint16_t port, uint8_t value)
{
	assert_true(kvm_irq_pio(&f->vcpu[0], port, 1, &value, true));
}

static int line(struct fixture *f, uint32_t gsi, bool level)
{
	int status = 99;

	assert_int_equal(kvm_irq_line(&f->vm, gsi, level, &status), 0);
	return status;
}

static struct kvm_irq_routing_entry msi_entry(uint32_t gsi, uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = 0xfee00000, .data = data},
	};
}

static struct kvm_irq_routing_entry pin_entry(uint32_t gsi, uint32_t chip, uint32_t pin)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

/* ---- making ---- */

static void forms_exclude_each_other(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);

	(void)state;
	assert_int_equal(kvm_irq_create_full(&f->vm), -EEXIST);
	assert_int_equal(kvm_irq_create_split(&f->vm, 24), -EEXIST);
	finish(f);
	f = start(KVM_IRQCHIP_NONE);
	assert_int_equal(kvm_irq_create_full(&f->vm), -EINVAL); /* there are vCPUs */
	assert_int_equal(kvm_irq_create_split(&f->vm, 24), -EEXIST);
	assert_int_equal(kvm_irq_create_split(&f->vm, 1u << 20), -EINVAL);
	finish(f);
}

static void nothing_without_chips(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_NONE);
	struct kvm_irq_routing_entry entry = msi_entry(1, 0x40);
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x40};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_irqfd irqfd = {.fd = 0, .gsi = 1};
	struct kvm_lapic_state lapic;
	uint8_t data[4] = {0};
	int status;

	(void)state;
	assert_int_equal(kvm_irq_line(&f->vm, 1, true, &status), -ENXIO);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &entry, 1, 0), -EINVAL);
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), -EINVAL);
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), -ENXIO);
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), -EINVAL);
	assert_int_equal(kvm_irq_get_lapic(&f->vcpu[0], &lapic), -EINVAL);
	assert_false(kvm_irq_mmio(&f->vcpu[0], LAPIC_BASE, 4, data, false));
	assert_false(kvm_irq_mmio(&f->vcpu[0], 0xfec00000, 4, data, false));
	assert_false(kvm_irq_pio(&f->vcpu[0], 0x20, 1, data, false));
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), -1);
	assert_int_equal(kvm_irq_apic_base(&f->vcpu[0]), 0xfee00900);
	assert_int_equal(kvm_irq_apic_base(&f->vcpu[1]), 0xfee00800);
	finish(f);
}

/* ---- wires ---- */

static void pic_reaches_the_first_cpu(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);

	(void)state;
	out(f, 0x20, 0x11);
	out(f, 0x21, 0x20);
	out(f, 0x21, 0x04);
	out(f, 0x21, 0x01);
	f->vcpu[0].requests = f->vcpu[1].requests = 0;
	assert_int_equal(line(f, 4, true), 1); /* the IOAPIC's pin is masked, that counts not */
	assert_true(kvm_vcpu_take(&f->vcpu[0], KVM_REQ_EVENT));
	assert_false(kvm_vcpu_take(&f->vcpu[1], KVM_REQ_EVENT));
	assert_true(kvm_irq_pending(&f->vcpu[0]) >= 0);
	assert_int_equal(kvm_irq_pending(&f->vcpu[1]), -1);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x24);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	finish(f);
}

static void level_comes_again_until_it_falls(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);

	(void)state;
	apic_write(f, 1, LAPIC_SVR, 0x1ff);
	ioapic_write(f, 0x10 + 2 * 20 + 1, 0x01000000);
	ioapic_write(f, 0x10 + 2 * 20, 0x8051);
	assert_int_equal(line(f, 20, true), 1);
	assert_int_equal(accept_irq(&f->vcpu[1]), 0x51);
	assert_int_equal(line(f, 20, true), -1); /* in service */
	apic_write(f, 1, LAPIC_EOI, 0);
	assert_int_equal(accept_irq(&f->vcpu[1]), 0x51);
	assert_int_equal(line(f, 20, false), 1);
	apic_write(f, 1, LAPIC_EOI, 0);
	assert_int_equal(accept_irq(&f->vcpu[1]), -1);
	finish(f);
}

static void status_of_edges(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	assert_int_equal(line(f, 17, true), -1); /* masked */
	assert_int_equal(line(f, 17, false), 1);
	ioapic_write(f, 0x10 + 2 * 17, 0x51);
	assert_int_equal(line(f, 17, true), 1);
	assert_int_equal(line(f, 17, true), 0);
	assert_int_equal(line(f, 24, true), -1);
	assert_int_equal(line(f, UINT32_MAX, true), -1);
	finish(f);
}

/* ---- routes ---- */

static void routes_are_checked(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irq_routing_entry two[2] = {msi_entry(30, 0x61), pin_entry(5, 2, 9)};
	struct kvm_irq_routing_entry bad;

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	assert_int_equal(kvm_irq_set_routing(&f->vm, two, 2, 0), 0);
	bad = pin_entry(1, KVM_IRQCHIP_IOAPIC, 24);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	bad = pin_entry(1, KVM_IRQCHIP_PIC_SLAVE, 8);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	bad = pin_entry(1, 3, 0);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	bad = pin_entry(KVM_MAX_IRQ_ROUTES, 2, 0);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	bad = msi_entry(3, 0x40);
	bad.flags = 0x8000;
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	bad.flags = 0;
	bad.type = 77;
	assert_int_equal(kvm_irq_set_routing(&f->vm, &bad, 1, 0), -EINVAL);
	assert_int_equal(kvm_irq_set_routing(&f->vm, two, 2, 1), -EINVAL);
	two[1] = two[0];
	assert_int_equal(kvm_irq_set_routing(&f->vm, two, 2, 0), -EINVAL);
	assert_int_equal(line(f, 30, true), 1); /* the first table is in force still */
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x61);
	assert_int_equal(kvm_irq_set_routing(&f->vm, NULL, 0, 0), 0);
	assert_int_equal(line(f, 30, true), -1);
	finish(f);
}

static void one_line_to_three_chips(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irq_routing_entry e[4] = {pin_entry(7, 0, 1), pin_entry(3, 2, 3),
					     pin_entry(7, 1, 1), pin_entry(7, 2, 1)};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_SLAVE};

	(void)state;
	assert_int_equal(kvm_irq_set_routing(&f->vm, e, 4, 0), 0);
	(void)line(f, 7, true);
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), 0);
	assert_int_equal(chip.chip.pic.irr, 0x02);
	chip.chip_id = KVM_IRQCHIP_IOAPIC;
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), 0);
	assert_int_equal(chip.chip.ioapic.irr, 0x02);
	chip.chip_id = 3;
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), -EINVAL);
	assert_int_equal(kvm_irq_set_chip(&f->vm, &chip), -EINVAL);
	finish(f);
}

static void split_tells_of_levels_only(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_irq_routing_entry e[3] = {msi_entry(4, 0xc071), msi_entry(5, 0x72),
					     msi_entry(24, 0xc073)};

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	assert_int_equal(kvm_irq_set_routing(&f->vm, e, 3, 0), 0);
	for (uint32_t gsi = 4; gsi < 25; gsi += gsi == 4 ? 1 : 19) {
		assert_int_equal(line(f, gsi, true), 1);
		assert_true(accept_irq(&f->vcpu[0]) > 0x70);
		apic_write(f, 0, LAPIC_EOI, 0);
	}
	assert_int_equal(eoi_exits, 1); /* 5 is an edge, 24 none of user space's pins */
	assert_int_equal(eoi_vector, 0x71);
	e[0] = pin_entry(1, KVM_IRQCHIP_IOAPIC, 1);
	assert_int_equal(kvm_irq_set_routing(&f->vm, e, 1, 0), -EINVAL);
	finish(f);
}

static void messages_are_counted(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_msi msi = {.address_lo = 0xfeeff000, .data = 0x45};

	(void)state;
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), -1); /* both APICs are off */
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 1, LAPIC_SVR, 0x1ff);
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), 2);
	msi.address_lo = 0xfee01000;
	msi.data = 0x400;
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), 1);
	assert_int_equal(nmis, 1);
	msi.flags = 1;
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), -EINVAL);
	msi.flags = 0;
	msi.address_hi = 1;
	kvm_irq_x2apic_api(&f->vm, KVM_X2APIC_API_USE_32BIT_IDS);
	assert_int_equal(kvm_irq_signal_msi(&f->vm, &msi), -EINVAL);
	finish(f);
}

/* ---- irqfds ---- */

static void signal_event(unsigned i)
{
	events[i].watch->signalled(events[i].watch);
}

static void irqfd_edges(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_irq_routing_entry entry = msi_entry(9, 0x45);
	struct kvm_irqfd irqfd = {.fd = 1, .gsi = 9};

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &entry, 1, 0), 0);
	events[1].signals = 1; /* written before */
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x45);
	apic_write(f, 0, LAPIC_EOI, 0);
	signal_event(1);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x45);
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), -EBUSY);
	irqfd.fd = 77;
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), -EBADF);
	irqfd.fd = 2;
	irqfd.flags = 0x80;
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), -EINVAL);
	irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), -EINVAL); /* split */
	irqfd = (struct kvm_irqfd){.fd = 1, .gsi = 10, .flags = KVM_IRQFD_FLAG_DEASSIGN};
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	assert_non_null(events[1].watch); /* that was another line */
	irqfd.gsi = 9;
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	assert_null(events[1].watch);
	finish(f);
}

/* An irqfd remembers where its message goes; nothing may change that without its knowing. */
static void irqfd_follows(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_irq_routing_entry entry = msi_entry(9, 0x45);
	struct kvm_irqfd irqfd = {.fd = 1, .gsi = 9};

	(void)state;
	for (unsigned i = 0; i < CPUS; i++) {
		apic_write(f, i, LAPIC_SVR, 0x1ff);
	}
	assert_int_equal(kvm_irq_set_routing(&f->vm, &entry, 1, 0), 0);
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	for (unsigned i = 0; i < 2; i++) { /* twice: the second time it is known */
		signal_event(1);
		assert_int_equal(accept_irq(&f->vcpu[0]), 0x45);
		apic_write(f, 0, LAPIC_EOI, 0);
	}
	apic_write(f, 0, LAPIC_ID, 7u << 24);
	signal_event(1);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	apic_write(f, 1, LAPIC_ID, 0);
	for (unsigned i = 0; i < 2; i++) {
		signal_event(1);
		assert_int_equal(accept_irq(&f->vcpu[1]), 0x45);
		apic_write(f, 1, LAPIC_EOI, 0);
	}
	apic_write(f, 0, LAPIC_ID, 0); /* both */
	for (unsigned i = 0; i < 2; i++) {
		signal_event(1);
		for (unsigned cpu = 0; cpu < 2; cpu++) {
			assert_int_equal(accept_irq(&f->vcpu[cpu]), 0x45);
			apic_write(f, cpu, LAPIC_EOI, 0);
		}
	}
	apic_write(f, 1, LAPIC_ID, 1u << 24);
	signal_event(1);
	assert_int_equal(accept_irq(&f->vcpu[1]), -1);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x45);
	apic_write(f, 0, LAPIC_EOI, 0);
	entry = msi_entry(9, 0x46);
	assert_int_equal(kvm_irq_set_routing(&f->vm, &entry, 1, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		signal_event(1);
		assert_int_equal(accept_irq(&f->vcpu[0]), 0x46);
		apic_write(f, 0, LAPIC_EOI, 0);
	}
	assert_int_equal(kvm_irq_set_routing(&f->vm, &entry, 0, 0), 0);
	signal_event(1);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	finish(f);
}

static void irqfd_resamples(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irqfd irqfd = {
		.fd = 0, .gsi = 20, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = 1};

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	ioapic_write(f, 0x10 + 2 * 20, 0x8051);
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	irqfd.fd = 2;
	irqfd.resamplefd = 3;
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	for (unsigned i = 1; i <= 3; i++) {
		signal_event(0);
		assert_int_equal(accept_irq(&f->vcpu[0]), 0x51);
		apic_write(f, 0, LAPIC_EOI, 0);
		assert_int_equal(events[1].signals, i);
		assert_int_equal(events[3].signals, i);
		assert_int_equal(accept_irq(&f->vcpu[0]), -1); /* the line is down */
	}
	signal_event(0);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x51);
	(void)line(f, 20, true); /* another source of the same wire */
	apic_write(f, 0, LAPIC_EOI, 0);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x51);
	irqfd = (struct kvm_irqfd){.fd = 0, .gsi = 20, .flags = KVM_IRQFD_FLAG_DEASSIGN};
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	assert_null(events[0].watch);
	assert_int_equal(events[1].holders, 0);
	finish(f);
}

static void pic_eoi_resamples(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irqfd irqfd = {
		.fd = 0, .gsi = 5, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = 1};

	(void)state;
	out(f, 0x20, 0x11);
	out(f, 0x21, 0x20);
	out(f, 0x21, 0x04);
	out(f, 0x21, 0x01);
	out(f, 0x4d0, 0x20);
	assert_int_equal(kvm_irq_irqfd(&f->vm, &irqfd), 0);
	signal_event(0);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x25);
	assert_int_equal(events[1].signals, 0);
	out(f, 0x20, 0x20);
	assert_int_equal(events[1].signals, 1);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	finish(f);
}

/* ---- local APICs ---- */

static void timer_expires(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_TIMER_DIVIDE, 0xb);
	apic_write(f, 0, LAPIC_LVT_TIMER, 0x66);
	apic_write(f, 0, LAPIC_TIMER_INITIAL, 5000);
	now += 1000;
	assert_int_equal(apic_read(f, 0, LAPIC_TIMER_CURRENT), 4000);
	f->vcpu[0].requests = 0;
	run_timers(now + 3999);
	assert_false(kvm_vcpu_take(&f->vcpu[0], KVM_REQ_EVENT));
	run_timers(now + 1);
	assert_true(kvm_vcpu_take(&f->vcpu[0], KVM_REQ_EVENT));
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), -1); /* by its own thread only */
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x66);
	apic_write(f, 0, LAPIC_EOI, 0);
	apic_write(f, 0, LAPIC_LVT_TIMER, 0x40067);
	kvm_irq_set_tsc_deadline(&f->vcpu[0], 2 * now + 2000);
	assert_int_equal(kvm_irq_tsc_deadline(&f->vcpu[0]), 2 * now + 2000);
	run_timers(now + 1000);
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x67);
	assert_int_equal(kvm_irq_tsc_deadline(&f->vcpu[0]), 0);
	finish(f);
}

#define DEADLINE_NS 100000

/* How much earlier than asked the timer of vCPU 0 is set. The deadline passes, as if the backend
 * had found @left ticks of it. */
static uint64_t earliness(struct fixture *f, int64_t left)
{
	uint64_t due = now + DEADLINE_NS, early_ns;

	kvm_irq_set_tsc_deadline(&f->vcpu[0], 2 * due);
	early_ns = due - deadline[0];
	run_timers(deadline[0] - 1);
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	run_timers(now + 1);
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x67);
	assert_int_equal(kvm_irq_tsc_deadline(&f->vcpu[0]), 0);
	assert_int_equal(f->vcpu[0].not_before, early_ns == 0 ? 0 : 2 * due + HOST_TSC_AHEAD);
	apic_write(f, 0, LAPIC_EOI, 0);
	f->vcpu[0].not_before = 0;
	f->vcpu[0].early = left;
	now = due;
	return early_ns;
}

static void deadlines_are_prepared(void **state)
{
	struct fixture *f;
	uint64_t first, next;

	(void)state;
	backend.waits = true;
	f = start(KVM_IRQCHIP_SPLIT);
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_LVT_TIMER, 0x40067);
	first = earliness(f, -2 * 600);
	assert_in_range(first, 500, 2000);
	next = earliness(f, 2 * 50); /* after one that was 600 ns late */
	assert_in_range(next, first + 600, first + 700);
	assert_int_equal(earliness(f, -2 * 50000), next); /* just right */
	assert_int_equal(earliness(f, 2 * 800), next);	  /* that was not the timer's fault */
	assert_in_range(earliness(f, 0), next - 400, next - 10);
	for (unsigned i = 0; i < 10; i++) {
		assert_in_range(earliness(f, -2 * 4000), 0, 5000);
	}
	assert_int_equal(earliness(f, 0), 5000);
	for (unsigned i = 0; i < 200; i++) {
		(void)earliness(f, 2 * 5000);
	}
	assert_int_equal(earliness(f, 0), 0);
	finish(f);
	backend.waits = false;
	f = start(KVM_IRQCHIP_SPLIT);
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_LVT_TIMER, 0x40067);
	assert_int_equal(earliness(f, 0), 0);
	finish(f);
}

/* A timer that expires for another deadline, or too soon, takes none away and brings none. */
static void deadlines_survive_other_timers(void **state)
{
	struct fixture *f;
	uint64_t due;

	(void)state;
	backend.waits = true;
	f = start(KVM_IRQCHIP_SPLIT);
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_LVT_TIMER, 0x40067);
	due = now + DEADLINE_NS;
	kvm_irq_set_tsc_deadline(&f->vcpu[0], 2 * due);
	run_timers(deadline[0]);
	due = now + DEADLINE_NS; /* a new one, before the interrupt of the old one was seen */
	kvm_irq_set_tsc_deadline(&f->vcpu[0], 2 * due);
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	assert_int_equal(f->vcpu[0].not_before, 0);
	assert_in_range(deadline[0], due - 5000, due);
	run_timers(due);
	kvm_irq_sync(&f->vcpu[0]);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x67);
	assert_int_equal(f->vcpu[0].not_before, 0); /* it is over */
	finish(f);
	backend.waits = false;
}

static void init_and_sipi(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);

	(void)state;
	f->vcpu[1].mp_state = KVM_MP_STATE_UNINITIALIZED;
	apic_write(f, 0, LAPIC_ICR_HIGH, 0x01000000);
	apic_write(f, 0, LAPIC_ICR, 0x612);
	assert_true(kvm_irq_has_init_sipi(&f->vcpu[1]));
	kvm_irq_take_init_sipi(&f->vcpu[1]); /* a SIPI alone is nothing to it */
	assert_int_equal(sipi_page, 0);
	apic_write(f, 0, LAPIC_ICR, 0x612);
	apic_write(f, 0, LAPIC_ICR, 0x4500); /* INIT forgets the SIPI */
	kvm_irq_take_init_sipi(&f->vcpu[1]);
	assert_int_equal(resets, 1);
	assert_int_equal(f->vcpu[1].mp_state, KVM_MP_STATE_INIT_RECEIVED);
	apic_write(f, 0, LAPIC_ICR, 0x634);
	kvm_irq_take_init_sipi(&f->vcpu[1]);
	assert_int_equal(sipi_page, 0x34);
	assert_int_equal(f->vcpu[1].mp_state, KVM_MP_STATE_RUNNABLE);
	assert_false(kvm_irq_has_init_sipi(&f->vcpu[1]));
	finish(f);
}

static void kvm_interrupt_waits(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);

	(void)state;
	assert_true(kvm_irq_extint_free(&f->vcpu[0]));
	assert_false(kvm_irq_extint_free(&f->vcpu[1])); /* LINT0 is masked there */
	assert_int_equal(kvm_irq_extint(&f->vcpu[0], 256), -EINVAL);
	assert_int_equal(kvm_irq_extint(&f->vcpu[0], 0x40), 0);
	assert_int_equal(kvm_irq_extint(&f->vcpu[0], 0x41), -EEXIST);
	assert_false(kvm_irq_extint_free(&f->vcpu[0]));
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), 0x40);
	apic_write(f, 0, LAPIC_LVT_LINT0, 0x10700);
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), -1);
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_LVT_LINT0, 0x700);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x40);
	assert_int_equal(accept_irq(&f->vcpu[0]), -1);
	finish(f);
	f = start(KVM_IRQCHIP_FULL);
	assert_int_equal(kvm_irq_extint(&f->vcpu[0], 0x40), -ENXIO);
	finish(f);
}

static void base_changes_modes(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_vcpu *vcpu = &f->vcpu[0];
	uint64_t value;
	uint8_t data[8] = {0};

	(void)state;
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00901, false), -EINVAL);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00900 | BIT(40), false), -EINVAL);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00500, false), -EINVAL);
	assert_int_equal(kvm_irq_x2apic_read(vcpu, 0x802, &value), -EINVAL);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00d00, false), 0);
	assert_int_equal(kvm_irq_x2apic_read(vcpu, 0x803, &value), 0);
	assert_int_equal(value, 0x50014);
	assert_int_equal(kvm_irq_x2apic_write(vcpu, 0x803, 0), -EINVAL);
	assert_true(kvm_irq_mmio(vcpu, LAPIC_BASE + 0x30, 4, data, false)); /* Linux's hole */
	assert_int_equal(load_le32(data), UINT32_MAX);
	f->vm.quirks_off = KVM_X86_QUIRK_LAPIC_MMIO_HOLE;
	assert_false(kvm_irq_mmio(vcpu, LAPIC_BASE + 0x30, 4, data, false));
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00900, false), -EINVAL);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00900, true), 0);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00100, false), 0);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00d00, false), -EINVAL);
	assert_int_equal(kvm_irq_set_apic_base(vcpu, 0xfee00d00, true), 0);
	assert_int_equal(kvm_irq_apic_base(vcpu), 0xfee00d00);
	finish(f);
}

static void lapic_state_round_trip(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_SPLIT);
	struct kvm_lapic_state lapic;

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	apic_write(f, 0, LAPIC_TPR, 0x30);
	assert_int_equal(kvm_irq_get_lapic(&f->vcpu[0], &lapic), 0);
	assert_int_equal(load_le32(lapic.regs + LAPIC_TPR), 0x30);
	store_le32(lapic.regs + LAPIC_TPR, 0x50);
	store_le32(lapic.regs + LAPIC_IRR + 0x20, 0x00040000);
	assert_int_equal(kvm_irq_set_lapic(&f->vcpu[0], &lapic), 0);
	assert_int_equal(kvm_irq_cr8(&f->vcpu[0]), 5);
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), -1);
	assert_true(kvm_irq_held_back(&f->vcpu[0]));
	kvm_irq_set_cr8(&f->vcpu[0], 4);
	assert_false(kvm_irq_held_back(&f->vcpu[0]));
	assert_int_equal(kvm_irq_pending(&f->vcpu[0]), 0x52);
	finish(f);
}

/* ---- states of the chips ---- */

static void pic_state_round_trip(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER}, back = chip, bad;

	(void)state;
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), 0);
	chip.chip.pic.irq_base = 0x38;
	chip.chip.pic.imr = 0xd7;
	chip.chip.pic.irr = 0x08;
	chip.chip.pic.elcr = 0x20;
	chip.chip.pic.priority_add = 3;
	assert_int_equal(kvm_irq_set_chip(&f->vm, &chip), 0);
	assert_int_equal(kvm_irq_get_chip(&f->vm, &back), 0);
	assert_memory_equal(&chip, &back, sizeof(chip));
	bad = chip;
	bad.chip.pic.priority_add = 8;
	assert_int_equal(kvm_irq_set_chip(&f->vm, &bad), -EINVAL);
	bad = chip;
	bad.chip.pic.init_state = 4;
	assert_int_equal(kvm_irq_set_chip(&f->vm, &bad), -EINVAL);
	assert_true(kvm_irq_pending(&f->vcpu[0]) >= 0);
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x3b);
	finish(f);
}

static void ioapic_state_round_trip(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC}, back = chip;

	(void)state;
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	assert_int_equal(kvm_irq_get_chip(&f->vm, &chip), 0);
	assert_int_equal(chip.chip.ioapic.base_address, 0xfec00000);
	chip.chip.ioapic.id = 7;
	chip.chip.ioapic.redirtbl[5].bits = 0x55;
	chip.chip.ioapic.redirtbl[23].bits = 0x1200000000018866;
	chip.chip.ioapic.irr = BIT(5);
	assert_int_equal(kvm_irq_set_chip(&f->vm, &chip), 0);
	assert_int_equal(kvm_irq_get_chip(&f->vm, &back), 0);
	assert_memory_equal(&chip, &back, sizeof(chip));
	assert_int_equal(accept_irq(&f->vcpu[0]), 0x55);
	finish(f);
}

static void pit_ticks(void **state)
{
	struct fixture *f = start(KVM_IRQCHIP_FULL);
	struct kvm_pit_state2 pit, back;
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(kvm_irq_get_pit(&f->vm, &pit), -ENXIO);
	assert_int_equal(kvm_irq_reinject(&f->vm), -ENXIO);
	assert_false(kvm_irq_pio(&f->vcpu[0], 0x40, 1, &byte, false));
	assert_int_equal(kvm_irq_create_pit(&f->vm, 0), 0);
	assert_int_equal(kvm_irq_create_pit(&f->vm, 0), -EEXIST);
	assert_int_equal(kvm_irq_reinject(&f->vm), 0);
	assert_false(kvm_irq_pio(&f->vcpu[0], 0x61, 1, &byte, false)); /* no speaker */
	apic_write(f, 0, LAPIC_SVR, 0x1ff);
	out(f, 0x21, 0xff); /* the PIC has that line, too */
	ioapic_write(f, 0x10, 0x50);
	assert_int_equal(kvm_irq_get_pit(&f->vm, &pit), 0);
	pit.channels[0].mode = 2;
	pit.channels[0].rw_mode = 3;
	pit.channels[0].count = 5000;
	pit.channels[1].count = 0x77;
	assert_int_equal(kvm_irq_set_pit(&f->vm, &pit), 0);
	assert_int_equal(kvm_irq_get_pit(&f->vm, &back), 0);
	assert_int_equal(back.channels[0].count, 5000);
	assert_int_equal(back.channels[0].mode, 2);
	assert_int_equal(back.channels[1].count, 0x77);
	for (unsigned i = 0; i < 3; i++) {
		run_timers(now + 4200000); /* 5000 pulses are 4.19 ms */
		assert_int_equal(accept_irq(&f->vcpu[0]), 0x50);
		apic_write(f, 0, LAPIC_EOI, 0);
	}
	finish(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_exclude_each_other),
		cmocka_unit_test(nothing_without_chips),
		cmocka_unit_test(pic_reaches_the_first_cpu),
		cmocka_unit_test(level_comes_again_until_it_falls),
		cmocka_unit_test(status_of_edges),
		cmocka_unit_test(routes_are_checked),
		cmocka_unit_test(one_line_to_three_chips),
		cmocka_unit_test(split_tells_of_levels_only),
		cmocka_unit_test(messages_are_counted),
		cmocka_unit_test(irqfd_edges),
		cmocka_unit_test(irqfd_follows),
		cmocka_unit_test(irqfd_resamples),
		cmocka_unit_test(pic_eoi_resamples),
		cmocka_unit_test(timer_expires),
		cmocka_unit_test(deadlines_are_prepared),
		cmocka_unit_test(deadlines_survive_other_timers),
		cmocka_unit_test(init_and_sipi),
		cmocka_unit_test(kvm_interrupt_waits),
		cmocka_unit_test(base_changes_modes),
		cmocka_unit_test(lapic_state_round_trip),
		cmocka_unit_test(pic_state_round_trip),
		cmocka_unit_test(ioapic_state_round_trip),
		cmocka_unit_test(pit_ticks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
