/*
 * Two questions to Zydis about each instruction:
 *
 *	Is it what lib/insn says: length, operands, registers, flags? Then the judge
 *	(soft/translate/check.c) has judged what will be executed.
 *
 *	Is it harmless by itself? Memory is the frame (GS), the host's stack by what belongs there,
 *or [R10], where on all ways to it R10 has come out of a look-up, a window or C. Jumps lead to
 *beginnings of instructions of the block, to the common code's entries, or by the table of jumps.
 *No system call, interrupt, port, system register, segment or base of one.
 *
 * The second is asked without the judge's knowledge of patterns, and answered by following R10
 * along all jumps of the block. The common code, which is not judged, is asked a simpler one.
 */
#include "tests/soft/witness.h"

#include <Zydis/Zydis.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/insn/decode.h"
#include "lib/insn/test_zydis.h"
#include "soft/translate/check.h"
#include "soft/translate/translator.h"

#define MAX_INSNS    8192
#define FRAME(field) ((int64_t)offsetof(struct st_frame, field))

/* What R10 is. */
enum r10 {
	R10_NOT_REACHED,
	R10_HOST, /* an address that may be used */
	R10_OTHER,
};

struct line {
	uint32_t at; /* offset in the cache */
	uint8_t r10; /* enum r10, before it */
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

struct view {
	const struct st_translator *t;
	const struct st_block *b;
	unsigned n;
	struct line line[MAX_INSNS];
};

static ZydisDecoder decoder;
static atomic_ullong blocks, instructions, links;

static _Noreturn void wrong(const struct st_translator *t, uint32_t at, const char *why)
{
	fprintf(stderr, "witness: %s, at %#x of the cache:", why, at);
	for (unsigned i = 0; i < 16; i++) {
		fprintf(stderr, " %02x", t->rx[at + i]);
	}
	fputc('\n', stderr);
	abort();
}

/* ---- what an instruction is ---- */

static bool is_gpr(const ZydisDecodedOperand *o, ZydisRegister reg)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) == reg;
}

static bool is_written(const ZydisDecodedOperand *o)
{
	return (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
}

static bool is_memory(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN;
}

static bool writes_gpr(const struct line *l, ZydisRegister reg)
{
	for (unsigned i = 0; i < l->insn.operand_count; i++) {
		if (is_gpr(&l->op[i], reg) && is_written(&l->op[i])) {
			return true;
		}
	}
	return false;
}

/* Categories with nothing but registers, flags and memory operands in them are not here. */
static bool is_forbidden(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_MONITORX:
	case ZYDIS_MNEMONIC_MWAITX:
	case ZYDIS_MNEMONIC_CLZERO:
		return true;
	default:
		break;
	}
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_SYSTEM:
		return insn->mnemonic != ZYDIS_MNEMONIC_RDTSC;
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_SEGOP:
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_RDWRFSGS:
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
	case ZYDIS_CATEGORY_VTX:
	case ZYDIS_CATEGORY_CET:
	case ZYDIS_CATEGORY_GATHER:
	case ZYDIS_CATEGORY_SCATTER:
	case ZYDIS_CATEGORY_PKU:
	case ZYDIS_CATEGORY_SGX:
	case ZYDIS_CATEGORY_SMAP:
	case ZYDIS_CATEGORY_WAITPKG:
	case ZYDIS_CATEGORY_CLFLUSHOPT:
	case ZYDIS_CATEGORY_CLWB:
		return true;
	default:
		return insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ||
		       (insn->attributes & (ZYDIS_ATTRIB_IS_PRIVILEGED | ZYDIS_ATTRIB_HAS_REP |
					    ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
	}
}

static bool writes_system_register(const struct line *l)
{
	for (unsigned i = 0; i < l->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &l->op[i];
		ZydisRegisterClass c = o->type == ZYDIS_OPERAND_TYPE_REGISTER
					       ? ZydisRegisterGetClass(o->reg.value)
					       : ZYDIS_REGCLASS_INVALID;

		if ((c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL ||
		     c == ZYDIS_REGCLASS_DEBUG || c == ZYDIS_REGCLASS_TABLE ||
		     c == ZYDIS_REGCLASS_TEST) &&
		    is_written(o)) {
			return true;
		}
	}
	return false;
}

/* ---- memory ---- */

static bool frame_allowed(const ZydisDecodedOperand *o)
{
	const ZydisDecodedOperandMem *m = &o->mem;
	int64_t end = m->disp.value + o->size / 8;

	if (m->base == ZYDIS_REGISTER_NONE && m->index == ZYDIS_REGISTER_NONE) {
		return m->disp.value >= 0 &&
		       end <= (is_written(o) ? FRAME(fpu) : (int64_t)sizeof(struct st_frame));
	}
	return !is_written(o) &&
	       (m->base == ZYDIS_REGISTER_NONE || m->base == ZYDIS_REGISTER_R11) &&
	       (m->index == ZYDIS_REGISTER_NONE || m->index == ZYDIS_REGISTER_R11) &&
	       m->disp.value >= FRAME(view) && end <= (int64_t)sizeof(struct st_frame);
}

/* PUSH, POP, CALL and RET by what they are; else a comparison with an entry, or the flags. */
static bool stack_allowed(const struct line *l, const ZydisDecodedOperand *o)
{
	if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) {
		return l->insn.mnemonic == ZYDIS_MNEMONIC_PUSH ||
		       l->insn.mnemonic == ZYDIS_MNEMONIC_PUSHFQ ||
		       l->insn.mnemonic == ZYDIS_MNEMONIC_POPFQ ||
		       l->insn.mnemonic == ZYDIS_MNEMONIC_CALL ||
		       l->insn.mnemonic == ZYDIS_MNEMONIC_RET;
	}
	return !is_written(o) && o->mem.index == ZYDIS_REGISTER_NONE && o->mem.disp.value >= 0 &&
	       o->mem.disp.value <= 8;
}

static bool memory_allowed(const struct line *l)
{
	for (unsigned i = 0; i < l->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &l->op[i];
		bool right;

		if (!is_memory(o)) {
			continue;
		}
		if (o->mem.segment == ZYDIS_REGISTER_GS) {
			right = frame_allowed(o);
		} else if (o->mem.segment != ZYDIS_REGISTER_DS &&
			   o->mem.segment != ZYDIS_REGISTER_SS) {
			right = false;
		} else if (o->mem.base == ZYDIS_REGISTER_RSP) {
			right = stack_allowed(l, o);
		} else {
			right = o->mem.base == ZYDIS_REGISTER_R10 &&
				o->mem.index == ZYDIS_REGISTER_NONE &&
				o->mem.type == ZYDIS_MEMOP_TYPE_MEM && l->r10 == R10_HOST;
		}
		if (!right) {
			return false;
		}
	}
	return true;
}

/* ---- jumps ---- */

static struct line *line_at(struct view *v, uint64_t at)
{
	unsigned low = 0, high = v->n;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (v->line[mid].at == at) {
			return &v->line[mid];
		}
		if (v->line[mid].at < at) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return NULL;
}

static bool is_relative(const struct line *l)
{
	return l->insn.operand_count > 0 && l->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	       l->op[0].imm.is_relative;
}

static uint64_t target_of(const struct line *l)
{
	return l->at + l->insn.length + l->op[0].imm.value.u;
}

static bool is_jump(const struct line *l)
{
	return l->insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
	       l->insn.meta.category == ZYDIS_CATEGORY_COND_BR;
}

static bool is_call(const struct line *l)
{
	return l->insn.meta.category == ZYDIS_CATEGORY_CALL;
}

/* An entry of the common code that blocks may go to. */
static bool is_common(const struct st_translator *t, uint64_t to)
{
	const uint8_t *at = t->rx + to;

	return at == t->exit_link || at == t->exit_insn || at == t->exit_lookup ||
	       at == t->exit_target || at == t->exit_kick || at == t->exit_moved || at == t->slow ||
	       at == t->string || at == t->load_fpu || at == t->system || at == t->attempt ||
	       at == t->lookup[st_view_of(ST_MODE_USER)] || at == t->lookup[st_view_of(0)] ||
	       at == t->lookup[st_view_of(ST_MODE_AC)];
}

static bool jump_allowed(struct view *v, const struct line *l)
{
	if (l->insn.meta.category == ZYDIS_CATEGORY_RET) {
		return l->insn.length == 3 && l->insn.opcode == 0xc2 && l->op[0].imm.value.u == 8;
	}
	if (!is_jump(l) && !is_call(l)) {
		return true;
	}
	if (!is_relative(l)) {
		const ZydisDecodedOperandMem *m = &l->op[0].mem;
		int64_t code = (int64_t)offsetof(struct st_jump, code);

		return is_memory(&l->op[0]) && m->segment == ZYDIS_REGISTER_GS &&
		       m->base == ZYDIS_REGISTER_R11 && m->index == ZYDIS_REGISTER_NONE &&
		       m->disp.value == FRAME(jump) + code +
						(int64_t)st_view_of(v->b->mode) *
							(int64_t)sizeof(v->t->frame->jump[0]);
	}
	return line_at(v, target_of(l)) != NULL || is_common(v->t, target_of(l));
}

/* ---- R10 ---- */

static enum r10 behind(const struct view *v, const struct line *l)
{
	const ZydisDecodedOperand *from = &l->op[1];
	bool gs = l->insn.operand_count > 1 && is_memory(from) &&
		  from->mem.segment == ZYDIS_REGISTER_GS;

	if (is_call(l)) {
		const uint8_t *to = is_relative(l) ? v->t->rx + target_of(l) : NULL;

		return to == v->t->slow || to == v->t->attempt ? R10_HOST : R10_OTHER;
	}
	if (!writes_gpr(l, ZYDIS_REGISTER_R10)) {
		return l->r10;
	}
	if (!is_gpr(&l->op[0], ZYDIS_REGISTER_R10) || l->op[0].size != 64) {
		return R10_OTHER;
	}
	switch (l->insn.mnemonic) {
	case ZYDIS_MNEMONIC_ADD: /* what the TLB adds to the offset in the page */
		return gs && from->mem.base == ZYDIS_REGISTER_R11 ? R10_HOST : R10_OTHER;
	case ZYDIS_MNEMONIC_LEA:
		return from->mem.base == ZYDIS_REGISTER_R10 &&
				       from->mem.index == ZYDIS_REGISTER_R11 &&
				       from->mem.scale == 1 && from->mem.disp.value == 0
			       ? R10_HOST
			       : R10_OTHER;
	case ZYDIS_MNEMONIC_MOV:
		return gs && from->mem.base == ZYDIS_REGISTER_NONE &&
				       from->mem.index == ZYDIS_REGISTER_NONE &&
				       from->mem.disp.value >= FRAME(window_at) &&
				       from->mem.disp.value <
					       FRAME(window_at) + 8 * (int64_t)ST_WINDOWS
			       ? R10_HOST
			       : R10_OTHER;
	default:
		return R10_OTHER;
	}
}

static bool come(struct line *to, enum r10 r10)
{
	enum r10 now = to == NULL ? r10 : (enum r10)to->r10;

	if (now >= r10) {
		return false;
	}
	to->r10 = (uint8_t)r10;
	return true;
}

/* From all ways in, along all jumps, until nothing changes. */
static void follow(struct view *v)
{
	bool more = true;

	(void)come(line_at(v, v->b->code), R10_OTHER);
	(void)come(line_at(v, v->b->entry), R10_OTHER);
	while (more) {
		more = false;
		for (unsigned i = 0; i < v->n; i++) {
			struct line *l = &v->line[i];
			enum r10 r10 = l->r10 == R10_NOT_REACHED ? R10_NOT_REACHED : behind(v, l);
			bool goes_on = l->insn.meta.category != ZYDIS_CATEGORY_UNCOND_BR &&
				       l->insn.meta.category != ZYDIS_CATEGORY_RET;

			if (is_jump(l) && is_relative(l)) {
				more |= come(line_at(v, target_of(l)), r10);
			}
			if (goes_on) {
				more |= come(line_at(v, l->at + l->insn.length), r10);
			}
			/* It may come back behind the next one, which is a jump. */
			if (is_call(l) && is_relative(l) &&
			    v->t->rx + target_of(l) == v->t->attempt) {
				more |= come(line_at(v, l->at + l->insn.length + 5), R10_OTHER);
			}
		}
	}
}

/* ---- blocks ---- */

static void read_part(struct view *v, uint32_t at, uint32_t end)
{
	static _Thread_local struct zydis_report report;

	while (at < end) {
		struct line *l = &v->line[v->n++];

		if (v->n == MAX_INSNS) {
			wrong(v->t, at, "the block is too long");
		}
		l->at = at;
		l->r10 = R10_NOT_REACHED;
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, v->t->rx + at, end - at,
							 &l->insn, l->op))) {
			wrong(v->t, at, "no instruction");
		}
		if (!zydis_compare(INSN_64, v->t->rx + at, 16, &report)) {
			fprintf(stderr, "witness: %s, %s: %s\n", report.text,
				zydis_aspect_names[report.aspect], report.what);
			wrong(v->t, at, "lib/insn takes it for another instruction");
		}
		at += l->insn.length;
	}
	if (at != end) {
		wrong(v->t, at, "it ends behind its end");
	}
}

static const char *fault_of(struct view *v, const struct line *l)
{
	if (is_forbidden(&l->insn) || writes_system_register(l)) {
		return "not for translated code";
	}
	if (!jump_allowed(v, l)) {
		return "it leads out of the cache";
	}
	return (is_jump(l) || is_call(l)) && !is_relative(l) ? NULL
	       : memory_allowed(l)			     ? NULL
							     : "it reaches other memory";
}

/* ---- the common code ---- */

/* Its fields of the frame are any; XSAVE and XRSTOR of the guest's area are by R10. */
static bool common_memory_allowed(const struct line *l, const ZydisDecodedOperand *o)
{
	const ZydisDecodedOperandMem *m = &o->mem;

	if (m->segment == ZYDIS_REGISTER_GS) {
		return m->disp.value >= 0 &&
		       m->disp.value + o->size / 8 <= (int64_t)sizeof(struct st_frame) &&
		       m->index == ZYDIS_REGISTER_NONE &&
		       (m->base == ZYDIS_REGISTER_NONE ||
			(m->base == ZYDIS_REGISTER_R11 && !is_written(o)));
	}
	return m->base == ZYDIS_REGISTER_RSP ||
	       (m->base == ZYDIS_REGISTER_R10 && l->insn.meta.category == ZYDIS_CATEGORY_XSAVE);
}

static const char *common_fault_of(struct view *v, const struct line *l)
{
	if ((is_forbidden(&l->insn) && l->insn.meta.category != ZYDIS_CATEGORY_XSAVE) ||
	    writes_system_register(l)) {
		return "not for common code";
	}
	if ((is_jump(l) || is_call(l)) && is_relative(l) && line_at(v, target_of(l)) == NULL) {
		return "it leads out of the common code";
	}
	for (unsigned i = 0; i < l->insn.operand_count; i++) {
		if (is_memory(&l->op[i]) && !common_memory_allowed(l, &l->op[i])) {
			return "it reaches other memory";
		}
	}
	return (is_jump(l) || is_call(l)) && l->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER
		       ? "it leads anywhere"
		       : NULL;
}

static void see_common(struct view *v)
{
	v->n = 0;
	read_part(v, 0, v->t->start);
	for (unsigned i = 0; i < v->n; i++) {
		const char *fault = common_fault_of(v, &v->line[i]);

		if (fault != NULL) {
			wrong(v->t, v->line[i].at, fault);
		}
	}
}

static void see_block(const struct st_translator *t, const struct st_block *b)
{
	static _Thread_local struct view *v;

	v = v == NULL ? malloc(sizeof(*v)) : v;
	if (v == NULL) {
		abort();
	}
	v->t = t;
	v->b = b;
	if (b == t->blocks) {
		see_common(v);
	}
	v->n = 0;
	read_part(v, b->code, b->code_end);
	read_part(v, b->cold, b->cold_end);
	follow(v);
	for (unsigned i = 0; i < v->n; i++) {
		const char *fault = fault_of(v, &v->line[i]);

		if (fault != NULL) {
			wrong(t, v->line[i].at, fault);
		}
	}
	blocks++;
	instructions += v->n;
}

static void see_link(const struct st_translator *t, const struct st_block *source,
		     const struct st_link *link)
{
	uint32_t at = link->behind <= ST_HOT_BYTES ? source->code : source->cold;
	const struct st_block *target = &t->blocks[link->target];
	struct line l = {0};

	for (; at < link->behind; at += l.insn.length) {
		l.at = at;
		if (!ZYAN_SUCCESS(
			    ZydisDecoderDecodeFull(&decoder, t->rx + at, 16, &l.insn, l.op))) {
			wrong(t, at, "no instruction");
		}
	}
	if (at != link->behind || !(is_jump(&l) || is_call(&l)) || !is_relative(&l)) {
		wrong(t, l.at, "no jump that could be linked");
	}
	if (target_of(&l) != target->code && target_of(&l) != target->entry) {
		wrong(t, l.at, "not linked to a beginning");
	}
	links++;
}

void witness_begin(void)
{
	static const struct st_witness witness = {see_block, see_link};

	zydis_init();
	if (!ZYAN_SUCCESS(
		    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))) {
		abort();
	}
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	st_witness = &witness;
}

uint64_t witness_blocks(void)
{
	return blocks;
}

uint64_t witness_instructions(void)
{
	return instructions;
}

uint64_t witness_links(void)
{
	return links;
}
