/* Real mode; and compatibility mode, below long mode. */
#include "tests/guest/bare/snippet.h"

/* 16-bit code for bare_run16(): bx = 0x9000, where results go; ends by a far return. The labels
 * within lie LOW_CODE higher than in the image, less where the code begins. */
#define REAL_CODE(name, text)                                                   \
	__asm__(".pushsection .rodata\n"                                        \
		".code16\n" #name ":\n" text "\n	lret\n" #name "_end:\n" \
		".code64\n"                                                     \
		".popsection");                                                 \
	LABEL(name);                                                            \
	LABEL(name##_end)

#define RUN_REAL(name)	bare_run16(name, name##_end, words)
#define AT(name, label) ((uint16_t)(LOW_CODE + ((label) - (name))))

static uint16_t words[2048];

static void set_vector(uint8_t vector, uint16_t segment, uint16_t offset)
{
	volatile uint16_t *table = (volatile uint16_t *)(uintptr_t)(vector * 4u);

	__asm__("" : "+r"(table));
	table[0] = offset;
	table[1] = segment;
}

static volatile uint8_t *low(uint32_t address)
{
	return (volatile uint8_t *)(uintptr_t)address;
}

REAL_CODE(real_segment, "mov $0x1234, %ax; mov %ax, %es; movb $0x5a, %es:(0x21)\n"
			"mov $0xffff, %ax; mov %ax, %es; mov %es:(0x10), %ax; mov %ax, (%bx)");

BARE_CASE(real_segment_base, "modes/real_segment_base", "AMD APM vol. 2, 1.2.4")
{
	*low(0x12361) = 0;
	RUN_REAL(real_segment);
	check_eq(*low(0x12361), 0x5a);
	/* ffff:0010 is 1 MiB; it does not wrap. */
	check_eq(words[0], *(volatile uint16_t *)low(0x100000));
}

REAL_CODE(real_int, "std; mov %sp, %si; int $0x40; real_int_next: mov %sp, %ax; sub %si, %ax;"
		    "mov %ax, 8(%bx); pushf; pop %ax; mov %ax, 10(%bx); cld; lret\n"
		    "real_int_handler: mov %sp, %bp; mov (%bp), %ax; mov %ax, (%bx);"
		    "mov 2(%bp), %ax; mov %ax, 2(%bx); mov 4(%bp), %ax; mov %ax, 4(%bx);"
		    "pushf; pop %ax; mov %ax, 6(%bx); iret");
LABEL(real_int_next);
LABEL(real_int_handler);

BARE_CASE(real_interrupt, "modes/real_interrupt", "AMD APM vol. 2, 8.6")
{
	set_vector(0x40, 0, AT(real_int, real_int_handler));
	RUN_REAL(real_int);
	check_eq(words[0], AT(real_int, real_int_next));
	check_eq(words[1], 0);
	check_eq(words[2] & 0x700, 0x400);
	check_eq(words[3] & 0x300, 0);
	check_eq(words[4], 0);
	check_eq(words[5] & 0x400, 0x400); /* IRET brings DF back */
}

REAL_CODE(real_faults, "xor %dx, %dx; xor %cx, %cx; real_div: div %cx; real_div_next: ud2;"
		       "real_ud_next: int3; real_int3_next: mov $1, %ax; stc; lret\n"
		       "real_skip2: pop %ax; mov %ax, (%bx); add $2, %bx; add $2, %ax; push %ax;"
		       "iret\n"
		       "real_note: pop %ax; mov %ax, (%bx); add $2, %bx; push %ax; iret");
LABEL(real_div);
LABEL(real_div_next);
LABEL(real_int3_next);
LABEL(real_skip2);
LABEL(real_note);

BARE_CASE(real_exceptions, "modes/real_exceptions", "AMD APM vol. 2, 8.6; 8.2")
{
	set_vector(0, 0, AT(real_faults, real_skip2));
	set_vector(6, 0, AT(real_faults, real_skip2));
	set_vector(3, 0, AT(real_faults, real_note));
	RUN_REAL(real_faults);
	/* No error codes; faults with the instruction's own IP. */
	check_eq(words[0], AT(real_faults, real_div));
	check_eq(words[1], AT(real_faults, real_div_next));
	check_eq(words[2], AT(real_faults, real_int3_next));
}

REAL_CODE(real_limit, "mov $0xffff, %si; real_limit_at: mov (%si), %ax; movw $1, 2(%bx); lret\n"
		      "real_limit_gp: pop %ax; mov %ax, (%bx); add $2, %ax; push %ax; iret");
LABEL(real_limit_at);
LABEL(real_limit_gp);

BARE_CASE(real_limit_64k, "modes/real_limit", "AMD APM vol. 2, 8.2.14; 4.12")
{
	words[0] = 0;
	set_vector(13, 0, AT(real_limit, real_limit_gp));
	RUN_REAL(real_limit);
	if (words[0] == 0) {
		bare_excuse("QEMU's TCG checks no limits of data segments");
	}
	check_eq(words[0], AT(real_limit, real_limit_at));
}

REAL_CODE(real_wide, "mov $0x12345678, %eax; mov $2, %ecx; mov $0x9000, %edx;"
		     "mov %eax, 8(%edx,%ecx,4); pushl $0x11223344; popl 4(%bx);"
		     "mov $0xffff0000, %ecx; mov $0xffff, %cx; jcxz 1f; mov $1, %cx;"
		     "2: loop 2b; mov %ecx, 8(%bx); 1:"
		     "mov $0xaaaaffff, %esi; cld; lodsb; mov %esi, 12(%bx);"
		     "mov $0x5555ffff, %esi; leal 1(%esi), %edx; leal 1(%si), %edi;"
		     "mov %edx, 20(%bx); mov %edi, 24(%bx)");

BARE_CASE(real_prefixes, "modes/real_prefixes", "AMD APM vol. 3, 1.2.2, 1.2.3")
{
	uint32_t *wide = (uint32_t *)(void *)words;

	RUN_REAL(real_wide);
	check_eq(wide[4], 0x12345678);
	check_eq(wide[1], 0x11223344);
	check_eq(wide[2], 0xffff0000); /* LOOP counts with CX alone */
	check_eq(wide[3], 0xaaaa0000); /* and SI wraps alone */
	check_eq(wide[5], 0x55560000);
	check_eq(wide[6], 0);
}

/* To protected mode for a segment without limit, and back with it: big real mode. */
REAL_CODE(real_big, "lgdtl 32(%bx); mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x18, %cx;"
		    "mov %cx, %fs; and $0xfe, %al; mov %eax, %cr0; xor %cx, %cx; mov %cx, %fs;"
		    "mov $0x1000000, %esi; mov %fs:(%esi), %eax; mov %eax, (%bx);"
		    "movl $0x7788, %fs:4(%esi)");

BARE_CASE(real_big_segment, "modes/real_big_segment", "AMD APM vol. 2, 14.5; 4.5.1")
{
	uint64_t gdt = (uint64_t)(uintptr_t)bare_gdt;

	words[16] = GDT_LIMIT;
	words[17] = (uint16_t)gdt;
	words[18] = (uint16_t)(gdt >> 16);
	*(volatile uint64_t *)low(0x1000000) = 0xabcd;
	RUN_REAL(real_big);
	check_eq(*(uint32_t *)(void *)words, 0xabcd);
	check_eq(*(volatile uint32_t *)low(0x1000004), 0x7788);
}

/* PE on, and the code segment is as it was until it is loaded. */
REAL_CODE(real_pe, "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; jmp 1f; 1: mov %cs, %cx;"
		   "movw $0x99, 2(%bx); and $0xfe, %al; mov %eax, %cr0; jmp 2f; 2: mov %cx, (%bx)");

BARE_CASE(real_protected_real, "modes/real_protected_real", "AMD APM vol. 2, 14.4, 14.5")
{
	words[0] = 1;
	RUN_REAL(real_pe);
	check_eq(words[0], 0);
	check_eq(words[1], 0x99);
}

REAL_CODE(real_refuses,
	  "xor %di, %di; lldt %di; .byte 0x90; ltr %di; .byte 0x90;"
	  "lar %ax, %ax; .byte 0x90; verr %di; .byte 0x90; arpl %ax, %ax; nop; nop; lret\n"
	  "real_ud: incw (%bx); mov %sp, %bp; addw $4, (%bp); iret");
LABEL(real_ud);

BARE_CASE(real_mode_refuses, "modes/real_mode_refuses",
	  "AMD APM vol. 3, LLDT, LTR, LAR, VERR, ARPL")
{
	words[0] = 0;
	set_vector(6, 0, AT(real_refuses, real_ud));
	RUN_REAL(real_refuses);
	check_eq(words[0], 5);
}

REAL_CODE(real_idt, "movw $0x3ff, 64(%bx); movl $0x9800, 66(%bx); lidtl 64(%bx);"
		    "movw $real_idt_handler - real_idt + 0x8000, 0x9800 + 0x41 * 4;"
		    "movw $0, 0x9802 + 0x41 * 4; int $0x41; movl $0, 66(%bx); lidtl 64(%bx);"
		    "sidtl 72(%bx); lret\n"
		    "real_idt_handler: movw $0x77, (%bx); iret");

BARE_CASE(real_table_moves, "modes/real_table_moves", "AMD APM vol. 2, 8.6.1")
{
	words[0] = 0;
	RUN_REAL(real_idt);
	check_eq(words[0], 0x77);
	check_eq(words[36], 0x3ff);
}

REAL_CODE(real_far, "lcall $0x0800, $real_far_to - real_far; mov %cs, %cx; mov %cx, 4(%bx); lret\n"
		    "real_far_to: mov %cs, %ax; mov %ax, (%bx); mov %sp, %bp; mov 2(%bp), %ax;"
		    "mov %ax, 2(%bx); lret");

BARE_CASE(real_far_call, "modes/real_far_call", "AMD APM vol. 3, CALL (Far), RET (Far)")
{
	RUN_REAL(real_far);
	check_eq(words[0], 0x800);
	check_eq(words[1], 0);
	check_eq(words[2], 0);
}

/* ---- compatibility mode ---- */

/* Runs 32-bit code at CPL 0 below long mode, edi: its argument; it returns by a far return. */
#define COMPAT_CODE(name, text)                                                     \
	__asm__(".pushsection .text\n" #name ":\n"                                  \
		"	push %rbx\n"                                                      \
		"	push %rbp\n"                                                      \
		"	mov %ss, %eax\n"                                                  \
		"	push %rax\n"                                                      \
		"	lea 1f(%rip), %rax\n"                                             \
		"	mov %rax, -16(%rsp)\n"                                            \
		"	movl $0x08, -8(%rsp)\n"                                           \
		"	lea -16(%rsp), %rsp\n"                                            \
		"	mov %cs, 8(%rsp)\n"                                               \
		"	pushq $0x08\n"                                                    \
		"	push %rax\n"                                                      \
		"	lretq\n"                                                          \
		".code32\n"                                                         \
		"1:	mov $0x18, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n" \
		"	" text "\n"                                                 \
		"	ljmp $0x10, $2f\n"                                                \
		".code64\n"                                                         \
		"2:	add $16, %rsp\n"                                                \
		"	pop %rax\n"                                                       \
		"	pop %rbp\n"                                                       \
		"	pop %rbx\n"                                                       \
		"	ret\n"                                                            \
		".popsection");                                                     \
	void name(void *argument)

static uint32_t compat_words[8];
COMPAT_CODE(compat_addresses,
	    "mov $0xffffffff, %eax; mov 0x9001(%eax), %ecx; mov %ecx, (%edi);"
	    "mov $-4, %eax; mov 4(%edi,%eax), %ecx; mov %ecx, 4(%edi);"
	    "inc %eax; dec %eax; mov %eax, 8(%edi); .byte 0x40; mov %eax, 12(%edi)");

BARE_CASE(compat_truncates, "modes/compat_truncates", "AMD APM vol. 2, 1.3.3; vol. 1, 2.2.3")
{
	*(volatile uint32_t *)low(0x9000) = 0x4321;
	compat_addresses(compat_words);
	check_eq(compat_words[0], 0x4321);
	check_eq(compat_words[1], 0x4321);
	check_eq(compat_words[2], 0xfffffffc);
	check_eq(compat_words[3], 0xfffffffd); /* 40 is INC, no REX */
}

COMPAT_CODE(compat_int, "int $0x42; mov %esp, %ebx; mov %eax, (%edi)");
static uint64_t compat_cs, compat_rsp;

static void on_compat_int(struct bare_frame *frame)
{
	compat_cs = frame->cs;
	compat_rsp = frame->rsp;
	frame->rax = UINT64_C(0x1111111122222222);
}

BARE_CASE(compat_interrupt, "modes/compat_interrupt", "AMD APM vol. 2, 8.9")
{
	bare_on(0x42, on_compat_int);
	compat_int(compat_words);
	check_eq(compat_cs, SEL_CODE32);
	check_eq(compat_rsp >> 32, 0);
	check_eq(compat_words[0], 0x22222222);
}

COMPAT_CODE(compat_ud, "ud2");
COMPAT_CODE(compat_old,
	    "stc; mov $0x99, %eax; daa; mov %eax, (%edi); pusha; popa; push %es; pop %es;"
	    "mov $0x0708, %eax; aam; mov %eax, 4(%edi); bound %eax, 8(%edi)");

BARE_CASE(compat_old_instructions, "modes/compat_old_instructions",
	  "AMD APM vol. 3, DAA, AAM, PUSHA, BOUND")
{
	struct bare_trap trap;

	compat_words[2] = 0;
	compat_words[3] = 0x7fffffff;
	compat_old(compat_words);
	check_eq(compat_words[0], 0xf9);
	check_eq(compat_words[1], 0x0008);
	compat_words[3] = 7;
	bare_try(&trap, compat_old, compat_words);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_BR);
	check_eq(trap.cs, SEL_CODE32);
	bare_try(&trap, compat_ud, NULL);
	check_eq(trap.vector, VECTOR_UD);
}

COMPAT_CODE(compat_into, "mov $0x7f, %al; inc %al; into; nop");

BARE_CASE(overflow_is_trap, "exceptions/overflow_is_trap", "AMD APM vol. 2, 8.2.5")
{
	struct bare_trap trap;

	bare_try(&trap, compat_into, NULL);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_OF);
	check_eq(*(const uint8_t *)trap.rip, 0x90);
}

SNIPPET(narrow_address,
	"mov $-1, %rax; mov 0x9001(%eax), %ecx; mov %rcx, (%rdi);"
	"lea 1f(%rip), %rdx; mov %rdx, 8(%rdi); lea 1f(%eip), %rdx; mov %rdx, 16(%rdi);"
	"1: mov $-1, %rax; mov $5, %eax; mov %rax, 24(%rdi);"
	"mov $-1, %rax; mov $5, %ax; mov %rax, 32(%rdi);"
	"mov $-1, %rax; xor %ecx, %ecx; cmovnz %ecx, %eax; mov %rax, 40(%rdi)");

BARE_CASE(long_mode_widths, "modes/long_mode_widths", "AMD APM vol. 1, 3.1.2; 2.2.4")
{
	uint64_t out[6];

	*(volatile uint32_t *)low(0x9000) = 0x8765;
	narrow_address(out);
	check_eq(out[0], 0x8765);
	check_eq(out[1], out[2]);
	check_eq(out[3], 5);
	check_eq(out[4], UINT64_C(0xffffffffffff0005));
	check_eq(out[5], 0xffffffff); /* CMOV clears the upper half even if it does not move */
}
