/*
 * Where we and Zydis 4.0 differ, and why.
 *
 * Each row excuses one aspect of some instructions; what is not here fails the tests.
 */
#include <string.h>

#include "lib/insn/test_zydis_both.h"

/* Zydis's mnemonic is one of these. */
static bool one_of(const struct zydis_both *b, const ZydisMnemonic *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (list[i] == b->z.mnemonic) {
			return true;
		}
	}
	return false;
}

#define IS(b, ...)                                      \
	one_of(b, (const ZydisMnemonic[]){__VA_ARGS__}, \
	       sizeof((const ZydisMnemonic[]){__VA_ARGS__}) / sizeof(ZydisMnemonic))
#define M(name) ZYDIS_MNEMONIC_##name

static bool not_decoded(const struct zydis_both *b)
{
	static const ZydisISAExt exts[] = {
		ZYDIS_ISA_EXT_AMD3DNOW,
		ZYDIS_ISA_EXT_XOP,
		ZYDIS_ISA_EXT_TBM,
		ZYDIS_ISA_EXT_FMA4,
		ZYDIS_ISA_EXT_PADLOCK,
		ZYDIS_ISA_EXT_KNC,
		ZYDIS_ISA_EXT_KNCE,
		ZYDIS_ISA_EXT_KNCV,
		ZYDIS_ISA_EXT_AMX_BF16,
		ZYDIS_ISA_EXT_AMX_INT8,
		ZYDIS_ISA_EXT_AMX_TILE,
		ZYDIS_ISA_EXT_KEYLOCKER,
		ZYDIS_ISA_EXT_KEYLOCKER_WIDE,
		ZYDIS_ISA_EXT_SGX,
		ZYDIS_ISA_EXT_SGX_ENCLV,
		ZYDIS_ISA_EXT_SMX,
		ZYDIS_ISA_EXT_TDX,
		ZYDIS_ISA_EXT_UINTR,
		ZYDIS_ISA_EXT_SNP,
		ZYDIS_ISA_EXT_TSX_LDTRK,
		ZYDIS_ISA_EXT_PCONFIG,
		ZYDIS_ISA_EXT_PT,
		ZYDIS_ISA_EXT_HRESET,
		ZYDIS_ISA_EXT_MCOMMIT,
		ZYDIS_ISA_EXT_VMFUNC,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(exts); i++) {
		if (b->z.meta.isa_ext == exts[i]) {
			return true;
		}
	}
	return false;
}

static bool avx512_not_decoded(const struct zydis_both *b)
{
	static const char *const sets[] = {"AVX512_FP16", "AVX512ER", "AVX512PF", "AVX512_4FMAPS",
					   "AVX512_4VNNIW"};
	const char *set = ZydisISASetGetString(b->z.meta.isa_set);

	for (unsigned i = 0; set != NULL && i < ARRAY_SIZE(sets); i++) {
		if (strncmp(set, sets[i], strlen(sets[i])) == 0) {
			return true;
		}
	}
	return false;
}

static bool lock_mov_cr(const struct zydis_both *b)
{
	return b->insn.mnemonic == INSN_MOV && (b->insn.prefixes & INSN_PREFIX_LOCK) != 0;
}

static bool amd_prefetch(const struct zydis_both *b)
{
	return (b->mode & INSN_AMD) != 0 && IS(b, M(NOP)) && b->z.opcode == 0x0d;
}

static bool converts_w1(const struct zydis_both *b)
{
	return b->mode != INSN_64 && b->insn.evex_b &&
	       (b->insn.mnemonic == INSN_VCVTSI2SD || b->insn.mnemonic == INSN_VCVTUSI2SD);
}

static bool other_name(const struct zydis_both *b)
{
	return IS(b, M(CALL), M(RET), M(JMP), M(JCXZ), M(JECXZ), M(JRCXZ), M(MOVQ), M(VMOVQ),
		  M(PEXTRQ), M(VPEXTRQ), M(PINSRQ), M(VPINSRQ), M(FXSAVE64), M(FXRSTOR64),
		  M(XSAVE64), M(XRSTOR64), M(XSAVEC64), M(XSAVES64), M(XRSTORS64), M(XSAVEOPT64),
		  M(FENI8087_NOP), M(FDISI8087_NOP), M(FSETPM287_NOP), M(PREFETCH), M(PREFETCHWT1),
		  M(FSTPNCE));
}

static bool cet_nop(const struct zydis_both *b)
{
	return IS(b, M(RDSSPD), M(RDSSPQ));
}

static bool pause_rexb(const struct zydis_both *b)
{
	return (b->mode & INSN_AMD) != 0 && IS(b, M(PAUSE)) && b->insn.mnemonic == INSN_XCHG;
}

static bool nop(const struct zydis_both *b)
{
	return IS(b, M(NOP));
}

static bool strings(const struct zydis_both *b)
{
	return (b->insn.attributes & INSN_ATTR_REP) != 0;
}

static bool interrupts(const struct zydis_both *b)
{
	return IS(b, M(INT), M(INT1), M(INT3), M(INTO));
}

static bool transactions(const struct zydis_both *b)
{
	return IS(b, M(XABORT), M(XBEGIN));
}

static bool mwaitx(const struct zydis_both *b)
{
	return IS(b, M(MWAITX));
}

static bool legacy_syscall(const struct zydis_both *b)
{
	return b->insn.mode != INSN_64 && IS(b, M(SYSCALL), M(SYSRET));
}

static bool bit_scan(const struct zydis_both *b)
{
	return IS(b, M(BSF), M(BSR));
}

static bool shifts(const struct zydis_both *b)
{
	return (b->insn.attributes & INSN_ATTR_SHIFT) != 0 &&
	       b->insn.operand[b->insn.noperands - 1].kind == INSN_OP_IMM;
}

static bool whole_flags(const struct zydis_both *b)
{
	return IS(b, M(PUSHF), M(PUSHFD), M(PUSHFQ), M(POPF), M(POPFD), M(POPFQ), M(IRET), M(IRETD),
		  M(IRETQ), M(RSM)) ||
	       b->insn.klass == INSN_CLASS_FAR;
}

static bool wbnoinvd(const struct zydis_both *b)
{
	return IS(b, M(WBINVD)) && b->insn.mnemonic == INSN_WBNOINVD;
}

static bool needs_iopl(const struct zydis_both *b)
{
	return (b->insn.attributes & INSN_ATTR_IOPL) != 0;
}

static bool vmx(const struct zydis_both *b)
{
	return IS(b, M(VMCALL), M(VMLAUNCH), M(VMRESUME));
}

static bool mov_crdr(const struct zydis_both *b)
{
	return IS(b, M(MOV)) && b->insn.map == 1;
}

static bool zydis_flags(const struct zydis_both *b)
{
	return IS(b, M(SBB), M(BEXTR), M(VTESTPS), M(VTESTPD), M(VPTEST), M(RDPRU), M(RSTORSSP),
		  M(CLRSSBSY));
}

static bool zydis_unprivileged(const struct zydis_both *b)
{
	return IS(b, M(LGDT), M(LIDT), M(VMRUN), M(VMLOAD), M(VMSAVE), M(STGI), M(CLGI), M(SKINIT),
		  M(ENQCMDS)) &&
	       (b->insn.attributes & INSN_ATTR_CPL0) != 0;
}

static bool monitor(const struct zydis_both *b)
{
	return IS(b, M(MONITOR), M(MWAIT));
}

static bool sib_r13(const struct zydis_both *b)
{
	for (unsigned i = 0; i < b->z.operand_count; i++) {
		if (b->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (b->op[i].mem.base == ZYDIS_REGISTER_R13D)) {
			return b->insn.modrm < 0x40 && (b->insn.sib & 7) == 5;
		}
	}
	return false;
}

static bool monitored(const struct zydis_both *b)
{
	return IS(b, M(CLZERO), M(MONITORX), M(MONITOR));
}

static bool direct_store(const struct zydis_both *b)
{
	return IS(b, M(MOVDIR64B), M(ENQCMD), M(ENQCMDS));
}

static bool amd_indirect(const struct zydis_both *b)
{
	return (b->mode & INSN_AMD) != 0 && b->insn.op_bytes == 2 && b->insn.mode == INSN_64 &&
	       IS(b, M(CALL), M(JMP));
}

static bool movsxd16(const struct zydis_both *b)
{
	return IS(b, M(MOVSXD)) && b->insn.op_bytes == 2;
}

static bool merges(const struct zydis_both *b)
{
	struct zydis_used z, o;

	zydis_used(b, &z);
	zydis_ours(b, &o);
	/* We read the destination in addition. */
	return b->insn.encoding == INSN_LEGACY && b->insn.operand[0].klass == INSN_VEC &&
	       (o.vec[READ] & ~(1U << b->insn.operand[0].reg)) ==
		       (z.vec[READ] & ~(1U << b->insn.operand[0].reg));
}

static bool fast_calls(const struct zydis_both *b)
{
	return b->insn.klass == INSN_CLASS_FAR;
}

static bool msw(const struct zydis_both *b)
{
	return IS(b, M(SMSW), M(LMSW));
}

static bool lsl(const struct zydis_both *b)
{
	return IS(b, M(LSL), M(LAR));
}

static const struct {
	unsigned aspect;
	bool (*applies)(const struct zydis_both *b);
	const char *why;
} reasons[] = {
	{ZYDIS_VALIDITY, not_decoded, "an extension that we do not decode: no CPU model has it"},
	{ZYDIS_VALIDITY, avx512_not_decoded, "AVX-512 of Xeon Phi, FP16: not decoded"},
	{ZYDIS_VALIDITY, lock_mov_cr, "AMD: LOCK MOV CR0 is MOV CR8; Zydis does not have it"},
	{ZYDIS_VALIDITY, amd_prefetch, "AMD: there is no prefetch of a register"},
	{ZYDIS_VALIDITY, converts_w1, "W is ignored outside of 64-bit mode, and so is rounding"},
	{ZYDIS_MNEMONIC, other_name, "the same instruction under another name"},
	{ZYDIS_MNEMONIC, wbnoinvd, "WBINVD with F3, where it is new"},
	{ZYDIS_MNEMONIC, cet_nop, "a NOP where there are no shadow stacks"},
	{ZYDIS_MNEMONIC, pause_rexb, "with REX.B it is XCHG R8 to AMD, whatever the prefixes"},
	{ZYDIS_GPRS, pause_rexb, "with REX.B it is XCHG R8 to AMD, whatever the prefixes"},
	{ZYDIS_REGISTERS, nop, "NOP has no operand but its ModRM; Zydis lists ModRM.reg"},
	{ZYDIS_GPRS, cet_nop, "a NOP where there are no shadow stacks"},
	{ZYDIS_GPRS, nop, "NOP reads no register but those of the address"},
	{ZYDIS_GPRS, strings, "rSI and rDI move, which Zydis has for some only"},
	{ZYDIS_GPRS, interrupts, "they push; Zydis does not say so"},
	{ZYDIS_GPRS, transactions,
	 "XBEGIN gives the reason in EAX, XABORT has nothing to do there"},
	{ZYDIS_GPRS, legacy_syscall, "outside of 64-bit mode there is no R11"},
	{ZYDIS_GPRS, mwaitx, "MWAITX has a time-out in EBX"},
	{ZYDIS_GPRS, bit_scan, "the destination stays if the source is zero"},
	{ZYDIS_FLAGS, shifts, "we look at the count"},
	{ZYDIS_FLAGS, whole_flags, "reads or writes all flags; Zydis lists some"},
	{ZYDIS_FLAGS, needs_iopl, "permission is not data flow: attributes have it"},
	{ZYDIS_FLAGS, vmx, "what the host does with a guest's flags is not known here"},
	{ZYDIS_FLAGS, mov_crdr, "arithmetic flags are undefined after, by Intel's manual"},
	{ZYDIS_FLAGS, zydis_flags, "as the manuals have it; Zydis differs"},
	{ZYDIS_PRIVILEGE, zydis_unprivileged, "privileged, by the manuals; Zydis differs"},
	{ZYDIS_PRIVILEGE, monitor, "refused by #UD, and by a setting of the system only"},
	{ZYDIS_MEMORY, sib_r13, "SIB.base = 5 without ModRM.mod is no base, whatever REX.B"},
	{ZYDIS_GPRS, sib_r13, "SIB.base = 5 without ModRM.mod is no base, whatever REX.B"},
	{ZYDIS_MEMORY, monitored, "Zydis does not have the memory at rAX"},
	{ZYDIS_MEMORY, direct_store, "Zydis does not have the memory where it goes to"},
	{ZYDIS_REGISTERS, direct_store, "Zydis does not have the memory where it goes to"},
	{ZYDIS_MEMORY, amd_indirect, "AMD: near branches of 16 bits"},
	{ZYDIS_REGISTERS, amd_indirect, "AMD: near branches of 16 bits"},
	{ZYDIS_MEMORY, movsxd16, "to 16 bits: AMD reads 32, Intel 16, Zydis one or the other"},
	{ZYDIS_REGISTERS, movsxd16, "to 16 bits: AMD reads 32, Intel 16, Zydis one or the other"},
	{ZYDIS_VECTORS, merges, "the rest of the destination stays, so it is read"},
	{ZYDIS_VECTORS, fast_calls, "far transfers load segments: told by the class"},
	{ZYDIS_VECTORS, msw, "CR0 is told by the mnemonic"},
	{ZYDIS_REGISTERS, lsl, "16 bits are read, whatever the size"},
};

_Static_assert(ARRAY_SIZE(reasons) <= ZYDIS_NREASONS_MAX, "struct zydis_report counts each");

bool zydis_excused(struct zydis_both *b, unsigned aspect)
{
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].aspect == aspect && reasons[i].applies(b)) {
			b->report->excused[i]++;
			return true;
		}
	}
	return false;
}

const char *zydis_reason(unsigned i)
{
	return i < ARRAY_SIZE(reasons) ? reasons[i].why : NULL;
}
