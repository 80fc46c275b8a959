/*
 * Inside the decoder: what it knows while it goes through the bytes.
 */
#pragma once

#include "lib/insn/table.h"

struct insn_decoder {
	struct insn *insn;
	const uint8_t *bytes;
	const struct insn_row *row;
	struct insn_mem mem; /* by ModRM, without its size */
	unsigned len;
	uint8_t pos;
	uint8_t space;
	uint8_t seg; /* by a prefix that counts, or INSN_NO_REG */
	uint8_t pp, w, ll;
	uint8_t v2;	   /* EVEX.V' */
	uint8_t vvvv_raw;  /* before 32-bit mode cuts it */
	uint8_t reg, rm;   /* of ModRM, three bits */
	uint8_t sib_index; /* four bits; 4 is a register too, with VSIB */
	bool amd, long_mode;
	bool rex_there; /* REX makes SPL, BPL, SIL, DIL of AH, CH, DH, BH */
	bool is_mem, mod_ignored;
};

static inline int64_t insn_sign_extend(uint64_t v, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;

	return (int64_t)(v << shift) >> shift;
}

/** insn_fetch() - the next @n bytes, up to 8, as a number. */
must_use enum insn_result insn_fetch(struct insn_decoder *d, unsigned n, uint64_t *value);

/** insn_operands() - checks the row against all prefixes, fetches immediates, fills operands. */
must_use enum insn_result insn_operands(struct insn_decoder *d);

/** insn_effects() - registers and flags read and written. */
void insn_effects(struct insn_decoder *d);
