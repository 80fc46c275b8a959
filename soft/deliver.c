#include "soft/deliver.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "lib/x86/regs.h"
#include "soft/mmu.h"
#include "soft/vcpu.h"

#define EXC_DB 1
#define EXC_BP 3
#define EXC_OF 4
#define EXC_DF 8
#define EXC_TS 10
#define EXC_NP 11
#define EXC_SS 12
#define EXC_GP 13
#define EXC_PF 14

#define ERROR_EXT 1
#define ERROR_IDT 2

#define GATE_TASK   0x5
#define GATE_INT16  0x6
#define GATE_TRAP16 0x7
#define GATE_INT32  0xe
#define GATE_TRAP32 0xf

#define TYPE_CODE	0x8
#define TYPE_CONFORMING 0x4
#define TYPE_DOWN	0x4
#define TYPE_WRITABLE	0x2
#define TYPE_ACCESSED	0x1
#define TYPE_TSS16	0x1 /* available; busy is 3 */

#define FLAG_NT	 BIT(14)
#define FLAG_IF	 RFLAGS_IF

/* 0, 10 to 13: two of them make a double fault. */
#define CONTRIBUTORY UINT32_C(0x3c01)
/* Not faults, whose RFLAGS image has RF: #DB is either, and has it set by who raises it. */
#define NOT_FAULTS UINT32_C(0x4011e)

/* One delivery. */
struct delivery {
	struct soft_vcpu *vcpu;
	struct insn_cpu *cpu;
	const struct kvm_event *event;
	uint64_t return_rip;
	uint64_t rflags; /* to be pushed */
	uint32_t ext;	 /* in error codes: not the program's own doing */
	bool soft;	 /* INT n, INT3, INTO: the gate's DPL counts */

	/* the gate */
	uint8_t type;
	uint8_t ist;
	uint16_t selector;
	uint64_t offset;

	/* what it leads to */
	struct insn_segment cs, ss;
	uint8_t cpl;
	uint64_t rsp;
};

static bool is_long(const struct insn_cpu *cpu)
{
	return (cpu->efer & EFER_LMA) != 0;
}

static enum insn_outcome raise_fault(struct delivery *d, unsigned vector, uint32_t error)
{
	return insn_raise(&d->vcpu->env, (enum insn_vector)vector, error | d->ext);
}

static enum insn_outcome read_system(struct delivery *d, uint64_t linear, void *data, unsigned len)
{
	if (!is_long(d->cpu)) {
		linear &= UINT32_MAX;
	}
	return soft_mmu_read(d->vcpu, linear, data, len, true);
}

/* ---- real mode ---- */

static enum insn_outcome push16(struct delivery *d, uint16_t *sp, uint16_t value)
{
	uint8_t bytes[2];

	store_le16(bytes, value);
	*sp = (uint16_t)(*sp - 2);
	return soft_mmu_write(d->vcpu, (uint32_t)(d->cpu->seg[INSN_SS].base + *sp), bytes, 2, false);
}

static enum insn_outcome deliver_real(struct delivery *d)
{
	struct insn_cpu *cpu = d->cpu;
	uint32_t at = d->event->vector * 4u;
	uint16_t sp = (uint16_t)cpu->gpr[4];
	uint8_t entry[4];
	enum insn_outcome r;

	if (at + 3 > cpu->idtr.limit) {
		return raise_fault(d, EXC_GP, at * 2 + ERROR_IDT);
	}
	r = read_system(d, cpu->idtr.base + at, entry, 4);
	if (r == INSN_DONE) {
		r = push16(d, &sp, (uint16_t)d->rflags);
	}
	if (r == INSN_DONE) {
		r = push16(d, &sp, cpu->seg[INSN_CS].selector);
	}
	if (r == INSN_DONE) {
		r = push16(d, &sp, (uint16_t)d->return_rip);
	}
	if (r != INSN_DONE) {
		return r;
	}
	cpu->gpr[4] = (cpu->gpr[4] & ~UINT64_C(0xffff)) | sp;
	cpu->rflags &= ~(FLAG_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
	cpu->seg[INSN_CS].selector = load_le16(entry + 2);
	cpu->seg[INSN_CS].base = (uint64_t)load_le16(entry + 2) << 4;
	cpu->rip = load_le16(entry);
	return INSN_DONE;
}

/* ---- protected and long mode: the gate and the segments ---- */

static enum insn_outcome read_gate(struct delivery *d)
{
	unsigned bytes = is_long(d->cpu) ? 16 : 8;
	uint32_t at = d->event->vector * bytes;
	uint32_t error = d->event->vector * 8u + ERROR_IDT;
	uint8_t gate[16];
	enum insn_outcome r;

	if (at + bytes - 1 > d->cpu->idtr.limit) {
		return raise_fault(d, EXC_GP, error);
	}
	r = read_system(d, d->cpu->idtr.base + at, gate, bytes);
	if (r != INSN_DONE) {
		return r;
	}
	d->type = gate[5] & 0x1f;
	d->selector = load_le16(gate + 2);
	d->offset = load_le16(gate) | (uint32_t)load_le16(gate + 6) << 16;
	d->ist = 0;
	if (is_long(d->cpu)) {
		d->offset |= (uint64_t)load_le32(gate + 8) << 32;
		d->ist = gate[4] & 7;
	} else if (d->type == GATE_INT16 || d->type == GATE_TRAP16) {
		d->offset &= 0xffff;
	}
	if (d->type != GATE_INT32 && d->type != GATE_TRAP32 &&
	    (is_long(d->cpu) ||
	     (d->type != GATE_INT16 && d->type != GATE_TRAP16 && d->type != GATE_TASK))) {
		return raise_fault(d, EXC_GP, error);
	}
	if (d->soft && (gate[5] >> 5 & 3) < d->cpu->cpl) {
		return raise_fault(d, EXC_GP, error);
	}
	return (gate[5] & 0x80) == 0 ? raise_fault(d, EXC_NP, error) : INSN_DONE;
}

/* A descriptor of the GDT or LDT; @vector for what is wrong with it. */
static enum insn_outcome read_descriptor(struct delivery *d, uint16_t selector, unsigned vector,
					 struct insn_segment *segment)
{
	const struct insn_cpu *cpu = d->cpu;
	bool local = (selector & 4) != 0;
	uint64_t base = local ? cpu->ldtr.base : cpu->gdtr.base;
	uint32_t limit = local ? cpu->ldtr.limit : cpu->gdtr.limit;
	uint8_t raw[8];
	uint32_t low, high;
	enum insn_outcome r;

	if (selector < 4 || (selector | 7u) > limit || (local && (cpu->ldtr.selector & ~3) == 0)) {
		return raise_fault(d, vector, selector & ~3u);
	}
	r = read_system(d, base + (selector & ~7u), raw, 8);
	if (r != INSN_DONE) {
		return r;
	}
	low = load_le32(raw);
	high = load_le32(raw + 4);
	*segment = (struct insn_segment){
		.selector = selector,
		.attr = (uint16_t)((high >> 8 & 0xff) | (high >> 12 & 0xf00)),
		.limit = (low & 0xffff) | (high & 0xf0000),
		.base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000),
	};
	if ((high & BIT(23)) != 0) {
		segment->limit = segment->limit << 12 | 0xfff;
	}
	return INSN_DONE;
}

static enum insn_outcome set_accessed(struct delivery *d, struct insn_segment *segment)
{
	bool local = (segment->selector & 4) != 0;
	uint64_t base = local ? d->cpu->ldtr.base : d->cpu->gdtr.base;
	uint8_t attr = (uint8_t)segment->attr | TYPE_ACCESSED;

	if ((segment->attr & TYPE_ACCESSED) != 0) {
		return INSN_DONE;
	}
	segment->attr |= TYPE_ACCESSED;
	return soft_mmu_write(d->vcpu, base + (segment->selector & ~7u) + 5, &attr, 1, true);
}

static enum insn_outcome find_code(struct delivery *d)
{
	uint32_t error = d->selector & ~3u;
	unsigned dpl;
	enum insn_outcome r;

	if (error == 0) {
		return raise_fault(d, EXC_GP, 0);
	}
	r = read_descriptor(d, d->selector, EXC_GP, &d->cs);
	if (r != INSN_DONE) {
		return r;
	}
	dpl = INSN_SEG_DPL(d->cs.attr);
	if ((d->cs.attr & INSN_SEG_S) == 0 || (d->cs.attr & TYPE_CODE) == 0 || dpl > d->cpu->cpl) {
		return raise_fault(d, EXC_GP, error);
	}
	if (is_long(d->cpu) && (d->cs.attr & (INSN_SEG_L | INSN_SEG_DB)) != INSN_SEG_L) {
		return raise_fault(d, EXC_GP, error);
	}
	if ((d->cs.attr & INSN_SEG_P) == 0) {
		return raise_fault(d, EXC_NP, error);
	}
	d->cpl = (d->cs.attr & TYPE_CONFORMING) != 0 ? d->cpu->cpl : (uint8_t)dpl;
	if ((d->cpu->rflags & RFLAGS_VM) != 0 && d->cpl != 0) {
		return raise_fault(d, EXC_GP, error);
	}
	d->cs.selector = (uint16_t)(error | d->cpl);
	return set_accessed(d, &d->cs);
}

/* ---- the stack ---- */

static enum insn_outcome stack_long(struct delivery *d)
{
	unsigned at = d->ist != 0 ? 28 + 8u * d->ist : 4 + 8u * d->cpl;
	uint8_t raw[8];
	enum insn_outcome r;

	d->ss = d->cpu->seg[INSN_SS];
	d->rsp = d->cpu->gpr[4];
	if (d->cpl != d->cpu->cpl) {
		d->ss = (struct insn_segment){.selector = d->cpl,
					      .attr = (uint16_t)(d->cpl << 5)};
	}
	if (d->ist != 0 || d->cpl != d->cpu->cpl) {
		if (at + 7 > d->cpu->tr.limit) {
			return raise_fault(d, EXC_TS, d->cpu->tr.selector & ~3u);
		}
		r = read_system(d, d->cpu->tr.base + at, raw, 8);
		if (r != INSN_DONE) {
			return r;
		}
		d->rsp = load_le64(raw);
		if ((uint64_t)((int64_t)(d->rsp << 16) >> 16) != d->rsp) {
			return raise_fault(d, EXC_SS, 0);
		}
	}
	d->rsp &= ~UINT64_C(15);
	return INSN_DONE;
}

/* SS of an inner stack. */
static enum insn_outcome find_stack_segment(struct delivery *d, uint16_t selector)
{
	uint32_t error = selector & ~3u;
	enum insn_outcome r;

	if (error == 0) {
		return raise_fault(d, EXC_TS, 0);
	}
	r = read_descriptor(d, selector, EXC_TS, &d->ss);
	if (r != INSN_DONE) {
		return r;
	}
	if ((selector & 3) != d->cpl || INSN_SEG_DPL(d->ss.attr) != d->cpl ||
	    (d->ss.attr & (INSN_SEG_S | TYPE_CODE | TYPE_WRITABLE)) != (INSN_SEG_S | TYPE_WRITABLE)) {
		return raise_fault(d, EXC_TS, error);
	}
	if ((d->ss.attr & INSN_SEG_P) == 0) {
		return raise_fault(d, EXC_SS, error);
	}
	return set_accessed(d, &d->ss);
}

static enum insn_outcome stack_legacy(struct delivery *d)
{
	bool tss16 = (d->cpu->tr.attr & INSN_SEG_TYPE & ~2u) == TYPE_TSS16;
	unsigned at = tss16 ? 2 + 4u * d->cpl : 4 + 8u * d->cpl;
	unsigned bytes = tss16 ? 4 : 6;
	uint8_t raw[6];
	enum insn_outcome r;

	if (d->cpl == d->cpu->cpl && (d->cpu->rflags & RFLAGS_VM) == 0) {
		d->ss = d->cpu->seg[INSN_SS];
		d->rsp = d->cpu->gpr[4];
		return INSN_DONE;
	}
	if (at + bytes - 1 > d->cpu->tr.limit) {
		return raise_fault(d, EXC_TS, d->cpu->tr.selector & ~3u);
	}
	r = read_system(d, d->cpu->tr.base + at, raw, bytes);
	if (r != INSN_DONE) {
		return r;
	}
	d->rsp = tss16 ? load_le16(raw) : load_le32(raw);
	return find_stack_segment(d, load_le16(raw + bytes - 2));
}

/* Is [offset, offset + len) within the segment? */
static bool in_limit(const struct insn_segment *ss, uint32_t offset, unsigned len)
{
	uint64_t last = (uint64_t)offset + len - 1;
	uint64_t top = (ss->attr & INSN_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;

	return (ss->attr & TYPE_DOWN) != 0 ? offset > ss->limit && last <= top : last <= ss->limit;
}

static enum insn_outcome push(struct delivery *d, uint64_t value, unsigned bytes)
{
	uint64_t linear;
	uint8_t raw[8];

	store_le64(raw, value);
	if (is_long(d->cpu)) {
		d->rsp -= bytes;
		linear = d->rsp;
	} else {
		uint64_t mask = (d->ss.attr & INSN_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;
		uint32_t offset = (uint32_t)((d->rsp - bytes) & mask);

		if (!in_limit(&d->ss, offset, bytes)) {
			return raise_fault(d, EXC_SS,
					   d->cpl != d->cpu->cpl ? d->ss.selector & ~3u : 0);
		}
		d->rsp = (d->rsp & ~mask) | offset;
		linear = (uint32_t)(d->ss.base + offset);
	}
	return soft_mmu_write(d->vcpu, linear, raw, bytes, d->cpl != 3);
}

static enum insn_outcome push_frame(struct delivery *d)
{
	const struct insn_cpu *cpu = d->cpu;
	bool v86 = (cpu->rflags & RFLAGS_VM) != 0;
	unsigned bytes = is_long(cpu) ? 8 : (d->type & 8) != 0 ? 4 : 2;
	uint64_t frame[10];
	unsigned count = 0;

	if (v86) {
		frame[count++] = cpu->seg[INSN_GS].selector;
		frame[count++] = cpu->seg[INSN_FS].selector;
		frame[count++] = cpu->seg[INSN_DS].selector;
		frame[count++] = cpu->seg[INSN_ES].selector;
	}
	if (is_long(cpu) || v86 || d->cpl != cpu->cpl) {
		frame[count++] = cpu->seg[INSN_SS].selector;
		frame[count++] = cpu->gpr[4];
	}
	frame[count++] = d->rflags;
	frame[count++] = cpu->seg[INSN_CS].selector;
	frame[count++] = d->return_rip;
	if (d->event->has_error) {
		frame[count++] = d->event->error;
	}
	for (unsigned i = 0; i < count; i++) {
		enum insn_outcome r = push(d, frame[i], bytes);

		if (r != INSN_DONE) {
			return r;
		}
	}
	return INSN_DONE;
}

/* All went well: nothing of the guest has changed but its stack until here. */
static void commit(struct delivery *d)
{
	struct insn_cpu *cpu = d->cpu;

	if ((cpu->rflags & RFLAGS_VM) != 0) {
		static const uint8_t nulled[] = {INSN_ES, INSN_DS, INSN_FS, INSN_GS};

		for (unsigned i = 0; i < ARRAY_SIZE(nulled); i++) {
			cpu->seg[nulled[i]] = (struct insn_segment){0};
		}
	}
	if ((d->type & 1) == 0) {
		cpu->rflags &= ~FLAG_IF;
	}
	cpu->rflags &= ~(RFLAGS_TF | FLAG_NT | RFLAGS_RF | RFLAGS_VM);
	cpu->seg[INSN_CS] = d->cs;
	cpu->seg[INSN_SS] = d->ss;
	cpu->cpl = d->cpl;
	cpu->gpr[4] = d->rsp;
	cpu->rip = d->offset;
}

static enum insn_outcome deliver_protected(struct delivery *d)
{
	enum insn_outcome r = read_gate(d);

	if (r == INSN_DONE && d->type == GATE_TASK) {
		d->vcpu->stop->reason = KVM_STOP_TASK_SWITCH;
		return INSN_EXIT;
	}
	if (r == INSN_DONE) {
		r = find_code(d);
	}
	if (r == INSN_DONE) {
		r = is_long(d->cpu) ? stack_long(d) : stack_legacy(d);
	}
	if (r == INSN_DONE && is_long(d->cpu) &&
	    (uint64_t)((int64_t)(d->offset << 16) >> 16) != d->offset) {
		r = raise_fault(d, EXC_GP, 0);
	}
	if (r == INSN_DONE && !is_long(d->cpu) && d->offset > d->cs.limit) {
		r = raise_fault(d, EXC_GP, 0);
	}
	if (r == INSN_DONE) {
		r = push_frame(d);
	}
	if (r == INSN_DONE) {
		commit(d);
	}
	return r;
}

/* ---- events ---- */

static enum insn_outcome deliver_once(struct soft_vcpu *vcpu, const struct kvm_event *event,
				      uint64_t return_rip)
{
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	struct delivery d = {
		.vcpu = vcpu,
		.cpu = cpu,
		.event = event,
		.return_rip = return_rip,
		.rflags = cpu->rflags,
		.soft = event->kind == KVM_EVENT_SOFT_INTERRUPT,
	};
	enum insn_outcome r;

	if (event->kind == KVM_EVENT_EXCEPTION) {
		d.soft = event->vector == EXC_BP || event->vector == EXC_OF;
		if (event->vector < 32 && (NOT_FAULTS & UINT32_C(1) << event->vector) == 0) {
			d.rflags |= RFLAGS_RF;
		}
	}
	d.ext = d.soft ? 0 : ERROR_EXT;
	r = (cpu->cr0 & CR0_PE) == 0 ? deliver_real(&d) : deliver_protected(&d);
	if (r == INSN_DONE) {
		cpu->interrupt_shadow = false;
	}
	return r;
}

static bool contributory(uint8_t vector)
{
	return vector < 32 && (CONTRIBUTORY & UINT32_C(1) << vector) != 0;
}

/* What comes of a fault in the delivery of @event. Return: false: nothing any more. */
static bool combine(struct soft_vcpu *vcpu, struct kvm_event *event)
{
	const struct insn_fault *fault = &vcpu->env.fault;
	bool exception = event->kind == KVM_EVENT_EXCEPTION;
	uint8_t first = event->vector;

	if (exception && first == EXC_DF) {
		return false;
	}
	if (fault->vector == EXC_PF) {
		vcpu->kvm->cr2 = fault->address;
	}
	*event = (struct kvm_event){
		.kind = KVM_EVENT_EXCEPTION,
		.vector = fault->vector,
		.has_error = fault->has_error && (vcpu->kvm->cpu.cr0 & CR0_PE) != 0,
		.error = fault->error,
	};
	if (exception && ((contributory(first) && contributory(fault->vector)) ||
			  (first == EXC_PF &&
			   (contributory(fault->vector) || fault->vector == EXC_PF)))) {
		event->vector = EXC_DF;
		event->error = 0;
		event->has_error = (vcpu->kvm->cpu.cr0 & CR0_PE) != 0;
	}
	return true;
}

enum insn_outcome soft_deliver(struct soft_vcpu *vcpu, const struct kvm_event *event,
			       uint64_t return_rip)
{
	struct kvm_event now = *event;
	enum insn_outcome r;

	for (;;) {
		r = deliver_once(vcpu, &now, return_rip);
		if (r != INSN_FAULT) {
			break;
		}
		if (!combine(vcpu, &now)) {
			vcpu->stop->reason = KVM_STOP_SHUTDOWN;
			return INSN_EXIT;
		}
		/* A fault belongs to the instruction at RIP, even to an INT n. */
		return_rip = vcpu->kvm->cpu.rip;
	}
	if (r == INSN_EXIT && vcpu->stop->reason != KVM_STOP_TASK_SWITCH) {
		vcpu->stop->undelivered = now;
	}
	return r;
}

enum insn_outcome soft_deliver_fault(struct soft_vcpu *vcpu)
{
	const struct insn_fault *fault = &vcpu->env.fault;
	struct kvm_event event = {
		.kind = KVM_EVENT_EXCEPTION,
		.vector = fault->vector,
		.has_error = fault->has_error && (vcpu->kvm->cpu.cr0 & CR0_PE) != 0,
		.error = fault->error,
	};

	if (fault->vector == EXC_PF) {
		vcpu->kvm->cr2 = fault->address;
	}
	return soft_deliver(vcpu, &event, vcpu->kvm->cpu.rip);
}

enum insn_outcome soft_deliver_db(struct soft_vcpu *vcpu, uint64_t hits)
{
	struct kvm_vcpu *kvm = vcpu->kvm;
	const struct kvm_event event = {.kind = KVM_EVENT_EXCEPTION, .vector = EXC_DB};

	if (kvm->intercept_db) {
		vcpu->stop->reason = KVM_STOP_EXCEPTION;
		vcpu->stop->exception.vector = EXC_DB;
		vcpu->stop->exception.dr6 = hits;
		return INSN_EXIT;
	}
	kvm->dr6 = (kvm->dr6 & ~UINT64_C(0xf)) | hits;
	kvm->dr7 &= ~DR7_GD;
	kvm->hw_dr7 &= ~DR7_GD;
	return soft_deliver(vcpu, &event, kvm->cpu.rip);
}
