/* Where things are in the machine of a bare payload; for C and for start.S. */
#pragma once

#define BARE_CPUS_MAX	 4
#define STACK_BYTES	 0x8000 /* and the alignment of stacks: bare_cpu() needs it */
#define BARE_USER_VECTOR 0x80	/* bare_in_user() comes back by it */

#define LOW_BASE  0x5000 /* of what start.S has for real mode; a SIPI vector times 4096 */
#define LOW_STACK 0x7000
#define LOW_CODE  0x8000
#define LOW_DATA  0x9000

/* Selectors. SYSCALL and SYSRET want the order of the first six. */
#define SEL_CODE32	0x08
#define SEL_CODE64	0x10
#define SEL_DATA	0x18
#define SEL_USER_CODE32 0x23
#define SEL_USER_DATA	0x2b
#define SEL_USER_CODE64 0x33
#define SEL_CODE16	0x38
#define SEL_DATA16	0x40
#define SEL_SPARE	0x48 /* two free slots for what a case wants to try */
#define SEL_TSS		0x58 /* one of 16 bytes each CPU */
#define GDT_ENTRIES	(SEL_TSS / 8 + 2 * BARE_CPUS_MAX)
#define GDT_LIMIT	(8 * GDT_ENTRIES - 1)

#define MSR_EFER  0xc0000080
#define EFER_LME  0x100
#define CR0_PG	  0x80000000
#define CR4_PCIDE 0x20000

#define EFER_AT_START 0x901	 /* NXE, LME, SCE */
#define CR0_AT_START  0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4_AT_START  0x620	 /* OSXMMEXCPT, OSFXSR, PAE */
#define CR4_LOW	      0x600

#ifdef __ASSEMBLER__
#define LOW(label) (LOW_BASE + (label)-bare_low)
#endif
