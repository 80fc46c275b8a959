#include "core/sys/random.h"

#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/entropy.h"
#include "core/lock.h"

#define KEY_WORDS   8
#define BLOCK_WORDS 16
#define ROUNDS	    20

static struct {
	struct spinlock lock;
	/* Guarded by lock. */
	uint32_t key[KEY_WORDS];
	uint64_t blocks;
	bool is_keyed;
} generator = {.lock = SPINLOCK_INIT(LOCK_LEAF)};

static uint32_t rotate(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
	*a += *b;
	*d = rotate(*d ^ *a, 16);
	*c += *d;
	*b = rotate(*b ^ *c, 12);
	*a += *b;
	*d = rotate(*d ^ *a, 8);
	*c += *d;
	*b = rotate(*b ^ *c, 7);
}

static void block(const uint32_t key[KEY_WORDS], uint64_t counter, uint32_t out[BLOCK_WORDS])
{
	uint32_t start[BLOCK_WORDS] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
	uint32_t x[BLOCK_WORDS];

	memcpy(start + 4, key, KEY_WORDS * sizeof(*key));
	start[12] = (uint32_t)counter;
	start[13] = (uint32_t)(counter >> 32);
	memcpy(x, start, sizeof(x));
	for (unsigned i = 0; i < ROUNDS; i += 2) {
		for (unsigned c = 0; c < 4; c++) {
			quarter_round(&x[c], &x[4 + c], &x[8 + c], &x[12 + c]);
		}
		for (unsigned c = 0; c < 4; c++) {
			quarter_round(&x[c], &x[4 + (c + 1) % 4], &x[8 + (c + 2) % 4],
				      &x[12 + (c + 3) % 4]);
		}
	}
	for (unsigned i = 0; i < BLOCK_WORDS; i++) {
		out[i] = x[i] + start[i];
	}
}

/* Caller holds the lock. */
static void stir(uint64_t value)
{
	uint32_t out[BLOCK_WORDS];

	generator.key[0] ^= (uint32_t)value;
	generator.key[1] ^= (uint32_t)(value >> 32);
	block(generator.key, generator.blocks++, out);
	memcpy(generator.key, out, sizeof(generator.key));
}

void random_stir(uint64_t value)
{
	uint64_t flags = spin_take_irq(&generator.lock);

	stir(value);
	spin_give_irq(&generator.lock, flags);
}

/* Caller holds the lock. */
static void key(void)
{
	for (unsigned i = 0; i < KEY_WORDS; i++) {
		stir(entropy_word());
	}
	stir(clock_wall_ns());
	stir(clock_now_ns());
	generator.is_keyed = true;
}

void random_bytes(void *buf, size_t len)
{
	uint32_t own[BLOCK_WORDS], out[BLOCK_WORDS];
	uint64_t flags = spin_take_irq(&generator.lock);
	uint8_t *to = buf;

	if (!generator.is_keyed) {
		key();
	}
	/* The first half of a block is the next key, the second keys this call's bytes. */
	block(generator.key, generator.blocks++, own);
	memcpy(generator.key, own, sizeof(generator.key));
	spin_give_irq(&generator.lock, flags);
	for (uint64_t i = 0; len > 0; i++) {
		size_t part = MIN(len, sizeof(out));

		block(own + KEY_WORDS, i, out);
		memcpy(to, out, part);
		to += part;
		len -= part;
	}
}
