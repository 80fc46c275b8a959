/*
 * svm_run(): into a guest and back. See svm.h.
 *
 * VMRUN saves and #VMEXIT restores: RIP, RSP, RAX, RFLAGS, CS, SS, DS, ES, GDTR, IDTR, the control
 * registers, EFER. VMLOAD and VMSAVE do the rest of the segments; the general registers are ours.
 */

#define RCX 8
#define RDX 16
#define RBX 24
#define RBP 40
#define RSI 48
#define RDI 56
#define R8  64
#define R9  72
#define R10 80
#define R11 88
#define R12 96
#define R13 104
#define R14 112
#define R15 120

	.text
	.globl svm_run
	.type svm_run, @function
svm_run: /* rdi: VMCB, rsi: registers, rdx: the host's VMCB */
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdx
	pushq %rsi

	movq %rdi, %rax

	movq RCX(%rsi), %rcx
	movq RDX(%rsi), %rdx
	movq RBX(%rsi), %rbx
	movq RBP(%rsi), %rbp
	movq RDI(%rsi), %rdi
	movq R8(%rsi), %r8
	movq R9(%rsi), %r9
	movq R10(%rsi), %r10
	movq R11(%rsi), %r11
	movq R12(%rsi), %r12
	movq R13(%rsi), %r13
	movq R14(%rsi), %r14
	movq R15(%rsi), %r15
	movq RSI(%rsi), %rsi

	/* With V_INTR_MASKING the host's IF, which is 1, says that interrupts end the guest. */
	vmload %rax
	vmrun %rax
	vmsave %rax /* RAX is the VMCB again */

	popq %rax
	movq %rcx, RCX(%rax)
	movq %rdx, RDX(%rax)
	movq %rbx, RBX(%rax)
	movq %rbp, RBP(%rax)
	movq %rsi, RSI(%rax)
	movq %rdi, RDI(%rax)
	movq %r8, R8(%rax)
	movq %r9, R9(%rax)
	movq %r10, R10(%rax)
	movq %r11, R11(%rax)
	movq %r12, R12(%rax)
	movq %r13, R13(%rax)
	movq %r14, R14(%rax)
	movq %r15, R15(%rax)

	popq %rax
	vmload %rax

	/* Nothing of the guest's is left for speculation to pick up. */
	xorl %ecx, %ecx
	xorl %edx, %edx
	xorl %esi, %esi
	xorl %edi, %edi
	xorl %r8d, %r8d
	xorl %r9d, %r9d
	xorl %r10d, %r10d
	xorl %r11d, %r11d
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
	.size svm_run, . - svm_run

	.section .note.GNU-stack, "", @progbits
