#include "tests/soft/draw.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "lib/insn/decode.h"

#define AT_FCW	  0
#define AT_FSW	  2
#define AT_FTW	  4
#define AT_MXCSR  24
#define AT_ST	  32
#define AT_XMM	  160
#define AT_HEADER 512
#define AT_YMM	  576

/* ---- values ---- */

uint64_t draw_value(struct random *r)
{
	static const uint64_t values[] = {
		0,	    1,
		2,	    0x7f,
		0x80,	    0xff,
		0x7fff,	    0x8000,
		0xffff,	    0x7fffffff,
		0x80000000, 0xffffffff,
		INT64_MAX,  (uint64_t)INT64_MAX + 1,
		UINT64_MAX,
	};

	switch (random_below(r, 4)) {
	case 0:
		return values[random_below(r, ARRAY_SIZE(values))];
	case 1:
		return random_below(r, 100);
	default:
		return random_next(r);
	}
}

uint64_t draw_number(struct random *r)
{
	static const uint64_t values[] = {
		0x3ff0000000000000, 0x4008000000000000, 0xbfe0000000000000, 0x7ff0000000000000,
		0x7ff8000000000000, 0x7ff0000000000001, 0x0000000000000001, 0x8000000000000000,
		0x3f8000003f800000, 0xc0400000bf000000, 0x7f8000007fc00000, 0x0000000180000000,
		0x7f80000100800000, 0x4f0000005f000000, 0x43e0000000000000, 0x0,
	};

	return random_below(r, 2) ? values[random_below(r, ARRAY_SIZE(values))] : random_next(r);
}

uint64_t draw_address(struct random *r)
{
	switch (random_below(r, 40)) {
	case 0:
		return ARENA_DATA - random_below(r, 40);
	case 1:
		return ARENA_DATA + 8192 - random_below(r, 40);
	case 2:
		return ARENA_FIXED + random_below(r, 4096);
	case 3:
		return ARENA_DEVICE + random_below(r, 4096);
	case 4:
		return ARENA_CODE + random_below(r, ARENA_CODE_BYTES);
	case 5:
		return ARENA_MORE + 4096 - random_below(r, 20); /* then the device */
	case 6:
		return draw_value(r);
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
		return ARENA_DATA + 4096 - random_below(r, 40);
	case 12:
	case 13:
		return ARENA_MORE + 512 + random_below(r, 3000);
	default:
		return ARENA_DATA + 1024 +
		       (random_below(r, 6000) & (random_below(r, 2) ? ~15U : ~0U));
	}
}

void draw_vectors(uint8_t *area, struct random *r)
{
	static const uint16_t exponents[] = {0x3fff, 0x4000, 0xbfff, 0x7fff, 0xffff, 0, 0x403e};
	unsigned unmasked = random_below(r, 8) == 0;

	memset(area, 0, ARENA_XSAVE);
	store_le16(area + AT_FCW, (uint16_t)((unmasked ? random_below(r, 0x40) : 0x3f) | 0x40 |
					     random_below(r, 16) << 8));
	store_le16(area + AT_FSW,
		   (uint16_t)(random_below(r, 8) << 11 | (random_below(r, 256) & 0x47) << 8));
	area[AT_FTW] = random_below(r, 3) == 0 ? 0 : (uint8_t)random_below(r, 256);
	store_le32(area + AT_MXCSR, (unmasked ? random_below(r, 0x40) << 7 : 0x1f80) |
					    random_below(r, 0x80) | random_below(r, 8) << 13);
	for (unsigned i = 0; i < 8; i++) {
		uint16_t exponent = exponents[random_below(r, ARRAY_SIZE(exponents))];

		store_le64(area + AT_ST + (size_t)16 * i, draw_number(r) | BIT(63));
		store_le16(area + AT_ST + (size_t)16 * i + 8,
			   random_below(r, 2) ? exponent
					      : (uint16_t)(0x3fe0 + random_below(r, 64)));
	}
	for (unsigned at = AT_XMM; at < AT_XMM + 256; at += 8) {
		store_le64(area + at, draw_number(r));
	}
	store_le64(area + AT_HEADER, arena_has_avx() ? 7 : 3);
	for (unsigned at = AT_YMM; at < ARENA_XSAVE && arena_has_avx(); at += 8) {
		store_le64(area + at, draw_number(r));
	}
}

/* ---- instructions ---- */

static unsigned put(uint8_t *b, unsigned n, unsigned value)
{
	b[n] = (uint8_t)value;
	return n + 1;
}

static unsigned pick(struct random *r, const uint8_t *from, unsigned n)
{
	return from[random_below(r, n)];
}

/* Families of two and three bytes that compilers like. */
static unsigned draw_two_bytes(struct random *r, uint8_t *b, unsigned n)
{
	static const uint8_t often[] = {0x10, 0x11, 0x28, 0x29, 0x6e, 0x6f, 0x7e, 0x7f, 0xd6, 0xef,
					0xa3, 0xa4, 0xa5, 0xab, 0xac, 0xad, 0xaf, 0xb0, 0xb1, 0xb3,
					0xb6, 0xb7, 0xb8, 0xba, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf,
					0xc0, 0xc1, 0xc3, 0xc7, 0xc8, 0x1f, 0x0d, 0xae, 0x2a, 0x2c};

	n = put(b, n, 0x0f);
	switch (random_below(r, 5)) {
	case 0:
		return put(b, n, random_below(r, 256));
	case 1: /* CMOVcc, SETcc */
		return put(b, n, 0x40 + random_below(r, 16) + (random_below(r, 2) ? 0x50 : 0));
	case 2:
		n = put(b, n, random_below(r, 2) ? 0x38 : 0x3a);
		return put(b, n,
			   random_below(r, 2) ? random_below(r, 256) : 0xf0 + random_below(r, 10));
	default:
		n = put(b, n, pick(r, often, sizeof(often)));
		if (b[n - 1] == 0xc7) { /* CMPXCHG8B, CMPXCHG16B */
			b[n] = (uint8_t)((b[n] & 0x47) | 8);
		}
		return n;
	}
}

static unsigned draw_vex(struct random *r, uint8_t *b, unsigned n)
{
	static const uint8_t several[] = {0x2c, 0x2d, 0x2e, 0x2f, 0x8c,
					  0x8e, 0x90, 0x91, 0x92, 0x93};

	switch (random_below(r, 6)) {
	case 0: /* gathers and masked moves */
		n = put(b, n, 0xc4);
		n = put(b, n, (random_below(r, 8) << 5) | 2);
		n = put(b, n, (random_below(r, 256) & 0xfc) | 1);
		n = put(b, n, pick(r, several, sizeof(several)));
		b[n] = (uint8_t)((random_below(r, 256) & 0x38) | 4); /* SIB */
		return n;
	case 1: /* BMI */
		n = put(b, n, 0xc4);
		n = put(b, n, (random_below(r, 8) << 5) | (random_below(r, 4) == 0 ? 3 : 2));
		n = put(b, n, (random_below(r, 32) << 3) | random_below(r, 4));
		return put(b, n, (b[n - 2] & 3) == 3 ? 0xf0 : 0xf2 + random_below(r, 6));
	case 2:
	case 3:
		n = put(b, n, 0xc4);
		n = put(b, n, (random_below(r, 8) << 5) | (1 + random_below(r, 3)));
		n = put(b, n, random_below(r, 256) | (random_below(r, 2) ? 0x78 : 0));
		return put(b, n, random_below(r, 256));
	default:
		n = put(b, n, 0xc5);
		n = put(b, n, random_below(r, 256) | (random_below(r, 2) ? 0x78 : 0));
		return put(b, n, random_below(r, 256));
	}
}

static unsigned draw_opcode(struct random *r, uint8_t *b, unsigned n)
{
	static const uint8_t shifts[] = {0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3};
	static const uint8_t moves[] = {0x88, 0x89, 0x8a, 0x8b, 0x8d, 0x63, 0xc6, 0xc7, 0x86, 0x87};
	static const uint8_t stack[] = {0x50, 0x55, 0x58, 0x5d, 0x68, 0x6a,
					0x8f, 0x9c, 0x9d, 0xc8, 0xc9, 0xff};

	switch (random_below(r, 20)) {
	case 0:
	case 1:
	case 2:
	case 3:
		return draw_two_bytes(r, b, n);
	case 4:
	case 5:
		return draw_vex(r, b, n);
	case 6:
	case 7:
		return put(b, n, 0xd8 + random_below(r, 8));
	case 8:
		return put(b, n, 0xf6 + random_below(r, 2));
	case 9:
		return put(b, n, pick(r, shifts, sizeof(shifts)));
	case 10:
		return put(b, n, 0xa4 + random_below(r, 12));
	case 11:
		n = put(b, n, pick(r, stack, sizeof(stack)));
		if (b[n - 1] == 0xc8) { /* ENTER */
			b[n + 1] &= 15;
			b[n + 2] &= 3;
		}
		return n;
	case 12:
	case 13:
		return put(b, n, pick(r, moves, sizeof(moves)));
	case 14:
		return put(b, n, 0x80 + random_below(r, 4));
	case 15:
	case 16:
		return put(b, n, random_below(r, 0x40));
	default:
		return put(b, n, random_below(r, 256));
	}
}

static void draw_bytes(struct draw *d, uint8_t *b)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf3, 0xf2, 0xf0,
					   0x67, 0x67, 0x65, 0x64, 0x2e, 0x3e};
	struct random *r = d->r;
	unsigned n = 0;

	for (unsigned i = 0; i < 16; i++) {
		b[i] = (uint8_t)random_below(r, 256);
	}
	while (random_below(r, 3) == 0 && n < 3) {
		n = put(b, n, pick(r, prefixes, sizeof(prefixes)));
	}
	if (d->mode != ARENA_COMPAT && random_below(r, 2) == 0) {
		n = put(b, n, 0x40 + random_below(r, 16));
	}
	n = draw_opcode(r, b, n);
	if (random_below(r, 3) == 0) {
		b[n] |= 0xc0;
	}
}

/* System instructions that have the same outcome at any time. */
static bool steady(const struct draw *d, const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_CLI:
	case INSN_STI:
	case INSN_SLDT:
	case INSN_STR:
	case INSN_VERR:
	case INSN_VERW:
	case INSN_SGDT:
	case INSN_SIDT:
	case INSN_SMSW:
	case INSN_INVLPG:
	case INSN_XGETBV:
	case INSN_RDPKRU:
	case INSN_LAR:
	case INSN_LSL:
	case INSN_CLTS:
	case INSN_CPUID:
		return true;
	case INSN_LGDT:
	case INSN_LIDT:
	case INSN_LLDT:
	case INSN_LTR:
	case INSN_LMSW:
	case INSN_SWAPGS:
	case INSN_RDMSR:
	case INSN_WRMSR:
	case INSN_HLT:
	case INSN_WBINVD:
		return d->mode != ARENA_KERNEL; /* #GP */
	default:
		return false;
	}
}

static bool of_interest(const struct draw *d, const struct insn *insn)
{
	switch (insn->klass) {
	case INSN_CLASS_INTEGER:
	case INSN_CLASS_NOP:
	case INSN_CLASS_STRING:
	case INSN_CLASS_UD:
	case INSN_CLASS_X87:
	case INSN_CLASS_MMX:
	case INSN_CLASS_SSE:
	case INSN_CLASS_AVX:
		break;
	case INSN_CLASS_SYSTEM:
		return steady(d, insn);
	default:
		return false;
	}
	for (unsigned i = 0; i < insn->noperands; i++) {
		const struct insn_operand *o = &insn->operand[i];

		if (o->kind == INSN_OP_REG && o->klass == INSN_SEG &&
		    (o->access & INSN_WRITE) != 0) {
			return false; /* flat segments, or the interpreter's */
		}
	}
	switch (insn->mnemonic) {
	case INSN_LDS:
	case INSN_LES:
	case INSN_LSS:
	case INSN_LFS:
	case INSN_LGS:
	case INSN_RDRAND: /* never the same twice */
	case INSN_RDSEED:
	case INSN_FNSTENV: /* the host's addresses */
	case INSN_FNSAVE:
	case INSN_FXSAVE:
	case INSN_XSAVE:
	case INSN_XSAVEC:
	case INSN_XSAVEOPT:
	case INSN_XSAVES:
	case INSN_WRFSBASE: /* what addresses are made with */
	case INSN_WRGSBASE:
		return false;
	default:
		return true;
	}
}

/* Does the manual leave the result open? A count in CL is not known here. */
static bool result_open(const struct insn *insn)
{
	bool shift = insn->mnemonic == INSN_SHLD || insn->mnemonic == INSN_SHRD;

	return shift && insn->operand[0].bytes == 2 &&
	       (insn->operand[2].kind != INSN_OP_IMM || (insn->imm[0] & 31) > 16);
}

void draw_instruction(struct draw *d, struct part *part)
{
	unsigned mode = (d->mode == ARENA_COMPAT ? INSN_32 : INSN_64) | (d->amd ? INSN_AMD : 0);
	struct insn insn;

	do {
		draw_bytes(d, part->bytes);
	} while (insn_decode(&insn, mode, part->bytes, INSN_MAX) != INSN_OK ||
		 !of_interest(d, &insn) || result_open(&insn));
	part->len = insn.len;
	part->fix = FIX_NONE;
	d->mnemonics[insn.mnemonic]++;
}
