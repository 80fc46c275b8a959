/* The small decoder against Zydis, and what loads do. */
#include "lib/kvm/plain.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "tests/unit.h"

#define ROUNDS 400000

static ZydisDecoder decoders[2];
static uint64_t random_state = 88172645463325252;
static unsigned taken, left;

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

static bool is_high(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

static uint8_t number(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE) {
		return KVM_MOV_NONE;
	}
	if (reg == ZYDIS_REGISTER_RIP) {
		return KVM_MOV_RIP;
	}
	/* Zydis counts AH to BH among those of 8 bits. */
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B) {
		return (uint8_t)(reg - ZYDIS_REGISTER_SPL + 4);
	}
	return (uint8_t)ZydisRegisterGetId(reg);
}

/* The operand that is in memory, or NULL: Zydis does not think that this is one of ours. */
static const ZydisDecodedOperand *ours(const struct both *b)
{
	const ZydisInstructionAttributes not_plain =
		ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_XACQUIRE | ZYDIS_ATTRIB_HAS_XRELEASE;
	const ZydisDecodedOperand *mem = NULL;

	if (!b->valid || (b->insn.attributes & not_plain) != 0 ||
	    (b->insn.mnemonic != ZYDIS_MNEMONIC_MOV && b->insn.mnemonic != ZYDIS_MNEMONIC_MOVZX &&
	     b->insn.mnemonic != ZYDIS_MNEMONIC_MOVSX &&
	     b->insn.mnemonic != ZYDIS_MNEMONIC_MOVSXD)) {
		return NULL;
	}
	for (unsigned i = 0; i < b->insn.raw.prefix_count; i++) {
		uint8_t byte = b->insn.raw.prefixes[i].value;

		if ((byte >= 0x64 && byte <= 0x65) || byte == 0x67 || byte >= 0xf0) {
			return NULL;
		}
	}
	for (unsigned i = 0; i < b->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &b->operand[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			mem = o;
		} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			   (is_high(o->reg.value) ||
			    ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)) {
			return NULL;
		}
	}
	return mem == NULL || (b->insn.opcode >= 0xa0 && b->insn.opcode <= 0xa3) ? NULL : mem;
}

static void compare_mov(const uint8_t *code)
{
	const ZydisDecodedOperand *mem, *reg;
	struct kvm_mov mov;
	struct both b;
	bool is = kvm_plain_mov(&mov, code);

	decode(&b, true, code);
	mem = ours(&b);
	/* MOVSXD without REX.W is left to the emulator. */
	if (mem != NULL && b.insn.opcode == 0x63 && b.insn.operand_width != 64) {
		mem = NULL;
	}
	assert_int_equal(is, mem != NULL);
	if (!is) {
		left++;
		return;
	}
	taken++;
	assert_int_equal(mov.len, b.insn.length);
	assert_int_equal(mov.store, mem == &b.operand[0]);
	assert_int_equal(mov.bytes, mem->size / 8);
	assert_int_equal(mov.base, number(mem->mem.base));
	assert_int_equal(mov.index, number(mem->mem.index));
	if (mov.index != KVM_MOV_NONE) {
		assert_int_equal(1 << mov.shift, mem->mem.scale);
	}
	assert_true(mov.disp == mem->mem.disp.value);
	reg = &b.operand[mov.store ? 1 : 0];
	if (reg->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		uint64_t mask = mov.bytes == 8 ? UINT64_MAX : BIT(8 * mov.bytes) - 1;

		assert_int_equal(mov.reg, KVM_MOV_NONE);
		assert_true((mov.imm & mask) == (reg->imm.value.u & mask));
	} else {
		assert_int_equal(mov.reg, number(reg->reg.value));
		assert_int_equal(mov.to_bytes, reg->size / 8);
	}
	if (!mov.store) {
		assert_int_equal(mov.sign, b.insn.mnemonic == ZYDIS_MNEMONIC_MOVSX ||
						   b.insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD);
	}
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

static void movs_are_those_of_zydis(void **state)
{
	static const uint8_t opcodes[] = {0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0x63, 0xa1};
	static const uint8_t second[] = {0xb6, 0xb7, 0xbe, 0xbf, 0xaf};

	(void)state;
	taken = left = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t code[40];
		unsigned n;

		for (unsigned k = 0; k < sizeof(code); k++) {
			code[k] = (uint8_t)(next_random() >> 13);
		}
		n = put_prefixes(code, true);
		if (next_random() % 3 == 0) {
			code[n++] = 0x0f;
			code[n++] = second[next_random() % ARRAY_SIZE(second)];
		} else {
			code[n++] = opcodes[next_random() % ARRAY_SIZE(opcodes)];
		}
		if (next_random() % 2 == 0) {
			code[n] &= 0xc7; /* what C6 and C7 want, and RIP-relative ones */
		}
		compare_mov(code);
		compare_mov(code + n); /* any bytes */
	}
	assert_true(taken > ROUNDS / 4 && left > ROUNDS / 4);
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
	struct kvm_mov mov = {.len = 7, .base = 3, .index = 12, .shift = 3, .disp = -16};

	(void)state;
	cpu.gpr[3] = 0x100;
	cpu.gpr[12] = 2;
	assert_true(kvm_plain_address(&mov, &cpu) == 0x100);
	mov.base = KVM_MOV_RIP;
	mov.index = KVM_MOV_NONE;
	assert_true(kvm_plain_address(&mov, &cpu) == 0x1000 + 7 - 16);
	mov.base = KVM_MOV_NONE;
	assert_true(kvm_plain_address(&mov, &cpu) == UINT64_MAX - 15);
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
		struct kvm_mov mov = {.bytes = cases[i].bytes,
				      .to_bytes = cases[i].to_bytes,
				      .sign = cases[i].sign,
				      .reg = 9};
		struct insn_cpu cpu = {0};

		cpu.gpr[9] = 0x1111111111111111;
		kvm_plain_load(&mov, &cpu, cases[i].value);
		assert_true(cpu.gpr[9] == cases[i].result);
		assert_true(cpu.gpr[8] == 0 && cpu.gpr[10] == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(movs_are_those_of_zydis),
		cmocka_unit_test(lengths_are_those_of_zydis),
		cmocka_unit_test(other_instructions_have_no_length),
		cmocka_unit_test(addresses),
		cmocka_unit_test(loads),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
