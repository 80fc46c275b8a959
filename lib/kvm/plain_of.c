#include "lib/kvm/plain_of.h"

_Static_assert(KVM_PLAIN_NONE == INSN_NO_REG && KVM_PLAIN_RIP == INSN_RIP, "the same for all");

static bool take_address(struct kvm_plain *plain, const struct insn *insn)
{
	const struct insn_mem *mem = &insn->mem[0];

	plain->base = mem->base;
	plain->index = mem->index;
	plain->shift = (uint8_t)__builtin_ctz(mem->scale | 8u);
	plain->disp = (int32_t)mem->disp;
	return insn->nmem == 1 && mem->kind == INSN_MEM_MODRM && mem->seg < INSN_FS &&
	       insn->adr_bytes == 8;
}

/* Return: false: neither a load nor a store. */
static bool take_operation(struct kvm_plain *plain, const struct insn *insn)
{
	bool sets = (insn->operand[0].access & INSN_WRITE) != 0;

	plain->memory_first = insn->operand[0].kind == INSN_OP_MEM;
	plain->store = plain->memory_first && sets;
	plain->flags_only = !sets;
	plain->sign = insn->mnemonic == INSN_MOVSX || insn->mnemonic == INSN_MOVSXD;
	switch (insn->mnemonic) {
	case INSN_MOV:
	case INSN_MOVZX:
	case INSN_MOVSX:
	case INSN_MOVSXD:
		plain->op = KVM_PLAIN_MOVE;
		return true;
	case INSN_ADD:
		plain->op = KVM_PLAIN_ADD;
		break;
	case INSN_SUB:
	case INSN_CMP:
		plain->op = KVM_PLAIN_SUB;
		break;
	case INSN_AND:
	case INSN_TEST:
		plain->op = KVM_PLAIN_AND;
		break;
	case INSN_OR:
		plain->op = KVM_PLAIN_OR;
		break;
	case INSN_XOR:
		plain->op = KVM_PLAIN_XOR;
		break;
	default:
		return false;
	}
	return !plain->store;
}

bool kvm_plain_of(struct kvm_plain *plain, const struct insn *insn)
{
	const uint8_t changed = INSN_PREFIX_LOCK | INSN_PREFIX_REP | INSN_PREFIX_REPNE;
	const struct insn_operand *mem = &insn->operand[0], *other = &insn->operand[1];

	if (insn->mode != INSN_64 || insn->klass != INSN_CLASS_INTEGER || insn->noperands != 2 ||
	    (insn->prefixes & changed) != 0 || !take_address(plain, insn) ||
	    !take_operation(plain, insn)) {
		return false;
	}
	if (!plain->memory_first) {
		mem = &insn->operand[1];
		other = &insn->operand[0];
	}
	plain->len = insn->len;
	plain->bytes = plain->to_bytes = (uint8_t)mem->bytes;
	plain->imm = 0;
	if (other->kind == INSN_OP_IMM) {
		plain->reg = KVM_PLAIN_NONE;
		plain->imm = insn->imm[other->reg];
		return true;
	}
	plain->reg = other->reg;
	plain->to_bytes = (uint8_t)other->bytes;
	return other->kind == INSN_OP_REG && other->klass == INSN_GPR;
}
