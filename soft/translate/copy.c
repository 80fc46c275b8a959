/*
 * Instructions that are executed as they are, but for the numbers of registers and for the memory
 * operand.
 */
#include "soft/translate/translator.h"

/* ---- which ---- */

#define CC(op)               \
	case INSN_##op##O:   \
	case INSN_##op##NO:  \
	case INSN_##op##B:   \
	case INSN_##op##NB:  \
	case INSN_##op##Z:   \
	case INSN_##op##NZ:  \
	case INSN_##op##BE:  \
	case INSN_##op##NBE: \
	case INSN_##op##S:   \
	case INSN_##op##NS:  \
	case INSN_##op##P:   \
	case INSN_##op##NP:  \
	case INSN_##op##L:   \
	case INSN_##op##NL:  \
	case INSN_##op##LE:  \
	case INSN_##op##NLE

static bool integer(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_ADD:
	case INSN_OR:
	case INSN_ADC:
	case INSN_SBB:
	case INSN_AND:
	case INSN_SUB:
	case INSN_XOR:
	case INSN_CMP:
	case INSN_TEST:
	case INSN_INC:
	case INSN_DEC:
	case INSN_NEG:
	case INSN_NOT:
	case INSN_ROL:
	case INSN_ROR:
	case INSN_RCL:
	case INSN_RCR:
	case INSN_SHL:
	case INSN_SHR:
	case INSN_SAR:
	case INSN_SHLD:
	case INSN_SHRD:
	case INSN_XADD:
	case INSN_CMPXCHG:
	case INSN_CMPXCHG8B:
	case INSN_CMPXCHG16B:
	case INSN_MUL:
	case INSN_IMUL:
	case INSN_DIV:
	case INSN_IDIV:
	case INSN_BT:
	case INSN_BTS:
	case INSN_BTR:
	case INSN_BTC:
	case INSN_BSF:
	case INSN_BSR:
	case INSN_TZCNT:
	case INSN_LZCNT:
	case INSN_POPCNT:
	case INSN_ANDN:
	case INSN_BLSR:
	case INSN_BLSMSK:
	case INSN_BLSI:
	case INSN_BEXTR:
	case INSN_BZHI:
	case INSN_PEXT:
	case INSN_PDEP:
	case INSN_SHLX:
	case INSN_SARX:
	case INSN_SHRX:
	case INSN_RORX:
	case INSN_MULX:
	case INSN_ADCX:
	case INSN_ADOX:
	case INSN_CRC32:
	case INSN_MOV:
	case INSN_MOVNTI:
	case INSN_MOVZX:
	case INSN_MOVSX:
	case INSN_MOVSXD:
	case INSN_MOVBE:
	case INSN_XCHG:
	case INSN_CBW:
	case INSN_CWDE:
	case INSN_CDQE:
	case INSN_CWD:
	case INSN_CDQ:
	case INSN_CQO:
	case INSN_BSWAP:
	case INSN_CLC:
	case INSN_STC:
	case INSN_CMC:
	case INSN_LAHF:
	case INSN_SAHF:
	case INSN_LFENCE:
	case INSN_MFENCE:
	case INSN_SFENCE:
	case INSN_PAUSE:
		CC(CMOV) : CC(SET) : return true;
	default:
		return false;
	}
}

/* Those with images of the state, or with memory at no operand of ModRM. */
static bool vector(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_FLDENV:
	case INSN_FNSTENV:
	case INSN_FNSAVE:
	case INSN_FRSTOR:
	case INSN_FXSAVE:
	case INSN_FXRSTOR:
	case INSN_XSAVE:
	case INSN_XSAVEOPT:
	case INSN_XSAVEC:
	case INSN_XSAVES:
	case INSN_XRSTOR:
	case INSN_XRSTORS:
		return false;
	default:
		return true;
	}
}

static bool enabled(const struct insn *insn, unsigned mode)
{
	static const uint16_t need[] = {
		[INSN_CLASS_X87] = ST_MODE_X87,	      [INSN_CLASS_MMX] = ST_MODE_MMX,
		[INSN_CLASS_SSE] = ST_MODE_SSE,	      [INSN_CLASS_AVX] = ST_MODE_AVX,
		[INSN_CLASS_AVX512] = ST_MODE_AVX512,
	};
	unsigned bit = need[insn->klass];

	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_REG && insn->operand[i].klass == INSN_MASK) {
			bit = ST_MODE_AVX512;
		}
	}
	/* A prefix of VEX may also be of a class that has none. */
	if (insn->encoding != INSN_LEGACY) {
		bit |= insn->encoding == INSN_EVEX ? ST_MODE_AVX512 : ST_MODE_AVX;
	}
	return (mode & bit) == bit;
}

/* AH to BH cannot be named where there is a REX prefix, which [R10] needs. */
static bool has_high(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_REG &&
		    insn->operand[i].klass == INSN_GPR_HIGH) {
			return true;
		}
	}
	return false;
}

/* Operands in memory of the frame, of which at most as many as there are scratch registers. */
static unsigned spilled(const struct insn *insn)
{
	uint16_t seen = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];

		if (o->kind == INSN_OP_REG && o->klass == INSN_GPR && o->reg >= 9 && o->reg <= 11 &&
		    (seen & BIT(o->reg)) == 0) {
			seen |= (uint16_t)BIT(o->reg);
			n++;
		}
	}
	return n;
}

/* Has it a W that 64-bit code would obey, and other code ignores? */
static bool has_idle_w(const struct insn *insn)
{
	const uint8_t *prefix = insn->bytes + insn->rex_at;

	return insn->mode != INSN_64 && insn_w_is_size(insn) && prefix[0] != 0xc5 &&
	       (prefix[2] & 0x80) != 0;
}

bool st_can_copy(const struct insn *insn, unsigned mode)
{
	bool memory = insn->nmem != 0;

	if (insn->klass == INSN_CLASS_INTEGER) {
		/* In 32-bit mode some have encodings that 64-bit mode has not. */
		if (!integer(insn) || (insn->encoding != INSN_LEGACY && insn->mode != INSN_64)) {
			return false;
		}
	} else if (insn->klass < INSN_CLASS_X87 || !vector(insn) || !enabled(insn, mode) ||
		   has_idle_w(insn)) {
		return false;
	}
	if (memory) {
		if (insn->nmem != 1 || insn->mem[0].bytes == 0 || has_high(insn) ||
		    (insn->mem[0].kind != INSN_MEM_MODRM && insn->mem[0].kind != INSN_MEM_MOFFS)) {
			return false;
		}
		if ((insn->attributes & INSN_ATTR_BITSTR) != 0) {
			return false;
		}
		if (insn->mem[0].kind == INSN_MEM_MOFFS && insn->mnemonic != INSN_MOV) {
			return false;
		}
	}
	/* A segment's register is an operand of MOV, too. */
	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];

		if (o->kind == INSN_OP_REG && o->klass >= INSN_SEG && o->klass <= INSN_DR) {
			return false;
		}
		/* RSP is R9 here, which needs a REX prefix. */
		if (o->kind == INSN_OP_REG && o->klass == INSN_GPR && o->reg == 4 &&
		    (o->field == INSN_FIELD_NONE || has_high(insn))) {
			return false;
		}
	}
	return spilled(insn) <= (memory ? 1u : 2u);
}

/* ---- how ---- */

struct fields {
	unsigned reg, rm, vvvv, opcode; /* with their extensions */
	bool rex;			/* SPL to DIL */
};

static void rename(const struct insn *insn, const uint8_t map[16], struct fields *f)
{
	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];
		unsigned to;

		if (o->kind != INSN_OP_REG || o->klass != INSN_GPR) {
			continue;
		}
		to = map[o->reg & 15];
		switch (o->field) {
		case INSN_FIELD_REG:
			f->reg = to;
			break;
		case INSN_FIELD_RM:
			f->rm = to;
			break;
		case INSN_FIELD_VVVV:
			f->vvvv = to;
			break;
		case INSN_FIELD_OPCODE:
			f->opcode = to;
			break;
		default:
			break;
		}
		f->rex |= o->bytes == 1 && to >= 4 && to < 8;
	}
}

static void legacy(struct em *e, const struct insn *insn, const struct fields *f, bool memory)
{
	bool x87 = insn->klass == INSN_CLASS_X87;
	unsigned rex = insn->rex & 8;

	rex |= (f->reg & 8) >> 1 | (f->rm & 8) >> 3 | (f->opcode & 8) >> 3;
	if ((insn->prefixes & INSN_PREFIX_LOCK) != 0) {
		em_byte(e, 0xf0);
	}
	if ((insn->prefixes & INSN_PREFIX_OPSIZE) != 0 && !(x87 && !memory)) {
		em_byte(e, 0x66);
	}
	if ((insn->prefixes & INSN_PREFIX_REP) != 0 && !x87) {
		em_byte(e, 0xf3);
	}
	if ((insn->prefixes & INSN_PREFIX_REPNE) != 0 && !x87) {
		em_byte(e, 0xf2);
	}
	if (rex != 0 || f->rex) {
		em_byte(e, 0x40 | rex);
	}
	if (insn->map > 0) {
		em_byte(e, 0x0f);
	}
	if (insn->map > 1) {
		em_byte(e, insn->map == 2 ? 0x38 : 0x3a);
	}
}

static void vex(struct em *e, const struct insn *insn, const struct fields *f)
{
	uint8_t last = insn->bytes[insn->opcode_at - 1];
	uint8_t w = insn->bytes[insn->rex_at] == 0xc4 ? last & 0x80 : 0;

	em_byte(e, 0xc4);
	em_byte(e,
		((f->reg & 8) != 0 ? 0 : 0x80) | 0x40 | ((f->rm & 8) != 0 ? 0 : 0x20) | insn->map);
	em_byte(e, w | (~f->vvvv & 15) << 3 | (last & 7));
}

static void evex(struct em *e, const struct insn *insn, const struct fields *f, bool memory)
{
	const uint8_t *p = insn->bytes + insn->rex_at;
	unsigned p0 = p[1] & 0x0f;

	p0 |= (f->reg & 8) != 0 ? 0 : 0x80;
	p0 |= (f->reg & 16) != 0 ? 0 : 0x10;
	p0 |= (f->rm & 8) != 0 ? 0 : 0x20;
	p0 |= memory || (f->rm & 16) == 0 ? 0x40 : 0;
	em_byte(e, 0x62);
	em_byte(e, p0);
	em_byte(e, p[2]);
	em_byte(e, p[3]);
}

/* MOV between the accumulator and an address is one with ModRM here. */
static void moffs(struct em *e, const struct insn *insn, const uint8_t map[16])
{
	bool store = (insn->opcode & 2) != 0;
	unsigned rex = 0x41 | (insn->rex & 8);

	if ((insn->prefixes & INSN_PREFIX_OPSIZE) != 0) {
		em_byte(e, 0x66);
	}
	em_byte(e, rex);
	em_byte(e, (store ? 0x88 : 0x8a) | (insn->opcode & 1));
	em_byte(e, (map[0] & 7u) << 3 | (EM_R10 & 7));
}

/* A register in an immediate has three bits in 32-bit mode. */
static void immediates(struct em *e, const struct insn *insn)
{
	if (insn_names_in_imm(insn) && insn->mode != INSN_64) {
		em_byte(e, insn->bytes[insn->imm_at[0]] & 0x7f);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		em_bytes(e, insn->bytes + insn->imm_at[i], insn->imm_len[i]);
	}
}

void st_copy(struct em *e, const struct insn *insn, const uint8_t map[16], bool memory,
	     int32_t disp)
{
	struct fields f = {
		.reg = (insn->modrm >> 3 & 7) | ((insn->rex & 4) != 0 ? 8u : 0) | insn->evex_r2,
		.rm = (insn->modrm & 7) | ((insn->rex & 1) != 0 ? 8u : 0),
		.vvvv = insn->vvvv,
		.opcode = 0,
	};
	uint8_t opcode = insn->opcode;

	if (memory && insn->mem[0].kind == INSN_MEM_MOFFS) {
		moffs(e, insn, map);
		return;
	}
	if (insn->modrm_at == 0) {
		f.reg = f.rm = 0;
	}
	if (insn->encoding == INSN_EVEX && (insn->rex & 2) != 0 && !memory) {
		f.rm |= 16;
	}
	rename(insn, map, &f);
	if (memory) {
		f.rm = EM_R10;
	}
	if (insn->encoding == INSN_LEGACY) {
		legacy(e, insn, &f, memory);
	} else if (insn->encoding == INSN_VEX) {
		vex(e, insn, &f);
	} else {
		evex(e, insn, &f, memory);
	}
	if (insn->mode != INSN_64 && insn->map == 0 && opcode >= 0x40 && opcode < 0x50) {
		/* INC and DEC without ModRM are REX prefixes in 64-bit mode. */
		em_byte(e, 0xff);
		em_byte(e, 0xc0 | (opcode & 8) | (f.opcode & 7));
		return;
	}
	if (insn->modrm_at == 0 && f.opcode != 0) {
		opcode = (uint8_t)((opcode & 0xf8) | (f.opcode & 7));
	}
	em_byte(e, opcode == 0x82 && insn->map == 0 ? 0x80 : opcode);
	if (insn->modrm_at != 0) {
		/* EVEX scales a displacement of one byte. */
		bool byte = insn->encoding != INSN_EVEX && disp >= -128 && disp <= 127;
		unsigned mod = !memory ? 0xc0 : disp == 0 ? 0 : byte ? 0x40 : 0x80;

		em_byte(e, mod | (f.reg & 7) << 3 | (f.rm & 7));
		if (mod == 0x40) {
			em_byte(e, (uint8_t)disp);
		} else if (mod == 0x80) {
			em_32(e, (uint32_t)disp);
		}
	}
	immediates(e, insn);
}
