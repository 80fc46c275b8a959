/*
 * FXSAVE, XSAVE and their like: images of the registers in the guest's memory.
 *
 * They are executed natively on a copy of the image. How long that is, the CPU model says: CPUID
 * 0xd. XSAVES and XRSTORS, privileged on the host, too, differ from XSAVEC and XRSTOR in nothing
 * while IA32_XSS is zero.
 *
 * PKRU is never in the host's register: its component is left out there, and put in or taken out by
 * itself.
 *
 * Spec: Intel SDM vol. 1, ch. 13 "Managing State Using the XSAVE Feature Set", 10.5 "FXSAVE and
 * FXRSTOR Instructions"
 */
#include <string.h>

#include "lib/insn/descriptor.h"
#include "lib/insn/native.h"

#define FXSAVE_BYTES	512
#define FXSAVE_WRITTEN	416 /* the rest is reserved, or the program's own */
#define FXSAVE_NARROW	288 /* without XMM8 to XMM15, which 32-bit code has not */
#define HEADER_BYTES	64
#define XSAVE_MIN	(FXSAVE_BYTES + HEADER_BYTES)
#define XCOMP_COMPACT	BIT(63)
#define COMPONENTS	63
#define CPUID_XSAVE	0xd
#define CPUID_ALIGNED64 BIT(1)	    /* ECX of a component */
#define VECTORS		UINT64_C(6) /* components with XMM and YMM registers */
#define VECTOR_BYTES	832	    /* of a standard image with them */
#define PKRU		9	    /* its component; the second half of 8 bytes is not used */
#define PKRU_BYTES	4

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
			return r == INSN_DONE
				       ? insn_native_write(x, &n, 0, MIN(len, FXSAVE_WRITTEN))
				       : r;
		}
	}
	r = insn_native_read(x, &n, 0, len, false);
	insn_native_state(&n, 0xae, 1, x->insn->op_bytes == 8);
	return r == INSN_DONE ? insn_native_run(x, &n) : r;
}

/* Where component @i is in an image, of the components before it @len bytes. */
static enum insn_outcome place_of(struct insn_exec *x, unsigned i, bool compact, unsigned len,
				  unsigned *at, unsigned *bytes)
{
	uint32_t regs[4] = {CPUID_XSAVE, 0, i, 0};
	enum insn_outcome r = x->ops->cpuid(x->env, regs);

	if (r != INSN_DONE) {
		return r;
	}
	*bytes = regs[0];
	*at = compact ? len : regs[1];
	if (compact && (regs[2] & CPUID_ALIGNED64) != 0) {
		*at = ALIGN_UP(*at, 64U);
	}
	return *bytes > x->env->buffer_len || *at > x->env->buffer_len - *bytes ? INSN_UNSUPPORTED
										: INSN_DONE;
}

static enum insn_outcome image_len(struct insn_exec *x, uint64_t components, bool compact,
				   unsigned *len)
{
	enum insn_outcome r = INSN_DONE;

	*len = XSAVE_MIN;
	for (unsigned i = 2; i < COMPONENTS && r == INSN_DONE; i++) {
		unsigned at = 0, bytes = 0;

		if ((components >> i & 1) != 0) {
			r = place_of(x, i, compact, *len, &at, &bytes);
			*len = MAX(*len, at + bytes);
		}
	}
	return r;
}

/* Where PKRU is in an image with @components. */
static enum insn_outcome pkru_place(struct insn_exec *x, uint64_t components, bool compact,
				    unsigned *at)
{
	unsigned len = 0, bytes = 0;
	enum insn_outcome r = image_len(x, components & (XCR0_PKRU - 1), compact, &len);

	return r == INSN_DONE ? place_of(x, PKRU, compact, len, at, &bytes) : r;
}

/* Of an image that has been saved without it. */
static void put_pkru(const struct insn_native *n, unsigned at, uint32_t pkru, bool compact)
{
	uint64_t header[2];

	memcpy(header, n->memory + FXSAVE_BYTES, sizeof(header));
	header[0] = (header[0] & ~XCR0_PKRU) | (pkru != 0 ? XCR0_PKRU : 0);
	header[1] |= compact ? XCR0_PKRU : 0;
	memcpy(n->memory + FXSAVE_BYTES, header, sizeof(header));
	memcpy(n->memory + at, &pkru, sizeof(pkru));
}

/*
 * Registers that 32-bit code has not: XMM8 to XMM15, and the upper halves of YMM8 to YMM15, which
 * are in the same place in each format.
 */
static void copy_others(uint8_t *to, const uint8_t *from, unsigned len)
{
	static const uint16_t at[] = {FXSAVE_NARROW, XSAVE_MIN + 128};

	for (unsigned i = 0; i < ARRAY_SIZE(at) && at[i] + 128u <= len; i++) {
		memcpy(to + at[i], from + at[i], 128);
	}
}

/* A place in the buffer behind the image, and behind @i more. NULL: there is none. */
static uint8_t *spare(const struct insn_exec *x, const struct insn_native *n, unsigned i)
{
	unsigned at = ALIGN_UP(n->memory_len, 64U) + i * VECTOR_BYTES;

	return at + VECTOR_BYTES <= x->env->buffer_len ? x->env->buffer + at : NULL;
}

/* XSAVE or one of its like, on the copy of the image: in 32-bit code, parts of it stay. */
static enum insn_outcome run_save(struct insn_exec *x, struct insn_native *n)
{
	uint8_t *before = insn_long_mode(x) ? NULL : spare(x, n, 0);
	enum insn_outcome r;

	if (!insn_long_mode(x) && before == NULL) {
		return INSN_UNSUPPORTED;
	}
	if (before != NULL) {
		copy_others(before, n->memory, n->memory_len);
	}
	r = insn_native_run(x, n);
	if (r == INSN_DONE && before != NULL) {
		copy_others(n->memory, before, n->memory_len);
	}
	return r;
}

/* XSAVE or XRSTOR (@reg 4, 5) of vector registers. */
static enum insn_outcome move_vectors(struct insn_exec *x, uint8_t *image, unsigned reg,
				      uint64_t components)
{
	struct insn_native n = {.memory = image, .memory_len = VECTOR_BYTES};

	n.gpr[RAX] = components;
	insn_native_state(&n, 0xae, reg, true);
	return insn_native_run(x, &n);
}

/* XRSTOR: in 32-bit code, some registers stay. */
static enum insn_outcome run_restore(struct insn_exec *x, struct insn_native *n)
{
	uint64_t vectors = n->gpr[RAX] & VECTORS, header[2];
	uint8_t *before = spare(x, n, 0), *after = spare(x, n, 1);
	enum insn_outcome r;

	if (insn_long_mode(x) || vectors == 0) {
		return insn_native_run(x, n);
	}
	if (after == NULL) {
		return INSN_UNSUPPORTED;
	}
	memset(before, 0, VECTOR_BYTES);
	memset(after, 0, VECTOR_BYTES);
	if ((r = move_vectors(x, before, 4, vectors)) != INSN_DONE ||
	    (r = insn_native_run(x, n)) != INSN_DONE ||
	    (r = move_vectors(x, after, 4, vectors)) != INSN_DONE) {
		return r;
	}
	copy_others(after, before, VECTOR_BYTES);
	memcpy(&header[0], before + FXSAVE_BYTES, 8);
	memcpy(&header[1], after + FXSAVE_BYTES, 8);
	header[1] |= header[0];
	memcpy(after + FXSAVE_BYTES, &header[1], 8);
	return move_vectors(x, after, 5, vectors);
}

static enum insn_outcome save(struct insn_exec *x, struct insn_native *n, uint64_t components)
{
	unsigned mnemonic = x->insn->mnemonic, at = 0;
	bool compact = mnemonic == INSN_XSAVEC || mnemonic == INSN_XSAVES;
	bool keys = (components & XCR0_PKRU) != 0, writes = false;
	uint32_t pkru = 0;
	enum insn_outcome r = image_len(x, components & ~XCR0_PKRU, compact, &n->memory_len);

	if (r == INSN_DONE && keys && (r = pkru_place(x, components, compact, &at)) == INSN_DONE) {
		r = INSN_CALL(x, read_pkru, &pkru);
		/* What is in its initial state is written by XSAVE only. */
		writes = mnemonic == INSN_XSAVE || pkru != 0;
	}
	if (r == INSN_DONE) {
		r = insn_native_read(x, n, 0, n->memory_len, true);
	}
	if (r == INSN_DONE && writes) {
		r = insn_native_probe(x, at, PKRU_BYTES);
	}
	if (r != INSN_DONE) {
		return r;
	}
	insn_native_state(n, compact ? 0xc7 : 0xae, 4, x->insn->op_bytes == 8);
	r = run_save(x, n);
	if (r == INSN_DONE && keys) {
		put_pkru(n, at, pkru, compact);
	}
	if (r == INSN_DONE) {
		r = insn_native_write(x, n, 0, n->memory_len);
	}
	return r == INSN_DONE && writes ? insn_native_write(x, n, at, PKRU_BYTES) : r;
}

/* *@pkru: what the image, whose header has been read, has for it; or what it is initially. */
static enum insn_outcome take_pkru(struct insn_exec *x, struct insn_native *n,
				   const uint64_t header[2], uint32_t *pkru)
{
	bool compact = (header[1] & XCOMP_COMPACT) != 0;
	unsigned at = 0;
	enum insn_outcome r;

	*pkru = 0;
	if ((header[0] & XCR0_PKRU) == 0) {
		return INSN_DONE;
	}
	r = pkru_place(x, header[1], compact, &at);
	if (r == INSN_DONE) {
		r = insn_native_read(x, n, at, PKRU_BYTES, false);
	}
	if (r == INSN_DONE) {
		memcpy(pkru, n->memory + at, sizeof(*pkru));
	}
	return r;
}

static enum insn_outcome restore(struct insn_exec *x, struct insn_native *n, uint64_t components,
				 uint64_t xcr0)
{
	bool compact, keys = (components & XCR0_PKRU) != 0;
	uint64_t header[2], parts;
	uint32_t pkru = 0;
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
	parts = compact ? header[1] : components & header[0];
	r = image_len(x, parts & ~XCR0_PKRU, compact, &n->memory_len);
	if (r == INSN_DONE && n->memory_len > XSAVE_MIN) {
		r = insn_native_read(x, n, XSAVE_MIN, n->memory_len - XSAVE_MIN, false);
	}
	if (r == INSN_DONE && keys) {
		r = take_pkru(x, n, header, &pkru);
	}
	insn_native_state(n, 0xae, 5, x->insn->op_bytes == 8);
	if (r == INSN_DONE) {
		r = run_restore(x, n);
	}
	return r == INSN_DONE && keys ? INSN_CALL(x, write_pkru, pkru) : r;
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
	/* Components behind it would have other places in a compact image without it. */
	if ((xcr0 & XCR0_PKRU) != 0 && xcr0 >> (PKRU + 1) != 0) {
		return INSN_UNSUPPORTED;
	}
	components &= xcr0;
	n.gpr[RAX] = (uint32_t)(components & ~XCR0_PKRU);
	n.gpr[RDX] = components >> 32;
	if (mnemonic == INSN_XRSTOR || mnemonic == INSN_XRSTORS) {
		return restore(x, &n, components, xcr0);
	}
	return save(x, &n, components);
}
