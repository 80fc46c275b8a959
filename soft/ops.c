/*
 * What the emulator of lib/insn asks for, on a software CPU: memory by the soft MMU, registers in
 * struct kvm_vcpu; what is lib/kvm's to decide becomes a stop.
 */
#include "soft/ops.h"

#include "lib/base/bytes.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"
#include "soft/vcpu.h"

#define DR7_ENABLED UINT64_C(0xff)
#define DR_EXECUTE  0
#define DR_WRITE    1
#define DR_ACCESS   3

static struct soft_vcpu *vcpu_of(struct insn_env *env)
{
	return container_of(env, struct soft_vcpu, env);
}

enum insn_outcome soft_stop(struct soft_vcpu *vcpu, enum kvm_stop_reason reason)
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

uint64_t soft_breakpoints(const struct kvm_vcpu *kvm, uint64_t linear)
{
	return (kvm->hw_dr7 & DR7_ENABLED) == 0 ? 0 : hits(kvm, linear, 1, 1u << DR_EXECUTE);
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
		outcome = soft_mmu_probe(vcpu, linear, len, (access & INSN_ACCESS_SYSTEM) != 0);
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
	return soft_mmu_probe(vcpu_of(env), linear, len, false);
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
	return soft_stop(vcpu, KVM_STOP_IO);
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

/* What needs neither the guest's memory nor a change of mode. The rest is lib/kvm's. */
static bool is_simple(const struct kvm_vcpu *kvm, unsigned cr, uint64_t value)
{
	const uint64_t simple = CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM;

	switch (cr) {
	case 0:
		return ((kvm->cpu.cr0 ^ value) & ~simple) == 0;
	case 3:
		return !kvm_reg_is_pae(kvm);
	default:
		return false;
	}
}

/* With PCIDs, others' translations stay. */
static int set_cr3(struct soft_vcpu *vcpu, uint64_t value)
{
	bool pcid = (vcpu->kvm->cpu.cr4 & CR4_PCIDE) != 0;
	int r = kvm_reg_set_cr3(vcpu->kvm, pcid ? value | CR3_NO_FLUSH : value);

	if (r == 0 && pcid && (value & CR3_NO_FLUSH) == 0) {
		soft_mmu_flush_pcid(&vcpu->mmu, value & CR3_PCID);
	}
	soft_mmu_follow(vcpu);
	return r;
}

static enum insn_outcome op_write_cr(struct insn_env *env, unsigned cr, uint64_t value)
{
	struct soft_vcpu *vcpu = vcpu_of(env);
	struct kvm_vcpu *kvm = vcpu->kvm;
	int r;

	if (cr == 8) {
		vcpu->stop->value = value;
		return soft_stop(vcpu, KVM_STOP_CR8_WRITE);
	}
	if (cr == 2) {
		kvm->cr2 = value;
		return INSN_DONE;
	}
	if (!is_simple(kvm, cr, value)) {
		return soft_stop(vcpu, KVM_STOP_EMULATE);
	}
	r = cr == 0 ? kvm_reg_set_cr0(kvm, value) : set_cr3(vcpu, value);
	return r == 0 ? INSN_DONE : insn_raise(env, INSN_EXC_GP, 0);
}

static enum insn_outcome op_read_dr(struct insn_env *env, unsigned dr, uint64_t *value)
{
	(void)dr;
	(void)value;
	return soft_stop(vcpu_of(env), KVM_STOP_EMULATE);
}

static enum insn_outcome op_write_dr(struct insn_env *env, unsigned dr, uint64_t value)
{
	(void)dr;
	(void)value;
	return soft_stop(vcpu_of(env), KVM_STOP_EMULATE);
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

/* 0: XCR0; 1: which of its parts are not in their initial state. */
static enum insn_outcome op_read_xcr(struct insn_env *env, uint32_t index, uint64_t *value)
{
	const struct kvm_vcpu *kvm = vcpu_of(env)->kvm;

	if (index > 1) {
		return insn_raise(env, INSN_EXC_GP, 0);
	}
	*value = kvm->xcr0;
	if (index == 1) {
		*value &= load_le64(kvm->xsave + KVM_AT_XSTATE_BV);
		/* User space may have said that 0 is not its initial value. */
		*value &= kvm_reg_pkru(kvm) != 0 ? UINT64_MAX : ~XCR0_PKRU;
	}
	return INSN_DONE;
}

static enum insn_outcome op_read_pkru(struct insn_env *env, uint32_t *value)
{
	*value = kvm_reg_pkru(vcpu_of(env)->kvm);
	return INSN_DONE;
}

static enum insn_outcome op_write_pkru(struct insn_env *env, uint32_t value)
{
	struct soft_vcpu *vcpu = vcpu_of(env);

	kvm_reg_set_pkru(vcpu->kvm, value);
	soft_mmu_obey_keys(vcpu);
	return INSN_DONE;
}

/* Only the emulator of XSAVE asks: CPUID itself is lib/kvm's. */
static enum insn_outcome op_cpuid(struct insn_env *env, uint32_t regs[4])
{
	soft_native_component(regs[2], vcpu_of(env)->kvm->env->backend->pkru_at, regs);
	return INSN_DONE;
}

static enum insn_outcome op_invpcid(struct insn_env *env, unsigned type, uint64_t pcid,
				    uint64_t linear)
{
	struct soft_mmu *mmu = &vcpu_of(env)->mmu;

	if ((env->cpu->cr4 & CR4_PCIDE) == 0) {
		type = 2; /* what is in the place of PCIDs are other bits */
	}
	switch (type) {
	case 0:
		soft_mmu_flush_page(mmu, linear); /* of whichever PCID */
		break;
	case 1:
		soft_mmu_flush_pcid(mmu, pcid);
		break;
	default:
		soft_mmu_flush(mmu);
		break;
	}
	return INSN_DONE;
}

/* CPUID shows the guest RDRAND and RDSEED if the host has them. */
static enum insn_outcome op_random(struct insn_env *env, bool seed, uint64_t *value, bool *ok)
{
	(void)env;
	if (seed) {
		__asm__ volatile("rdseed %0" : "=r"(*value), "=@ccc"(*ok));
	} else {
		__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(*ok));
	}
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

static enum insn_outcome op_native(struct insn_env *env, struct insn_native *n)
{
	return soft_native_run(vcpu_of(env), n);
}

static const struct insn_ops ops = {
	.native = op_native,
	.read = op_read,
	.write = op_write,
	.probe = op_probe,
	.cmpxchg = op_cmpxchg,
	.port_in = op_port_in,
	.port_out = op_port_out,
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.read_dr = op_read_dr,
	.write_dr = op_write_dr,
	.read_msr = op_read_msr,
	.write_msr = op_write_msr,
	.read_tsc = op_read_tsc,
	.read_xcr = op_read_xcr,
	.read_pkru = op_read_pkru,
	.write_pkru = op_write_pkru,
	.cpuid = op_cpuid,
	.invlpg = op_invlpg,
	.invpcid = op_invpcid,
	.random = op_random,
	.write_back = op_write_back,
};

void soft_ops_init(struct soft_vcpu *vcpu)
{
	vcpu->env.cpu = &vcpu->kvm->cpu;
	vcpu->env.ops = &ops;
	vcpu->env.other = insn_do_other;
	vcpu->env.buffer = vcpu->buffer;
	vcpu->env.buffer_len = sizeof(vcpu->buffer);
}
