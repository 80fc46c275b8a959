/*
 * Code that all blocks use: the way in, the ways out, the call of C for what the TLB lacks.
 */
#include "soft/translate/translator.h"

#define AT(field) EM_GS(offsetof(struct st_frame, field))
#define GPR(n)	  EM_GS(offsetof(struct st_frame, gpr) + 8 * (n))

/* Callee-saved registers of the System V ABI. */
static const uint8_t saved[] = {EM_RBX, EM_RBP, 12, 13, 14, 15};
/* Those that C may change, of the ones that hold guest registers. */
static const uint8_t changed[] = {EM_RAX, EM_RCX, EM_RDX, EM_RSI, EM_RDI, EM_R8, EM_R9};

/* Below the shadow stack, while C may push a stopper. */
#define ROOM (4 * ST_SHADOW_ENTRY)

static void add_rsp(struct em *e, int by)
{
	em_lea(e, true, EM_RSP, EM_AT(EM_RSP, by));
}

/* PUSH and POP of memory do not touch the flags; PUSHFQ and POPFQ are the flags. */
static void pop_mem(struct em *e, struct em_mem m)
{
	em_mem(e, false, 0, 0x8f, 0, m);
}

static void push_mem(struct em *e, struct em_mem m)
{
	em_mem(e, false, 0, 0xff, 6, m);
}

static void move_gprs(struct em *e, unsigned opcode)
{
	for (unsigned g = 0; g < 16; g++) {
		if (g < 9 || g > 11) {
			em_mem(e, true, 0, opcode, g == EM_RSP ? EM_R9 : g, GPR(g));
		}
	}
}

/* XSAVE or XRSTOR (@reg 4, 5) of the guest's area, by RAX, RDX and R10. */
static void fpu_state(struct em *e, unsigned reg)
{
	em_load(e, EM_R10, AT(xsave));
	em_mem(e, false, 0, 0x8b, EM_RAX, AT(xsave_mask));
	em_mem(e, false, 0, 0x8b, EM_RDX, EM_GS(offsetof(struct st_frame, xsave_mask) + 4));
	em_mem(e, true, 1, 0xae, reg, EM_AT(EM_R10, 0));
}

/* What the ABI asks for: FNINIT, MXCSR. */
static void fpu_host(struct em *e)
{
	em_byte(e, 0xdb);
	em_byte(e, 0xe3);
	em_mem(e, false, 0, 0xd9, 5, AT(host_fcw));
	em_mem(e, false, 1, 0xae, 2, AT(host_mxcsr));
}

/* From the host's to the guest's. */
static void fpu_guest(struct em *e)
{
	em_mem(e, false, 0, 0xd9, 7, AT(host_fcw));
	em_mem(e, false, 1, 0xae, 3, AT(host_mxcsr));
	fpu_state(e, 5);
}

/* The part behind JE is written by what() only if the registers are the guest's. */
static uint8_t *if_fpu(struct em *e)
{
	em_mem(e, false, 0, 0x80, 7, AT(fpu)); /* cmpb $0 */
	em_byte(e, 0);
	return em_jcc_open(e, EM_CC_E);
}

/*
 * Called, as it were, by a RET to the address in R10 that is not on top of the shadow stack, or
 * somebody waits; with what is to be added to RSP in R11. One entry goes, but for the stopper: who
 * has put one too many there is back in step then.
 */
static void write_lookup(struct st_translator *t, enum st_view_kind kind)
{
	struct em *e = &t->em;
	uint8_t *none, *out;

	t->lookup[kind] = em_here(e);
	pop_mem(e, AT(site));
	em_store(e, EM_R11, AT(temp));
	em_mem(e, true, 0, 0x3b, EM_RSP, AT(shadow_base)); /* cmp */
	none = em_jcc_open(e, EM_CC_E);
	add_rsp(e, ST_SHADOW_ENTRY);
	st_emit_lookup(e, kind);
	out = em_here(e);
	em_load(e, EM_R11, AT(temp));
	em_jmp(e, t->exit_missed);
	em_patch(e, none, em_here(e));
	st_emit_table(e, kind);
	em_jmp(e, out);
}

/* A RET to 0 has taken the stopper for an entry: it comes back. */
static void write_stopper(struct st_translator *t)
{
	struct em *e = &t->em;

	t->stopper = em_here(e);
	add_rsp(e, -ST_SHADOW_ENTRY);
	em_store(e, EM_R10, AT(rip));
	em_jmp(e, t->exit_lookup);
}

/* The shadow stack, with nothing but a stopper for all kinds. */
static void write_shadow(struct st_translator *t)
{
	struct em *e = &t->em;

	em_lea(e, true, EM_R11, EM_AT(EM_RSP, -ST_SHADOW_BYTES));
	em_store(e, EM_R11, AT(shadow_limit));
	em_mov_imm(e, EM_R11, 0);
	em_push(e, EM_R11);
	em_mov_imm(e, EM_R11, (uintptr_t)t->stopper);
	em_push(e, EM_R11);
	em_store(e, EM_RSP, AT(shadow_base));
	for (unsigned kind = 0; kind < ST_VIEWS; kind++) {
		em_store(e, EM_RSP, AT(shadow_bases[kind]));
		em_store(e, EM_RSP, AT(shadow_tops[kind]));
	}
}

/* (target in frame.jump_to) -> void; GS is the frame. */
static void write_enter(struct st_translator *t)
{
	struct em *e = &t->em;
	uint8_t *skip;

	t->enter = em_here(e);
	for (unsigned i = 0; i < sizeof(saved); i++) {
		em_push(e, saved[i]);
	}
	add_rsp(e, -8);
	em_store(e, EM_RSP, AT(host_rsp));
	write_shadow(t);
	skip = if_fpu(e);
	fpu_guest(e);
	em_patch(e, skip, em_here(e));
	push_mem(e, AT(flags));
	em_byte(e, 0x9d);
	move_gprs(e, 0x8b);
	em_mem(e, false, 0, 0xff, 4, AT(jump_to));
}

/* @site: it was called; else jumped to. */
static uint8_t *write_exit(struct st_translator *t, unsigned reason, bool site, uint8_t *tail)
{
	struct em *e = &t->em;
	uint8_t *here = em_here(e);

	if (site) {
		pop_mem(e, AT(site));
	}
	em_mem(e, false, 0, 0xc7, 0, AT(reason));
	em_32(e, reason);
	em_jmp(e, tail);
	return here;
}

/* @saved_tail: set to where all registers are in the frame, and the flags. */
static uint8_t *write_tail(struct st_translator *t, uint8_t **saved_tail)
{
	struct em *e = &t->em;
	uint8_t *here = em_here(e);
	uint8_t *skip;

	move_gprs(e, 0x89);
	em_load(e, EM_RSP, AT(host_rsp));
	em_byte(e, 0x9c);
	pop_mem(e, AT(flags));
	*saved_tail = em_here(e);
	em_load(e, EM_RSP, AT(host_rsp));
	skip = if_fpu(e);
	fpu_state(e, 4);
	fpu_host(e);
	em_patch(e, skip, em_here(e));
	add_rsp(e, 8);
	for (unsigned i = sizeof(saved); i-- > 0;) {
		em_pop(e, saved[i]);
	}
	em_byte(e, 0xc3);
	return here;
}

/*
 * All registers go to the frame; C is called, on the guest's x87 and vector registers; and it goes
 * on where that says, with the registers that are in the frame then. If it says 0, @reason.
 */
static void write_fast(struct st_translator *t, struct em_mem function, unsigned reason,
		       uint8_t *saved_tail)
{
	struct em *e = &t->em;
	uint8_t *fail, *skip;

	em_byte(e, 0x9c);
	pop_mem(e, AT(flags));
	move_gprs(e, 0x89);
	em_store(e, EM_RSP, AT(shadow)); /* which is aligned */
	add_rsp(e, -ROOM);
	em_load(e, EM_RDI, AT(self));
	em_reg(e, true, 0x89, EM_R10, EM_RSI);
	em_reg(e, false, 0x89, EM_R11, EM_RDX);
	em_mem(e, false, 0, 0xff, 2, function); /* call */
	em_load(e, EM_RSP, AT(shadow));
	em_reg(e, true, 0x85, EM_RAX, EM_RAX);
	fail = em_jcc_open(e, EM_CC_E);
	em_store(e, EM_RAX, AT(jump_to));
	/* Other blocks than the one it came from have their flags in frame.saved. */
	em_mem(e, true, 0, 0x3b, EM_RAX, AT(site)); /* cmp */
	skip = em_jcc_open(e, EM_CC_NE);
	push_mem(e, AT(flags));
	em_byte(e, 0x9d);
	em_patch(e, skip, em_here(e));
	move_gprs(e, 0x8b);
	em_mem(e, false, 0, 0xff, 4, AT(jump_to));
	em_patch(e, fail, em_here(e));
	em_mem(e, false, 0, 0xc7, 0, AT(reason));
	em_32(e, reason);
	em_jmp(e, saved_tail);
}

/*
 * Called with the linear address of a jump's target in R10, which the table does not have, and with
 * what is to be added to RSP in R11; the flags are in frame.saved.
 */
static void write_target(struct st_translator *t)
{
	struct em *e = &t->em;
	uint8_t *nowhere;

	t->exit_target = em_here(e);
	pop_mem(e, AT(site));
	t->exit_missed = em_here(e);
	em_store(e, EM_R10, AT(rip));
	st_emit_is_canonical(e, EM_R10);
	nowhere = em_jcc_open(e, EM_CC_NE);
	em_lea(e, true, EM_R9, (struct em_mem){.base = EM_R9, .index = EM_R11, .scale = 1});
	em_jmp(e, t->exit_lookup);
	em_patch(e, nowhere, em_here(e));
	em_jmp(e, t->fault);
}

/*
 * Called with the linear address in R10 and its length, with ST_SLOW_WRITE, in R11D. Returns with
 * the host's address in R10, or not at all: the interpreter is to execute the instruction.
 */
static void write_slow(struct st_translator *t)
{
	struct em *e = &t->em;
	static const uint8_t cmp_1[] = {0x48, 0x83, 0xf8, 1}; /* cmp $1, %rax */
	unsigned n = sizeof(changed);
	uint8_t *skip, *done, *fail[2];

	t->slow = em_here(e);
	em_byte(e, 0x9c);
	for (unsigned i = 0; i < n; i++) {
		em_push(e, changed[i]);
	}
	em_push(e, EM_R10);
	em_push(e, EM_R11);
	add_rsp(e, -8);
	em_load(e, EM_RDI, AT(self));
	em_reg(e, true, 0x89, EM_R10, EM_RSI);
	em_reg(e, false, 0x89, EM_R11, EM_RDX);
	em_mem(e, false, 0, 0xff, 2, AT(fast_slow)); /* call */
	em_reg(e, true, 0x85, EM_RAX, EM_RAX);
	done = em_jcc_open(e, EM_CC_NE);
	skip = if_fpu(e);
	fpu_state(e, 4);
	fpu_host(e);
	em_patch(e, skip, em_here(e));
	em_load(e, EM_RDI, AT(self));
	em_load(e, EM_RSI, EM_AT(EM_RSP, 16));
	em_load(e, EM_RDX, EM_AT(EM_RSP, 8));
	em_mem(e, false, 0, 0xff, 2, AT(slow)); /* call */
	em_reg(e, true, 0x89, EM_RAX, EM_R11);
	skip = if_fpu(e);
	fpu_state(e, 5);
	em_patch(e, skip, em_here(e));
	em_reg(e, true, 0x89, EM_R11, EM_RAX);
	em_reg(e, true, 0x85, EM_RAX, EM_RAX);
	fail[0] = em_jcc_open(e, EM_CC_E);
	em_patch(e, done, em_here(e));
	em_bytes(e, cmp_1, sizeof(cmp_1));
	_Static_assert(ST_SLOW_FAULT == 1, "the comparison");
	fail[1] = em_jcc_open(e, EM_CC_E);
	for (unsigned pass = 0; pass < 3; pass++) {
		if (pass >= 1) {
			em_patch(e, fail[pass - 1], em_here(e));
		}
		em_reg(e, true, 0x89, EM_RAX, EM_R10);
		add_rsp(e, 24);
		for (unsigned i = n; i-- > 0;) {
			em_pop(e, changed[i]);
		}
		em_byte(e, 0x9d);
		if (pass == 0) {
			em_byte(e, 0xc3);
		} else {
			em_jmp(e, pass == 1 ? t->exit_insn : t->page_fault);
		}
	}
}

/*
 * As above, but it always returns: behind the next instruction, a jump of 5 bytes, if C has no
 * address.
 */
static void write_attempt(struct st_translator *t)
{
	static const uint8_t cmp_1[] = {0x48, 0x83, 0xf8, ST_SLOW_FAULT}; /* cmp $1, %rax */
	struct em *e = &t->em;
	unsigned n = sizeof(changed);
	uint8_t *done;

	t->attempt = em_here(e);
	em_byte(e, 0x9c);
	for (unsigned i = 0; i < n; i++) {
		em_push(e, changed[i]);
	}
	add_rsp(e, -8);
	em_load(e, EM_RDI, AT(self));
	em_reg(e, true, 0x89, EM_R10, EM_RSI);
	em_reg(e, false, 0x89, EM_R11, EM_RDX);
	em_mem(e, false, 0, 0xff, 2, AT(fast_slow)); /* call */
	em_reg(e, true, 0x89, EM_RAX, EM_R10);
	em_bytes(e, cmp_1, sizeof(cmp_1));
	done = em_jcc_open(e, EM_CC_A);
	em_mem(e, true, 0, 0x83, 0, EM_AT(EM_RSP, 8 * ((int)n + 2))); /* addq $5 */
	em_byte(e, 5);
	em_patch(e, done, em_here(e));
	add_rsp(e, 8);
	for (unsigned i = n; i-- > 0;) {
		em_pop(e, changed[i]);
	}
	em_byte(e, 0x9d);
	em_byte(e, 0xc3);
}

/* Called with what the string instruction is in R11D; returns behind it, or not at all. */
static void write_string(struct st_translator *t)
{
	struct em *e = &t->em;
	uint8_t *skip, *done, *fail;

	t->string = em_here(e);
	em_byte(e, 0x9c);
	move_gprs(e, 0x89);
	em_load(e, EM_RDI, AT(self));
	em_reg(e, false, 0x89, EM_R11, 12);
	em_reg(e, false, 0x89, EM_R11, EM_RSI);
	em_mem(e, false, 0, 0xff, 2, AT(fast_string)); /* call */
	em_reg(e, true, 0x85, EM_RAX, EM_RAX);
	done = em_jcc_open(e, EM_CC_NE);
	em_load(e, EM_RDI, AT(self));
	em_reg(e, false, 0x89, 12, EM_RSI);
	em_load(e, EM_RAX, EM_AT(EM_RSP, 8));
	em_store(e, EM_RAX, AT(site));
	skip = if_fpu(e);
	fpu_state(e, 4);
	fpu_host(e);
	em_patch(e, skip, em_here(e));
	em_mem(e, false, 0, 0xff, 2, AT(string)); /* call */
	em_reg(e, true, 0x89, EM_RAX, EM_R11);
	skip = if_fpu(e);
	fpu_state(e, 5);
	em_patch(e, skip, em_here(e));
	em_reg(e, true, 0x85, EM_R11, EM_R11);
	fail = em_jcc_open(e, EM_CC_E);
	em_patch(e, done, em_here(e));
	for (unsigned pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			em_patch(e, fail, em_here(e));
		}
		move_gprs(e, 0x8b);
		em_byte(e, 0x9d);
		if (pass == 0) {
			em_byte(e, 0xc3);
		} else {
			em_jmp(e, t->exit_insn);
		}
	}
}

/* Called at the beginning of a block, when the FPU's registers are not the guest's. */
static void write_load_fpu(struct st_translator *t)
{
	struct em *e = &t->em;

	t->load_fpu = em_here(e);
	em_byte(e, 0x9c);
	em_push(e, EM_RAX);
	em_push(e, EM_RDX);
	fpu_guest(e);
	em_mem(e, false, 0, 0xc6, 0, AT(fpu));
	em_byte(e, 1);
	em_pop(e, EM_RDX);
	em_pop(e, EM_RAX);
	em_byte(e, 0x9d);
	em_byte(e, 0xc3);
}

void st_common(struct st_translator *t)
{
	uint8_t *tail, *saved_tail;

	tail = write_tail(t, &saved_tail);
	t->exit_link = write_exit(t, ST_REASON_LINK, true, tail);
	t->exit_insn = write_exit(t, ST_REASON_INSN, true, tail);
	t->exit_kick = write_exit(t, ST_REASON_KICK, false, tail);
	/* A fault of the host has filled in frame.site. */
	t->fault = write_exit(t, ST_REASON_INSN, false, tail);
	t->exit_lookup = em_here(&t->em);
	st_emit_restore(&t->em);
	write_fast(t, AT(fast_jump), ST_REASON_LOOKUP, saved_tail);
	/* With the number of a block in R11D, and its RIP in frame.rip. */
	t->exit_moved = em_here(&t->em);
	write_fast(t, AT(fast_moved), ST_REASON_MOVED, saved_tail);
	write_target(t);
	write_stopper(t);
	for (unsigned kind = 0; kind < ST_VIEWS; kind++) {
		write_lookup(t, kind);
	}
	write_enter(t);
	/* Called with RIP behind the instruction in R10, and what it is in R11D. */
	t->system = em_here(&t->em);
	pop_mem(&t->em, AT(site));
	write_fast(t, AT(fast_system), ST_REASON_INSN, saved_tail);
	/* Called, as it were, from where the access is. */
	t->page_fault = em_here(&t->em);
	pop_mem(&t->em, AT(site));
	write_fast(t, AT(fast_fault), ST_REASON_INSN, saved_tail);
	write_slow(t);
	write_attempt(t);
	write_string(t);
	write_load_fpu(t);
	t->start = (uint32_t)(em_here(&t->em) - t->rx);
}
