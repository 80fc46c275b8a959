/*
 * The doors between ring 3 and the kernel: system calls, exceptions, interrupts.
 *
 * Coming from ring 3, the registers are pushed as a struct user_frame at the very top of the
 * thread's kernel stack, so there is one for each thread and user_frame() finds it. Then one of the
 * functions of struct entry_ops is called, with interrupts on. Before going back, as long as the
 * CPU has work (cpu.h), leave() is called, with interrupts off; it may turn them on and sleep.
 */
#pragma once

#include "core/hw/cpu.h"
#include "lib/base/types.h"

struct user_frame {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, rcx, rax;
	uint64_t rdi, rsi, rdx, r10, r8, r9; /* the arguments of system calls, in their order */
	/* System calls: the number that came in RAX. Exceptions and interrupts: ENTRY_NO_SYSCALL.
	 */
	uint64_t orig_rax;
	uint64_t rip, cs, rflags, rsp, ss;
};

#define ENTRY_NO_SYSCALL UINT64_MAX

/* Selectors of the GDT. SYSCALL and SYSRET want this order. */
#define KERNEL_CS 0x08
#define KERNEL_DS 0x10
#define USER_DS	  0x1b
#define USER_CS	  0x23
#define TSS_SEL	  0x28

/* What ring 3 may have in RFLAGS: CF PF AF ZF SF TF DF OF RF AC ID. IF is always on, IOPL 0. */
#define USER_RFLAGS_MASK UINT64_C(0x250dd5)

/* An exception. For exceptions of ring 3 that nothing in the kernel could mend. */
struct exception {
	unsigned vector;  /* EXCEPTION_* */
	uint64_t error;	  /* error code, 0 where there is none */
	uint64_t address; /* page faults: CR2 */
	int result;	  /* page faults: -errno of space_fault() */
};

#define EXCEPTION_DE  0
#define EXCEPTION_DB  1
#define EXCEPTION_NMI 2
#define EXCEPTION_BP  3
#define EXCEPTION_OF  4
#define EXCEPTION_BR  5
#define EXCEPTION_UD  6
#define EXCEPTION_NM  7
#define EXCEPTION_DF  8
#define EXCEPTION_TS  10
#define EXCEPTION_NP  11
#define EXCEPTION_SS  12
#define EXCEPTION_GP  13
#define EXCEPTION_PF  14
#define EXCEPTION_MF  16
#define EXCEPTION_AC  17
#define EXCEPTION_MC  18
#define EXCEPTION_XM  19

struct entry_ops {
	/** exception() - of ring 3. Page faults come here only after space_fault() failed. */
	void (*exception)(struct user_frame *frame, const struct exception *e);
	/** leave() - the CPU has work. Called again and again until it has none. */
	void (*leave)(struct user_frame *frame);
};

/** entry_set_ops() - once, before the first thread enters ring 3. @ops stays the caller's. */
void entry_set_ops(const struct entry_ops *ops);

/**
 * user_frame() - of the thread whose kernel stack ends at @stack_top; what ring 3 had when it came
 * in, and will have when it goes back.
 */
static inline struct user_frame *user_frame(uint64_t stack_top)
{
	return (struct user_frame *)stack_top - 1;
}

/**
 * user_frame_init() - what a program starts with: all registers zero, interrupts on.
 */
void user_frame_init(struct user_frame *frame, uint64_t rip, uint64_t rsp);

/**
 * entry_to_user() - a thread's way to ring 3 other than by returning from syscall(): loads
 * user_frame() of the current kernel stack (struct cpu, kernel_rsp). Everything else on the stack
 * is given up.
 * Context: thread; no locks.
 */
_Noreturn void entry_to_user(void);

/**
 * entry_nested() - ring 3 from within the kernel, with these registers, all others zero, interrupts
 * on. What then comes from ring 3 has its frame below *@stack, which entry_nested_begin() has made
 * the thread's kernel stack. Returns by entry_nested_end().
 * @sp: what entry_nested_end() wants.
 * Return: what that was given.
 * Context: interrupts off, before and after.
 */
unsigned entry_nested(uint64_t rip, uint64_t rsp, uint64_t rdi, uint64_t *sp, uint64_t *stack);
_Noreturn void entry_nested_end(uint64_t sp, unsigned result);

/** entry_nested_begin() - core/task's: *@stack is known. */
void entry_nested_begin(void);

/* Start-up; entry.S. */

void entry_syscall(void);
void entry_syscall32(void);
void entry_reload_segments(void);

/** entry_init() - fills the IDT. Once. */
void entry_init(void);
/** entry_load_idt() - on each CPU. */
void entry_load_idt(void);
