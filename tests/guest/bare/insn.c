/* Arithmetic, logic, shifts: results and flags of each width, against a model in C. */
#include "tests/guest/bare/snippet.h"

#define STATUS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

struct operands {
	uint64_t a, b, c; /* c: the count in CL, or a third operand */
	uint64_t flags;	  /* in and out */
};

static const uint64_t edges[] = {
	0,
	1,
	0x7f,
	0x80,
	0xff,
	0x7fff,
	0x8000,
	0xffff,
	0x12345678,
	0x7fffffff,
	0x80000000,
	0xffffffff,
	UINT64_C(0x123456789abcdef0),
	UINT64_C(0x7fffffffffffffff),
	UINT64_C(0x8000000000000000),
	UINT64_C(0xffffffffffffffff),
};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

/* The four widths of a two-operand instruction, as functions of struct operands. */
#define RUN2(insn, suffix, modifier)                                                          \
	static void insn##_##suffix(struct operands *o)                                       \
	{                                                                                     \
		__asm__ volatile("push %1; popfq\n" #insn " %" modifier "2, %" modifier "0\n" \
				 "pushfq; pop %1"                                             \
				 : "+&r"(o->a), "+&r"(o->flags)                               \
				 : "r"(o->b)                                                  \
				 : "cc", "memory");                                           \
	}
#define RUN_ALL(insn)       \
	RUN2(insn, 8, "b")  \
	RUN2(insn, 16, "w") \
	RUN2(insn, 32, "k") \
	RUN2(insn, 64, "q")
RUN_ALL(add)
RUN_ALL(adc)
RUN_ALL(sub)
RUN_ALL(sbb)
RUN_ALL(and)
RUN_ALL(or)
RUN_ALL(xor)
RUN_ALL(cmp)

enum alu {
	ALU_ADD,
	ALU_ADC,
	ALU_SUB,
	ALU_SBB,
	ALU_AND,
	ALU_OR,
	ALU_XOR,
	ALU_CMP
};

struct alu_row {
	enum alu operation;
	unsigned int bits;
	void (*run)(struct operands *o);
};

#define ROWS(OPERATION, insn)                                                             \
	{OPERATION, 8, insn##_8}, {OPERATION, 16, insn##_16}, {OPERATION, 32, insn##_32}, \
	{                                                                                 \
		OPERATION, 64, insn##_64                                                  \
	}

static uint64_t mask_of(unsigned int bits)
{
	return bits == 64 ? ~UINT64_C(0) : (UINT64_C(1) << bits) - 1;
}

static bool even_parity(uint64_t value)
{
	value ^= value >> 4;
	return ((0x6996 >> (value & 15)) & 1) == 0;
}

static uint64_t result_flags(uint64_t r, unsigned int bits)
{
	return (r == 0 ? RFLAGS_ZF : 0) | ((r >> (bits - 1) & 1) != 0 ? RFLAGS_SF : 0) |
	       (even_parity(r & 0xff) ? RFLAGS_PF : 0);
}

/* What lands in the register: of 32 bits the upper half is cleared, of less the rest stays. */
static uint64_t merge(uint64_t was, uint64_t r, unsigned int bits)
{
	return bits >= 32 ? r : (was & ~mask_of(bits)) | r;
}

static void model_alu(enum alu operation, unsigned int bits, struct operands *o)
{
	uint64_t mask = mask_of(bits), a = o->a & mask, b = o->b & mask, r, carries, flags;
	uint64_t c = (operation == ALU_ADC || operation == ALU_SBB) && (o->flags & 1) != 0;
	bool minus = operation == ALU_SUB || operation == ALU_SBB || operation == ALU_CMP;

	if (operation == ALU_AND || operation == ALU_OR || operation == ALU_XOR) {
		r = operation == ALU_AND ? a & b : operation == ALU_OR ? a | b : a ^ b;
		o->flags = result_flags(r, bits);
		o->a = merge(o->a, r, bits);
		return;
	}
	r = (minus ? a - b - c : a + b + c) & mask;
	/* The carry out of each bit, or the borrow into it. */
	carries = minus ? (~a & b) | ((~a | b) & r) : (a & b) | ((a | b) & ~r);
	flags = result_flags(r, bits) | (carries >> (bits - 1) & 1) |
		((carries & 8) != 0 ? RFLAGS_AF : 0);
	if (((carries >> (bits - 1) ^ carries >> (bits - 2)) & 1) != 0) {
		flags |= RFLAGS_OF;
	}
	o->flags = flags;
	if (operation != ALU_CMP) {
		o->a = merge(o->a, r, bits);
	}
}

static void check_alu(const struct alu_row *rows, size_t count, uint64_t ignored)
{
	for (size_t row = 0; row < count; row++) {
		for (size_t i = 0; i < EDGES * EDGES * 2; i++) {
			struct operands got = {.a = edges[i / 2 % EDGES],
					       .b = edges[i / 2 / EDGES],
					       .flags = i % 2 != 0 ? STATUS | 2 : 2};
			struct operands want = got;

			rows[row].run(&got);
			model_alu(rows[row].operation, rows[row].bits, &want);
			check_eq(got.a, want.a);
			check_eq(got.flags & STATUS & ~ignored, want.flags & ~ignored);
		}
	}
}

BARE_CASE(arithmetic, "insn/arithmetic", "AMD APM vol. 3, ADD, ADC, SUB, SBB, CMP")
{
	static const struct alu_row rows[] = {ROWS(ALU_ADD, add), ROWS(ALU_ADC, adc),
					      ROWS(ALU_SUB, sub), ROWS(ALU_SBB, sbb),
					      ROWS(ALU_CMP, cmp)};

	check_alu(rows, sizeof(rows) / sizeof(rows[0]), 0);
}

BARE_CASE(logic, "insn/logic", "AMD APM vol. 3, AND, OR, XOR")
{
	static const struct alu_row rows[] = {ROWS(ALU_AND, and), ROWS(ALU_OR, or),
					      ROWS(ALU_XOR, xor)};

	check_alu(rows, sizeof(rows) / sizeof(rows[0]), RFLAGS_AF);
}

/* ---- shifts ---- */

#define SHIFT(insn, suffix, modifier)                                               \
	static void insn##_##suffix(struct operands *o)                             \
	{                                                                           \
		__asm__ volatile("push %1; popfq\n" #insn " %%cl, %" modifier "0\n" \
				 "pushfq; pop %1"                                   \
				 : "+&r"(o->a), "+&r"(o->flags)                     \
				 : "c"(o->c)                                        \
				 : "cc", "memory");                                 \
	}
#define SHIFT_ALL(insn)      \
	SHIFT(insn, 8, "b")  \
	SHIFT(insn, 16, "w") \
	SHIFT(insn, 32, "k") \
	SHIFT(insn, 64, "q")
SHIFT_ALL(shl)
SHIFT_ALL(shr)
SHIFT_ALL(sar)
SHIFT_ALL(rol)
SHIFT_ALL(ror)
SHIFT_ALL(rcl)
SHIFT_ALL(rcr)

enum shift {
	SHIFT_SHL,
	SHIFT_SHR,
	SHIFT_SAR,
	SHIFT_ROL,
	SHIFT_ROR,
	SHIFT_RCL,
	SHIFT_RCR
};

/* One place at a time, as the manual describes it. */
static uint64_t model_step(enum shift operation, unsigned int bits, uint64_t v, uint64_t *cf)
{
	uint64_t top = v >> (bits - 1) & 1, low = v & 1, old = *cf, in;

	switch (operation) {
	case SHIFT_SHL:
	case SHIFT_ROL:
	case SHIFT_RCL:
		in = operation == SHIFT_SHL ? 0 : operation == SHIFT_ROL ? top : old;
		*cf = top;
		return (v << 1 | in) & mask_of(bits);
	default:
		in = operation == SHIFT_SAR   ? top
		     : operation == SHIFT_ROR ? low
		     : operation == SHIFT_RCR ? old
					      : 0;
		*cf = low;
		return v >> 1 | in << (bits - 1);
	}
}

/* Return: the flags that are defined. */
static uint64_t model_shift(enum shift operation, unsigned int bits, struct operands *o)
{
	unsigned int count = o->c & (bits == 64 ? 63 : 31);
	uint64_t v = o->a & mask_of(bits), cf = o->flags & 1, of, was = v;
	bool rotate = operation >= SHIFT_ROL;

	if (count == 0) {
		o->a = merge(o->a, v, bits);
		return STATUS; /* none changes */
	}
	for (unsigned int i = 0; i < count; i++) {
		v = model_step(operation, bits, v, &cf);
	}
	of = operation == SHIFT_SHL || operation == SHIFT_ROL || operation == SHIFT_RCL
		     ? (v >> (bits - 1) ^ cf) & 1
	     : operation == SHIFT_SAR ? 0
	     : operation == SHIFT_SHR ? was >> (bits - 1) & 1
				      : (v >> (bits - 1) ^ v >> (bits - 2)) & 1;
	o->flags = (rotate ? o->flags & ~(RFLAGS_CF | RFLAGS_OF) : result_flags(v, bits)) | cf |
		   of * RFLAGS_OF;
	o->a = merge(o->a, v, bits);
	return (STATUS & ~(rotate ? 0 : RFLAGS_AF) & ~(count == 1 ? 0 : RFLAGS_OF)) &
	       ~(!rotate && operation != SHIFT_SAR && count > bits ? RFLAGS_CF : 0);
}

BARE_CASE(shifts, "insn/shifts", "AMD APM vol. 3, SHL, SHR, SAR, ROL, ROR, RCL, RCR")
{
	static const struct {
		enum shift operation;
		unsigned int bits;
		void (*run)(struct operands *o);
	} rows[] = {ROWS(SHIFT_SHL, shl), ROWS(SHIFT_SHR, shr), ROWS(SHIFT_SAR, sar),
		    ROWS(SHIFT_ROL, rol), ROWS(SHIFT_ROR, ror), ROWS(SHIFT_RCL, rcl),
		    ROWS(SHIFT_RCR, rcr)};
	static const uint8_t counts[] = {0,  1,	 2,  7,	 8,  9,	 15,  16, 17,
					 31, 32, 33, 63, 64, 65, 128, 255};

	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		for (size_t i = 0; i < EDGES * sizeof(counts) * 2; i++) {
			struct operands got = {.a = edges[i / 2 % EDGES],
					       .c = counts[i / 2 / EDGES],
					       .flags = i % 2 != 0 ? STATUS | 2 : 2};
			struct operands want = got;
			uint64_t defined = model_shift(rows[row].operation, rows[row].bits, &want);

			rows[row].run(&got);
			check_eq(got.a, want.a);
			check_eq(got.flags & defined, want.flags & defined & STATUS);
		}
	}
}

BARE_CASE(double_shifts, "insn/double_shifts", "AMD APM vol. 3, SHLD, SHRD")
{
	for (uint32_t count = 0; count < 70; count++) {
		uint64_t a = UINT64_C(0x123456789abcdef1), b = UINT64_C(0xfedcba9876543210);
		uint64_t left = a, right = a, left32 = a;
		uint32_t n = count & 63, n32 = count & 31;

		__asm__ volatile("shld %%cl, %3, %0\n"
				 "shrd %%cl, %3, %1\n"
				 "shld %%cl, %k3, %k2"
				 : "+&r"(left), "+&r"(right), "+&r"(left32)
				 : "r"(b), "c"(count)
				 : "cc");
		check_eq(left, n == 0 ? a : a << n | b >> (64 - n));
		check_eq(right, n == 0 ? a : a >> n | b << (64 - n));
		check_eq(left32,
			 n32 == 0 ? (uint32_t)a
				  : (uint32_t)((uint32_t)a << n32 | (uint32_t)b >> (32 - n32)));
	}
}

BARE_CASE(inc_dec_keep_carry, "insn/inc_dec_keep_carry", "AMD APM vol. 3, INC, DEC, NEG, NOT")
{
	uint64_t rflags, value = 0xffffffff, low = 0x17f;

	__asm__ volatile(".globl bare_fault_stc\nbare_fault_stc: stc; incl %k0; pushfq; pop %1"
			 : "+r"(value), "=r"(rflags)
			 :
			 : "cc", "memory");
	check_eq(value, 0);
	check_eq(rflags & STATUS, RFLAGS_CF | RFLAGS_ZF | RFLAGS_PF | RFLAGS_AF);
	__asm__ volatile("clc; incb %b0; pushfq; pop %1"
			 : "+r"(low), "=r"(rflags)
			 :
			 : "cc", "memory");
	check_eq(low, 0x180);
	check_eq(rflags & STATUS, RFLAGS_OF | RFLAGS_SF | RFLAGS_AF);
	value = UINT64_C(1) << 63;
	__asm__ volatile("neg %0; pushfq; pop %1" : "+r"(value), "=r"(rflags) : : "cc", "memory");
	check_eq(value, UINT64_C(1) << 63);
	check_eq(rflags & STATUS, RFLAGS_CF | RFLAGS_OF | RFLAGS_SF | RFLAGS_PF);
	__asm__ volatile("xor %%eax, %%eax; notl %k0; pushfq; pop %1"
			 : "+r"(value), "=r"(rflags)
			 :
			 : "rax", "cc", "memory");
	check_eq(value, 0xffffffff);
	check_eq(rflags & (RFLAGS_ZF | RFLAGS_CF), RFLAGS_ZF);
}
