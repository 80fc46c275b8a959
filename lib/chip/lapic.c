/* Registers and interrupts of the local APIC; its timer is in lapic_timer.c, the bus in
 * lapic_bus.c. */
#include "lib/chip/lapic.h"

#include <errno.h>

#include "lib/base/bytes.h"
#include "lib/chip/lapic_internal.h"

#define VERSION 0x00050014 /* six LVTs, an integrated APIC */

#define SVR_WRITABLE 0x1ff
#define LVT_MASKED   BIT(16)
#define DFR_FIXED    0x0fffffff
#define TPR_WRITABLE 0xff

#define ICR_PENDING   BIT(12)
#define ICR_WRITABLE  0xccfff
#define ICR_ASSERT    BIT(14)
#define ICR_LEVEL     BIT(15)
#define ICR_LOGICAL   BIT(11)
#define ICR_SHORTHAND 18

#define ERROR_SEND_VECTOR BIT(5)
#define ERROR_RECV_VECTOR BIT(6)

/* What of each LVT can be written. */
static uint32_t lvt_writable(uint32_t offset)
{
	switch (offset) {
	case LAPIC_LVT_TIMER:
		return 0x700ff;
	case LAPIC_LVT_THERMAL:
	case LAPIC_LVT_PERF:
		return 0x107ff;
	case LAPIC_LVT_LINT0:
	case LAPIC_LVT_LINT1:
		return 0x1a7ff;
	default: /* LAPIC_LVT_ERROR */
		return 0x100ff;
	}
}

static bool is_lvt(uint32_t offset)
{
	return offset >= LAPIC_LVT_TIMER && offset <= LAPIC_LVT_ERROR;
}

/* ---- bits and priorities ---- */

/* Of a register of eight words, of which @words are not 0. */
static int highest(const struct lapic *lapic, enum lapic_reg first, uint32_t words)
{
	unsigned word;

	if (words == 0) {
		return -1;
	}
	word = 31 - (unsigned)__builtin_clz(words);
	return (int)(32 * word + 31 - (unsigned)__builtin_clz(lapic->regs[first / 16 + word]));
}

static int in_service(const struct lapic *lapic)
{
	return highest(lapic, LAPIC_ISR, lapic->isr);
}

static void set_bit(struct lapic *lapic, enum lapic_reg first, uint32_t *words, uint8_t vector)
{
	lapic->regs[first / 16 + vector / 32] |= (uint32_t)BIT(vector % 32);
	*words |= (uint32_t)BIT(vector / 32);
}

static void clear_bit(struct lapic *lapic, enum lapic_reg first, uint32_t *words, uint8_t vector)
{
	uint32_t *word = &lapic->regs[first / 16 + vector / 32];

	*word &= ~(uint32_t)BIT(vector % 32);
	if (*word == 0) {
		*words &= ~(uint32_t)BIT(vector / 32);
	}
}

static uint32_t words_in_use(const struct lapic *lapic, enum lapic_reg first)
{
	uint32_t words = 0;

	for (unsigned i = 0; i < 8; i++) {
		words |= lapic->regs[first / 16 + i] != 0 ? (uint32_t)BIT(i) : 0;
	}
	return words;
}

/* @vector: the highest in service, or -1. */
static void set_ppr(struct lapic *lapic, int vector)
{
	uint32_t tpr = *lapic_reg(lapic, LAPIC_TPR);
	uint32_t isr = vector < 0 ? 0 : (uint32_t)vector & 0xf0;

	lapic_show(lapic, LAPIC_PPR, (tpr & 0xf0) >= isr ? tpr : isr);
}

static void update_ppr(struct lapic *lapic)
{
	set_ppr(lapic, in_service(lapic));
}

static __attribute__((noinline)) void collect_posted(struct lapic *lapic)
{
	uint32_t words = atomic_exchange_explicit(&lapic->posted_words, 0, memory_order_acquire);
	for (; words != 0; words &= words - 1) {
		unsigned word = (unsigned)__builtin_ctz(words);
		uint32_t *irr = &lapic->regs[LAPIC_IRR / 16 + word];
		uint32_t *tmr = &lapic->regs[LAPIC_TMR / 16 + word];
		uint32_t bits, level;

		/* Pairs with the release in lapic_post(): the level bits are there. */
		bits = atomic_exchange_explicit(&lapic->posted[word], 0, memory_order_acquire);
		if (bits == 0) {
			continue; /* an earlier look has found them */
		}
		/* They stay: who posts the same vector once more may have set its own already. */
		level = atomic_load_explicit(&lapic->posted_level[word], memory_order_relaxed);
		*irr |= bits;
		lapic->irr |= (uint32_t)BIT(word);
		*tmr = (*tmr & ~bits) | (level & bits);
	}
}

/* Takes over what others have posted. */
static inline void collect(struct lapic *lapic)
{
	if (atomic_load_explicit(&lapic->posted_words, memory_order_relaxed) != 0) {
		collect_posted(lapic);
	}
}

int lapic_waiting(struct lapic *lapic)
{
	if (!lapic_enabled(lapic)) {
		return -1;
	}
	collect(lapic);
	return highest(lapic, LAPIC_IRR, lapic->irr);
}

int lapic_pending(struct lapic *lapic)
{
	int vector = lapic_waiting(lapic);

	if (vector < 0 || !lapic_soft_enabled(lapic) ||
	    ((uint32_t)vector & 0xf0) <= (*lapic_reg(lapic, LAPIC_PPR) & 0xf0)) {
		return -1;
	}
	return vector;
}

void lapic_take(struct lapic *lapic, uint8_t vector)
{
	clear_bit(lapic, LAPIC_IRR, &lapic->irr, vector);
	set_bit(lapic, LAPIC_ISR, &lapic->isr, vector);
	set_ppr(lapic, vector); /* it was above what is in service */
}

void lapic_request(struct lapic *lapic, uint8_t vector)
{
	set_bit(lapic, LAPIC_IRR, &lapic->irr, vector);
	lapic->regs[LAPIC_TMR / 16 + vector / 32] &= ~(uint32_t)BIT(vector % 32);
}

static void end_of_interrupt(struct lapic *lapic)
{
	int vector = in_service(lapic);

	if (vector < 0) {
		return;
	}
	clear_bit(lapic, LAPIC_ISR, &lapic->isr, (uint8_t)vector);
	update_ppr(lapic);
	if ((lapic->regs[LAPIC_TMR / 16 + vector / 32] & BIT((unsigned)vector % 32)) != 0) {
		lapic->ops->eoi(lapic->ctx, (uint8_t)vector);
	}
}

uint8_t lapic_tpr(const struct lapic *lapic)
{
	return (uint8_t)(lapic->regs[LAPIC_TPR / 16] >> 4);
}

void lapic_set_tpr(struct lapic *lapic, uint8_t cr8)
{
	*lapic_reg(lapic, LAPIC_TPR) = (uint32_t)(cr8 & 15) << 4;
	update_ppr(lapic);
}

/* ---- local interrupts ---- */

void lapic_raise_lvt(struct lapic *lapic, enum lapic_reg lvt)
{
	uint32_t entry = *lapic_reg(lapic, lvt);
	uint8_t vector = (uint8_t)entry;

	if ((entry & LVT_MASKED) != 0 || !lapic_enabled(lapic)) {
		return;
	}
	if (vector < 16) {
		lapic_error(lapic, ERROR_RECV_VECTOR);
		return;
	}
	lapic_request(lapic, vector);
}

void lapic_error(struct lapic *lapic, uint32_t bit)
{
	bool first = lapic->errors == 0;

	lapic->errors |= bit;
	if (first &&
	    (bit != ERROR_RECV_VECTOR || (*lapic_reg(lapic, LAPIC_LVT_ERROR) & 0xff) > 15)) {
		lapic_raise_lvt(lapic, LAPIC_LVT_ERROR);
	}
}

bool lapic_takes_extint(const struct lapic *lapic)
{
	uint32_t lint0 = lapic_seen(lapic, LAPIC_LVT_LINT0);

	/* Without the APIC the wire is the CPU's own INTR. */
	return (lapic_seen_base(lapic) & LAPIC_BASE_ENABLE) == 0 ||
	       ((lint0 & LVT_MASKED) == 0 && (lint0 >> 8 & 7) == LAPIC_EXTINT);
}

/* ---- registers ---- */

void lapic_init(struct lapic *lapic, uint32_t id, bool bsp, const struct lapic_ops *ops, void *ctx)
{
	*lapic = (struct lapic){.ops = ops, .ctx = ctx, .id = id, .deadline_ns = UINT64_MAX};
	lapic->base = LAPIC_BASE | LAPIC_BASE_ENABLE | (bsp ? LAPIC_BASE_BSP : 0);
	lapic_reset(lapic);
	*lapic_reg(lapic, LAPIC_ID) = id << 24;
}

static void moved(const struct lapic *lapic)
{
	if (lapic->ops->moved != NULL) {
		lapic->ops->moved(lapic->ctx);
	}
}

/* What follows from being in x2APIC mode. */
static void derive_x2(struct lapic *lapic)
{
	lapic_show(lapic, LAPIC_ID, lapic->id);
	lapic_show(lapic, LAPIC_LDR, lapic->id >> 4 << 16 | (uint32_t)BIT(lapic->id & 15));
}

void lapic_reset(struct lapic *lapic)
{
	/* Whom messages are for must not be another one's meanwhile: the next may be its SIPI. */
	for (uint32_t offset = 0; offset < sizeof(lapic->regs) * 4; offset += 16) {
		if (offset != LAPIC_ID && (offset != LAPIC_LDR || !lapic_is_x2(lapic))) {
			lapic_show(lapic, offset, 0);
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		atomic_store_explicit(&lapic->posted[i], 0, memory_order_relaxed);
		atomic_store_explicit(&lapic->posted_level[i], 0, memory_order_relaxed);
	}
	*lapic_reg(lapic, LAPIC_VERSION) = VERSION;
	lapic_show(lapic, LAPIC_DFR, 0xffffffff);
	lapic_show(lapic, LAPIC_SVR, 0xff);
	for (uint32_t lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 16) {
		lapic_show(lapic, lvt, LVT_MASKED);
	}
	lapic->icr_high = lapic->errors = 0;
	lapic->irr = lapic->isr = 0;
	lapic->deadline_tsc = 0;
	lapic_arm(lapic, UINT64_MAX);
	if (lapic_is_x2(lapic)) {
		derive_x2(lapic);
	}
	moved(lapic);
}

int lapic_set_base(struct lapic *lapic, uint64_t base)
{
	bool was_on = lapic_enabled(lapic), was_x2 = lapic_is_x2(lapic);
	bool on = (base & LAPIC_BASE_ENABLE) != 0, x2 = (base & LAPIC_BASE_X2APIC) != 0;

	/* Off to x2APIC, x2APIC to xAPIC, and x2APIC without being on, are no ways. */
	if ((x2 && !on) || (!was_on && x2) || (was_x2 && on && !x2)) {
		return -EINVAL;
	}
	__atomic_store_n(&lapic->base, base, __ATOMIC_RELAXED);
	if (was_on && !on) {
		lapic_reset(lapic);
		lapic_show(lapic, LAPIC_ID, lapic->id << 24);
	} else if (x2 && !was_x2) {
		derive_x2(lapic);
		lapic->icr_high = 0;
	}
	moved(lapic);
	return 0;
}

static void send(struct lapic *lapic, uint32_t icr)
{
	struct lapic_message message = {
		.dest = lapic_is_x2(lapic) ? lapic->icr_high : lapic->icr_high >> 24,
		.x2 = lapic_is_x2(lapic),
		.logical = (icr & ICR_LOGICAL) != 0,
		.level = (icr & ICR_LEVEL) != 0,
		.deassert = (icr & ICR_LEVEL) != 0 && (icr & ICR_ASSERT) == 0,
		.vector = (uint8_t)icr,
		.mode = (enum lapic_mode)(icr >> 8 & 7),
		.shorthand = (enum lapic_shorthand)(icr >> ICR_SHORTHAND & 3),
	};

	if ((message.mode == LAPIC_FIXED || message.mode == LAPIC_LOWEST) && message.vector < 16) {
		lapic_error(lapic, ERROR_SEND_VECTOR);
		return;
	}
	lapic->ops->send(lapic->ctx, &message);
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
	lapic_show(lapic, LAPIC_SVR, value & SVR_WRITABLE);
	if (lapic_soft_enabled(lapic)) {
		return;
	}
	for (uint32_t lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt += 16) {
		*lapic_reg(lapic, lvt) |= LVT_MASKED;
	}
}

static void write_lvt(struct lapic *lapic, uint32_t offset, uint32_t value,
		      const struct lapic_time *time)
{
	value &= lvt_writable(offset);
	if (!lapic_soft_enabled(lapic)) {
		value |= LVT_MASKED;
	}
	if (offset == LAPIC_LVT_TIMER) {
		lapic_timer_write_lvt(lapic, value, time);
	} else {
		lapic_show(lapic, offset, value);
	}
}

/* What both interfaces have alike. Return: is there such a register to write? */
static bool write_common(struct lapic *lapic, uint32_t offset, uint32_t value,
			 const struct lapic_time *time)
{
	if (is_lvt(offset)) {
		write_lvt(lapic, offset, value, time);
		return true;
	}
	switch (offset) {
	case LAPIC_TPR:
		*lapic_reg(lapic, LAPIC_TPR) = value & TPR_WRITABLE;
		update_ppr(lapic);
		return true;
	case LAPIC_EOI:
		end_of_interrupt(lapic);
		return true;
	case LAPIC_SVR:
		write_svr(lapic, value);
		return true;
	case LAPIC_ESR:
		*lapic_reg(lapic, LAPIC_ESR) = lapic->errors;
		lapic->errors = 0;
		return true;
	case LAPIC_TIMER_INITIAL:
		lapic_timer_write_initial(lapic, value, time);
		return true;
	case LAPIC_TIMER_DIVIDE:
		lapic_timer_write_divide(lapic, value, time);
		return true;
	default:
		return false;
	}
}

void lapic_write(struct lapic *lapic, uint32_t offset, uint32_t value,
		 const struct lapic_time *time)
{
	if (offset % 16 != 0 || offset >= 0x400 || write_common(lapic, offset, value, time)) {
		return;
	}
	switch (offset) {
	case LAPIC_ID:
	case LAPIC_LDR:
		lapic_show(lapic, offset, value & 0xff000000);
		moved(lapic);
		break;
	case LAPIC_DFR:
		lapic_show(lapic, LAPIC_DFR, value | DFR_FIXED);
		moved(lapic);
		break;
	case LAPIC_ICR:
		/* Reserved bits stay as written, as in Linux KVM. */
		*lapic_reg(lapic, LAPIC_ICR) = value & ~(uint32_t)ICR_PENDING;
		send(lapic, value);
		break;
	case LAPIC_ICR_HIGH:
		lapic->icr_high = value & 0xff000000;
		break;
	default:
		break; /* read-only, or none */
	}
}

static uint32_t read_register(struct lapic *lapic, uint32_t offset, const struct lapic_time *time)
{
	switch (offset) {
	case LAPIC_TIMER_CURRENT:
		return lapic_timer_current(lapic, time);
	case LAPIC_ICR_HIGH:
		return lapic->icr_high;
	case LAPIC_EOI:
	case LAPIC_SELF_IPI:
		return 0;
	default:
		if (offset >= LAPIC_IRR && offset < LAPIC_ESR) {
			collect(lapic);
		}
		return *lapic_reg(lapic, offset);
	}
}

uint32_t lapic_read(struct lapic *lapic, uint32_t offset, const struct lapic_time *time)
{
	if (offset >= 0x400 || offset % 16 >= 4) {
		return 0;
	}
	return read_register(lapic, offset & ~15u, time) >> 8 * (offset % 4);
}

/* ---- x2APIC ---- */

/* Registers that the x2APIC can read; those it can write but not read are EOI and SELF IPI. */
static bool x2_readable(uint32_t offset)
{
	switch (offset) {
	case LAPIC_ID:
	case LAPIC_VERSION:
	case LAPIC_TPR:
	case LAPIC_PPR:
	case LAPIC_LDR:
	case LAPIC_SVR:
	case LAPIC_ESR:
	case LAPIC_ICR:
	case LAPIC_TIMER_INITIAL:
	case LAPIC_TIMER_CURRENT:
	case LAPIC_TIMER_DIVIDE:
		return true;
	default:
		return is_lvt(offset) || (offset >= LAPIC_ISR && offset < LAPIC_ESR);
	}
}

int lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *value,
		   const struct lapic_time *time)
{
	uint32_t offset = (msr - LAPIC_MSR_FIRST) * 16;

	if (!lapic_is_x2(lapic) || offset >= 0x400 || !x2_readable(offset)) {
		return -EINVAL;
	}
	*value = read_register(lapic, offset, time);
	if (offset == LAPIC_ICR) {
		*value |= (uint64_t)lapic->icr_high << 32;
	}
	return 0;
}

/* Bits that the x2APIC takes; others are #GP. */
static uint64_t x2_writable(uint32_t offset)
{
	switch (offset) {
	case LAPIC_TPR:
	case LAPIC_SELF_IPI:
		return 0xff;
	case LAPIC_SVR:
		return SVR_WRITABLE;
	case LAPIC_EOI:
	case LAPIC_ESR:
		return 0;
	case LAPIC_ICR:
		/* The delivery status bit is ignored, not refused, as in Linux KVM. */
		return UINT64_C(0xffffffff00000000) | ICR_WRITABLE | ICR_PENDING;
	case LAPIC_TIMER_INITIAL:
		return 0xffffffff;
	case LAPIC_TIMER_DIVIDE:
		return 0xb;
	case LAPIC_LVT_LINT0:
	case LAPIC_LVT_LINT1:
		/* Delivery status and remote IRR are ignored, not refused: Linux writes both. */
		return lvt_writable(offset) | BIT(12) | BIT(14);
	default:
		return lvt_writable(offset) | BIT(12);
	}
}

static bool x2_can_write(uint32_t offset)
{
	switch (offset) {
	case LAPIC_TPR:
	case LAPIC_EOI:
	case LAPIC_SVR:
	case LAPIC_ESR:
	case LAPIC_ICR:
	case LAPIC_TIMER_INITIAL:
	case LAPIC_TIMER_DIVIDE:
	case LAPIC_SELF_IPI:
		return true;
	default:
		return is_lvt(offset);
	}
}

int lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value,
		    const struct lapic_time *time)
{
	uint32_t offset = (msr - LAPIC_MSR_FIRST) * 16;

	if (!lapic_is_x2(lapic) || offset >= 0x400 || !x2_can_write(offset) ||
	    (value & ~x2_writable(offset)) != 0) {
		return -EINVAL;
	}
	if (offset == LAPIC_ICR) {
		lapic->icr_high = (uint32_t)(value >> 32);
		*lapic_reg(lapic, LAPIC_ICR) = (uint32_t)value & ~(uint32_t)ICR_PENDING;
		send(lapic, (uint32_t)value);
	} else if (offset == LAPIC_SELF_IPI) {
		send(lapic, (uint32_t)LAPIC_SELF << ICR_SHORTHAND | ICR_ASSERT | (uint32_t)value);
	} else {
		(void)write_common(lapic, offset, (uint32_t)value, time);
	}
	return 0;
}

/* ---- KVM_GET_LAPIC, KVM_SET_LAPIC ---- */

void lapic_save(struct lapic *lapic, uint8_t page[1024], bool x2_ids, const struct lapic_time *time)
{
	collect(lapic);
	for (uint32_t offset = 0; offset < 1024; offset += 16) {
		uint32_t value = read_register(lapic, offset, time);

		if (offset == LAPIC_ID && lapic_is_x2(lapic) && !x2_ids) {
			value = lapic->id << 24;
		}
		for (unsigned i = 4; i < 16; i++) {
			page[offset + i] = 0;
		}
		store_le32(page + offset, value);
	}
}

int lapic_load(struct lapic *lapic, const uint8_t page[1024], bool x2_ids,
	       const struct lapic_time *time)
{
	uint32_t id = load_le32(page + LAPIC_ID);

	if (lapic_is_x2(lapic) &&
	    (x2_ids ? id : id >> 24) != (x2_ids ? lapic->id : lapic->id & 0xff)) {
		return -EINVAL;
	}
	lapic_reset(lapic);
	for (uint32_t offset = 0; offset < 1024; offset += 16) {
		if (offset != LAPIC_VERSION && offset != LAPIC_TIMER_CURRENT) {
			lapic_show(lapic, offset, load_le32(page + offset));
		}
	}
	lapic->icr_high = load_le32(page + LAPIC_ICR_HIGH);
	lapic->irr = words_in_use(lapic, LAPIC_IRR);
	lapic->isr = words_in_use(lapic, LAPIC_ISR);
	if (lapic_is_x2(lapic)) {
		derive_x2(lapic);
	}
	update_ppr(lapic);
	moved(lapic);
	lapic_timer_load(lapic, load_le32(page + LAPIC_TIMER_CURRENT), time);
	return 0;
}
