/*
 * Inside the emulator: instructions that the host's CPU executes by ops->native.
 */
#pragma once

#include "lib/insn/exec.h"

/**
 * insn_native_encode() - writes the instruction as 64-bit code has it, its memory operand, if any,
 * being [n->base]; sets n->code, len, base and rsp_as.
 * Return: false for what has no such form: VSIB.
 */
must_use bool insn_native_encode(const struct insn *insn, struct insn_native *n);

/** insn_native_state() - FXSAVE and its like, 0F @opcode /@reg [base], with REX.W if @wide. */
void insn_native_state(struct insn_native *n, uint8_t opcode, unsigned reg, bool wide);

/** insn_native_usable() - Return: INSN_DONE, or what CR0, CR4 and XCR0 make of the instruction. */
must_use enum insn_outcome insn_native_usable(struct insn_exec *x);

/** insn_native_run() - calls the op, and makes #UD of #XM where CR4 says so. */
must_use enum insn_outcome insn_native_run(struct insn_exec *x, struct insn_native *n);

/**
 * insn_native_read(), insn_native_write() - a memory operand of any length, to and from
 * n->memory + @at.
 * @write: it will also be written to; if nothing else, only that is asked.
 */
must_use enum insn_outcome insn_native_read(struct insn_exec *x, struct insn_native *n, unsigned at,
					    unsigned len, bool write);
must_use enum insn_outcome insn_native_probe(struct insn_exec *x, unsigned at, unsigned len);
must_use enum insn_outcome insn_native_write(struct insn_exec *x, const struct insn_native *n,
					     unsigned at, unsigned len);

/* Several memory operands; emulate_masked.c. */
enum insn_outcome insn_do_gather(struct insn_exec *x);
enum insn_outcome insn_do_mask_move(struct insn_exec *x);
enum insn_outcome insn_do_mask_bytes(struct insn_exec *x);

/** insn_native_aligned() - Return: #GP(0) unless the operand's address is a multiple of @to. */
must_use enum insn_outcome insn_native_aligned(struct insn_exec *x, unsigned to);
