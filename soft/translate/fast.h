/*
 * What translated code calls often: pages that the TLB lacks, jumps that their table lacks, system
 * instructions that change little. The guest's x87 and vector registers stay where they are
 * meanwhile: these functions, and all that they call, are compiled to use none (soft/meson.build).
 * What is rare, or fails, they leave to st_slow() and to the interpreter.
 */
#pragma once

#include "lib/base/types.h"

struct insn;
struct soft_vcpu;

/** st_fast_slow() - as st_slow(), but if it returns 0 that one is to be asked. */
uint64_t st_fast_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access);

/** st_fast_page() - the host's address of the page at @linear. Return: 0: as st_fast_slow(). */
uint64_t st_fast_page(struct soft_vcpu *vcpu, uint64_t linear, bool write);

/**
 * st_fast_fault() - delivers the page fault that st_fast_slow() or st_slow() has told, at
 * frame.site. Return: host address of the handler's code; 0: the interpreter is to execute the
 * instruction.
 */
uint64_t st_fast_fault(struct soft_vcpu *vcpu);

/** st_fast_jump() - host address of the code for frame.rip in frame.mode. Return: 0: not known. */
uint64_t st_fast_jump(struct soft_vcpu *vcpu);

/**
 * st_fast_moved() - the guard of block @number was not satisfied, with frame.rip being where that
 * begins. Return: host address to go on at; 0: not known.
 */
uint64_t st_fast_moved(struct soft_vcpu *vcpu, uint64_t unused, uint32_t number);

/** st_fast_string() - as st_string(). */
uint64_t st_fast_string(struct soft_vcpu *vcpu, uint32_t what);

/** Which instruction; the value of st_system_of() has it in the low byte. */
enum st_system {
	ST_SYSTEM_NONE,
	/* They go on behind themselves, by returning frame.site. */
	ST_SYSTEM_RDFSBASE,
	ST_SYSTEM_RDGSBASE,
	ST_SYSTEM_WRFSBASE,
	ST_SYSTEM_WRGSBASE,
	ST_SYSTEM_READ_CR,
	ST_SYSTEM_XSAVEC, /* and XSAVES */
	ST_SYSTEM_XRSTOR, /* and XRSTORS */
	ST_SYSTEM_READ_SEG,
	ST_SYSTEM_STORE_SEG, /* to frame.temp, as the first half of a MOV */
	ST_SYSTEM_PAUSE,     /* in all modes */
	ST_SYSTEM_RDPKRU,
	/* They end a block. */
	ST_SYSTEM_ENDS,
	ST_SYSTEM_SYSCALL = ST_SYSTEM_ENDS,
	ST_SYSTEM_SYSRET,
	ST_SYSTEM_IRET,
	ST_SYSTEM_STAC,
	ST_SYSTEM_CLAC,
	ST_SYSTEM_WRITE_CR3,
	ST_SYSTEM_WRPKRU, /* windows may be what it forbids */
};

/** Its GPR, its other register's number, whether the operand has 64 bits, is it XRSTORS. */
#define ST_SYSTEM_KIND(what)   ((what)&0xff)
#define ST_SYSTEM_GPR(what)    ((what) >> 8 & 15)
#define ST_SYSTEM_NUMBER(what) ((what) >> 12 & 15)
#define ST_SYSTEM_WIDE	       BIT(16)
#define ST_SYSTEM_SUPERVISOR   BIT(17)

/** st_system_of() - what of these @insn is in @mode; 0: none. */
uint32_t st_system_of(const struct insn *insn, unsigned mode);

/**
 * st_fast_system() - executes the instruction @what, on the frame.
 * @next: RIP behind it; of XSAVEC and such: the linear address.
 * Return: host address to go on at; 0: the interpreter is to execute it, nothing has changed.
 */
uint64_t st_fast_system(struct soft_vcpu *vcpu, uint64_t next, uint32_t what);
