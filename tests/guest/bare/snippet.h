/*
 * What the cases about the CPU share: functions in assembler whose instructions have known
 * addresses, single accesses with the fault they raise, and what is known of one emulated CPU.
 */
#pragma once

#include "tests/guest/bare/bare.h"

/* A function in assembler, void name(void *argument): its argument in rdi; all but rbx, rbp and
 * r12 to r15 are free. A label within is declared by LABEL() and has to be of this file only. */
#define SNIPPET(name, text)                             \
	__asm__(".pushsection .text\n"                  \
		".code64\n" #name ":\n" text "\n	ret\n" \
		".popsection");                         \
	void name(void *argument)
#define LABEL(name) extern const char name[]

/* The same for CPL 3, to be called by bare_in_user(): its argument in rdi, its result in rax. */
#define USER_SNIPPET(name, text)                        \
	__asm__(".pushsection .text\n"                  \
		".code64\n" #name ":\n" text "\n	ret\n" \
		".popsection");                         \
	uint64_t name(uint64_t argument)

#define RFLAGS_CF   UINT64_C(0x1)
#define RFLAGS_PF   UINT64_C(0x4)
#define RFLAGS_AF   UINT64_C(0x10)
#define RFLAGS_ZF   UINT64_C(0x40)
#define RFLAGS_SF   UINT64_C(0x80)
#define RFLAGS_TF   UINT64_C(0x100)
#define RFLAGS_IF   UINT64_C(0x200)
#define RFLAGS_DF   UINT64_C(0x400)
#define RFLAGS_OF   UINT64_C(0x800)
#define RFLAGS_IOPL UINT64_C(0x3000)
#define RFLAGS_NT   UINT64_C(0x4000)
#define RFLAGS_RF   UINT64_C(0x10000)
#define RFLAGS_AC   UINT64_C(0x40000)
#define RFLAGS_ID   UINT64_C(0x200000)

#define CR0_MP UINT64_C(0x2)
#define CR0_EM UINT64_C(0x4)
#define CR0_TS UINT64_C(0x8)
#define CR0_NE UINT64_C(0x20)
#define CR0_WP UINT64_C(0x10000)
#define CR0_AM UINT64_C(0x40000)

#define CR4_VME	       UINT64_C(0x1)
#define CR4_DE	       UINT64_C(0x8)
#define CR4_PSE	       UINT64_C(0x10)
#define CR4_PAE	       UINT64_C(0x20)
#define CR4_PGE	       UINT64_C(0x80)
#define CR4_OSXMMEXCPT UINT64_C(0x400)
#define CR4_UMIP       UINT64_C(0x800)
#define CR4_LA57       UINT64_C(0x1000)
#define CR4_FSGSBASE   UINT64_C(0x10000)
#define CR4_OSXSAVE    UINT64_C(0x40000)
#define CR4_SMEP       UINT64_C(0x100000)
#define CR4_SMAP       UINT64_C(0x200000)
#define CR4_PKE	       UINT64_C(0x400000)

/* Page-fault error codes. */
#define PF_P	0x01
#define PF_W	0x02
#define PF_U	0x04
#define PF_RSVD 0x08
#define PF_I	0x10
#define PF_PK	0x20

enum access {
	ACCESS_READ,
	ACCESS_WRITE,
	ACCESS_FETCH, /* a call; a RET must lie there */
};

#define NO_FAULT UINT64_MAX

/**
 * access_try() - one access to one byte, at CPL 0, or at CPL 3.
 * Return: NO_FAULT, or the error code of the page fault that it raised; a fault that does not say
 * the right address, in CR2 and in RIP, and any other exception end the case as failed.
 */
uint64_t access_try(enum access access, bool user, uint64_t va);

/** snippet_in_user() - bare_try() for a snippet at CPL 3. Return: its result. */
uint64_t snippet_in_user(struct bare_trap *trap, uint64_t (*function)(uint64_t), uint64_t argument);

/** At which address CPL 3 sees a label, or data. */
static inline uint64_t user_address(const volatile void *at)
{
	return BARE_USER + (uint64_t)(uintptr_t)at;
}

/**
 * bare_excuse() - to be called where a rule has been seen broken: ends the case as skipped if the
 * CPU is the one that QEMU emulates, which is known to break it; else comes back, and the case
 * goes on to fail.
 */
void bare_excuse(const char *why);

/** bare_is_tcg() - the CPU that QEMU emulates. To be asked only for bare_excuse()'s purpose. */
bool bare_is_tcg(void);

/** bare_is_amd() - an AMD or Hygon CPU, where the two makers differ. */
bool bare_is_amd(void);

/** bare_physical_bits() - MAXPHYADDR. */
uint32_t bare_physical_bits(void);
