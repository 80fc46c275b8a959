/* Lengths against Zydis, what is sound, and what loads do. */
#include "lib/kvm/plain.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "tests/unit.h"

#define ROUNDS 400000

static ZydisDecoder decoders[2];
static uint64_t random_state = 88172645463325252;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static int set_up(void **state)
{
	(void)state;
	assert_true(ZYAN_SUCCESS(ZydisDecoderInit(&decoders[0], ZYDIS_MACHINE_MODE_LEGACY_32,
						  ZYDIS_STACK_WIDTH_32)));
	assert_true(ZYAN_SUCCESS(
		ZydisDecoderInit(&decoders[1], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
	return 0;
}

struct both {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
	bool valid;
};

static void decode(struct both *b, bool long_mode, const uint8_t *code)
{
	b->valid = ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&decoders[long_mode], code, INSN_MAX, &b->insn, b->operand));
}

static unsigned put_prefixes(uint8_t *code, bool rex)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x2e, 0x3e, 0x26, 0x36,
					   0x64, 0x65, 0x67, 0xf0, 0xf2, 0xf3};
	unsigned n = 0;

	while (next_random() % 3 == 0 && n < 12) {
		code[n++] = prefixes[next_random() % ARRAY_SIZE(prefixes)];
	}
	if (rex && next_random() % 2 == 0) {
		code[n++] = (uint8_t)(0x40 | next_random() % 16);
	}
	/* A REX that does not count. */
	if (rex && next_random() % 16 == 0) {
		code[n++] = 0x66;
	}
	return n;
}

static bool stops(const struct both *b)
{
	switch (b->insn.mnemonic) {
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT:
		return true;
	default:
		return false;
	}
}

static void lengths_are_those_of_zydis(void **state)
{
	static const uint8_t first[] = {0xf4, 0x90, 0xe4, 0xe5, 0xe6, 0xe7, 0xec, 0xed, 0xee, 0xef};
	static const uint8_t second[] = {0x08, 0x09, 0x30, 0x32, 0xa2, 0x01, 0x33};
	static const uint8_t third[] = {0xc1, 0xc8, 0xc9, 0xd1, 0xd9, 0xd0};
	unsigned known = 0;

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		bool long_mode = next_random() % 2 == 0;
		uint8_t code[40];
		struct both b;
		uint32_t opcode;
		unsigned n, len;

		for (unsigned k = 0; k < sizeof(code); k++) {
			code[k] = (uint8_t)(next_random() >> 13);
		}
		n = put_prefixes(code, long_mode);
		if (next_random() % 2 == 0) {
			code[n] = first[next_random() % ARRAY_SIZE(first)];
		} else {
			code[n] = 0x0f;
			code[n + 1] = second[next_random() % ARRAY_SIZE(second)];
			code[n + 2] = third[next_random() % ARRAY_SIZE(third)];
		}
		decode(&b, long_mode, code);
		len = kvm_plain_length(code, INSN_MAX, long_mode, &opcode);
		if (!b.valid || !stops(&b)) {
			continue;
		}
		known++;
		assert_int_equal(len, b.insn.length);
		/* One byte less is not enough. */
		assert_int_equal(kvm_plain_length(code, len - 1, long_mode, &opcode), 0);
		if (b.insn.mnemonic == ZYDIS_MNEMONIC_VMMCALL) {
			assert_int_equal(kvm_plain_length(code, len, long_mode, &opcode), len);
			assert_int_equal(opcode, KVM_PLAIN_VMMCALL);
		}
	}
	assert_true(known > ROUNDS / 4);
}

static void other_instructions_have_no_length(void **state)
{
	uint32_t opcode;

	(void)state;
	assert_int_equal(kvm_plain_length((const uint8_t *)"\x89\x07", 2, true, &opcode), 0);
	assert_int_equal(kvm_plain_length((const uint8_t *)"\x0f\x01\xd0", 3, true, &opcode), 0);
	assert_int_equal(kvm_plain_length((const uint8_t *)"\x0f\x05", 2, true, &opcode), 0);
	/* INC EAX in 32-bit code, no REX. */
	assert_int_equal(kvm_plain_length((const uint8_t *)"\x40\xf4", 2, false, &opcode), 0);
	assert_int_equal(kvm_plain_length((const uint8_t *)"\x40\xf4", 2, true, &opcode), 2);
	assert_int_equal(kvm_plain_length((const uint8_t *)"", 0, true, &opcode), 0);
}

static void addresses(void **state)
{
	struct insn_cpu cpu = {.rip = 0x1000};
	struct kvm_plain plain = {.len = 7, .base = 3, .index = 12, .shift = 3, .disp = -16};

	(void)state;
	cpu.gpr[3] = 0x100;
	cpu.gpr[12] = 2;
	assert_true(kvm_plain_address(&plain, &cpu) == 0x100);
	plain.base = KVM_PLAIN_RIP;
	plain.index = KVM_PLAIN_NONE;
	assert_true(kvm_plain_address(&plain, &cpu) == 0x1000 + 7 - 16);
	plain.base = KVM_PLAIN_NONE;
	assert_true(kvm_plain_address(&plain, &cpu) == UINT64_MAX - 15);
}

/* As it may come from ring 3. */
static void only_what_is_sound(void **state)
{
	const struct kvm_plain good = {.len = 15,
				       .op = KVM_PLAIN_XOR,
				       .bytes = 8,
				       .to_bytes = 8,
				       .reg = 15,
				       .base = KVM_PLAIN_RIP,
				       .index = 15,
				       .shift = 3};
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = {
#define BAD(field, value) {offsetof(struct kvm_plain, field), value}
		BAD(len, 0),	BAD(len, 16),	BAD(op, KVM_PLAIN_NOPS),   BAD(bytes, 0),
		BAD(bytes, 16), BAD(bytes, 4),	BAD(to_bytes, 3),	   BAD(to_bytes, 4),
		BAD(reg, 16),	BAD(reg, 0xfe), BAD(reg, KVM_PLAIN_NONE),  BAD(base, 16),
		BAD(base, 253), BAD(index, 16), BAD(index, KVM_PLAIN_RIP), BAD(shift, 4),
#undef BAD
	};
	struct kvm_plain plain;

	(void)state;
	assert_true(kvm_plain_is_sound(&good));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		plain = good;
		((uint8_t *)&plain)[bad[i].at] = bad[i].value;
		assert_false(kvm_plain_is_sound(&plain));
	}
	plain = good;
	plain.reg = KVM_PLAIN_NONE;
	plain.flags_only = 1;
	assert_true(kvm_plain_is_sound(&plain));
	plain = good;
	plain.op = KVM_PLAIN_MOVE;
	plain.bytes = 1;
	assert_true(kvm_plain_is_sound(&plain));
	memset(&plain, 0, sizeof(plain));
	assert_false(kvm_plain_is_sound(&plain));
}

static void loads(void **state)
{
	static const struct {
		uint8_t bytes, to_bytes;
		bool sign;
		uint64_t value, result;
	} cases[] = {
		{1, 1, false, 0xfff0, 0x11111111111111f0},
		{2, 2, false, 0x5fff0, 0x111111111111fff0},
		{4, 4, false, 0x12345ffffffff, 0xffffffff},
		{8, 8, false, 0x8877665544332211, 0x8877665544332211},
		{1, 4, false, 0x9980, 0x80},
		{1, 4, true, 0x9980, 0xffffff80},
		{1, 2, true, 0x80, 0x111111111111ff80},
		{2, 8, true, 0x18000, 0xffffffffffff8000},
		{4, 8, true, 0x7fffffff, 0x7fffffff},
		{4, 8, true, 0x80000000, 0xffffffff80000000},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct kvm_plain plain = {.bytes = cases[i].bytes,
					  .to_bytes = cases[i].to_bytes,
					  .sign = cases[i].sign,
					  .reg = 9};
		struct insn_cpu cpu = {0};

		cpu.gpr[9] = 0x1111111111111111;
		kvm_plain_load(&plain, &cpu, cases[i].value);
		assert_true(cpu.gpr[9] == cases[i].result);
		assert_true(cpu.gpr[8] == 0 && cpu.gpr[10] == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lengths_are_those_of_zydis),
		cmocka_unit_test(other_instructions_have_no_length),
		cmocka_unit_test(addresses),
		cmocka_unit_test(only_what_is_sound),
		cmocka_unit_test(loads),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
