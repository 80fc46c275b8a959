#include "lib/insn/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/insn/test_zydis.h"
#include "tests/unit.h"

static struct insn insn;

static enum insn_result decode(unsigned mode, const char *hex)
{
	uint8_t bytes[32];
	unsigned n = 0;

	for (; hex[0] != 0; hex += hex[2] == ' ' ? 3 : 2) {
		char digits[3] = {hex[0], hex[1], 0};

		bytes[n++] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return insn_decode(&insn, mode, bytes, n);
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

#define NBYTES 24

static struct zydis_report report;
static unsigned failures;

static void compare(unsigned mode, const uint8_t *bytes)
{
	if (zydis_compare(mode, bytes, NBYTES, &report)) {
		return;
	}
	if (failures++ < 20) {
		print_error("mode %x,", mode);
		for (unsigned i = 0; i < INSN_MAX; i++) {
			print_error(" %02x", bytes[i]);
		}
		print_error(" (%s): %s: %s\n", report.text, zydis_aspect_names[report.aspect],
			    report.what);
	}
}

static void fill(uint8_t *bytes)
{
	for (unsigned i = 0; i < NBYTES; i++) {
		bytes[i] = (uint8_t)(next_random() >> 11);
	}
}

static unsigned put(uint8_t *bytes, unsigned at, const char *what)
{
	size_t n = strlen(what);

	memcpy(bytes + at, what, n);
	return at + (unsigned)n;
}

/* One of each reg and mod of ModRM; rm, SIB and the rest are random. */
static void all_modrm(unsigned mode, uint8_t *bytes, unsigned at)
{
	for (unsigned i = 0; i < 16; i++) {
		bytes[at] = (uint8_t)((i & 7) << 3 | (next_random() >> 20 & 7));
		bytes[at] |= i < 8 ? 0xc0 : (next_random() >> 9) % 3 << 6;
		for (unsigned k = at + 1; k < NBYTES; k++) {
			bytes[k] = (uint8_t)(next_random() >> 11);
		}
		compare(mode, bytes);
	}
}

static void test_legacy(void **state)
{
	static const char *const prefixes[] = {"",	   "\x66",     "\xf3",	   "\xf2",
					       "\xf0",	   "\x67",     "\x2e",	   "\x64",
					       "\x66\xf2", "\x66\xf3", "\x66\x67", "\xf2\xf0"};
	static const char *const maps[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};

	(void)state;
	for (unsigned c = 0; c < 3 * ARRAY_SIZE(prefixes) * 4 * 256; c++) {
		unsigned mode = c % 3, prefix = c / 3 % ARRAY_SIZE(prefixes);
		unsigned opcode = c / 3 / ARRAY_SIZE(prefixes);

		for (unsigned rex = 0; rex < (mode == INSN_64 ? 3 : 1); rex++) {
			uint8_t bytes[NBYTES];
			unsigned n = put(bytes, 0, prefixes[prefix]);

			if (rex > 0) {
				bytes[n++] = rex == 1 ? 0x40 | (next_random() >> 7 & 7)
						      : 0x48 | (next_random() >> 7 & 7);
			}
			n = put(bytes, n, maps[opcode >> 8]);
			bytes[n++] = (uint8_t)opcode;
			all_modrm(mode | (next_random() >> 9 & 1 ? INSN_AMD : 0), bytes, n);
		}
	}
	assert_int_equal(failures, 0);
	assert_true(report.valid > report.compared / 4);
}

static uint8_t vex_vvvv(void)
{
	return (next_random() >> 8 & 3) != 0 ? 0x78 : next_random() >> 9 & 0x78;
}

static unsigned put_vex(uint8_t *b, unsigned mode, unsigned map, unsigned pp)
{
	uint8_t r = (uint8_t)(next_random() >> 9);
	uint8_t rxb = mode == INSN_64 ? r & 0xe0 : 0xc0 | (r & 0x20);

	b[0] = 0xc4;
	b[1] = (uint8_t)(rxb | map);
	b[2] = (uint8_t)((r << 7) | vex_vvvv() | ((r << 1) & 4) | pp);
	return 3;
}

static unsigned put_vex2(uint8_t *b, unsigned mode, unsigned map, unsigned pp)
{
	uint8_t r = (uint8_t)(next_random() >> 9);

	(void)map;
	b[0] = 0xc5;
	b[1] = (uint8_t)((mode == INSN_64 ? r & 0x80 : 0xc0) | vex_vvvv() | ((r << 1) & 4) | pp);
	return 2;
}

/* Fields that make most instructions undefined are zero most of the time. */
static unsigned put_evex(uint8_t *b, unsigned mode, unsigned map, unsigned pp)
{
	uint64_t r = next_random();
	uint8_t rxb = mode == INSN_64 ? r & 0xf0 : 0xd0 | (r & 0x20);

	b[0] = 0x62;
	b[1] = (uint8_t)(rxb | map);
	b[2] = (uint8_t)((r >> 8 & 0x80) | vex_vvvv() | 4 | pp);
	b[3] = (uint8_t)((r >> 16 & 0x60) | ((r >> 24 & 7) != 0 ? 8 : 0));
	if ((r >> 32 & 1) != 0) {
		b[3] |= r >> 33 & 0x97;
	} else if ((r >> 40 & 3) == 0) {
		b[3] |= 0x10;
	}
	return 4;
}

static void all_vex(unsigned (*put_prefix)(uint8_t *, unsigned, unsigned, unsigned), unsigned times)
{
	for (unsigned c = 0; c < times * 3 * 16 * 256; c++) {
		unsigned mode = c % 3, pp = c / 3 % 4, map = c / 12 % 4;
		uint8_t bytes[NBYTES];
		unsigned n = put_prefix(bytes, mode, map, pp);

		bytes[n] = (uint8_t)(c / 48);
		all_modrm(mode, bytes, n + 1);
	}
	assert_int_equal(failures, 0);
}

static void test_vex(void **state)
{
	(void)state;
	all_vex(put_vex, 8);
	all_vex(put_vex2, 2);
}

static void test_evex(void **state)
{
	(void)state;
	all_vex(put_evex, 30);
}

static void test_random(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000000; i++) {
		uint8_t bytes[NBYTES];

		fill(bytes);
		compare(i % 3 | (i & 8 ? INSN_AMD : 0), bytes);
	}
	assert_int_equal(failures, 0);
}

/* A reason that excuses nothing any more has to go. */
static void test_reasons(void **state)
{
	(void)state;
	for (unsigned i = 0; zydis_reason(i) != NULL; i++) {
		if (report.excused[i] == 0) {
			fail_msg("reason %u is not needed: %s", i, zydis_reason(i));
		}
	}
}

/* However it is cut, it asks for more, and reads nothing past the end. */
static void test_more(void **state)
{
	unsigned tried = 0;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		uint8_t bytes[NBYTES];
		enum insn_mode mode = i % 3;

		fill(bytes);
		if (i & 16) {
			bytes[0] = i & 32 ? 0xc4 : 0x62;
			bytes[1] = 0xe1 + i % 3;
		}
		if (insn_decode(&insn, mode, bytes, NBYTES) != INSN_OK) {
			continue;
		}
		for (unsigned len = 0, whole = insn.len; len < whole; len++) {
			uint8_t *exact = malloc(len > 0 ? len : 1);

			memcpy(exact, bytes, len);
			assert_int_equal(insn_decode(&insn, mode, exact, len), INSN_MORE);
			assert_true(insn.len <= len);
			free(exact);
			tried++;
		}
	}
	assert_true(tried > 100000);
}

static void test_too_long(void **state)
{
	uint8_t bytes[20];

	(void)state;
	memset(bytes, 0x66, sizeof(bytes));
	bytes[14] = 0x90;
	assert_int_equal(insn_decode(&insn, INSN_64, bytes, 20), INSN_OK);
	assert_int_equal(insn.len, 15);
	bytes[14] = 0x66;
	bytes[15] = 0x90;
	assert_int_equal(insn_decode(&insn, INSN_64, bytes, 20), INSN_TOO_LONG);
	assert_int_equal(insn_decode(&insn, INSN_64, bytes, 15), INSN_TOO_LONG);
	assert_int_equal(insn_decode(&insn, INSN_64, bytes, 14), INSN_MORE);
	/* The immediate is what goes too far. */
	bytes[12] = 0xb8;
	assert_int_equal(insn_decode(&insn, INSN_32, bytes, 20), INSN_OK);
	assert_int_equal(insn.len, 15);
	bytes[12] = 0x66;
	bytes[13] = 0xb8;
	assert_int_equal(insn_decode(&insn, INSN_32, bytes, 20), INSN_TOO_LONG);
}

static void test_places(void **state)
{
	(void)state;
	/* add dword fs:[r13 + r9*4 + 0x11223344], 0x55667788 */
	assert_int_equal(decode(INSN_64, "64 43 81 84 8d 44332211 88776655"), INSN_OK);
	assert_int_equal(insn.len, 13);
	assert_int_equal(insn.mnemonic, INSN_ADD);
	assert_int_equal(insn.rex_at, 1);
	assert_int_equal(insn.opcode_at, 2);
	assert_int_equal(insn.modrm_at, 3);
	assert_int_equal(insn.sib_at, 4);
	assert_int_equal(insn.disp_at, 5);
	assert_int_equal(insn.disp_len, 4);
	assert_int_equal(insn.imm_at[0], 9);
	assert_int_equal(insn.imm_len[0], 4);
	assert_int_equal(insn.imm[0], 0x55667788);
	assert_int_equal(insn.mem[0].seg, INSN_FS);
	assert_int_equal(insn.mem[0].base, 13);
	assert_int_equal(insn.mem[0].index, 9);
	assert_int_equal(insn.mem[0].scale, 4);
	assert_int_equal(insn.mem[0].disp, 0x11223344);
	assert_int_equal(insn.mem[0].bytes, 4);
	assert_int_equal(insn.gpr_read, BIT(13) | BIT(9));
	assert_int_equal(insn.gpr_write, 0);
	/* vaddps zmm1{k2}{z}, zmm17, [rax + 64]: the displacement is scaled */
	assert_int_equal(decode(INSN_64, "62 f1 74 c2 58 48 01"), INSN_OK);
	assert_int_equal(insn.mem[0].disp, 64);
	assert_int_equal(insn.mem[0].bytes, 64);
	assert_int_equal(insn.operand[1].reg, 17);
	assert_int_equal(insn.evex_aaa, 2);
	assert_true(insn.evex_z);
	assert_int_equal(insn.operand[0].access, INSN_WRITE);
	/* enter 0x1234, 5 */
	assert_int_equal(decode(INSN_32, "c8 3412 05"), INSN_OK);
	assert_int_equal(insn.imm[0], 0x1234);
	assert_int_equal(insn.imm[1], 5);
	assert_int_equal(insn.imm_at[1], 3);
}

static void test_branches(void **state)
{
	(void)state;
	assert_int_equal(decode(INSN_64, "e8 fbffffff"), INSN_OK);
	assert_int_equal(insn.klass, INSN_CLASS_CALL);
	assert_int_equal(insn_target(&insn, 0xffffffff81000000), 0xffffffff81000000);
	assert_int_equal(decode(INSN_16, "eb fe"), INSN_OK);
	assert_int_equal(insn_target(&insn, 0xffff), 0xffff);
	assert_int_equal(decode(INSN_32, "e9 00000080"), INSN_OK);
	assert_int_equal(insn_target(&insn, 0x80000000), 5);
	/* The operand-size prefix: nothing on Intel, 16 bits on AMD. */
	assert_int_equal(decode(INSN_64, "66 e8 01020304"), INSN_OK);
	assert_int_equal(insn.len, 6);
	assert_int_equal(decode(INSN_64 | INSN_AMD, "66 e8 01020304"), INSN_OK);
	assert_int_equal(insn.len, 4);
	assert_int_equal(insn_target(&insn, 0x12340000), 0x0205);
}

/* Outside of 64-bit code a W that is a size has no effect. */
static void test_w_is_size(void **state)
{
	(void)state;
	assert_int_equal(decode(INSN_32, "c4 e3 f9 60 e4 5c"), INSN_OK); /* vpcmpestrm: EAX, EDX */
	assert_true(insn_w_is_size(&insn));
	assert_int_equal(decode(INSN_32, "c4 e3 f9 62 e4 5c"), INSN_OK); /* vpcmpistrm: neither */
	assert_false(insn_w_is_size(&insn));
}

/* F3 90 with REX.B. */
static void test_pause(void **state)
{
	(void)state;
	assert_int_equal(decode(INSN_64, "f3 41 90"), INSN_OK);
	assert_int_equal(insn.mnemonic, INSN_PAUSE);
	assert_int_equal(decode(INSN_64 | INSN_AMD, "f3 41 90"), INSN_OK);
	assert_int_equal(insn.mnemonic, INSN_XCHG);
	assert_int_equal(decode(INSN_64, "41 90"), INSN_OK);
	assert_int_equal(insn.mnemonic, INSN_XCHG);
}

static void test_effects(void **state)
{
	(void)state;
	/* A shift by 0 leaves the flags, by 1 defines OF; by CL it may do either. */
	assert_int_equal(decode(INSN_64, "48 c1 e0 40"), INSN_OK);
	assert_int_equal(insn.flags_written, 0);
	assert_int_equal(decode(INSN_64, "c1 e0 21"), INSN_OK);
	assert_int_equal(insn.flags_undefined, BIT(4));
	assert_int_equal(decode(INSN_64, "d3 e0"), INSN_OK);
	assert_true(insn.flags_maybe);
	/* rep movsb */
	assert_int_equal(decode(INSN_64, "f3 a4"), INSN_OK);
	assert_int_equal(insn.gpr_write, BIT(1) | BIT(6) | BIT(7));
	assert_int_equal(insn.gpr_fixed, insn.gpr_write);
	assert_int_equal(insn.flags_read, BIT(10));
	assert_int_equal(insn.nmem, 2);
	/* mov al, cl keeps the rest of rax; mov eax, ecx does not */
	assert_int_equal(decode(INSN_64, "88 c8"), INSN_OK);
	assert_int_equal(insn.gpr_read, BIT(0) | BIT(1));
	assert_int_equal(decode(INSN_64, "89 c8"), INSN_OK);
	assert_int_equal(insn.gpr_read, BIT(1));
	/* mov ah, bh; with REX: mov spl, dil */
	assert_int_equal(decode(INSN_64, "88 fc"), INSN_OK);
	assert_int_equal(insn.operand[0].klass, INSN_GPR_HIGH);
	assert_int_equal(insn.gpr_write, BIT(0));
	assert_int_equal(decode(INSN_64, "40 88 fc"), INSN_OK);
	assert_int_equal(insn.gpr_write, BIT(4));
}

static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(decode(INSN_64, "f0 01 c0"), INSN_UNDEFINED); /* lock add eax, eax */
	assert_int_equal(decode(INSN_64, "f0 8b 00"), INSN_UNDEFINED); /* lock mov */
	assert_int_equal(decode(INSN_64, "f0 01 00"), INSN_OK);
	assert_int_equal(decode(INSN_64, "06"), INSN_UNDEFINED);       /* push es */
	assert_int_equal(decode(INSN_64, "8e c8"), INSN_UNDEFINED);    /* mov cs, eax */
	assert_int_equal(decode(INSN_64, "0f 20 c8"), INSN_UNDEFINED); /* mov rax, cr1 */
	assert_int_equal(decode(INSN_64, "44 0f 20 c0"), INSN_OK);     /* mov rax, cr8 */
	assert_int_equal(insn.operand[1].reg, 8);
	assert_int_equal(decode(INSN_32, "f0 0f 20 c0"), INSN_UNDEFINED); /* the same on AMD */
	assert_int_equal(decode(INSN_32 | INSN_AMD, "f0 0f 20 c0"), INSN_OK);
	assert_int_equal(insn.operand[1].reg, 8);
	assert_int_equal(decode(INSN_64, "0f 0d c2"), INSN_OK);
	assert_int_equal(decode(INSN_64 | INSN_AMD, "0f 0d c2"), INSN_UNDEFINED);
	assert_int_equal(decode(INSN_64, "66 c5 f8 58 c0"), INSN_UNDEFINED); /* 66 before VEX */
	assert_int_equal(decode(INSN_64, "0f 0b"), INSN_OK);
	assert_int_equal(insn.klass, INSN_CLASS_UD);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(insn_mnemonic_name(INSN_CMPXCHG16B), "CMPXCHG16B");
	assert_string_equal(insn_mnemonic_name(INSN_NONE), "?");
	assert_string_equal(insn_mnemonic_name(INSN_NMNEMONICS), "?");
	assert_string_equal(insn_feature_name(INSN_F_AVX2), "AVX2");
	assert_string_equal(insn_feature_name(INSN_NFEATURES), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legacy),	 cmocka_unit_test(test_vex),
		cmocka_unit_test(test_evex),	 cmocka_unit_test(test_random),
		cmocka_unit_test(test_reasons),	 cmocka_unit_test(test_more),
		cmocka_unit_test(test_too_long), cmocka_unit_test(test_places),
		cmocka_unit_test(test_branches), cmocka_unit_test(test_effects),
		cmocka_unit_test(test_refused),	 cmocka_unit_test(test_names),
		cmocka_unit_test(test_pause),	 cmocka_unit_test(test_w_is_size),
	};

	random_state = 88172645463325252;
	zydis_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
