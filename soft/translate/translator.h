/*
 * The translator of one vCPU: its code cache, what it knows of the code in it, and the parts that
 * make it. Only the vCPU's own thread uses it.
 *
 * A block is a run of instructions of one page that begins at one place, in one mode. It is found
 * by the page's address in the VMM, so that it outlives the guest's mappings.
 */
#pragma once

#include <stddef.h>

#include "lib/insn/decode.h"
#include "soft/code.h"
#include "soft/mmu.h"
#include "soft/translate/emit.h"
#include "soft/translate/frame.h"
#include "soft/translate/slow.h"

struct soft_vcpu;

#define ST_CACHE_BYTES (128u << 20)
#define ST_HOT_BYTES   (56u << 20) /* of these: what is executed often; behind, the cold parts */
#define ST_MAX_BLOCKS  (1u << 19)
#define ST_MAX_RECORDS (1u << 23)
#define ST_MAX_LINKS   (1u << 20)
#define ST_MAX_MARKS   (1u << 23)
#define ST_MAX_PAGES   (1u << 15)
#define ST_MAX_MAPS    (1u << 20)
#define ST_HASH	       (1u << 18)
#define ST_BLOCK_INSNS 64
#define ST_NEEDED      16
#define ST_NONE	       UINT32_MAX

/** What else than its bytes a translation depends on; bits of a mode. */
#define ST_MODE_INSN   3u     /* enum insn_mode */
#define ST_MODE_USER   BIT(2) /* CPL 3 */
#define ST_MODE_AC     BIT(3) /* RFLAGS.AC, below CPL 3 */
#define ST_MODE_X87    BIT(4) /* x87 instructions may be executed; so with the others */
#define ST_MODE_MMX    BIT(5)
#define ST_MODE_SSE    BIT(6)
#define ST_MODE_AVX    BIT(7)
#define ST_MODE_AVX512 BIT(8)
#define ST_MODE_TSC    BIT(10) /* RDTSC may be executed, and is the host's and an offset */
/**
 * Not of the guest: the block begins with the flags in frame.saved instead of the host's. That is
 * how C enters, and how indirect jumps arrive.
 */
#define ST_MODE_SAVED BIT(9)
/** Not of the guest, too: the block has no windows (fold.c). */
#define ST_MODE_PLAIN BIT(11)

/** Where an instruction's code begins: sorted by @host. */
struct st_record {
	uint32_t host; /* offset in the cache */
	/* Offset in the page. ST_NO_FLAGS: flags that do not matter are lost. ST_SAVED: the flags
	   are in frame.saved. */
	uint16_t guest;
};

#define ST_NO_FLAGS 0x8000u
#define ST_SAVED    0x4000u

/** Fields of a block's code that differ where its page is at another linear address: EM_MARK_REL,
 * and these. */
enum st_mark {
	ST_MARK_LINEAR = EM_MARK_REL + 1, /* 64 bits: a linear address of the code */
	ST_MARK_EXEC,			  /* 32 bits: place of the page in st_view.exec */
	ST_MARK_MAP,			  /* 32 bits: st_source.map */
	ST_MARK_LESS_MAP,		  /* 32 bits: likewise, negative */
	ST_MARK_NUMBER,			  /* 32 bits: the block's */
};

/** A direct jump, at the end of a block. */
struct st_link {
	uint32_t behind; /* offset of the end of the jump's distance */
	uint32_t stub;	 /* where it leads as long as it is not linked */
	uint32_t site;	 /* what frame.site is then */
	uint32_t target; /* block, or ST_NONE */
	uint32_t next;	 /* in the list of the target's incoming ones */
	uint16_t how;	 /* ST_MODE_SAVED, ST_MODE_PLAIN: the target's */
	bool guard;	 /* the target compares its page, be it the same */
	uint64_t rip;	 /* linear address; of the page that the block was translated at */
};

struct st_block {
	uint64_t page;	 /* host address */
	uint64_t linear; /* of the page, when it was translated: the links are for that */
	uint64_t pieces; /* of the page that it depends on: its own, and where it looked ahead */
	uint16_t offset, bytes, mode;
	bool dead;
	bool fpu;      /* uses x87 or vector registers */
	bool fixed;    /* it cannot be moved: relocate.c */
	uint32_t code; /* offset of the way in from other pages: compares `exec` */
	uint32_t entry, code_end;
	uint32_t cold, cold_end; /* offsets of its cold part */
	uint32_t first_record, records;
	uint32_t first_link, links;
	uint32_t first_mark, marks;
	uint32_t incoming;			  /* links */
	uint32_t hash_next, like_next, page_next; /* blocks */
	uint32_t span_next;			  /* that reach into the same page */
};

struct st_page {
	uint64_t host;
	uint64_t mask; /* pieces with blocks */
	uint32_t blocks, hash_next;
	uint32_t spans;	     /* blocks of the page before that end in this one */
	uint8_t bytes[4096]; /* of the pieces in `mask`, as they were translated */
};

/** A page where it was executed; its number is one more than its index. */
struct st_map {
	uint64_t linear, host;
	uint32_t hash_next;
};

/** What a block is made of. */
struct st_source {
	uint64_t page;	 /* host address */
	uint64_t linear; /* of the page */
	uint32_t map;	 /* st_map() of both */
	bool amd;
	const uint8_t *bytes;
	unsigned length; /* 4096; or more, for an instruction that ends in the next page: then */
	uint64_t next_page;
	uint32_t next_map;
};

struct st_translator {
	struct st_frame *frame;	   /* of the present address space */
	struct st_frame *frames;   /* SOFT_SPACES */
	unsigned nframes;	   /* that are initialized */
	const struct st_frame *gs; /* what the thread's GS points to, if it is known */
	bool fsgsbase;		   /* WRGSBASE may be used */
	bool x87_saved;		   /* st_x87_always_saved() */
	uint8_t *rx;		   /* of the cache, executable */
	struct em em;
	uint8_t *cold_at; /* where the next cold part is written */
	uint32_t start;	  /* offset of the first block: what is before is common */
	/* Common code, executable addresses. */
	uint8_t *lookup[ST_VIEWS]; /* of a RET whose address the shadow stack has not on top */
	uint8_t *stopper;	   /* of the shadow stack */
	uint8_t *enter, *exit_link, *exit_insn, *exit_lookup, *exit_target, *exit_missed,
		*exit_kick, *exit_moved, *slow, *string, *load_fpu, *fault, *system, *page_fault,
		*attempt;
	struct st_block *blocks;
	struct st_record *records;
	struct st_link *link;
	struct st_page *pages;
	struct st_map *maps;
	uint32_t nblocks, nrecords, nlinks, npages, nmaps;
	uint32_t block_hash[ST_HASH], like_hash[ST_HASH], page_hash[ST_HASH], map_hash[ST_HASH];
	uint32_t view_mode[ST_VIEWS]; /* the mode that the jumps of a view are for */
	uint64_t fault_linear;	      /* the page fault that ST_SLOW_FAULT tells of */
	uint32_t fault_error;
	bool checked;	   /* each block is judged: check.h */
	bool exact;	   /* flags are kept even where the code that follows does not need them */
	uint64_t dropped;  /* counts blocks that were forgotten */
	uint32_t next_how; /* ST_MODE_SAVED, ST_MODE_PLAIN, of the block that is entered next */
	/* A copy of what an instruction reads of two pages. */
	_Alignas(64) uint8_t across[128];
};

static inline enum st_view_kind st_view_of(unsigned mode)
{
	return (mode & ST_MODE_USER) != 0 ? ST_VIEW_USER
	       : (mode & ST_MODE_AC) != 0 ? ST_VIEW_KERNEL_AC
					  : ST_VIEW_KERNEL;
}

/* ---- common.c: code that all blocks use ---- */
void st_common(struct st_translator *t);

/* ---- block.c ---- */
/**
 * st_translate() - the block at @offset of the page.
 * Return: its number, or ST_NONE: the cache is full.
 */
uint32_t st_translate(struct st_translator *t, const struct st_source *source, unsigned offset,
		      unsigned mode);

/* ---- access.c ---- */
/** st_pieces() - memory and addresses of one block; what the hot part leaves to the cold one. */
#define ST_MAX_COLD (4 * ST_BLOCK_INSNS)

enum st_cold_kind {
	ST_COLD_SLOW,  /* call C for an access */
	ST_COLD_RANGE, /* ask C for a window; if there is none, go on without */
	ST_COLD_KICK,  /* leave, to go on at @rip */
	ST_COLD_FPU,   /* load the FPU's registers */
	ST_COLD_LINK,  /* a direct jump that is not linked */
	ST_COLD_MOVED, /* leave: what is at @rip is not known any more */
	ST_COLD_INSN,  /* by the interpreter */
	ST_COLD_FULL,  /* the shadow stack is full: its entries are dropped */
};

struct st_cold {
	uint8_t kind;
	bool live, write;
	bool inline_live; /* the look-up was one that spares the flags */
	bool saved;	  /* the flags are in frame.saved */
	bool plain;	  /* the target has no windows */
	bool guard;	  /* the target compares its page */
	uint16_t size;
	uint16_t guest;	 /* offset of the instruction */
	uint16_t i;	 /* its number */
	uint8_t *behind; /* of the jump to here */
	uint8_t *resume;
	uint64_t rip;
};

/** A memory operand that may be in a window; none if @size is 0. */
struct st_place {
	uint8_t base;	      /* GPR */
	uint8_t index, scale; /* GPR, or INSN_NO_REG */
	bool write;
	bool barrier; /* no window outlives the instruction */
	uint16_t size;
	int32_t disp;
	int32_t shift; /* how PUSH or POP moves RSP */
};

#define ST_WINDOWS 4

struct st_window {
	bool open, write;
	struct st_place place; /* of the first access: its registers */
	unsigned last;	       /* instruction that may use it */
	int32_t low, high;     /* from where the registers led when it began */
	int32_t moved;	       /* where they lead, since then */
	bool stored;	       /* the frame has its address */
};

/** A guest register of the frame that R10 or R11 has, too. */
struct st_held {
	bool there, dirty; /* dirty: the frame does not have it yet */
	uint8_t gpr;
};

/** How the code of an instruction is made. */
enum st_how {
	ST_HOW_COPY,
	ST_HOW_NOTHING,
	ST_HOW_LEA,
	ST_HOW_PUSH,
	ST_HOW_POP,
	ST_HOW_LEAVE,
	ST_HOW_CLD,
	ST_HOW_STD,
	ST_HOW_PUSHF,
	ST_HOW_CLI,
	ST_HOW_STI,
	ST_HOW_BIT, /* BT and such, with a bit far away */
	ST_HOW_STRING,
	ST_HOW_SWAPGS,
	ST_HOW_RDTSC,  /* and RDTSCP */
	ST_HOW_SYSTEM, /* of fast.h, those that go on behind themselves */
	ST_HOW_BRANCH,
	ST_HOW_INTERPRET, /* ends the block in front of the instruction */
};

/** A block while it is translated. */
struct st_work {
	struct st_translator *t;
	struct em *e;
	unsigned mode;
	uint64_t linear; /* of the page */
	const struct st_source *source;
	const uint8_t *bytes;
	bool amd;
	unsigned n;
	struct insn insn[ST_BLOCK_INSNS];
	uint16_t at[ST_BLOCK_INSNS + 1];
	uint32_t live[ST_BLOCK_INSNS + 1]; /* flags that matter before each instruction */
	struct st_place place[ST_BLOCK_INSNS];
	struct st_window window[ST_WINDOWS];
	struct st_window *in_r10; /* R10 is this one's value plus its low end, if it is not NULL */
	struct st_held held[2];	  /* in R10 and R11: hold.c */
	bool fixed;		  /* the block cannot be moved */
	uint8_t how[ST_BLOCK_INSNS]; /* enum st_how */
	bool saved;		     /* where the code is now: the flags are in frame.saved */
	/* What st_flags_needed() has found out last. */
	uint64_t needed_at[ST_NEEDED];
	uint32_t needed[ST_NEEDED];
	bool needed_known[ST_NEEDED];
	unsigned needed_next;
	uint64_t looked_at; /* pieces that it depends on, too */
	unsigned ncold;
	struct st_cold cold[ST_MAX_COLD];
};

#define ST_FLAGS UINT32_C(0x8d5) /* CF, PF, AF, ZF, SF, OF */

/** st_host_reg() - the host's register of @gpr, or EM_ABSENT. */
static inline unsigned st_host_reg(unsigned gpr)
{
	return gpr == EM_RSP ? EM_R9 : gpr >= 9 && gpr <= 11 ? EM_ABSENT : gpr;
}

/** st_sum() - @to = the sum of GPRs and @disp; @base and @index may be INSN_NO_REG. May use R10 and
 * R11. */
void st_sum(struct st_work *w, unsigned base, unsigned index, unsigned scale, int32_t disp,
	    bool wide, unsigned to);
/** st_address() - R10 = linear address of the memory operand. May use R11. */
void st_address(struct st_work *w, unsigned i);
/** st_lea() - @to = what LEA gives, of 64 or 32 bits; no segment's base. May use R10 and R11. */
void st_lea(struct st_work *w, unsigned i, unsigned to);
/** st_check() - R10: from a linear address to the host's. May use R11. */
void st_check(struct st_work *w, unsigned i, unsigned size, bool write);
/** st_check_range() - likewise; if it fails, a block without windows goes on. No flags live. */
void st_check_range(struct st_work *w, unsigned i, unsigned size, bool write);
struct st_cold *st_cold(struct st_work *w, unsigned kind, unsigned i);
/** st_mov_linear() - @reg = a linear address that is computed from RIP. */
void st_mov_linear(struct st_work *w, unsigned reg, uint64_t value);
/** st_cold_parts() - emits what was put off, where the cold parts of all blocks are. */
void st_cold_parts(struct st_work *w, struct st_block *b);
/** st_save(), st_restore() - the flags go to frame.saved, or come back. Uses R11. */
void st_save(struct st_work *w);
void st_restore(struct st_work *w);
/** st_emit_restore() - the code of st_restore(). */
void st_emit_restore(struct em *e);
/** st_emit_is_canonical() - ZF: is the address in R10? Of 4-level paging. R10 may be @scratch. */
void st_emit_is_canonical(struct em *e, unsigned scratch);
/** st_record() - the code of the instruction at @guest begins here. */
void st_record(struct st_work *w, unsigned guest);

/* ---- decode.c ---- */
/**
 * st_read_block() - what begins at @offset of the page: fills in @insn, @at, @how, @live, @place.
 * Return: how the last instruction ends the block: a jump, by the interpreter, or not (NOTHING).
 */
enum st_how st_read_block(struct st_work *w, unsigned offset);
/** st_writes() - does the instruction write to its memory operand? */
bool st_writes(const struct insn *insn);

/* ---- insn.c ---- */
/** st_insn() - the code of the instruction @i, as @how says. */
void st_insn(struct st_work *w, unsigned i);
/** st_interpret() - the instruction @i ends the block: the interpreter's, or one of fast.h. */
void st_interpret(struct st_work *w, unsigned i);
/** st_asks_place() - does the interpreter ask where the last x87 instruction was? Saving the
 * registers forgets that. */
bool st_asks_place(const struct st_work *w, unsigned i);

/* ---- hold.c ---- */
/** st_held_in() - the host's register that has the guest's @gpr, or EM_ABSENT. */
unsigned st_held_in(const struct st_work *w, unsigned gpr);
/** st_hold() - @reg, R10 or R11, has @gpr from now on; @dirty: the frame has another value. */
void st_hold(struct st_work *w, unsigned reg, unsigned gpr, bool dirty);
/** st_write_back() - the frame gets what it does not have. Before whatever may leave the block. */
void st_write_back(struct st_work *w);
/** st_drop_held() - @reg gets another value; the frame gets this one, if need be. */
void st_drop_held(struct st_work *w, unsigned reg);
/** st_hold_none() - likewise, both. */
void st_hold_none(struct st_work *w);

/* ---- fold.c ---- */
/** st_repeat() - the block is written several times if it is a loop whose rounds share windows. */
void st_repeat(struct st_work *w);
/**
 * st_reach() - R10 + *@disp is the host's address of the operand in place[@i].
 * Return: false: nothing was done, it has to be looked up by itself.
 */
bool st_reach(struct st_work *w, unsigned i, int32_t *disp);
/** st_in_window() - the window in which st_reach() needs no look-up, or NULL. */
struct st_window *st_in_window(struct st_work *w, unsigned i);
/** st_keep_window() - R10 gets another value; the frame gets the window's, if need be. */
void st_keep_window(struct st_work *w);
/** st_windows_behind() - the code of instruction @i has been written. */
void st_windows_behind(struct st_work *w, unsigned i);

/* ---- branch.c ---- */
/**
 * st_guard() - leaves, as @kind says, if the page is not known, or another one than the block was
 * made of: the block's page, or with ST_COLD_INSN the next one.
 */
void st_guard(struct st_work *w, enum st_cold_kind kind);
/** st_goto() - ends with a jump to @rip, from instruction @i. */
void st_goto(struct st_work *w, unsigned i, uint64_t rip);
/** st_is_jcc() - is it a conditional jump by the flags? */
bool st_is_jcc(const struct insn *insn);
/** st_goes_on() - is the jump @i one for st_jump_aside()? */
bool st_goes_on(const struct st_work *w, unsigned i);
/** st_way_out() - where the conditional jump @i leads that does not end the block. */
uint64_t st_way_out(const struct st_work *w, unsigned i);
/** st_jump_aside() - that jump: forward, and the block goes on behind it; or one that closes a loop
 * (st_repeat()), and it goes on with the next round. */
void st_jump_aside(struct st_work *w, unsigned i);
/** st_branch() - the instruction @i ends the block. Return: false: it is none that can. */
bool st_branch(struct st_work *w, unsigned i);
/**
 * st_emit_lookup() - to the linear address in R10 by the shadow stack or, as st_emit_table() does,
 * by the table of jumps; RSP moves by frame.temp then. What is behind it is executed if neither has
 * it.
 */
void st_emit_lookup(struct em *e, enum st_view_kind kind);
void st_emit_table(struct em *e, enum st_view_kind kind);
/** st_flags_needed() - flags that the code at @rip may read before it writes them. Notes in @w what
 *  of the page this was found out from. */
uint32_t st_flags_needed(struct st_work *w, uint64_t rip);

/* ---- copy.c ---- */
/**
 * st_copy() - @insn with other registers.
 * @map: the host's register of each GPR of the guest.
 * @memory: its memory operand becomes [R10 + @disp].
 */
void st_copy(struct em *e, const struct insn *insn, const uint8_t map[16], bool memory,
	     int32_t disp);

/** st_can_copy() - is it one of those that st_copy() takes, in @mode? Memory operands included. */
bool st_can_copy(const struct insn *insn, unsigned mode);

/* ---- cache.c ---- */
must_use int st_cache_init(struct st_translator *t);
void st_cache_fini(struct st_translator *t);
/** st_reset() - forgets all blocks. */
void st_reset(struct st_translator *t);
uint32_t st_find(const struct st_translator *t, uint64_t page, uint64_t rip, unsigned mode);
/** st_find_like() - the latest block of the code at @offset of the page, at whatever address. */
uint32_t st_find_like(struct st_translator *t, uint64_t page, unsigned offset, unsigned mode);
struct st_page *st_page_find(struct st_translator *t, uint64_t host);
struct st_page *st_page_make(struct st_translator *t, uint64_t host);
/** st_block_add() - @next: the page that it ends in, if it is another. */
void st_block_add(struct st_translator *t, uint32_t number, struct st_page *next);
/** st_pieces_of() - of a page, those with the bytes @first to @last. */
static inline uint64_t st_pieces_of(unsigned first, unsigned last)
{
	return (UINT64_MAX >> (63 - last / SOFT_CODE_PIECE)) &
	       (UINT64_MAX << (first / SOFT_CODE_PIECE));
}

/** st_drop() - forgets the blocks that depend on the pieces @mask of the page. */
void st_drop(struct st_translator *t, uint64_t host, uint64_t mask);
/** st_block_at() - the block with host code at offset @at, or NULL. */
struct st_block *st_block_at(const struct st_translator *t, uint32_t at);
/** st_guest_offset() - and ST_NO_FLAGS, of the instruction whose code @at is in. */
unsigned st_guest_offset(const struct st_translator *t, const struct st_block *b, uint32_t at);
/** st_link_to() - @source: the block whose jump it is. */
void st_link_to(struct st_translator *t, const struct st_block *source, struct st_link *link,
		uint32_t target);
/** st_link_known() - links the jumps of @b, which is new, to what there is. */
void st_link_known(struct st_translator *t, const struct st_block *b);
/**
 * st_map() - the number of what is at @linear.
 * Return: 0: all of them are used; forget them by st_reset().
 */
uint32_t st_map(struct st_translator *t, uint64_t linear, uint64_t host);
#define ST_NOT_CANONICAL (UINT64_C(1) << 63)

/** st_free_tag() - a page of another entry than @i, even of addresses that are none. */
static inline uint64_t st_free_tag(unsigned i)
{
	return ST_NOT_CANONICAL | (i == ST_TLB - 1 ? 0 : (uint64_t)(ST_TLB - 1) << 12);
}

/* ---- view.c ---- */
/** st_frame_init() - before its first use; @first: of the memory that all share, too. */
void st_frame_init(struct st_frame *f, bool first);

/** st_view_fill() - enters the page at @linear; for writing, too, if @write. */
static inline void st_view_fill(struct st_view *v, uint64_t linear, uint64_t host, bool write)
{
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint64_t page = linear & ~UINT64_C(4095);

	host &= ~UINT64_C(4095);
	if (v->add[i] == 0) {
		v->page[v->pages++] = (uint16_t)i;
	}
	if (v->add[i] != host || (v->read[i] != page && v->write[i] != page)) {
		v->write[i] = st_free_tag(i);
		v->add[i] = host;
	}
	/* What may be written to may be read, too. */
	v->read[i] = page;
	if (write) {
		v->write[i] = page;
	}
}

/** st_jump_enter() - enters a jump to @rip. */
static inline void st_jump_enter(struct st_frame *f, enum st_view_kind kind, uint64_t rip,
				 uint64_t code)
{
	f->jump[kind][st_jump_slot(rip)] = (struct st_jump){rip, code};
}

/** st_view_exec() - at @linear there is what @map says. */
void st_view_exec(struct st_view *v, uint64_t linear, uint32_t map);

/** st_flush_view() and such: forget addresses. st_flush_pages() - of what is not executed only. */
void st_flush_pages(struct st_view *v);
void st_flush_view(struct st_view *v);
void st_flush_exec(struct st_view *v);
/** st_doubt_exec() - pages are where they are known to be, but may have been written to. */
void st_doubt_exec(struct st_view *v);
void st_flush_jumps(struct st_frame *f, enum st_view_kind kind);
/** st_forget_jump() - if it leads to @code. */
void st_forget_jump(struct st_frame *f, enum st_view_kind kind, uint64_t rip, uint64_t code);
void st_flush_page(struct st_view *v, uint64_t linear);
void st_flush_writes(struct st_view *v, uint64_t host);

/* ---- relocate.c ---- */
/**
 * st_relocate() - the block that st_translate() would make, of one of the same code at another
 * linear address; and with it those that it led to. They are added, and linked to each other.
 * Return: its number; ST_NONE: there is none such, or it has to be translated.
 */
uint32_t st_relocate(struct st_translator *t, const struct st_source *source, unsigned offset,
		     unsigned mode);

/* ---- fetch.c ---- */
/** st_must_leave() - has somebody asked for it, or are interrupts allowed now, and one waits? */
static inline bool st_must_leave(const struct st_frame *f)
{
	return f->kick != 0 || (f->window != 0 && f->interrupts != 0);
}

/**
 * st_verify() - what was translated of the page at @host is what is there now, or is forgotten.
 * Return: false: it cannot be read.
 */
bool st_verify(struct st_translator *t, uint64_t host);
/**
 * st_known_map() - the number of what is at @linear, which is executed by the view @kind; its code
 * is as it was translated. Return: 0: it has to be looked for.
 */
uint32_t st_known_map(struct st_translator *t, enum st_view_kind kind, uint64_t linear);

/* ---- run.c ---- */
/**
 * st_page_fault() - says that an access comes to this. Return: ST_SLOW_FAULT; 0: it may be another
 * fault, of alignment.
 */
static inline uint64_t st_page_fault(struct st_translator *t, uint64_t linear, uint32_t access,
				     uint32_t error)
{
	unsigned len = access & 0xffff;

	if (len >= 16 && linear % 16 != 0) {
		return 0;
	}
	t->fault_linear = linear;
	t->fault_error = error;
	return ST_SLOW_FAULT;
}

/** st_move_frame() - what does not belong to an address space goes along. No vector registers. */
static inline void st_move_frame(struct st_translator *t, struct st_frame *to)
{
	size_t words = offsetof(struct st_frame, kick) / 8;
	const void *from = t->frame;

	t->frame = to;
	if (from != to) {
		__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	}
}

/** st_site_rip() - RIP of the instruction that called C, from frame.site. */
uint64_t st_site_rip(const struct st_translator *t);

/** st_use_space() - the vCPU is in address space @n from now on. */
void st_use_space(struct st_translator *t, unsigned n);
