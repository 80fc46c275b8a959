/*
 * The local APIC of one CPU: xAPIC and x2APIC, timer in its three modes.
 *
 * Who may call what: the functions are for the thread that runs the vCPU, but for lapic_post() and
 * lapic_matches(), which any thread may call at any time, and which the bus (lapic_bus_send())
 * needs no more than. What others post is kept apart, in atomic words, and taken over by the
 * vCPU's own thread when it looks for what is pending; so there is no lock.
 *
 *	other threads	lapic_post()  ---->  posted  --+
 *						       v   lapic_pending()
 *	own thread	timer, self-IPI  ---------->  IRR  ------------>  ISR  ----> EOI
 *								lapic_take()
 *
 * Spec: AMD APM vol. 2, chapter 16; Intel SDM vol. 3A, "Advanced Programmable Interrupt Controller"
 */
#pragma once

#include <stdatomic.h>

#include "lib/base/types.h"

#define LAPIC_BASE  UINT64_C(0xfee00000) /* where the registers are after reset */
#define LAPIC_BYTES 0x1000

/** MSR_IA32_APICBASE */
#define LAPIC_BASE_BSP	  BIT(8)
#define LAPIC_BASE_X2APIC BIT(10)
#define LAPIC_BASE_ENABLE BIT(11)

/** The first of the x2APIC's MSRs; register at offset n is MSR 0x800 + n / 16. */
#define LAPIC_MSR_FIRST 0x800
#define LAPIC_MSR_LAST	0x8ff

enum lapic_reg {
	LAPIC_ID = 0x20,
	LAPIC_VERSION = 0x30,
	LAPIC_TPR = 0x80,
	LAPIC_APR = 0x90,
	LAPIC_PPR = 0xa0,
	LAPIC_EOI = 0xb0,
	LAPIC_RRD = 0xc0,
	LAPIC_LDR = 0xd0,
	LAPIC_DFR = 0xe0,
	LAPIC_SVR = 0xf0,
	LAPIC_ISR = 0x100, /* eight words, as the next two */
	LAPIC_TMR = 0x180,
	LAPIC_IRR = 0x200,
	LAPIC_ESR = 0x280,
	LAPIC_ICR = 0x300,
	LAPIC_ICR_HIGH = 0x310,
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_LVT_THERMAL = 0x330,
	LAPIC_LVT_PERF = 0x340,
	LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_LINT1 = 0x360,
	LAPIC_LVT_ERROR = 0x370,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390,
	LAPIC_TIMER_DIVIDE = 0x3e0,
	LAPIC_SELF_IPI = 0x3f0, /* x2APIC only */
};

/** Delivery modes, as in ICR, LVTs and messages. */
enum lapic_mode {
	LAPIC_FIXED = 0,
	LAPIC_LOWEST = 1,
	LAPIC_SMI = 2,
	LAPIC_NMI = 4,
	LAPIC_INIT = 5,
	LAPIC_STARTUP = 6,
	LAPIC_EXTINT = 7,
};

enum lapic_shorthand {
	LAPIC_NO_SHORTHAND,
	LAPIC_SELF,
	LAPIC_ALL,
	LAPIC_OTHERS,
};

/** What travels between local APICs: an IPI, an MSI, a message of an IOAPIC. */
struct lapic_message {
	uint32_t dest;
	bool x2; /* @dest has 32 bits; else 8 */
	bool logical;
	bool level;    /* trigger mode */
	bool deassert; /* INIT level de-assert: ignored by all but old chips */
	uint8_t vector;
	enum lapic_mode mode;
	enum lapic_shorthand shorthand;
};

/** The time, as the caller's clocks have it in one moment. */
struct lapic_time {
	uint64_t now_ns;  /* monotonic */
	uint64_t tsc;	  /* the guest's */
	uint64_t tsc_khz; /* of the guest's TSC; not 0 */
};

/** What a local APIC does to the rest; called from within the functions below. */
struct lapic_ops {
	/* An IPI leaves: lapic_bus_send() to all CPUs. */
	void (*send)(void *ctx, const struct lapic_message *message);
	/* Service of a level-triggered interrupt ended: IOAPICs want to know. */
	void (*eoi)(void *ctx, uint8_t vector);
	/* The timer is to expire at @deadline_ns, or not at all (UINT64_MAX). */
	void (*timer)(void *ctx, uint64_t deadline_ns);
	/* Any thread: something has been posted to this CPU. @mode tells what: LAPIC_FIXED: see
	 * lapic_pending(); NMI, SMI, INIT, STARTUP (with its vector): the CPU's own affair. */
	void (*posted)(void *ctx, enum lapic_mode mode, uint8_t vector);
	/* What lapic_matches() goes by may have changed: ID, LDR, DFR, the mode. NULL: not told. */
	void (*moved)(void *ctx);
};

struct lapic {
	/* constant after init */
	const struct lapic_ops *ops;
	void *ctx;
	uint32_t id; /* of x2APIC; the xAPIC's can be written */

	/* the vCPU's thread; base, ID, LDR, DFR, SVR and PPR are read by others, a word at a time
	 */
	uint64_t base;
	uint32_t regs[64];     /* by offset / 16 */
	uint32_t icr_high;     /* ICR[63:32] */
	uint32_t irr, isr;     /* bits: which words of these registers are not 0 */
	uint32_t errors;       /* what the next write of ESR shows */
	uint64_t deadline_ns;  /* of the timer; UINT64_MAX: none */
	uint64_t deadline_tsc; /* MSR_IA32_TSC_DEADLINE */

	/* atomic */
	_Atomic uint32_t posted[8], posted_level[8];
	_Atomic uint32_t posted_words; /* bits: which of the two above are to be looked at */
	_Atomic uint32_t arbitration;  /* how often lowest priority has chosen this one */
};

/** lapic_init() - as after power-on. @id: unique in the machine. @bsp: the first CPU. */
void lapic_init(struct lapic *lapic, uint32_t id, bool bsp, const struct lapic_ops *ops, void *ctx);

/** lapic_reset() - INIT, or power-on again: all but the id and the base register. */
void lapic_reset(struct lapic *lapic);

/**
 * lapic_read() / lapic_write() - one access to the page of an xAPIC.
 * @offset: below LAPIC_BYTES. Reads of 1, 2 and 4 bytes within a register; writes of 4, aligned to
 *	16; others read as 0 and are ignored.
 * Spec: AMD APM vol. 2, 16.3.2
 */
uint32_t lapic_read(struct lapic *lapic, uint32_t offset, const struct lapic_time *time);
void lapic_write(struct lapic *lapic, uint32_t offset, uint32_t value,
		 const struct lapic_time *time);

/**
 * lapic_msr_read() / lapic_msr_write() - an MSR of the x2APIC.
 * Return: 0, or -EINVAL where the CPU raises #GP.
 * Spec: AMD APM vol. 2, 16.11; Intel SDM vol. 3A, "x2APIC Register Address Space"
 */
must_use int lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value,
			    const struct lapic_time *time);
must_use int lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value,
			     const struct lapic_time *time);

/**
 * lapic_set_base() - a write to MSR_IA32_APICBASE.
 * Return: 0, or -EINVAL for a transition that the CPU refuses with #GP. Reserved bits are the
 *	caller's to check, who knows the width of addresses.
 */
must_use int lapic_set_base(struct lapic *lapic, uint64_t base);

/** lapic_deadline() / lapic_set_deadline() - MSR_IA32_TSC_DEADLINE. Writes count in its mode only.
 */
uint64_t lapic_deadline(const struct lapic *lapic);
void lapic_set_deadline(struct lapic *lapic, uint64_t tsc, const struct lapic_time *time);

/** lapic_expire() - to be called when the time that ops->timer() was told has come. */
void lapic_expire(struct lapic *lapic, const struct lapic_time *time);

/** lapic_pending() - the vector to be delivered next. Return: -1 if there is none, or the task or
 *  processor priority holds it back. */
int lapic_pending(struct lapic *lapic);

/** lapic_waiting() - the highest vector requested, whatever the priority. Return: or -1. */
int lapic_waiting(struct lapic *lapic);

/** lapic_take() - the CPU acknowledges @vector, which lapic_pending() gave. */
void lapic_take(struct lapic *lapic, uint8_t vector);

/** lapic_tpr() / lapic_set_tpr() - the task priority as CR8 has it: 0 to 15. */
uint8_t lapic_tpr(const struct lapic *lapic);
void lapic_set_tpr(struct lapic *lapic, uint8_t cr8);

/** lapic_takes_extint() - does the PIC's wire reach this CPU, by LINT0, or with the APIC off? */
bool lapic_takes_extint(const struct lapic *lapic);

/**
 * lapic_post() - a message has come for this CPU.
 * Return: false if it is not accepted: the APIC is off, or the vector is not one.
 * Context: any thread.
 */
bool lapic_post(struct lapic *lapic, const struct lapic_message *message);

/**
 * lapic_post_fixed() - the same where it does not matter, for LAPIC_FIXED with a vector from 16 on.
 */
void lapic_post_fixed(struct lapic *lapic, const struct lapic_message *message);

/** lapic_matches() - is the message for this CPU? Shorthands are not looked at. Any thread. */
bool lapic_matches(const struct lapic *lapic, const struct lapic_message *message);

/**
 * lapic_bus_send() - delivers a message to those of @all that it is for.
 * @from: the sender, for shorthands; NULL: a device.
 * Return: how many accepted it; 0 if there was none.
 * Context: any thread.
 */
unsigned lapic_bus_send(struct lapic *const *all, unsigned count, const struct lapic *from,
			const struct lapic_message *message);

/** lapic_msi() - the message that a write of @data to @address is. @x2: bits 63:40 of the address
 *  are bits 31:8 of the destination (KVM_X2APIC_API_USE_32BIT_IDS). */
struct lapic_message lapic_msi(uint64_t address, uint32_t data, bool x2);

/**
 * lapic_save() / lapic_load() - the register page as KVM_GET_LAPIC and KVM_SET_LAPIC have it: a
 * register at each multiple of 16.
 * @x2_ids: an x2APIC's id has 32 bits there (KVM_X2APIC_API_USE_32BIT_IDS), else bits 31:24.
 * Return: 0, or -EINVAL if the id is another one than this x2APIC's.
 */
void lapic_save(struct lapic *lapic, uint8_t page[1024], bool x2_ids,
		const struct lapic_time *time);
must_use int lapic_load(struct lapic *lapic, const uint8_t page[1024], bool x2_ids,
			const struct lapic_time *time);
