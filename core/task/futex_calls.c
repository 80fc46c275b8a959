/*
 * futex().
 */
#include <errno.h>
#include <linux/futex.h>

#include "core/hw/clock.h"
#include "core/sys/syscall.h"
#include "core/task/futex.h"
#include "core/task/signal.h"
#include "core/task/time.h"

static int64_t wait_call(const uint64_t *a, bool shared, uint32_t bits, bool absolute)
{
	uint64_t deadline_ns = CLOCK_NEVER, ns;
	int clock = (a[1] & FUTEX_CLOCK_REALTIME) != 0 ? 0 : 1;
	int error = 0;

	if (a[3] != 0) {
		error = time_read(a[3], &ns);
		if (error == 0 && absolute) {
			error = time_to_deadline(clock, ns, &deadline_ns);
		} else if (error == 0) {
			deadline_ns = time_after(ns);
		}
	}
	if (error != 0) {
		return error;
	}
	error = futex_wait(a[0], shared, (uint32_t)a[2], bits, deadline_ns);
	if (error != -EINTR) {
		return error;
	}
	/* A relative timeout would start anew. */
	return deadline_ns == CLOCK_NEVER || absolute ? -ERESTARTSYS : -EINTR;
}

SYSCALL(futex)
{
	bool shared = (a[1] & FUTEX_PRIVATE_FLAG) == 0;
	unsigned count = (unsigned)a[2];
	uint32_t expected = (uint32_t)a[5];

	switch (a[1] & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
		return wait_call(a, shared, FUTEX_ANY, false);
	case FUTEX_WAIT_BITSET:
		return wait_call(a, shared, (uint32_t)a[5], true);
	case FUTEX_WAKE:
		return futex_wake(a[0], shared, count, FUTEX_ANY);
	case FUTEX_WAKE_BITSET:
		return futex_wake(a[0], shared, count, (uint32_t)a[5]);
	case FUTEX_REQUEUE:
		return futex_requeue(a[0], shared, count, (unsigned)a[3], a[4], NULL);
	case FUTEX_CMP_REQUEUE:
		return futex_requeue(a[0], shared, count, (unsigned)a[3], a[4], &expected);
	default:
		return -ENOSYS;
	}
}
