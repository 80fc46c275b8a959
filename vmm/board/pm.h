/*
 * Power management of the ICH9: the ACPI fixed registers at PMBASE, the ports by which ACPI is
 * switched on (APM), and the reset control register.
 *
 *	PMBASE	+0x00 PM1_STS	 +0x02 PM1_EN	 +0x04 PM1_CNT	 +0x08 PM1_TMR (24 bits)
 *		+0x20 GPE0_STS	 +0x28 GPE0_EN	 +0x30 SMI_EN	 +0x34 SMI_STS
 *
 * There is no system management mode behind it: SMI_EN is kept, and no SMI ever comes.
 */
#pragma once

#include <pthread.h>

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/loop.h"

#define PM_BASE	      0x600 /* where the LPC bridge says that they are */
#define PM_LEN	      0x80
#define PM_APM_PORT   0xb2 /* and 0xb3 */
#define PM_APM_PORTS  2
#define PM_RESET_PORT 0xcf9
#define PM_SCI_GSI    9

#define PM_TIMER_HZ   3579545
#define PM_TIMER_BITS 24

/** What the FADT and the DSDT have to say. */
#define PM_SLP_TYP_S5	5
#define PM_ACPI_ENABLE	2 /* to SMI_CMD, which is the first APM port */
#define PM_ACPI_DISABLE 3

/** What the guest asks of the machine. Context: a vCPU's thread, no lock. */
struct pm_ops {
	void (*poweroff)(void *ctx);
	void (*reset)(void *ctx);
};

struct pm {
	/* constant after init */
	const struct pm_ops *ops;
	void *ctx;
	struct irq_line sci;
	struct loop *loop;
	struct loop_timer timer;

	pthread_mutex_t lock; /* guards the rest */
	uint8_t regs[PM_LEN]; /* but for PM1_TMR */
	uint64_t timer_start_ns;
	uint64_t timer_half; /* half-turns of PM1_TMR that TMR_STS knows of */
	uint8_t apm[PM_APM_PORTS];
	uint8_t reset_control;
	bool level; /* of the SCI */
};

/** Accesses to the block at PM_BASE; the device is a struct pm, as for the next two. */
extern const struct bus_ops pm_ops;

/** Accesses to the two APM ports. */
extern const struct bus_ops pm_apm_ops;

/** Byte accesses to PM_RESET_PORT, at offset 0. The PCI address register covers the port too. */
extern const struct bus_ops pm_reset_ops;

/**
 * pm_init() - the block after reset; ACPI is off until the guest or its firmware enables it.
 * @sci: the system control interrupt; level-triggered.
 * Return: 0 or -errno, logged.
 * Spec: ICH9 data sheet, "Power Management Registers", "APM I/O Decode", "RST_CNT"; ACPI 6.4,
 * section 4.8
 */
must_use int pm_init(struct pm *pm, struct loop *loop, struct irq_line sci,
		     const struct pm_ops *ops, void *ctx);
void pm_fini(struct pm *pm);

/** pm_power_button() - presses it; the guest sees a fixed event. Context: any thread. */
void pm_power_button(struct pm *pm);

/**
 * pm_state() - saves or loads; PM1_TMR goes on from where it was. Loading does not drive the SCI
 * wire.
 */
void pm_state(struct pm *pm, struct state *s);
