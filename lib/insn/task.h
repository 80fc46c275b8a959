/*
 * Inside the emulator: hardware tasks.
 */
#pragma once

#include "lib/insn/transfer.h"

enum insn_task_how {
	INSN_TASK_JUMP,
	INSN_TASK_CALL, /* and gates in the IDT: the new task is nested in the old one */
	INSN_TASK_RETURN,
};

struct insn_task {
	enum insn_task_how how;
	uint16_t selector; /* of the new task's TSS */
	uint64_t rip;	   /* where the old task goes on later, and with which flags */
	uint64_t rflags;
	uint32_t ext; /* of error codes */
	bool has_error;
	uint32_t error; /* pushed on the new task's stack */
};

/**
 * insn_task_switch() - not in long mode.
 * Return: INSN_DONE, and RIP is the new task's. INSN_FAULT: before the switch nothing has changed;
 * a fault behind it is one of the new task, at its RIP.
 * Spec: Intel SDM vol. 3A, 7.3 "Task Switching"; AMD APM vol. 2, 12.3
 */
must_use enum insn_outcome insn_task_switch(struct insn_env *env, const struct insn_task *task);
