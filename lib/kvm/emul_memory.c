/*
 * The emulator's operations on memory and ports: by the guest's tables, to RAM, to the devices in
 * here, or as questions to user space. See struct insn_ops.
 */
#include <errno.h>
#include <string.h>

#include "lib/kvm/bus.h"
#include "lib/kvm/emul.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

enum insn_outcome kvm_emul_raise(struct kvm_vcpu *vcpu, enum insn_vector vector, uint32_t error)
{
	vcpu->exits->fault = (struct insn_fault){.vector = (uint8_t)vector, .error = error};
	return INSN_FAULT;
}

/* ---- from linear to guest-physical ---- */

static int walk_read(void *ctx, uint64_t gpa, void *entry, unsigned bytes)
{
	return kvm_memory_read(ctx, gpa, entry, bytes);
}

static int walk_cmpxchg(void *ctx, uint64_t gpa, const void *old, const void *new, unsigned bytes)
{
	return kvm_memory_cmpxchg(ctx, gpa, old, new, bytes);
}

static const struct walk_ops walk_ops = {walk_read, walk_cmpxchg};

enum walk_outcome kvm_emul_translate(struct kvm_vcpu *vcpu, uint64_t linear, unsigned access,
				     struct walk_result *result)
{
	struct walk_mode mode;

	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	mode = (struct walk_mode){
		.cr0 = vcpu->cpu.cr0,
		.cr3 = vcpu->cr3,
		.cr4 = vcpu->cpu.cr4,
		.efer = vcpu->cpu.efer,
		.pdptr = vcpu->pdptr,
		.phys_bits = vcpu->features.phys_bits,
		.pages_1g = vcpu->features.pages_1g,
		.ac = (vcpu->cpu.rflags & RFLAGS_AC) != 0,
	};
	if ((mode.cr4 & CR4_PKE) != 0) {
		kvm_regs_need(vcpu, KVM_REGS_FPU);
		mode.pkru = kvm_reg_pkru(vcpu);
	}
	if (kvm_reg_is_pae(vcpu)) {
		kvm_reg_refresh_pdptrs(vcpu);
	}
	return walk(&mode, &walk_ops, vcpu, linear, access, result);
}

static unsigned access_of(const struct kvm_vcpu *vcpu, unsigned access)
{
	unsigned bits = WALK_SET_AD;

	if ((access & INSN_ACCESS_WRITE) != 0) {
		bits |= WALK_WRITE;
	}
	if ((access & INSN_ACCESS_SYSTEM) != 0) {
		bits |= WALK_IMPLICIT;
	} else if (vcpu->cpu.cpl == 3) {
		bits |= WALK_USER;
	}
	return bits;
}

/* The one or two pages of an access. */
struct pieces {
	unsigned count;
	struct {
		uint64_t gpa;
		unsigned bytes;
	} piece[2];
};

static enum insn_outcome translate(struct kvm_vcpu *vcpu, uint64_t linear, unsigned len,
				   unsigned access, struct pieces *pieces)
{
	unsigned bits = access_of(vcpu, access);
	const struct kvm_exits *x = vcpu->exits;

	/* The CPU has been there. */
	if ((access & KVM_ACCESS_OPERAND) != 0 && x->operand_gpa != 0 &&
	    (linear ^ x->operand_gpa) % KVM_PAGE_BYTES == 0 &&
	    linear % KVM_PAGE_BYTES + len <= KVM_PAGE_BYTES &&
	    (access == KVM_ACCESS_OPERAND || x->operand_write)) {
		pieces->count = 1;
		pieces->piece[0].gpa = x->operand_gpa;
		pieces->piece[0].bytes = len;
		return INSN_DONE;
	}
	pieces->count = 0;
	while (len != 0) {
		unsigned room = (unsigned)(KVM_PAGE_BYTES - linear % KVM_PAGE_BYTES);
		unsigned bytes = MIN(len, room);
		struct walk_result result;

		switch (kvm_emul_translate(vcpu, linear, bits, &result)) {
		case WALK_OK:
			break;
		case WALK_FAULT:
			(void)kvm_emul_raise(vcpu, INSN_EXC_PF, result.error);
			vcpu->exits->fault.address = linear;
			return INSN_FAULT;
		default:
			return INSN_UNSUPPORTED;
		}
		pieces->piece[pieces->count].gpa = result.gpa;
		pieces->piece[pieces->count++].bytes = bytes;
		linear += bytes;
		len -= bytes;
	}
	return INSN_DONE;
}

/* ---- devices ---- */

/* Up to 8 bytes from whoever is at @gpa: the answer, or a question to user space. */
static enum insn_outcome device_read(struct kvm_vcpu *vcpu, uint64_t gpa, void *data,
				     unsigned bytes)
{
	struct kvm_exits *x = vcpu->exits;
	struct kvm_fragment *f = &x->answered[x->cursor];

	if (x->cursor < x->answered_count && f->gpa == gpa && f->bytes == bytes) {
		memcpy(data, f->data, bytes);
		x->cursor++;
		return INSN_DONE;
	}
	/* Those of iterations of REP that are over come first. */
	for (unsigned i = x->cursor + 1u; i < x->answered_count; i++) {
		if (x->answered[i].gpa == gpa && x->answered[i].bytes == bytes) {
			memmove(f, &x->answered[i], (x->answered_count - i) * sizeof(*f));
			x->answered_count = (uint8_t)(x->answered_count - (i - x->cursor));
			memcpy(data, f->data, bytes);
			x->cursor++;
			return INSN_DONE;
		}
	}
	/* The guest changed the instruction's memory meanwhile: old answers are worth nothing. */
	x->answered_count = x->cursor;
	if (x->answered_count == KVM_FRAGMENTS) {
		return INSN_UNSUPPORTED;
	}
	memset(data, 0, bytes);
	if (kvm_irq_mmio(vcpu, gpa, bytes, data, false)) {
		*f = (struct kvm_fragment){.gpa = gpa, .bytes = (uint8_t)bytes};
		memcpy(f->data, data, bytes);
		x->answered_count++;
		x->cursor++;
		return INSN_DONE;
	}
	x->asked = (struct kvm_fragment){.gpa = gpa, .bytes = (uint8_t)bytes};
	x->pending = KVM_PENDING_MMIO_READ;
	return INSN_EXIT;
}

static enum insn_outcome device_write(struct kvm_vcpu *vcpu, uint64_t gpa, const void *data,
				      unsigned bytes)
{
	struct kvm_exits *x = vcpu->exits;
	uint8_t copy[8];

	memcpy(copy, data, bytes);
	if (x->written_count == 0 && (kvm_irq_mmio(vcpu, gpa, bytes, copy, true) ||
				      kvm_bus_write(vcpu->vm, false, gpa, bytes, data))) {
		return INSN_DONE;
	}
	x->written[x->written_count] = (struct kvm_fragment){.gpa = gpa, .bytes = (uint8_t)bytes};
	memcpy(x->written[x->written_count++].data, data, bytes);
	return INSN_DONE;
}

/* The local APIC's page lies above whatever memory is there. */
static bool is_apic(const struct kvm_vcpu *vcpu, uint64_t gpa)
{
	uint32_t offset;

	return vcpu->apic != NULL && kvm_irq_apic_page(vcpu, gpa, &offset);
}

/* Or is it asked something? Who emulates ought to know, but may be told again. */
static bool must_exit_first(const struct kvm_vcpu *vcpu)
{
	return kvm_emul_has_written(vcpu) || vcpu->exits->pending != KVM_PENDING_NONE;
}

/* ---- the emulator's operations ---- */

enum insn_outcome kvm_emul_read(struct kvm_vcpu *vcpu, uint64_t linear, void *data, unsigned len,
				unsigned access)
{
	struct pieces pieces;
	enum insn_outcome outcome;
	uint8_t *to = data;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	outcome = translate(vcpu, linear, len, access, &pieces);
	for (unsigned i = 0; i < pieces.count && outcome == INSN_DONE; i++) {
		uint64_t gpa = pieces.piece[i].gpa;
		unsigned bytes = pieces.piece[i].bytes;
		int r = is_apic(vcpu, gpa) ? -ENOENT : kvm_memory_read(vcpu, gpa, to, bytes);

		if (r == -EFAULT) {
			return INSN_UNSUPPORTED;
		}
		for (unsigned at = 0; r != 0 && at < bytes && outcome == INSN_DONE; at += 8) {
			outcome = device_read(vcpu, gpa + at, to + at, MIN(bytes - at, 8u));
		}
		to += bytes;
	}
	return outcome;
}

static bool is_memory(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	const struct kvm_slot *slot = kvm_memory_slot(vcpu, gpa >> KVM_PAGE_SHIFT);

	if (is_apic(vcpu, gpa)) {
		return false;
	}
	return slot != NULL && (slot->flags & KVM_MEM_READONLY) == 0;
}

static enum insn_outcome write_pieces(struct kvm_vcpu *vcpu, const struct pieces *pieces,
				      const uint8_t *from)
{
	for (unsigned i = 0; i < pieces->count; i++) {
		uint64_t gpa = pieces->piece[i].gpa;
		unsigned bytes = pieces->piece[i].bytes;

		if (is_memory(vcpu, gpa)) {
			if (kvm_memory_write(vcpu, gpa, from, bytes) != 0) {
				return INSN_UNSUPPORTED;
			}
		} else {
			for (unsigned at = 0; at < bytes; at += 8) {
				(void)device_write(vcpu, gpa + at, from + at, MIN(bytes - at, 8u));
			}
		}
		from += bytes;
	}
	return INSN_DONE;
}

enum insn_outcome kvm_emul_write(struct kvm_vcpu *vcpu, uint64_t linear, const void *data,
				 unsigned len, unsigned access)
{
	struct pieces pieces;
	enum insn_outcome outcome;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	outcome = translate(vcpu, linear, len, access | INSN_ACCESS_WRITE, &pieces);
	/* All of it has to fit into the queue. */
	if (outcome == INSN_DONE && len > 8 * (KVM_FRAGMENTS - 2)) {
		for (unsigned i = 0; i < pieces.count; i++) {
			if (!is_memory(vcpu, pieces.piece[i].gpa)) {
				return INSN_UNSUPPORTED;
			}
		}
	}
	return outcome == INSN_DONE ? write_pieces(vcpu, &pieces, data) : outcome;
}

enum insn_outcome kvm_emul_probe(struct kvm_vcpu *vcpu, uint64_t linear, unsigned len)
{
	struct pieces pieces;

	return must_exit_first(vcpu) ? INSN_EXIT
				     : translate(vcpu, linear, len, INSN_ACCESS_WRITE, &pieces);
}

enum insn_outcome kvm_emul_cmpxchg(struct kvm_vcpu *vcpu, uint64_t linear, const void *old,
				   const void *new, unsigned len)
{
	struct pieces pieces = {0};
	enum insn_outcome outcome;
	uint64_t gpa;
	int r;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	outcome = translate(vcpu, linear, len, INSN_ACCESS_WRITE, &pieces);
	if (outcome != INSN_DONE) {
		return outcome;
	}
	gpa = pieces.piece[0].gpa;
	/* A device, and what crosses pages or is not aligned, cannot be had atomically. */
	if (pieces.count != 1 || gpa % len != 0 || !is_memory(vcpu, gpa)) {
		return write_pieces(vcpu, &pieces, new);
	}
	r = kvm_memory_cmpxchg(vcpu, gpa, old, new, len);
	if (r == -EAGAIN) {
		return INSN_AGAIN;
	}
	return r == 0 ? INSN_DONE : INSN_UNSUPPORTED;
}

static void exit_string(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, unsigned count,
			bool in)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_exits *x = vcpu->exits;

	x->port = port;
	x->bytes = (uint8_t)bytes;
	x->count = count;
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = (uint8_t)bytes;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = KVM_PAGE_BYTES;
}

enum insn_outcome kvm_emul_port_in(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, void *data,
				   unsigned *count)
{
	struct kvm_exits *x = vcpu->exits;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	if (x->string_ready && x->port == port && x->bytes == bytes && x->count <= *count) {
		*count = x->count;
		memcpy(data, vcpu->pio_page, (size_t)bytes * x->count);
		return INSN_DONE;
	}
	x->string_ready = false;
	memset(data, 0, bytes);
	if (kvm_irq_pio(vcpu, port, bytes, data, false)) {
		*count = 1;
		return INSN_DONE;
	}
	exit_string(vcpu, port, bytes, MIN(*count, (unsigned)KVM_PAGE_BYTES / bytes), true);
	x->pending = KVM_PENDING_STRING_IN;
	return INSN_EXIT;
}

enum insn_outcome kvm_emul_port_out(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes,
				    const void *data, unsigned *count)
{
	uint8_t copy[8] = {0};
	unsigned some = MIN(*count, (unsigned)KVM_PAGE_BYTES / bytes);

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	memcpy(copy, data, bytes);
	if (kvm_irq_pio(vcpu, port, bytes, copy, true) ||
	    kvm_bus_write(vcpu->vm, true, port, bytes, data)) {
		*count = 1;
		return INSN_DONE;
	}
	memcpy(vcpu->pio_page, data, (size_t)bytes * some);
	exit_string(vcpu, port, bytes, some, false);
	vcpu->exits->string_out = true;
	*count = some;
	return INSN_DONE;
}
