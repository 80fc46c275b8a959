/*
 * The translating engine: from block to block.
 */
#pragma once

struct soft_vcpu;

/** Not a mode: the interpreter is to execute what comes. */
#define ST_MODE_INTERPRET (~0u)

/** st_mode() - bits of ST_MODE_*, or ST_MODE_INTERPRET. Context: vCPU thread. */
unsigned st_mode(const struct soft_vcpu *vcpu);
