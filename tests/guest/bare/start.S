/*
 * The way of a bare payload from its entry to C in 64-bit mode, for the first CPU and for the
 * others; the entries of exceptions and interrupts; and the way down to real mode and back.
 *
 *	0x5000	code for real mode, copied there: start of the other CPUs, the way down and back
 *	0x7000	stack of real mode and of bare_run32(), growing down
 *	0x8000	what bare_run16/32() runs; 0x9000: its data
 */
#include "tests/guest/bare/layout.h"

/* The registers that a called function keeps (System V ABI). */
	.macro push_kept
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	.endm
	.macro pop_kept
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	.endm

	.section .note.pvh, "a", @note
	.long 4, 8, 18		/* XEN_ELFNOTE_PHYS32_ENTRY; QEMU reads as many bytes as the ELF class has */
	.asciz "Xen"
	.quad bare_pvh_entry

/* ---- CPU 0: 32-bit protected mode, flat, no paging; ebx: struct hvm_start_info ---- */

	.text
	.code32
	.globl bare_pvh_entry
bare_pvh_entry:
	cli
	cld
	mov %ebx, bare_start_info
	lgdt gdt_pointer
	ljmp $SEL_CODE32, $1f
1:	mov $bare_stacks + STACK_BYTES, %esp
	call load_data_segments

	/* The first 4 GiB to themselves, and RAM again for CPL 3. */
	mov $bare_pd, %edi
	mov $0x83, %eax			/* P, W, PS */
	mov $2048, %ecx
2:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 2b
	mov $bare_user_pd, %edi
	mov $0x87, %eax			/* P, W, U, PS */
	mov $32, %ecx
3:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 3b
	movl $bare_pd + 0x0007, bare_pdpt
	movl $bare_pd + 0x1007, bare_pdpt + 8
	movl $bare_pd + 0x2007, bare_pdpt + 16
	movl $bare_pd + 0x3007, bare_pdpt + 24
	movl $bare_user_pd + 7, bare_user_pdpt
	movl $bare_pdpt + 7, bare_pml4
	movl $bare_user_pdpt + 7, bare_pml4 + 8
	call enter_long_mode
	.code64
	call bare_main
	ud2

	.code32
load_data_segments:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	ret

/* Returns in 64-bit mode, by popping the 32-bit return address of its caller. */
enter_long_mode:
	mov $CR4_AT_START, %eax
	mov %eax, %cr4
	mov $bare_pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	mov $EFER_AT_START, %eax
	xor %edx, %edx
	wrmsr
	mov $CR0_AT_START, %eax
	mov %eax, %cr0
	ljmp $SEL_CODE64, $1f
	.code64
1:	fninit
	movl $0x1f80, -8(%rsp)
	ldmxcsr -8(%rsp)
	mov (%rsp), %eax
	add $4, %rsp
	jmp *%rax

/* ---- the other CPUs: SIPI vector 5 ---- */

	.section .rodata
	.globl bare_low, bare_low_end
bare_low:
	.code16
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl LOW(low_gdt_pointer)
	mov $0x11, %eax			/* PE, ET; and out of INIT's CD and NW */
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $ap_entry

	.balign 8
low_gdt_pointer:
	.word GDT_LIMIT
	.long bare_gdt
low_ivt_pointer:
	.word 0x3ff
	.long 0

low_to_real:				/* here with a 16-bit code segment, protected mode */
	mov $SEL_DATA16, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %ax, %fs
	mov %ax, %gs
	mov $0x10, %eax
	mov %eax, %cr0
	ljmp $0, $LOW(low_real)
low_real:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %ax, %fs
	mov %ax, %gs
	mov $LOW_STACK, %sp
	lidtl LOW(low_ivt_pointer)
	mov $LOW_DATA, %bx
	lcall $0, $LOW_CODE
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl LOW(low_gdt_pointer)
	mov $0x11, %eax
	mov %eax, %cr0
	ljmpl $SEL_CODE32, $back32
bare_low_end:

	.text
	.code32
ap_entry:
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov bare_ap_stack, %esp
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	call enter_long_mode
	.code64
	mov bare_ap_cr4, %rax
	mov %rax, %cr4
	mov bare_ap_cr3, %rax
	mov %rax, %cr3
	call bare_ap_main
	ud2

/* ---- down to protected mode without paging, or real mode, and back ---- */

	.globl bare_switch_down
bare_switch_down:			/* edi: 16 or 32 */
	push_kept
	pushfq
	sub $32, %rsp
	sidt (%rsp)
	sgdt 16(%rsp)
	cli
	mov %cr0, %rax
	mov %rax, saved_cr0
	mov %cr3, %rax
	mov %rax, saved_cr3
	mov %cr4, %rax
	mov %rax, saved_cr4
	mov $MSR_EFER, %ecx
	rdmsr
	mov %eax, saved_efer
	mov %rsp, saved_rsp
	mov %edi, %esi
	pushq $SEL_CODE32
	pushq $1f
	lretq
	.code32
1:	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $LOW_STACK, %esp
	mov saved_cr4, %eax
	and $~CR4_PCIDE, %eax		/* before paging goes, or the CPU refuses */
	mov %eax, %cr4
	mov %cr0, %eax
	and $~CR0_PG, %eax
	mov %eax, %cr0
	mov $MSR_EFER, %ecx
	rdmsr
	and $~EFER_LME, %eax
	wrmsr
	mov $CR4_LOW, %eax
	mov %eax, %cr4
	cmp $32, %esi
	je 2f
	ljmp $SEL_CODE16, $LOW(low_to_real)
2:	mov $LOW_DATA, %ebx
	mov $LOW_CODE, %eax
	call *%eax
	cli
back32:
	mov $LOW_STACK, %esp
	call load_data_segments		/* what real mode left ends at 64 KiB */
	lgdt gdt_pointer
	mov saved_cr4, %eax
	and $~CR4_PCIDE, %eax
	mov %eax, %cr4
	mov saved_cr3, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	mov saved_efer, %eax
	xor %edx, %edx
	wrmsr
	mov saved_cr0, %eax
	mov %eax, %cr0
	ljmp $SEL_CODE64, $3f
	.code64
3:	mov saved_rsp, %rsp
	mov saved_cr4, %rax
	mov %rax, %cr4
	lidt (%rsp)
	lgdt 16(%rsp)
	add $32, %rsp
	popfq
	pop_kept
	ret

/* ---- exceptions and interrupts ---- */

	.globl bare_entries
	.balign 16
bare_entries:				/* 256 of 16 bytes each */
	vector = 0
	.rept 256
	.balign 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
	.else
	pushq $0
	.endif
	pushq $vector
	jmp common
	vector = vector + 1
	.endr

common:
	push %rax
	push %rbx
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %rbp
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	mov %rsp, %rbp
	and $~15, %rsp
	call bare_trapped
	mov %rbp, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rbp
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rbx
	pop %rax
	add $16, %rsp
	iretq

/* void bare_guarded(void (*function)(void *), void *argument, uint64_t *rsp) */
	.globl bare_guarded, bare_guarded_end
bare_guarded:
	push_kept
	sub $8, %rsp
	mov %rsp, (%rdx)
	mov %rdi, %rax
	mov %rsi, %rdi
	call *%rax
bare_guarded_end:			/* an exception comes back to here, with that RSP */
	cld
	add $8, %rsp
	pop_kept
	ret

/* uint64_t bare_user_call(function, argument, uint64_t user_rsp, uint64_t *rsp) */
	.globl bare_user_call, bare_user_returned
bare_user_call:
	push_kept
	sub $8, %rsp
	mov %rsp, (%rcx)
	mov %rdi, %rax
	mov %rsi, %rdi
	pushq $SEL_USER_DATA
	push %rdx
	pushq $2
	pushq $SEL_USER_CODE64
	push %rax
	iretq
bare_user_returned:			/* from the gate that CPL 3 may use: rax is the result */
	add $8, %rsp
	pop_kept
	ret

	.globl bare_user_exit
bare_user_exit:				/* where a function at CPL 3 returns to */
	int $BARE_USER_VECTOR
	ud2

	.section .rodata
	.balign 8
	.word 0
gdt_pointer:
	.word GDT_LIMIT
	.long bare_gdt
	.long 0

	.bss
	.balign 4096
	.globl bare_stacks, bare_pml4
bare_pml4:	.skip 4096
bare_pdpt:	.skip 4096
bare_user_pdpt:	.skip 4096
bare_user_pd:	.skip 4096
bare_pd:	.skip 4 * 4096
	.balign STACK_BYTES
bare_stacks:	.skip STACK_BYTES * BARE_CPUS_MAX
saved_cr0:	.skip 8
saved_cr3:	.skip 8
saved_cr4:	.skip 8
saved_efer:	.skip 8
saved_rsp:	.skip 8

	.section .note.GNU-stack, "", @progbits
