/*
 * Segment descriptors, and what loads a segment register.
 *
 * Error codes are selectors, or'ed with @ext (bit 0) if an event is being delivered.
 */
#pragma once

#include "lib/insn/exec.h"

#define SEG_CODE       8 /* of a type with S */
#define SEG_CONFORMING 4 /* of code */
#define SEG_READ_WRITE 2 /* code: readable, data: writable */
#define SEG_ACCESSED   1

/* Types of system descriptors. Spec: Intel SDM vol. 3A, table 3-2 */
#define SYS_TSS16	1
#define SYS_LDT		2
#define SYS_CALL_GATE16 4
#define SYS_TASK_GATE	5
#define SYS_TSS		9
#define SYS_CALL_GATE	12
#define SYS_INT_GATE16	6
#define SYS_TRAP_GATE16 7
#define SYS_INT_GATE	14
#define SYS_TRAP_GATE	15
#define SYS_BUSY	2 /* of a TSS */

struct insn_descriptor {
	uint16_t selector;
	uint16_t attr; /* as in struct insn_segment */
	uint32_t limit;
	uint64_t base;
	uint64_t raw, upper; /* upper: the second half of system descriptors in long mode */
	uint64_t linear;     /* where it lies */
};

static inline bool insn_lma(const struct insn_cpu *cpu)
{
	return (cpu->efer & EFER_LMA) != 0;
}

static inline bool insn_v86(const struct insn_cpu *cpu)
{
	return (cpu->rflags & FLAG_VM) != 0;
}

static inline unsigned insn_iopl(const struct insn_cpu *cpu)
{
	return (cpu->rflags & FLAG_IOPL) >> 12;
}

static inline bool insn_null(uint16_t selector)
{
	return (selector & ~3U) == 0;
}

static inline unsigned insn_type(uint16_t attr)
{
	return attr & INSN_SEG_TYPE;
}

static inline bool insn_is_code(uint16_t attr)
{
	return (attr & INSN_SEG_S) != 0 && (attr & SEG_CODE) != 0;
}

static inline bool insn_is_conforming(uint16_t attr)
{
	return insn_is_code(attr) && (attr & SEG_CONFORMING) != 0;
}

static inline bool insn_is_writable(uint16_t attr)
{
	return (attr & INSN_SEG_S) != 0 && (attr & (SEG_CODE | SEG_READ_WRITE)) == SEG_READ_WRITE;
}

/** insn_canonical() - is @a an address of the paging mode's width? */
bool insn_canonical(const struct insn_cpu *cpu, uint64_t a);

/** insn_read_system(), insn_write_system() - by the CPU itself, whatever the CPL. */
must_use enum insn_outcome insn_read_system(struct insn_env *env, uint64_t linear, void *data,
					    unsigned len);
must_use enum insn_outcome insn_write_system(struct insn_env *env, uint64_t linear,
					     const void *data, unsigned len);

/**
 * insn_fetch_descriptor() - from the GDT or LDT.
 * @selector: not null.
 * @vector: of the exception if the table ends before it; its error code is the selector and @ext.
 */
must_use enum insn_outcome insn_fetch_descriptor(struct insn_env *env, uint16_t selector,
						 enum insn_vector vector, uint32_t ext,
						 struct insn_descriptor *d);

/** insn_fetch_upper() - the second half of one of 16 bytes, if in long mode. */
must_use enum insn_outcome insn_fetch_upper(struct insn_env *env, enum insn_vector vector,
					    uint32_t ext, struct insn_descriptor *d);

/** insn_set_accessed() - sets the accessed bit, in memory and in @d, if it is clear. */
must_use enum insn_outcome insn_set_accessed(struct insn_env *env, struct insn_descriptor *d);

/** insn_segment_of() - what a segment register holds of a descriptor. */
struct insn_segment insn_segment_of(const struct insn_descriptor *d, uint16_t selector);

/**
 * insn_load_segment() - what MOV, POP and LDS do, without the shadow.
 * Spec: Intel SDM vol. 2, "MOV"; vol. 3A, 5.6 "Privilege Level Checking When Accessing Data
 * Segments"
 */
must_use enum insn_outcome insn_load_segment(struct insn_env *env, unsigned seg, uint16_t selector);

/**
 * insn_fetch_ss() - a stack segment for @cpl, checked, accessed.
 * @vector: #GP of returns, #TS of events and call gates; a segment that is not present is #SS.
 */
must_use enum insn_outcome insn_fetch_ss(struct insn_env *env, uint16_t selector, unsigned cpl,
					 enum insn_vector vector, uint32_t ext,
					 struct insn_segment *ss);

/** insn_null_ss() - what SS holds in 64-bit code of @cpl after a change of privilege. */
struct insn_segment insn_null_ss(unsigned cpl);

/** insn_real_cs() - CS in real and virtual-8086 mode. */
void insn_real_segment(struct insn_segment *s, uint16_t selector);

/** insn_v86_segment() - a segment register on entry to virtual-8086 mode. */
struct insn_segment insn_v86_segment(uint16_t selector);
