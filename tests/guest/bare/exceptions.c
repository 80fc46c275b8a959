/* Exceptions: each vector's RIP, error code and flags; what cannot be delivered; deferral. */
#include "tests/guest/bare/snippet.h"

LABEL(div_at);
LABEL(idiv_at);
LABEL(ud_at);
LABEL(int3_at);
LABEL(int3_next);
LABEL(gp_at);
LABEL(nm_at);
LABEL(fwait_at);
LABEL(xm_at);
SNIPPET(div_zero, "xor %edx, %edx; mov $7, %eax; xor %ecx, %ecx; div_at: div %ecx");
SNIPPET(idiv_overflow, "mov $0x80000000, %eax; cdq; mov $-1, %ecx; idiv_at: idiv %ecx");
SNIPPET(div_wide, "mov $1, %edx; xor %eax, %eax; mov $1, %ecx; div %ecx");
SNIPPET(do_ud2, "stc; ud_at: ud2");
SNIPPET(do_int3, "int3_at: int3; int3_next: nop");
SNIPPET(do_int_n, "int $0x3");
SNIPPET(do_gp, "mov $1, %eax; ror %rax; gp_at: mov (%rax), %al");
SNIPPET(do_fpu, "nm_at: fldz");
SNIPPET(do_sse, "addps %xmm1, %xmm0");
SNIPPET(do_fwait, "fwait");

static void check_trap(void (*function)(void *), uint8_t vector, const char *rip)
{
	struct bare_trap trap;

	bare_try(&trap, function, NULL);
	check(trap.happened);
	check_eq(trap.vector, vector);
	check_eq(trap.error, 0);
	if (rip != NULL) {
		check_eq(trap.rip, rip);
	}
}

BARE_CASE(divide_error, "exceptions/divide_error", "AMD APM vol. 2, 8.2.1")
{
	check_trap(div_zero, VECTOR_DE, div_at);
	check_trap(idiv_overflow, VECTOR_DE, idiv_at);
	check_trap(div_wide, VECTOR_DE, NULL);
}

BARE_CASE(breakpoint_is_trap, "exceptions/breakpoint_is_trap", "AMD APM vol. 2, 8.2.4")
{
	check_trap(do_int3, VECTOR_BP, int3_next);
	check_trap(do_int_n, VECTOR_BP, NULL);
}

BARE_CASE(invalid_opcode, "exceptions/invalid_opcode", "AMD APM vol. 2, 8.2.7")
{
	struct bare_trap trap;

	bare_try(&trap, do_ud2, NULL);
	check_eq(trap.vector, VECTOR_UD);
	check_eq(trap.rip, ud_at);
	check_eq(trap.rflags & RFLAGS_CF, RFLAGS_CF);
}

BARE_CASE(faults_set_rf, "exceptions/faults_set_rf",
	  "AMD APM vol. 2, 3.1.6, RF; Intel SDM vol. 3A, 6.8.3")
{
	struct bare_trap trap;

	bare_try(&trap, do_ud2, NULL);
	if ((trap.rflags & RFLAGS_RF) == 0) {
		bare_excuse("QEMU's TCG does not set RF in what faults push");
	}
	check_eq(trap.rflags & RFLAGS_RF, RFLAGS_RF);
	bare_try(&trap, do_int3, NULL);
	check_eq(trap.rflags & RFLAGS_RF, 0);
}

BARE_CASE(general_protection, "exceptions/general_protection", "AMD APM vol. 2, 8.2.14")
{
	check_trap(do_gp, VECTOR_GP, gp_at);
}

BARE_CASE(device_not_available, "exceptions/device_not_available", "AMD APM vol. 2, 8.2.8")
{
	uint64_t cr0 = read_cr0();

	write_cr0(cr0 | CR0_TS | CR0_MP);
	check_trap(do_fpu, VECTOR_NM, nm_at);
	check_trap(do_sse, VECTOR_NM, NULL);
	check_trap(do_fwait, VECTOR_NM, NULL);
	write_cr0((cr0 | CR0_TS) & ~CR0_MP);
	check_trap(do_fpu, VECTOR_NM, nm_at);
	do_fwait(NULL); /* waits only with MP */
	write_cr0((cr0 & ~CR0_TS) | CR0_EM);
	check_trap(do_fpu, VECTOR_NM, nm_at);
	check_trap(do_sse, VECTOR_UD, NULL);
	write_cr0(cr0);
	do_fpu(NULL);
	do_sse(NULL);
}

SNIPPET(x87_error, "fninit; fnstcw -8(%rsp); andw $0xfffb, -8(%rsp); fldcw -8(%rsp);"
		   "fld1; fldz; fdivrp; mov $1, %eax; fwait_at: fwait");
SNIPPET(x87_no_wait, "fninit; fnstcw -8(%rsp); andw $0xfffb, -8(%rsp); fldcw -8(%rsp);"
		     "fld1; fldz; fdivrp; fnstsw %ax; mov %eax, (%rdi); fnclex; fwait; fninit");

BARE_CASE(x87_deferred, "exceptions/x87_deferred", "AMD APM vol. 2, 8.2.16; vol. 1, 6.8")
{
	uint32_t status = 0;

	/* The division is done; the next x87 instruction that waits tells. */
	check_trap(x87_error, VECTOR_MF, fwait_at);
	__asm__ volatile("fninit");
	x87_no_wait(&status);
	check_eq(status & 0x84, 0x84); /* ZE, ES */
}

/* FNSTENV right behind; a division by zero that waits, with FXSAVE and FNSTENV. */
SNIPPET(x87_place, "fninit; place_fld1: fld1; fnstenv (%rdi); fninit");
SNIPPET(x87_place_error,
	"fninit; fnstcw -8(%rsp); andw $0xfffb, -8(%rsp); fldcw -8(%rsp); fld1; lea -8(%rsp), %rsi;"
	"movl $0, (%rsi); place_idiv: fidivl (%rsi); fxsave64 32(%rdi); fnstenv (%rdi);"
	"mov %rsi, 544(%rdi); fninit");
LABEL(place_fld1);
LABEL(place_idiv);

/* CPUs may forget it as soon as the registers are saved, which an interrupt of the host's does. */
static void check_place(uint64_t value, uint64_t right)
{
	if (value != 0) {
		check_eq(value, right);
	}
}

BARE_CASE(x87_places, "exceptions/x87_places", "Intel SDM vol. 1, 8.1.8; AMD APM vol. 5, FXSAVE")
{
	static struct {
		uint32_t env[8];
		uint8_t image[512] __attribute__((aligned(16)));
		uint64_t operand;
	} all;
	uint64_t idiv = (uint64_t)place_idiv;

	_Static_assert(__builtin_offsetof(__typeof__(all), image) == 32 &&
			       __builtin_offsetof(__typeof__(all), operand) == 544,
		       "offsets above");
	for (unsigned int i = 0; i < 3; i++) {
		x87_place(&all);
		check_place(all.env[3], (uint32_t)(uint64_t)place_fld1);
		check_place(all.env[4] >> 16, 0x1e8);
		check_eq(all.env[5], 0);
		x87_place_error(&all);
		check_eq(all.env[1] & 0x84, 0x84); /* ZE, ES */
		check_place(all.env[3], (uint32_t)idiv);
		check_place(all.env[4] >> 16, 0x236);
		check_place(all.env[5], (uint32_t)all.operand);
		check_place(*(uint16_t *)(void *)(all.image + 6), 0x236);
		check_place(*(uint64_t *)(void *)(all.image + 8), idiv);
		check_place(*(uint64_t *)(void *)(all.image + 16), all.operand);
	}
}

SNIPPET(simd_error, "stmxcsr -8(%rsp); andl $~0x200, -8(%rsp); ldmxcsr -8(%rsp);"
		    "mov $0x3f800000, %eax; movd %eax, %xmm0; xorps %xmm1, %xmm1;"
		    "xm_at: divss %xmm1, %xmm0");

BARE_CASE(simd_exception, "exceptions/simd_exception", "AMD APM vol. 2, 8.2.19")
{
	struct bare_trap trap;
	uint32_t mxcsr, result;

	bare_try(&trap, simd_error, NULL);
	if (!trap.happened) {
		bare_excuse("QEMU's TCG has no #XM");
	}
	check_trap(simd_error, VECTOR_XM, xm_at);
	__asm__ volatile("stmxcsr %0; movd %%xmm0, %1" : "=m"(mxcsr), "=r"(result));
	check_eq(mxcsr & 0x3f, 4);
	check_eq(result, 0x3f800000);
	write_cr4(read_cr4() & ~CR4_OSXMMEXCPT);
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	check_trap(simd_error, VECTOR_UD, xm_at);
}

USER_SNIPPET(unaligned, "pushq $0x40002; popfq; mov 1(%rdi), %eax; pushq $2; popfq");
SNIPPET(unaligned_kernel, "pushq $0x40002; popfq; mov 1(%rdi), %eax; pushq $2; popfq");
SNIPPET(movaps_unaligned, "movaps 8(%rdi), %xmm0");

BARE_CASE(alignment_check, "exceptions/alignment_check", "AMD APM vol. 2, 8.2.17")
{
	static uint64_t words[4];
	struct bare_trap trap;

	snippet_in_user(&trap, unaligned, user_address(words));
	check(!trap.happened);
	write_cr0(read_cr0() | CR0_AM);
	bare_try(&trap, unaligned_kernel, words); /* CPL 0 may */
	check(!trap.happened);
	snippet_in_user(&trap, unaligned, user_address(words));
	if (!trap.happened) {
		bare_excuse("QEMU's TCG has no #AC");
	}
	check(trap.happened);
	check_eq(trap.vector, VECTOR_AC);
	check_eq(trap.error, 0);
}

BARE_CASE(sse_alignment, "exceptions/sse_alignment", "AMD APM vol. 2, 8.2.14; vol. 4, MOVAPS")
{
	static uint64_t words[4] __attribute__((aligned(16)));
	struct bare_trap trap;

	bare_try(&trap, movaps_unaligned, words);
	if (!trap.happened) {
		bare_excuse("QEMU's TCG does not check SSE's alignment");
	}
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	check_eq(trap.error, 0);
}

/* ---- loads of segments ---- */

SNIPPET(load_ds, "mov %edi, %ds; mov $0x18, %eax; mov %eax, %ds");
SNIPPET(load_ss, "mov %ss, %eax; mov %edi, %ss; mov %eax, %ss");
SNIPPET(load_tr, "ltr %di");
SNIPPET(load_ldt, "lldt %di");
SNIPPET(far_return, "push %rdi; lea 1f(%rip), %rax; push %rax; lretq; 1:");

static void check_segment(void (*function)(void *), uint64_t descriptor, uint64_t selector,
			  uint8_t vector)
{
	struct bare_trap trap;

	bare_gdt[SEL_SPARE / 8] = descriptor;
	bare_gdt[SEL_SPARE / 8 + 1] = 0;
	bare_try(&trap, function, (void *)selector);
	check(trap.happened);
	check_eq(trap.vector, vector);
	/* The selector without its RPL. */
	check_eq(trap.error, selector & ~UINT64_C(3));
	__asm__ volatile("mov %0, %%ds" : : "r"(SEL_DATA));
}

BARE_CASE(segment_errors, "exceptions/segment_errors", "AMD APM vol. 2, 8.2.11 to 8.2.14; 4.8")
{
	check_segment(load_ds, 0x00cf13000000ffff, SEL_SPARE, VECTOR_NP);
	check_segment(load_ds, 0x00cf13000000ffff, SEL_SPARE + 3, VECTOR_GP); /* DPL first */
	check_segment(load_ds, 0x00cf99000000ffff, SEL_SPARE, VECTOR_GP);     /* execute only */
	check_segment(load_ds, 0, GDT_LIMIT + 1, VECTOR_GP);
	check_segment(load_ss, 0x00cf13000000ffff, SEL_SPARE, VECTOR_SS);
	check_segment(load_ss, 0x00cf91000000ffff, SEL_SPARE, VECTOR_GP); /* read only */
	check_segment(load_ss, 0x00cff3000000ffff, SEL_SPARE, VECTOR_GP); /* DPL 3 */
	check_segment(load_tr, 0x0000090000000067, SEL_SPARE, VECTOR_NP);
	check_segment(load_tr, 0x00008b0000000067, SEL_SPARE, VECTOR_GP); /* busy */
	check_segment(load_ldt, 0x0000020000000067, SEL_SPARE, VECTOR_NP);
	check_segment(load_ldt, 0x0000890000000067, SEL_SPARE, VECTOR_GP); /* a TSS */
	check_segment(far_return, 0x00af1b000000ffff, SEL_SPARE, VECTOR_NP);
	check_segment(far_return, 0x00cf93000000ffff, SEL_SPARE, VECTOR_GP); /* data */
}

BARE_CASE(code_segment_l_and_d, "exceptions/code_segment_l_and_d", "AMD APM vol. 2, 4.8.1")
{
	/* Under a hypervisor its next VMRUN would fail with such a CS: do not try. */
	bare_excuse("QEMU's TCG takes code segments with L and D");
	check_segment(far_return, 0x00ef9b000000ffff, SEL_SPARE, VECTOR_GP);
}

/* ---- what cannot be delivered ---- */

BARE_CASE(gate_not_present, "exceptions/gate_not_present", "AMD APM vol. 2, 8.2.12; 8.7.2")
{
	struct bare_trap trap;

	bare_idt[VECTOR_BP].type = 0x0e;
	bare_try(&trap, do_int3, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_NP);
	if (trap.error == VECTOR_BP * 16 + 2) {
		bare_excuse("QEMU's TCG makes error codes for the IDT of 16 * vector");
	}
	/* IDT; and EXT is for what no instruction asked for. */
	check_eq(trap.error, VECTOR_BP * 8 + 2);
	check_eq(trap.rip, int3_at);
	bare_idt[VECTOR_UD].type = 0x0e;
	bare_try(&trap, do_ud2, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_NP);
	check_eq(trap.error, VECTOR_UD * 8 + 3);
	check_eq(trap.rip, ud_at);
}

/* Where TCG emulates a guest of a hypervisor it serves the second exception alone. */
static void excuse_nested(const struct bare_trap *trap)
{
	if (trap->vector == VECTOR_NP) {
		bare_excuse("QEMU's TCG makes no #DF in the guests of a hypervisor");
	}
}

/* A contributory exception on the way to a contributory one. */
BARE_CASE(double_fault, "exceptions/double_fault", "AMD APM vol. 2, 8.2.9")
{
	struct bare_trap trap;

	bare_idt[VECTOR_DE].type = 0x0e; /* #DE, then #NP */
	bare_try(&trap, div_zero, NULL);
	check(trap.happened);
	excuse_nested(&trap);
	check_eq(trap.vector, VECTOR_DF);
	check_eq(trap.error, 0);
	bare_idt[VECTOR_GP].type = 0x0e; /* #GP, then #NP */
	bare_try(&trap, do_gp, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_DF);
}

static void read_nothing(void *va)
{
	(void)*(volatile uint8_t *)va;
}

BARE_CASE(double_fault_of_page_faults, "exceptions/double_fault_of_page_faults",
	  "AMD APM vol. 2, 8.2.9")
{
	uint64_t va = UINT64_C(1) << 40;
	struct bare_trap trap;

	/* #PF, then #NP; and #PF, then #PF on the handler's stack. */
	bare_idt[VECTOR_PF].type = 0x0e;
	bare_try(&trap, read_nothing, (void *)va);
	check(trap.happened);
	excuse_nested(&trap);
	check_eq(trap.vector, VECTOR_DF);
	bare_idt[VECTOR_PF].type = 0x8e;
	bare_cpu()->tss.ist[1] = va + 0x100000;
	bare_idt[VECTOR_PF].ist = 2;
	bare_try(&trap, read_nothing, (void *)va);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_DF);
	check_eq(read_cr2(), va + 0x100000 - 8);
}

BARE_CASE(benign_then_page_fault, "exceptions/benign_then_page_fault", "AMD APM vol. 2, 8.2.9")
{
	uint64_t va = UINT64_C(1) << 40;
	struct bare_trap trap;

	/* #UD is benign: the page fault of its delivery is served as one, at the same RIP. */
	bare_cpu()->tss.ist[1] = va;
	bare_idt[VECTOR_UD].ist = 2;
	bare_try(&trap, do_ud2, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_PF);
	check_eq(trap.cr2, va - 8);
	check_eq(trap.error, PF_W);
	check_eq(trap.rip, ud_at);
}

/* ---- single step ---- */

static uint64_t steps[16];
static uint32_t step_count;
static uint64_t step_dr6;

static void on_step(struct bare_frame *frame)
{
	steps[step_count++ & 15] = frame->rip;
	step_dr6 |= read_dr6();
	write_dr6(0xffff0ff0);
}

LABEL(step_1);
LABEL(step_2);
LABEL(step_3);
SNIPPET(step_plain, "pushfq; orl $0x100, (%rsp); popfq; nop; step_1: pushfq;"
		    "step_2: andl $~0x100, (%rsp); step_3: popfq; step_4:");
LABEL(step_4);

BARE_CASE(single_step, "exceptions/single_step", "AMD APM vol. 2, 13.1.4; 8.2.2")
{
	bare_on(VECTOR_DB, on_step);
	step_plain(NULL);
	/* POPF that sets TF is not stepped; the one that clears it is. */
	check_eq(step_count, 4);
	check_eq(steps[0], step_1);
	check_eq(steps[1], step_2);
	check_eq(steps[2], step_3);
	check_eq(steps[3], step_4);
	check_eq(step_dr6 & 0xe00f, 0x4000); /* BS */
}

SNIPPET(step_rep, "mov %rdi, %rsi; mov $3, %ecx; pushfq; orl $0x100, (%rsp); popfq;"
		  "rep_at: rep lodsb; pushfq; andl $~0x100, (%rsp); popfq");
LABEL(rep_at);

BARE_CASE(single_step_rep, "exceptions/single_step_rep",
	  "AMD APM vol. 2, 13.1.4; Intel SDM vol. 3B, 17.3.1.4")
{
	uint64_t data = 0;

	bare_on(VECTOR_DB, on_step);
	step_rep(&data);
	/* After each repetition; before the last one RIP is still the instruction's. */
	check_eq(steps[0], rep_at);
	check_eq(steps[1], rep_at);
	check_eq(steps[2], (uint64_t)rep_at + 2);
}

SNIPPET(step_mov_ss, "mov %ss, %edx; pushfq; orl $0x100, (%rsp); popfq;"
		     "mov %edx, %ss; nop; ss_2: pushfq; andl $~0x100, (%rsp); popfq");
LABEL(ss_2);

BARE_CASE(single_step_mov_ss, "exceptions/single_step_mov_ss", "AMD APM vol. 2, 8.5.2; 13.1.4")
{
	bare_on(VECTOR_DB, on_step);
	step_mov_ss(NULL);
	/* Nothing between it and the next instruction. */
	check_eq(steps[0], ss_2);
}

SNIPPET(step_int, "pushfq; orl $0x100, (%rsp); popfq; int $0x40; nop; pushfq;"
		  "andl $~0x100, (%rsp); popfq");
static uint64_t inner_flags;

static void on_int(struct bare_frame *frame)
{
	(void)frame;
	inner_flags = read_rflags() | step_count << 16;
}

BARE_CASE(single_step_int, "exceptions/single_step_int", "AMD APM vol. 2, 8.7.3")
{
	bare_on(VECTOR_DB, on_step);
	bare_on(0x40, on_int);
	step_int(NULL);
	/* TF is off in the handler, and not one of its instructions is stepped. */
	check_eq(inner_flags & (RFLAGS_TF | 0xff0000), 0);
	check(step_count >= 4);
}
