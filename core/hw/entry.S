/*
 * The doors. Whatever way one comes in, the stack then has a struct user_frame (entry.h) at its
 * end, and GS is the kernel's.
 *
 * Spec: AMD APM vol. 2, 6.1 "Fast System Call and Return", 8.9 "Long-Mode Interrupt Control
 * Transfers"; vol. 3, "SYSCALL", "SYSRET", "SWAPGS"
 */

#define CPU_USER_RSP   8
#define CPU_KERNEL_RSP 16
#define CPU_WORK       24
#define CPU_SYSCALL    32
#define USER_CS	       0x23
#define USER_DS	       0x1b
#define KERNEL_DS      0x10
#define KERNEL_CS      0x08
#define GS_BASE	       0xc0000101
#define ENOSYS	       38

/* Offsets in struct user_frame. */
#define RBP	 32
#define R11	 48
#define RCX	 56
#define ORIG_RAX 120
#define RIP	 128
#define CS	 136
#define RFLAGS	 144
#define RSP	 152
#define SS	 160

/* RF and TF: SYSRET has its own mind about them. */
#define RFLAGS_SLOW 0x10100

#define USER_RFLAGS   0x250dd5	/* USER_RFLAGS_MASK of entry.h */
#define RFLAGS_ALWAYS 0x202	/* IF, and the bit that is always set */

	/* All but R9, which is on the stack already. */
	.macro	push_registers
	pushq	%r8
	pushq	%r10
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%rax
	pushq	%rcx
	pushq	%r11
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	.endm

	/* What C does not keep, but for RCX and R11. */
	.macro	pop_unsaved
	popq	%rax
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%r10
	popq	%r8
	popq	%r9
	.endm

	.macro	pop_registers
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	popq	%r11
	popq	%rcx
	pop_unsaved
	.endm

	/* Ring 3, or what was interrupted in user.S, may have set AC. */
	.macro	close_user
	testb	$1, user_has_smap
	jz	9f
	clac
9:
	.endm

	.text

	/* Interrupts are off here: SFMASK. */
	.globl	entry_syscall
	.type	entry_syscall, @function
	.balign 16
entry_syscall:
	swapgs
	movq	%rsp, %gs:CPU_USER_RSP
	movq	%gs:CPU_KERNEL_RSP, %rsp
	pushq	$USER_DS
	pushq	%gs:CPU_USER_RSP
	pushq	%r11
	pushq	$USER_CS
	pushq	%rcx
	pushq	%rax			/* orig_rax */
	pushq	%r9
	pushq	%r8
	pushq	%r10
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	$-ENOSYS		/* rax, until told otherwise */
	pushq	%rcx
	pushq	%r11
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	xorl	%ebp, %ebp		/* where backtraces end */
	movq	%rsp, %rdi
	sti
	call	*%gs:CPU_SYSCALL
	cli
	cmpq	$0, %gs:CPU_WORK
	jne	leave_with_work
	testb	%al, %al
	jz	leave_by_sysret
	/* Only RAX is new in the frame, and C has kept what it keeps: no need to look at the rest. */
	movq	R11(%rsp), %r11
	testl	$RFLAGS_SLOW, %r11d
	jnz	leave_by_sysret
	movq	RBP(%rsp), %rbp
	addq	$RCX, %rsp
	popq	%rcx
	pop_unsaved
	movq	32(%rsp), %rsp		/* behind orig_rax, rip, cs and rflags */
	swapgs
	sysretq

	/* SYSRET, if that loads what the frame says. Otherwise IRET. */
leave_by_sysret:
	movq	RIP(%rsp), %rcx
	movq	RFLAGS(%rsp), %r11
	cmpq	%rcx, RCX(%rsp)
	jne	leave_by_iret
	cmpq	%r11, R11(%rsp)
	jne	leave_by_iret
	movq	%rcx, %rax
	shrq	$47, %rax		/* a RIP that is not ring 3's */
	jnz	leave_by_iret
	testl	$RFLAGS_SLOW, %r11d
	jnz	leave_by_iret
	cmpq	$USER_CS, CS(%rsp)
	jne	leave_by_iret
	cmpq	$USER_DS, SS(%rsp)
	jne	leave_by_iret
	pop_registers
	movq	32(%rsp), %rsp		/* behind orig_rax, rip, cs and rflags */
	swapgs
	sysretq
	.size	entry_syscall, . - entry_syscall

	/* There are no 32-bit programs. */
	.globl	entry_syscall32
	.type	entry_syscall32, @function
entry_syscall32:
	movl	$-ENOSYS, %eax
	sysretl
	.size	entry_syscall32, . - entry_syscall32

	/* Interrupts are off. */
	.globl	entry_leave
	.type	entry_leave, @function
entry_leave:
	cmpq	$0, %gs:CPU_WORK
	jne	leave_with_work
	/* Whatever somebody wrote into the frame, IRET must not fault in the kernel. */
leave_by_iret:
	movq	$USER_CS, CS(%rsp)
	movq	$USER_DS, SS(%rsp)
	andq	$USER_RFLAGS, RFLAGS(%rsp)
	orq	$RFLAGS_ALWAYS, RFLAGS(%rsp)
	movq	RIP(%rsp), %rax
	shrq	$47, %rax
	jz	1f
	movq	$0, RIP(%rsp)		/* not ring 3's: it faults at 0 instead, where nothing is */
1:	pop_registers
	addq	$8, %rsp		/* orig_rax */
	swapgs
	iretq
leave_with_work:
	movq	%rsp, %rdi
	call	*entry_leave_fn
	cli
	cmpq	$0, %gs:CPU_WORK
	jne	leave_with_work
	jmp	leave_by_sysret
	.size	entry_leave, . - entry_leave

	.globl	entry_to_user
	.type	entry_to_user, @function
entry_to_user:
	cli
	movq	%gs:CPU_KERNEL_RSP, %rsp
	subq	$168, %rsp		/* sizeof(struct user_frame) */
	jmp	entry_leave
	.size	entry_to_user, . - entry_to_user

	/*
	 * unsigned entry_nested(uint64_t rip, uint64_t rsp, uint64_t rdi, uint64_t *sp, uint64_t *stack)
	 * The frame for ring 3 is below what the caller has on the stack, and 16-aligned at its end,
	 * as interrupts would have it.
	 */
	.globl	entry_nested
	.type	entry_nested, @function
entry_nested:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rcx)
	andq	$-16, %rsp
	movq	%rsp, (%r8)
	movq	%rdi, %rbx
	movq	%rsi, %r12
	movq	%rdx, %r13
	call	entry_nested_begin
	pushq	$USER_DS
	pushq	%r12
	pushq	$RFLAGS_ALWAYS
	pushq	$USER_CS
	pushq	%rbx
	pushq	$-1			/* orig_rax */
	.rept	5
	pushq	$0
	.endr
	pushq	%r13			/* rdi */
	.rept	9
	pushq	$0
	.endr
	jmp	entry_leave
	.size	entry_nested, . - entry_nested

	/* void entry_nested_end(uint64_t sp, unsigned result): entry_nested() returns. */
	.globl	entry_nested_end
	.type	entry_nested_end, @function
entry_nested_end:
	movq	%rdi, %rsp
	movl	%esi, %eax
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	entry_nested_end, . - entry_nested_end

	/*
	 * 256 gates, 16 bytes apart: an error code if the CPU has pushed none, and the vector.
	 */
	.globl	entry_gates
	.balign 16
entry_gates:
	.set	vector, 0
	.rept	256
	.balign 16
	.if	vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
	.else
	pushq	$0
	.endif
	pushq	$vector
	.if	vector == 1 || vector == 2 || vector == 8 || vector == 18
	jmp	any_time
	.else
	jmp	usual
	.endif
	.set	vector, vector + 1
	.endr

	.balign 16
usual:
	cld
	close_user
	testb	$3, 24(%rsp)		/* CS: vector, error code and RIP lie below it */
	jz	1f
	swapgs
1:	xchgq	%r9, (%rsp)		/* R9 is the vector */
	push_registers
	movq	ORIG_RAX(%rsp), %rdx	/* the error code */
	movq	$-1, ORIG_RAX(%rsp)
	movl	%r9d, %esi
	movq	%rsp, %rdi
	testb	$3, CS(%rsp)
	jnz	2f
	call	entry_interrupt		/* RBP stays: the backtrace goes on through the gate */
	pop_registers
	addq	$8, %rsp
	iretq
2:	xorl	%ebp, %ebp
	call	entry_interrupt
	jmp	entry_leave

	/*
	 * On a stack of its own (IST), and perhaps between an instruction that came from ring 3 and
	 * its SWAPGS. From ring 3 itself one goes on as usual, on the thread's stack.
	 */
any_time:
	cld
	close_user
	testb	$3, 24(%rsp)
	jz	1f
	swapgs
	xchgq	%r9, (%rsp)		/* the vector, kept in R9 */
	pushq	%r8
	movq	%rsp, %r8		/* r8 r9 error rip cs rflags rsp ss */
	movq	%gs:CPU_KERNEL_RSP, %rsp
	pushq	56(%r8)
	pushq	48(%r8)
	pushq	40(%r8)
	pushq	32(%r8)
	pushq	24(%r8)
	pushq	16(%r8)
	pushq	8(%r8)			/* R9 */
	movq	(%r8), %r8
	push_registers
	movq	ORIG_RAX(%rsp), %rdx
	movq	$-1, ORIG_RAX(%rsp)
	movl	%r9d, %esi
	movq	%rsp, %rdi
	xorl	%ebp, %ebp
	call	entry_interrupt
	jmp	entry_leave

1:	xchgq	%r9, (%rsp)
	push_registers
	movq	ORIG_RAX(%rsp), %rdx
	movq	$-1, ORIG_RAX(%rsp)
	movl	%r9d, %esi
	movq	%rdx, %r12
	/* The kernel's GS base is in the upper half. */
	movl	$GS_BASE, %ecx
	rdmsr
	movl	%edx, %ebx
	testl	%edx, %edx
	js	2f
	swapgs
2:	movq	%r12, %rdx
	movq	%rsp, %rdi
	xorl	%ebp, %ebp
	call	entry_interrupt
	testl	%ebx, %ebx
	js	3f
	swapgs
3:	pop_registers
	addq	$8, %rsp
	iretq

	.globl	entry_reload_segments
	.type	entry_reload_segments, @function
entry_reload_segments:
	movl	$KERNEL_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	xorl	%eax, %eax
	movl	%eax, %fs
	movl	%eax, %gs
	popq	%rax
	pushq	$KERNEL_CS
	pushq	%rax
	lretq
	.size	entry_reload_segments, . - entry_reload_segments

	.section .note.GNU-stack, "", @progbits
