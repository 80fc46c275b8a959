/*
 * The MC146818 real-time clock of a PC and its 128 bytes of CMOS memory.
 *
 * The guest's time is the host's wall-clock time plus an offset, which changes when the guest sets
 * the clock. Nothing ticks: registers and flags are computed when the guest looks, and a timer
 * runs only for an interrupt that the guest has enabled.
 */
#pragma once

#include "lib/base/irq_line.h"
#include "lib/base/state.h"
#include "vmm/board/bus.h"
#include "vmm/lock.h"
#include "vmm/loop.h"

#define RTC_PORTS     2
#define RTC_RAM_BYTES 128

struct rtc {
	/* constant after init */
	struct irq_line irq;
	struct loop *loop;
	struct loop_timer timer;

	struct lock lock;	    /* guards the rest */
	uint8_t index;		    /* the byte that port 0x71 shows */
	uint8_t ram[RTC_RAM_BYTES]; /* clock registers too: the time's while it is stopped */
	int64_t offset_s;	    /* guest's time minus wall-clock time; offset_ns counts up */
	uint32_t offset_ns;
	int64_t seen_s;	     /* the second up to which flags UF and AF are computed */
	int64_t seen_period; /* the same in periods, for PF */
	bool level;	     /* of the interrupt wire */
};

/** What firmware would leave in CMOS memory. */
struct rtc_machine {
	uint64_t low_ram;  /* bytes of RAM below 4 GiB, from address 0 */
	uint64_t high_ram; /* bytes of RAM from 4 GiB */
	unsigned cpus;	   /* 1 to 256 */
};

/** Accesses to ports 0x70 and 0x71; the device is a struct rtc. */
extern const struct bus_ops rtc_ops;

/**
 * rtc_init() - a clock that shows the host's time in UTC, BCD, 24 hours.
 * Return: 0 or -errno, logged.
 * Spec: Motorola MC146818 data sheet; ICH9 data sheet, "Real Time Clock Registers"
 */
must_use int rtc_init(struct rtc *rtc, struct loop *loop, struct irq_line irq,
		      const struct rtc_machine *machine);
void rtc_fini(struct rtc *rtc);

/**
 * rtc_state() - saves or loads. The guest's clock goes on with the host's wall clock in between,
 * and an alarm that came meanwhile is seen after loading. Loading does not drive the interrupt
 * wire by itself; what is overdue then comes from the loop.
 */
void rtc_state(struct rtc *rtc, struct state *s);
