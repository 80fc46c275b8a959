/*
 * What the guest's CPUs say about themselves.
 *
 * `host` is what the provider can show, with the VM's own topology. The named models are one
 * fixed description each, alike on every provider, so that a VM can move between them:
 *
 * - They have the x86-64-v2 or x86-64-v3 level of the System V ABI, and what every CPU of that
 *   level has besides and a kernel wants: RDTSCP; for v3 AES, PCLMULQDQ, RDRAND, FSGSBASE, SMEP,
 *   ERMS, XSAVEOPT.
 * - They are "AuthenticAMD" of family 17h. Guests choose their mitigations by that: on an Intel
 *   host with Meltdown or MDS a guest that needs its own must run with `host`.
 * - The TSC is not called invariant: after a move it may run at another rate. The stable kvmclock
 *   takes its place.
 * - 40 physical address bits, or as many as the VM's RAM takes. A host with fewer may run the VM
 *   as long as its RAM lies within the host's; only the fault for a reserved bit then differs.
 *
 * Topology of all: one socket, one core per vCPU, one thread per core, APIC ID = index.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"
#include "vmm/config.h"

/**
 * cpu_model_build() - the CPUID of vCPU @index of @ncpus (1 to CONFIG_CPUS_MAX).
 * @supported: what KVM_GET_SUPPORTED_CPUID gave. The TSC-deadline timer is shown in any case; the
 * provider must have KVM_CAP_TSC_DEADLINE_TIMER.
 * @ram_end: first guest-physical address after RAM.
 * @out: @nent is the room in it, and then how much was used.
 * Return: 0; -ENOTSUP if the provider lacks something of the model, or address bits for the RAM;
 * -E2BIG if @out is too small. Logged.
 */
must_use int cpu_model_build(enum cpu_model model, const struct kvm_cpuid2 *supported,
			     unsigned ncpus, unsigned index, uint64_t ram_end,
			     struct kvm_cpuid2 *out);

/** cpu_model_name() - as on the command line. */
const char *cpu_model_name(enum cpu_model model);
