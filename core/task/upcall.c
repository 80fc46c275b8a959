#include "core/task/upcall.h"

#include "core/hw/entry.h"
#include "core/hw/irq.h"
#include "core/sys/syscall.h"

static _Noreturn void end(struct upcall *u, enum upcall_end how)
{
	struct thread *t = thread_current();

	irq_off();
	t->upcall = NULL;
	upcall_load(t);
	/* Signals that had to wait are work of this CPU's again. */
	if (atomic_load(&t->signal_pending)) {
		atomic_fetch_or(&cpu_this()->work, CPU_WORK_SIGNAL);
	}
	entry_nested_end(u->sp, how);
}

static bool serve(struct user_frame *frame)
{
	struct upcall *u = thread_current()->upcall;

	if (!u->serve(u, frame)) {
		end(u, UPCALL_DONE);
	}
	return true;
}

void upcall_load(const struct thread *t)
{
	cpu_set_doors(t->upcall != NULL ? t->upcall->stack : t->stack_top,
		      t->upcall != NULL ? serve : syscall_enter);
}

void entry_nested_begin(void)
{
	upcall_load(thread_current());
}

enum upcall_end upcall_run(struct upcall *u, uint64_t rip, uint64_t rsp, uint64_t argument)
{
	struct thread *t = thread_current();
	unsigned how;

	irq_off();
	t->upcall = u;
	how = entry_nested(rip, rsp, argument, &u->sp, &u->stack);
	irq_on();
	return how;
}

void upcall_stop(enum upcall_end how)
{
	struct upcall *u = thread_current()->upcall;

	if (u != NULL) {
		end(u, how);
	}
}
