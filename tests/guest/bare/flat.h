/*
 * 32-bit protected mode without long mode, for cases: own descriptor tables, an entry for each
 * exception, code at CPL 0, at CPL 3 or in virtual-8086 mode. What runs is 32-bit code of the
 * image, where it lies; it ends by INT FLAT_END or by an exception, and C sees what that left.
 */
#pragma once

#include "tests/guest/bare/snippet.h"

#define FLAT_END 0x80

/* Descriptors of flat_gdt beyond those of bare_gdt's first, which are the same. */
#define FLAT_SPARE   0x48 /* to 0x78: for cases */
#define FLAT_TSS     0x80
#define FLAT_GDT_MAX 24

struct flat_frame {
	uint32_t edi, esi, ebp, esp0, ebx, edx, ecx, eax; /* esp0: at CPL 0, in the handler */
	uint32_t vector, error;
	uint32_t eip, cs, eflags;
	uint32_t esp, ss;	 /* from CPL 3 and virtual-8086 mode */
	uint32_t es, ds, fs, gs; /* from virtual-8086 mode */
	uint32_t cr2, ds_left;	 /* DS as it was, in protected mode */
};

/* What is entered, by IRET. */
struct flat_start {
	uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

struct flat_tss {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
	uint8_t interrupts[32]; /* VME's bitmap; directly below the I/O bitmap */
	uint8_t ports[65];
} __attribute__((packed, aligned(8)));

extern struct flat_frame flat_frame;
extern struct flat_start flat_start;
extern struct flat_tss flat_tss;
extern uint64_t flat_gdt[FLAT_GDT_MAX];
extern uint64_t flat_idt[256];
extern uint32_t flat_argument; /* edi at the start */
extern uint32_t flat_cr4;      /* more bits for CR4 */
extern char flat_user_stack[4096];

/** flat_init() - the tables as they are at first; flat_run() calls it if nobody has. */
void flat_init(void);

/** flat_run() - enters flat_start; comes back when it has ended, in flat_frame. */
void flat_run(void);

/** flat_kernel() - flat_run() at CPL 0 from @entry; flat_user() - at CPL 3. */
void flat_kernel(const char *entry, uint32_t argument);
void flat_user(const char *entry, uint32_t argument);

/** flat_segment() - a descriptor; @type: P, DPL, S and type; @flags: G, D, L, AVL as bits 3 to 0.
 */
uint64_t flat_segment(uint32_t base, uint32_t limit, uint32_t type, uint32_t flags);

/** flat_gate() - a gate: @type with P and DPL, @parameters of a call gate. */
uint64_t flat_gate(uint16_t selector, uint32_t offset, uint32_t type, uint32_t parameters);

/** check_flat() - how it ended: the vector, its error code, and where. @eip: NULL: not asked. */
void check_flat(uint32_t vector, uint32_t error, const char *eip);

/* 32-bit code for it. It ends by itself, by INT FLAT_END. */
#define FLAT_CODE(name, text)                                 \
	__asm__(".pushsection .text\n"                        \
		".code32\n" #name ":\n" text "\n	int $0x80\n" \
		".code64\n"                                   \
		".popsection");                               \
	LABEL(name)
