/*
 * Every instruction of the kernel that C has no word for, each as one function. Unit tests of the
 * kernel's parts run as programs of Linux: with CORE_HOSTED, asm_hosted.h takes this one's place,
 * with as much as those parts need.
 *
 * Spec: AMD APM vol. 3; Intel SDM vol. 2
 */
#pragma once

#include "lib/base/types.h"

struct cpu;

/** asm_div() - high:low / by; @high below @by, or the CPU raises an exception. */
static inline uint64_t asm_div(uint64_t high, uint64_t low, uint64_t by)
{
	__asm__("divq %2" : "+a"(low), "+d"(high) : "r"(by) : "cc");
	return low;
}

#ifdef CORE_HOSTED
#include "core/hw/asm_hosted.h"
#else

#define PHYS_BASE UINT64_C(0xffff800000000000) /* all RAM; see docs/core.md */

static inline uint64_t asm_phys_base(void)
{
	return PHYS_BASE;
}

/* Volatile: behind a switch of threads it is another CPU's, perhaps. */
static inline struct cpu *asm_cpu_this(void)
{
	struct cpu *cpu;

	__asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

/* Interrupts. The "memory" clobbers keep what is guarded between them. */

static inline uint64_t asm_flags(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq; popq %0" : "=rm"(flags)::"memory");
	return flags;
}

static inline void asm_irq_off(void)
{
	__asm__ volatile("cli" ::: "memory");
}

static inline void asm_irq_on(void)
{
	__asm__ volatile("sti" ::: "memory");
}

static inline bool asm_irq_is_on(void)
{
	return (asm_flags() & BIT(9)) != 0;
}

static inline uint64_t asm_irq_save(void)
{
	uint64_t flags = asm_flags();

	asm_irq_off();
	return flags;
}

static inline void asm_irq_restore(uint64_t flags)
{
	if ((flags & BIT(9)) != 0) {
		asm_irq_on();
	}
}

/** asm_wait_irq() - turns interrupts on and halts; no interrupt slips in between. They are off
 * again on return. */
static inline void asm_wait_irq(void)
{
	__asm__ volatile("sti; hlt; cli" ::: "memory");
}

static inline void asm_hlt(void)
{
	__asm__ volatile("hlt" ::: "memory");
}

static inline void asm_pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Registers. */

static inline uint64_t asm_rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void asm_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

#define ASM_CONTROL_REGISTER(n)                                                  \
	static inline uint64_t asm_read_cr##n(void)                              \
	{                                                                        \
		uint64_t value;                                                  \
                                                                                 \
		__asm__ volatile("movq %%cr" #n ", %0" : "=r"(value)::"memory"); \
		return value;                                                    \
	}                                                                        \
	static inline void asm_write_cr##n(uint64_t value)                       \
	{                                                                        \
		__asm__ volatile("movq %0, %%cr" #n ::"r"(value) : "memory");    \
	}
ASM_CONTROL_REGISTER(0)
ASM_CONTROL_REGISTER(2)
ASM_CONTROL_REGISTER(3)
ASM_CONTROL_REGISTER(4)
ASM_CONTROL_REGISTER(8)
#undef ASM_CONTROL_REGISTER

#define ASM_DEBUG_REGISTER(n)                                                    \
	static inline uint64_t asm_read_dr##n(void)                              \
	{                                                                        \
		uint64_t value;                                                  \
                                                                                 \
		__asm__ volatile("movq %%db" #n ", %0" : "=r"(value)::"memory"); \
		return value;                                                    \
	}                                                                        \
	static inline void asm_write_dr##n(uint64_t value)                       \
	{                                                                        \
		__asm__ volatile("movq %0, %%db" #n ::"r"(value) : "memory");    \
	}
ASM_DEBUG_REGISTER(0)
ASM_DEBUG_REGISTER(1)
ASM_DEBUG_REGISTER(2)
ASM_DEBUG_REGISTER(3)
ASM_DEBUG_REGISTER(6)
ASM_DEBUG_REGISTER(7)
#undef ASM_DEBUG_REGISTER

static inline uint64_t asm_xgetbv(uint32_t index)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void asm_xsetbv(uint32_t index, uint64_t value)
{
	__asm__ volatile("xsetbv" ::"c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

struct asm_cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct asm_cpuid asm_cpuid(uint32_t leaf, uint32_t index)
{
	struct asm_cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(index)
			 : "memory");
	return r;
}

static inline uint64_t asm_rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}

/** asm_rdrand() - Return: did the CPU have a number? */
static inline bool asm_rdrand(uint64_t *value)
{
	bool ok;

	__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(ok)::"memory");
	return ok;
}

/* Address translation. */

static inline void asm_invlpg(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
}

/* Ports. */

#define ASM_PORT(name, type, suffix)                                                           \
	static inline type asm_in##name(uint16_t port)                                         \
	{                                                                                      \
		type value;                                                                    \
                                                                                               \
		__asm__ volatile("in" suffix " %1, %0" : "=a"(value) : "Nd"(port) : "memory"); \
		return value;                                                                  \
	}                                                                                      \
	static inline void asm_out##name(uint16_t port, type value)                            \
	{                                                                                      \
		__asm__ volatile("out" suffix " %0, %1" ::"a"(value), "Nd"(port) : "memory");  \
	}
ASM_PORT(8, uint8_t, "b")
ASM_PORT(16, uint16_t, "w")
ASM_PORT(32, uint32_t, "l")
#undef ASM_PORT

/* Extended state. */

static inline void asm_fxsave(void *area)
{
	__asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
}

static inline void asm_fxrstor(const void *area)
{
	__asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
}

static inline void asm_xsave(void *area, uint64_t mask)
{
	__asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((uint32_t)mask),
			 "d"((uint32_t)(mask >> 32))
			 : "memory");
}

static inline void asm_xsaveopt(void *area, uint64_t mask)
{
	__asm__ volatile("xsaveopt64 (%0)" ::"r"(area), "a"((uint32_t)mask),
			 "d"((uint32_t)(mask >> 32))
			 : "memory");
}

static inline void asm_xrstor(const void *area, uint64_t mask)
{
	__asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"((uint32_t)mask),
			 "d"((uint32_t)(mask >> 32))
			 : "memory");
}

/* Device registers: one access of exactly this size. */

static inline uint32_t asm_read32(const volatile void *p)
{
	return *(const volatile uint32_t *)p;
}

static inline void asm_write32(volatile void *p, uint32_t value)
{
	*(volatile uint32_t *)p = value;
}

/* Tables. */

struct asm_table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

static inline void asm_lgdt(const struct asm_table *t)
{
	__asm__ volatile("lgdt %0" ::"m"(*t) : "memory");
}

static inline void asm_lidt(const struct asm_table *t)
{
	__asm__ volatile("lidt %0" ::"m"(*t) : "memory");
}

static inline void asm_int3(void)
{
	__asm__ volatile("int3" ::: "memory");
}

static inline void asm_ltr(uint16_t selector)
{
	__asm__ volatile("ltr %0" ::"r"(selector) : "memory");
}

#endif
