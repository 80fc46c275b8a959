/*
 * Descriptors, far transfers, events and system calls, by cases from the manuals: what a host
 * process cannot execute.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "tests/unit.h"

#define MEMORY_BYTES 65536
#define GDT	     0x1000
#define IDT	     0x2000
#define TSS	     0x3000
#define LDT	     0x3800
#define STACK_0	     0x6000
#define STACK_3	     0x7000
#define IST_1	     0x8000
#define CODE	     0x4000

/* Selectors. */
#define CS0	  0x08
#define SS0	  0x10
#define CS3	  0x1b
#define SS3	  0x23
#define TSS_AT	  0x28
#define LDT_AT	  0x38
#define GATE_AT	  0x48
#define CS_CONF	  0x58
#define CS_ABSENT 0x60

static struct {
	struct insn_env env;
	struct insn_cpu cpu;
	uint8_t memory[MEMORY_BYTES];
	uint64_t star, lstar, fmask, sysenter[3];
	uint64_t read_only;
} g;

static enum insn_outcome read_op(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	(void)access;
	if (linear > MEMORY_BYTES - len) {
		return insn_raise_page_fault(env, linear, 0);
	}
	memcpy(data, g.memory + linear, len);
	return INSN_DONE;
}

static enum insn_outcome write_op(struct insn_env *env, uint64_t linear, const void *data,
				  unsigned len, unsigned access)
{
	(void)access;
	if (linear > MEMORY_BYTES - len || linear < g.read_only) {
		return insn_raise_page_fault(env, linear, 2 | (env->cpu->cpl == 3 ? 4 : 0));
	}
	memcpy(g.memory + linear, data, len);
	return INSN_DONE;
}

static enum insn_outcome read_msr_op(struct insn_env *env, uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case 0xc0000081:
		*value = g.star;
		return INSN_DONE;
	case 0xc0000082:
	case 0xc0000083:
		*value = g.lstar;
		return INSN_DONE;
	case 0xc0000084:
		*value = g.fmask;
		return INSN_DONE;
	case 0x174:
	case 0x175:
	case 0x176:
		*value = g.sysenter[msr - 0x174];
		return INSN_DONE;
	default:
		return insn_raise(env, INSN_EXC_GP, 0);
	}
}

static const struct insn_ops ops = {.read = read_op, .write = write_op, .read_msr = read_msr_op};

static void put(uint64_t at, uint64_t value, unsigned bytes)
{
	memcpy(g.memory + at, &value, bytes);
}

static uint64_t get(uint64_t at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, g.memory + at, bytes);
	return value;
}

static void gate(unsigned vector, uint16_t selector, uint64_t rip, unsigned type, unsigned dpl,
		 unsigned ist)
{
	bool wide = (g.cpu.efer & BIT(10)) != 0;
	uint64_t at = IDT + (wide ? 16 : 8) * (uint64_t)vector;

	put(at,
	    (rip & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
		    (uint64_t)(0x80 | dpl << 5 | type) << 40 | (rip >> 16 & 0xffff) << 48,
	    8);
	if (wide) {
		put(at + 8, rip >> 32, 8);
	}
}

/* A kernel and a user, flat; @wide: long mode. */
static void start(bool wide)
{
	uint64_t code = wide ? UINT64_C(0x00af9a000000ffff) : UINT64_C(0x00cf9a000000ffff);

	memset(&g, 0, sizeof(g));
	g.env = (struct insn_env){.cpu = &g.cpu, .ops = &ops, .other = insn_do_other};
	put(GDT + CS0, code, 8);
	put(GDT + SS0, UINT64_C(0x00cf92000000ffff), 8);
	put(GDT + (CS3 & ~3), code | UINT64_C(0x600000000000), 8);
	put(GDT + (SS3 & ~3), UINT64_C(0x00cff2000000ffff), 8);
	put(GDT + TSS_AT, UINT64_C(0x0000890000000067) | (uint64_t)TSS << 16, 8);
	put(GDT + LDT_AT, UINT64_C(0x000082000000000f) | (uint64_t)LDT << 16, 8);
	put(GDT + CS_CONF, code | UINT64_C(0x040000000000), 8);
	put(GDT + CS_ABSENT, code & ~UINT64_C(0x800000000000), 8);
	g.cpu.gdtr = (struct insn_table_register){.limit = 0x67, .base = GDT};
	g.cpu.idtr = (struct insn_table_register){.limit = wide ? 0x3ff : 0x1ff, .base = IDT};
	g.cpu.tr =
		(struct insn_segment){.selector = TSS_AT, .attr = 0x8b, .limit = 0x67, .base = TSS};
	put(TSS + 4, STACK_0, wide ? 8 : 4);
	if (wide) {
		put(TSS + 36, IST_1, 8);
	} else {
		put(TSS + 8, SS0, 2);
	}
	g.cpu.cr0 = 0x80000011;
	g.cpu.cr4 = BIT(5);
	g.cpu.efer = wide ? BIT(0) | BIT(8) | BIT(10) : 0;
	g.cpu.rip = CODE;
	g.cpu.rflags = BIT(1) | BIT(9);
}

static void at_level(unsigned cpl, bool wide)
{
	uint16_t dpl = (uint16_t)(cpl << 5);

	g.cpu.cpl = (uint8_t)cpl;
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		g.cpu.seg[i] = (struct insn_segment){
			.selector = cpl == 0 ? SS0 : SS3, .attr = 0xc93 | dpl, .limit = UINT32_MAX};
	}
	g.cpu.seg[INSN_CS].selector = cpl == 0 ? CS0 : CS3;
	g.cpu.seg[INSN_CS].attr = (wide ? 0xa9b : 0xc9b) | dpl;
	g.cpu.gpr[4] = cpl == 0 ? STACK_0 : STACK_3;
}

static int start_64(void **state)
{
	(void)state;
	start(true);
	at_level(3, true);
	return 0;
}

static int start_32(void **state)
{
	(void)state;
	start(false);
	at_level(3, false);
	return 0;
}

static enum insn_outcome emulate(const char *hex)
{
	uint8_t bytes[INSN_MAX];
	struct insn insn;
	unsigned n = 0;

	for (; hex[0] != 0; hex += hex[2] == ' ' ? 3 : 2) {
		char digits[3] = {hex[0], hex[1], 0};

		bytes[n++] = (uint8_t)strtoul(digits, NULL, 16);
	}
	assert_int_equal(insn_decode(&insn, insn_mode(&g.cpu), bytes, n), INSN_OK);
	return insn_emulate(&g.env, &insn);
}

static void assert_fault(const char *hex, enum insn_vector vector, uint32_t error)
{
	struct insn_cpu before = g.cpu;

	assert_int_equal(emulate(hex), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, vector);
	assert_int_equal(g.env.fault.error, error);
	assert_memory_equal(&before, &g.cpu, sizeof(before));
}

static void test_deliver_64(void **state)
{
	(void)state;
	gate(14, CS0, UINT64_C(0xffff800000001234), 14, 0, 0);
	g.cpu.gpr[4] = STACK_3;
	assert_int_equal(insn_deliver(&g.env, 14, 6, INSN_EVENT_FAULT), INSN_DONE);
	assert_int_equal(g.cpu.rip, UINT64_C(0xffff800000001234));
	assert_int_equal(g.cpu.cpl, 0);
	assert_int_equal(g.cpu.seg[INSN_CS].selector, CS0);
	assert_int_equal(g.cpu.seg[INSN_SS].selector, 0);
	assert_int_equal(g.cpu.gpr[4], STACK_0 - 48);
	assert_int_equal(g.cpu.rflags & BIT(9), 0);
	assert_int_equal(get(STACK_0 - 48, 8), 6);
	assert_int_equal(get(STACK_0 - 40, 8), CODE);
	assert_int_equal(get(STACK_0 - 32, 8), CS3);
	assert_int_equal(get(STACK_0 - 24, 8), BIT(1) | BIT(9) | BIT(16));
	assert_int_equal(get(STACK_0 - 16, 8), STACK_3);
	assert_int_equal(get(STACK_0 - 8, 8), SS3);
	/* Back: behind the error code. */
	g.cpu.gpr[4] += 8;
	assert_int_equal(emulate("48 cf"), INSN_DONE);
	assert_int_equal(g.cpu.rip, CODE);
	assert_int_equal(g.cpu.cpl, 3);
	assert_int_equal(g.cpu.gpr[4], STACK_3);
	assert_int_equal(g.cpu.seg[INSN_SS].selector, SS3);
	assert_int_equal(g.cpu.rflags, BIT(1) | BIT(9) | BIT(16));
	/* With an IST, from the kernel: SS stays; a trap gate leaves IF. */
	at_level(0, true);
	g.cpu.gpr[4] = 0x5003;
	gate(2, CS0, 0x1111, 15, 0, 1);
	assert_int_equal(insn_deliver(&g.env, 2, 0, INSN_EVENT_INTERRUPT), INSN_DONE);
	assert_int_equal(g.cpu.gpr[4], IST_1 - 40);
	assert_int_equal(g.cpu.seg[INSN_SS].selector, SS0);
	assert_true((g.cpu.rflags & BIT(9)) != 0);
	/* Without, RSP is aligned. */
	gate(3, CS0, 0x1111, 14, 0, 0);
	g.cpu.gpr[4] = 0x5003;
	assert_int_equal(insn_deliver(&g.env, 3, 0, INSN_EVENT_TRAP), INSN_DONE);
	assert_int_equal(g.cpu.gpr[4], 0x5000 - 40);
	assert_int_equal(get(0x5000 - 16, 8), 0x5003);
}

static void refused(unsigned vector, enum insn_event event, enum insn_vector fault, uint32_t error)
{
	struct insn_cpu before = g.cpu;

	assert_int_equal(insn_deliver(&g.env, vector, 0, event), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, fault);
	assert_int_equal(g.env.fault.error, error);
	assert_memory_equal(&before, &g.cpu, sizeof(before));
}

static void test_deliver_refused(void **state)
{
	(void)state;
	refused(0x50, INSN_EVENT_INTERRUPT, INSN_EXC_GP, 0x50 * 8 + 3); /* behind the limit */
	refused(6, INSN_EVENT_FAULT, INSN_EXC_GP, 6 * 8 + 3);		/* no gate */
	assert_fault("cd 06", INSN_EXC_GP, 6 * 8 + 2);
	gate(6, CS0, 0x1000, 14, 0, 0);
	assert_fault("cd 06", INSN_EXC_GP, 6 * 8 + 2); /* its DPL */
	g.memory[IDT + 6 * 16 + 5] &= 0x7f;
	refused(6, INSN_EVENT_FAULT, INSN_EXC_NP, 6 * 8 + 3);
	gate(6, 0, 0x1000, 14, 0, 0);
	refused(6, INSN_EVENT_FAULT, INSN_EXC_GP, 1);
	gate(6, SS0, 0x1000, 14, 0, 0);
	refused(6, INSN_EVENT_FAULT, INSN_EXC_GP, SS0 + 1);
	gate(6, CS_ABSENT, 0x1000, 14, 0, 0);
	refused(6, INSN_EVENT_FAULT, INSN_EXC_NP, CS_ABSENT + 1);
	gate(6, CS0, UINT64_C(1) << 60, 14, 0, 0);
	refused(6, INSN_EVENT_FAULT, INSN_EXC_GP, 1);
	gate(6, CS0, 0x1000, 14, 0, 0);
	put(TSS + 4, UINT64_C(1) << 60, 8);
	refused(6, INSN_EVENT_FAULT, INSN_EXC_SS, 1);
	g.cpu.tr.limit = 10;
	refused(6, INSN_EVENT_FAULT, INSN_EXC_TS, TSS_AT + 1);
	g.cpu.tr.limit = 0x67;
	put(TSS + 4, MEMORY_BYTES + 0x1000, 8); /* a stack that is not there, written as CPL 0 */
	refused(6, INSN_EVENT_FAULT, INSN_EXC_PF, 2);
}

static void test_deliver_32(void **state)
{
	(void)state;
	gate(0x20, CS0, 0x12345678, 14, 3, 0);
	assert_int_equal(emulate("cd 20"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x12345678);
	assert_int_equal(g.cpu.gpr[4], STACK_0 - 20);
	assert_int_equal(get(STACK_0 - 20, 4), CODE + 2);
	assert_int_equal(get(STACK_0 - 8, 4), STACK_3);
	assert_int_equal(g.cpu.seg[INSN_SS].selector, SS0);
	assert_int_equal(g.memory[GDT + SS0 + 5], 0x93); /* accessed */
	assert_int_equal(emulate("cf"), INSN_DONE);
	assert_int_equal(g.cpu.rip, CODE + 2);
	assert_int_equal(g.cpu.cpl, 3);
	/* From virtual-8086 mode and back. */
	g.cpu.rflags |= BIT(17) | BIT(12) | BIT(13);
	g.cpu.seg[INSN_ES].selector = 0x77;
	assert_int_equal(emulate("cd 20"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[4], STACK_0 - 36);
	assert_int_equal(g.cpu.seg[INSN_ES].selector, 0);
	assert_int_equal(g.cpu.rflags & BIT(17), 0);
	assert_int_equal(emulate("cf"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(17)) != 0);
	assert_int_equal(g.cpu.cpl, 3);
	assert_int_equal(g.cpu.seg[INSN_ES].selector, 0x77);
	assert_int_equal(g.cpu.seg[INSN_ES].base, 0x770);
	assert_int_equal(g.cpu.gpr[4], STACK_3);
	g.cpu.rflags &= ~(BIT(12) | BIT(13));
	assert_fault("cd 20", INSN_EXC_GP, 0);
	assert_fault("cf", INSN_EXC_GP, 0);
}

static void test_segments(void **state)
{
	(void)state;
	g.cpu.gpr[0] = SS3;
	assert_int_equal(emulate("8e d8"), INSN_DONE); /* mov ds, ax */
	assert_int_equal(g.cpu.seg[INSN_DS].selector, SS3);
	assert_int_equal(g.memory[GDT + (SS3 & ~3) + 5], 0xf3);
	assert_int_equal(emulate("8e d0"), INSN_DONE); /* mov ss, ax */
	assert_true(g.cpu.interrupt_shadow && g.cpu.trap_shadow);
	g.cpu.gpr[0] = SS0;
	assert_fault("8e d8", INSN_EXC_GP, SS0);
	g.cpu.gpr[0] = 0x68;
	assert_fault("8e d8", INSN_EXC_GP, 0x68); /* behind the limit */
	g.cpu.gpr[0] = 0;
	assert_fault("8e d0", INSN_EXC_GP, 0);
	assert_int_equal(emulate("8e d8"), INSN_DONE);
	assert_fault("8b 05 00400000", INSN_EXC_GP, 0); /* by a null segment */
	g.cpu.gpr[0] = 4;
	assert_fault("8e d8", INSN_EXC_GP, 4); /* no LDT */
	g.memory[GDT + (SS3 & ~3) + 5] &= 0x7f;
	g.cpu.gpr[0] = SS3;
	assert_fault("8e d8", INSN_EXC_NP, SS3 & ~3);
	assert_fault("8e d0", INSN_EXC_SS, SS3 & ~3);
}

static void test_system_segments(void **state)
{
	(void)state;
	g.cpu.gpr[0] = LDT_AT;
	assert_fault("0f 00 d0", INSN_EXC_GP, 0); /* lldt, CPL 3 */
	at_level(0, false);
	assert_int_equal(emulate("0f 00 d0"), INSN_DONE);
	assert_int_equal(g.cpu.ldtr.base, LDT);
	assert_int_equal(g.cpu.ldtr.limit, 15);
	assert_fault("0f 00 d8", INSN_EXC_GP, LDT_AT); /* ltr */
	g.cpu.gpr[0] = TSS_AT;
	assert_fault("0f 00 d0", INSN_EXC_GP, TSS_AT);
	assert_int_equal(emulate("0f 00 d8"), INSN_DONE);
	assert_int_equal(g.memory[GDT + TSS_AT + 5], 0x8b);
	assert_fault("0f 00 d8", INSN_EXC_GP, TSS_AT); /* busy */
	/* lar, lsl, verr, verw */
	g.cpu.gpr[1] = CS0;
	assert_int_equal(emulate("0f 02 d1"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[2], 0xcf9a00);
	assert_true((g.cpu.rflags & BIT(6)) != 0);
	assert_int_equal(emulate("0f 03 d1"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[2], UINT32_MAX);
	assert_int_equal(emulate("0f 00 e1"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(6)) != 0);
	assert_int_equal(emulate("0f 00 e9"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(6)) == 0);
	g.cpu.gpr[1] = 0x1000;
	assert_int_equal(emulate("0f 02 d1"), INSN_DONE);
	assert_true((g.cpu.rflags & BIT(6)) == 0);
	assert_int_equal(g.cpu.gpr[2], UINT32_MAX);
	/* arpl */
	g.cpu.gpr[1] = 3;
	g.cpu.gpr[2] = 0x10;
	assert_int_equal(emulate("63 ca"), INSN_DONE);
	assert_int_equal(g.cpu.gpr[2], 0x13);
}

static void test_far(void **state)
{
	(void)state;
	assert_fault("ea 00500000 0800", INSN_EXC_GP, CS0);
	assert_fault("ea 00500000 0000", INSN_EXC_GP, 0);
	assert_int_equal(emulate("ea 00500000 5800"), INSN_DONE); /* conforming */
	assert_int_equal(g.cpu.seg[INSN_CS].selector, CS_CONF | 3);
	assert_int_equal(g.cpu.cpl, 3);
	/* A call gate to the kernel with two parameters, and back. */
	put(GDT + GATE_AT, UINT64_C(0x0000ec0200089876), 8);
	put(STACK_3, UINT64_C(0x2222222211111111), 8);
	assert_int_equal(emulate("9a 00000000 4800"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x9876);
	assert_int_equal(g.cpu.cpl, 0);
	assert_int_equal(g.cpu.gpr[4], STACK_0 - 24);
	assert_int_equal(get(STACK_0 - 24, 4), 0x5007);
	assert_int_equal(get(STACK_0 - 16, 8), UINT64_C(0x2222222211111111));
	assert_int_equal(get(STACK_0 - 8, 4), STACK_3);
	g.cpu.seg[INSN_DS] = g.cpu.seg[INSN_SS]; /* the kernel's, which a return takes away */
	assert_int_equal(emulate("ca 0800"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x5007);
	assert_int_equal(g.cpu.cpl, 3);
	assert_int_equal(g.cpu.gpr[4], STACK_3 + 8);
	assert_int_equal(g.cpu.seg[INSN_DS].selector, 0);
	assert_fault("9a 00000000 2800", INSN_EXC_GP, TSS_AT); /* a TSS of DPL 0 */
	/* A return inwards is refused. */
	put(STACK_3 + 8, CODE | (uint64_t)CS0 << 32, 8);
	assert_fault("cb", INSN_EXC_GP, CS0);
}

static void test_syscall(void **state)
{
	(void)state;
	g.star = (uint64_t)0x10 << 48 | (uint64_t)CS0 << 32;
	g.lstar = UINT64_C(0xffff800000002000);
	g.fmask = BIT(9);
	assert_int_equal(emulate("0f 05"), INSN_DONE);
	assert_int_equal(g.cpu.rip, g.lstar);
	assert_int_equal(g.cpu.gpr[1], CODE + 2);
	assert_int_equal(g.cpu.gpr[11], BIT(1) | BIT(9));
	assert_int_equal(g.cpu.rflags, BIT(1));
	assert_int_equal(g.cpu.cpl, 0);
	assert_int_equal(g.cpu.seg[INSN_SS].selector, SS0);
	assert_int_equal(emulate("48 0f 07"), INSN_DONE);
	assert_int_equal(g.cpu.rip, CODE + 2);
	assert_int_equal(g.cpu.cpl, 3);
	assert_int_equal(g.cpu.seg[INSN_CS].selector, 0x23);
	assert_int_equal(g.cpu.rflags, BIT(1) | BIT(9));
	assert_fault("48 0f 07", INSN_EXC_GP, 0);
	assert_fault("0f 34", INSN_EXC_GP, 0); /* sysenter without a segment */
	g.sysenter[0] = CS0;
	g.sysenter[1] = STACK_0;
	g.sysenter[2] = 0x4444;
	assert_int_equal(emulate("0f 34"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x4444);
	assert_int_equal(g.cpu.gpr[4], STACK_0);
	assert_int_equal(g.cpu.rflags & BIT(9), 0);
	g.cpu.gpr[1] = STACK_3;
	g.cpu.gpr[2] = UINT64_C(1) << 60;
	assert_fault("48 0f 35", INSN_EXC_GP, 0);
	g.cpu.gpr[2] = CODE;
	assert_int_equal(emulate("48 0f 35"), INSN_DONE);
	assert_int_equal(g.cpu.seg[INSN_CS].selector, CS0 + 32 + 3);
	g.cpu.efer &= ~BIT(0);
	assert_fault("0f 05", INSN_EXC_UD, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_deliver_64, start_64),
		cmocka_unit_test_setup(test_deliver_refused, start_64),
		cmocka_unit_test_setup(test_deliver_32, start_32),
		cmocka_unit_test_setup(test_segments, start_32),
		cmocka_unit_test_setup(test_system_segments, start_32),
		cmocka_unit_test_setup(test_far, start_32),
		cmocka_unit_test_setup(test_syscall, start_64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
