#include "soft/access.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "lib/base/types.h"
#include "soft/native.h"

/*
 * The only instructions that touch the VMM's memory. All functions here are leaves that keep
 * nothing on the stack, so that a fault anywhere between the two labels can go on at
 * soft_access_fault, which returns -EFAULT to the caller. CMPXCHG16B needs RBX, which is kept in
 * R8; soft_access_fault16 brings it back.
 */
__asm__(".pushsection .text\n"
	".globl soft_access_begin, soft_access_begin16, soft_access_end, soft_access_fault\n"
	".globl soft_access_xsavec, soft_access_xrstor, soft_access_fault16, soft_access_load8, "
	"soft_access_pkru, "
	"soft_copy_bytes, soft_access_same\n"
	".globl soft_fill1, soft_fill2, soft_fill4, soft_fill8\n"
	"soft_access_begin:\n"
	"soft_copy_bytes:\n" /* (to, from, bytes) */
	"	mov %rdx, %rcx\n"
	"	rep movsb\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	/* (to, value, count) */
	"soft_fill1: mov %rsi, %rax\n	mov %rdx, %rcx\n	rep stosb\n	xor %eax, "
	"%eax\n	ret\n"
	"soft_fill2: mov %rsi, %rax\n	mov %rdx, %rcx\n	rep stosw\n	xor %eax, "
	"%eax\n	ret\n"
	"soft_fill4: mov %rsi, %rax\n	mov %rdx, %rcx\n	rep stosl\n	xor %eax, "
	"%eax\n	ret\n"
	"soft_fill8: mov %rsi, %rax\n	mov %rdx, %rcx\n	rep stosq\n	xor %eax, "
	"%eax\n	ret\n"
	"soft_move1: movzbl (%rsi), %ecx\n	mov %cl, (%rdi)\n	xor %eax, %eax\n	"
	"ret\n"
	"soft_move2: movzwl (%rsi), %ecx\n	mov %cx, (%rdi)\n	xor %eax, %eax\n	"
	"ret\n"
	"soft_move4: mov (%rsi), %ecx\n	mov %ecx, (%rdi)\n	xor %eax, %eax\n	ret\n"
	"soft_access_load8:\n"
	"soft_move8: mov (%rsi), %rcx\n	mov %rcx, (%rdi)\n	xor %eax, %eax\n	ret\n"
	"soft_access_xsavec: mov %rsi, %rdx\n	mov %esi, %eax\n	shr $32, %rdx\n"
	"	xsavec64 (%rdi)\n	xor %eax, %eax\n	ret\n"
	"soft_access_xrstor: mov %rsi, %rdx\n	mov %esi, %eax\n	shr $32, %rdx\n"
	"	xrstor64 (%rdi)\n	xor %eax, %eax\n	ret\n"
	/* (area, place, pkru): bit 9 of XSTATE_BV and of XCOMP_BV */
	"soft_access_pkru:\n"
	"	orb $2, 521(%rdi)\n"
	"	test %edx, %edx\n	je 5f\n"
	"	orb $2, 513(%rdi)\n	mov %edx, (%rdi,%rsi)\n"
	"5:	xor %eax, %eax\n	ret\n"
	/* (at, bytes, count of 32) */
	"soft_access_same:\n"
	"3:	mov (%rdi), %rax\n	mov 8(%rdi), %rcx\n"
	"	mov 16(%rdi), %r8\n	mov 24(%rdi), %r9\n"
	"	xor (%rsi), %rax\n	xor 8(%rsi), %rcx\n"
	"	xor 16(%rsi), %r8\n	xor 24(%rsi), %r9\n"
	"	or %rcx, %rax\n	or %r9, %r8\n	or %r8, %rax\n	jne 4f\n"
	"	add $32, %rdi\n	add $32, %rsi\n	dec %rdx\n	jnz 3b\n"
	"	xor %eax, %eax\n	ret\n"
	"4:	mov $1, %eax\n	ret\n"
	/* (at, bytes) */
	"soft_equal16: movdqu (%rdi), %xmm0\n	movdqu (%rsi), %xmm1\n"
	"	pcmpeqb %xmm1, %xmm0\n	pmovmskb %xmm0, %eax\n	ret\n"
	/* (at, old, new): what differs is told by ZF */
	"soft_cas1: mov (%rsi), %al\n	mov (%rdx), %cl\n"
	"	lock cmpxchg %cl, (%rdi)\n	jmp 1f\n"
	"soft_cas2: mov (%rsi), %ax\n	mov (%rdx), %cx\n"
	"	lock cmpxchg %cx, (%rdi)\n	jmp 1f\n"
	"soft_cas4: mov (%rsi), %eax\n	mov (%rdx), %ecx\n"
	"	lock cmpxchg %ecx, (%rdi)\n	jmp 1f\n"
	"soft_cas8: mov (%rsi), %rax\n	mov (%rdx), %rcx\n"
	"	lock cmpxchg %rcx, (%rdi)\n"
	"1:	mov $0, %eax\n"
	"	je 2f\n"
	"	mov $-11, %eax\n" /* -EAGAIN */
	"2:	ret\n"
	"soft_access_begin16:\n"
	"soft_cas16:\n"
	"	mov %rbx, %r8\n"
	"	mov %rdx, %r9\n"
	"	mov (%rsi), %rax\n"
	"	mov 8(%rsi), %rdx\n"
	"	mov (%r9), %rbx\n"
	"	mov 8(%r9), %rcx\n"
	"	lock cmpxchg16b (%rdi)\n"
	"	mov %r8, %rbx\n"
	"	jmp 1b\n"
	"soft_access_end:\n"
	"soft_access_fault16:\n"
	"	mov %r8, %rbx\n"
	"soft_access_fault:\n"
	"	mov $-14, %eax\n" /* -EFAULT */
	"	ret\n"
	".popsection\n");

_Static_assert(EAGAIN == 11 && EFAULT == 14, "the numbers above");

extern const char soft_access_begin[], soft_access_begin16[], soft_access_end[];
extern const char soft_access_fault[], soft_access_fault16[];

int soft_move1(void *to, const void *from);
int soft_move2(void *to, const void *from);
int soft_move4(void *to, const void *from);
int soft_move8(void *to, const void *from);
int soft_equal16(const void *at, const void *bytes);
int soft_cas1(void *at, const void *old, const void *new);
int soft_cas2(void *at, const void *old, const void *new);
int soft_cas4(void *at, const void *old, const void *new);
int soft_cas8(void *at, const void *old, const void *new);
int soft_cas16(void *at, const void *old, const void *new);

/* Those of accesses, and those of instructions that were not ours. */
static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[ARRAY_SIZE(numbers)];

static bool (*asked)(int number, void *context);

static struct sigaction *before_of(int number)
{
	unsigned i = 0;

	while (i + 1 < ARRAY_SIZE(numbers) && numbers[i] != number) {
		i++;
	}
	return &before[i];
}

/* A fault of somebody else's: as if this handler did not exist. */
static void pass_on(int number, siginfo_t *info, void *context)
{
	struct sigaction *old = before_of(number);

	if ((old->sa_flags & SA_SIGINFO) != 0) {
		old->sa_sigaction(number, info, context);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(number);
	} else {
		/* The instruction faults again, or the signal is sent anew, and ends the process.
		 */
		sigaction(number, old, NULL);
		if (info->si_code <= 0) {
			raise(number);
		}
	}
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	const char *at = (const char *)(uintptr_t)*rip;

	if (info->si_code > 0 && at >= soft_access_begin && at < soft_access_end) {
		*rip = (greg_t)(uintptr_t)(at >= soft_access_begin16 ? soft_access_fault16
								     : soft_access_fault);
		return;
	}
	if (info->si_code > 0 &&
	    (soft_native_trap(context) || (asked != NULL && asked(number, context)))) {
		return;
	}
	pass_on(number, info, context);
}

static int installed;

static void install(void)
{
	struct sigaction action = {
		.sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};

	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers) && installed == 0; i++) {
		if (sigaction(numbers[i], &action, &before[i]) != 0) {
			installed = -errno;
		}
	}
}

void soft_access_hook(bool (*hook)(int number, void *context))
{
	asked = hook;
}

int soft_access_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
	return installed;
}

int soft_access_copy(void *to, const void *from, size_t bytes)
{
	return soft_copy_bytes(to, from, bytes);
}

static int move(void *to, const void *from, size_t bytes)
{
	switch (bytes) {
	case 1:
		return soft_move1(to, from);
	case 2:
		return soft_move2(to, from);
	case 4:
		return soft_move4(to, from);
	case 8:
		return soft_move8(to, from);
	default:
		return soft_copy_bytes(to, from, bytes);
	}
}

int soft_access_load(void *to, const void *from, size_t bytes)
{
	return move(to, from, bytes);
}

int soft_access_store(void *to, const void *from, size_t bytes)
{
	return move(to, from, bytes);
}

int soft_access_equal16(const void *at, const void *bytes)
{
	return soft_equal16(at, bytes);
}

int soft_access_cmpxchg(void *at, const void *old, const void *new, unsigned bytes)
{
	switch (bytes) {
	case 1:
		return soft_cas1(at, old, new);
	case 2:
		return soft_cas2(at, old, new);
	case 4:
		return soft_cas4(at, old, new);
	case 8:
		return soft_cas8(at, old, new);
	case 16:
		return (uintptr_t)at % 16 != 0 ? -EINVAL : soft_cas16(at, old, new);
	default:
		return -EINVAL;
	}
}

int soft_access_fill(void *to, uint64_t value, unsigned bytes, size_t count)
{
	switch (bytes) {
	case 1:
		return soft_fill1(to, value, count);
	case 2:
		return soft_fill2(to, value, count);
	case 4:
		return soft_fill4(to, value, count);
	default:
		return soft_fill8(to, value, count);
	}
}
