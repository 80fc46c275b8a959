/*
 * The instruction emulator: executes one decoded instruction on a register file. Everything beyond
 * registers (memory behind paging, ports, MSRs, control registers, CPUID) it reaches through
 * struct insn_ops, so that the same code runs in a kernel, in user space and in tests.
 *
 * How an instruction ends, and what is then true:
 *
 *	INSN_DONE, INSN_HALT	  it was executed, RIP is behind it
 *	INSN_AGAIN		  in the middle of REP, or a LOCKed access lost a race: RIP is where
 *				  it was, all else is consistent; interrupts may be taken
 *	INSN_EXIT		  an op cannot answer now. Nothing has changed (but for iterations
 *of REP that are over); emulate it again when the answer is there INSN_FAULT		  env->fault
 *is to be delivered; likewise nothing has changed INSN_UNSUPPORTED	  not emulated; nothing has
 *changed
 *
 * An instruction that is emulated again asks the ops for the same accesses in the same order; those
 * that were answered before an INSN_EXIT have to be answered likewise. Each memory operand is read
 * once. The only write, if there is one, comes after everything that can fail, except in MOVS, INS
 * and FXSAVE-like instructions, which write more.
 */
#pragma once

#include "lib/insn/decode.h"

struct insn_env;
struct insn_exec;

/** A family of instructions: executes one. */
typedef enum insn_outcome insn_family_fn(struct insn_exec *x);

/**
 * An instruction that is best executed by the host's CPU, in 64-bit code, whatever the guest's
 * mode. With all x87 and vector registers loaded from the guest's images, and MXCSR, and the
 * registers below, `code` is run and nothing else; then all are stored again, MXCSR also if there
 * was an exception. Exceptions are reported by insn_raise(): #MF, #XM, #GP (a reserved bit of
 * MXCSR, a bad image of XRSTOR), #UD.
 *
 * The memory operand is [base], with base not among those that the instruction reads or writes:
 * what was there has been read, what is there afterwards will be written.
 */
struct insn_native {
	uint8_t code[INSN_MAX + 1];
	uint8_t len;
	uint8_t base;	    /* GPR with the address of @memory, or INSN_NO_REG; never RSP */
	uint8_t rsp_as;	    /* GPR that stands for RSP, or INSN_NO_REG; RSP itself is not named */
	uint16_t gpr_write; /* those of @gpr that are looked at afterwards */
	uint8_t *memory;    /* insn_env.buffer */
	unsigned memory_len;
	uint64_t gpr[16];
	uint64_t rflags; /* CF, PF, AF, ZF, SF, OF; others 0 */
	/* If it is an x87 instruction that records its place: what the image has to say then. */
	bool x87_place;
	bool x87_loads; /* it is one that loads or resets the last place */
	uint16_t fop;	/* the low three bits of its first byte, and ModRM */
	uint16_t fcs, fds;
	uint64_t fip, fdp; /* fdp is 0 without memory operand, and then not recorded */
};

/**
 * What the emulator asks for. Each returns INSN_DONE, INSN_EXIT, INSN_UNSUPPORTED, or INSN_FAULT
 * after insn_raise() or insn_raise_page_fault(). A NULL op makes its instructions unsupported.
 * Lengths are 1 to 64, of INS and OUTS 256; an access may cross a page, and then it happens as a
 * whole or not at all.
 */
struct insn_ops {
	enum insn_outcome (*read)(struct insn_env *env, uint64_t linear, void *data, unsigned len,
				  unsigned access);
	enum insn_outcome (*write)(struct insn_env *env, uint64_t linear, const void *data,
				   unsigned len, unsigned access);
	/** Could it be written to? INS asks before it reads the port. */
	enum insn_outcome (*probe)(struct insn_env *env, uint64_t linear, unsigned len);
	/** Atomic, 1 to 16 bytes: INSN_AGAIN if there is not @old any more. For device memory a
	 * plain write of @new is what hardware comes to. */
	enum insn_outcome (*cmpxchg)(struct insn_env *env, uint64_t linear, const void *old,
				     const void *new, unsigned len);
	/** @count elements of @bytes: 1 but for INS and OUTS. It may do fewer, but one. */
	enum insn_outcome (*port_in)(struct insn_env *env, uint16_t port, unsigned bytes,
				     void *data, unsigned *count);
	enum insn_outcome (*port_out)(struct insn_env *env, uint16_t port, unsigned bytes,
				      const void *data, unsigned *count);
	/** Vector registers: the low 16 bytes; a write by a VEX encoding clears the rest. */
	enum insn_outcome (*read_xmm)(struct insn_env *env, unsigned reg, void *data);
	enum insn_outcome (*write_xmm)(struct insn_env *env, unsigned reg, const void *data,
				       bool clear);
	/** FXSAVE's image of the x87 registers, 160 bytes, to read and to write. */
	enum insn_outcome (*x87_image)(struct insn_env *env, uint8_t **image);
	enum insn_outcome (*read_cr)(struct insn_env *env, unsigned cr, uint64_t *value);
	enum insn_outcome (*write_cr)(struct insn_env *env, unsigned cr, uint64_t value);
	enum insn_outcome (*read_dr)(struct insn_env *env, unsigned dr, uint64_t *value);
	enum insn_outcome (*write_dr)(struct insn_env *env, unsigned dr, uint64_t value);
	enum insn_outcome (*read_msr)(struct insn_env *env, uint32_t msr, uint64_t *value);
	enum insn_outcome (*write_msr)(struct insn_env *env, uint32_t msr, uint64_t value);
	/** @regs: EAX, EBX, ECX, EDX; leaf and subleaf are in EAX and ECX. */
	enum insn_outcome (*cpuid)(struct insn_env *env, uint32_t regs[4]);
	enum insn_outcome (*read_tsc)(struct insn_env *env, uint64_t *tsc, uint32_t *aux);
	enum insn_outcome (*read_xcr)(struct insn_env *env, uint32_t index, uint64_t *value);
	enum insn_outcome (*write_xcr)(struct insn_env *env, uint32_t index, uint64_t value);
	/** The rights of protection keys. Who has them has component 9 in the host's XCR0 if it is
	 * in the guest's: its place in images is there. */
	enum insn_outcome (*read_pkru)(struct insn_env *env, uint32_t *value);
	enum insn_outcome (*write_pkru)(struct insn_env *env, uint32_t value);
	enum insn_outcome (*invlpg)(struct insn_env *env, uint64_t linear);
	/** WBINVD, WBNOINVD, INVD. */
	enum insn_outcome (*write_back)(struct insn_env *env);
	/** @type 0 to 3, as in the manual; reserved bits are checked already. */
	enum insn_outcome (*invpcid)(struct insn_env *env, unsigned type, uint64_t pcid,
				     uint64_t linear);
	/** RDRAND, RDSEED: *@ok is false if there is none now. */
	enum insn_outcome (*random)(struct insn_env *env, bool seed, uint64_t *value, bool *ok);
	/** VMCALL, VMMCALL; it reads and writes env->cpu->gpr. */
	enum insn_outcome (*hypercall)(struct insn_env *env);
	/** Executes x87, MMX, SSE, AVX, XSAVE on the images of their registers; see below. */
	enum insn_outcome (*native)(struct insn_env *env, struct insn_native *n);
};

/** One vCPU; the caller embeds it. */
struct insn_env {
	struct insn_cpu *cpu;
	const struct insn_ops *ops;
	insn_family_fn *other;	 /* insn_do_other(), or NULL; see insn_emulate() */
	struct insn_fault fault; /* of the last INSN_FAULT */
	/* For the memory operand of ops->native; 64-aligned. What is longer is unsupported. */
	uint8_t *buffer;
	unsigned buffer_len;
};

/** insn_raise() - an exception with an error code, for those that have one. Return: INSN_FAULT. */
enum insn_outcome insn_raise(struct insn_env *env, enum insn_vector vector, uint32_t error);

/** insn_raise_page_fault() - #PF. Return: INSN_FAULT. */
enum insn_outcome insn_raise_page_fault(struct insn_env *env, uint64_t address, uint32_t error);

/** Whence an event comes; it decides about checks, RF and the EXT bit of error codes. */
enum insn_event {
	INSN_EVENT_INTERRUPT, /* external, NMI */
	INSN_EVENT_FAULT,     /* exception; RF is set in the flags that are pushed */
	INSN_EVENT_TRAP,      /* exception behind the instruction, or #DB of an instruction
				 breakpoint */
	INSN_EVENT_SOFTWARE,  /* INT n, INT3, INTO: the gate's DPL counts, EXT is clear */
	INSN_EVENT_INT1,      /* like a trap */
};

/**
 * insn_deliver() - enters the handler of an interrupt or exception, in any mode.
 * @vector: 0 to 255.
 * @error: pushed if the vector is one with an error code, @event FAULT or TRAP, not in real mode.
 * @event: RIP is what is pushed; behind the instruction for all but FAULT. In the midst of REP the
 *         caller sets RF in cpu->rflags before an interrupt.
 * Return: INSN_DONE, and the next instruction is the handler's first. INSN_FAULT if delivery meets
 *         another exception, nothing has changed, and which of them becomes a double fault is the
 *         caller's to know. INSN_EXIT, INSN_AGAIN: deliver again.
 *         CR2, DR6 and DR7, blocking of NMIs and the activity state are the caller's.
 * Context: that of the ops.
 * Spec: Intel SDM vol. 3A, 6.12 "Exception and Interrupt Handling", 6.14, 21.1.4; vol. 2, "INT n"
 */
must_use enum insn_outcome insn_deliver(struct insn_env *env, unsigned vector, uint32_t error,
					enum insn_event event);

/** insn_vector_has_error() - does the exception push an error code? */
bool insn_vector_has_error(unsigned vector);

/** insn_do_other() - instructions that guests which a CPU executes are hardly stopped by, and those
 * of x87 and vectors that ops->native executes; for insn_env.other. */
insn_family_fn insn_do_other;

/**
 * insn_emulate() - one instruction: if it computes, moves data or has an operand in memory, by
 * itself; others by env->other.
 * @insn: as decoded at CS:RIP, in insn_mode(). CPUID features are the caller's to check.
 * Return: as above.
 * Context: that of the ops; no lock, no allocation, at most about 512 bytes of stack.
 */
must_use enum insn_outcome insn_emulate(struct insn_env *env, const struct insn *insn);
