/*
 * The process of one VM: `yado run`, its console on a socket, its messages on a pipe. Whatever it
 * does with them, there is an end to the work that it makes here.
 */
#pragma once

#include <sys/types.h>

#include "vmm/loop.h"
#include "vmm/watch.h"

#define VM_PROCESS_INPUT   1024
#define VM_PROCESS_MESSAGE 512

/** What its owner hears of it. All on the loop's thread, and none after vm_process_fini(). */
struct vm_process_ops {
	/* May more output come now? After a false, vm_process_update() asks again. */
	bool (*wants_output)(void *ctx);
	void (*output)(void *ctx, const uint8_t *buf, size_t n);
	/* One line, without its end. */
	void (*message)(void *ctx, const char *line);
};

struct vm_process {
	struct loop *loop;
	const struct vm_process_ops *ops;
	void *ctx;
	pid_t pid; /* 0: there is none */
	struct watch console, messages;
	bool console_ended, messages_ended;
	/* What was read in the current slice of time. */
	struct loop_timer slice;
	uint64_t slice_end_ns;
	size_t slice_bytes;
	bool is_over; /* the slice's share has been used up */
	uint8_t input[VM_PROCESS_INPUT];
	size_t input_len;
	char line[VM_PROCESS_MESSAGE];
	size_t line_len;
};

/** vm_process_init() - without a process. Return: 0 or -errno, logged. */
must_use int vm_process_init(struct vm_process *p, struct loop *loop,
			     const struct vm_process_ops *ops, void *ctx);

/** vm_process_fini() - there is no process any more. Harmless after a failed init. */
void vm_process_fini(struct vm_process *p);

/**
 * vm_process_start() - starts this very program again.
 * @argv: NULL-terminated, argv[0] included.
 * It is in a session of its own, and gets SIGTERM if this process ends.
 * Return: 0 or -errno, not logged.
 */
must_use int vm_process_start(struct vm_process *p, char *const argv[]);

/** vm_process_input() - types @n bytes. Return: how many there was room for. */
size_t vm_process_input(struct vm_process *p, const uint8_t *buf, size_t n);

/** vm_process_signal() - sends a signal, if there is a process. */
void vm_process_signal(const struct vm_process *p, int number);

/** vm_process_update() - wants_output() may have another answer. */
void vm_process_update(struct vm_process *p);

/** vm_process_reaped() - wait4() has told of its end: hands out what it still said. */
void vm_process_reaped(struct vm_process *p);
