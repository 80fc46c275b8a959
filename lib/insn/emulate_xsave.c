/*
 * FXSAVE, XSAVE and their like: images of the registers in the guest's memory.
 *
 * They are executed natively on a copy of the image. How long that is, the CPU model says: CPUID
 * 0xd. XSAVES and XRSTORS, privileged on the host, too, differ from XSAVEC and XRSTOR in nothing
 * while IA32_XSS is zero.
 *
 * Spec: Intel SDM vol. 1, ch. 13 "Managing State Using the XSAVE Feature Set", 10.5 "FXSAVE and
 * FXRSTOR Instructions"
 */
#include <string.h>

#include "lib/insn/descriptor.h"
#include "lib/insn/native.h"

#define FXSAVE_BYTES	512
#define FXSAVE_NARROW	288 /* without XMM8 to XMM15, which 32-bit code has not */
#define HEADER_BYTES	64
#define XSAVE_MIN	(FXSAVE_BYTES + HEADER_BYTES)
#define XCOMP_COMPACT	BIT(63)
#define COMPONENTS	63
#define CPUID_XSAVE	0xd
#define CPUID_ALIGNED64 BIT(1) /* ECX of a component */

static enum insn_outcome prepare(struct insn_exec *x, struct insn_native *n, unsigned align)
{
	if (x->ops->native == NULL || x->env->buffer == NULL) {
		return INSN_UNSUPPORTED;
	}
	n->memory = x->env->buffer;
	return insn_native_aligned(x, align);
}

enum insn_outcome insn_do_fxsave(struct insn_exec *x)
{
	bool save = x->insn->mnemonic == INSN_FXSAVE, wide = insn_long_mode(x);
	unsigned len = wide ? FXSAVE_BYTES : FXSAVE_NARROW;
	struct insn_native n = {.memory_len = FXSAVE_BYTES};
	enum insn_outcome r;

	if ((x->cpu->cr0 & (CR0_EM | CR0_TS)) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	if (x->env->buffer_len < FXSAVE_BYTES) {
		return INSN_UNSUPPORTED;
	}
	r = prepare(x, &n, 16);
	if (r != INSN_DONE) {
		return r;
	}
	memset(n.memory, 0, FXSAVE_BYTES);
	if (save || !wide) { /* what is not restored has to be there */
		insn_native_state(&n, 0xae, 0, x->insn->op_bytes == 8);
		r = save ? insn_native_probe(x, 0, len) : INSN_DONE;
		if (r == INSN_DONE) {
			r = insn_native_run(x, &n);
		}
		if (r != INSN_DONE || save) {
			return r == INSN_DONE ? insn_native_write(x, &n, 0, len) : r;
		}
	}
	r = insn_native_read(x, &n, 0, len, false);
	insn_native_state(&n, 0xae, 1, x->insn->op_bytes == 8);
	return r == INSN_DONE ? insn_native_run(x, &n) : r;
}

/* Where component @i ends in an image, of the components before it @len bytes. */
static enum insn_outcome add_component(struct insn_exec *x, unsigned i, bool compact, unsigned *len)
{
	uint32_t regs[4] = {CPUID_XSAVE, 0, i, 0};
	enum insn_outcome r = x->ops->cpuid(x->env, regs);
	uint32_t at = compact ? *len : regs[1];

	if (compact && (regs[2] & CPUID_ALIGNED64) != 0) {
		at = ALIGN_UP(at, 64U);
	}
	if (r != INSN_DONE) {
		return r;
	}
	if (regs[0] > x->env->buffer_len || at > x->env->buffer_len - regs[0]) {
		return INSN_UNSUPPORTED;
	}
	*len = MAX(*len, at + regs[0]);
	return INSN_DONE;
}

static enum insn_outcome image_len(struct insn_exec *x, uint64_t components, bool compact,
				   unsigned *len)
{
	enum insn_outcome r = INSN_DONE;

	*len = XSAVE_MIN;
	for (unsigned i = 2; i < COMPONENTS && r == INSN_DONE; i++) {
		if ((components >> i & 1) != 0) {
			r = add_component(x, i, compact, len);
		}
	}
	return r;
}

static enum insn_outcome save(struct insn_exec *x, struct insn_native *n, uint64_t components)
{
	bool compact = x->insn->mnemonic == INSN_XSAVEC || x->insn->mnemonic == INSN_XSAVES;
	enum insn_outcome r = image_len(x, components, compact, &n->memory_len);

	if (r == INSN_DONE) {
		r = insn_native_read(x, n, 0, n->memory_len, true);
	}
	if (r != INSN_DONE) {
		return r;
	}
	insn_native_state(n, compact ? 0xc7 : 0xae, 4, x->insn->op_bytes == 8);
	r = insn_native_run(x, n);
	return r == INSN_DONE ? insn_native_write(x, n, 0, n->memory_len) : r;
}

static enum insn_outcome restore(struct insn_exec *x, struct insn_native *n, uint64_t components,
				 uint64_t xcr0)
{
	uint64_t header[2];
	bool compact;
	enum insn_outcome r = insn_native_read(x, n, 0, XSAVE_MIN, false);

	if (r != INSN_DONE) {
		return r;
	}
	memcpy(header, n->memory + FXSAVE_BYTES, sizeof(header));
	compact = (header[1] & XCOMP_COMPACT) != 0;
	if ((header[0] & ~xcr0) != 0 || (header[1] & ~(xcr0 | XCOMP_COMPACT)) != 0 ||
	    (compact ? (header[0] & ~header[1]) != 0
		     : header[1] != 0 || x->insn->mnemonic == INSN_XRSTORS)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	/* A compact image has places for all its components, a standard one is read as asked for.
	 */
	r = image_len(x, compact ? header[1] : components & header[0], compact, &n->memory_len);
	if (r == INSN_DONE && n->memory_len > XSAVE_MIN) {
		r = insn_native_read(x, n, XSAVE_MIN, n->memory_len - XSAVE_MIN, false);
	}
	insn_native_state(n, 0xae, 5, x->insn->op_bytes == 8);
	return r == INSN_DONE ? insn_native_run(x, n) : r;
}

enum insn_outcome insn_do_xsave(struct insn_exec *x)
{
	unsigned mnemonic = x->insn->mnemonic;
	uint64_t components = x->cpu->gpr[RDX] << 32 | (uint32_t)x->cpu->gpr[RAX], xcr0 = 0;
	struct insn_native n = {0};
	enum insn_outcome r;

	if ((x->cpu->cr4 & CR4_OSXSAVE) == 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((x->cpu->cr0 & CR0_TS) != 0) {
		return insn_raise(x->env, INSN_EXC_NM, 0);
	}
	if (x->ops->read_xcr == NULL || x->ops->cpuid == NULL || x->env->buffer_len < XSAVE_MIN) {
		return INSN_UNSUPPORTED;
	}
	if ((r = prepare(x, &n, 64)) != INSN_DONE ||
	    (r = x->ops->read_xcr(x->env, 0, &xcr0)) != INSN_DONE) {
		return r;
	}
	components &= xcr0;
	n.gpr[RAX] = (uint32_t)components;
	n.gpr[RDX] = components >> 32;
	if (mnemonic == INSN_XRSTOR || mnemonic == INSN_XRSTORS) {
		return restore(x, &n, components, xcr0);
	}
	return save(x, &n, components);
}
