/*
 * Any instruction on any registers, with ops that answer, refuse or fail as the input has it. What
 * the emulator promises has to hold: an instruction that does not end changes nothing, writes once,
 * and changes only those registers and flags that the decoder named.
 */
#include <string.h>

#include "lib/base/check.h"
#include "lib/insn/emulate.h"
#include "tests/fuzz/input.h"

#define ANSWERS_MAX 64
#define BUFFER	    4096
#define RSP	    4

struct guest {
	struct insn_env env;
	struct insn_cpu cpu;
	struct input *in;
	bool far;  /* the instruction changes mode, segments, privilege and flags */
	bool task; /* and all registers: what fails then, fails in the new task */
	uint8_t answers[ANSWERS_MAX]; /* of the ops, so that they can be given again */
	unsigned nanswers, asked;
	bool native;
	unsigned writes, effects; /* memory, and everything else that was changed */
};

static struct guest g;

/* The same question in the same place has the same answer. */
static uint8_t answer(void)
{
	if (g.asked == g.nanswers && g.nanswers < ANSWERS_MAX) {
		g.answers[g.nanswers++] = (uint8_t)input_take(g.in, 1);
	}
	return g.asked < g.nanswers ? g.answers[g.asked++] : 0;
}

static enum insn_outcome ask(uint8_t how)
{
	switch (how & 0xf) {
	case 1:
		return INSN_EXIT;
	case 2:
		return insn_raise_page_fault(&g.env, how, 2);
	case 3:
		return insn_raise(&g.env, INSN_EXC_GP, 0);
	default:
		return INSN_DONE;
	}
}

static enum insn_outcome read_op(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	uint8_t how = answer();

	(void)env;
	check(len > 0 && len <= 256);
	check((access & ~(INSN_ACCESS_WRITE | INSN_ACCESS_SYSTEM)) == 0);
	check(insn_mode(&g.cpu) == INSN_64 || linear <= UINT32_MAX ||
	      (access & INSN_ACCESS_SYSTEM) != 0);
	memset(data, how, len);
	return ask(how);
}

static enum insn_outcome write_op(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	enum insn_outcome r = ask(answer());
	volatile uint8_t last = ((const uint8_t *)data)[len - 1];

	(void)env;
	(void)last;
	check(len > 0 && len <= 256 && (access & INSN_ACCESS_WRITE) != 0);
	if ((access & INSN_ACCESS_SYSTEM) != 0) {
		return r; /* an accessed or busy bit, which may be set too early */
	}
	check(insn_mode(&g.cpu) == INSN_64 || linear <= UINT32_MAX || g.far);
	g.writes += r == INSN_DONE;
	return r;
}

static enum insn_outcome probe_op(struct insn_env *env, uint64_t linear, unsigned len)
{
	(void)env;
	(void)linear;
	check(len > 0 && len <= 256);
	return ask(answer());
}

static enum insn_outcome cmpxchg_op(struct insn_env *env, uint64_t linear, const void *old,
				    const void *new, unsigned len)
{
	uint8_t how = answer();
	enum insn_outcome r = ask(how);

	(void)env;
	(void)linear;
	check(len <= 16 && memcmp(old, old, len) == 0 && memcmp(new, new, len) == 0);
	if (r == INSN_DONE && (how & 0x10) != 0) {
		return INSN_AGAIN;
	}
	g.writes += r == INSN_DONE;
	return r;
}

static enum insn_outcome port_in_op(struct insn_env *env, uint16_t port, unsigned bytes, void *data,
				    unsigned *count)
{
	uint8_t how = answer();
	enum insn_outcome r = ask(how);

	(void)env;
	(void)port;
	check(*count > 0 && bytes * *count <= 256);
	*count = MAX(1, *count >> (how >> 6));
	memset(data, how, (size_t)bytes * *count);
	g.effects += r == INSN_DONE;
	return r;
}

static enum insn_outcome port_out_op(struct insn_env *env, uint16_t port, unsigned bytes,
				     const void *data, unsigned *count)
{
	uint8_t how = answer();
	enum insn_outcome r = ask(how);

	(void)env;
	(void)port;
	check(*count > 0 && bytes * *count <= 256);
	check(memcmp(data, data, (size_t)bytes * *count) == 0);
	*count = MAX(1, *count >> (how >> 6));
	g.effects += r == INSN_DONE;
	return r;
}

static enum insn_outcome read_xmm_op(struct insn_env *env, unsigned reg, void *data)
{
	(void)env;
	check(reg < 16);
	memset(data, (int)reg, 16);
	return INSN_DONE;
}

static enum insn_outcome write_xmm_op(struct insn_env *env, unsigned reg, const void *data,
				      bool clear)
{
	(void)env;
	(void)clear;
	check(reg < 16 && memcmp(data, data, 16) == 0);
	g.effects++;
	return INSN_DONE;
}

static enum insn_outcome read_number(struct insn_env *env, unsigned number, uint64_t *value)
{
	uint8_t how = answer();

	(void)env;
	*value = UINT64_C(0x0101010101010101) * how + number;
	return ask(how);
}

static enum insn_outcome write_number(struct insn_env *env, unsigned number, uint64_t value)
{
	enum insn_outcome r = ask(answer());

	(void)env;
	(void)number;
	(void)value;
	g.effects += r == INSN_DONE;
	return r;
}

static enum insn_outcome write_cr_op(struct insn_env *env, unsigned cr, uint64_t value)
{
	g.task |= g.far && cr == 0;
	return write_number(env, cr, value);
}

static enum insn_outcome x87_image_op(struct insn_env *env, uint8_t **image)
{
	static uint8_t registers[160];

	(void)env;
	*image = registers;
	return ask(answer());
}

static bool is_state(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case INSN_FXSAVE:
	case INSN_FXRSTOR:
	case INSN_XSAVE:
	case INSN_XSAVEC:
	case INSN_XRSTOR:
		return true;
	default:
		return false;
	}
}

/* What the host's CPU is given reaches nothing but vector registers, flags and the one operand. */
static enum insn_outcome native_op(struct insn_env *env, struct insn_native *n)
{
	struct insn code;

	check(n->len > 0 && n->len <= INSN_MAX);
	check(insn_decode(&code, INSN_64, n->code, n->len) == INSN_OK && code.len == n->len);
	check(code.klass >= INSN_CLASS_X87 || is_state(&code));
	check(((code.gpr_read | code.gpr_write) >> RSP & 1) == 0);
	check(code.nmem == 0 || (n->base != INSN_NO_REG && code.mem[0].base == n->base &&
				 code.mem[0].index == INSN_NO_REG && code.mem[0].disp == 0 &&
				 code.mem[0].bytes <= n->memory_len && n->memory == env->buffer &&
				 n->memory_len <= env->buffer_len));
	if (code.nmem > 0) {
		memset(n->memory, answer(), n->memory_len);
	}
	memset(n->gpr, answer(), sizeof(n->gpr));
	return ask(answer());
}

static enum insn_outcome cpuid_op(struct insn_env *env, uint32_t regs[4])
{
	(void)env;
	regs[3] = regs[0] ^ regs[2];
	return ask(answer());
}

static enum insn_outcome read_tsc_op(struct insn_env *env, uint64_t *tsc, uint32_t *aux)
{
	*aux = 1;
	return read_number(env, 0, tsc);
}

static enum insn_outcome invlpg_op(struct insn_env *env, uint64_t linear)
{
	return write_number(env, 0, linear);
}

static enum insn_outcome write_back_op(struct insn_env *env)
{
	return write_number(env, 0, 0);
}

static enum insn_outcome invpcid_op(struct insn_env *env, unsigned type, uint64_t pcid,
				    uint64_t linear)
{
	check(type <= 3 && pcid <= 0xfff);
	return write_number(env, type, linear);
}

static enum insn_outcome random_op(struct insn_env *env, bool seed, uint64_t *value, bool *ok)
{
	*ok = seed;
	return read_number(env, 0, value);
}

static const struct insn_ops ops = {
	.read = read_op,
	.write = write_op,
	.probe = probe_op,
	.cmpxchg = cmpxchg_op,
	.port_in = port_in_op,
	.port_out = port_out_op,
	.read_xmm = read_xmm_op,
	.write_xmm = write_xmm_op,
	.read_cr = read_number,
	.write_cr = write_cr_op,
	.read_dr = read_number,
	.write_dr = write_number,
	.read_msr = read_number,
	.write_msr = write_number,
	.cpuid = cpuid_op,
	.read_tsc = read_tsc_op,
	.read_xcr = read_number,
	.write_xcr = write_number,
	.invlpg = invlpg_op,
	.write_back = write_back_op,
	.invpcid = invpcid_op,
	.random = random_op,
	.x87_image = x87_image_op,
};

static void take_segment(struct input *in, struct insn_segment *s)
{
	uint64_t v = input_take(in, 4);

	*s = (struct insn_segment){
		.selector = (uint16_t)v,
		.attr = (v & 1) != 0 ? (uint16_t)(v >> 8) : 0xc93,
		.limit = (v & 2) != 0 ? (uint32_t)(v >> 4) : UINT32_MAX,
		.base = (v & 4) != 0 ? v * 0x10001 : 0,
	};
}

static void take_cpu(struct input *in, struct insn_cpu *cpu)
{
	uint64_t how = input_take(in, 2);

	memset(cpu, 0, sizeof(*cpu));
	cpu->cpl = how & 3;
	cpu->cr0 = (how & 4) != 0 ? 0 : 0x80000011 | (how & 8) | (how << 14 & BIT(18));
	cpu->cr4 = input_take(in, 2);
	cpu->efer = (how & 32) != 0 ? BIT(8) | BIT(10) : 0;
	cpu->rflags = input_take(in, 3) | BIT(1);
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		take_segment(in, &cpu->seg[i]);
	}
	if ((how & 64) != 0) {
		cpu->seg[INSN_CS].attr = 0xa9b;
	}
	take_segment(in, &cpu->tr);
	cpu->rip = input_take(in, 4);
	for (unsigned i = 0; i < 16; i++) {
		cpu->gpr[i] = input_take(in, 1 + (how >> 8 & 7));
	}
}

static bool repeats(const struct insn *insn)
{
	return (insn->attributes & INSN_ATTR_REP) != 0;
}

/* Does it write more than once? Long blocks on the stack, and those that wrap, go in pieces. */
static bool in_pieces(const struct insn *insn)
{
	return repeats(insn) || g.far || insn->mnemonic == INSN_ENTER || g.native;
}

/* It came to its end: only what the decoder names has changed. */
static void check_done(const struct insn *insn, const struct insn_cpu *before)
{
	for (unsigned i = 0; i < 16; i++) {
		check(g.cpu.gpr[i] == before->gpr[i] || (insn->gpr_write >> i & 1) != 0 ||
		      (g.far && i == 4));
	}
	check(((g.cpu.rflags ^ before->rflags) & ~(insn->flags_written | BIT(16))) == 0 ||
	      insn->mnemonic == INSN_CLI || insn->mnemonic == INSN_STI ||
	      insn->mnemonic == INSN_POPF || g.far);
	check(g.writes <= 1 || in_pieces(insn));
}

static void check_outcome(const struct insn *insn, enum insn_outcome r,
			  const struct insn_cpu *before)
{
	if (g.task && (r == INSN_DONE || r == INSN_FAULT)) {
		return;
	}
	switch (r) {
	case INSN_DONE:
	case INSN_HALT:
		check_done(insn, before);
		return;
	case INSN_AGAIN:
		check(g.cpu.rip == before->rip);
		check(repeats(insn) || memcmp(before, &g.cpu, sizeof(g.cpu)) == 0);
		return;
	default:
		check(g.cpu.rip == before->rip);
		if (!repeats(insn)) {
			check(memcmp(before, &g.cpu, sizeof(g.cpu)) == 0);
			check((g.writes == 0 || in_pieces(insn)) && (g.effects == 0 || g.task));
		}
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t bytes[INSN_MAX] = {0};
	static _Alignas(64) uint8_t buffer[BUFFER];
	struct insn_ops with_native = ops;
	struct insn_cpu before;
	struct insn insn;

	with_native.native = native_op;
	memset(&g, 0, sizeof(g));
	g.native = size % 2 != 0;
	g.env = (struct insn_env){
		.cpu = &g.cpu, .ops = g.native ? &with_native : &ops, .other = insn_do_other};
	g.env.buffer = buffer;
	g.env.buffer_len = sizeof(buffer);
	g.in = &in;
	input_copy(&in, bytes, sizeof(bytes));
	take_cpu(&in, &g.cpu);
	before = g.cpu;
	if (insn_decode(&insn, insn_mode(&g.cpu), bytes, sizeof(bytes)) != INSN_OK) {
		return 0;
	}
	g.far = insn.klass == INSN_CLASS_FAR;
	check_outcome(&insn, insn_emulate(&g.env, &insn), &before);
	return 0;
}
