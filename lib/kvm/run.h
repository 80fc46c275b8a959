/*
 * KVM_RUN: lets the guest run until user space has to do something.
 */
#pragma once

#include "lib/kvm/vcpu.h"

/**
 * kvm_run() - one KVM_RUN.
 * Return: 0: vcpu->run says why; -EINTR: a signal, or immediate_exit; -EAGAIN: a vCPU that waited
 * for its start has it; -EFAULT: user memory is missing; -EINVAL: kvm_run is not valid; -EIO.
 * Context: vcpu->lock; may sleep.
 * Spec: 4.10, 5 "The kvm_run structure"
 */
must_use int kvm_run(struct kvm_vcpu *vcpu);
