/*
 * What lies on ring 3's stack while a handler runs. From high addresses down: the red zone, the
 * extended state (64-aligned, with Linux's marks in its software bytes), struct frame.
 *
 * Spec: Linux <asm/sigcontext.h>, <asm/ucontext.h>; System V ABI AMD64, 3.4.1 "red zone"
 */
#include <asm/signal.h>
#include <errno.h>
#include <string.h>

#include "core/hw/context.h"
#include "core/hw/cpu.h"
#include "core/hw/entry.h"
#include "core/hw/regs.h"
#include "core/hw/user.h"
#include "core/mem/heap.h"
#include "core/task/process.h"
#include "core/task/signal.h"

#define RED_ZONE 128
#define FXSAVE_BYTES 512

#define FP_MAGIC1	 0x46505853
#define FP_MAGIC2	 0x46505845
#define FP_SOFTWARE	 464 /* where the software bytes are in the FXSAVE area */
#define UC_FP_XSTATE	 0x1
#define UC_SIGCONTEXT_SS 0x2
#define UC_STRICT_SS	 0x4
#define SS_ONSTACK	 1
#define SS_DISABLE	 2
#define SS_AUTODISARM	 (1u << 31)

/* As struct rt_sigframe of Linux on x86-64. */
struct frame {
	uint64_t restorer; /* the handler's return address */
	/* struct ucontext */
	uint64_t uc_flags, uc_link;
	uint64_t stack_sp;
	int32_t stack_flags, stack_pad;
	uint64_t stack_size;
	/* struct sigcontext */
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
	uint16_t cs, gs, fs, ss;
	uint64_t error, vector, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
	uint64_t sigmask;
	uint8_t info[SIGINFO_BYTES];
};

_Static_assert(offsetof(struct frame, r8) == 8 + 40, "struct ucontext");
_Static_assert(offsetof(struct frame, sigmask) == 8 + 40 + 256, "struct sigcontext");

/* As struct _fpx_sw_bytes. */
struct fp_software {
	uint32_t magic1, extended_size;
	uint64_t features;
	uint32_t xstate_size;
	uint32_t pad[7];
};

static bool on_alt_stack(const struct thread *t, uint64_t sp)
{
	return sp > t->alt_stack.sp && sp - t->alt_stack.sp <= t->alt_stack.size;
}

static uint64_t choose_stack(const struct thread *t, const struct user_frame *f,
			     const struct signal_action *action)
{
	if ((action->flags & SA_ONSTACK) != 0 && t->alt_stack.size != 0 &&
	    !on_alt_stack(t, f->rsp)) {
		return t->alt_stack.sp + t->alt_stack.size;
	}
	return f->rsp - RED_ZONE;
}

/* The extended state, with marks that say how much of it there is. Return: 0 or -EFAULT. */
static int push_fpu(struct thread *t, uint64_t at)
{
	size_t bytes = fpu_area_bytes();
	struct fp_software marks = {
		.magic1 = FP_MAGIC1,
		.extended_size = (uint32_t)bytes + 4,
		.features = cpu_features()->xcr0,
		.xstate_size = (uint32_t)bytes,
	};

	user_state_save(&t->user);
	if (user_write(at, t->user.xsave, bytes) != 0 || user_put32(at + bytes, FP_MAGIC2) != 0) {
		return -EFAULT;
	}
	return user_write(at + FP_SOFTWARE, &marks, sizeof(marks));
}

static void fill(struct frame *out, const struct thread *t, const struct user_frame *f)
{
	out->uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_SS;
	out->stack_sp = t->alt_stack.sp;
	out->stack_size = t->alt_stack.size;
	out->stack_flags = t->alt_stack.size == 0 ? SS_DISABLE : t->alt_stack.flags;
	out->r8 = f->r8;
	out->r9 = f->r9;
	out->r10 = f->r10;
	out->r11 = f->r11;
	out->r12 = f->r12;
	out->r13 = f->r13;
	out->r14 = f->r14;
	out->r15 = f->r15;
	out->rdi = f->rdi;
	out->rsi = f->rsi;
	out->rbp = f->rbp;
	out->rbx = f->rbx;
	out->rdx = f->rdx;
	out->rax = f->rax;
	out->rcx = f->rcx;
	out->rsp = f->rsp;
	out->rip = f->rip;
	out->rflags = f->rflags;
	out->cs = (uint16_t)f->cs;
	out->ss = (uint16_t)f->ss;
	out->error = t->fault_error;
	out->vector = t->fault_vector;
}

int signal_frame_push(struct user_frame *f, const struct signal_info *info,
		      const struct signal_action *action, uint64_t blocked)
{
	struct thread *t = thread_current();
	uint64_t sp = choose_stack(t, f, action);
	uint64_t fp = ALIGN_DOWN(sp - fpu_area_bytes() - 4, UINT64_C(64));
	uint64_t at = ALIGN_DOWN(fp - sizeof(struct frame), UINT64_C(16)) - 8;
	struct frame out = {.restorer = action->restorer, .sigmask = blocked, .oldmask = blocked};

	if (!user_range_ok(at, sp - at) || (action->flags & SA_RESTORER) == 0) {
		return -EFAULT;
	}
	fill(&out, t, f);
	out.cr2 = info->signo == SIGSEGV || info->signo == SIGBUS ? info->address : 0;
	out.fpstate = fp;
	signal_info_pack(info, out.info);
	if (push_fpu(t, fp) != 0 || user_write(at, &out, sizeof(out)) != 0) {
		return -EFAULT;
	}
	if ((t->alt_stack.flags & (int)SS_AUTODISARM) != 0) {
		t->alt_stack = (struct alt_stack){0};
	}
	f->rdi = (uint64_t)info->signo;
	f->rsi = at + offsetof(struct frame, info);
	f->rdx = at + offsetof(struct frame, uc_flags);
	f->rax = 0;
	f->rip = action->handler;
	f->rsp = at;
	f->rflags &= ~(RFLAGS_DF | RFLAGS_TF | BIT(16));
	f->cs = USER_CS;
	f->ss = USER_DS;
	f->orig_rax = ENTRY_NO_SYSCALL;
	return 0;
}

static int pop_fpu(struct thread *t, uint64_t at)
{
	uint64_t xcr0 = cpu_features()->xcr0;
	size_t bytes = fpu_area_bytes();
	struct fp_software marks;
	uint8_t *area;
	uint32_t magic2;
	int error = -EFAULT;

	if (at == 0) {
		fpu_init_area(t->user.xsave);
		user_state_load(&t->user);
		return 0;
	}
	area = mem_alloc(bytes + 64);
	if (area == NULL) {
		return -EFAULT;
	}
	if (user_read(&marks, at + FP_SOFTWARE, sizeof(marks)) == 0) {
		bool extended = marks.magic1 == FP_MAGIC1 && marks.xstate_size == bytes &&
				user_get32(at + bytes, &magic2) == 0 && magic2 == FP_MAGIC2;

		fpu_init_area(area);
		if (user_read(area, at, extended ? bytes : FXSAVE_BYTES) == 0 &&
		    fpu_area_is_valid(area, xcr0)) {
			uint64_t legacy = 3;

			if (!extended && cpu_features()->xsave) {
				memcpy(area + FXSAVE_BYTES, &legacy, sizeof(legacy));
			}
			memcpy(t->user.xsave, area, bytes);
			user_state_load(&t->user);
			error = 0;
		}
	}
	mem_free(area, bytes + 64);
	return error;
}

int signal_frame_pop(struct user_frame *f, uint64_t *blocked)
{
	struct thread *t = thread_current();
	struct frame in;

	/* The handler's RET has taken the return address off. */
	if (user_read(&in, f->rsp - 8, sizeof(in)) != 0 || !user_range_ok(in.rip, 1)) {
		return -EFAULT;
	}
	f->r8 = in.r8;
	f->r9 = in.r9;
	f->r10 = in.r10;
	f->r11 = in.r11;
	f->r12 = in.r12;
	f->r13 = in.r13;
	f->r14 = in.r14;
	f->r15 = in.r15;
	f->rdi = in.rdi;
	f->rsi = in.rsi;
	f->rbp = in.rbp;
	f->rbx = in.rbx;
	f->rdx = in.rdx;
	f->rax = in.rax;
	f->rcx = in.rcx;
	f->rsp = in.rsp;
	f->rip = in.rip;
	f->rflags = (in.rflags & USER_RFLAGS_MASK) | RFLAGS_IF | BIT(1);
	f->cs = USER_CS;
	f->ss = USER_DS;
	f->orig_rax = ENTRY_NO_SYSCALL;
	if ((in.stack_flags & SS_DISABLE) == 0) {
		t->alt_stack = (struct alt_stack){in.stack_sp, in.stack_size,
						  in.stack_flags & (int)SS_AUTODISARM};
	} else {
		t->alt_stack = (struct alt_stack){0};
	}
	*blocked = in.sigmask;
	return pop_fpu(t, in.fpstate);
}
