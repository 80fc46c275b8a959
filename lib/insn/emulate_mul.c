/*
 * Multiplication and division.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include "lib/insn/exec.h"

typedef unsigned __int128 wide; /* of a product, of a dividend */

static int64_t sign_extend(uint64_t v, unsigned bytes)
{
	return (int64_t)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

/* [r]DX:[r]AX, or AX where the operand is a byte. */
static wide get_pair(const struct insn_exec *x, unsigned bytes)
{
	if (bytes == 1) {
		return insn_get_gpr(x, RAX, 2);
	}
	return (wide)insn_get_gpr(x, RDX, bytes) << (8 * bytes) | insn_get_gpr(x, RAX, bytes);
}

static void set_pair(struct insn_exec *x, unsigned bytes, uint64_t low, uint64_t high)
{
	if (bytes == 1) {
		insn_set_gpr(x, RAX, 2, (low & 0xff) | (high & 0xff) << 8);
	} else {
		insn_set_gpr(x, RAX, bytes, low);
		insn_set_gpr(x, RDX, bytes, high);
	}
}

static void mul_flags(struct insn_exec *x, bool significant)
{
	insn_set_flags(x, FLAG_CF | FLAG_OF, significant ? FLAG_CF | FLAG_OF : 0);
}

enum insn_outcome insn_do_mul(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, high;
	wide product;
	enum insn_outcome r = insn_read(x, 0, &a);

	if (r != INSN_DONE) {
		return r;
	}
	product = (wide)a * insn_get_gpr(x, RAX, bytes);
	high = (uint64_t)(product >> (8 * bytes)) & insn_mask(bytes);
	set_pair(x, bytes, (uint64_t)product, high);
	mul_flags(x, high != 0);
	return INSN_DONE;
}

/* One, two or three operands. */
enum insn_outcome insn_do_imul(struct insn_exec *x)
{
	unsigned n = x->insn->noperands, bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, b = 0;
	__int128 product;
	bool significant;
	enum insn_outcome r = insn_read(x, n == 3 ? 1 : 0, &a);

	if (r != INSN_DONE) {
		return r;
	}
	if (n == 1) {
		b = x->cpu->gpr[RAX];
	} else if ((r = insn_read(x, n - 1, &b)) != INSN_DONE) {
		return r;
	}
	product = (__int128)sign_extend(a, bytes) * sign_extend(b, bytes);
	significant = product != sign_extend((uint64_t)product, bytes);
	if (n == 1) {
		set_pair(x, bytes, (uint64_t)product, (uint64_t)(product >> (8 * bytes)));
	} else {
		r = insn_write(x, 0, (uint64_t)product);
	}
	mul_flags(x, significant);
	return r;
}

static bool divide(wide a, uint64_t b, unsigned bytes, uint64_t *quotient, uint64_t *rest)
{
	/* Where the quotient fits, the upper half is less than the divisor. */
	if (b == 0 || a >> (8 * bytes) >= b) {
		return false;
	}
	if (bytes < 8) {
		*quotient = (uint64_t)a / b;
		*rest = (uint64_t)a % b;
		return true;
	}
	/* Bit by bit: there is no 128-bit division without a library. */
	*quotient = 0;
	*rest = (uint64_t)(a >> 64);
	for (unsigned i = 64; i-- > 0;) {
		bool carry = *rest >> 63 != 0;

		*rest = *rest << 1 | ((uint64_t)a >> i & 1);
		*quotient <<= 1;
		if (carry || *rest >= b) {
			*rest -= b;
			*quotient |= 1;
		}
	}
	return true;
}

static bool divide_signed(wide a, uint64_t b, unsigned bytes, uint64_t *quotient, uint64_t *rest)
{
	unsigned shift = 128 - 16 * bytes;
	__int128 sa = (__int128)(a << shift) >> shift;
	int64_t sb = sign_extend(b, bytes);
	bool negative = (sa < 0) != (sb < 0);
	uint64_t limit = BIT(8 * bytes - 1) - (negative ? 0 : 1);
	wide ua = sa < 0 ? -(wide)sa : (wide)sa;

	if (!divide(ua, sb < 0 ? -(uint64_t)sb : (uint64_t)sb, bytes, quotient, rest) ||
	    *quotient > limit) {
		return false;
	}
	*quotient = negative ? -*quotient : *quotient;
	*rest = sa < 0 ? -*rest : *rest;
	return true;
}

enum insn_outcome insn_do_div(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t b = 0, quotient, rest;
	bool fits;
	enum insn_outcome r = insn_read(x, 0, &b);

	if (r != INSN_DONE) {
		return r;
	}
	fits = x->insn->mnemonic == INSN_DIV
		       ? divide(get_pair(x, bytes), b, bytes, &quotient, &rest)
		       : divide_signed(get_pair(x, bytes), b, bytes, &quotient, &rest);
	if (!fits) {
		return insn_raise(x->env, INSN_EXC_DE, 0);
	}
	set_pair(x, bytes, quotient, rest);
	return INSN_DONE;
}
