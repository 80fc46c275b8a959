/*
 * Switching of kernel stacks. Spec: System V ABI, AMD64 supplement, 3.2.1 "Registers"
 */

	.text
	.globl	context_switch
	.type	context_switch, @function
context_switch:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	(%rsi), %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	context_switch, . - context_switch

	/* The first instructions of a thread; see context_init(). */
	.globl	context_begin
	.type	context_begin, @function
context_begin:
	movq	%r12, %rdi
	call	*%rbx
	ud2
	.size	context_begin, . - context_begin

	/* context_call_aligned(fn, arg): calls fn(arg) with the stack aligned to 16. */
	.globl	context_call_aligned
	.type	context_call_aligned, @function
context_call_aligned:
	pushq	%rbp
	movq	%rsp, %rbp
	andq	$-16, %rsp
	movq	%rdi, %rax
	movq	%rsi, %rdi
	call	*%rax
	leave
	ret
	.size	context_call_aligned, . - context_call_aligned

	.section .note.GNU-stack, "", @progbits
