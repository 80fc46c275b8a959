#include "lib/kvm/emul_here.h"

#include "lib/kvm/emul.h"
#include "lib/kvm/emul_regs.h"
#include "lib/kvm/exits.h"

/* One call of the emulator. */
struct here {
	struct insn_env env;
	struct kvm_vcpu *vcpu;
};

static struct kvm_vcpu *vcpu_of(struct insn_env *env)
{
	return container_of(env, struct here, env)->vcpu;
}

/* A fault of lib/kvm's is the emulator's. */
static enum insn_outcome told(struct insn_env *env, enum insn_outcome outcome)
{
	if (outcome == INSN_FAULT) {
		env->fault = vcpu_of(env)->exits->fault;
	}
	return outcome;
}

/* Each operation of the emulator is one of lib/kvm, on the vCPU. */
#define OP(name, fn, parameters, ...)                            \
	static enum insn_outcome op_##name parameters            \
	{                                                        \
		return told(env, fn(vcpu_of(env), __VA_ARGS__)); \
	}

OP(read, kvm_emul_read,
   (struct insn_env * env, uint64_t linear, void *data, unsigned len, unsigned access), linear,
   data, len, access)
OP(write, kvm_emul_write,
   (struct insn_env * env, uint64_t linear, const void *data, unsigned len, unsigned access),
   linear, data, len, access)
OP(probe, kvm_emul_probe, (struct insn_env * env, uint64_t linear, unsigned len), linear, len)
OP(cmpxchg, kvm_emul_cmpxchg,
   (struct insn_env * env, uint64_t linear, const void *old, const void *new, unsigned len), linear,
   old, new, len)
OP(port_in, kvm_emul_port_in,
   (struct insn_env * env, uint16_t port, unsigned bytes, void *data, unsigned *count), port, bytes,
   data, count)
OP(port_out, kvm_emul_port_out,
   (struct insn_env * env, uint16_t port, unsigned bytes, const void *data, unsigned *count), port,
   bytes, data, count)
OP(read_xmm, kvm_op_read_xmm, (struct insn_env * env, unsigned reg, void *data), reg, data)
OP(write_xmm, kvm_op_write_xmm, (struct insn_env * env, unsigned reg, const void *data, bool clear),
   reg, data, clear)
OP(x87_image, kvm_op_x87_image, (struct insn_env * env, uint8_t **image), image)
OP(read_cr, kvm_op_read_cr, (struct insn_env * env, unsigned cr, uint64_t *value), cr, value)
OP(write_cr, kvm_op_write_cr, (struct insn_env * env, unsigned cr, uint64_t value), cr, value)
OP(read_dr, kvm_op_read_dr, (struct insn_env * env, unsigned dr, uint64_t *value), dr, value)
OP(write_dr, kvm_op_write_dr, (struct insn_env * env, unsigned dr, uint64_t value), dr, value)

/*
 * RDMSR and WRMSR are not here: they stop on their own, with the filter and user space behind them,
 * and are served in exits.c.
 */
static const struct insn_ops insn_ops = {
	.read = op_read,
	.write = op_write,
	.probe = op_probe,
	.cmpxchg = op_cmpxchg,
	.port_in = op_port_in,
	.port_out = op_port_out,
	.read_xmm = op_read_xmm,
	.write_xmm = op_write_xmm,
	.x87_image = op_x87_image,
	.read_cr = op_read_cr,
	.write_cr = op_write_cr,
	.read_dr = op_read_dr,
	.write_dr = op_write_dr,
};

static enum insn_result decode(struct kvm_vcpu *vcpu, struct insn *insn)
{
	unsigned mode = insn_mode(&vcpu->cpu) | (vcpu->features.amd ? INSN_AMD : 0);
	const struct kvm_exits *x = vcpu->exits;
	enum insn_result result = insn_decode(insn, mode, x->code, x->code_bytes);

	if (result == INSN_MORE && x->code_bytes < INSN_MAX && kvm_emul_fetch(vcpu)) {
		result = insn_decode(insn, mode, x->code, x->code_bytes);
	}
	return result;
}

enum insn_outcome kvm_emulate_here(struct kvm_vcpu *vcpu, insn_family_fn *other)
{
	struct here here = {.env = {.cpu = &vcpu->cpu, .ops = &insn_ops, .other = other},
			    .vcpu = vcpu};
	enum insn_outcome outcome;
	struct insn insn;

	switch (decode(vcpu, &insn)) {
	case INSN_OK:
		break;
	case INSN_TOO_LONG:
		return kvm_emul_raise(vcpu, INSN_EXC_GP, 0);
	default:
		return INSN_UNSUPPORTED;
	}
	kvm_regs_change(vcpu, KVM_REGS_SEGMENTS);
	outcome = insn_emulate(&here.env, &insn);
	vcpu->exits->fault = here.env.fault;
	return outcome;
}
