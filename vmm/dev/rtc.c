#include "vmm/dev/rtc.h"

#include <errno.h>
#include <string.h>

#include "vmm/clock.h"
#include "vmm/dev/rtc_time.h"
#include "vmm/log.h"

#define A_RS	       0x0f
#define A_DV_RESET     0x60 /* DV 11x: the divider is held in reset */
#define A_32KHZ	       0x20
#define A_1024HZ       0x06
#define A_UIP	       0x80
#define B_SET	       0x80
#define B_UIE	       0x10
#define C_IRQF	       0x80
#define C_PF	       0x40
#define C_AF	       0x20
#define C_UF	       0x10
#define C_FLAGS	       (C_PF | C_AF | C_UF)
#define D_VRT	       0x80
#define INDEX_WRITABLE 0x7f /* bit 7 masks NMIs, of which there are none */

#define NS_PER_S INT64_C(1000000000)

/* UIP is set this long before an update, which itself takes no time. */
#define UIP_NS 244000

/* After the divider is let go, the first update comes half a second later. */
#define DIVIDER_RELEASE_NS 500000000

/* The divider's first stage, from which the periodic interrupt is taken. */
#define BASE_HZ 32768

/* The host's wall clock may be set while an alarm waits: look again at least this often. */
#define RECHECK_NS (60 * NS_PER_S)

/* More than a guest can set: it has four digits for the year. */
#define OFFSET_MAX_S INT64_C(400000000000)

struct rtc_instant {
	int64_t s;
	uint32_t ns;
};

static bool divider_reset(const struct rtc *r)
{
	return (r->ram[RTC_A] & A_DV_RESET) == A_DV_RESET;
}

/* The time registers hold still: they are the guest's to set. */
static bool stopped(const struct rtc *r)
{
	return divider_reset(r) || (r->ram[RTC_B] & B_SET) != 0;
}

static struct rtc_instant guest_now(const struct rtc *r)
{
	uint64_t wall = clock_wall_ns();
	int64_t ns = (int64_t)(wall % NS_PER_S) + r->offset_ns;

	return (struct rtc_instant){
		.s = (int64_t)(wall / NS_PER_S) + r->offset_s + ns / NS_PER_S,
		.ns = (uint32_t)(ns % NS_PER_S),
	};
}

/* The length of a period in cycles of 32768 Hz as a power of two; -1 for none. */
static int period_shift(const struct rtc *r)
{
	int rs = r->ram[RTC_A] & A_RS;

	if (rs == 0 || divider_reset(r)) {
		return -1;
	}
	return rs <= 2 ? rs + 6 : rs - 1;
}

/* Periods up to @t; they are in phase with the seconds. */
static int64_t periods_at(const struct rtc *r, struct rtc_instant t)
{
	int shift = period_shift(r);
	int64_t cycles = t.s * BASE_HZ + t.ns * INT64_C(32768) / NS_PER_S;

	return shift < 0 ? 0 : cycles >> shift;
}

static void set_guest_time(struct rtc *r, int64_t s, uint32_t ns)
{
	uint64_t wall = clock_wall_ns();
	int64_t diff_ns = (int64_t)ns - (int64_t)(wall % NS_PER_S);

	r->offset_s = s - (int64_t)(wall / NS_PER_S);
	if (diff_ns < 0) {
		diff_ns += NS_PER_S;
		r->offset_s--;
	}
	r->offset_ns = (uint32_t)diff_ns;
	r->seen_s = s;
	r->seen_period = periods_at(r, (struct rtc_instant){s, ns});
}

/* The flags that ask for an interrupt: their enable bits are at the same places in B. */
static bool interrupting(const struct rtc *r)
{
	return (r->ram[RTC_C] & r->ram[RTC_B] & C_FLAGS) != 0;
}

static void update_irq(struct rtc *r)
{
	bool level = interrupting(r);

	r->ram[RTC_C] = (uint8_t)((r->ram[RTC_C] & C_FLAGS) | (level ? C_IRQF : 0));
	if (level != r->level) {
		r->level = level;
		irq_line_set(&r->irq, level);
	}
}

/* Sets the flags for all that has happened since the last look. */
static void catch_up(struct rtc *r)
{
	struct rtc_instant now = guest_now(r);
	int64_t period = periods_at(r, now);

	if (!stopped(r) && now.s > r->seen_s) {
		r->ram[RTC_C] |= C_UF;
		if (rtc_time_alarm(r->ram, r->seen_s) <= now.s) {
			r->ram[RTC_C] |= C_AF;
		}
	}
	r->seen_s = now.s; /* a wall clock that was set back is followed without a flag */
	if (period != r->seen_period) {
		r->ram[RTC_C] |= C_PF;
		r->seen_period = period;
	}
	update_irq(r);
}

static int64_t ns_until(struct rtc_instant now, int64_t s, uint32_t ns)
{
	if (s - now.s > RECHECK_NS / NS_PER_S) {
		return RECHECK_NS;
	}
	return MAX(0, (s - now.s) * NS_PER_S + (int64_t)ns - (int64_t)now.ns);
}

/*
 * Lets the timer run to the next interrupt, if one may come; counted from what was last seen, not
 * from now, so that nothing falls in between. Context: lock, after catch_up().
 */
static void rearm(struct rtc *r)
{
	uint8_t enabled = r->ram[RTC_B];
	struct rtc_instant now = guest_now(r);
	int64_t wait_ns = INT64_MAX;

	if (r->level) {
		/* The wire is up, and stays up until the guest reads C. */
		loop_timer_clear(&r->timer);
		return;
	}
	if ((enabled & B_UIE) != 0 && !stopped(r)) {
		wait_ns = ns_until(now, r->seen_s + 1, 0);
	}
	if ((enabled & C_AF) != 0 && !stopped(r)) {
		int64_t at = rtc_time_alarm(r->ram, r->seen_s);

		if (at != RTC_ALARM_NEVER) {
			wait_ns = MIN(wait_ns, ns_until(now, at, 0));
		}
	}
	if ((enabled & C_PF) != 0 && period_shift(r) >= 0) {
		int64_t cycles = (r->seen_period + 1) * (INT64_C(1) << period_shift(r));
		int64_t ns = ((cycles & (BASE_HZ - 1)) * NS_PER_S + BASE_HZ - 1) / BASE_HZ;

		wait_ns = MIN(wait_ns, ns_until(now, cycles >> 15, (uint32_t)ns));
	}
	if (wait_ns == INT64_MAX) {
		loop_timer_clear(&r->timer);
	} else {
		loop_timer_set(&r->timer, clock_now_ns() + (uint64_t)wait_ns);
	}
}

static void on_timer(void *arg)
{
	struct rtc *r = arg;

	lock_take(&r->lock);
	catch_up(r);
	rearm(r);
	lock_give(&r->lock);
}

static bool is_time(uint8_t index)
{
	switch (index) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_WEEKDAY:
	case RTC_DAY:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY_BYTE:
		return true;
	default:
		return false;
	}
}

static uint8_t read_register(struct rtc *r, uint8_t index)
{
	struct rtc_instant now = guest_now(r);
	uint8_t value;

	if (is_time(index) && !stopped(r)) {
		rtc_time_encode(r->ram, now.s);
	}
	value = r->ram[index];
	if (index == RTC_A && !stopped(r) && now.ns >= NS_PER_S - UIP_NS) {
		value |= A_UIP;
	}
	if (index == RTC_C) {
		catch_up(r);
		value = r->ram[RTC_C];
		r->ram[RTC_C] = 0;
		update_irq(r);
		rearm(r);
	}
	return value;
}

/* Control register @index gets @value; the clock may stop or go on by it. */
static void write_control(struct rtc *r, uint8_t index, uint8_t value)
{
	bool was_stopped, was_reset;

	catch_up(r);
	was_stopped = stopped(r);
	was_reset = divider_reset(r);
	if (!was_stopped) {
		/* What the registers show if it stops now, in the format that holds until now. */
		rtc_time_encode(r->ram, guest_now(r).s);
	}
	if (index == RTC_B && (value & ~r->ram[RTC_B] & B_SET) != 0) {
		value &= (uint8_t)~B_UIE; /* "SET going high clears UIE" */
	}
	r->ram[index] = value;
	if (was_reset && !divider_reset(r)) {
		set_guest_time(r, guest_now(r).s, DIVIDER_RELEASE_NS);
	}
	if (was_stopped && !stopped(r)) {
		set_guest_time(r, rtc_time_decode(r->ram), guest_now(r).ns);
	}
	r->seen_period = periods_at(r, guest_now(r));
	update_irq(r);
	rearm(r);
}

static void write_register(struct rtc *r, uint8_t index, uint8_t value)
{
	if (is_time(index) && !stopped(r)) {
		struct rtc_instant now = guest_now(r);

		catch_up(r);
		rtc_time_encode(r->ram, now.s);
		r->ram[index] = value;
		set_guest_time(r, rtc_time_decode(r->ram), now.ns);
		rearm(r);
		return;
	}
	switch (index) {
	case RTC_A:
		write_control(r, index, value & (uint8_t)~A_UIP);
		break;
	case RTC_B:
		write_control(r, index, value);
		break;
	case RTC_C:
	case RTC_D:
		break; /* read-only */
	case RTC_SECONDS_ALARM:
	case RTC_MINUTES_ALARM:
	case RTC_HOURS_ALARM:
		catch_up(r);
		r->ram[index] = value;
		rearm(r);
		break;
	default:
		r->ram[index] = value;
		break;
	}
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned len)
{
	struct rtc *r = dev;
	uint8_t value;

	/* The index cannot be read back; a wide access reads it and the byte it selects. */
	if (offset == 0 && len == 1) {
		return 0xff;
	}
	lock_take(&r->lock);
	value = read_register(r, r->index);
	lock_give(&r->lock);
	return offset == 0 ? 0xff | (uint64_t)value << 8 : value;
}

static void rtc_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct rtc *r = dev;

	lock_take(&r->lock);
	if (offset == 0) {
		r->index = value & INDEX_WRITABLE;
		value >>= 8;
	}
	if (offset == 1 || len > 1) {
		write_register(r, r->index, (uint8_t)value);
	}
	lock_give(&r->lock);
}

const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};

static void set_le16(struct rtc *r, unsigned index, uint64_t value)
{
	value = MIN(value, UINT16_MAX);
	r->ram[index] = (uint8_t)value;
	r->ram[index + 1] = (uint8_t)(value >> 8);
}

/* The places where firmware looks for the size of RAM, as QEMU fills them. */
static void describe(struct rtc *r, const struct rtc_machine *m)
{
	uint64_t above_1m = m->low_ram > MIB ? m->low_ram - MIB : 0;
	uint64_t above_16m = m->low_ram > 16 * MIB ? m->low_ram - 16 * MIB : 0;
	uint64_t high = m->high_ram / (64 * KIB);

	r->ram[0x14] = 0x02; /* equipment: an FPU, neither display nor diskettes */
	set_le16(r, 0x15, 640);
	set_le16(r, 0x17, above_1m / KIB);
	set_le16(r, 0x30, above_1m / KIB);
	set_le16(r, 0x34, above_16m / (64 * KIB));
	for (unsigned i = 0; i < 3; i++) {
		r->ram[0x5b + i] = (uint8_t)(high >> 8 * i);
	}
	r->ram[0x5f] = (uint8_t)(m->cpus - 1);
}

int rtc_init(struct rtc *rtc, struct loop *loop, struct irq_line irq,
	     const struct rtc_machine *machine)
{
	int err;

	*rtc = (struct rtc){.irq = irq, .loop = loop};
	err = loop_timer_init(&rtc->timer, loop, on_timer, rtc);
	if (err < 0) {
		log_error("no timer for the real-time clock: %s", strerror(-err));
		return err;
	}
	lock_init(&rtc->lock, LOCK_DEVICE);
	rtc->ram[RTC_A] = A_32KHZ | A_1024HZ;
	rtc->ram[RTC_B] = RTC_B_24H;
	rtc->ram[RTC_D] = D_VRT;
	describe(rtc, machine);
	rtc->seen_s = guest_now(rtc).s;
	rtc->seen_period = periods_at(rtc, guest_now(rtc));
	return 0;
}

void rtc_fini(struct rtc *rtc)
{
	loop_timer_fini(&rtc->timer, rtc->loop);
	lock_fini(&rtc->lock);
}

/* Could a guest have brought these about? */
static bool plausible(const uint8_t *ram, uint8_t index, int64_t offset_s, uint32_t offset_ns,
		      int64_t seen_s, int64_t seen_period)
{
	bool asks = (ram[RTC_C] & ram[RTC_B] & C_FLAGS) != 0;

	return (index & ~INDEX_WRITABLE) == 0 && (ram[RTC_A] & A_UIP) == 0 &&
	       (ram[RTC_C] & ~(C_FLAGS | C_IRQF)) == 0 && ((ram[RTC_C] & C_IRQF) != 0) == asks &&
	       ram[RTC_D] == D_VRT && offset_s >= -OFFSET_MAX_S && offset_s <= OFFSET_MAX_S &&
	       offset_ns < NS_PER_S && seen_s >= -OFFSET_MAX_S && seen_s <= OFFSET_MAX_S &&
	       seen_period >= -OFFSET_MAX_S * BASE_HZ && seen_period <= OFFSET_MAX_S * BASE_HZ;
}

void rtc_state(struct rtc *rtc, struct state *s)
{
	struct rtc *r = rtc;
	uint8_t ram[RTC_RAM_BYTES];
	uint8_t index;
	uint64_t offset_s, seen_s, seen_period;
	uint32_t offset_ns;

	lock_take(&r->lock);
	memcpy(ram, r->ram, sizeof(ram));
	index = r->index;
	offset_s = (uint64_t)r->offset_s;
	offset_ns = r->offset_ns;
	seen_s = (uint64_t)r->seen_s;
	seen_period = (uint64_t)r->seen_period;
	state_begin(s, "rtc", 1);
	state_u8(s, &index);
	state_bytes(s, ram, sizeof(ram));
	state_u64(s, &offset_s);
	state_u32(s, &offset_ns);
	state_u64(s, &seen_s);
	state_u64(s, &seen_period);
	if (!plausible(ram, index, (int64_t)offset_s, offset_ns, (int64_t)seen_s,
		       (int64_t)seen_period)) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (s->loading && s->error == 0) {
		memcpy(r->ram, ram, sizeof(ram));
		r->index = index;
		r->offset_s = (int64_t)offset_s;
		r->offset_ns = offset_ns;
		r->seen_s = (int64_t)seen_s;
		r->seen_period = (int64_t)seen_period;
		r->level = interrupting(r);
		loop_timer_set(&r->timer, clock_now_ns()); /* for what is overdue */
	}
	lock_give(&r->lock);
}
