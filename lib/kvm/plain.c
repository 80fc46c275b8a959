#include "lib/kvm/plain.h"

#include "lib/x86/regs.h"

#define RFLAGS_ARITH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

static bool is_size(uint8_t bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

static bool is_gpr(uint8_t reg)
{
	return reg < 16;
}

bool kvm_plain_is_sound(const struct kvm_plain *p)
{
	return p->len != 0 && p->len <= INSN_MAX && p->op < KVM_PLAIN_NOPS && is_size(p->bytes) &&
	       is_size(p->to_bytes) && (p->op == KVM_PLAIN_MOVE || p->bytes == p->to_bytes) &&
	       (is_gpr(p->reg) || (p->reg == KVM_PLAIN_NONE && (p->store | p->flags_only) != 0)) &&
	       (is_gpr(p->base) || p->base >= KVM_PLAIN_RIP) &&
	       (is_gpr(p->index) || p->index == KVM_PLAIN_NONE) && p->shift <= 3;
}

uint64_t kvm_plain_address(const struct kvm_plain *p, const struct insn_cpu *cpu)
{
	uint64_t address = (uint64_t)(int64_t)p->disp;

	if (is_gpr(p->base)) {
		address += cpu->gpr[p->base];
	} else if (p->base == KVM_PLAIN_RIP) {
		address += cpu->rip + p->len;
	}
	return p->index != KVM_PLAIN_NONE ? address + (cpu->gpr[p->index] << p->shift) : address;
}

static uint64_t cut(uint64_t value, unsigned bytes, bool sign)
{
	unsigned unused = 64 - 8 * bytes;

	value <<= unused;
	return sign ? (uint64_t)((int64_t)value >> unused) : value >> unused;
}

/* Flags of ADD or SUB. Operands and result are in the highest bits, and what is below them is 0. */
static uint64_t carries(enum kvm_plain_op op, uint64_t a, uint64_t b, uint64_t r, unsigned unused)
{
	bool add = op == KVM_PLAIN_ADD;
	bool carry = add ? r < a : a < b;
	bool overflow = ((a ^ r) & ((add ? r : a) ^ b)) >> 63 != 0;

	return (carry ? RFLAGS_CF : 0) | ((a ^ b ^ r) >> unused & RFLAGS_AF) |
	       (overflow ? RFLAGS_OF : 0);
}

/* Return: the result, with flags set. */
static uint64_t compute(const struct kvm_plain *p, struct insn_cpu *cpu, uint64_t memory)
{
	unsigned unused = 64 - 8u * p->bytes;
	uint64_t other = p->reg != KVM_PLAIN_NONE ? cpu->gpr[p->reg] : p->imm;
	uint64_t a = (p->memory_first ? memory : other) << unused;
	uint64_t b = (p->memory_first ? other : memory) << unused, r, flags = 0;

	switch (p->op) {
	case KVM_PLAIN_AND:
		r = a & b;
		break;
	case KVM_PLAIN_OR:
		r = a | b;
		break;
	case KVM_PLAIN_XOR:
		r = a ^ b;
		break;
	default:
		r = p->op == KVM_PLAIN_ADD ? a + b : a - b;
		flags = carries(p->op, a, b, r, unused);
	}
	flags |= (r == 0 ? RFLAGS_ZF : 0) | (r >> 63 != 0 ? RFLAGS_SF : 0);
	r >>= unused;
	flags |= __builtin_parity((uint8_t)r) == 0 ? RFLAGS_PF : 0;
	cpu->rflags = (cpu->rflags & ~RFLAGS_ARITH) | flags;
	return r;
}

void kvm_plain_load(const struct kvm_plain *p, struct insn_cpu *cpu, uint64_t value)
{
	uint64_t *to;

	if (p->op != KVM_PLAIN_MOVE) {
		value = compute(p, cpu, value);
	} else {
		value = cut(value, p->bytes, p->sign);
	}
	if (p->flags_only) {
		return;
	}
	to = &cpu->gpr[p->reg];
	value = cut(value, p->to_bytes, false);
	*to = p->to_bytes <= 2 ? value | (*to - cut(*to, p->to_bytes, false)) : value;
}

struct reader {
	const uint8_t *code;
	unsigned at, have;
};

static uint8_t take(struct reader *r)
{
	uint8_t byte = r->at < r->have ? r->code[r->at] : 0;

	r->at++; /* the end is looked at last */
	return byte;
}

static bool is_prefix(uint8_t byte)
{
	return (byte & 0xe7) == 0x26 || (byte >= 0x64 && byte <= 0x67) || byte == 0xf0 ||
	       byte == 0xf2 || byte == 0xf3;
}

/* Bytes behind the first of 0F, which is one. 0: it is another. */
static unsigned behind_0f(const struct reader *r, uint32_t *opcode)
{
	uint8_t second = r->at < r->have ? r->code[r->at] : 0;
	uint8_t third = r->at + 1 < r->have ? r->code[r->at + 1] : 0;

	*opcode = UINT32_C(0x0f00) | second;
	switch (second) {
	case 0x08: /* INVD */
	case 0x09: /* WBINVD */
	case 0x30: /* WRMSR */
	case 0x32: /* RDMSR */
	case 0xa2: /* CPUID */
		return 1;
	case 0x01: /* VMCALL, MONITOR, MWAIT, XSETBV, VMMCALL */
		*opcode = *opcode << 8 | third;
		return third == 0xc1 || third == 0xc8 || third == 0xc9 || third == 0xd1 ||
				       third == 0xd9
			       ? 2
			       : 0;
	default:
		return 0;
	}
}

unsigned kvm_plain_length(const uint8_t *code, unsigned have, bool long_mode, uint32_t *opcode)
{
	struct reader r = {.code = code, .have = MIN(have, (unsigned)INSN_MAX)};
	uint8_t byte = take(&r);
	unsigned more;

	while (is_prefix(byte) || (long_mode && (byte & 0xf0) == 0x40)) {
		byte = take(&r);
	}
	*opcode = byte;
	switch (byte) {
	case 0xf4: /* HLT */
	case 0x90: /* PAUSE */
	case 0xec: /* IN, OUT by DX */
	case 0xed:
	case 0xee:
	case 0xef:
		break;
	case 0xe4: /* by a constant */
	case 0xe5:
	case 0xe6:
	case 0xe7:
		r.at++;
		break;
	case 0x0f:
		more = behind_0f(&r, opcode);
		if (more == 0) {
			return 0;
		}
		r.at += more;
		break;
	default:
		return 0;
	}
	return r.at <= r.have ? r.at : 0;
}
