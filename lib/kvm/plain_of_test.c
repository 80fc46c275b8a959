/* What is carried out without the emulator comes to the same as with it. */
#include "lib/kvm/plain_of.h"

#include <stdio.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "tests/unit.h"

#define ROUNDS 400000

static uint64_t random_state = 88172645463325252;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ---- a guest whose memory notes what is done to it ---- */

static struct {
	struct insn_env env;
	struct insn_cpu cpu;
	uint64_t data; /* what is read */
	unsigned reads, writes, len;
	uint64_t linear, written;
} g;

static enum insn_outcome note_read(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				   unsigned access)
{
	(void)env;
	(void)access;
	assert_true(len <= sizeof(g.data));
	g.reads++;
	g.linear = linear;
	g.len = len;
	memcpy(data, &g.data, len);
	return INSN_DONE;
}

static enum insn_outcome note_write(struct insn_env *env, uint64_t linear, const void *data,
				    unsigned len, unsigned access)
{
	(void)env;
	(void)access;
	assert_true(len <= sizeof(g.written));
	g.writes++;
	g.linear = linear;
	g.len = len;
	g.written = 0;
	memcpy(&g.written, data, len);
	return INSN_DONE;
}

static const struct insn_ops ops = {.read = note_read, .write = note_write};

static void start(void)
{
	memset(&g, 0, sizeof(g));
	g.env.cpu = &g.cpu;
	g.env.ops = &ops;
	for (unsigned i = 0; i < ARRAY_SIZE(g.cpu.gpr); i++) {
		g.cpu.gpr[i] = next_random() >> (next_random() % 2 != 0 ? 20 : 0);
	}
	g.cpu.rip = next_random() >> 20;
	g.cpu.rflags = RFLAGS_FIXED | (next_random() & 0x8d5);
	g.cpu.cr0 = CR0_PE | CR0_PG;
	g.cpu.efer = EFER_LME | EFER_LMA;
	for (unsigned i = 0; i < INSN_NSEGS; i++) {
		g.cpu.seg[i].base = next_random() >> 20;
		g.cpu.seg[i].attr = INSN_SEG_P | INSN_SEG_S | 3;
	}
	g.cpu.seg[INSN_CS].base = 0;
	g.cpu.seg[INSN_CS].attr = INSN_SEG_P | INSN_SEG_S | INSN_SEG_L | 0xb;
	g.data = next_random();
}

/* ---- the same by both ---- */

static unsigned seen_load[KVM_PLAIN_NOPS][2][2], seen_signed, seen_store[2], left;

static uint64_t low(uint64_t value, unsigned bytes)
{
	return bytes == 8 ? value : value & (BIT(8 * bytes) - 1);
}

static void compare(const struct kvm_plain *plain, const struct insn *insn)
{
	struct insn_cpu cpu;
	uint64_t address, stored;

	assert_true(kvm_plain_is_sound(plain));
	start();
	cpu = g.cpu;
	address = kvm_plain_address(plain, &cpu);
	stored = plain->reg != KVM_PLAIN_NONE ? cpu.gpr[plain->reg] : plain->imm;
	if (insn_emulate(&g.env, insn) == INSN_FAULT) {
		/* Its address is not canonical: no CPU stops at memory then. */
		assert_true((uint64_t)((int64_t)(address << 16) >> 16) != address ||
			    (uint64_t)((int64_t)((address + 7) << 16) >> 16) != address + 7);
		return;
	}
	assert_int_equal(g.reads, plain->store ? 0 : 1);
	assert_int_equal(g.writes, plain->store ? 1 : 0);
	assert_true(g.linear == address);
	assert_int_equal(g.len, plain->bytes);
	cpu.rip += plain->len;
	if (plain->store) {
		assert_true(g.written == low(stored, plain->bytes));
		seen_store[plain->reg == KVM_PLAIN_NONE]++;
	} else {
		kvm_plain_load(plain, &cpu, g.data);
		seen_load[plain->op][plain->flags_only != 0][plain->memory_first != 0]++;
		seen_signed += plain->sign != 0;
	}
	assert_memory_equal(&cpu, &g.cpu, sizeof(cpu));
}

static unsigned put_prefixes(uint8_t *code)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x2e, 0x3e, 0x26, 0x36,
					   0x64, 0x65, 0x67, 0xf0, 0xf2, 0xf3};
	unsigned n = 0;

	while (next_random() % 4 == 0 && n < 12) {
		code[n++] = prefixes[next_random() % ARRAY_SIZE(prefixes)];
	}
	if (next_random() % 2 == 0) {
		code[n++] = (uint8_t)(0x40 | next_random() % 16);
	}
	return n;
}

static void both_come_to_the_same(void **state)
{
	static const uint8_t one[] = {0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0x63, 0xa1,
				      0x84, 0x85, 0xf6, 0xf7, 0x80, 0x81, 0x83};
	static const uint8_t two[] = {0xb6, 0xb7, 0xbe, 0xbf, 0xaf, 0xba, 0xc1, 0xb1};

	(void)state;
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint8_t code[40];
		struct kvm_plain plain;
		struct insn insn;
		unsigned n, mode = INSN_64 | (next_random() % 2 != 0 ? INSN_AMD : 0);

		for (unsigned k = 0; k < sizeof(code); k++) {
			code[k] = (uint8_t)(next_random() >> 13);
		}
		n = put_prefixes(code);
		switch (next_random() % 4) {
		case 0:
			code[n++] = 0x0f;
			code[n++] = two[next_random() % ARRAY_SIZE(two)];
			break;
		case 1:
			code[n++] = (uint8_t)(next_random() % 64); /* ADD to CMP */
			break;
		case 2:
			code[n++] = one[next_random() % ARRAY_SIZE(one)];
			break;
		default:
			break;
		}
		if (insn_decode(&insn, mode, code, INSN_MAX) != INSN_OK) {
			continue;
		}
		if (kvm_plain_of(&plain, &insn)) {
			compare(&plain, &insn);
		} else {
			left++;
		}
	}
	assert_true(left > ROUNDS / 8 && seen_signed > ROUNDS / 1000);
	assert_true(seen_store[0] > ROUNDS / 1000 && seen_store[1] > ROUNDS / 1000);
	assert_true(seen_load[KVM_PLAIN_MOVE][0][0] > ROUNDS / 1000);
	for (unsigned op = KVM_PLAIN_ADD; op < KVM_PLAIN_NOPS; op++) {
		assert_true(seen_load[op][0][0] > ROUNDS / 1000);
	}
	/* CMP of either order, TEST. */
	assert_true(seen_load[KVM_PLAIN_SUB][1][0] > ROUNDS / 1000);
	assert_true(seen_load[KVM_PLAIN_SUB][1][1] > ROUNDS / 1000);
	assert_true(seen_load[KVM_PLAIN_AND][1][1] > ROUNDS / 1000);
}

static bool is_plain(const char *hex, enum insn_mode mode)
{
	uint8_t code[INSN_MAX] = {0};
	struct kvm_plain plain;
	struct insn insn;

	for (unsigned n = 0; hex[2 * n] != '\0'; n++) {
		unsigned byte;

		assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
		code[n] = (uint8_t)byte;
	}
	assert_int_equal(insn_decode(&insn, mode, code, INSN_MAX), INSN_OK);
	return kvm_plain_of(&plain, &insn);
}

static void others_are_not_plain(void **state)
{
	static const char *const plain[] = {"8903", "3e8903", "8b0425000000f0", "f70380000000"};
	static const char *const others[] = {
		"0103",		      /* ADD [rbx], EAX: reads and writes */
		"f00103",	      /* LOCK ADD */
		"1303",		      /* ADC EAX, [rbx]: reads a flag */
		"8703",		      /* XCHG */
		"648903",	      /* FS */
		"658b03",	      /* GS */
		"678b03",	      /* by EBX */
		"8a23",		      /* AH */
		"f38b03",	      /* REP */
		"8e1b",		      /* a segment register */
		"8bc3",		      /* no memory */
		"ff33",		      /* PUSH [rbx] */
		"0fa303",	      /* BT */
		"0faf03",	      /* IMUL */
		"a10000000000000000", /* MOV EAX, moffs */
		"f30f6f03",	      /* MOVDQU */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(plain); i++) {
		assert_true(is_plain(plain[i], INSN_64));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		assert_false(is_plain(others[i], INSN_64));
	}
	assert_false(is_plain("8903", INSN_32));
	assert_false(is_plain("8903", INSN_16));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_come_to_the_same),
		cmocka_unit_test(others_are_not_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
