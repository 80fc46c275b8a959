/* The GET and SET ioctls of a vCPU's state, and that guest and VMM see the same in it. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

static struct kvm_regs pattern_regs(void)
{
	struct kvm_regs regs;
	uint64_t *field = (uint64_t *)&regs;

	/* All fields up to r15 are general registers. */
	for (unsigned int i = 0; i < 16; i++) {
		field[i] = UINT64_C(0xf123456789abcdef) * (i + 1);
	}
	regs.rip = 0x123456789a;
	regs.rflags = 0x202;
	return regs;
}

static void regs_round_trip(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_regs set = pattern_regs(), got;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	vcpu_set_regs(vcpu, &set);
	got = vcpu_regs(vcpu);
	expect(memcmp(&set, &got, sizeof(set)) == 0);
}

static void rflags_bit_1_is_set(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_regs regs = {.rflags = 0};

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	vcpu_set_regs(vcpu, &regs);
	expect_eq(vcpu_regs(vcpu).rflags, 2);
}

PAYLOAD(64, store_all,
	"mov %rax, 0x20000; mov %rbx, 0x20008; mov %rcx, 0x20010; mov %rdx, 0x20018\n"
	"mov %rsi, 0x20020; mov %rdi, 0x20028; mov %rsp, 0x20030; mov %rbp, 0x20038\n"
	"mov %r8, 0x20040; mov %r9, 0x20048; mov %r10, 0x20050; mov %r11, 0x20058\n"
	"mov %r12, 0x20060; mov %r13, 0x20068; mov %r14, 0x20070; mov %r15, 0x20078\n"
	"mov $0xf000, %esp; pushfq; pop 0x20080; hlt");

static void regs_reach_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_all);
	struct kvm_regs regs = pattern_regs();

	regs.rip = VM_CODE;
	regs.rflags = 0xcd7; /* all six arithmetic flags, DF */
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(memcmp(vm.ram + VM_FREE, &regs, 16 * 8) == 0);
	expect_eq(*(uint64_t *)(vm.ram + VM_FREE + 0x80), 0xcd7);
}

PAYLOAD(64, load_all,
	"movabs $0x1111111111111111, %rax; movabs $0x2222222222222222, %rbx\n"
	"movabs $0x3333333333333333, %rcx; movabs $0x4444444444444444, %rdx\n"
	"movabs $0x5555555555555555, %rsi; movabs $0x6666666666666666, %rdi\n"
	"movabs $0x7777777777777777, %rsp; movabs $0x8888888888888888, %rbp\n"
	"movabs $0x9999999999999999, %r8; movabs $0xaaaaaaaaaaaaaaaa, %r9\n"
	"movabs $0xbbbbbbbbbbbbbbbb, %r10; movabs $0xcccccccccccccccc, %r11\n"
	"movabs $0xdddddddddddddddd, %r12; movabs $0xeeeeeeeeeeeeeeee, %r13\n"
	"movabs $0xffffffffffffffff, %r14; movabs $0x1010101010101010, %r15; hlt");

static void regs_come_from_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_regs regs;
	const uint64_t *field = (const uint64_t *)&regs;

	expect_exit(vcpu, KVM_EXIT_HLT);
	regs = vcpu_regs(vcpu);
	for (unsigned int i = 0; i < 15; i++) {
		expect_eq(field[i], UINT64_C(0x1111111111111111) * (i + 1));
	}
	expect_eq(regs.r15, 0x1010101010101010);
	expect_eq(regs.rip, VM_CODE + (uint64_t)(load_all_end - load_all));
}

static void sregs_round_trip(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs set = vcpu_sregs(vcpu), got;

	set.fs.base = 0x7f0012345678;
	set.gs.base = 0xffff888000000000;
	set.ldt = (struct kvm_segment){
		.selector = SEL_SPARE, .base = 0x30000, .limit = 0x1f, .type = 2, .present = 1};
	set.gdt.limit = 0x57;
	set.idt.base = 0x5000;
	set.cr2 = 0xffff800011112222;
	set.cr8 = 7;
	vcpu_set_sregs(vcpu, &set);
	got = vcpu_sregs(vcpu);
	expect_eq(got.fs.base, set.fs.base);
	expect_eq(got.gs.base, set.gs.base);
	expect_eq(got.ldt.selector, set.ldt.selector);
	expect_eq(got.ldt.base, set.ldt.base);
	expect_eq(got.ldt.limit, set.ldt.limit);
	expect_eq(got.gdt.base, set.gdt.base);
	expect_eq(got.gdt.limit, set.gdt.limit);
	expect_eq(got.idt.base, set.idt.base);
	expect_eq(got.idt.limit, set.idt.limit);
	expect_eq(got.tr.selector, SEL_TSS);
	expect_eq(got.tr.base, VM_TSS);
	expect_eq(got.cr0, set.cr0);
	expect_eq(got.cr2, set.cr2);
	expect_eq(got.cr3, set.cr3);
	expect_eq(got.cr4, set.cr4);
	expect_eq(got.cr8, set.cr8);
	expect_eq(got.efer, set.efer);
	expect_eq(got.apic_base, set.apic_base);
}

static void expect_same_segment(const struct kvm_segment *got, const struct kvm_segment *want)
{
	expect_eq(got->selector, want->selector);
	expect_eq(got->base, want->base);
	expect_eq(got->limit, want->limit);
	expect_eq(got->type | 1, want->type | 1); /* the CPU may set "accessed" */
	expect_eq(got->s, want->s);
	expect_eq(got->dpl, want->dpl);
	expect_eq(got->present, want->present);
	expect_eq(got->db, want->db);
	expect_eq(got->l, want->l);
	expect_eq(got->g, want->g);
	expect_eq(got->avl, want->avl);
	expect_eq(got->unusable, want->unusable);
}

static void segments_round_trip(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs set = vcpu_sregs(vcpu), got;

	set.cr0 = 0x10033; /* protected mode: segments of all kinds */
	set.cr4 = set.efer = 0;
	set.cs = (struct kvm_segment){.selector = 0x1b,
				      .base = 0x10000,
				      .limit = 0x12345,
				      .type = 11,
				      .s = 1,
				      .dpl = 3,
				      .present = 1,
				      .db = 1,
				      .avl = 1};
	set.ss = set.cs;
	set.ss.type = 3;
	set.ss.db = 0;
	set.ds = set.ss;
	set.ds.type = 7; /* expand-down */
	set.es = set.ds;
	set.es.limit = 0xffffffff;
	set.es.g = 1;
	vcpu_set_sregs(vcpu, &set);
	got = vcpu_sregs(vcpu);
	expect_same_segment(&got.cs, &set.cs);
	expect_same_segment(&got.ss, &set.ss);
	expect_same_segment(&got.ds, &set.ds);
	expect_same_segment(&got.es, &set.es);
}

PAYLOAD(64, through_segments, "mov %fs:8, %rax; mov %gs:0x10, %rbx; mov %cr2, %rcx; hlt");

static void segment_bases_reach_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, through_segments);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	struct kvm_regs regs;

	*(uint64_t *)(vm.ram + VM_FREE + 8) = 0x1122334455667788;
	*(uint64_t *)(vm.ram + VM_FREE + 0x110) = 0x99aabbccddeeff00;
	sregs.fs.base = VM_FREE;
	sregs.gs.base = VM_FREE + 0x100;
	sregs.cr2 = 0x7777666655554444;
	vcpu_set_sregs(vcpu, &sregs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rax, 0x1122334455667788);
	expect_eq(regs.rbx, 0x99aabbccddeeff00);
	expect_eq(regs.rcx, 0x7777666655554444);
}

PAYLOAD(64, read_twice, "mov 0x200000, %rax; hlt; mov 0x200000, %rbx; hlt");

static void another_cr3_is_another_address_space(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_twice);
	struct kvm_sregs sregs;
	uint64_t *other = (uint64_t *)(vm.ram + 0x800000);

	*(uint64_t *)(vm.ram + 0x200000) = 1;
	*(uint64_t *)(vm.ram + 0x400000) = 2;
	/* The second one: its own PML4, PDPT, and PD, where 2 MiB is mapped to 4 MiB. */
	other[0] = 0x801007;
	other[512] = 0x802007;
	other[1024] = 0x87;
	other[1025] = 0x400087;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 1);
	sregs = vcpu_sregs(vcpu);
	sregs.cr3 = 0x800000;
	vcpu_set_sregs(vcpu, &sregs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, 2);
}

static void expect_sregs_refused(struct vcpu *vcpu, const struct kvm_sregs *bad)
{
	struct kvm_sregs before = vcpu_sregs(vcpu), after;

	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_SREGS, bad), EINVAL);
	after = vcpu_sregs(vcpu);
	expect_eq(after.cr0, before.cr0);
	expect_eq(after.cr4, before.cr4);
	expect_eq(after.efer, before.efer);
}

static void reserved_cr4_bits_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs bad = vcpu_sregs(vcpu);

	bad.cr4 |= UINT64_C(1) << 40;
	expect_sregs_refused(vcpu, &bad);
}

static void long_mode_without_pae_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs bad = vcpu_sregs(vcpu);

	bad.cr4 &= ~UINT64_C(0x20);
	expect_sregs_refused(vcpu, &bad);
}

static void lma_must_follow_lme_and_paging(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs good = vcpu_sregs(vcpu), bad = good;

	bad.efer &= ~UINT64_C(0x400);
	expect_sregs_refused(vcpu, &bad);
	bad = good;
	bad.efer &= ~UINT64_C(0x100);
	expect_sregs_refused(vcpu, &bad);
	bad = good;
	bad.cr0 &= ~UINT64_C(0x80000000);
	expect_sregs_refused(vcpu, &bad);
}

static void cr3_beyond_physical_memory_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_all);
	struct kvm_sregs bad = vcpu_sregs(vcpu);

	bad.cr3 |= UINT64_C(1) << (vm_cpuid_leaf(&vm, 0x80000008, 0).eax & 0xff);
	expect_sregs_refused(vcpu, &bad);
}

PAYLOAD(64, handled,
	"nop; hlt\n"
	"handled_irq: mov $0x55, %al; out %al, $0x10; iretq");
extern const char handled_irq[];

static void interrupt_bitmap_is_delivered(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, handled);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);
	struct kvm_regs regs = vcpu_regs(vcpu);

	vm_gate(&vm, 64, 0x42, PAYLOAD_AT(handled, handled_irq));
	regs.rflags |= 1 << 9;
	vcpu_set_regs(vcpu, &regs);
	sregs.interrupt_bitmap[1] = UINT64_C(1) << 2;
	vcpu_set_sregs(vcpu, &sregs);
	expect_eq(vcpu_sregs(vcpu).interrupt_bitmap[1], UINT64_C(1) << 2);
	expect_out(vcpu, 0x10, 1, 0x55);
	expect_eq(vcpu_sregs(vcpu).interrupt_bitmap[1], 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, mode_registers, "mov %cr0, %rax; mov %cr4, %rbx; mov $0xc0000080, %ecx; rdmsr; hlt");

static void sregs_survive_a_run(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, mode_registers);
	struct kvm_sregs before = vcpu_sregs(vcpu), after;

	expect_exit(vcpu, KVM_EXIT_HLT);
	after = vcpu_sregs(vcpu);
	expect_eq(after.cr0, before.cr0);
	expect_eq(after.cr3, before.cr3);
	expect_eq(after.cr4, before.cr4);
	expect_eq(after.efer, before.efer);
	expect_same_segment(&after.cs, &before.cs);
	expect_same_segment(&after.ss, &before.ss);
	expect_eq(vcpu_regs(vcpu).rbx, before.cr4);
	expect_eq((uint32_t)vcpu_regs(vcpu).rax, before.efer);
}

PAYLOAD(16, to_protected,
	"mov $0x11, %eax; mov %eax, %cr0; ljmpl $0x8, $(0x10000 + 1f - to_protected)\n"
	".code32\n"
	"1: mov $0x18, %eax; mov %eax, %ds; mov %eax, %ss; hlt");

static void guests_mode_switch_shows(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, to_protected);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	expect_eq(sregs.cs.selector, VM_CODE >> 4);
	expect_eq(sregs.cs.base, VM_CODE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	sregs = vcpu_sregs(vcpu);
	expect_eq(sregs.cr0 & 1, 1);
	expect_eq(sregs.cs.selector, SEL_CODE32);
	expect_eq(sregs.cs.base, 0);
	expect_eq(sregs.cs.limit, 0xffffffff);
	expect_eq(sregs.cs.db, 1);
	expect_eq(sregs.ds.selector, SEL_DATA);
	expect_eq(sregs.ds.limit, 0xffffffff);
	expect_eq(sregs.es.selector, 0);
	expect_eq(sregs.es.limit, 0xffff);
}

static void created_as_after_reset(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	sregs = vcpu_sregs(vcpu);
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rip, 0xfff0);
	expect_eq(regs.rflags, 2);
	expect_eq(sregs.cs.selector, 0xf000);
	expect_eq(sregs.cs.base, 0xffff0000);
	expect_eq(sregs.cs.limit, 0xffff);
	expect_eq(sregs.ds.base, 0);
	expect_eq(sregs.ds.limit, 0xffff);
	expect_eq(sregs.cr0, 0x60000010);
	expect_eq(sregs.cr3, 0);
	expect_eq(sregs.cr4, 0);
	expect_eq(sregs.efer, 0);
	expect_eq(sregs.gdt.base, 0);
	expect_eq(sregs.gdt.limit, 0xffff);
	expect_eq(sregs.idt.limit, 0xffff);
	expect_eq(sregs.apic_base & 0xfffff000, 0xfee00000);
	expect_eq(sregs.apic_base >> 8 & 1, 1); /* the bootstrap processor */
}

/* ---- KVM_CAP_SYNC_REGS ---- */

PAYLOAD(64, add_one, "1: out %al, $0x10; inc %rax; jmp 1b");

static void synced_registers_are_stored(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, add_one);

	vm_need(&vm, KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS");
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	expect_out(vcpu, 0x10, 1, 0);
	expect_out(vcpu, 0x10, 1, 1);
	expect_eq(vcpu->run->s.regs.regs.rax, 1);
	expect_eq(vcpu->run->s.regs.sregs.cr3, VM_TABLES);
}

static void dirty_registers_are_loaded(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, add_one);

	vm_need(&vm, KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS");
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	expect_out(vcpu, 0x10, 1, 0);
	vcpu->run->s.regs.regs.rax = 0x7f;
	vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	expect_out(vcpu, 0x10, 1, 0x80);
	expect_eq(vcpu->run->kvm_dirty_regs, 0);
	expect_out(vcpu, 0x10, 1, 0x81);
}

static void clean_registers_are_not_loaded(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, add_one);

	vm_need(&vm, KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS");
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	expect_out(vcpu, 0x10, 1, 0);
	vcpu->run->s.regs.regs.rax = 0x7f;
	expect_out(vcpu, 0x10, 1, 1);
}

static void unknown_sync_bits_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, add_one);

	vm_need(&vm, KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS");
	vcpu->run->kvm_valid_regs = UINT64_C(1) << 31;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EINVAL);
	vcpu->run->kvm_valid_regs = 0;
	vcpu->run->kvm_dirty_regs = UINT64_C(1) << 31;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EINVAL);
	vcpu->run->kvm_dirty_regs = 0;
	expect_out(vcpu, 0x10, 1, 0);
}

const struct test_case state_cases[] = {
	{"state/regs_round_trip", "KVM API 4.11, 4.12", regs_round_trip},
	{"state/rflags_bit_1_is_set", "AMD APM vol. 2, 3.1.6", rflags_bit_1_is_set},
	{"state/regs_reach_the_guest", "KVM API 4.12", regs_reach_the_guest},
	{"state/regs_come_from_the_guest", "KVM API 4.11", regs_come_from_the_guest},
	{"state/sregs_round_trip", "KVM API 4.13, 4.14", sregs_round_trip},
	{"state/segments_round_trip", "KVM API 4.13, 4.14", segments_round_trip},
	{"state/segment_bases_reach_the_guest", "KVM API 4.14", segment_bases_reach_the_guest},
	{"state/another_cr3_is_another_address_space", "KVM API 4.14",
	 another_cr3_is_another_address_space},
	{"state/reserved_cr4_bits_are_refused", "KVM API 4.14", reserved_cr4_bits_are_refused},
	{"state/long_mode_without_pae_is_refused", "KVM API 4.14",
	 long_mode_without_pae_is_refused},
	{"state/lma_must_follow_lme_and_paging", "KVM API 4.14", lma_must_follow_lme_and_paging},
	{"state/cr3_beyond_physical_memory_is_refused", "KVM API 4.14",
	 cr3_beyond_physical_memory_is_refused},
	{"state/interrupt_bitmap_is_delivered", "KVM API 4.14", interrupt_bitmap_is_delivered},
	{"state/sregs_survive_a_run", "KVM API 4.13", sregs_survive_a_run},
	{"state/guests_mode_switch_shows", "KVM API 4.13", guests_mode_switch_shows},
	{"state/created_as_after_reset", "AMD APM vol. 2, 14.1.3", created_as_after_reset},
	{"state/synced_registers_are_stored", "KVM API 6.74", synced_registers_are_stored},
	{"state/dirty_registers_are_loaded", "KVM API 6.74", dirty_registers_are_loaded},
	{"state/clean_registers_are_not_loaded", "KVM API 6.74", clean_registers_are_not_loaded},
	{"state/unknown_sync_bits_are_refused", "KVM API 6.74", unknown_sync_bits_are_refused},
	TEST_END,
};
