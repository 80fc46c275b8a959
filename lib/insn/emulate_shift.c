/*
 * Shifts, rotates, and instructions on single bits.
 *
 * Spec: Intel SDM vol. 2, "RCL/RCR/ROL/ROR", "SAL/SAR/SHL/SHR", "SHLD", "SHRD", "BT" and others
 */
#include "lib/insn/exec.h"

struct shifted {
	uint64_t value;
	bool carry, overflow;
};

static bool bit(uint64_t v, unsigned n)
{
	return (v >> n & 1) != 0;
}

/* ROL and ROR. @n: modulo the width; it was not zero before. */
static struct shifted rotate(uint64_t a, unsigned n, unsigned width, bool left)
{
	struct shifted s;

	n %= width;
	if (!left) {
		n = (width - n) % width;
	}
	s.value = n == 0 ? a : (a << n | a >> (width - n));
	s.carry = left ? bit(s.value, 0) : bit(s.value, width - 1);
	s.overflow = left ? s.carry != bit(s.value, width - 1)
			  : bit(s.value, width - 1) != bit(s.value, width - 2);
	return s;
}

/* RCL and RCR: one place at a time, through the carry. */
static struct shifted rotate_carry(uint64_t a, unsigned n, unsigned width, bool left, bool carry)
{
	struct shifted s = {.value = a, .carry = carry};

	for (n %= width + 1; n > 0; n--) {
		bool out = bit(s.value, left ? width - 1 : 0);

		if (left) {
			s.value = s.value << 1 | (s.carry ? 1 : 0);
		} else {
			s.value = (s.value & insn_mask(width / 8)) >> 1 | (uint64_t)s.carry
										  << (width - 1);
		}
		s.carry = out;
	}
	s.overflow = left ? s.carry != bit(s.value, width - 1)
			  : bit(s.value, width - 1) != bit(s.value, width - 2);
	return s;
}

/* SHL, SHR, SAR: @n from 1 to 63, which may be more than the width. */
static struct shifted shift(unsigned mnemonic, uint64_t a, unsigned n, unsigned width)
{
	struct shifted s;
	int64_t sign = (int64_t)(a << (64 - width)) >> (64 - width);

	switch (mnemonic) {
	case INSN_SHL:
		s.value = a << n;
		s.carry = n <= width && bit(a, width - n);
		s.overflow = s.carry != bit(s.value, width - 1);
		break;
	case INSN_SHR:
		s.value = a >> n;
		s.carry = bit(a, n - 1);
		s.overflow = bit(a, width - 1);
		break;
	default: /* SAR */
		s.value = (uint64_t)(sign >> n);
		s.carry = bit((uint64_t)sign, n - 1);
		s.overflow = false;
		break;
	}
	return s;
}

enum insn_outcome insn_do_shift(struct insn_exec *x)
{
	unsigned mnemonic = x->insn->mnemonic, bytes = x->insn->operand[0].bytes;
	unsigned width = 8 * bytes;
	uint64_t a = 0, n = 0, which = FLAG_CF | FLAG_OF;
	struct shifted s;
	bool logic = false;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &n)) != INSN_DONE) {
		return r;
	}
	n &= bytes == 8 ? 63 : 31;
	if (n == 0) {
		return insn_write_rmw(x, 0, a); /* clears the upper half, too */
	}
	switch (mnemonic) {
	case INSN_ROL:
	case INSN_ROR:
		s = rotate(a, (unsigned)n, width, mnemonic == INSN_ROL);
		break;
	case INSN_RCL:
	case INSN_RCR:
		s = rotate_carry(a, (unsigned)n, width, mnemonic == INSN_RCL,
				 (x->cpu->rflags & FLAG_CF) != 0);
		break;
	default:
		s = shift(mnemonic, a, (unsigned)n, width);
		logic = true;
		break;
	}
	r = insn_write_rmw(x, 0, s.value);
	if (r != INSN_DONE) {
		return r;
	}
	which |= logic ? FLAGS_ARITH : 0;
	insn_set_flags(x, which,
		       (s.carry ? FLAG_CF : 0) | (s.overflow ? FLAG_OF : 0) |
			       insn_result_flags(s.value, bytes));
	return INSN_DONE;
}

/* SHLD, SHRD. With 16 bits and a count above 16 the manual leaves all open. */
enum insn_outcome insn_do_double_shift(struct insn_exec *x)
{
	bool left = x->insn->mnemonic == INSN_SHLD;
	unsigned bytes = x->insn->operand[0].bytes, width = 8 * bytes, n;
	uint64_t a = 0, b = 0, count = 0, result;
	bool carry;
	enum insn_outcome r = insn_read_rmw(x, 0, &a);

	if (r != INSN_DONE || (r = insn_read(x, 1, &b)) != INSN_DONE ||
	    (r = insn_read(x, 2, &count)) != INSN_DONE) {
		return r;
	}
	n = (unsigned)count & (bytes == 8 ? 63 : 31);
	if (n == 0) {
		return insn_write_rmw(x, 0, a);
	}
	if (n > width) { /* 16 bits: as if a, b, a followed each other */
		uint64_t swap = a;

		a = b;
		b = swap;
		n -= width;
	}
	if (left) {
		result = n == width ? b : a << n | b >> (width - n);
		carry = bit(a, width - n);
	} else {
		result = n == width ? b : a >> n | b << (width - n);
		carry = bit(a, n - 1);
	}
	r = insn_write_rmw(x, 0, result);
	if (r != INSN_DONE) {
		return r;
	}
	insn_set_flags(x, FLAGS_ARITH,
		       (carry ? FLAG_CF : 0) | insn_result_flags(result, bytes) |
			       (bit(a ^ result, width - 1) ? FLAG_OF : 0));
	return INSN_DONE;
}

/* Of a bit string in memory: the offset in a register is signed, and moves the operand. */
static enum insn_outcome bit_operand(struct insn_exec *x, uint64_t *value, int64_t index,
				     bool writes)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned bytes = m->bytes;
	int64_t words = index >> (bytes == 8 ? 6 : bytes == 4 ? 5 : 4);
	uint64_t offset = insn_offset(x, m) + (uint64_t)(words * (int64_t)bytes);
	enum insn_outcome r;

	offset &= insn_mask(x->insn->adr_bytes);
	r = insn_translate(x, m->seg, offset, bytes, writes, &x->linear);
	if (r != INSN_DONE) {
		return r;
	}
	*value = 0;
	r = x->ops->read(x->env, x->linear, value, bytes, writes ? INSN_ACCESS_WRITE : 0);
	x->old = *value;
	return r;
}

enum insn_outcome insn_do_bit(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes, width = 8 * bytes;
	bool writes = x->insn->mnemonic != INSN_BT;
	bool string = (x->insn->attributes & INSN_ATTR_BITSTR) != 0 && x->insn->nmem > 0;
	uint64_t a = 0, n = 0, mask;
	enum insn_outcome r = insn_read(x, 1, &n);

	if (r != INSN_DONE) {
		return r;
	}
	if (string) {
		int64_t index = (int64_t)(n << (64 - width)) >> (64 - width);

		r = bit_operand(x, &a, index, writes);
	} else {
		r = writes ? insn_read_rmw(x, 0, &a) : insn_read(x, 0, &a);
	}
	if (r != INSN_DONE) {
		return r;
	}
	n &= width - 1;
	mask = BIT(n);
	if (writes) {
		uint64_t result = x->insn->mnemonic == INSN_BTS	  ? a | mask
				  : x->insn->mnemonic == INSN_BTR ? a & ~mask
								  : a ^ mask;

		r = insn_write_rmw(x, 0, result);
	}
	if (r == INSN_DONE) {
		insn_set_flags(x, FLAG_CF, (a & mask) != 0 ? FLAG_CF : 0);
	}
	return r;
}

/* BSF, BSR, TZCNT, LZCNT, POPCNT. */
enum insn_outcome insn_do_scan(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes, width = 8 * bytes;
	uint64_t a = 0, result, flags = 0;
	enum insn_outcome r = insn_read(x, 1, &a);

	if (r != INSN_DONE) {
		return r;
	}
	switch (x->insn->mnemonic) {
	case INSN_BSF:
	case INSN_BSR:
		insn_set_flags(x, FLAG_ZF, a == 0 ? FLAG_ZF : 0);
		if (a == 0) {
			return INSN_DONE; /* nothing is written, not even an upper half */
		}
		result = x->insn->mnemonic == INSN_BSF ? (unsigned)__builtin_ctzll(a)
						       : 63U - (unsigned)__builtin_clzll(a);
		return insn_write(x, 0, result);
	case INSN_TZCNT:
		result = a == 0 ? width : (unsigned)__builtin_ctzll(a);
		break;
	case INSN_LZCNT:
		result = a == 0 ? width : (unsigned)__builtin_clzll(a) - (64 - width);
		break;
	default: /* POPCNT */
		result = 0;
		for (uint64_t rest = a; rest != 0; rest &= rest - 1) {
			result++;
		}
		insn_set_flags(x, FLAGS_ARITH, a == 0 ? FLAG_ZF : 0);
		return insn_write(x, 0, result);
	}
	flags |= a == 0 ? FLAG_CF : 0;
	flags |= result == 0 ? FLAG_ZF : 0;
	insn_set_flags(x, FLAG_ZF | FLAG_CF, flags);
	return insn_write(x, 0, result);
}
