/*
 * The emulator against the host CPU: random instructions on random registers and memory, then all
 * registers, defined flags, memory and faults are compared.
 */
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "lib/insn/test_draw.h"
#include "lib/insn/test_native.h"
#include "lib/insn/test_open.h"
#include "tests/unit.h"

#ifndef RUNS
#define RUNS 250000
#endif

#define FLAGS_ARITH UINT64_C(0x8d5)
#define FLAGS_SEEN  (FLAGS_ARITH | BIT(10))

struct guest {
	struct insn_env env;
	struct insn_cpu cpu;
	_Alignas(64) uint8_t area[NATIVE_AREA];
	uint8_t memory[NATIVE_MEMORY_BYTES];
};

static struct guest guest;
static enum insn_mode mode;
static unsigned vendor; /* INSN_AMD or 0, as the host CPU is */
static bool split;	/* a LOCKed access went over the end of a cache line */

/* Return: an exception if not all of it is memory, with the first address that is not. */
static enum insn_outcome place(struct insn_env *env, uint64_t linear, unsigned len, bool write,
			       uint8_t **p)
{
	for (unsigned i = 0; i < len; i++) {
		if (linear + i < NATIVE_MEMORY ||
		    linear + i >= NATIVE_MEMORY + NATIVE_MEMORY_BYTES) {
			return insn_raise_page_fault(env, linear + i, write ? 6 : 4);
		}
	}
	*p = guest.memory + (linear - NATIVE_MEMORY);
	return INSN_DONE;
}

static enum insn_outcome read_memory(struct insn_env *env, uint64_t linear, void *data,
				     unsigned len, unsigned access)
{
	uint8_t *p = NULL;
	enum insn_outcome r = place(env, linear, len, (access & INSN_ACCESS_WRITE) != 0, &p);

	if (r == INSN_DONE) {
		memcpy(data, p, len);
	}
	return r;
}

static enum insn_outcome write_memory(struct insn_env *env, uint64_t linear, const void *data,
				      unsigned len, unsigned access)
{
	uint8_t *p = NULL;
	enum insn_outcome r = place(env, linear, len, true, &p);

	(void)access;
	if (r == INSN_DONE) {
		memcpy(p, data, len);
	}
	return r;
}

static enum insn_outcome probe_memory(struct insn_env *env, uint64_t linear, unsigned len)
{
	uint8_t *p = NULL;

	return place(env, linear, len, true, &p);
}

static enum insn_outcome cmpxchg_memory(struct insn_env *env, uint64_t linear, const void *old,
					const void *new, unsigned len)
{
	uint8_t *p = NULL;
	enum insn_outcome r = place(env, linear, len, true, &p);

	if (r != INSN_DONE) {
		return r;
	}
	split = linear % 64 + len > 64;
	if (memcmp(p, old, len) != 0) {
		return INSN_AGAIN;
	}
	memcpy(p, new, len);
	return INSN_DONE;
}

static enum insn_outcome read_xcr(struct insn_env *env, uint32_t index, uint64_t *value)
{
	(void)env;
	(void)index;
	*value = native_features();
	return INSN_DONE;
}

static enum insn_outcome cpuid(struct insn_env *env, uint32_t regs[4])
{
	(void)env;
	__cpuid_count(regs[0], regs[2], regs[0], regs[1], regs[2], regs[3]);
	return INSN_DONE;
}

static uint8_t buffer[4096] __attribute__((aligned(64)));

/* #MF and #XM are one signal: only x87 and MMX know the former. */
static enum insn_outcome raise_signal(struct insn_env *env, int number, const uint8_t *area)
{
	uint16_t fsw;

	memcpy(&fsw, area + NATIVE_FSW, sizeof(fsw));
	if (number == SIGFPE) {
		return insn_raise(env, (fsw & 0x80) != 0 ? INSN_EXC_MF : INSN_EXC_XM, 0);
	}
	return insn_raise(env, number == SIGILL ? INSN_EXC_UD : INSN_EXC_GP, 0);
}

/* What the surroundings of an interpreter do: the host's CPU, the guest's registers. */
static enum insn_outcome run_native(struct insn_env *env, struct insn_native *n)
{
	struct native_registers regs = {.rflags = n->rflags | BIT(1)};
	struct native_outcome outcome;

	memcpy(regs.gpr, n->gpr, sizeof(regs.gpr));
	assert_true(n->base != 4);
	memcpy(regs.area, guest.area, sizeof(regs.area));
	if (n->base != INSN_NO_REG) {
		regs.gpr[n->base] = NATIVE_MEMORY;
		memcpy(native_memory(), n->memory, n->memory_len);
	}
	outcome = native_run(INSN_64, n->code, n->len, &regs);
	if (outcome.signal != 0) {
		memcpy(guest.area, regs.area, sizeof(regs.area));
		return raise_signal(env, outcome.signal, regs.area);
	}
	if (n->base != INSN_NO_REG) {
		memcpy(n->memory, native_memory(), n->memory_len);
	}
	memcpy(guest.area, regs.area, sizeof(regs.area));
	memcpy(n->gpr, regs.gpr, sizeof(regs.gpr));
	n->rflags = regs.rflags & FLAGS_ARITH;
	return INSN_DONE;
}

static const struct insn_ops ops = {
	.native = run_native,
	.read = read_memory,
	.write = write_memory,
	.probe = probe_memory,
	.cmpxchg = cmpxchg_memory,
	.read_xcr = read_xcr,
	.cpuid = cpuid,
};

static uint64_t interesting(void)
{
	static const uint64_t values[] = {0,	      1,
					  2,	      0x7f,
					  0x80,	      0xff,
					  0x7fff,     0x8000,
					  0xffff,     0x7fffffff,
					  0x80000000, 0xffffffff,
					  INT64_MAX,  (uint64_t)INT64_MAX + 1,
					  UINT64_MAX};

	switch (draw_below(4)) {
	case 0:
		return values[draw_below(ARRAY_SIZE(values))];
	case 1:
		return draw_below(100);
	default:
		return draw_random();
	}
}

/* Most of the time within memory; sometimes at or past its ends. */
static uint64_t address(void)
{
	switch (draw_below(12)) {
	case 0:
		return NATIVE_MEMORY + NATIVE_MEMORY_BYTES - draw_below(18);
	case 1:
		return NATIVE_MEMORY - draw_below(18);
	case 2:
		return NATIVE_MEMORY + 4096 - draw_below(18);
	case 3:
		return draw_below(4) == 0 ? draw_random() : NATIVE_MEMORY + 1024;
	default:
		return NATIVE_MEMORY + 1024 + (draw_below(6144) & (draw_below(2) ? ~15U : ~0U));
	}
}

static void put(unsigned at, uint64_t value, unsigned bytes)
{
	memcpy(guest.area + at, &value, bytes);
}

/* Numbers of four bytes and of eight: ordinary ones, infinities, NaNs, denormals, anything. */
static uint64_t number(void)
{
	static const uint64_t values[] = {
		0x3ff0000000000000, 0x4008000000000000, 0xbfe0000000000000, 0x7ff0000000000000,
		0x7ff8000000000000, 0x7ff0000000000001, 0x0000000000000001, 0x8000000000000000,
		0x3f8000003f800000, 0xc0400000bf000000, 0x7f8000007fc00000, 0x0000000180000000,
		0x7f80000100800000, 0x4f0000005f000000, 0x43e0000000000000, 0x0,
	};

	return draw_below(2) ? values[draw_below(ARRAY_SIZE(values))] : draw_random();
}

/* Small indices for a gather, for the most part. */
static void aim_gather(const struct insn *insn, const struct insn_mem *m)
{
	unsigned bytes = (insn->opcode & 1) == 0 ? 4 : 8;

	for (unsigned i = 0; i < 16; i += bytes) {
		put(NATIVE_XMM + 16 * m->index + i, draw_below(20) == 0 ? number() : draw_below(64),
		    bytes);
		put(NATIVE_YMM_HIGH + 16 * m->index + i, draw_below(64), bytes);
	}
}

/* Registers, or the displacement, such that the operand lies at @at, about. */
static void aim(const struct insn *insn, const struct insn_mem *m, uint8_t *bytes, uint64_t at)
{
	uint64_t *gpr = guest.cpu.gpr;

	at -= guest.cpu.seg[m->seg].base;
	if (m->kind == INSN_MEM_VSIB) {
		aim_gather(insn, m);
		if (m->base != INSN_NO_REG) {
			gpr[m->base] = at - (uint64_t)m->disp;
		}
		return;
	}
	if (m->kind == INSN_MEM_MOFFS || m->base == INSN_RIP || m->base == INSN_NO_REG) {
		uint64_t disp = at;

		if (m->index != INSN_NO_REG) {
			gpr[m->index] = draw_below(64);
			disp -= gpr[m->index] * m->scale;
		}
		disp -= m->base == INSN_RIP ? native_code(mode) + insn->len : 0;
		memcpy(bytes + insn->disp_at, &disp, insn->disp_len);
		return;
	}
	at -= (uint64_t)m->disp;
	if (m->kind == INSN_MEM_XLAT) {
		at -= gpr[0] & 0xff;
	} else if (m->index == m->base) {
		at /= 1U + m->scale;
	} else if (m->index != INSN_NO_REG) {
		gpr[m->index] = draw_below(2) ? draw_below(64) : draw_random();
		at -= gpr[m->index] * m->scale;
	}
	gpr[m->base] = at;
	/* With shorter addresses the rest does not matter. */
	if (insn->adr_bytes != 8 && m->kind != INSN_MEM_XLAT) {
		uint64_t rest = UINT64_MAX << (8 * insn->adr_bytes);

		gpr[m->base] = (at & ~rest) | (draw_random() & rest);
	}
}

/* What would otherwise fault, or compare unequal, nearly always. */
static void set_special(const struct insn *insn)
{
	uint64_t *gpr = guest.cpu.gpr;

	switch (insn->mnemonic) {
	case INSN_DIV:
	case INSN_IDIV:
		if (draw_below(4) != 0) {
			gpr[2] = draw_below(3) == 0 ? 0 - (uint64_t)draw_below(2) : 0;
			gpr[0] = insn->operand[0].bytes == 1 ? draw_below(0x400)
							     : draw_random() >> draw_below(40);
		}
		break;
	case INSN_BT:
	case INSN_BTS:
	case INSN_BTR:
	case INSN_BTC:
		if (insn->nmem > 0 && insn->operand[1].kind == INSN_OP_REG &&
		    insn->operand[1].reg != insn->mem[0].base &&
		    insn->operand[1].reg != insn->mem[0].index) {
			gpr[insn->operand[1].reg] = (uint64_t)draw_below(8192) - 4096;
		}
		break;
	default:
		break;
	}
	if ((insn->attributes & INSN_ATTR_REP) != 0 || draw_below(3) == 0) {
		gpr[1] = (gpr[1] & ~UINT64_C(0xffffffff)) | draw_below(20);
		gpr[1] &= insn->adr_bytes == 4 ? UINT64_MAX : 0xffffffff;
	}
}

/* Makes CMPXCHG, CMPS and SCAS find what they look for, half of the time. */
static void match_memory(const struct insn *insn)
{
	uint64_t rax = guest.cpu.gpr[0], rdx = guest.cpu.gpr[2];

	if (draw_below(2) != 0) {
		return;
	}
	if (insn->klass == INSN_CLASS_STRING) {
		memset(guest.memory, (int)draw_below(2) ? (int)(rax & 0xff) : 0,
		       sizeof(guest.memory));
		guest.cpu.gpr[0] = (rax & 0xff) * UINT64_C(0x0101010101010101);
		return;
	}
	for (unsigned i = 0; i + 16 <= sizeof(guest.memory); i += 16) {
		unsigned half = insn->mnemonic == INSN_CMPXCHG8B ? 4 : 8;

		memcpy(guest.memory + i, &rax, 8);
		memcpy(guest.memory + i + half, &rdx, half);
	}
}

static void prepare_area(void)
{
	static const uint16_t exponents[] = {0x3fff, 0x4000, 0xbfff, 0x7fff, 0xffff, 0, 0x403e};
	bool unmasked = draw_below(6) == 0;

	memset(guest.area, 0, sizeof(guest.area));
	put(NATIVE_FCW, (unmasked ? draw_below(0x40) : 0x3f) | 0x40 | draw_below(16) << 8, 2);
	put(NATIVE_FSW, draw_below(8) << 11 | (draw_below(256) & 0x47) << 8, 2);
	put(NATIVE_FTW, draw_below(3) != 0 ? 0xff : draw_below(256), 1);
	put(NATIVE_MXCSR,
	    (unmasked ? draw_below(0x40) << 7 : 0x1f80) | draw_below(0x80) | draw_below(8) << 13,
	    4);
	for (unsigned i = 0; i < 8; i++) {
		uint16_t exponent = exponents[draw_below(ARRAY_SIZE(exponents))];

		put(NATIVE_ST + 16 * i, number() | BIT(63), 8);
		put(NATIVE_ST + 16 * i + 8, draw_below(2) ? exponent : 0x3fe0 + draw_below(64), 2);
	}
	for (unsigned at = NATIVE_XMM; at < NATIVE_XMM + 256; at += 8) {
		put(at, number(), 8);
	}
	for (unsigned at = NATIVE_YMM_HIGH; at < NATIVE_AREA; at += 8) {
		put(at, number(), 8);
	}
	put(NATIVE_HEADER, native_features(), 8);
}

static bool is_branch(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_JUMP || insn->klass == INSN_CLASS_CALL ||
	       insn->klass == INSN_CLASS_RET;
}

/* Where a branch leads, unless it is refused. */
static uint64_t target(const struct insn *insn)
{
	return native_code(mode) + insn->len + NATIVE_BRANCH;
}

/* The operand of a branch is there, wherever it is looked for; registers have it, too. */
static void aim_branch(const struct insn *insn)
{
	uint64_t to = target(insn);

	for (unsigned i = 0; i < sizeof(guest.memory); i += insn->op_bytes) {
		memcpy(guest.memory + i, &to, insn->op_bytes);
	}
	if (insn->operand[0].kind == INSN_OP_REG) {
		guest.cpu.gpr[insn->operand[0].reg] = to;
	}
	if (insn->klass == INSN_CLASS_RET && draw_below(6) != 0) {
		guest.cpu.gpr[4] &= ~UINT64_C(7);
	}
}

/* Images of registers, at each KiB: other ones than those that are loaded. */
static void fill_images(void)
{
	uint8_t own[NATIVE_AREA];

	memcpy(own, guest.area, sizeof(own));
	for (unsigned i = 0; i < sizeof(guest.memory); i += 1024) {
		prepare_area();
		put(NATIVE_HEADER, draw_below(4) == 0 ? draw_below(16) : native_features(), 8);
		memcpy(guest.memory + i, guest.area, sizeof(guest.area));
	}
	memcpy(guest.area, own, sizeof(own));
	/* The host's XCR0 may have more than that of the guest. */
	guest.cpu.gpr[0] = draw_below(8);
	guest.cpu.gpr[2] = 0;
}

static void set_segments(void)
{
	struct insn_segment *seg = guest.cpu.seg;

	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		seg[i] = (struct insn_segment){.attr = 0xcf3, .limit = UINT32_MAX};
	}
	seg[INSN_CS].attr = mode == INSN_64 ? 0xafb : 0xcfb;
	if (mode == INSN_16) {
		seg[INSN_CS] = native_segment[0];
		seg[INSN_SS] = native_segment[1 + draw_below(NATIVE_STACKS)];
		seg[INSN_ES] = native_segment[1 + draw_below(NATIVE_SEGMENTS - 1)];
		seg[INSN_DS] = native_segment[1 + draw_below(NATIVE_SEGMENTS - 1)];
		seg[INSN_GS] = native_segment[1 + draw_below(NATIVE_SEGMENTS - 1)];
	}
}

/* Where a stack may be; of SP, the rest does not matter. */
static uint64_t stack(void)
{
	const struct insn_segment *ss = &guest.cpu.seg[INSN_SS];
	uint64_t at = address() - ss->base;

	return (ss->attr & INSN_SEG_DB) != 0 ? at : (at & 0xffff) | (draw_random() << 16);
}

static void prepare(const struct insn *insn, uint8_t *bytes)
{
	memset(guest.cpu.gpr, 0, sizeof(guest.cpu.gpr));
	set_segments();
	for (unsigned i = 0; i < (mode == INSN_64 ? 16 : 8); i++) {
		guest.cpu.gpr[i] = interesting();
	}
	prepare_area();
	for (unsigned i = 0; i < sizeof(guest.memory); i += 8) {
		uint64_t v = draw_random();

		memcpy(guest.memory + i, &v, 8);
	}
	guest.cpu.gpr[4] = stack();
	if (insn->mnemonic == INSN_LEAVE || insn->mnemonic == INSN_ENTER) {
		guest.cpu.gpr[5] = stack();
	}
	for (unsigned i = 0; i < insn->nmem; i++) {
		uint64_t at = address();

		at &= is_branch(insn)	    ? ~UINT64_C(7)
		      : open_is_image(insn) ? ~UINT64_C(1023)
					    : UINT64_MAX;
		aim(insn, &insn->mem[i], bytes, at);
	}
	if (is_branch(insn)) {
		aim_branch(insn);
	} else if (open_is_image(insn)) {
		fill_images();
	}
	set_special(insn);
	match_memory(insn);
	for (unsigned i = 0; i < 8 && mode != INSN_64; i++) {
		guest.cpu.gpr[i] &= UINT32_MAX;
	}
	guest.cpu.rflags = BIT(1) | BIT(9) | (draw_random() & FLAGS_SEEN);
	if (draw_below(4) != 0) {
		guest.cpu.rflags &= ~BIT(10);
	}
}

/* The C library's thread; and in 32- and 16-bit code, other memory. */
static bool is_foreign(enum insn_seg seg)
{
	return seg == INSN_FS || (mode == INSN_16 && seg == INSN_CS);
}

/* What can run natively without harm, and is the same there. */
static bool suitable(const struct insn *insn)
{
	switch (insn->klass) {
	case INSN_CLASS_INTEGER:
	case INSN_CLASS_NOP:
	case INSN_CLASS_STRING:
	case INSN_CLASS_SSE:
	case INSN_CLASS_X87:
	case INSN_CLASS_MMX:
	case INSN_CLASS_AVX:
		break;
	case INSN_CLASS_JUMP:
	case INSN_CLASS_CALL:
	case INSN_CLASS_RET:
		/* No code is where 16 bits lead. */
		return (mode == INSN_16 || insn->op_bytes == (mode == INSN_64 ? 8 : 4)) &&
		       !(insn->nmem > 0 && is_foreign(insn->mem[0].seg));
	case INSN_CLASS_JCC:
		/* With F2, LOOPE of an AMD CPU is not taken where it should be. */
		if ((insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0) {
			return false;
		}
		return insn->operand[0].kind == INSN_OP_REL && insn->mnemonic != INSN_XBEGIN;
	default:
		if (!open_is_image(insn)) {
			return false;
		}
		break;
	}
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_REG &&
		    (insn->operand[i].klass == INSN_SEG || insn->operand[i].klass == INSN_MASK)) {
			return false;
		}
	}
	for (unsigned i = 0; i < insn->nmem; i++) {
		if (is_foreign(insn->mem[i].seg)) {
			return false;
		}
	}
	switch (insn->mnemonic) {
	case INSN_POPF:	 /* would set TF, AC */
	case INSN_PUSHF: /* has ID and what else the kernel left there */
	case INSN_CLFLUSH:
	case INSN_CLFLUSHOPT:
	case INSN_CLWB:
	case INSN_RDFSBASE: /* the C library's thread again */
	case INSN_RDGSBASE:
	case INSN_WRFSBASE:
	case INSN_WRGSBASE:
	case INSN_FNSTENV: /* with addresses of instruction and operand */
	case INSN_FNSAVE:
		return false;
	default:
		return true;
	}
}

static struct counts {
	unsigned run, unsupported, faults, taken, missing;
	unsigned failures;
	unsigned of[INSN_NMNEMONICS];
} counts;

static void failed(const struct insn *insn, const uint8_t *bytes, const char *what, uint64_t ours,
		   uint64_t native)
{
	if (counts.failures++ < 30) {
		print_error("%-10s", insn_mnemonic_name(insn->mnemonic));
		for (unsigned i = 0; i < insn->len; i++) {
			print_error(" %02x", bytes[i]);
		}
		print_error(": %s %#llx, natively %#llx\n", what, (unsigned long long)ours,
			    (unsigned long long)native);
	}
}

static int signal_of(const struct insn_fault *fault)
{
	switch (fault->vector) {
	case INSN_EXC_DE:
	case INSN_EXC_MF:
	case INSN_EXC_XM:
		return SIGFPE;
	case INSN_EXC_UD:
		return SIGILL;
	case INSN_EXC_SS:
		return SIGBUS;
	default:
		return SIGSEGV;
	}
}

/* Outside of the pages made for it, what the host CPU would find at that address is not known. */
static bool elsewhere(enum insn_outcome r)
{
	return r == INSN_FAULT && guest.env.fault.vector == INSN_EXC_PF &&
	       (guest.env.fault.address < NATIVE_MEMORY - 4096 ||
		guest.env.fault.address >= NATIVE_MEMORY + NATIVE_MEMORY_BYTES + 4096);
}

static enum insn_outcome emulate(const struct insn *insn)
{
	enum insn_outcome r;

	do {
		r = insn_emulate(&guest.env, insn);
	} while (r == INSN_AGAIN);
	return r;
}

static void compare_area(const struct open_case *c, const uint8_t *bytes)
{
	unsigned vectors = mode == INSN_64 ? 256 : 128;
	uint8_t after[NATIVE_AREA];

	memcpy(after, c->after->area, sizeof(after));
	open_vectors(c, guest.area);
	open_x87(c, guest.area, after);
	if (memcmp(guest.area + NATIVE_XMM, after + NATIVE_XMM, vectors) != 0) {
		failed(c->insn, bytes, "vector registers", 0, 0);
	}
	if (native_features() == 7 &&
	    memcmp(guest.area + NATIVE_YMM_HIGH, after + NATIVE_YMM_HIGH, vectors) != 0) {
		failed(c->insn, bytes, "upper halves", 0, 0);
	}
	if (memcmp(guest.area + NATIVE_MXCSR, after + NATIVE_MXCSR, 4) != 0) {
		failed(c->insn, bytes, "MXCSR", guest.area[NATIVE_MXCSR], after[NATIVE_MXCSR]);
	}
	if (memcmp(guest.area, after, 5) != 0) {
		failed(c->insn, bytes, "x87 words", guest.area[NATIVE_FSW], after[NATIVE_FSW]);
	}
	for (unsigned i = 0; i < 8; i++) {
		unsigned at = NATIVE_ST + 16 * i;

		if (memcmp(guest.area + at, after + at, 10) != 0) {
			failed(c->insn, bytes, "x87 register", i, i);
		}
	}
}

static void compare_memory(const struct open_case *c, const uint8_t *bytes)
{
	uint64_t open_at, open_bytes = open_memory(c, &open_at);

	for (unsigned i = 0; i < NATIVE_MEMORY_BYTES; i++) {
		uint8_t there = native_memory()[i];

		if (guest.memory[i] != there && NATIVE_MEMORY + i - open_at >= open_bytes) {
			failed(c->insn, bytes, "memory", i << 8 | guest.memory[i], i << 8 | there);
			return;
		}
	}
}

/* Is it the same fault, of the same page? */
static void compare_fault(const struct open_case *c, const uint8_t *bytes)
{
	bool page = c->fault->vector == INSN_EXC_PF;

	if (open_address(c)) {
		return;
	}
	if (page && c->fault->address != c->native->address) {
		failed(c->insn, bytes, "fault at", c->fault->address, c->native->address);
	}
	if (!page && c->native->address != 0) {
		failed(c->insn, bytes, "page fault instead of", c->fault->vector,
		       c->native->address);
	}
}

static void compare(const struct open_case *c, const uint8_t *bytes)
{
	const struct insn *insn = c->insn;
	const struct insn_cpu *cpu = c->cpu;
	uint64_t flags = FLAGS_SEEN & ~open_flags(insn, c->before);
	int expected = c->fault != NULL ? signal_of(c->fault) : 0;

	if (expected != c->native->signal) {
		if (!open_signal(c, expected)) {
			failed(insn, bytes, "signal", (uint64_t)expected,
			       (uint64_t)c->native->signal);
			return;
		}
		if (insn->klass != INSN_CLASS_X87) {
			return;
		}
	}
	counts.faults += c->fault != NULL;
	/* It pushes from above, we from below; and what POPA has read, it has written. */
	if (c->fault != NULL && (insn->mnemonic == INSN_PUSHA || insn->mnemonic == INSN_POPA)) {
		return;
	}
	if (c->fault != NULL && c->native->signal != 0) {
		compare_fault(c, bytes);
	}
	if (open_result(insn, c->before)) {
		return;
	}
	for (unsigned i = 0; i < (mode == INSN_64 ? 16 : 8); i++) {
		if (cpu->gpr[i] != c->after->gpr[i] && !open_gpr(c, i)) {
			failed(insn, bytes, "register", cpu->gpr[i], c->after->gpr[i]);
		}
	}
	if (((cpu->rflags ^ c->after->rflags) & flags) != 0) {
		failed(insn, bytes, "flags", cpu->rflags & flags, c->after->rflags & flags);
	}
	compare_area(c, bytes);
	compare_memory(c, bytes);
	if (c->fault == NULL && (cpu->rip != native_code(mode) + insn->len) != c->native->taken) {
		failed(insn, bytes, "rip", cpu->rip, c->native->taken);
	}
	counts.taken += c->native->taken;
}

/* The operands of CMPS come in an order of the CPU's own. */
static enum insn_outcome other_order(const struct insn *insn, const struct native_registers *before,
				     const struct native_outcome *native)
{
	bool page = guest.env.fault.vector == INSN_EXC_PF;
	struct insn other = *insn;

	if (signal_of(&guest.env.fault) == native->signal &&
	    native->address == (page ? guest.env.fault.address : 0)) {
		return INSN_FAULT;
	}
	memcpy(guest.cpu.gpr, before->gpr, sizeof(before->gpr));
	guest.cpu.rflags = before->rflags;
	other.operand[0] = insn->operand[1];
	other.operand[1] = insn->operand[0];
	return emulate(&other);
}

static void one(uint8_t *bytes)
{
	static uint8_t memory[NATIVE_MEMORY_BYTES];
	struct native_registers before, regs;
	struct native_outcome native;
	struct insn insn;
	enum insn_outcome r;

	if (insn_decode(&insn, insn_mode(&guest.cpu) | vendor, bytes, INSN_MAX + 1) != INSN_OK ||
	    !suitable(&insn)) {
		return;
	}
	prepare(&insn, bytes);
	if (insn.operand[0].kind == INSN_OP_REL) {
		int32_t rel = NATIVE_BRANCH;

		memcpy(bytes + insn.imm_at[0], &rel, insn.imm_len[0]);
	}
	if (insn_decode(&insn, insn_mode(&guest.cpu) | vendor, bytes, INSN_MAX + 1) != INSN_OK ||
	    (insn.op_bytes == 2 && insn.klass == INSN_CLASS_JCC && mode != INSN_16)) {
		return;
	}
	memcpy(before.gpr, guest.cpu.gpr, sizeof(before.gpr));
	memcpy(before.area, guest.area, sizeof(before.area));
	before.rflags = guest.cpu.rflags;
	memcpy(memory, guest.memory, sizeof(memory));
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		before.selector[i] = guest.cpu.seg[i].selector;
	}
	guest.cpu.rip = native_code(mode);
	split = false;
	r = emulate(&insn);
	memcpy(native_memory(), memory, sizeof(memory));
	if (r == INSN_UNSUPPORTED) {
		counts.unsupported++;
		return;
	}
	/* Linux may make a program that splits locks wait. */
	if (elsewhere(r) || split) {
		return;
	}
	/* Only there the host CPU finds code. */
	if (r == INSN_DONE && is_branch(&insn) && guest.cpu.rip != target(&insn)) {
		return;
	}
	regs = before;
	native = native_run(mode, bytes, insn.len, &regs);
	if (r == INSN_FAULT && insn.mnemonic == INSN_CMPS) {
		r = other_order(&insn, &before, &native);
	}
	if (native.signal == SIGILL && insn.feature != INSN_F_NONE) {
		counts.missing++;
		return;
	}
	counts.run++;
	counts.of[insn.mnemonic]++;
	compare(&(struct open_case){.insn = &insn,
				    .cpu = &guest.cpu,
				    .fault = r == INSN_FAULT ? &guest.env.fault : NULL,
				    .before = &before,
				    .after = &regs,
				    .native = &native},
		bytes);
}

static void run_random(enum insn_mode in)
{
	/* Here, for cmocka takes the signals when a test starts. */
	if (!native_init()) {
		print_message("the pages at %#llx are not to be had\n",
			      (unsigned long long)NATIVE_BASE);
		skip();
	}
	mode = in;
	if (mode == INSN_16 && !native_has_16()) {
		print_message("this kernel has no 16-bit segments\n");
		skip();
	}
	__builtin_cpu_init();
	vendor = __builtin_cpu_is("amd") ? INSN_AMD : 0;
	memset(&counts, 0, offsetof(struct counts, of));
	guest.env = (struct insn_env){.cpu = &guest.cpu,
				      .ops = &ops,
				      .other = insn_do_other,
				      .buffer = buffer,
				      .buffer_len = sizeof(buffer)};
	guest.cpu.cr0 = 0x80050033;
	guest.cpu.cr4 = BIT(5) | BIT(9) | BIT(10) | BIT(18);
	guest.cpu.efer = BIT(8) | BIT(10) | BIT(0);
	guest.cpu.cpl = 3;
	set_segments();
	for (unsigned i = 0; i < RUNS; i++) {
		uint8_t bytes[INSN_MAX + 1];

		draw_instruction(bytes, mode);
		one(bytes);
	}
	print_message("%u run, %u not emulated, %u faulted, %u branched, %u not on this CPU\n",
		      counts.run, counts.unsupported, counts.faults, counts.taken, counts.missing);
	assert_int_equal(counts.failures, 0);
	assert_true(counts.run > RUNS / 4);
	assert_true(counts.faults > counts.run / 50);
}

static void test_64(void **state)
{
	(void)state;
	run_random(INSN_64);
}

static void test_32(void **state)
{
	(void)state;
	run_random(INSN_32);
}

static void test_16(void **state)
{
	(void)state;
	run_random(INSN_16);
}

/* Each family had its share. */
static void test_covered(void **state)
{
	static const unsigned must[] = {
		INSN_ADD,	 INSN_OR,	  INSN_ADC,	   INSN_SBB,	INSN_AND,
		INSN_SUB,	 INSN_XOR,	  INSN_CMP,	   INSN_TEST,	INSN_INC,
		INSN_DEC,	 INSN_NEG,	  INSN_NOT,	   INSN_XCHG,	INSN_CMPXCHG,
		INSN_XADD,	 INSN_BT,	  INSN_BTS,	   INSN_BTR,	INSN_BTC,
		INSN_ROL,	 INSN_ROR,	  INSN_RCL,	   INSN_RCR,	INSN_SHL,
		INSN_SHR,	 INSN_SAR,	  INSN_SHLD,	   INSN_SHRD,	INSN_MUL,
		INSN_IMUL,	 INSN_DIV,	  INSN_IDIV,	   INSN_PUSH,	INSN_POP,
		INSN_LEA,	 INSN_MOV,	  INSN_MOVZX,	   INSN_MOVSX,	INSN_MOVSXD,
		INSN_MOVS,	 INSN_CMPS,	  INSN_STOS,	   INSN_LODS,	INSN_SCAS,
		INSN_MOVUPS,	 INSN_MOVAPS,	  INSN_MOVDQA,	   INSN_MOVDQU, INSN_MOVNTDQ,
		INSN_MOVD,	 INSN_MOVQ,	  INSN_MOVSS,	   INSN_MOVSD,	INSN_CMPXCHG8B,
		INSN_CMPXCHG16B, INSN_LOOP,	  INSN_JCXZ,	   INSN_JZ,	INSN_CMOVZ,
		INSN_SETZ,	 INSN_XLAT,	  INSN_ENTER,	   INSN_LEAVE,	INSN_BSF,
		INSN_BSR,	 INSN_BSWAP,	  INSN_CBW,	   INSN_CQO,	INSN_LAHF,
		INSN_SAHF,	 INSN_MOVNTI,	  INSN_FADD,	   INSN_FLD,	INSN_FST,
		INSN_CALL,	 INSN_RET,	  INSN_JMP,	   INSN_FXSAVE, INSN_FXRSTOR,
		INSN_XSAVE,	 INSN_XRSTOR,	  INSN_XSAVEC,	   INSN_FILD,	INSN_FMUL,
		INSN_PADDB,	 INSN_PXOR,	  INSN_ADDPS,	   INSN_VPADDB, INSN_VMOVUPS,
		INSN_VGATHERDPS, INSN_VPGATHERQD, INSN_VMASKMOVPS,
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(must); i++) {
		if (counts.of[must[i]] < 5) {
			fail_msg("%s ran %u times only", insn_mnemonic_name(must[i]),
				 counts.of[must[i]]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_64),
		cmocka_unit_test(test_32),
		cmocka_unit_test(test_16),
		cmocka_unit_test(test_covered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
