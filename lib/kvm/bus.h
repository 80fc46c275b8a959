/*
 * Guest writes that user space does not want to hear of one by one: doorbells (KVM_IOEVENTFD),
 * which signal an eventfd, and coalesced zones, which wait in a ring.
 * Spec: Linux Documentation/virt/kvm/api.rst, 4.59 KVM_IOEVENTFD, 4.116
 * KVM_(UN)REGISTER_COALESCED_MMIO
 */
#pragma once

#include <linux/kvm.h>

#include "lib/kvm/vcpu.h"

/**
 * kvm_bus_ioeventfd() - KVM_IOEVENTFD. Return: 0; -EINVAL; -EEXIST: another one would match, too;
 * -ENOENT: there is none to take away; -ENOSPC; -ENOMEM; as env->eventfd_get().
 * Context: may sleep; takes vm->memory for writing.
 */
must_use int kvm_bus_ioeventfd(struct kvm_vm *vm, const struct kvm_ioeventfd *spec);

/** kvm_bus_register() / kvm_bus_unregister() - a coalesced zone. Context: likewise. */
must_use int kvm_bus_register(struct kvm_vm *vm, const struct kvm_coalesced_mmio_zone *zone);
must_use int kvm_bus_unregister(struct kvm_vm *vm, const struct kvm_coalesced_mmio_zone *zone);

/** kvm_bus_has_ports() - may there be somebody at a port? Without vm->memory: as of some moment. */
static inline bool kvm_bus_has_ports(const struct kvm_vm *vm)
{
	return vm->irqchip == KVM_IRQCHIP_FULL ||
	       __atomic_load_n(&vm->doorbell_count, __ATOMIC_RELAXED) != 0 ||
	       __atomic_load_n(&vm->zone_count, __ATOMIC_RELAXED) != 0;
}

/** kvm_bus_fini() - takes all away. */
void kvm_bus_fini(struct kvm_vm *vm);

/**
 * kvm_bus_ring() - as kvm_bus_write(), of doorbells only.
 * @value: what is written, in its low @bytes.
 */
must_use bool kvm_bus_ring(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes,
			   uint64_t value);

/**
 * kvm_bus_write() - a guest's write of @bytes (1 to 8) at port or address @addr.
 * Return: true: it is done; false: user space has to see it.
 * Context: vCPU thread, vm->memory for reading.
 */
must_use bool kvm_bus_write(struct kvm_vm *vm, bool pio, uint64_t addr, unsigned bytes,
			    const void *data);
