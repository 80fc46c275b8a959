#include "lib/insn/test_open.h"

#include <signal.h>
#include <string.h>

#define FSW_ES	0x80
#define FSW_TOP 0x3800

#define FOUR_GIB UINT64_C(0x100000000)

bool open_is_image(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_FXSAVE:
	case INSN_FXRSTOR:
	case INSN_XSAVE:
	case INSN_XSAVEC:
	case INSN_XSAVEOPT:
	case INSN_XRSTOR:
		return true;
	default:
		return false;
	}
}

bool open_in_pieces(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_FLDENV:
	case INSN_FRSTOR:
	case INSN_MASKMOVQ:
	case INSN_MASKMOVDQU:
	case INSN_VMASKMOVDQU:
	case INSN_VMASKMOVPS:
	case INSN_VMASKMOVPD:
	case INSN_VPMASKMOVD:
	case INSN_VPMASKMOVQ:
		return true;
	default:
		return open_is_image(insn);
	}
}

static uint16_t fsw_of(const uint8_t *area)
{
	uint16_t fsw;

	memcpy(&fsw, area + NATIVE_FSW, sizeof(fsw));
	return fsw;
}

static bool stores(const struct insn *insn)
{
	return insn->nmem > 0 && insn->operand[0].kind == INSN_OP_MEM &&
	       (insn->operand[0].access & INSN_WRITE) != 0;
}

/* An exception of x87 that is not masked stores nothing: AMD's CPUs ask for the memory first. */
static bool x87_before_memory(const struct open_case *c)
{
	return c->fault != NULL && c->native->signal == 0 && c->insn->klass == INSN_CLASS_X87 &&
	       stores(c->insn) && (fsw_of(c->after->area) & FSW_ES) != 0;
}

/* So do halves of numbers, with a signal. */
static bool number_before_memory(const struct open_case *c)
{
	return c->fault != NULL && c->insn->mnemonic == INSN_VCVTPS2PH &&
	       c->native->signal == SIGFPE && stores(c->insn);
}

/* "When the effective limit is FFFFFFFFH, these accesses may or may not cause the indicated
 * exceptions". Spec: Intel SDM vol. 3A, 5.3 "Limit Checking" */
static bool over_the_top(const struct open_case *c)
{
	return c->insn->mode != INSN_64 && c->fault != NULL && c->fault->vector != INSN_EXC_PF &&
	       c->native->signal == SIGSEGV && c->native->address < FOUR_GIB &&
	       c->native->address + c->insn->mem[0].bytes > FOUR_GIB;
}

bool open_signal(const struct open_case *c, int expected)
{
	/* A CPU may fault on what the mask leaves out. */
	if (c->fault == NULL && c->native->signal == SIGSEGV && open_in_pieces(c->insn)) {
		return true;
	}
	/*
	 * Where the operand and the stack are at fault, or an operand is neither aligned nor at an
	 * address that is one.
	 */
	if (expected != 0 && c->native->signal != 0 &&
	    (open_is_image(c->insn) || c->insn->mnemonic == INSN_CMPXCHG16B ||
	     (c->insn->klass == INSN_CLASS_CALL && c->insn->nmem > 0))) {
		return true;
	}
	return x87_before_memory(c) || number_before_memory(c) || over_the_top(c);
}

bool open_address(const struct open_case *c)
{
	/* Below its lower bound, the upper one need not be read. */
	if (c->insn->mnemonic == INSN_BOUND && c->native->address == 0) {
		return true;
	}
	return open_in_pieces(c->insn) || over_the_top(c) ||
	       (c->fault->vector != INSN_EXC_PF && c->insn->klass == INSN_CLASS_CALL);
}

bool open_result(const struct insn *insn, const struct native_registers *before)
{
	bool shift = insn->mnemonic == INSN_SHLD || insn->mnemonic == INSN_SHRD;
	uint64_t count = insn->noperands < 3			? 0
			 : insn->operand[2].kind == INSN_OP_IMM ? insn->imm[0]
								: before->gpr[1];

	return shift && insn->operand[0].bytes == 2 && (count & 31) > 16;
}

uint64_t open_flags(const struct insn *insn, const struct native_registers *before)
{
	const struct insn_operand *count = &insn->operand[MAX(insn->noperands, 1U) - 1];
	uint64_t n = before->gpr[1] & (insn->operand[0].bytes == 8 ? 63 : 31);

	/* With a count of zero none changes. */
	if ((insn->attributes & INSN_ATTR_SHIFT) != 0 && count->kind == INSN_OP_REG && n == 0) {
		return 0;
	}
	return insn->flags_undefined;
}

/* With addresses of 32 bits, Intel's CPUs clear the rest of what REP counts and moves by even
 * before the first element. */
bool open_gpr(const struct open_case *c, unsigned i)
{
	bool moved_by = i == 1 || i == 6 || i == 7;

	return moved_by && c->insn->klass == INSN_CLASS_STRING && c->insn->mode == INSN_64 &&
	       c->insn->adr_bytes == 4 &&
	       (c->insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0 &&
	       c->cpu->gpr[i] == c->before->gpr[i] &&
	       c->after->gpr[i] == (uint32_t)c->before->gpr[i];
}

/* As MMX instructions leave it: TOP is 0, none is empty. */
static void make_mmx(uint8_t *area)
{
	unsigned top = (fsw_of(area) & FSW_TOP) >> 11;
	uint16_t fsw = fsw_of(area) & (uint16_t)~FSW_TOP;
	uint8_t old[8][16];

	memcpy(old, area + NATIVE_ST, sizeof(old));
	for (unsigned i = 0; i < 8; i++) {
		memcpy(area + NATIVE_ST + (size_t)16 * i, old[(i - top) & 7], 16);
	}
	memcpy(area + NATIVE_FSW, &fsw, sizeof(fsw));
	area[NATIVE_FTW] = 0xff;
}

static bool all_zero(const uint8_t *bytes, size_t n)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

/* A gather that faults may have cleared the upper half of its destination, as its end does. */
void open_vectors(const struct open_case *c, uint8_t *ours)
{
	const struct insn *insn = c->insn;
	bool narrow;
	size_t at;

	if (c->fault == NULL || insn->nmem == 0 || insn->mem[0].kind != INSN_MEM_VSIB) {
		return;
	}
	at = NATIVE_YMM_HIGH + (size_t)16 * insn->operand[0].reg;
	narrow = insn->vec_bytes == 16 || (insn->mem[0].bytes == 4 && (insn->opcode & 1) != 0);
	if (narrow && all_zero(c->after->area + at, 16)) {
		memset(ours + at, 0, 16);
	}
}

void open_x87(const struct open_case *c, uint8_t *ours, uint8_t *after)
{
	/* One does not do what the other does as a whole. */
	if (x87_before_memory(c)) {
		memcpy(ours, after, NATIVE_MXCSR);
		memcpy(ours + NATIVE_ST, after + NATIVE_ST, NATIVE_XMM - NATIVE_ST);
	}
	/* Intel's CPUs have gone over to MMX when the store faults. */
	if (c->fault != NULL && c->insn->klass == INSN_CLASS_MMX && stores(c->insn)) {
		make_mmx(ours);
		make_mmx(after);
	}
}

/* Where it was pushed, or would have been. */
static uint64_t below_stack(const struct open_case *c)
{
	const struct insn_segment *ss = &c->cpu->seg[INSN_SS];
	uint64_t at = c->cpu->gpr[4] - c->insn->op_bytes;

	if (c->insn->mode != INSN_64) {
		at &= (ss->attr & INSN_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;
	}
	return at + ss->base;
}

uint64_t open_memory(const struct open_case *c, uint64_t *at)
{
	const struct insn *insn = c->insn;

	*at = NATIVE_MEMORY;
	if (c->fault == NULL) {
		return 0;
	}
	/* It may have pushed when it finds that the frame does not fit. */
	if (insn->mnemonic == INSN_ENTER) {
		return NATIVE_MEMORY_BYTES;
	}
	/* Intel's CPUs have pushed when they find where it leads. */
	if (insn->klass == INSN_CLASS_CALL) {
		*at = below_stack(c);
		return insn->op_bytes;
	}
	/* Ten bytes are two stores, of which the second faults. */
	if (insn->klass == INSN_CLASS_X87 && stores(insn) && insn->mem[0].bytes == 10 &&
	    c->fault->vector == INSN_EXC_PF &&
	    c->fault->address == NATIVE_MEMORY + NATIVE_MEMORY_BYTES) {
		*at = c->fault->address - 9;
		return 9;
	}
	return 0;
}
