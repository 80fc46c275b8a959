/*
 * The emulator's operations on registers that are more than a place: vector, control, debug and
 * extended control registers, CPUID, TSC. See struct insn_ops.
 */
#pragma once

#include "lib/insn/emulate.h"

enum insn_outcome kvm_op_read_xmm(struct insn_env *env, unsigned reg, void *data);
enum insn_outcome kvm_op_write_xmm(struct insn_env *env, unsigned reg, const void *data,
				   bool clear);
enum insn_outcome kvm_op_x87_image(struct insn_env *env, uint8_t **image);
enum insn_outcome kvm_op_read_cr(struct insn_env *env, unsigned cr, uint64_t *value);
enum insn_outcome kvm_op_write_cr(struct insn_env *env, unsigned cr, uint64_t value);
enum insn_outcome kvm_op_read_dr(struct insn_env *env, unsigned dr, uint64_t *value);
enum insn_outcome kvm_op_write_dr(struct insn_env *env, unsigned dr, uint64_t value);
