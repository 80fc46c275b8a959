/*
 * The later arithmetic on whole registers: BMI1, BMI2, ADX, CRC32.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include "lib/insn/exec.h"

enum insn_outcome insn_do_adx(struct insn_exec *x)
{
	uint64_t flag = x->insn->mnemonic == INSN_ADCX ? FLAG_CF : FLAG_OF;
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, b = 0, result;
	enum insn_outcome r = insn_read(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE) {
		return r;
	}
	result = a + b + ((x->cpu->rflags & flag) != 0 ? 1 : 0);
	insn_set_flags(x, flag, ((a & b) | ((a | b) & ~result)) >> (8 * bytes - 1) & 1 ? flag : 0);
	return insn_write(x, 0, result);
}

enum insn_outcome insn_do_mulx(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0;
	unsigned __int128 product;
	enum insn_outcome r = insn_read(x, 2, &a);

	if (r != INSN_DONE) {
		return r;
	}
	product = (unsigned __int128)a * insn_get_gpr(x, RDX, bytes);
	/* If both are the same register, it has the upper half. */
	r = insn_write(x, 1, (uint64_t)product);
	return r == INSN_DONE ? insn_write(x, 0, (uint64_t)(product >> (8 * bytes))) : r;
}

static uint64_t extract_bits(uint64_t a, uint64_t mask)
{
	uint64_t result = 0;
	unsigned to = 0;

	for (; mask != 0; mask &= mask - 1, to++) {
		result |= (a >> __builtin_ctzll(mask) & 1) << to;
	}
	return result;
}

static uint64_t deposit_bits(uint64_t a, uint64_t mask)
{
	uint64_t result = 0;
	unsigned from = 0;

	for (; mask != 0; mask &= mask - 1, from++) {
		result |= (a >> from & 1) << __builtin_ctzll(mask);
	}
	return result;
}

static uint64_t bit_field(uint64_t a, uint64_t control)
{
	unsigned start = control & 0xff, len = control >> 8 & 0xff;

	a = start > 63 ? 0 : a >> start;
	return len > 63 ? a : a & (BIT(len) - 1);
}

/* Those that give flags. @a, @b: the two sources, in the order of the operands. */
static uint64_t bmi_with_flags(struct insn_exec *x, uint64_t a, uint64_t b, unsigned bytes)
{
	uint64_t result, flags = 0, which = FLAG_ZF | FLAG_SF | FLAG_CF | FLAG_OF;

	switch (x->insn->mnemonic) {
	case INSN_ANDN:
		result = ~a & b;
		break;
	case INSN_BLSR:
		result = a & (a - 1);
		flags = a == 0 ? FLAG_CF : 0;
		break;
	case INSN_BLSMSK:
		result = a ^ (a - 1);
		flags = a == 0 ? FLAG_CF : 0;
		break;
	case INSN_BLSI:
		result = a & (0 - a);
		flags = a != 0 ? FLAG_CF : 0;
		break;
	case INSN_BEXTR:
		result = bit_field(a, b);
		which &= ~FLAG_SF;
		break;
	default: /* BZHI */
		b &= 0xff;
		result = b < 8 * bytes ? a & (BIT(b) - 1) : a;
		flags = b >= 8 * bytes ? FLAG_CF : 0;
		break;
	}
	result &= insn_mask(bytes);
	insn_set_flags(x, which, flags | insn_result_flags(result, bytes));
	return result;
}

enum insn_outcome insn_do_bmi(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes, n;
	uint64_t a = 0, b = 0, result;
	enum insn_outcome r = insn_read(x, 1, &a);

	if (r != INSN_DONE) {
		return r;
	}
	if (x->insn->noperands > 2 && (r = insn_read(x, 2, &b)) != INSN_DONE) {
		return r;
	}
	n = (unsigned)b & (8 * bytes - 1);
	switch (x->insn->mnemonic) {
	case INSN_PEXT:
		result = extract_bits(a, b);
		break;
	case INSN_PDEP:
		result = deposit_bits(a, b);
		break;
	case INSN_SHLX:
		result = a << n;
		break;
	case INSN_SHRX:
		result = a >> n;
		break;
	case INSN_SARX:
		a <<= 64 - 8 * bytes;
		result = (uint64_t)((int64_t)a >> (64 - 8 * bytes) >> n);
		break;
	case INSN_RORX:
		result = n == 0 ? a : a >> n | a << (8 * bytes - n);
		break;
	default:
		result = bmi_with_flags(x, a, b, bytes);
		break;
	}
	return insn_write(x, 0, result);
}

enum insn_outcome insn_do_crc32(struct insn_exec *x)
{
	const uint32_t reflected = 0x82f63b78; /* 11edc6f41 without its top bit, reversed */
	unsigned bytes = x->insn->operand[1].bytes;
	uint64_t a = 0;
	uint32_t crc = (uint32_t)x->cpu->gpr[x->insn->operand[0].reg];
	enum insn_outcome r = insn_read(x, 1, &a);

	if (r != INSN_DONE) {
		return r;
	}
	for (unsigned i = 0; i < 8 * bytes; i++) {
		crc = crc >> 1 ^ (((crc ^ (uint32_t)(a >> i)) & 1) != 0 ? reflected : 0);
	}
	return insn_write(x, 0, crc);
}
