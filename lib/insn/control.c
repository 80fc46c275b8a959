#include "lib/insn/control.h"

#define XCR0_X87    BIT(0)
#define XCR0_SSE    BIT(1)
#define XCR0_AVX    BIT(2)
#define XCR0_MPX    (BIT(3) | BIT(4))
#define XCR0_AVX512 (BIT(5) | BIT(6) | BIT(7))

#define PCID_MASK 0xfff

static bool cr0_bits_valid(uint64_t cr0)
{
	return cr0 >> 32 == 0 && ((cr0 & CONTROL_CR0_PG) == 0 || (cr0 & CONTROL_CR0_PE) != 0) &&
	       ((cr0 & CONTROL_CR0_NW) == 0 || (cr0 & CONTROL_CR0_CD) != 0);
}

/* Legacy paging ignores what is above 32 bits. */
static bool cr3_valid(const struct control_model *model, bool lma, uint64_t cr3)
{
	return !lma || cr3 >> model->address_bits == 0;
}

bool control_valid(const struct control_model *model, uint64_t cr0, uint64_t cr3, uint64_t cr4,
		   uint64_t efer)
{
	bool paging = (cr0 & CONTROL_CR0_PG) != 0, lma = (efer & CONTROL_EFER_LMA) != 0;

	if (!cr0_bits_valid(cr0) || (cr4 & ~model->cr4) != 0 ||
	    (efer & ~(model->efer | CONTROL_EFER_LMA)) != 0) {
		return false;
	}
	if (lma != (paging && (efer & CONTROL_EFER_LME) != 0)) {
		return false;
	}
	if (lma && (cr4 & CONTROL_CR4_PAE) == 0) {
		return false;
	}
	if ((cr4 & CONTROL_CR4_PCIDE) != 0 && !lma) {
		return false;
	}
	if ((cr4 & CONTROL_CR4_CET) != 0 && (cr0 & CONTROL_CR0_WP) == 0) {
		return false;
	}
	return cr3_valid(model, lma, cr3);
}

bool control_write_cr0(const struct insn_cpu *cpu, uint64_t *value, uint64_t *efer)
{
	uint64_t new = *value, changed = new ^ cpu->cr0;
	bool paging = (new &CONTROL_CR0_PG) != 0;

	*efer = cpu->efer;
	if (!cr0_bits_valid(new) ||
	    ((cpu->cr4 & CONTROL_CR4_CET) != 0 && (new &CONTROL_CR0_WP) == 0)) {
		return false;
	}
	*value = (new &CONTROL_CR0_KNOWN) | CONTROL_CR0_ET;
	if ((changed & CONTROL_CR0_PG) == 0 || (cpu->efer & CONTROL_EFER_LME) == 0) {
		return (changed & CONTROL_CR0_PG) == 0 || paging ||
		       (cpu->cr4 & CONTROL_CR4_PCIDE) == 0;
	}
	if (paging) {
		*efer |= CONTROL_EFER_LMA;
		return (cpu->cr4 & CONTROL_CR4_PAE) != 0 &&
		       (cpu->seg[INSN_CS].attr & INSN_SEG_L) == 0;
	}
	*efer &= ~CONTROL_EFER_LMA;
	return insn_mode(cpu) != INSN_64 && (cpu->cr4 & CONTROL_CR4_PCIDE) == 0;
}

bool control_write_cr3(const struct control_model *model, const struct insn_cpu *cpu,
		       uint64_t *value)
{
	if ((cpu->cr4 & CONTROL_CR4_PCIDE) != 0) {
		*value &= ~CONTROL_CR3_KEEP;
	}
	return cr3_valid(model, (cpu->efer & CONTROL_EFER_LMA) != 0, *value);
}

bool control_write_cr4(const struct control_model *model, const struct insn_cpu *cpu, uint64_t cr3,
		       uint64_t value)
{
	uint64_t changed = value ^ cpu->cr4;
	bool lma = (cpu->efer & CONTROL_EFER_LMA) != 0;

	if ((value & ~model->cr4) != 0) {
		return false;
	}
	if (lma && ((value & CONTROL_CR4_PAE) == 0 || (changed & CONTROL_CR4_LA57) != 0)) {
		return false;
	}
	if ((changed & value & CONTROL_CR4_PCIDE) != 0 && (!lma || (cr3 & PCID_MASK) != 0)) {
		return false;
	}
	return (value & CONTROL_CR4_CET) == 0 || (cpu->cr0 & CONTROL_CR0_WP) != 0;
}

bool control_write_efer(const struct control_model *model, const struct insn_cpu *cpu,
			uint64_t *value)
{
	uint64_t changed = *value ^ cpu->efer;

	if ((*value & ~(model->efer | CONTROL_EFER_LMA)) != 0 ||
	    ((changed & CONTROL_EFER_LME) != 0 && (cpu->cr0 & CONTROL_CR0_PG) != 0)) {
		return false;
	}
	*value = (*value & ~CONTROL_EFER_LMA) | (cpu->efer & CONTROL_EFER_LMA);
	return true;
}

bool control_write_xcr(const struct control_model *model, uint32_t index, uint64_t value)
{
	uint64_t avx512 = value & XCR0_AVX512, mpx = value & XCR0_MPX;

	if (index != 0 || (value & ~model->xcr0) != 0 || (value & XCR0_X87) == 0) {
		return false;
	}
	if ((value & XCR0_AVX) != 0 && (value & XCR0_SSE) == 0) {
		return false;
	}
	if (avx512 != 0 && (avx512 != XCR0_AVX512 || (value & XCR0_AVX) == 0)) {
		return false;
	}
	return mpx == 0 || mpx == XCR0_MPX;
}
