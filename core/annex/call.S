/* The way in and out. Spec: System V ABI, AMD64 supplement, A.2.1 "Calling Conventions" */

	.section .text.start, "ax"
	.globl	annex_start		/* RDI: struct annex_page */
	.type	annex_start, @function
annex_start:
	call	annex_main
	ud2
	.size	annex_start, . - annex_start

	.text
	/* uint64_t annex_call(enum annex_call number, uint64_t, uint64_t, uint64_t) */
	.globl	annex_call
	.type	annex_call, @function
annex_call:
	movl	%edi, %eax
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	movq	%rcx, %rdx
	syscall
	ret
	.size	annex_call, . - annex_call

	.section .note.GNU-stack, "", @progbits
