/*
 * What the manuals leave open, and CPUs do each in their own way: the comparison with the host CPU
 * passes over it. In one place, and as narrow as what was seen.
 *
 * Spec: Intel SDM vol. 3A, 6.9 "Prioritization of Concurrent Events": faults of one instruction
 * come in an order of the CPU's own
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/insn/test_native.h"

/** One instruction, and what has come of it. */
struct open_case {
	const struct insn *insn;
	const struct insn_cpu *cpu;	/* ours, after it */
	const struct insn_fault *fault; /* ours, or NULL */
	const struct native_registers *before, *after;
	const struct native_outcome *native;
};

/** open_is_image() - FXSAVE, XSAVE and their like. */
bool open_is_image(const struct insn *insn);

/** open_in_pieces() - several accesses, in an order of the CPU's own. */
bool open_in_pieces(const struct insn *insn);

/** open_signal() - both ways of ending are right. */
bool open_signal(const struct open_case *c, int expected);

/** open_address() - both faults are right, or both addresses of a page fault. */
bool open_address(const struct open_case *c);

/** open_result() - a result that has no value. */
bool open_result(const struct insn *insn, const struct native_registers *before);

/** open_flags() - those that have none. */
uint64_t open_flags(const struct insn *insn, const struct native_registers *before);

/** open_gpr() - may register @i differ as it does? */
bool open_gpr(const struct open_case *c, unsigned i);

/** open_vectors() - makes in @ours of vector registers what the host CPU may make of them. */
void open_vectors(const struct open_case *c, uint8_t *ours);

/** open_x87() - takes from the registers of both what may differ. */
void open_x87(const struct open_case *c, uint8_t *ours, uint8_t *after);

/** open_memory() - where memory may differ. Return: how many bytes, from @at. */
uint64_t open_memory(const struct open_case *c, uint64_t *at);
