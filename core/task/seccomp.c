#include "core/task/seccomp.h"

#include <asm/siginfo.h>
#include <asm/signal.h>
#include <errno.h>
#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <string.h>

#include "core/hw/entry.h"
#include "core/mem/heap.h"
#include "core/task/process.h"

#define ARCH_X86_64 0xc000003e
#define ERRNO_MAX   4095

/* Filters of several processes may share a tail. */
struct seccomp_filter {
	struct seccomp_filter *next;
	_Atomic uint32_t refs;
	unsigned count;
	struct seccomp_instruction program[];
};

void seccomp_init(struct seccomp *s)
{
	s->last = NULL;
	s->no_new_privileges = false;
}

static size_t filter_bytes(unsigned count)
{
	return sizeof(struct seccomp_filter) + count * sizeof(struct seccomp_instruction);
}

static void put(struct seccomp_filter *f)
{
	while (f != NULL && atomic_fetch_sub(&f->refs, 1) == 1) {
		struct seccomp_filter *next = f->next;

		mem_free(f, filter_bytes(f->count));
		f = next;
	}
}

void seccomp_fini(struct seccomp *s)
{
	put(s->last);
	s->last = NULL;
}

int seccomp_inherit(struct seccomp *to, const struct seccomp *from)
{
	struct seccomp_filter *last = atomic_load(&from->last);

	if (last != NULL) {
		atomic_fetch_add(&last->refs, 1);
	}
	to->last = last;
	to->no_new_privileges = from->no_new_privileges;
	return 0;
}

/* Of one instruction, @left of them behind it. */
static bool is_valid(const struct seccomp_instruction *i, unsigned left)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return i->k % 4 == 0 && i->k < sizeof(struct seccomp_data);
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
	case BPF_ALU | BPF_NEG:
		return true;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return i->k < BPF_MEMWORDS;
	case BPF_JMP | BPF_JA:
		return i->k < left;
	default:
		break;
	}
	if (BPF_CLASS(i->code) == BPF_ALU && (i->code & ~0xff) == 0) {
		unsigned op = BPF_OP(i->code);
		bool constant = BPF_SRC(i->code) == BPF_K;

		if (op == BPF_DIV) {
			return !constant || i->k != 0;
		}
		if (op == BPF_LSH || op == BPF_RSH) {
			return !constant || i->k < 32;
		}
		return op == BPF_ADD || op == BPF_SUB || op == BPF_MUL || op == BPF_AND ||
		       op == BPF_OR || op == BPF_XOR;
	}
	if (BPF_CLASS(i->code) == BPF_JMP && (i->code & ~0xff) == 0) {
		unsigned op = BPF_OP(i->code);

		return (op == BPF_JEQ || op == BPF_JGT || op == BPF_JGE || op == BPF_JSET) &&
		       i->jt < left && i->jf < left;
	}
	return false;
}

int seccomp_check(const struct seccomp_instruction *program, unsigned count)
{
	if (count == 0 || count > SECCOMP_INSTRUCTIONS_MAX ||
	    BPF_CLASS(program[count - 1].code) != BPF_RET) {
		return -EINVAL;
	}
	for (unsigned i = 0; i < count; i++) {
		if (!is_valid(&program[i], count - 1 - i)) {
			return -EINVAL;
		}
	}
	return 0;
}

static uint32_t compute(unsigned op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return b == 0 ? 0 : a / b;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return a << (b & 31);
	default:
		return a >> (b & 31);
	}
}

static bool is_true(unsigned op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default:
		return (a & b) != 0;
	}
}

/* Jumps go forward only, and the last instruction returns: both are checked, so this ends. */
uint32_t seccomp_run(const struct seccomp_instruction *program, unsigned count,
		     const struct seccomp_call *call)
{
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};

	for (unsigned pc = 0; pc < count; pc++) {
		const struct seccomp_instruction *i = &program[pc];
		uint32_t source = BPF_SRC(i->code) == BPF_X ? x : i->k;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const uint8_t *)call + i->k, sizeof(a));
			break;
		case BPF_LD | BPF_W | BPF_LEN:
			a = sizeof(*call);
			break;
		case BPF_LDX | BPF_W | BPF_LEN:
			x = sizeof(*call);
			break;
		case BPF_LD | BPF_IMM:
			a = i->k;
			break;
		case BPF_LDX | BPF_IMM:
			x = i->k;
			break;
		case BPF_LD | BPF_MEM:
			a = memory[i->k];
			break;
		case BPF_LDX | BPF_MEM:
			x = memory[i->k];
			break;
		case BPF_ST:
			memory[i->k] = a;
			break;
		case BPF_STX:
			memory[i->k] = x;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_RET | BPF_A:
			return a;
		case BPF_MISC | BPF_TAX:
			x = a;
			break;
		case BPF_MISC | BPF_TXA:
			a = x;
			break;
		case BPF_ALU | BPF_NEG:
			a = -a;
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		default:
			if (BPF_CLASS(i->code) == BPF_JMP) {
				pc += is_true(BPF_OP(i->code), a, source) ? i->jt : i->jf;
			} else {
				a = compute(BPF_OP(i->code), a, source);
			}
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

int seccomp_add(struct seccomp *s, const struct seccomp_instruction *program, unsigned count)
{
	struct seccomp_filter *f, *before = atomic_load(&s->last);
	unsigned depth = 0;
	int error = seccomp_check(program, count);

	if (error != 0) {
		return error;
	}
	for (f = before; f != NULL; f = f->next) {
		depth++;
	}
	if (depth >= SECCOMP_FILTERS_MAX) {
		return -ENOMEM;
	}
	f = mem_alloc(filter_bytes(count));
	if (f == NULL) {
		return -ENOMEM;
	}
	f->refs = 1;
	f->count = count;
	memcpy(f->program, program, count * sizeof(*program));
	do {
		f->next = before;
	} while (!atomic_compare_exchange_strong(&s->last, &before, f));
	return 0;
}

static void trap(struct user_frame *frame, uint32_t data)
{
	frame->rax = frame->orig_rax;
	signal_force(&(struct signal_info){
		.signo = SIGSYS,
		.code = SYS_SECCOMP,
		.error = (int)data,
		.status = (int)frame->orig_rax,
		.address = frame->rip,
	});
	frame->orig_rax = ENTRY_NO_SYSCALL;
}

/* Stricter is smaller, as a signed number. */
static uint32_t strictest(const struct seccomp_filter *f, const struct seccomp_call *call)
{
	uint32_t answer = SECCOMP_RET_ALLOW;

	for (; f != NULL; f = f->next) {
		uint32_t r = seccomp_run(f->program, f->count, call);

		if ((int32_t)(r & SECCOMP_RET_ACTION_FULL) <
		    (int32_t)(answer & SECCOMP_RET_ACTION_FULL)) {
			answer = r;
		}
	}
	return answer;
}

__attribute__((noinline)) bool seccomp_allows(struct user_frame *frame)
{
	struct process *p = process_current();
	struct seccomp_filter *last = atomic_load_explicit(&p->seccomp.last, memory_order_acquire);
	struct seccomp_call call = {
		.number = (int32_t)frame->orig_rax,
		.arch = ARCH_X86_64,
		.rip = frame->rip,
		.argument = {frame->rdi, frame->rsi, frame->rdx, frame->r10, frame->r8, frame->r9},
	};
	uint32_t answer, data;

	if (last == NULL) {
		return true;
	}
	answer = strictest(last, &call);
	data = answer & SECCOMP_RET_DATA;
	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return true;
	case SECCOMP_RET_ERRNO:
		frame->rax = (uint64_t) - (int64_t)MIN(data, ERRNO_MAX);
		return false;
	case SECCOMP_RET_TRAP:
		trap(frame, data);
		return false;
	case SECCOMP_RET_TRACE:
		frame->rax = (uint64_t)-ENOSYS;
		return false;
	case SECCOMP_RET_KILL_THREAD:
		thread_end(SIGSYS);
	default:
		process_exit(p, SIGSYS);
		return false;
	}
}
