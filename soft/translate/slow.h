/*
 * What translated code calls when the TLB does not have a page.
 */
#pragma once

#include "lib/base/types.h"

#define ST_SLOW_WRITE UINT32_C(0x10000)

struct soft_vcpu;

/**
 * st_slow() - the host's address for an access to @linear, of @access & 0xffff bytes.
 * @access: with ST_SLOW_WRITE it is (also) written to.
 * Return: the address; 0: the interpreter is to execute the instruction.
 * Context: called by translated code, on the vCPU's thread.
 */
uint64_t st_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access);
