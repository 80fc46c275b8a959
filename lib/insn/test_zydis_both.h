/*
 * Inside the comparison with Zydis: one instruction, as both see it.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "lib/insn/decode.h"
#include "lib/insn/test_zydis.h"

/* Registers read and written, one bit each. */
struct zydis_used {
	uint32_t gpr[2], vec[2], mm[2], mask[2], seg[2], crdr[2];
};

enum {
	READ,
	WRITTEN
};

struct zydis_both {
	unsigned mode;
	struct insn insn;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct zydis_report *report;
};

/** zydis_used(), zydis_ours() - the registers that Zydis names, and ours. */
void zydis_used(const struct zydis_both *b, struct zydis_used *u);
void zydis_ours(const struct zydis_both *b, struct zydis_used *u);

/** zydis_excused() - is there a reason for a difference in this aspect? It is counted. */
bool zydis_excused(struct zydis_both *b, unsigned aspect);
