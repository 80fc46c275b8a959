/*
 * What bare payloads are written with: programs without an operating system that find out whether
 * what runs them is an x86-64 machine. One image, build/bare.elf, holds them all; the same file
 * runs under every KVM provider (tests/kvm loads it) and in a machine without any, such as
 * `qemu-system-x86_64 -kernel build/bare.elf -append CASE`.
 *
 * A case is a function that calls check() on what it sees, and returns. It is entered on CPU 0 in
 * 64-bit mode at CPL 0, interrupts off, with
 *
 *	0 - 4 GiB		mapped to itself, supervisor, writable, by 2 MiB pages (RAM: 64 MiB)
 *	BARE_USER + 0 - 64 MiB	the same RAM again, for CPL 3
 *	CR0.WP, NE, PE, PG; CR4.PAE, OSFXSR, OSXMMEXCPT; EFER.LME, NXE, SCE; x87 and SSE usable
 *
 * The image has been compiled to be position-independent: code called by way of its user address
 * finds its data there, too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/guest/bare/layout.h"
#include "tests/guest/bare/ports.h"

#define BARE_RAM  (64u << 20)
#define BARE_USER (UINT64_C(1) << 39)

/* What a case wants of its machine. */
enum bare_needs {
	/* Local APICs, IOAPIC, PIC and PIT (a PC; KVM_CREATE_IRQCHIP). Without it a case gets a
	 * local APIC and no other chips, by KVM_CAP_SPLIT_IRQCHIP or a PC. */
	BARE_PC = 1 << 0,
	/* A KVM provider below: paravirtual features. Not run on other machines. */
	BARE_KVM = 1 << 1,
};

/*
 * One case. The name is area/rule; the rule it tests, in a few words. The linker gathers them in
 * one table, which tests/kvm reads out of the image, too.
 */
struct bare_case {
	const char *name;
	const char *spec; /* the manual and the section where the rule stands */
	void (*run)(void);
	uint32_t cpus;
	uint32_t needs;
};
_Static_assert(sizeof(struct bare_case) == 32, "the table is read by others");

#define BARE_CASE_ON(id, case_name, spec_, cpus_, needs_)                                     \
	static void id(void);                                                                 \
	static const struct bare_case id##_case                                               \
		__attribute__((used, aligned(8), section(".cases"))) = {case_name, spec_, id, \
									cpus_, needs_};       \
	static void id(void)

/* BARE_CASE(id, "area/rule", "AMD APM vol. 2, 5.4") { ...body... } */
#define BARE_CASE(id, case_name, spec_) BARE_CASE_ON(id, case_name, spec_, 1, 0)

/* ---- saying how it went ---- */

void bare_print(const char *text);
void bare_print_hex(uint64_t value);

/** bare_end() - ends the machine, or on a CPU other than 0 too. */
_Noreturn void bare_end(enum bare_verdict verdict);

/** bare_skip() - ends the case: it cannot be tried here, for the reason given. */
_Noreturn void bare_skip(const char *why);

_Noreturn void bare_fail(const char *file, int line, const char *what, uint64_t got, uint64_t want);

#define check(condition)                                                 \
	do {                                                             \
		if (!(condition)) {                                      \
			bare_fail(__FILE__, __LINE__, #condition, 0, 1); \
		}                                                        \
	} while (0)

/* Both sides are compared, and shown, as 64-bit numbers. */
#define check_eq(got, want)                                                            \
	do {                                                                           \
		uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want);             \
		if (got_ != want_) {                                                   \
			bare_fail(__FILE__, __LINE__, #got " == " #want, got_, want_); \
		}                                                                      \
	} while (0)

/* ---- exceptions and interrupts ---- */

/* What the entry code pushes; the lower part is what the CPU pushed. */
struct bare_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rbp, rdi, rsi, rdx, rcx, rbx, rax;
	uint64_t vector;
	uint64_t error; /* 0 where the CPU pushes none */
	uint64_t rip, cs, rflags, rsp, ss;
};

enum bare_vector {
	VECTOR_DE = 0,
	VECTOR_DB = 1,
	VECTOR_NMI = 2,
	VECTOR_BP = 3,
	VECTOR_OF = 4,
	VECTOR_BR = 5,
	VECTOR_UD = 6,
	VECTOR_NM = 7,
	VECTOR_DF = 8,
	VECTOR_TS = 10,
	VECTOR_NP = 11,
	VECTOR_SS = 12,
	VECTOR_GP = 13,
	VECTOR_PF = 14,
	VECTOR_MF = 16,
	VECTOR_AC = 17,
	VECTOR_XM = 19,
};

struct bare_trap {
	bool happened;
	uint8_t vector;
	uint64_t error;
	uint64_t rip, cs, rflags, rsp, ss;
	uint64_t cr2; /* of page faults */
	uint64_t dr6; /* of debug exceptions */
};

/**
 * bare_try() - calls a function, and comes back if it raises an exception.
 * @trap: what happened. An exception ends the function where it stands; all callee-saved
 *	registers, RSP, the segments of CPL 0 and RFLAGS (interrupts off) are as before.
 * Context: any CPU; may be nested.
 */
void bare_try(struct bare_trap *trap, void (*function)(void *), void *argument);

/**
 * bare_on() - has a function called for a vector: interrupts, and exceptions that are to go on.
 * The function may change the frame; it must send EOI itself. NULL: back to what was.
 * All CPUs share the table.
 */
void bare_on(uint8_t vector, void (*handler)(struct bare_frame *frame));

/* The interrupt descriptor of a vector, to change; bare_idt_reset() undoes it. */
struct bare_gate {
	uint16_t offset0;
	uint16_t selector;
	uint8_t ist;
	uint8_t type; /* P, DPL, type */
	uint16_t offset16;
	uint32_t offset32;
	uint32_t reserved;
};
extern struct bare_gate bare_idt[256];
void bare_idt_set(uint8_t vector, void (*entry)(void), uint8_t type, uint8_t ist);
void bare_idt_reset(void);

/* ---- segments ---- */

extern uint64_t bare_gdt[GDT_ENTRIES];

struct bare_tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7]; /* ist[0] is IST1; IST1 is #DF's */
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t iomap;
	uint8_t ports[64 + 1]; /* I/O permission bitmap: ports 0-511, all allowed; and the end */
} __attribute__((packed, aligned(8)));

/* ---- CPUs ---- */

struct bare_cpu {
	struct bare_guard *guard; /* the innermost bare_try() */
	uint32_t index;
	uint32_t apic_id;
	uint64_t user_return_rsp;
	struct bare_tss tss;
};

/** bare_cpu() - the CPU that this runs on; found by its stack. */
struct bare_cpu *bare_cpu(void);

/**
 * bare_start_cpu() - starts CPU @index (1 ...) by INIT and SIPI; it runs the function, then halts.
 * Returns when the function has been entered. The APIC must be enabled; its mode is kept.
 */
void bare_start_cpu(uint32_t index, void (*function)(void *), void *argument);

/** bare_wait() - until *@word is @value; ends the case as failed after some seconds. */
void bare_wait(const volatile uint32_t *word, uint32_t value);

/** bare_in_user() - calls a function at CPL 3 and returns its result. It may use no case's data
 *  but by its BARE_USER address, or what it is given. Exceptions go where they go from CPL 0. */
uint64_t bare_in_user(uint64_t (*function)(uint64_t), uint64_t argument);

/**
 * bare_run16() - copies code to 0x8000 and runs it in real mode; it ends with a far return.
 * @code: position-independent 16-bit code, entered with CS = 0, IP = 0x8000, SS:SP below it,
 *	DS = ES = 0; bx = 0x9000, where @data (4 KiB) lies; its contents come back.
 * bare_run32() - the same in protected mode without paging, flat segments, entered by a near
 *	call at 0x8000 with ebx = 0x9000; it ends with a near return.
 * Both return to 64-bit mode with all of the CPU's state as it was.
 */
void bare_run16(const void *code, const void *code_end, void *data);
void bare_run32(const void *code, const void *code_end, void *data);

/**
 * bare_told() - was this word given after the name of the case?
 * "emulated-svm": the provider runs on QEMU 7.2's SVM, which does not intercept all that it should.
 */
bool bare_told(const char *word);

/* ---- paging ---- */

#define PTE_P	    UINT64_C(0x001)
#define PTE_W	    UINT64_C(0x002)
#define PTE_U	    UINT64_C(0x004)
#define PTE_PWT	    UINT64_C(0x008)
#define PTE_PCD	    UINT64_C(0x010)
#define PTE_A	    UINT64_C(0x020)
#define PTE_D	    UINT64_C(0x040)
#define PTE_PS	    UINT64_C(0x080) /* PAT in a 4 KiB entry */
#define PTE_G	    UINT64_C(0x100)
#define PTE_NX	    (UINT64_C(1) << 63)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)

/** bare_page() - a zeroed page of RAM, by its physical (and identity-mapped) address. Never freed.
 */
uint64_t bare_page(void);

/** bare_pages() - @count pages in a row, aligned to the next power of two. */
uint64_t bare_pages(uint32_t count);

/**
 * bare_map() - maps one page in the current address space, replacing what is there.
 * @level: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB. Tables on the way are made with P, W and U.
 * @flags: PTE_*; PTE_PS is added for levels 2 and 3.
 * Does not flush the TLB. Must not split a page that is in use by code.
 */
void bare_map(uint64_t va, uint64_t pa, unsigned int level, uint64_t flags);

/** bare_pte() - the entry that maps @va at @level (1 to 4), or NULL where the way is not present.
 */
uint64_t *bare_pte(uint64_t va, unsigned int level);

/* ---- local APIC: xAPIC or x2APIC, whichever is on ---- */

uint32_t apic_read(uint32_t offset);
void apic_write(uint32_t offset, uint32_t value);
void apic_send(uint32_t apic_id, uint32_t low); /* ICR; waits until it is sent */
void apic_enable(void);				/* software enable, spurious vector 0xff */
void apic_eoi(void);
bool apic_x2(void);

/* ---- instructions ---- */

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/* Tells what drives this case (if anything does) how far it is; goes on when that lets it. */
static inline void bare_sync(uint32_t step)
{
	out32(BARE_PORT_SYNC, step);
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr)
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

struct bare_cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct bare_cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct bare_cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf)
			 : "memory");
	return r;
}

#define BARE_REGISTER(name)                                                         \
	static inline uint64_t read_##name(void)                                    \
	{                                                                           \
		uint64_t value;                                                     \
                                                                                    \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
		return value;                                                       \
	}                                                                           \
	static inline void write_##name(uint64_t value)                             \
	{                                                                           \
		__asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");     \
	}

BARE_REGISTER(cr0)
BARE_REGISTER(cr2)
BARE_REGISTER(cr3)
BARE_REGISTER(cr4)
BARE_REGISTER(cr8)
BARE_REGISTER(dr0)
BARE_REGISTER(dr1)
BARE_REGISTER(dr2)
BARE_REGISTER(dr3)
BARE_REGISTER(dr6)
BARE_REGISTER(dr7)

static inline uint64_t read_rflags(void)
{
	uint64_t value;

	__asm__ volatile("pushfq; pop %0" : "=r"(value) : : "memory");
	return value;
}

static inline void invlpg(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void cpu_sti(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void cpu_cli(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Interrupts on and wait, with no window between: STI holds them off for one instruction. */
static inline void cpu_sti_hlt_cli(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline void cpu_pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}
