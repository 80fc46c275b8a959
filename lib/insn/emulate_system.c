/*
 * What the operating system owns: control and debug registers, MSRs, descriptor tables, interrupts.
 *
 * Spec: Intel SDM vol. 2, the instructions' pages; vol. 3A, 2.8 "System Instruction Summary"
 */
#include <string.h>

#include "lib/insn/descriptor.h"

#define CR0_LOW UINT64_C(0xf) /* PE, MP, EM, TS */
#define CR0_PE	BIT(0)
#define CR0_TS	BIT(3)
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE	BIT(3)

#define DR6_BD BIT(13)
#define DR7_GD BIT(13)

#define MSR_KERNEL_GS_BASE 0xc0000102

/* Calls an op that may be missing. */
#define CALL(x, op, ...) \
	((x)->ops->op == NULL ? INSN_UNSUPPORTED : (x)->ops->op((x)->env, __VA_ARGS__))

static enum insn_outcome move_cr(struct insn_exec *x, bool to, unsigned cr, unsigned gpr)
{
	unsigned bytes = insn_long_mode(x) ? 8 : 4;
	uint64_t value = 0;
	enum insn_outcome r;

	if (to) {
		return CALL(x, write_cr, cr, insn_get_gpr(x, gpr, bytes));
	}
	r = CALL(x, read_cr, cr, &value);
	if (r == INSN_DONE) {
		insn_set_gpr(x, gpr, bytes, value);
	}
	return r;
}

/* General detect: a debugger protects its registers. Spec: Intel SDM vol. 3B, 17.2.4 */
static enum insn_outcome guarded(struct insn_exec *x)
{
	uint64_t dr7 = 0;
	enum insn_outcome r = CALL(x, read_dr, 7, &dr7);

	if (r == INSN_DONE && (dr7 & DR7_GD) != 0) {
		r = insn_raise(x->env, INSN_EXC_DB, 0);
		x->env->fault.dr6 = DR6_BD;
	}
	return r;
}

static enum insn_outcome move_dr(struct insn_exec *x, bool to, unsigned dr, unsigned gpr)
{
	unsigned bytes = insn_long_mode(x) ? 8 : 4;
	uint64_t value = 0;
	enum insn_outcome r;

	if (dr == 4 || dr == 5) {
		if ((x->cpu->cr4 & CR4_DE) != 0) {
			return insn_raise(x->env, INSN_EXC_UD, 0);
		}
		dr += 2;
	}
	r = guarded(x);
	if (r != INSN_DONE) {
		return r;
	}
	if (to && dr >= 6 && insn_get_gpr(x, gpr, bytes) >> 32 != 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if (to) {
		return CALL(x, write_dr, dr, insn_get_gpr(x, gpr, bytes));
	}
	r = CALL(x, read_dr, dr, &value);
	if (r == INSN_DONE) {
		insn_set_gpr(x, gpr, bytes, value);
	}
	return r;
}

enum insn_outcome insn_do_mov_crdr(struct insn_exec *x)
{
	const struct insn_operand *o = x->insn->operand;
	bool to = o[0].klass == INSN_CR || o[0].klass == INSN_DR;
	unsigned reg = o[to ? 0 : 1].reg, gpr = o[to ? 1 : 0].reg;

	return o[to ? 0 : 1].klass == INSN_CR ? move_cr(x, to, reg, gpr) : move_dr(x, to, reg, gpr);
}

enum insn_outcome insn_do_msw(struct insn_exec *x)
{
	uint64_t cr0 = 0, value = 0;
	enum insn_outcome r = CALL(x, read_cr, 0, &cr0);

	if (r != INSN_DONE) {
		return r;
	}
	switch (x->insn->mnemonic) {
	case INSN_SMSW:
		return insn_write(x, 0, cr0);
	case INSN_LMSW:
		r = insn_read(x, 0, &value);
		if (r != INSN_DONE) {
			return r;
		}
		/* It sets PE, but cannot clear it. */
		value = (cr0 & ~CR0_LOW) | (value & CR0_LOW) | (cr0 & CR0_PE);
		break;
	default: /* CLTS */
		value = cr0 & ~CR0_TS;
		break;
	}
	return CALL(x, write_cr, 0, value);
}

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
	return CALL(x, invlpg, linear);
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
	enum insn_outcome r = CALL(x, cpuid, regs);

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
		return CALL(x, write_msr, msr, get_edx_eax(x));
	}
	r = CALL(x, read_msr, msr, &value);
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
	r = CALL(x, read_tsc, &tsc, &aux);
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
		return CALL(x, write_xcr, index, get_edx_eax(x));
	}
	r = CALL(x, read_xcr, index, &value);
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
	enum insn_outcome r = CALL(x, read_msr, MSR_KERNEL_GS_BASE, &other);

	if (r == INSN_DONE) {
		r = CALL(x, write_msr, MSR_KERNEL_GS_BASE, *base);
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
