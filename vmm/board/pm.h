/*
 * The power management block of the ICH9: ACPI's fixed registers with the PM timer, the power
 * button and the sleep register, and the reset control register.
 *
 * There is no SMI handler to switch from: SCI_EN is always set, as on ACPI-only hardware.
 */
#pragma once

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/lock.h"
#include "vmm/loop.h"

enum pm_event {
	PM_POWEROFF, /* S5 was entered */
	PM_RESET,    /* the reset control register was used */
};

struct pm {
	/* constant after init */
	struct loop *loop;
	struct irq_line sci;
	void (*event)(void *ctx, enum pm_event event);
	void *ctx;
	uint64_t start_ns;	 /* when the PM timer was 0 */
	struct loop_timer timer; /* for the PM timer's interrupt, while the guest wants it */

	struct lock lock; /* guards the rest */
	uint16_t sts, en; /* PM1_STS, PM1_EN */
	uint16_t cnt;	  /* PM1_CNT */
	uint64_t gpe_sts, gpe_en;
	uint64_t overflows;   /* of the PM timer, as far as TMR_STS has seen them */
	uint64_t deadline_ns; /* what @timer is set to; UINT64_MAX: it is not */
	uint8_t reset_control;
	bool sci_level;
};

/** Accesses to the block at PORT_PM_BASE; the device is a struct pm. */
extern const struct bus_ops pm_ops;

/** Accesses to PORT_RESET_CONTROL; the device is a struct pm. */
extern const struct bus_ops pm_reset_ops;

/**
 * pm_init() - the block after reset.
 * @event: called on a vCPU's thread, without a lock.
 * Return: 0 or -errno, logged.
 */
must_use int pm_init(struct pm *pm, struct loop *loop, struct irq_line sci,
		     void (*event)(void *ctx, enum pm_event event), void *ctx);
void pm_fini(struct pm *pm);

/**
 * pm_power_button() - presses it once.
 * Context: any thread. Spec: ACPI 6.4, 4.8.2.2.1 "Power Button"
 */
void pm_power_button(struct pm *pm);

/** pm_state() - saves or loads the registers and the timer. Loading drives the SCI wire. */
void pm_state(struct pm *pm, struct state *s);
