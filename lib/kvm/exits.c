#include "lib/kvm/exits.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/bus.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/events.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/msr.h"
#include "lib/kvm/msr_filter.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define EXC_GP 13

#define RAX 0
#define RCX 1
#define RDX 2
#define RBX 3
#define RSI 6

#define PORT_POST_SKIPPED 0x7e /* KVM_X86_QUIRK_OUT_7E_INC_RIP */

void kvm_exit_internal(struct kvm_vcpu *vcpu, uint32_t suberror)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = 0;
}

/* ---- ports ---- */

/* Elements of ports: 1, 2 or 4 bytes. */
static uint32_t element(const void *p, unsigned bytes)
{
	switch (bytes) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return load_le16(p);
	default:
		return load_le32(p);
	}
}

static void put_element(uint8_t *p, unsigned bytes, uint32_t value)
{
	switch (bytes) {
	case 1:
		*p = (uint8_t)value;
		break;
	case 2:
		store_le16(p, (uint16_t)value);
		break;
	default:
		store_le32(p, value);
	}
}

static void set_in_data(struct kvm_vcpu *vcpu, unsigned bytes, const void *data)
{
	uint64_t value = element(data, bytes);

	kvm_regs_change(vcpu, KVM_REGS_CORE);
	/* 32 bits clear the upper half; less leaves the rest. */
	if (bytes < 4) {
		uint64_t mask = BIT(bytes * 8) - 1;

		value |= vcpu->cpu.gpr[RAX] & ~mask;
	}
	vcpu->cpu.gpr[RAX] = value;
}

static void exit_port(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, bool in)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = (uint8_t)bytes;
	run->io.port = port;
	run->io.count = 1;
	run->io.data_offset = KVM_PAGE_BYTES;
}

static __attribute__((noinline)) bool chips_serve_port(struct kvm_vcpu *vcpu, uint16_t port,
						       unsigned bytes, bool in)
{
	uint8_t data[8] = {0};

	if (!in) {
		store_le32(data, (uint32_t)vcpu->cpu.gpr[RAX]);
	}
	if ((vcpu->vm->irqchip != KVM_IRQCHIP_FULL || !kvm_irq_pio(vcpu, port, bytes, data, !in)) &&
	    (in || !kvm_bus_write(vcpu->vm, true, port, bytes, data))) {
		return false;
	}
	if (in) {
		set_in_data(vcpu, bytes, data);
	}
	return true;
}

bool kvm_exit_port_served(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, bool in)
{
	struct kvm_vm *vm = vcpu->vm;

	/* Doorbells alone, as usual, need nothing but the value. */
	if (in || vm->irqchip == KVM_IRQCHIP_FULL || vm->zone_count != 0) {
		return chips_serve_port(vcpu, port, bytes, in);
	}
	return kvm_bus_ring(vm, true, port, bytes, vcpu->cpu.gpr[RAX]);
}

void kvm_exit_port(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, bool in, unsigned insn_len)
{
	struct kvm_exits *x = vcpu->exits;

	exit_port(vcpu, port, bytes, in);
	if (!in) {
		put_element(vcpu->pio_page, bytes, (uint32_t)vcpu->cpu.gpr[RAX]);
		if (port == PORT_POST_SKIPPED &&
		    (vcpu->vm->quirks_off & KVM_X86_QUIRK_OUT_7E_INC_RIP) == 0) {
			/* The port comes before a step that ends here. */
			if (kvm_emul_skip(vcpu, insn_len)) {
				exit_port(vcpu, port, bytes, in);
			}
			return;
		}
	}
	x->pending = in ? KVM_PENDING_PORT_IN : KVM_PENDING_PORT_OUT;
	x->bytes = (uint8_t)bytes;
	x->insn_len = (uint8_t)insn_len;
	x->moved = false;
}

void kvm_exit_before_move(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;

	if ((x->pending == KVM_PENDING_PORT_IN || x->pending == KVM_PENDING_PORT_OUT) &&
	    !x->moved) {
		x->linear_rip = kvm_reg_linear_rip(vcpu);
		x->moved = true;
	}
}

static bool complete_port(struct kvm_vcpu *vcpu, bool in)
{
	struct kvm_exits *x = vcpu->exits;

	/* User space moved the vCPU elsewhere: what it was at is forgotten. */
	if (x->moved && kvm_reg_linear_rip(vcpu) != x->linear_rip) {
		return false;
	}
	if (in) {
		set_in_data(vcpu, x->bytes, vcpu->pio_page);
	}
	return kvm_emul_skip(vcpu, x->insn_len);
}

/* ---- memory-mapped ---- */

void kvm_exit_mmio(struct kvm_vcpu *vcpu, const struct kvm_fragment *fragment, bool write)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = fragment->gpa;
	run->mmio.len = fragment->bytes;
	run->mmio.is_write = write;
	if (write) {
		memcpy(run->mmio.data, fragment->data, fragment->bytes);
	}
}

static bool complete_mmio_read(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;
	struct kvm_fragment *f = &x->answered[x->answered_count];

	*f = x->asked;
	memcpy(f->data, vcpu->run->mmio.data, f->bytes);
	x->answered_count++;
	return kvm_emul_insn(vcpu);
}

static bool complete_mmio_load(struct kvm_vcpu *vcpu)
{
	uint64_t value;

	memcpy(&value, vcpu->run->mmio.data, sizeof(value));
	kvm_emul_finish_load(vcpu, value);
	return false;
}

static bool complete_mmio_write(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;

	x->written_seen++;
	/* A later part may have a device of ours, or a doorbell; the order is the guest's. */
	while (x->written_seen < x->written_count) {
		struct kvm_fragment *f = &x->written[x->written_seen];

		if (!kvm_irq_mmio(vcpu, f->gpa, f->bytes, f->data, true) &&
		    !kvm_bus_write(vcpu->vm, false, f->gpa, f->bytes, f->data)) {
			x->pending = KVM_PENDING_MMIO_WRITE;
			kvm_exit_mmio(vcpu, f, true);
			return true;
		}
		x->written_seen++;
	}
	x->written_count = 0;
	return false;
}

/* ---- MSRs ---- */

static uint32_t msr_reason(int r)
{
	switch (r) {
	case -ENOENT:
		return KVM_MSR_EXIT_REASON_UNKNOWN;
	case -EPERM:
		return KVM_MSR_EXIT_REASON_FILTER;
	default:
		return KVM_MSR_EXIT_REASON_INVAL;
	}
}

static bool finish_msr(struct kvm_vcpu *vcpu, bool error, unsigned insn_len)
{
	if (error) {
		kvm_event_exception(vcpu, EXC_GP, 0);
		return false;
	}
	return kvm_emul_skip(vcpu, insn_len);
}

static void set_msr_data(struct kvm_vcpu *vcpu, uint64_t value)
{
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	vcpu->cpu.gpr[RAX] = (uint32_t)value;
	vcpu->cpu.gpr[RDX] = value >> 32;
}

static bool filter_allows(struct kvm_vcpu *vcpu, uint32_t msr, bool write)
{
	bool allowed;

	if (vcpu->vm->msr_filter == NULL) {
		return true;
	}
	kvm_ops(vcpu->env)->lock_read(vcpu->env, &vcpu->vm->memory);
	allowed = kvm_msr_filter_allows(vcpu->vm, msr, write);
	kvm_ops(vcpu->env)->unlock_read(vcpu->env, &vcpu->vm->memory);
	return allowed;
}

bool kvm_exit_msr(struct kvm_vcpu *vcpu, bool write, unsigned insn_len)
{
	struct kvm_run *run = vcpu->run;
	uint32_t msr = (uint32_t)vcpu->cpu.gpr[RCX];
	uint64_t value = (uint32_t)vcpu->cpu.gpr[RAX] | vcpu->cpu.gpr[RDX] << 32;
	int r = -EPERM;

	if (filter_allows(vcpu, msr, write)) {
		r = write ? kvm_msr_set(vcpu, msr, value, false)
			  : kvm_msr_get(vcpu, msr, &value, false);
	}
	if (r == 0 && !write) {
		set_msr_data(vcpu, value);
	}
	if (r == 0 || (vcpu->vm->msr_exits & msr_reason(r)) == 0) {
		return finish_msr(vcpu, r != 0, insn_len);
	}
	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = msr_reason(r);
	run->msr.index = msr;
	run->msr.data = write ? value : 0;
	vcpu->exits->pending = write ? KVM_PENDING_MSR_WRITE : KVM_PENDING_MSR_READ;
	vcpu->exits->insn_len = (uint8_t)insn_len;
	return true;
}

static bool complete_msr(struct kvm_vcpu *vcpu, bool write)
{
	struct kvm_run *run = vcpu->run;
	bool error = __atomic_load_n(&run->msr.error, __ATOMIC_RELAXED) != 0;

	if (!error && !write) {
		set_msr_data(vcpu, __atomic_load_n(&run->msr.data, __ATOMIC_RELAXED));
	}
	return finish_msr(vcpu, error, vcpu->exits->insn_len);
}

/* ---- hypercalls ---- */

static bool has_feature(const struct kvm_vcpu *vcpu, unsigned feature)
{
	return !vcpu->enforce_pv_features || (vcpu->features.kvm & BIT(feature)) != 0;
}

/* KVM_HC_KICK_CPU: the vCPU with that APIC ID waits for a lock, which is free now. */
static void kick_cpu(struct kvm_vm *vm, uint32_t apic_id)
{
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		struct kvm_vcpu *target = kvm_vm_vcpu(vm, i);

		if (target->id == apic_id) {
			__atomic_store_n((uint32_t *)&target->kicked, 1, __ATOMIC_RELEASE);
			kvm_vcpu_request(target, KVM_REQ_UNHALT);
		}
	}
}

static bool exit_map_gpa_range(struct kvm_vcpu *vcpu, const uint64_t arg[3], bool long_mode,
			       unsigned insn_len)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_HYPERCALL;
	run->hypercall.nr = KVM_HC_MAP_GPA_RANGE;
	run->hypercall.args[0] = arg[0];
	run->hypercall.args[1] = arg[1];
	run->hypercall.args[2] = arg[2];
	run->hypercall.longmode = long_mode;
	vcpu->exits->pending = KVM_PENDING_HYPERCALL;
	vcpu->exits->insn_len = (uint8_t)insn_len;
	return true;
}

static bool range_valid(const uint64_t arg[3])
{
	uint64_t end;

	return arg[0] % KVM_PAGE_BYTES == 0 && arg[1] != 0 &&
	       !__builtin_mul_overflow(arg[1], KVM_PAGE_BYTES, &end) &&
	       range_end(arg[0], end, &end);
}

bool kvm_exit_hypercall(struct kvm_vcpu *vcpu, unsigned insn_len)
{
	uint64_t nr;
	uint64_t arg[3];
	int64_t result = -KVM_ENOSYS;
	bool long_mode;

	kvm_regs_need(vcpu, KVM_REGS_CORE | KVM_REGS_CONTROL | KVM_REGS_SEGMENTS);
	long_mode = insn_mode(&vcpu->cpu) == INSN_64;
	nr = vcpu->cpu.gpr[RAX];
	arg[0] = vcpu->cpu.gpr[RBX];
	arg[1] = vcpu->cpu.gpr[RCX];
	arg[2] = vcpu->cpu.gpr[RDX];
	if (!long_mode) {
		nr = (uint32_t)nr;
		for (unsigned i = 0; i < ARRAY_SIZE(arg); i++) {
			arg[i] = (uint32_t)arg[i];
		}
	}
	if (vcpu->cpu.cpl != 0) {
		result = -KVM_EPERM;
	} else if (nr == KVM_HC_VAPIC_POLL_IRQ) {
		result = 0;
	} else if (nr == KVM_HC_KICK_CPU && has_feature(vcpu, KVM_FEATURE_PV_UNHALT)) {
		kick_cpu(vcpu->vm, (uint32_t)arg[1]);
		result = 0;
	} else if (nr == KVM_HC_SCHED_YIELD && has_feature(vcpu, KVM_FEATURE_PV_SCHED_YIELD)) {
		kvm_ops(vcpu->env)->resched(vcpu->env, vcpu);
		result = 0;
	} else if (nr == KVM_HC_MAP_GPA_RANGE && vcpu->vm->hypercall_exits) {
		if (range_valid(arg)) {
			return exit_map_gpa_range(vcpu, arg, long_mode, insn_len);
		}
		result = -KVM_EINVAL;
	}
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	vcpu->cpu.gpr[RAX] = long_mode ? (uint64_t)result : (uint32_t)result;
	return kvm_emul_skip(vcpu, insn_len);
}

static bool complete_hypercall(struct kvm_vcpu *vcpu)
{
	uint64_t result = __atomic_load_n(&vcpu->run->hypercall.ret, __ATOMIC_RELAXED);

	kvm_regs_change(vcpu, KVM_REGS_CORE);
	kvm_regs_need(vcpu, KVM_REGS_CONTROL | KVM_REGS_SEGMENTS);
	vcpu->cpu.gpr[RAX] = insn_mode(&vcpu->cpu) == INSN_64 ? result : (uint32_t)result;
	return kvm_emul_skip(vcpu, vcpu->exits->insn_len);
}

/* ---- the way back ---- */

bool kvm_exit_complete(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;
	uint8_t pending = x->pending;

	x->pending = KVM_PENDING_NONE;
	switch (pending) {
	case KVM_PENDING_PORT_IN:
	case KVM_PENDING_PORT_OUT:
		return complete_port(vcpu, pending == KVM_PENDING_PORT_IN);
	case KVM_PENDING_STRING_IN:
		x->string_ready = true;
		return kvm_emul_insn(vcpu);
	case KVM_PENDING_MMIO_READ:
		return complete_mmio_read(vcpu);
	case KVM_PENDING_MMIO_LOAD:
		return complete_mmio_load(vcpu);
	case KVM_PENDING_MMIO_WRITE:
		return complete_mmio_write(vcpu);
	case KVM_PENDING_MSR_READ:
	case KVM_PENDING_MSR_WRITE:
		return complete_msr(vcpu, pending == KVM_PENDING_MSR_WRITE);
	case KVM_PENDING_HYPERCALL:
		return complete_hypercall(vcpu);
	default:
		return false;
	}
}
