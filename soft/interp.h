/*
 * The reference engine, and what it lends to others.
 */
#pragma once

#include "lib/base/types.h"

struct soft_vcpu;

/**
 * soft_interp_step() - one instruction at RIP, with the faults and traps that come of it.
 * Return: false: vcpu->stop says why the guest cannot go on.
 * Context: vCPU thread, inside.
 */
must_use bool soft_interp_step(struct soft_vcpu *vcpu);

/**
 * soft_interp_keep() - the instruction at RIP has begun: the next step executes it as it is now.
 * Return: false: there is none.
 */
must_use bool soft_interp_keep(struct soft_vcpu *vcpu);
