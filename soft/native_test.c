/*
 * x87 and vector instructions on this CPU: registers, exceptions, and that nothing of the host's
 * own is lost.
 */
#include "soft/native.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "soft/vcpu.h"
#include "tests/unit.h"

#define AREA	832
#define AT_FSW	2
#define AT_FOP	6
#define AT_FIP	8
#define AT_FDP	16
#define AT_CSR	24
#define AT_ST	32
#define AT_XMM	160
#define AT_BV	512
#define AT_YMM	576
#define DEFAULT 0x1f80

static struct kvm_backend backend;
static struct kvm_env env;
static struct kvm_vcpu kvm;
static struct soft_vcpu *vcpu;
static _Alignas(64) uint8_t area[AREA], buffer[64];

static int start(void **state)
{
	static _Alignas(64) struct soft_vcpu the_vcpu;

	(void)state;
	if (soft_native_features() == 0) {
		print_message("this CPU has no XSAVE\n");
		skip();
	}
	backend.xcr0 = soft_native_features();
	env.backend = &backend;
	kvm.env = &env;
	kvm.xsave = area;
	memset(area, 0, sizeof(area));
	memset(buffer, 0, sizeof(buffer));
	store_le16(area, 0x37f);
	store_le32(area + AT_CSR, DEFAULT);
	vcpu = &the_vcpu;
	vcpu->kvm = &kvm;
	return soft_native_init(&vcpu->native);
}

static int finish(void **state)
{
	(void)state;
	soft_native_fini(&vcpu->native);
	return 0;
}

static void on_trap(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	if (!soft_native_trap(context)) {
		abort();
	}
}

/* In the test, for cmocka takes the signals when one starts. */
static void take_signals(void)
{
	static const int numbers[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		assert_int_equal(sigaction(numbers[i], &action, NULL), 0);
	}
}

static struct insn_native code(const char *bytes, uint8_t len)
{
	struct insn_native n = {
		.len = len, .base = INSN_NO_REG, .rsp_as = INSN_NO_REG, .memory = buffer};

	memcpy(n.code, bytes, len);
	return n;
}

#define RUN(n)	     soft_native_run(vcpu, &(n))
#define CODE(string) code(string, sizeof(string) - 1)

static void test_registers(void **state)
{
	struct insn_native n = CODE("\x66\x48\x0f\x6e\xc8"); /* movq xmm1, rax */

	(void)state;
	n.gpr[0] = 0x1122334455667788;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_XMM + 16), 0x1122334455667788);
	assert_true((area[AT_BV] & 2) != 0);
	n = CODE("\x66\x4c\x0f\x7e\xcf"); /* movq rdi, xmm9 */
	n.gpr[7] = 5;
	n.gpr[15] = 7;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(n.gpr[7], 0);
	assert_int_equal(n.gpr[15], 7);
	n = CODE("\x0f\x2e\xc9"); /* ucomiss xmm1, xmm1 */
	n.rflags = 0x8d5;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(n.rflags, 0x40);
	n = CODE("\x0f\x11\x0e"); /* movups [rsi], xmm1 */
	n.base = 6;
	n.memory_len = 16;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(buffer), 0x1122334455667788);
}

/* More instructions than there are slots, twice. */
static void test_slots(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 65536; i += 37) {
			struct insn_native n =
				CODE("\x66\x0f\xc4\xc0\x00"); /* pinsrw xmm0, eax, i */

			n.code[4] = (uint8_t)(i & 7);
			n.code[3] = (uint8_t)(0xc0 | (i >> 3 & 7) << 3);
			n.gpr[0] = i;
			assert_int_equal(RUN(n), INSN_DONE);
			assert_int_equal(load_le16(area + AT_XMM + 16 * (i >> 3 & 7) + 2 * (i & 7)),
					 i);
		}
	}
}

static void test_simd_exception(void **state)
{
	struct insn_native n = CODE("\xf3\x0f\x5e\xc1"); /* divss xmm0, xmm1 */

	(void)state;
	take_signals();
	store_le32(area + AT_XMM, 0x3f800000);
	area[AT_BV] = 2;
	store_le32(area + AT_CSR, DEFAULT & ~0x200u); /* not masked: division by zero */
	assert_int_equal(RUN(n), INSN_FAULT);
	assert_int_equal(vcpu->env.fault.vector, INSN_EXC_XM);
	assert_int_equal(load_le32(area + AT_CSR), (DEFAULT & ~0x200u) | 4);
	assert_int_equal(load_le32(area + AT_XMM), 0x3f800000);
	/* The host has its own control words again. */
	assert_int_equal(__builtin_ia32_stmxcsr() & 0xffc0, DEFAULT);
}

static void test_x87_exception(void **state)
{
	struct insn_native n = CODE("\xd9\xee"); /* fldz */

	(void)state;
	take_signals();
	store_le16(area, 0x37b); /* division by zero is not masked */
	area[AT_BV] = 1;
	n.x87_place = true;
	n.fop = 0x1ee;
	n.fip = 0x123456789abc;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_FIP), 0x123456789abc);
	assert_int_equal(load_le16(area + AT_FOP), 0x1ee);
	n = CODE("\xd9\xe8"); /* fld1 */
	assert_int_equal(RUN(n), INSN_DONE);
	n = CODE("\xd8\xf1"); /* fdiv st, st(1) */
	n.x87_place = true;
	n.fip = 0x2000;
	assert_int_equal(RUN(n), INSN_DONE); /* told by the next one */
	assert_true((load_le16(area + AT_FSW) & 0x84) == 0x84);
	n = CODE("\x9b"); /* fwait */
	assert_int_equal(RUN(n), INSN_FAULT);
	assert_int_equal(vcpu->env.fault.vector, INSN_EXC_MF);
	assert_int_equal(load_le64(area + AT_FIP), 0x2000);
	n = CODE("\xdb\xe2"); /* fnclex */
	assert_int_equal(RUN(n), INSN_DONE);
	n = CODE("\x9b");
	assert_int_equal(RUN(n), INSN_DONE);
	n = CODE("\xdd\x06"); /* fld qword [rsi] */
	n.x87_place = true;
	n.base = 6;
	n.memory_len = 8;
	n.fdp = 0x777;
	n.fip = 0x3000;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_FDP), 0x777);
	n = CODE("\x0f\x28\xc1"); /* movaps, which has no say in it */
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_FIP), 0x3000);
	assert_int_equal(load_le64(area + AT_FDP), 0x777);
	n = CODE("\xdb\xe3"); /* fninit */
	n.x87_loads = true;
	assert_int_equal(RUN(n), INSN_DONE);
	if ((area[AT_BV] & 1) != 0) {
		assert_int_equal(load_le64(area + AT_FIP), 0);
	}
}

static void test_refused(void **state)
{
	struct insn_native n = CODE("\x0f\x0b"); /* ud2 */

	(void)state;
	take_signals();
	assert_int_equal(RUN(n), INSN_FAULT);
	assert_int_equal(vcpu->env.fault.vector, INSN_EXC_UD);
	n = CODE("\x0f\xae\x16"); /* ldmxcsr [rsi] */
	n.base = 6;
	n.memory_len = 4;
	memset(buffer, 0xff, 4);
	assert_int_equal(RUN(n), INSN_FAULT);
	assert_int_equal(vcpu->env.fault.vector, INSN_EXC_GP);
	/* An address that is none: not what an operand is. */
	n = CODE("\x0f\x10\x00"); /* movups xmm0, [rax] */
	n.gpr[0] = 16;
	assert_int_equal(RUN(n), INSN_UNSUPPORTED);
}

/* Whatever user space left in the area. */
static void test_area(void **state)
{
	struct insn_native n = CODE("\x0f\x57\xc0"); /* xorps xmm0, xmm0 */

	(void)state;
	memset(area, 0xff, sizeof(area));
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_XMM), 0);
	assert_int_equal(load_le64(area + AT_XMM + 16), UINT64_MAX);
	/* Parts that are marked as initial are that. */
	area[AT_BV] = 0;
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_XMM + 16), 0);
}

static void test_avx(void **state)
{
	struct insn_native n = CODE("\xc5\xf5\x76\xc9"); /* vpcmpeqd ymm1, ymm1, ymm1 */

	(void)state;
	if ((soft_native_features() & 4) == 0) {
		skip();
	}
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_YMM + 24), UINT64_MAX);
	n = CODE("\xc5\xf8\x77"); /* vzeroupper */
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_XMM + 16), UINT64_MAX);
	n = CODE("\xc5\xf4\x58\xc9"); /* vaddps: NaN + NaN, of what is left */
	assert_int_equal(RUN(n), INSN_DONE);
	assert_int_equal(load_le64(area + AT_YMM + 24), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, start, finish),
		cmocka_unit_test_setup_teardown(test_slots, start, finish),
		cmocka_unit_test_setup_teardown(test_simd_exception, start, finish),
		cmocka_unit_test_setup_teardown(test_x87_exception, start, finish),
		cmocka_unit_test_setup_teardown(test_refused, start, finish),
		cmocka_unit_test_setup_teardown(test_area, start, finish),
		cmocka_unit_test_setup_teardown(test_avx, start, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
