/*
 * What is on its way stays on its way while what runs the CPU looks away: pending and running
 * interrupts, timers, chips. See exit.c.
 */
#include "tests/guest/bare/apic_regs.h"
#include "tests/guest/bare/bare.h"

#define CPUID_DEADLINE (1 << 24) /* leaf 1, ECX */

#define VECTOR 0x41

static volatile uint32_t seen;

static void count(struct bare_frame *frame)
{
	(void)frame;
	seen++;
	apic_eoi();
}

static void wait_for(uint32_t number)
{
	uint64_t start = rdtsc();

	while (seen < number) {
		__asm__ volatile("sti; nop; cli" : : : "memory");
		if (rdtsc() - start > 20000000000) {
			bare_fail(__FILE__, __LINE__, "no interrupt came", seen, number);
		}
	}
}

BARE_CASE(keeps_pending_interrupts, "exit/keeps_pending_interrupts", "AMD APM vol. 2, 16.6.4")
{
	seen = 0;
	bare_on(VECTOR, count);
	bare_on(VECTOR + 0x20, count);
	apic_enable();
	apic_send(0, ICR_SELF | VECTOR);
	apic_send(0, ICR_SELF | (VECTOR + 0x20));
	check(apic_bit(APIC_IRR, VECTOR));
	bare_sync(0);
	check(apic_bit(APIC_IRR, VECTOR));
	check(apic_bit(APIC_IRR, VECTOR + 0x20));
	check_eq(seen, 0);
	__asm__ volatile("sti; nop; cli");
	check_eq(seen, 2);
}

static void sync_inside(struct bare_frame *frame)
{
	(void)frame;
	check(apic_bit(APIC_ISR, VECTOR));
	bare_sync(0);
	check(apic_bit(APIC_ISR, VECTOR));
	/* Its own class stays held off until EOI, though interrupts are on. */
	apic_send(0, ICR_SELF | (VECTOR + 1));
	__asm__ volatile("sti; nop; cli");
	check_eq(seen, 0);
	apic_eoi();
	check(!apic_bit(APIC_ISR, VECTOR));
}

BARE_CASE(keeps_interrupts_in_service, "exit/keeps_interrupts_in_service", "AMD APM vol. 2, 16.6.4")
{
	seen = 0;
	bare_on(VECTOR, sync_inside);
	bare_on(VECTOR + 1, count);
	apic_enable();
	apic_send(0, ICR_SELF | VECTOR);
	__asm__ volatile("sti; nop; nop; cli");
	check_eq(seen, 1);
}

BARE_CASE(keeps_apic_registers, "exit/keeps_apic_registers", "KVM API 4.57")
{
	static const uint32_t offsets[] = {0x20,  0x30,	 0x80,	0xd0,  0xe0,  0xf0,
					   0x320, 0x350, 0x360, 0x370, 0x3e0, 0x380};
	uint32_t before[sizeof(offsets) / sizeof(offsets[0])];
	unsigned int count_ = sizeof(offsets) / sizeof(offsets[0]);

	apic_enable();
	apic_write(0x80, 0x30);
	apic_write(0xd0, 0x05000000);
	apic_write(0xe0, 0x0fffffff);
	apic_write(0x320, 0x10045);
	apic_write(0x350, 0x10700);
	apic_write(0x360, 0x10400);
	apic_write(0x370, 0x100fe);
	apic_write(0x3e0, 0x9);
	for (unsigned int i = 0; i < count_; i++) {
		before[i] = apic_read(offsets[i]);
	}
	bare_sync(0);
	for (unsigned int i = 0; i < count_; i++) {
		check_eq(apic_read(offsets[i]), before[i]);
	}
}

BARE_CASE(keeps_one_shot_timer, "exit/keeps_one_shot_timer", "AMD APM vol. 2, 16.4.1")
{
	uint32_t left;

	seen = 0;
	bare_on(VECTOR, count);
	apic_enable();
	apic_write(APIC_TIMER_DCR, 0xb);
	apic_write(APIC_LVT_TIMER, VECTOR);
	do { /* a busy host may have let all of it go by */
		apic_write(APIC_TIMER_INIT, 20000000);
		left = apic_read(APIC_TIMER_CUR);
		if (left == 0) {
			wait_for(seen + 1);
		}
	} while (left == 0);
	seen = 0;
	bare_sync(0);
	check(apic_read(APIC_TIMER_CUR) < left);
	wait_for(1);
	check_eq(apic_read(APIC_TIMER_CUR), 0);
}

BARE_CASE(keeps_periodic_timer, "exit/keeps_periodic_timer", "AMD APM vol. 2, 16.4.1")
{
	seen = 0;
	bare_on(VECTOR, count);
	apic_enable();
	apic_write(APIC_TIMER_DCR, 0xb);
	apic_write(APIC_LVT_TIMER, VECTOR | LVT_PERIODIC);
	apic_write(APIC_TIMER_INIT, 3000000);
	wait_for(1);
	bare_sync(0);
	wait_for(seen + 3);
	apic_write(APIC_TIMER_INIT, 0);
}

BARE_CASE(keeps_deadline_timer, "exit/keeps_deadline_timer", "Intel SDM vol. 3A, 11.5.4.1")
{
	if ((cpuid(1, 0).ecx & CPUID_DEADLINE) == 0) {
		bare_skip("the CPU has no TSC-deadline timer");
	}
	seen = 0;
	bare_on(VECTOR, count);
	apic_enable();
	apic_write(APIC_LVT_TIMER, VECTOR | LVT_DEADLINE);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + 30000000);
	bare_sync(0);
	wait_for(1);
	check_eq(rdmsr(MSR_TSC_DEADLINE), 0);
}

BARE_CASE(keeps_time, "exit/keeps_time", "AMD APM vol. 2, 13.2.4")
{
	for (unsigned int i = 0; i < 4; i++) {
		uint64_t before = rdtsc();

		bare_sync(i);
		check(rdtsc() > before);
	}
}

static void idle(void *word)
{
	uint32_t *step = word;

	/* This CPU's own registers are moved, too, while CPU 0 waits for what it does next. */
	for (uint32_t i = 1; i <= 4; i++) {
		while (__atomic_load_n(step, __ATOMIC_ACQUIRE) != 2 * i - 1) {
			cpu_pause();
		}
		__atomic_store_n(step, 2 * i, __ATOMIC_RELEASE);
	}
}

BARE_CASE_ON(keeps_other_cpus, "exit/keeps_other_cpus", "AMD APM vol. 2, 14.1.2", 2, 0)
{
	static uint32_t step;

	apic_enable();
	bare_start_cpu(1, idle, &step);
	for (uint32_t i = 1; i <= 4; i++) {
		bare_sync(i);
		__atomic_store_n(&step, 2 * i - 1, __ATOMIC_RELEASE);
		bare_wait(&step, 2 * i);
	}
}

BARE_CASE_ON(keeps_waiting_cpus, "exit/keeps_waiting_cpus", "KVM API 4.38", 2, 0)
{
	static uint32_t step;

	/* Before its INIT the other CPU waits, and still does so then. */
	bare_sync(0);
	apic_enable();
	step = 1;
	bare_start_cpu(1, idle, &step);
	bare_wait(&step, 2);
}

/* ---- the chips of a PC ---- */

BARE_CASE_ON(keeps_pic, "exit/keeps_pic", "KVM API 4.26", 1, BARE_PC)
{
	out8(PIC1, 0x11);
	out8(PIC1_DATA, 0x30);
	out8(PIC1_DATA, 0x04);
	out8(PIC1_DATA, 0x01);
	out8(PIC2, 0x11);
	out8(PIC2_DATA, 0x38);
	out8(PIC2_DATA, 0x02);
	out8(PIC2_DATA, 0x01);
	out8(PIC1_DATA, 0xa5);
	out8(PIC2_DATA, 0x5a);
	bare_sync(0);
	check_eq(in8(PIC1_DATA), 0xa5);
	check_eq(in8(PIC2_DATA), 0x5a);
}

static uint32_t ioapic_read(uint32_t index)
{
	*(volatile uint32_t *)IOAPIC = index;
	return *(volatile uint32_t *)(IOAPIC + 0x10);
}

static void ioapic_write(uint32_t index, uint32_t value)
{
	*(volatile uint32_t *)IOAPIC = index;
	*(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

BARE_CASE_ON(keeps_ioapic, "exit/keeps_ioapic", "KVM API 4.26", 1, BARE_PC)
{
	for (uint32_t pin = 0; pin < 24; pin++) {
		ioapic_write(0x10 + 2 * pin, 0x10000 | (0x30 + pin) | (pin % 2 != 0 ? 0x8000 : 0));
		ioapic_write(0x11 + 2 * pin, pin << 24);
	}
	bare_sync(0);
	for (uint32_t pin = 0; pin < 24; pin++) {
		check_eq(ioapic_read(0x10 + 2 * pin) & 0x1ffff,
			 0x10000 | (0x30 + pin) | (pin % 2 != 0 ? 0x8000 : 0));
		check_eq(ioapic_read(0x11 + 2 * pin), pin << 24);
	}
}

BARE_CASE_ON(keeps_pit, "exit/keeps_pit", "KVM API 4.72", 1, BARE_PC)
{
	out8(PIC1, 0x11);
	out8(PIC1_DATA, 0x30);
	out8(PIC1_DATA, 0x04);
	out8(PIC1_DATA, 0x01);
	out8(PIC1_DATA, 0xff);
	out8(PIC2_DATA, 0xff);
	out8(PIT_CONTROL, 0x34); /* counter 0, two bytes, mode 2 */
	out8(PIT_CHANNEL0, 0x00);
	out8(PIT_CHANNEL0, 0x80);
	bare_sync(0);
	out8(PIT_CONTROL, 0xe2); /* read back: status of counter 0 */
	check_eq(in8(PIT_CHANNEL0) & 0x3f, 0x34);
	for (uint32_t tries = 0;; tries++) {
		uint32_t counter;

		out8(PIT_CONTROL, 0x00);
		counter = in8(PIT_CHANNEL0);
		counter |= (uint32_t)in8(PIT_CHANNEL0) << 8;
		check(counter <= 0x8000);
		if (counter < 0x7000) {
			break; /* it counts */
		}
		check(tries < 100000);
	}
}
