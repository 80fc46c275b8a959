/* What may not be: control and debug registers, CPL 3, undefined and misused instructions. */
#include "tests/guest/bare/snippet.h"

#define TCG_HYPERVISOR 0x54474354 /* "TCGT" */

#define LEAF7_UMIP (1u << 2) /* ecx */

struct refusal {
	const char *name;
	void (*function)(void *);
	uint64_t argument;
	uint8_t vector;
	const char *excuse; /* what QEMU's TCG does instead; NULL: it refuses */
};

/* What the table says is refused, with error code 0; the names make a failure's text. */
static void check_refusals(const struct refusal *refusals, size_t count)
{
	const struct refusal *excused = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct refusal *r = &refusals[i];
		struct bare_trap trap;

		bare_try(&trap, r->function, (void *)r->argument);
		if (!trap.happened && r->excuse != NULL && bare_is_tcg()) {
			excused = r;
			continue;
		}
		if (!trap.happened || trap.vector != r->vector) {
			bare_print(r->name);
			bare_print(": ");
		}
		check(trap.happened);
		check_eq(trap.vector, r->vector);
		check_eq(trap.error, 0);
	}
	if (excused != NULL) {
		bare_print(excused->name);
		bare_print(": ");
		bare_skip(excused->excuse);
	}
}

#define CHECK_REFUSALS(table) check_refusals((table), sizeof(table) / sizeof((table)[0]))

SNIPPET(to_cr0, "mov %rdi, %cr0");
SNIPPET(to_cr3, "mov %rdi, %cr3");
SNIPPET(to_cr4, "mov %rdi, %cr4");
SNIPPET(to_cr8, "mov %rdi, %cr8");
SNIPPET(to_efer, "mov %rdi, %rax; mov %rdi, %rdx; shr $32, %rdx; mov $0xc0000080, %ecx; wrmsr");
SNIPPET(to_dr4, "mov %rdi, %dr4");
SNIPPET(from_dr5, "mov %dr5, %rax");
SNIPPET(to_dr6, "mov %rdi, %dr6");
SNIPPET(to_dr7, "mov %rdi, %dr7");
SNIPPET(from_cr1, ".byte 0x0f, 0x20, 0xc8");
SNIPPET(from_cr5, ".byte 0x0f, 0x20, 0xe8");
SNIPPET(from_cr7, ".byte 0x0f, 0x20, 0xf8");
SNIPPET(to_cr9, ".byte 0x44, 0x0f, 0x22, 0xcf");
SNIPPET(lmsw, "lmsw %di");

BARE_CASE(cr0_refuses, "modes/cr0_refuses", "AMD APM vol. 2, 3.1.1; Intel SDM vol. 3A, 2.5")
{
	uint64_t cr0 = read_cr0();
	static const char tcg[] = "QEMU's TCG takes what CR0 cannot be";
	const struct refusal table[] = {
		{"NW without CD", to_cr0, cr0 | UINT64_C(1) << 29, VECTOR_GP, tcg},
		{"bit 32", to_cr0, cr0 | UINT64_C(1) << 32, VECTOR_GP, tcg},
		{"bit 63", to_cr0, cr0 | UINT64_C(1) << 63, VECTOR_GP, tcg},
	};

	CHECK_REFUSALS(table);
	check_eq(read_cr0(), cr0);
}

BARE_CASE(paging_stays_on, "modes/paging_stays_on",
	  "AMD APM vol. 2, 14.7; Intel SDM vol. 3A, 2.5, CR0.PG")
{
	uint64_t cr0 = read_cr0();
	const struct refusal table[] = {
		{"no PG", to_cr0, cr0 & ~UINT64_C(0x80000000), VECTOR_GP, NULL},
		{"PG without PE", to_cr0, cr0 & ~UINT64_C(1), VECTOR_GP, NULL},
	};

	bare_excuse("QEMU's TCG lets 64-bit code turn paging off, and goes astray");
	CHECK_REFUSALS(table);
	check_eq(read_cr0(), cr0);
}

/* A hypervisor on QEMU's TCG intercepts writes to CR4 and knows better. */
static void excuse_tcg_alone(const char *why)
{
	if (cpuid(0x40000000, 0).ebx == TCG_HYPERVISOR) {
		bare_excuse(why);
	}
}

BARE_CASE(cr4_refuses, "modes/cr4_refuses", "AMD APM vol. 2, 3.1.3")
{
	uint64_t cr4 = read_cr4();
	const struct refusal table[] = {
		{"bit 15", to_cr4, cr4 | 0x8000, VECTOR_GP, NULL},
		{"bit 31", to_cr4, cr4 | 0x80000000, VECTOR_GP, NULL},
		{"bit 63", to_cr4, cr4 | UINT64_C(1) << 63, VECTOR_GP,
		 "QEMU's TCG takes reserved bits of CR4"},
	};

	excuse_tcg_alone("QEMU's TCG takes reserved bits of CR4, and goes astray");
	CHECK_REFUSALS(table);
	check_eq(read_cr4(), cr4);
}

BARE_CASE(pae_stays_on, "modes/pae_stays_on",
	  "AMD APM vol. 2, 14.6.1; Intel SDM vol. 3A, 2.5, CR4.PAE")
{
	uint64_t cr4 = read_cr4();
	const struct refusal table[] = {{"no PAE", to_cr4, cr4 & ~CR4_PAE, VECTOR_GP, NULL}};

	excuse_tcg_alone("QEMU's TCG lets 64-bit code turn PAE off, and goes astray");
	CHECK_REFUSALS(table);
	check_eq(read_cr4(), cr4);
}

BARE_CASE(cr3_refuses, "modes/cr3_refuses", "AMD APM vol. 2, 3.1.2; Intel SDM vol. 3A, 4.5")
{
	const struct refusal table[] = {
		{"bit 52", to_cr3, read_cr3() | UINT64_C(1) << 52, VECTOR_GP, NULL},
		{"beyond MAXPHYADDR", to_cr3, read_cr3() | UINT64_C(1) << 51, VECTOR_GP, NULL},
	};

	if (bare_physical_bits() > 51) {
		bare_skip("CR3 has no reserved address bits");
	}
	/* Under a hypervisor such a CR3 would fail its next VMRUN: do not try. */
	bare_excuse("QEMU's TCG takes reserved bits of CR3");
	CHECK_REFUSALS(table);
}

BARE_CASE(cr8_refuses, "modes/cr8_refuses", "AMD APM vol. 2, 3.1.5")
{
	const struct refusal table[] = {
		{"16", to_cr8, 16, VECTOR_GP, "QEMU's TCG takes reserved bits of CR8"},
		{"bit 63", to_cr8, UINT64_C(1) << 63, VECTOR_GP,
		 "QEMU's TCG takes reserved bits of CR8"},
	};

	CHECK_REFUSALS(table);
}

BARE_CASE(efer_refuses, "modes/efer_refuses", "AMD APM vol. 2, 3.1.7")
{
	uint64_t efer = rdmsr(MSR_EFER);
	const struct refusal table[] = {
		{"LME changes", to_efer, efer & ~UINT64_C(EFER_LME), VECTOR_GP,
		 "QEMU's TCG takes EFER.LME while paging is on"},
		{"bit 1", to_efer, efer | 2, VECTOR_GP, "QEMU's TCG ignores reserved bits of EFER"},
		{"bit 63", to_efer, efer | UINT64_C(1) << 63, VECTOR_GP,
		 "QEMU's TCG ignores reserved bits of EFER"},
	};

	CHECK_REFUSALS(table);
	check_eq(rdmsr(MSR_EFER), efer);
}

BARE_CASE(no_such_register, "modes/no_such_register", "AMD APM vol. 3, MOV CRn")
{
	static const struct refusal table[] = {
		{"CR1", from_cr1, 0, VECTOR_UD, NULL},
		{"CR5", from_cr5, 0, VECTOR_UD, NULL},
		{"CR7", from_cr7, 0, VECTOR_UD, NULL},
		{"CR9", to_cr9, 0, VECTOR_UD, NULL},
	};

	CHECK_REFUSALS(table);
}

BARE_CASE(debug_register_alias, "modes/debug_register_alias", "AMD APM vol. 2, 13.1.1.3; CR4.DE")
{
	static const struct refusal table[] = {
		{"DR4", to_dr4, 0, VECTOR_UD, NULL},
		{"DR5", from_dr5, 0, VECTOR_UD, NULL},
	};
	struct bare_trap trap;
	uint64_t dr6 = read_dr6();

	/* Without CR4.DE they are DR6 and DR7. */
	bare_try(&trap, to_dr4, (void *)(dr6 ^ 0xf));
	check(!trap.happened);
	check_eq(read_dr6(), dr6 ^ 0xf);
	write_cr4(read_cr4() | CR4_DE);
	CHECK_REFUSALS(table);
}

BARE_CASE(debug_registers_upper, "modes/debug_registers_upper", "AMD APM vol. 2, 13.1.1")
{
	static const struct refusal table[] = {
		{"DR6", to_dr6, UINT64_C(1) << 32, VECTOR_GP,
		 "QEMU's TCG takes the upper half of DR6"},
		{"DR7", to_dr7, UINT64_C(1) << 32, VECTOR_GP,
		 "QEMU's TCG takes the upper half of DR7"},
	};

	CHECK_REFUSALS(table);
}

BARE_CASE(debug_registers_fixed, "modes/debug_registers_fixed",
	  "AMD APM vol. 2, 13.1.1.3, 13.1.1.4")
{
	/* DR6: bits 11 to 4 and, but for RTM's, 31 to 16 read as 1, bit 12 as 0. DR7: bit 10 as 1,
	 * 15, 14 and 12 as 0. */
	write_dr6(0);
	check_eq(read_dr6() & ~UINT64_C(0x10800), 0xfffe07f0);
	write_dr6(0xffffffff);
	if ((read_dr6() & 0x1000) != 0) {
		bare_excuse("QEMU's TCG keeps bit 12 of DR6");
	}
	check_eq(read_dr6() & ~UINT64_C(0x10800), 0xfffee7ff);
	write_dr7(0);
	check_eq(read_dr7(), 0x400);
	write_dr7(0xd000);
	check_eq(read_dr7(), 0x400);
	write_dr0(UINT64_C(0x123456789abcdef0));
	check_eq(read_dr0(), UINT64_C(0x123456789abcdef0));
}

BARE_CASE(machine_status_word, "modes/machine_status_word", "AMD APM vol. 3, LMSW, SMSW, CLTS")
{
	uint64_t cr0 = read_cr0(), value = ~UINT64_C(0);

	lmsw((void *)(uintptr_t)(cr0 & 0xfff0)); /* without PE, which it cannot clear */
	check_eq(read_cr0(), (cr0 & ~(CR0_MP | CR0_EM | CR0_TS)));
	lmsw((void *)(uintptr_t)0xffff);
	check_eq(read_cr0(), cr0 | CR0_MP | CR0_EM | CR0_TS);
	__asm__ volatile("smsw %w0" : "+r"(value));
	check_eq(value, UINT64_C(0xffffffffffff0000) | (read_cr0() & 0xffff));
	__asm__ volatile("clts");
	check_eq(read_cr0(), (cr0 | CR0_MP | CR0_EM) & ~CR0_TS);
	write_cr0(cr0);
}

BARE_CASE(task_priority, "modes/task_priority", "AMD APM vol. 2, 3.1.5, CR8; 16.6.4")
{
	for (uint64_t i = 0; i < 16; i++) {
		write_cr8(i);
		check_eq(read_cr8(), i);
		check_eq(apic_read(0x80), i << 4);
	}
	apic_write(0x80, 0x5a);
	check_eq(read_cr8(), 5);
	apic_write(0x80, 0);
	check_eq(read_cr8(), 0);
}

/* ---- CPL 3 ---- */

struct user_refusal {
	const char *name;
	uint64_t (*function)(uint64_t);
};

USER_SNIPPET(user_hlt, "hlt");
USER_SNIPPET(user_cli2, "cli");
USER_SNIPPET(user_sti, "sti");
USER_SNIPPET(user_clts, "clts");
USER_SNIPPET(user_cr0, "mov %cr0, %rax");
USER_SNIPPET(user_cr8, "mov %cr8, %rax");
USER_SNIPPET(user_dr7, "mov %dr7, %rax");
USER_SNIPPET(user_rdmsr, "xor %ecx, %ecx; rdmsr");
USER_SNIPPET(user_wrmsr, "xor %ecx, %ecx; wrmsr");
USER_SNIPPET(user_invlpg, "invlpg (%rsp)");
USER_SNIPPET(user_lgdt, "lgdt (%rsp)");
USER_SNIPPET(user_lidt, "lidt (%rsp)");
USER_SNIPPET(user_lldt, "xor %eax, %eax; lldt %ax");
USER_SNIPPET(user_ltr, "ltr %ax");
USER_SNIPPET(user_lmsw, "lmsw %ax");
USER_SNIPPET(user_wbinvd, "wbinvd");
USER_SNIPPET(user_invd, "invd");
USER_SNIPPET(user_swapgs, "swapgs");
USER_SNIPPET(user_in, "mov $0xfff0, %edx; in %dx, %al");
USER_SNIPPET(user_outs, "mov $0xfff0, %edx; mov %rsp, %rsi; outsb");

BARE_CASE(privileged, "modes/privileged", "AMD APM vol. 3, 4 (General Protection, #GP)")
{
	const struct user_refusal table[] = {
		{"HLT", user_hlt},     {"CLI", user_cli2},	{"STI", user_sti},
		{"CLTS", user_clts},   {"MOV CR0", user_cr0},	{"MOV CR8", user_cr8},
		{"MOV DR7", user_dr7}, {"RDMSR", user_rdmsr},	{"WRMSR", user_wrmsr},
		{"LGDT", user_lgdt},   {"INVLPG", user_invlpg}, {"LIDT", user_lidt},
		{"LLDT", user_lldt},   {"LTR", user_ltr},	{"LMSW", user_lmsw},
		{"INVD", user_invd},   {"WBINVD", user_wbinvd}, {"SWAPGS", user_swapgs},
		{"IN", user_in},       {"OUTS", user_outs},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct bare_trap trap;

		snippet_in_user(&trap, table[i].function, 0);
		if (!trap.happened || trap.vector != VECTOR_GP) {
			bare_print(table[i].name);
			bare_print(": ");
		}
		check(trap.happened);
		check_eq(trap.vector, VECTOR_GP);
		check_eq(trap.error, 0);
		check_eq(trap.cs, SEL_USER_CODE64);
	}
}

USER_SNIPPET(user_flags, "pushq $0x3202; popfq; pushfq; pop %rax; pushq $2; popfq");

BARE_CASE(popf_of_user, "modes/popf_of_user", "AMD APM vol. 3, POPF")
{
	struct bare_trap trap;

	/* IF and IOPL stay, and it is no fault. */
	check_eq(snippet_in_user(&trap, user_flags, 0), 2);
	check(!trap.happened);
}

USER_SNIPPET(user_sgdt, "sub $16, %rsp; sgdt (%rsp); add $16, %rsp");
USER_SNIPPET(user_smsw, "smsw %eax");
USER_SNIPPET(user_str, "str %eax");
USER_SNIPPET(user_sldt, "sldt %eax");
USER_SNIPPET(user_sidt, "sub $16, %rsp; sidt (%rsp); add $16, %rsp");

BARE_CASE(umip, "modes/umip", "AMD APM vol. 2, 3.1.3, UMIP")
{
	uint64_t (*const functions[])(uint64_t) = {user_sgdt, user_smsw, user_str, user_sldt,
						   user_sidt};
	struct bare_trap trap;

	if ((cpuid(7, 0).ecx & LEAF7_UMIP) == 0) {
		bare_skip("the CPU has no UMIP");
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		write_cr4(read_cr4() & ~CR4_UMIP);
		snippet_in_user(&trap, functions[i], 0);
		check(!trap.happened);
		write_cr4(read_cr4() | CR4_UMIP);
		snippet_in_user(&trap, functions[i], 0);
		check(trap.happened);
		check_eq(trap.vector, VECTOR_GP);
	}
	__asm__ volatile("smsw %%eax" : : : "rax");
}

/* ---- instructions that are none ---- */

SNIPPET(ud0, ".byte 0x0f, 0xff, 0xc0");
SNIPPET(ud1, ".byte 0x0f, 0xb9, 0xc0");
SNIPPET(ud2, "ud2");
SNIPPET(op_06, ".byte 0x06");
SNIPPET(op_27, ".byte 0x27");
SNIPPET(op_37, ".byte 0x37");
SNIPPET(op_60, ".byte 0x60");
SNIPPET(op_82, ".byte 0x82, 0xc0, 0x00");
SNIPPET(op_9a, ".byte 0x9a, 0, 0, 0, 0, 0, 0");
SNIPPET(op_ce, ".byte 0xce");
SNIPPET(op_d4, ".byte 0xd4, 0x0a");
SNIPPET(op_d6, ".byte 0xd6");
SNIPPET(op_ea, ".byte 0xea, 0, 0, 0, 0, 0, 0");
SNIPPET(op_0f04, ".byte 0x0f, 0x04");
SNIPPET(op_lea, ".byte 0x8d, 0xc0");
SNIPPET(op_ff7, ".byte 0xff, 0xf8");
SNIPPET(op_fe2, ".byte 0xfe, 0xd0");
SNIPPET(op_cs_load, ".byte 0x8e, 0xc8");
SNIPPET(op_seg6, ".byte 0x8e, 0xf0");
SNIPPET(op_c7_1, ".byte 0xc7, 0xc8, 0, 0, 0, 0");

BARE_CASE(undefined, "modes/undefined", "AMD APM vol. 3, UD0, UD1, UD2; appendix A")
{
	static const struct refusal table[] = {
		{"UD0", ud0, 0, VECTOR_UD, NULL},
		{"UD1", ud1, 0, VECTOR_UD, NULL},
		{"UD2", ud2, 0, VECTOR_UD, NULL},
		{"0f 04", op_0f04, 0, VECTOR_UD, NULL},
		{"LEA of a register", op_lea, 0, VECTOR_UD, NULL},
		{"ff /7", op_ff7, 0, VECTOR_UD, NULL},
		{"fe /2", op_fe2, 0, VECTOR_UD, NULL},
		{"MOV to CS", op_cs_load, 0, VECTOR_UD, NULL},
		{"MOV to segment 6", op_seg6, 0, VECTOR_UD, NULL},
		{"c7 /1", op_c7_1, 0, VECTOR_UD, "QEMU's TCG ignores the reg field of MOV (c7)"},
	};

	CHECK_REFUSALS(table);
}

BARE_CASE(invalid_in_64_bit, "modes/invalid_in_64_bit", "AMD APM vol. 3, appendix B.3")
{
	static const struct refusal table[] = {
		{"PUSH ES", op_06, 0, VECTOR_UD, NULL}, {"DAA", op_27, 0, VECTOR_UD, NULL},
		{"AAA", op_37, 0, VECTOR_UD, NULL},	{"PUSHA", op_60, 0, VECTOR_UD, NULL},
		{"82", op_82, 0, VECTOR_UD, NULL},	{"CALLF", op_9a, 0, VECTOR_UD, NULL},
		{"INTO", op_ce, 0, VECTOR_UD, NULL},	{"AAM", op_d4, 0, VECTOR_UD, NULL},
		{"SALC", op_d6, 0, VECTOR_UD, NULL},	{"JMPF", op_ea, 0, VECTOR_UD, NULL},
	};

	CHECK_REFUSALS(table);
}

SNIPPET(lock_mov, ".byte 0xf0, 0x89, 0x07");
SNIPPET(lock_add_reg, ".byte 0xf0, 0x01, 0xc0");
SNIPPET(lock_add_from, ".byte 0xf0, 0x03, 0x07");
SNIPPET(lock_cmp, ".byte 0xf0, 0x39, 0x07");
SNIPPET(lock_nop, ".byte 0xf0, 0x90");
SNIPPET(lock_bt, ".byte 0xf0, 0x0f, 0xa3, 0x07");
SNIPPET(lock_test, ".byte 0xf0, 0x85, 0x07");

BARE_CASE(lock_refused, "modes/lock_refused", "AMD APM vol. 3, 1.2.5, LOCK")
{
	static const char tcg[] = "QEMU's TCG ignores LOCK where it may not be";
	static uint64_t word[2];
	const struct refusal table[] = {
		{"LOCK ADD reg", lock_add_reg, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK ADD from memory", lock_add_from, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK CMP", lock_cmp, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK BT", lock_bt, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK MOV", lock_mov, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK NOP", lock_nop, (uint64_t)word, VECTOR_UD, tcg},
		{"LOCK TEST", lock_test, (uint64_t)word, VECTOR_UD, tcg},
	};

	CHECK_REFUSALS(table);
}

SNIPPET(bytes_15, ".fill 14, 1, 0x66; nop");
SNIPPET(bytes_16, ".fill 15, 1, 0x66; nop");

BARE_CASE(fifteen_bytes, "modes/fifteen_bytes", "AMD APM vol. 3, 1.1; Intel SDM vol. 3A, 6.15, #GP")
{
	static const struct refusal table[] = {{"16 bytes", bytes_16, 0, VECTOR_GP, NULL}};
	struct bare_trap trap;

	bare_try(&trap, bytes_15, NULL);
	check(!trap.happened);
	CHECK_REFUSALS(table);
}
