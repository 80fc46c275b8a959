/* 64-bit mode: SYSCALL, SWAPGS, segment bases, gates and stacks, IRET, I/O permission. */
#include "tests/guest/bare/snippet.h"

#define MSR_SYSENTER_CS	   0x174
#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define LEAF7_FSGSBASE 1u

/* ---- SYSCALL and SYSRET ---- */

struct syscall_seen {
	uint64_t rcx, r11, rsp, rflags, cs, ss, rax;
	uint64_t back_flags, back_cs, back_ss, back_rsp, user_rsp;
};
struct syscall_seen syscall_seen;
uint64_t flags_for_sysret;

/* CPL 3 sets flags, goes to CPL 0 and comes back; what each saw is in syscall_seen. */
__asm__(".pushsection .text\n"
	"user_syscall:\n"
	"	push %rbx\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsp, 88(%rbx)\n"
	"	pushq $0x40ed7\n" /* AC, DF, IF (IOPL 0: stays), SF, ZF, AF, PF, CF, OF */
	"	popfq\n"
	"	mov $0x1234, %eax\n"
	"	syscall\n"
	"user_back:\n"
	"	pushfq\n"
	"	popq 56(%rbx)\n"
	"	mov %cs, %eax\n"
	"	mov %rax, 64(%rbx)\n"
	"	mov %ss, %eax\n"
	"	mov %rax, 72(%rbx)\n"
	"	mov %rsp, 80(%rbx)\n"
	"	cld\n"
	"	pushq $2\n"
	"	popfq\n"
	"	pop %rbx\n"
	"	ret\n"
	"kernel_entry:\n"
	"	mov %rcx, syscall_seen(%rip)\n"
	"	mov %r11, syscall_seen+8(%rip)\n"
	"	mov %rsp, syscall_seen+16(%rip)\n"
	"	pushfq\n"
	"	popq syscall_seen+24(%rip)\n"
	"	mov %rax, syscall_seen+48(%rip)\n"
	"	mov %cs, %eax\n"
	"	mov %rax, syscall_seen+32(%rip)\n"
	"	mov %ss, %eax\n"
	"	mov %rax, syscall_seen+40(%rip)\n"
	"	mov flags_for_sysret(%rip), %r11\n"
	"	sysretq\n"
	".popsection");
LABEL(kernel_entry);
LABEL(user_back);
uint64_t user_syscall(uint64_t argument);

static void set_up_syscall(uint64_t mask)
{
	wrmsr(MSR_STAR, UINT64_C(0x23) << 48 | UINT64_C(SEL_CODE64) << 32);
	wrmsr(MSR_LSTAR, (uint64_t)kernel_entry);
	wrmsr(MSR_SFMASK, mask);
	flags_for_sysret = 0x3046;
	bare_in_user(user_syscall, user_address(&syscall_seen));
}

BARE_CASE(syscall_registers, "modes/syscall_registers", "AMD APM vol. 3, SYSCALL")
{
	set_up_syscall(0x700);
	check_eq(syscall_seen.rcx, user_address(user_back));
	/* RF is 0 in it. IF and IOPL were not CPL 3's to change. */
	check_eq(syscall_seen.r11, 0x40cd7);
	check_eq(syscall_seen.rsp, syscall_seen.user_rsp);
	check_eq(syscall_seen.cs, SEL_CODE64);
	check_eq(syscall_seen.ss, SEL_CODE64 + 8);
	check_eq(syscall_seen.rax, 0x1234);
}

BARE_CASE(syscall_mask, "modes/syscall_mask", "AMD APM vol. 2, 6.1.1, SFMASK")
{
	set_up_syscall(0);
	check_eq(syscall_seen.rflags & RFLAGS_AC, RFLAGS_AC);
	set_up_syscall(RFLAGS_AC);
	check_eq(syscall_seen.rflags & RFLAGS_AC, 0);
	check_eq(syscall_seen.r11, 0x40cd7);
	set_up_syscall(0xffffffff);
	check_eq(syscall_seen.rflags, 2);
}

BARE_CASE(syscall_keeps_flags, "modes/syscall_keeps_flags", "AMD APM vol. 3, SYSCALL")
{
	set_up_syscall(0);
	if (syscall_seen.rflags == 0x40002) {
		bare_excuse("QEMU's TCG forgets DF and the arithmetic flags at SYSCALL");
	}
	check_eq(syscall_seen.rflags, 0x40cd7);
	set_up_syscall(RFLAGS_DF | RFLAGS_IF | RFLAGS_TF | RFLAGS_CF);
	check_eq(syscall_seen.rflags, 0x408d6);
}

BARE_CASE(sysret_registers, "modes/sysret_registers", "AMD APM vol. 3, SYSRET")
{
	set_up_syscall(0);
	check_eq(syscall_seen.back_flags, 0x3046);
	check_eq(syscall_seen.back_cs, SEL_USER_CODE64);
	check_eq(syscall_seen.back_ss, SEL_USER_DATA);
	check_eq(syscall_seen.back_rsp, syscall_seen.user_rsp);
}

USER_SNIPPET(just_syscall, "just_syscall_at: syscall");
LABEL(just_syscall_at);
USER_SNIPPET(just_sysret, "mov %rdi, %rcx; sysretq");

BARE_CASE(syscall_off, "modes/syscall_off", "AMD APM vol. 3, SYSCALL; EFER.SCE")
{
	struct bare_trap trap;

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~UINT64_C(1));
	snippet_in_user(&trap, just_syscall, 0);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_UD);
	check_eq(trap.rip, user_address(just_syscall_at));
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 1);
	snippet_in_user(&trap, just_sysret, 0);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
}

USER_SNIPPET(just_sysenter, "just_sysenter_at: sysenter");
LABEL(just_sysenter_at);

/* Only Intel's CPUs know it in long mode, and want a segment. */
BARE_CASE(sysenter_in_long_mode, "modes/sysenter_in_long_mode", "AMD APM vol. 3, SYSENTER")
{
	unsigned expected = bare_is_amd() ? VECTOR_UD : VECTOR_GP;
	struct bare_trap trap;

	wrmsr(MSR_SYSENTER_CS, 0);
	snippet_in_user(&trap, just_sysenter, 0);
	check(trap.happened);
	check_eq(trap.vector, expected);
	check_eq(trap.rip, user_address(just_sysenter_at));
}

/* ---- FS and GS ---- */

static uint64_t read_gs0(void)
{
	uint64_t value;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(value) : : "memory");
	return value;
}

static uint64_t read_fs8(void)
{
	uint64_t value;

	__asm__ volatile("mov %%fs:8, %0" : "=r"(value) : : "memory");
	return value;
}

BARE_CASE(segment_bases, "modes/segment_bases", "AMD APM vol. 2, 4.5.3")
{
	uint64_t va = UINT64_C(0xffff900000000000), page = bare_page();

	((volatile uint64_t *)page)[1] = 0x77;
	((volatile uint64_t *)page)[0] = 0x88;
	bare_map(va, page, 1, PTE_P | PTE_W);
	wrmsr(MSR_FS_BASE, va);
	check_eq(rdmsr(MSR_FS_BASE), va);
	check_eq(read_fs8(), 0x77);
	wrmsr(MSR_GS_BASE, va);
	check_eq(read_gs0(), 0x88);
	/* The sum wraps at 2^64: the word at address 0. */
	__asm__ volatile("movq $0x99, (%0)" : : "r"(0) : "memory");
	wrmsr(MSR_FS_BASE, ~UINT64_C(7));
	check_eq(read_fs8(), 0x99);
}

BARE_CASE(swapgs, "modes/swapgs", "AMD APM vol. 3, SWAPGS")
{
	uint64_t words[2] = {1, 2};

	wrmsr(MSR_GS_BASE, (uint64_t)&words[0]);
	wrmsr(MSR_KERNEL_GS_BASE, (uint64_t)&words[1]);
	check_eq(read_gs0(), 1);
	__asm__ volatile(".globl bare_fault_swapgs\nbare_fault_swapgs: swapgs" : : : "memory");
	check_eq(read_gs0(), 2);
	check_eq(rdmsr(MSR_GS_BASE), (uint64_t)&words[1]);
	check_eq(rdmsr(MSR_KERNEL_GS_BASE), (uint64_t)&words[0]);
	__asm__ volatile("swapgs" : : : "memory");
	check_eq(read_gs0(), 1);
}

BARE_CASE(segment_load_sets_base, "modes/segment_load_sets_base", "AMD APM vol. 2, 4.5.3")
{
	/* A base of 32 bits: the rest of the hidden register becomes 0. */
	bare_gdt[SEL_SPARE / 8] = 0x80cf93000000ffff | UINT64_C(0x123456) << 16;
	wrmsr(MSR_FS_BASE, UINT64_C(0xffff900012345678));
	wrmsr(MSR_GS_BASE, UINT64_C(0xffff900012345678));
	wrmsr(MSR_KERNEL_GS_BASE, 0x5555);
	__asm__ volatile("mov %0, %%fs; mov %0, %%gs" : : "r"(SEL_SPARE));
	check_eq(rdmsr(MSR_FS_BASE), 0x80123456);
	check_eq(rdmsr(MSR_GS_BASE), 0x80123456);
	check_eq(rdmsr(MSR_KERNEL_GS_BASE), 0x5555);
}

BARE_CASE(fsgsbase, "modes/fsgsbase", "AMD APM vol. 3, RDFSBASE, WRFSBASE")
{
	uint64_t value, wide = UINT64_C(0xffff900012345678);

	if ((cpuid(7, 0).ebx & LEAF7_FSGSBASE) == 0) {
		bare_skip("the CPU has no FSGSBASE");
	}
	write_cr4(read_cr4() | CR4_FSGSBASE);
	__asm__ volatile("wrfsbase %1; rdfsbase %0" : "=r"(value) : "r"(wide));
	check_eq(value, wide);
	check_eq(rdmsr(MSR_FS_BASE), wide);
	__asm__ volatile("rdfsbase %k0" : "=r"(value) : "0"(~UINT64_C(0)));
	check_eq(value, 0x12345678);
	__asm__ volatile("wrgsbase %k1; rdgsbase %0" : "=r"(value) : "r"(wide));
	check_eq(value, 0x12345678);
}

static void do_rdfsbase(void *unused)
{
	(void)unused;
	__asm__ volatile("rdfsbase %%rax" : : : "rax");
}

BARE_CASE(fsgsbase_off, "modes/fsgsbase_off", "AMD APM vol. 3, RDFSBASE")
{
	struct bare_trap trap;

	write_cr4(read_cr4() & ~CR4_FSGSBASE);
	bare_try(&trap, do_rdfsbase, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_UD);
}

/* DS's base and limit are nothing in 64-bit mode; nor is a null selector. */
BARE_CASE(data_segments_ignored, "modes/data_segments_ignored", "AMD APM vol. 2, 4.5.3, 4.8.2")
{
	volatile uint64_t word = 0x1122;
	uint64_t value;

	bare_gdt[SEL_SPARE / 8] = 0x0040910123450001; /* read-only, base 0x012345, limit 1 */
	__asm__ volatile("mov %1, %%ds; mov %2, %0; movq $3, %2; mov %3, %%ds; incq %2"
			 : "=&r"(value)
			 : "r"(SEL_SPARE), "m"(word), "r"(0)
			 : "memory");
	check_eq(value, 0x1122);
	check_eq(word, 4);
	__asm__ volatile("mov %0, %%ds" : : "r"(SEL_DATA));
}

/* ---- stacks of exceptions ---- */

static struct bare_frame frame_seen;
static uint64_t frame_at;

static void see_frame(struct bare_frame *frame)
{
	frame_seen = *frame;
	frame_at = (uint64_t)(frame + 1);
}

BARE_CASE(stack_is_aligned, "modes/stack_is_aligned", "AMD APM vol. 2, 8.9.3")
{
	bare_on(VECTOR_BP, see_frame);
	for (uint64_t off = 0; off < 16; off++) {
		uint64_t rsp;

		__asm__ volatile("mov %%rsp, %%rbx\n"
				 "sub $256, %%rsp\n"
				 "and $-16, %%rsp\n"
				 "sub %1, %%rsp\n"
				 "mov %%rsp, %0\n"
				 "int3\n"
				 "mov %%rbx, %%rsp"
				 : "=&r"(rsp)
				 : "r"(off)
				 : "rbx", "memory");
		check_eq(frame_seen.rsp, rsp);
		check_eq(frame_seen.ss, SEL_DATA);
		check_eq(frame_at, rsp & ~UINT64_C(15));
	}
}

BARE_CASE(interrupt_stack_table, "modes/interrupt_stack_table", "AMD APM vol. 2, 8.9.4")
{
	struct bare_cpu *cpu = bare_cpu();
	uint64_t stack = (uint64_t)cpu + 0x3000;

	bare_on(VECTOR_BP, see_frame);
	for (uint8_t ist = 1; ist <= 7; ist++) {
		cpu->tss.ist[ist - 1] = stack + 0x100 * ist;
		bare_idt[VECTOR_BP].ist = ist;
		__asm__ volatile("int3" : : : "memory");
		check_eq(frame_at, stack + 0x100 * ist);
	}
}

USER_SNIPPET(user_int3, "mov %rsp, %rax; int3");

BARE_CASE(user_to_rsp0, "modes/user_to_rsp0", "AMD APM vol. 2, 8.9.3")
{
	struct bare_trap trap;
	uint64_t rsp;

	bare_idt[VECTOR_BP].type = 0xee;
	bare_on(VECTOR_BP, see_frame);
	rsp = snippet_in_user(&trap, user_int3, 0);
	check(!trap.happened);
	check_eq(frame_seen.rsp, rsp);
	check_eq(frame_seen.ss, SEL_USER_DATA);
	check_eq(frame_seen.cs, SEL_USER_CODE64);
	check_eq(frame_at & 15, 0);
	check_eq(frame_at >> 15, (uint64_t)bare_cpu() >> 15);
}

BARE_CASE(gate_of_dpl_0, "modes/gate_of_dpl_0", "AMD APM vol. 2, 8.9.2; 8.2.14")
{
	struct bare_trap trap;

	/* A gate of DPL 0 is not for INT n of CPL 3. */
	bare_idt[VECTOR_BP].type = 0x8e;
	snippet_in_user(&trap, user_int3, 0);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	if (trap.error == VECTOR_BP * 16 + 2) {
		bare_excuse("QEMU's TCG makes error codes for the IDT of 16 * vector");
	}
	check_eq(trap.error, VECTOR_BP * 8 + 2);
}

static void see_flags(struct bare_frame *frame)
{
	(void)frame;
	frame_at = read_rflags();
}

BARE_CASE(gate_types, "modes/gate_types", "AMD APM vol. 2, 8.9.2")
{
	bare_on(VECTOR_BP, see_flags);
	cpu_sti();
	bare_idt[VECTOR_BP].type = 0x8f;
	__asm__ volatile("int3" : : : "memory");
	check_eq(frame_at & RFLAGS_IF, RFLAGS_IF);
	bare_idt[VECTOR_BP].type = 0x8e;
	__asm__ volatile("int3" : : : "memory");
	check_eq(frame_at & RFLAGS_IF, 0);
	check_eq(read_rflags() & RFLAGS_IF, RFLAGS_IF);
	cpu_cli();
}

/* ---- IRET ---- */

SNIPPET(iret_with_nt, "mov %ss, %eax; push %rax; push %rsp; pushfq; orl $0x4000, (%rsp);"
		      "popfq; pushfq; mov %cs, %eax; push %rax; lea 1f(%rip), %rax; push %rax;"
		      "iret_nt_at: iretq; 1: add $16, %rsp");
LABEL(iret_nt_at);

BARE_CASE(iret_nested_task, "modes/iret_nested_task", "AMD APM vol. 3, IRET")
{
	struct bare_trap trap;

	bare_try(&trap, iret_with_nt, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_GP);
	check_eq(trap.error, 0);
	check_eq(trap.rip, iret_nt_at);
}

/* Same CPL: 64-bit mode pops SS:RSP all the same. IRETD and IRETW do with less of each. */
BARE_CASE(iret_widths, "modes/iret_widths", "AMD APM vol. 3, IRET; vol. 2, 8.9.3")
{
	uint64_t rsp, want;

	__asm__ volatile("mov %%rsp, %%rbx\n"
			 "lea -512(%%rsp), %%rcx\n"
			 "mov %%ss, %%eax\n"
			 "push %%rax\n"
			 "push %%rcx\n"
			 "pushfq\n"
			 "mov %%cs, %%eax\n"
			 "push %%rax\n"
			 "lea 1f(%%rip), %%rax\n"
			 "push %%rax\n"
			 "iretq\n"
			 "1: mov %%rsp, %0\n"
			 "mov %%rcx, %1\n"
			 "mov %%rbx, %%rsp"
			 : "=r"(rsp), "=r"(want)
			 :
			 : "rax", "rbx", "rcx", "memory");
	check_eq(rsp, want);
	__asm__ volatile("mov %%rsp, %%rbx\n"
			 "lea -512(%%rsp), %%rcx\n"
			 "sub $20, %%rsp\n"
			 "lea 1f(%%rip), %%rax\n"
			 "mov %%eax, (%%rsp)\n"
			 "mov %%cs, 4(%%rsp)\n"
			 "movl $2, 8(%%rsp)\n"
			 "mov %%ecx, 12(%%rsp)\n"
			 "mov %%ss, 16(%%rsp)\n"
			 "iretl\n"
			 "1: mov %%rsp, %0\n"
			 "mov %%rcx, %1\n"
			 "mov %%rbx, %%rsp"
			 : "=r"(rsp), "=r"(want)
			 :
			 : "rax", "rbx", "rcx", "memory");
	check_eq(rsp, want);
}

/* ---- ports of CPL 3 ---- */

USER_SNIPPET(user_out8, "mov %edi, %edx; outb %al, %dx");
USER_SNIPPET(user_out16, "mov %edi, %edx; outw %ax, %dx");
USER_SNIPPET(user_out32, "mov %edi, %edx; outl %eax, %dx");
USER_SNIPPET(user_cli, "cli; sti");

static bool refused(uint64_t (*function)(uint64_t), uint64_t port)
{
	struct bare_trap trap;

	snippet_in_user(&trap, function, port);
	if (trap.happened) {
		check_eq(trap.vector, VECTOR_GP);
		check_eq(trap.error, 0);
	}
	return trap.happened;
}

BARE_CASE(port_bitmap, "modes/port_bitmap", "AMD APM vol. 1, 8.4.1; vol. 2, 12.2.4")
{
	uint8_t *ports = bare_cpu()->tss.ports;

	check(!refused(user_out8, 0x80));
	ports[0x80 / 8] = 1 << 0;
	check(refused(user_out8, 0x80));
	check(!refused(user_out8, 0x81));
	/* Wider accesses ask for each of their ports, across bytes of the map, too. */
	ports[0x80 / 8] = 0;
	ports[0x88 / 8] = 1 << 0;
	check(!refused(user_out16, 0x86));
	check(refused(user_out16, 0x87));
	check(refused(user_out32, 0x85));
	check(!refused(user_out32, 0x84));
	/* Beyond the TSS's limit no port is free. */
	check(refused(user_out8, 0x200));
	check(refused(user_out8, 0xffff));
}

static void raise_iopl(struct bare_frame *frame)
{
	frame->rflags |= RFLAGS_IOPL;
}

USER_SNIPPET(user_iopl3, "int3; mov %edi, %edx; outb %al, %dx; cli; pushfq; pop %rax");

BARE_CASE(iopl, "modes/iopl", "AMD APM vol. 2, 3.1.6, IOPL")
{
	struct bare_trap trap;
	uint64_t rflags;

	check(refused(user_cli, 0));
	bare_idt[VECTOR_BP].type = 0xee;
	bare_on(VECTOR_BP, raise_iopl);
	bare_cpu()->tss.ports[0x80 / 8] = 0xff;
	rflags = snippet_in_user(&trap, user_iopl3, 0x80);
	check(!trap.happened);
	check_eq(rflags & (RFLAGS_IOPL | RFLAGS_IF), RFLAGS_IOPL);
}
