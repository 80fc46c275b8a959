/* Registers of the local APIC and of the chips beside it, by the names of the manuals; and a log of
 * the interrupts that arrived. */
#pragma once

#include "tests/guest/bare/bare.h"

#define MSR_APIC_BASE	  0x1b
#define APIC_BASE_BSP	  0x100
#define APIC_BASE_X2	  0x400
#define APIC_BASE_EN	  0x800
#define APIC_BASE_ADDRESS UINT64_C(0xffffff000)
#define MSR_TSC_DEADLINE  0x6e0
#define MSR_X2APIC	  0x800 /* plus the offset of a register divided by 16 */

#define APIC_ID		0x20
#define APIC_VERSION	0x30
#define APIC_TPR	0x80
#define APIC_PPR	0xa0
#define APIC_EOI	0xb0
#define APIC_LDR	0xd0
#define APIC_DFR	0xe0
#define APIC_SVR	0xf0
#define APIC_ISR	0x100 /* 8 registers each */
#define APIC_TMR	0x180
#define APIC_IRR	0x200
#define APIC_ESR	0x280
#define APIC_ICR	0x300
#define APIC_ICR_HIGH	0x310
#define APIC_LVT_TIMER	0x320
#define APIC_LVT_LINT0	0x350
#define APIC_LVT_LINT1	0x360
#define APIC_LVT_ERROR	0x370
#define APIC_TIMER_INIT 0x380 /* initial count */
#define APIC_TIMER_CUR	0x390 /* current count */
#define APIC_TIMER_DCR	0x3e0 /* divide configuration */
#define APIC_SELF_IPI	0x3f0

#define SVR_ENABLED 0x100

#define LVT_EXTINT   0x00700
#define LVT_MASKED   0x10000
#define LVT_PERIODIC 0x20000
#define LVT_DEADLINE 0x40000

/* ICR: delivery mode, destination mode, level, shorthand. */
#define ICR_LOWEST  0x00100
#define ICR_NMI	    0x00400
#define ICR_INIT    0x00500
#define ICR_SIPI    0x00600
#define ICR_LOGICAL 0x00800
#define ICR_PENDING 0x01000
#define ICR_ASSERT  0x04000
#define ICR_LEVEL   0x08000
#define ICR_SELF    0x40000
#define ICR_ALL	    0x80000
#define ICR_OTHERS  0xc0000

#define PIC1	  0x20
#define PIC2	  0xa0
#define PIC1_DATA 0x21
#define PIC2_DATA 0xa1
#define ELCR1	  0x4d0
#define ELCR2	  0x4d1
#define PIC_EOI	  0x20 /* OCW2, non-specific */
#define PIC_IRR	  0x0a /* OCW3: the next read gives IRR, or ISR */
#define PIC_ISR	  0x0b

#define PIT_CHANNEL0 0x40
#define PIT_CHANNEL2 0x42
#define PIT_CONTROL  0x43
#define PIT_SPEAKER  0x61
#define PIT_HZ	     1193182

#define IOAPIC UINT64_C(0xfec00000)

/* What arrived at one CPU. */
struct irq_log {
	volatile uint32_t total;
	volatile uint32_t count[256];
	volatile uint8_t order[64]; /* the vectors; what comes after 64 is only counted */
};

/** irq_log() - of the CPU with this index. */
struct irq_log *irq_log(uint32_t cpu);

/** irq_take() - from now on the vector is logged, and answered by an EOI of the local APIC. */
void irq_take(uint8_t vector);

/** irq_take_silently() - logged, without an EOI. */
void irq_take_silently(uint8_t vector);

/** irq_open() - interrupts on for some instructions: what is pending and not held back arrives. */
void irq_open(void);

/** irq_wait() - halts with interrupts on until this CPU has had @count of the vector. */
void irq_wait(uint8_t vector, uint32_t count);

/** irq_needs_shadow() - skips the case where QEMU emulates SVM, whose VMRUN does not load the
 * shadow: it is about just that. */
void irq_needs_shadow(void);

/** irq_self() - a fixed IPI to this CPU. */
void irq_self(uint8_t vector);

/** apic_bit() - the vector's bit in ISR, TMR or IRR. */
bool apic_bit(uint32_t base, uint8_t vector);

/** apic_not_of_tcg() - skips the case on QEMU's TCG without a provider, whose APIC lacks @what. */
void apic_not_of_tcg(const char *what);

/** pic_init() - both 8259A: IRQ 0 is vector 0x20, IRQ 8 is 0x28; all masked but the cascade.
 * @icw4: 0x01: 8086 mode; 0x02 more: automatic EOI of the first. */
void pic_init(uint8_t icw4);

/** pit_start() - channel 0 in a mode (0-5), low byte first; @count 0 is 65536. */
void pit_start(uint8_t mode, uint16_t count);
