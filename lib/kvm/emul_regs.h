/*
 * The emulator's operations on registers that are more than a place: vector, control and debug
 * registers. See struct insn_ops. A fault is in vcpu->exits->fault.
 */
#pragma once

#include "lib/kvm/vcpu.h"

enum insn_outcome kvm_op_read_xmm(struct kvm_vcpu *vcpu, unsigned reg, void *data);
enum insn_outcome kvm_op_write_xmm(struct kvm_vcpu *vcpu, unsigned reg, const void *data,
				   bool clear);
enum insn_outcome kvm_op_x87_image(struct kvm_vcpu *vcpu, uint8_t **image);
enum insn_outcome kvm_op_read_cr(struct kvm_vcpu *vcpu, unsigned cr, uint64_t *value);
enum insn_outcome kvm_op_write_cr(struct kvm_vcpu *vcpu, unsigned cr, uint64_t value);
enum insn_outcome kvm_op_read_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t *value);
enum insn_outcome kvm_op_write_dr(struct kvm_vcpu *vcpu, unsigned dr, uint64_t value);
