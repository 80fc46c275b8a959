/*
 * The guest: see payload.h. It runs wherever it is put, since nothing here has an absolute address.
 *
 * A routine begins with	and may use
 *	%rdi	array of samples	%rax, %rcx, %rdx
 *	%rsi	how many to take	%r8	ticks at an operation's start
 *	%rbx	address or port		%r9	ticks at its end; in those of interrupts set by the handler
 *	%r12	stride, delay or APIC ID	%r10, %r11	ticks around the handler's EOI
 *	%r14	a word shared by vCPUs
 *	%r15	from one array of samples to the other
 *	%rsp	stack
 */
#define PORT_DONE	0xf4
#define PORT_TAKEN	0xf5
#define PORT_SETTLE	0xf6
#define PORT_TEST	0xf0
#define VECTOR		0x40
#define VECTOR_REPLY	0x41

/* Intel SDM vol. 4, "IA-32 Architectural MSRs" */
#define IA32_MISC_ENABLE	0x1a0
#define IA32_TSC_DEADLINE	0x6e0
#define IA32_X2APIC_EOI		0x80b
#define IA32_X2APIC_SIVR	0x80f
#define IA32_X2APIC_ICR		0x830
#define IA32_X2APIC_LVT_TIMER	0x832

/* Intel SDM vol. 3A, "Local APIC" */
#define XAPIC		0xfee00000
#define XAPIC_EOI	0x0b0
#define XAPIC_SVR	0x0f0
#define XAPIC_ICR	0x300
#define SVR_ENABLED	0x1ff
#define ICR_SELF	0x40000
#define TIMER_DEADLINE	0x40000

	.macro routine name
	.balign 16
	.globl \name
\name:
	.endm

	.macro ticks register
	lfence
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	mov %rax, \register
	.endm

	.macro write_msr number, low
	mov $\number, %ecx
	mov $\low, %eax
	xor %edx, %edx
	wrmsr
	.endm

	/* What is between the two is one operation. */
	.macro each
1:	ticks %r8
	.endm

	.macro next
	ticks %r9
	sub %r8, %r9
	mov %r9, (%rdi)
	add $8, %rdi
	dec %rsi
	jnz 1b
	jmp done
	.endm

	/* The same for what ends in an interrupt's handler, whose EOI is the second sample. */
	.macro await_handler
2:	pause
	test %r9, %r9
	jz 2b
	.endm

	.macro next_interrupt
	sub %r8, %r9
	mov %r9, (%rdi)
	sub %r10, %r11
	mov %r11, (%rdi, %r15)
	add $8, %rdi
	dec %rsi
	jnz 1b
	jmp done
	.endm

	.macro enable_x2apic
	write_msr IA32_X2APIC_SIVR, SVR_ENABLED
	.endm

	.macro enable_deadline
	enable_x2apic
	write_msr IA32_X2APIC_LVT_TIMER, TIMER_DEADLINE | VECTOR
	.endm

	/* The deadline is %r8. */
	.macro arm_deadline
	mov %r8, %rdx
	mov %r8d, %eax
	shr $32, %rdx
	mov $IA32_TSC_DEADLINE, %ecx
	wrmsr
	.endm

	.section .rodata
	.globl payload_start
	.balign 16
payload_start:

done:
	out %al, $PORT_DONE
	jmp done

/* Handlers. */

routine guest_handler_xapic
	ticks %r9
	mov $XAPIC, %ecx
	ticks %r10
	movl $0, XAPIC_EOI(%rcx)
	ticks %r11
	iretq

/*
 * Behind a HLT that the interrupt has come in front of, as it does where VMRUN loads no interrupt
 * shadow (docs/lab.md): nothing would end it.
 */
.macro leave_hlt at
	lea \at(%rip), %rax
	cmp %rax, (%rsp)
	jne .Lawake\@
	incq (%rsp)
.Lawake\@:
.endm

routine guest_handler_x2apic
	ticks %r9
	ticks %r10
	write_msr IA32_X2APIC_EOI, 0
	ticks %r11
	leave_hlt halt_pending
	leave_hlt halt_deadline
	leave_hlt halt_ipi
	iretq

/* Tells when the message came, and answers vCPU 0. */
routine guest_handler_answer
	ticks (%r14)
	write_msr IA32_X2APIC_ICR, VECTOR_REPLY
	write_msr IA32_X2APIC_EOI, 0
	iretq

routine guest_handler_out
	out %al, $PORT_TAKEN
	write_msr IA32_X2APIC_EOI, 0
	iretq

/* For a vCPU that would wait for ever. */
routine guest_handler_stop
	jmp done

/* Operations measured here. */

routine guest_nothing
	each
	next

routine guest_cpuid
	each
	xor %eax, %eax
	cpuid
	next

routine guest_msr_read
	each
	mov $IA32_MISC_ENABLE, %ecx
	rdmsr
	next

routine guest_msr_write
	mov $IA32_MISC_ENABLE, %ecx
	rdmsr
	mov %eax, %r10d
	mov %edx, %r11d
	each
	mov $IA32_MISC_ENABLE, %ecx
	mov %r10d, %eax
	mov %r11d, %edx
	wrmsr
	next

routine guest_port_notify
	each
	mov %ebx, %edx
	out %ax, %dx
	next

routine guest_mmio_notify
	each
	movl $0, (%rbx)
	next

routine guest_touch
	each
	movb $1, (%rbx)
	add %r12, %rbx
	next

/* Interrupts. */

routine guest_ipi_self_xapic
	mov $XAPIC, %ebx
	movl $SVR_ENABLED, XAPIC_SVR(%rbx)
	sti
1:	xor %r9d, %r9d
	ticks %r8
	movl $(ICR_SELF | VECTOR), XAPIC_ICR(%rbx)
	await_handler
	next_interrupt

routine guest_eoi_idle
	mov $XAPIC, %ebx
	movl $SVR_ENABLED, XAPIC_SVR(%rbx)
	each
	movl $0, XAPIC_EOI(%rbx)
	next

/* What is no MOV has to be emulated. */
routine guest_apic_test
	mov $XAPIC, %ebx
	movl $SVR_ENABLED, XAPIC_SVR(%rbx)
	each
	testl $SVR_ENABLED, XAPIC_SVR(%rbx)
	next

routine guest_cr4_write
	mov %cr4, %rcx
	each
	mov %rcx, %cr4
	next

routine guest_ipi_self_x2apic
	enable_x2apic
	sti
1:	xor %r9d, %r9d
	ticks %r8
	write_msr IA32_X2APIC_ICR, ICR_SELF | VECTOR
	await_handler
	next_interrupt

/* STI lets no interrupt in before the instruction behind it has begun: HLT, which ends at once. */
routine guest_hlt_pending
	enable_x2apic
1:	cli
	xor %r9d, %r9d
	write_msr IA32_X2APIC_ICR, ICR_SELF | VECTOR
	ticks %r8
	sti
halt_pending:
	hlt
	await_handler
	next_interrupt

routine guest_deadline_due
	enable_deadline
	sti
1:	xor %r9d, %r9d
	ticks %r8
	arm_deadline
	await_handler
	next_interrupt

routine guest_deadline_late
	enable_deadline
	sti
1:	xor %r9d, %r9d
	ticks %r8
	add %r12, %r8
	arm_deadline
	await_handler
	next_interrupt

routine guest_deadline_halted
	enable_deadline
1:	cli
	xor %r9d, %r9d
	ticks %r8
	add %r12, %r8
	arm_deadline
	sti
halt_deadline:
	hlt
	await_handler
	next_interrupt

/* To the vCPU with the APIC ID %r12. First sample: until its answer is here; second: one way. */
routine guest_ipi_vcpu
	enable_x2apic
1:	out %al, $PORT_SETTLE
	cli
	xor %r9d, %r9d
	ticks %r8
	mov $IA32_X2APIC_ICR, %ecx
	mov $VECTOR, %eax
	mov %r12d, %edx
	wrmsr
2:	sti
halt_ipi:
	hlt
	cli
	test %r9, %r9
	jz 2b
	mov %r8, %r10
	mov (%r14), %r11
	next_interrupt

routine guest_clock
	ticks (%rdi)
2:	xor %eax, %eax
	cpuid
	dec %rsi
	jnz 2b
	ticks 8(%rdi)
	jmp done

/* Operations measured by the program outside. */

routine guest_out
	out %al, $PORT_TEST
	jmp guest_out

routine guest_in
	in $PORT_TEST, %al
	jmp guest_in

routine guest_mmio_write
	mov %eax, (%rbx)
	jmp guest_mmio_write

routine guest_mmio_read
	mov (%rbx), %eax
	jmp guest_mmio_read

routine guest_hlt
	hlt
	jmp guest_hlt

/* Waits for interrupts: in HLT, and with a port that it writes to. */
routine guest_halted
	enable_x2apic
	out %al, $PORT_DONE
2:	sti
	hlt
	jmp 2b

routine guest_open
	enable_x2apic
	sti
2:	out %al, $PORT_DONE
	jmp 2b

	.globl payload_end
payload_end:

/* For the program itself: see clock.h. */
	.text
	.globl clock_spin
	.type clock_spin, @function
clock_spin:
	dec %rdi
	jnz clock_spin
	ret
	.size clock_spin, . - clock_spin

	.section .note.GNU-stack, "", @progbits
