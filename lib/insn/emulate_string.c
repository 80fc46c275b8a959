/*
 * String instructions and port I/O. Registers are up to date after each iteration, so that a REP
 * can stop anywhere and go on.
 *
 * Spec: Intel SDM vol. 1, 7.3.9 "String Operations"; vol. 2, "REP"
 */
#include "lib/insn/exec.h"

/* So many iterations, then others have a turn. */
#define ITERATIONS_MAX 4096

/* Of INS and OUTS at once. */
#define BATCH_BYTES 256

#define PREFIX_REPEAT (INSN_PREFIX_REP | INSN_PREFIX_REPNE)

static bool repeats(const struct insn_exec *x)
{
	return (x->insn->prefixes & PREFIX_REPEAT) != 0;
}

static void advance(struct insn_exec *x, unsigned reg, uint64_t elements, unsigned bytes)
{
	uint64_t by = elements * bytes;

	if ((x->cpu->rflags & FLAG_DF) != 0) {
		by = 0 - by;
	}
	insn_set_gpr(x, reg, x->insn->adr_bytes, x->cpu->gpr[reg] + by);
}

static void count_down(struct insn_exec *x, uint64_t elements)
{
	if (repeats(x)) {
		insn_set_gpr(x, RCX, x->insn->adr_bytes, x->cpu->gpr[RCX] - elements);
	}
}

static uint64_t remaining(const struct insn_exec *x)
{
	return repeats(x) ? insn_get_gpr(x, RCX, x->insn->adr_bytes) : 1;
}

/* CMPS and SCAS: as CMP does. */
static void compare(struct insn_exec *x, uint64_t a, uint64_t b, unsigned bytes)
{
	uint64_t r = a - b, borrow = (~a & b) | ((~a | b) & r);
	unsigned top = 8 * bytes - 1;

	insn_set_flags(x, FLAGS_ARITH,
		       insn_result_flags(r, bytes) | (borrow >> top & 1 ? FLAG_CF : 0) |
			       ((a ^ b ^ r) & FLAG_AF) |
			       (((a ^ b) & (a ^ r)) >> top & 1 ? FLAG_OF : 0));
}

static enum insn_outcome iterate(struct insn_exec *x)
{
	bool compares = x->insn->mnemonic == INSN_CMPS || x->insn->mnemonic == INSN_SCAS;
	unsigned bytes = x->insn->operand[0].bytes;
	uint64_t a = 0, b = 0;
	enum insn_outcome r = compares ? insn_read(x, 0, &a) : INSN_DONE;

	if (r == INSN_DONE) {
		r = insn_read(x, 1, &b);
	}
	if (r == INSN_DONE && compares) {
		compare(x, a, b, bytes);
	} else if (r == INSN_DONE) {
		r = insn_write(x, 0, b); /* MOVS, STOS, LODS */
	}
	for (unsigned i = 0; i < x->insn->nmem && r == INSN_DONE; i++) {
		advance(x, x->insn->mem[i].base, 1, bytes);
	}
	return r;
}

/* Does ZF end it? */
static bool found(const struct insn_exec *x)
{
	bool zero = (x->cpu->rflags & FLAG_ZF) != 0;

	if (x->insn->mnemonic != INSN_CMPS && x->insn->mnemonic != INSN_SCAS) {
		return false;
	}
	return zero == ((x->insn->prefixes & INSN_PREFIX_REPNE) != 0);
}

/* At a fault all flags are as they were, says Intel's manual; AMD's CPUs leave the last element's.
 */
enum insn_outcome insn_do_string(struct insn_exec *x)
{
	uint64_t flags = x->cpu->rflags;

	for (unsigned i = 0; remaining(x) != 0; i++) {
		enum insn_outcome r;

		if (i == ITERATIONS_MAX) {
			return INSN_AGAIN;
		}
		r = iterate(x);
		if (r == INSN_FAULT && !x->insn->amd) {
			x->cpu->rflags = flags;
		}
		if (r != INSN_DONE) {
			return r;
		}
		count_down(x, 1);
		if (!repeats(x) || found(x)) {
			break;
		}
	}
	return INSN_DONE;
}

/* The port is in DX, or an immediate. */
static enum insn_outcome port(struct insn_exec *x, unsigned i, unsigned bytes, uint16_t *number)
{
	uint64_t value = 0;
	enum insn_outcome r = insn_read(x, i, &value);

	*number = (uint16_t)value;
	return r == INSN_DONE ? insn_io_allowed(x, *number, bytes) : r;
}

enum insn_outcome insn_do_in(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[0].bytes, count = 1;
	uint64_t value = 0;
	uint16_t number;
	enum insn_outcome r = port(x, 1, bytes, &number);

	if (r != INSN_DONE) {
		return r;
	}
	if (x->ops->port_in == NULL) {
		return INSN_UNSUPPORTED;
	}
	r = x->ops->port_in(x->env, number, bytes, &value, &count);
	return r == INSN_DONE ? insn_write(x, 0, value) : r;
}

enum insn_outcome insn_do_out(struct insn_exec *x)
{
	unsigned bytes = x->insn->operand[1].bytes, count = 1;
	uint64_t value = 0;
	uint16_t number;
	enum insn_outcome r = port(x, 0, bytes, &number);

	if (r != INSN_DONE || (r = insn_read(x, 1, &value)) != INSN_DONE) {
		return r;
	}
	if (x->ops->port_out == NULL) {
		return INSN_UNSUPPORTED;
	}
	return x->ops->port_out(x->env, number, bytes, &value, &count);
}

/*
 * How many elements can be moved at once: upwards, within a page and the segment. At least one,
 * which may fault.
 */
static enum insn_outcome batch(struct insn_exec *x, bool write, unsigned *count, uint64_t *linear)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t offset = insn_offset(x, m), most = remaining(x), end;
	enum insn_outcome r = insn_translate(x, m->seg, offset, m->bytes, write, linear);

	*count = 1;
	if (r != INSN_DONE || (x->cpu->rflags & FLAG_DF) != 0) {
		return r;
	}
	most = MIN(most, BATCH_BYTES / m->bytes);
	most = MIN(most, (4096 - *linear % 4096) / m->bytes);
	if (most > 1 && offset + most * m->bytes - 1 <= insn_mask(x->insn->adr_bytes) &&
	    insn_translate(x, m->seg, offset, (unsigned)most * m->bytes, write, &end) ==
		    INSN_DONE) {
		*count = (unsigned)most;
	}
	return INSN_DONE;
}

static enum insn_outcome ins_some(struct insn_exec *x, uint16_t number)
{
	unsigned bytes = x->insn->mem[0].bytes, count;
	uint8_t data[BATCH_BYTES];
	uint64_t linear = 0;
	enum insn_outcome r = batch(x, true, &count, &linear);

	/* What was read from a port cannot be put back. */
	if (r == INSN_DONE && x->ops->probe != NULL) {
		r = x->ops->probe(x->env, linear, count * bytes);
	}
	if (r == INSN_DONE) {
		r = x->ops->port_in(x->env, number, bytes, data, &count);
	}
	if (r == INSN_DONE) {
		r = x->ops->write(x->env, linear, data, count * bytes, INSN_ACCESS_WRITE);
	}
	if (r == INSN_DONE) {
		advance(x, RDI, count, bytes);
		count_down(x, count);
	}
	return r;
}

static enum insn_outcome outs_some(struct insn_exec *x, uint16_t number)
{
	unsigned bytes = x->insn->mem[0].bytes, count;
	uint8_t data[BATCH_BYTES];
	uint64_t linear = 0;
	enum insn_outcome r = batch(x, false, &count, &linear);

	if (r == INSN_DONE) {
		r = x->ops->read(x->env, linear, data, count * bytes, 0);
	}
	if (r == INSN_DONE) {
		r = x->ops->port_out(x->env, number, bytes, data, &count);
	}
	if (r == INSN_DONE) {
		advance(x, RSI, count, bytes);
		count_down(x, count);
	}
	return r;
}

/* One batch, then others have a turn: the op of a port may take its time. */
static enum insn_outcome port_string(struct insn_exec *x, unsigned dx,
				     enum insn_outcome (*some)(struct insn_exec *x,
							       uint16_t number))
{
	uint16_t number;
	enum insn_outcome r = port(x, dx, x->insn->mem[0].bytes, &number);

	if (r != INSN_DONE || remaining(x) == 0) {
		return r;
	}
	r = some(x, number);
	return r == INSN_DONE && repeats(x) && remaining(x) != 0 ? INSN_AGAIN : r;
}

enum insn_outcome insn_do_ins(struct insn_exec *x)
{
	return x->ops->port_in == NULL ? INSN_UNSUPPORTED : port_string(x, 1, ins_some);
}

enum insn_outcome insn_do_outs(struct insn_exec *x)
{
	return x->ops->port_out == NULL ? INSN_UNSUPPORTED : port_string(x, 0, outs_some);
}
