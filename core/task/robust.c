#include "core/task/robust.h"

#include <linux/futex.h>

#include "core/hw/user.h"
#include "core/task/futex.h"
#include "core/task/thread.h"

#define LIST_MAX 2048 /* as in Linux; a list may be a ring that never comes back */

/* One lock of the list: whoever waits for it learns that its owner has died. */
static void release(uint64_t va, int tid, bool pending)
{
	uint32_t value, old;

	if (va % 4 != 0 || user_get32(va, &value) != 0) {
		return;
	}
	if (pending && value == 0) {
		(void)futex_wake(va, true, 1, FUTEX_ANY);
		return;
	}
	while ((value & FUTEX_TID_MASK) == (uint32_t)tid) {
		uint32_t left = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;

		if (user_cmpxchg32_nofault(va, value, left, &old) != 0) {
			/* A page that cannot be written to does not keep the thread alive. */
			if (user_put32(va, left) != 0) {
				return;
			}
			old = value;
		}
		if (old == value) {
			/* FUTEX_WAITERS may have come just before user_put32(). */
			(void)futex_wake(va, true, 1, FUTEX_ANY);
			return;
		}
		value = old;
	}
}

static void walk(const struct thread *t)
{
	uint64_t entry, offset, pending, next;

	if (user_get64(t->robust_list, &entry) != 0 ||
	    user_get64(t->robust_list + 8, &offset) != 0 ||
	    user_get64(t->robust_list + 16, &pending) != 0) {
		return;
	}
	for (unsigned i = 0; i < LIST_MAX && (entry & ~UINT64_C(1)) != t->robust_list; i++) {
		uint64_t here = entry & ~UINT64_C(1); /* bit 0: priority inheritance, not offered */

		if (user_get64(here, &next) != 0) {
			return;
		}
		if (here != (pending & ~UINT64_C(1))) {
			release(here + offset, t->tid, false);
		}
		entry = next;
	}
	if ((pending & ~UINT64_C(1)) != 0) {
		release((pending & ~UINT64_C(1)) + offset, t->tid, true);
	}
}

void robust_end(void)
{
	struct thread *t = thread_current();

	if (t->robust_list != 0) {
		walk(t);
		t->robust_list = 0;
	}
	if (t->clear_child_tid != 0) {
		if (user_put32(t->clear_child_tid, 0) == 0) {
			(void)futex_wake(t->clear_child_tid, true, 1, FUTEX_ANY);
		}
		t->clear_child_tid = 0;
	}
}
