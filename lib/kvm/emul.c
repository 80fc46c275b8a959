#include "lib/kvm/emul.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/bus.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/emul_regs.h"
#include "lib/kvm/events.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define EXC_UD 6
#define EXC_GP 13
#define EXC_PF 14

#define NEEDED (KVM_REGS_CORE | KVM_REGS_CONTROL | KVM_REGS_SEGMENTS)

static struct kvm_vcpu *vcpu_of(struct insn_env *env)
{
	return container_of(env, struct kvm_vcpu, emulator);
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

	kvm_regs_need(vcpu, NEEDED);
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

static enum insn_outcome translate(struct insn_env *env, uint64_t linear, unsigned len,
				   unsigned access, struct pieces *pieces)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
	unsigned bits = access_of(vcpu, access);
	const struct kvm_exits *x = vcpu->exits;

	/* The CPU has been there. */
	if (x->operand_gpa != 0 && (linear ^ x->operand_gpa) % KVM_PAGE_BYTES == 0 &&
	    linear % KVM_PAGE_BYTES + len <= KVM_PAGE_BYTES &&
	    (access == 0 || (access == INSN_ACCESS_WRITE && x->operand_write))) {
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
			return insn_raise_page_fault(env, linear, result.error);
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

/* Is something written that user space must see before anything else happens? */
static bool must_exit_first(const struct kvm_vcpu *vcpu)
{
	return vcpu->exits->written_count != 0 || vcpu->exits->string_out;
}

/* ---- the emulator's operations ---- */

static enum insn_outcome op_read(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
	struct pieces pieces;
	enum insn_outcome outcome;
	uint8_t *to = data;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	outcome = translate(env, linear, len, access, &pieces);
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

static enum insn_outcome op_write(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
	struct pieces pieces;
	enum insn_outcome outcome;

	if (must_exit_first(vcpu)) {
		return INSN_EXIT;
	}
	outcome = translate(env, linear, len, access | INSN_ACCESS_WRITE, &pieces);
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

static enum insn_outcome op_probe(struct insn_env *env, uint64_t linear, unsigned len)
{
	struct pieces pieces;

	return must_exit_first(vcpu_of(env))
		       ? INSN_EXIT
		       : translate(env, linear, len, INSN_ACCESS_WRITE, &pieces);
}

static enum insn_outcome op_cmpxchg(struct insn_env *env, uint64_t linear, const void *old,
				    const void *new, unsigned len)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
	struct pieces pieces;
	enum insn_outcome outcome = translate(env, linear, len, INSN_ACCESS_WRITE, &pieces);
	uint64_t gpa;
	int r;

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

static enum insn_outcome op_port_in(struct insn_env *env, uint16_t port, unsigned bytes, void *data,
				    unsigned *count)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
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

static enum insn_outcome op_port_out(struct insn_env *env, uint16_t port, unsigned bytes,
				     const void *data, unsigned *count)
{
	struct kvm_vcpu *vcpu = vcpu_of(env);
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
	.read_xmm = kvm_op_read_xmm,
	.write_xmm = kvm_op_write_xmm,
	.x87_image = kvm_op_x87_image,
	.read_cr = kvm_op_read_cr,
	.write_cr = kvm_op_write_cr,
	.read_dr = kvm_op_read_dr,
	.write_dr = kvm_op_write_dr,
};

void kvm_emul_init(struct kvm_vcpu *vcpu)
{
	vcpu->emulator = (struct insn_env){
		.cpu = &vcpu->cpu, .ops = &insn_ops, .other = vcpu->env->backend->insn_other};
}

/* ---- one instruction ---- */

/* Reads code. Return: how many of @len bytes there are; 0: a fault is pending, or no memory. */
static unsigned fetch(struct kvm_vcpu *vcpu, uint64_t linear, uint8_t *code, unsigned len)
{
	unsigned access = WALK_FETCH | WALK_SET_AD | (vcpu->cpu.cpl == 3 ? WALK_USER : 0);
	unsigned room = (unsigned)(KVM_PAGE_BYTES - linear % KVM_PAGE_BYTES);
	struct walk_result result;

	len = MIN(len, room);
	switch (kvm_emul_translate(vcpu, linear, access, &result)) {
	case WALK_FAULT:
		kvm_event_exception_payload(vcpu, EXC_PF, result.error, linear);
		return 0;
	case WALK_NOWHERE:
		return 0;
	default:
		return kvm_memory_read(vcpu, result.gpa, code, len) == 0 ? len : 0;
	}
}

/* In 64-bit code with four levels of tables? */
static bool usual_mode(const struct kvm_vcpu *vcpu)
{
	return insn_mode(&vcpu->cpu) == INSN_64 && (vcpu->cpu.cr4 & CR4_LA57) == 0;
}

/*
 * Code that the CPU has just executed, 16 bytes of it, where there was some before. The tables are
 * looked at again; that it is in the same memory the slots' generation says.
 */
static inline __attribute__((always_inline)) bool peek_again(struct kvm_vcpu *vcpu,
							     uint64_t bytes[2])
{
	const struct kvm_code *code = &vcpu->code;
	uint64_t rip = vcpu->cpu.rip;

	kvm_regs_need(vcpu, KVM_REGS_MODE);
	return rip - code->linear <= KVM_PAGE_BYTES - 16 && vcpu->cr3 == code->cr3 &&
	       vcpu->code_generation == vcpu->vm->slots.generation + 1 && usual_mode(vcpu) &&
	       kvm_ops(vcpu->env)->fetch_code(vcpu->env, code, (unsigned)(rip - code->linear),
					      bytes) == 0;
}

/*
 * It is mapped, may be executed, and is marked as accessed. Return: false if that takes more than
 * reading the tables.
 */
static bool peek(struct kvm_vcpu *vcpu, uint64_t bytes[2])
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t at = vcpu->cpu.rip % KVM_PAGE_BYTES;

	if (ops->find_code == NULL) {
		return false;
	}
	if (peek_again(vcpu, bytes)) {
		return true;
	}
	vcpu->code_generation = 0;
	vcpu->code.cr3 = vcpu->cr3;
	vcpu->code.linear = vcpu->cpu.rip - at;
	if (at > KVM_PAGE_BYTES - 16 || !usual_mode(vcpu) ||
	    vcpu->slot_generation != vcpu->vm->slots.generation || vcpu->slot_hint == NULL ||
	    ops->find_code(vcpu->env, vcpu->slot_hint, &vcpu->code) != 0) {
		return false;
	}
	vcpu->code_generation = vcpu->vm->slots.generation + 1;
	return ops->fetch_code(vcpu->env, &vcpu->code, (unsigned)at, bytes) == 0;
}

/*
 * The length of an instruction that stopped the guest, from its first bytes, if it is one of those
 * that guests use without prefixes: 0F 01 with two registers, the rest of 0F, HLT. 0: decode it.
 */
static unsigned short_length(uint64_t bytes)
{
	if ((bytes & 0xff) == 0xf4) {
		return 1;
	}
	if ((bytes & 0xff) != 0x0f) {
		return 0;
	}
	switch (bytes >> 8 & 0xff) {
	case 0x01:
		return (bytes >> 16 & 0xc0) == 0xc0 ? 3 : 0;
	case 0x08: /* INVD */
	case 0x09: /* WBINVD */
	case 0x30: /* WRMSR */
	case 0x32: /* RDMSR */
	case 0x33: /* RDPMC */
	case 0xa2: /* CPUID */
		return 2;
	default:
		return 0;
	}
}

/* Return: INSN_OK, or another result: #UD and #GP are pending then; INSN_MORE: nothing is. */
static enum insn_result decode(struct kvm_vcpu *vcpu, struct insn *insn)
{
	uint64_t linear = kvm_reg_linear_rip(vcpu);
	unsigned mode = insn_mode(&vcpu->cpu) | (vcpu->features.amd ? INSN_AMD : 0);
	uint8_t code[INSN_MAX];
	unsigned have = fetch(vcpu, linear, code, sizeof(code));
	unsigned more = 0;
	enum insn_result result = INSN_MORE;

	if (have != 0) {
		result = insn_decode(insn, mode, code, have);
	}
	if (have != 0 && result == INSN_MORE && have < INSN_MAX) {
		more = fetch(vcpu, linear + have, code + have, INSN_MAX - have);
		if (more != 0) {
			result = insn_decode(insn, mode, code, have + more);
		}
	}
	vcpu->exits->code_bytes = (uint8_t)(have + more);
	memcpy(vcpu->exits->code, code, have + more);
	return result;
}

/*
 * One that reaches its only memory operand and touches no segment: neither does the emulator need
 * the segment registers, nor is there doubt which access it is that stopped the guest.
 */
static bool is_simple(const struct insn *insn)
{
	if (insn->klass != INSN_CLASS_INTEGER || insn->nmem != 1 || insn->mode != INSN_64 ||
	    insn->mem[0].seg >= INSN_FS ||
	    (insn->attributes & (INSN_ATTR_PUSH | INSN_ATTR_POP)) != 0) {
		return false;
	}
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_REG && insn->operand[i].klass == INSN_SEG) {
			return false;
		}
	}
	return true;
}

/*
 * Loads and stores by MOV are most of what drivers do to devices. They are carried out here, if
 * there is nothing about them that the emulator would have to look at.
 */
static bool is_plain_mov(const struct insn *insn)
{
	const struct insn_mem *m = &insn->mem[0];

	return insn->mnemonic == INSN_MOV && m->kind == INSN_MEM_MODRM && insn->adr_bytes == 8 &&
	       m->base < 16 && is_simple(insn);
}

/*
 * The instruction at RIP, decoded now or before: INSN_OK and *@insn, or as decode(). In 64-bit code
 * its bytes are found by a short walk and compared with those of instructions that were decoded.
 */
static enum insn_result find_insn(struct kvm_vcpu *vcpu, const struct insn **insn)
{
	struct kvm_exits *x = vcpu->exits;
	uint64_t rip = vcpu->cpu.rip, bytes[2];
	struct kvm_decoded *d = &x->decoded[(rip ^ rip >> 3) % KVM_DECODED];
	enum insn_result result = INSN_OK;

	*insn = &d->insn;
	if (peek(vcpu, bytes)) {
		store_le64(x->code, bytes[0]);
		store_le64(x->code + 8, bytes[1]);
		x->code_bytes = INSN_MAX;
		bytes[1] = bytes[1] << 8 >> 8 | UINT64_C(1) << 56;
		if (d->bytes[0] == bytes[0] && d->bytes[1] == bytes[1]) {
			return INSN_OK;
		}
		result = insn_decode(&d->insn, INSN_64 | (vcpu->features.amd ? INSN_AMD : 0),
				     x->code, INSN_MAX);
		d->bytes[0] = bytes[0];
		d->bytes[1] = result == INSN_OK ? bytes[1] : 0;
		d->plain_mov = result == INSN_OK && is_plain_mov(&d->insn);
		return result;
	}
	d->bytes[1] = 0;
	d->plain_mov = false;
	kvm_regs_need(vcpu, NEEDED);
	return decode(vcpu, &d->insn);
}

static void forget(struct kvm_exits *x)
{
	x->operand_gpa = 0;
	x->resumed = false;
	x->answered_count = 0;
	x->cursor = 0;
	x->string_ready = false;
}

/* KVM_EXIT_INTERNAL_ERROR with the bytes of the instruction, if there are any. */
static void exit_failed(struct kvm_vcpu *vcpu)
{
	const struct kvm_exits *x = vcpu->exits;
	struct kvm_run *run = vcpu->run;

	kvm_exit_internal(vcpu, KVM_INTERNAL_ERROR_EMULATION);
	if (x->code_bytes != 0) {
		run->internal.data[3] = 0;
		run->emulation_failure.ndata = 4; /* flags, two words of bytes, nothing more */
		run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
		run->emulation_failure.insn_size = x->code_bytes;
		memset(run->emulation_failure.insn_bytes, 0x90,
		       sizeof(run->emulation_failure.insn_bytes));
		memcpy(run->emulation_failure.insn_bytes, x->code, x->code_bytes);
	}
}

/* It could not be emulated: the guest's fault if user code did it, else nobody knows further. */
static rare bool failed(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;

	forget(x);
	x->pending = KVM_PENDING_NONE;
	if (vcpu->events.exception.pending) {
		return false;
	}
	if (!vcpu->vm->exit_on_emulation_failure) {
		kvm_regs_need(vcpu, KVM_REGS_MODE);
		kvm_event_exception(vcpu, EXC_UD, 0);
		if (vcpu->cpu.cpl != 0) {
			return false;
		}
	}
	exit_failed(vcpu);
	return true;
}

/* What the instruction wrote goes to user space. Return: is there something? */
static bool flush_written(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;

	if (x->string_out) {
		x->string_out = false;
		x->pending = KVM_PENDING_NONE;
		return true; /* kvm_run is filled in */
	}
	if (x->written_count != 0) {
		x->written_seen = 0;
		x->pending = KVM_PENDING_MMIO_WRITE;
		kvm_exit_mmio(vcpu, &x->written[0], true);
		return true;
	}
	return false;
}

static void take_fault(struct kvm_vcpu *vcpu)
{
	const struct insn_fault *fault = &vcpu->emulator.fault;

	if (fault->vector == EXC_PF) {
		kvm_event_exception_payload(vcpu, EXC_PF, fault->error, fault->address);
	} else {
		kvm_event_exception(vcpu, fault->vector, fault->error);
	}
}

static bool emulate(struct kvm_vcpu *vcpu)
{
	struct kvm_exits *x = vcpu->exits;
	bool stepping = (vcpu->cpu.rflags & RFLAGS_TF) != 0;
	enum insn_outcome outcome;

	if (!stepping && is_simple(x->insn)) {
		kvm_regs_change(vcpu, KVM_REGS_CORE);
	} else {
		x->operand_gpa = 0;
		kvm_regs_need(vcpu, NEEDED);
		kvm_regs_change(vcpu, KVM_REGS_CORE | KVM_REGS_SEGMENTS);
	}
	x->cursor = 0;
	x->written_count = 0;
	x->string_out = false;
	outcome = insn_emulate(&vcpu->emulator, x->insn);
	switch (outcome) {
	case INSN_EXIT:
		if (must_exit_first(vcpu)) {
			break; /* iterations that are over; the instruction begins anew */
		}
		x->resumed = true;
		if (x->pending == KVM_PENDING_MMIO_READ) {
			kvm_exit_mmio(vcpu, &x->asked, false);
		}
		return true;
	case INSN_FAULT:
		take_fault(vcpu);
		break;
	case INSN_UNSUPPORTED:
		return failed(vcpu);
	case INSN_HALT:
	case INSN_DONE:
	case INSN_AGAIN:
		forget(x);
		if (flush_written(vcpu)) {
			return true;
		}
		return (outcome == INSN_DONE || stepping) && kvm_debug_stepped(vcpu, stepping);
	}
	forget(x);
	return flush_written(vcpu);
}

/* 16- and 32-bit code wraps at 4 GiB; RIP above it is 64-bit code's. */
static rare uint64_t wrapped(struct kvm_vcpu *vcpu, uint64_t rip)
{
	kvm_regs_need(vcpu, NEEDED);
	return insn_mode(&vcpu->cpu) != INSN_64 ? (uint32_t)rip : rip;
}

static inline void advance(struct kvm_vcpu *vcpu, unsigned len)
{
	uint64_t rip = vcpu->cpu.rip + len;

	kvm_regs_change(vcpu, KVM_REGS_CORE);
	if ((rip ^ vcpu->cpu.rip) >> 32 != 0) {
		rip = wrapped(vcpu, rip);
	}
	vcpu->cpu.rip = rip;
	vcpu->cpu.rflags &= ~RFLAGS_RF;
	vcpu->cpu.interrupt_shadow = false;
}

/* Can it be carried out here, now that it has stopped at @gpa? */
static inline bool plain_at(const struct kvm_vcpu *vcpu, const struct insn *insn, uint64_t gpa)
{
	const struct insn_mem *m = &insn->mem[0];
	const uint64_t *gpr = vcpu->cpu.gpr;
	uint64_t address = (uint64_t)m->disp + gpr[m->base];

	if (!container_of(insn, const struct kvm_decoded, insn)->plain_mov || vcpu->single_step ||
	    (vcpu->cpu.rflags & (RFLAGS_AC | RFLAGS_TF)) != 0) {
		return false;
	}
	address += m->index != INSN_NO_REG ? gpr[m->index] * m->scale : 0;
	return (address ^ gpa) % KVM_PAGE_BYTES == 0 &&
	       gpa % KVM_PAGE_BYTES + m->bytes <= KVM_PAGE_BYTES;
}

/* @value: what is stored. */
static bool is_plain_store(const struct kvm_vcpu *vcpu, const struct insn *insn, uint64_t gpa,
			   uint64_t *value)
{
	const struct insn_operand *from = &insn->operand[1];

	if (insn->operand[0].kind != INSN_OP_MEM) {
		return false;
	}
	if (from->kind == INSN_OP_IMM) {
		*value = insn->imm[from->reg];
	} else if (from->kind == INSN_OP_REG && from->klass == INSN_GPR) {
		*value = vcpu->cpu.gpr[from->reg];
	} else {
		return false;
	}
	return plain_at(vcpu, insn, gpa);
}

static bool is_plain_load(const struct kvm_vcpu *vcpu, const struct insn *insn, uint64_t gpa)
{
	const struct insn_operand *to = &insn->operand[0];

	return to->kind == INSN_OP_REG && to->klass == INSN_GPR &&
	       insn->operand[1].kind == INSN_OP_MEM && plain_at(vcpu, insn, gpa);
}

void kvm_emul_finish_load(struct kvm_vcpu *vcpu, uint64_t value)
{
	const struct insn *insn = vcpu->exits->insn;
	uint64_t *to = &vcpu->cpu.gpr[insn->operand[0].reg];

	advance(vcpu, insn->len);
	vcpu->cpu.trap_shadow = false;
	switch (insn->mem[0].bytes) {
	case 1:
		*to = (*to & ~UINT64_C(0xff)) | (uint8_t)value;
		break;
	case 2:
		*to = (*to & ~UINT64_C(0xffff)) | (uint16_t)value;
		break;
	case 4:
		*to = (uint32_t)value;
		break;
	default:
		*to = value;
	}
}

/* Return: as kvm_emul_insn(). */
static bool load(struct kvm_vcpu *vcpu, const struct insn *insn, uint64_t gpa)
{
	struct kvm_exits *x = vcpu->exits;
	unsigned bytes = insn->mem[0].bytes;
	uint8_t data[8] = {0};

	forget(x);
	x->written_count = 0;
	if (kvm_irq_mmio(vcpu, gpa, bytes, data, false)) {
		kvm_emul_finish_load(vcpu, load_le64(data));
		return false;
	}
	x->asked = (struct kvm_fragment){.gpa = gpa, .bytes = (uint8_t)bytes};
	x->pending = KVM_PENDING_MMIO_LOAD;
	kvm_exit_mmio(vcpu, &x->asked, false);
	return true;
}

/* Return: as kvm_emul_insn(). */
static bool store(struct kvm_vcpu *vcpu, const struct insn *insn, uint64_t gpa, uint64_t value)
{
	struct kvm_exits *x = vcpu->exits;
	struct kvm_fragment *f = &x->written[0];
	unsigned bytes = insn->mem[0].bytes;

	f->gpa = gpa;
	f->bytes = (uint8_t)bytes;
	store_le64(f->data, value);
	forget(x);
	x->written_count = 0;
	advance(vcpu, insn->len);
	vcpu->cpu.trap_shadow = false;
	if (kvm_irq_mmio(vcpu, gpa, bytes, f->data, true) ||
	    kvm_bus_write(vcpu->vm, false, gpa, bytes, f->data)) {
		return false;
	}
	x->written_count = 1;
	x->written_seen = 0;
	x->pending = KVM_PENDING_MMIO_WRITE;
	kvm_exit_mmio(vcpu, f, true);
	return true;
}

/* x->insn becomes the instruction at RIP. Return: false: there is none, and *@exit as
 * kvm_emul_insn(). */
static bool begin(struct kvm_vcpu *vcpu, bool *exit)
{
	enum insn_result result = find_insn(vcpu, &vcpu->exits->insn);

	switch (result) {
	case INSN_OK:
		return true;
	case INSN_TOO_LONG:
		forget(vcpu->exits);
		kvm_event_exception(vcpu, EXC_GP, 0);
		*exit = false;
		return false;
	default:
		*exit = failed(vcpu);
		return false;
	}
}

bool kvm_emul_access(struct kvm_vcpu *vcpu, uint64_t gpa, bool write)
{
	struct kvm_exits *x = vcpu->exits;
	uint64_t value;
	bool exit;

	if (!x->resumed) {
		if (!begin(vcpu, &exit)) {
			return exit;
		}
		if (write && is_plain_store(vcpu, x->insn, gpa, &value)) {
			return store(vcpu, x->insn, gpa, value);
		}
		if (!write && is_plain_load(vcpu, x->insn, gpa)) {
			return load(vcpu, x->insn, gpa);
		}
	}
	x->operand_gpa = gpa;
	x->operand_write = write;
	return emulate(vcpu);
}

bool kvm_emul_insn(struct kvm_vcpu *vcpu)
{
	bool exit;

	if (!vcpu->exits->resumed && !begin(vcpu, &exit)) {
		return exit;
	}
	return emulate(vcpu);
}

static rare unsigned decoded_length(struct kvm_vcpu *vcpu)
{
	struct insn insn;

	kvm_regs_need(vcpu, NEEDED);
	return decode(vcpu, &insn) == INSN_OK ? insn.len : 0;
}

/* Of the instruction at RIP. 0: there is none. */
static __attribute__((noinline)) unsigned length_of(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t bytes[2];
	unsigned len;

	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	len = peek(vcpu, bytes) ? short_length(bytes[0]) : 0;
	if (len == 0) {
		len = decoded_length(vcpu);
	}
	ops->unlock_read(vcpu->env, &vcpu->vm->memory);
	return len;
}

/* Somebody steps, or the length is not known. */
static __attribute__((noinline)) bool skip_slowly(struct kvm_vcpu *vcpu, unsigned len)
{
	bool stepping = (vcpu->cpu.rflags & RFLAGS_TF) != 0;

	if (len == 0) {
		len = length_of(vcpu);
		if (len == 0) {
			return failed(vcpu);
		}
	}
	advance(vcpu, len);
	return (vcpu->single_step || stepping) && kvm_debug_stepped(vcpu, stepping);
}

/* As most of the time. Without vm->memory: what is read is ring 3's own in any case. */
static unsigned known_length(struct kvm_vcpu *vcpu)
{
	uint64_t bytes[2];

	return kvm_ops(vcpu->env)->find_code != NULL && peek_again(vcpu, bytes)
		       ? short_length(bytes[0])
		       : 0;
}

static inline bool skip(struct kvm_vcpu *vcpu, unsigned len)
{
	uint64_t rip = vcpu->cpu.rip + len;

	if (len == 0 || vcpu->single_step || (vcpu->cpu.rflags & RFLAGS_TF) != 0 ||
	    (rip ^ vcpu->cpu.rip) >> 32 != 0) {
		return skip_slowly(vcpu, len);
	}
	advance(vcpu, len);
	return false;
}

static __attribute__((noinline)) bool skip_unknown(struct kvm_vcpu *vcpu)
{
	return skip(vcpu, known_length(vcpu));
}

bool kvm_emul_skip(struct kvm_vcpu *vcpu, unsigned len)
{
	return len == 0 ? skip_unknown(vcpu) : skip(vcpu, len);
}

bool kvm_emul_foreign_hypercall(struct kvm_vcpu *vcpu)
{
	const uint8_t ours[3] = {0x0f, 0x01, vcpu->env->backend->amd ? 0xd9 : 0xc1};
	struct pieces pieces;
	struct insn insn;

	kvm_regs_need(vcpu, NEEDED);
	if (decode(vcpu, &insn) != INSN_OK ||
	    (insn.mnemonic != INSN_VMCALL && insn.mnemonic != INSN_VMMCALL) ||
	    (vcpu->vm->quirks_off & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) != 0) {
		return false;
	}
	switch (translate(&vcpu->emulator, kvm_reg_linear_rip(vcpu), sizeof(ours),
			  INSN_ACCESS_WRITE, &pieces)) {
	case INSN_DONE:
		return write_pieces(vcpu, &pieces, ours) == INSN_DONE;
	case INSN_FAULT:
		take_fault(vcpu);
		return true;
	default:
		return false;
	}
}
