#include "lib/insn/native.h"

#include <string.h>

static void emit(struct insn_native *n, uint8_t byte)
{
	if (n->len < sizeof(n->code)) {
		n->code[n->len++] = byte;
	}
}

/* GPRs that the instruction itself names, other than for an address. */
static uint16_t operand_gprs(const struct insn *insn)
{
	uint16_t used = insn->gpr_fixed;

	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];

		if (o->kind == INSN_OP_REG && o->klass == INSN_GPR) {
			used |= (uint16_t)BIT(o->reg);
		}
	}
	return used;
}

/* Not RSP and RBP, which ModRM encodes in other ways. */
static uint8_t free_base(uint16_t used)
{
	static const uint8_t candidates[] = {RSI, RDI, RBX, RCX, RDX, RAX};

	for (unsigned i = 0; i < ARRAY_SIZE(candidates); i++) {
		if ((used >> candidates[i] & 1) == 0) {
			return candidates[i];
		}
	}
	return INSN_NO_REG;
}

/* Is it the same instruction, but for @alias in the place of RSP? */
static bool same_but_rsp(const struct insn *insn, const struct insn *other, uint8_t alias)
{
	if (other->mnemonic != insn->mnemonic || other->noperands != insn->noperands) {
		return false;
	}
	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i], *p = &other->operand[i];
		bool rsp = o->kind == INSN_OP_REG && o->klass == INSN_GPR && o->reg == RSP;

		if (p->kind != o->kind || p->klass != o->klass ||
		    (o->kind == INSN_OP_REG && p->reg != (rsp ? alias : o->reg))) {
			return false;
		}
	}
	return true;
}

/*
 * RSP, if an operand, becomes another register: the host needs its own. Which field of ModRM names
 * it, decoding shows.
 */
static bool replace_rsp(const struct insn *insn, struct insn_native *n, unsigned modrm_at)
{
	uint16_t used = operand_gprs(insn) | (n->base == INSN_NO_REG ? 0 : (uint16_t)BIT(n->base));
	uint8_t modrm = n->code[modrm_at];
	struct insn other;

	n->rsp_as = INSN_NO_REG;
	if ((used >> RSP & 1) == 0) {
		return true;
	}
	n->rsp_as = free_base(used);
	for (unsigned shift = 0; shift <= 3 && n->rsp_as != INSN_NO_REG; shift += 3) {
		n->code[modrm_at] = (uint8_t)((modrm & ~(7u << shift)) | n->rsp_as << shift);
		if (insn_decode(&other, INSN_64, n->code, n->len) == INSN_OK &&
		    same_but_rsp(insn, &other, n->rsp_as)) {
			return true;
		}
	}
	return false;
}

/* Prefixes, REX, and the bytes that choose the map. */
static void emit_legacy(const struct insn *insn, struct insn_native *n, bool memory)
{
	bool x87 = insn->klass == INSN_CLASS_X87;
	uint8_t rex = insn->mode == INSN_64 ? insn->rex & (memory ? 0xc : 0xf) : 0;

	if (x87 ? insn->op_bytes == 2 && memory : (insn->prefixes & INSN_PREFIX_OPSIZE) != 0) {
		emit(n, 0x66);
	}
	if (!x87 && (insn->prefixes & INSN_PREFIX_REP) != 0) {
		emit(n, 0xf3);
	}
	if (!x87 && (insn->prefixes & INSN_PREFIX_REPNE) != 0) {
		emit(n, 0xf2);
	}
	if (rex != 0) {
		emit(n, 0x40 | rex);
	}
	if (insn->map > 0) {
		emit(n, 0x0f);
	}
	if (insn->map > 1) {
		emit(n, insn->map == 2 ? 0x38 : 0x3a);
	}
}

/*
 * VEX and EVEX are copied. A memory operand has no extended registers any more; and bits that
 * 32-bit mode ignores are set as it takes them.
 */
static void emit_vex(const struct insn *insn, struct insn_native *n, bool memory)
{
	const uint8_t *p = insn->bytes + insn->rex_at;
	unsigned len = (unsigned)insn->opcode_at - insn->rex_at;
	bool narrow = insn->mode != INSN_64;
	uint8_t prefix[4] = {0};

	memcpy(prefix, p, MIN(len, sizeof(prefix)));
	if (len == 2) {
		prefix[1] |= narrow ? 0xc0 : 0;
	} else {
		prefix[1] |= (memory ? 0x60 : 0) | (narrow ? 0xe0 : 0);
		prefix[2] |= narrow ? 0x40 : 0;
		prefix[2] &= narrow && insn_w_is_size(insn) ? 0x7f : 0xff;
	}
	if (len == 4) {
		prefix[1] |= narrow ? 0x10 : 0;
	}
	for (unsigned i = 0; i < len && i < sizeof(prefix); i++) {
		emit(n, prefix[i]);
	}
}

bool insn_native_encode(const struct insn *insn, struct insn_native *n)
{
	bool memory = insn->nmem > 0 && insn->mem[0].kind == INSN_MEM_MODRM;
	uint8_t modrm = insn->modrm;
	unsigned modrm_at;

	n->len = 0;
	n->base = INSN_NO_REG;
	if (insn->nmem > 0 && !memory) {
		if (insn->mem[0].kind != INSN_MEM_IMPLIED) {
			return false;
		}
		n->base = RDI; /* MASKMOVDQU */
	}
	if (memory) {
		n->base = free_base(operand_gprs(insn));
		if (n->base == INSN_NO_REG) {
			return false;
		}
		modrm = (uint8_t)((modrm & 0x38) | n->base);
	}
	if (insn->encoding == INSN_LEGACY) {
		emit_legacy(insn, n, memory);
	} else {
		emit_vex(insn, n, memory);
	}
	emit(n, insn->opcode);
	modrm_at = n->len;
	if (insn->modrm_at != 0) {
		emit(n, modrm);
	}
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned j = 0; j < insn->imm_len[i]; j++) {
			emit(n, insn->bytes[insn->imm_at[i] + j]);
		}
	}
	if (insn->mode != INSN_64 && insn_names_in_imm(insn)) {
		n->code[n->len - 1] &= 0x7f;
	}
	return replace_rsp(insn, n, modrm_at);
}

void insn_native_state(struct insn_native *n, uint8_t opcode, unsigned reg, bool wide)
{
	n->x87_loads = opcode == 0xae && (reg & 1) != 0; /* FXRSTOR, XRSTOR */
	n->len = 0;
	n->base = RSI;
	n->rsp_as = INSN_NO_REG;
	if (wide) {
		emit(n, 0x48);
	}
	emit(n, 0x0f);
	emit(n, opcode);
	emit(n, (uint8_t)(reg << 3 | RSI));
}
