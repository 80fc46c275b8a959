/*
 * /proc and /sys: the few files that libc and VMMs read.
 */
#pragma once

#include "lib/base/types.h"

/** proc_init() - Return: 0, -errno. */
must_use int proc_init(void);
