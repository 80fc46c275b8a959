/*
 * Linked to core for tests/system/core_panic.py, never to what is shipped: a system call by which a
 * program has the kernel do what it must not be able to do. Compiled without optimisation of the
 * whole, so that each function is there under its name.
 */
#include <errno.h>

#include "core/hw/cpu_tables.h"
#include "core/hw/entry.h"
#include "core/hw/regs.h"
#include "core/log.h"
#include "core/mem/paging.h"
#include "core/panic.h"
#include "core/sys/syscall.h"
#include "lib/base/check.h"
#include "tests/core/provoke.h"

#define ENTRIES	   512
#define IMAGE_BASE UINT64_C(0xffffffff80000000)
#define RET	   0xc3
#define KEEP_FRAME asm volatile("" ::: "memory") /* behind a call: it is no jump */

extern char kernel_start[], kernel_text_end[], kernel_rodata_end[];

typedef void provoke_fn(uint64_t user);

#define PROVOKE_DECLARE(name) provoke_fn provoke_##name;
PROVOKE_LIST(PROVOKE_DECLARE)

void provoke_deep(uint64_t user);
void provoke_edge(uint64_t user);
unsigned provoke_recursion(unsigned depth);
bool __wrap_syscall_enter(struct user_frame *frame);
bool __real_syscall_enter(struct user_frame *frame);
void __wrap_entry_interrupt(struct user_frame *frame, unsigned vector, uint64_t error);
void __real_entry_interrupt(struct user_frame *frame, unsigned vector, uint64_t error);

static uint8_t code_in_data[16] = {RET};
static const uint64_t constant = 1;
static volatile unsigned deepest = ~0U;
static unsigned overflow_in = ~0U; /* the handler of this exception calls itself for ever */

/* The compiler must not know what is written where. */
static void *launder(const void *p)
{
	uint64_t at = (uint64_t)p;

	asm volatile("" : "+r"(at));
	return (void *)at;
}

static void *in_direct_map(const void *p)
{
	return launder(phys_ptr(hpa((uint64_t)p - IMAGE_BASE)));
}

static void execute(const void *p)
{
	((void (*)(void))launder(p))();
	KEEP_FRAME;
}

static void overwrite(const void *p)
{
	volatile uint8_t *byte = launder(p);

	*byte = RET;
}

/* Panics. */

__attribute__((noinline)) void provoke_deep(uint64_t user)
{
	panic("as requested by %p", (void *)user);
}

/* Its last instruction is a call that does not return, right before another function. */
asm(".pushsection .text\n"
    ".globl	provoke_edge\n"
    ".type	provoke_edge, @function\n"
    "provoke_edge:\n"
    "	pushq	%rbp\n"
    "	movq	%rsp, %rbp\n"
    "	call	provoke_deep\n"
    ".globl	provoke_behind\n"
    ".type	provoke_behind, @function\n"
    "provoke_behind:\n"
    "	ret\n"
    ".popsection");

void provoke_panic(uint64_t user)
{
	provoke_edge(user);
	KEEP_FRAME;
}

void provoke_check(uint64_t user)
{
	check(user == 0);
}

void provoke_canary(uint64_t user)
{
	uint64_t array[4];
	volatile uint64_t *word = launder(array);

	for (unsigned i = 0; i < 8; i++) {
		word[i] = user;
	}
}

__attribute__((noinline)) unsigned provoke_recursion(unsigned depth)
{
	volatile uint64_t used[16];

	used[depth % 16] = depth;
	if (depth == deepest) {
		return 0;
	}
	return provoke_recursion(depth + 1) + (unsigned)used[depth % 16];
}

void provoke_overflow(uint64_t user)
{
	log_info("provoke: a stack that ends at %p", (void *)cpu_this()->kernel_rsp);
	overflow_in = provoke_recursion((unsigned)user);
}

/* Stacks of exceptions. */

static void overflow(unsigned vector, unsigned ist)
{
	log_info("provoke: a stack that ends at %p", (void *)cpu_this()->tables->tss.ist[ist]);
	overflow_in = vector;
}

void provoke_db_overflow(uint64_t user)
{
	(void)user;
	overflow(EXCEPTION_DB, IST_DB);
	asm volatile("int $1");
}

void provoke_nmi_overflow(uint64_t user)
{
	(void)user;
	overflow(EXCEPTION_NMI, IST_NMI);
	asm volatile("int $2");
}

void provoke_df_overflow(uint64_t user)
{
	overflow(EXCEPTION_DF, IST_DF);
	provoke_recursion((unsigned)user);
}

void provoke_mc_overflow(uint64_t user)
{
	(void)user;
	overflow(EXCEPTION_MC, IST_MC);
	asm volatile("int $18");
}

void __wrap_entry_interrupt(struct user_frame *frame, unsigned vector, uint64_t error)
{
	if (vector == overflow_in) {
		overflow_in = ~0U;
		provoke_recursion(vector);
	}
	__real_entry_interrupt(frame, vector, error);
}

/* Protection. */

void provoke_write_text(uint64_t user)
{
	(void)user;
	overwrite((const void *)provoke_deep);
}

void provoke_write_direct(uint64_t user)
{
	(void)user;
	overwrite(in_direct_map((const void *)provoke_deep));
}

void provoke_write_constant(uint64_t user)
{
	(void)user;
	overwrite(&constant);
}

void provoke_execute_data(uint64_t user)
{
	(void)user;
	execute(code_in_data);
}

void provoke_execute_stack(uint64_t user)
{
	volatile uint8_t code[16];

	(void)user;
	code[0] = RET;
	execute((const void *)code);
}

void provoke_execute_direct(uint64_t user)
{
	(void)user;
	execute(in_direct_map(code_in_data));
}

void provoke_execute_user(uint64_t user)
{
	execute((const void *)user);
}

void provoke_read_user(uint64_t user)
{
	(void)*(const volatile uint8_t *)user;
}

void provoke_write_user(uint64_t user)
{
	overwrite((const void *)user);
}

/* Page tables. */

struct rights {
	uint64_t writable, executable, both; /* pages, of any size */
	uint64_t aliases;   /* writable ones that show the kernel's text or constants */
	uint64_t strangers; /* executable ones in the kernel's half that are not its text */
	uint64_t open;	    /* the kernel's that ring 3 may use */
};

static void look_at(struct rights *r, uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
	uint64_t image = (uint64_t)kernel_start - IMAGE_BASE;
	uint64_t image_end = (uint64_t)kernel_rodata_end - IMAGE_BASE;
	bool writes = (flags & PTE_RW) != 0, executes = (flags & PTE_NX) == 0;

	r->writable += writes;
	r->executable += executes;
	r->both += writes && executes;
	r->aliases += writes && pa < image_end && pa + bytes > image;
	if (va >> 63 != 0) {
		r->strangers += executes && (va < (uint64_t)kernel_start ||
					     va + bytes > (uint64_t)kernel_text_end);
		r->open += (flags & PTE_US) != 0;
	}
}

/* Of all levels: what one of them forbids is forbidden. */
static uint64_t both_of(uint64_t above, uint64_t entry)
{
	return (above & entry & (PTE_RW | PTE_US)) | ((above | entry) & PTE_NX);
}

static void walk(struct rights *r, hpa_t table, uint64_t va, unsigned shift, uint64_t flags)
{
	const uint64_t *entries = phys_ptr(table);

	for (uint64_t i = 0; i < ENTRIES; i++) {
		uint64_t entry = entries[i], at = va | i << shift, bytes = UINT64_C(1) << shift;
		if (shift == 39 && i >= ENTRIES / 2) {
			at |= UINT64_C(0xffff) << 48;
		}
		if ((entry & PTE_P) == 0) {
			continue;
		}
		if (shift == PAGE_SHIFT || (entry & PTE_PS) != 0) {
			look_at(r, at, entry & PTE_ADDR & ~(bytes - 1), bytes,
				both_of(flags, entry));
		} else {
			walk(r, hpa(entry & PTE_ADDR), at, shift - 9, both_of(flags, entry));
		}
	}
}

void provoke_walk(uint64_t user)
{
	struct rights r = {0};

	(void)user;
	walk(&r, hpa(asm_read_cr3() & PTE_ADDR), 0, 39, PTE_RW | PTE_US);
	log_info("provoke: %lu writable, %lu executable, %lu both, %lu aliases, %lu strangers, "
		 "%lu open",
		 r.writable, r.executable, r.both, r.aliases, r.strangers, r.open);
}

static provoke_fn *const fns[PROVOKE_COUNT] = {
#define PROVOKE_FN(name) [PROVOKE_##name] = provoke_##name,
	PROVOKE_LIST(PROVOKE_FN)};

bool __wrap_syscall_enter(struct user_frame *frame)
{
	if (frame->orig_rax != PROVOKE_CALL || frame->rdi >= PROVOKE_COUNT) {
		return __real_syscall_enter(frame);
	}
	fns[frame->rdi](frame->rsi);
	frame->rax = 0;
	return true;
}
