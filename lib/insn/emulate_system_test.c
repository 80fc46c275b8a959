/*
 * Control registers, MSRs, descriptor tables, the flags register: instructions of the system.
 */
#include <string.h>

#include "lib/insn/test_guest.h"

static void test_control_registers(void **state)
{
	(void)state;
	g.cr[0] = 0x80000019;
	g.cpu.gpr[1] = 0x1234000;
	assert_int_equal(emulate("0f 22 d9"), INSN_DONE); /* mov cr3, rcx */
	assert_int_equal(g.cr[3], 0x1234000);
	assert_int_equal(emulate("0f 20 da"), INSN_DONE); /* mov rdx, cr3 */
	assert_int_equal(g.cpu.gpr[2], 0x1234000);
	assert_int_equal(emulate("44 0f 22 c1"), INSN_DONE); /* mov cr8, rcx */
	assert_int_equal(g.cr[8], 0x1234000);
	g.cpu.gpr[1] = 1;
	assert_fault("0f 22 d9", INSN_EXC_GP);	       /* the op refuses */
	assert_int_equal(emulate("0f 06"), INSN_DONE); /* clts */
	assert_int_equal(g.cr[0], 0x80000011);
	g.cpu.gpr[0] = 0xfff0;
	assert_int_equal(emulate("0f 01 f0"), INSN_DONE); /* lmsw ax: PE stays */
	assert_int_equal(g.cr[0], 0x80000011);
	assert_int_equal(emulate("0f 01 e3"), INSN_DONE); /* smsw ebx */
	assert_int_equal(g.cpu.gpr[3], 0x80000011);
	g.cpu.gpr[2] = 0x5555;
	assert_int_equal(emulate("0f 23 fa"), INSN_DONE); /* mov dr7, rdx */
	assert_int_equal(g.dr[7], 0x5555);
	assert_int_equal(emulate("0f 21 e9"), INSN_DONE); /* mov rcx, dr5: an alias of dr7 */
	assert_int_equal(g.cpu.gpr[1], 0x5555);
	g.cpu.cr4 |= BIT(3);
	assert_fault("0f 21 e9", INSN_EXC_UD);
	g.cpu.cpl = 3;
	assert_fault("0f 20 da", INSN_EXC_GP);
	assert_fault("0f 06", INSN_EXC_GP);
	assert_int_equal(emulate("0f 01 e3"), INSN_DONE); /* smsw */
	g.cpu.cr4 |= BIT(11);				  /* but not with UMIP */
	assert_fault("0f 01 e3", INSN_EXC_GP);
}

static void test_msr_cpuid_tsc(void **state)
{
	(void)state;
	g.cpu.gpr[0] = UINT64_C(0xffffffff00000007);
	g.cpu.gpr[1] = 2;
	assert_int_equal(emulate("0f a2"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x702);
	assert_int_equal(g.cpu.gpr[3], (0x702 << 8 | 2) + 0x1000);
	g.cpu.gpr[0] = UINT64_C(0xffffffff11112222);
	g.cpu.gpr[2] = 0x33334444;
	g.cpu.gpr[1] = 0xc0000080;
	assert_int_equal(emulate("0f 30"), INSN_DONE);
	assert_int_equal(g.msr, UINT64_C(0x3333444411112222));
	assert_int_equal(g.msr_number, 0xc0000080);
	g.cpu.gpr[0] = 0;
	assert_int_equal(emulate("0f 32"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x11112222);
	g.cpu.gpr[1] = 0xbad;
	assert_fault("0f 32", INSN_EXC_GP);
	assert_fault("0f 30", INSN_EXC_GP);
	assert_int_equal(emulate("0f 01 f9"), INSN_DONE); /* rdtscp */
	assert_int_equal(g.cpu.gpr[0], 0x55667788);
	assert_int_equal(g.cpu.gpr[2], 0x11223344);
	assert_int_equal(g.cpu.gpr[1], 77);
	g.cpu.gpr[1] = 0;
	assert_fault("0f 01 d1", INSN_EXC_UD);
	g.cpu.cr4 |= BIT(18);
	assert_int_equal(emulate("0f 01 d1"), INSN_DONE); /* xsetbv */
	assert_int_equal(g.xcr, UINT64_C(0x1122334455667788));
	/* swapgs */
	g.msr = 0x1000;
	g.cpu.seg[INSN_GS].base = 0x2000;
	assert_int_equal(emulate("0f 01 f8"), INSN_DONE);
	assert_int_equal(g.cpu.seg[INSN_GS].base, 0x1000);
	assert_int_equal(g.msr, 0x2000);
	g.cpu.cpl = 3;
	g.cpu.cr4 |= BIT(2);
	assert_fault("0f 31", INSN_EXC_GP);
	assert_fault("0f 32", INSN_EXC_GP);
	assert_fault("0f 01 f8", INSN_EXC_GP);
}

static void test_protection_keys(void **state)
{
	(void)state;
	g.pkru = 0x55555554;
	assert_fault("0f 01 ee", INSN_EXC_UD); /* rdpkru */
	assert_fault("0f 01 ef", INSN_EXC_UD); /* wrpkru */
	g.cpu.cr4 |= CR4_PKE;
	g.cpu.cpl = 3;
	memset(g.cpu.gpr, 0xff, sizeof(g.cpu.gpr));
	assert_fault("0f 01 ee", INSN_EXC_GP);
	g.cpu.gpr[1] = UINT64_C(0xffffffff00000000); /* ECX is 0 */
	assert_int_equal(emulate("0f 01 ee"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[0], 0x55555554);
	assert_int_equal(g.cpu.gpr[2], 0);
	g.cpu.gpr[0] = UINT64_C(0xffffffff12345678);
	g.cpu.gpr[2] = 1;
	assert_fault("0f 01 ef", INSN_EXC_GP);
	g.cpu.gpr[2] = BIT(32);
	g.cpu.gpr[1] = 1;
	assert_fault("0f 01 ef", INSN_EXC_GP);
	assert_int_equal(g.pkru, 0x55555554);
	g.cpu.gpr[1] = BIT(32);
	assert_int_equal(emulate("0f 01 ef"), INSN_DONE);
	assert_int_equal(g.pkru, 0x12345678);
	assert_int_equal(g.cpu.gpr[0], UINT64_C(0xffffffff12345678));
}

static void test_system(void **state)
{
	(void)state;
	g.cpu.gpr[0] = 0x123456;
	assert_int_equal(emulate("0f 01 38"), INSN_DONE); /* invlpg [rax] */
	assert_int_equal(g.invalidated, 0x123456);
	assert_int_equal(g.reads, 0);
	assert_int_equal(emulate("0f 09"), INSN_DONE);
	assert_int_equal(g.written_back, 1);
	assert_int_equal(emulate("f4"), INSN_HALT);
	assert_int_equal(g.cpu.rip, 0x1006);
	memcpy(g.memory + 0x2000, "\xff\x01\x00\x40\x00\x00\x80\xff\xff\xff", 10);
	assert_int_equal(emulate("0f 01 14 25 00200000"), INSN_DONE); /* lgdt */
	assert_int_equal(g.cpu.gdtr.limit, 0x1ff);
	assert_int_equal(g.cpu.gdtr.base, UINT64_C(0xffffff8000004000));
	assert_int_equal(emulate("0f 01 04 25 10200000"), INSN_DONE); /* sgdt */
	assert_memory_equal(g.memory + 0x2000, g.memory + 0x2010, 10);
	g.memory[0x2007] = 0;
	assert_fault("0f 01 1c 25 00200000", INSN_EXC_GP); /* lidt, not canonical */
	/* sti: a shadow of one instruction, if interrupts were off */
	assert_int_equal(emulate("fb"), INSN_DONE);
	assert_true(g.cpu.interrupt_shadow);
	assert_true((g.cpu.rflags & BIT(9)) != 0);
	assert_int_equal(emulate("fb"), INSN_DONE);
	assert_false(g.cpu.interrupt_shadow);
	assert_int_equal(emulate("fa"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(9)) == 0);
	g.cpu.cpl = 3;
	assert_fault("fa", INSN_EXC_GP);
	assert_fault("f4", INSN_EXC_GP);
	g.cpu.cr4 |= BIT(1); /* PVI */
	assert_int_equal(emulate("fb"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(19)) != 0 && (g.cpu.rflags & BIT(9)) == 0);
	g.cpu.rflags |= BIT(20);
	assert_fault("fb", INSN_EXC_GP);
}

static void test_flags_register(void **state)
{
	(void)state;
	g.cpu.gpr[4] = 0x8000;
	memset(g.memory + 0x8000, 0xff, 8);
	assert_int_equal(emulate("9d"), INSN_DONE); /* popfq, CPL 0 */
	assert_int_equal(g.cpu.rflags, 0x247fd7);
	g.cpu.rflags = BIT(1);
	g.cpu.cpl = 3;
	g.cpu.gpr[4] = 0x8000;
	assert_int_equal(emulate("9d"), INSN_DONE); /* neither IF nor IOPL */
	assert_int_equal(g.cpu.rflags, 0x244dd7);
	g.cpu.rflags |= BIT(16) | BIT(9);
	assert_int_equal(emulate("9c"), INSN_DONE);
	assert_int_equal(g.cpu.rflags & BIT(16), 0); /* RF is over */
	assert_int_equal(g.cpu.gpr[4], 0x8000);
	assert_memory_equal(g.memory + 0x8000, "\xd7\x4f\x24\x00\x00\x00\x00\x00", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_control_registers, start_long),
		cmocka_unit_test_setup(test_msr_cpuid_tsc, start_long),
		cmocka_unit_test_setup(test_protection_keys, start_long),
		cmocka_unit_test_setup(test_system, start_long),
		cmocka_unit_test_setup(test_flags_register, start_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
