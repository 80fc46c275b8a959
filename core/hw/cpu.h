/*
 * The CPUs. Each has a struct cpu that its GS base points to while it is in ring 0; SWAPGS is at
 * the doors only (entry.S).
 *
 * What other parts keep per CPU stands in arrays of theirs, by cpu_index(), or behind the pointers
 * that struct cpu has for them.
 */
#pragma once

#include <stdatomic.h>

#include "core/hw/asm.h"
#include "lib/base/types.h"

#define CPU_MAX 64 /* so that a set of CPUs is one uint64_t, bit n being CPU n */

struct thread; /* core/task */
struct space;  /* core/mem/space.h */
struct user_frame;
struct lapic_ops;

/* Bits of struct cpu, work: things to do before this CPU goes back to ring 3 or into a guest. */
#define CPU_WORK_RESCHED BIT(0) /* another thread should run */
#define CPU_WORK_SIGNAL	 BIT(1) /* the current thread has a signal; core/task sets and clears it */
/* The current thread has come here: ring 3 wants to know, guests do not. core/task's, too */
#define CPU_WORK_ARRIVED BIT(2)

struct cpu {
	/* entry.S and the compiler know these offsets. */
	struct cpu *self;      /* 0 */
	uint64_t user_rsp;     /* 8: SYSCALL parks ring 3's RSP here for two instructions */
	uint64_t kernel_rsp;   /* 16: top of the current thread's kernel stack */
	_Atomic uint64_t work; /* 24: CPU_WORK_*; written by any CPU */
	bool (*syscall)(struct user_frame *frame); /* 32: see cpu_set_doors() */
	uint64_t stack_canary; /* 40: where gcc and clang look for it with -mcmodel=kernel */

	/* Constant after start-up. */
	unsigned index; /* 0 is the one that started the others */
	uint32_t apic_id;
	uint32_t acpi_id;
	struct cpu_tables *tables; /* GDT, TSS and interrupt stacks */

	/* This CPU only. */
	struct thread *thread; /* who runs; NULL until core/task sets it */
	struct space *space;   /* whose page tables are loaded; NULL: the kernel's own */
	unsigned spin_depth;   /* spinlocks held: no sleeping, no user memory */
	uint64_t irqs;	       /* interrupts taken, for statistics */
	uint64_t timer_irqs;   /* those of the timer among them */
	void *virt;	       /* for core/svm */

	/* Any CPU. */
	_Atomic bool online;
};

/** cpu_this() - this CPU's structure; stays right as long as the thread does not sleep. */
static inline struct cpu *cpu_this(void)
{
	return asm_cpu_this();
}

/** cpu_index() - 0 to cpu_count() - 1. */
static inline unsigned cpu_index(void)
{
	return cpu_this()->index;
}

/** cpu_count() - how many run; grows only during start-up. Their indices have no gaps. */
unsigned cpu_count(void);

/** cpu_all() - the set of all that run. */
uint64_t cpu_all(void);

/** cpu_by_index() - @index below cpu_count(). */
struct cpu *cpu_by_index(unsigned index);

/**
 * cpu_set_kernel_stack() - where ring 3's interrupts and exceptions land from now on (TSS RSP0).
 * @top: first address behind the stack, 16-aligned.
 * Context: interrupts off.
 */
void cpu_set_kernel_stack(uint64_t top);

/**
 * cpu_set_doors() - where ring 3's system calls, interrupts and exceptions land from now on: the
 * scheduler's part of a switch of threads.
 * @top: as of cpu_set_kernel_stack().
 * @syscall: number in orig_rax, arguments in rdi rsi rdx r10 r8 r9; the result goes into rax. It
 * may change any register; registers that differ from what SYSRET can load make the return use
 * IRET. It returns true if it has changed nothing but rax, which makes the way back shorter.
 * Context: interrupts off.
 */
void cpu_set_doors(uint64_t top, bool (*syscall)(struct user_frame *frame));

/** cpu_add_work() - makes @cpu do @work (CPU_WORK_*) soon: sets the bits, and sends an IPI if it is
 * another CPU. Context: any.
 */
void cpu_add_work(struct cpu *cpu, uint64_t work);

/**
 * cpu_idle() - waits until the next interrupt has been handled, or not at all if this CPU has
 * work. No tick: without a timer nothing wakes it.
 * Context: interrupts off before and after; they are on while it waits.
 */
void cpu_idle(void);

/* What the CPUs of this machine can; all of them alike. Constant after start-up. */
struct cpu_features {
	bool nx, smep, smap, umip, pge, pcid, gib_pages, xsave, xsaveopt;
	bool x2apic, tsc_deadline, rdrand;
	bool svm, npt, nrips, decode_assists, flush_by_asid, vgif, tsc_rate, vmcb_clean;
	uint32_t svm_asids;
	unsigned phys_bits; /* of a physical address */
	uint64_t xcr0;	    /* what the kernel has enabled in XCR0; 3 at least where xsave */
	char vendor[13];
};

const struct cpu_features *cpu_features(void);
