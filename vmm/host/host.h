/*
 * The only door to a KVM provider: every request that the VMM makes of whoever runs the guest's
 * CPUs goes through here, in the terms of the KVM API.
 * Spec: Linux Documentation/virt/kvm/api.rst (6.1); section numbers below are its own
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"
#include "vmm/host/provider.h"

#define HOST_CPUID_MAX 256

struct host_vm {
	/* constant after host_open() */
	const struct host_provider *provider;
	int kvm_fd;
	int vm_fd;
	void *writes;	 /* NULL: the provider sees what devices write */
	size_t run_size; /* of a vCPU's shared page, bytes */
	bool split;	 /* local APICs are the provider's, PIC, IOAPIC and PIT are ours */
	unsigned max_vcpus;
};

struct host_vcpu {
	/* constant after creation */
	const struct host_provider *provider;
	int fd;
	struct kvm_run *run;
};

/** Room for a CPUID table of HOST_CPUID_MAX entries. */
union host_cpuid {
	struct kvm_cpuid2 table;
	uint8_t room[sizeof(struct kvm_cpuid2) + HOST_CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
};

/**
 * host_open() - opens the provider and creates a VM with interrupt chips: split where the provider
 * has that, else all of them in the provider, with its PIT.
 * Return: 0 or -errno, logged.
 * Spec: 4.2 KVM_CREATE_VM, 4.24 KVM_CREATE_IRQCHIP, 7.5 KVM_CAP_SPLIT_IRQCHIP
 */
must_use int host_open(struct host_vm *vm, const struct host_provider *provider);
void host_close(struct host_vm *vm);

/**
 * host_memory_slot() - guest RAM at @addr is the VMM's memory at @host.
 * Return: 0 or -errno, logged. Spec: 4.35 KVM_SET_USER_MEMORY_REGION
 */
must_use int host_memory_slot(struct host_vm *vm, unsigned slot, gpa_t addr, uint64_t len,
			      void *host);

/**
 * host_wrote() - a device has written to @len bytes of guest RAM at @at, and the guest does not
 * know of it yet: guest_wrote() of vmm/memory.h. Context: any thread, any locks.
 */
void host_wrote(const struct host_vm *vm, const void *at, uint64_t len);

/**
 * host_cpuid_supported() - what the provider can show a guest.
 * Return: 0 or -errno, logged. Spec: 4.46 KVM_GET_SUPPORTED_CPUID
 */
must_use int host_cpuid_supported(struct host_vm *vm, union host_cpuid *out);

/** host_irq_line() - drives a wire of the provider's own chips (not split). Spec: 4.25 */
void host_irq_line(struct host_vm *vm, unsigned gsi, bool level);

/** host_signal_msi() - delivers one message now. Spec: 4.70 KVM_SIGNAL_MSI */
void host_signal_msi(struct host_vm *vm, uint64_t addr, uint32_t data);

/** host_set_routing() - replaces the routing table. Return: 0 or -errno. Spec: 4.52 */
must_use int host_set_routing(struct host_vm *vm, struct kvm_irq_routing *table);

/** host_irqfd() - ties eventfd @fd to route @gsi, or unties it. Return: 0 or -errno. Spec: 4.75 */
must_use int host_irqfd(struct host_vm *vm, int fd, unsigned gsi, bool on);

/** host_ioeventfd() - ties guest writes to eventfds, or unties. Return: 0 or -errno. Spec: 4.59 */
must_use int host_ioeventfd(struct host_vm *vm, const struct kvm_ioeventfd *spec);

/** host_vcpu_create() - vCPU with APIC ID @index. Return: 0 or -errno, logged. Spec: 4.7 */
must_use int host_vcpu_create(struct host_vm *vm, struct host_vcpu *vcpu, unsigned index);
void host_vcpu_destroy(struct host_vm *vm, struct host_vcpu *vcpu);

/**
 * host_vcpu_run() - until the vCPU needs something; @vcpu->run says what.
 * Return: 0; -EINTR after a signal or immediate_exit; else -errno. Spec: 4.10 KVM_RUN
 */
must_use int host_vcpu_run(struct host_vcpu *vcpu);

/** host_vcpu_interrupt() - queues the external interrupt @vector. Spec: 4.16 KVM_INTERRUPT */
must_use int host_vcpu_interrupt(struct host_vcpu *vcpu, unsigned vector);

/* State of a vCPU, each with the ioctl of its name. Return: 0 or -errno. Context: its thread. */
must_use int host_vcpu_set_cpuid(struct host_vcpu *vcpu, const struct kvm_cpuid2 *table);
must_use int host_vcpu_get_regs(struct host_vcpu *vcpu, struct kvm_regs *regs);
must_use int host_vcpu_set_regs(struct host_vcpu *vcpu, const struct kvm_regs *regs);
must_use int host_vcpu_get_sregs(struct host_vcpu *vcpu, struct kvm_sregs *sregs);
must_use int host_vcpu_set_sregs(struct host_vcpu *vcpu, const struct kvm_sregs *sregs);
must_use int host_vcpu_get_lapic(struct host_vcpu *vcpu, struct kvm_lapic_state *lapic);
must_use int host_vcpu_set_lapic(struct host_vcpu *vcpu, const struct kvm_lapic_state *lapic);
/** host_vcpu_set_msr() - one MSR; one that the provider does not have is -EINVAL. */
must_use int host_vcpu_set_msr(struct host_vcpu *vcpu, uint32_t index, uint64_t value);
