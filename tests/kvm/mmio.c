/* Memory without a slot: the moves that drivers and firmware use, in every width and addressing. */
#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

/* RBX: the device; RAX: a value whose bytes all differ. */
#define BEGIN64 "mov $0xd0000000, %ebx; movabs $0x1122334455667788, %rax;"
#define BEGIN32 "mov $0xd0000000, %ebx; mov $0x55667788, %eax;"

/* What was pushed as the @n-th, from 0. */
static uint64_t pushed(struct vm *vm, unsigned int n)
{
	return *scene_word(vm, VM_STACK - 8 * (n + 1));
}

PAYLOAD(64, stores,
	BEGIN64 "mov %al, (%rbx); mov %ax, 2(%rbx); mov %eax, 4(%rbx);"
		"mov %rax, 8(%rbx); hlt");

static void store_widths(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, stores);

	expect_steps(vcpu, W(0, 1, 0x88), W(2, 2, 0x7788), W(4, 4, 0x55667788),
		     W(8, 8, 0x1122334455667788));
}

PAYLOAD(64, loads,
	BEGIN64 "mov (%rbx), %al; push %rax; mov 2(%rbx), %ax; push %rax;"
		"mov 8(%rbx), %rax; push %rax; mov 4(%rbx), %eax; push %rax; hlt");

static void load_widths(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, loads);

	expect_steps(vcpu, R(0, 1, 0xa1), R(2, 2, 0xb1b2), R(8, 8, 0x8182838485868788),
		     R(4, 4, 0xc1c2c3c4));
	expect_eq(pushed(&vm, 0), 0x11223344556677a1);
	expect_eq(pushed(&vm, 1), 0x112233445566b1b2);
	expect_eq(pushed(&vm, 2), 0x8182838485868788);
	expect_eq(pushed(&vm, 3), 0xc1c2c3c4);
}

PAYLOAD(64, high_bytes,
	BEGIN64 "mov $0x99, %bh; mov %ah, (%ebx); mov %dil, 1(%ebx); mov 2(%ebx), %ah; hlt");

static void high_byte_registers(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, high_bytes);

	/* BH is part of the address; with a REX prefix number 7 is DIL, not BH. */
	expect_steps(vcpu, W(0x9900, 1, 0x77), W(0x9901, 1, 0), R(0x9902, 1, 0xee));
	expect_eq(vcpu_regs(vcpu).rax, 0x112233445566ee88);
}

PAYLOAD(64, immediates,
	BEGIN64 "movb $0x81, (%rbx); movw $0x8182, (%rbx);"
		"movl $0x81828384, (%rbx); movq $-2, (%rbx); movq $0x7fffffff, "
		"(%rbx); hlt");

static void immediates_are_sign_extended(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, immediates);

	expect_steps(vcpu, W(0, 1, 0x81), W(0, 2, 0x8182), W(0, 4, 0x81828384),
		     W(0, 8, 0xfffffffffffffffe), W(0, 8, 0x7fffffff));
}

PAYLOAD(64, zero_extending,
	BEGIN64 "movzbw (%rbx), %ax; push %rax; movzbl (%rbx), %eax; push %rax; mov $-1, %rax;"
		"movzbq (%rbx), %rax; push %rax; movzwl (%rbx), %eax; push %rax; mov $-1, %rax;"
		"movzwq (%rbx), %rax; push %rax; hlt");

static void movzx(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, zero_extending);

	expect_steps(vcpu, R(0, 1, 0x81), R(0, 1, 0x82), R(0, 1, 0x83), R(0, 2, 0x8485),
		     R(0, 2, 0x8687));
	expect_eq(pushed(&vm, 0), 0x1122334455660081);
	expect_eq(pushed(&vm, 1), 0x82);
	expect_eq(pushed(&vm, 2), 0x83);
	expect_eq(pushed(&vm, 3), 0x8485);
	expect_eq(pushed(&vm, 4), 0x8687);
}

PAYLOAD(64, sign_extending,
	BEGIN64 "movsbw (%rbx), %ax; push %rax; movsbl (%rbx), %eax; push %rax;"
		"movsbq (%rbx), %rax; push %rax; movswl (%rbx), %eax; push %rax;"
		"movswq (%rbx), %rax; push %rax; movslq (%rbx), %rax; push %rax; hlt");

static void movsx(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, sign_extending);

	expect_steps(vcpu, R(0, 1, 0x81), R(0, 1, 0x82), R(0, 1, 0x83), R(0, 2, 0x8485),
		     R(0, 2, 0x8687), R(0, 4, 0x88898a8b));
	expect_eq(pushed(&vm, 0), 0x112233445566ff81);
	expect_eq(pushed(&vm, 1), 0xffffff82);
	expect_eq(pushed(&vm, 2), 0xffffffffffffff83);
	expect_eq(pushed(&vm, 3), 0xffff8485);
	expect_eq(pushed(&vm, 4), 0xffffffffffff8687);
	expect_eq(pushed(&vm, 5), 0xffffffff88898a8b);
}

PAYLOAD(64, offsets,
	BEGIN64 "movabs %al, 0xd0000010; movabs 0xd0000018, %rax;"
		"addr32 mov %eax, 0xd0000020; hlt");

static void moffs(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, offsets);

	expect_steps(vcpu, W(0x10, 1, 0x88), R(0x18, 8, 0x8182838485868788),
		     W(0x20, 4, 0x85868788));
}

PAYLOAD(64, other_ends, BEGIN64 "movbe %eax, (%rbx); movbe 8(%rbx), %rax; hlt");

static void movbe(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, other_ends);

	if ((vm_cpuid_leaf(&vm, 1, 0).ecx & 1u << 22) == 0) {
		test_skip("the CPU has no MOVBE");
	}
	expect_steps(vcpu, W(0, 4, 0x88776655), R(8, 8, 0x8182838485868788));
	expect_eq(vcpu_regs(vcpu).rax, 0x8887868584838281);
}

PAYLOAD(64, not_cached, BEGIN64 "movnti %eax, (%rbx); movnti %rax, 8(%rbx); hlt");

static void movnti(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, not_cached);

	expect_steps(vcpu, W(0, 4, 0x55667788), W(8, 8, 0x1122334455667788));
}

PAYLOAD(64, selectors,
	BEGIN64 "mov $0x18, %ax; mov %ax, %fs; mov %fs, (%rbx); mov 2(%rbx), %gs;"
		"mov %gs, %eax; hlt");

static void segment_registers(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, selectors);

	expect_steps(vcpu, W(0, 2, 0x18), R(2, 2, SEL_DATA));
	expect_eq(vcpu_regs(vcpu).rax, SEL_DATA);
	expect_eq(vcpu_sregs(vcpu).gs.selector, SEL_DATA);
}

PAYLOAD(64, conditions,
	BEGIN64 "stc; setc (%rbx); setnc 1(%rbx); cmovc 4(%rbx), %eax; mov $-1, %rcx;"
		"cmovnc 8(%rbx), %ecx; hlt");

static void setcc_and_cmovcc(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, conditions);

	/* CMOVcc reads, and clears the upper half, whatever the condition. */
	expect_steps(vcpu, W(0, 1, 1), W(1, 1, 0), R(4, 4, 0x81828384), R(8, 4, 0x12345678));
	expect_eq(vcpu_regs(vcpu).rax, 0x81828384);
	expect_eq(vcpu_regs(vcpu).rcx, 0xffffffff);
}

PAYLOAD(64, x87, BEGIN64 "fninit; fnstcw (%rbx); fnstsw 2(%rbx); mov $5, %al; xlat; hlt");

static void x87_words_and_xlat(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, x87);

	expect_steps(vcpu, W(0, 2, 0x37f), W(2, 2, 0), R(5, 1, 0x99));
	expect_eq(vcpu_regs(vcpu).rax, 0x1122334455667799);
}

/* ---- 16 bytes: two times 8, the lower first ---- */

#define VECTORS                                                                          \
	"mov $0xd0000000, %ebx; movabs $0x1122334455667788, %rax; movq %rax, %xmm0;"     \
	"movabs $0x99aabbccddeeff00, %rax; movq %rax, %xmm15; punpcklqdq %xmm15, %xmm0;" \
	"movaps %xmm0, %xmm15;"
#define TWO_WRITES W(0x20, 8, 0x1122334455667788), W(0x28, 8, 0x99aabbccddeeff00)
#define TWO_READS  R(0x30, 8, 0x0102030405060708), R(0x38, 8, 0x090a0b0c0d0e0f10)
#define SSE(name, insn)                                                         \
	PAYLOAD(64, name,                                                       \
		VECTORS insn " %xmm15, 0x20(%rbx);" insn " 0x30(%rbx), %xmm15;" \
			     "movups %xmm15, 0x20000; hlt");                    \
	static void name##_case(void)                                           \
	{                                                                       \
		sse_moves(name, name##_end);                                    \
	}

static void sse_moves(const char *code, const char *code_end)
{
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_NONE, 64, code, code_end);

	expect_steps(vcpu, TWO_WRITES, TWO_READS);
	expect_eq(*scene_word(&vm, VM_FREE), 0x0102030405060708);
	expect_eq(*scene_word(&vm, VM_FREE + 8), 0x090a0b0c0d0e0f10);
}

SSE(sse_movups, "movups")
SSE(sse_movaps, "movaps")
SSE(sse_movupd, "movupd")
SSE(sse_movdqa, "movdqa")
SSE(sse_movdqu, "movdqu")

PAYLOAD(64, sse_streams, VECTORS "movntdq %xmm0, 0x20(%rbx); movntps %xmm15, 0x20(%rbx); hlt");

static void sse_non_temporal(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, sse_streams);

	expect_steps(vcpu, TWO_WRITES, TWO_WRITES);
}

PAYLOAD(64, mmx_moves,
	BEGIN64 "push %rax; movq (%rsp), %mm3; movq %mm3, (%rbx); movq 8(%rbx), %mm3;"
		"movq %mm3, (%rsp); emms; hlt");

static void mmx(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, mmx_moves);

	expect_steps(vcpu, W(0, 8, 0x1122334455667788), R(8, 8, 0x8182838485868788));
	expect_eq(pushed(&vm, 0), 0x8182838485868788);
}

PAYLOAD(64, sse_odd, VECTORS "movaps %xmm0, 0x28(%rbx); hlt; sse_odd_gp: pop %rax; hlt");
extern const char sse_odd_gp[];

static void sse_unaligned_faults(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, sse_odd);

	vm_gate(&vm, 64, 13, PAYLOAD_AT(sse_odd, sse_odd_gp));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(sse_odd, sse_odd_gp) + 2);
	expect_eq(vcpu_regs(vcpu).rax, 0);
}

/* ---- addressing ---- */

PAYLOAD(64, sib,
	BEGIN64 "mov $0x10, %ecx; mov $2, %r9d; mov %al, (%rbx,%rcx,8);"
		"mov %al, 0x11(%rbx,%rcx,4); mov %al, -0x4(%rbx,%rcx,2);"
		"mov %al, 0x1000(%rbx,%r9); lea 5(%rbx), %r13; mov %al, (%r13);"
		"mov %al, -0x2fffff00(,%r9,8); mov %rbx, %rsp; mov %al, 0x40(%rsp);"
		"mov %rbx, %rbp; mov %al, (%rbp); hlt");

static void sib_forms(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, sib);
	uint64_t *pml4 = scene_word(&vm, VM_TABLES), *pdpt = scene_word(&vm, VM_TABLES + 0x1000);

	/* disp32 alone is sign-extended: the last GiB below 2^64 - 1 GiB is the hole's, too. */
	pml4[511] = (VM_TABLES + 0x1000) | 0x7;
	pdpt[511] = pdpt[3];
	expect_steps(vcpu, W(0x80, 1, 0x88), W(0x51, 1, 0x88), W(0x1c, 1, 0x88), W(0x1002, 1, 0x88),
		     W(5, 1, 0x88), W(0x110, 1, 0x88), W(0x40, 1, 0x88), W(0, 1, 0x88));
}

/* 0xd0000000 is out of disp32's reach: the code runs from an alias of RAM at 3.5 GiB. */
#define ALIAS UINT64_C(0xe0000000)
PAYLOAD(64, rip_relative,
	"mov %eax, -0x10000100(%rip); relative_1: movl $0x12345678, -0x10000200(%rip);"
	"relative_2: hlt");
extern const char relative_1[], relative_2[];

static void rip_relative_forms(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, rip_relative);
	uint64_t code = PAYLOAD_AT(rip_relative, relative_1);

	*scene_pte(&vm, ALIAS + VM_CODE) = VM_CODE | 0x7;
	scene_set_rip(vcpu, ALIAS + VM_CODE);
	expect_steps(vcpu, W(code - 0x100, 4, 0),
		     W(PAYLOAD_AT(rip_relative, relative_2) - 0x200, 4, 0x12345678));
}

PAYLOAD(64, bases,
	BEGIN64 "mov %al, %fs:(%rcx); mov %al, %gs:0x10; mov %al, %ds:(%rbx);"
		"mov %al, %es:1(%rbx); hlt");

static void fs_and_gs_base(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, bases);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.fs.base = VM_HOLE + 0x3000;
	sregs.gs.base = VM_HOLE + 0x4000;
	vcpu_set_sregs(vcpu, &sregs);
	expect_steps(vcpu, W(0x3000, 1, 0x88), W(0x4010, 1, 0x88), W(0, 1, 0x88), W(1, 1, 0x88));
}

PAYLOAD(64, short_address,
	BEGIN64 "movabs $0xffffffffd0000000, %rcx; mov %al, 4(%ecx);"
		"lea 0x10000008(%rcx), %rdx; mov %al, -0x10000000(%edx); hlt");

static void address_size_32(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, short_address);

	expect_steps(vcpu, W(4, 1, 0x88), W(8, 1, 0x88));
}

PAYLOAD(32, segmented,
	BEGIN32 "mov $0x10, %esi; mov %al, (%esi); mov %ax, %fs:2(%esi);"
		"mov $8, %ebp; mov %eax, (%ebp); mov 4(%ebp), %eax; hlt");

static void protected_mode_segments(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 32, segmented);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.ds.base = VM_HOLE + 0x1000;
	sregs.fs.base = VM_HOLE + 0x2000;
	sregs.ss.base = VM_HOLE + 0x3000; /* of what is based on EBP */
	vcpu_set_sregs(vcpu, &sregs);
	expect_steps(vcpu, W(0x1010, 1, 0x88), W(0x2012, 2, 0x7788), W(0x3008, 4, 0x55667788),
		     R(0x300c, 4, 0xa1a2a3a4));
	expect_eq(vcpu_regs(vcpu).rax, 0xa1a2a3a4);
}

/* The hole of a small machine: RAM ends at 0xa0000. */
PAYLOAD(16, real,
	"mov $0xa000, %ax; mov %ax, %ds; mov $0x1234, %bx; mov $2, %si;"
	"mov %al, (%bx,%si); mov %bx, 0x10; mov -1(%bx), %cx; mov $0x55667788, %eax;"
	"mov %eax, %ds:(%bx); hlt");

static void real_mode_segments(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 16, real);

	must(vm_set_slot(&vm, 0, 0, 0, 0, NULL));
	must(vm_set_slot(&vm, 0, 0, 0, 0xa0000, vm.ram));
	expect_mmio_write(vcpu, 0xa1236, 1, 0);
	expect_mmio_write(vcpu, 0xa0010, 2, 0x1234);
	expect_mmio_read(vcpu, 0xa1233, 2, 0xc1c2);
	expect_mmio_write(vcpu, 0xa1234, 4, 0x55667788);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 0xc1c2);
}

#define SPEC_MOV  "AMD APM vol. 3, MOV; KVM API 5, KVM_EXIT_MMIO"
#define SPEC_SSE  "AMD APM vol. 4; KVM API 5, KVM_EXIT_MMIO"
#define SPEC_ADDR "AMD APM vol. 1, 2.2; KVM API 5, KVM_EXIT_MMIO"

const struct test_case mmio_cases[] = {
	{"mmio/store_widths", SPEC_MOV, store_widths},
	{"mmio/load_widths", SPEC_MOV, load_widths},
	{"mmio/high_byte_registers", SPEC_MOV, high_byte_registers},
	{"mmio/immediates_are_sign_extended", SPEC_MOV, immediates_are_sign_extended},
	{"mmio/movzx", "AMD APM vol. 3, MOVZX", movzx},
	{"mmio/movsx", "AMD APM vol. 3, MOVSX, MOVSXD", movsx},
	{"mmio/moffs", SPEC_MOV, moffs},
	{"mmio/movbe", "AMD APM vol. 3, MOVBE", movbe},
	{"mmio/movnti", "AMD APM vol. 3, MOVNTI", movnti},
	{"mmio/segment_registers", SPEC_MOV, segment_registers},
	{"mmio/setcc_and_cmovcc", "AMD APM vol. 3, SETcc, CMOVcc", setcc_and_cmovcc},
	{"mmio/x87_words_and_xlat", "AMD APM vol. 5, FSTCW; vol. 3, XLAT", x87_words_and_xlat},
	{"mmio/movups", SPEC_SSE, sse_movups_case},
	{"mmio/movaps", SPEC_SSE, sse_movaps_case},
	{"mmio/movupd", SPEC_SSE, sse_movupd_case},
	{"mmio/movdqa", SPEC_SSE, sse_movdqa_case},
	{"mmio/movdqu", SPEC_SSE, sse_movdqu_case},
	{"mmio/sse_non_temporal", SPEC_SSE, sse_non_temporal},
	{"mmio/mmx", "AMD APM vol. 5, MOVQ", mmx},
	{"mmio/sse_unaligned_faults", SPEC_SSE, sse_unaligned_faults},
	{"mmio/sib_forms", SPEC_ADDR, sib_forms},
	{"mmio/rip_relative_forms", SPEC_ADDR, rip_relative_forms},
	{"mmio/fs_and_gs_base", "AMD APM vol. 2, 4.5.3", fs_and_gs_base},
	{"mmio/address_size_32", SPEC_ADDR, address_size_32},
	{"mmio/protected_mode_segments", "AMD APM vol. 2, 4.5", protected_mode_segments},
	{"mmio/real_mode_segments", "AMD APM vol. 2, 1.2.4", real_mode_segments},
	TEST_END,
};
