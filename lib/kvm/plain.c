#include "lib/kvm/plain.h"

#include <string.h>

#define REX_B BIT(0)
#define REX_X BIT(1)
#define REX_R BIT(2)
#define REX_W BIT(3)

#define NO_INDEX 4 /* as the index of a SIB byte */
#define NO_BASE	 5 /* as base or r/m, with mod 0 */
#define HAS_SIB	 4 /* as r/m */

struct reader {
	const uint8_t *code;
	unsigned at, have;
	bool opsize;
	bool has_rex;
	uint8_t rex;
};

/* Behind the end there are zeros, and what is read there is never used: the end is looked at last.
 */
static uint64_t take(struct reader *r, unsigned bytes)
{
	uint64_t value = 0;

	if (r->at + bytes <= r->have) {
		memcpy(&value, r->code + r->at, bytes);
	}
	r->at += bytes;
	return value;
}

/* In 64-bit code ES, CS, SS and DS override nothing. */
static bool is_idle_segment(uint8_t byte)
{
	return (byte & 0xe7) == 0x26;
}

static bool is_prefix(uint8_t byte)
{
	return is_idle_segment(byte) || (byte >= 0x64 && byte <= 0x67) || byte == 0xf0 ||
	       byte == 0xf2 || byte == 0xf3;
}

/* ModRM, SIB and displacement. Return: false: the operand is a register. */
static bool take_operand(struct reader *r, struct kvm_mov *mov, uint8_t *reg)
{
	uint8_t modrm = (uint8_t)take(r, 1);
	uint8_t mod = modrm >> 6, rm = modrm & 7;

	*reg = (uint8_t)((modrm >> 3 & 7) | ((r->rex & REX_R) != 0 ? 8 : 0));
	mov->base = (uint8_t)(rm | ((r->rex & REX_B) != 0 ? 8 : 0));
	mov->index = KVM_MOV_NONE;
	mov->shift = 0;
	if (mod == 3) {
		return false;
	}
	if (rm == HAS_SIB) {
		uint8_t sib = (uint8_t)take(r, 1);
		uint8_t index = (uint8_t)((sib >> 3 & 7) | ((r->rex & REX_X) != 0 ? 8 : 0));

		mov->base = (uint8_t)((sib & 7) | ((r->rex & REX_B) != 0 ? 8 : 0));
		if (index != NO_INDEX) {
			mov->index = index;
			mov->shift = sib >> 6;
		}
		if ((sib & 7) == NO_BASE && mod == 0) {
			mov->base = KVM_MOV_NONE;
		}
	} else if (rm == NO_BASE && mod == 0) {
		mov->base = KVM_MOV_RIP;
	}
	if (mod == 1) {
		mov->disp = (int32_t)take(r, 1);
		mov->disp -= mov->disp >= 0x80 ? 0x100 : 0;
	} else if (mod == 2 || mov->base >= KVM_MOV_RIP) {
		mov->disp = (int32_t)take(r, 4);
	} else {
		mov->disp = 0;
	}
	return true;
}

/* Legacy prefixes, and REX if it comes last. Return: false: one that we have nothing to do with. */
static bool take_prefixes(struct reader *r, uint8_t *opcode)
{
	for (;;) {
		uint8_t byte = (uint8_t)take(r, 1);

		if ((byte & 0xf0) == 0x40) {
			r->has_rex = true;
			r->rex = byte;
		} else if (byte == 0x66 || is_idle_segment(byte)) {
			r->opsize |= byte == 0x66;
			r->has_rex = false;
			r->rex = 0;
		} else {
			*opcode = byte;
			return !is_prefix(byte);
		}
	}
}

/* What the opcode says; *@imm: there is a constant. Return: false: it is no MOV. */
static bool take_opcode(struct reader *r, uint8_t opcode, struct kvm_mov *mov, bool *imm)
{
	uint8_t wide = (r->rex & REX_W) != 0 ? 8 : r->opsize ? 2 : 4;

	*imm = false;
	mov->sign = false;
	mov->bytes = mov->to_bytes = wide;
	switch (opcode) {
	case 0x88: /* MOV r/m, r */
	case 0x89:
	case 0x8a: /* MOV r, r/m */
	case 0x8b:
		mov->store = (opcode & 2) == 0;
		break;
	case 0xc6: /* MOV r/m, imm */
	case 0xc7:
		mov->store = true;
		*imm = true;
		break;
	case 0x63: /* MOVSXD */
		mov->store = false;
		mov->sign = true;
		mov->bytes = 4;
		return wide == 8;
	case 0x0f:
		opcode = (uint8_t)take(r, 1);
		mov->store = false;
		mov->sign = (opcode & 8) != 0;
		mov->bytes = (opcode & 1) != 0 ? 2 : 1;
		return (opcode & 0xf6) == 0xb6; /* MOVZX, MOVSX */
	default:
		return false;
	}
	if ((opcode & 1) == 0) {
		mov->bytes = mov->to_bytes = 1;
	}
	return true;
}

bool kvm_plain_mov(struct kvm_mov *mov, const uint8_t code[INSN_MAX])
{
	struct reader r = {.code = code, .have = INSN_MAX};
	uint8_t opcode, reg;
	bool imm;

	if (!take_prefixes(&r, &opcode) || !take_opcode(&r, opcode, mov, &imm) ||
	    !take_operand(&r, mov, &reg)) {
		return false;
	}
	mov->reg = reg;
	mov->imm = 0;
	if (imm) {
		if ((reg & 7) != 0) {
			return false;
		}
		mov->reg = KVM_MOV_NONE;
		switch (mov->bytes) {
		case 1:
			mov->imm = take(&r, 1);
			break;
		case 2:
			mov->imm = take(&r, 2);
			break;
		default:
			mov->imm = (uint64_t)(int64_t)(int32_t)take(&r, 4);
		}
	} else if (mov->to_bytes == 1 && !r.has_rex && reg >= 4) {
		return false; /* AH, CH, DH, BH */
	}
	mov->len = (uint8_t)r.at;
	return r.at <= r.have;
}

uint64_t kvm_plain_address(const struct kvm_mov *mov, const struct insn_cpu *cpu)
{
	uint64_t address = (uint64_t)(int64_t)mov->disp;

	if (mov->base < ARRAY_SIZE(cpu->gpr)) {
		address += cpu->gpr[mov->base];
	} else if (mov->base == KVM_MOV_RIP) {
		address += cpu->rip + mov->len;
	}
	return mov->index != KVM_MOV_NONE ? address + (cpu->gpr[mov->index] << mov->shift)
					  : address;
}

static uint64_t cut(uint64_t value, unsigned bytes, bool sign)
{
	unsigned unused = 64 - 8 * bytes;

	value <<= unused;
	return sign ? (uint64_t)((int64_t)value >> unused) : value >> unused;
}

void kvm_plain_load(const struct kvm_mov *mov, struct insn_cpu *cpu, uint64_t value)
{
	uint64_t *to = &cpu->gpr[mov->reg];

	value = cut(value, mov->bytes, mov->sign);
	if (mov->to_bytes <= 2) {
		value = cut(value, mov->to_bytes, false) | (*to - cut(*to, mov->to_bytes, false));
	} else {
		value = cut(value, mov->to_bytes, false);
	}
	*to = value;
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
	uint8_t byte = (uint8_t)take(&r, 1);
	unsigned more;

	while (is_prefix(byte) || (long_mode && (byte & 0xf0) == 0x40)) {
		byte = (uint8_t)take(&r, 1);
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
