/* Hardware tasks: JMP, CALL and IRET between them, gates of the IDT, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "tests/unit.h"

#define MEMORY_BYTES 65536
#define GDT	     0x1000
#define IDT	     0x2000
#define TSS_A	     0x3000
#define TSS_B	     0x3100
#define TSS_16	     0x3200
#define STACK_B	     0x6000

#define CS0	0x08
#define DS0	0x10
#define A	0x18
#define B	0x20
#define SMALL	0x28
#define GATE	0x30
#define ABSENT	0x38
#define FLAG_NT BIT(14)

static struct {
	struct insn_env env;
	struct insn_cpu cpu;
	uint8_t memory[MEMORY_BYTES];
	uint64_t cr3;
	uint64_t not_there; /* reads of it exit */
} g;

static enum insn_outcome read_op(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				 unsigned access)
{
	(void)access;
	if (linear == g.not_there) {
		return INSN_EXIT;
	}
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
	if (linear > MEMORY_BYTES - len) {
		return insn_raise_page_fault(env, linear, 2);
	}
	memcpy(g.memory + linear, data, len);
	return INSN_DONE;
}

static enum insn_outcome read_cr_op(struct insn_env *env, unsigned cr, uint64_t *value)
{
	*value = cr == 3 ? g.cr3 : env->cpu->cr0;
	return INSN_DONE;
}

static enum insn_outcome write_cr_op(struct insn_env *env, unsigned cr, uint64_t value)
{
	if (cr == 3) {
		g.cr3 = value;
	} else {
		env->cpu->cr0 = value;
	}
	return INSN_DONE;
}

static const struct insn_ops ops = {
	.read = read_op, .write = write_op, .read_cr = read_cr_op, .write_cr = write_cr_op};

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

static void descriptor(uint16_t selector, uint64_t base, uint16_t limit, uint64_t type)
{
	put(GDT + selector, limit | base << 16 | type << 40, 8);
}

static int start(void **state)
{
	(void)state;
	memset(&g, 0, sizeof(g));
	g.not_there = UINT64_MAX;
	g.env = (struct insn_env){.cpu = &g.cpu, .ops = &ops, .other = insn_do_other};
	put(GDT + CS0, UINT64_C(0x00cf9b000000ffff), 8);
	put(GDT + DS0, UINT64_C(0x00cf93000000ffff), 8);
	descriptor(A, TSS_A, 103, 0x8b);
	descriptor(B, TSS_B, 103, 0x89);
	descriptor(SMALL, TSS_16, 43, 0x81);
	descriptor(GATE, B, 0, 0x85);
	descriptor(ABSENT, TSS_B, 103, 0x09);
	put(IDT + 8 * UINT64_C(0x40), (uint64_t)B << 16 | UINT64_C(0x85) << 40, 8);
	put(IDT + 8 * UINT64_C(13), (uint64_t)B << 16 | UINT64_C(0x85) << 40, 8);
	g.cpu.gdtr = (struct insn_table_register){.limit = 0x3f, .base = GDT};
	g.cpu.idtr = (struct insn_table_register){.limit = 0x7ff, .base = IDT};
	g.cpu.tr = (struct insn_segment){.selector = A, .attr = 0x8b, .limit = 103, .base = TSS_A};
	g.cpu.cr0 = 0x80000011;
	g.cr3 = 0x9000;
	g.cpu.rip = 0x4000;
	g.cpu.rflags = BIT(1) | BIT(0);
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		g.cpu.seg[i] = (struct insn_segment){DS0, 0xc93, UINT32_MAX, 0};
	}
	g.cpu.seg[INSN_CS] = (struct insn_segment){CS0, 0xc9b, UINT32_MAX, 0};
	for (unsigned i = 0; i < 8; i++) {
		g.cpu.gpr[i] = 0x100 + i;
	}
	put(TSS_B + 28, 0xa000, 4);
	put(TSS_B + 32, 0x5000, 4);
	put(TSS_B + 36, 0x202, 4);
	put(TSS_B + 40, 0x11112222, 4);
	put(TSS_B + 56, STACK_B, 4);
	for (unsigned i = 0; i < 6; i++) {
		put(TSS_B + 72 + 4 * i, i == INSN_CS ? CS0 : i < 4 ? DS0 : 0, 4);
	}
	put(TSS_16 + 14, 0x5100, 2);
	put(TSS_16 + 16, 0x2, 2);
	put(TSS_16 + 18, 0x3333, 2);
	for (unsigned i = 0; i < 4; i++) {
		put(TSS_16 + 34 + 2 * i, i == INSN_CS ? CS0 : DS0, 2);
	}
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

static unsigned type_of(uint16_t selector)
{
	return (unsigned)get(GDT + selector + 5, 1);
}

static void test_jump(void **state)
{
	(void)state;
	assert_int_equal(emulate("ea 00000000 2000"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x5000);
	assert_int_equal(g.cpu.rflags, 0x202);
	assert_int_equal(g.cpu.gpr[0], 0x11112222);
	assert_int_equal(g.cpu.gpr[4], STACK_B);
	assert_int_equal(g.cpu.tr.selector, B);
	assert_int_equal(g.cpu.tr.attr, 0x8b);
	assert_int_equal(g.cpu.cr0, 0x80000019);
	assert_int_equal(g.cr3, 0xa000);
	assert_int_equal(g.cpu.seg[INSN_DS].selector, DS0);
	assert_int_equal(g.cpu.seg[INSN_DS].limit, UINT32_MAX);
	assert_int_equal(g.cpu.seg[INSN_GS].selector, 0);
	assert_int_equal(type_of(A), 0x89);
	assert_int_equal(type_of(B), 0x8b);
	assert_int_equal(get(TSS_A + 32, 4), 0x4007);
	assert_int_equal(get(TSS_A + 36, 4), 3);
	assert_int_equal(get(TSS_A + 44, 4), 0x101);
	assert_int_equal(get(TSS_A + 76, 2), CS0);
}

static void test_call_and_return(void **state)
{
	(void)state;
	assert_int_equal(emulate("9a 00000000 3000"), INSN_DONE); /* by a gate */
	assert_int_equal(g.cpu.rflags, 0x202 | FLAG_NT);
	assert_int_equal(get(TSS_B, 2), A);
	assert_int_equal(type_of(A), 0x8b);
	g.cpu.gpr[3] = 0x77;
	assert_int_equal(emulate("cf"), INSN_DONE);
	assert_int_equal(g.cpu.tr.selector, A);
	assert_int_equal(g.cpu.rip, 0x4007);
	assert_int_equal(g.cpu.rflags, 3);
	assert_int_equal(g.cpu.gpr[1], 0x101);
	assert_int_equal(get(TSS_B + 52, 4), 0x77);
	assert_int_equal(get(TSS_B + 36, 4) & FLAG_NT, 0);
	assert_int_equal(type_of(B), 0x89);
}

static void test_small(void **state)
{
	(void)state;
	assert_int_equal(emulate("ea 00000000 2800"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x5100);
	assert_int_equal(g.cpu.gpr[0], 0x3333);
	assert_int_equal(g.cr3, 0x9000);
	assert_int_equal(type_of(SMALL), 0x83);
}

static void test_events(void **state)
{
	(void)state;
	g.cpu.rip = 0x4444;
	assert_int_equal(insn_deliver(&g.env, 13, 0x1234, INSN_EVENT_FAULT), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x5000);
	assert_int_equal(g.cpu.gpr[4], STACK_B - 4);
	assert_int_equal(get(STACK_B - 4, 4), 0x1234);
	assert_int_equal(get(TSS_A + 32, 4), 0x4444);
	assert_true((get(TSS_A + 36, 4) & BIT(16)) != 0);
	(void)start(NULL);
	assert_int_equal(emulate("cd 40"), INSN_DONE);
	assert_int_equal(g.cpu.rip, 0x5000);
	assert_int_equal(g.cpu.gpr[4], STACK_B);
	assert_int_equal(get(TSS_A + 32, 4), 0x4002);
}

static void test_refused(void **state)
{
	(void)state;
	assert_fault("ea 00000000 1800", INSN_EXC_GP, A); /* busy */
	assert_fault("ea 00000000 3800", INSN_EXC_NP, ABSENT);
	descriptor(B, TSS_B, 102, 0x89);
	assert_fault("ea 00000000 2000", INSN_EXC_TS, B);
	g.cpu.rflags |= FLAG_NT;
	put(TSS_A, SMALL, 2); /* not busy */
	assert_fault("cf", INSN_EXC_TS, SMALL);
	put(TSS_A, 0, 2);
	assert_fault("cf", INSN_EXC_TS, 0);
}

/* A fault behind the switch is the new task's. */
static void test_fault_in_new_task(void **state)
{
	(void)state;
	put(TSS_B + 84, 0x68, 2); /* DS, beyond the table */
	assert_int_equal(emulate("ea 00000000 2000"), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, INSN_EXC_TS);
	assert_int_equal(g.env.fault.error, 0x68);
	assert_int_equal(g.cpu.rip, 0x5000);
	assert_int_equal(g.cpu.tr.selector, B);
	(void)start(NULL);
	put(TSS_B + 100, 1, 2); /* T */
	assert_int_equal(emulate("ea 00000000 2000"), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, INSN_EXC_DB);
	assert_int_equal(g.env.fault.dr6, BIT(15));
	assert_int_equal(g.cpu.rip, 0x5000);
}

/* What cannot be answered now leaves all as it was, and succeeds later. */
static void test_again(void **state)
{
	struct insn_cpu before = g.cpu;

	(void)state;
	g.not_there = GDT + DS0;
	assert_int_equal(emulate("ea 00000000 2000"), INSN_EXIT);
	assert_memory_equal(&before, &g.cpu, sizeof(before));
	assert_int_equal(g.cr3, 0x9000);
	assert_int_equal(type_of(A), 0x8b);
	assert_int_equal(type_of(B), 0x89);
	g.not_there = UINT64_MAX;
	test_jump(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_jump, start),
		cmocka_unit_test_setup(test_call_and_return, start),
		cmocka_unit_test_setup(test_small, start),
		cmocka_unit_test_setup(test_events, start),
		cmocka_unit_test_setup(test_refused, start),
		cmocka_unit_test_setup(test_fault_in_new_task, start),
		cmocka_unit_test_setup(test_again, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
