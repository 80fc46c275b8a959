/*
 * What translated code reaches through the host's GS: guest registers that have no register of the
 * host, the TLBs, the tables of jumps, and how it was left.
 *
 * Guest GPRs are in the host's of the same number, but for four: RSP is in the host's R9; R9, R10
 * and R11 are in `gpr`. The host's RSP is the host's stack, its R10 and R11 are scratch.
 */
#pragma once

#include "lib/base/types.h"

#define ST_TLB_BITS  13
#define ST_TLB	     (1u << ST_TLB_BITS)
#define ST_JUMP_BITS 15
#define ST_JUMPS     (1u << ST_JUMP_BITS)
#define ST_EXEC	     16384
#define ST_USED	     2048

/** What CPL 3 may access; what the others may; and what they may with RFLAGS.AC. */
enum st_view_kind {
	ST_VIEW_USER,
	ST_VIEW_KERNEL,
	ST_VIEW_KERNEL_AC,
	ST_VIEWS
};

struct st_jump {
	uint64_t rip, code;
};

/*
 * Of pages that may be accessed, and executed; that of KERNEL is the same memory in all address
 * spaces, and holds no others but global pages across a change.
 * Direct-mapped by the low bits of the page's number. A free entry has a tag that belongs to
 * another place.
 *
 * `exec` says what is known of a page that may be executed: the number of its mapping (st_map()),
 * or 0. Code that is reached from another page compares it first, so jumps between pages outlive
 * what happens to mappings. `known` is the same, but that others than vCPUs may have written to the
 * page since it was compared with what was translated.
 */
struct st_view {
	_Alignas(4096) uint64_t read[ST_TLB];
	uint64_t write[ST_TLB]; /* linear address of the page, if allowed */
	uint64_t add[ST_TLB];	/* host address of the page */
	uint32_t exec[ST_EXEC], known[ST_EXEC];
	/* Entries that have been in use: `add` is not 0. */
	uint32_t pages;
	/* Those of `known`. If there are more than ST_USED, it may be any. */
	uint32_t execs;
	uint16_t page[ST_TLB], exec_page[ST_USED];
};

/**
 * st_jump_slot() - where in the table of jumps @rip has its entry. Translated code computes it,
 * too: branch.c.
 */
static inline unsigned st_jump_slot(uint64_t rip)
{
	return (unsigned)((rip * 8 + (rip >> 4)) / sizeof(struct st_jump)) % ST_JUMPS;
}

/* Flags as LAHF and SETO %al leave them in AX. */
static inline uint16_t st_pack_flags(uint64_t flags)
{
	return (uint16_t)((flags & 0xd5) << 8 | (flags >> 11 & 1));
}

static inline uint64_t st_unpack_flags(uint16_t packed)
{
	return (packed >> 8 & 0xd5) | (uint64_t)(packed & 1) << 11 | 2;
}

/** st_exec_of() - whose `exec` is looked at in code of the view @kind. */
static inline enum st_view_kind st_exec_of(enum st_view_kind kind)
{
	return kind == ST_VIEW_USER ? ST_VIEW_USER : ST_VIEW_KERNEL;
}

/** How translated code was left. */
enum st_reason {
	ST_REASON_LOOKUP, /* frame.rip: nothing is known of it */
	ST_REASON_LINK,	  /* frame.site: a direct jump that is not linked yet */
	ST_REASON_INSN,	  /* frame.site: the interpreter is to execute the instruction there */
	ST_REASON_KICK,	  /* frame.rip: somebody asked */
	ST_REASON_MOVED,  /* frame.rip: a guard was not satisfied */
};

/*
 * The shadow stack: what the host's RSP points to while translated code runs. A CALL of the guest's
 * pushes its return address and is a CALL of the host's; a RET compares, and is a RET of the host's
 * with 8 more bytes. Each kind of view has entries of its own, those of a later kind below those of
 * an earlier one, and under the first of a kind's a stopper.
 *
 *	RSP ->	host address behind the CALL	of the stopper: st_translator.stopper
 *		return address of the guest	of the stopper: 0
 */
#define ST_SHADOW_BYTES 4096
#define ST_SHADOW_ENTRY 16

/** One for each address space that a vCPU remembers: GS points to that of the present one. */
struct st_frame {
	/* Translated blocks write to these only. */
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t gs_base;
	uint64_t kernel_gs; /* KERNEL_GS_BASE, for SWAPGS */
	uint64_t save_rcx;  /* while RCX is needed for a check that spares the flags */
	uint64_t temp;
	uint64_t window_at[4]; /* host addresses: fold.c */
	uint16_t saved;	       /* the flags, where the host has others: st_pack_flags() */
	uint8_t df;	       /* RFLAGS.DF */
	uint8_t interrupts;    /* RFLAGS.IF */
	/* x87.h: the image of FNSTENV, if one of the guest's comes, else its first word is 0. */
	uint32_t x87_env[8];
	uint8_t fpu;	 /* the guest's x87 and vector registers are in the host's */
	uint8_t window;	 /* something waits for RFLAGS.IF to be set */
	uint64_t flags;	 /* CF, PF, AF, ZF, SF, OF */
	uint64_t system; /* the other bits of RFLAGS, without DF and IF */
	uint64_t fs_base;
	uint64_t tsc_offset, tsc_aux;
	uint64_t site;	  /* host address behind the call that left */
	uint64_t jump_to; /* where to enter, to go on */
	uint64_t host_rsp;
	uint64_t shadow;       /* RSP, while C may change it */
	uint64_t shadow_base;  /* of the present kind: its stopper */
	uint64_t shadow_limit; /* RSP is not to go below */
	uint64_t shadow_bases[ST_VIEWS];
	uint64_t shadow_tops[ST_VIEWS]; /* RSP of the kinds before the present one */
	uint32_t shadow_kind;		/* the present kind */
	uint64_t slow;			/* st_slow() */
	uint64_t string;		/* st_string() */
	uint64_t bit_mask;		/* 63, for PEXT */
	uint64_t self;
	uint64_t tlb_mask, page_mask; /* for PEXT */
	uint64_t xsave;		      /* the guest's area */
	uint64_t xsave_mask;
	uint32_t host_mxcsr;
	uint16_t host_fcw;
	uint32_t reason;
	uint32_t mode; /* of the code that is executed: translator.h */
	/* x87.h: the last instruction's place and its operand's when the registers were loaded. */
	uint64_t x87_ip, x87_dp;
	uint64_t fast_slow;   /* st_fast_slow() */
	uint64_t fast_jump;   /* st_fast_jump() */
	uint64_t fast_fault;  /* st_fast_fault() */
	uint64_t fast_system; /* st_fast_system() */
	uint64_t fast_string; /* st_fast_string() */
	uint64_t fast_moved;  /* st_fast_moved() */
	/* What follows belongs to an address space; what is before moves on to the next one's. */
	_Atomic uint32_t kick; /* 1: leave translated code soon */
	struct st_view view[ST_VIEWS];
	/* Of all address spaces: the same memory. By st_jump_slot(). */
	_Alignas(4096) struct st_jump jump[ST_VIEWS][ST_JUMPS];
};
