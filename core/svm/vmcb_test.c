/* State, events, exits and address space IDs, on a VMCB that no CPU looks at. */
#include <string.h>

#include "core/hw/regs.h"
#include "core/hw/svm.h"
#include "core/svm/asid.h"
#include "lib/kvm/cpuid.h"
#include "lib/kvm/irq.h"
#include "tests/unit.h"

#define EXC_DB 1
#define EXC_PF 14

struct svm_features svm_features;

static uint64_t cr8;
static bool held_back;
static uint32_t cpuid_bits;

bool kvm_irq_held_back(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return held_back;
}

uint64_t kvm_irq_cr8(const struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return cr8;
}

void kvm_irq_set_cr8(struct kvm_vcpu *vcpu, uint64_t value)
{
	(void)vcpu;
	cr8 = value;
}

bool kvm_cpuid_has(const struct kvm_vcpu *vcpu, uint32_t leaf, enum cpuid_reg reg, uint32_t bits)
{
	(void)vcpu;
	(void)leaf;
	(void)reg;
	return (cpuid_bits & bits) == bits;
}

struct fixture {
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	struct svm_vcpu svm;
	struct vmcb vmcb;
	uint8_t msrpm[8192];
	int apic; /* its being there is all that is looked at */
};

static struct fixture f;

static int start(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	f.vcpu.vm = &f.vm;
	f.vcpu.backend_data = &f.svm;
	f.vcpu.apic = (struct kvm_apic *)&f.apic;
	f.svm.vmcb = &f.vmcb;
	f.svm.msrpm = f.msrpm;
	svm_features = (struct svm_features){.asids = 4};
	cr8 = 0;
	held_back = false;
	cpuid_bits = 0;
	svm_state_init(&f.vmcb);
	svm_intercepts(&f.vcpu);
	return 0;
}

static void store(void)
{
	svm_state_store_core(&f.vcpu, &f.vmcb);
	svm_state_store(&f.vcpu);
}

static struct kvm_stop stop(uint64_t code, uint64_t info1, uint64_t info2)
{
	struct kvm_stop stop = {0};

	f.vmcb.c.exitcode = code;
	f.vmcb.c.exitinfo1 = info1;
	f.vmcb.c.exitinfo2 = info2;
	svm_exit_decode(&f.vcpu, &stop);
	return stop;
}

/* ---- state ---- */

static void registers_go_and_come(void **state)
{
	struct insn_cpu *cpu = &f.vcpu.cpu;

	(void)state;
	cpu->gpr[0] = 11;
	cpu->gpr[4] = 12;
	cpu->rip = 13;
	cpu->rflags = 0x202;
	cpu->cpl = 3;
	cpu->interrupt_shadow = true;
	cpu->cr0 = 0x80000011;
	cpu->cr4 = 0x20;
	cpu->efer = 0x500;
	f.vcpu.cr2 = 14;
	f.vcpu.cr3 = 15;
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		cpu->seg[i] = (struct insn_segment){(uint16_t)(8 * i), 0xc93, 0xffff + i, 100 + i};
	}
	cpu->seg[INSN_SS].attr = 0xcf3;
	cpu->tr = (struct insn_segment){0x40, 0x8b, 0x67, 0x1000};
	cpu->gdtr = (struct insn_table_register){0x7f, 0x2000};
	cpu->idtr = (struct insn_table_register){0xfff, 0x3000};
	f.vcpu.msr[KVM_MSR_LSTAR] = 16;
	f.vcpu.msr[KVM_MSR_KERNEL_GS_BASE] = 17;
	f.vcpu.msr[KVM_MSR_SYSENTER_EIP] = 18;
	f.vcpu.msr[KVM_MSR_PAT] = 19;
	f.vcpu.changed = KVM_REGS_ALL;
	store();
	assert_int_equal(f.vmcb.s.rax, 11);
	assert_int_equal(f.vmcb.s.rsp, 12);
	assert_int_equal(f.vmcb.s.efer, 0x500 | EFER_SVME);
	assert_int_equal(f.vmcb.s.cs.selector, 8 * INSN_CS);
	assert_int_equal(f.vmcb.s.gs.base, 100 + INSN_GS);
	assert_int_equal(f.vmcb.s.g_pat, 19);
	assert_int_equal(f.vmcb.c.interrupt_shadow, 1);

	struct kvm_vcpu before = f.vcpu;
	memset(cpu, 0, sizeof(*cpu));
	f.vcpu.cr2 = f.vcpu.cr3 = 0;
	f.vcpu.msr[KVM_MSR_LSTAR] = f.vcpu.msr[KVM_MSR_SYSENTER_EIP] = 0;
	f.vcpu.loaded = 0;
	svm_state_load(&f.vcpu, KVM_REGS_ALL & ~KVM_REGS_FPU);
	assert_int_equal(f.vcpu.loaded, KVM_REGS_ALL & ~KVM_REGS_FPU);
	assert_memory_equal(cpu, &before.cpu, sizeof(*cpu));
	assert_int_equal(f.vcpu.cr2, 14);
	assert_int_equal(f.vcpu.cr3, 15);
	assert_memory_equal(f.vcpu.msr, before.msr, sizeof(before.msr));
}

static void caching_is_not_the_guests(void **state)
{
	(void)state;
	f.vcpu.cpu.cr0 = 0x60000010;
	f.vcpu.changed = KVM_REGS_CONTROL;
	store();
	assert_int_equal(f.vmcb.s.cr0, 0x10);
	assert_true((f.vmcb.c.intercept_cr_read & 1) != 0);
	assert_true((f.vmcb.c.intercept_cr_write & 1) != 0);
	f.vmcb.s.cr0 = 0x18; /* the CPU sets TS by itself */
	svm_state_load(&f.vcpu, KVM_REGS_CONTROL);
	assert_int_equal(f.vcpu.cpu.cr0, 0x60000018);
	f.vcpu.cpu.cr0 = 0x11;
	store();
	assert_true((f.vmcb.c.intercept_cr_read & 1) == 0);
	assert_true((f.vmcb.c.intercept_cr_write & 1) == 0);
	assert_true((f.vmcb.c.intercept_cr_write & BIT(4)) != 0);
}

static void groups_that_did_not_change_stay(void **state)
{
	(void)state;
	f.vmcb.c.clean = VMCB_CLEAN_ALL;
	f.vmcb.s.cr3 = 77;
	f.vmcb.s.dr7 = f.vcpu.hw_dr7 = 0x400;
	store();
	assert_int_equal(f.vmcb.s.cr3, 77);
	assert_int_equal(f.vmcb.c.clean, VMCB_CLEAN_ALL);
	f.vcpu.hw_dr7 = 0x401;
	f.vcpu.changed = KVM_REGS_DEBUG;
	store();
	assert_true(f.svm.debugged);
	assert_int_equal(f.vmcb.c.clean, VMCB_CLEAN_ALL & ~VMCB_CLEAN_DEBUG);
	assert_int_equal(f.vmcb.s.dr7, 0x401);
}

/* ---- intercepts ---- */

static bool msr_passes(uint32_t msr)
{
	uint32_t at = msr < 0x2000 ? msr : 0x2000 + (msr - 0xc0000000);

	return (f.msrpm[at / 4] >> at % 4 * 2 & 3) == 0;
}

static void msrs_pass_unless_filtered(void **state)
{
	static int filter;
	unsigned passed = 0;

	(void)state;
	svm_msr_map(&f.vcpu);
	for (uint32_t i = 0; i < 0x2000; i++) {
		passed += msr_passes(i) + msr_passes(0xc0000000 + i);
	}
	assert_int_equal(passed, 10);
	assert_true(msr_passes(0x175) && msr_passes(0xc0000082) && msr_passes(0xc0000102));
	assert_false(msr_passes(0xc0000080)); /* EFER: SVME is ours */
	assert_false(msr_passes(0x10));
	f.vm.msr_filter = (struct kvm_msr_filter_table *)&filter;
	svm_msr_map(&f.vcpu);
	assert_false(msr_passes(0xc0000082));
}

static void what_cpuid_hides_is_intercepted(void **state)
{
	(void)state;
	assert_true((f.vmcb.c.intercept2 & VMCB_RDTSCP) != 0);
	assert_true((f.vmcb.c.intercept1 & VMCB_HLT) != 0);
	assert_true((f.vmcb.c.intercept1 & VMCB_PAUSE) == 0);
	cpuid_bits = UINT32_MAX;
	svm_features.pause_filter = true;
	f.vm.disabled_exits = KVM_X86_DISABLE_EXITS_HLT;
	svm_intercepts(&f.vcpu);
	assert_true((f.vmcb.c.intercept2 & VMCB_RDTSCP) == 0);
	assert_true((f.vmcb.c.intercept1 & VMCB_HLT) == 0);
	assert_true((f.vmcb.c.intercept1 & VMCB_PAUSE) != 0);
	assert_true((f.vmcb.c.intercept2 & VMCB_VMRUN) != 0); /* without it VMRUN fails */
}

/* ---- events ---- */

static void injects(void **state)
{
	(void)state;
	f.vcpu.inject = (struct kvm_event){KVM_EVENT_EXCEPTION, EXC_PF, true, 6};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.eventinj, UINT64_C(0x600000b00) | 0x80000000 | EXC_PF);
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_INTERRUPT, .vector = 0x41};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.eventinj, 0x80000041);
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_NMI, .vector = 2};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.eventinj, 0x80000202);
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_NONE, .vector = 9};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.eventinj, 0);
}

static void what_was_not_delivered_comes_back(void **state)
{
	struct kvm_stop s;

	(void)state;
	f.vmcb.c.exitintinfo = 0x80000041;
	s = stop(VMEXIT_NPF, 2, 0x5000);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_INTERRUPT);
	assert_int_equal(s.undelivered.vector, 0x41);
	f.vmcb.c.exitintinfo = UINT64_C(0x80000b08);
	s = stop(VMEXIT_NPF, 2, 0x5000);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_EXCEPTION);
	assert_int_equal(s.undelivered.vector, 8);
	assert_true(s.undelivered.has_error);
	f.vmcb.c.exitintinfo = 0;
	s = stop(VMEXIT_NPF, 2, 0x5000);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_NONE);
}

static void software_interrupts_push_what_follows(void **state)
{
	struct kvm_stop s;

	(void)state;
	/* The guest's own: RIP is at it, it runs again. */
	f.vmcb.s.rip = 0x1000;
	f.vmcb.c.exitintinfo = 0x80000480;
	s = stop(VMEXIT_NPF, 0, 0x5000);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_NONE);
	assert_int_equal(f.vmcb.s.rip, 0x1000);
	/* An injected one. */
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_SOFT_INTERRUPT, .vector = 0x80};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.s.rip, 0x1002);
	s = stop(VMEXIT_NPF, 0, 0x5000);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_SOFT_INTERRUPT);
	assert_int_equal(f.vmcb.s.rip, 0x1000);
	/* INT3 by user space, delivered: what stopped came later. */
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_EXCEPTION, .vector = 3};
	svm_event_store(&f.vcpu);
	assert_int_equal(f.vmcb.s.rip, 0x1001);
	f.vmcb.c.exitintinfo = 0;
	f.vmcb.s.rip = 0x7000;
	s = stop(VMEXIT_HLT, 0, 0);
	assert_int_equal(f.vmcb.s.rip, 0x7000);
}

static void a_refused_entry_changes_nothing(void **state)
{
	struct kvm_stop s;

	(void)state;
	f.vmcb.s.rip = 0x1000;
	f.vcpu.inject = (struct kvm_event){.kind = KVM_EVENT_EXCEPTION, .vector = 3};
	svm_event_store(&f.vcpu);
	s = stop(VMEXIT_INVALID, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_FAIL_ENTRY);
	assert_int_equal(s.hardware, UINT32_MAX);
	assert_int_equal(s.undelivered.kind, KVM_EVENT_EXCEPTION);
	assert_int_equal(f.vmcb.s.rip, 0x1000);
}

/* ---- windows ---- */

static void interrupt_window(void **state)
{
	struct kvm_stop s;

	(void)state;
	svm_window_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.virtual_interrupt, VMCB_V_INTR_MASKING);
	assert_true((f.vmcb.c.intercept1 & VMCB_VINTR) == 0);
	assert_true((f.vmcb.c.intercept_cr_write & BIT(8)) == 0);
	f.vcpu.want_irq_window = true;
	svm_window_store(&f.vcpu);
	assert_true((f.vmcb.c.virtual_interrupt & VMCB_V_IRQ) != 0);
	assert_true((f.vmcb.c.intercept1 & VMCB_VINTR) != 0);
	assert_true((f.vmcb.c.intercept_cr_write & BIT(8)) != 0);
	s = stop(VMEXIT_VINTR, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_IRQ_WINDOW);
	f.vcpu.want_irq_window = false;
	svm_window_store(&f.vcpu);
	assert_true((f.vmcb.c.intercept1 & VMCB_VINTR) == 0);
}

static void task_priority(void **state)
{
	(void)state;
	cr8 = 5;
	svm_window_store(&f.vcpu);
	assert_int_equal(f.vmcb.c.virtual_interrupt & 0xff, 5);
	assert_true((f.vmcb.c.intercept_cr_write & BIT(8)) == 0);
	held_back = true;
	svm_window_store(&f.vcpu);
	assert_true((f.vmcb.c.intercept_cr_write & BIT(8)) != 0);
	f.vmcb.c.virtual_interrupt = (f.vmcb.c.virtual_interrupt & ~VMCB_V_TPR) | 3;
	(void)stop(VMEXIT_INTR, 0, 0);
	assert_int_equal(cr8, 3); /* written without an exit */
	f.vcpu.apic = NULL;
	svm_window_store(&f.vcpu);
	f.vmcb.c.virtual_interrupt |= 7;
	(void)stop(VMEXIT_INTR, 0, 0);
	assert_int_equal(f.vcpu.cr8, 7);
}

static void nmi_comes_before_the_handler(void **state)
{
	(void)state;
	f.vcpu.want_nmi_window = true;
	f.vcpu.inject.kind = KVM_EVENT_EXCEPTION;
	svm_window_store(&f.vcpu);
	assert_false(f.svm.stepping); /* delivery would clear TF */
	assert_true(f.svm.leave_at_once);
	f.svm.window = true;
	assert_int_equal(stop(VMEXIT_INTR, 0, 0).reason, KVM_STOP_NMI_WINDOW);
	f.vcpu.inject.kind = KVM_EVENT_NONE;
	svm_window_store(&f.vcpu);
	assert_true(f.svm.stepping);
	assert_false(f.svm.leave_at_once);
}

static void shadow_of_sti_is_stepped_over(void **state)
{
	(void)state;
	f.vcpu.want_irq_window = true;
	f.vcpu.cpu.interrupt_shadow = true;
	svm_window_store(&f.vcpu);
	assert_true(f.svm.stepping);
	assert_true((f.vmcb.c.virtual_interrupt & VMCB_V_IRQ) == 0);
	f.vmcb.s.dr6 = UINT64_C(0xffff4ff0);
	assert_int_equal(stop(VMEXIT_EXCEPTION + 1, 0, 0).reason, KVM_STOP_NMI_WINDOW);
	f.vcpu.cpu.interrupt_shadow = false;
	svm_window_store(&f.vcpu);
	assert_false(f.svm.stepping);
	assert_true((f.vmcb.c.virtual_interrupt & VMCB_V_IRQ) != 0);
}

static void nmi_handler_ends_with_iret(void **state)
{
	struct kvm_stop s;

	(void)state;
	f.vcpu.events.nmi.masked = true;
	f.vmcb.s.rip = 0x2000;
	svm_window_store(&f.vcpu);
	assert_true((f.vmcb.c.intercept1 & VMCB_IRET) != 0);
	s = stop(VMEXIT_IRET, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_NONE);
	assert_true(f.vcpu.events.nmi.masked); /* it has not run yet */
	svm_window_store(&f.vcpu);
	assert_true((f.vmcb.c.intercept1 & VMCB_IRET) == 0);
	assert_false(f.svm.stepping); /* nobody waits */
	f.vmcb.s.rip = 0x3000;
	(void)stop(VMEXIT_INTR, 0, 0);
	assert_false(f.vcpu.events.nmi.masked);
}

static void waiting_nmi_steps(void **state)
{
	struct kvm_stop s;

	(void)state;
	f.vcpu.events.nmi.masked = true;
	f.vcpu.want_nmi_window = true;
	f.vmcb.s.rip = 0x2000;
	svm_window_store(&f.vcpu);
	assert_false(f.svm.stepping); /* IRET stops it */
	(void)stop(VMEXIT_IRET, 0, 0);
	svm_window_store(&f.vcpu);
	assert_true(f.svm.stepping);
	assert_true((f.vmcb.s.rflags & RFLAGS_TF) != 0);
	f.vmcb.s.rip = 0x3000;
	f.vmcb.s.dr6 = SVM_DR6_AT_REST | BIT(14);
	s = stop(VMEXIT_EXCEPTION + EXC_DB, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_NMI_WINDOW);
	assert_false(f.vcpu.events.nmi.masked);
	assert_true((f.vmcb.s.rflags & RFLAGS_TF) == 0);
	/* A guest that steps itself gets its own #DB. */
	f.vmcb.s.rflags |= RFLAGS_TF;
	svm_window_store(&f.vcpu);
	f.vmcb.s.dr6 = SVM_DR6_AT_REST | BIT(14);
	s = stop(VMEXIT_EXCEPTION + EXC_DB, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_EXCEPTION);
	assert_int_equal(s.exception.dr6, BIT(14));
	assert_int_equal(f.vmcb.s.dr6, SVM_DR6_AT_REST);
	assert_true((f.vmcb.s.rflags & RFLAGS_TF) != 0);
}

/* ---- exits ---- */

static void exits_say_why(void **state)
{
	struct kvm_stop s;

	(void)state;
	assert_int_equal(stop(VMEXIT_CPUID, 0, 0).reason, KVM_STOP_CPUID);
	assert_int_equal(stop(VMEXIT_SHUTDOWN, 0, 0).reason, KVM_STOP_SHUTDOWN);
	assert_int_equal(stop(VMEXIT_VMRUN, 0, 0).reason, KVM_STOP_UNDEFINED);
	assert_int_equal(stop(VMEXIT_MSR, 1, 0).reason, KVM_STOP_MSR_WRITE);
	assert_int_equal(stop(VMEXIT_MSR, 0, 0).reason, KVM_STOP_MSR_READ);
	assert_int_equal(stop(VMEXIT_CR_WRITE + 4, 0, 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_DR_READ + 7, 0, 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_CR0_SEL, 0, 0).reason, KVM_STOP_EMULATE);
	s = stop(0x66, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_UNKNOWN);
	assert_int_equal(s.hardware, 0x66);
	s = stop(0x12345678, 0, 0);
	assert_int_equal(s.reason, KVM_STOP_UNKNOWN);
	s = stop(VMEXIT_EXCEPTION + EXC_PF, 7, 0xdead);
	assert_int_equal(s.reason, KVM_STOP_EXCEPTION);
	assert_true(s.exception.has_error);
	assert_int_equal(s.exception.error, 7);
	assert_int_equal(s.exception.dr6, 0xdead);
}

static void ports(void **state)
{
	struct kvm_stop s;

	(void)state;
	f.vmcb.s.rip = 0x1000;
	s = stop(VMEXIT_IOIO, 0x03f80021, 0x1002); /* IN, 16 bits */
	assert_int_equal(s.reason, KVM_STOP_IO);
	assert_int_equal(s.io.port, 0x3f8);
	assert_int_equal(s.io.bytes, 2);
	assert_true(s.io.in);
	assert_int_equal(s.insn_len, 2);
	s = stop(VMEXIT_IOIO, 0x00800040, 0x1001);
	assert_int_equal(s.io.bytes, 4);
	assert_false(s.io.in);
	s = stop(VMEXIT_IOIO, 0x00800014, 0x1001); /* OUTS */
	assert_int_equal(s.reason, KVM_STOP_EMULATE);
}

static void nested_faults(void **state)
{
	struct kvm_stop s = stop(VMEXIT_NPF, 0x6 | VMCB_NPF_WALK, 0xfee000b0);

	(void)state;
	assert_int_equal(s.reason, KVM_STOP_MEMORY);
	assert_int_equal(s.memory.gpa, 0xfee000b0);
	assert_true(s.memory.write);
	assert_false(s.memory.exact);
	assert_false(s.memory.fetch);
	s = stop(VMEXIT_NPF, 0x14, 0x1000);
	assert_true(s.memory.fetch);
	assert_false(s.memory.write);
}

static void lengths_where_the_cpu_knows(void **state)
{
	(void)state;
	f.vmcb.s.rip = 0x1000;
	f.vmcb.c.nrip = 0x1003;
	assert_int_equal(stop(VMEXIT_CPUID, 0, 0).insn_len, 0);
	svm_features.nrips = true;
	assert_int_equal(stop(VMEXIT_CPUID, 0, 0).insn_len, 3);
	assert_int_equal(stop(VMEXIT_NPF, 0, 0).insn_len, 0);
	f.vmcb.c.nrip = 0;
	assert_int_equal(stop(VMEXIT_CPUID, 0, 0).insn_len, 0);
}

static void expect_cr(struct kvm_stop s, unsigned number, unsigned gpr, bool write)
{
	assert_int_equal(s.reason, KVM_STOP_CR);
	assert_int_equal(s.insn_len, 3);
	assert_int_equal(s.cr.number, number);
	assert_int_equal(s.cr.gpr, gpr);
	assert_int_equal(s.cr.write, write);
}

static void control_registers_where_the_cpu_says(void **state)
{
	(void)state;
	svm_features.nrips = svm_features.decode_assists = true;
	f.vmcb.s.rip = 0x1000;
	f.vmcb.c.nrip = 0x1003;
	for (unsigned cr = 0; cr < 16; cr++) {
		expect_cr(stop(VMEXIT_CR_READ + cr, BIT(63) | 15, 0), cr, 15, false);
		expect_cr(stop(VMEXIT_CR_WRITE + cr, BIT(63) | cr, 0), cr, cr, true);
	}
	expect_cr(stop(VMEXIT_CR0_SEL, BIT(63) | 4, 0), 0, 4, true);
	expect_cr(stop(VMEXIT_CR_WRITE + 3, UINT64_MAX << 4 | 2, 0), 3, 2, true);
	/* CLTS, LMSW, SMSW */
	assert_int_equal(stop(VMEXIT_CR_WRITE, BIT(62) | 3, 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_CR_READ, 0, 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_CR0_SEL, 1, 0).reason, KVM_STOP_EMULATE);
	/* The bit is none of theirs. */
	assert_int_equal(stop(VMEXIT_DR_READ, BIT(63), 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_DR_WRITE + 7, BIT(63) | 1, 0).reason, KVM_STOP_EMULATE);
	assert_int_equal(stop(VMEXIT_CPUID, UINT64_MAX, 0).reason, KVM_STOP_CPUID);
	assert_int_equal(stop(VMEXIT_MSR, UINT64_MAX, 0).reason, KVM_STOP_MSR_WRITE);
	assert_int_equal(stop(VMEXIT_EXCEPTION, UINT64_MAX, 0).reason, KVM_STOP_EXCEPTION);
	/* An instruction without a length. */
	f.vmcb.c.nrip = 0x1000;
	assert_int_equal(stop(VMEXIT_CR_WRITE + 4, BIT(63), 0).reason, KVM_STOP_EMULATE);
	f.vmcb.c.nrip = 0x1010;
	assert_int_equal(stop(VMEXIT_CR_WRITE + 4, BIT(63), 0).reason, KVM_STOP_EMULATE);
	f.vmcb.c.nrip = 0x1003;
	svm_features.decode_assists = false;
	assert_int_equal(stop(VMEXIT_CR_WRITE + 4, BIT(63), 0).reason, KVM_STOP_EMULATE);
}

/* ---- address space IDs ---- */

static void ids_are_given_out(void **state)
{
	struct svm_cpu cpu = {0}, other = {0};
	struct vmcb vmcb2 = {0};
	struct svm_vcpu second = {.vmcb = &vmcb2};

	(void)state;
	svm_asid_init(&cpu);
	svm_asid_init(&other);
	svm_asid_enter(&f.svm, &cpu, 1);
	assert_int_equal(f.vmcb.c.asid, 1);
	svm_asid_enter(&second, &cpu, 1);
	assert_int_equal(vmcb2.c.asid, 2);
	svm_asid_enter(&f.svm, &cpu, 1);
	assert_int_equal(f.vmcb.c.asid, 1); /* nothing changed */
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_KEEP);
	svm_asid_enter(&f.svm, &cpu, 2); /* the nested tables did */
	assert_int_equal(f.vmcb.c.asid, 3);
	f.svm.flush = true;
	svm_asid_enter(&f.svm, &cpu, 2); /* there were three */
	assert_int_equal(f.vmcb.c.asid, 1);
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_FLUSH_ALL);
	svm_asid_enter(&second, &cpu, 1); /* of the last generation */
	assert_int_equal(vmcb2.c.asid, 2);
	svm_asid_enter(&f.svm, &other, 2);
	svm_asid_enter(&f.svm, &cpu, 2); /* and back: the old one is not its any more */
	assert_int_equal(f.vmcb.c.asid, 3);
}

static void flush_by_id(void **state)
{
	struct svm_cpu cpu = {0};

	(void)state;
	svm_asid_init(&cpu);
	svm_features.flush_by_asid = true;
	svm_asid_enter(&f.svm, &cpu, 1);
	svm_asid_enter(&f.svm, &cpu, 2);
	assert_int_equal(f.vmcb.c.asid, 1);
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_FLUSH_GUEST);
	svm_asid_enter(&f.svm, &cpu, 2);
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_KEEP);
}

/* What it was to flush is still there. */
static void a_refused_entry_flushes_nothing(void **state)
{
	struct svm_cpu cpu = {0};
	struct vmcb vmcb2 = {0};
	struct svm_vcpu second = {.vmcb = &vmcb2};

	(void)state;
	svm_asid_init(&cpu);
	svm_features.flush_by_asid = true;
	svm_asid_enter(&f.svm, &cpu, 1);
	svm_asid_enter(&f.svm, &cpu, 2);
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_FLUSH_GUEST);
	(void)stop(VMEXIT_INVALID, 0, 0);
	assert_false(svm_is_at_home(&f.svm, &cpu, 2));
	svm_asid_enter(&f.svm, &cpu, 2);
	assert_int_equal(f.vmcb.c.asid, 2);
	svm_asid_enter(&second, &cpu, 1);
	assert_int_equal(vmcb2.c.asid, 3);
	f.svm.asid_generation = 0;
	svm_asid_enter(&f.svm, &cpu, 2); /* there were three */
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_FLUSH_ALL);
	(void)stop(VMEXIT_INVALID, 0, 0);
	svm_asid_enter(&second, &cpu, 1); /* it, too, gets one that was another's */
	assert_int_equal(vmcb2.c.tlb_control, VMCB_TLB_FLUSH_ALL);
	svm_asid_enter(&f.svm, &cpu, 2);
	assert_int_equal(f.vmcb.c.asid, 2);
	assert_int_equal(f.vmcb.c.tlb_control, VMCB_TLB_KEEP);
}

static void copies_of_a_vmcb_are_one_cpus(void **state)
{
	struct svm_cpu cpu = {0};
	struct vmcb vmcb2 = {0};
	struct svm_vcpu second = {.vmcb = &vmcb2};

	(void)state;
	svm_asid_init(&cpu);
	assert_false(svm_is_at_home(&f.svm, &cpu, 1));
	svm_asid_enter(&f.svm, &cpu, 1);
	f.vmcb.c.clean = VMCB_CLEAN_ALL;
	assert_true(svm_is_at_home(&f.svm, &cpu, 1));
	assert_false(svm_is_at_home(&f.svm, &cpu, 2));
	svm_asid_enter(&f.svm, &cpu, 1);
	assert_int_equal(f.vmcb.c.clean, VMCB_CLEAN_ALL);
	svm_asid_enter(&second, &cpu, 1);
	assert_false(svm_is_at_home(&f.svm, &cpu, 1));
	svm_asid_enter(&f.svm, &cpu, 1);
	assert_int_equal(f.vmcb.c.clean, 0);
}

/* What predicts its branches is not to be another's. */
static void who_comes_after_another_learns_it(void **state)
{
	struct svm_cpu cpu = {0};
	struct vmcb vmcb2 = {0};
	struct svm_vcpu second = {.vmcb = &vmcb2};

	(void)state;
	svm_asid_init(&cpu);
	assert_true(svm_asid_enter(&f.svm, &cpu, 1));
	assert_false(svm_asid_enter(&f.svm, &cpu, 2));
	assert_true(svm_asid_enter(&second, &cpu, 1));
	cpu.last = NULL; /* it has ended: nobody knows what is left of it */
	assert_true(svm_asid_enter(&f.svm, &cpu, 2));
}

static void the_guests_speculation_control_is_around_it(void **state)
{
	(void)state;
	f.vcpu.msr[KVM_MSR_SPEC_CTRL] = 6;
	f.vcpu.changed = KVM_REGS_MSRS;
	store();
	assert_int_equal(f.svm.around, 0); /* this CPU has no such register */
	svm_features.spec_ctrl = 1;
	store();
	assert_int_equal(f.svm.around, 0); /* or not these bits */
	svm_features.spec_ctrl = 7;
	store();
	assert_true(f.svm.own_spec_ctrl);
	assert_int_not_equal(f.svm.around, 0);
	f.vcpu.msr[KVM_MSR_SPEC_CTRL] = 0;
	store();
	assert_int_equal(f.svm.around, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_go_and_come),
		TEST(caching_is_not_the_guests),
		TEST(groups_that_did_not_change_stay),
		TEST(msrs_pass_unless_filtered),
		TEST(what_cpuid_hides_is_intercepted),
		TEST(injects),
		TEST(what_was_not_delivered_comes_back),
		TEST(software_interrupts_push_what_follows),
		TEST(a_refused_entry_changes_nothing),
		TEST(interrupt_window),
		TEST(task_priority),
		TEST(nmi_comes_before_the_handler),
		TEST(shadow_of_sti_is_stepped_over),
		TEST(nmi_handler_ends_with_iret),
		TEST(waiting_nmi_steps),
		TEST(exits_say_why),
		TEST(ports),
		TEST(nested_faults),
		TEST(lengths_where_the_cpu_knows),
		TEST(control_registers_where_the_cpu_says),
		TEST(ids_are_given_out),
		TEST(flush_by_id),
		TEST(a_refused_entry_flushes_nothing),
		TEST(copies_of_a_vmcb_are_one_cpus),
		TEST(who_comes_after_another_learns_it),
		TEST(the_guests_speculation_control_is_around_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
