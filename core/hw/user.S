/*
 * Instructions that touch ring 3's memory. Each has a row in .fixups: where it is, where to go on if
 * the address is bad, and whether a fault there may be served first (0) or not (1). AC is set only
 * between STAC and CLAC, and SMAP is on: anywhere else user addresses are out of reach. CPUs without
 * SMAP have NOPs there, see user_init().
 *
 * user.c has seen to it that the addresses are ring 3's.
 */

	.macro	fixup at, go_on, no_fault
	.pushsection .fixups, "a"
	.quad	\at, \go_on, \no_fault
	.popsection
	.endm

	.macro	open
	testb	$1, user_has_smap
	jz	9f
	stac
9:
	.endm

	.macro	close
	testb	$1, user_has_smap
	jz	9f
	clac
9:
	.endm

	.text

	/* Up to @left bytes by a string instruction; in RAX those that were not done. */
	.macro	bulk name, string, left, left32
	.globl	\name
	.type	\name, @function
\name:
	open
	xorl	%eax, %eax
	movq	\left, %rcx
	shrq	$3, %rcx
	andl	$7, \left32
1:	rep	\string\()q
	movl	\left32, %ecx
2:	rep	\string\()b
	close
	ret
	/* Once more by bytes, from where it stopped: up to the first bad one. */
3:	leaq	(\left,%rcx,8), %rcx
4:	rep	\string\()b
5:	movq	%rcx, %rax
	close
	ret
	.size	\name, . - \name
	fixup	1b, 3b, 0
	fixup	2b, 5b, 0
	fixup	4b, 5b, 0
	.endm

	/* size_t user_copy(void *to, const void *from, size_t len): bytes that were not copied */
	bulk	user_copy, movs, %rdx, %edx
	/* size_t user_zero(void *to, size_t len): bytes that were not cleared */
	bulk	user_zero, stos, %rsi, %esi

	/* int user_load32(const uint32_t *from, uint32_t *to), and without faults: 0 or -1 */
	.macro	load name, no_fault, register, store
	.globl	\name
	.type	\name, @function
\name:
	open
1:	mov	(%rdi), \register
	close
	mov	\register, (%rsi)
	xorl	%eax, %eax
	ret
2:	close
	movl	$-1, %eax
	ret
	.size	\name, . - \name
	fixup	1b, 2b, \no_fault
	.endm

	load	user_load32, 0, %edx
	load	user_load32_nofault, 1, %edx

	/* struct user_word user_load64(const uint64_t *from): in RAX and RDX */
	.globl	user_load64
	.type	user_load64, @function
user_load64:
	open
1:	movq	(%rdi), %rdx
	close
	xorl	%eax, %eax
	ret
2:	close
	movq	$-1, %rax
	ret
	.size	user_load64, . - user_load64
	fixup	1b, 2b, 0

	.macro	store name, register
	.globl	\name
	.type	\name, @function
\name:
	open
1:	mov	\register, (%rdi)
	close
	xorl	%eax, %eax
	ret
2:	close
	movl	$-1, %eax
	ret
	.size	\name, . - \name
	fixup	1b, 2b, 0
	.endm

	store	user_store32, %esi
	store	user_store64, %rsi

	/* int user_cas32(uint32_t *at, uint32_t expected, uint32_t value, uint32_t *old) */
	.globl	user_cas32
	.type	user_cas32, @function
user_cas32:
	movq	%rcx, %r8
	movl	%esi, %eax
	open
1:	lock cmpxchgl %edx, (%rdi)
	close
	movl	%eax, (%r8)
	xorl	%eax, %eax
	ret
2:	close
	movl	$-1, %eax
	ret
	.size	user_cas32, . - user_cas32
	fixup	1b, 2b, 1

	/* struct user_words user_recheck(const struct user_step *step, unsigned count, uint64_t at):
	 * zeros if a step differs */
	.macro	recheck n
	movq	16*\n(%rdi), %rax
	movq	16*\n+8(%rdi), %rcx
1:	cmpq	(%rax), %rcx
	jne	5f
	fixup	1b, 5f, 0
	.endm

	.globl	user_recheck
	.type	user_recheck, @function
user_recheck:
	open
	cmpl	$3, %esi
	je	3f
	jb	2f
	recheck	3
3:	recheck	2
2:	recheck	1
	recheck	0
3:	movq	(%rdx), %rax
4:	movq	8(%rdx), %rdx
	close
	ret
5:	close
	xorl	%eax, %eax
	xorl	%edx, %edx
	ret
	.size	user_recheck, . - user_recheck
	fixup	3b, 5b, 0
	fixup	4b, 5b, 0

	/* int64_t user_scan_copy(char *to, const char *from, size_t size): up to and with the zero;
	 * bytes before it, -1 for a bad address, -2 without a zero in size bytes */
	.globl	user_copy_string
	.type	user_copy_string, @function
user_copy_string:
	xorl	%eax, %eax
	open
1:	cmpq	%rdx, %rax
	je	4f
2:	movb	(%rsi,%rax), %cl
	movb	%cl, (%rdi,%rax)
	testb	%cl, %cl
	jz	3f
	incq	%rax
	jmp	1b
3:	close
	ret
4:	close
	movq	$-2, %rax
	ret
5:	close
	movq	$-1, %rax
	ret
	.size	user_copy_string, . - user_copy_string
	fixup	2b, 5b, 0

	.section .note.GNU-stack, "", @progbits
