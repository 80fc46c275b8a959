/*
 * PKRU in the images of XSAVE and its like, against the host CPU: the emulator puts it in and takes
 * it out, and what comes of that is what the CPU does.
 */
#include <cpuid.h>
#include <signal.h>
#include <string.h>

#include "lib/insn/emulate.h"
#include "lib/insn/test_draw.h"
#include "lib/insn/test_native.h"
#include "tests/unit.h"

#define RUNS 20000

#define OSPKE	   BIT(4) /* CPUID 7, ECX */
#define AT_STATE   NATIVE_HEADER
#define AT_COMPACT (NATIVE_HEADER + 8)
#define COMPACT	   BIT(63)
#define FEATURES   (native_features() | XCR0_PKRU)

#define RAX 0
#define RDX 2
#define RSI 6

static struct insn_env env;
static struct insn_cpu cpu;
static uint8_t memory[NATIVE_MEMORY_BYTES];
static _Alignas(64) uint8_t area[NATIVE_AREA], buffer[4096];
static uint32_t pkru, standard_place;

/* XSAVE64, XSAVEOPT64, XSAVEC64, XRSTOR64 of [RSI] */
static const char codes[][4] = {
	{0x48, 0x0f, (char)0xae, 0x26},
	{0x48, 0x0f, (char)0xae, 0x36},
	{0x48, 0x0f, (char)0xc7, 0x26},
	{0x48, 0x0f, (char)0xae, 0x2e},
};

static enum insn_outcome read_memory(struct insn_env *e, uint64_t linear, void *data, unsigned len,
				     unsigned access)
{
	(void)e;
	(void)access;
	assert_true(linear >= NATIVE_MEMORY && linear + len <= NATIVE_MEMORY + sizeof(memory));
	memcpy(data, memory + (linear - NATIVE_MEMORY), len);
	return INSN_DONE;
}

static enum insn_outcome write_memory(struct insn_env *e, uint64_t linear, const void *data,
				      unsigned len, unsigned access)
{
	(void)e;
	(void)access;
	assert_true(linear >= NATIVE_MEMORY && linear + len <= NATIVE_MEMORY + sizeof(memory));
	memcpy(memory + (linear - NATIVE_MEMORY), data, len);
	return INSN_DONE;
}

static enum insn_outcome read_xcr(struct insn_env *e, uint32_t index, uint64_t *value)
{
	(void)e;
	(void)index;
	*value = FEATURES;
	return INSN_DONE;
}

static enum insn_outcome cpuid(struct insn_env *e, uint32_t regs[4])
{
	(void)e;
	__cpuid_count(regs[0], regs[2], regs[0], regs[1], regs[2], regs[3]);
	return INSN_DONE;
}

static enum insn_outcome read_pkru(struct insn_env *e, uint32_t *value)
{
	(void)e;
	*value = pkru;
	return INSN_DONE;
}

static enum insn_outcome write_pkru(struct insn_env *e, uint32_t value)
{
	(void)e;
	pkru = value;
	return INSN_DONE;
}

static uint32_t host_pkru(void)
{
	uint32_t value, high;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(high) : "c"(0));
	return value;
}

static void set_host_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

/* Registers of the host: from @area, and to it. */
static int run(const uint8_t *code, unsigned len, uint64_t parts)
{
	struct native_registers regs = {.rflags = BIT(1)};

	regs.gpr[RSI] = NATIVE_MEMORY;
	regs.gpr[RAX] = (uint32_t)parts;
	regs.gpr[RDX] = parts >> 32;
	memcpy(regs.area, area, sizeof(area));
	return native_run(INSN_64, code, len, &regs).signal;
}

static enum insn_outcome native(struct insn_env *e, struct insn_native *n)
{
	int signal;

	assert_int_equal(n->base, RSI);
	assert_int_equal(n->gpr[RAX] & XCR0_PKRU, 0);
	memcpy(native_memory(), n->memory, n->memory_len);
	signal = run(n->code, n->len, (uint32_t)n->gpr[RAX] | n->gpr[RDX] << 32);
	memcpy(n->memory, native_memory(), n->memory_len);
	return signal == 0 ? INSN_DONE : insn_raise(e, INSN_EXC_GP, 0);
}

static const struct insn_ops ops = {
	.read = read_memory,
	.write = write_memory,
	.read_xcr = read_xcr,
	.cpuid = cpuid,
	.read_pkru = read_pkru,
	.write_pkru = write_pkru,
	.native = native,
};

/* Key 0 is this program's own. */
static uint32_t draw_pkru(void)
{
	return draw_below(3) == 0 ? 0 : (uint32_t)draw_random() & ~3U;
}

static void put(unsigned at, uint64_t value, unsigned len)
{
	memcpy(memory + at, &value, len);
}

static uint64_t draw_parts(void)
{
	return draw_random() & (draw_below(8) == 0 ? BIT(3) | FEATURES : FEATURES);
}

static void draw_image(void)
{
	uint64_t parts = draw_parts();

	for (unsigned i = 0; i < sizeof(memory); i += 8) {
		put(i, draw_random(), 8);
	}
	memset(memory, 0, AT_STATE + 64);
	put(NATIVE_FCW, 0x37f, 2);
	put(NATIVE_MXCSR, 0x1f80, 4);
	put(AT_STATE, parts, 8);
	if (draw_below(2) == 0) {
		uint64_t more = draw_below(4) == 0 ? 0 : parts;

		put(AT_COMPACT, COMPACT | draw_parts() | more, 8);
	}
	/* Wherever it is. */
	put(576, draw_pkru(), 4);
	put(832, draw_pkru(), 4);
	put(standard_place, draw_pkru(), 4);
}

static void one(void)
{
	static uint8_t before[sizeof(memory)];
	const uint8_t *code = (const uint8_t *)codes[draw_below(ARRAY_SIZE(codes))];
	uint64_t parts = draw_random() & FEATURES;
	uint32_t was = host_pkru(), first = draw_pkru(), after;
	enum insn_outcome r;
	struct insn insn;
	int signal;

	draw_image();
	memcpy(before, memory, sizeof(memory));
	pkru = first;
	cpu.gpr[RSI] = NATIVE_MEMORY;
	cpu.gpr[RAX] = parts;
	assert_int_equal(insn_decode(&insn, INSN_64, code, 4), INSN_OK);
	r = insn_emulate(&env, &insn);
	assert_int_equal(host_pkru(), was);

	memcpy(native_memory(), before, sizeof(before));
	set_host_pkru(first);
	signal = run(code, 4, parts);
	after = host_pkru();
	set_host_pkru(was);
	assert_int_equal(r, signal == 0 ? INSN_DONE : INSN_FAULT);
	assert_int_equal(pkru, after);
	assert_memory_equal(memory, native_memory(), sizeof(memory));
}

static void images_are_the_cpus(void **state)
{
	uint32_t regs[4];

	(void)state;
	__cpuid_count(7, 0, regs[0], regs[1], regs[2], regs[3]);
	if ((regs[2] & OSPKE) == 0 || !native_init()) {
		print_message("no protection keys here\n");
		skip();
	}
	__cpuid_count(0xd, 9, regs[0], regs[1], regs[2], regs[3]);
	standard_place = regs[1];
	env = (struct insn_env){.cpu = &cpu,
				.ops = &ops,
				.other = insn_do_other,
				.buffer = buffer,
				.buffer_len = sizeof(buffer)};
	cpu.cr0 = 0x80050033;
	cpu.cr4 = CR4_OSXSAVE | CR4_OSFXSR | CR4_PAE | CR4_PKE;
	cpu.efer = EFER_LME | EFER_LMA;
	cpu.seg[INSN_CS].attr = 0xafb;
	/* All are in use. */
	area[0] = 0x7f;
	area[1] = 0x02;
	memset(area + NATIVE_XMM, 0x5a, 256);
	memset(area + NATIVE_YMM_HIGH, 0xa5, 256);
	area[NATIVE_MXCSR] = 0x80;
	area[NATIVE_MXCSR + 1] = 0x1f;
	area[AT_STATE] = (uint8_t)native_features();
	for (unsigned i = 0; i < RUNS; i++) {
		one();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_are_the_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
