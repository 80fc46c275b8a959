/* Interrupts from CPU to CPU: who gets them. */
#include "tests/guest/bare/apic_regs.h"

#define CPUS   4
#define VECTOR 0x60
#define AFTER  0x30 /* sent later, of a lower class: where it has arrived, VECTOR is not to come */

static volatile uint32_t ready;

/* What the other CPUs do: be logical CPU 1 << index, and take what comes. */
static void idle(void *dfr)
{
	apic_enable();
	if (!apic_x2()) {
		apic_write(APIC_DFR, *(const uint32_t *)dfr);
		apic_write(APIC_LDR, UINT32_C(1) << (24 + bare_cpu()->index));
	}
	__atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		cpu_sti_hlt_cli();
	}
}

static void start_others(uint32_t cpus, uint32_t dfr)
{
	irq_take(VECTOR);
	irq_take(AFTER);
	apic_enable();
	apic_write(APIC_DFR, dfr);
	apic_write(APIC_LDR, UINT32_C(1) << 24);
	for (uint32_t i = 1; i < cpus; i++) {
		bare_start_cpu(i, idle, &dfr);
	}
	bare_wait(&ready, cpus - 1);
}

/* Sends it, then AFTER to all, and checks who has got the first: bit n for CPU n. */
static void check_sent(uint32_t destination, uint32_t icr, uint32_t want)
{
	apic_send(destination, ICR_ASSERT | icr);
	apic_send(0, ICR_ASSERT | ICR_ALL | AFTER);
	irq_wait(AFTER, 1);
	for (uint32_t i = 0; i < CPUS; i++) {
		bare_wait(&irq_log(i)->count[AFTER], 1);
		check_eq(irq_log(i)->count[VECTOR], want >> i & 1);
	}
}

BARE_CASE_ON(to_one, "ipi/to_one", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(2, VECTOR, 1 << 2);
}

BARE_CASE_ON(to_self_by_id, "ipi/to_itself_by_its_id", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(0, VECTOR, 1 << 0);
}

BARE_CASE_ON(to_broadcast, "ipi/to_id_255_is_to_all", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(0xff, VECTOR, 0xf);
}

BARE_CASE_ON(to_self, "ipi/self_shorthand", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(1, ICR_SELF | VECTOR, 1 << 0); /* whatever the destination says */
}

BARE_CASE_ON(to_all, "ipi/all_including_self", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(1, ICR_ALL | VECTOR, 0xf);
}

BARE_CASE_ON(to_others, "ipi/all_excluding_self", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(0, ICR_OTHERS | VECTOR, 0xe);
}

BARE_CASE_ON(to_none, "ipi/to_nobody_does_nothing", "AMD APM vol. 2, 16.5", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(77, VECTOR, 0);
}

BARE_CASE_ON(to_flat, "ipi/logical_flat_is_a_set", "AMD APM vol. 2, 16.6.1", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(0xa0 | 1 << 1 | 1 << 3, ICR_LOGICAL | VECTOR, 1 << 1 | 1 << 3);
}

BARE_CASE_ON(to_flat_none, "ipi/logical_flat_of_nobody", "AMD APM vol. 2, 16.6.1", CPUS, 0)
{
	start_others(CPUS, 0xffffffff);
	check_sent(0xf0, ICR_LOGICAL | VECTOR, 0);
}

static void cluster_idle(void *argument)
{
	static const uint8_t ids[CPUS] = {0x01, 0x02, 0x11, 0x12};

	(void)argument;
	apic_enable();
	apic_write(APIC_DFR, 0x0fffffff);
	apic_write(APIC_LDR, (uint32_t)ids[bare_cpu()->index] << 24);
	if (bare_cpu()->index == 0) {
		return;
	}
	__atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		cpu_sti_hlt_cli();
	}
}

BARE_CASE_ON(to_cluster, "ipi/logical_cluster", "AMD APM vol. 2, 16.6.1", CPUS, 0)
{
	irq_take(VECTOR);
	irq_take(AFTER);
	cluster_idle(NULL);
	for (uint32_t i = 1; i < CPUS; i++) {
		bare_start_cpu(i, cluster_idle, NULL);
	}
	bare_wait(&ready, CPUS - 1);
	/* Of cluster 1 the first member, and one that does not exist. */
	check_sent(0x1d, ICR_LOGICAL | VECTOR, 1 << 2);
}

BARE_CASE_ON(lowest, "ipi/lowest_priority_is_for_one_of_the_set", "AMD APM vol. 2, 16.6.2", CPUS, 0)
{
	uint32_t got = 0;

	start_others(CPUS, 0xffffffff);
	apic_send(0x0e, ICR_ASSERT | ICR_LOGICAL | ICR_LOWEST | VECTOR);
	apic_send(0, ICR_ASSERT | ICR_ALL | AFTER);
	irq_wait(AFTER, 1);
	for (uint32_t i = 0; i < CPUS; i++) {
		bare_wait(&irq_log(i)->count[AFTER], 1);
		got += irq_log(i)->count[VECTOR];
	}
	check_eq(got, 1);
	check_eq(irq_log(0)->count[VECTOR], 0);
}

static uint32_t message;
static volatile uint32_t message_seen;

static void read_message(struct bare_frame *frame)
{
	(void)frame;
	message_seen = *(volatile uint32_t *)&message;
	apic_eoi();
}

BARE_CASE_ON(ordered, "ipi/comes_after_what_was_stored_before", "AMD APM vol. 2, 16.5", 2, 0)
{
	start_others(2, 0xffffffff);
	bare_on(0x70, read_message);
	for (uint32_t i = 1; i <= 100; i++) {
		*(volatile uint32_t *)&message = i;
		apic_send(1, ICR_ASSERT | 0x70);
		bare_wait(&message_seen, i);
	}
}

/* ---- NMI ---- */

static volatile uint32_t nmis, step;

static void take_nmi(struct bare_frame *frame)
{
	(void)frame;
	nmis++;
}

static void spin_closed(void *argument)
{
	(void)argument;
	apic_enable();
	step = 1;
	bare_wait(&nmis, 1);
	step = 2;
}

BARE_CASE_ON(nmi, "ipi/nmi_comes_with_if_clear", "AMD APM vol. 2, 8.1.3", 2, 0)
{
	bare_on(VECTOR_NMI, take_nmi);
	apic_enable();
	bare_start_cpu(1, spin_closed, NULL);
	bare_wait(&step, 1);
	apic_send(1, ICR_ASSERT | ICR_NMI | 0x55); /* the vector is not used */
	bare_wait(&step, 2);
	check_eq(nmis, 1);
}

static volatile uint32_t started;

static void halt_closed(void *argument)
{
	(void)argument;
	/* Until its starter is done: under Linux KVM a late second SIPI ends a HLT. An access of
	 * the APIC makes it take notice of one that has come. */
	bare_wait(&started, 1);
	apic_enable();
	step = 1;
	__asm__ volatile("cli; hlt" : : : "memory");
	step = 2;
}

BARE_CASE_ON(nmi_wakes, "ipi/nmi_wakes_a_cpu_halted_with_if_clear", "AMD APM vol. 3, HLT", 2, 0)
{
	bare_on(VECTOR_NMI, take_nmi);
	irq_take(VECTOR);
	apic_enable();
	bare_start_cpu(1, halt_closed, NULL);
	started = 1;
	bare_wait(&step, 1);
	apic_send(1, ICR_ASSERT | VECTOR); /* this one does not */
	for (int i = 0; i < 20000; i++) {
		cpu_pause();
	}
	check_eq(step, 1);
	apic_send(1, ICR_ASSERT | ICR_NMI);
	bare_wait(&step, 2);
	check_eq(irq_log(1)->total, 0);
}

static void disabled_spins(void *argument)
{
	(void)argument;
	apic_write(APIC_SVR, 0xff);
	step = 1;
	bare_wait(&nmis, 1);
	step = 2;
}

BARE_CASE_ON(nmi_disabled, "ipi/nmi_comes_to_a_disabled_apic", "Intel SDM vol. 3A, 10.4.7.2", 2, 0)
{
	bare_on(VECTOR_NMI, take_nmi);
	apic_enable();
	bare_start_cpu(1, disabled_spins, NULL);
	bare_wait(&step, 1);
	apic_send(1, ICR_ASSERT | VECTOR); /* not taken: it would be unexpected */
	apic_send(1, ICR_ASSERT | ICR_NMI);
	bare_wait(&step, 2);
}

/* ---- ping-pong ---- */

#define ROUNDS 1000

static void answer(void *argument)
{
	(void)argument;
	apic_enable();
	step = 1; /* what came before would be lost */
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		irq_wait(VECTOR, i);
		apic_send(0, ICR_ASSERT | VECTOR);
	}
	step = 2;
}

BARE_CASE_ON(ping_pong, "ipi/no_wake_up_is_lost", "AMD APM vol. 3, STI", 2, 0)
{
	irq_needs_shadow();
	irq_take(VECTOR);
	apic_enable();
	bare_start_cpu(1, answer, NULL);
	bare_wait(&step, 1);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		apic_send(1, ICR_ASSERT | VECTOR);
		irq_wait(VECTOR, i);
	}
	bare_wait(&step, 2);
	check_eq(irq_log(0)->total, ROUNDS);
	check_eq(irq_log(1)->total, ROUNDS);
}

BARE_CASE_ON(icr_idle, "ipi/icr_keeps_what_was_written_and_is_idle", "AMD APM vol. 2, 16.5", 2, 0)
{
	start_others(2, 0xffffffff);
	apic_send(1, ICR_ASSERT | VECTOR);
	check_eq(apic_read(APIC_ICR), ICR_ASSERT | VECTOR);
	check_eq(apic_read(APIC_ICR_HIGH), 0x01000000);
	bare_wait(&irq_log(1)->count[VECTOR], 1);
}

BARE_CASE_ON(writing_high, "ipi/writing_the_destination_sends_nothing", "AMD APM vol. 2, 16.5", 2,
	     0)
{
	start_others(2, 0xffffffff);
	apic_send(1, ICR_ASSERT | VECTOR);
	bare_wait(&irq_log(1)->count[VECTOR], 1);
	apic_write(APIC_ICR_HIGH, 0x01000000);
	apic_write(APIC_ICR_HIGH, 0);
	apic_send(1, ICR_ASSERT | AFTER);
	bare_wait(&irq_log(1)->count[AFTER], 1);
	check_eq(irq_log(1)->count[VECTOR], 1);
}
