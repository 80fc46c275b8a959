/*
 * Segment descriptors, the stacks of other privilege levels, and the checks that all transfers of
 * control share.
 *
 * Error codes are selectors, or'ed with @ext (bit 0) if an event is being delivered.
 */
#pragma once

#include "lib/insn/exec.h"

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

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

/** Where a block is pushed to, or popped from. */
struct insn_stack {
	struct insn_segment ss;
	uint64_t rsp;
	unsigned bytes; /* width of RSP */
	unsigned cpl;
	bool flat;	/* 64-bit: no limit */
	bool real;	/* no type check */
	uint32_t error; /* of #SS */
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

/** insn_current_stack() - the one that PUSH uses. */
struct insn_stack insn_current_stack(const struct insn_cpu *cpu);

/**
 * insn_inner_stack() - of @cpl, from the TSS.
 * @ist: 1 to 7, in long mode; 0: that of the level.
 */
must_use enum insn_outcome insn_inner_stack(struct insn_env *env, unsigned cpl, unsigned ist,
					    uint32_t ext, struct insn_stack *s);

/** insn_stack_push() - @count slots of @slot bytes, the last lowest; moves s->rsp. */
must_use enum insn_outcome insn_stack_push(struct insn_env *env, struct insn_stack *s,
					   const uint64_t *slots, unsigned count, unsigned slot);

/** insn_stack_peek() - @count slots, the first at @skip bytes above RSP, which stays. */
must_use enum insn_outcome insn_stack_peek(struct insn_env *env, const struct insn_stack *s,
					   unsigned skip, uint64_t *slots, unsigned count,
					   unsigned slot);

/** insn_merge_rsp() - @rsp as a stack of @bytes leaves it in the register. */
uint64_t insn_merge_rsp(uint64_t old, uint64_t rsp, unsigned bytes);

/**
 * insn_check_rip() - is it inside of code segment @attr, @limit? Cuts it to 32 bits unless 64-bit.
 * Return: INSN_DONE or #GP(@ext).
 */
must_use enum insn_outcome insn_check_rip(struct insn_env *env, uint16_t attr, uint32_t limit,
					  uint32_t ext, uint64_t *rip);

/** insn_is_wide() - is it a segment of 64-bit code? */
bool insn_is_wide(const struct insn_cpu *cpu, uint16_t attr);

/**
 * insn_fetch_return_cs() - the code segment that RETF and IRET go to.
 * Spec: Intel SDM vol. 2, "RET", "IRET"
 */
must_use enum insn_outcome insn_fetch_return_cs(struct insn_env *env, uint16_t selector,
						struct insn_descriptor *d);

/** insn_drop_segments() - clears data segments that code of a new, outer CPL may not hold. */
void insn_drop_segments(struct insn_cpu *cpu);

/** insn_real_cs() - CS in real and virtual-8086 mode. */
void insn_real_segment(struct insn_segment *s, uint16_t selector);

/** insn_v86_segment() - a segment register on entry to virtual-8086 mode. */
struct insn_segment insn_v86_segment(uint16_t selector);

/** insn_outer_stack() - SS as RETF and IRET pop it for code segment @cs; in 64-bit code inside of
 * the kernel it may be null. */
must_use enum insn_outcome insn_outer_stack(struct insn_env *env, const struct insn_descriptor *cs,
					    uint16_t selector, struct insn_segment *ss);

/** insn_return_to() - sets CS, SS, RSP, CPL, and where it goes on. */
void insn_return_to(struct insn_exec *x, const struct insn_descriptor *cs,
		    const struct insn_segment *ss, uint64_t rsp, uint64_t rip);
