/*
 * The reference engine: one instruction after the other, by lib/insn. What the backend's contract
 * calls a stop is told here by the mnemonic, before the instruction changes anything.
 */
#include "soft/interp.h"

#include <sched.h>
#include <string.h>

#include "lib/kvm/cpuid.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"
#include "soft/access.h"
#include "soft/deliver.h"
#include "soft/ops.h"
#include "soft/vcpu.h"

#define EXC_BP	    3
#define FLAG_ZF	    BIT(6)
#define DR7_ENABLED UINT64_C(0xff)

/* After so many instructions lib/kvm looks whether a signal is pending. */
#define SLICE 2000

#define PAGE UINT64_C(4096)

/* Of so many iterations of a REP as the emulator makes at once; then it is fetched anew. */
#define TURNS 4

/* ---- fetching ---- */

static struct soft_decoded *slot_of(struct soft_vcpu *vcpu, uint64_t linear)
{
	return &vcpu->decoded[(linear ^ linear >> 10) % SOFT_DECODED];
}

/* Is what was decoded before still there? */
static bool is_same(struct soft_vcpu *vcpu, const struct soft_decoded *known, uint64_t linear,
		    uint8_t mode)
{
	uint32_t all = (UINT32_C(1) << known->insn.len) - 1;
	uint8_t *host = NULL;
	int equal;

	if (known->rip != linear || known->mode != mode ||
	    linear % PAGE > PAGE - sizeof(known->bytes) ||
	    soft_mmu_host(vcpu, linear, SOFT_FETCH, false, &host) != INSN_DONE) {
		return false;
	}
	equal = soft_access_equal16(host, known->bytes);
	return equal >= 0 && ((uint32_t)equal & all) == all;
}

/* Return: INSN_DONE: @known holds the instruction; INSN_FAULT, INSN_EXIT. */
static enum insn_outcome decode(struct soft_vcpu *vcpu, struct soft_decoded *known, uint64_t linear,
				uint8_t mode)
{
	unsigned how = mode | (vcpu->kvm->features.amd ? INSN_AMD : 0), len;
	uint8_t bytes[INSN_MAX];
	enum insn_outcome outcome = soft_mmu_fetch(vcpu, linear, bytes, &len, false);
	enum insn_result result;

	if (outcome != INSN_DONE) {
		return outcome;
	}
	known->rip = UINT64_MAX;
	result = insn_decode(&known->insn, how, bytes, len);
	if (result == INSN_MORE) {
		outcome = soft_mmu_fetch(vcpu, linear, bytes, &len, true);
		if (outcome != INSN_DONE) {
			return outcome;
		}
		result = insn_decode(&known->insn, how, bytes, len);
	}
	if (result != INSN_OK) {
		return insn_raise(&vcpu->env, result == INSN_UNDEFINED ? INSN_EXC_UD : INSN_EXC_GP,
				  0);
	}
	known->rip = linear;
	known->mode = mode;
	memcpy(known->bytes, bytes, len);
	return INSN_DONE;
}

/* The instruction at RIP, or NULL. Return: INSN_DONE, INSN_FAULT or INSN_EXIT. */
static enum insn_outcome fetch(struct soft_vcpu *vcpu, const struct insn **insn)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint8_t mode = (uint8_t)insn_mode(cpu);
	uint64_t linear = cpu->rip, limit = cpu->seg[INSN_CS].limit;
	struct soft_decoded *known;
	enum insn_outcome outcome;

	*insn = NULL;
	if (mode != INSN_64) {
		if (cpu->rip > limit) {
			return insn_raise(&vcpu->env, INSN_EXC_GP, 0);
		}
		linear = (uint32_t)(linear + cpu->seg[INSN_CS].base);
	}
	known = slot_of(vcpu, linear);
	if (!is_same(vcpu, known, linear, mode)) {
		outcome = decode(vcpu, known, linear, mode);
		if (outcome != INSN_DONE) {
			return outcome;
		}
	}
	if (mode != INSN_64 && cpu->rip + known->insn.len - 1 > limit) {
		return insn_raise(&vcpu->env, INSN_EXC_GP, 0);
	}
	*insn = &known->insn;
	return INSN_DONE;
}

bool soft_interp_keep(struct soft_vcpu *vcpu)
{
	const struct insn *insn;

	if (fetch(vcpu, &insn) == INSN_DONE && insn != NULL) {
		vcpu->kept = *insn;
		vcpu->is_kept = true;
	}
	return vcpu->is_kept;
}

/* ---- instructions that are not the emulator's ---- */

static enum insn_outcome general_protection(struct soft_vcpu *vcpu)
{
	return insn_raise(&vcpu->env, INSN_EXC_GP, 0);
}

/* Stops at an instruction that only CPL 0 may execute. */
static enum insn_outcome stop_privileged(struct soft_vcpu *vcpu, enum kvm_stop_reason reason)
{
	return vcpu->kvm->cpu.cpl != 0 ? general_protection(vcpu) : soft_stop(vcpu, reason);
}

static enum insn_outcome cpuid(struct soft_vcpu *vcpu, const struct insn *insn)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t *gpr = kvm->cpu.gpr;
	uint32_t regs[4] = {(uint32_t)gpr[0], 0, (uint32_t)gpr[1], 0};

	if (kvm->msr[KVM_MSR_MISC_FEATURES] != 0 || insn_mode(&kvm->cpu) != INSN_64) {
		return soft_stop(vcpu, KVM_STOP_CPUID); /* it may be a fault */
	}
	kvm_cpuid_query(kvm, regs);
	gpr[0] = regs[CPUID_EAX];
	gpr[3] = regs[CPUID_EBX];
	gpr[1] = regs[CPUID_ECX];
	gpr[2] = regs[CPUID_EDX];
	kvm->cpu.rip += insn->len;
	kvm->cpu.rflags &= ~RFLAGS_RF;
	kvm->cpu.interrupt_shadow = kvm->cpu.trap_shadow = false;
	return INSN_DONE;
}

/* Return: what the instruction came to; *@mine false: it is the emulator's. */
static enum insn_outcome intercepted(struct soft_vcpu *vcpu, const struct insn *insn, bool *mine)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;

	*mine = true;
	switch (insn->mnemonic) {
	case INSN_HLT:
		return stop_privileged(vcpu, KVM_STOP_HLT);
	case INSN_CPUID:
		return cpuid(vcpu, insn);
	case INSN_RDMSR:
		return stop_privileged(vcpu, KVM_STOP_MSR_READ);
	case INSN_WRMSR:
		return stop_privileged(vcpu, KVM_STOP_MSR_WRITE);
	case INSN_XSETBV:
		if ((cpu->cr4 & CR4_OSXSAVE) == 0) {
			return insn_raise(&vcpu->env, INSN_EXC_UD, 0);
		}
		return stop_privileged(vcpu, KVM_STOP_XSETBV);
	case INSN_RDPMC:
		return cpu->cpl != 0 && (cpu->cr4 & CR4_PCE) == 0 ? general_protection(vcpu)
								  : soft_stop(vcpu, KVM_STOP_RDPMC);
	case INSN_SYSENTER:
	case INSN_SYSEXIT:
		/* In long mode, those that say they are Intel's know it. As Linux KVM does. */
		if ((cpu->efer & EFER_LMA) != 0 && !vcpu->kvm->features.intel) {
			return insn_raise(&vcpu->env, INSN_EXC_UD, 0);
		}
		break;
	case INSN_VMCALL:
		/*
		 * As on AMD's CPUs, which do not know it, so that lib/kvm patches it. A guest that
		 * is shown Intel's may have it in memory that it has protected.
		 */
		if (!vcpu->kvm->features.intel) {
			vcpu->stop->exception.vector = INSN_EXC_UD;
			return soft_stop(vcpu, KVM_STOP_EXCEPTION);
		}
		return soft_stop(vcpu, KVM_STOP_HYPERCALL);
	case INSN_VMMCALL:
		/* To Intel's CPUs it is the foreign one. If it may be patched, it need not be. */
		if (vcpu->kvm->features.intel &&
		    (vcpu->kvm->vm->quirks_off & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) != 0) {
			return insn_raise(&vcpu->env, INSN_EXC_UD, 0);
		}
		return soft_stop(vcpu, KVM_STOP_HYPERCALL);
	case INSN_MONITOR:
		return stop_privileged(vcpu, KVM_STOP_MONITOR);
	case INSN_MWAIT:
		return stop_privileged(vcpu, KVM_STOP_MWAIT);
	case INSN_PAUSE:
		if (soft_vcpu_yields(vcpu)) {
			sched_yield();
		}
		vcpu->pauses++;
		break;
	case INSN_INS:
	case INSN_OUTS:
		return soft_stop(vcpu, KVM_STOP_EMULATE);
	case INSN_INT3:
		if (vcpu->kvm->intercept_bp) {
			vcpu->stop->exception.vector = EXC_BP;
			return soft_stop(vcpu, KVM_STOP_EXCEPTION);
		}
		break;
	default:
		break;
	}
	*mine = false;
	return INSN_DONE;
}

/* ---- one instruction ---- */

static bool repeats(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_STRING &&
	       (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0;
}

/* One iteration of a string instruction, so that a trap or another step can follow. */
static enum insn_outcome iterate(struct soft_vcpu *vcpu, const struct insn *insn)
{
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint64_t mask = insn->adr_bytes == 8 ? UINT64_MAX : BIT(8 * insn->adr_bytes) - 1;
	uint64_t rip = cpu->rip, count = cpu->gpr[1] & mask;
	struct insn once = *insn;
	enum insn_outcome outcome;
	bool compares = insn->mnemonic == INSN_CMPS || insn->mnemonic == INSN_SCAS;

	if (count == 0) {
		return insn_emulate(&vcpu->env, insn);
	}
	once.prefixes &= (uint8_t) ~(INSN_PREFIX_REP | INSN_PREFIX_REPNE);
	outcome = insn_emulate(&vcpu->env, &once);
	if (outcome != INSN_DONE) {
		return outcome;
	}
	count--;
	cpu->gpr[1] = insn->adr_bytes == 2 ? (cpu->gpr[1] & ~mask) | count : count;
	if (count != 0 && (!compares || ((cpu->rflags & FLAG_ZF) != 0) ==
						((insn->prefixes & INSN_PREFIX_REP) != 0))) {
		cpu->rip = rip;
		return INSN_AGAIN;
	}
	return INSN_DONE;
}

static enum insn_outcome execute(struct soft_vcpu *vcpu, const struct insn *insn)
{
	enum insn_outcome outcome;
	bool mine;

	vcpu->insn_len = insn->len;
	outcome = intercepted(vcpu, insn, &mine);
	if (mine) {
		return outcome;
	}
	return (vcpu->kvm->cpu.rflags & RFLAGS_TF) != 0 && repeats(insn)
		       ? iterate(vcpu, insn)
		       : insn_emulate(&vcpu->env, insn);
}

/*
 * A REP that overwrites itself goes on as it was, unless something interrupts it, as on CPUs. For a
 * while nothing does, so that one can tell what comes of it.
 */
static enum insn_outcome execute_turns(struct soft_vcpu *vcpu, const struct insn *insn)
{
	enum insn_outcome outcome;

	for (unsigned turn = 0;; turn++) {
		outcome = execute(vcpu, insn);
		if (outcome != INSN_AGAIN || !repeats(insn) || turn == TURNS ||
		    (vcpu->kvm->cpu.rflags & RFLAGS_TF) != 0 || vcpu->dr6_hits != 0) {
			return outcome;
		}
	}
}

/* What did not come to its end. Return: false: there is a stop. */
static bool interrupted(struct soft_vcpu *vcpu, enum insn_outcome outcome)
{
	switch (outcome) {
	case INSN_FAULT:
		return soft_deliver_fault(vcpu) == INSN_DONE;
	case INSN_EXIT:
		return false;
	default:
		(void)soft_stop(vcpu, KVM_STOP_EMULATE);
		return false;
	}
}

/* Does #DB follow the instruction? @before: RFLAGS as they were. */
static bool single_steps(const struct soft_vcpu *vcpu, const struct insn *insn, uint64_t before)
{
	switch (insn->mnemonic) {
	case INSN_INT:
	case INSN_INT1:
	case INSN_INT3:
	case INSN_INTO:
		/* Unless INTO did nothing, the handler's first instruction is next, without TF. */
		return (before & vcpu->kvm->cpu.rflags & RFLAGS_TF) != 0;
	case INSN_SYSCALL:
		return (vcpu->kvm->cpu.rflags & RFLAGS_TF) != 0;
	default:
		return (before & RFLAGS_TF) != 0;
	}
}

bool soft_interp_step(struct soft_vcpu *vcpu)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t flags = kvm->cpu.rflags;
	const struct insn *insn;
	enum insn_outcome outcome;

	vcpu->dr6_hits = vcpu->dr6_held;
	vcpu->insn_len = 0;
	if ((kvm->hw_dr7 & DR7_ENABLED) != 0 && (flags & RFLAGS_RF) == 0) {
		uint64_t found = soft_breakpoints(kvm, kvm_reg_linear_rip(kvm));

		if (found != 0) {
			return soft_deliver_db(vcpu, found) == INSN_DONE;
		}
	}
	if (vcpu->is_kept) {
		vcpu->is_kept = false;
		insn = &vcpu->kept;
	} else {
		outcome = fetch(vcpu, &insn);
		if (insn == NULL) {
			return interrupted(vcpu, outcome);
		}
	}
	outcome = execute_turns(vcpu, insn);
	switch (outcome) {
	case INSN_DONE:
		if (insn->mnemonic == INSN_IRET) {
			kvm->events.nmi.masked = false;
		}
		break;
	case INSN_AGAIN:
		if (!repeats(insn)) {
			return true;
		}
		break;
	default:
		return interrupted(vcpu, outcome);
	}
	if (kvm->cpu.trap_shadow) {
		vcpu->dr6_held = vcpu->dr6_hits; /* MOV SS: told after the next instruction */
		return true;
	}
	vcpu->dr6_held = 0;
	if (single_steps(vcpu, insn, flags)) {
		vcpu->dr6_hits |= DR6_BS;
	}
	return vcpu->dr6_hits == 0 || soft_deliver_db(vcpu, vcpu->dr6_hits) == INSN_DONE;
}

static enum soft_end interp_run(struct soft_vcpu *vcpu, struct kvm_stop *stop)
{
	(void)stop;
	for (unsigned i = 0; i < SLICE; i++) {
		if (!soft_interp_step(vcpu)) {
			return SOFT_END_STOP;
		}
		if (soft_vcpu_must_stop(vcpu)) {
			break;
		}
	}
	return SOFT_END_AGAIN;
}

static void interp_forget(struct soft_vcpu *vcpu)
{
	for (unsigned i = 0; i < SOFT_DECODED; i++) {
		vcpu->decoded[i].rip = UINT64_MAX;
	}
}

/* It compares the bytes each time. */
static void interp_written(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask)
{
	(void)vcpu;
	(void)host;
	(void)mask;
}

static int interp_init(struct soft_vcpu *vcpu)
{
	(void)vcpu;
	return 0;
}

static void interp_fini(struct soft_vcpu *vcpu)
{
	(void)vcpu;
}

const struct soft_engine soft_interp = {
	.name = "interpret",
	.run = interp_run,
	.forget = interp_forget,
	.written = interp_written,
	.init = interp_init,
	.fini = interp_fini,
};
