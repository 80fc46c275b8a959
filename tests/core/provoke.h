/*
 * What tests/core/provoke_kernel.c does on request of tests/guest/core/provoke.c.
 */
#pragma once

#define PROVOKE_CALL 4096 /* a system call that core does not have */

/* Name, and what becomes of it when the kernel has no objections. */
#define PROVOKE_LIST(X)                                               \
	X(panic)	  /* a panic() */                             \
	X(check)	  /* a check() that fails */                  \
	X(canary)	  /* writes beyond an array on the stack */   \
	X(overflow)	  /* calls itself for ever */                 \
	X(db_overflow)	  /* likewise, on the stack of #DB */         \
	X(nmi_overflow)	  /* of NMIs */                               \
	X(df_overflow)	  /* of #DF */                                \
	X(mc_overflow)	  /* of #MC */                                \
	X(write_text)	  /* writes to a function */                  \
	X(write_direct)	  /* writes to it by way of the direct map */ \
	X(write_constant) /* writes to a constant */                  \
	X(execute_data)	  /* calls what is in .data */                \
	X(execute_stack)  /* calls what is on its stack */            \
	X(execute_direct) /* calls a function in the direct map */    \
	X(execute_user)	  /* calls a function of ring 3 */            \
	X(read_user)	  /* reads a word of ring 3 without STAC */   \
	X(write_user)	  /* writes to it */                          \
	X(walk)		  /* says what the page tables allow */

enum provoke {
#define PROVOKE_ENUM(name) PROVOKE_##name,
	PROVOKE_LIST(PROVOKE_ENUM) PROVOKE_COUNT,
};
