/* The functions that compilers call by themselves, for loops that look like them, too: in C they
 * would call themselves. By eights: on every CPU at least as fast as by bytes, on most much faster.
 * Spec: C17, 7.24; System V ABI, AMD64 supplement, 3.2 */

	.text

	.globl	memcpy
	.type	memcpy, @function
memcpy:
	movq	%rdi, %rax
	movq	%rdx, %rcx
	shrq	$3, %rcx
	rep	movsq
	movl	%edx, %ecx
	andl	$7, %ecx
	rep	movsb
	ret
	.size	memcpy, . - memcpy

	.globl	memmove
	.type	memmove, @function
memmove:
	movq	%rdi, %rax
	subq	%rsi, %rax
	cmpq	%rdx, %rax		/* unsigned: is the target behind the source, and in it? */
	jae	memcpy
	leaq	-1(%rsi,%rdx), %rsi
	movq	%rdi, %rax
	leaq	-1(%rdi,%rdx), %rdi
	movq	%rdx, %rcx
	std
	rep	movsb
	cld
	ret
	.size	memmove, . - memmove

	.globl	memset
	.type	memset, @function
memset:
	movq	%rdi, %r8
	movzbl	%sil, %eax
	movabsq	$0x0101010101010101, %rcx
	imulq	%rcx, %rax
	movq	%rdx, %rcx
	shrq	$3, %rcx
	rep	stosq
	movl	%edx, %ecx
	andl	$7, %ecx
	rep	stosb
	movq	%r8, %rax
	ret
	.size	memset, . - memset

	.globl	memcmp
	.type	memcmp, @function
memcmp:
	xchgq	%rdi, %rsi
	movq	%rdx, %rcx
	xorl	%eax, %eax		/* equal if there is nothing to compare */
	xorl	%edx, %edx
	repe	cmpsb			/* the first argument's byte less the second's */
	je	1f
	movzbl	-1(%rsi), %eax
	movzbl	-1(%rdi), %edx
	subl	%edx, %eax
1:	ret
	.size	memcmp, . - memcmp

	.globl	strlen
	.type	strlen, @function
strlen:
	movq	$-1, %rax
1:	incq	%rax
	cmpb	$0, (%rdi,%rax)
	jne	1b
	ret
	.size	strlen, . - strlen

	.section .note.GNU-stack, "", @progbits
