/* What travels between local APICs: whom a message is for, and how it arrives. */
#include "lib/chip/lapic_internal.h"

#define DFR_CLUSTER 0x0

#define BROADCAST    0xffu
#define BROADCAST_X2 0xffffffffu

static bool is_x2(const struct lapic *lapic)
{
	return (lapic_seen_base(lapic) & LAPIC_BASE_X2APIC) != 0;
}

static inline bool takes_vectors(const struct lapic *lapic)
{
	return (lapic_seen_base(lapic) & LAPIC_BASE_ENABLE) != 0 &&
	       (lapic_seen(lapic, LAPIC_SVR) & BIT(8)) != 0;
}

static uint32_t xapic_id(const struct lapic *lapic)
{
	return lapic_seen(lapic, LAPIC_ID) >> 24;
}

/* A device's 8-bit destination reaches an x2APIC, too. */
static uint32_t physical_id(const struct lapic *lapic)
{
	return is_x2(lapic) ? lapic->id : xapic_id(lapic);
}

static bool matches_physical(const struct lapic *lapic, const struct lapic_message *m)
{
	if (m->dest == (m->x2 ? BROADCAST_X2 : BROADCAST)) {
		return true;
	}
	return m->dest == physical_id(lapic);
}

static bool matches_logical(const struct lapic *lapic, const struct lapic_message *m)
{
	uint32_t ldr = lapic_seen(lapic, LAPIC_LDR);

	if (m->dest == (m->x2 ? BROADCAST_X2 : BROADCAST)) {
		return true;
	}
	if (is_x2(lapic)) {
		return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff) != 0;
	}
	ldr >>= 24;
	if (lapic_seen(lapic, LAPIC_DFR) >> 28 == DFR_CLUSTER) {
		return ldr >> 4 == (m->dest >> 4 & 15) && (ldr & m->dest & 15) != 0;
	}
	return (ldr & m->dest & 0xff) != 0;
}

bool lapic_matches(const struct lapic *lapic, const struct lapic_message *message)
{
	return message->logical ? matches_logical(lapic, message)
				: matches_physical(lapic, message);
}

static inline bool post_vector(struct lapic *lapic, const struct lapic_message *m)
{
	uint32_t bit = (uint32_t)BIT(m->vector % 32);
	unsigned word = m->vector / 32;

	if (!takes_vectors(lapic)) {
		return false;
	}
	if (m->level) {
		atomic_fetch_or_explicit(&lapic->posted_level[word], bit, memory_order_relaxed);
	} else {
		atomic_fetch_and_explicit(&lapic->posted_level[word], ~bit, memory_order_relaxed);
	}
	/* Pairs with the acquire in lapic.c, collect(). */
	atomic_fetch_or_explicit(&lapic->posted[word], bit, memory_order_release);
	/* Pairs with the acquire in collect(). */
	atomic_fetch_or_explicit(&lapic->posted_words, (uint32_t)BIT(word), memory_order_release);
	return true;
}

void lapic_post_fixed(struct lapic *lapic, const struct lapic_message *message)
{
	if (post_vector(lapic, message)) {
		lapic->ops->posted(lapic->ctx, LAPIC_FIXED, message->vector);
	}
}

bool lapic_post(struct lapic *lapic, const struct lapic_message *message)
{
	if (message->mode <= LAPIC_LOWEST) {
		if (message->vector < 16 || !post_vector(lapic, message)) {
			return false;
		}
		lapic->ops->posted(lapic->ctx, LAPIC_FIXED, message->vector);
		return true;
	}
	switch (message->mode) {
	case LAPIC_INIT:
		if (message->deassert) {
			return true;
		}
		/* fallthrough */
	case LAPIC_SMI:
	case LAPIC_NMI:
	case LAPIC_STARTUP:
		lapic->ops->posted(lapic->ctx, message->mode, message->vector);
		return true;
	default:
		return false; /* ExtINT has no message, 3 is reserved */
	}
}

static bool is_for(const struct lapic *lapic, const struct lapic *from,
		   const struct lapic_message *message)
{
	switch (message->shorthand) {
	case LAPIC_SELF:
		return lapic == from;
	case LAPIC_ALL:
		return true;
	case LAPIC_OTHERS:
		return lapic != from;
	default:
		return lapic_matches(lapic, message);
	}
}

/* Takes turns: the one that has been chosen least often. */
static struct lapic *choose(struct lapic *const *all, unsigned count, const struct lapic *from,
			    const struct lapic_message *message)
{
	struct lapic *chosen = NULL;
	uint32_t least = 0;

	for (unsigned i = 0; i < count; i++) {
		uint32_t turns;

		if (!takes_vectors(all[i]) || !is_for(all[i], from, message)) {
			continue;
		}
		turns = atomic_load_explicit(&all[i]->arbitration, memory_order_relaxed);
		if (chosen == NULL || (int32_t)(turns - least) < 0) {
			chosen = all[i];
			least = turns;
		}
	}
	return chosen;
}

/* As most messages: to a number, by what it is called. */
static bool is_for_one(const struct lapic_message *m)
{
	return m->mode == LAPIC_FIXED && m->shorthand == LAPIC_NO_SHORTHAND && !m->logical &&
	       m->dest != (m->x2 ? BROADCAST_X2 : BROADCAST);
}

unsigned lapic_bus_send(struct lapic *const *all, unsigned count, const struct lapic *from,
			const struct lapic_message *message)
{
	unsigned accepted = 0;

	if (is_for_one(message)) {
		for (unsigned i = 0; i < count; i++) {
			if (physical_id(all[i]) == message->dest) {
				accepted += lapic_post(all[i], message);
			}
		}
		return accepted;
	}
	if (message->mode == LAPIC_LOWEST) {
		struct lapic *chosen = choose(all, count, from, message);

		if (chosen == NULL) {
			return 0;
		}
		atomic_fetch_add_explicit(&chosen->arbitration, 1, memory_order_relaxed);
		return lapic_post(chosen, message);
	}
	for (unsigned i = 0; i < count; i++) {
		if (is_for(all[i], from, message)) {
			accepted += lapic_post(all[i], message);
		}
	}
	return accepted;
}

/* Spec: Intel SDM vol. 3A, "Message Signalled Interrupts" */
struct lapic_message lapic_msi(uint64_t address, uint32_t data, bool x2)
{
	uint32_t dest = (uint32_t)(address >> 12 & 0xff);
	bool wide = x2 && address >> 40 != 0;

	return (struct lapic_message){
		.dest = wide ? dest | (uint32_t)(address >> 40 << 8) : dest,
		.x2 = wide,
		.logical = (address & BIT(2)) != 0,
		.level = (data & BIT(15)) != 0,
		.vector = (uint8_t)data,
		.mode = (enum lapic_mode)(data >> 8 & 7),
	};
}
