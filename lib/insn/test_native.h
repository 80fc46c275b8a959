/*
 * Runs one instruction of 64-, 32- or 16-bit code on the host CPU: all registers are loaded, the
 * instruction is executed, all registers are stored. Only instructions that touch nothing but
 * registers and memory may be given, and no branches other than short ones to NATIVE_BRANCH.
 *
 * All lies below 2 GiB, so that the stubs reach it without a register:
 *
 *	registers | code | guard | NATIVE_MEMORY (two pages) | guard
 */
#pragma once

#include "lib/insn/cpu.h"

#define NATIVE_BASE	    UINT64_C(0x30000000)
#define NATIVE_CODE	    (NATIVE_BASE + 4096)
#define NATIVE_MEMORY	    (NATIVE_BASE + UINT64_C(3) * 4096)
#define NATIVE_MEMORY_BYTES UINT64_C(8192)

/** What a branch adds to RIP to be seen as taken. */
#define NATIVE_BRANCH 0x70

/** An XSAVE area of x87, SSE and AVX: where they are. */
#define NATIVE_FCW	0
#define NATIVE_FSW	2
#define NATIVE_FTW	4
#define NATIVE_MXCSR	24
#define NATIVE_ST	32
#define NATIVE_XMM	160
#define NATIVE_HEADER	512
#define NATIVE_YMM_HIGH 576
#define NATIVE_AREA	832

/** Segments of 16-bit code, of the process's LDT. The first one is its CS; then those that SS may
 * have; the others ES, DS and GS only. */
#define NATIVE_SEGMENTS 8
#define NATIVE_STACKS	5
extern const struct insn_segment native_segment[NATIVE_SEGMENTS];

struct native_registers {
	uint64_t gpr[16];
	uint64_t rflags;
	uint16_t selector[INSN_NSEGS]; /* 16-bit code: ES, SS, DS, GS */
	_Alignas(64) uint8_t area[NATIVE_AREA];
};

struct native_outcome {
	int signal;	  /* 0: none */
	uint64_t address; /* of a SIGSEGV; 0 if the CPU did not tell */
	bool taken;
};

/** native_init() - maps the pages and takes the signals. Return: false if it cannot. */
bool native_init(void);

/** native_memory() - NATIVE_MEMORY, as a pointer. */
uint8_t *native_memory(void);

/** native_features() - of XCR0: 3, or 7 with AVX. */
uint64_t native_features(void);

/** native_has_16() - can there be 16-bit code? If so, its segments are there from now on. */
bool native_has_16(void);

/** native_code() - where the instruction will lie: its RIP. */
uint64_t native_code(enum insn_mode mode);

/**
 * native_run() - executes one instruction.
 * @mode: in 32-bit code segments are flat. There and in 16-bit code only the low halves of the
 *        first eight of @regs are seen.
 * @regs: before, and after; at a fault those that the signal handler saw.
 */
struct native_outcome native_run(enum insn_mode mode, const uint8_t *bytes, unsigned len,
				 struct native_registers *regs);
