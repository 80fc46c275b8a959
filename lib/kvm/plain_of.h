/* Of the emulator's instructions those that the kernel can carry out when they come again. */
#pragma once

#include "lib/insn/decode.h"
#include "lib/kvm/plain.h"

/**
 * kvm_plain_of() - is it one? Of 64-bit code, without FS, GS, addresses of 32 bits, AH to BH, LOCK
 * and REP, and with an operand in memory that is read or written, not both.
 */
must_use bool kvm_plain_of(struct kvm_plain *plain, const struct insn *insn);
