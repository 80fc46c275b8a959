/*
 * How other CPUs start: in real mode, at the beginning of a page below 1 MiB, where smp.c copies
 * this. It goes to 64-bit mode by the tables of start.S, and on to smp_cpu_start().
 *
 * Spec: Intel SDM vol. 3A, "Multiple-Processor (MP) Initialization"; AMD APM vol. 2, 14.7 "Enabling
 * and Activating Long Mode"
 */

#define KERNEL_BASE 0xffffffff80000000
#define PHYS(x)	    ((x) - KERNEL_BASE)
#define EFER	    0xc0000080
#define EFER_BOOT   0x900      /* NXE, LME */
#define CR0_BOOT    0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4_BOOT    0x620      /* PAE, OSFXSR, OSXMMEXCPT */
#define GS_BASE	    0xc0000101

	.section .rodata
	.balign 16
	.globl	trampoline, trampoline_end, trampoline_gdt_base, trampoline_jump
	.code16
trampoline:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	trampoline_gdt_pointer - trampoline
	movl	$CR4_BOOT, %eax
	movl	%eax, %cr4
	movl	$PHYS(boot_pml4), %eax
	movl	%eax, %cr3
	movl	$EFER, %ecx
	rdmsr
	orl	$EFER_BOOT, %eax
	wrmsr
	movl	$CR0_BOOT, %eax
	movl	%eax, %cr0
	ljmpl	*(trampoline_jump - trampoline)
	.code64
trampoline_64:
	movq	$smp_high, %rax
	jmpq	*%rax
	.balign 8
trampoline_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* code, 64-bit */
trampoline_gdt_pointer:
	.short	15
trampoline_gdt_base:
	.long	trampoline_gdt - trampoline	/* the copy's address is added */
	.balign 4
trampoline_jump:
	.long	trampoline_64 - trampoline	/* likewise */
	.short	8
trampoline_end:

	.text
smp_high:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	/* Whoever comes too late, or twice, finds nothing and stays here. */
	xorl	%edi, %edi
	xchgq	%rdi, smp_next
	testq	%rdi, %rdi
	jz	2f
	movq	(%rdi), %rax		/* struct smp_start: root, stack, cpu */
	movq	%rax, %cr3
	movq	8(%rdi), %rsp
	movl	$GS_BASE, %ecx
	movq	16(%rdi), %rax
	movq	%rax, %rdx
	shrq	$32, %rdx
	wrmsr
	xorl	%ebp, %ebp
	call	smp_cpu_start
2:	cli
	hlt
	jmp	2b

	.section .note.GNU-stack, "", @progbits
