/*
 * A small VM of soft with one vCPU, of one engine, for random programs: what lies where, the state
 * before a run and after it.
 *
 * All memory is there for CPL 3, too, and what describes the machine cannot be written to. An
 * exception or interrupt enters CPL 0 on a stack of its own, at a HLT that is its vector's.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"

#define ARENA_HALTS   UINT64_C(0x3000) /* of vector n: + n */
#define ARENA_FRAME   UINT64_C(0xe000) /* page of the exceptions' stack */
#define ARENA_CODE    UINT64_C(0x10000)
#define ARENA_DATA    UINT64_C(0x20000) /* two pages; before and behind them, none */
#define ARENA_FIXED   UINT64_C(0x23000) /* a page for reading */
#define ARENA_MORE    UINT64_C(0x24000) /* a page for writing */
#define ARENA_DEVICE  UINT64_C(0x25000) /* a page without memory behind */
#define ARENA_COUNTER UINT64_C(0x26000) /* of the program's rounds: 4 bytes */
#define ARENA_PAGES   0x27
#define ARENA_RAM     (ARENA_PAGES * UINT64_C(4096))

#define ARENA_CODE_BYTES 8192
#define ARENA_FS	 0x140 /* bases */
#define ARENA_GS	 0x280
#define ARENA_END	 0x80 /* vector that a program ends with */
#define ARENA_XSAVE	 832  /* x87, SSE, AVX */
#define ARENA_KEYS	 4    /* protection keys: of the pages of data and of that for writing */

/* A program in assembly, which lies from @name to @name_end. */
#define ARENA_PROGRAM(name, text)                                                            \
	__asm__(".pushsection .rodata\n" #name ": " text "\n" #name "_end:\n.popsection\n"); \
	extern const char name[], name##_end[]

enum arena_mode {
	ARENA_KERNEL, /* 64-bit code, CPL 0 */
	ARENA_USER,   /* 64-bit code, CPL 3 */
	ARENA_COMPAT, /* 32-bit code, CPL 3 */
	ARENA_MODES
};

struct arena {
	int kvm_fd, vm_fd, fd;
	struct kvm_run *run;
	uint8_t *ram;
	size_t run_bytes;
};

/** What a program starts with; its code and data are in ram. */
struct arena_start {
	enum arena_mode mode;
	struct kvm_regs regs;
	_Alignas(64) uint8_t xsave[4096];
	uint8_t ram[ARENA_RAM];
};

/** What it ended in. */
struct arena_end {
	int result; /* the last exit, or -errno */
	unsigned exits;
	uint64_t devices; /* a digest of all that it did to the device */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	uint8_t ymm_high[256];
	uint32_t pkru;
};

/** arena_init() - with an engine as soft/engine.h calls it. Return: false if it cannot be had. */
bool arena_init(struct arena *a, const char *engine);
void arena_fini(struct arena *a);

/** arena_forget() - has the engine forget all that it made of former programs. */
void arena_forget(struct arena *a);

/** arena_template() - all memory of a start but code and data. */
void arena_template(uint8_t *ram);

/** arena_has_avx() - does the host's CPU have AVX? */
bool arena_has_avx(void);

/** arena_has_keys() - do guests have protection keys here? CR4.PKE is set then. */
bool arena_has_keys(void);

/**
 * arena_run() - runs a program to its end.
 * Return: false if it has none within some tenths of a second, or 200 exits: nothing can be said of
 * it, and the arena is good for no other program.
 */
bool arena_run(struct arena *a, const struct arena_start *start, struct arena_end *end);
