/*
 * What control registers may hold, and which of their changes a CPU refuses by #GP: for the ops of
 * an emulator, and for whoever sets them from outside. A state is valid as a whole or not; a
 * change has rules of its own on top of that.
 *
 * Spec: Intel SDM vol. 3A, 2.5 "Control Registers", 4.1.2 "Paging-Mode Enabling", 9.8.5, 13.3;
 * vol. 2, "MOV-Move to/from Control Registers"; AMD APM vol. 2, 3.1
 */
#pragma once

#include "lib/insn/emulate.h"

#define CONTROL_CR0_PE	  BIT(0)
#define CONTROL_CR0_ET	  BIT(4)
#define CONTROL_CR0_WP	  BIT(16)
#define CONTROL_CR0_NW	  BIT(29)
#define CONTROL_CR0_CD	  BIT(30)
#define CONTROL_CR0_PG	  BIT(31)
#define CONTROL_CR0_KNOWN UINT64_C(0xe005003f)
#define CONTROL_CR4_PAE	  BIT(5)
#define CONTROL_CR4_LA57  BIT(12)
#define CONTROL_CR4_PCIDE BIT(17)
#define CONTROL_CR4_CET	  BIT(23)
#define CONTROL_EFER_LME  BIT(8)
#define CONTROL_EFER_LMA  BIT(10)
#define CONTROL_CR3_KEEP  BIT(63) /* with PCIDE: do not flush; never stored */

/** What this CPU's model has. */
struct control_model {
	uint64_t cr4, efer, xcr0; /* bits that may be set */
	unsigned address_bits;	  /* physical, 32 to 52 */
};

/** control_valid() - could a CPU be in this state? @cr0 to @efer as in KVM_SET_SREGS. */
must_use bool control_valid(const struct control_model *model, uint64_t cr0, uint64_t cr3,
			    uint64_t cr4, uint64_t efer);

/**
 * control_write_cr0() - MOV to CR0, LMSW and CLTS.
 * @value: in: what is written; out: what CR0 then holds.
 * @efer: what EFER then holds: paging enters and leaves long mode.
 * Return: false for #GP(0). The PDPTEs, which PAE paging loads then, are the caller's to check.
 */
must_use bool control_write_cr0(const struct insn_cpu *cpu, uint64_t *value, uint64_t *efer);

/** control_write_cr3() - @value: out: without CONTROL_CR3_KEEP. Return: false for #GP(0). */
must_use bool control_write_cr3(const struct control_model *model, const struct insn_cpu *cpu,
				uint64_t *value);

/** control_write_cr4() - @cr3: as it is now. Return: false for #GP(0). */
must_use bool control_write_cr4(const struct control_model *model, const struct insn_cpu *cpu,
				uint64_t cr3, uint64_t value);

/** control_write_efer() - @value: out: with LMA as it is. Return: false for #GP(0). */
must_use bool control_write_efer(const struct control_model *model, const struct insn_cpu *cpu,
				 uint64_t *value);

/** control_write_xcr() - XSETBV. Return: false for #GP(0). */
must_use bool control_write_xcr(const struct control_model *model, uint32_t index, uint64_t value);
