#include "lib/kvm/emul.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/bus.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/emul_regs.h"
#include "lib/kvm/events.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/memory.h"
#include "lib/kvm/plain.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define EXC_UD 6
#define EXC_PF 14

bool kvm_emul_fetch(struct kvm_vcpu *vcpu)
{
	unsigned access = WALK_FETCH | WALK_SET_AD | (vcpu->cpu.cpl == 3 ? WALK_USER : 0);
	struct kvm_exits *x = vcpu->exits;
	uint64_t linear = kvm_reg_linear_rip(vcpu) + x->code_bytes;
	unsigned room = (unsigned)(KVM_PAGE_BYTES - linear % KVM_PAGE_BYTES);
	unsigned len = MIN((unsigned)INSN_MAX - x->code_bytes, room);
	struct walk_result result;

	switch (kvm_emul_translate(vcpu, linear, access, &result)) {
	case WALK_FAULT:
		kvm_event_exception_payload(vcpu, EXC_PF, result.error, linear);
		return false;
	case WALK_NOWHERE:
		return false;
	default:
		if (len == 0 ||
		    kvm_memory_read(vcpu, result.gpa, x->code + x->code_bytes, len) != 0) {
			return false;
		}
		x->code_bytes = (uint8_t)(x->code_bytes + len);
		return true;
	}
}

/* In 64-bit code with four levels of tables? */
static inline __attribute__((always_inline)) bool usual_mode(const struct kvm_vcpu *vcpu)
{
	return insn_mode(&vcpu->cpu) == INSN_64 && (vcpu->cpu.cr4 & CR4_LA57) == 0;
}

static bool is_code(struct kvm_code_bytes bytes)
{
	return (bytes.word[0] | bytes.word[1]) != 0;
}

/*
 * Code that the CPU has just executed, 16 bytes of it, where there was some before. The tables are
 * looked at again; that it is in the same memory the slots' generation says. Return: zeros if that
 * is not so.
 */
static inline __attribute__((always_inline)) struct kvm_code_bytes peek_again(struct kvm_vcpu *vcpu)
{
	const struct kvm_code *code = &vcpu->code;
	uint64_t at = vcpu->cpu.rip - code->linear;

	kvm_regs_need(vcpu, KVM_REGS_MODE);
	if (at > KVM_PAGE_BYTES - 16 || vcpu->cr3 != code->cr3 ||
	    vcpu->code_generation != vcpu->vm->slots.generation + 1 || !usual_mode(vcpu)) {
		return (struct kvm_code_bytes){{0, 0}};
	}
	return kvm_ops(vcpu->env)->fetch_code(vcpu->env, code, (unsigned)at);
}

/*
 * The same wherever it is mapped, may be executed, and is marked as accessed. Return: zeros if that
 * takes more than reading the tables.
 */
static struct kvm_code_bytes peek(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint64_t at = vcpu->cpu.rip % KVM_PAGE_BYTES;
	struct kvm_code_bytes bytes = {{0, 0}};

	if (ops->find_code == NULL) {
		return bytes;
	}
	bytes = peek_again(vcpu);
	if (is_code(bytes)) {
		return bytes;
	}
	vcpu->code_generation = 0;
	vcpu->code.cr3 = vcpu->cr3;
	vcpu->code.linear = vcpu->cpu.rip - at;
	if (at > KVM_PAGE_BYTES - 16 || !usual_mode(vcpu) ||
	    vcpu->slot_generation != vcpu->vm->slots.generation || vcpu->slot_hint == NULL ||
	    ops->find_code(vcpu->env, vcpu->slot_hint, &vcpu->code) != 0) {
		return bytes;
	}
	vcpu->code_generation = vcpu->vm->slots.generation + 1;
	return ops->fetch_code(vcpu->env, &vcpu->code, (unsigned)at);
}

/*
 * The length of an instruction that stopped the guest. *@opcode: as of kvm_plain_length(). 0: it is
 * none that we know; a fault may be pending.
 */
static rare unsigned decoded_length(struct kvm_vcpu *vcpu, uint32_t *opcode)
{
	struct kvm_exits *x = vcpu->exits;
	unsigned len = 0;

	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	x->code_bytes = 0;
	/* It may lie in two pages. */
	for (unsigned i = 0; i < 2 && len == 0 && kvm_emul_fetch(vcpu); i++) {
		len = kvm_plain_length(x->code, x->code_bytes, insn_mode(&vcpu->cpu) == INSN_64,
				       opcode);
	}
	return len;
}

static struct kvm_decoded *place_of(struct kvm_exits *x, uint64_t rip)
{
	return &x->decoded[(rip ^ rip >> 5 ^ rip >> 10) % KVM_DECODED];
}

/* The 16th byte is not the instruction's. */
static uint64_t key_of(uint64_t last)
{
	return last << 8 >> 8 | UINT64_C(1) << 56;
}

/* The instruction at RIP, if it is a plain one that was emulated before. */
static const struct kvm_plain *find_plain(struct kvm_vcpu *vcpu, struct kvm_code_bytes bytes)
{
	const struct kvm_decoded *d = place_of(vcpu->exits, vcpu->cpu.rip);

	return d->bytes[0] == bytes.word[0] && d->bytes[1] == key_of(bytes.word[1]) ? &d->plain
										    : NULL;
}

/* Who has emulated the instruction at @rip may have said what it is; see env.h. */
static void remember(struct kvm_exits *x, uint64_t rip)
{
	struct kvm_decoded *d = place_of(x, rip);

	if (x->code_bytes == INSN_MAX && kvm_plain_is_sound(&x->found)) {
		d->bytes[0] = load_le64(x->code);
		d->bytes[1] = key_of(load_le64(x->code + 8));
		d->plain = x->found;
	}
}

/* x->code gets what is at RIP, or the beginning of it. @bytes: by peek(). Return: false: nothing.
 */
static bool take_code(struct kvm_vcpu *vcpu, struct kvm_code_bytes bytes)
{
	struct kvm_exits *x = vcpu->exits;

	if (is_code(bytes)) {
		store_le64(x->code, bytes.word[0]);
		store_le64(x->code + 8, bytes.word[1]);
		x->code_bytes = INSN_MAX;
		return true;
	}
	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	x->code_bytes = 0;
	return kvm_emul_fetch(vcpu);
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
	bool broken = x->broken;

	forget(x);
	x->pending = KVM_PENDING_NONE;
	x->broken = false;
	if (vcpu->events.exception.pending) {
		return false;
	}
	if (!vcpu->vm->exit_on_emulation_failure && !broken) {
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
	const struct insn_fault *fault = &vcpu->exits->fault;

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
	uint64_t rip = vcpu->cpu.rip;
	enum insn_outcome outcome;

	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	x->found.len = 0;
	x->cursor = 0;
	x->written_count = 0;
	x->string_out = false;
	outcome = kvm_ops(vcpu->env)->emulate(vcpu->env, vcpu);
	remember(x, rip);
	if (outcome != INSN_EXIT && x->pending != KVM_PENDING_NONE) {
		outcome = INSN_UNSUPPORTED; /* who asks has to wait for the answer */
	}
	switch (outcome) {
	case INSN_EXIT:
		if (kvm_emul_has_written(vcpu)) {
			break; /* iterations that are over; the instruction begins anew */
		}
		if (x->pending == KVM_PENDING_NONE) {
			return failed(vcpu);
		}
		x->resumed = true;
		if (x->pending == KVM_PENDING_MMIO_READ) {
			kvm_exit_mmio(vcpu, &x->asked, false);
		}
		return true;
	case INSN_FAULT:
		take_fault(vcpu);
		break;
	case INSN_HALT:
	case INSN_DONE:
	case INSN_AGAIN:
		forget(x);
		if (flush_written(vcpu)) {
			return true;
		}
		return (outcome == INSN_DONE || stepping) && kvm_debug_stepped(vcpu, stepping);
	default:
		return failed(vcpu);
	}
	forget(x);
	return flush_written(vcpu);
}

/* 16- and 32-bit code wraps at 4 GiB; RIP above it is 64-bit code's. */
static rare uint64_t wrapped(struct kvm_vcpu *vcpu, uint64_t rip)
{
	kvm_regs_need(vcpu, KVM_EMUL_REGS);
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

/*
 * Can it be carried out here, now that it has stopped at @gpa? That has to be where its operand
 * begins, not the second page of it or something else.
 */
static inline bool is_plain_at(const struct kvm_vcpu *vcpu, const struct kvm_plain *plain,
			       uint64_t gpa)
{
	return !vcpu->single_step && (vcpu->cpu.rflags & (RFLAGS_AC | RFLAGS_TF)) == 0 &&
	       (kvm_plain_address(plain, &vcpu->cpu) ^ gpa) % KVM_PAGE_BYTES == 0 &&
	       gpa % KVM_PAGE_BYTES + plain->bytes <= KVM_PAGE_BYTES;
}

void kvm_emul_finish_load(struct kvm_vcpu *vcpu, uint64_t value)
{
	const struct kvm_plain *plain = &vcpu->exits->plain;

	advance(vcpu, plain->len);
	vcpu->cpu.trap_shadow = false;
	kvm_plain_load(plain, &vcpu->cpu, value);
}

/* Return: as kvm_emul_insn(). */
static bool load(struct kvm_vcpu *vcpu, const struct kvm_plain *plain, uint64_t gpa)
{
	struct kvm_exits *x = vcpu->exits;
	uint8_t data[8] = {0};

	forget(x);
	x->written_count = 0;
	x->plain = *plain;
	if (kvm_irq_mmio(vcpu, gpa, plain->bytes, data, false)) {
		kvm_emul_finish_load(vcpu, load_le64(data));
		return false;
	}
	x->asked = (struct kvm_fragment){.gpa = gpa, .bytes = plain->bytes};
	x->pending = KVM_PENDING_MMIO_LOAD;
	kvm_exit_mmio(vcpu, &x->asked, false);
	return true;
}

/* Return: as kvm_emul_insn(). */
static bool store(struct kvm_vcpu *vcpu, const struct kvm_plain *plain, uint64_t gpa)
{
	struct kvm_exits *x = vcpu->exits;
	struct kvm_fragment *f = &x->written[0];

	f->gpa = gpa;
	f->bytes = plain->bytes;
	store_le64(f->data, plain->reg != KVM_PLAIN_NONE ? vcpu->cpu.gpr[plain->reg] : plain->imm);
	forget(x);
	x->written_count = 0;
	advance(vcpu, plain->len);
	vcpu->cpu.trap_shadow = false;
	if (kvm_irq_mmio(vcpu, gpa, f->bytes, f->data, true) ||
	    kvm_bus_write(vcpu->vm, false, gpa, f->bytes, f->data)) {
		return false;
	}
	x->written_count = 1;
	x->written_seen = 0;
	x->pending = KVM_PENDING_MMIO_WRITE;
	kvm_exit_mmio(vcpu, f, true);
	return true;
}

/*
 * peek(), where the CPU may have fetched the code itself: that is what it was to execute, whatever
 * is there by now. Another number than 15 ends at a page or a limit, or is an erratum's 0.
 */
static __attribute__((noinline)) struct kvm_code_bytes fetched(struct kvm_vcpu *vcpu)
{
	const uint8_t *code = vcpu->fetched + 1;

	kvm_regs_need(vcpu, KVM_REGS_MODE);
	return vcpu->fetched[0] == INSN_MAX && insn_mode(&vcpu->cpu) == INSN_64
		       ? (struct kvm_code_bytes){{load_le64(code), load_le64(code + 7) >> 8}}
		       : peek(vcpu);
}

bool kvm_emul_access(struct kvm_vcpu *vcpu, uint64_t gpa, bool write)
{
	struct kvm_exits *x = vcpu->exits;

	if (!x->resumed) {
		struct kvm_code_bytes bytes = vcpu->fetched != NULL ? fetched(vcpu) : peek(vcpu);
		const struct kvm_plain *plain = find_plain(vcpu, bytes);

		if (plain != NULL && plain->store == write && is_plain_at(vcpu, plain, gpa)) {
			return write ? store(vcpu, plain, gpa) : load(vcpu, plain, gpa);
		}
		if (!take_code(vcpu, bytes)) {
			return failed(vcpu);
		}
	}
	x->operand_gpa = gpa;
	x->operand_write = write;
	return emulate(vcpu);
}

/*
 * MOV to a control register, which kernels use all the time to flush a TLB: by 64-bit code, with no
 * prefix but REX. Return: false if it is something else; nothing has happened.
 */
static bool write_cr(struct kvm_vcpu *vcpu, struct kvm_code_bytes bytes)
{
	const uint8_t *code = (const uint8_t *)bytes.word;
	unsigned rex = 0, at = 0;

	if (vcpu->single_step || (vcpu->cpu.rflags & RFLAGS_TF) != 0) {
		return false;
	}
	if ((code[0] & 0xf0) == 0x40) {
		rex = code[0];
		at = 1;
	}
	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	if (code[at] != 0x0f || code[at + 1] != 0x22 || vcpu->cpu.cpl != 0) {
		return false;
	}
	code += at + 2;
	/* REX.R and REX.B are the fourth bits of the two numbers. */
	if (kvm_op_write_cr(vcpu, (*code >> 3 & 7) | (rex & 4) << 1,
			    vcpu->cpu.gpr[(*code & 7) | (rex & 1) << 3]) == INSN_DONE) {
		advance(vcpu, at + 3);
	} else {
		take_fault(vcpu);
	}
	return true;
}

bool kvm_emul_cr(struct kvm_vcpu *vcpu, const struct kvm_stop *stop)
{
	uint64_t *gpr = &vcpu->cpu.gpr[stop->cr.gpr], value;
	unsigned cr = stop->cr.number;

	kvm_regs_need(vcpu, KVM_EMUL_REGS);
	value = insn_mode(&vcpu->cpu) == INSN_64 ? *gpr : (uint32_t)*gpr;
	if ((stop->cr.write ? kvm_op_write_cr(vcpu, cr, value) : kvm_op_read_cr(vcpu, cr, gpr)) !=
	    INSN_DONE) {
		take_fault(vcpu);
		return false;
	}
	return kvm_emul_skip(vcpu, stop->insn_len);
}

bool kvm_emul_insn(struct kvm_vcpu *vcpu)
{
	if (!vcpu->exits->resumed) {
		struct kvm_code_bytes bytes = peek(vcpu);

		if (write_cr(vcpu, bytes)) {
			return false;
		}
		if (!take_code(vcpu, bytes)) {
			return failed(vcpu);
		}
	}
	return emulate(vcpu);
}

static __attribute__((noinline)) unsigned any_length(struct kvm_code_bytes bytes)
{
	uint32_t opcode;

	return kvm_plain_length((const uint8_t *)bytes.word, INSN_MAX, true, &opcode);
}

/* Of an instruction with these bytes, those first that guests are stopped by all the time. */
static inline unsigned length(struct kvm_code_bytes bytes)
{
	switch (bytes.word[0] & 0xffff) {
	case 0xa20f: /* CPUID */
	case 0x300f: /* WRMSR */
	case 0x320f: /* RDMSR */
		return 2;
	default:
		return (bytes.word[0] & 0xff) == 0xf4 ? 1 /* HLT */ : any_length(bytes);
	}
}

/* Of the instruction at RIP. 0: there is none. */
static __attribute__((noinline)) unsigned length_of(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);
	uint32_t opcode;
	unsigned len;

	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	len = length(peek(vcpu));
	if (len == 0) {
		len = decoded_length(vcpu, &opcode);
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
	return kvm_ops(vcpu->env)->find_code != NULL ? length(peek_again(vcpu)) : 0;
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
	uint32_t opcode;

	if (decoded_length(vcpu, &opcode) == 0 ||
	    (opcode != KVM_PLAIN_VMCALL && opcode != KVM_PLAIN_VMMCALL) ||
	    (vcpu->vm->quirks_off & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) != 0) {
		return false;
	}
	switch (kvm_emul_write(vcpu, kvm_reg_linear_rip(vcpu), ours, sizeof(ours), 0)) {
	case INSN_DONE:
		return true;
	case INSN_FAULT:
		take_fault(vcpu);
		return true;
	default:
		return false;
	}
}
