/*
 * Rare instructions that need little: random numbers, waiting, protection keys, bases of FS and GS,
 * hypercalls, invalidation by PCID, what a CPU without it refuses.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages
 */
#include <string.h>

#include "lib/insn/descriptor.h"

#define MSR_TSC_AUX 0xc0000103

enum insn_outcome insn_do_random(struct insn_exec *x)
{
	bool ok = false;
	uint64_t value = 0;
	enum insn_outcome r;

	if (x->ops->random == NULL) {
		return INSN_UNSUPPORTED;
	}
	r = x->ops->random(x->env, x->insn->mnemonic == INSN_RDSEED, &value, &ok);
	if (r != INSN_DONE) {
		return r;
	}
	insn_set_flags(x, FLAGS_ARITH, ok ? FLAG_CF : 0);
	return insn_write(x, 0, ok ? value : 0);
}

/* The address is looked at as a read of one byte would. */
enum insn_outcome insn_do_monitor(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint8_t byte;

	if (x->insn->mnemonic == INSN_MONITOR && x->cpu->cpl != 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((uint32_t)x->cpu->gpr[RCX] != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	return insn_load(x, m->seg, insn_offset(x, m), &byte, 1);
}

/* A wait may end at any time, so it ends at once. */
enum insn_outcome insn_do_mwait(struct insn_exec *x)
{
	bool privileged = x->insn->mnemonic == INSN_MWAIT;

	if (privileged && x->cpu->cpl != 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((uint32_t)x->cpu->gpr[RCX] > (privileged ? 1 : 3)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	return INSN_DONE;
}

/* There are no counters. */
enum insn_outcome insn_do_rdpmc(struct insn_exec *x)
{
	return insn_raise(x->env, INSN_EXC_GP, 0);
}

enum insn_outcome insn_do_rdpid(struct insn_exec *x)
{
	uint64_t value = 0;
	enum insn_outcome r;

	if (x->ops->read_msr == NULL) {
		return INSN_UNSUPPORTED;
	}
	r = x->ops->read_msr(x->env, MSR_TSC_AUX, &value);
	return r == INSN_DONE ? insn_write(x, 0, (uint32_t)value) : r;
}

/* RDPKRU, WRPKRU: of any CPL. */
enum insn_outcome insn_do_pkru(struct insn_exec *x)
{
	uint64_t *gpr = x->cpu->gpr;
	bool write = x->insn->mnemonic == INSN_WRPKRU;
	uint32_t value = 0;
	enum insn_outcome r;

	if ((x->cpu->cr4 & CR4_PKE) == 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((uint32_t)gpr[RCX] != 0 || (write && (uint32_t)gpr[RDX] != 0)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if (write) {
		return INSN_CALL(x, write_pkru, (uint32_t)gpr[RAX]);
	}
	r = INSN_CALL(x, read_pkru, &value);
	if (r == INSN_DONE) {
		gpr[RAX] = value;
		gpr[RDX] = 0;
	}
	return r;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE */
enum insn_outcome insn_do_fsgsbase(struct insn_exec *x)
{
	unsigned mnemonic = x->insn->mnemonic;
	unsigned seg = mnemonic == INSN_RDFSBASE || mnemonic == INSN_WRFSBASE ? INSN_FS : INSN_GS;
	uint64_t value = 0;
	enum insn_outcome r;

	if ((x->cpu->cr4 & CR4_FSGSBASE) == 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if (mnemonic == INSN_RDFSBASE || mnemonic == INSN_RDGSBASE) {
		return insn_write(x, 0, x->cpu->seg[seg].base);
	}
	r = insn_read(x, 0, &value);
	if (r != INSN_DONE) {
		return r;
	}
	if (!insn_canonical(x->cpu, value)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	x->cpu->seg[seg].base = value;
	return INSN_DONE;
}

enum insn_outcome insn_do_invpcid(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t type = 0, block[2];
	enum insn_outcome r;

	if (insn_v86(x->cpu)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if (x->ops->invpcid == NULL) {
		return INSN_UNSUPPORTED;
	}
	if ((r = insn_read(x, 0, &type)) != INSN_DONE ||
	    (r = insn_load(x, m->seg, insn_offset(x, m), block, 16)) != INSN_DONE) {
		return r;
	}
	if (type > 3 || block[0] > 0xfff ||
	    (type < 2 && (x->cpu->cr4 & CR4_PCIDE) == 0 && block[0] != 0) ||
	    (type == 0 && !insn_canonical(x->cpu, block[1]))) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	return x->ops->invpcid(x->env, (unsigned)type, block[0], block[1]);
}

enum insn_outcome insn_do_hypercall(struct insn_exec *x)
{
	return x->ops->hypercall == NULL ? INSN_UNSUPPORTED : x->ops->hypercall(x->env);
}

/* 64 bytes of zero at the line of rAX. */
enum insn_outcome insn_do_clzero(struct insn_exec *x)
{
	static const uint8_t zero[64];
	const struct insn_mem *m = &x->insn->mem[0];

	return insn_store(x, m->seg, insn_offset(x, m) & ~UINT64_C(63), zero, 64);
}
