#include "lib/insn/emulate.h"

#include "lib/insn/descriptor.h"

enum insn_mode insn_mode(const struct insn_cpu *cpu)
{
	uint16_t cs = cpu->seg[INSN_CS].attr;

	if (insn_real_mode(cpu)) {
		return INSN_16;
	}
	if ((cpu->efer & EFER_LMA) != 0 && (cs & INSN_SEG_L) != 0) {
		return INSN_64;
	}
	return (cs & INSN_SEG_DB) != 0 ? INSN_32 : INSN_16;
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
#define CC(op, f)                                                                                  \
	[INSN_##op##O] = (f), [INSN_##op##NO] = (f), [INSN_##op##B] = (f), [INSN_##op##NB] = (f),  \
	[INSN_##op##Z] = (f), [INSN_##op##NZ] = (f), [INSN_##op##BE] = (f),                        \
	[INSN_##op##NBE] = (f), [INSN_##op##S] = (f), [INSN_##op##NS] = (f), [INSN_##op##P] = (f), \
	[INSN_##op##NP] = (f), [INSN_##op##L] = (f), [INSN_##op##NL] = (f), [INSN_##op##LE] = (f), \
	[INSN_##op##NLE] = (f)

/* By mnemonic; what is not here is not emulated. */
static enum insn_outcome (*const families[INSN_NMNEMONICS])(struct insn_exec *x) = {
	ALU(insn_do_alu),
	CC(J, insn_do_jcc),
	CC(CMOV, insn_do_cmov),
	CC(SET, insn_do_setcc),
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
	[INSN_ANDN] = insn_do_bmi,
	[INSN_BLSR] = insn_do_bmi,
	[INSN_BLSMSK] = insn_do_bmi,
	[INSN_BLSI] = insn_do_bmi,
	[INSN_BEXTR] = insn_do_bmi,
	[INSN_BZHI] = insn_do_bmi,
	[INSN_PEXT] = insn_do_bmi,
	[INSN_PDEP] = insn_do_bmi,
	[INSN_SHLX] = insn_do_bmi,
	[INSN_SARX] = insn_do_bmi,
	[INSN_SHRX] = insn_do_bmi,
	[INSN_RORX] = insn_do_bmi,
	[INSN_MULX] = insn_do_mulx,
	[INSN_ADCX] = insn_do_adx,
	[INSN_ADOX] = insn_do_adx,
	[INSN_CRC32] = insn_do_crc32,
	[INSN_DAA] = insn_do_bcd,
	[INSN_DAS] = insn_do_bcd,
	[INSN_AAA] = insn_do_bcd,
	[INSN_AAS] = insn_do_bcd,
	[INSN_AAM] = insn_do_bcd,
	[INSN_AAD] = insn_do_bcd,
	[INSN_MOV] = insn_do_mov,
	[INSN_MOVNTI] = insn_do_mov,
	[INSN_MOVDIRI] = insn_do_mov,
	[INSN_MOVZX] = insn_do_extend,
	[INSN_MOVSX] = insn_do_extend,
	[INSN_MOVSXD] = insn_do_extend,
	[INSN_MOVBE] = insn_do_movbe,
	[INSN_LEA] = insn_do_lea,
	[INSN_XCHG] = insn_do_xchg,
	[INSN_CBW] = insn_do_convert,
	[INSN_CWDE] = insn_do_convert,
	[INSN_CDQE] = insn_do_convert,
	[INSN_CWD] = insn_do_convert,
	[INSN_CDQ] = insn_do_convert,
	[INSN_CQO] = insn_do_convert,
	[INSN_BSWAP] = insn_do_bswap,
	[INSN_XLAT] = insn_do_xlat,
	[INSN_CLC] = insn_do_flags,
	[INSN_STC] = insn_do_flags,
	[INSN_CMC] = insn_do_flags,
	[INSN_CLD] = insn_do_flags,
	[INSN_STD] = insn_do_flags,
	[INSN_LAHF] = insn_do_flags,
	[INSN_SAHF] = insn_do_flags,
	[INSN_SALC] = insn_do_flags,
	[INSN_CLAC] = insn_do_flags,
	[INSN_STAC] = insn_do_flags,
	[INSN_NOP] = insn_do_nop,
	[INSN_PAUSE] = insn_do_nop,
	[INSN_ENDBR32] = insn_do_nop,
	[INSN_ENDBR64] = insn_do_nop,
	[INSN_PREFETCHW] = insn_do_nop,
	[INSN_PREFETCHNTA] = insn_do_nop,
	[INSN_PREFETCHT0] = insn_do_nop,
	[INSN_PREFETCHT1] = insn_do_nop,
	[INSN_PREFETCHT2] = insn_do_nop,
	[INSN_LFENCE] = insn_do_nop,
	[INSN_MFENCE] = insn_do_nop,
	[INSN_SFENCE] = insn_do_nop,
	[INSN_PUSH] = insn_do_push,
	[INSN_POP] = insn_do_pop,
	[INSN_PUSHA] = insn_do_pusha,
	[INSN_POPA] = insn_do_popa,
	[INSN_PUSHF] = insn_do_pushf,
	[INSN_POPF] = insn_do_popf,
	[INSN_ENTER] = insn_do_enter,
	[INSN_LEAVE] = insn_do_leave,
	[INSN_JMP] = insn_do_jump,
	[INSN_CALL] = insn_do_call,
	[INSN_RET] = insn_do_ret,
	[INSN_LOOP] = insn_do_loop,
	[INSN_LOOPE] = insn_do_loop,
	[INSN_LOOPNE] = insn_do_loop,
	[INSN_JCXZ] = insn_do_loop,
	[INSN_BOUND] = insn_do_bound,
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
	[INSN_INVLPG] = insn_do_invlpg,
	[INSN_WBINVD] = insn_do_cache,
	[INSN_WBNOINVD] = insn_do_cache,
	[INSN_INVD] = insn_do_cache,
	[INSN_CLFLUSH] = insn_do_nop,
	[INSN_CLFLUSHOPT] = insn_do_nop,
	[INSN_CLWB] = insn_do_nop,
	[INSN_HLT] = insn_do_hlt,
	[INSN_CPUID] = insn_do_cpuid,
	[INSN_RDMSR] = insn_do_msr,
	[INSN_WRMSR] = insn_do_msr,
	[INSN_RDTSC] = insn_do_tsc,
	[INSN_RDTSCP] = insn_do_tsc,
	[INSN_XGETBV] = insn_do_xcr,
	[INSN_XSETBV] = insn_do_xcr,
	[INSN_LGDT] = insn_do_table,
	[INSN_LIDT] = insn_do_table,
	[INSN_SGDT] = insn_do_table,
	[INSN_SIDT] = insn_do_table,
	[INSN_CLI] = insn_do_interrupt_flag,
	[INSN_STI] = insn_do_interrupt_flag,
	[INSN_SLDT] = insn_do_selector,
	[INSN_STR] = insn_do_selector,
	[INSN_SWAPGS] = insn_do_swapgs,
	[INSN_LES] = insn_do_load_pointer,
	[INSN_LDS] = insn_do_load_pointer,
	[INSN_LSS] = insn_do_load_pointer,
	[INSN_LFS] = insn_do_load_pointer,
	[INSN_LGS] = insn_do_load_pointer,
	[INSN_LLDT] = insn_do_lldt,
	[INSN_LTR] = insn_do_ltr,
	[INSN_LAR] = insn_do_look,
	[INSN_LSL] = insn_do_look,
	[INSN_VERR] = insn_do_verify,
	[INSN_VERW] = insn_do_verify,
	[INSN_ARPL] = insn_do_arpl,
	[INSN_JMPF] = insn_do_jmpf,
	[INSN_CALLF] = insn_do_callf,
	[INSN_RETF] = insn_do_retf,
	[INSN_INT] = insn_do_int,
	[INSN_INT3] = insn_do_int,
	[INSN_INTO] = insn_do_int,
	[INSN_INT1] = insn_do_int,
	[INSN_IRET] = insn_do_iret,
	[INSN_SYSCALL] = insn_do_syscall,
	[INSN_SYSRET] = insn_do_sysret,
	[INSN_SYSENTER] = insn_do_sysenter,
	[INSN_SYSEXIT] = insn_do_sysexit,
	[INSN_RDRAND] = insn_do_random,
	[INSN_RDSEED] = insn_do_random,
	[INSN_MONITOR] = insn_do_monitor,
	[INSN_MONITORX] = insn_do_monitor,
	[INSN_MWAIT] = insn_do_mwait,
	[INSN_MWAITX] = insn_do_mwait,
	[INSN_RDPMC] = insn_do_rdpmc,
	[INSN_RDPID] = insn_do_rdpid,
	[INSN_RDFSBASE] = insn_do_fsgsbase,
	[INSN_RDGSBASE] = insn_do_fsgsbase,
	[INSN_WRFSBASE] = insn_do_fsgsbase,
	[INSN_WRGSBASE] = insn_do_fsgsbase,
	[INSN_INVPCID] = insn_do_invpcid,
	[INSN_VMCALL] = insn_do_hypercall,
	[INSN_VMMCALL] = insn_do_hypercall,
	[INSN_CLZERO] = insn_do_clzero,
	[INSN_SERIALIZE] = insn_do_nop,
	[INSN_RSM] = insn_do_ud,
	[INSN_FXSAVE] = insn_do_fxsave,
	[INSN_FXRSTOR] = insn_do_fxsave,
	[INSN_XSAVE] = insn_do_xsave,
	[INSN_XSAVEOPT] = insn_do_xsave,
	[INSN_XSAVEC] = insn_do_xsave,
	[INSN_XSAVES] = insn_do_xsave,
	[INSN_XRSTOR] = insn_do_xsave,
	[INSN_XRSTORS] = insn_do_xsave,
	[INSN_UD0] = insn_do_ud,
	[INSN_UD1] = insn_do_ud,
	[INSN_UD2] = insn_do_ud,
};

#define CR4_VME	    BIT(0)
#define CR4_UMIP    BIT(11)
#define CR4_OSXSAVE BIT(18)

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
	if (insn->klass == INSN_CLASS_SYSTEM && insn->mnemonic == INSN_MOV) {
		r = insn_do_mov_crdr(&x);
	} else if (insn->klass >= INSN_CLASS_X87 && env->ops->native != NULL) {
		r = insn_do_native(&x);
	} else if (families[insn->mnemonic] == NULL) {
		return INSN_UNSUPPORTED;
	} else {
		r = families[insn->mnemonic](&x);
	}
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
