/*
 * A guest's time: its TSC, and the kvmclock that a page of its memory tells it to reckon from it.
 * Spec: Linux Documentation/virt/kvm/x86/msr.rst, "MSR_KVM_SYSTEM_TIME_NEW"
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

/** kvm_clock_vm_init() - kvmclock starts at 0. */
void kvm_clock_vm_init(struct kvm_vm *vm);

/** kvm_clock_vcpu_init() - the TSC starts at 0, or runs with those of the other vCPUs. */
void kvm_clock_vcpu_init(struct kvm_vcpu *vcpu);

/** kvm_vcpu_guest_tsc() - what RDTSC gives the guest now. Context: any. */
uint64_t kvm_vcpu_guest_tsc(struct kvm_vcpu *vcpu);

/**
 * kvm_clock_host_tsc() - what the host's TSC is when the guest's comes to @tsc, or a little more.
 * @now: what the guest's is; @tsc is at most seconds from it. Context: any.
 */
uint64_t kvm_clock_host_tsc(struct kvm_vcpu *vcpu, uint64_t tsc, uint64_t now);

/**
 * kvm_clock_write_tsc() - user space sets the TSC. Values that could be meant to be the same clock
 * (within a second of what the last one would be now, or 0) get the same offset.
 */
void kvm_clock_write_tsc(struct kvm_vcpu *vcpu, uint64_t value);

/** kvm_clock_move_tsc() - another offset to the host's TSC. */
void kvm_clock_move_tsc(struct kvm_vcpu *vcpu, uint64_t offset);

/** kvm_clock_set_offset() - KVM_VCPU_TSC_OFFSET: as kvm_clock_move_tsc(), and others may join. */
void kvm_clock_set_offset(struct kvm_vcpu *vcpu, uint64_t offset);

/** kvm_clock_set_khz() - KVM_SET_TSC_KHZ; 0: the host's. Return: 0 or -EINVAL. */
must_use int kvm_clock_set_khz(struct kvm_vcpu *vcpu, uint64_t khz);

/** kvm_clock_get() / kvm_clock_set() - KVM_GET_CLOCK, KVM_SET_CLOCK. Spec: 4.29, 4.30 */
void kvm_clock_get(struct kvm_vm *vm, struct kvm_clock_data *data);
must_use int kvm_clock_set(struct kvm_vm *vm, const struct kvm_clock_data *data);

/** kvm_clock_set_page() - MSR_KVM_SYSTEM_TIME: where the guest wants its time, or not (bit 0). */
void kvm_clock_set_page(struct kvm_vcpu *vcpu, uint64_t value);

/** kvm_clock_update() - KVM_REQ_CLOCK: writes the page. Context: vm->memory is not held. */
void kvm_clock_update(struct kvm_vcpu *vcpu);

/** kvm_clock_pause() - KVM_KVMCLOCK_CTRL: the guest is told it stood still. 0 or -EINVAL. */
must_use int kvm_clock_pause(struct kvm_vcpu *vcpu);

/** kvm_clock_write_wall() - MSR_KVM_WALL_CLOCK: writes when kvmclock was 0 to @gpa. */
void kvm_clock_write_wall(struct kvm_vcpu *vcpu, uint64_t gpa);

/** kvm_clock_set_steal() - MSR_KVM_STEAL_TIME. Return: 0 or -EINVAL. */
must_use int kvm_clock_set_steal(struct kvm_vcpu *vcpu, uint64_t value);

/** kvm_clock_update_steal() - KVM_REQ_STEAL: writes the record. */
void kvm_clock_update_steal(struct kvm_vcpu *vcpu);

/**
 * kvm_clock_scale() - how to make @to_hz out of @from_hz: (ticks << shift) * mul >> 32, where a
 * negative shift goes to the right.
 */
void kvm_clock_scale(uint64_t to_hz, uint64_t from_hz, int8_t *shift, uint32_t *mul);
