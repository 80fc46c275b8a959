/*
 * A guest with flat memory at 0, for tests of the emulator: its ops count, and fail where told.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "tests/unit.h"

#define MEMORY_BYTES 65536

struct guest {
	struct insn_env env;
	struct insn_cpu cpu;
	uint8_t memory[MEMORY_BYTES];
	unsigned reads, writes;
	uint64_t mmio; /* reads of this address exit, until it is answered */
	bool mmio_answered;
	uint64_t read_only; /* writes from here on are page faults */
	bool race;	    /* the next cmpxchg loses */
	uint8_t ports_in[64];
	unsigned in_at, out_at, batch_max, batches;
	uint8_t ports_out[64];
	uint64_t cr[9], dr[8], msr, xcr;
	uint32_t msr_number, pkru;
	uint64_t invalidated;
	unsigned written_back;
	uint8_t xmm[16];
	bool intel; /* it decodes as Intel's CPUs do, not as AMD's */
};

/** g - the one guest; the setup functions below make it anew. */
extern struct guest g;

/** all_ops, memory_ops - every op; reads and writes only. */
extern const struct insn_ops all_ops, memory_ops;

/* 64-bit, 32-bit and real mode, CPL 0. */
int start_long(void **state);
int start_32(void **state);
int start_real(void **state);

/** emulate() - one instruction, in hexadecimal digits. */
enum insn_outcome emulate(const char *hex);

/** assert_fault() - it raises @vector, and nothing has changed. */
void assert_fault(const char *hex, enum insn_vector vector);
