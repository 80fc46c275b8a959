/* One instruction for the kernel: decoded, emulated, and what that comes to. */
#include <string.h>

#include "core/annex/annex.h"
#include "lib/base/check.h"
#include "lib/insn/emulate.h"
#include "lib/kvm/plain_of.h"

/*
 * Drivers repeat themselves: what was decoded before lies where the stack will hardly come, and the
 * bytes are compared.
 */
#define CACHED 8

struct cached {
	uint8_t key[INSN_MAX + 1]; /* code, and the mode; 0: none */
	struct insn insn;
};

_Static_assert(CACHED * sizeof(struct cached) < ANNEX_STACK_BYTES / 2, "room for the stack");

struct annex {
	struct insn_env env;
	struct annex_page *page;
	const struct insn *insn;
	bool has_x87;
	uint8_t x87[ANNEX_X87_BYTES];
};

/* call.S */
uint64_t annex_call(enum annex_call number, uint64_t a, uint64_t b, uint64_t c);
_Noreturn void annex_main(struct annex_page *page);

/* The kernel ends KVM_RUN with an internal error. */
void check_failed(const char *expression, const char *file, int line)
{
	(void)expression;
	(void)file;
	(void)line;
	__builtin_trap();
}

static struct annex *annex_of(struct insn_env *env)
{
	return container_of(env, struct annex, env);
}

static struct annex_page *page_of(struct insn_env *env)
{
	return annex_of(env)->page;
}

static enum insn_outcome call(struct insn_env *env, enum annex_call number, uint64_t a, uint64_t b,
			      uint64_t c)
{
	enum insn_outcome outcome = (enum insn_outcome)annex_call(number, a, b, c);

	if (outcome == INSN_FAULT) {
		env->fault = page_of(env)->fault;
	}
	return outcome;
}

/* One that reaches memory for its only operand, and for nothing else. */
static bool has_one_operand(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_INTEGER && insn->nmem == 1 &&
	       (insn->attributes & (INSN_ATTR_PUSH | INSN_ATTR_POP | INSN_ATTR_BITSTR)) == 0;
}

static unsigned access_of(struct insn_env *env, unsigned access)
{
	return has_one_operand(annex_of(env)->insn) ? access | KVM_ACCESS_OPERAND : access;
}

static enum insn_outcome op_read(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	enum insn_outcome outcome = call(env, ANNEX_READ, linear, len, access_of(env, access));

	if (outcome == INSN_DONE) {
		memcpy(data, page_of(env)->data, len);
	}
	return outcome;
}

static enum insn_outcome op_write(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	memcpy(page_of(env)->data, data, len);
	return call(env, ANNEX_WRITE, linear, len, access_of(env, access));
}

static enum insn_outcome op_probe(struct insn_env *env, uint64_t linear, unsigned len)
{
	return call(env, ANNEX_PROBE, linear, len, 0);
}

static enum insn_outcome op_cmpxchg(struct insn_env *env, uint64_t linear, const void *old,
				    const void *new, unsigned len)
{
	memcpy(page_of(env)->data, old, len);
	memcpy(page_of(env)->data + len, new, len);
	return call(env, ANNEX_CMPXCHG, linear, len, 0);
}

static enum insn_outcome op_port_in(struct insn_env *env, uint16_t port, unsigned bytes, void *data,
				    unsigned *count)
{
	enum insn_outcome outcome = call(env, ANNEX_PORT_IN, port, bytes, *count);

	if (outcome == INSN_DONE) {
		*count = page_of(env)->count;
		memcpy(data, page_of(env)->data, (size_t)bytes * *count);
	}
	return outcome;
}

static enum insn_outcome op_port_out(struct insn_env *env, uint16_t port, unsigned bytes,
				     const void *data, unsigned *count)
{
	enum insn_outcome outcome;

	memcpy(page_of(env)->data, data, (size_t)bytes * *count);
	outcome = call(env, ANNEX_PORT_OUT, port, bytes, *count);
	*count = page_of(env)->count;
	return outcome;
}

static enum insn_outcome op_read_xmm(struct insn_env *env, unsigned reg, void *data)
{
	enum insn_outcome outcome = call(env, ANNEX_READ_XMM, reg, 0, 0);

	memcpy(data, page_of(env)->data, 16);
	return outcome;
}

static enum insn_outcome op_write_xmm(struct insn_env *env, unsigned reg, const void *data,
				      bool clear)
{
	memcpy(page_of(env)->data, data, 16);
	return call(env, ANNEX_WRITE_XMM, reg, clear, 0);
}

/* The image goes back at the end. */
static enum insn_outcome op_x87_image(struct insn_env *env, uint8_t **image)
{
	struct annex *a = annex_of(env);
	enum insn_outcome outcome = INSN_DONE;

	if (!a->has_x87) {
		outcome = call(env, ANNEX_READ_X87, 0, 0, 0);
		memcpy(a->x87, a->page->data, sizeof(a->x87));
		a->has_x87 = outcome == INSN_DONE;
	}
	*image = a->x87;
	return outcome;
}

static enum insn_outcome read_special(struct insn_env *env, enum annex_call number, unsigned reg,
				      uint64_t *value)
{
	enum insn_outcome outcome = call(env, number, reg, 0, 0);

	memcpy(value, page_of(env)->data, sizeof(*value));
	return outcome;
}

static enum insn_outcome op_read_cr(struct insn_env *env, unsigned cr, uint64_t *value)
{
	return read_special(env, ANNEX_READ_CR, cr, value);
}

static enum insn_outcome op_write_cr(struct insn_env *env, unsigned cr, uint64_t value)
{
	return call(env, ANNEX_WRITE_CR, cr, value, 0);
}

static enum insn_outcome op_read_dr(struct insn_env *env, unsigned dr, uint64_t *value)
{
	return read_special(env, ANNEX_READ_DR, dr, value);
}

static enum insn_outcome op_write_dr(struct insn_env *env, unsigned dr, uint64_t value)
{
	return call(env, ANNEX_WRITE_DR, dr, value, 0);
}

static const struct insn_ops ops = {
	.read = op_read,
	.write = op_write,
	.probe = op_probe,
	.cmpxchg = op_cmpxchg,
	.port_in = op_port_in,
	.port_out = op_port_out,
	.read_xmm = op_read_xmm,
	.write_xmm = op_write_xmm,
	.x87_image = op_x87_image,
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.read_dr = op_read_dr,
	.write_dr = op_write_dr,
};

static enum insn_result decode(struct annex_page *page, struct insn *insn)
{
	unsigned mode = insn_mode(&page->cpu) | (page->amd ? INSN_AMD : 0);
	enum insn_result result = insn_decode(insn, mode, page->code, page->code_bytes);

	if (result == INSN_MORE && annex_call(ANNEX_FETCH, 0, 0, 0) == INSN_DONE) {
		result = insn_decode(insn, mode, page->code, page->code_bytes);
	}
	return result;
}

/* decode(), or what it came to before. */
static enum insn_result find(struct annex_page *page, const struct insn **insn)
{
	uint64_t rip = page->cpu.rip;
	struct cached *c =
		(struct cached *)((uint8_t *)page - ANNEX_STACK_BYTES) + (rip ^ rip >> 3) % CACHED;
	enum insn_result result;

	*insn = &c->insn;
	page->code[INSN_MAX] = (uint8_t)(insn_mode(&page->cpu) + 1);
	if (page->code_bytes == INSN_MAX && memcmp(c->key, page->code, sizeof(c->key)) == 0) {
		return INSN_OK;
	}
	c->key[INSN_MAX] = 0;
	result = decode(page, &c->insn);
	if (result == INSN_OK && page->code_bytes == INSN_MAX) {
		page->code[INSN_MAX] = (uint8_t)(insn_mode(&page->cpu) + 1);
		memcpy(c->key, page->code, sizeof(c->key));
	}
	return result;
}

static enum insn_outcome emulate(struct annex *a)
{
	enum insn_outcome outcome;

	switch (find(a->page, &a->insn)) {
	case INSN_OK:
		if (!kvm_plain_of(&a->page->plain, a->insn)) {
			a->page->plain.len = 0;
		}
		break;
	case INSN_TOO_LONG:
		return insn_raise(&a->env, INSN_EXC_GP, 0);
	default:
		return INSN_UNSUPPORTED;
	}
	outcome = insn_emulate(&a->env, a->insn);
	if (outcome == INSN_DONE && a->has_x87) {
		memcpy(a->page->data, a->x87, sizeof(a->x87));
		outcome = call(&a->env, ANNEX_WRITE_X87, 0, 0, 0);
	}
	return outcome;
}

void annex_main(struct annex_page *page)
{
	enum insn_outcome outcome;
	struct annex a; /* not cleared: the x87 image is large, and hardly used */

	a.env = (struct insn_env){.cpu = &page->cpu, .ops = &ops};
	a.page = page;
	a.has_x87 = false;
	outcome = emulate(&a);
	page->fault = a.env.fault;
	(void)annex_call(ANNEX_END, outcome, 0, 0);
	__builtin_trap();
}
