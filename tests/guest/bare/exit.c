/*
 * What a CPU holds stays as it is while what runs it looks away: each case puts values in place,
 * syncs, and finds them again. tests/kvm/moved.c moves the machine into another one at each sync.
 */
#include "tests/guest/bare/bare.h"

#define ROUNDS 8

#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_CSTAR	   0xc0000083
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_SYSENTER_CS	   0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_PAT		   0x277

/* ---- registers ---- */

/* Loads all that may be changed from @values (r15 first), syncs, and stores them again. */
void exit_with_registers(uint64_t values[14]);
__asm__(".pushsection .text\n"
	"exit_with_registers:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
	"	mov (%rdi), %r15; mov 8(%rdi), %r14; mov 16(%rdi), %r13; mov 24(%rdi), %r12\n"
	"	mov 32(%rdi), %r11; mov 40(%rdi), %r10; mov 48(%rdi), %r9; mov 56(%rdi), %r8\n"
	"	mov 64(%rdi), %rbp; mov 72(%rdi), %rsi; mov 80(%rdi), %rdx; mov 88(%rdi), %rcx\n"
	"	mov 96(%rdi), %rbx; mov 104(%rdi), %rax\n"
	"	mov $0x1e0, %dx\n" /* BARE_PORT_SYNC; the rest of rdx is a pattern */
	"	out %eax, %dx\n"
	"	xchg (%rsp), %rdi\n" /* what was pushed; rdi held the same all the time */
	"	mov %r15, (%rdi); mov %r14, 8(%rdi); mov %r13, 16(%rdi); mov %r12, 24(%rdi)\n"
	"	mov %r11, 32(%rdi); mov %r10, 40(%rdi); mov %r9, 48(%rdi); mov %r8, 56(%rdi)\n"
	"	mov %rbp, 64(%rdi); mov %rsi, 72(%rdi); mov %rdx, 80(%rdi); mov %rcx, 88(%rdi)\n"
	"	mov %rbx, 96(%rdi); mov %rax, 104(%rdi)\n"
	"	pop %rax; cmp %rax, %rdi; je 1f; movq $0, (%rdi)\n"
	"1:	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".popsection");

BARE_CASE(keeps_registers, "exit/keeps_registers", "KVM API 4.10")
{
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t values[14], before[14];

		for (unsigned int i = 0; i < 14; i++) {
			values[i] = UINT64_C(0x123456789abcdef1) * (14 * round + i + 1);
			before[i] = values[i];
		}
		before[10] = (before[10] & ~UINT64_C(0xffff)) | 0x1e0;
		exit_with_registers(values);
		for (unsigned int i = 0; i < 14; i++) {
			check_eq(values[i], before[i]);
		}
	}
}

BARE_CASE(keeps_flags, "exit/keeps_flags", "AMD APM vol. 2, 3.1.6")
{
	/* CF, PF, AF, ZF, SF, OF, DF, and ID */
	static const uint64_t patterns[] = {0x0, 0x8d5, 0x400, 0x200841, 0x94, 0x200cd5};

	for (unsigned int i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		uint64_t flags;

		__asm__ volatile("push %1; popfq; out %%eax, %%dx; pushfq; pop %0; cld"
				 : "=r"(flags)
				 : "r"(patterns[i] | 2), "a"(i), "d"(BARE_PORT_SYNC)
				 : "memory", "cc");
		check_eq(flags, patterns[i] | 2);
	}
}

BARE_CASE(keeps_vectors, "exit/keeps_vectors", "AMD APM vol. 1, 4.2")
{
	static uint8_t in[256] __attribute__((aligned(16))), out[256] __attribute__((aligned(16)));

	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < 256; i++) {
			in[i] = (uint8_t)(i * 7 + round);
		}
		__asm__ volatile(
			"movdqa (%0), %%xmm0; movdqa 16(%0), %%xmm1; movdqa 32(%0), %%xmm2;"
			"movdqa 48(%0), %%xmm3; movdqa 64(%0), %%xmm4; movdqa 80(%0), %%xmm5;"
			"movdqa 96(%0), %%xmm6; movdqa 112(%0), %%xmm7; movdqa 128(%0), %%xmm8;"
			"movdqa 144(%0), %%xmm9; movdqa 160(%0), %%xmm10; movdqa 176(%0), %%xmm11;"
			"movdqa 192(%0), %%xmm12; movdqa 208(%0), %%xmm13; movdqa 224(%0), %%xmm14;"
			"movdqa 240(%0), %%xmm15;"
			"out %%eax, %%dx;"
			"movdqa %%xmm0, (%1); movdqa %%xmm1, 16(%1); movdqa %%xmm2, 32(%1);"
			"movdqa %%xmm3, 48(%1); movdqa %%xmm4, 64(%1); movdqa %%xmm5, 80(%1);"
			"movdqa %%xmm6, 96(%1); movdqa %%xmm7, 112(%1); movdqa %%xmm8, 128(%1);"
			"movdqa %%xmm9, 144(%1); movdqa %%xmm10, 160(%1); movdqa %%xmm11, 176(%1);"
			"movdqa %%xmm12, 192(%1); movdqa %%xmm13, 208(%1); movdqa %%xmm14, 224(%1);"
			"movdqa %%xmm15, 240(%1)"
			:
			: "r"(in), "r"(out), "a"(round), "d"(BARE_PORT_SYNC)
			: "memory");
		for (unsigned int i = 0; i < 256; i++) {
			check_eq(out[i], in[i]);
		}
	}
}

BARE_CASE(keeps_x87, "exit/keeps_x87", "AMD APM vol. 1, 6.2")
{
	struct {
		uint16_t control, status;
		uint32_t mxcsr, sum;
	} seen = {0};
	uint16_t control = 0x0e7f; /* round to zero, single precision is 0; all masked */
	uint32_t mxcsr = 0x7f80;   /* round to zero */

	/* Four numbers on the stack: 1 + 1 + pi + 0, of which the sum is 5 when made integer. */
	__asm__ volatile("fninit; fldcw %3; ldmxcsr %4; fld1; fld1; fldpi; fldz;"
			 "out %%eax, %%dx;"
			 "fnstcw %0; fnstsw %1; stmxcsr %2; faddp; faddp; faddp; fistpl %5"
			 : "=m"(seen.control), "=m"(seen.status), "=m"(seen.mxcsr)
			 : "m"(control), "m"(mxcsr), "m"(seen.sum), "a"(0), "d"(BARE_PORT_SYNC)
			 : "memory");
	check_eq(seen.control, control);
	check_eq(seen.status >> 11 & 7, 4); /* TOP: four pushed */
	check_eq(seen.mxcsr, mxcsr);
	check_eq(*(volatile uint32_t *)&seen.sum, 5);
	mxcsr = 0x1f80;
	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

static void store_avx(uint8_t out[512])
{
	__asm__ volatile("vmovdqu %%ymm0, (%0); vmovdqu %%ymm1, 32(%0); vmovdqu %%ymm7, 64(%0);"
			 "vmovdqu %%ymm8, 96(%0); vmovdqu %%ymm15, 128(%0)"
			 :
			 : "r"(out)
			 : "memory");
}

BARE_CASE(keeps_avx, "exit/keeps_avx", "AMD APM vol. 2, 11.5")
{
	static uint8_t in[160], out[512];

	if ((cpuid(1, 0).ecx & 1 << 28) == 0) {
		bare_skip("the CPU has no AVX");
	}
	if (bare_told("emulated-svm")) {
		bare_skip("QEMU's TCG does not intercept XSETBV");
	}
	write_cr4(read_cr4() | 1 << 18); /* OSXSAVE */
	__asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	for (unsigned int i = 0; i < sizeof(in); i++) {
		in[i] = (uint8_t)(i * 11 + 3);
	}
	__asm__ volatile("vmovdqu (%0), %%ymm0; vmovdqu 32(%0), %%ymm1; vmovdqu 64(%0), %%ymm7;"
			 "vmovdqu 96(%0), %%ymm8; vmovdqu 128(%0), %%ymm15; out %%eax, %%dx"
			 :
			 : "r"(in), "a"(0), "d"(BARE_PORT_SYNC)
			 : "memory");
	store_avx(out);
	for (unsigned int i = 0; i < sizeof(in); i++) {
		check_eq(out[i], in[i]);
	}
}

/* ---- system registers ---- */

BARE_CASE(keeps_system_msrs, "exit/keeps_system_msrs", "KVM API 4.18")
{
	static const struct {
		uint32_t msr;
		uint64_t value;
	} msrs[] = {
		{MSR_STAR, 0x0023001012345678},	   {MSR_LSTAR, 0xffff800012345678},
		{MSR_CSTAR, 0x00007fff87654321},   {MSR_SFMASK, 0x47700},
		{MSR_FS_BASE, 0x00007f0012340000}, {MSR_GS_BASE, 0xffff900043210000},
		{MSR_KERNEL_GS_BASE, 0x7eee00},	   {MSR_SYSENTER_CS, 0x10},
		{MSR_SYSENTER_ESP, 0x8800aaaa},	   {MSR_SYSENTER_EIP, 0x123456},
		{MSR_PAT, 0x0007040600070406},
	};
	unsigned int count = sizeof(msrs) / sizeof(msrs[0]);

	for (unsigned int i = 0; i < count; i++) {
		wrmsr(msrs[i].msr, msrs[i].value);
	}
	bare_sync(0);
	for (unsigned int i = 0; i < count; i++) {
		check_eq(rdmsr(msrs[i].msr), msrs[i].value);
	}
}

BARE_CASE(keeps_control_registers, "exit/keeps_control_registers", "AMD APM vol. 2, 3.1")
{
	uint64_t cr0 = read_cr0() ^ (1 << 3 | 1 << 18);	      /* TS, AM */
	uint64_t cr4 = read_cr4() | 1 << 7 | 1 << 2 | 1 << 3; /* PGE, TSD, DE */
	uint64_t cr3 = read_cr3();

	write_cr0(cr0);
	write_cr4(cr4);
	write_cr2(0xffff123456789abc);
	write_cr8(5);
	bare_sync(0);
	check_eq(read_cr0(), cr0);
	check_eq(read_cr4(), cr4);
	check_eq(read_cr3(), cr3);
	check_eq(read_cr2(), 0xffff123456789abc);
	check_eq(read_cr8(), 5);
	check_eq(rdmsr(MSR_EFER), EFER_AT_START | 0x400);
}

BARE_CASE(keeps_debug_registers, "exit/keeps_debug_registers", "AMD APM vol. 2, 13.1.1")
{
	write_dr0(0x111111111111);
	write_dr1(0xffff888888888888);
	write_dr2(0x3);
	write_dr3(0x4444);
	write_dr6(0xffff0ff0 | 0x5);
	write_dr7(0x400 | 0xf0000); /* nothing enabled */
	bare_sync(0);
	check_eq(read_dr0(), 0x111111111111);
	check_eq(read_dr1(), 0xffff888888888888);
	check_eq(read_dr2(), 0x3);
	check_eq(read_dr3(), 0x4444);
	check_eq(read_dr6(), 0xffff0ff0 | 0x5);
	check_eq(read_dr7(), 0x400 | 0xf0000);
}

static void write_one(void *at)
{
	*(volatile uint32_t *)at = 1;
}

BARE_CASE(keeps_a_watchpoint, "exit/keeps_a_watchpoint", "AMD APM vol. 2, 13.1.3")
{
	static uint32_t word;
	struct bare_trap trap;

	write_dr0((uint64_t)&word);
	write_dr7(0x400 | 0x1 | 0xd0000); /* write, 4 bytes */
	bare_sync(0);
	bare_try(&trap, write_one, &word);
	write_dr7(0x400);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_DB);
	check_eq(trap.dr6 & 1, 1);
	check_eq(word, 1);
}

struct pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

BARE_CASE(keeps_descriptor_tables, "exit/keeps_descriptor_tables", "AMD APM vol. 2, 4.6")
{
	static uint64_t ldt[4];
	struct pointer gdt, idt, after;
	uint16_t selector;

	bare_gdt[SEL_SPARE / 8] =
		0x0000820000000000 | (sizeof(ldt) - 1) | ((uint64_t)ldt & 0xffffff) << 16;
	bare_gdt[SEL_SPARE / 8 + 1] = 0;
	__asm__ volatile("lldt %w0" : : "r"(SEL_SPARE) : "memory");
	__asm__ volatile("sgdt %0; sidt %1" : "=m"(gdt), "=m"(idt));
	bare_sync(0);
	__asm__ volatile("sgdt %0" : "=m"(after));
	check(after.limit == gdt.limit && after.base == gdt.base);
	__asm__ volatile("sidt %0" : "=m"(after));
	check(after.limit == idt.limit && after.base == idt.base);
	__asm__ volatile("sldt %0" : "=r"(selector));
	check_eq(selector, SEL_SPARE);
	__asm__ volatile("str %0" : "=r"(selector));
	check_eq(selector, SEL_TSS);
	/* A selector with TI = 1 is looked up in the table that the hidden part points to. */
	ldt[1] = 0x00cf93000000ffff;
	__asm__ volatile("mov %w0, %%es; mov %w1, %%es" : : "r"(0xc), "r"(SEL_DATA) : "memory");
}

BARE_CASE(keeps_hidden_segments, "exit/keeps_hidden_segments", "AMD APM vol. 2, 4.5.3")
{
	static uint32_t words[4] = {11, 22, 33, 44};
	uint32_t value;

	/* The descriptor changes after it has been loaded: what counts is the hidden part. */
	bare_gdt[SEL_SPARE / 8] = 0x00cf93000000ffff | ((uint64_t)words & 0xffffff) << 16 |
				  ((uint64_t)words >> 24 & 0xff) << 56;
	__asm__ volatile("mov %w0, %%fs" : : "r"(SEL_SPARE) : "memory");
	bare_gdt[SEL_SPARE / 8] = 0;
	bare_sync(0);
	__asm__ volatile("movl %%fs:8, %0" : "=r"(value) : : "memory");
	check_eq(value, 33);
	__asm__ volatile("mov %w0, %%fs" : : "r"(0));
}

/* ---- modes ---- */

__asm__(".pushsection .rodata\n"
	".code16\n"
	"exit_real: mov $0x1e0, %dx; mov $0x1234, %si; mov $0x7000, %ax; mov %ax, %es\n"
	"	mov %bx, %bp; out %eax, %dx\n"
	"	mov %es, (%bp); mov %si, 2(%bp); mov %cs, 4(%bp); smsw 6(%bp); mov %ss, 8(%bp)\n"
	"	mov %sp, 10(%bp); lret\n"
	"exit_real_end:\n"
	".code32\n"
	"exit_flat: mov $0x1e0, %dx; mov $0x12345678, %esi; out %eax, %dx\n"
	"	mov %esi, (%ebx); mov %cs, 4(%ebx); smsw 6(%ebx); mov %cr0, %eax; mov %eax, "
	"8(%ebx)\n"
	"	ret\n"
	"exit_flat_end:\n"
	".code64\n"
	".popsection");
extern const char exit_real[], exit_real_end[], exit_flat[], exit_flat_end[];

BARE_CASE(keeps_real_mode, "exit/keeps_real_mode", "AMD APM vol. 2, 1.2.1")
{
	uint16_t data[2048] = {0};

	bare_run16(exit_real, exit_real_end, data);
	check_eq(data[0], 0x7000);
	check_eq(data[1], 0x1234);
	check_eq(data[2], 0);
	check_eq(data[3] & 1, 0);
	check_eq(data[4], 0);
	check_eq(data[5], LOW_STACK - 4);
}

BARE_CASE(keeps_protected_mode, "exit/keeps_protected_mode", "AMD APM vol. 2, 1.2.2")
{
	uint32_t data[1024] = {0};

	bare_run32(exit_flat, exit_flat_end, data);
	check_eq(data[0], 0x12345678);
	check_eq(data[1] & 0xffff, SEL_CODE32);
	check_eq(data[2] & 0x80000001, 1);
}

static uint64_t user_sync(uint64_t argument)
{
	uint64_t cs;

	__asm__ volatile("out %%eax, %%dx; mov %%cs, %0"
			 : "=r"(cs)
			 : "a"(0), "d"(BARE_PORT_SYNC)
			 : "memory");
	return cs + argument;
}

BARE_CASE(keeps_cpl_3, "exit/keeps_cpl_3", "AMD APM vol. 2, 4.9")
{
	check_eq(bare_in_user(user_sync, 0x100), SEL_USER_CODE64 + 0x100);
}
