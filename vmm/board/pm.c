#include "vmm/board/pm.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/clock.h"
#include "vmm/log.h"

#define PM1_STS	 0x00
#define PM1_EN	 0x02
#define PM1_CNT	 0x04
#define PM1_TMR	 0x08
#define GPE0_STS 0x20
#define GPE0_EN	 0x28
#define SMI_EN	 0x30
#define SMI_STS	 0x34

/* Bits of PM1_STS, and of PM1_EN at the same places. */
#define PM1_TMR_STS    0x0001
#define PM1_PWRBTN_STS 0x0100
#define PM1_EVENTS     0x0521 /* timer, global, power button, RTC */

#define PM1_SCI_EN	  0x0001
#define PM1_SLP_TYP_SHIFT 10
#define PM1_SLP_TYP	  7
#define PM1_SLP_EN_BYTE	  (PM1_CNT + 1)
#define PM1_SLP_EN	  0x20 /* in that byte */

#define RESET_CPU  0x04
#define RESET_KEPT 0x0e

#define NS_PER_S 1000000000

/* TMR_STS is set whenever the top bit of PM1_TMR changes. */
#define HALF_TURN_BITS (PM_TIMER_BITS - 1)

/* What the guest may write, a byte of the block each; the rest is read-only. */
static const uint8_t writable[PM_LEN] = {
	[PM1_EN] = 0x21,
	[PM1_EN + 1] = 0x05,
	[PM1_CNT] = 0x03,
	[PM1_CNT + 1] = 0x1c,
	[GPE0_EN... GPE0_EN + 7] = 0xff,
	[SMI_EN... SMI_EN + 3] = 0xff,
};

/* What the guest clears by writing ones; nothing else can be set in these registers. */
static const uint8_t clearable[PM_LEN] = {
	[PM1_STS] = 0x31,
	[PM1_STS + 1] = 0xcd,
	[GPE0_STS... GPE0_STS + 7] = 0xff,
	[SMI_STS... SMI_STS + 3] = 0xff,
};

static uint64_t timer_count(const struct pm *pm)
{
	uint64_t ns = clock_now_ns() - pm->timer_start_ns;

	return ns / NS_PER_S * PM_TIMER_HZ + ns % NS_PER_S * PM_TIMER_HZ / NS_PER_S;
}

/* The first time at which timer_count() gives @count. */
static uint64_t time_of_count(const struct pm *pm, uint64_t count)
{
	return pm->timer_start_ns + count / PM_TIMER_HZ * NS_PER_S +
	       (count % PM_TIMER_HZ * NS_PER_S + PM_TIMER_HZ - 1) / PM_TIMER_HZ;
}

static bool sci_wanted(const struct pm *pm)
{
	uint16_t events = load_le16(pm->regs + PM1_STS) & load_le16(pm->regs + PM1_EN);
	uint64_t gpes = load_le64(pm->regs + GPE0_STS) & load_le64(pm->regs + GPE0_EN);

	return (load_le16(pm->regs + PM1_CNT) & PM1_SCI_EN) != 0 &&
	       ((events & PM1_EVENTS) != 0 || gpes != 0);
}

/* After anything changed: the SCI, and the loop's timer for the next overflow if it is wanted. */
static void update(struct pm *pm)
{
	uint16_t enabled = load_le16(pm->regs + PM1_EN);
	bool level = sci_wanted(pm);

	if (level != pm->level) {
		pm->level = level;
		irq_line_set(&pm->sci, level);
	}
	if ((enabled & PM1_TMR_STS) != 0 && (pm->regs[PM1_STS] & PM1_TMR_STS) == 0) {
		loop_timer_set(&pm->timer,
			       time_of_count(pm, (pm->timer_half + 1) << HALF_TURN_BITS));
	} else {
		loop_timer_clear(&pm->timer);
	}
}

static void catch_up(struct pm *pm)
{
	uint64_t half = timer_count(pm) >> HALF_TURN_BITS;

	if (half != pm->timer_half) {
		pm->timer_half = half;
		pm->regs[PM1_STS] |= PM1_TMR_STS;
	}
}

static void on_timer(void *arg)
{
	struct pm *pm = arg;

	pthread_mutex_lock(&pm->lock);
	catch_up(pm);
	update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static uint64_t block_read(void *dev, uint64_t offset, unsigned len)
{
	struct pm *pm = dev;
	uint64_t value;

	pthread_mutex_lock(&pm->lock);
	if (offset >= PM1_TMR && offset < PM1_TMR + 4) {
		/* Alone and without the rest: guests read it all the time. */
		value = timer_count(pm) & (BIT(PM_TIMER_BITS) - 1);
		value = value >> (offset - PM1_TMR) * 8;
	} else {
		catch_up(pm);
		update(pm);
		value = load_le(pm->regs + offset, len);
	}
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void sleep_asked(struct pm *pm, unsigned type)
{
	if (type == PM_SLP_TYP_S5) {
		pm->ops->poweroff(pm->ctx);
	} else {
		log_guest("it asked for sleep type %u, of which the machine has only %u (off)",
			  type, PM_SLP_TYP_S5);
	}
}

static void block_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pm *pm = dev;
	bool sleeps = false;
	unsigned type;

	pthread_mutex_lock(&pm->lock);
	catch_up(pm);
	for (unsigned i = 0; i < len; i++) {
		uint64_t at = offset + i;
		uint8_t byte = (uint8_t)(value >> 8 * i);
		uint8_t kept = pm->regs[at] & (uint8_t)~writable[at];

		pm->regs[at] = (uint8_t)((kept | (byte & writable[at])) & ~(byte & clearable[at]));
		sleeps |= at == PM1_SLP_EN_BYTE && (byte & PM1_SLP_EN) != 0;
	}
	update(pm);
	type = load_le16(pm->regs + PM1_CNT) >> PM1_SLP_TYP_SHIFT & PM1_SLP_TYP;
	pthread_mutex_unlock(&pm->lock);
	if (sleeps) {
		sleep_asked(pm, type);
	}
}

const struct bus_ops pm_ops = {.read = block_read, .write = block_write};

static uint64_t apm_read(void *dev, uint64_t offset, unsigned len)
{
	struct pm *pm = dev;

	pthread_mutex_lock(&pm->lock);
	uint64_t value = load_le(pm->apm + offset, len);
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void apm_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pm *pm = dev;

	pthread_mutex_lock(&pm->lock);
	store_le(pm->apm + offset, value, len);
	/* What firmware's SMI handler would do. */
	if (offset == 0 && pm->apm[0] == PM_ACPI_ENABLE) {
		pm->regs[PM1_CNT] |= PM1_SCI_EN;
	} else if (offset == 0 && pm->apm[0] == PM_ACPI_DISABLE) {
		pm->regs[PM1_CNT] &= (uint8_t)~PM1_SCI_EN;
	}
	catch_up(pm);
	update(pm);
	pthread_mutex_unlock(&pm->lock);
}

const struct bus_ops pm_apm_ops = {.read = apm_read, .write = apm_write};

static uint64_t reset_read(void *dev, uint64_t offset, unsigned len)
{
	struct pm *pm = dev;

	(void)offset;
	(void)len;
	pthread_mutex_lock(&pm->lock);
	uint8_t value = pm->reset_control;
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void reset_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct pm *pm = dev;
	bool reset;

	(void)offset;
	(void)len;
	pthread_mutex_lock(&pm->lock);
	reset = (value & ~(uint64_t)pm->reset_control & RESET_CPU) != 0;
	pm->reset_control = value & RESET_KEPT;
	pthread_mutex_unlock(&pm->lock);
	if (reset) {
		pm->ops->reset(pm->ctx);
	}
}

const struct bus_ops pm_reset_ops = {.read = reset_read, .write = reset_write};

int pm_init(struct pm *pm, struct loop *loop, struct irq_line sci, const struct pm_ops *ops,
	    void *ctx)
{
	int err;

	*pm = (struct pm){.ops = ops, .ctx = ctx, .sci = sci, .loop = loop};
	err = loop_timer_init(&pm->timer, loop, on_timer, pm);
	if (err < 0) {
		log_error("no timer for power management: %s", strerror(-err));
		return err;
	}
	pthread_mutex_init(&pm->lock, NULL);
	pm->timer_start_ns = clock_now_ns();
	return 0;
}

void pm_fini(struct pm *pm)
{
	loop_timer_fini(&pm->timer, pm->loop);
	pthread_mutex_destroy(&pm->lock);
}

void pm_power_button(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	catch_up(pm);
	pm->regs[PM1_STS + 1] |= PM1_PWRBTN_STS >> 8;
	update(pm);
	pthread_mutex_unlock(&pm->lock);
}

void pm_state(struct pm *pm, struct state *s)
{
	struct {
		uint8_t regs[PM_LEN], apm[PM_APM_PORTS], reset_control;
		uint64_t elapsed_ns, timer_half;
	} c;

	pthread_mutex_lock(&pm->lock);
	memcpy(c.regs, pm->regs, sizeof(c.regs));
	memcpy(c.apm, pm->apm, sizeof(c.apm));
	c.reset_control = pm->reset_control;
	c.elapsed_ns = clock_now_ns() - pm->timer_start_ns;
	c.timer_half = pm->timer_half;
	state_begin(s, "pm", 1);
	state_bytes(s, c.regs, sizeof(c.regs));
	state_bytes(s, c.apm, sizeof(c.apm));
	state_u8(s, &c.reset_control);
	state_u64(s, &c.elapsed_ns);
	state_u64(s, &c.timer_half);
	for (unsigned i = 0; i < PM_LEN; i++) {
		if ((c.regs[i] & ~(writable[i] | clearable[i])) != 0) {
			state_fail(s, -EINVAL);
		}
	}
	if ((c.reset_control & ~RESET_KEPT) != 0 || c.elapsed_ns > INT64_MAX ||
	    c.timer_half > c.elapsed_ns) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (s->loading && s->error == 0) {
		memcpy(pm->regs, c.regs, sizeof(pm->regs));
		memcpy(pm->apm, c.apm, sizeof(pm->apm));
		pm->reset_control = c.reset_control;
		pm->timer_start_ns = clock_now_ns() - c.elapsed_ns;
		pm->timer_half = c.timer_half;
		pm->level = sci_wanted(pm);
		update(pm);
	}
	pthread_mutex_unlock(&pm->lock);
}
