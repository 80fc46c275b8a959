/*
 * The second half of decoding: the row is known, now what it says becomes operands and effects.
 */
#include "lib/insn/operands.h"

#define RAX 0
#define RCX 1
#define RDX 2
#define RBX 3
#define RSP 4
#define RBP 5
#define RSI 6
#define RDI 7

/* Operand sizes that the row changes. Spec: Intel SDM vol. 2, 2.2.1.7; AMD APM vol. 3, 1.2.7 */
static void fix_op_bytes(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	bool opsize = (insn->prefixes & INSN_PREFIX_OPSIZE) != 0;

	if (!d->long_mode) {
		return;
	}
	if ((d->row->attr & ROW_D64) != 0 && insn->op_bytes == 4) {
		insn->op_bytes = 8;
	}
	if ((d->row->attr & ROW_F64) != 0) {
		insn->op_bytes = d->amd && opsize && (insn->rex & 8) == 0 ? 2 : 8;
	}
}

static unsigned vector_bytes(const struct insn *insn)
{
	return insn->vec_bytes == 0 ? 16 : insn->vec_bytes;
}

static unsigned element_bytes(const struct insn_decoder *d)
{
	/* Compress and expand: of bytes and words in opcodes 62 and 63, of doublewords elsewhere.
	 */
	return (unsigned)((d->insn->opcode & 0xfe) == 0x62 ? 1 << d->w : 4 << d->w);
}

/* Of those that depend on nothing but the vector's length or are constant. */
static unsigned fixed_bytes(const struct insn_decoder *d, unsigned size)
{
	static const uint16_t bytes[32] = {
		[SIZE_B] = 1,	[SIZE_BS] = 1,	 [SIZE_W] = 2,	 [SIZE_D] = 4,
		[SIZE_DX] = 4,	[SIZE_Q] = 8,	 [SIZE_QX] = 8,	 [SIZE_DQ] = 16,
		[SIZE_QQ] = 32, [SIZE_FX] = 512, [SIZE_ZZ] = 64, [SIZE_T] = 10,
	};
	unsigned vec = vector_bytes(d->insn);

	switch (size) {
	case SIZE_X:
		return vec;
	case SIZE_H:
		return vec / 2;
	case SIZE_F:
		return vec / 4;
	case SIZE_E:
		return vec / 8;
	case SIZE_DUP:
		return vec == 16 ? 8 : vec;
	default:
		return bytes[size];
	}
}

static unsigned size_bytes(const struct insn_decoder *d, unsigned size, bool mem)
{
	unsigned op = d->insn->op_bytes;

	switch (size) {
	case SIZE_V:
		return op;
	case SIZE_Z:
		/* AMD's MOVSXD reads 32 bits even if 16 are wanted. */
		return d->amd && d->insn->mnemonic == INSN_MOVSXD ? 4 : MIN(op, 4);
	case SIZE_Y:
		return op == 8 ? 8 : 4;
	case SIZE_N:
		return d->long_mode ? 8 : 4;
	case SIZE_P:
		return op + 2;
	case SIZE_S:
		return d->long_mode ? 10 : 6;
	case SIZE_A:
		return 2 * op;
	case SIZE_U:
		return mem ? 2 : op;
	case SIZE_J:
		return d->insn->adr_bytes;
	case SIZE_WD:
		return mem ? 2 : 4;
	case SIZE_BD:
		return mem ? 1 : 4;
	case SIZE_ENV:
		return op == 2 ? 14 : 28;
	case SIZE_SAVE:
		return op == 2 ? 94 : 108;
	default:
		return fixed_bytes(d, size);
	}
}

static void set_reg(struct insn_operand *o, unsigned klass, unsigned reg, unsigned bytes)
{
	o->kind = INSN_OP_REG;
	o->klass = (uint8_t)klass;
	o->reg = (uint8_t)reg;
	o->bytes = (uint16_t)bytes;
}

static enum insn_result set_gpr(struct insn_decoder *d, struct insn_operand *o, unsigned reg,
				unsigned bytes)
{
	if (reg > 15) {
		return INSN_UNDEFINED; /* EVEX has bits for 32 */
	}
	if (bytes == 1 && reg >= 4 && reg < 8 && !d->rex_there) {
		set_reg(o, INSN_GPR_HIGH, reg - 4, 1);
	} else {
		set_reg(o, INSN_GPR, reg, bytes);
	}
	return INSN_OK;
}

static enum insn_result set_fixed(struct insn_decoder *d, struct insn_operand *o, unsigned reg,
				  unsigned bytes)
{
	d->insn->gpr_fixed |= (uint16_t)(1U << reg);
	set_reg(o, INSN_GPR, reg, bytes);
	return INSN_OK;
}

static enum insn_result set_vec(struct insn_decoder *d, struct insn_operand *o, unsigned reg,
				unsigned size)
{
	unsigned bytes = fixed_bytes(d, size);

	if (size == SIZE_DUP) {
		bytes = vector_bytes(d->insn);
	}
	if (!d->long_mode) {
		reg &= 7;
	}
	set_reg(o, INSN_VEC, reg, MAX(bytes, 16));
	return INSN_OK;
}

static enum insn_result set_mask(struct insn_operand *o, unsigned reg)
{
	if (reg > 7) {
		return INSN_UNDEFINED;
	}
	set_reg(o, INSN_MASK, reg, 8);
	return INSN_OK;
}

static struct insn_mem *new_mem(struct insn_decoder *d, struct insn_operand *o, unsigned bytes)
{
	o->kind = INSN_OP_MEM;
	o->reg = d->insn->nmem++;
	o->bytes = (uint16_t)bytes;
	return &d->insn->mem[o->reg];
}

static uint8_t segment(const struct insn_decoder *d, uint8_t otherwise)
{
	return d->seg == INSN_NO_REG ? otherwise : d->seg;
}

/* Memory at the address in a register that the encoding does not choose freely. */
static void implied_mem(struct insn_decoder *d, struct insn_operand *o, unsigned reg, uint8_t seg,
			unsigned bytes)
{
	*new_mem(d, o, bytes) = (struct insn_mem){
		.kind = INSN_MEM_IMPLIED,
		.seg = seg,
		.base = (uint8_t)reg,
		.index = INSN_NO_REG,
		.scale = 1,
		.bytes = (uint16_t)bytes,
	};
}

static enum insn_result set_mem(struct insn_decoder *d, struct insn_operand *o, unsigned bytes)
{
	struct insn *insn = d->insn;
	struct insn_mem *m;
	unsigned unit = bytes;

	if (insn->encoding == INSN_EVEX) {
		if (insn->evex_b) {
			bytes = (d->row->attr & ROW_B8) != 0 ? 8 : 4;
		}
		unit = (d->row->attr & ROW_ELEM) != 0 ? element_bytes(d) : bytes;
	}
	m = new_mem(d, o, bytes);
	*m = d->mem;
	m->kind = INSN_MEM_MODRM;
	m->bytes = (uint16_t)bytes;
	m->seg = segment(d, m->base == RSP || m->base == RBP ? INSN_SS : INSN_DS);
	if (insn->encoding == INSN_EVEX && insn->disp_len == 1) {
		m->disp *= unit;
	}
	return INSN_OK;
}

static enum insn_result set_vsib(struct insn_decoder *d, struct insn_operand *o, unsigned how,
				 unsigned size)
{
	unsigned vec = vector_bytes(d->insn);
	struct insn_mem *m;

	if (d->insn->sib_at == 0) {
		return INSN_UNDEFINED;
	}
	(void)set_mem(d, o, fixed_bytes(d, size));
	m = &d->insn->mem[o->reg];
	m->kind = INSN_MEM_VSIB;
	m->index = d->sib_index | d->v2;
	m->index_bytes = (uint8_t)(how == HOW_T ? vec : MAX(vec / 2, 16));
	return INSN_OK;
}

static enum insn_result fetch_imm(struct insn_decoder *d, struct insn_operand *o, unsigned n,
				  bool sign)
{
	struct insn *insn = d->insn;
	unsigned i = insn->imm_len[0] == 0 ? 0 : 1;
	enum insn_result r;

	insn->imm_at[i] = d->pos;
	insn->imm_len[i] = (uint8_t)n;
	r = insn_fetch(d, n, &insn->imm[i]);
	if (r == INSN_OK && sign) {
		insn->imm[i] = (uint64_t)insn_sign_extend(insn->imm[i], n);
	}
	o->kind = INSN_OP_IMM;
	o->reg = (uint8_t)i;
	o->bytes = (uint16_t)n;
	return r;
}

static enum insn_result set_far(struct insn_decoder *d, struct insn_operand *o)
{
	enum insn_result r = fetch_imm(d, o, d->insn->op_bytes, false);

	if (r == INSN_OK) {
		r = fetch_imm(d, o, 2, false);
	}
	o->kind = INSN_OP_FAR;
	o->reg = 0;
	return r;
}

static enum insn_result set_moffs(struct insn_decoder *d, struct insn_operand *o, unsigned bytes)
{
	struct insn *insn = d->insn;
	uint64_t disp = 0;
	enum insn_result r;

	insn->disp_at = d->pos;
	insn->disp_len = insn->adr_bytes;
	r = insn_fetch(d, insn->adr_bytes, &disp);
	*new_mem(d, o, bytes) = (struct insn_mem){
		.kind = INSN_MEM_MOFFS,
		.seg = segment(d, INSN_DS),
		.base = INSN_NO_REG,
		.index = INSN_NO_REG,
		.scale = 1,
		.bytes = (uint16_t)bytes,
		.disp = (int64_t)disp,
	};
	return r;
}

/* Control and debug registers. AMD: LOCK stands in for REX.R. */
static enum insn_result set_crdr(struct insn_decoder *d, struct insn_operand *o, unsigned klass)
{
	unsigned reg = d->reg | ((d->insn->rex & 4) != 0 ? 8 : 0);

	if (klass == INSN_CR && d->amd && (d->insn->prefixes & INSN_PREFIX_LOCK) != 0) {
		reg |= 8;
	}
	if (klass == INSN_CR
		    ? reg > 8 || (BIT(reg) & (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(8))) == 0
		    : reg > 7) {
		return INSN_UNDEFINED;
	}
	set_reg(o, klass, reg, d->long_mode ? 8 : 4);
	return INSN_OK;
}

static unsigned modrm_reg(const struct insn_decoder *d)
{
	return d->reg | ((d->insn->rex & 4) != 0 ? 8U : 0) | d->insn->evex_r2;
}

static unsigned modrm_rm(const struct insn_decoder *d)
{
	return d->rm | ((d->insn->rex & 1) != 0 ? 8U : 0);
}

static unsigned modrm_rm_vec(const struct insn_decoder *d)
{
	bool high = d->insn->encoding == INSN_EVEX && (d->insn->rex & 2) != 0;

	return modrm_rm(d) | (high ? 16U : 0);
}

static enum insn_result set_implied(struct insn_decoder *d, struct insn_operand *o, unsigned how,
				    unsigned bytes)
{
	switch (how) {
	case HOW_AL:
	case HOW_AX:
	case HOW_RAX:
		return set_fixed(d, o, RAX, bytes);
	case HOW_ZAX:
		return set_fixed(d, o, RAX, MIN(bytes, 4));
	case HOW_CL:
		return set_fixed(d, o, RCX, 1);
	case HOW_DX:
		return set_fixed(d, o, RDX, 2);
	case HOW_ONE:
		o->kind = INSN_OP_IMM;
		o->bytes = 1;
		d->insn->imm[0] = 1;
		return INSN_OK;
	case HOW_ST0:
	case HOW_ST1:
		set_reg(o, INSN_ST, how - HOW_ST0, 10);
		return INSN_OK;
	case HOW_STI:
		set_reg(o, INSN_ST, d->rm, 10);
		return INSN_OK;
	case HOW_XMM0:
		return set_vec(d, o, 0, SIZE_DQ);
	case HOW_KG:
		return set_mask(o, modrm_reg(d));
	case HOW_KH:
		return set_mask(o, d->insn->vvvv);
	case HOW_KR:
		return set_mask(o, d->rm);
	default: /* ES to GS */
		set_reg(o, INSN_SEG, how - HOW_ES, 2);
		return INSN_OK;
	}
}

static enum insn_result set_integer(struct insn_decoder *d, struct insn_operand *o, unsigned how,
				    unsigned size)
{
	unsigned bytes = size_bytes(d, size, d->is_mem);

	switch (how) {
	case HOW_E:
		o->field = INSN_FIELD_RM;
		return d->is_mem ? set_mem(d, o, bytes) : set_gpr(d, o, modrm_rm(d), bytes);
	case HOW_M:
		return set_mem(d, o, bytes);
	case HOW_R:
		o->field = INSN_FIELD_RM;
		return set_gpr(d, o, modrm_rm(d), bytes);
	case HOW_G:
		bytes = size_bytes(d, size, false);
		if (size == SIZE_J) { /* MOVDIR64B, ENQCMD: where to */
			implied_mem(d, o, modrm_reg(d), INSN_ES, 64);
			o->access = INSN_WRITE;
			return INSN_OK;
		}
		o->field = INSN_FIELD_REG;
		return set_gpr(d, o, modrm_reg(d), bytes);
	case HOW_Z:
		o->field = INSN_FIELD_OPCODE;
		return set_gpr(d, o, (d->insn->opcode & 7) | ((d->insn->rex & 1) != 0 ? 8U : 0),
			       bytes);
	case HOW_B:
		o->field = INSN_FIELD_VVVV;
		return set_gpr(d, o, d->insn->vvvv, bytes);
	case HOW_I:
		return fetch_imm(d, o, bytes > 4 && size != SIZE_V ? 4 : bytes,
				 size == SIZE_Z || size == SIZE_BS);
	case HOW_J: {
		enum insn_result r = fetch_imm(d, o, MIN(bytes, 4), true);

		o->kind = INSN_OP_REL;
		return r;
	}
	case HOW_O:
		return set_moffs(d, o, bytes);
	case HOW_A:
		return set_far(d, o);
	case HOW_X:
		d->insn->gpr_fixed |= BIT(RSI);
		implied_mem(d, o, RSI, segment(d, INSN_DS), bytes);
		return INSN_OK;
	case HOW_Y:
		d->insn->gpr_fixed |= BIT(RDI);
		implied_mem(d, o, RDI, INSN_ES, bytes);
		return INSN_OK;
	case HOW_S:
		set_reg(o, INSN_SEG, d->reg, 2);
		return INSN_OK;
	default:
		return set_crdr(d, o, how == HOW_C ? INSN_CR : INSN_DR);
	}
}

static enum insn_result set_vector(struct insn_decoder *d, struct insn_operand *o, unsigned how,
				   unsigned size)
{
	uint64_t imm;
	enum insn_result r;

	switch (how) {
	case HOW_V:
		return set_vec(d, o, modrm_reg(d), size);
	case HOW_H:
		return set_vec(d, o, d->insn->vvvv, size);
	case HOW_W:
	case HOW_Q:
		if (d->is_mem) {
			return set_mem(d, o, size_bytes(d, size, true));
		}
		if (how == HOW_W) {
			return set_vec(d, o, modrm_rm_vec(d), size);
		}
		set_reg(o, INSN_MM, d->rm, 8);
		return INSN_OK;
	case HOW_U:
		return set_vec(d, o, modrm_rm_vec(d), size);
	case HOW_L:
		r = fetch_imm(d, o, 1, false);
		imm = d->insn->imm[0];
		return r == INSN_OK ? set_vec(d, o, (unsigned)imm >> 4, size) : r;
	case HOW_P:
		set_reg(o, INSN_MM, d->reg, 8);
		return INSN_OK;
	case HOW_N:
		set_reg(o, INSN_MM, d->rm, 8);
		return INSN_OK;
	default:
		return set_vsib(d, o, how, size);
	}
}

static enum insn_result set_operand(struct insn_decoder *d, unsigned i)
{
	unsigned how = d->row->operand[i].how, size = ROW_SIZE(d->row->operand[i]);
	struct insn_operand *o = &d->insn->operand[i];

	o->access = ROW_ACCESS(d->row->operand[i]);
	if (how >= HOW_AL) {
		return set_implied(d, o, how, size_bytes(d, size, false));
	}
	if ((how >= HOW_V && how <= HOW_T_HALF && how != HOW_J)) {
		return set_vector(d, o, how, size);
	}
	return set_integer(d, o, how, size);
}

/* Memory operands without a field of their own. */
static void set_special(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	struct insn_operand *o = &insn->operand[insn->noperands];
	uint64_t attr = d->row->attr;

	if ((attr & (ROW_AXMEM | ROW_DIMEM | ROW_XLAT | ROW_AXREG)) == 0) {
		return;
	}
	insn->noperands++;
	o->access = INSN_READ;
	if ((attr & ROW_AXMEM) != 0) {
		bool clzero = insn->mnemonic == INSN_CLZERO;

		o->access = clzero ? INSN_WRITE : INSN_READ;
		insn->gpr_fixed |= BIT(RAX);
		implied_mem(d, o, RAX, segment(d, INSN_DS), clzero ? 64 : 1);
	} else if ((attr & ROW_DIMEM) != 0) {
		o->access = INSN_WRITE | INSN_COND;
		insn->gpr_fixed |= BIT(RDI);
		implied_mem(d, o, RDI, segment(d, INSN_DS), insn->klass == INSN_CLASS_MMX ? 8 : 16);
	} else if ((attr & ROW_XLAT) != 0) {
		implied_mem(d, o, RBX, segment(d, INSN_DS), 1);
		insn->mem[o->reg].index = RAX;
		insn->mem[o->reg].kind = INSN_MEM_XLAT;
	} else {
		(void)set_fixed(d, o, RAX, insn->adr_bytes);
	}
}

static bool uses_vvvv(const struct insn_row *row)
{
	for (unsigned i = 0; i < INSN_NOPERANDS; i++) {
		unsigned how = row->operand[i].how;

		if (how == HOW_H || how == HOW_B || how == HOW_KH) {
			return true;
		}
	}
	return false;
}

static bool has_vsib(const struct insn_row *row)
{
	return row->operand[0].how == HOW_T || row->operand[0].how == HOW_T_HALF ||
	       row->operand[1].how == HOW_T || row->operand[1].how == HOW_T_HALF;
}

/* Spec: Intel SDM vol. 2, 2.7.11 "#UD Equations for EVEX" */
static bool evex_allowed(const struct insn_decoder *d)
{
	const struct insn *insn = d->insn;
	uint64_t attr = d->row->attr;

	if ((attr & (ROW_K | ROW_KZ | ROW_KREQ)) == 0 && insn->evex_aaa != 0) {
		return false;
	}
	if ((attr & ROW_KREQ) != 0 && insn->evex_aaa == 0) {
		return false;
	}
	if (insn->evex_z && ((attr & ROW_KZ) == 0 || insn->evex_aaa == 0)) {
		return false;
	}
	if (insn->evex_z && d->is_mem && d->row->operand[0].how == HOW_W) {
		return false;
	}
	if (insn->evex_b) {
		return (attr & (d->is_mem ? ROW_B4 | ROW_B8 : ROW_ER | ROW_SAE)) != 0;
	}
	return true;
}

/* What the prefixes forbid. */
static bool allowed(const struct insn_decoder *d)
{
	const struct insn *insn = d->insn;
	uint64_t attr = d->row->attr;

	if ((insn->prefixes & INSN_PREFIX_LOCK) != 0) {
		bool mov_cr = d->amd && (attr & ROW_CRDR) != 0 && (insn->opcode & 1) == 0;

		if (!mov_cr && ((attr & INSN_ATTR_LOCK) == 0 || !d->is_mem)) {
			return false;
		}
	}
	if (insn->encoding == INSN_LEGACY) {
		/* Prefetches of a register are NOPs to Intel. */
		return !(d->amd && insn->map == 1 && insn->opcode == 0x0d && !d->is_mem);
	}
	if (!uses_vvvv(d->row) && (has_vsib(d->row) ? d->vvvv_raw & 15 : d->vvvv_raw) != 0) {
		return false;
	}
	return insn->encoding == INSN_VEX || evex_allowed(d);
}

/* A gather whose registers overlap. */
static bool gather_allowed(const struct insn *insn)
{
	unsigned dest = insn->operand[0].reg;

	if (insn->nmem == 0 || insn->mem[0].kind != INSN_MEM_VSIB ||
	    insn->operand[0].kind != INSN_OP_REG) {
		return true;
	}
	if (dest == insn->mem[0].index) {
		return false;
	}
	return insn->encoding == INSN_EVEX ||
	       (insn->vvvv != dest && insn->vvvv != insn->mem[0].index);
}

/* With merging the elements that the mask leaves out keep their values. */
static void merge_mask(struct insn *insn)
{
	struct insn_operand *o = &insn->operand[0];

	bool blend = insn->map == 2 && insn->opcode >= 0x64 && insn->opcode <= 0x66;

	if (insn->evex_aaa == 0 || insn->evex_z || blend) {
		return;
	}
	if (o->kind == INSN_OP_MEM) {
		o->access |= INSN_COND;
	} else if (o->klass == INSN_VEC && (o->access & INSN_WRITE) != 0) {
		o->access |= INSN_READ;
	}
}

enum insn_result insn_operands(struct insn_decoder *d)
{
	struct insn *insn = d->insn;

	fix_op_bytes(d);
	insn->mnemonic = d->row->mnemonic;
	insn->feature = d->row->feature;
	insn->klass = d->row->klass;
	insn->attributes = (uint16_t)d->row->attr;
	for (unsigned i = 0; i < INSN_NOPERANDS && d->row->operand[i].how != HOW_NONE; i++) {
		enum insn_result r = set_operand(d, i);

		if (r != INSN_OK) {
			return r;
		}
		insn->noperands++;
	}
	set_special(d);
	merge_mask(insn);
	return allowed(d) && gather_allowed(insn) ? INSN_OK : INSN_UNDEFINED;
}
