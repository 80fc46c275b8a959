/*
 * x87, MMX, SSE, AVX and AVX-512 instructions: what forbids them is checked here, their memory
 * operand read and written, the rest is for ops->native.
 *
 * Spec: Intel SDM vol. 3A, 2.5 (CR0.MP, EM, TS, table 9-3), 13.1, 15.x "Exception Conditions"; vol.
 * 2, 2.4 "AVX and SSE Instruction Exception Classification"
 */
#include <string.h>

#include "lib/insn/descriptor.h"
#include "lib/insn/native.h"

#define XCR0_AVX    UINT64_C(0x06)
#define XCR0_AVX512 UINT64_C(0xe6)

#define CHUNK	   64
#define NUMBER_MAX 10

static enum insn_outcome undefined(struct insn_exec *x)
{
	return insn_raise(x->env, INSN_EXC_UD, 0);
}

/* VEX and EVEX need their state enabled. */
static enum insn_outcome state_enabled(struct insn_exec *x)
{
	uint64_t need = x->insn->encoding == INSN_EVEX ? XCR0_AVX512 : XCR0_AVX, xcr0 = 0;
	enum insn_outcome r;

	if ((x->cpu->cr4 & CR4_OSXSAVE) == 0) {
		return undefined(x);
	}
	if (x->ops->read_xcr == NULL) {
		return INSN_UNSUPPORTED;
	}
	for (unsigned i = 0; i < x->insn->noperands; i++) {
		if (x->insn->operand[i].kind == INSN_OP_REG &&
		    x->insn->operand[i].klass == INSN_MASK) {
			need = XCR0_AVX512;
		}
	}
	r = x->ops->read_xcr(x->env, 0, &xcr0);
	if (r == INSN_DONE && (xcr0 & need) != need) {
		return undefined(x);
	}
	return r;
}

enum insn_outcome insn_native_usable(struct insn_exec *x)
{
	uint64_t cr0 = x->cpu->cr0;
	unsigned klass = x->insn->klass;
	enum insn_outcome r = INSN_DONE;

	if (klass == INSN_CLASS_X87) {
		uint64_t absent = CR0_EM | CR0_TS;

		if (x->insn->mnemonic == INSN_FWAIT) {
			absent = (cr0 & CR0_MP) != 0 ? CR0_TS : 0;
		}
		return (cr0 & absent) != 0 ? insn_raise(x->env, INSN_EXC_NM, 0) : INSN_DONE;
	}
	if (x->insn->encoding != INSN_LEGACY) {
		r = state_enabled(x);
	} else if ((cr0 & CR0_EM) != 0 ||
		   (klass != INSN_CLASS_MMX && (x->cpu->cr4 & CR4_OSFXSR) == 0)) {
		return undefined(x);
	}
	if (r == INSN_DONE && (cr0 & CR0_TS) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	return r;
}

/* Which memory operands have to be aligned: of legacy SSE all but a few, of VEX only a few. */
static bool has_to_be_aligned(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_MOVUPS:
	case INSN_MOVUPD:
	case INSN_MOVDQU:
	case INSN_LDDQU:
	case INSN_PCMPESTRI:
	case INSN_PCMPESTRM:
	case INSN_PCMPISTRI:
	case INSN_PCMPISTRM:
	case INSN_MASKMOVDQU:
		return false;
	case INSN_SHA1MSG1: /* Intel's manual asks for it, AMD's does not; nor do the CPUs */
	case INSN_SHA1MSG2:
	case INSN_SHA1NEXTE:
	case INSN_SHA1RNDS4:
	case INSN_SHA256MSG1:
	case INSN_SHA256MSG2:
	case INSN_SHA256RNDS2:
		return !insn->amd;
	case INSN_VMOVAPS:
	case INSN_VMOVAPD:
	case INSN_VMOVDQA:
	case INSN_VMOVDQA32:
	case INSN_VMOVDQA64:
	case INSN_VMOVNTPS:
	case INSN_VMOVNTPD:
	case INSN_VMOVNTDQ:
	case INSN_VMOVNTDQA:
		return true;
	default:
		return insn->encoding == INSN_LEGACY && insn->klass != INSN_CLASS_X87 &&
		       insn->mem[0].bytes == 16;
	}
}

/* Linear, without any check. */
static uint64_t linear_of(const struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t offset = insn_offset(x, m);

	return insn_long_mode(x) && m->seg < INSN_FS ? offset : offset + x->cpu->seg[m->seg].base;
}

enum insn_outcome insn_native_aligned(struct insn_exec *x, unsigned to)
{
	return linear_of(x) % to == 0 ? INSN_DONE : insn_raise(x->env, INSN_EXC_GP, 0);
}

/* The operand's piece at @at, the offset of which wraps as addresses do. */
static enum insn_outcome piece(struct insn_exec *x, unsigned at, unsigned len, bool write,
			       uint64_t *linear)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t offset = (insn_offset(x, m) + at) & insn_mask(x->insn->adr_bytes);

	return insn_translate(x, m->seg, offset, len, write, linear);
}

enum insn_outcome insn_native_read(struct insn_exec *x, struct insn_native *n, unsigned at,
				   unsigned len, bool write)
{
	enum insn_outcome r = INSN_DONE;

	for (unsigned end = at + len; at < end && r == INSN_DONE; at += CHUNK) {
		unsigned now = MIN(end - at, CHUNK);
		uint64_t linear = 0;

		r = piece(x, at, now, write, &linear);
		if (r == INSN_DONE) {
			r = x->ops->read(x->env, linear, n->memory + at, now,
					 write ? INSN_ACCESS_WRITE : 0);
		}
	}
	return r;
}

enum insn_outcome insn_native_probe(struct insn_exec *x, unsigned at, unsigned len)
{
	enum insn_outcome r = INSN_DONE;

	for (unsigned end = at + len; at < end && r == INSN_DONE; at += CHUNK) {
		unsigned now = MIN(end - at, CHUNK);
		uint64_t linear = 0;

		r = piece(x, at, now, true, &linear);
		if (r == INSN_DONE && x->ops->probe != NULL) {
			r = x->ops->probe(x->env, linear, now);
		}
	}
	return r;
}

enum insn_outcome insn_native_write(struct insn_exec *x, const struct insn_native *n, unsigned at,
				    unsigned len)
{
	enum insn_outcome r = INSN_DONE;

	for (unsigned end = at + len; at < end && r == INSN_DONE; at += CHUNK) {
		unsigned now = MIN(end - at, CHUNK);
		uint64_t linear = 0;

		r = piece(x, at, now, true, &linear);
		if (r == INSN_DONE) {
			r = x->ops->write(x->env, linear, n->memory + at, now, INSN_ACCESS_WRITE);
		}
	}
	return r;
}

enum insn_outcome insn_native_run(struct insn_exec *x, struct insn_native *n)
{
	enum insn_outcome r = x->ops->native(x->env, n);

	if (r == INSN_FAULT && x->env->fault.vector == INSN_EXC_XM &&
	    (x->cpu->cr4 & CR4_OSXMMEXCPT) == 0) {
		return undefined(x);
	}
	return r;
}

/* How the operand is accessed, of all that name it. */
static unsigned memory_access(const struct insn *insn)
{
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_MEM) {
			return insn->operand[i].access;
		}
	}
	return 0;
}

/* Control instructions do not record where they are. Spec: Intel SDM vol. 1, 8.1.8 */
static bool records_place(unsigned mnemonic)
{
	switch (mnemonic) {
	case INSN_FNCLEX:
	case INSN_FNINIT:
	case INSN_FLDCW:
	case INSN_FNSTCW:
	case INSN_FNSTSW:
	case INSN_FNSTENV:
	case INSN_FLDENV:
	case INSN_FNSAVE:
	case INSN_FRSTOR:
	case INSN_FWAIT:
	case INSN_FNENI:
	case INSN_FNDISI:
	case INSN_FNSETPM:
		return false;
	default:
		return true;
	}
}

static bool loads_place(unsigned mnemonic)
{
	return mnemonic == INSN_FNINIT || mnemonic == INSN_FLDENV || mnemonic == INSN_FNSAVE ||
	       mnemonic == INSN_FRSTOR;
}

static void set_place(struct insn_exec *x, struct insn_native *n)
{
	n->x87_place = x->insn->klass == INSN_CLASS_X87 && records_place(x->insn->mnemonic);
	n->x87_loads = loads_place(x->insn->mnemonic);
	n->fop = (uint16_t)((x->insn->opcode & 7) << 8 | x->insn->modrm);
	n->fip = x->cpu->rip;
	n->fcs = x->cpu->seg[INSN_CS].selector;
	if (x->insn->nmem > 0) {
		n->fdp = insn_offset(x, &x->insn->mem[0]);
		n->fds = x->cpu->seg[x->insn->mem[0].seg].selector;
	}
}

/* An x87 number with an exception that is not masked is not stored. */
static bool may_not_store(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_X87 && insn->mem[0].bytes <= NUMBER_MAX;
}

static enum insn_outcome fetch_memory(struct insn_exec *x, struct insn_native *n, unsigned access)
{
	unsigned len = x->insn->mem[0].bytes;
	enum insn_outcome r = INSN_DONE;

	if (len == 0 || x->env->buffer == NULL || len > x->env->buffer_len) {
		return INSN_UNSUPPORTED;
	}
	n->memory = x->env->buffer;
	n->memory_len = len;
	if (has_to_be_aligned(x->insn)) {
		r = insn_native_aligned(x, len);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if ((access & (INSN_READ | INSN_COND)) == 0 && !may_not_store(x->insn)) {
		return insn_native_probe(x, 0, len);
	}
	return insn_native_read(x, n, 0, len, (access & INSN_WRITE) != 0);
}

static void take_results(struct insn_exec *x, const struct insn_native *n)
{
	for (unsigned i = 0; i < 16; i++) {
		if ((n->gpr_write >> i & 1) != 0) {
			x->cpu->gpr[i] = n->gpr[i == RSP ? n->rsp_as : i];
		}
	}
	insn_set_flags(x, x->insn->flags_written & FLAGS_ARITH, n->rflags);
}

static enum insn_outcome one_operand(struct insn_exec *x)
{
	struct insn_native n = {.rflags = x->cpu->rflags & FLAGS_ARITH};
	unsigned access = memory_access(x->insn);
	uint8_t before[NUMBER_MAX] = {0};
	bool maybe = x->insn->nmem > 0 && may_not_store(x->insn);
	enum insn_outcome r = insn_native_usable(x);

	if (r != INSN_DONE) {
		return r;
	}
	if (!insn_native_encode(x->insn, &n)) {
		return INSN_UNSUPPORTED;
	}
	memcpy(n.gpr, x->cpu->gpr, sizeof(n.gpr));
	n.gpr_write = x->insn->gpr_write;
	if (n.rsp_as != INSN_NO_REG) {
		n.gpr[n.rsp_as] = n.gpr[RSP];
	}
	set_place(x, &n);
	if (x->insn->nmem > 0) {
		r = fetch_memory(x, &n, access);
	}
	if (r == INSN_DONE && maybe) {
		memcpy(before, n.memory, n.memory_len);
	}
	if (r != INSN_DONE || (r = insn_native_run(x, &n)) != INSN_DONE) {
		return r;
	}
	if ((access & INSN_WRITE) != 0 && !(maybe && memcmp(before, n.memory, n.memory_len) == 0)) {
		r = insn_native_write(x, &n, 0, n.memory_len);
	}
	if (r == INSN_DONE) {
		take_results(x, &n);
	}
	return r;
}

enum insn_outcome insn_do_native(struct insn_exec *x)
{
	if (x->insn->encoding == INSN_EVEX) {
		return one_operand(x);
	}
	switch (x->insn->mnemonic) {
	case INSN_VPGATHERDD:
	case INSN_VPGATHERDQ:
	case INSN_VPGATHERQD:
	case INSN_VPGATHERQQ:
	case INSN_VGATHERDPS:
	case INSN_VGATHERDPD:
	case INSN_VGATHERQPS:
	case INSN_VGATHERQPD:
		return insn_do_gather(x);
	case INSN_VMASKMOVPS:
	case INSN_VMASKMOVPD:
	case INSN_VPMASKMOVD:
	case INSN_VPMASKMOVQ:
		return insn_do_mask_move(x);
	case INSN_MASKMOVQ:
	case INSN_MASKMOVDQU:
	case INSN_VMASKMOVDQU:
		return insn_do_mask_bytes(x);
	default:
		return one_operand(x);
	}
}
