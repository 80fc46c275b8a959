/*
 * Switching between kernel stacks, and what ring 3 has beyond struct user_frame: the bases of FS
 * and GS, and the extended state (x87, SSE, AVX, ...), which the kernel itself never touches.
 */
#pragma once

#include "lib/base/types.h"

/* A thread of the kernel that does not run at this moment. */
struct context {
	uint64_t rsp; /* its callee-saved registers lie there */
};

/**
 * context_init() - a thread that begins with fn(arg) when it is first switched to.
 * @stack_top: first address behind its kernel stack, 16-aligned. The space of struct user_frame
 * below it stays free.
 * @fn: never returns. Runs with interrupts off, as context_switch() returned.
 */
void context_init(struct context *c, uint64_t stack_top, void (*fn)(void *arg), void *arg);

/**
 * context_switch() - saves this thread in @from and goes on with @to. Returns when somebody
 * switches back. The caller has loaded the address space (space_switch()), the kernel stack
 * (cpu_set_kernel_stack()) and the state of ring 3 (user_state_switch()) of @to.
 * Context: interrupts off. The scheduler's lock may be held across it: locks belong to CPUs, and
 * who goes on gives it.
 */
void context_switch(struct context *from, struct context *to);

/* Of one thread of ring 3. CR4.FSGSBASE is off: only arch_prctl() changes the bases, here, and then
 * user_state_load(). */
struct user_state {
	uint64_t fs_base;
	uint64_t gs_base;
	void *xsave;  /* fpu_area_bytes() long, 64-aligned, in XSAVE's standard form */
	void *memory; /* what it lies in */
};

/**
 * user_state_init() - bases zero, extended state as after power-on.
 * Return: 0 or -ENOMEM.
 */
must_use int user_state_init(struct user_state *s);
void user_state_fini(struct user_state *s);

/** user_state_copy() - for clone(): @to, initialised, becomes what the current thread has now,
 * whose state @from is. */
void user_state_copy(struct user_state *to, struct user_state *from);

/**
 * user_state_switch() - saves the CPU's into @from, loads @to. Eager: nothing is put off until
 * first use. Either may be NULL (a kernel thread).
 * Context: interrupts off.
 */
void user_state_switch(struct user_state *from, struct user_state *to);

/** user_state_save() - brings @s, of the current thread, up to date with the CPU. */
void user_state_save(struct user_state *s);

/** user_state_load() - the other way: after a change of @s, of the current thread. Extended state
 * that the CPU would refuse must have been refused before. */
void user_state_load(const struct user_state *s);

/* The extended state by itself, for signal frames and for guests. */

/** fpu_area_bytes() - how large an area is for all that XCR0 can be here (576 at least). */
size_t fpu_area_bytes(void);

/** fpu_init_area() - as after power-on: what XRSTOR calls the initial configuration. */
void fpu_init_area(void *area);

/**
 * fpu_save() / fpu_load() - the components of @mask between the CPU and @area (64-aligned).
 * @mask: within XCR0. Without XSAVE it is not looked at.
 * Context: interrupts off, or the current thread's own state.
 */
void fpu_save(void *area, uint64_t mask);
void fpu_load(const void *area, uint64_t mask);

/**
 * fpu_area_is_valid() - would fpu_load() with all of @mask take it? For areas that ring 3 or a
 * guest's VMM wrote: reserved bits of MXCSR, XSTATE_BV and the header.
 */
bool fpu_area_is_valid(const void *area, uint64_t mask);

/** fpu_init() - start-up, once. */
void fpu_init(void);
/** fpu_start_cpu() - on each CPU: brings its extended state into a known form. */
void fpu_start_cpu(void);

/**
 * context_call_foreign() - fn(arg) for code that was compiled for programs: the stack is aligned to
 * 16, and FS leads to memory with a stack canary. It may use extended state and the red zone.
 * Context: start-up, interrupts off.
 */
void context_call_foreign(void (*fn)(void *arg), void *arg);
