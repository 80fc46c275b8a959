/*
 * System calls about memory.
 */
#include <errno.h>
#include <linux/memfd.h>
#include <linux/mman.h>

#include "core/hw/user.h"
#include "core/mem/page.h"
#include "core/mem/space.h"
#include "core/sys/fd.h"
#include "core/sys/syscall.h"
#include "core/sys/tree.h"
#include "core/task/process.h"
#include "core/task/sched.h"

#define PROT_KNOWN (PROT_READ | PROT_WRITE | PROT_EXEC)
#define TYPE_MASK  0xf /* MAP_SHARED, MAP_PRIVATE */
#define BRK_MAX	   GIB
#define NAME_MAX   249

static struct space *space(void)
{
	return process_current()->space;
}

static unsigned map_flags(uint64_t flags)
{
	unsigned out = 0;

	out |= (flags & TYPE_MASK) != MAP_PRIVATE ? SPACE_SHARED : 0u;
	out |= (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0 ? SPACE_FIXED : 0u;
	out |= (flags & MAP_FIXED_NOREPLACE) != 0 ? SPACE_NOREPLACE : 0u;
	out |= (flags & MAP_POPULATE) != 0 ? SPACE_POPULATE : 0u;
	out |= (flags & (MAP_STACK | MAP_GROWSDOWN)) != 0 ? SPACE_NOHUGE : 0u;
	return out;
}

static int64_t map_file(const uint64_t *a, unsigned flags, struct file *f)
{
	struct file_map m = {.offset = a[5],
			     .len = a[1],
			     .shared = (flags & SPACE_SHARED) != 0,
			     .write = (a[2] & PROT_WRITE) != 0};
	uint64_t at, end;
	int error;

	if (f->ops->map == NULL) {
		return -ENODEV;
	}
	if (!file_may_read(f) || (m.shared && m.write && !file_may_write(f))) {
		return -EACCES;
	}
	if (!range_end(a[5], a[1], &end) || end > OBJECT_SIZE_MAX) {
		return -EOVERFLOW;
	}
	error = f->ops->map(f, &m);
	if (error != 0) {
		return error;
	}
	flags |= m.shared && !file_may_write(f) ? SPACE_NOWRITE : 0u;
	error = space_map(space(), a[0], a[1], (unsigned)a[2], flags, m.object, a[5], &at);
	object_put(m.object);
	return error != 0 ? error : (int64_t)at;
}

static int64_t map_anonymous(const uint64_t *a, unsigned flags)
{
	struct object *o = NULL;
	uint64_t at;
	int error;

	if (a[1] > USER_END) {
		return -ENOMEM;
	}
	if ((flags & SPACE_SHARED) != 0) {
		o = object_create(ALIGN_UP(a[1], PAGE_SIZE));
		if (o == NULL) {
			return -ENOMEM;
		}
	}
	error = space_map(space(), a[0], a[1], (unsigned)a[2], flags, o, 0, &at);
	if (o != NULL) {
		object_put(o);
	}
	return error != 0 ? error : (int64_t)at;
}

SYSCALL(mmap)
{
	uint64_t type = a[3] & TYPE_MASK;
	unsigned flags = map_flags(a[3]);
	struct file *f;
	int64_t result;

	if ((a[2] & ~(uint64_t)PROT_KNOWN) != 0 || a[5] % PAGE_SIZE != 0 ||
	    (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE) ||
	    (a[3] & MAP_HUGETLB) != 0) {
		return -EINVAL;
	}
	if ((a[3] & MAP_ANONYMOUS) != 0) {
		return map_anonymous(a, flags);
	}
	f = fd_get((int)a[4]);
	if (f == NULL) {
		return -EBADF;
	}
	result = map_file(a, flags, f);
	file_put(f);
	return result;
}

SYSCALL(munmap)
{
	return space_unmap(space(), a[0], a[1]);
}

SYSCALL(mprotect)
{
	if ((a[2] & ~(uint64_t)PROT_KNOWN) != 0) {
		return -EINVAL;
	}
	return a[1] == 0 && a[0] % PAGE_SIZE == 0
		       ? 0
		       : space_protect(space(), a[0], a[1], (unsigned)a[2]);
}

SYSCALL(mremap)
{
	uint64_t at = a[4];
	int error;

	if ((a[3] & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 ||
	    (a[3] & (MREMAP_MAYMOVE | MREMAP_FIXED)) == MREMAP_FIXED) {
		return -EINVAL;
	}
	if ((a[3] & MREMAP_FIXED) != 0) {
		error = space_move(space(), a[0], a[1], a[2], at);
		return error != 0 ? error : (int64_t)at;
	}
	error = space_remap(space(), a[0], a[1], a[2], (a[3] & MREMAP_MAYMOVE) != 0, &at);
	return error != 0 ? error : (int64_t)at;
}

SYSCALL(mincore)
{
	uint8_t resident[256];
	uint64_t va = a[0], to = a[2];

	if (va % PAGE_SIZE != 0) {
		return -EINVAL;
	}
	if (!user_range_ok(va, a[1])) {
		return -ENOMEM;
	}
	for (uint64_t left = ALIGN_UP(a[1], PAGE_SIZE) / PAGE_SIZE; left > 0;) {
		size_t n = MIN(left, sizeof(resident));
		int error = space_residency(space(), va, n, resident);

		if (error == 0) {
			error = user_write(to, resident, n);
		}
		if (error != 0) {
			return error;
		}
		sched_relax();
		va += n * PAGE_SIZE;
		to += n;
		left -= n;
	}
	return 0;
}

SYSCALL(madvise)
{
	switch ((int)a[2]) {
	case MADV_DONTNEED:
	case MADV_FREE:
		return space_advise(space(), a[0], a[1], SPACE_DONTNEED);
	case MADV_REMOVE:
		return space_advise(space(), a[0], a[1], SPACE_REMOVE);
	case MADV_HUGEPAGE:
		return space_advise(space(), a[0], a[1], SPACE_HUGE);
	case MADV_NOHUGEPAGE:
		return space_advise(space(), a[0], a[1], SPACE_NOT_HUGE);
	case MADV_WILLNEED:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
		return space_advise(space(), a[0], a[1], SPACE_WILLNEED);
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		return 0;
	default:
		return -EINVAL;
	}
}

/* Nothing is ever swapped out. */
#define LOCKED(name)      \
	SYSCALL(name)     \
	{                 \
		(void)a;  \
		return 0; \
	}
LOCKED(mlock)
LOCKED(munlock)
LOCKED(mlockall)
LOCKED(munlockall)
LOCKED(msync)

SYSCALL(brk)
{
	struct process *p = process_current();
	uint64_t want = a[0], now, old, ignored;
	int error = 0;

	mutex_take(&p->memory);
	now = p->brk;
	if (want >= p->brk_start && want - p->brk_start <= BRK_MAX) {
		old = ALIGN_UP(p->brk, PAGE_SIZE);
		want = ALIGN_UP(want, PAGE_SIZE);
		if (want > old) {
			error = space_map(p->space, old, want - old, SPACE_READ | SPACE_WRITE,
					  SPACE_FIXED | SPACE_NOREPLACE, NULL, 0, &ignored);
		} else if (want < old) {
			error = space_unmap(p->space, want, old - want);
		}
		if (error == 0) {
			p->brk = a[0];
			now = a[0];
		}
	}
	mutex_give(&p->memory);
	return (int64_t)now;
}

SYSCALL(memfd_create)
{
	uint64_t known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB;
	char name[NAME_MAX + 1];
	struct fd_table *table = process_current()->files;
	struct file *f = NULL;
	struct node *n;
	int64_t error = user_read_string(name, a[0], sizeof(name));
	int fd;

	if (error < 0) {
		return error == -ENAMETOOLONG ? -EINVAL : error;
	}
	if ((a[1] & ~known) != 0) {
		return -EINVAL;
	}
	n = tree_new_file(0777);
	if (n == NULL) {
		return -ENOMEM;
	}
	error = (a[1] & MFD_ALLOW_SEALING) != 0 ? 0 : object_add_seals(n->object, OBJECT_SEAL_SEAL);
	fd = error == 0 ? fd_reserve(table, 0) : (int)error;
	if (fd >= 0) {
		error = node_open(n, FILE_READWRITE, &f);
		if (error == 0) {
			fd_install(table, fd, f, (a[1] & MFD_CLOEXEC) != 0);
		} else {
			fd_unreserve(table, fd);
			fd = (int)error;
		}
	}
	node_put(n);
	return fd;
}
