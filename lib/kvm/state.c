#include "lib/kvm/state.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/cpuid.h"
#include "lib/kvm/debug.h"
#include "lib/kvm/events.h"
#include "lib/kvm/exits.h"
#include "lib/kvm/irq.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"

#define ATTR_AVL   BIT(8)
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR)

#define EXC_NMI 2
#define EXC_BP	3
#define EXC_OF	4

/* ---- general registers ---- */

void kvm_state_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	const uint64_t *gpr = vcpu->cpu.gpr;

	kvm_regs_need(vcpu, KVM_REGS_CORE);
	*regs = (struct kvm_regs){
		.rax = gpr[0],
		.rcx = gpr[1],
		.rdx = gpr[2],
		.rbx = gpr[3],
		.rsp = gpr[4],
		.rbp = gpr[5],
		.rsi = gpr[6],
		.rdi = gpr[7],
		.r8 = gpr[8],
		.r9 = gpr[9],
		.r10 = gpr[10],
		.r11 = gpr[11],
		.r12 = gpr[12],
		.r13 = gpr[13],
		.r14 = gpr[14],
		.r15 = gpr[15],
		.rip = vcpu->cpu.rip,
		.rflags = vcpu->cpu.rflags,
	};
	/* What debugging adds is not shown, even if it is what the guest set: as Linux has it. */
	if (vcpu->single_step) {
		regs->rflags &= ~RFLAGS_TF;
	}
}

void kvm_state_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs)
{
	const uint64_t gpr[16] = {
		regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp,
		regs->rsi, regs->rdi, regs->r8,	 regs->r9,  regs->r10, regs->r11,
		regs->r12, regs->r13, regs->r14, regs->r15,
	};

	kvm_exit_before_move(vcpu);
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	memcpy(vcpu->cpu.gpr, gpr, sizeof(gpr));
	vcpu->cpu.rip = regs->rip;
	vcpu->cpu.rflags = regs->rflags | RFLAGS_FIXED;
	vcpu->events.exception.pending = false;
	vcpu->events.exception.has_payload = false;
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
}

/* ---- special registers ---- */

static struct kvm_segment segment_out(const struct insn_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & INSN_SEG_TYPE,
		.present = (s->attr & INSN_SEG_P) != 0,
		.dpl = INSN_SEG_DPL(s->attr),
		.db = (s->attr & INSN_SEG_DB) != 0,
		.s = (s->attr & INSN_SEG_S) != 0,
		.l = (s->attr & INSN_SEG_L) != 0,
		/* Not all CPUs keep it; the limit says it, too. */
		.g = s->limit > 0xfffff,
		.avl = (s->attr & ATTR_AVL) != 0,
		.unusable = (s->attr & INSN_SEG_P) == 0,
	};
}

static struct insn_segment segment_in(const struct kvm_segment *s)
{
	uint16_t attr = s->type & INSN_SEG_TYPE;

	attr |= (uint16_t)((s->s & 1) << 4 | (s->dpl & 3) << 5);
	attr |= (uint16_t)((s->avl & 1) << 8 | (s->l & 1) << 9 | (s->db & 1) << 10 |
			   (s->g & 1) << 11);
	if ((s->present & 1) != 0 && s->unusable == 0) {
		attr |= INSN_SEG_P;
	}
	return (struct insn_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .attr = attr};
}

/* struct kvm_sregs and kvm_sregs2 have these in common. */
#define COPY_OUT(vcpu, sregs)                                  \
	do {                                                   \
		const struct insn_cpu *cpu = &(vcpu)->cpu;     \
		(sregs)->cs = segment_out(&cpu->seg[INSN_CS]); \
		(sregs)->ds = segment_out(&cpu->seg[INSN_DS]); \
		(sregs)->es = segment_out(&cpu->seg[INSN_ES]); \
		(sregs)->fs = segment_out(&cpu->seg[INSN_FS]); \
		(sregs)->gs = segment_out(&cpu->seg[INSN_GS]); \
		(sregs)->ss = segment_out(&cpu->seg[INSN_SS]); \
		(sregs)->ss.dpl = cpu->cpl;                    \
		(sregs)->tr = segment_out(&cpu->tr);           \
		(sregs)->ldt = segment_out(&cpu->ldtr);        \
		(sregs)->gdt.base = cpu->gdtr.base;            \
		(sregs)->gdt.limit = cpu->gdtr.limit;          \
		(sregs)->idt.base = cpu->idtr.base;            \
		(sregs)->idt.limit = cpu->idtr.limit;          \
		(sregs)->cr0 = cpu->cr0;                       \
		(sregs)->cr2 = (vcpu)->cr2;                    \
		(sregs)->cr3 = (vcpu)->cr3;                    \
		(sregs)->cr4 = cpu->cr4;                       \
		(sregs)->cr8 = kvm_reg_cr8(vcpu);              \
		(sregs)->efer = cpu->efer;                     \
		(sregs)->apic_base = kvm_irq_apic_base(vcpu);  \
	} while (0)

#define SPECIAL (KVM_REGS_CORE | KVM_REGS_CONTROL | KVM_REGS_SEGMENTS)

void kvm_state_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs)
{
	kvm_regs_need(vcpu, SPECIAL);
	memset(sregs, 0, sizeof(*sregs));
	COPY_OUT(vcpu, sregs);
	if (vcpu->events.interrupt.injected && !vcpu->events.interrupt.soft) {
		uint8_t vector = vcpu->events.interrupt.vector;

		sregs->interrupt_bitmap[vector / 64] |= BIT(vector % 64);
	}
}

void kvm_state_get_sregs2(struct kvm_vcpu *vcpu, struct kvm_sregs2 *sregs)
{
	kvm_regs_need(vcpu, SPECIAL);
	memset(sregs, 0, sizeof(*sregs));
	COPY_OUT(vcpu, sregs);
	if (kvm_reg_is_pae(vcpu)) {
		for (unsigned i = 0; i < 4; i++) {
			sregs->pdptrs[i] = vcpu->pdptr[i];
		}
		sregs->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
}

static bool is_pae(const struct kvm_sregs2 *s)
{
	return (s->cr0 & CR0_PG) != 0 && (s->cr4 & CR4_PAE) != 0 && (s->efer & EFER_LMA) == 0;
}

static bool sregs_valid(const struct kvm_vcpu *vcpu, const struct kvm_sregs2 *s)
{
	uint64_t phys =
		vcpu->features.phys_bits >= 64 ? UINT64_MAX : BIT(vcpu->features.phys_bits) - 1;

	if ((s->efer & EFER_LME) != 0 && (s->cr0 & CR0_PG) != 0) {
		if ((s->cr4 & CR4_PAE) == 0 || (s->efer & EFER_LMA) == 0 || (s->cr3 & ~phys) != 0) {
			return false;
		}
	} else if ((s->efer & EFER_LMA) != 0 || s->cs.l != 0) {
		return false;
	}
	/* Both at once: the CPU would refuse to run it. */
	if ((s->efer & EFER_LMA) != 0 && s->cs.l != 0 && s->cs.db != 0) {
		return false;
	}
	return kvm_reg_cr4_valid(vcpu, s->cr4) && kvm_reg_cr0_valid(s->cr0) &&
	       (s->efer & ~EFER_KNOWN) == 0 && s->cr8 <= 0xf;
}

static void segments_in(struct insn_cpu *cpu, const struct kvm_sregs2 *s)
{
	cpu->seg[INSN_CS] = segment_in(&s->cs);
	cpu->seg[INSN_DS] = segment_in(&s->ds);
	cpu->seg[INSN_ES] = segment_in(&s->es);
	cpu->seg[INSN_FS] = segment_in(&s->fs);
	cpu->seg[INSN_GS] = segment_in(&s->gs);
	cpu->seg[INSN_SS] = segment_in(&s->ss);
	cpu->tr = segment_in(&s->tr);
	cpu->ldtr = segment_in(&s->ldt);
	cpu->gdtr = (struct insn_table_register){.limit = s->gdt.limit, .base = s->gdt.base};
	cpu->idtr = (struct insn_table_register){.limit = s->idt.limit, .base = s->idt.base};
	cpu->cpl = s->ss.dpl & 3;
}

/* All but interrupts and PDPTRs, which the two structures have in different ways. */
static int set_common(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *s)
{
	struct insn_cpu *cpu = &vcpu->cpu;
	bool refresh;

	kvm_exit_before_move(vcpu);
	kvm_regs_change(vcpu, SPECIAL);
	if (!sregs_valid(vcpu, s) || kvm_irq_set_apic_base(vcpu, s->apic_base, true) != 0 ||
	    kvm_reg_set_cr8(vcpu, s->cr8) != 0) {
		return -EINVAL;
	}
	refresh = ((cpu->cr4 ^ s->cr4) & (CR4_OSXSAVE | CR4_PKE)) != 0;
	segments_in(cpu, s);
	cpu->cr0 = s->cr0 | CR0_ET;
	vcpu->cr2 = s->cr2;
	vcpu->cr3 = s->cr3;
	cpu->cr4 = s->cr4;
	cpu->efer = s->efer;
	if (refresh) {
		kvm_cpuid_refresh(vcpu);
	}
	vcpu->env->backend->flush_guest_tlb(vcpu);
	/* Software that knows no MP states resets a vCPU so: then it is to run. */
	if (kvm_vcpu_is_bootstrap(vcpu) && cpu->rip == 0xfff0 && s->cs.selector == 0xf000 &&
	    s->cs.base == 0xffff0000 && (s->cr0 & CR0_PE) == 0) {
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	kvm_cpuid_refresh(vcpu);
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return 0;
}

static void load_pdptrs(struct kvm_vcpu *vcpu)
{
	const struct kvm_env_ops *ops = kvm_ops(vcpu->env);

	ops->lock_read(vcpu->env, &vcpu->vm->memory);
	if (kvm_reg_load_pdptrs(vcpu, vcpu->cr3) != 0) {
		memset(vcpu->pdptr, 0, sizeof(vcpu->pdptr));
	}
	ops->unlock_read(vcpu->env, &vcpu->vm->memory);
}

int kvm_state_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	struct kvm_sregs2 s;
	int r;

	/* They are alike up to the interrupt bitmap, where flags and PDPTRs begin. */
	_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) ==
			       offsetof(struct kvm_sregs2, flags),
		       "common part of kvm_sregs and kvm_sregs2");
	memset(&s, 0, sizeof(s));
	memcpy(&s, sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
	r = set_common(vcpu, &s);
	if (r != 0) {
		return r;
	}
	if (kvm_reg_is_pae(vcpu)) {
		load_pdptrs(vcpu);
	}
	for (unsigned word = 0; word < ARRAY_SIZE(sregs->interrupt_bitmap); word++) {
		if (sregs->interrupt_bitmap[word] != 0) {
			unsigned bit = (unsigned)__builtin_ctzll(sregs->interrupt_bitmap[word]);

			kvm_event_interrupt(vcpu, (uint8_t)(word * 64 + bit));
			break;
		}
	}
	return 0;
}

int kvm_state_set_sregs2(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *sregs)
{
	bool given = (sregs->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0;
	int r;

	if ((sregs->flags & ~(uint64_t)KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0 ||
	    (given && !is_pae(sregs))) {
		return -EINVAL;
	}
	r = set_common(vcpu, sregs);
	if (r != 0) {
		return r;
	}
	if (given) {
		for (unsigned i = 0; i < 4; i++) {
			vcpu->pdptr[i] = sregs->pdptrs[i];
		}
	} else if (kvm_reg_is_pae(vcpu)) {
		load_pdptrs(vcpu);
	}
	return 0;
}

/* ---- debug registers ---- */

void kvm_state_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *regs)
{
	kvm_regs_need(vcpu, KVM_REGS_DEBUG);
	memset(regs, 0, sizeof(*regs));
	for (unsigned i = 0; i < 4; i++) {
		regs->db[i] = vcpu->db[i];
	}
	regs->dr6 = vcpu->dr6;
	regs->dr7 = vcpu->dr7;
}

int kvm_state_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs)
{
	if (regs->flags != 0 || regs->dr6 >> 32 != 0 || regs->dr7 >> 32 != 0) {
		return -EINVAL;
	}
	kvm_regs_change(vcpu, KVM_REGS_DEBUG);
	for (unsigned i = 0; i < 4; i++) {
		vcpu->db[i] = regs->db[i];
	}
	vcpu->dr6 = regs->dr6;
	vcpu->dr7 = regs->dr7;
	kvm_debug_update(vcpu);
	return 0;
}

/* ---- events ---- */

void kvm_state_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *out)
{
	const struct kvm_events *e = &vcpu->events;
	struct kvm_vm *vm = vcpu->vm;
	bool soft;

	kvm_regs_need(vcpu, KVM_REGS_CORE);
	kvm_event_take_nmis(vcpu);
	memset(out, 0, sizeof(*out));
	/* INT3 and INTO happen again by themselves, as their length cannot be told. */
	soft = e->exception.vector == EXC_BP || e->exception.vector == EXC_OF;
	out->exception.injected = !soft && e->exception.injected;
	out->exception.pending = !soft && e->exception.pending;
	if (!vm->exception_payload) {
		out->exception.injected |= out->exception.pending;
	}
	out->exception.nr = e->exception.vector;
	out->exception.has_error_code = e->exception.has_error;
	out->exception.error_code = e->exception.error;
	out->exception_has_payload = e->exception.has_payload;
	out->exception_payload = e->exception.payload;
	out->interrupt.injected = e->interrupt.injected && !e->interrupt.soft;
	out->interrupt.nr = e->interrupt.vector;
	/* SVM does not know which of the two it is. */
	out->interrupt.shadow =
		vcpu->cpu.interrupt_shadow ? KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI : 0;
	out->nmi.injected = e->nmi.injected;
	out->nmi.pending = e->nmi.pending != 0;
	out->nmi.masked = e->nmi.masked;
	out->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		     KVM_VCPUEVENT_VALID_SMM;
	if (vm->exception_payload) {
		out->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	}
	if (vm->triple_fault_event) {
		out->triple_fault.pending =
			(__atomic_load_n((uint32_t *)&vcpu->requests, __ATOMIC_RELAXED) &
			 1u << KVM_REQ_TRIPLE_FAULT) != 0;
		out->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
}

#define EVENT_FLAGS                                                                           \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |                  \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | \
	 KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static bool events_valid(const struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *in,
			 bool pending, bool injected)
{
	if ((in->flags & ~(uint32_t)EVENT_FLAGS) != 0 ||
	    ((in->flags & KVM_VCPUEVENT_VALID_PAYLOAD) != 0 && !vcpu->vm->exception_payload) ||
	    ((in->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) != 0 &&
	     !vcpu->vm->triple_fault_event)) {
		return false;
	}
	/* There is no system management mode to be in. */
	if ((in->flags & KVM_VCPUEVENT_VALID_SMM) != 0 &&
	    (in->smi.smm != 0 || in->smi.pending != 0)) {
		return false;
	}
	return !(pending || injected) || (in->exception.nr <= 31 && in->exception.nr != EXC_NMI);
}

int kvm_state_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *in)
{
	struct kvm_events *e = &vcpu->events;
	bool payload = (in->flags & KVM_VCPUEVENT_VALID_PAYLOAD) != 0;
	bool pending = payload && in->exception.pending != 0;
	bool injected = !pending && in->exception.injected != 0;

	if (!events_valid(vcpu, in, pending, injected)) {
		return -EINVAL;
	}
	kvm_regs_change(vcpu, KVM_REGS_CORE);
	kvm_event_take_nmis(vcpu);
	e->exception.pending = pending;
	e->exception.injected = injected;
	e->exception.vector = in->exception.nr;
	e->exception.has_error = in->exception.has_error_code != 0;
	e->exception.error = in->exception.error_code;
	e->exception.has_payload = pending && in->exception_has_payload != 0;
	e->exception.payload = in->exception_payload;
	e->interrupt.injected = in->interrupt.injected != 0;
	e->interrupt.vector = in->interrupt.nr;
	e->interrupt.soft = in->interrupt.soft != 0;
	if ((in->flags & KVM_VCPUEVENT_VALID_SHADOW) != 0) {
		vcpu->cpu.interrupt_shadow = in->interrupt.shadow != 0;
	}
	e->nmi.injected = in->nmi.injected != 0;
	if ((in->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) != 0) {
		e->nmi.pending = in->nmi.pending != 0;
	}
	e->nmi.masked = in->nmi.masked != 0;
	if ((in->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) != 0 && vcpu->apic != NULL) {
		vcpu->sipi_page = (uint8_t)in->sipi_vector;
	}
	if ((in->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) != 0) {
		if (in->triple_fault.pending != 0) {
			kvm_vcpu_note(vcpu, KVM_REQ_TRIPLE_FAULT);
		} else {
			(void)kvm_vcpu_take(vcpu, KVM_REQ_TRIPLE_FAULT);
		}
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return 0;
}

/* ---- MP state ---- */

void kvm_state_get_mp(struct kvm_vcpu *vcpu, struct kvm_mp_state *state)
{
	if (vcpu->apic != NULL && kvm_irq_has_init_sipi(vcpu)) {
		kvm_irq_take_init_sipi(vcpu);
	}
	state->mp_state = vcpu->mp_state;
	if (vcpu->mp_state == KVM_MP_STATE_HALTED &&
	    __atomic_load_n((uint32_t *)&vcpu->kicked, __ATOMIC_ACQUIRE) != 0) {
		state->mp_state = KVM_MP_STATE_RUNNABLE; /* as good as woken */
	}
}

int kvm_state_set_mp(struct kvm_vcpu *vcpu, const struct kvm_mp_state *state)
{
	switch (state->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_AP_RESET_HOLD:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (vcpu->apic == NULL) {
			return -EINVAL;
		}
		break;
	default:
		return -EINVAL;
	}
	if (state->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		kvm_irq_queue_sipi(vcpu);
	} else {
		vcpu->mp_state = state->mp_state;
	}
	kvm_vcpu_note(vcpu, KVM_REQ_EVENT);
	return 0;
}
