#include "lib/insn/test_guest.h"

#include <stdlib.h>
#include <string.h>

struct guest g;

static enum insn_outcome read_op(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	g.reads++;
	if (linear == g.mmio && !g.mmio_answered) {
		return INSN_EXIT;
	}
	if (linear > MEMORY_BYTES - len) {
		return insn_raise_page_fault(env, linear, 4);
	}
	if ((access & INSN_ACCESS_WRITE) != 0 && linear + len > g.read_only) {
		return insn_raise_page_fault(env, linear, 7);
	}
	memcpy(data, g.memory + linear, len);
	return INSN_DONE;
}

static enum insn_outcome write_op(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	assert_true((access & INSN_ACCESS_WRITE) != 0);
	if (linear > MEMORY_BYTES - len || linear + len > g.read_only) {
		return insn_raise_page_fault(env, linear, 6);
	}
	g.writes++;
	memcpy(g.memory + linear, data, len);
	return INSN_DONE;
}

static enum insn_outcome probe_op(struct insn_env *env, uint64_t linear, unsigned len)
{
	if (linear > MEMORY_BYTES - len || linear + len > g.read_only) {
		return insn_raise_page_fault(env, linear, 6);
	}
	return INSN_DONE;
}

static enum insn_outcome cmpxchg_op(struct insn_env *env, uint64_t linear, const void *old,
				    const void *new, unsigned len)
{
	(void)env;
	if (g.race) {
		g.race = false;
		g.memory[linear]++; /* somebody else was faster */
	}
	if (memcmp(g.memory + linear, old, len) != 0) {
		return INSN_AGAIN;
	}
	memcpy(g.memory + linear, new, len);
	return INSN_DONE;
}

static enum insn_outcome port_in_op(struct insn_env *env, uint16_t port, unsigned bytes, void *data,
				    unsigned *count)
{
	if (port == 0x999) {
		return INSN_EXIT;
	}
	(void)env;
	g.batches++;
	*count = MIN(*count, g.batch_max);
	memcpy(data, g.ports_in + g.in_at, (size_t)bytes * *count);
	g.in_at += bytes * *count;
	return INSN_DONE;
}

static enum insn_outcome port_out_op(struct insn_env *env, uint16_t port, unsigned bytes,
				     const void *data, unsigned *count)
{
	if (port == 0x999) {
		return INSN_EXIT;
	}
	(void)env;
	g.batches++;
	*count = MIN(*count, g.batch_max);
	memcpy(g.ports_out + g.out_at, data, (size_t)bytes * *count);
	g.out_at += bytes * *count;
	return INSN_DONE;
}

static enum insn_outcome read_cr_op(struct insn_env *env, unsigned cr, uint64_t *value)
{
	(void)env;
	*value = g.cr[cr];
	return INSN_DONE;
}

static enum insn_outcome write_cr_op(struct insn_env *env, unsigned cr, uint64_t value)
{
	if (cr == 3 && (value & 1) != 0) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	g.cr[cr] = value;
	return INSN_DONE;
}

static enum insn_outcome read_dr_op(struct insn_env *env, unsigned dr, uint64_t *value)
{
	(void)env;
	*value = g.dr[dr];
	return INSN_DONE;
}

static enum insn_outcome write_dr_op(struct insn_env *env, unsigned dr, uint64_t value)
{
	(void)env;
	g.dr[dr] = value;
	return INSN_DONE;
}

static enum insn_outcome read_msr_op(struct insn_env *env, uint32_t msr, uint64_t *value)
{
	if (msr == 0xbad) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	g.msr_number = msr;
	*value = g.msr;
	return INSN_DONE;
}

static enum insn_outcome write_msr_op(struct insn_env *env, uint32_t msr, uint64_t value)
{
	if (msr == 0xbad) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	g.msr_number = msr;
	g.msr = value;
	return INSN_DONE;
}

static enum insn_outcome cpuid_op(struct insn_env *env, uint32_t regs[4])
{
	(void)env;
	for (unsigned i = 0; i < 4; i++) {
		regs[i] = (regs[0] << 8 | regs[2]) + 0x1000 * i;
	}
	return INSN_DONE;
}

static enum insn_outcome read_tsc_op(struct insn_env *env, uint64_t *tsc, uint32_t *aux)
{
	(void)env;
	*tsc = UINT64_C(0x1122334455667788);
	*aux = 77;
	return INSN_DONE;
}

static enum insn_outcome read_xcr_op(struct insn_env *env, uint32_t index, uint64_t *value)
{
	*value = g.xcr;
	return index == 0 ? INSN_DONE : insn_raise(env, INSN_EXC_GP, 0);
}

static enum insn_outcome write_xcr_op(struct insn_env *env, uint32_t index, uint64_t value)
{
	g.xcr = value;
	return index == 0 ? INSN_DONE : insn_raise(env, INSN_EXC_GP, 0);
}

static enum insn_outcome read_pkru_op(struct insn_env *env, uint32_t *value)
{
	(void)env;
	*value = g.pkru;
	return INSN_DONE;
}

static enum insn_outcome write_pkru_op(struct insn_env *env, uint32_t value)
{
	(void)env;
	g.pkru = value;
	return INSN_DONE;
}

static enum insn_outcome invlpg_op(struct insn_env *env, uint64_t linear)
{
	(void)env;
	g.invalidated = linear;
	return INSN_DONE;
}

static enum insn_outcome write_back_op(struct insn_env *env)
{
	(void)env;
	g.written_back++;
	return INSN_DONE;
}

static enum insn_outcome read_xmm_op(struct insn_env *env, unsigned reg, void *data)
{
	(void)env;
	(void)reg;
	memcpy(data, g.xmm, 16);
	return INSN_DONE;
}

static enum insn_outcome write_xmm_op(struct insn_env *env, unsigned reg, const void *data,
				      bool clear)
{
	(void)env;
	(void)reg;
	(void)clear;
	memcpy(g.xmm, data, 16);
	return INSN_DONE;
}

const struct insn_ops all_ops = {
	.read = read_op,
	.write = write_op,
	.probe = probe_op,
	.cmpxchg = cmpxchg_op,
	.port_in = port_in_op,
	.port_out = port_out_op,
	.read_xmm = read_xmm_op,
	.write_xmm = write_xmm_op,
	.read_cr = read_cr_op,
	.write_cr = write_cr_op,
	.read_dr = read_dr_op,
	.write_dr = write_dr_op,
	.read_msr = read_msr_op,
	.write_msr = write_msr_op,
	.cpuid = cpuid_op,
	.read_tsc = read_tsc_op,
	.read_xcr = read_xcr_op,
	.write_xcr = write_xcr_op,
	.read_pkru = read_pkru_op,
	.write_pkru = write_pkru_op,
	.invlpg = invlpg_op,
	.write_back = write_back_op,
};

const struct insn_ops memory_ops = {.read = read_op, .write = write_op};

static void start(void)
{
	memset(&g, 0, sizeof(g));
	g.env = (struct insn_env){.cpu = &g.cpu, .ops = &all_ops, .other = insn_do_other};
	g.mmio = UINT64_MAX;
	g.read_only = MEMORY_BYTES;
	g.batch_max = 64;
	g.cpu.rip = 0x1000;
	g.cpu.rflags = BIT(1);
	g.cpu.gpr[4] = 0x8000;
}

int start_long(void **state)
{
	(void)state;
	start();
	g.cpu.cr0 = 0x80000011;
	g.cpu.cr4 = BIT(5) | BIT(9);
	g.cpu.efer = BIT(8) | BIT(10);
	g.cpu.seg[INSN_CS].attr = 0xa9b;
	return 0;
}

int start_32(void **state)
{
	(void)state;
	start();
	g.cpu.cr0 = 0x11;
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		g.cpu.seg[i] = (struct insn_segment){
			.selector = 8, .attr = i == INSN_CS ? 0xc9b : 0xc93, .limit = UINT32_MAX};
	}
	return 0;
}

int start_real(void **state)
{
	(void)state;
	start();
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		g.cpu.seg[i] = (struct insn_segment){.attr = 0x93, .limit = 0xffff};
	}
	return 0;
}

enum insn_outcome emulate(const char *hex)
{
	uint8_t bytes[INSN_MAX];
	struct insn insn;
	unsigned n = 0;

	for (; hex[0] != 0; hex += hex[2] == ' ' ? 3 : 2) {
		char digits[3] = {hex[0], hex[1], 0};

		bytes[n++] = (uint8_t)strtoul(digits, NULL, 16);
	}
	assert_int_equal(insn_decode(&insn, insn_mode(&g.cpu) | (g.intel ? 0 : INSN_AMD), bytes, n),
			 INSN_OK);
	assert_int_equal(insn.len, n);
	return insn_emulate(&g.env, &insn);
}

void assert_fault(const char *hex, enum insn_vector vector)
{
	struct insn_cpu before = g.cpu;
	unsigned writes = g.writes;

	assert_int_equal(emulate(hex), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, vector);
	assert_memory_equal(&before, &g.cpu, sizeof(before));
	assert_int_equal(writes, g.writes);
}
