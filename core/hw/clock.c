/*
 * Spec: Intel SDM vol. 2A, "CPUID", leaf 15h; vol. 3B, "Time-Stamp Counter"; ACPI 6.4, 4.8.3.3
 * "Power Management Timer"; IA-PC HPET Specification 1.0a, 2.3; Intel 8254 data sheet; Motorola
 * MC146818A
 */
#include "core/hw/clock.h"

#include "core/hw/acpi.h"
#include "core/hw/asm.h"
#include "core/hw/calibrate.h"
#include "core/hw/cpu.h"
#include "core/hw/rate.h"
#include "core/mem/kmap.h"

#define PM_TIMER_HZ  UINT64_C(3579545)
#define PIT_HZ	     UINT64_C(1193182)
#define PIT_MODE     0x43
#define PIT_CHANNEL2 0x42
#define PORT_B	     0x61
#define PORT_B_GATE  BIT(0) /* of channel 2 */
#define PORT_B_SOUND BIT(1)
#define PORT_B_OUT   BIT(5) /* channel 2's output */
#define CMOS_INDEX   0x70
#define CMOS_DATA    0x71
#define HPET_CAPS    0x0
#define HPET_CONFIG  0x10
#define HPET_COUNTER 0xf0
#define CPUID_TSC    0x15

/* How long is measured: as short as each timer's steps allow for 50 ppm or better. */
#define HPET_NS 2000000
#define PM_NS	10000000
#define PIT_NS	20000000

static struct {
	/* Constant after start-up. */
	uint64_t base; /* TSC at zero */
	uint64_t khz;
	struct rate rate;
	uint64_t lapic_mult;
	uint64_t wall_ns; /* at zero */
	const char *source;
	uint8_t *hpet;
} clk;

uint64_t clock_now_ns(void)
{
	return rate_ns(clk.rate, asm_rdtsc() - clk.base);
}

uint64_t clock_wall_ns(void)
{
	return clk.wall_ns + clock_now_ns();
}

uint64_t clock_tsc_khz(void)
{
	return clk.khz;
}

uint64_t clock_tsc_to_ns(uint64_t tsc)
{
	return tsc > clk.base ? rate_ns(clk.rate, tsc - clk.base) : 0;
}

uint64_t clock_ns_to_tsc(uint64_t ns)
{
	uint64_t ticks = rate_ticks(clk.rate, ns);

	return ticks < UINT64_MAX - clk.base ? clk.base + ticks : UINT64_MAX;
}

uint64_t clock_lapic_mult(void)
{
	return clk.lapic_mult;
}

const char *clock_source(void)
{
	return clk.source;
}

void clock_spin_ns(uint64_t ns)
{
	uint64_t end = clock_now_ns() + ns;

	while (clock_now_ns() < end) {
		asm_pause();
	}
}

static uint16_t pm_port;

static void already_runs(void)
{
}

static uint64_t read_pm(void)
{
	return asm_in32(pm_port) & 0xffffff;
}

static uint64_t read_hpet(void)
{
	return asm_read32(clk.hpet + HPET_COUNTER);
}

/* Channel 2 counts down, in mode 0, and is read as one that counts up. */
static uint64_t read_pit(void)
{
	asm_out8(PIT_MODE, 0x80); /* latch */
	unsigned low = asm_in8(PIT_CHANNEL2);
	return 0xffff - (low | (unsigned)asm_in8(PIT_CHANNEL2) << 8);
}

static void start_pit(void)
{
	asm_out8(PORT_B, (uint8_t)((asm_in8(PORT_B) & ~PORT_B_SOUND) | PORT_B_GATE));
	asm_out8(PIT_MODE, 0xb0); /* channel 2, two bytes, mode 0, binary */
	asm_out8(PIT_CHANNEL2, 0xff);
	asm_out8(PIT_CHANNEL2, 0xff);
}

/* In mode 0 the output is low until the count has come to its end, after 55 ms. */
static bool pit_wrapped(void)
{
	return (asm_in8(PORT_B) & PORT_B_OUT) != 0;
}

/* Is there an HPET that runs? Its period is in femtoseconds. */
static bool use_hpet(const struct acpi_info *acpi, struct reference *r)
{
	if (acpi->hpet == 0) {
		return false;
	}
	clk.hpet = kmap_device(hpa(acpi->hpet), PAGE_SIZE);
	if (clk.hpet == NULL) {
		return false;
	}
	uint32_t period = asm_read32(clk.hpet + HPET_CAPS + 4);
	if (period == 0 || period > 100000000) {
		return false;
	}
	asm_write32(clk.hpet + HPET_CONFIG, asm_read32(clk.hpet + HPET_CONFIG) | 1);
	*r = (struct reference){.name = "HPET",
				.hz = UINT64_C(1000000000000000) / period,
				.wraps = BIT(32),
				.ns = HPET_NS,
				.start = already_runs,
				.read = read_hpet};
	return true;
}

static bool measure(const struct reference *r)
{
	struct calibration found;

	if (!calibrate(r, &found)) {
		return false;
	}
	clk.khz = found.tsc_khz;
	clk.lapic_mult = found.lapic_mult;
	clk.source = r->name;
	return true;
}

/* The crystal's frequency, and the TSC's ratio to it. */
static bool told_by_cpu(void)
{
	if (asm_cpuid(0, 0).eax < CPUID_TSC || !cpu_features()->tsc_deadline) {
		return false; /* without deadlines the local APIC's timer is to be measured anyway
			       */
	}
	struct asm_cpuid r = asm_cpuid(CPUID_TSC, 0);
	if (r.eax == 0 || r.ebx == 0 || r.ecx == 0) {
		return false;
	}
	clk.khz = (uint64_t)r.ecx * r.ebx / r.eax / 1000;
	clk.source = "CPUID";
	return clk.khz > 0;
}

static void find_rate(const struct acpi_info *acpi)
{
	struct reference r;

	if (told_by_cpu()) {
		return;
	}
	if (use_hpet(acpi, &r) && measure(&r)) {
		return;
	}
	pm_port = acpi->pm_timer;
	r = (struct reference){.name = "PM timer",
			       .hz = PM_TIMER_HZ,
			       .wraps = BIT(24),
			       .ns = PM_NS,
			       .start = already_runs,
			       .read = read_pm};
	if (pm_port != 0 && measure(&r)) {
		return;
	}
	r = (struct reference){.name = "PIT",
			       .hz = PIT_HZ,
			       .wraps = BIT(16),
			       .ns = PIT_NS,
			       .start = start_pit,
			       .read = read_pit,
			       .wrapped = pit_wrapped};
	if (!measure(&r)) {
		clk.khz = 1000000; /* nothing to go by: time is wrong, but passes */
		clk.source = "nothing";
	}
}

static unsigned cmos(unsigned reg)
{
	asm_out8(CMOS_INDEX, (uint8_t)reg);
	return asm_in8(CMOS_DATA);
}

static unsigned from_bcd(unsigned v)
{
	return (v >> 4) * 10 + (v & 15);
}

struct rtc_time {
	unsigned second, minute, hour, day, month, year;
};

/* Seconds from 1970. Years begin in March here, so that the leap day is the last. */
static uint64_t seconds_since_1970(const struct rtc_time *t)
{
	uint64_t year = 2000 + t->year - (t->month <= 2);
	uint64_t month = (t->month + 9) % 12;
	uint64_t days =
		year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + t->day;

	days -= 719469; /* 1970-01-01, counted like this */
	return ((days * 24 + t->hour) * 60 + t->minute) * 60 + t->second;
}

static struct rtc_time read_rtc(void)
{
	unsigned b = cmos(0x0b);
	struct rtc_time t = {cmos(0), cmos(2), cmos(4) & 0x7f, cmos(7), cmos(8), cmos(9)};
	bool is_pm = (b & 2) == 0 && (cmos(4) & 0x80) != 0;

	if ((b & 4) == 0) {
		t = (struct rtc_time){from_bcd(t.second), from_bcd(t.minute), from_bcd(t.hour),
				      from_bcd(t.day),	  from_bcd(t.month),  from_bcd(t.year)};
	}
	if ((b & 2) == 0) {
		t.hour = t.hour % 12 + (is_pm ? 12 : 0);
	}
	return t;
}

/* The RTC may count on between two registers; then the next look differs. */
static void read_wall_clock(void)
{
	struct rtc_time t = read_rtc();

	for (unsigned i = 0; i < 100; i++) {
		struct rtc_time again = read_rtc();
		if ((cmos(0x0a) & 0x80) == 0 && again.second == t.second &&
		    again.minute == t.minute && again.hour == t.hour && again.day == t.day) {
			break;
		}
		t = again;
	}
	clk.wall_ns = seconds_since_1970(&t) * 1000000000 - clock_now_ns();
}

void clock_init(const struct acpi_info *acpi)
{
	clk.base = asm_rdtsc();
	find_rate(acpi);
	clk.rate = rate_of(clk.khz);
	read_wall_clock();
}
