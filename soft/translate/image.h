/*
 * XSAVEC and XRSTOR of 64-bit code, to which a context switch comes, on the host's CPU: the guest's
 * x87 and vector registers stay there. PKRU does not: it is put into the image, or found in it.
 * Like fast.h, for which this is, without vector registers.
 */
#pragma once

#include "lib/base/types.h"

struct soft_vcpu;

/**
 * st_image_insn() - executes the instruction @what, as st_system_of() has it, on the image at
 * @linear. Return: as st_fast_system().
 */
uint64_t st_image_insn(struct soft_vcpu *vcpu, uint64_t linear, uint32_t what);
