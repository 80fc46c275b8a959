/*
 * The stacks of other privilege levels, and the checks that all transfers of control share.
 *
 * Error codes are selectors, or'ed with @ext (bit 0) if an event is being delivered.
 */
#pragma once

#include "lib/insn/descriptor.h"

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

/** insn_outer_stack() - SS as RETF and IRET pop it for code segment @cs; in 64-bit code inside of
 * the kernel it may be null. */
must_use enum insn_outcome insn_outer_stack(struct insn_env *env, const struct insn_descriptor *cs,
					    uint16_t selector, struct insn_segment *ss);

/** insn_return_to() - sets CS, SS, RSP, CPL, and where it goes on. */
void insn_return_to(struct insn_exec *x, const struct insn_descriptor *cs,
		    const struct insn_segment *ss, uint64_t rsp, uint64_t rip);
