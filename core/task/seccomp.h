/*
 * Filters of system calls, as Linux's seccomp(): programs of classic BPF over struct seccomp_data,
 * which can only become stricter. All filters run; the strictest answer counts.
 *
 * Spec: Linux Documentation/userspace-api/seccomp_filter.rst
 */
#pragma once

#include "lib/base/types.h"

struct seccomp_filter;
struct user_frame;

/* Of a process; all its threads have the same filters. */
struct seccomp {
	struct seccomp_filter *_Atomic last; /* only ever replaced by one that has it behind it */
	bool no_new_privileges;
};

/* As struct seccomp_data of <linux/seccomp.h>. */
struct seccomp_call {
	int32_t number;
	uint32_t arch;
	uint64_t rip;
	uint64_t argument[6];
};

#define SECCOMP_INSTRUCTIONS_MAX 4096
#define SECCOMP_FILTERS_MAX	 16

/* As struct sock_filter of <linux/filter.h>. */
struct seccomp_instruction {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

/** seccomp_check() - may this program run? It then ends, and touches nothing but the call and its
 * scratch words. Return: 0 or -EINVAL. */
must_use int seccomp_check(const struct seccomp_instruction *program, unsigned count);

/** seccomp_run() - one program. Return: SECCOMP_RET_* with its data. */
uint32_t seccomp_run(const struct seccomp_instruction *program, unsigned count,
		     const struct seccomp_call *call);

/** seccomp_add() - @program in kernel memory; copied. Return: 0, -EINVAL, -ENOMEM. */
must_use int seccomp_add(struct seccomp *s, const struct seccomp_instruction *program,
			 unsigned count);

void seccomp_init(struct seccomp *s);
void seccomp_fini(struct seccomp *s);
/** seccomp_inherit() - a child's are its parent's. Return: 0, -ENOMEM. */
must_use int seccomp_inherit(struct seccomp *to, const struct seccomp *from);

/** seccomp_allows() - may the call of @frame be made? If not, its result, signal or end has been
 * seen to. Context: thread. */
bool seccomp_allows(struct user_frame *frame);
