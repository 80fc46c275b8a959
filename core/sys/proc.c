#include "core/sys/proc.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <string.h>

#include "core/format.h"
#include "core/hw/clock.h"
#include "core/hw/cpu.h"
#include "core/mem/heap.h"
#include "core/mem/kmap.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "core/sys/fd.h"
#include "core/sys/tree.h"
#include "core/task/process.h"
#include "core/task/sched.h"

#define NUMBER_MAX 16

/* Texts of the machine. */

static int64_t meminfo_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)format(buf, size,
			       "MemTotal:       %8lu kB\nMemFree:        %8lu kB\n"
			       "MemAvailable:   %8lu kB\n",
			       page_total() * 4, page_used(PAGE_USE_FREE) * 4,
			       page_used(PAGE_USE_FREE) * 4);
}

static int64_t cpuinfo_text(struct node *n, char *buf, size_t size)
{
	const struct cpu_features *f = cpu_features();
	size_t len = 0;

	(void)n;
	for (unsigned i = 0; i < cpu_count() && len < size; i++) {
		len += format(buf + len, size - len,
			      "processor\t: %u\nvendor_id\t: %s\ncpu MHz\t\t: %lu.000\n"
			      "flags\t\t: fpu lm nx%s%s%s\n\n",
			      i, f->vendor, clock_tsc_khz() / 1000, f->svm ? " svm" : "",
			      f->npt ? " npt" : "", f->nrips ? " nrip_save" : "");
	}
	return (int64_t)len;
}

static int64_t cpus_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)(cpu_count() == 1 ? format(buf, size, "0\n")
					  : format(buf, size, "0-%u\n", cpu_count() - 1));
}

static int64_t huge_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)format(buf, size, "[always] within_size advise never deny force\n");
}

static int64_t huge_size_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)format(buf, size, "%lu\n", PAGE_SIZE << PAGE_ORDER_BLOCK);
}

static int64_t version_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)format(buf, size, "Yado core version %s\n", YADO_VERSION);
}

static int64_t uptime_text(struct node *n, char *buf, size_t size)
{
	uint64_t s = clock_now_ns() / 1000000000;

	(void)n;
	return (int64_t)format(buf, size, "%lu.00 0.00\n", s);
}

static int64_t mounts_text(struct node *n, char *buf, size_t size)
{
	(void)n;
	return (int64_t)format(buf, size, "initramfs / rootfs ro 0 0\ntmpfs /tmp tmpfs rw 0 0\n");
}

/* What the kernel has given out, so that leaks show. */

static int64_t vmstat_text(struct node *n, char *buf, size_t size)
{
	static const char *const name[] = {
		[PAGE_USE_FREE] = "free",   [PAGE_USE_BOOT] = "boot",	[PAGE_USE_TABLE] = "table",
		[PAGE_USE_STACK] = "stack", [PAGE_USE_HEAP] = "heap",	[PAGE_USE_NODE] = "node",
		[PAGE_USE_USER] = "user",   [PAGE_USE_FILE] = "file",	[PAGE_USE_SVM] = "svm",
		[PAGE_USE_KVM] = "kvm",	    [PAGE_USE_OTHER] = "other",
	};
	size_t len = 0;

	(void)n;
	_Static_assert(ARRAY_SIZE(name) == PAGE_USE_COUNT, "a name for each use");
	for (unsigned i = 0; i < PAGE_USE_COUNT && len < size; i++) {
		len += format(buf + len, size - len, "nr_%s_pages %lu\n", name[i], page_used(i));
	}
	if (len < size) {
		len += format(buf + len, size - len, "nr_kernel_stacks %lu\n", kmap_stacks());
	}
	return (int64_t)len;
}

static size_t interrupts_row(char *buf, size_t size, bool timer)
{
	size_t len = format(buf, size, "%s:", timer ? "LOC" : "OTH");

	for (unsigned i = 0; i < cpu_count() && len < size; i++) {
		const struct cpu *c = cpu_by_index(i);

		len += format(buf + len, size - len, " %10lu",
			      timer ? c->timer_irqs : c->irqs - c->timer_irqs);
	}
	return len + (len < size ? format(buf + len, size - len, "   %s interrupts\n",
					  timer ? "Local timer" : "Other")
				 : 0);
}

/* Of Linux's rows only that of the timer; all others are one. */
static int64_t interrupts_text(struct node *n, char *buf, size_t size)
{
	size_t len = format(buf, size, "   ");

	(void)n;
	for (unsigned i = 0; i < cpu_count() && len < size; i++) {
		len += format(buf + len, size - len, "        CPU%u", i);
	}
	len += len < size ? format(buf + len, size - len, "\n") : 0;
	len += len < size ? interrupts_row(buf + len, size - len, true) : 0;
	len += len < size ? interrupts_row(buf + len, size - len, false) : 0;
	return (int64_t)len;
}

struct text {
	char *buf;
	size_t len, size;
};

static void add_heap(void *ctx, const char *name, size_t bytes, uint64_t used)
{
	struct text *t = ctx;

	if (t->len < t->size) {
		t->len += format(t->buf + t->len, t->size - t->len, "%s %lu %lu\n", name, used,
				 bytes);
	}
}

static int64_t slabinfo_text(struct node *n, char *buf, size_t size)
{
	struct text t = {.buf = buf, .size = size};

	(void)n;
	t.len = format(buf, size, "# name <active_objs> <objsize>\n");
	heap_each(add_heap, &t);
	return (int64_t)t.len;
}

/* /proc/PID. Nodes are made anew each time; `argument` is the process's number. */

static int64_t comm_text(struct node *n, char *buf, size_t size)
{
	struct thread *t = thread_find((int)n->argument);
	int64_t len;

	if (t == NULL) {
		return -ESRCH;
	}
	len = (int64_t)format(buf, size, "%s\n", t->name);
	thread_put(t);
	return len;
}

static int64_t status_text(struct node *n, char *buf, size_t size)
{
	struct process *p = process_find((int)n->argument);
	int64_t len;

	if (p == NULL) {
		return -ESRCH;
	}
	spin_take(&task_lock);
	len = (int64_t)format(buf, size,
			      "State:\t%s\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nThreads:\t%u\n"
			      "NoNewPrivs:\t%u\nSeccomp:\t%u\n",
			      p->is_zombie ? "Z (zombie)"
			      : p->stopped ? "T (stopped)"
					   : "S (sleeping)",
			      p->pid, p->pid, p->parent != NULL ? p->parent->pid : 0,
			      p->thread_count, p->seccomp.no_new_privileges ? 1U : 0U,
			      atomic_load_explicit(&p->seccomp.last, memory_order_relaxed) != NULL
				      ? SECCOMP_MODE_FILTER
				      : 0U);
	spin_give(&task_lock);
	process_put(p);
	return len;
}

/* Spec: Linux Documentation/scheduler/sched-stats.rst */
static int64_t schedstat_text(struct node *n, char *buf, size_t size)
{
	struct thread *t = thread_find((int)n->argument);
	struct sched_times times;

	if (t == NULL) {
		return -ESRCH;
	}
	times = sched_times(t);
	thread_put(t);
	return (int64_t)format(buf, size, "%lu %lu %lu\n", times.run_ns, times.wait_ns,
			       times.turns);
}

/* The first thread's name and the numbers that ps and pidof look at; the other fields are 0. */
static int64_t stat_text(struct node *n, char *buf, size_t size)
{
	struct process *p = process_find((int)n->argument);
	struct thread *t = thread_find((int)n->argument);
	int64_t len = -ESRCH;

	if (p != NULL) {
		spin_take(&task_lock);
		uint64_t ticks = p->dead_ns / 10000000;
		len = (int64_t)format(buf, size,
				      "%d (%s) %c %d %d %d 0 -1 0 0 0 0 0 %lu 0 0 0 20 0 %u",
				      p->pid, t != NULL ? t->name : "",
				      p->is_zombie ? 'Z'
				      : p->stopped ? 'T'
						   : 'S',
				      p->parent != NULL ? p->parent->pid : 0, p->group, p->session,
				      ticks, p->thread_count);
		spin_give(&task_lock);
		for (unsigned i = 21; i <= 52 && len < (int64_t)size; i++) {
			len += (int64_t)format(buf + len, size - (size_t)len, " 0");
		}
		len += (int64_t)format(buf + len, size - (size_t)len, "\n");
		process_put(p);
	}
	if (t != NULL) {
		thread_put(t);
	}
	return len;
}

/* Only one's own: another's memory could go away meanwhile. */
static int64_t cmdline_text(struct node *n, char *buf, size_t size)
{
	struct process *p = process_current();
	uint64_t len = MIN(p->arguments_end - p->arguments, (uint64_t)size - 1);

	if ((int)n->argument != p->pid) {
		return 0;
	}
	return space_read(p->space, buf, p->arguments, len) != 0 ? -EFAULT : (int64_t)len;
}

static void add_map(void *ctx, uint64_t va, uint64_t len, unsigned prot, unsigned flags,
		    uint64_t offset)
{
	struct text *m = ctx;

	if (m->len + 80 < m->size) {
		m->len += format(
			m->buf + m->len, m->size - m->len, "%lx-%lx %c%c%c%c %08lx 00:00 0\n", va,
			va + len, (prot & SPACE_READ) != 0 ? 'r' : '-',
			(prot & SPACE_WRITE) != 0 ? 'w' : '-', (prot & SPACE_EXEC) != 0 ? 'x' : '-',
			(flags & SPACE_SHARED) != 0 ? 's' : 'p', offset);
	}
}

static int64_t maps_text(struct node *n, char *buf, size_t size)
{
	struct text m = {.buf = buf, .size = size};

	if ((int)n->argument == process_current()->pid) {
		space_each(process_current()->space, add_map, &m);
	}
	return (int64_t)m.len;
}

static int exe_link(struct node *n, char *target, size_t size)
{
	struct process *p = process_find((int)n->argument);
	struct node *exe;
	int len;

	if (p == NULL) {
		return -ESRCH;
	}
	/* The tree's lock is held; the path is put together here, from the end. */
	exe = p->exe;
	len = exe != NULL ? tree_path_locked(exe, target, size) : -ENOENT;
	process_put(p);
	return len < 0 ? len : 0;
}

struct fd_target {
	char *text;
	size_t size;
	int len;
};

/* Where a descriptor leads: a path, or a word for what has none. */
static void describe_file(void *ctx, struct file *f)
{
	struct fd_target *t = ctx;

	if (f->node != NULL) {
		t->len = tree_path_locked(f->node, t->text, t->size);
	}
	if (t->len < 0) {
		t->len = (int)format(t->text, t->size, "%s",
				     f->ops->name != NULL ? f->ops->name : "anon_inode:[file]");
	}
}

static int fd_link(struct node *n, char *target, size_t size)
{
	struct fd_target t = {target, size, -ENOENT};

	fd_inspect(process_current()->files, (int)n->argument, describe_file, &t);
	return t.len < 0 ? t.len : 0;
}

static const struct node_ops fd_ops = {.link = fd_link};

static struct node *make(struct node *dir, uint32_t mode, const struct node_ops *ops,
			 uint64_t argument)
{
	struct node *n = node_create(mode);

	if (n != NULL) {
		n->ops = ops;
		n->argument = argument;
		n->parent = dir;
		n->links = 1;
		node_get(dir);
	}
	return n;
}

/* Return: the number that a name is, or -1. */
static int number_of(const char *name, size_t len)
{
	int value = 0;

	if (len == 0 || len > 7) {
		return -1;
	}
	for (size_t i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9') {
			return -1;
		}
		value = value * 10 + (name[i] - '0');
	}
	return value;
}

static int fds_lookup(struct node *dir, const char *name, size_t len, struct node **out)
{
	int fd = number_of(name, len);

	if (fd < 0 || (int)dir->argument != process_current()->pid ||
	    fd_is_marked(process_current()->files, fd) < 0) {
		return -ENOENT;
	}
	*out = make(dir, NODE_LINK | 0700, &fd_ops, (uint64_t)fd);
	return *out != NULL ? 0 : -ENOMEM;
}

static int fds_list(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1], uint32_t *mode)
{
	int fd = (int)dir->argument == process_current()->pid && *index < FD_MAX
			 ? fd_next(process_current()->files, (int)*index)
			 : -ENOENT;

	if (fd < 0) {
		return -ENOENT;
	}
	format(name, NUMBER_MAX, "%d", fd);
	*mode = NODE_LINK;
	*index = (uint64_t)fd + 1;
	return 0;
}

static const struct node_ops fds_ops = {.lookup = fds_lookup, .list = fds_list};

static const struct node_ops tid_ops;

static bool belongs(int tid, uint64_t pid)
{
	struct thread *t = thread_find(tid);
	bool yes = t != NULL && t->process != NULL && t->process->pid == (int)pid;

	if (t != NULL) {
		thread_put(t);
	}
	return yes;
}

static int tasks_lookup(struct node *dir, const char *name, size_t len, struct node **out)
{
	int tid = number_of(name, len);

	if (tid < 0 || !belongs(tid, dir->argument)) {
		return -ENOENT;
	}
	*out = make(dir, NODE_DIR | 0555, &tid_ops, (uint64_t)tid);
	return *out != NULL ? 0 : -ENOMEM;
}

static int tasks_list(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1],
		      uint32_t *mode)
{
	for (uint64_t tid = *index; tid < TID_MAX; tid++) {
		if (belongs((int)tid, dir->argument)) {
			format(name, NUMBER_MAX, "%d", (int)tid);
			*mode = NODE_DIR;
			*index = tid + 1;
			return 0;
		}
	}
	return -ENOENT;
}

static const struct node_ops tasks_ops = {.lookup = tasks_lookup, .list = tasks_list};
static const struct node_ops comm_ops = {.text = comm_text};
static const struct node_ops schedstat_ops = {.text = schedstat_text};
static const struct node_ops stat_ops = {.text = stat_text};
static const struct node_ops status_ops = {.text = status_text};
static const struct node_ops cmdline_ops = {.text = cmdline_text};
static const struct node_ops maps_ops = {.text = maps_text};
static const struct node_ops exe_ops = {.link = exe_link};

/* What each process has; threads have the first ones. */
static const struct {
	const char *name;
	uint32_t mode;
	const struct node_ops *ops;
} of_process[] = {
	{"comm", NODE_FILE | 0444, &comm_ops},
	{"schedstat", NODE_FILE | 0444, &schedstat_ops},
	{"stat", NODE_FILE | 0444, &stat_ops},
	{"status", NODE_FILE | 0444, &status_ops},
	{"cmdline", NODE_FILE | 0444, &cmdline_ops},
	{"maps", NODE_FILE | 0444, &maps_ops},
	{"exe", NODE_LINK | 0777, &exe_ops},
	{"fd", NODE_DIR | 0500, &fds_ops},
	{"task", NODE_DIR | 0555, &tasks_ops},
};
#define OF_THREAD 2

static int entry_lookup(struct node *dir, const char *name, size_t len, struct node **out,
			unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (strlen(of_process[i].name) == len &&
		    memcmp(of_process[i].name, name, len) == 0) {
			*out = make(dir, of_process[i].mode, of_process[i].ops, dir->argument);
			return *out != NULL ? 0 : -ENOMEM;
		}
	}
	return -ENOENT;
}

static int pid_lookup(struct node *dir, const char *name, size_t len, struct node **out)
{
	return entry_lookup(dir, name, len, out, ARRAY_SIZE(of_process));
}

static int tid_lookup(struct node *dir, const char *name, size_t len, struct node **out)
{
	return entry_lookup(dir, name, len, out, OF_THREAD);
}

static int entry_list(uint64_t *index, char name[NODE_NAME_MAX + 1], uint32_t *mode, unsigned count)
{
	if (*index >= count) {
		return -ENOENT;
	}
	format(name, NUMBER_MAX, "%s", of_process[*index].name);
	*mode = of_process[*index].mode & NODE_TYPE;
	++*index;
	return 0;
}

static int pid_list(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1], uint32_t *mode)
{
	(void)dir;
	return entry_list(index, name, mode, ARRAY_SIZE(of_process));
}

static int tid_list(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1], uint32_t *mode)
{
	(void)dir;
	return entry_list(index, name, mode, OF_THREAD);
}

static const struct node_ops pid_ops = {.lookup = pid_lookup, .list = pid_list};
static const struct node_ops tid_ops = {.lookup = tid_lookup, .list = tid_list};

static bool is_process(int pid)
{
	struct process *p = process_find(pid);

	if (p != NULL) {
		process_put(p);
	}
	return p != NULL;
}

static int proc_lookup(struct node *dir, const char *name, size_t len, struct node **out)
{
	int pid = number_of(name, len);

	if (pid <= 0 || !is_process(pid)) {
		return -ENOENT;
	}
	*out = make(dir, NODE_DIR | 0555, &pid_ops, (uint64_t)pid);
	return *out != NULL ? 0 : -ENOMEM;
}

static int proc_list(struct node *dir, uint64_t *index, char name[NODE_NAME_MAX + 1],
		     uint32_t *mode)
{
	(void)dir;
	for (uint64_t pid = MAX(*index, 1); pid < TID_MAX; pid++) {
		if (is_process((int)pid)) {
			format(name, NUMBER_MAX, "%d", (int)pid);
			*mode = NODE_DIR;
			*index = pid + 1;
			return 0;
		}
	}
	return -ENOENT;
}

static int self_link(struct node *n, char *target, size_t size)
{
	(void)n;
	format(target, size, "%d", process_current()->pid);
	return 0;
}

static const struct node_ops proc_ops = {.lookup = proc_lookup, .list = proc_list};
static const struct node_ops self_ops = {.link = self_link};
static const struct node_ops vmstat_ops = {.text = vmstat_text};
static const struct node_ops slabinfo_ops = {.text = slabinfo_text};
static const struct node_ops meminfo_ops = {.text = meminfo_text};
static const struct node_ops cpuinfo_ops = {.text = cpuinfo_text};
static const struct node_ops cpus_ops = {.text = cpus_text};
static const struct node_ops huge_ops = {.text = huge_text};
static const struct node_ops huge_size_ops = {.text = huge_size_text};
static const struct node_ops version_ops = {.text = version_text};
static const struct node_ops uptime_ops = {.text = uptime_text};
static const struct node_ops interrupts_ops = {.text = interrupts_text};
static const struct node_ops mounts_ops = {.text = mounts_text};

int proc_init(void)
{
	static const struct {
		const char *path;
		uint32_t mode;
		const struct node_ops *ops;
	} entry[] = {
		{"/proc", NODE_DIR | 0555, &proc_ops},
		{"/proc/self", NODE_LINK | 0777, &self_ops},
		{"/proc/meminfo", NODE_FILE | 0444, &meminfo_ops},
		{"/proc/cpuinfo", NODE_FILE | 0444, &cpuinfo_ops},
		{"/proc/version", NODE_FILE | 0444, &version_ops},
		{"/proc/uptime", NODE_FILE | 0444, &uptime_ops},
		{"/proc/vmstat", NODE_FILE | 0444, &vmstat_ops},
		{"/proc/slabinfo", NODE_FILE | 0444, &slabinfo_ops},
		{"/proc/interrupts", NODE_FILE | 0444, &interrupts_ops},
		{"/proc/mounts", NODE_FILE | 0444, &mounts_ops},
		{"/sys", NODE_DIR | 0555, NULL},
		{"/sys/devices", NODE_DIR | 0555, NULL},
		{"/sys/devices/system", NODE_DIR | 0555, NULL},
		{"/sys/devices/system/cpu", NODE_DIR | 0555, NULL},
		{"/sys/devices/system/cpu/online", NODE_FILE | 0444, &cpus_ops},
		{"/sys/devices/system/cpu/possible", NODE_FILE | 0444, &cpus_ops},
		{"/sys/kernel", NODE_DIR | 0555, NULL},
		{"/sys/kernel/mm", NODE_DIR | 0555, NULL},
		{"/sys/kernel/mm/transparent_hugepage", NODE_DIR | 0555, NULL},
		{"/sys/kernel/mm/transparent_hugepage/shmem_enabled", NODE_FILE | 0444, &huge_ops},
		{"/sys/kernel/mm/transparent_hugepage/enabled", NODE_FILE | 0444, &huge_ops},
		{"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", NODE_FILE | 0444,
		 &huge_size_ops},
	};
	int error = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(entry) && error == 0; i++) {
		error = tree_make_node(entry[i].path, entry[i].mode, 0, entry[i].ops);
	}
	return error;
}
