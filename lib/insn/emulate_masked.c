/*
 * Vector instructions whose memory operand is several: gathers, masked loads and stores. Elements
 * that the mask leaves out are not accessed, and so cannot fault.
 *
 * The registers are had by ops->native: moves between them and the buffer.
 *
 * Spec: Intel SDM vol. 2, "VPGATHERDD", "VGATHERDPS", "VMASKMOV", "VPMASKMOV", "MASKMOVDQU",
 * "MASKMOVQ"
 */
#include <string.h>

#include "lib/insn/native.h"

#define VECTOR	 32
#define MMX	 8
#define LOAD	 0x6f /* 0F: (V)MOVDQU, MOVQ; 7F stores */
#define STORE	 0x7f
#define VEX3	 0xc4
#define VEX_LOW	 0xe1 /* map 0F, registers 0 to 7 */
#define VEX_HIGH 0x61
#define VEX_REST 0x7e /* 256 bits, no second operand, F3 */

/* Elements at mem[0], the first at @offset, or each at its own. */
struct elements {
	unsigned count, bytes;
	uint64_t offset[VECTOR];
	bool selected[VECTOR];
};

/* vmovdqu ymm, [rsi], movq mm, [rsi], and the other way */
static enum insn_outcome move(struct insn_exec *x, unsigned klass, unsigned reg, uint8_t opcode,
			      uint8_t *data)
{
	const uint8_t vector[] = {VEX3, reg >= 8 ? VEX_HIGH : VEX_LOW, VEX_REST, opcode,
				  (uint8_t)((reg & 7) << 3 | RSI)};
	const uint8_t mmx[] = {0x0f, opcode, (uint8_t)((reg & 7) << 3 | RSI)};
	struct insn_native n = {.base = RSI, .rsp_as = INSN_NO_REG, .memory = x->env->buffer};
	enum insn_outcome r;

	n.len = klass == INSN_MM ? sizeof(mmx) : sizeof(vector);
	n.memory_len = klass == INSN_MM ? MMX : VECTOR;
	memcpy(n.code, klass == INSN_MM ? mmx : vector, n.len);
	if (opcode == LOAD) {
		memcpy(n.memory, data, n.memory_len);
	}
	r = insn_native_run(x, &n);
	if (r == INSN_DONE && opcode == STORE) {
		memcpy(data, n.memory, n.memory_len);
	}
	return r;
}

static enum insn_outcome get(struct insn_exec *x, unsigned klass, unsigned reg, uint8_t *data)
{
	memset(data, 0, VECTOR);
	return move(x, klass, reg, STORE, data);
}

static bool selected(const uint8_t *mask, unsigned i, unsigned bytes)
{
	return (mask[(i + 1) * bytes - 1] & 0x80) != 0;
}

/* ---- gathers ---- */

static uint64_t gather_offset(const struct insn_exec *x, const uint8_t *index, unsigned bytes,
			      unsigned i)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t offset = (uint64_t)m->disp;
	int32_t narrow;
	int64_t wide;

	if (bytes == 4) {
		memcpy(&narrow, index + (size_t)i * 4, 4);
		wide = narrow;
	} else {
		memcpy(&wide, index + (size_t)i * 8, 8);
	}
	offset += (uint64_t)wide * m->scale;
	if (m->base != INSN_NO_REG) {
		offset += x->cpu->gpr[m->base];
	}
	return offset & insn_mask(x->insn->adr_bytes);
}

/* 90 and 92 have indices of four bytes, 91 and 93 of eight. */
static unsigned index_bytes(const struct insn *insn)
{
	return (insn->opcode & 1) == 0 ? 4 : 8;
}

/* Intel's manual begins so, which is seen at a fault; on AMD's CPUs it is not. */
static void extend_mask(uint8_t *mask, unsigned vec_bytes, unsigned bytes)
{
	for (unsigned i = 0; i < vec_bytes / bytes; i++) {
		memset(mask + (size_t)i * bytes, selected(mask, i, bytes) ? 0xff : 0, bytes);
	}
	memset(mask + vec_bytes, 0, VECTOR - vec_bytes);
}

/* An element that faults leaves those before it loaded, and their masks cleared. */
enum insn_outcome insn_do_gather(struct insn_exec *x)
{
	const struct insn *insn = x->insn;
	const struct insn_mem *m = &insn->mem[0];
	unsigned bytes = m->bytes, from = index_bytes(insn), dest = insn->operand[0].reg;
	unsigned count = insn->vec_bytes / MAX(bytes, from);
	uint8_t index[VECTOR], mask[VECTOR], data[VECTOR];
	enum insn_outcome r, written;

	if ((r = insn_native_usable(x)) != INSN_DONE ||
	    (r = get(x, INSN_VEC, m->index, index)) != INSN_DONE ||
	    (r = get(x, INSN_VEC, insn->vvvv, mask)) != INSN_DONE ||
	    (r = get(x, INSN_VEC, dest, data)) != INSN_DONE) {
		return r;
	}
	if (!insn->amd) {
		extend_mask(mask, insn->vec_bytes, bytes);
	}
	for (unsigned i = 0; i < count && r == INSN_DONE; i++) {
		if (selected(mask, i, bytes)) {
			r = insn_load(x, m->seg, gather_offset(x, index, from, i),
				      data + (size_t)i * bytes, bytes);
		}
		if (r == INSN_DONE) {
			memset(mask + (size_t)i * bytes, 0, bytes);
		}
	}
	if (r != INSN_DONE && r != INSN_FAULT) {
		return r;
	}
	if (r == INSN_DONE) {
		memset(mask, 0, sizeof(mask));
		memset(data + (size_t)count * bytes, 0, sizeof(data) - (size_t)count * bytes);
	}
	/* What is moved in vain changes nothing. */
	written = move(x, INSN_VEC, dest, LOAD, data);
	if (written == INSN_DONE) {
		written = move(x, INSN_VEC, insn->vvvv, LOAD, mask);
	}
	return written == INSN_DONE ? r : written;
}

/* ---- masks ---- */

static void place(const struct insn_exec *x, const uint8_t *mask, unsigned count, unsigned bytes,
		  struct elements *e)
{
	uint64_t offset = insn_offset(x, &x->insn->mem[0]);

	e->count = count;
	e->bytes = bytes;
	for (unsigned i = 0; i < count; i++) {
		e->offset[i] = (offset + (uint64_t)i * bytes) & insn_mask(x->insn->adr_bytes);
		e->selected[i] = selected(mask, i, bytes);
	}
}

/* As a whole or not at all. */
static enum insn_outcome store(struct insn_exec *x, const struct elements *e, const uint8_t *data)
{
	unsigned seg = x->insn->mem[0].seg;
	enum insn_outcome r = INSN_DONE;
	uint64_t linear[VECTOR];

	for (unsigned i = 0; i < e->count && r == INSN_DONE; i++) {
		if (!e->selected[i]) {
			continue;
		}
		r = insn_translate(x, seg, e->offset[i], e->bytes, true, &linear[i]);
		if (r == INSN_DONE && x->ops->probe != NULL) {
			r = x->ops->probe(x->env, linear[i], e->bytes);
		}
	}
	for (unsigned i = 0; i < e->count && r == INSN_DONE; i++) {
		if (e->selected[i]) {
			r = x->ops->write(x->env, linear[i], data + (size_t)i * e->bytes, e->bytes,
					  INSN_ACCESS_WRITE);
		}
	}
	return r;
}

static enum insn_outcome load(struct insn_exec *x, const struct elements *e, unsigned dest)
{
	uint8_t data[VECTOR] = {0};
	enum insn_outcome r = INSN_DONE;

	for (unsigned i = 0; i < e->count && r == INSN_DONE; i++) {
		if (e->selected[i]) {
			r = insn_load(x, x->insn->mem[0].seg, e->offset[i],
				      data + (size_t)i * e->bytes, e->bytes);
		}
	}
	return r == INSN_DONE ? move(x, INSN_VEC, dest, LOAD, data) : r;
}

/* VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ */
enum insn_outcome insn_do_mask_move(struct insn_exec *x)
{
	const struct insn *insn = x->insn;
	bool stores = insn->operand[0].kind == INSN_OP_MEM;
	bool wide = insn->mnemonic == INSN_VMASKMOVPD || insn->mnemonic == INSN_VPMASKMOVQ;
	unsigned bytes = wide ? 8 : 4;
	uint8_t mask[VECTOR], data[VECTOR];
	struct elements e;
	enum insn_outcome r;

	if ((r = insn_native_usable(x)) != INSN_DONE ||
	    (r = get(x, INSN_VEC, insn->operand[1].reg, mask)) != INSN_DONE) {
		return r;
	}
	place(x, mask, insn->vec_bytes / bytes, bytes, &e);
	if (!stores) {
		return load(x, &e, insn->operand[0].reg);
	}
	r = get(x, INSN_VEC, insn->operand[2].reg, data);
	return r == INSN_DONE ? store(x, &e, data) : r;
}

/* MASKMOVQ and MASKMOVDQU: bytes at DS:rDI. */
enum insn_outcome insn_do_mask_bytes(struct insn_exec *x)
{
	const struct insn_operand *o = x->insn->operand;
	unsigned klass = o[0].klass;
	uint8_t mask[VECTOR], data[VECTOR];
	struct elements e;
	enum insn_outcome r;

	if ((r = insn_native_usable(x)) != INSN_DONE ||
	    (r = get(x, klass, o[0].reg, data)) != INSN_DONE ||
	    (r = get(x, klass, o[1].reg, mask)) != INSN_DONE) {
		return r;
	}
	place(x, mask, klass == INSN_MM ? 8 : 16, 1, &e);
	return store(x, &e, data);
}
