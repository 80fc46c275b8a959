#include "lib/insn/emulate.h"

#include "lib/insn/descriptor.h"

bool insn_vector_has_error(unsigned vector)
{
	const uint32_t with_error = BIT(INSN_EXC_DF) | BIT(INSN_EXC_TS) | BIT(INSN_EXC_NP) |
				    BIT(INSN_EXC_SS) | BIT(INSN_EXC_GP) | BIT(INSN_EXC_PF) |
				    BIT(INSN_EXC_AC) | BIT(21) | BIT(29) | BIT(30);

	return vector < 32 && (with_error >> vector & 1) != 0;
}

enum insn_outcome insn_raise(struct insn_env *env, enum insn_vector vector, uint32_t error)
{
	env->fault = (struct insn_fault){
		.vector = vector,
		.has_error = insn_vector_has_error(vector),
		.error = error,
	};
	return INSN_FAULT;
}

enum insn_outcome insn_raise_page_fault(struct insn_env *env, uint64_t address, uint32_t error)
{
	(void)insn_raise(env, INSN_EXC_PF, error);
	env->fault.address = address;
	return INSN_FAULT;
}

#define ALU(f)                                                                                   \
	[INSN_ADD] = (f), [INSN_OR] = (f), [INSN_ADC] = (f), [INSN_SBB] = (f), [INSN_AND] = (f), \
	[INSN_SUB] = (f), [INSN_XOR] = (f), [INSN_CMP] = (f), [INSN_TEST] = (f)

/* By mnemonic: what is not here is for env->other. */
static insn_family_fn *const families[INSN_NMNEMONICS] = {
	ALU(insn_do_alu),
	INSN_ALL_CC(CMOV, insn_do_cmov),
	INSN_ALL_CC(SET, insn_do_setcc),
	[INSN_INC] = insn_do_unary,
	[INSN_DEC] = insn_do_unary,
	[INSN_NEG] = insn_do_unary,
	[INSN_NOT] = insn_do_unary,
	[INSN_ROL] = insn_do_shift,
	[INSN_ROR] = insn_do_shift,
	[INSN_RCL] = insn_do_shift,
	[INSN_RCR] = insn_do_shift,
	[INSN_SHL] = insn_do_shift,
	[INSN_SHR] = insn_do_shift,
	[INSN_SAR] = insn_do_shift,
	[INSN_SHLD] = insn_do_double_shift,
	[INSN_SHRD] = insn_do_double_shift,
	[INSN_XADD] = insn_do_xadd,
	[INSN_CMPXCHG] = insn_do_cmpxchg,
	[INSN_CMPXCHG8B] = insn_do_cmpxchg_wide,
	[INSN_CMPXCHG16B] = insn_do_cmpxchg_wide,
	[INSN_MUL] = insn_do_mul,
	[INSN_IMUL] = insn_do_imul,
	[INSN_DIV] = insn_do_div,
	[INSN_IDIV] = insn_do_div,
	[INSN_BT] = insn_do_bit,
	[INSN_BTS] = insn_do_bit,
	[INSN_BTR] = insn_do_bit,
	[INSN_BTC] = insn_do_bit,
	[INSN_BSF] = insn_do_scan,
	[INSN_BSR] = insn_do_scan,
	[INSN_TZCNT] = insn_do_scan,
	[INSN_LZCNT] = insn_do_scan,
	[INSN_POPCNT] = insn_do_scan,
	[INSN_MOV] = insn_do_mov,
	[INSN_MOVNTI] = insn_do_mov,
	[INSN_MOVDIRI] = insn_do_mov,
	[INSN_MOVZX] = insn_do_extend,
	[INSN_MOVSX] = insn_do_extend,
	[INSN_MOVSXD] = insn_do_extend,
	[INSN_MOVBE] = insn_do_movbe,
	[INSN_XCHG] = insn_do_xchg,
	[INSN_XLAT] = insn_do_xlat,
	[INSN_NOP] = insn_do_nop,
	[INSN_PREFETCHW] = insn_do_nop,
	[INSN_PREFETCHNTA] = insn_do_nop,
	[INSN_PREFETCHT0] = insn_do_nop,
	[INSN_PREFETCHT1] = insn_do_nop,
	[INSN_PREFETCHT2] = insn_do_nop,
	[INSN_PUSH] = insn_do_push,
	[INSN_POP] = insn_do_pop,
	[INSN_JMP] = insn_do_jump,
	[INSN_CALL] = insn_do_call,
	[INSN_RET] = insn_do_ret,
	[INSN_MOVS] = insn_do_string,
	[INSN_CMPS] = insn_do_string,
	[INSN_STOS] = insn_do_string,
	[INSN_LODS] = insn_do_string,
	[INSN_SCAS] = insn_do_string,
	[INSN_IN] = insn_do_in,
	[INSN_OUT] = insn_do_out,
	[INSN_INS] = insn_do_ins,
	[INSN_OUTS] = insn_do_outs,
	[INSN_MOVUPS] = insn_do_xmm_move,
	[INSN_MOVAPS] = insn_do_xmm_move,
	[INSN_MOVUPD] = insn_do_xmm_move,
	[INSN_MOVAPD] = insn_do_xmm_move,
	[INSN_MOVDQA] = insn_do_xmm_move,
	[INSN_MOVDQU] = insn_do_xmm_move,
	[INSN_MOVNTPS] = insn_do_xmm_move,
	[INSN_MOVNTPD] = insn_do_xmm_move,
	[INSN_MOVNTDQ] = insn_do_xmm_move,
	[INSN_MOVNTDQA] = insn_do_xmm_move,
	[INSN_LDDQU] = insn_do_xmm_move,
	[INSN_MOVSS] = insn_do_xmm_scalar,
	[INSN_MOVSD] = insn_do_xmm_scalar,
	[INSN_MOVD] = insn_do_xmm_scalar,
	[INSN_MOVQ] = insn_do_xmm_scalar,
	[INSN_MOVLPS] = insn_do_xmm_scalar,
	[INSN_MOVLPD] = insn_do_xmm_scalar,
	[INSN_MOVHPS] = insn_do_xmm_scalar,
	[INSN_MOVHPD] = insn_do_xmm_scalar,
	[INSN_MOVNTQ] = insn_do_mmx_move,
	[INSN_FNINIT] = insn_do_x87_control,
	[INSN_FNCLEX] = insn_do_x87_control,
	[INSN_FLDCW] = insn_do_x87_control,
	[INSN_FNSTCW] = insn_do_x87_control,
	[INSN_FNSTSW] = insn_do_x87_control,
	[INSN_LMSW] = insn_do_msw,
	[INSN_SMSW] = insn_do_msw,
	[INSN_CLTS] = insn_do_msw,
	[INSN_CLFLUSH] = insn_do_nop,
	[INSN_CLFLUSHOPT] = insn_do_nop,
	[INSN_CLWB] = insn_do_nop,
};

/* What is undefined for reasons of its own, which come before all others. */
static bool undefined_here(const struct insn_cpu *cpu, unsigned mnemonic)
{
	switch (mnemonic) {
	case INSN_CLAC:
	case INSN_STAC:
		return cpu->cpl != 0;
	case INSN_XGETBV:
	case INSN_XSETBV:
		return (cpu->cr4 & CR4_OSXSAVE) == 0;
	default:
		return false;
	}
}

/* What the attributes forbid here. */
static enum insn_outcome permitted(struct insn_exec *x)
{
	const struct insn_cpu *cpu = x->cpu;
	uint16_t attr = x->insn->attributes;

	if (((attr & INSN_ATTR_PROT) != 0 || x->insn->encoding != INSN_LEGACY) &&
	    insn_real_mode(cpu)) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if (undefined_here(cpu, x->insn->mnemonic)) {
		return insn_raise(x->env, INSN_EXC_UD, 0);
	}
	if (cpu->cpl != 0 && ((attr & INSN_ATTR_CPL0) != 0 ||
			      ((attr & INSN_ATTR_UMIP) != 0 && (cpu->cr4 & CR4_UMIP) != 0))) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	if ((attr & INSN_ATTR_IOPL86) != 0 && insn_v86(cpu) && insn_iopl(cpu) < 3 &&
	    ((cpu->cr4 & CR4_VME) == 0 || x->insn->op_bytes != 2)) {
		return insn_raise(x->env, INSN_EXC_GP, 0);
	}
	return INSN_DONE;
}

/* RIP wraps at the width of the mode. */
static uint64_t behind(const struct insn_exec *x)
{
	uint64_t rip = x->cpu->rip + x->insn->len;

	return insn_long_mode(x) ? rip : rip & 0xffffffff;
}

static enum insn_outcome execute(struct insn_exec *x)
{
	const struct insn *insn = x->insn;
	insn_family_fn *family = families[insn->mnemonic];

	if (insn->klass == INSN_CLASS_SYSTEM && insn->mnemonic == INSN_MOV) {
		return insn_do_mov_crdr(x);
	}
	if (family == NULL || (insn->klass >= INSN_CLASS_X87 && x->ops->native != NULL)) {
		family = x->env->other;
	}
	return family != NULL ? family(x) : INSN_UNSUPPORTED;
}

enum insn_outcome insn_emulate(struct insn_env *env, const struct insn *insn)
{
	struct insn_exec x = {.env = env, .cpu = env->cpu, .ops = env->ops, .insn = insn};
	enum insn_outcome r;

	if (insn->mnemonic >= INSN_NMNEMONICS) {
		return INSN_UNSUPPORTED;
	}
	x.next_rip = behind(&x);
	r = permitted(&x);
	if (r != INSN_DONE) {
		return r;
	}
	r = execute(&x);
	if (r == INSN_DONE || r == INSN_HALT) {
		env->cpu->rip = x.next_rip;
		if (!x.keep_rf) {
			env->cpu->rflags &= ~FLAG_RF; /* it was for this instruction only */
		}
		env->cpu->interrupt_shadow = x.shadow;
		env->cpu->trap_shadow = x.trap_shadow;
	}
	return r;
}
