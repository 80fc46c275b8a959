/* Multiplication, bits, strings, stack, conditions, and the vector units: one case a family. */
#include "tests/guest/bare/snippet.h"

BARE_CASE(multiply_divide, "insn/multiply_divide", "AMD APM vol. 3, MUL, IMUL, DIV, IDIV")
{
	uint64_t low, high, ax = 0xffff000000000090;
	uint8_t carry;

	__asm__ volatile("mul %3; setc %2"
			 : "=a"(low), "=d"(high), "=q"(carry)
			 : "r"(~UINT64_C(0)), "0"(~UINT64_C(0))
			 : "cc");
	check_eq(low, 1);
	check_eq(high, ~UINT64_C(1));
	check_eq(carry, 1);
	__asm__ volatile("imul %3; setc %2"
			 : "=a"(low), "=d"(high), "=q"(carry)
			 : "r"(~UINT64_C(0)), "0"(~UINT64_C(0))
			 : "cc");
	check_eq(low, 1);
	check_eq(high, 0);
	check_eq(carry, 0);
	__asm__ volatile("mulb %b1" : "+a"(ax) : "r"(0x20) : "cc");
	check_eq(ax, 0xffff000000001200);
	__asm__ volatile("imull $-3, %k1, %k0; seto %2"
			 : "=r"(low), "+r"(high), "=q"(carry)
			 :
			 : "cc");
	check_eq(low, 0);
	__asm__ volatile("div %4"
			 : "=a"(low), "=d"(high)
			 : "0"(UINT64_C(0)), "1"(UINT64_C(1)), "r"(UINT64_C(0x8000000000000000))
			 : "cc");
	check_eq(low, 2);
	check_eq(high, 0);
	__asm__ volatile("cqo; idiv %3"
			 : "=a"(low), "=&d"(high)
			 : "0"(UINT64_MAX - 6), "r"(UINT64_C(2))
			 : "cc");
	check_eq(low, UINT64_MAX - 2);
	check_eq(high, UINT64_MAX);
	__asm__ volatile("divb %b1" : "=a"(low) : "r"(7), "0"(0xabcd000000000065) : "cc");
	check_eq(low, 0xabcd00000000030e);
}

BARE_CASE(bit_offsets, "insn/bit_offsets", "AMD APM vol. 3, BT, BTS, BTR, BTC")
{
	uint64_t words[4] = {0}, value = 0;
	uint8_t carry;

	/* A bit offset in a register reaches beyond the operand, both ways; in a register it is
	 * taken modulo the width, as is an immediate. */
	__asm__ volatile("bts %2, %0; setc %1"
			 : "+m"(words[1]), "=q"(carry)
			 : "r"((uint64_t)70)
			 : "memory", "cc");
	check_eq(carry, 0);
	check_eq(words[2], 1 << 6);
	__asm__ volatile("bts %2, %0; setc %1"
			 : "+m"(words[1]), "=q"(carry)
			 : "r"((uint64_t)-1)
			 : "memory", "cc");
	check_eq(words[0], UINT64_C(1) << 63);
	__asm__ volatile("btcl %k2, %0; setc %1"
			 : "+m"(words[1]), "=q"(carry)
			 : "r"(-1)
			 : "memory", "cc");
	check_eq(words[0], 0);
	check_eq(carry, 1);
	__asm__ volatile("btrw %w2, %0; setc %1"
			 : "+m"(words[1]), "=q"(carry)
			 : "r"(70)
			 : "memory", "cc");
	check_eq(words[2], 0);
	check_eq(carry, 1);
	__asm__ volatile("bts %1, %0" : "+r"(value) : "r"((uint64_t)70) : "cc");
	check_eq(value, 1 << 6);
	__asm__ volatile("btsq $69, %0" : "+m"(words[1]) : : "memory", "cc");
	check_eq(words[1], 1 << 5);
}

BARE_CASE(bit_scans, "insn/bit_scans", "AMD APM vol. 3, BSF, BSR, POPCNT, TZCNT, LZCNT")
{
	uint64_t a = 99, b;
	uint8_t zero;

	__asm__ volatile("bsf %2, %0; setz %1" : "+r"(a), "=q"(zero) : "r"(UINT64_C(0x100)) : "cc");
	check_eq(a, 8);
	check_eq(zero, 0);
	__asm__ volatile("bsf %2, %0; setz %1" : "+r"(a), "=q"(zero) : "r"(UINT64_C(0)) : "cc");
	check_eq(zero, 1);
	__asm__ volatile("bsr %1, %0" : "=r"(a) : "r"(~UINT64_C(0)) : "cc");
	check_eq(a, 63);
	if ((cpuid(1, 0).ecx & 1u << 23) != 0) {
		__asm__ volatile("popcnt %1, %0"
				 : "=r"(b)
				 : "r"(UINT64_C(0xff00ff0000000001))
				 : "cc");
		check_eq(b, 17);
	}
	if ((cpuid(7, 0).ebx & 1u << 3) != 0) { /* BMI1 */
		__asm__ volatile("tzcnt %k2, %k0; setc %1" : "=r"(b), "=q"(zero) : "r"(0) : "cc");
		check_eq(b, 32);
		check_eq(zero, 1);
	}
	if ((cpuid(0x80000001, 0).ecx & 1u << 5) != 0) { /* ABM */
		__asm__ volatile("lzcnt %w1, %w0" : "=r"(b) : "r"(1), "0"(0) : "cc");
		check_eq(b, 15);
	}
}

BARE_CASE(string_direction, "insn/string_direction", "AMD APM vol. 3, MOVS, SCAS, CMPS, LODS, STOS")
{
	uint8_t data[32], *at = data;
	uint64_t rdi = (uint64_t)(data + 3), rsi = (uint64_t)data, rcx = 8, value;

	for (uint8_t i = 0; i < 32; i++) {
		data[i] = i;
	}
	/* Upwards onto itself: it is done byte by byte. */
	__asm__ volatile("rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
	check_eq(data[3], 0);
	check_eq(data[6], 0);
	check_eq(data[10], 1);
	rdi = (uint64_t)(data + 31);
	rcx = 32;
	__asm__ volatile("std; repne scasb; cld" : "+D"(rdi), "+c"(rcx) : "a"(20) : "memory", "cc");
	check_eq(rdi, (uint64_t)(data + 19));
	check_eq(rcx, 20);
	/* RCX = 0: nothing, no flags either. */
	rcx = 0;
	__asm__ volatile("stc; rep cmpsb; setc %b2"
			 : "+D"(rdi), "+S"(rsi), "=&r"(value), "+c"(rcx)
			 :
			 : "memory", "cc");
	check_eq(value & 0xff, 1);
	check_eq(rdi, (uint64_t)(data + 19));
	/* ECX alone counts with a 32-bit address size, and registers lose their upper halves. */
	rcx = UINT64_C(0x100000001);
	rsi = (uint64_t)at | UINT64_C(0x700000000);
	__asm__ volatile(".byte 0xf3, 0x67, 0xac" : "+S"(rsi), "+c"(rcx), "=a"(value) : : "memory");
	check_eq(rcx, 0);
	check_eq(rsi, (uint64_t)at + 1);
}

#define CONDITION(cc)                                                                   \
	static uint64_t condition_##cc(uint64_t rflags)                                 \
	{                                                                               \
		uint64_t set = 0x100, moved = 0;                                        \
                                                                                        \
		__asm__ volatile("push %2; popfq; set" #cc " %b0; cmov" #cc " %3, %1\n" \
				 "j" #cc " 1f; add $16, %0; 1:"                         \
				 : "+&q"(set), "+&r"(moved)                             \
				 : "r"(rflags), "r"(UINT64_C(1))                        \
				 : "cc", "memory");                                     \
		return set << 8 | moved;                                                \
	}
CONDITION(o)
CONDITION(b)
CONDITION(z)
CONDITION(be)
CONDITION(s)
CONDITION(p)
CONDITION(l)
CONDITION(le)
CONDITION(no)
CONDITION(ae)
CONDITION(nz)
CONDITION(a)
CONDITION(ns)
CONDITION(np)
CONDITION(ge)
CONDITION(g)

static bool holds(unsigned int cc, uint64_t f)
{
	bool cf = (f & RFLAGS_CF) != 0, zf = (f & RFLAGS_ZF) != 0, sf = (f & RFLAGS_SF) != 0;
	bool of = (f & RFLAGS_OF) != 0, pf = (f & RFLAGS_PF) != 0;
	const bool all[] = {of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of};

	return all[cc % 8] != (cc >= 8);
}

BARE_CASE(conditions, "insn/conditions", "AMD APM vol. 3, SETcc, CMOVcc, Jcc")
{
	uint64_t (*const conditions[])(uint64_t) = {
		condition_o,  condition_b,  condition_z,  condition_be, condition_s,  condition_p,
		condition_l,  condition_le, condition_no, condition_ae, condition_nz, condition_a,
		condition_ns, condition_np, condition_ge, condition_g};

	for (unsigned int cc = 0; cc < 16; cc++) {
		for (uint64_t i = 0; i < 32; i++) {
			uint64_t f = 2 | (i & 1) | (i & 2) << 1 | (i & 4) << 4 | (i & 8) << 4 |
				     (i & 16) << 7;

			check_eq(conditions[cc](f), holds(cc, f) ? 0x10101 : 0x11000);
		}
	}
}

BARE_CASE(stack_forms, "insn/stack_forms", "AMD APM vol. 3, PUSH, POP, ENTER, LEAVE")
{
	uint64_t a, b, c, d;

	__asm__ volatile("mov %%rsp, %%rdx\n"
			 "push %%rsp; pop %0\n" /* the value before */
			 "pushq $-2; pop %1\n"
			 "pushw $0x1234; mov %%rsp, %2; add $2, %%rsp\n"
			 "sub %%rdx, %2; sub %%rdx, %0\n"
			 "push %%rdx; push %%rdx; mov %%rsp, %%rcx\n"
			 "popq 8(%%rsp); pop %3\n" /* the address is of RSP after the pop */
			 : "=&r"(a), "=&r"(b), "=&r"(c), "=&r"(d)
			 :
			 : "rcx", "rdx", "memory", "cc");
	check_eq(a, 0);
	check_eq(b, ~UINT64_C(1));
	check_eq(c, ~UINT64_C(1));
	__asm__ volatile("push %%rbp; mov %%rsp, %%rbp; mov %%rsp, %%rcx\n"
			 "enter $32, $2\n"
			 "mov %%rsp, %0; sub %%rcx, %0; mov (%%rbp), %1; sub %%rcx, %1\n"
			 "leave; mov %%rsp, %2; sub %%rcx, %2; mov %%rcx, %%rsp; pop %%rbp"
			 : "=&r"(a), "=&r"(b), "=&r"(c)
			 :
			 : "rcx", "memory", "cc");
	check_eq(a, (uint64_t) - (8 + 8 + 8 + 32));
	check_eq(b, 0);
	check_eq(c, 0);
}

BARE_CASE(odds_and_ends, "insn/odds_and_ends",
	  "AMD APM vol. 3, LAHF, XLAT, MOVBE, CRC32, CMPXCHG, BSWAP")
{
	uint8_t table[256], zero;
	uint64_t a = 0x1ff07, b = UINT64_C(0x8877665544332211), word = 5;

	for (unsigned int i = 0; i < 256; i++) {
		table[i] = (uint8_t)~i;
	}
	__asm__ volatile("xlatb" : "+a"(a) : "b"(table) : "memory");
	check_eq(a, 0x1fff8);
	__asm__ volatile("mov $0xd500, %%eax; sahf; lahf" : "=a"(a) : : "cc");
	check_eq(a, 0xd700);
	/* AH to BH: without REX they are the second bytes. */
	__asm__ volatile("mov $0x1234, %%eax; mov %%ah, %%bl; mov %%al, %%bh; movzx %%bx, %%eax"
			 : "=a"(a)
			 :
			 : "rbx");
	check_eq(a, 0x3412);
	__asm__ volatile("bswap %0" : "+r"(b));
	check_eq(b, UINT64_C(0x1122334455667788));
	__asm__ volatile("bswap %k0" : "+r"(b));
	check_eq(b, 0x88776655);
	if ((cpuid(1, 0).ecx & 1u << 22) != 0) {
		word = 0x0102030405060708;
		__asm__ volatile("movbe %1, %k0" : "=r"(a) : "m"(word));
		check_eq(a, 0x08070605);
	}
	if ((cpuid(1, 0).ecx & 1u << 20) != 0) {
		a = 0xffffffff;
		__asm__ volatile("crc32b %b1, %k0" : "+r"(a) : "r"(0x61));
		check_eq(~a & 0xffffffff, 0xc1d04330);
	}
	/* A failed CMPXCHG loads EAX and clears its upper half; one that works leaves RAX. */
	word = 5;
	a = UINT64_C(0xaaaaaaaa00000006);
	__asm__ volatile("cmpxchgl %k3, %1; setz %2"
			 : "+a"(a), "+m"(word), "=q"(zero)
			 : "r"(9)
			 : "cc");
	check_eq(zero, 0);
	check_eq(a, 5);
	check_eq(word, 5);
	a = UINT64_C(0xaaaaaaaa00000005);
	__asm__ volatile("cmpxchgl %k3, %1; setz %2"
			 : "+a"(a), "+m"(word), "=q"(zero)
			 : "r"(9)
			 : "cc");
	check_eq(zero, 1);
	check_eq(word, 9);
}

BARE_CASE(time_goes_on, "insn/time_goes_on", "AMD APM vol. 3, RDTSC, RDTSCP")
{
	uint64_t last = rdtsc();

	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t now = rdtsc();

		check(now >= last);
		last = now;
	}
	if ((cpuid(0x80000001, 0).edx & 1u << 27) != 0) {
		uint32_t low, high, aux;

		wrmsr(0xc0000103, 0x12345678);
		__asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux) : : "memory");
		check_eq(aux, 0x12345678);
		check(((uint64_t)high << 32 | low) >= last);
	}
}

BARE_CASE(floating_point, "insn/floating_point",
	  "AMD APM vol. 5, FDIV, FIST; vol. 4, ADDPS, CVTSI2SD")
{
	static uint32_t four[4]
		__attribute__((aligned(16))) = {0x3f800000, 0x40000000, 0x40400000, 0x40800000};
	static uint32_t sum[4] __attribute__((aligned(16)));
	uint64_t quotient, root;
	uint32_t rounded[2];
	int32_t seven = 7;

	__asm__ volatile(
		"fninit; fildl %2; fld1; faddp; fildl %2; fdivrp; fstpl %0; fildl %2; fsqrt;"
		"fistpl %1"
		: "=m"(quotient), "=m"(rounded[0])
		: "m"(seven)
		: "memory");
	check(quotient == UINT64_C(0x3ff2492492492492) || quotient == UINT64_C(0x3fec000000000000));
	check_eq(rounded[0], 3);
	__asm__ volatile("movaps %1, %%xmm0; addps %%xmm0, %%xmm0; movaps %%xmm0, %0"
			 : "=m"(sum)
			 : "m"(four)
			 : "memory");
	check_eq(sum[0], 0x40000000);
	check_eq(sum[3], 0x41000000);
	__asm__ volatile("cvtsi2sdl %1, %%xmm3; sqrtsd %%xmm3, %%xmm3; movq %%xmm3, %0"
			 : "=r"(root)
			 : "r"(4)
			 : "memory");
	check_eq(root, UINT64_C(0x4000000000000000));
	__asm__ volatile("movq %1, %%mm0; paddb %%mm0, %%mm0; movq %%mm0, %0; emms"
			 : "=m"(root)
			 : "m"(quotient)
			 : "memory");
	check_eq(root & 0xff, (quotient & 0x7f) << 1);
}

BARE_CASE(fxsave_image, "insn/fxsave_image", "AMD APM vol. 2, 11.4.4; vol. 5, FXSAVE")
{
	static uint8_t image[512] __attribute__((aligned(16))),
		again[512] __attribute__((aligned(16)));
	uint64_t marks[2] = {UINT64_C(0x1111222233334444), UINT64_C(0x5555666677778888)};
	uint32_t mxcsr = 0x1f80 | 0x2000;

	__asm__ volatile("fninit; fld1; fldz; ldmxcsr %2; movups %1, %%xmm15; fxsave64 %0"
			 : "=m"(image)
			 : "m"(marks), "m"(mxcsr)
			 : "memory");
	check_eq(*(uint16_t *)(void *)image, 0x37f);
	check_eq(*(uint16_t *)(void *)(image + 2) >> 11 & 7, 6); /* TOP */
	check_eq(image[4], 0xc0);				 /* tags, one bit each */
	check_eq(*(uint32_t *)(void *)(image + 24), mxcsr);
	check_eq(*(uint64_t *)(void *)(image + 32), 0);			/* ST0: 0.0 */
	check_eq(*(uint64_t *)(void *)(image + 48), UINT64_C(1) << 63); /* ST1: 1.0 */
	check_eq(*(uint16_t *)(void *)(image + 56), 0x3fff);
	check_eq(*(uint64_t *)(void *)(image + 160 + 15 * 16), marks[0]);
	check_eq(*(uint64_t *)(void *)(image + 160 + 15 * 16 + 8), marks[1]);
	__asm__ volatile("fninit; xorps %%xmm15, %%xmm15; fxrstor64 %1; fxsave64 %0"
			 : "=m"(again)
			 : "m"(image)
			 : "memory");
	for (unsigned int i = 24; i < 416; i++) {
		check_eq(again[i], image[i]);
	}
	check_eq(*(uint16_t *)(void *)(again + 2), *(uint16_t *)(void *)(image + 2));
}
