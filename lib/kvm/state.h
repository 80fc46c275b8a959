/*
 * A vCPU's state in the structures of the KVM API: out of struct kvm_vcpu and into it.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

/*
 * kvm_state_get_...() / kvm_state_set_...() - one structure. Sets return 0, or -EINVAL if no CPU
 * can be in that state; then nothing has changed.
 * Context: the vCPU's thread, vcpu->lock; vm->memory is not held.
 */

/** General registers. Spec: 4.11, 4.12 */
void kvm_state_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
void kvm_state_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs);

/** Special registers. Spec: 4.13, 4.14, 4.131, 4.132 */
void kvm_state_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs);
must_use int kvm_state_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs);
void kvm_state_get_sregs2(struct kvm_vcpu *vcpu, struct kvm_sregs2 *sregs);
must_use int kvm_state_set_sregs2(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *sregs);

/** Debug registers. Spec: 4.33, 4.34 */
void kvm_state_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *regs);
must_use int kvm_state_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs);

/** Events. Spec: 4.31, 4.32 */
void kvm_state_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events);
must_use int kvm_state_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events);

/** MP state. Spec: 4.38, 4.39 */
void kvm_state_get_mp(struct kvm_vcpu *vcpu, struct kvm_mp_state *state);
must_use int kvm_state_set_mp(struct kvm_vcpu *vcpu, const struct kvm_mp_state *state);

/** x87 and SSE. Spec: 4.22, 4.23 */
void kvm_state_get_fpu(struct kvm_vcpu *vcpu, struct kvm_fpu *fpu);
void kvm_state_set_fpu(struct kvm_vcpu *vcpu, const struct kvm_fpu *fpu);

/** kvm_state_xsave_bytes() - of the area for KVM_GET_XSAVE2: KVM_CAP_XSAVE2. Not below 4096. */
must_use uint32_t kvm_state_xsave_bytes(const struct kvm_env *env);

/** The XSAVE area; @bytes of @area, the rest is cut off or zero. Spec: 4.42, 4.43, 4.134 */
void kvm_state_get_xsave(struct kvm_vcpu *vcpu, void *area, uint32_t bytes);
must_use int kvm_state_set_xsave(struct kvm_vcpu *vcpu, const void *area, uint32_t bytes);

/** Extended control registers. Spec: 4.44, 4.45 */
void kvm_state_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs);
must_use int kvm_state_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs);
