/*
 * How the kernel's start-up ends: with threads.
 */
#pragma once

/** task_start() - the first CPU, when all others have been started: makes the file tree of the
 * initramfs, starts `init=`, and becomes this CPU's idle thread.
 * Context: interrupts on, on a stack with a guard page, which is kept. */
_Noreturn void task_start(void);

/** task_start_cpu() - each other CPU, when it is ready. Context: as task_start(), interrupts on or
 * off. */
_Noreturn void task_start_cpu(void);

/** task_init() - before the first other CPU is started. */
void task_init(void);
