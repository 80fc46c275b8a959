#include "lib/insn/test_native.h"

#include <asm/ldt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The first page. */
struct native_page {
	struct native_registers in, out;
	uint64_t host_rsp, recover, taken;
	uint32_t mxcsr;
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) to_32[2]; /* for 32-, for 16-bit code */
	uint16_t flat;			    /* DATA */
	uint64_t stack_32[8];		    /* to load the flags with */
};

/* Selectors of Linux, the same in every process. */
#define CODE_32 0x23
#define CODE_64 0x33
#define DATA	0x2b
#define LDT(n)	((n) << 3 | 7)

const struct insn_segment native_segment[NATIVE_SEGMENTS] = {
	{.selector = LDT(0), .attr = 0x0fb, .base = NATIVE_CODE, .limit = 0xfff},
	{.selector = LDT(1), .attr = 0x0f3, .base = NATIVE_MEMORY, .limit = 0x17ff},
	{.selector = LDT(2), .attr = 0x0f3, .base = NATIVE_MEMORY - 0x800, .limit = 0xffff},
	{.selector = LDT(3), .attr = 0x4f3, .base = NATIVE_MEMORY + 0x123, .limit = 0x1fff},
	/* Down to their limits. */
	{.selector = LDT(4), .attr = 0x0f7, .base = NATIVE_MEMORY - 0x1000, .limit = 0x17ff},
	{.selector = LDT(5), .attr = 0x4f7, .base = NATIVE_MEMORY - 0x20000, .limit = 0x20000},
	{.selector = LDT(6), .attr = 0x0f1, .base = NATIVE_MEMORY, .limit = 0x1fff},
	{.selector = 0},
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

/* mov eax, features; xor edx, edx; xrstor64 [address] or xsave64 [address] */
static void emit_area(uint32_t address, bool load)
{
	const uint8_t code[] = {0xb8, (uint8_t)native_features(), 0,   0, 0, 0x31, 0xd2, 0x48, 0x0f,
				0xae, load ? 0x2c : 0x24,	  0x25};

	emit(code, sizeof(code));
	emit_address(address);
}

/* fninit; ldmxcsr [address]: as C code has them. */
static void emit_c_state(void)
{
	emit("\xdb\xe3\x0f\xae\x14\x25", 6);
	emit_address(AT(mxcsr));
}

/* push/pop qword [address] */
static void emit_stack(bool push, uint32_t address)
{
	const uint8_t code[] = {push ? 0xff : 0x8f, push ? 0x34 : 0x04, 0x25};

	emit(code, 3);
	emit_address(address);
}

/* 32-bit code: mov reg, [address] or mov [address], reg */
static void emit_gpr_32(unsigned reg, uint32_t address, bool load)
{
	const uint8_t code[] = {load ? 0x8b : 0x89, (uint8_t)(reg << 3 | 5)};

	emit(code, 2);
	emit_address(address);
}

/* 32-bit code: mov segment, [address] */
static void emit_segment_32(enum insn_seg seg, uint32_t address)
{
	const uint8_t code[] = {0x8e, (uint8_t)(seg << 3 | 5)};

	emit(code, 2);
	emit_address(address);
}

/* mov ds, selector; mov es, ...; mov gs, ...: none is loaded in a 64-bit process */
static void emit_data_segments(uint8_t selector)
{
	const uint8_t code[] = {0xb8, selector, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe8};

	emit(code, sizeof(code));
}

uint64_t native_features(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low & 7;
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
	emit_area(AT(in.area), true);
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

/* Of each mode. */
static uint8_t *code_entry[3], *code_insn[3], *code_exit[3];
static uint8_t *taken_16;

/* jmp far selector:offset, of 32-bit code, or of 16-bit code behind 0x66 */
static void emit_far(uint32_t offset, uint16_t selector)
{
	emit("\xea", 1);
	emit_address(offset);
	emit(&selector, 2);
}

/* From 64-bit code to 32-bit code, with the flags loaded. */
static void emit_to_32(unsigned n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(saved); i++) {
		const uint8_t push[] = {saved[i] >= 8 ? 0x41 : 0x40,
					(uint8_t)(0x50 + (saved[i] & 7))};

		emit(push, 2);
	}
	emit_gpr(4, AT(host_rsp), false);
	emit_area(AT(in.area), true);
	emit_data_segments(DATA);
	emit("\xff\x2c\x25", 3); /* jmp far [address] */
	emit_address((uint32_t)(AT(to_32) + n * sizeof(PAGE->to_32[0])));
	PAGE->to_32[n].offset = (uint32_t)(uint64_t)emit_at;
	PAGE->to_32[n].selector = CODE_32;
	emit("\xbc", 1); /* mov esp, ... */
	emit_address(AT(stack_32[8]));
	emit("\xff\x35", 2); /* push dword [address] */
	emit_address(AT(in.rflags));
	emit("\x9d", 1);
}

static void emit_entry_32(void)
{
	emit_to_32(0);
	for (unsigned i = 0; i < 8; i++) {
		emit_gpr_32(i, AT(in.gpr) + 8 * i, true);
	}
}

static uint32_t selector_at(enum insn_seg seg)
{
	return AT(in.selector) + 2 * seg;
}

/* DS last: the others are loaded by it. */
static void emit_entry_16(void)
{
	emit_to_32(1);
	emit_segment_32(INSN_ES, selector_at(INSN_ES));
	emit_segment_32(INSN_GS, selector_at(INSN_GS));
	emit_segment_32(INSN_SS, selector_at(INSN_SS));
	for (unsigned i = 0; i < 8; i++) {
		emit_gpr_32(i, AT(in.gpr) + 8 * i, true);
	}
	emit_segment_32(INSN_DS, selector_at(INSN_DS));
	emit_far((uint32_t)((uint64_t)emit_at + 7 - native_segment[0].base),
		 native_segment[0].selector);
}

/* Behind it, and back. */
static void emit_exit_32(void)
{
	for (unsigned i = 0; i < 8; i++) {
		emit_gpr_32(i, AT(out.gpr) + 8 * i, false);
	}
	emit("\xbc", 1);
	emit_address(AT(stack_32[8]));
	emit("\x9c\x8f\x05", 3); /* pushfd; pop dword [address] */
	emit_address(AT(out.rflags));
	emit_far((uint32_t)((uint64_t)emit_at + 7), CODE_64);
	emit_gpr(4, AT(host_rsp), true);
	emit_area(AT(out.area), false);
	emit_c_state();
	emit_data_segments(0);
}

/* Of 32-bit code, where 16-bit code jumps: DS by CS, and then by DS. */
static void emit_exit_16(void)
{
	taken_16 = emit_at;
	emit("\x2e", 1);
	emit_segment_32(INSN_DS, AT(flat));
	emit("\xc6\x05", 2); /* mov byte [address], 1 */
	emit_address(AT(taken));
	emit("\x01", 1);
	code_exit[INSN_16] = emit_at;
	emit("\x2e", 1);
	emit_segment_32(INSN_DS, AT(flat));
	emit_segment_32(INSN_ES, AT(flat));
	emit_segment_32(INSN_GS, AT(flat));
	emit_segment_32(INSN_SS, AT(flat));
}

static void emit_stubs(void)
{
	uint8_t *code = base + (NATIVE_CODE - NATIVE_BASE);

	PAGE->flat = DATA;
	emit_at = code + 3072;
	code_exit[INSN_64] = emit_at;
	for (unsigned i = 0; i < 16; i++) {
		emit_gpr(i, AT(out.gpr) + 8 * i, false);
	}
	emit_gpr(4, AT(host_rsp), true);
	emit("\x9c", 1); /* pushfq */
	emit_stack(false, AT(out.rflags));
	emit_area(AT(out.area), false);
	emit_c_state();
	emit_return();
	PAGE->recover = (uint64_t)emit_at;
	emit_c_state();
	/* On some CPUs the base of GS outlives its selector. */
	emit_data_segments(DATA);
	emit_data_segments(0);
	emit_return();
	emit_exit_16();
	code_exit[INSN_32] = emit_at;
	emit_exit_32();
	emit_return();
	emit_at = code;
	code_entry[INSN_64] = emit_at;
	emit_entry();
	code_insn[INSN_64] = emit_at;
	emit_at = code + 1024;
	code_entry[INSN_32] = emit_at;
	emit_entry_32();
	code_insn[INSN_32] = emit_at;
	emit_at = code + 2048;
	code_entry[INSN_16] = emit_at;
	emit_entry_16();
	code_insn[INSN_16] = emit_at;
}

static bool is_ours(uint64_t rip)
{
	return rip == native_code(INSN_64) || rip == native_code(INSN_32) ||
	       rip == native_code(INSN_16);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					  REG_R12, REG_R13, REG_R14, REG_R15};

	if (!is_ours((uint64_t)g[REG_RIP])) {
		abort(); /* not ours */
	}
	caught = number;
	caught_address = number == SIGSEGV && info->si_code > 0 && info->si_code != SI_KERNEL
				 ? (uint64_t)info->si_addr
				 : 0;
	/* Behind an interrupt, what 16-bit code does not see of RSP is the kernel's. */
	for (unsigned i = 0; i < 16; i++) {
		PAGE->out.gpr[i] = (uint64_t)g[REG_RIP] == native_code(INSN_64)
					   ? (uint64_t)g[order[i]]
					   : (uint32_t)g[order[i]];
	}
	PAGE->out.rflags = (uint64_t)g[REG_EFL] & ~BIT(16); /* RF is set by the fault */
	memcpy(PAGE->out.area, uc->uc_mcontext.fpregs, NATIVE_AREA);
	g[REG_RIP] = (greg_t)PAGE->recover;
	g[REG_RSP] = (greg_t)PAGE->host_rsp;
	g[REG_EFL] &= ~(greg_t)BIT(10);
	g[REG_CSGSFS] = (greg_t)(((uint64_t)g[REG_CSGSFS] & UINT64_C(0xffffffff0000)) | CODE_64 |
				 (uint64_t)DATA << 48);
}

static bool map_pages(void)
{
	void *pages =
		mmap((void *)NATIVE_BASE, (size_t)6 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (pages != (void *)NATIVE_BASE ||
	    mprotect((void *)(NATIVE_MEMORY - 4096), 4096, PROT_NONE) != 0 ||
	    mprotect((void *)(NATIVE_MEMORY + NATIVE_MEMORY_BYTES), 4096, PROT_NONE) != 0 ||
	    mprotect((void *)NATIVE_MEMORY, NATIVE_MEMORY_BYTES, PROT_READ | PROT_WRITE) != 0) {
		return false;
	}
	base = pages;
	PAGE->mxcsr = 0x1f80;
	emit_stubs();
	return true;
}

bool native_init(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	static uint8_t stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	if (base == NULL && !map_pages()) {
		return false;
	}
	if (sigaltstack(&alternative, NULL) != 0) {
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		if (sigaction(signals[i], &action, NULL) != 0) {
			return false;
		}
	}
	return true;
}

uint8_t *native_memory(void)
{
	return base + (NATIVE_MEMORY - NATIVE_BASE);
}

bool native_has_16(void)
{
	for (unsigned i = 0; i < NATIVE_SEGMENTS; i++) {
		const struct insn_segment *s = &native_segment[i];
		struct user_desc entry = {
			.entry_number = s->selector >> 3,
			.base_addr = (unsigned)s->base,
			.limit = s->limit,
			.seg_32bit = (s->attr & INSN_SEG_DB) != 0,
			.contents = s->attr >> 2 & 3,
			.read_exec_only = (s->attr & 2) == 0,
		};

		if (s->selector != 0 && syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)) != 0) {
			return false;
		}
	}
	return true;
}

uint64_t native_code(enum insn_mode mode)
{
	return (uint64_t)code_insn[mode] - (mode == INSN_16 ? native_segment[0].base : 0);
}

/* What is behind the instruction, and where its branch leads. */
static void emit_behind(enum insn_mode mode, bool taken)
{
	static const uint8_t set_taken[2][3] = {{0x90, 0xc6, 0x05}, {0xc6, 0x04, 0x25}};

	if (mode == INSN_16) {
		emit("\x66", 1);
		emit_far((uint32_t)(uint64_t)(taken ? taken_16 : code_exit[INSN_16]), CODE_32);
		return;
	}
	if (taken) {
		emit(set_taken[mode == INSN_64], 3); /* mov byte [address], 1 */
		emit_address(AT(taken));
		emit("\x01", 1);
	}
	emit_jump(code_exit[mode]);
}

struct native_outcome native_run(enum insn_mode mode, const uint8_t *bytes, unsigned len,
				 struct native_registers *regs)
{
	void (*entry)(void) = (void (*)(void))code_entry[mode];
	struct native_outcome outcome = {0};

	PAGE->in = *regs;
	PAGE->out = *regs;
	PAGE->taken = 0;
	caught = 0;
	emit_at = code_insn[mode];
	emit(bytes, len);
	emit_behind(mode, false);
	emit_at = code_insn[mode] + len + NATIVE_BRANCH;
	emit_behind(mode, true);
	entry();
	*regs = PAGE->out;
	outcome.signal = caught;
	outcome.address = caught_address;
	outcome.taken = PAGE->taken != 0;
	return outcome;
}
