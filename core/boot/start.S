/*
 * The first instructions: from 32-bit protected mode without paging, where both PVH and Multiboot2
 * leave the CPU, to 64-bit mode at the kernel's addresses. The page tables made here have the first
 * 4 GiB of physical memory twice, at 0 and in the direct map, and the image at -2 GiB; paging.c
 * replaces them soon.
 *
 * Spec: Xen docs/misc/pvh.pandoc; Multiboot2 Specification 2.0, 3.1 "OS image format", 3.3
 * "I386 machine state"
 */

#define KERNEL_BASE 0xffffffff80000000
#define PHYS(x)	    ((x) - KERNEL_BASE)

#define MULTIBOOT2_HEADER 0xe85250d6
#define MULTIBOOT2_MAGIC  0x36d76289

#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define CR0_BOOT 0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4_BOOT 0x620	    /* PAE, OSFXSR, OSXMMEXCPT */
#define EFER	 0xc0000080
#define EFER_LME 0x100
#define GS_BASE	 0xc0000101
#define PTE_BOOT 0x3 /* P, RW */
#define PTE_PS	 0x80

	.section .head, "ax"
	.balign 8
header:
	.long	MULTIBOOT2_HEADER
	.long	0			/* i386, protected mode */
	.long	header_end - header
	.long	-(MULTIBOOT2_HEADER + (header_end - header))
	.balign 8
	.short	6, 0			/* modules on page boundaries */
	.long	8
	.balign 8
	.short	0, 0
	.long	8
header_end:

	.code32
	.globl	start_pvh
start_pvh:
	xorl	%ebp, %ebp
	jmp	1f
	.globl	start_multiboot2
start_multiboot2:
	movl	%eax, %ebp		/* the magic */
1:
	cli
	cld
	movl	$PHYS(boot_stack_end), %esp

	/* Can it do 64-bit mode? Older than CPUID: cannot. */
	pushfl
	popl	%eax
	movl	%eax, %ecx
	xorl	$0x200000, %eax		/* ID */
	pushl	%eax
	popfl
	pushfl
	popl	%eax
	cmpl	%ecx, %eax
	je	no_long_mode
	movl	$0x80000000, %eax
	pushl	%ebx
	cpuid
	popl	%ebx
	cmpl	$0x80000001, %eax
	jb	no_long_mode
	movl	$0x80000001, %eax
	pushl	%ebx
	cpuid
	popl	%ebx
	testl	$(1 << 29), %edx	/* LM */
	jz	no_long_mode

	/* Four page directories, 2 MiB an entry: the first 4 GiB. */
	movl	$PHYS(boot_pd), %edi
	movl	$(PTE_BOOT | PTE_PS), %eax
	movl	$2048, %ecx
2:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	2b
	movl	$PHYS(boot_pdpt), %edi
	movl	$(PHYS(boot_pd) + PTE_BOOT), %eax
	movl	%eax, 8 * 510 + PHYS(boot_pdpt_image)
	movl	$4, %ecx
3:	movl	%eax, (%edi)
	addl	$0x1000, %eax
	addl	$8, %edi
	loop	3b
	movl	$(PHYS(boot_pdpt) + PTE_BOOT), %eax
	movl	%eax, PHYS(boot_pml4)
	movl	%eax, 8 * 256 + PHYS(boot_pml4)
	movl	$(PHYS(boot_pdpt_image) + PTE_BOOT), %eax
	movl	%eax, 8 * 511 + PHYS(boot_pml4)

	movl	$CR4_BOOT, %eax
	movl	%eax, %cr4
	movl	$PHYS(boot_pml4), %eax
	movl	%eax, %cr3
	movl	$EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	$CR0_BOOT, %eax
	movl	%eax, %cr0
	lgdt	PHYS(boot_gdt_pointer)
	ljmp	$8, $PHYS(start_64)

	/* Says so on COM1, as good as one can, and halts. */
no_long_mode:
	movl	$PHYS(no_long_mode_text), %esi
4:	movw	$0x3fd, %dx
	movl	$100000, %ecx
5:	inb	%dx, %al
	testb	$0x20, %al
	loopz	5b
	movw	$0x3f8, %dx
	lodsb
	testb	%al, %al
	jz	6f
	outb	%al, %dx
	jmp	4b
6:	hlt
	jmp	6b

	.code64
start_64:
	movq	$start_high, %rax
	jmpq	*%rax
start_high:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	/* The compiler's stack canary is in struct cpu, so that comes first. */
	movl	$GS_BASE, %ecx
	movq	$cpu_boot, %rax
	movq	%rax, (%rax)		/* struct cpu, self */
	movq	%rax, %rdx
	shrq	$32, %rdx
	wrmsr
	movq	$boot_stack_end, %rsp
	movl	%ebp, %edi
	movl	%ebx, %esi
	xorl	%ebp, %ebp		/* where backtraces end */
	call	boot_start
	ud2

	.section .rodata
no_long_mode_text:
	.asciz	"core: this machine's CPU has no 64-bit mode.\r\n"
	.balign 8
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* code, 64-bit */
boot_gdt_pointer:
	.short	boot_gdt_pointer - boot_gdt - 1
	.long	PHYS(boot_gdt)

	.section .note.pvh, "a", @note
	.balign 4
	.long	4, 8, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz	"Xen"
	.quad	PHYS(start_pvh)

	.bss
	.balign 4096
	.globl	boot_pml4
boot_pml4:
	.skip	4096
boot_pdpt:
	.skip	4096
boot_pdpt_image:
	.skip	4096
boot_pd:
	.skip	4 * 4096
	.globl	boot_stack
boot_stack:
	.skip	16384
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
