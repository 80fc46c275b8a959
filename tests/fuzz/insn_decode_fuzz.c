/*
 * Any bytes as an instruction. The first chooses the mode, the rest are decoded, cut in every
 * place: what the decoder says has to hold together, and to be the same however many bytes follow.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "lib/insn/decode.h"
#include "tests/fuzz/input.h"

static void check_field(const struct insn *insn, unsigned at, unsigned len)
{
	check(len <= 8 && at + len <= insn->len);
	check((at == 0) == (len == 0));
}

static void check_mem(const struct insn *insn, const struct insn_mem *m)
{
	check(m->seg < INSN_NSEGS && m->bytes <= 512);
	check(m->base < 16 || m->base == INSN_NO_REG || m->base == INSN_RIP);
	check(m->index < (m->kind == INSN_MEM_VSIB ? 32 : 16) || m->index == INSN_NO_REG);
	check(m->scale == 1 || m->scale == 2 || m->scale == 4 || m->scale == 8);
	check(m->base != INSN_RIP || insn->mode == INSN_64);
}

static void check_operand(const struct insn *insn, const struct insn_operand *o)
{
	check(o->kind != INSN_OP_NONE);
	check(o->kind != INSN_OP_MEM || o->reg < insn->nmem);
	check(o->kind != INSN_OP_IMM || o->reg < 2);
	if (o->kind == INSN_OP_REG) {
		check(o->reg < (o->klass == INSN_VEC ? 32 : 16));
		check(o->klass <= INSN_MASK);
		check(insn->mode == INSN_64 || o->reg < 8 || o->klass == INSN_CR);
	}
}

static void check_insn(const struct insn *insn)
{
	check(insn->len > 0 && insn->len <= INSN_MAX);
	check(insn->opcode_at < insn->len && insn->modrm_at < insn->len);
	check_field(insn, insn->disp_at, insn->disp_len);
	check_field(insn, insn->imm_at[0], insn->imm_len[0]);
	check_field(insn, insn->imm_at[1], insn->imm_len[1]);
	check(insn->op_bytes == 2 || insn->op_bytes == 4 || insn->op_bytes == 8);
	check(insn->adr_bytes == 2 || insn->adr_bytes == 4 || insn->adr_bytes == 8);
	check(insn->noperands <= INSN_NOPERANDS && insn->nmem <= 2);
	check(insn->mnemonic > INSN_NONE && insn->mnemonic < INSN_NMNEMONICS);
	check((insn->flags_undefined & ~insn->flags_written) == 0);
	check(insn->mode == INSN_64 || ((insn->gpr_read | insn->gpr_write) & 0xff00) == 0);
	for (unsigned i = 0; i < insn->noperands; i++) {
		check_operand(insn, &insn->operand[i]);
	}
	for (unsigned i = 0; i < insn->nmem; i++) {
		check_mem(insn, &insn->mem[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned modes[] = {INSN_16, INSN_32, INSN_64, INSN_64 | INSN_AMD};
	unsigned mode = size == 0 ? 0 : modes[data[0] & 3];
	struct insn whole;
	enum insn_result r;

	if (size == 0) {
		return 0;
	}
	data++;
	size--;
	r = insn_decode(&whole, mode, data, (unsigned)size);
	check(whole.len <= size && whole.len <= INSN_MAX);
	if (r == INSN_OK) {
		check_insn(&whole);
	}
	for (unsigned len = 0; len <= size && len <= INSN_MAX; len++) {
		struct insn cut;
		uint8_t *exact = malloc(len > 0 ? len : 1);
		enum insn_result rc;

		check(exact != NULL);
		memcpy(exact, data, len);
		rc = insn_decode(&cut, mode, exact, len);
		/* Undefined may show before all bytes are there; nothing else may. */
		check(rc == r || rc == INSN_MORE || (r == INSN_TOO_LONG && rc == INSN_UNDEFINED));
		check(r != INSN_OK || (rc == INSN_OK) == (len >= whole.len));
		check(rc != INSN_OK || memcmp(&cut, &whole, sizeof(cut)) == 0);
		free(exact);
	}
	return 0;
}
