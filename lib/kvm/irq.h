/*
 * The seam between lib/kvm and its interrupt half: local APICs, the full irqchip (PIC, IOAPIC,
 * PIT), routes, irqfds. The functions below are defined in lib/kvm/irq*.c; the last section is what
 * they call.
 *
 * Three forms of a VM, vm->irqchip: none (all interrupts by KVM_INTERRUPT), split (local APICs
 * here; the PIC's interrupts by KVM_INTERRUPT), full.
 *
 * Data: struct kvm_irq hangs at vm->irq and struct kvm_apic at vcpu->apic; both are the interrupt
 * half's own. vm->irq_lock (a spin lock) guards chips, routes and what other threads change in a
 * local APIC; its registers otherwise are their vCPU's.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"

struct kvm_vm;
struct kvm_vcpu;

/* ---- life ---- */

/**
 * kvm_irq_vm_init() / _fini() - of a VM without chips; fini drops irqfds, storage.
 * Context: fini: no vCPU exists any more, no lock is held.
 */
must_use int kvm_irq_vm_init(struct kvm_vm *vm);
void kvm_irq_vm_fini(struct kvm_vm *vm);

/** kvm_irq_vm_stop() - the chips have nothing more to tell to vCPUs, which may go now. Context:
 * nobody else knows the VM, no lock is held. */
void kvm_irq_vm_stop(struct kvm_vm *vm);

/** kvm_irq_vm_closed() - the VM's descriptor was closed: irqfds end, vCPUs may live on. */
void kvm_irq_vm_closed(struct kvm_vm *vm);

/**
 * kvm_irq_vcpu_init() - a local APIC in its state after power-on, if the VM has them.
 * Context: vm->lock, the vCPU is not visible yet.
 */
must_use int kvm_irq_vcpu_init(struct kvm_vcpu *vcpu);

/** kvm_irq_vcpu_added() - kvm_vm_count() has become larger. */
void kvm_irq_vcpu_added(struct kvm_vm *vm);
void kvm_irq_vcpu_fini(struct kvm_vcpu *vcpu);

/** kvm_irq_vcpu_reset() - the APIC's part of INIT or (@init false) of power-on. */
void kvm_irq_vcpu_reset(struct kvm_vcpu *vcpu, bool init);

/* ---- ioctls: 0 or -errno; the structures are copies in our own memory ---- */

/** KVM_CREATE_IRQCHIP. Context: vm->lock. */
must_use int kvm_irq_create_full(struct kvm_vm *vm);
/** KVM_CAP_SPLIT_IRQCHIP with @pins reserved. Context: vm->lock. */
must_use int kvm_irq_create_split(struct kvm_vm *vm, uint64_t pins);
must_use int kvm_irq_create_pit(struct kvm_vm *vm, uint32_t flags); /* vm->lock */
must_use int kvm_irq_get_chip(struct kvm_vm *vm, struct kvm_irqchip *chip);
must_use int kvm_irq_set_chip(struct kvm_vm *vm, const struct kvm_irqchip *chip);
must_use int kvm_irq_get_pit(struct kvm_vm *vm, struct kvm_pit_state2 *pit);
must_use int kvm_irq_set_pit(struct kvm_vm *vm, const struct kvm_pit_state2 *pit);
must_use int kvm_irq_reinject(const struct kvm_vm *vm);
/** KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS. @status: set to what the latter gives. */
must_use int kvm_irq_line(struct kvm_vm *vm, uint32_t line, bool level, int *status);
/** KVM_SET_GSI_ROUTING; @count entries, at most KVM_MAX_IRQ_ROUTES, @flags refused unless 0. */
#define KVM_MAX_IRQ_ROUTES 4096
must_use int kvm_irq_set_routing(struct kvm_vm *vm, const struct kvm_irq_routing_entry *entries,
				 uint32_t count, uint32_t flags);
/** KVM_SIGNAL_MSI. Return: 1 delivered, 0 not, -errno. */
must_use int kvm_irq_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi);
must_use int kvm_irq_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *irqfd);
/** KVM_CAP_X2APIC_API: @flags are known ones. */
void kvm_irq_x2apic_api(struct kvm_vm *vm, uint64_t flags);
must_use int kvm_irq_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic);
must_use int kvm_irq_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic);
/** KVM_INTERRUPT. A VM without chips queues the vector in lib/kvm/events.c and comes not here. */
must_use int kvm_irq_extint(struct kvm_vcpu *vcpu, uint32_t vector);
/** Is no interrupt of user space waiting? kvm_run.ready_for_interrupt_injection. */
must_use bool kvm_irq_extint_free(const struct kvm_vcpu *vcpu);

/* ---- a running vCPU: on its thread ---- */

/**
 * kvm_irq_pending() - the vector that would be taken now, priorities and TPR considered, ExtINT
 * from a PIC or KVM_INTERRUPT included; -1: none. It does not look at RFLAGS.IF.
 */
must_use int kvm_irq_pending(struct kvm_vcpu *vcpu);
/** kvm_irq_held_back() - does an interrupt wait for the guest's task priority to fall? */
must_use bool kvm_irq_held_back(struct kvm_vcpu *vcpu);
/** kvm_irq_accept() - takes it: from IRR to ISR, the PIC's acknowledge. @more: there may be another
 *  that would be taken now; else it comes with KVM_REQ_EVENT. Return: vector or -1. */
must_use int kvm_irq_accept(struct kvm_vcpu *vcpu, bool *more);
/** kvm_irq_sync() - KVM_REQ_EVENT was there: timer expirations and posted messages come in. */
void kvm_irq_sync(struct kvm_vcpu *vcpu);
/** kvm_irq_has_init_sipi() - do INIT or SIPI wait for this vCPU? */
must_use bool kvm_irq_has_init_sipi(const struct kvm_vcpu *vcpu);
/**
 * kvm_irq_take_init_sipi() - carries them out: kvm_vcpu_init_reset(), kvm_vcpu_sipi(),
 * vcpu->mp_state as Linux has it.
 */
void kvm_irq_take_init_sipi(struct kvm_vcpu *vcpu);

/** kvm_irq_queue_sipi() - KVM_SET_MP_STATE: a SIPI has arrived, its page is vcpu->sipi_page. */
void kvm_irq_queue_sipi(struct kvm_vcpu *vcpu);

/** kvm_irq_apic_page() - is @gpa in the page of this vCPU's enabled xAPIC? *@offset: in it. */
must_use bool kvm_irq_apic_page(const struct kvm_vcpu *vcpu, uint64_t gpa, uint32_t *offset);
/**
 * kvm_irq_mmio() - an access to the xAPIC's page or to the IOAPIC. @data: @bytes, 1 to 8.
 * Return: false if nobody here has that address.
 */
must_use bool kvm_irq_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data,
			   bool write);
/** kvm_irq_pio() - PIC, ELCR, PIT, port 0x61. Return: false if nobody has the port. */
must_use bool kvm_irq_pio(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, void *data,
			  bool write);
/** x2APIC registers, MSR 0x800 to 0x8ff. Return: 0, or -EINVAL for #GP. */
must_use int kvm_irq_x2apic_read(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value);
must_use int kvm_irq_x2apic_write(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value);

/**
 * kvm_irq_set_apic_base() - IA32_APIC_BASE. @host: by ioctl, where the transitions that a guest
 * may not make are allowed. Return: 0 or -EINVAL. Without local APICs it is stored, as in Linux.
 */
must_use int kvm_irq_set_apic_base(struct kvm_vcpu *vcpu, uint64_t value, bool host);
must_use uint64_t kvm_irq_apic_base(const struct kvm_vcpu *vcpu);

/** The TPR as CR8 has it, 0 to 15. Only with local APICs. */
must_use uint64_t kvm_irq_cr8(const struct kvm_vcpu *vcpu);
void kvm_irq_set_cr8(struct kvm_vcpu *vcpu, uint64_t cr8);
/** IA32_TSC_DEADLINE; 0 while the timer is in another mode. */
must_use uint64_t kvm_irq_tsc_deadline(const struct kvm_vcpu *vcpu);
void kvm_irq_set_tsc_deadline(struct kvm_vcpu *vcpu, uint64_t value);
/** kvm_irq_tsc_changed() - the guest's TSC was set: deadlines in it are to be reckoned anew. */
void kvm_irq_tsc_changed(struct kvm_vcpu *vcpu);
/** kvm_irq_cpuid_changed() - CPUID was set: x2APIC, TSC-deadline or not. */
void kvm_irq_cpuid_changed(struct kvm_vcpu *vcpu);

/* ---- what lib/kvm offers to the interrupt half, besides vm.h and vcpu.h ----
 *
 *	kvm_vcpu_request(vcpu, KVM_REQ_EVENT)	after anything that may make kvm_irq_pending()
 *						differ, from any context: sets the bit and kicks
 *	kvm_vcpu_nmi(vcpu)			an NMI message; any context
 *	kvm_vcpu_eoi_exit(vcpu, vector)		a split irqchip's EOI for user space; own thread
 *	kvm_vcpu_init_reset(vcpu)		INIT; own thread
 *	kvm_vcpu_sipi(vcpu, page)		start at page * 4096; own thread
 *	kvm_vcpu_guest_tsc(vcpu)		what the guest's RDTSC gives now; any context
 *	kvm_cpuid_has(vcpu, ...)		lib/kvm/cpuid.h
 */
