/* The log of interrupts, and the chips that make them. */
#include "tests/guest/bare/apic_regs.h"

static struct irq_log logs[BARE_CPUS_MAX];

struct irq_log *irq_log(uint32_t cpu)
{
	return &logs[cpu];
}

/*
 * Behind a HLT that the interrupt has come in front of, though STI was: QEMU's VMRUN does not load
 * the interrupt shadow (docs/lab.md), and nothing would end that HLT.
 */
static void leave_hlt(struct bare_frame *frame)
{
	const uint8_t *next = (const uint8_t *)(uintptr_t)frame->rip;

	if (next[0] == 0xf4 && next[-1] == 0xfb && bare_told("emulated-svm")) {
		frame->rip++;
	}
}

static void note(struct bare_frame *frame)
{
	struct irq_log *log = irq_log(bare_cpu()->index);

	if (log->total < sizeof(log->order)) {
		log->order[log->total] = (uint8_t)frame->vector;
	}
	log->total++;
	log->count[frame->vector]++;
	leave_hlt(frame);
}

static void note_and_end(struct bare_frame *frame)
{
	note(frame);
	apic_eoi();
}

void irq_take(uint8_t vector)
{
	bare_on(vector, note_and_end);
}

void irq_take_silently(uint8_t vector)
{
	bare_on(vector, note);
}

void irq_open(void)
{
	__asm__ volatile("sti" : : : "memory");
	for (int i = 0; i < 32; i++) {
		cpu_pause();
	}
	__asm__ volatile("cli" : : : "memory");
}

void irq_wait(uint8_t vector, uint32_t count)
{
	struct irq_log *log = irq_log(bare_cpu()->index);

	cpu_cli();
	while (log->count[vector] < count) {
		cpu_sti_hlt_cli();
	}
}

void irq_needs_shadow(void)
{
	if (bare_told("emulated-svm")) {
		bare_skip("QEMU's VMRUN does not load the interrupt shadow");
	}
}

void irq_self(uint8_t vector)
{
	if (apic_x2()) {
		wrmsr(MSR_X2APIC + APIC_SELF_IPI / 16, vector);
	} else {
		apic_send(0, ICR_SELF | ICR_ASSERT | vector);
	}
}

bool apic_bit(uint32_t base, uint8_t vector)
{
	return (apic_read(base + vector / 32 * 16) >> vector % 32 & 1) != 0;
}

void apic_not_of_tcg(const char *what)
{
	struct bare_cpuid name = cpuid(0x40000000, 0);

	if ((cpuid(1, 0).ecx >> 31 & 1) != 0 && name.ebx == 0x54474354 && name.ecx == 0x43544743 &&
	    name.edx == 0x47435447) { /* TCGTCGTCGTCG */
		bare_print("the APIC of QEMU's TCG: ");
		bare_skip(what);
	}
}

void pic_init(uint8_t icw4)
{
	out8(PIC1, 0x11);
	out8(PIC1_DATA, 0x20);
	out8(PIC1_DATA, 0x04);
	out8(PIC1_DATA, icw4);
	out8(PIC2, 0x11);
	out8(PIC2_DATA, 0x28);
	out8(PIC2_DATA, 0x02);
	out8(PIC2_DATA, 0x01);
	out8(PIC1_DATA, 0xfb);
	out8(PIC2_DATA, 0xff);
}

void pit_start(uint8_t mode, uint16_t count)
{
	out8(PIT_CONTROL, (uint8_t)(0x30 | mode << 1));
	out8(PIT_CHANNEL0, (uint8_t)count);
	out8(PIT_CHANNEL0, (uint8_t)(count >> 8));
}
