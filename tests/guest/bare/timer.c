/* The local APIC's timer: one-shot, periodic, TSC deadline. */
#include "tests/guest/bare/apic_regs.h"

#define VECTOR 0x40
#define SHORT  100000
#define PERIOD 1000000

static void start(uint32_t lvt, uint32_t divide, uint32_t count)
{
	irq_take(VECTOR);
	apic_enable();
	apic_write(APIC_TIMER_DCR, divide);
	apic_write(APIC_LVT_TIMER, lvt | VECTOR);
	apic_write(APIC_TIMER_INIT, count);
}

/* Time goes by that is several times as long as @ticks of the TSC. */
static void let_pass(uint64_t ticks)
{
	uint64_t from = rdtsc();

	while (rdtsc() - from < 4 * ticks) {
		cpu_pause();
	}
}

static void wait_count_zero(void)
{
	while (apic_read(APIC_TIMER_CUR) != 0) {
		cpu_pause();
	}
}

BARE_CASE(one_shot, "timer/one_shot_wakes_hlt_once", "Intel SDM vol. 3A, 10.5.4")
{
	uint64_t from = rdtsc();

	start(0, 0xb, SHORT);
	__asm__ volatile(".globl bare_fault_timer_hlt\n"
			 "bare_fault_timer_hlt: sti; hlt; cli"
			 :
			 :
			 : "memory");
	check_eq(irq_log(0)->count[VECTOR], 1);
	check_eq(apic_read(APIC_TIMER_CUR), 0);
	check_eq(apic_read(APIC_TIMER_INIT), SHORT);
	let_pass(rdtsc() - from);
	irq_open();
	check_eq(irq_log(0)->count[VECTOR], 1);
}

BARE_CASE(one_shot_again, "timer/writing_the_count_starts_anew", "Intel SDM vol. 3A, 10.5.4")
{
	start(0, 0xb, SHORT);
	irq_wait(VECTOR, 1);
	apic_write(APIC_TIMER_INIT, SHORT);
	irq_wait(VECTOR, 2);
	apic_write(APIC_TIMER_INIT, 0xffffffff);
	check(apic_read(APIC_TIMER_CUR) > SHORT);
	apic_write(APIC_TIMER_INIT, SHORT);
	check(apic_read(APIC_TIMER_CUR) <= SHORT);
	irq_wait(VECTOR, 3);
}

BARE_CASE(periodic, "timer/periodic_goes_on", "Intel SDM vol. 3A, 10.5.4")
{
	start(LVT_PERIODIC, 0xb, PERIOD);
	irq_wait(VECTOR, 4);
	check(apic_read(APIC_TIMER_CUR) <= PERIOD);
	check_eq(apic_read(APIC_TIMER_INIT), PERIOD);
}

BARE_CASE(zero_stops, "timer/count_zero_stops_it", "Intel SDM vol. 3A, 10.5.4")
{
	uint64_t from = rdtsc(), count;

	start(LVT_PERIODIC, 0xb, PERIOD);
	irq_wait(VECTOR, 1);
	apic_write(APIC_TIMER_INIT, 0);
	check_eq(apic_read(APIC_TIMER_CUR), 0);
	irq_open(); /* one may have been pending */
	count = irq_log(0)->total;
	let_pass(rdtsc() - from);
	irq_open();
	check_eq(irq_log(0)->total, count);
}

BARE_CASE(decreases, "timer/current_count_decreases", "Intel SDM vol. 3A, 10.5.4")
{
	uint32_t last, now;

	start(LVT_MASKED, 0xb, 0xffffffff);
	last = apic_read(APIC_TIMER_CUR);
	for (int i = 0; i < 20; i++) {
		do {
			now = apic_read(APIC_TIMER_CUR);
			check(now <= last);
		} while (now == last);
		last = now;
	}
	check(now != 0);
}

BARE_CASE(masked, "timer/masked_counts_and_stays_silent", "Intel SDM vol. 3A, 10.5.4")
{
	uint64_t from = rdtsc();

	start(LVT_MASKED, 0xb, SHORT);
	wait_count_zero();
	let_pass(rdtsc() - from);
	irq_open();
	check(!apic_bit(APIC_IRR, VECTOR));
	check_eq(irq_log(0)->total, 0);
}

BARE_CASE(dcr, "timer/divider_keeps_three_bits", "Intel SDM vol. 3A, 10.5.4")
{
	static const uint8_t values[] = {0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa, 0xb};

	apic_enable();
	for (unsigned int i = 0; i < sizeof(values); i++) {
		apic_write(APIC_TIMER_DCR, values[i]);
		check_eq(apic_read(APIC_TIMER_DCR) & 0xb, values[i]);
	}
}

static uint64_t ticks_to_zero(uint32_t divide)
{
	uint64_t from;

	apic_write(APIC_TIMER_DCR, divide);
	from = rdtsc();
	apic_write(APIC_TIMER_INIT, SHORT);
	wait_count_zero();
	return rdtsc() - from;
}

BARE_CASE(divider, "timer/divider_slows_it", "Intel SDM vol. 3A, 10.5.4")
{
	uint64_t fast = UINT64_MAX, slow;

	start(LVT_MASKED, 0xb, 0);
	slow = ticks_to_zero(0xa); /* by 128: it cannot be earlier */
	for (int i = 0; i < 8; i++) {
		uint64_t ticks = ticks_to_zero(0xb); /* by 1: the best of some */

		fast = ticks < fast ? ticks : fast;
	}
	check(fast < slow);
}

BARE_CASE(vector_change, "timer/the_vector_is_that_of_the_end", "Intel SDM vol. 3A, 10.5.4")
{
	irq_take(0x51);
	start(LVT_MASKED, 0xb, 0);
	do {
		irq_open();
		irq_log(0)->count[VECTOR] = 0;
		apic_write(APIC_LVT_TIMER, VECTOR);
		apic_write(APIC_TIMER_INIT, 10 * PERIOD);
		apic_write(APIC_LVT_TIMER, 0x51);
	} while (apic_read(APIC_TIMER_CUR) == 0); /* too late: it may have been the first */
	irq_wait(0x51, 1);
	check_eq(irq_log(0)->count[VECTOR], 0);
}

BARE_CASE(held_by_if, "timer/waits_in_irr_while_if_is_clear", "AMD APM vol. 2, 16.4.1")
{
	start(0, 0xb, SHORT);
	while (!apic_bit(APIC_IRR, VECTOR)) {
		cpu_pause();
	}
	check_eq(irq_log(0)->total, 0);
	irq_open();
	check_eq(irq_log(0)->total, 1);
}

BARE_CASE(no_lost_wake, "timer/never_lost_between_sti_and_hlt", "AMD APM vol. 3, STI")
{
	irq_needs_shadow();
	start(0, 0xb, 0);
	/* Ever other moments between the start and the HLT, from before it to long after. */
	for (uint32_t i = 1; i <= 300; i++) {
		apic_write(APIC_TIMER_INIT, 400 * i);
		irq_wait(VECTOR, i);
	}
	check_eq(irq_log(0)->total, 300);
}

/* ---- TSC deadline ---- */

static void need_deadline(void)
{
	if ((cpuid(1, 0).ecx >> 24 & 1) == 0) {
		bare_skip("the CPU has no TSC-deadline timer");
	}
	start(LVT_DEADLINE, 0xb, 0);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
}

BARE_CASE(deadline, "timer/deadline_fires_when_it_is_reached", "Intel SDM vol. 3A, 10.5.4.1")
{
	uint64_t at;

	need_deadline();
	at = rdtsc() + 2000000;
	wrmsr(MSR_TSC_DEADLINE, at);
	irq_wait(VECTOR, 1);
	check(rdtsc() >= at);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
	irq_open();
	check_eq(irq_log(0)->total, 1);
}

BARE_CASE(deadline_past, "timer/deadline_in_the_past_fires_at_once", "Intel SDM vol. 3A, 10.5.4.1")
{
	need_deadline();
	wrmsr(MSR_TSC_DEADLINE, 1);
	irq_wait(VECTOR, 1);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1);
	irq_wait(VECTOR, 2);
}

/* Arms a deadline, as far away as @disarm needs to come before it, also where time is scarce.
 * Return: how far, in ticks. */
static uint64_t disarm_in_time(void (*disarm)(void))
{
	for (uint64_t distance = 10000000;; distance *= 2) {
		uint64_t at = rdtsc() + distance;

		wrmsr(MSR_TSC_DEADLINE, at);
		disarm();
		if (rdtsc() < at) {
			return distance;
		}
		irq_open(); /* it may have been too late */
	}
}

static void check_disarmed(void (*disarm)(void))
{
	uint64_t distance = disarm_in_time(disarm);
	uint32_t before = irq_log(0)->total;

	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
	let_pass(distance / 3);
	irq_open();
	check_eq(irq_log(0)->total, before);
}

static void write_zero(void)
{
	wrmsr(MSR_TSC_DEADLINE, 0);
}

BARE_CASE(deadline_zero, "timer/deadline_zero_disarms", "Intel SDM vol. 3A, 10.5.4.1")
{
	need_deadline();
	check_disarmed(write_zero);
}

BARE_CASE(deadline_moved, "timer/deadline_written_anew_replaces", "Intel SDM vol. 3A, 10.5.4.1")
{
	uint64_t far = UINT64_MAX >> 1;

	need_deadline();
	wrmsr(MSR_TSC_DEADLINE, far);
	check_eq(rdmsr(MSR_TSC_DEADLINE), far);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 100000);
	irq_wait(VECTOR, 1);
	check_eq(irq_log(0)->total, 1);
}

BARE_CASE(deadline_other_mode, "timer/deadline_means_nothing_in_other_modes",
	  "Intel SDM vol. 3A, 10.5.4.1")
{
	need_deadline();
	apic_write(APIC_LVT_TIMER, VECTOR);
	wrmsr(MSR_TSC_DEADLINE, 1);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
	irq_open();
	check_eq(irq_log(0)->total, 0);
}

BARE_CASE(deadline_count, "timer/counts_mean_nothing_in_deadline_mode",
	  "Intel SDM vol. 3A, 10.5.4.1")
{
	need_deadline();
	apic_write(APIC_TIMER_INIT, SHORT);
	check_eq(apic_read(APIC_TIMER_CUR), 0);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 4 * SHORT);
	irq_wait(VECTOR, 1);
	check_eq(irq_log(0)->total, 1);
}

static void leave_and_come_back(void)
{
	apic_write(APIC_LVT_TIMER, VECTOR);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | VECTOR);
}

BARE_CASE(deadline_switch, "timer/leaving_deadline_mode_disarms", "Intel SDM vol. 3A, 10.5.4.1")
{
	need_deadline();
	check_disarmed(leave_and_come_back);
}
