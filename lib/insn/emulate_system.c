/*
 * What the operating system owns: MSRs, descriptor tables, the interrupt flag; CPUID and time.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 2.8 "System Instruction Summary"
 */
#include <string.h>

#include "lib/insn/descriptor.h"

#define MSR_KERNEL_GS_BASE 0xc0000102

/* No segment check is made, nor any of the address. */
enum insn_outcome insn_do_invlpg(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	uint64_t linear = insn_offset(x, m);

	if (!insn_long_mode(x)) {
		linear = (uint32_t)(linear + x->cpu->seg[m->seg].base);
	} else if (m->seg >= INSN_FS) {
		linear += x->cpu->seg[m->seg].base;
	}
	return INSN_CALL(x, invlpg, linear);
}

enum insn_outcome insn_do_cache(struct insn_exec *x)
{
	return x->ops->write_back == NULL ? INSN_UNSUPPORTED : x->ops->write_back(x->env);
}

enum insn_outcome insn_do_hlt(struct insn_exec *x)
{
	(void)x;
	return INSN_HALT;
}

enum insn_outcome insn_do_cpuid(struct insn_exec *x)
{
	uint64_t *gpr = x->cpu->gpr;
	uint32_t regs[4] = {(uint32_t)gpr[RAX], (uint32_t)gpr[RBX], (uint32_t)gpr[RCX],
			    (uint32_t)gpr[RDX]};
	enum insn_outcome r = INSN_CALL(x, cpuid, regs);

	if (r == INSN_DONE) {
		gpr[RAX] = regs[0];
		gpr[RBX] = regs[1];
		gpr[RCX] = regs[2];
		gpr[RDX] = regs[3];
	}
	return r;
}

static void set_edx_eax(struct insn_exec *x, uint64_t value)
{
	x->cpu->gpr[RAX] = (uint32_t)value;
	x->cpu->gpr[RDX] = value >> 32;
}

static uint64_t get_edx_eax(const struct insn_exec *x)
{
	return x->cpu->gpr[RDX] << 32 | (uint32_t)x->cpu->gpr[RAX];
}

enum insn_outcome insn_do_msr(struct insn_exec *x)
{
	uint32_t msr = (uint32_t)x->cpu->gpr[RCX];
	uint64_t value = 0;
	enum insn_outcome r;

	if (x->insn->mnemonic == INSN_WRMSR) {
		return INSN_CALL(x, write_msr, msr, get_edx_eax(x));
	}
	r = INSN_CALL(x, read_msr, msr, &value);
	if (r == INSN_DONE) {
		set_edx_eax(x, value);
	}
	return r;
}

enum insn_outcome insn_do_tsc(struct insn_exec *x)
{
	uint64_t tsc = 0;
	uint32_t aux = 0;
	enum insn_outcome r;

	if ((x->cpu->cr4 & CR4_TSD) != 0 && x->cpu->cpl != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = INSN_CALL(x, read_tsc, &tsc, &aux);
	if (r != INSN_DONE) {
		return r;
	}
	set_edx_eax(x, tsc);
	if (x->insn->mnemonic == INSN_RDTSCP) {
		x->cpu->gpr[RCX] = aux;
	}
	return INSN_DONE;
}

enum insn_outcome insn_do_xcr(struct insn_exec *x)
{
	uint32_t index = (uint32_t)x->cpu->gpr[RCX];
	uint64_t value = 0;
	enum insn_outcome r;

	if (x->insn->mnemonic == INSN_XSETBV) {
		return INSN_CALL(x, write_xcr, index, get_edx_eax(x));
	}
	r = INSN_CALL(x, read_xcr, index, &value);
	if (r == INSN_DONE) {
		set_edx_eax(x, value);
	}
	return r;
}

/* LGDT, LIDT, SGDT, SIDT: a limit of two bytes, then a base of four or eight. */
enum insn_outcome insn_do_table(struct insn_exec *x)
{
	const struct insn_mem *m = &x->insn->mem[0];
	unsigned mnemonic = x->insn->mnemonic;
	struct insn_table_register *t =
		mnemonic == INSN_LGDT || mnemonic == INSN_SGDT ? &x->cpu->gdtr : &x->cpu->idtr;
	struct insn_table_register new = {0};
	uint8_t block[10];
	enum insn_outcome r;

	if (mnemonic == INSN_SGDT || mnemonic == INSN_SIDT) {
		memcpy(block, &t->limit, 2);
		memcpy(block + 2, &t->base, 8);
		return insn_store(x, m->seg, insn_offset(x, m), block, m->bytes);
	}
	r = insn_load(x, m->seg, insn_offset(x, m), block, m->bytes);
	if (r != INSN_DONE) {
		return r;
	}
	memcpy(&new.limit, block, 2);
	memcpy(&new.base, block + 2, m->bytes - 2U);
	if (x->insn->op_bytes == 2 && !insn_long_mode(x)) {
		new.base &= 0xffffff;
	}
	if (insn_long_mode(x) && !insn_canonical(x->cpu, new.base)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	*t = new;
	return INSN_DONE;
}

/* Spec: Intel SDM vol. 2, "CLI", table 3-7; "STI", table 4-19 */
enum insn_outcome insn_do_interrupt_flag(struct insn_exec *x)
{
	const struct insn_cpu *cpu = x->cpu;
	bool set = x->insn->mnemonic == INSN_STI, v86 = (cpu->rflags & FLAG_VM) != 0;
	unsigned iopl = (cpu->rflags & FLAG_IOPL) >> 12;
	uint64_t flag = FLAG_IF;

	if (v86 ? iopl < 3 : cpu->cpl > iopl) {
		bool virtual = (cpu->cr4 & (v86 ? CR4_VME : CR4_PVI)) != 0 && cpu->cpl == 3;

		if (!virtual || (set && (cpu->rflags & FLAG_VIP) != 0)) {
			return insn_raise(x->env, INSN_EXC_GP, 0);
		}
		flag = FLAG_VIF;
	}
	x->shadow = set && flag == FLAG_IF && (cpu->rflags & FLAG_IF) == 0;
	insn_set_flags(x, flag, set ? flag : 0);
	return INSN_DONE;
}

enum insn_outcome insn_do_swapgs(struct insn_exec *x)
{
	uint64_t *base = &x->cpu->seg[INSN_GS].base, other = 0;
	enum insn_outcome r = INSN_CALL(x, read_msr, MSR_KERNEL_GS_BASE, &other);

	if (r == INSN_DONE) {
		r = INSN_CALL(x, write_msr, MSR_KERNEL_GS_BASE, *base);
	}
	if (r == INSN_DONE) {
		*base = other;
	}
	return r;
}

enum insn_outcome insn_do_ud(struct insn_exec *x)
{
	return insn_raise(x->env, INSN_EXC_UD, 0);
}
