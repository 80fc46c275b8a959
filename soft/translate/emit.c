#include "soft/translate/emit.h"

#include <string.h>

#include "lib/base/bytes.h"

void em_bytes(struct em *e, const void *bytes, unsigned n)
{
	if ((size_t)(e->end - e->at) < n) {
		e->full = true;
		return;
	}
	memcpy(e->at, bytes, n);
	e->at += n;
}

void em_32(struct em *e, uint32_t value)
{
	em_bytes(e, &value, sizeof(value));
}

void em_64(struct em *e, uint64_t value)
{
	em_bytes(e, &value, sizeof(value));
}

static unsigned scale_bits(unsigned scale)
{
	return scale == 8 ? 3 : scale / 2;
}

void em_address(struct em *e, unsigned reg, const struct em_mem *m)
{
	unsigned r = (reg & 7) << 3;
	bool sib = m->index != EM_ABSENT || m->base == EM_ABSENT || (m->base & 7) == EM_RSP;
	bool byte = m->disp >= -128 && m->disp <= 127;
	unsigned mod = m->base == EM_ABSENT			 ? 0
		       : m->disp == 0 && (m->base & 7) != EM_RBP ? 0
		       : byte					 ? 0x40
								 : 0x80;

	em_byte(e, mod | r | (sib ? 4 : m->base & 7));
	if (sib) {
		unsigned index = m->index == EM_ABSENT ? 4 : m->index & 7;
		unsigned base = m->base == EM_ABSENT ? 5 : m->base & 7;

		em_byte(e, scale_bits(m->scale) << 6 | index << 3 | base);
	}
	if (m->base == EM_ABSENT || mod == 0x80) {
		em_32(e, (uint32_t)m->disp);
	} else if (mod == 0x40) {
		em_byte(e, (uint8_t)m->disp);
	}
}

static unsigned high(unsigned reg)
{
	return reg != EM_ABSENT && reg >= 8;
}

void em_mem(struct em *e, bool wide, unsigned map, unsigned opcode, unsigned reg, struct em_mem m)
{
	unsigned rex = (wide ? 8 : 0) | high(reg) << 2 | high(m.index) << 1 | high(m.base);

	if (m.gs) {
		em_byte(e, 0x65);
	}
	if (rex != 0) {
		em_byte(e, 0x40 | rex);
	}
	if (map != 0) {
		em_byte(e, 0x0f);
	}
	em_byte(e, opcode);
	em_address(e, reg, &m);
}

void em_reg(struct em *e, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
	unsigned rex = (wide ? 8 : 0) | high(reg) << 2 | high(rm);

	if (rex != 0) {
		em_byte(e, 0x40 | rex);
	}
	em_byte(e, opcode);
	em_byte(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void em_mov_imm(struct em *e, unsigned reg, uint64_t value)
{
	unsigned b = high(reg);

	if (em_is_long(value)) {
		em_byte(e, 0x48 | b);
		em_byte(e, 0xb8 | (reg & 7));
		em_64(e, value);
	} else if (value <= UINT32_MAX) {
		if (b != 0) {
			em_byte(e, 0x41);
		}
		em_byte(e, 0xb8 | (reg & 7));
		em_32(e, (uint32_t)value);
	} else {
		em_byte(e, 0x48 | b);
		em_byte(e, 0xc7);
		em_byte(e, 0xc0 | (reg & 7));
		em_32(e, (uint32_t)value);
	}
}

void em_push(struct em *e, unsigned reg)
{
	if (reg >= 8) {
		em_byte(e, 0x41);
	}
	em_byte(e, 0x50 | (reg & 7));
}

void em_pop(struct em *e, unsigned reg)
{
	if (reg >= 8) {
		em_byte(e, 0x41);
	}
	em_byte(e, 0x58 | (reg & 7));
}

static void deposit(struct em *e, unsigned pp, unsigned to, unsigned from, struct em_mem m)
{
	if (m.gs) {
		em_byte(e, 0x65);
	}
	em_byte(e, 0xc4);
	em_byte(e,
		(high(to) ? 0 : 0x80) | (high(m.index) ? 0 : 0x40) | (high(m.base) ? 0 : 0x20) | 2);
	em_byte(e, 0x80 | (~from & 15) << 3 | pp);
	em_byte(e, 0xf5);
	em_address(e, to, &m);
}

void em_pext(struct em *e, unsigned to, unsigned from, struct em_mem m)
{
	deposit(e, 2, to, from, m);
}

void em_pdep(struct em *e, unsigned to, unsigned from, struct em_mem m)
{
	deposit(e, 3, to, from, m);
}

static void distance(struct em *e, const uint8_t *to)
{
	em_mark(e, EM_MARK_REL, e->at);
	em_32(e, (uint32_t)(to - (em_here(e) + 4)));
}

void em_jmp(struct em *e, const uint8_t *to)
{
	em_byte(e, 0xe9);
	distance(e, to);
}

uint8_t *em_jcc_open(struct em *e, unsigned cc)
{
	em_byte(e, 0x0f);
	em_byte(e, 0x80 | cc);
	em_32(e, 0);
	return em_here(e);
}

void em_jcc(struct em *e, unsigned cc, const uint8_t *to)
{
	em_byte(e, 0x0f);
	em_byte(e, 0x80 | cc);
	distance(e, to);
}

void em_call(struct em *e, const uint8_t *to)
{
	em_byte(e, 0xe8);
	distance(e, to);
}

void em_patch(const struct em *e, uint8_t *behind, const uint8_t *to)
{
	if (!e->full) {
		store_le32(behind - e->to_rx - 4, (uint32_t)(to - behind));
	}
}
