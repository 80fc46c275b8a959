/*
 * Where the last x87 instruction was. The host's registers hold the addresses of what was executed
 * here and accessed here, of which a guest is to see nothing: they are replaced by those of the
 * guest's instruction and operand, or by zeros where nothing is known of them any more. CPUs of
 * AMD's keep them over a save of the registers only while an exception waits.
 *
 * Spec: Intel SDM vol. 1, 8.1.8 "x87 FPU Instruction and Data (Operand) Pointers"; AMD APM vol. 5,
 * FXSAVE
 */
#pragma once

#include "lib/base/types.h"

struct soft_vcpu;
struct st_frame;

/** st_x87_always_saved() - how does this host's CPU save them? Return: even if no exception waits.
 */
bool st_x87_always_saved(void);

/** st_x87_enter() - frame.x87_ip and x87_dp from the area that is going to be loaded. */
void st_x87_enter(struct st_frame *f, const uint8_t *area);

/**
 * st_x87_leave() - the guest's registers have been saved to its area, or else not loaded before.
 * Context: vCPU thread; the blocks are still those that have run.
 */
void st_x87_leave(struct soft_vcpu *vcpu);
