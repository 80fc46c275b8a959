/*
 * Times of the ABI: struct timespec and the clocks that there are.
 */
#pragma once

#include "lib/base/types.h"

#define NS_PER_S UINT64_C(1000000000)

/** time_read() - a struct timespec of ring 3 as nanoseconds. Too large ones become CLOCK_NEVER.
 * Return: 0, -EFAULT, -EINVAL. */
must_use int time_read(uint64_t va, uint64_t *ns);

/** time_write() - Return: 0, -EFAULT. */
must_use int time_write(uint64_t va, uint64_t ns);

/** time_read_timeout() - a relative timeout as a deadline of clock_now_ns(); @va 0: none. */
must_use int time_read_timeout(uint64_t va, uint64_t *deadline_ns);

/** time_of_clock() - what CLOCK_* @id says. Return: 0, -EINVAL. */
must_use int time_of_clock(int id, uint64_t *ns);

/** time_to_deadline() - a time of that clock as a deadline of clock_now_ns(). Return: 0, -EINVAL. */
must_use int time_to_deadline(int id, uint64_t ns, uint64_t *deadline_ns);

/** time_after() - clock_now_ns() and @ns more, without overflow. */
uint64_t time_after(uint64_t ns);
