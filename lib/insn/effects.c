/*
 * Which registers and flags an instruction reads and writes.
 */
#include "lib/insn/operands.h"

#define RCX 1
#define RSP 4
#define RSI 6
#define RDI 7

bool insn_w_is_size(const struct insn *insn)
{
	if (insn->encoding == INSN_LEGACY) {
		return false;
	}
	for (unsigned i = 0; i < insn->noperands; i++) {
		if (insn->operand[i].kind == INSN_OP_REG && insn->operand[i].klass == INSN_GPR) {
			return true;
		}
	}
	switch (insn->mnemonic) {
	case INSN_VMOVD:
	case INSN_VPINSRD:
	case INSN_VPEXTRD:
	case INSN_VPCMPESTRI: /* of RAX and RDX */
	case INSN_VPCMPESTRM:
	case INSN_VCVTSI2SS:
	case INSN_VCVTSI2SD:
	case INSN_VCVTUSI2SS:
	case INSN_VCVTUSI2SD:
		return true;
	default:
		return false;
	}
}

static void read_address(struct insn *insn, const struct insn_mem *m)
{
	if (m->base < 16) {
		insn->gpr_read |= BIT(m->base);
	}
	if (m->index < 16 && m->kind != INSN_MEM_VSIB) {
		insn->gpr_read |= BIT(m->index);
	}
}

static void operand_effects(struct insn *insn, const struct insn_operand *o)
{
	uint16_t bit = (uint16_t)BIT(o->reg & 15);

	if (o->kind == INSN_OP_MEM) {
		read_address(insn, &insn->mem[o->reg]);
	}
	if (o->kind != INSN_OP_REG || o->klass > INSN_GPR_HIGH) {
		return;
	}
	if ((o->access & INSN_READ) != 0) {
		insn->gpr_read |= bit;
	}
	if ((o->access & INSN_WRITE) != 0) {
		insn->gpr_write |= bit;
		if (o->bytes < 4 || (o->access & INSN_COND) != 0) {
			insn->gpr_read |= bit;
		}
	}
}

static void use(struct insn *insn, unsigned reg, bool write)
{
	insn->gpr_read |= BIT(reg);
	insn->gpr_fixed |= BIT(reg);
	if (write) {
		insn->gpr_write |= BIT(reg);
	}
}

static void implied_effects(struct insn_decoder *d)
{
	const struct insn_implied *im = &insn_implied[d->row->implied];
	struct insn *insn = d->insn;
	uint64_t attr = d->row->attr;

	insn->gpr_read |= im->read | im->read_wide;
	insn->gpr_write |= im->write | im->write_wide;
	insn->gpr_fixed |= im->read | im->read_wide | im->write | im->write_wide;
	if (insn->op_bytes == 2) {
		insn->gpr_read |= im->write_wide;
	}
	if ((attr & (INSN_ATTR_PUSH | INSN_ATTR_POP)) != 0) {
		use(insn, RSP, true);
	}
	if ((attr & (ROW_COUNT | ROW_JCX)) != 0) {
		use(insn, RCX, (attr & ROW_COUNT) != 0);
	}
	if ((attr & INSN_ATTR_REP) == 0) {
		return;
	}
	if ((insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0) {
		use(insn, RCX, true);
		insn->gpr_read |= insn->gpr_write; /* LODS, if rCX is zero */
	}
	for (unsigned i = 0; i < insn->nmem; i++) {
		use(insn, insn->mem[i].base, true);
	}
}

#define FLAG_OF BIT(11)

/*
 * Shifts by an immediate: without a count nothing changes, and by one OF is defined. Spec: Intel
 * SDM vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD"
 */
static void shift_flags(struct insn *insn)
{
	const struct insn_operand *count = &insn->operand[insn->noperands - 1];

	if (count->kind != INSN_OP_IMM) {
		insn->flags_maybe = true;
		return;
	}
	switch (insn->imm[0] & (insn->op_bytes == 8 && insn->operand[0].bytes == 8 ? 63 : 31)) {
	case 0:
		insn->flags_written = 0;
		insn->flags_undefined = 0;
		break;
	case 1:
		insn->flags_undefined &= ~(uint32_t)FLAG_OF;
		break;
	default:
		break;
	}
}

static void flag_effects(struct insn_decoder *d)
{
	const struct insn_flags *f = &insn_flags[d->row->flags];
	struct insn *insn = d->insn;

	insn->flags_read = f->read;
	insn->flags_written = f->written;
	insn->flags_undefined = f->undefined;
	if ((d->row->attr & INSN_ATTR_SHIFT) != 0) {
		shift_flags(insn);
	}
	if ((d->row->attr & INSN_ATTR_REP) != 0 && insn->flags_written != 0 &&
	    (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)) != 0) {
		insn->flags_maybe = true;
		insn->flags_read |= BIT(6); /* not read, but it stays if the count is zero */
	}
}

void insn_effects(struct insn_decoder *d)
{
	for (unsigned i = 0; i < d->insn->noperands; i++) {
		operand_effects(d->insn, &d->insn->operand[i]);
	}
	implied_effects(d);
	if (!d->long_mode) { /* AMD's SYSCALL of 32-bit code leaves R11 alone */
		d->insn->gpr_read &= 0xff;
		d->insn->gpr_write &= 0xff;
		d->insn->gpr_fixed &= 0xff;
	}
	flag_effects(d);
}
