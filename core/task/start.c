#include "core/task/start.h"

#include <errno.h>
#include <string.h>

#include "core/boot/boot.h"
#include "core/hw/entry.h"
#include "core/hw/irq.h"
#include "core/kvm/kvm.h"
#include "core/log.h"
#include "core/panic.h"
#include "core/sys/console.h"
#include "core/sys/dev.h"
#include "core/sys/epoll.h"
#include "core/sys/fd.h"
#include "core/sys/proc.h"
#include "core/sys/socket.h"
#include "core/sys/tree.h"
#include "core/task/exec.h"
#include "core/task/futex.h"
#include "core/task/process.h"
#include "core/task/rseq.h"
#include "core/task/sched.h"
#include "core/task/upcall.h"
#include "core/task/work.h"

/* The CPU has work on the way back to ring 3. */
static void leave(struct user_frame *frame)
{
	sched_leave();
	if ((atomic_load(&cpu_this()->work) & CPU_WORK_ARRIVED) != 0) {
		atomic_fetch_and(&cpu_this()->work, ~CPU_WORK_ARRIVED);
		if (thread_current()->rseq != 0) {
			irq_on();
			/* An upcall is none of its business, but may move the thread. */
			(void)rseq_resume(thread_current()->upcall == NULL ? frame : NULL);
			irq_off();
		}
	}
	if ((atomic_load(&cpu_this()->work) & CPU_WORK_SIGNAL) != 0) {
		atomic_fetch_and(&cpu_this()->work, ~CPU_WORK_SIGNAL);
		irq_on();
		if (thread_current()->upcall == NULL) {
			signal_deliver(frame);
		} else if (signal_is_deadly()) {
			upcall_stop(UPCALL_KILLED);
		}
		irq_off();
	}
}

static void exception(struct user_frame *frame, const struct exception *e)
{
	upcall_stop(UPCALL_FAULT);
	signal_exception(frame, e);
}

static const struct entry_ops ops = {
	.exception = exception,
	.leave = leave,
};

void task_init(void)
{
	thread_init();
	process_init();
	futex_init();
	file_init();
	epoll_init();
	socket_init();
	entry_set_ops(&ops);
	if (sched_init_cpu() != 0) {
		refuse("there is no memory for the scheduler.");
	}
}

_Noreturn void task_start_cpu(void)
{
	irq_off();
	if (sched_init_cpu() != 0) {
		refuse("there is no memory for the scheduler.");
	}
	sched_idle();
}

static int open_console(struct fd_table *files)
{
	struct node *n;
	struct file *f;
	int error = tree_find(tree_root(), "/dev/console", 0, &n);

	if (error != 0) {
		return error;
	}
	error = node_open(n, FILE_READWRITE, &f);
	node_put(n);
	for (int fd = 0; error == 0 && fd < 3; fd++) {
		file_get(f);
		error = fd_replace(files, fd, f, false);
		error = error == fd ? 0 : error;
	}
	if (error == 0) {
		file_put(f);
	}
	return error;
}

/* Its name, and what the kernel's command line has for it. */
static int add_arguments(struct exec_strings *s, const char *path)
{
	const struct boot_options *o = boot_options();
	const char *word = o->arguments;
	int error = exec_strings_add(s, path, false);

	for (unsigned i = 0; i < o->argument_count && error == 0; i++) {
		error = exec_strings_add(s, word, false);
		word += strlen(word) + 1;
	}
	return error;
}

static int run_init(const char *path)
{
	static const char *const environment[] = {"HOME=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
						  "TERM=linux"};
	struct process *p = process_current();
	struct exec_strings s;
	struct node *program;
	int error;

	p->files = fd_table_create();
	if (p->files == NULL) {
		return -ENOMEM;
	}
	tree_set_cwd(p, tree_root());
	error = open_console(p->files);
	if (error == 0) {
		error = tree_find(tree_root(), path, 0, &program);
	}
	if (error != 0) {
		return error;
	}
	error = exec_strings_init(&s);
	if (error == 0) {
		error = add_arguments(&s, path);
		for (unsigned i = 0; i < ARRAY_SIZE(environment) && error == 0; i++) {
			error = exec_strings_add(&s, environment[i], true);
		}
		if (error == 0) {
			error = exec_program(program, path, &s);
		}
		exec_strings_fini(&s);
	}
	node_put(program);
	return error;
}

static void init_thread(void *arg)
{
	const char *path = arg;
	int error;

	thread_begin();
	error = run_init(path);
	if (error != 0) {
		refuse("the first program, '%s', cannot be started: %s.", path,
		       error == -ENOENT	   ? "it is not in the initramfs"
		       : error == -ENOEXEC ? "it is no static ELF program for x86-64"
		       : error == -EACCES  ? "it may not be executed"
					   : "there is not enough memory");
	}
	entry_to_user();
}

static void start_init(const char *path)
{
	struct process *p = process_create(NULL);
	struct thread *t =
		p != NULL ? thread_create(p, init_thread, (void *)(uintptr_t)path) : NULL;

	if (t == NULL || process_add_thread(p, t) != 0) {
		refuse("there is no memory for the first program.");
	}
	/* What it starts inherits that. */
	if (sched_set_affinity(t, ~boot_options()->isolated_cpus) != 0) {
		refuse("'isolcpus=' leaves no CPU for the first program.");
	}
	sched_start(t);
}

/* Things that sleep have a thread of their own: this CPU's first one must not. */
static void start_thread(void *arg)
{
	size_t len;
	const void *archive = boot_initramfs(&len);

	(void)arg;
	thread_begin();
	if (tree_init() != 0 || dev_init() != 0 || proc_init() != 0 || console_start() != 0 ||
	    (len != 0 && tree_load(archive, len) != 0) || tree_make_memory() != 0) {
		refuse("the file tree cannot be built.");
	}
	if (kvm_start() != 0) {
		log_notice("there is no /dev/kvm");
	}
	start_init(boot_options()->init);
	sched_end();
}

_Noreturn void task_start(void)
{
	if (work_start() != 0 || thread_create_kernel("start", start_thread, NULL) != 0) {
		refuse("there is no memory for threads.");
	}
	sched_idle();
}
