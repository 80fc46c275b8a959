/*
 * Fast system calls.
 *
 * Spec: Intel SDM vol. 2, "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT"; AMD APM vol. 3, the same,
 * for what only AMD has: SYSCALL outside of 64-bit code
 */
#include "lib/insn/descriptor.h"

#define MSR_SYSENTER_CS	 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_STAR	 0xc0000081
#define MSR_LSTAR	 0xc0000082
#define MSR_CSTAR	 0xc0000083
#define MSR_FMASK	 0xc0000084

#define CODE_64 0xa9b /* without DPL */
#define CODE_32 0xc9b
#define DATA	0xc93

static enum insn_outcome read_msr(struct insn_exec *x, uint32_t msr, uint64_t *value)
{
	*value = 0;
	return x->ops->read_msr == NULL ? INSN_UNSUPPORTED : x->ops->read_msr(x->env, msr, value);
}

/* Flat segments, not read from any table. */
static void set_flat(struct insn_cpu *cpu, uint16_t cs, bool wide, uint16_t ss, unsigned cpl)
{
	uint16_t dpl = (uint16_t)(cpl << 5);

	cpu->seg[INSN_CS] = (struct insn_segment){
		.selector = (uint16_t)((cs & ~3U) | cpl),
		.attr = (wide ? CODE_64 : CODE_32) | dpl,
		.limit = UINT32_MAX,
	};
	cpu->seg[INSN_SS] = (struct insn_segment){
		.selector = (uint16_t)((ss & ~3U) | cpl),
		.attr = DATA | dpl,
		.limit = UINT32_MAX,
	};
	cpu->cpl = (uint8_t)cpl;
}

enum insn_outcome insn_do_syscall(struct insn_exec *x)
{
	struct insn_cpu *cpu = x->cpu;
	bool lma = insn_lma(cpu);
	uint64_t star, rip, mask;
	enum insn_outcome r;

	if ((cpu->efer & EFER_SCE) == 0 || insn_real_mode(cpu)) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((r = read_msr(x, MSR_STAR, &star)) != INSN_DONE ||
	    (r = read_msr(x, MSR_FMASK, &mask)) != INSN_DONE ||
	    (r = read_msr(x, insn_long_mode(x) ? MSR_LSTAR : MSR_CSTAR, &rip)) != INSN_DONE) {
		return r;
	}
	cpu->gpr[RCX] = x->next_rip;
	if (lma) {
		cpu->gpr[11] = cpu->rflags & ~FLAG_RF;
		cpu->rflags &= ~mask | FLAG_ONE;
		x->next_rip = rip;
	} else {
		cpu->rflags &= ~(FLAG_IF | FLAG_VM);
		x->next_rip = (uint32_t)star;
	}
	set_flat(cpu, (uint16_t)(star >> 32), lma, (uint16_t)((star >> 32 & ~3U) + 8), 0);
	return INSN_DONE;
}

/* SS keeps its attributes on AMD; here it is set as Intel does. */
enum insn_outcome insn_do_sysret(struct insn_exec *x)
{
	struct insn_cpu *cpu = x->cpu;
	bool wide = insn_long_mode(x) && x->insn->op_bytes == 8;
	uint64_t star, rip = cpu->gpr[RCX];
	uint16_t base;
	enum insn_outcome r;

	if ((cpu->efer & EFER_SCE) == 0) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if ((cpu->cr0 & 1) == 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = read_msr(x, MSR_STAR, &star);
	if (r != INSN_DONE) {
		return r;
	}
	if (wide && !insn_canonical(cpu, rip)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	base = (uint16_t)(star >> 48);
	if (insn_long_mode(x)) {
		cpu->rflags = (cpu->gpr[11] & 0x3c7fd7) | FLAG_ONE;
	} else {
		cpu->rflags |= FLAG_IF;
	}
	x->next_rip = wide ? rip : (uint32_t)rip;
	set_flat(cpu, (uint16_t)(base + (wide ? 16 : 0)), wide, (uint16_t)(base + 8), 3);
	return INSN_DONE;
}

enum insn_outcome insn_do_sysenter(struct insn_exec *x)
{
	struct insn_cpu *cpu = x->cpu;
	bool lma = insn_lma(cpu);
	uint64_t cs, rsp, rip;
	enum insn_outcome r;

	if ((cpu->cr0 & 1) == 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if ((r = read_msr(x, MSR_SYSENTER_CS, &cs)) != INSN_DONE ||
	    (r = read_msr(x, MSR_SYSENTER_ESP, &rsp)) != INSN_DONE ||
	    (r = read_msr(x, MSR_SYSENTER_EIP, &rip)) != INSN_DONE) {
		return r;
	}
	if (insn_null((uint16_t)cs)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	cpu->rflags &= ~(FLAG_VM | FLAG_IF);
	cpu->gpr[RSP] = lma ? rsp : (uint32_t)rsp;
	x->next_rip = lma ? rip : (uint32_t)rip;
	set_flat(cpu, (uint16_t)cs, lma, (uint16_t)((cs & ~3U) + 8), 0);
	return INSN_DONE;
}

enum insn_outcome insn_do_sysexit(struct insn_exec *x)
{
	struct insn_cpu *cpu = x->cpu;
	bool wide = insn_long_mode(x) && x->insn->op_bytes == 8;
	uint64_t rsp = cpu->gpr[RCX], rip = cpu->gpr[RDX], cs;
	enum insn_outcome r;

	if ((cpu->cr0 & 1) == 0) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	r = read_msr(x, MSR_SYSENTER_CS, &cs);
	if (r != INSN_DONE) {
		return r;
	}
	if (insn_null((uint16_t)cs) ||
	    (wide && (!insn_canonical(cpu, rsp) || !insn_canonical(cpu, rip)))) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	cs = (cs & ~3U) + (wide ? 32 : 16);
	cpu->gpr[RSP] = wide ? rsp : (uint32_t)rsp;
	x->next_rip = wide ? rip : (uint32_t)rip;
	set_flat(cpu, (uint16_t)cs, wide, (uint16_t)(cs + 8), 3);
	return INSN_DONE;
}
