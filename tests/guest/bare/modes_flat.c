/* 32-bit protected mode: segments, gates, rings, SYSENTER, task switches; virtual-8086 mode. */
#include "tests/guest/bare/flat.h"

#define MSR_SYSENTER_CS	 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176

#define EFLAGS_VM  0x20000u
#define EFLAGS_VIF 0x80000u

#define RING0_DATA 0x93

static const char tcg_limits[] = "QEMU's TCG checks no limits and types of data segments";

/* ---- data segments ---- */

static uint32_t cells[8];

FLAT_CODE(through_fs, "mov $0x48, %eax; mov %eax, %fs; fs_at: mov %fs:(%edi), %eax");
LABEL(fs_at);
FLAT_CODE(store_fs, "mov $0x48, %eax; mov %eax, %fs; fs_store_at: movl $7, %fs:(%edi)");
LABEL(fs_store_at);

static void set_spare(uint32_t limit, uint32_t type, uint32_t flags)
{
	flat_init();
	flat_gdt[FLAT_SPARE / 8] = flat_segment((uint32_t)(uintptr_t)cells, limit, type, flags);
	for (uint32_t i = 0; i < 8; i++) {
		cells[i] = 100 + i;
	}
}

BARE_CASE(segment_base, "modes/segment_base", "AMD APM vol. 2, 4.7")
{
	set_spare(31, RING0_DATA, 4);
	flat_kernel(through_fs, 28);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eax, 107);
	flat_kernel(store_fs, 4);
	check_flat(FLAT_END, 0, NULL);
	check_eq(cells[1], 7);
	/* The sum wraps at 4 GiB. */
	flat_gdt[FLAT_SPARE / 8] =
		flat_segment((uint32_t)(uintptr_t)&cells[4], 0xfffff, RING0_DATA, 12);
	flat_kernel(through_fs, (uint32_t)-8);
	check_eq(flat_frame.eax, 102);
}

static void check_limit(uint32_t offset, bool fits)
{
	flat_kernel(through_fs, offset);
	if (!fits && flat_frame.vector == FLAT_END) {
		bare_excuse(tcg_limits);
	}
	check_flat(fits ? FLAT_END : VECTOR_GP, 0, fits ? NULL : fs_at);
}

BARE_CASE(segment_limit, "modes/segment_limit", "AMD APM vol. 2, 4.12.1")
{
	set_spare(16, RING0_DATA, 4);
	check_limit(13, true);
	check_limit(14, false); /* the last of its bytes is beyond */
	check_limit(17, false);
	check_limit(0xffffffff, false);
	set_spare(0, RING0_DATA, 12); /* G: 4 KiB */
	check_limit(4092, true);
	check_limit(4093, false);
}

BARE_CASE(expand_down, "modes/expand_down", "AMD APM vol. 2, 4.7.3; 4.12.2")
{
	set_spare(15, 0x97, 4);
	check_limit(16, true);
	check_limit(12, false);
	check_limit(0, false);
}

BARE_CASE(segment_types, "modes/segment_types", "AMD APM vol. 2, 4.7.3")
{
	set_spare(31, 0x91, 4); /* read-only */
	flat_kernel(through_fs, 0);
	check_flat(FLAT_END, 0, NULL);
	flat_kernel(store_fs, 0);
	if (flat_frame.vector == FLAT_END) {
		bare_excuse(tcg_limits);
	}
	check_flat(VECTOR_GP, 0, fs_store_at);
}

FLAT_CODE(through_null, "xor %eax, %eax; mov %eax, %fs; null_at: mov %fs:(%edi), %eax");
LABEL(null_at);

BARE_CASE(null_segment, "modes/null_segment", "AMD APM vol. 2, 4.8")
{
	/* To load one is no fault, to use it is. */
	flat_kernel(through_null, (uint32_t)(uintptr_t)cells);
	if (flat_frame.vector == FLAT_END) {
		bare_excuse(tcg_limits);
	}
	check_flat(VECTOR_GP, 0, null_at);
}

/* ---- LAR, LSL, VERR, VERW, ARPL ---- */

FLAT_CODE(lar_lsl, "mov $-1, %eax; mov $-1, %ecx; xor %ebx, %ebx; xor %edx, %edx;"
		   "lar %edi, %eax; setz %bl; lsl %edi, %ecx; setz %bh;"
		   "verr %di; setz %dl; verw %di; setz %dh");

/* Bits 19:16, the limit's: AMD's manual has them, to Intel's they are undefined, QEMU has none. */
#define LAR_UNDEFINED 0x000f0000u

static void check_lar(uint64_t descriptor, uint32_t rights, uint32_t limit, uint32_t zfs,
		      uint32_t ver)
{
	flat_init();
	flat_gdt[FLAT_SPARE / 8] = descriptor;
	flat_kernel(lar_lsl, FLAT_SPARE);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.ebx, zfs);
	check_eq(zfs != 0 ? flat_frame.eax & ~LAR_UNDEFINED : flat_frame.eax, rights);
	check_eq(flat_frame.ecx, limit);
	check_eq(flat_frame.edx, ver);
}

BARE_CASE(lar_lsl_verr, "modes/lar_lsl_verr", "AMD APM vol. 3, LAR, LSL, VERR, VERW")
{
	check_lar(flat_segment(0x12345678, 0x12345, RING0_DATA, 13), 0x00d09300, 0x12345fff, 0x101,
		  0x101);
	check_lar(flat_segment(0, 0x12345, 0x9b, 4), 0x00409b00, 0x12345, 0x101, 0x001);
	check_lar(flat_segment(0, 0x12345, 0x99, 4), 0x00409900, 0x12345, 0x101, 0x000);
	check_lar(flat_segment(0, 0x67, 0x89, 0), 0x00008900, 0x67, 0x101, 0);
	/* Gates have no limit; interrupt gates nothing. */
	check_lar(flat_gate(SEL_CODE32, 0x1234, 0x8c, 0), 0x00008c00, ~0u, 0x001, 0);
	check_lar(flat_gate(SEL_CODE32, 0x1234, 0x8e, 0), ~0u, ~0u, 0, 0);
	flat_kernel(lar_lsl, 0);
	check_eq(flat_frame.ebx, 0);
	flat_kernel(lar_lsl, FLAT_GDT_MAX * 8);
	check_eq(flat_frame.ebx, 0);
}

FLAT_CODE(do_arpl, "mov $0x1230, %eax; mov $3, %ecx; arpl %cx, %ax; setz %bl;"
		   "mov $0x1233, %edx; mov $1, %ecx; arpl %cx, %dx; setz %bh");

BARE_CASE(arpl, "modes/arpl", "AMD APM vol. 3, ARPL")
{
	flat_kernel(do_arpl, 0);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eax, 0x1233);
	check_eq(flat_frame.edx, 0x1233);
	check_eq(flat_frame.ebx & 0xffff, 0x0001);
}

/* ---- rings ---- */

FLAT_CODE(call_gate_user, "pushl $0x111; pushl $0x222; mov %esp, %ebx; lcall $0x4b, $0;"
			  "gate_next: mov %esp, %ecx; mov %cs, %esi; mov %ss, %edi");
LABEL(gate_next);
FLAT_CODE(gate_entry, "mov $0x18, %eax; mov %eax, %ds; mov %eax, %es; cld;"
		      "mov %esp, %esi; mov $gate_copy, %edi; mov $7, %ecx; rep movsl;"
		      "mov %cs, (%edi); mov $0x2b, %eax; mov %eax, %ds; mov %eax, %es;"
		      "lret $8");
uint32_t gate_copy[8];

BARE_CASE(call_gate, "modes/call_gate", "AMD APM vol. 2, 4.10.2")
{
	flat_init();
	flat_gdt[FLAT_SPARE / 8] = flat_gate(SEL_CODE32, (uint32_t)(uintptr_t)gate_entry, 0xec, 2);
	flat_user(call_gate_user, 0);
	check_flat(FLAT_END, 0, NULL);
	/* EIP, CS, the two parameters copied, ESP, SS; the stack is ring 0's. */
	check_eq(gate_copy[0], gate_next);
	check_eq(gate_copy[1], SEL_USER_CODE32);
	check_eq(gate_copy[2], 0x222);
	check_eq(gate_copy[3], 0x111);
	check_eq(gate_copy[4], flat_frame.ebx);
	check_eq(gate_copy[5], SEL_USER_DATA);
	check_eq(gate_copy[7] & 0xffff, SEL_CODE32);
	/* Back, and both stacks without the parameters. */
	check_eq(flat_frame.esi, SEL_USER_CODE32);
	check_eq(flat_frame.edi, SEL_USER_DATA);
	check_eq(flat_frame.ecx, flat_frame.ebx + 8);
	/* With a DPL below the caller's it is refused. */
	flat_gdt[FLAT_SPARE / 8] = flat_gate(SEL_CODE32, (uint32_t)(uintptr_t)gate_entry, 0x8c, 2);
	flat_user(call_gate_user, 0);
	check_flat(VECTOR_GP, FLAT_SPARE, NULL);
	flat_gdt[FLAT_SPARE / 8] = flat_gate(SEL_CODE32, (uint32_t)(uintptr_t)gate_entry, 0x6c, 2);
	flat_user(call_gate_user, 0);
	check_flat(VECTOR_NP, FLAT_SPARE, NULL);
}

FLAT_CODE(far_call_user, "lcall $0x48, $conforming_entry; mov %eax, %ebx");
FLAT_CODE(conforming_entry, "mov %cs, %eax; lret");

BARE_CASE(conforming, "modes/conforming", "AMD APM vol. 2, 4.11.1")
{
	flat_init();
	flat_gdt[FLAT_SPARE / 8] = flat_segment(0, 0xfffff, 0x9f, 12);
	flat_user(far_call_user, 0);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.ebx, FLAT_SPARE + 3); /* CPL stays */
	flat_gdt[FLAT_SPARE / 8] = flat_segment(0, 0xfffff, 0x9b, 12);
	flat_user(far_call_user, 0);
	check_flat(VECTOR_GP, FLAT_SPARE, NULL);
}

FLAT_CODE(return_out, "mov $0x48, %eax; mov %eax, %fs; mov $0x2b, %eax; mov %eax, %gs;"
		      "pushl $0x2b; pushl %edi; pushl $0x23; pushl $returned_out; lret");
FLAT_CODE(returned_out, "mov %fs, %eax; mov %gs, %ecx; mov %cs, %edx; mov %esp, %ebx");

BARE_CASE(return_to_outer, "modes/return_to_outer", "AMD APM vol. 3, RET (Far); vol. 2, 4.11.2")
{
	uint32_t esp = (uint32_t)(uintptr_t)(flat_user_stack + 2048);

	set_spare(31, RING0_DATA, 4);
	flat_kernel(return_out, esp);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eax & 0xffff, 0); /* FS was above CPL 3's: null now */
	check_eq(flat_frame.ecx & 0xffff, SEL_USER_DATA);
	check_eq(flat_frame.edx & 0xffff, SEL_USER_CODE32);
	check_eq(flat_frame.ebx, esp);
}

FLAT_CODE(sysenter_user, "mov $0x1234, %eax; sysenter");
FLAT_CODE(sysenter_entry, "mov %cs, %esi; mov %ss, %edi; mov %esp, %ebx; pushf; pop %ebp;"
			  "mov $sysexit_back, %edx; lea flat_user_stack+1024, %ecx; sysexit");
FLAT_CODE(sysexit_back, "mov %cs, %ecx; mov %ss, %edx; mov %esp, %eax");

BARE_CASE(sysenter, "modes/sysenter", "AMD APM vol. 3, SYSENTER, SYSEXIT")
{
	uint32_t esp = LOW_STACK - 0x400;

	flat_init();
	/* The order that it wants: kernel code and data, then user code and data. */
	flat_gdt[FLAT_SPARE / 8] = bare_gdt[SEL_CODE32 / 8];
	flat_gdt[FLAT_SPARE / 8 + 1] = bare_gdt[SEL_DATA / 8];
	flat_gdt[FLAT_SPARE / 8 + 2] = bare_gdt[SEL_USER_CODE32 / 8];
	flat_gdt[FLAT_SPARE / 8 + 3] = bare_gdt[SEL_USER_DATA / 8];
	wrmsr(MSR_SYSENTER_CS, FLAT_SPARE);
	wrmsr(MSR_SYSENTER_ESP, esp);
	wrmsr(MSR_SYSENTER_EIP, (uint64_t)sysenter_entry);
	flat_user(sysenter_user, 0);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.esi & 0xffff, FLAT_SPARE);
	check_eq(flat_frame.edi & 0xffff, FLAT_SPARE + 8);
	check_eq(flat_frame.ebx, esp);
	check_eq(flat_frame.ebp & (RFLAGS_IF | EFLAGS_VM), 0);
	check_eq(flat_frame.ecx & 0xffff, FLAT_SPARE + 16 + 3);
	check_eq(flat_frame.edx & 0xffff, FLAT_SPARE + 24 + 3);
	check_eq(flat_frame.eax, (uint32_t)(uintptr_t)(flat_user_stack + 1024));
	wrmsr(MSR_SYSENTER_CS, 0);
	flat_user(sysenter_user, 0);
	check_flat(VECTOR_GP, 0, NULL);
}

/* ---- hardware tasks ---- */

static struct flat_tss other_task;
static char task_stack[1024];

FLAT_CODE(jump_to_task, "mov $0x77, %ecx; ljmp $0x48, $0; task_next: nop");
LABEL(task_next);
FLAT_CODE(in_task, "mov %esp, %ebx; str %edx; mov %cr0, %ebp; pushf; pop %edi");

BARE_CASE(task_switch, "modes/task_switch", "AMD APM vol. 2, 12.3")
{
	flat_init();
	other_task = (struct flat_tss){
		.eip = (uint32_t)(uintptr_t)in_task,
		.eflags = 0x2,
		.eax = 0x11112222,
		.ecx = 0x33334444,
		.esp = (uint32_t)(uintptr_t)(task_stack + sizeof(task_stack)),
		.cs = SEL_CODE32,
		.ds = SEL_DATA,
		.es = SEL_DATA,
		.ss = SEL_DATA,
		.iomap = sizeof(other_task),
	};
	flat_gdt[FLAT_SPARE / 8] = flat_segment((uint32_t)(uintptr_t)&other_task, 103, 0x89, 0);
	flat_kernel(jump_to_task, 0);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eax, 0x11112222);
	check_eq(flat_frame.ecx, 0x33334444);
	check_eq(flat_frame.ebx, (uint32_t)(uintptr_t)(task_stack + sizeof(task_stack)));
	check_eq(flat_frame.edx, FLAT_SPARE);
	check_eq(flat_frame.ebp & CR0_TS, CR0_TS);
	check_eq(flat_frame.edi & RFLAGS_NT, 0);
	/* The old one is saved, and free again. */
	check_eq(flat_tss.eip, task_next);
	check_eq(flat_tss.ecx, 0x77);
	check_eq(flat_gdt[FLAT_TSS / 8] >> 40 & 0xff, 0x89);
	check_eq(flat_gdt[FLAT_SPARE / 8] >> 40 & 0xff, 0x8b);
}

/* ---- virtual-8086 mode ---- */

__asm__(".pushsection .rodata\n"
	".code16\n"
	"v86_plain:	mov %cs, %ax\n"
	"	mov %ds, %bx\n"
	"	movw $0x1234, %ds:(0x10)\n"
	"v86_end:	int $0x80\n"
	"v86_cli:	cli\n"
	"	pushf\n"
	"	pop %ax\n"
	"	sti\n"
	"v86_cli_end:	int $0x80\n"
	"v86_int:	int $0x21\n"
	"	mov $0x55, %cx\n"
	"	int $0x80\n"
	"v86_handler:	mov %sp, %bp\n"
	"	mov 4(%bp), %dx\n"
	"	mov $0x66, %bx\n"
	"	iret\n"
	"v86_hlt:	hlt\n"
	"v86_lldt:	lldt %ax\n"
	"v86_last:\n"
	".code64\n"
	".popsection");
LABEL(v86_plain);
LABEL(v86_end);
LABEL(v86_cli);
LABEL(v86_cli_end);
LABEL(v86_int);
LABEL(v86_handler);
LABEL(v86_hlt);
LABEL(v86_lldt);
LABEL(v86_last);

#define V86_BASE 0xa000u /* free RAM of the first MiB: code, data at +0x1000, the stack above */

/* Enters the code at IOPL @iopl, with the paragraph of V86_BASE as CS, the next 4 KiB as DS. */
static void run_v86(const char *entry, uint32_t iopl)
{
	const volatile char *from = v86_plain;

	for (uint32_t i = 0; i < (uint32_t)(v86_last - v86_plain); i++) {
		*(volatile char *)(uintptr_t)(V86_BASE + i) = from[i];
	}
	flat_start = (struct flat_start){
		.eip = (uint32_t)(entry - v86_plain),
		.cs = V86_BASE >> 4,
		.eflags = EFLAGS_VM | iopl << 12 | 2,
		.esp = 0x800,
		.ss = (V86_BASE + 0x2000) >> 4,
		.ds = (V86_BASE + 0x1000) >> 4,
		.es = 1,
		.fs = 2,
		.gs = 3,
	};
	flat_run();
}

BARE_CASE(v86_enters, "modes/v86_enters", "AMD APM vol. 2, 10.2 to 10.4")
{
	*(volatile uint16_t *)(uintptr_t)(V86_BASE + 0x1010) = 0;
	run_v86(v86_plain, 3);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.eip, v86_end + 2 - v86_plain);
	check_eq(flat_frame.cs, V86_BASE >> 4);
	check_eq(flat_frame.eax & 0xffff, V86_BASE >> 4);
	check_eq(flat_frame.eflags & (EFLAGS_VM | RFLAGS_IOPL), EFLAGS_VM | RFLAGS_IOPL);
	check_eq(flat_frame.esp, 0x800);
	check_eq(flat_frame.ss, (V86_BASE + 0x2000) >> 4);
	check_eq(flat_frame.ds, (V86_BASE + 0x1000) >> 4);
	check_eq(flat_frame.es, 1);
	check_eq(flat_frame.fs, 2);
	check_eq(flat_frame.gs, 3);
	check_eq(flat_frame.ds_left, 0); /* the handler finds null selectors */
	check_eq(*(volatile uint16_t *)(uintptr_t)(V86_BASE + 0x1010), 0x1234);
}

BARE_CASE(v86_iopl, "modes/v86_iopl", "AMD APM vol. 2, 10.4")
{
	run_v86(v86_cli, 3);
	check_flat(FLAT_END, 0, NULL);
	run_v86(v86_cli, 0);
	check_flat(VECTOR_GP, 0, NULL);
	check_eq(flat_frame.eip, v86_cli - v86_plain);
	run_v86(v86_end, 0);
	check_flat(VECTOR_GP, 0, NULL); /* INT n, too */
	run_v86(v86_hlt, 3);
	check_flat(VECTOR_GP, 0, NULL);
	run_v86(v86_lldt, 3);
	check_flat(VECTOR_UD, 0, NULL);
	check_eq(flat_frame.eip, v86_lldt - v86_plain);
}

static void need_vme(void)
{
	if ((cpuid(1, 0).edx & 2) == 0) {
		bare_skip("the CPU has no VME");
	}
	flat_init();
	flat_cr4 = CR4_VME;
	flat_tss.interrupts[FLAT_END / 8] = 1;
}

BARE_CASE(v86_virtual_interrupts, "modes/v86_virtual_interrupts", "AMD APM vol. 2, 8.10.2")
{
	need_vme();
	/* CLI and STI change VIF and are no fault; PUSHF shows it as IF, with IOPL 3. */
	run_v86(v86_cli, 0);
	check_flat(VECTOR_GP, 0, NULL); /* of INT 0x80, which is set not to be redirected */
	check_eq(flat_frame.eip, v86_cli_end - v86_plain);
	check_eq(flat_frame.eax & (RFLAGS_IF | RFLAGS_IOPL), RFLAGS_IOPL);
	check_eq(flat_frame.eflags & (EFLAGS_VIF | RFLAGS_IF), EFLAGS_VIF);
}

BARE_CASE(v86_redirection, "modes/v86_redirection", "AMD APM vol. 2, 8.10.2.1; 12.2.5")
{
	volatile uint16_t *ivt = (volatile uint16_t *)(uintptr_t)(0x21 * 4);

	__asm__("" : "+r"(ivt));
	ivt[0] = (uint16_t)(v86_handler - v86_plain);
	ivt[1] = V86_BASE >> 4;
	need_vme();
	/* Redirected (bit clear): by the table of real mode, in virtual-8086 mode. */
	run_v86(v86_int, 3);
	check_flat(FLAT_END, 0, NULL);
	check_eq(flat_frame.ebx & 0xffff, 0x66);
	check_eq(flat_frame.ecx & 0xffff, 0x55);
	check_eq(flat_frame.esp, 0x800);
	/* Not redirected. */
	flat_tss.interrupts[0x21 / 8] = 1 << (0x21 % 8);
	flat_idt[0x21] |= UINT64_C(3) << 45;
	run_v86(v86_int, 3);
	check_flat(0x21, 0, NULL);
}
