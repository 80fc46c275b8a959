#include "lib/chip/lapic.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "tests/unit.h"

#define CPUS 4

struct cpu {
	struct lapic lapic;
	uint64_t deadline_ns;
	unsigned kicks, nmis, inits, sipis, moves;
	uint8_t sipi_vector;
};

static struct cpu cpus[CPUS];
static struct lapic *all[CPUS];
static uint8_t ended[8];
static unsigned ended_count;
static struct lapic_time now;

static void send(void *ctx, const struct lapic_message *message)
{
	lapic_bus_send(all, CPUS, &((struct cpu *)ctx)->lapic, message);
}

static void eoi(void *ctx, uint8_t vector)
{
	(void)ctx;
	assert_true(ended_count < ARRAY_SIZE(ended));
	ended[ended_count++] = vector;
}

static void timer(void *ctx, uint64_t deadline_ns)
{
	((struct cpu *)ctx)->deadline_ns = deadline_ns;
}

static void posted(void *ctx, enum lapic_mode mode, uint8_t vector)
{
	struct cpu *cpu = ctx;

	cpu->kicks += mode == LAPIC_FIXED;
	cpu->nmis += mode == LAPIC_NMI;
	cpu->inits += mode == LAPIC_INIT;
	cpu->sipis += mode == LAPIC_STARTUP;
	if (mode == LAPIC_STARTUP) {
		cpu->sipi_vector = vector;
	}
}

static void moved(void *ctx)
{
	((struct cpu *)ctx)->moves++;
}

static const struct lapic_ops ops = {send, eoi, timer, posted, moved};

static int begin(void **unused)
{
	(void)unused;
	memset(cpus, 0, sizeof(cpus));
	ended_count = 0;
	now = (struct lapic_time){.now_ns = 1000, .tsc = 5000, .tsc_khz = 2000000};
	for (uint32_t i = 0; i < CPUS; i++) {
		cpus[i].deadline_ns = UINT64_MAX;
		lapic_init(&cpus[i].lapic, i, i == 0, &ops, &cpus[i]);
		all[i] = &cpus[i].lapic;
	}
	return 0;
}

static void write_reg(unsigned cpu, uint32_t offset, uint32_t value)
{
	lapic_write(&cpus[cpu].lapic, offset, value, &now);
}

static uint32_t read_reg(unsigned cpu, uint32_t offset)
{
	return lapic_read(&cpus[cpu].lapic, offset, &now);
}

static void enable_all(void)
{
	for (unsigned i = 0; i < CPUS; i++) {
		write_reg(i, LAPIC_SVR, 0x1ff);
	}
}

static void go_x2(unsigned cpu)
{
	struct lapic *lapic = &cpus[cpu].lapic;

	assert_int_equal(lapic_set_base(lapic, lapic->base | LAPIC_BASE_X2APIC), 0);
}

static int take(unsigned cpu)
{
	int vector = lapic_pending(&cpus[cpu].lapic);

	if (vector >= 0) {
		lapic_take(&cpus[cpu].lapic, (uint8_t)vector);
	}
	return vector;
}

static bool post_fixed(unsigned cpu, uint8_t vector, bool level)
{
	struct lapic_message message = {.dest = cpu, .vector = vector, .level = level};

	return lapic_post(&cpus[cpu].lapic, &message);
}

static void starts_as_the_manual_says(void **unused)
{
	(void)unused;
	assert_int_equal(read_reg(1, LAPIC_ID), 0x01000000);
	assert_int_equal(read_reg(0, LAPIC_VERSION), 0x00050014);
	assert_int_equal(read_reg(0, LAPIC_SVR), 0xff);
	assert_int_equal(read_reg(0, LAPIC_DFR), 0xffffffff);
	for (uint32_t lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 16) {
		assert_int_equal(read_reg(0, lvt), 0x10000);
	}
	assert_int_equal(cpus[0].lapic.base, LAPIC_BASE | LAPIC_BASE_BSP | LAPIC_BASE_ENABLE);
	assert_int_equal(cpus[1].lapic.base, LAPIC_BASE | LAPIC_BASE_ENABLE);
}

static void higher_classes_come_first(void **unused)
{
	(void)unused;
	enable_all();
	assert_true(post_fixed(0, 0x45, false));
	assert_true(post_fixed(0, 0x91, false));
	assert_true(post_fixed(0, 0x47, false));
	assert_int_equal(take(0), 0x91);
	assert_int_equal(take(0), -1); /* lower classes wait for its EOI */
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(take(0), 0x47);
	assert_int_equal(take(0), -1); /* of the same class: waits, too */
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(take(0), 0x45);
	assert_true(post_fixed(0, 0x60, false));
	assert_int_equal(take(0), 0x60); /* nested */
	assert_int_equal(read_reg(0, LAPIC_PPR), 0x60);
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(read_reg(0, LAPIC_PPR), 0x40);
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(read_reg(0, LAPIC_PPR), 0);
	write_reg(0, LAPIC_EOI, 0); /* nothing in service */
	assert_int_equal(ended_count, 0);
}

static void task_priority_holds_back(void **unused)
{
	(void)unused;
	enable_all();
	write_reg(0, LAPIC_TPR, 0x50);
	assert_int_equal(lapic_tpr(&cpus[0].lapic), 5);
	assert_true(post_fixed(0, 0x5f, false));
	assert_int_equal(take(0), -1);
	assert_int_equal(lapic_waiting(&cpus[0].lapic), 0x5f);
	lapic_set_tpr(&cpus[0].lapic, 4);
	assert_int_equal(read_reg(0, LAPIC_TPR), 0x40);
	assert_int_equal(take(0), 0x5f);
}

static void level_interrupts_tell_of_their_end(void **unused)
{
	(void)unused;
	enable_all();
	assert_true(post_fixed(0, 0x33, true));
	assert_int_equal(take(0), 0x33);
	assert_int_equal(read_reg(0, LAPIC_TMR + 16), 1 << (0x33 - 32));
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(ended_count, 1);
	assert_int_equal(ended[0], 0x33);
	assert_true(post_fixed(0, 0x33, false));
	assert_int_equal(take(0), 0x33);
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(ended_count, 1);
}

static void a_disabled_apic_takes_nothing(void **unused)
{
	struct lapic_message nmi = {.mode = LAPIC_NMI};

	(void)unused;
	assert_false(post_fixed(0, 0x40, false)); /* not enabled by software yet */
	enable_all();
	assert_false(post_fixed(0, 15, false));
	assert_true(post_fixed(0, 0x40, false));
	write_reg(0, LAPIC_LVT_LINT0, 0x700);
	write_reg(0, LAPIC_SVR, 0xff);
	assert_int_equal(read_reg(0, LAPIC_LVT_LINT0), 0x10700); /* masked by that */
	write_reg(0, LAPIC_LVT_LINT0, 0x700);
	assert_int_equal(read_reg(0, LAPIC_LVT_LINT0), 0x10700);
	assert_int_equal(take(0), -1);
	assert_true(lapic_post(&cpus[0].lapic, &nmi)); /* NMI, INIT and SIPI come through */
	assert_int_equal(cpus[0].nmis, 1);
	assert_int_equal(lapic_set_base(&cpus[0].lapic, LAPIC_BASE | LAPIC_BASE_BSP), 0);
	assert_int_equal(read_reg(0, LAPIC_SVR), 0xff);
	assert_true(lapic_takes_extint(&cpus[0].lapic));
}

static void wires_follow_their_entries(void **unused)
{
	struct lapic *lapic = &cpus[0].lapic;

	(void)unused;
	enable_all();
	assert_false(lapic_takes_extint(lapic));
	write_reg(0, LAPIC_LVT_LINT0, 0x700);
	assert_true(lapic_takes_extint(lapic));
	write_reg(0, LAPIC_LVT_LINT0, 0x10700);
	assert_false(lapic_takes_extint(lapic));
}

/* ---- IPIs ---- */

static unsigned receivers(uint8_t vector)
{
	unsigned mask = 0;

	for (unsigned i = 0; i < CPUS; i++) {
		if (lapic_waiting(&cpus[i].lapic) == vector) {
			mask |= 1u << i;
			assert_int_equal(take(i), vector);
			write_reg(i, LAPIC_EOI, 0);
		}
	}
	return mask;
}

static void ipis_reach_whom_they_name(void **unused)
{
	(void)unused;
	enable_all();
	write_reg(0, LAPIC_ICR_HIGH, 2 << 24);
	write_reg(0, LAPIC_ICR, 0x4040);
	assert_int_equal(receivers(0x40), 1 << 2);
	write_reg(0, LAPIC_ICR, 0x44041); /* self */
	assert_int_equal(receivers(0x41), 1 << 0);
	write_reg(1, LAPIC_ICR, 0x84042); /* all */
	assert_int_equal(receivers(0x42), 0xf);
	write_reg(1, LAPIC_ICR, 0xc4043); /* all others */
	assert_int_equal(receivers(0x43), 0xd);
	write_reg(1, LAPIC_ICR_HIGH, 0xff000000);
	write_reg(1, LAPIC_ICR, 0x4044); /* broadcast by address */
	assert_int_equal(receivers(0x44), 0xf);
	write_reg(1, LAPIC_ICR_HIGH, 9u << 24);
	write_reg(1, LAPIC_ICR, 0x4045); /* nobody */
	assert_int_equal(receivers(0x45), 0);
	assert_int_equal(read_reg(1, LAPIC_ICR), 0x4045);
	assert_int_equal(read_reg(1, LAPIC_ICR_HIGH), 9u << 24);
}

/* Whatever decides which messages are for it is told when it changes, and nothing else is. */
static void moves_are_told(void **unused)
{
	static const uint32_t names[] = {LAPIC_ID, LAPIC_LDR, LAPIC_DFR};
	uint8_t page[1024];
	unsigned before;

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		before = cpus[1].moves;
		write_reg(1, names[i], 0x03000000);
		assert_true(cpus[1].moves > before);
	}
	before = cpus[1].moves;
	write_reg(1, LAPIC_SVR, 0x1ff);
	write_reg(1, LAPIC_TPR, 0x20);
	write_reg(1, LAPIC_EOI, 0);
	assert_int_equal(cpus[1].moves, before);
	lapic_save(&cpus[1].lapic, page, false, &now);
	before = cpus[1].moves;
	assert_int_equal(lapic_load(&cpus[1].lapic, page, false, &now), 0);
	assert_true(cpus[1].moves > before);
	before = cpus[1].moves;
	assert_int_equal(
		lapic_set_base(&cpus[1].lapic, LAPIC_BASE | LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC),
		0);
	assert_true(cpus[1].moves > before);
	before = cpus[1].moves;
	lapic_reset(&cpus[1].lapic);
	assert_true(cpus[1].moves > before);
	assert_int_equal(cpus[0].moves, cpus[2].moves); /* as after their start */
}

static void logical_destinations(void **unused)
{
	(void)unused;
	enable_all();
	for (unsigned i = 0; i < CPUS; i++) {
		write_reg(i, LAPIC_LDR, 0x01000000u << i);
	}
	write_reg(0, LAPIC_ICR_HIGH, 0x0a000000);
	write_reg(0, LAPIC_ICR, 0x4850);
	assert_int_equal(receivers(0x50), 0xa);
	for (unsigned i = 0; i < CPUS; i++) { /* two clusters of two */
		write_reg(i, LAPIC_DFR, 0x0fffffff);
		write_reg(i, LAPIC_LDR, (i / 2 + 1) << 28 | (1u << i % 2) << 24);
	}
	write_reg(0, LAPIC_ICR_HIGH, 0x23000000);
	write_reg(0, LAPIC_ICR, 0x4851);
	assert_int_equal(receivers(0x51), 0xc);
}

static void lowest_priority_takes_turns(void **unused)
{
	unsigned seen = 0;

	(void)unused;
	enable_all();
	for (unsigned i = 0; i < CPUS; i++) {
		write_reg(i, LAPIC_LDR, 0x01000000u << i);
	}
	write_reg(3, LAPIC_SVR, 0xff); /* takes no part */
	write_reg(0, LAPIC_ICR_HIGH, 0x0f000000);
	for (unsigned i = 0; i < 3; i++) {
		unsigned got;

		write_reg(0, LAPIC_ICR, 0x4952);
		got = receivers(0x52);
		assert_int_equal(__builtin_popcount(got), 1);
		seen |= got;
	}
	assert_int_equal(seen, 7);
}

static void other_kinds_of_ipi(void **unused)
{
	(void)unused;
	write_reg(0, LAPIC_ICR_HIGH, 1 << 24);
	write_reg(0, LAPIC_ICR, 0x4500); /* INIT */
	assert_int_equal(cpus[1].inits, 1);
	write_reg(0, LAPIC_ICR, 0x8500); /* INIT, level de-assert */
	assert_int_equal(cpus[1].inits, 1);
	write_reg(0, LAPIC_ICR, 0x4612);
	assert_int_equal(cpus[1].sipis, 1);
	assert_int_equal(cpus[1].sipi_vector, 0x12);
	write_reg(0, LAPIC_ICR, 0x4400);
	assert_int_equal(cpus[1].nmis, 1);
	assert_int_equal(cpus[0].nmis + cpus[2].nmis + cpus[2].inits, 0);
}

static void illegal_vectors_are_errors(void **unused)
{
	(void)unused;
	enable_all();
	write_reg(0, LAPIC_LVT_ERROR, 0xfe);
	write_reg(0, LAPIC_ICR, 0x44005);
	assert_int_equal(read_reg(0, LAPIC_ESR), 0); /* shown by a write */
	write_reg(0, LAPIC_ESR, 0);
	assert_int_equal(read_reg(0, LAPIC_ESR), 1 << 5);
	assert_int_equal(take(0), 0xfe);
	write_reg(0, LAPIC_ESR, 0);
	assert_int_equal(read_reg(0, LAPIC_ESR), 0);
}

/* ---- x2APIC ---- */

static void x2_ids_and_ldr(void **unused)
{
	uint64_t value;

	(void)unused;
	go_x2(3);
	assert_int_equal(lapic_msr_read(&cpus[3].lapic, 0x802, &value, &now), 0);
	assert_int_equal(value, 3);
	assert_int_equal(lapic_msr_read(&cpus[3].lapic, 0x80d, &value, &now), 0);
	assert_int_equal(value, 1 << 3);
	assert_int_equal(lapic_msr_write(&cpus[3].lapic, 0x802, 1, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(&cpus[3].lapic, 0x80d, 1, &now), -EINVAL);
	assert_int_equal(lapic_msr_read(&cpus[3].lapic, 0x80b, &value, &now), -EINVAL);
	assert_int_equal(lapic_msr_read(&cpus[3].lapic, 0x80e, &value, &now), -EINVAL);
	assert_int_equal(lapic_msr_read(&cpus[3].lapic, 0x831, &value, &now), -EINVAL);
	assert_int_equal(lapic_msr_read(&cpus[0].lapic, 0x802, &value, &now), -EINVAL);
}

static void x2_refuses_reserved_bits(void **unused)
{
	struct lapic *lapic = &cpus[0].lapic;

	(void)unused;
	go_x2(0);
	assert_int_equal(lapic_msr_write(lapic, 0x808, 0x100, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x80b, 1, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x80b, 0, &now), 0);
	assert_int_equal(lapic_msr_write(lapic, 0x80f, 0x21ff, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x828, 1, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x832, 0x80040, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x830, 0x6040, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x830, 0x5040, &now), 0); /* delivery status */
	assert_int_equal(lapic_msr_write(lapic, 0x833, 0x4040, &now), -EINVAL);
	/* Those that only tell are ignored. */
	assert_int_equal(lapic_msr_write(lapic, 0x835, 0x15700, &now), 0);
	assert_int_equal(read_reg(0, LAPIC_LVT_LINT0), 0x10700);
	assert_int_equal(lapic_msr_write(lapic, 0x838, UINT64_C(1) << 32, &now), -EINVAL);
	assert_int_equal(lapic_msr_write(lapic, 0x83f, 0x141, &now), -EINVAL);
}

static void x2_ipis(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < CPUS; i++) {
		go_x2(i);
		assert_int_equal(lapic_msr_write(&cpus[i].lapic, 0x80f, 0x1ff, &now), 0);
	}
	assert_int_equal(lapic_msr_write(&cpus[0].lapic, 0x830, UINT64_C(2) << 32 | 0x4040, &now),
			 0);
	assert_int_equal(lapic_waiting(&cpus[2].lapic), 0x40);
	assert_int_equal(lapic_msr_write(&cpus[0].lapic, 0x83f, 0x41, &now), 0);
	assert_int_equal(lapic_waiting(&cpus[0].lapic), 0x41);
	assert_int_equal(
		lapic_msr_write(&cpus[0].lapic, 0x830, UINT64_C(0xffffffff) << 32 | 0x4042, &now),
		0);
	assert_int_equal(lapic_waiting(&cpus[3].lapic), 0x42);
	assert_int_equal(lapic_msr_write(&cpus[0].lapic, 0x830, UINT64_C(0xa) << 32 | 0x4843, &now),
			 0);
	assert_int_equal(lapic_waiting(&cpus[1].lapic), 0x43);
	assert_int_equal(lapic_waiting(&cpus[2].lapic), 0x42);
}

static void modes_change_by_the_book(void **unused)
{
	struct lapic *lapic = &cpus[1].lapic;

	(void)unused;
	assert_int_equal(lapic_set_base(lapic, LAPIC_BASE | LAPIC_BASE_X2APIC), -EINVAL);
	go_x2(1);
	assert_int_equal(lapic_set_base(lapic, LAPIC_BASE | LAPIC_BASE_ENABLE), -EINVAL);
	assert_int_equal(lapic_set_base(lapic, LAPIC_BASE), 0);
	assert_int_equal(lapic_set_base(lapic, LAPIC_BASE | LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC),
			 -EINVAL);
	assert_int_equal(lapic_set_base(lapic, LAPIC_BASE | LAPIC_BASE_ENABLE), 0);
	assert_int_equal(read_reg(1, LAPIC_ID), 0x01000000);
}

#define LEVELS 2000000

static void *post_levels(void *done)
{
	for (unsigned i = 0; i < LEVELS; i++) {
		(void)post_fixed(0, 0x51, true);
	}
	*(_Atomic bool *)done = true;
	return NULL;
}

/* As by two wires that share a vector. */
static void levels_come_while_others_are_taken(void **unused)
{
	_Atomic bool done = false;
	unsigned seen = 0, edges = 0;
	pthread_t thread;

	(void)unused;
	enable_all();
	assert_int_equal(pthread_create(&thread, NULL, post_levels, &done), 0);
	for (bool last = false; !last;) {
		last = done;
		if (lapic_waiting(&cpus[0].lapic) == 0x51) {
			seen++;
			edges += (read_reg(0, LAPIC_TMR + 0x20) & BIT(0x11)) == 0;
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(seen > 0);
	assert_int_equal(edges, 0);
}

/* ---- timer ---- */

static void pass(uint64_t ns)
{
	now.now_ns += ns;
	now.tsc += ns * now.tsc_khz / 1000000;
}

static void one_shot(void **unused)
{
	(void)unused;
	enable_all();
	write_reg(0, LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
	write_reg(0, LAPIC_LVT_TIMER, 0x40);
	write_reg(0, LAPIC_TIMER_INITIAL, 5000);
	assert_int_equal(cpus[0].deadline_ns, 6000);
	pass(2000);
	assert_int_equal(read_reg(0, LAPIC_TIMER_CURRENT), 3000);
	lapic_expire(&cpus[0].lapic, &now); /* too early */
	assert_int_equal(take(0), -1);
	pass(3000);
	lapic_expire(&cpus[0].lapic, &now);
	assert_int_equal(take(0), 0x40);
	assert_int_equal(read_reg(0, LAPIC_TIMER_CURRENT), 0);
	assert_int_equal(cpus[0].lapic.deadline_ns, UINT64_MAX);
}

static void divisors(void **unused)
{
	static const struct {
		uint32_t bits, by;
	} divides[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};

	(void)unused;
	enable_all();
	for (unsigned i = 0; i < ARRAY_SIZE(divides); i++) {
		write_reg(0, LAPIC_TIMER_DIVIDE, divides[i].bits);
		write_reg(0, LAPIC_TIMER_INITIAL, 1000);
		assert_int_equal(cpus[0].deadline_ns, now.now_ns + 1000 * divides[i].by);
	}
	write_reg(0, LAPIC_TIMER_INITIAL, 0);
	assert_int_equal(cpus[0].deadline_ns, UINT64_MAX);
}

static void periodic(void **unused)
{
	(void)unused;
	enable_all();
	write_reg(0, LAPIC_TIMER_DIVIDE, 0xb);
	write_reg(0, LAPIC_LVT_TIMER, 0x20041);
	write_reg(0, LAPIC_TIMER_INITIAL, 1000000);
	for (unsigned i = 0; i < 3; i++) {
		pass(1000000);
		lapic_expire(&cpus[0].lapic, &now);
		assert_int_equal(take(0), 0x41);
		write_reg(0, LAPIC_EOI, 0);
		assert_int_equal(cpus[0].deadline_ns, 1000 + (i + 2) * 1000000);
	}
	pass(10500000); /* late: one interrupt, and back in step */
	lapic_expire(&cpus[0].lapic, &now);
	assert_int_equal(take(0), 0x41);
	assert_int_equal(take(0), -1);
	assert_int_equal(cpus[0].deadline_ns, 1000 + 14 * 1000000);
	write_reg(0, LAPIC_TIMER_INITIAL, 1); /* no storm */
	assert_true(cpus[0].deadline_ns >= now.now_ns + 200000);
}

static void tsc_deadline(void **unused)
{
	struct lapic *lapic = &cpus[0].lapic;

	(void)unused;
	enable_all();
	lapic_set_deadline(lapic, 99999, &now); /* another mode: ignored */
	assert_int_equal(lapic_deadline(lapic), 0);
	write_reg(0, LAPIC_LVT_TIMER, 0x40042);
	lapic_set_deadline(lapic, now.tsc + 2000, &now);
	assert_int_equal(lapic_deadline(lapic), now.tsc + 2000);
	assert_int_equal(cpus[0].deadline_ns, now.now_ns + 1000);
	write_reg(0, LAPIC_TIMER_INITIAL, 77); /* ignored */
	assert_int_equal(cpus[0].deadline_ns, now.now_ns + 1000);
	pass(1000);
	lapic_expire(lapic, &now);
	assert_int_equal(take(0), 0x42);
	assert_int_equal(lapic_deadline(lapic), 0);
	write_reg(0, LAPIC_EOI, 0);
	lapic_set_deadline(lapic, now.tsc + 2000, &now);
	pass(900);
	lapic_expire(lapic, &now); /* too early, by both clocks */
	assert_int_equal(take(0), -1);
	now.tsc += 200; /* time passes between the looks at them */
	lapic_expire(lapic, &now);
	assert_int_equal(take(0), 0x42);
	assert_int_equal(lapic_deadline(lapic), 0);
	lapic_expire(lapic, &now); /* once */
	assert_int_equal(take(0), -1);
	write_reg(0, LAPIC_EOI, 0);
	lapic_set_deadline(lapic, 1, &now); /* past: at once */
	assert_int_equal(take(0), 0x42);
	write_reg(0, LAPIC_EOI, 0);
	lapic_set_deadline(lapic, now.tsc + 2000, &now);
	lapic_set_deadline(lapic, 0, &now);
	assert_int_equal(cpus[0].deadline_ns, UINT64_MAX);
	lapic_set_deadline(lapic, UINT64_MAX, &now); /* does not overflow */
	assert_true(cpus[0].deadline_ns > now.now_ns);
	write_reg(0, LAPIC_LVT_TIMER, 0x42); /* another mode disarms it */
	assert_int_equal(cpus[0].deadline_ns, UINT64_MAX);
}

/* ---- state ---- */

static void what_is_saved_can_be_loaded(void **unused)
{
	uint8_t page[1024], again[1024];

	(void)unused;
	enable_all();
	write_reg(0, LAPIC_TPR, 0x20);
	write_reg(0, LAPIC_LVT_TIMER, 0x44);
	write_reg(0, LAPIC_TIMER_DIVIDE, 0xb);
	write_reg(0, LAPIC_TIMER_INITIAL, 5000);
	assert_true(post_fixed(0, 0x80, true));
	assert_int_equal(take(0), 0x80);
	assert_true(post_fixed(0, 0x70, false));
	lapic_save(&cpus[0].lapic, page, false, &now);
	lapic_reset(&cpus[0].lapic);
	assert_int_equal(lapic_load(&cpus[0].lapic, page, false, &now), 0);
	assert_int_equal(cpus[0].deadline_ns, now.now_ns + 5000);
	lapic_save(&cpus[0].lapic, again, false, &now);
	assert_memory_equal(page, again, sizeof(page));
	assert_int_equal(take(0), -1);
	write_reg(0, LAPIC_EOI, 0);
	assert_int_equal(ended_count, 1);
	assert_int_equal(take(0), 0x70);
}

static void x2_state_has_the_id_of_its_format(void **unused)
{
	uint8_t page[1024];

	(void)unused;
	go_x2(2);
	lapic_save(&cpus[2].lapic, page, false, &now);
	assert_int_equal(page[LAPIC_ID + 3], 2);
	assert_int_equal(lapic_load(&cpus[2].lapic, page, true, &now), -EINVAL);
	assert_int_equal(lapic_load(&cpus[2].lapic, page, false, &now), 0);
	lapic_save(&cpus[2].lapic, page, true, &now);
	assert_int_equal(page[LAPIC_ID], 2);
	page[LAPIC_ID] = 3;
	assert_int_equal(lapic_load(&cpus[2].lapic, page, true, &now), -EINVAL);
}

static void messages_of_devices(void **unused)
{
	struct lapic_message m = lapic_msi(0xfee02004, 0xc931, false);

	(void)unused;
	assert_int_equal(m.dest, 2);
	assert_true(m.logical && m.level && !m.x2);
	assert_int_equal(m.mode, LAPIC_LOWEST);
	assert_int_equal(m.vector, 0x31);
	m = lapic_msi(UINT64_C(0x0001020000000000) | 0xfee03000, 0x41, true);
	assert_int_equal(m.dest, 0x00010203);
	assert_true(m.x2);
	m = lapic_msi(0xfee01000, 0x41, true);
	enable_all();
	go_x2(1);
	assert_int_equal(lapic_bus_send(all, CPUS, NULL, &m), 1);
	assert_int_equal(lapic_waiting(&cpus[1].lapic), 0x41);
}

#define LAPIC_UNIT(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAPIC_UNIT(starts_as_the_manual_says),
		LAPIC_UNIT(higher_classes_come_first),
		LAPIC_UNIT(task_priority_holds_back),
		LAPIC_UNIT(level_interrupts_tell_of_their_end),
		LAPIC_UNIT(a_disabled_apic_takes_nothing),
		LAPIC_UNIT(wires_follow_their_entries),
		LAPIC_UNIT(ipis_reach_whom_they_name),
		LAPIC_UNIT(moves_are_told),
		LAPIC_UNIT(logical_destinations),
		LAPIC_UNIT(lowest_priority_takes_turns),
		LAPIC_UNIT(other_kinds_of_ipi),
		LAPIC_UNIT(illegal_vectors_are_errors),
		LAPIC_UNIT(x2_ids_and_ldr),
		LAPIC_UNIT(x2_refuses_reserved_bits),
		LAPIC_UNIT(x2_ipis),
		LAPIC_UNIT(modes_change_by_the_book),
		LAPIC_UNIT(levels_come_while_others_are_taken),
		LAPIC_UNIT(one_shot),
		LAPIC_UNIT(divisors),
		LAPIC_UNIT(periodic),
		LAPIC_UNIT(tsc_deadline),
		LAPIC_UNIT(what_is_saved_can_be_loaded),
		LAPIC_UNIT(x2_state_has_the_id_of_its_format),
		LAPIC_UNIT(messages_of_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
