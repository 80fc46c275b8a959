/*
 * The ends of the kernel that nobody wished for.
 */
#pragma once

#include "lib/base/check.h"
#include "lib/base/types.h"

/**
 * panic() - an error of the kernel itself: stops the other CPUs, says @fmt with a backtrace and
 * halts. Never for what a guest or a program did. check() of lib/base/check.h ends here, too.
 * Context: any.
 */
_Noreturn void panic(const char *fmt, ...) printf_like(1, 2);

/**
 * refuse() - this machine or what it was started with is not good enough: says one sentence
 * ("core: ...") on every console there is and halts.
 * Context: start-up, one CPU.
 */
_Noreturn void refuse(const char *fmt, ...) printf_like(1, 2);

struct user_frame;

/** panic_frame() - as panic(), about an exception in ring 0, with its registers. */
_Noreturn void panic_frame(const struct user_frame *frame, const char *fmt, ...) printf_like(2, 3);

/** panic_is_on() - has some CPU panicked? */
bool panic_is_on(void);
