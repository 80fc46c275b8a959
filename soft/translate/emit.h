/*
 * Writes instructions of the host. Nothing here knows of the guest.
 */
#pragma once

#include "lib/base/types.h"

enum {
	EM_RAX,
	EM_RCX,
	EM_RDX,
	EM_RBX,
	EM_RSP,
	EM_RBP,
	EM_RSI,
	EM_RDI,
	EM_R8,
	EM_R9,
	EM_R10,
	EM_R11,
	EM_ABSENT = 0xff,
};

/** Conditions as in the opcodes of Jcc. */
#define EM_CC_B	 2
#define EM_CC_NE 5
#define EM_CC_E	 4
#define EM_CC_A	 7

/** Of a field that depends on where the code is: a distance of 32 bits to a place. */
#define EM_MARK_REL 0

/**
 * The code grows at @at, which is the writable mapping; it will run at @at + @to_rx. @marks: fields
 * that are others if the same is written elsewhere, by offset from @base, with the kind in the high
 * bits.
 */
struct em {
	uint8_t *at, *end;
	ptrdiff_t to_rx;
	const uint8_t *base;
	uint32_t *marks;
	uint32_t nmarks, max_marks;
	bool full; /* nothing is written any more */
};

#define EM_MARK_SHIFT	    28
#define EM_MARK_KIND(mark)  ((mark) >> EM_MARK_SHIFT)
#define EM_MARK_PLACE(mark) ((mark) & (UINT32_MAX >> (32 - EM_MARK_SHIFT)))

/** An address: GS base if @gs, + @base + @index * @scale + @disp. */
struct em_mem {
	bool gs;
	uint8_t base, index, scale;
	int32_t disp;
};

#define EM_GS(offset)                        \
	((struct em_mem){.gs = true,         \
			 .base = EM_ABSENT,  \
			 .index = EM_ABSENT, \
			 .scale = 1,         \
			 .disp = (int32_t)(offset)})
#define EM_AT(register, offset) \
	((struct em_mem){.base = (register), .index = EM_ABSENT, .scale = 1, .disp = (offset)})

static inline void em_byte(struct em *e, unsigned byte)
{
	if (e->at == e->end) {
		e->full = true;
	} else {
		*e->at++ = (uint8_t)byte;
	}
}

/** em_mark() - notes the field of @kind that begins at @at, in the writable mapping. */
static inline void em_mark(struct em *e, unsigned kind, const uint8_t *at)
{
	if (e->nmarks == e->max_marks) {
		e->full = true;
	} else {
		e->marks[e->nmarks++] = kind << EM_MARK_SHIFT | (uint32_t)(at - e->base);
	}
}

void em_bytes(struct em *e, const void *bytes, unsigned n);
void em_32(struct em *e, uint32_t value);
void em_64(struct em *e, uint64_t value);

/** em_address() - ModRM, SIB and displacement of @m; the prefixes are written. */
void em_address(struct em *e, unsigned reg, const struct em_mem *m);

/** em_mem() - @opcode (of map 0F if @map) on a register and memory; @wide: 64 bits. */
void em_mem(struct em *e, bool wide, unsigned map, unsigned opcode, unsigned reg, struct em_mem m);

/** em_reg() - likewise with two registers; @rm is in ModRM.rm. */
void em_reg(struct em *e, bool wide, unsigned opcode, unsigned reg, unsigned rm);

/** em_is_long() - does it need 64 bits of an instruction, which are its last? */
static inline bool em_is_long(uint64_t value)
{
	return value > UINT32_MAX && !((int64_t)value >= INT32_MIN && (int64_t)value < 0);
}

/** em_mov_imm() - the shortest MOV that gives @reg the value. */
void em_mov_imm(struct em *e, unsigned reg, uint64_t value);

/** em_load(), em_store() - MOV of 64 bits. */
static inline void em_load(struct em *e, unsigned reg, struct em_mem m)
{
	em_mem(e, true, 0, 0x8b, reg, m);
}

static inline void em_store(struct em *e, unsigned reg, struct em_mem m)
{
	em_mem(e, true, 0, 0x89, reg, m);
}

static inline void em_lea(struct em *e, bool wide, unsigned reg, struct em_mem m)
{
	em_mem(e, wide, 0, 0x8d, reg, m);
}

/** em_push(), em_pop() - of the host's stack. */
void em_push(struct em *e, unsigned reg);
void em_pop(struct em *e, unsigned reg);

/** em_pext() - @to = the bits of @from that the mask at @m has. */
void em_pext(struct em *e, unsigned to, unsigned from, struct em_mem m);
/** em_pdep() - the low bits of @from go where the mask at @m has bits. */
void em_pdep(struct em *e, unsigned to, unsigned from, struct em_mem m);

/** em_jmp(), em_jcc(), em_call() - to a place in the executable mapping. */
void em_jmp(struct em *e, const uint8_t *to);
void em_jcc(struct em *e, unsigned cc, const uint8_t *to);
void em_call(struct em *e, const uint8_t *to);

/** em_jcc_open() - a jump that em_patch() gives its target. Return: what is behind it. */
uint8_t *em_jcc_open(struct em *e, unsigned cc);

/** em_here() - where the next instruction will run. */
static inline uint8_t *em_here(const struct em *e)
{
	return e->at + e->to_rx;
}

/**
 * em_patch() - the 32-bit distance that ends at @behind (executable address) leads to @to.
 */
void em_patch(const struct em *e, uint8_t *behind, const uint8_t *to);
