/*
 * The reference engine: one instruction after the other, by lib/insn. What the backend's contract
 * calls a stop is told here by the mnemonic, before the instruction changes anything.
 */
#include <string.h>

#include "lib/kvm/clock.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"
#include "soft/deliver.h"
#include "soft/vcpu.h"

#define EXC_BP 3
#define EXC_OF 4
#define EXC_UD 6
#define EXC_GP 13

#define AT_XMM	     160 /* in the XSAVE area */
#define AT_XSTATE_BV 512
#define AT_YMM_HIGH  576

#define DR7_ENABLED UINT64_C(0xff)
#define DR_EXECUTE  0
#define DR_WRITE    1
#define DR_IO	    2
#define DR_ACCESS   3

static struct soft_vcpu *vcpu_of(struct insn_env *env)
{
	return container_of(env, struct soft_vcpu, env);
}

static enum insn_outcome stop_at(struct soft_vcpu *vcpu, enum kvm_stop_reason reason)
{
	vcpu->stop->reason = (uint8_t)reason;
	vcpu->stop->insn_len = vcpu->insn_len;
	return INSN_EXIT;
}

/* ---- breakpoints ---- */

/* Bits of DR6 for the breakpoints of @kinds (bits by their R/W field) that meet the access. */
static uint64_t hits(const struct kvm_vcpu *kvm, uint64_t linear, unsigned len, unsigned kinds)
{
	static const uint8_t lengths[] = {1, 2, 8, 4};
	uint64_t found = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned control = (unsigned)(kvm->hw_dr7 >> (16 + 4 * i)) & 15;
		unsigned bytes = lengths[control >> 2];
		uint64_t at = ALIGN_DOWN(kvm->hw_db[i], (uint64_t)bytes);

		if ((kvm->hw_dr7 >> (2 * i) & 3) != 0 && (kinds >> (control & 3) & 1) != 0 &&
		    linear < at + bytes && at < linear + len) {
			found |= BIT(i);
		}
	}
	return found;
}

static void watch(struct soft_vcpu *vcpu, uint64_t linear, unsigned len, bool write)
{
	if ((vcpu->kvm->hw_dr7 & DR7_ENABLED) != 0) {
		unsigned kinds = 1u << DR_ACCESS | (write ? 1u << DR_WRITE : 0);

		vcpu->dr6_hits |= hits(vcpu->kvm, linear, len, kinds);
	}
}

/* ---- the emulator's operations ---- */

static enum insn_outcome op_read(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	struct soft_vcpu *vcpu = vcpu_of(env);
	enum insn_outcome outcome;

	if ((access & INSN_ACCESS_WRITE) != 0) {
		/* What fails, fails as a write. */
		outcome = soft_mmu_probe(vcpu, linear, len);
		if (outcome != INSN_DONE) {
			return outcome;
		}
	}
	outcome = soft_mmu_read(vcpu, linear, data, len, (access & INSN_ACCESS_SYSTEM) != 0);
	if (outcome == INSN_DONE && (access & INSN_ACCESS_SYSTEM) == 0) {
		watch(vcpu, linear, len, false);
	}
	return outcome;
}

static enum insn_outcome op_write(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	struct soft_vcpu *vcpu = vcpu_of(env);
	enum insn_outcome outcome =
		soft_mmu_write(vcpu, linear, data, len, (access & INSN_ACCESS_SYSTEM) != 0);

	if (outcome == INSN_DONE && (access & INSN_ACCESS_SYSTEM) == 0) {
		watch(vcpu, linear, len, true);
	}
	return outcome;
}

static enum insn_outcome op_probe(struct insn_env *env, uint64_t linear, unsigned len)
{
	return soft_mmu_probe(vcpu_of(env), linear, len);
}

static enum insn_outcome op_cmpxchg(struct insn_env *env, uint64_t linear, const void *old,
				    const void *new, unsigned len)
{
	struct soft_vcpu *vcpu = vcpu_of(env);
	enum insn_outcome outcome = soft_mmu_cmpxchg(vcpu, linear, old, new, len);

	if (outcome == INSN_DONE) {
		watch(vcpu, linear, len, true);
	}
	return outcome;
}

/* Permissions are checked already. Strings are lib/kvm's. */
static enum insn_outcome stop_io(struct soft_vcpu *vcpu, uint16_t port, unsigned bytes, bool in)
{
	vcpu->stop->io.port = port;
	vcpu->stop->io.bytes = (uint8_t)bytes;
	vcpu->stop->io.in = in;
	return stop_at(vcpu, KVM_STOP_IO);
}

static enum insn_outcome op_port_in(struct insn_env *env, uint16_t port, unsigned bytes, void *data,
				    unsigned *count)
{
	(void)data;
	(void)count;
	return stop_io(vcpu_of(env), port, bytes, true);
}

static enum insn_outcome op_port_out(struct insn_env *env, uint16_t port, unsigned bytes,
				     const void *data, unsigned *count)
{
	(void)data;
	(void)count;
	return stop_io(vcpu_of(env), port, bytes, false);
}

static enum insn_outcome op_read_xmm(struct insn_env *env, unsigned reg, void *data)
{
	memcpy(data, vcpu_of(env)->kvm->xsave + AT_XMM + (size_t)reg % 16 * 16, 16);
	return INSN_DONE;
}

static enum insn_outcome op_write_xmm(struct insn_env *env, unsigned reg, const void *data,
				      bool clear)
{
	struct kvm_vcpu *kvm = vcpu_of(env)->kvm;

	memcpy(kvm->xsave + AT_XMM + (size_t)reg % 16 * 16, data, 16);
	kvm->xsave[AT_XSTATE_BV] |= 2;
	if (clear && kvm->env->backend->xsave_bytes >= AT_YMM_HIGH + 256) {
		memset(kvm->xsave + AT_YMM_HIGH + (size_t)reg % 16 * 16, 0, 16);
	}
	return INSN_DONE;
}

static enum insn_outcome op_read_cr(struct insn_env *env, unsigned cr, uint64_t *value)
{
	const struct kvm_vcpu *kvm = vcpu_of(env)->kvm;

	switch (cr) {
	case 0:
		*value = kvm->cpu.cr0;
		return INSN_DONE;
	case 2:
		*value = kvm->cr2;
		return INSN_DONE;
	case 3:
		*value = kvm->cr3;
		return INSN_DONE;
	case 4:
		*value = kvm->cpu.cr4;
		return INSN_DONE;
	case 8:
		*value = kvm_reg_cr8(kvm);
		return INSN_DONE;
	default:
		return insn_raise(env, INSN_EXC_UD, 0);
	}
}

static enum insn_outcome op_write_cr(struct insn_env *env, unsigned cr, uint64_t value)
{
	struct soft_vcpu *vcpu = vcpu_of(env);

	if (cr == 8) {
		vcpu->stop->value = value;
		return stop_at(vcpu, KVM_STOP_CR8_WRITE);
	}
	if (cr == 2) {
		vcpu->kvm->cr2 = value;
		return INSN_DONE;
	}
	return stop_at(vcpu, KVM_STOP_EMULATE);
}

static enum insn_outcome op_read_dr(struct insn_env *env, unsigned dr, uint64_t *value)
{
	(void)dr;
	(void)value;
	return stop_at(vcpu_of(env), KVM_STOP_EMULATE);
}

static enum insn_outcome op_write_dr(struct insn_env *env, unsigned dr, uint64_t value)
{
	(void)dr;
	(void)value;
	return stop_at(vcpu_of(env), KVM_STOP_EMULATE);
}

/* Those that instructions use by themselves; RDMSR and WRMSR do not come here. */
static uint64_t *msr_of(struct kvm_vcpu *kvm, uint32_t msr)
{
	switch (msr) {
	case 0xc0000081:
		return &kvm->msr[KVM_MSR_STAR];
	case 0xc0000082:
		return &kvm->msr[KVM_MSR_LSTAR];
	case 0xc0000083:
		return &kvm->msr[KVM_MSR_CSTAR];
	case 0xc0000084:
		return &kvm->msr[KVM_MSR_SFMASK];
	case 0xc0000102:
		return &kvm->msr[KVM_MSR_KERNEL_GS_BASE];
	case 0x174:
		return &kvm->msr[KVM_MSR_SYSENTER_CS];
	case 0x175:
		return &kvm->msr[KVM_MSR_SYSENTER_ESP];
	case 0x176:
		return &kvm->msr[KVM_MSR_SYSENTER_EIP];
	case 0xc0000103:
		return &kvm->msr[KVM_MSR_TSC_AUX];
	default:
		return NULL;
	}
}

static enum insn_outcome op_read_msr(struct insn_env *env, uint32_t msr, uint64_t *value)
{
	const uint64_t *place = msr_of(vcpu_of(env)->kvm, msr);

	if (place == NULL) {
		return INSN_UNSUPPORTED;
	}
	*value = *place;
	return INSN_DONE;
}

static enum insn_outcome op_write_msr(struct insn_env *env, uint32_t msr, uint64_t value)
{
	uint64_t *place = msr_of(vcpu_of(env)->kvm, msr);

	if (place == NULL) {
		return INSN_UNSUPPORTED;
	}
	*place = value;
	return INSN_DONE;
}

static enum insn_outcome op_read_tsc(struct insn_env *env, uint64_t *tsc, uint32_t *aux)
{
	struct kvm_vcpu *kvm = vcpu_of(env)->kvm;

	*tsc = kvm_vcpu_guest_tsc(kvm);
	*aux = (uint32_t)kvm->msr[KVM_MSR_TSC_AUX];
	return INSN_DONE;
}

static enum insn_outcome op_read_xcr(struct insn_env *env, uint32_t index, uint64_t *value)
{
	if (index != 0) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	*value = vcpu_of(env)->kvm->xcr0;
	return INSN_DONE;
}

static enum insn_outcome op_invlpg(struct insn_env *env, uint64_t linear)
{
	soft_mmu_flush_page(&vcpu_of(env)->mmu, linear);
	return INSN_DONE;
}

static enum insn_outcome op_write_back(struct insn_env *env)
{
	(void)env;
	return INSN_DONE;
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
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.read_dr = op_read_dr,
	.write_dr = op_write_dr,
	.read_msr = op_read_msr,
	.write_msr = op_write_msr,
	.read_tsc = op_read_tsc,
	.read_xcr = op_read_xcr,
	.invlpg = op_invlpg,
	.write_back = op_write_back,
};

/* ---- fetching ---- */

static struct soft_decoded *slot_of(struct soft_vcpu *vcpu, uint64_t linear)
{
	return &vcpu->decoded[(linear ^ linear >> 10) % SOFT_DECODED];
}

/* The instruction at RIP. Return: INSN_DONE, INSN_FAULT or INSN_EXIT. */
static enum insn_outcome fetch(struct soft_vcpu *vcpu, const struct insn **insn)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	unsigned mode = insn_mode(cpu) | (vcpu->kvm->features.amd ? INSN_AMD : 0);
	uint64_t linear = cpu->rip;
	struct soft_decoded *known;
	uint8_t bytes[INSN_MAX];
	enum insn_outcome outcome;
	enum insn_result result;
	unsigned len;

	if (insn_mode(cpu) != INSN_64) {
		if (cpu->rip > cpu->seg[INSN_CS].limit) {
			return insn_raise(&vcpu->env, INSN_EXC_GP, 0);
		}
		linear = (uint32_t)(linear + cpu->seg[INSN_CS].base);
	}
	outcome = soft_mmu_fetch(vcpu, linear, bytes, &len, false);
	if (outcome != INSN_DONE) {
		return outcome;
	}
	known = slot_of(vcpu, linear);
	if (known->rip == linear && known->mode == (uint8_t)insn_mode(cpu) &&
	    known->insn.len <= len && memcmp(known->bytes, bytes, known->insn.len) == 0) {
		*insn = &known->insn;
		return INSN_DONE;
	}
	known->rip = UINT64_MAX;
	result = insn_decode(&known->insn, mode, bytes, len);
	if (result == INSN_MORE) {
		outcome = soft_mmu_fetch(vcpu, linear, bytes, &len, true);
		if (outcome != INSN_DONE) {
			return outcome;
		}
		result = insn_decode(&known->insn, mode, bytes, len);
	}
	if (result != INSN_OK) {
		return insn_raise(&vcpu->env, result == INSN_UNDEFINED ? INSN_EXC_UD : INSN_EXC_GP,
				  0);
	}
	/* Bytes of two pages are not compared as one. */
	if (known->insn.len <= 4096 - linear % 4096) {
		known->rip = linear;
		known->mode = (uint8_t)insn_mode(cpu);
		memcpy(known->bytes, bytes, known->insn.len);
	}
	*insn = &known->insn;
	return INSN_DONE;
}

/* ---- instructions that are not the emulator's ---- */

static enum insn_outcome general_protection(struct soft_vcpu *vcpu)
{
	return insn_raise(&vcpu->env, INSN_EXC_GP, 0);
}

/* Stops at an instruction that only CPL 0 may execute. */
static enum insn_outcome stop_privileged(struct soft_vcpu *vcpu, enum kvm_stop_reason reason)
{
	return vcpu->kvm->cpu.cpl != 0 ? general_protection(vcpu) : stop_at(vcpu, reason);
}

static enum insn_outcome breakpoint(struct soft_vcpu *vcpu)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	const struct kvm_event event = {.kind = KVM_EVENT_EXCEPTION, .vector = EXC_BP};

	if (kvm->intercept_bp) {
		vcpu->stop->exception.vector = EXC_BP;
		return stop_at(vcpu, KVM_STOP_EXCEPTION);
	}
	return soft_deliver(vcpu, &event, kvm->cpu.rip + vcpu->insn_len);
}

static enum insn_outcome software_interrupt(struct soft_vcpu *vcpu, uint8_t vector)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	const struct kvm_event event = {.kind = KVM_EVENT_SOFT_INTERRUPT, .vector = vector};

	/* Virtual-8086 mode without VME. */
	if ((cpu->rflags & RFLAGS_VM) != 0 && (cpu->rflags >> 12 & 3) != 3) {
		return general_protection(vcpu);
	}
	return soft_deliver(vcpu, &event, cpu->rip + vcpu->insn_len);
}

static enum insn_outcome overflow(struct soft_vcpu *vcpu)
{
	const struct kvm_event event = {.kind = KVM_EVENT_EXCEPTION, .vector = EXC_OF};
	struct insn_cpu *cpu = &vcpu->kvm->cpu;

	if ((cpu->rflags & BIT(11)) != 0) {
		return soft_deliver(vcpu, &event, cpu->rip + vcpu->insn_len);
	}
	cpu->rip += vcpu->insn_len;
	cpu->rflags &= ~RFLAGS_RF;
	cpu->interrupt_shadow = false;
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
		return stop_at(vcpu, KVM_STOP_CPUID);
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
								  : stop_at(vcpu, KVM_STOP_RDPMC);
	case INSN_VMCALL:
	case INSN_VMMCALL:
		return stop_at(vcpu, KVM_STOP_HYPERCALL);
	case INSN_MONITOR:
		return stop_privileged(vcpu, KVM_STOP_MONITOR);
	case INSN_MWAIT:
		return stop_privileged(vcpu, KVM_STOP_MWAIT);
	case INSN_INS:
	case INSN_OUTS:
		return stop_at(vcpu, KVM_STOP_EMULATE);
	case INSN_INT3:
		return breakpoint(vcpu);
	case INSN_INT:
		return software_interrupt(vcpu, (uint8_t)insn->imm[0]);
	case INSN_INTO:
		return overflow(vcpu);
	default:
		*mine = false;
		return INSN_DONE;
	}
}

/* ---- one instruction ---- */

static bool repeats(const struct insn *insn)
{
	return insn->klass == INSN_CLASS_STRING &&
	       (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0;
}

static enum insn_outcome execute(struct soft_vcpu *vcpu, const struct insn **insn)
{
	enum insn_outcome outcome = fetch(vcpu, insn);
	bool mine;

	if (outcome != INSN_DONE) {
		return outcome;
	}
	vcpu->insn_len = (*insn)->len;
	outcome = intercepted(vcpu, *insn, &mine);
	return mine ? outcome : insn_emulate(&vcpu->env, *insn);
}

/* Return: false: there is a stop. */
static bool step(struct soft_vcpu *vcpu)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t flags = kvm->cpu.rflags;
	const struct insn *insn = NULL;
	enum insn_outcome outcome;

	vcpu->dr6_hits = 0;
	vcpu->insn_len = 0;
	if ((kvm->hw_dr7 & DR7_ENABLED) != 0 && (flags & RFLAGS_RF) == 0) {
		uint64_t found = hits(kvm, kvm_reg_linear_rip(kvm), 1, 1u << DR_EXECUTE);

		if (found != 0) {
			return soft_deliver_db(vcpu, found) == INSN_DONE;
		}
	}
	outcome = execute(vcpu, &insn);
	switch (outcome) {
	case INSN_DONE:
		break;
	case INSN_AGAIN:
		if (!repeats(insn)) {
			return true;
		}
		break;
	case INSN_FAULT:
		return soft_deliver_fault(vcpu) == INSN_DONE;
	case INSN_EXIT:
		return false;
	default:
		(void)stop_at(vcpu, KVM_STOP_EMULATE);
		return false;
	}
	if ((flags & RFLAGS_TF) != 0) {
		vcpu->dr6_hits |= DR6_BS;
	}
	return vcpu->dr6_hits == 0 || soft_deliver_db(vcpu, vcpu->dr6_hits) == INSN_DONE;
}

static enum soft_end interp_run(struct soft_vcpu *vcpu, struct kvm_stop *stop)
{
	(void)stop;
	vcpu->env.cpu = &vcpu->kvm->cpu;
	vcpu->env.ops = &ops;
	do {
		if (!step(vcpu)) {
			return SOFT_END_STOP;
		}
	} while (!soft_vcpu_must_stop(vcpu));
	return SOFT_END_AGAIN;
}

static void interp_forget(struct soft_vcpu *vcpu)
{
	for (unsigned i = 0; i < SOFT_DECODED; i++) {
		vcpu->decoded[i].rip = UINT64_MAX;
	}
}

const struct soft_engine soft_interp = {
	.name = "interpret",
	.run = interp_run,
	.forget = interp_forget,
};
