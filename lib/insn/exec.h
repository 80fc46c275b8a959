/*
 * Inside the emulator: one instruction while it is executed, and what its families share.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/x86/regs.h"

#define RAX 0
#define RCX 1
#define RDX 2
#define RBX 3
#define RSP 4
#define RBP 5
#define RSI 6
#define RDI 7

#define FLAG_CF	  BIT(0)
#define FLAG_ONE  BIT(1)
#define FLAG_PF	  BIT(2)
#define FLAG_AF	  BIT(4)
#define FLAG_ZF	  BIT(6)
#define FLAG_SF	  BIT(7)
#define FLAG_TF	  BIT(8)
#define FLAG_IF	  BIT(9)
#define FLAG_DF	  BIT(10)
#define FLAG_OF	  BIT(11)
#define FLAG_IOPL (BIT(12) | BIT(13))
#define FLAG_NT	  BIT(14)
#define FLAG_RF	  BIT(16)
#define FLAG_VM	  BIT(17)
#define FLAG_AC	  BIT(18)
#define FLAG_VIF  BIT(19)
#define FLAG_VIP  BIT(20)
#define FLAG_ID	  BIT(21)

#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Entries of a table by mnemonic: @op with each of the conditions. */
#define INSN_ALL_CC(op, f)                                                                         \
	[INSN_##op##O] = (f), [INSN_##op##NO] = (f), [INSN_##op##B] = (f), [INSN_##op##NB] = (f),  \
	[INSN_##op##Z] = (f), [INSN_##op##NZ] = (f), [INSN_##op##BE] = (f),                        \
	[INSN_##op##NBE] = (f), [INSN_##op##S] = (f), [INSN_##op##NS] = (f), [INSN_##op##P] = (f), \
	[INSN_##op##NP] = (f), [INSN_##op##L] = (f), [INSN_##op##NL] = (f), [INSN_##op##LE] = (f), \
	[INSN_##op##NLE] = (f)

struct insn_exec {
	struct insn_env *env;
	struct insn_cpu *cpu;
	const struct insn_ops *ops;
	const struct insn *insn;
	uint64_t next_rip; /* where it goes on; branches change it */
	uint64_t linear;   /* of the operand that insn_read_rmw() read */
	uint64_t old;	   /* what it read */
	bool shadow;	   /* the next instruction is not to be interrupted */
	bool trap_shadow;  /* nor do debug traps come before it */
	bool keep_rf;	   /* IRET has set it */
};

/** insn_mask() - all bits of a number of @bytes. */
static inline uint64_t insn_mask(unsigned bytes)
{
	return bytes >= 8 ? UINT64_MAX : BIT(8 * bytes) - 1;
}

static inline bool insn_long_mode(const struct insn_exec *x)
{
	return x->insn->mode == INSN_64;
}

/** insn_real_mode() - real or virtual-8086 mode: segments are 16 times their selector. */
static inline bool insn_real_mode(const struct insn_cpu *cpu)
{
	return (cpu->cr0 & 1) == 0 || (cpu->rflags & FLAG_VM) != 0;
}

/* Registers: as the CPU writes them, 32 bits clearing the upper half. */
uint64_t insn_get_gpr(const struct insn_exec *x, unsigned reg, unsigned bytes);
void insn_set_gpr(struct insn_exec *x, unsigned reg, unsigned bytes, uint64_t value);

/** insn_set_flags() - those of @which become those of @value. */
void insn_set_flags(struct insn_exec *x, uint64_t which, uint64_t value);

/** insn_result_flags() - SF, ZF and PF of a result. */
uint64_t insn_result_flags(uint64_t value, unsigned bytes);

/** insn_condition() - does condition @cc (0 to 15, as in Jcc's opcode) hold? */
bool insn_condition(const struct insn_exec *x, unsigned cc);

/** insn_offset() - of a memory operand in its segment. */
uint64_t insn_offset(const struct insn_exec *x, const struct insn_mem *m);

/**
 * insn_translate() - segmentation: checks and adds the base.
 * @write: is it (also) written to?
 */
must_use enum insn_outcome insn_translate(struct insn_exec *x, unsigned seg, uint64_t offset,
					  unsigned len, bool write, uint64_t *linear);

/* Memory in a segment, any length up to 64. */
must_use enum insn_outcome insn_load(struct insn_exec *x, unsigned seg, uint64_t offset, void *data,
				     unsigned len);
must_use enum insn_outcome insn_store(struct insn_exec *x, unsigned seg, uint64_t offset,
				      const void *data, unsigned len);

/*
 * Operand @i, up to 8 bytes, zero-extended. To change one, read it by insn_read_rmw() and write it
 * by insn_write_rmw(), which is atomic if it has to be.
 */
must_use enum insn_outcome insn_read(struct insn_exec *x, unsigned i, uint64_t *value);
must_use enum insn_outcome insn_write(struct insn_exec *x, unsigned i, uint64_t value);
must_use enum insn_outcome insn_read_rmw(struct insn_exec *x, unsigned i, uint64_t *value);
must_use enum insn_outcome insn_write_rmw(struct insn_exec *x, unsigned i, uint64_t value);

/** insn_locked() - is it atomic: LOCK, or XCHG with memory? */
bool insn_locked(const struct insn_exec *x);

/* The stack: slots of insn->op_bytes, blocks of @len. insn_pop() moves RSP, insn_peek() does not.
 */
must_use enum insn_outcome insn_push(struct insn_exec *x, uint64_t value);
must_use enum insn_outcome insn_push_block(struct insn_exec *x, const void *data, unsigned len);
must_use enum insn_outcome insn_peek(struct insn_exec *x, unsigned skip, void *data, unsigned len);
void insn_move_rsp(struct insn_exec *x, int64_t by);
unsigned insn_stack_bytes(const struct insn_exec *x);

/** insn_jump() - to @rip, cut to the operand size and checked. */
must_use enum insn_outcome insn_jump(struct insn_exec *x, uint64_t rip);

struct insn_task;

/** insn_do_task() - a task switch as an instruction: also where it goes on, with which flags. */
must_use enum insn_outcome insn_do_task(struct insn_exec *x, const struct insn_task *task);

/** insn_io_allowed() - IOPL and the permission map of the TSS. */
must_use enum insn_outcome insn_io_allowed(struct insn_exec *x, uint16_t port, unsigned bytes);

/* Calls an op that may be missing. */
#define INSN_CALL(x, op, ...) \
	((x)->ops->op == NULL ? INSN_UNSUPPORTED : (x)->ops->op((x)->env, __VA_ARGS__))

/* The families. Each emulates the mnemonics that the tables in emulate.c and emulate_other.c give
 * it. */
enum insn_outcome insn_do_alu(struct insn_exec *x);
enum insn_outcome insn_do_unary(struct insn_exec *x);
enum insn_outcome insn_do_shift(struct insn_exec *x);
enum insn_outcome insn_do_double_shift(struct insn_exec *x);
enum insn_outcome insn_do_xadd(struct insn_exec *x);
enum insn_outcome insn_do_cmpxchg(struct insn_exec *x);
enum insn_outcome insn_do_cmpxchg_wide(struct insn_exec *x);
enum insn_outcome insn_do_mul(struct insn_exec *x);
enum insn_outcome insn_do_imul(struct insn_exec *x);
enum insn_outcome insn_do_div(struct insn_exec *x);
enum insn_outcome insn_do_bit(struct insn_exec *x);
enum insn_outcome insn_do_scan(struct insn_exec *x);
enum insn_outcome insn_do_bmi(struct insn_exec *x);
enum insn_outcome insn_do_mulx(struct insn_exec *x);
enum insn_outcome insn_do_adx(struct insn_exec *x);
enum insn_outcome insn_do_crc32(struct insn_exec *x);
enum insn_outcome insn_do_bcd(struct insn_exec *x);
enum insn_outcome insn_do_mov(struct insn_exec *x);
enum insn_outcome insn_do_extend(struct insn_exec *x);
enum insn_outcome insn_do_movbe(struct insn_exec *x);
enum insn_outcome insn_do_lea(struct insn_exec *x);
enum insn_outcome insn_do_xchg(struct insn_exec *x);
enum insn_outcome insn_do_cmov(struct insn_exec *x);
enum insn_outcome insn_do_setcc(struct insn_exec *x);
enum insn_outcome insn_do_convert(struct insn_exec *x);
enum insn_outcome insn_do_bswap(struct insn_exec *x);
enum insn_outcome insn_do_xlat(struct insn_exec *x);
enum insn_outcome insn_do_flags(struct insn_exec *x);
enum insn_outcome insn_do_nop(struct insn_exec *x);
enum insn_outcome insn_do_push(struct insn_exec *x);
enum insn_outcome insn_do_pop(struct insn_exec *x);
enum insn_outcome insn_do_pusha(struct insn_exec *x);
enum insn_outcome insn_do_popa(struct insn_exec *x);
enum insn_outcome insn_do_pushf(struct insn_exec *x);
enum insn_outcome insn_do_popf(struct insn_exec *x);
enum insn_outcome insn_do_enter(struct insn_exec *x);
enum insn_outcome insn_do_leave(struct insn_exec *x);
enum insn_outcome insn_do_jump(struct insn_exec *x);
enum insn_outcome insn_do_jcc(struct insn_exec *x);
enum insn_outcome insn_do_loop(struct insn_exec *x);
enum insn_outcome insn_do_call(struct insn_exec *x);
enum insn_outcome insn_do_ret(struct insn_exec *x);
enum insn_outcome insn_do_bound(struct insn_exec *x);
enum insn_outcome insn_do_string(struct insn_exec *x);
enum insn_outcome insn_do_in(struct insn_exec *x);
enum insn_outcome insn_do_out(struct insn_exec *x);
enum insn_outcome insn_do_ins(struct insn_exec *x);
enum insn_outcome insn_do_outs(struct insn_exec *x);
enum insn_outcome insn_do_xmm_move(struct insn_exec *x);
enum insn_outcome insn_do_xmm_scalar(struct insn_exec *x);
enum insn_outcome insn_do_mmx_move(struct insn_exec *x);
enum insn_outcome insn_do_x87_control(struct insn_exec *x);
enum insn_outcome insn_do_mov_crdr(struct insn_exec *x);
enum insn_outcome insn_do_msw(struct insn_exec *x);
enum insn_outcome insn_do_invlpg(struct insn_exec *x);
enum insn_outcome insn_do_cache(struct insn_exec *x);
enum insn_outcome insn_do_hlt(struct insn_exec *x);
enum insn_outcome insn_do_cpuid(struct insn_exec *x);
enum insn_outcome insn_do_msr(struct insn_exec *x);
enum insn_outcome insn_do_tsc(struct insn_exec *x);
enum insn_outcome insn_do_xcr(struct insn_exec *x);
enum insn_outcome insn_do_table(struct insn_exec *x);
enum insn_outcome insn_do_interrupt_flag(struct insn_exec *x);
enum insn_outcome insn_do_selector(struct insn_exec *x);
enum insn_outcome insn_do_swapgs(struct insn_exec *x);
enum insn_outcome insn_do_ud(struct insn_exec *x);
enum insn_outcome insn_do_load_pointer(struct insn_exec *x);
enum insn_outcome insn_do_lldt(struct insn_exec *x);
enum insn_outcome insn_do_ltr(struct insn_exec *x);
enum insn_outcome insn_do_look(struct insn_exec *x);
enum insn_outcome insn_do_verify(struct insn_exec *x);
enum insn_outcome insn_do_arpl(struct insn_exec *x);
enum insn_outcome insn_do_jmpf(struct insn_exec *x);
enum insn_outcome insn_do_callf(struct insn_exec *x);
enum insn_outcome insn_do_retf(struct insn_exec *x);
enum insn_outcome insn_do_int(struct insn_exec *x);
enum insn_outcome insn_do_iret(struct insn_exec *x);
enum insn_outcome insn_do_syscall(struct insn_exec *x);
enum insn_outcome insn_do_sysret(struct insn_exec *x);
enum insn_outcome insn_do_sysenter(struct insn_exec *x);
enum insn_outcome insn_do_sysexit(struct insn_exec *x);
enum insn_outcome insn_do_random(struct insn_exec *x);
enum insn_outcome insn_do_monitor(struct insn_exec *x);
enum insn_outcome insn_do_mwait(struct insn_exec *x);
enum insn_outcome insn_do_rdpmc(struct insn_exec *x);
enum insn_outcome insn_do_pkru(struct insn_exec *x);
enum insn_outcome insn_do_rdpid(struct insn_exec *x);
enum insn_outcome insn_do_fsgsbase(struct insn_exec *x);
enum insn_outcome insn_do_invpcid(struct insn_exec *x);
enum insn_outcome insn_do_hypercall(struct insn_exec *x);
enum insn_outcome insn_do_clzero(struct insn_exec *x);
enum insn_outcome insn_do_native(struct insn_exec *x);
enum insn_outcome insn_do_fxsave(struct insn_exec *x);
enum insn_outcome insn_do_xsave(struct insn_exec *x);
