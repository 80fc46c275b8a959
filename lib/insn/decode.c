#include "lib/insn/decode.h"

#include <string.h>

#include "lib/insn/operands.h"

/* The last of the prefixes that choose between instructions, as MATCH_PP counts them. */
enum {
	PP_NONE,
	PP_66,
	PP_F3,
	PP_F2
};

enum insn_result insn_fetch(struct insn_decoder *d, unsigned n, uint64_t *value)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++, d->pos++) {
		if (d->pos >= INSN_MAX) {
			return INSN_TOO_LONG;
		}
		if (d->pos >= d->len) {
			return INSN_MORE;
		}
		v |= (uint64_t)d->bytes[d->pos] << 8 * i;
	}
	*value = v;
	return INSN_OK;
}

static enum insn_result fetch_byte(struct insn_decoder *d, uint8_t *byte)
{
	if (d->pos >= INSN_MAX) {
		return INSN_TOO_LONG;
	}
	if (d->pos >= d->len) {
		return INSN_MORE;
	}
	*byte = d->bytes[d->pos++];
	return INSN_OK;
}

/* In 64-bit mode only FS and GS have a base, so the others do not override. */
static void set_seg(struct insn_decoder *d, uint8_t seg)
{
	d->insn->prefixes |= INSN_PREFIX_SEG;
	if (!d->long_mode || seg >= INSN_FS) {
		d->seg = seg;
	}
}

/* Return: is it a legacy prefix? */
static bool take_prefix(struct insn_decoder *d, uint8_t byte)
{
	struct insn *insn = d->insn;

	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		set_seg(d, byte >> 3 & 3);
		return true;
	case 0x64:
	case 0x65:
		set_seg(d, byte & 7);
		return true;
	case 0x66:
		insn->prefixes |= INSN_PREFIX_OPSIZE;
		return true;
	case 0x67:
		insn->prefixes |= INSN_PREFIX_ADSIZE;
		return true;
	case 0xf0:
		insn->prefixes |= INSN_PREFIX_LOCK;
		return true;
	case 0xf2:
		insn->prefixes = (insn->prefixes & ~INSN_PREFIX_REP) | INSN_PREFIX_REPNE;
		return true;
	case 0xf3:
		insn->prefixes = (insn->prefixes & ~INSN_PREFIX_REPNE) | INSN_PREFIX_REP;
		return true;
	default:
		return false;
	}
}

/* Legacy prefixes and REX, which counts only right in front of the opcode. @first: what follows. */
static enum insn_result prefixes(struct insn_decoder *d, uint8_t *first)
{
	struct insn *insn = d->insn;
	enum insn_result r;
	uint8_t byte;

	while ((r = fetch_byte(d, &byte)) == INSN_OK) {
		if (take_prefix(d, byte)) {
			insn->rex_at = 0;
			insn->rex = 0;
			insn->prefixes &= ~INSN_PREFIX_REX;
			d->rex_there = false;
		} else if (d->long_mode && (byte & 0xf0) == 0x40) {
			insn->rex_at = d->pos - 1;
			insn->rex = byte & 0xf;
			insn->prefixes |= INSN_PREFIX_REX;
			d->rex_there = true;
		} else {
			*first = byte;
			return INSN_OK;
		}
	}
	return r;
}

/* Bits R, X and B, inverted in the top of @byte; other modes than 64-bit have none. */
static uint8_t vex_rxb(const struct insn_decoder *d, uint8_t byte)
{
	return d->long_mode ? (uint8_t)~byte >> 5 : 0;
}

static void vex_w_vvvv_pp(struct insn_decoder *d, uint8_t byte)
{
	struct insn *insn = d->insn;

	d->w = byte >> 7;
	insn->rex |= d->w && d->long_mode ? 8 : 0;
	insn->vvvv = (uint8_t)~byte >> 3 & (d->long_mode ? 15 : 7);
	d->vvvv_raw = ~byte >> 3 & 15;
	d->pp = byte & 3;
}

static enum insn_result vex(struct insn_decoder *d, uint8_t first)
{
	struct insn *insn = d->insn;
	enum insn_result r;
	uint8_t a = 0, b = 0;

	if ((r = fetch_byte(d, &a)) != INSN_OK) {
		return r;
	}
	insn->encoding = INSN_VEX;
	insn->map = 1;
	insn->rex = vex_rxb(d, a);
	if (first == 0xc5) {
		insn->rex &= 4;
		vex_w_vvvv_pp(d, a & 0x7f);
		insn->vec_bytes = a & 4 ? 32 : 16;
	} else {
		if ((r = fetch_byte(d, &b)) != INSN_OK) {
			return r;
		}
		insn->map = a & 0x1f;
		vex_w_vvvv_pp(d, b);
		insn->vec_bytes = b & 4 ? 32 : 16;
	}
	if (insn->map < 1 || insn->map > 3) {
		return INSN_UNDEFINED;
	}
	d->space = SPACE_VEX + insn->map;
	return INSN_OK;
}

/* Spec: Intel SDM vol. 2, 2.7.1 "Instruction Format and EVEX" */
static enum insn_result evex(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	enum insn_result r;
	uint8_t p[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		if ((r = fetch_byte(d, &p[i])) != INSN_OK) {
			return r;
		}
	}
	insn->encoding = INSN_EVEX;
	insn->rex = vex_rxb(d, p[0]);
	insn->evex_r2 = d->long_mode && (p[0] & 0x10) == 0 ? 16 : 0;
	insn->map = p[0] & 7;
	vex_w_vvvv_pp(d, p[1]);
	d->v2 = (p[2] & 8) == 0 ? 16 : 0;
	d->vvvv_raw |= d->v2;
	insn->evex_z = p[2] >> 7;
	insn->evex_b = p[2] >> 4 & 1;
	insn->evex_aaa = p[2] & 7;
	d->ll = p[2] >> 5 & 3;
	insn->vec_bytes = (uint8_t)(16 << d->ll);
	if ((p[0] & 8) != 0 || (p[1] & 4) == 0 || insn->map < 1 || insn->map > 3) {
		return INSN_UNDEFINED;
	}
	/* In 32-bit mode V' is not there and has to be 1. */
	if (!d->long_mode && d->v2 != 0) {
		return INSN_UNDEFINED;
	}
	insn->vvvv |= d->v2;
	d->space = SPACE_EVEX + insn->map;
	return INSN_OK;
}

/* Outside of 64-bit mode these bytes are LES, LDS and BOUND, unless ModRM were a register. */
static bool is_vex(const struct insn_decoder *d, uint8_t first)
{
	if (first != 0xc4 && first != 0xc5 && first != 0x62) {
		return false;
	}
	return d->long_mode || (d->pos < d->len && d->pos < INSN_MAX && d->bytes[d->pos] >= 0xc0);
}

/* Return: the prefix that chooses the instruction, of a legacy encoding. */
static uint8_t legacy_pp(const struct insn *insn)
{
	if ((insn->prefixes & INSN_PREFIX_REPNE) != 0) {
		return PP_F2;
	}
	if ((insn->prefixes & INSN_PREFIX_REP) != 0) {
		return PP_F3;
	}
	return (insn->prefixes & INSN_PREFIX_OPSIZE) != 0 ? PP_66 : PP_NONE;
}

/* From the first byte that is not a prefix to the last of the opcode. */
static enum insn_result opcode(struct insn_decoder *d, uint8_t byte)
{
	struct insn *insn = d->insn;
	enum insn_result r = INSN_OK;

	if (is_vex(d, byte)) {
		const uint8_t refused = INSN_PREFIX_LOCK | INSN_PREFIX_REP | INSN_PREFIX_REPNE |
					INSN_PREFIX_OPSIZE | INSN_PREFIX_REX;

		if ((insn->prefixes & refused) != 0) {
			return INSN_UNDEFINED;
		}
		insn->rex_at = d->pos - 1;
		r = byte == 0x62 ? evex(d) : vex(d, byte);
		if (r == INSN_OK) {
			r = fetch_byte(d, &byte);
		}
	} else {
		d->w = insn->rex >> 3;
		d->pp = legacy_pp(insn);
		if (byte == 0x0f) {
			insn->map = 1;
			r = fetch_byte(d, &byte);
			if (r == INSN_OK && (byte == 0x38 || byte == 0x3a)) {
				insn->map = byte == 0x38 ? 2 : 3;
				r = fetch_byte(d, &byte);
			}
		}
		d->space = insn->map;
	}
	insn->opcode = byte;
	insn->opcode_at = d->pos - 1;
	return r;
}

static void sizes(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	bool opsize = (insn->prefixes & INSN_PREFIX_OPSIZE) != 0;
	bool adsize = (insn->prefixes & INSN_PREFIX_ADSIZE) != 0;

	if (d->long_mode) {
		insn->op_bytes = (insn->rex & 8) != 0 ? 8 : opsize ? 2 : 4;
		insn->adr_bytes = adsize ? 4 : 8;
	} else {
		insn->op_bytes = opsize == (insn->mode == INSN_16) ? 4 : 2;
		insn->adr_bytes = adsize == (insn->mode == INSN_16) ? 4 : 2;
	}
}

/* Spec: Intel SDM vol. 2, table 2-1 "16-Bit Addressing Forms" */
static enum insn_result address16(struct insn_decoder *d)
{
	static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
	static const uint8_t index[8] = {6,	      7,	   6,		7,
					 INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
	struct insn *insn = d->insn;
	uint8_t mod = insn->modrm >> 6, rm = insn->modrm & 7;

	d->mem.base = base[rm];
	d->mem.index = index[rm];
	insn->disp_len = mod; /* mod = 1: one byte, mod = 2: two */
	if (mod == 0 && rm == 6) {
		d->mem.base = INSN_NO_REG;
		insn->disp_len = 2;
	}
	return INSN_OK;
}

static enum insn_result address_sib(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	enum insn_result r = fetch_byte(d, &insn->sib);
	uint8_t base = insn->sib & 7, index = insn->sib >> 3 & 7;

	if (r != INSN_OK) {
		return r;
	}
	insn->sib_at = d->pos - 1;
	index |= (insn->rex & 2) != 0 ? 8 : 0;
	d->sib_index = index;
	d->mem.scale = (uint8_t)(1 << (insn->sib >> 6));
	d->mem.index = index == 4 ? INSN_NO_REG : index;
	if (base == 5 && insn->modrm >> 6 == 0) {
		insn->disp_len = 4;
	} else {
		d->mem.base = base | ((insn->rex & 1) != 0 ? 8 : 0);
	}
	return INSN_OK;
}

/* Spec: Intel SDM vol. 2, tables 2-2 "32-Bit Addressing Forms", 2-5, 2-7 */
static enum insn_result address32(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	uint8_t mod = insn->modrm >> 6, rm = insn->modrm & 7;
	enum insn_result r = INSN_OK;

	if (rm == 4) {
		r = address_sib(d);
	} else if (rm == 5 && mod == 0) {
		insn->disp_len = 4;
		d->mem.base = d->long_mode ? INSN_RIP : INSN_NO_REG;
	} else {
		d->mem.base = rm | ((insn->rex & 1) != 0 ? 8 : 0);
	}
	if (mod != 0) {
		insn->disp_len = mod == 1 ? 1 : 4;
	}
	return r;
}

static enum insn_result modrm(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	enum insn_result r = fetch_byte(d, &insn->modrm);
	uint64_t disp = 0;

	if (r != INSN_OK) {
		return r;
	}
	insn->modrm_at = d->pos - 1;
	d->reg = insn->modrm >> 3 & 7;
	d->rm = insn->modrm & 7;
	d->is_mem = insn->modrm < 0xc0;
	if (!d->is_mem || d->mod_ignored) {
		return INSN_OK;
	}
	d->mem = (struct insn_mem){.base = INSN_NO_REG, .index = INSN_NO_REG, .scale = 1};
	r = insn->adr_bytes == 2 ? address16(d) : address32(d);
	if (r != INSN_OK || insn->disp_len == 0) {
		return r;
	}
	insn->disp_at = d->pos;
	r = insn_fetch(d, insn->disp_len, &disp);
	d->mem.disp = insn_sign_extend(disp, insn->disp_len);
	return r;
}

/* EVEX.b with registers only: L'L is a rounding mode, or nothing. Return: is there such a length?
 */
static bool evex_length(struct insn_decoder *d)
{
	if (d->insn->evex_b && !d->is_mem) {
		d->insn->vec_bytes = 64;
		return true;
	}
	return d->ll != 3;
}

/* What rows are compared with: one bit of each field. */
static uint32_t situation(const struct insn_decoder *d)
{
	const struct insn *insn = d->insn;
	unsigned reg = d->reg, rm = d->rm, l = insn->vec_bytes >> 5; /* 16, 32, 64: 0, 1, 2 */

	if (insn->modrm_at == 0) {
		bool pause = !d->amd && insn->opcode == 0x90 && d->pp == PP_F3;

		reg = pause ? 0 : insn->rex & 1; /* to Intel it is one with R8, too */
		rm = insn->adr_bytes >> 2;
	}
	return (uint32_t)(BIT(MATCH_PP + d->pp) | BIT(MATCH_REG + reg) | BIT(MATCH_RM + rm) |
			  BIT(MATCH_MOD + !d->is_mem) | BIT(MATCH_W + d->w) | BIT(MATCH_L + l) |
			  BIT(MATCH_MODE + d->long_mode) | BIT(MATCH_O + (insn->op_bytes >> 2)));
}

static const struct insn_row *find_row(const struct insn_decoder *d)
{
	uint32_t want = situation(d);
	unsigned slot = d->space * 256U + d->insn->opcode;

	for (unsigned i = insn_index[slot]; i < insn_index[slot + 1]; i++) {
		if ((want & ~insn_rows[i].match) == 0) {
			return &insn_rows[i];
		}
	}
	return NULL;
}

static enum insn_result decode(struct insn_decoder *d)
{
	struct insn *insn = d->insn;
	unsigned slot;
	uint8_t first = 0;
	enum insn_result r;

	if ((r = prefixes(d, &first)) != INSN_OK || (r = opcode(d, first)) != INSN_OK) {
		return r;
	}
	sizes(d);
	slot = d->space * 256U + insn->opcode;
	if (insn_index[slot] == insn_index[slot + 1]) {
		return INSN_UNDEFINED;
	}
	if ((insn_modrm[slot / 8] >> slot % 8 & 1) != 0) {
		d->mod_ignored = (insn_rows[insn_index[slot]].attr & ROW_CRDR) != 0;
		if ((r = modrm(d)) != INSN_OK) {
			return r;
		}
	}
	if (insn->encoding == INSN_EVEX && !evex_length(d)) {
		return INSN_UNDEFINED;
	}
	d->row = find_row(d);
	if (d->row == NULL) {
		return INSN_UNDEFINED;
	}
	if ((r = insn_operands(d)) != INSN_OK) {
		return r;
	}
	insn_effects(d);
	insn->len = d->pos;
	memcpy(insn->bytes, d->bytes, insn->len);
	return INSN_OK;
}

enum insn_result insn_decode(struct insn *insn, unsigned mode, const uint8_t *bytes, unsigned len)
{
	struct insn_decoder d = {
		.insn = insn,
		.bytes = bytes,
		.len = len,
		.amd = (mode & INSN_AMD) != 0,
		.long_mode = (mode & ~INSN_AMD) == INSN_64,
		.seg = INSN_NO_REG,
	};
	enum insn_result r;

	memset(insn, 0, sizeof(*insn));
	insn->mode = mode & ~INSN_AMD;
	insn->amd = d.amd;
	r = decode(&d);
	if (r != INSN_OK) {
		insn->len = d.pos;
	}
	return r;
}

uint64_t insn_target(const struct insn *insn, uint64_t rip)
{
	uint64_t target = rip + insn->len + insn->imm[0];

	switch (insn->op_bytes) {
	case 2:
		return target & 0xffff;
	case 4:
		return target & 0xffffffff;
	default:
		return target;
	}
}

const char *insn_mnemonic_name(unsigned mnemonic)
{
#define NAME(name) #name,
	static const char *const names[] = {"?", INSN_MNEMONICS(NAME)};

	return mnemonic < ARRAY_SIZE(names) ? names[mnemonic] : "?";
}

const char *insn_feature_name(unsigned feature)
{
	static const char *const names[] = {"?", INSN_FEATURES(NAME)};

	return feature < ARRAY_SIZE(names) ? names[feature] : "?";
#undef NAME
}
