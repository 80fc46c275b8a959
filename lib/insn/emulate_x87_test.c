/* x87 words and MMX moves on an image of the registers: what surroundings without native code do.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "tests/unit.h"

#define MEMORY_BYTES 256
#define FCW	     0
#define FSW	     2
#define FTW	     4
#define ST(i)	     (32 + 16 * (i))

static struct {
	struct insn_env env;
	struct insn_cpu cpu;
	uint8_t memory[MEMORY_BYTES], image[160];
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
	if (linear > MEMORY_BYTES - len) {
		return insn_raise_page_fault(env, linear, 2);
	}
	memcpy(g.memory + linear, data, len);
	return INSN_DONE;
}

static enum insn_outcome image_op(struct insn_env *env, uint8_t **image)
{
	(void)env;
	*image = g.image;
	return INSN_DONE;
}

static const struct insn_ops ops = {.read = read_op, .write = write_op, .x87_image = image_op};

static int start(void **state)
{
	(void)state;
	memset(&g, 0, sizeof(g));
	g.env = (struct insn_env){.cpu = &g.cpu, .ops = &ops};
	g.cpu.efer = BIT(10);
	g.cpu.cr0 = 0x80000011;
	g.cpu.seg[INSN_CS].attr = 0xa9b;
	for (unsigned i = 0; i < 8; i++) {
		memset(g.image + ST(i), (int)(0x10 + i), 10);
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
	assert_int_equal(insn_decode(&insn, INSN_64, bytes, n), INSN_OK);
	return insn_emulate(&g.env, &insn);
}

static void assert_fault(const char *hex, enum insn_vector vector)
{
	uint8_t before[sizeof(g.image)];

	memcpy(before, g.image, sizeof(before));
	assert_int_equal(emulate(hex), INSN_FAULT);
	assert_int_equal(g.env.fault.vector, vector);
	assert_memory_equal(before, g.image, sizeof(before));
}

static uint16_t word(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void test_words(void **state)
{
	(void)state;
	g.image[FSW + 1] = 0x28;
	g.image[FTW] = 0xff;
	assert_int_equal(emulate("db e3"), INSN_DONE); /* fninit */
	assert_int_equal(word(g.image + FCW), 0x37f);
	assert_int_equal(word(g.image + FSW), 0);
	assert_int_equal(g.image[FTW], 0);
	g.memory[0] = 0x3b;
	g.memory[1] = 0xff;
	assert_int_equal(emulate("d9 2b"),
			 INSN_DONE); /* fldcw [rbx]: reserved bits are not there */
	assert_int_equal(word(g.image + FCW), 0x1f7b);
	g.image[FSW] = 4; /* what is not masked any more becomes pending */
	assert_int_equal(emulate("d9 2b"), INSN_DONE);
	assert_int_equal(word(g.image + FSW), 0x8084);
	assert_fault("d9 2b", INSN_EXC_MF);
	assert_int_equal(emulate("df e0"), INSN_DONE); /* fnstsw ax */
	assert_int_equal(g.cpu.gpr[0], 0x8084);
	assert_int_equal(emulate("d9 7b 10"), INSN_DONE); /* fnstcw [rbx+16] */
	assert_int_equal(word(g.memory + 16), 0x1f7b);
	assert_int_equal(emulate("db e2"), INSN_DONE);	  /* fnclex */
	assert_int_equal(emulate("dd 7b 12"), INSN_DONE); /* fnstsw [rbx+18] */
	assert_int_equal(word(g.memory + 18), 0);
}

static void test_mmx(void **state)
{
	uint64_t value = 0x1122334455667788;

	(void)state;
	g.image[FSW + 1] = 3 << 3; /* TOP is 3: ST(0) is MM3 */
	memcpy(g.memory, &value, sizeof(value));
	assert_int_equal(emulate("0f 7f 6b 08"), INSN_DONE); /* movq [rbx+8], mm5 */
	assert_int_equal(g.memory[8], 0x12);
	assert_int_equal(word(g.image + FSW), 0);
	assert_int_equal(g.image[FTW], 0xff);
	assert_int_equal(g.image[ST(5)], 0x12); /* the registers stay, the image turns */
	assert_int_equal(g.image[ST(0)], 0x15);
	assert_int_equal(emulate("0f 6f 23"), INSN_DONE); /* movq mm4, [rbx] */
	assert_memory_equal(g.image + ST(4), &value, 8);
	assert_int_equal(word(g.image + ST(4) + 8), 0xffff);
	assert_int_equal(emulate("0f e7 63 20"), INSN_DONE); /* movntq [rbx+32], mm4 */
	assert_memory_equal(g.memory + 32, &value, 8);
	g.cpu.gpr[1] = 0xdeadbeef12345678;
	assert_int_equal(emulate("0f 6e d1"), INSN_DONE); /* movd mm2, ecx */
	value = 0x12345678;
	assert_memory_equal(g.image + ST(2), &value, 8);
}

static void test_refused(void **state)
{
	(void)state;
	g.cpu.cr0 |= BIT(3); /* TS */
	assert_fault("db e3", INSN_EXC_NM);
	assert_fault("0f 6f 23", INSN_EXC_NM);
	g.cpu.cr0 = 0x80000015; /* EM */
	assert_fault("d9 3b", INSN_EXC_NM);
	assert_fault("0f 6f 23", INSN_EXC_UD);
	g.cpu.cr0 = 0x80000011;
	g.image[FSW] = 0x80;
	assert_fault("0f 6f 23", INSN_EXC_MF);
	g.image[FSW] = 0;
	g.cpu.gpr[3] = MEMORY_BYTES;
	assert_fault("0f 7f 2b", INSN_EXC_PF);
	assert_fault("d9 2b", INSN_EXC_PF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_words, start),
		cmocka_unit_test_setup(test_mmx, start),
		cmocka_unit_test_setup(test_refused, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
