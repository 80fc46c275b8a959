/*
 * The annex: a small program of ring 3 that emulates instructions for vCPUs, and what it and the
 * kernel say to each other. It is lib/insn with nothing around it. The kernel maps it into each
 * process that has a VM, at ANNEX_TEXT, and for each vCPU an area of its own:
 *
 *	+ 0	nothing, for stacks that are too long
 *	+ 4 K	stack
 *	+ 12 K	struct annex_page
 *
 * All of it can be written to by the process itself. So the annex can do nothing but what the
 * process could; and what it says is looked at by the kernel as what the process says by ioctl().
 */
#pragma once

#include "lib/insn/cpu.h"
#include "lib/kvm/plain.h"

#define ANNEX_TEXT	  0x100000 /* annex.ld has it, too */
#define ANNEX_AREA_BYTES  0x4000
#define ANNEX_PAGE_AT	  0x3000
#define ANNEX_STACK_BYTES 0x2000

/** Numbers of system calls within the annex. Each returns an enum insn_outcome; see insn_ops. */
enum annex_call {
	ANNEX_END,	 /* the outcome; registers and fault are in the page */
	ANNEX_FETCH,	 /* more of page->code. INSN_UNSUPPORTED: there is none */
	ANNEX_READ,	 /* linear, len, access: into data */
	ANNEX_WRITE,	 /* linear, len, access: from data */
	ANNEX_PROBE,	 /* linear, len */
	ANNEX_CMPXCHG,	 /* linear, len: the old value in data, the new one behind it */
	ANNEX_PORT_IN,	 /* port, bytes, count: into data; page->count */
	ANNEX_PORT_OUT,	 /* port, bytes, count: from data; page->count */
	ANNEX_READ_XMM,	 /* register: into data */
	ANNEX_WRITE_XMM, /* register, clear: from data */
	ANNEX_READ_X87,	 /* image into data */
	ANNEX_WRITE_X87, /* image from data */
	ANNEX_READ_CR,	 /* register: into data */
	ANNEX_WRITE_CR,	 /* register, value */
	ANNEX_READ_DR,
	ANNEX_WRITE_DR,
};

#define ANNEX_DATA	256
#define ANNEX_X87_BYTES 160

struct annex_page {
	struct insn_cpu cpu;
	struct insn_fault fault; /* with INSN_FAULT, either way */
	struct kvm_plain plain;	 /* what the instruction is; len 0: another */
	uint32_t count;
	bool amd;
	uint8_t code_bytes;
	uint8_t code[INSN_MAX + 1];
	uint8_t data[ANNEX_DATA];
};
