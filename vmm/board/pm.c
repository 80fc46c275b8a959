#include "vmm/board/pm.h"

#include <errno.h>
#include <string.h>

#include "vmm/board/layout.h"
#include "vmm/clock.h"
#include "vmm/log.h"

/* Offsets in the block; ICH9 data sheet, "Power Management I/O Registers". */
#define PM1_STS	 0x00
#define PM1_EN	 0x02
#define PM1_CNT	 0x04
#define PM1_TMR	 0x08
#define GPE0_STS (PORT_GPE0 - PORT_PM_BASE)
#define GPE0_EN	 (GPE0_STS + PORT_GPE0_LEN / 2)
#define SMI_EN	 0x30

/*
 * The low byte of SMI_EN: SMIs by the APM port are on already, which tells firmware that somebody
 * else has set up system management, so that it does not wait for an SMI that never comes.
 */
#define SMI_EN_APMC 0x20

/* PM1_STS and PM1_EN. */
#define TMR    (1U << 0)
#define GBL    (1U << 5)
#define PWRBTN (1U << 8)
#define RTC    (1U << 10)
#define WAK    (1U << 15)

#define STS_BITS (TMR | GBL | PWRBTN | RTC | WAK)
#define EN_BITS	 (TMR | GBL | PWRBTN | RTC)

/* PM1_CNT. */
#define SCI_EN	     (1U << 0)
#define SLP_TYP(cnt) ((cnt) >> 10 & 7)
#define SLP_EN	     (1U << 13)
#define CNT_WRITABLE (1U << 1 | 7U << 10) /* BM_RLD, SLP_TYP */

/* The reset control register: RST_CPU going up resets; FULL_RST and SYS_RST say how. */
#define RESET_BITS 0x0e
#define RST_CPU	   0x04

#define TIMER_HZ   3579545
#define TIMER_BITS 24
/* TMR_STS is set whenever bit 23 changes. */
#define TIMER_HALF (UINT64_C(1) << (TIMER_BITS - 1))

static uint64_t ticks(const struct pm *pm, uint64_t now_ns)
{
	return (uint64_t)((unsigned __int128)(now_ns - pm->start_ns) * TIMER_HZ / 1000000000);
}

/* When the timer will have counted @tick, or just after. */
static uint64_t tick_ns(const struct pm *pm, uint64_t tick)
{
	unsigned __int128 ns = (unsigned __int128)tick * 1000000000 / TIMER_HZ + 1;

	return pm->start_ns + (uint64_t)ns;
}

/* Brings TMR_STS up to date. Context: lock. */
static void look_at_timer(struct pm *pm)
{
	uint64_t overflows = ticks(pm, clock_now_ns()) / TIMER_HALF;

	if (overflows != pm->overflows) {
		pm->overflows = overflows;
		pm->sts |= TMR;
	}
}

/* A system call only if something changes: the guest writes these registers often. Context: lock.
 */
static void rearm(struct pm *pm)
{
	uint64_t deadline_ns = UINT64_MAX;

	if ((pm->en & TMR) != 0 && (pm->sts & TMR) == 0) {
		deadline_ns = tick_ns(pm, (pm->overflows + 1) * TIMER_HALF);
	}
	if (deadline_ns == pm->deadline_ns) {
		return;
	}
	pm->deadline_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX) {
		loop_timer_clear(&pm->timer);
	} else {
		loop_timer_set(&pm->timer, deadline_ns);
	}
}

/* Drives the SCI wire and arms the timer for what the registers say now. Context: lock. */
static void update(struct pm *pm)
{
	bool level = (pm->sts & pm->en & EN_BITS) != 0 || (pm->gpe_sts & pm->gpe_en) != 0;

	if (level != pm->sci_level) {
		pm->sci_level = level;
		irq_line_set(&pm->sci, level);
	}
	rearm(pm);
}

static void on_timer(void *arg)
{
	struct pm *pm = arg;

	lock_take(&pm->lock);
	pm->deadline_ns = UINT64_MAX; /* a timer goes off once */
	look_at_timer(pm);
	update(pm);
	lock_give(&pm->lock);
}

void pm_power_button(struct pm *pm)
{
	lock_take(&pm->lock);
	pm->sts |= PWRBTN;
	update(pm);
	lock_give(&pm->lock);
}

/* The block as bytes, so that registers can be read by any width. Context: lock. */
static uint8_t read_byte(struct pm *pm, uint64_t offset, uint32_t timer)
{
	if (offset >= GPE0_STS && offset < GPE0_STS + 8) {
		return (uint8_t)(pm->gpe_sts >> (8 * (offset - GPE0_STS)));
	}
	if (offset >= GPE0_EN && offset < GPE0_EN + 8) {
		return (uint8_t)(pm->gpe_en >> (8 * (offset - GPE0_EN)));
	}
	switch (offset & ~UINT64_C(1)) {
	case PM1_STS:
		return (uint8_t)(pm->sts >> (8 * (offset & 1)));
	case PM1_EN:
		return (uint8_t)(pm->en >> (8 * (offset & 1)));
	case PM1_CNT:
		return (uint8_t)(pm->cnt >> (8 * (offset & 1)));
	case PM1_TMR:
	case PM1_TMR + 2:
		return (uint8_t)(timer >> (8 * (offset & 3)));
	case SMI_EN:
		return offset == SMI_EN ? SMI_EN_APMC : 0;
	default:
		return 0;
	}
}

static uint64_t pm_read(void *dev, uint64_t offset, unsigned len)
{
	struct pm *pm = dev;
	uint64_t value = 0;

	lock_take(&pm->lock);
	look_at_timer(pm);
	uint32_t timer = ticks(pm, clock_now_ns()) & (BIT(TIMER_BITS) - 1);

	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)read_byte(pm, offset + i, timer) << (8 * i);
	}
	lock_give(&pm->lock);
	return value;
}

static void replace_byte(uint16_t *word, unsigned byte, uint8_t value, uint16_t writable)
{
	uint16_t mask = (uint16_t)(0xff << (8 * byte)) & writable;

	*word = (uint16_t)((*word & ~mask) | ((value << (8 * byte)) & mask));
}

/* Return: true if SLP_EN was written with the type of S5. Context: lock. */
static bool write_byte(struct pm *pm, uint64_t offset, uint8_t value)
{
	unsigned shift;

	if (offset >= GPE0_STS && offset < GPE0_STS + 8) {
		pm->gpe_sts &= ~((uint64_t)value << (8 * (offset - GPE0_STS)));
		return false;
	}
	if (offset >= GPE0_EN && offset < GPE0_EN + 8) {
		shift = (unsigned)(8 * (offset - GPE0_EN));
		pm->gpe_en = (pm->gpe_en & ~(UINT64_C(0xff) << shift)) | (uint64_t)value << shift;
		return false;
	}
	switch (offset & ~UINT64_C(1)) {
	case PM1_STS:
		pm->sts &= (uint16_t) ~((value << (8 * (offset & 1))) & STS_BITS);
		return false;
	case PM1_EN:
		replace_byte(&pm->en, offset & 1, value, EN_BITS);
		return false;
	case PM1_CNT:
		replace_byte(&pm->cnt, offset & 1, value, CNT_WRITABLE);
		return (offset & 1) != 0 && (value & SLP_EN >> 8) != 0 &&
		       SLP_TYP(pm->cnt) == LAYOUT_S5_SLEEPTYPE;
	default:
		return false;
	}
}

static void pm_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pm *pm = dev;
	bool poweroff = false;

	lock_take(&pm->lock);
	look_at_timer(pm);
	for (unsigned i = 0; i < len; i++) {
		poweroff |= write_byte(pm, offset + i, (uint8_t)(value >> (8 * i)));
	}
	update(pm);
	lock_give(&pm->lock);
	if (poweroff) {
		pm->event(pm->ctx, PM_POWEROFF);
	}
}

const struct bus_ops pm_ops = {.read = pm_read, .write = pm_write};

static uint64_t reset_read(void *dev, uint64_t offset, unsigned len)
{
	struct pm *pm = dev;
	uint8_t value;

	(void)offset;
	(void)len;
	lock_take(&pm->lock);
	value = pm->reset_control;
	lock_give(&pm->lock);
	return value;
}

static void reset_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pm *pm = dev;
	bool reset;

	(void)offset;
	(void)len;
	lock_take(&pm->lock);
	reset = (value & RST_CPU) != 0 && (pm->reset_control & RST_CPU) == 0;
	pm->reset_control = value & RESET_BITS;
	lock_give(&pm->lock);
	if (reset) {
		pm->event(pm->ctx, PM_RESET);
	}
}

const struct bus_ops pm_reset_ops = {.read = reset_read, .write = reset_write};

int pm_init(struct pm *pm, struct loop *loop, struct irq_line sci,
	    void (*event)(void *ctx, enum pm_event event), void *ctx)
{
	int r;

	memset(pm, 0, sizeof(*pm));
	pm->loop = loop;
	pm->sci = sci;
	pm->event = event;
	pm->ctx = ctx;
	pm->start_ns = clock_now_ns();
	pm->cnt = SCI_EN;
	pm->deadline_ns = UINT64_MAX;
	lock_init(&pm->lock, LOCK_DEVICE);
	r = loop_timer_init(&pm->timer, loop, on_timer, pm);
	if (r != 0) {
		log_error("cannot create the ACPI timer: %s", strerror(-r));
		lock_fini(&pm->lock);
	}
	return r;
}

void pm_fini(struct pm *pm)
{
	loop_timer_fini(&pm->timer, pm->loop);
	lock_fini(&pm->lock);
}

void pm_state(struct pm *pm, struct state *s)
{
	uint64_t now_ns = clock_now_ns();
	uint16_t sts, en, cnt;
	uint64_t gpe_sts, gpe_en, age_ns;
	uint8_t reset_control;

	lock_take(&pm->lock);
	look_at_timer(pm); /* what it has not seen yet would be forgotten */
	sts = pm->sts;
	en = pm->en;
	cnt = pm->cnt;
	gpe_sts = pm->gpe_sts;
	gpe_en = pm->gpe_en;
	reset_control = pm->reset_control;
	age_ns = now_ns - pm->start_ns; /* what time it is for the guest's timer */

	state_begin(s, "pm", 1);
	state_u16(s, &sts);
	state_u16(s, &en);
	state_u16(s, &cnt);
	state_u64(s, &gpe_sts);
	state_u64(s, &gpe_en);
	state_u8(s, &reset_control);
	state_u64(s, &age_ns);
	if ((sts & ~STS_BITS) != 0 || (en & ~EN_BITS) != 0 || (cnt & ~CNT_WRITABLE) != SCI_EN ||
	    gpe_sts != 0 || (reset_control & ~RESET_BITS) != 0 || age_ns > INT64_MAX) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (s->loading && s->error == 0) {
		pm->sts = sts;
		pm->en = en;
		pm->cnt = cnt;
		pm->gpe_sts = gpe_sts;
		pm->gpe_en = gpe_en;
		pm->reset_control = reset_control;
		pm->start_ns = now_ns - age_ns;
		pm->overflows = ticks(pm, now_ns) / TIMER_HALF;
		update(pm);
	}
	lock_give(&pm->lock);
}
