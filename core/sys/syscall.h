/*
 * System calls: the table of what is offered, made from abi/linux/core.def.
 */
#pragma once

#include "core/hw/entry.h"
#include "lib/base/types.h"

/** A system call: its arguments, and its result or -errno. On the thread that made it, interrupts
 * on, no lock held. */
typedef int64_t syscall_fn(const uint64_t a[6]);

#define SYSCALL(name) int64_t sys_##name(const uint64_t a[6])

#define CORE_CALL(name, offered, limits) SYSCALL(name);
#include "abi/linux/core.def"

/** syscall_enter() - what entry_ops, syscall(), does. */
bool syscall_enter(struct user_frame *frame);
