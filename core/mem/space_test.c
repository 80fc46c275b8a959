#include "core/mem/space.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "core/hw/fake_hw.h"
#include "core/hw/regs.h"
#include "core/mem/heap.h"
#include "core/mem/mapping.h"
#include "core/mem/table.h"
#include "tests/unit.h"

#define RW (SPACE_READ | SPACE_WRITE)

static uint64_t used_before;

static uint64_t used(void)
{
	page_drain_cpu();
	return page_total() - page_used(PAGE_USE_FREE);
}

static int start(void **state)
{
	fake_machine_start(64);
	used_before = used();
	*state = space_create();
	return *state == NULL;
}

/* Whatever a test did: with the space, all that it had comes back. */
static int stop(void **state)
{
	if (*state != NULL) {
		space_put(*state);
	}
	assert_int_equal(page_used(PAGE_USE_USER), 0);
	assert_int_equal(page_used(PAGE_USE_NODE), 0);
	assert_int_equal(page_used(PAGE_USE_TABLE), 0);
	assert_int_equal(page_used(PAGE_USE_HEAP), 0);
	assert_int_equal(used(), used_before);
	fake_machine_stop();
	return 0;
}

static uint64_t map(struct space *s, uint64_t hint, uint64_t len, unsigned prot, unsigned flags,
		    struct object *o, uint64_t offset)
{
	uint64_t va = 0;

	assert_int_equal(space_map(s, hint, len, prot, flags, o, offset, &va), 0);
	return va;
}

/* As the CPU would: the page that @va shows, or NULL for a fault. */
static uint8_t *see(struct space *s, uint64_t va, unsigned access)
{
	uint64_t entry = table_get(s->root, va);
	uint64_t mask = (entry & PTE_PS) != 0 ? HUGE_SIZE - 1 : PAGE_SIZE - 1;

	if ((entry & PTE_P) == 0 || (access == SPACE_WRITE && (entry & PTE_RW) == 0) ||
	    (access == SPACE_EXEC && (entry & PTE_NX) != 0)) {
		return NULL;
	}
	assert_true((entry & PTE_US) != 0);
	return (uint8_t *)phys_ptr(hpa((entry & PTE_ADDR & ~mask) | (va & mask)));
}

/* How many pages of [va, va + len) page tables show. */
static unsigned seen(struct space *s, uint64_t va, uint64_t len)
{
	unsigned pages = 0;

	for (uint64_t at = va; at < va + len; at += PAGE_SIZE) {
		pages += see(s, at, SPACE_READ) != NULL;
	}
	return pages;
}

static uint8_t *touch(struct space *s, uint64_t va, unsigned access)
{
	uint8_t *p = see(s, va, access);

	if (p == NULL) {
		assert_int_equal(space_fault(s, va, access), 0);
		p = see(s, va, access);
		assert_non_null(p);
	}
	return p;
}

static void anonymous_memory_comes_by_faults(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, 3 * PAGE_SIZE, RW, 0, NULL, 0);

	assert_null(see(s, va, SPACE_READ));
	assert_int_equal(*touch(s, va + 5, SPACE_READ), 0);
	*touch(s, va + PAGE_SIZE, SPACE_WRITE) = 7;
	assert_int_equal(*touch(s, va + PAGE_SIZE, SPACE_READ), 7);
	assert_int_equal(seen(s, va, 3 * PAGE_SIZE), 2);
	assert_int_equal(space_fault(s, va + 3 * PAGE_SIZE, SPACE_READ), -EFAULT);
	assert_int_equal(space_fault(s, va, SPACE_EXEC), -EFAULT);
	assert_int_equal(space_fault(s, USER_END, SPACE_READ), -EFAULT);
	assert_int_equal(space_unmap(s, va, 3 * PAGE_SIZE), 0);
	assert_null(see(s, va, SPACE_READ));
	assert_int_equal(page_used(PAGE_USE_USER), 0);
	/* The highest table is all that is left. */
	assert_int_equal(page_used(PAGE_USE_TABLE), 1);
}

static void large_memory_has_large_pages(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, 8 * MIB, RW, 0, NULL, 0);
	uint64_t small = map(s, 0, 8 * MIB, RW, SPACE_NOHUGE, NULL, 0);

	assert_int_equal(va % HUGE_SIZE, 0);
	*touch(s, va + 3 * MIB, SPACE_WRITE) = 1;
	assert_int_equal(seen(s, va, 8 * MIB), 512);
	*touch(s, small + 3 * MIB, SPACE_WRITE) = 1;
	assert_int_equal(seen(s, small, 8 * MIB), 1);
	/* A hole in it: the rest of it stays, in small pieces. */
	*touch(s, va + 2 * MIB, SPACE_WRITE) = 9;
	assert_int_equal(space_unmap(s, va + 3 * MIB, PAGE_SIZE), 0);
	assert_int_equal(space_fault(s, va + 3 * MIB, SPACE_READ), -EFAULT);
	assert_int_equal(*touch(s, va + 2 * MIB, SPACE_READ), 9);
	assert_int_equal(*touch(s, va + 4 * MIB - 1, SPACE_READ), 0);
}

static void shared_memory_is_one(void **state)
{
	struct space *s = *state;
	struct space *other = space_create();
	struct object *o = object_create(4 * MIB);
	uint64_t a = map(s, 0, 4 * MIB, RW, SPACE_SHARED, o, 0);
	uint64_t b = map(other, 0, MIB, SPACE_READ, SPACE_SHARED, o, 3 * MIB);

	touch(s, a + 3 * MIB + 1, SPACE_WRITE)[0] = 5;
	assert_int_equal(*touch(other, b + 1, SPACE_READ), 5);
	assert_int_equal(space_fault(other, b, SPACE_WRITE), -EFAULT);
	/* Its end moves: both lose what is behind it. */
	assert_int_equal(object_resize(o, 2 * MIB), 0);
	assert_null(see(s, a + 3 * MIB + 1, SPACE_READ));
	assert_null(see(other, b + 1, SPACE_READ));
	assert_int_equal(space_fault(other, b + PAGE_SIZE, SPACE_READ), -ENXIO);
	space_put(other);
	object_put(o);
}

static void punched_pages_leave_all_mappings(void **state)
{
	struct space *s = *state;
	struct space *other = space_create();
	struct object *o = object_create(64 * PAGE_SIZE);
	uint64_t a = map(s, 0, 64 * PAGE_SIZE, RW, SPACE_SHARED, o, 0);
	uint64_t b = map(other, 0, 64 * PAGE_SIZE, RW, SPACE_SHARED, o, 0);

	for (unsigned i = 0; i < 64; i++) {
		*touch(s, a + i * PAGE_SIZE, SPACE_WRITE) = (uint8_t)(i + 1);
		touch(other, b + i * PAGE_SIZE, SPACE_READ);
	}
	assert_int_equal(object_punch(o, 2 * PAGE_SIZE + 100, 3 * PAGE_SIZE), 0);
	assert_null(see(s, a + 3 * PAGE_SIZE, SPACE_READ));
	assert_null(see(other, b + 4 * PAGE_SIZE, SPACE_READ));
	assert_int_equal(*touch(s, a + 3 * PAGE_SIZE, SPACE_READ), 0);
	/* Of pages at the ends only a part is zero. */
	assert_int_equal(*touch(s, a + 2 * PAGE_SIZE, SPACE_READ), 3);
	assert_int_equal(*touch(s, a + 5 * PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(*touch(s, a + 6 * PAGE_SIZE, SPACE_READ), 7);
	assert_int_equal(space_advise(other, b, 64 * PAGE_SIZE, SPACE_REMOVE), 0);
	assert_int_equal(object_pages(o), 0);
	assert_null(see(s, a, SPACE_READ));
	space_put(other);
	object_put(o);
}

static void private_copies_are_private(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(4 * PAGE_SIZE);
	uint64_t a = map(s, 0, 4 * PAGE_SIZE, RW, 0, o, 0);
	uint64_t b = map(s, 0, 4 * PAGE_SIZE, RW, SPACE_SHARED, o, 0);

	*touch(s, b, SPACE_WRITE) = 1;
	assert_int_equal(*touch(s, a, SPACE_READ), 1);
	assert_null(see(s, a, SPACE_WRITE));
	*touch(s, a, SPACE_WRITE) = 2;
	assert_int_equal(*touch(s, a, SPACE_READ), 2);
	assert_int_equal(*touch(s, b, SPACE_READ), 1);
	assert_int_equal(space_advise(s, a, 4 * PAGE_SIZE, SPACE_DONTNEED), 0);
	assert_int_equal(*touch(s, a, SPACE_READ), 1);
	object_put(o);
}

static void a_writer_that_looks_behind_gets_its_copy(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(PAGE_SIZE);
	uint64_t a = map(s, 0, PAGE_SIZE, RW, 0, o, 0);
	uint64_t seq = space_seq(s);
	hpa_t first, second;
	uint64_t bytes;
	bool writable;

	assert_int_equal(space_page(s, a, SPACE_READ, &first, &bytes, &writable), 0);
	assert_false(writable);
	assert_int_equal(space_seq(s), seq);
	assert_int_equal(space_write(s, a, "x", 1), 0);
	/* Who has the first page in tables of its own is told. */
	assert_int_not_equal(space_seq(s), seq);
	assert_int_equal(space_page(s, a, SPACE_READ, &second, &bytes, &writable), 0);
	assert_true(writable);
	assert_int_not_equal(first.v, second.v);
	page_put(first);
	page_put(second);
	object_put(o);
}

static void protection_holds(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0x400000, 4 * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);

	*touch(s, va + PAGE_SIZE, SPACE_WRITE) = 3;
	assert_int_equal(space_protect(s, va + PAGE_SIZE, PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(space_fault(s, va + PAGE_SIZE, SPACE_WRITE), -EFAULT);
	assert_int_equal(*touch(s, va + PAGE_SIZE, SPACE_READ), 3);
	assert_null(see(s, va + PAGE_SIZE, SPACE_WRITE));
	touch(s, va, SPACE_WRITE);
	touch(s, va + 2 * PAGE_SIZE, SPACE_WRITE);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, SPACE_READ | SPACE_EXEC), 0);
	touch(s, va, SPACE_EXEC);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, 0), 0);
	assert_int_equal(space_fault(s, va, SPACE_READ), -EFAULT);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, RW | SPACE_EXEC), -EINVAL);
	assert_int_equal(space_protect(s, va, 5 * PAGE_SIZE, SPACE_READ), -ENOMEM);
	assert_int_equal(space_protect(s, va + 1, PAGE_SIZE, SPACE_READ), -EINVAL);
}

static void bad_arguments_are_refused(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(PAGE_SIZE);
	uint64_t va;

	assert_int_equal(space_map(s, 0, 0, RW, 0, NULL, 0, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW | SPACE_EXEC, 0, NULL, 0, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, 1U << 30, NULL, 0, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_SHARED, NULL, 0, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_SHARED, o, 12, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_SHARED, o, UINT64_MAX - 4095, &va),
			 -EINVAL);
	assert_int_equal(space_map(s, 0, UINT64_MAX, RW, 0, NULL, 0, &va), -ENOMEM);
	assert_int_equal(space_map(s, 0x20001, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0, &va), -EINVAL);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0, &va), -ENOMEM);
	assert_int_equal(space_map(s, USER_END, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0, &va), -ENOMEM);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_SHARED | SPACE_NOWRITE, o, 0, &va),
			 -EACCES);
	va = map(s, 0x20000, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	assert_int_equal(va, 0x20000);
	assert_int_equal(
		space_map(s, 0x20000, PAGE_SIZE, RW, SPACE_FIXED | SPACE_NOREPLACE, NULL, 0, &va),
		-EEXIST);
	assert_int_equal(space_unmap(s, 0x20001, PAGE_SIZE), -EINVAL);
	assert_int_equal(space_unmap(s, 0x20000, 0), -EINVAL);
	assert_int_equal(space_unmap(s, 0, USER_END + PAGE_SIZE), -EINVAL);
	object_put(o);
}

static void seals_hold(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(2 * PAGE_SIZE);
	uint64_t va = map(s, 0, PAGE_SIZE, RW, SPACE_SHARED, o, 0);
	uint64_t other;

	assert_int_equal(object_add_seals(o, OBJECT_SEAL_WRITE), -EBUSY);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_WRITE | OBJECT_SEAL_SHRINK), 0);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, RW), -EACCES);
	assert_int_equal(space_map(s, 0, PAGE_SIZE, RW, SPACE_SHARED, o, 0, &other), -EPERM);
	assert_int_equal(object_resize(o, PAGE_SIZE), -EPERM);
	assert_int_equal(object_resize(o, 3 * PAGE_SIZE), 0);
	assert_int_equal(object_punch(o, 0, PAGE_SIZE), -EPERM);
	assert_int_equal(object_write(o, 0, "x", 1), -EPERM);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_SEAL), 0);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_GROW), -EPERM);
	object_put(o);
}

struct listener {
	struct space_notifier n;
	unsigned calls;
	uint64_t start, end, seq;
	struct space *s;
};

static void on_invalidate(struct space_notifier *n, uint64_t start, uint64_t end)
{
	struct listener *l = container_of(n, struct listener, n);

	l->calls++;
	l->start = start;
	l->end = end;
	l->seq = space_seq(l->s);
}

static void notifiers_hear_before_pages_go(void **state)
{
	struct space *s = *state;
	struct listener l = {.n.invalidate = on_invalidate, .s = s};
	uint64_t va = map(s, 0, 16 * PAGE_SIZE, RW, 0, NULL, 0);
	uint64_t seq = space_seq(s);

	space_add_notifier(s, &l.n);
	touch(s, va, SPACE_WRITE);
	assert_int_equal(l.calls, 0);
	assert_int_equal(space_unmap(s, va + PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(l.calls, 1);
	assert_true(l.start <= va + PAGE_SIZE && l.end >= va + 2 * PAGE_SIZE);
	assert_true(l.seq > seq);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(l.calls, 2);
	space_remove_notifier(s, &l.n);
	assert_int_equal(space_unmap(s, va, PAGE_SIZE), 0);
	assert_int_equal(l.calls, 2);
}

/* Another CPU, which takes pages out of an object while a space lets go of its mapping of it. */
struct puncher {
	struct space_notifier n;
	struct object *o;
	_Atomic bool begin, done, too_early;
};

static void *punch(void *arg)
{
	struct puncher *p = arg;

	fake_cpu_join(1);
	while (!p->begin) {
	}
	assert_int_equal(object_punch(p->o, 0, 2 * PAGE_SIZE), 0);
	p->done = true;
	page_drain_cpu();
	return NULL;
}

/* A CPU may still write to the pages: this one has not been told. */
static void on_unmap(struct space_notifier *n, uint64_t start, uint64_t end)
{
	struct puncher *p = container_of(n, struct puncher, n);

	if (start < end && !p->begin) {
		p->begin = true;
		for (unsigned ms = 0; ms < 200 && !p->done; ms++) {
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		}
		p->too_early = p->done;
	}
}

static void pages_wait_for_an_unmapping(void **state)
{
	struct space *s = *state;
	struct puncher p = {.n.invalidate = on_unmap, .o = object_create(2 * PAGE_SIZE)};
	uint64_t va = map(s, 0, 2 * PAGE_SIZE, RW, SPACE_SHARED, p.o, 0);
	pthread_t thread;

	*touch(s, va, SPACE_WRITE) = 1;
	space_add_notifier(s, &p.n);
	assert_int_equal(pthread_create(&thread, NULL, punch, &p), 0);
	assert_int_equal(space_unmap(s, va, 2 * PAGE_SIZE), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(p.too_early);
	assert_int_equal(object_pages(p.o), 0);
	space_remove_notifier(s, &p.n);
	object_put(p.o);
}

static void other_cpus_are_told(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, PAGE_SIZE, RW, 0, NULL, 0);

	touch(s, va, SPACE_WRITE);
	space_switch(s);
	fake_cpu_join(3);
	space_switch(s);
	assert_ptr_equal(space_current(), s);
	assert_int_equal(space_unmap(s, va, PAGE_SIZE), 0);
	assert_true(fake_tlb.flushes > 0);
	assert_int_equal(fake_tlb.cpus, BIT(0) | BIT(3));
	space_switch(NULL);
	fake_cpu_join(0);
	space_switch(NULL);
	assert_null(space_current());
}

/* What a CPU keeps in its TLB while it has another space loaded is of a number; once something of
 * it is flushed, that is past. It grows twice: before the tables change, for who looks up pages,
 * and after that, for who loads the tables between the two. */
static void a_flush_is_told_by_number(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, 2 * PAGE_SIZE, RW, 0, NULL, 0), id, seq;

	touch(s, va, SPACE_WRITE);
	touch(s, va + PAGE_SIZE, SPACE_WRITE);
	space_switch(s);
	id = fake_tlb.id;
	seq = fake_tlb.seq;
	assert_int_not_equal(id, 0);
	space_switch(NULL);
	assert_int_equal(fake_tlb.id, 0);
	space_switch(s);
	assert_int_equal(fake_tlb.id, id);
	assert_int_equal(fake_tlb.seq, seq);
	space_switch(NULL);
	assert_int_equal(space_protect(s, va, PAGE_SIZE, SPACE_READ), 0);
	space_switch(s);
	assert_true(fake_tlb.seq >= seq + 2);
	seq = fake_tlb.seq;
	space_switch(NULL);
	assert_int_equal(space_unmap(s, va + PAGE_SIZE, PAGE_SIZE), 0);
	space_switch(s);
	assert_true(fake_tlb.seq >= seq + 2);
	assert_int_equal(fake_tlb.id, id);
	space_switch(NULL);
}

static void remapping_keeps_contents(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0x400000, 4 * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	uint64_t at;

	*touch(s, va, SPACE_WRITE) = 1;
	*touch(s, va + 3 * PAGE_SIZE, SPACE_WRITE) = 4;
	assert_int_equal(space_remap(s, va, 4 * PAGE_SIZE, 6 * PAGE_SIZE, false, &at), 0);
	assert_int_equal(at, va);
	*touch(s, va + 5 * PAGE_SIZE, SPACE_WRITE) = 6;
	map(s, va + 6 * PAGE_SIZE, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	assert_int_equal(space_remap(s, va, 6 * PAGE_SIZE, 8 * PAGE_SIZE, false, &at), -ENOMEM);
	assert_int_equal(space_remap(s, va, 6 * PAGE_SIZE, 4 * MIB, true, &at), 0);
	assert_int_not_equal(at, va);
	assert_int_equal(*touch(s, at, SPACE_READ), 1);
	assert_int_equal(*touch(s, at + 5 * PAGE_SIZE, SPACE_READ), 6);
	assert_int_equal(*touch(s, at + 4 * MIB - 1, SPACE_READ), 0);
	assert_int_equal(space_fault(s, va, SPACE_READ), -EFAULT);
	assert_int_equal(space_remap(s, at, 4 * MIB, PAGE_SIZE, false, &at), 0);
	assert_int_equal(space_fault(s, at + PAGE_SIZE, SPACE_READ), -EFAULT);
	assert_int_equal(*touch(s, at, SPACE_READ), 1);
	assert_int_equal(space_remap(s, 0x10000000, PAGE_SIZE, PAGE_SIZE, true, &at), -EFAULT);
}

static void remapping_goes_where_it_is_told(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(4 * PAGE_SIZE);
	uint64_t va = map(s, 0x400000, 4 * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	uint64_t to = map(s, 0x800000, 4 * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	uint64_t shared = map(s, 0x900000, 4 * PAGE_SIZE, RW, SPACE_FIXED | SPACE_SHARED, o, 0);

	for (unsigned i = 0; i < 4; i++) {
		*touch(s, va + i * PAGE_SIZE, SPACE_WRITE) = (uint8_t)(i + 1);
		*touch(s, to + i * PAGE_SIZE, SPACE_WRITE) = (uint8_t)(i + 11);
		*touch(s, shared + i * PAGE_SIZE, SPACE_WRITE) = (uint8_t)(i + 21);
	}
	/* One page out of the middle, over one in the middle. */
	assert_int_equal(space_move(s, va + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, to + 2 * PAGE_SIZE),
			 0);
	assert_int_equal(*touch(s, to + PAGE_SIZE, SPACE_READ), 12);
	assert_int_equal(*touch(s, to + 2 * PAGE_SIZE, SPACE_WRITE), 2);
	assert_int_equal(*touch(s, to + 3 * PAGE_SIZE, SPACE_READ), 14);
	assert_int_equal(space_fault(s, va + PAGE_SIZE, SPACE_READ), -EFAULT);
	assert_int_equal(*touch(s, va + 2 * PAGE_SIZE, SPACE_READ), 3);
	/* Shorter, and longer, than before. */
	assert_int_equal(space_move(s, va + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PAGE_SIZE, 0xa00000), 0);
	assert_int_equal(*touch(s, 0xa00000, SPACE_READ), 3);
	assert_int_equal(space_fault(s, va + 3 * PAGE_SIZE, SPACE_READ), -EFAULT);
	assert_int_equal(space_fault(s, 0xa00000 + PAGE_SIZE, SPACE_READ), -EFAULT);
	assert_int_equal(space_move(s, to, PAGE_SIZE, 2 * PAGE_SIZE, 0xb00000), 0);
	assert_int_equal(*touch(s, 0xb00000, SPACE_READ), 11);
	assert_int_equal(*touch(s, 0xb00000 + PAGE_SIZE, SPACE_READ), 0);
	assert_int_equal(*touch(s, to + PAGE_SIZE, SPACE_READ), 12);
	/* What is shared stays shared. */
	assert_int_equal(space_move(s, shared, 4 * PAGE_SIZE, 4 * PAGE_SIZE, 0xc00000), 0);
	*touch(s, 0xc00000, SPACE_WRITE) = 77;
	char c = 0;
	assert_int_equal(object_read(o, 0, &c, 1), 0);
	assert_int_equal(c, 77);
	assert_int_equal(space_move(s, 0xc00000, 2 * PAGE_SIZE, PAGE_SIZE, 0xc01000), -EINVAL);
	assert_int_equal(space_move(s, 0xc00000, PAGE_SIZE, PAGE_SIZE, 0x1000), -EINVAL);
	assert_int_equal(space_move(s, 0xc00000, PAGE_SIZE, PAGE_SIZE, 0xd00001), -EINVAL);
	assert_int_equal(space_move(s, 0xc00000, PAGE_SIZE, PAGE_SIZE, USER_END), -EINVAL);
	assert_int_equal(space_move(s, 0xd00000, PAGE_SIZE, PAGE_SIZE, 0xe00000), -EFAULT);
	object_put(o);
}

static void copies_are_apart(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(4 * PAGE_SIZE);
	uint64_t huge = map(s, 0, 4 * MIB, RW, 0, NULL, 0);
	uint64_t small = map(s, 0, 4 * PAGE_SIZE, RW, 0, NULL, 0);
	uint64_t file = map(s, 0, 4 * PAGE_SIZE, RW, 0, o, 0);
	uint64_t shared = map(s, 0, 4 * PAGE_SIZE, RW, SPACE_SHARED, o, 0);

	*touch(s, huge + MIB, SPACE_WRITE) = 1;
	*touch(s, small + PAGE_SIZE, SPACE_WRITE) = 2;
	*touch(s, shared, SPACE_WRITE) = 3;
	*touch(s, file + PAGE_SIZE, SPACE_WRITE) = 4;
	assert_int_equal(space_protect(s, small + 2 * PAGE_SIZE, PAGE_SIZE, SPACE_READ), 0);
	struct space *child = space_copy(s);
	assert_non_null(child);
	*touch(s, huge + MIB, SPACE_WRITE) = 101;
	*touch(s, small + PAGE_SIZE, SPACE_WRITE) = 102;
	*touch(s, shared, SPACE_WRITE) = 103;
	*touch(s, file + PAGE_SIZE, SPACE_WRITE) = 104;
	assert_int_equal(*touch(child, huge + MIB, SPACE_READ), 1);
	assert_int_equal(*touch(child, small + PAGE_SIZE, SPACE_READ), 2);
	assert_int_equal(*touch(child, shared, SPACE_READ), 103);
	assert_int_equal(*touch(child, file + PAGE_SIZE, SPACE_READ), 4);
	assert_int_equal(*touch(child, file, SPACE_READ), 103);
	assert_int_equal(space_fault(child, small + 2 * PAGE_SIZE, SPACE_WRITE), -EFAULT);
	*touch(child, huge + MIB, SPACE_WRITE) = 7;
	assert_int_equal(*touch(s, huge + MIB, SPACE_READ), 101);
	/* It is a space like any other. */
	assert_int_equal(space_unmap(child, small, PAGE_SIZE), 0);
	assert_int_equal(*touch(child, small + PAGE_SIZE, SPACE_READ), 2);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_WRITE), -EBUSY);
	assert_int_equal(space_unmap(s, shared, 4 * PAGE_SIZE), 0);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_WRITE), -EBUSY);
	space_put(child);
	assert_int_equal(object_add_seals(o, OBJECT_SEAL_WRITE), 0);
	object_put(o);
}

static void copies_without_memory_leave_nothing(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, 40 * MIB, RW, SPACE_NOHUGE, NULL, 0);

	for (uint64_t at = 0; at < 40 * MIB; at += PAGE_SIZE) {
		touch(s, va + at, SPACE_WRITE);
	}
	map(s, 0, PAGE_SIZE, RW, 0, NULL, 0);
	uint64_t before = used();
	assert_null(space_copy(s));
	assert_int_equal(used(), before);
}

static void residency_tells_what_was_touched(void **state)
{
	struct space *s = *state;
	struct object *o = object_create(4 * PAGE_SIZE);
	uint64_t va = map(s, 0x400000, 4 * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
	uint8_t is[8];

	map(s, va + 4 * PAGE_SIZE, 4 * PAGE_SIZE, RW, SPACE_FIXED | SPACE_SHARED, o, 0);
	touch(s, va + PAGE_SIZE, SPACE_WRITE);
	assert_int_equal(object_write(o, 3 * PAGE_SIZE, "x", 1), 0);
	assert_int_equal(space_residency(s, va, 8, is), 0);
	assert_memory_equal(is, ((uint8_t[]){0, 1, 0, 0, 0, 0, 0, 1}), 8);
	assert_int_equal(space_advise(s, va, 4 * PAGE_SIZE, SPACE_DONTNEED), 0);
	assert_int_equal(space_residency(s, va, 2, is), 0);
	assert_int_equal(is[1], 0);
	assert_int_equal(space_residency(s, va + PAGE_SIZE, 8, is), -ENOMEM);
	assert_int_equal(space_residency(s, USER_END - PAGE_SIZE, 8, is), -ENOMEM);
	object_put(o);
}

static void strings_of_bytes_go_over_pages(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, 3 * PAGE_SIZE, RW, 0, NULL, 0);
	char text[5000];
	char back[5000] = {0};

	for (size_t i = 0; i < sizeof(text); i++) {
		text[i] = (char)(i * 7);
	}
	assert_int_equal(space_write(s, va + 100, text, sizeof(text)), 0);
	assert_int_equal(space_read(s, back, va + 100, sizeof(back)), 0);
	assert_memory_equal(text, back, sizeof(text));
	assert_int_equal(space_write(s, va + 2 * PAGE_SIZE, text, sizeof(text)), -EFAULT);
	assert_int_equal(space_read(s, back, UINT64_MAX - 10, 100), -EFAULT);
}

static void mappings_are_limited(void **state)
{
	struct space *s = *state;
	uint64_t va;
	int r = 0;

	for (unsigned i = 0; i < SPACE_MAPPINGS_MAX && r == 0; i++) {
		r = space_map(s, 0x100000 + i * 2 * PAGE_SIZE, PAGE_SIZE, RW, SPACE_FIXED, NULL, 0,
			      &va);
	}
	assert_int_equal(r, -ENOMEM);
	space_clear(s);
	map(s, 0, PAGE_SIZE, RW, 0, NULL, 0);
}

static void without_memory_it_says_so(void **state)
{
	struct space *s = *state;
	uint64_t va = map(s, 0, GIB, RW, 0, NULL, 0);
	uint64_t at = va;
	int r = 0;

	while (r == 0) {
		r = space_fault(s, at, SPACE_WRITE);
		at += PAGE_SIZE;
	}
	assert_int_equal(r, -ENOMEM);
	assert_true(at - va > 50 * MIB);
	assert_int_equal(space_unmap(s, va, GIB), 0);
	assert_int_equal(page_used(PAGE_USE_USER), 0);
	va = map(s, 0, PAGE_SIZE, RW, 0, NULL, 0);
	touch(s, va, SPACE_WRITE);
}

static int fill(void *ctx, uint64_t offset, void *page)
{
	if (offset == 3 * PAGE_SIZE) {
		return -EIO;
	}
	memset(page, *(char *)ctx + (int)(offset / PAGE_SIZE), PAGE_SIZE);
	return 0;
}

static void fillers_write_new_pages(void **state)
{
	struct space *s = *state;
	char base = 'a';
	struct object *o = object_create_filled(4 * PAGE_SIZE, fill, &base);
	uint64_t va = map(s, 0, 4 * PAGE_SIZE, SPACE_READ | SPACE_EXEC, 0, o, 0);
	char text[2];

	assert_int_equal(*touch(s, va + 2 * PAGE_SIZE, SPACE_EXEC), 'c');
	assert_int_equal(space_fault(s, va + 3 * PAGE_SIZE, SPACE_READ), -EIO);
	assert_int_equal(object_read(o, 2 * PAGE_SIZE - 1, text, 2), 0);
	assert_memory_equal(text, "bc", 2);
	object_put(o);
}

static void sparse_objects_are_cheap(void **state)
{
	struct object *o = object_create(OBJECT_SIZE_MAX);
	char c = 0;

	(void)state;
	assert_int_equal(object_write(o, OBJECT_SIZE_MAX - 1, "z", 1), 0);
	assert_int_equal(object_write(o, 0, "a", 1), 0);
	assert_true(page_used(PAGE_USE_NODE) < 10);
	assert_int_equal(object_read(o, OBJECT_SIZE_MAX - 1, &c, 1), 0);
	assert_int_equal(c, 'z');
	assert_int_equal(object_read(o, OBJECT_SIZE_MAX / 2, &c, 1), 0);
	assert_int_equal(c, 0);
	assert_int_equal(object_read(o, OBJECT_SIZE_MAX, &c, 1), -EFBIG);
	assert_int_equal(object_punch(o, 0, UINT64_MAX), 0);
	assert_int_equal(object_pages(o), 0);
	object_put(o);
	assert_null(object_create(OBJECT_SIZE_MAX + 1));
}

/* Any sequence of calls, against plain arrays of what each page should be. */
static void random_calls(void **state)
{
	enum {
		PAGES = 1200,
		BASE = 0x40000000
	};
	static uint8_t prot[PAGES], byte[PAGES];
	struct space *s = *state;
	uint64_t seed = 99;

	memset(prot, 0, sizeof(prot));
	memset(byte, 0, sizeof(byte));
	for (unsigned step = 0; step < 6000; step++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		uint64_t first = (seed >> 20) % PAGES;
		uint64_t n = 1 + (seed >> 40) % ((seed >> 60) == 0 ? PAGES : 8);
		n = MIN(n, PAGES - first);
		uint64_t va = BASE + first * PAGE_SIZE;
		switch (seed >> 57) {
		case 0 ... 9:
			map(s, va, n * PAGE_SIZE, RW, SPACE_FIXED, NULL, 0);
			memset(prot + first, RW | 8, n);
			memset(byte + first, 0, n);
			break;
		case 10 ... 19:
			assert_int_equal(space_unmap(s, va, n * PAGE_SIZE), 0);
			memset(prot + first, 0, n);
			memset(byte + first, 0, n);
			break;
		case 20 ... 29: {
			bool whole = memchr(prot + first, 0, n) == NULL;
			unsigned wanted = (seed & 1) != 0 ? RW : SPACE_READ;
			assert_int_equal(space_protect(s, va, n * PAGE_SIZE, wanted),
					 whole ? 0 : -ENOMEM);
			if (whole) {
				memset(prot + first, (int)wanted | 8, n);
			}
			break;
		}
		case 30 ... 35:
			if (memchr(prot + first, 0, n) == NULL) {
				assert_int_equal(space_advise(s, va, n * PAGE_SIZE, SPACE_DONTNEED),
						 0);
				memset(byte + first, 0, n);
			}
			break;
		case 36 ... 40: {
			uint64_t to = (seed >> 8) % (PAGES - n + 1);
			bool whole = true;
			for (uint64_t i = first; i < first + n; i++) {
				whole = whole && prot[i] != 0;
			}
			if (!whole || (to < first + n && first < to + n)) {
				break;
			}
			int r = space_move(s, va, n * PAGE_SIZE, n * PAGE_SIZE,
					   BASE + to * PAGE_SIZE);
			if (r == 0) {
				memcpy(prot + to, prot + first, n);
				memcpy(byte + to, byte + first, n);
				memset(prot + first, 0, n);
				memset(byte + first, 0, n);
			} else {
				assert_int_equal(r, -EFAULT); /* more than one mapping */
			}
			break;
		}
		case 41 ... 90:
			if ((prot[first] & SPACE_WRITE) != 0) {
				*touch(s, va, SPACE_WRITE) = byte[first] = (uint8_t)step;
			} else {
				assert_int_equal(space_fault(s, va, SPACE_WRITE), -EFAULT);
			}
			break;
		default:
			if (prot[first] != 0) {
				assert_int_equal(*touch(s, va, SPACE_READ), byte[first]);
			} else {
				assert_int_equal(space_fault(s, va, SPACE_READ), -EFAULT);
			}
		}
	}
	for (uint64_t i = 0; i < PAGES; i++) {
		if (prot[i] != 0) {
			assert_int_equal(*touch(s, BASE + i * PAGE_SIZE, SPACE_READ), byte[i]);
		} else {
			assert_null(see(s, BASE + i * PAGE_SIZE, SPACE_READ));
		}
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(anonymous_memory_comes_by_faults),
		TEST(large_memory_has_large_pages),
		TEST(shared_memory_is_one),
		TEST(punched_pages_leave_all_mappings),
		TEST(private_copies_are_private),
		TEST(a_writer_that_looks_behind_gets_its_copy),
		TEST(protection_holds),
		TEST(bad_arguments_are_refused),
		TEST(seals_hold),
		TEST(notifiers_hear_before_pages_go),
		TEST(pages_wait_for_an_unmapping),
		TEST(other_cpus_are_told),
		TEST(a_flush_is_told_by_number),
		TEST(remapping_keeps_contents),
		TEST(remapping_goes_where_it_is_told),
		TEST(copies_are_apart),
		TEST(copies_without_memory_leave_nothing),
		TEST(residency_tells_what_was_touched),
		TEST(strings_of_bytes_go_over_pages),
		TEST(mappings_are_limited),
		TEST(without_memory_it_says_so),
		TEST(fillers_write_new_pages),
		TEST(sparse_objects_are_cheap),
		TEST(random_calls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
