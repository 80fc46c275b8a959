/* The assembler part of flat.h: into 32-bit protected mode with tables of its own, and back. */
#include "tests/guest/bare/layout.h"

	.section .rodata
	.code32
	.globl flat_low, flat_low_end
flat_low:				/* what bare_run32() copies and calls */
	mov $flat_main, %eax
	call *%eax
	ret
flat_low_end:

	.text
flat_main:
	pusha
	mov %esp, flat_saved_esp
	lgdt flat_gdt_pointer
	lidt flat_idt_pointer
	mov $0x80, %eax			/* FLAT_TSS */
	ltr %ax
	mov %cr4, %eax
	or flat_cr4, %eax
	mov %eax, %cr4
	lea -36(%esp), %esp
	mov $flat_start, %esi
	mov %esp, %edi
	mov $9, %ecx
	rep movsl
	mov $SEL_USER_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov flat_argument, %edi
	iret

	.globl flat_entries
	.balign 16
flat_entries:				/* 256 of 16 bytes each */
	vector = 0
	.rept 256
	.balign 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
	.else
	pushl $0
	.endif
	pushl $vector
	jmp flat_common
	vector = vector + 1
	.endr

flat_common:
	cld
	pusha
	mov %ds, %ecx
	mov $SEL_DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %esp, %esi
	mov $flat_frame, %edi
	mov %ecx, 80(%edi)		/* ds_left */
	mov $19, %ecx
	rep movsl
	mov %cr2, %eax
	mov %eax, (%edi)
	mov %cr0, %eax
	and $~(CR0_PG | 0x50008), %eax	/* and AM, WP, TS */
	mov %eax, %cr0
	mov $CR4_LOW, %eax
	mov %eax, %cr4
	pushl $2
	popfl
	mov $SEL_DATA, %eax
	mov %eax, %ss
	mov flat_saved_esp, %esp
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	lldt %ax
	popa
	ret

	.section .rodata
	.balign 8
	.word 0
flat_gdt_pointer:
	.word 8 * 24 - 1
	.long flat_gdt
	.word 0
flat_idt_pointer:
	.word 8 * 256 - 1
	.long flat_idt

	.bss
flat_saved_esp:	.skip 4

	.section .note.GNU-stack, "", @progbits
