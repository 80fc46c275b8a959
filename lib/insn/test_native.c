#include "lib/insn/test_native.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The first page. */
struct native_page {
	struct native_registers in, out;
	uint64_t host_rsp, recover, taken;
};

/* NATIVE_BASE. These are volatile because gcc believes that nothing can be at a constant. */
static uint8_t *volatile base;

#define PAGE	  ((struct native_page *)(void *)base)
#define AT(field) ((uint32_t)(NATIVE_BASE + offsetof(struct native_page, field)))

static uint8_t *volatile emit_at;
static volatile int caught;
static volatile uint64_t caught_address;

static void emit(const void *bytes, unsigned n)
{
	memcpy(emit_at, bytes, n);
	emit_at = emit_at + n;
}

static void emit_address(uint32_t address)
{
	emit(&address, 4);
}

/* mov reg, [address] or mov [address], reg */
static void emit_gpr(unsigned reg, uint32_t address, bool load)
{
	const uint8_t code[] = {(uint8_t)(reg >= 8 ? 0x4c : 0x48), load ? 0x8b : 0x89,
				(uint8_t)((reg & 7) << 3 | 4), 0x25};

	emit(code, 4);
	emit_address(address);
}

/* movups xmm, [address] or the other way */
static void emit_xmm(unsigned reg, uint32_t address, bool load)
{
	const uint8_t code[] = {(uint8_t)(reg >= 8 ? 0x44 : 0x40), 0x0f, load ? 0x10 : 0x11,
				(uint8_t)((reg & 7) << 3 | 4), 0x25};

	emit(code, 5);
	emit_address(address);
}

/* push/pop qword [address] */
static void emit_stack(bool push, uint32_t address)
{
	const uint8_t code[] = {push ? 0xff : 0x8f, push ? 0x34 : 0x04, 0x25};

	emit(code, 3);
	emit_address(address);
}

static const unsigned saved[] = {3, 5, 12, 13, 14, 15}; /* what a C function preserves */

static void emit_entry(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(saved); i++) {
		const uint8_t push[] = {saved[i] >= 8 ? 0x41 : 0x40,
					(uint8_t)(0x50 + (saved[i] & 7))};

		emit(push, 2);
	}
	emit_gpr(4, AT(host_rsp), false);
	for (unsigned i = 0; i < 16; i++) {
		emit_xmm(i, AT(in.xmm) + 16 * i, true);
	}
	emit_stack(true, AT(in.rflags));
	emit("\x9d", 1); /* popfq */
	for (unsigned i = 0; i < 16; i++) {
		emit_gpr(i, AT(in.gpr) + 8 * i, true);
	}
}

static void emit_return(void)
{
	emit("\xfc", 1); /* cld */
	for (unsigned i = ARRAY_SIZE(saved); i-- > 0;) {
		const uint8_t pop[] = {saved[i] >= 8 ? 0x41 : 0x40,
				       (uint8_t)(0x58 + (saved[i] & 7))};

		emit(pop, 2);
	}
	emit("\xc3", 1);
}

/* jmp to there */
static void emit_jump(const uint8_t *there)
{
	int32_t rel = (int32_t)(there - (emit_at + 5));

	emit("\xe9", 1);
	emit(&rel, 4);
}

static uint8_t *code_entry, *code_insn, *code_exit;

static void emit_stubs(void)
{
	emit_at = base + (NATIVE_CODE - NATIVE_BASE) + 2048;
	code_exit = emit_at;
	for (unsigned i = 0; i < 16; i++) {
		emit_gpr(i, AT(out.gpr) + 8 * i, false);
	}
	emit_gpr(4, AT(host_rsp), true);
	emit("\x9c", 1); /* pushfq */
	emit_stack(false, AT(out.rflags));
	for (unsigned i = 0; i < 16; i++) {
		emit_xmm(i, AT(out.xmm) + 16 * i, false);
	}
	emit_return();
	PAGE->recover = (uint64_t)emit_at;
	emit_return();
	emit_at = base + (NATIVE_CODE - NATIVE_BASE);
	code_entry = emit_at;
	emit_entry();
	code_insn = emit_at;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					  REG_R12, REG_R13, REG_R14, REG_R15};

	if (g[REG_RIP] != (greg_t)code_insn) {
		abort(); /* not ours */
	}
	caught = number;
	caught_address = number == SIGSEGV && info->si_code > 0 && info->si_code != SI_KERNEL
				 ? (uint64_t)info->si_addr
				 : 0;
	for (unsigned i = 0; i < 16; i++) {
		PAGE->out.gpr[i] = (uint64_t)g[order[i]];
	}
	PAGE->out.rflags = (uint64_t)g[REG_EFL] & ~BIT(16); /* RF is set by the fault */
	memcpy(PAGE->out.xmm, uc->uc_mcontext.fpregs->_xmm, sizeof(PAGE->out.xmm));
	g[REG_RIP] = (greg_t)PAGE->recover;
	g[REG_RSP] = (greg_t)PAGE->host_rsp;
	g[REG_EFL] &= ~(greg_t)BIT(10);
}

bool native_init(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	static uint8_t stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	void *pages =
		mmap((void *)NATIVE_BASE, (size_t)6 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	base = pages;
	if (pages != (void *)NATIVE_BASE || sigaltstack(&alternative, NULL) != 0 ||
	    mprotect((void *)(NATIVE_MEMORY - 4096), 4096, PROT_NONE) != 0 ||
	    mprotect((void *)(NATIVE_MEMORY + NATIVE_MEMORY_BYTES), 4096, PROT_NONE) != 0 ||
	    mprotect((void *)NATIVE_MEMORY, NATIVE_MEMORY_BYTES, PROT_READ | PROT_WRITE) != 0) {
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		if (sigaction(signals[i], &action, NULL) != 0) {
			return false;
		}
	}
	emit_stubs();
	return true;
}

uint8_t *native_memory(void)
{
	return base + (NATIVE_MEMORY - NATIVE_BASE);
}

uint64_t native_code(void)
{
	return (uint64_t)code_insn;
}

struct native_outcome native_run(const uint8_t *bytes, unsigned len, struct native_registers *regs)
{
	void (*entry)(void) = (void (*)(void))code_entry;
	struct native_outcome outcome = {0};
	static const uint8_t set_taken[] = {0xc6, 0x04, 0x25}; /* mov byte [address], 1 */

	PAGE->in = *regs;
	PAGE->taken = 0;
	caught = 0;
	emit_at = code_insn;
	emit(bytes, len);
	emit_jump(code_exit);
	emit_at = code_insn + len + NATIVE_BRANCH;
	emit(set_taken, 3);
	emit_address(AT(taken));
	emit("\x01", 1);
	emit_jump(code_exit);
	entry();
	*regs = PAGE->out;
	outcome.signal = caught;
	outcome.address = caught_address;
	outcome.taken = PAGE->taken != 0;
	return outcome;
}
