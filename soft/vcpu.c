#include "soft/vcpu.h"

#include <sched.h>

#include "soft/deliver.h"

#define EXC_BP 3
#define EXC_OF 4

/* Inside, unless another vCPU wants to be alone: either it sees us, or we see it. */
static void go_inside(struct soft_vcpu *vcpu)
{
	uint32_t visit = atomic_load_explicit(&vcpu->visit, memory_order_relaxed);

	/* Pairs with may_write() of soft/code.c. */
	atomic_store_explicit(&vcpu->visit, visit + 1, memory_order_release);
	for (;;) {
		struct soft_vcpu *owner;

		atomic_store(&vcpu->inside, true);
		owner = atomic_load(&vcpu->vm->owner);
		if (owner == NULL || owner == vcpu) {
			break;
		}
		atomic_store(&vcpu->inside, false);
		pthread_mutex_lock(&vcpu->vm->alone);
		pthread_mutex_unlock(&vcpu->vm->alone);
	}
	if (atomic_load(&vcpu->stale)) {
		/* Before the flush: what is taken away meanwhile makes it stale again. */
		atomic_store(&vcpu->stale, false);
		soft_mmu_flush(&vcpu->mmu);
	}
	soft_mmu_follow(vcpu);
	soft_mmu_obey_keys(vcpu);
}

static bool enter_guest(struct soft_vcpu *vcpu)
{
	go_inside(vcpu);
	if (kvm_vcpu_must_not_enter(vcpu->kvm)) {
		atomic_store(&vcpu->inside, false);
		return false;
	}
	return true;
}

/* Where the guest goes on after an event that lib/kvm has queued. */
static uint64_t return_of(const struct kvm_vcpu *kvm)
{
	const struct kvm_event *event = &kvm->inject;

	if (event->kind == KVM_EVENT_SOFT_INTERRUPT) {
		return kvm->cpu.rip + 2; /* INT n */
	}
	if (event->kind == KVM_EVENT_EXCEPTION &&
	    (event->vector == EXC_BP || event->vector == EXC_OF)) {
		return kvm->cpu.rip + 1; /* INT3, INTO */
	}
	return kvm->cpu.rip;
}

static void run(struct soft_vcpu *vcpu, struct kvm_stop *stop)
{
	struct kvm_vcpu *kvm = vcpu->kvm;

	bool injected = kvm->inject.kind != KVM_EVENT_NONE;

	if (injected && soft_deliver(vcpu, &kvm->inject, return_of(kvm)) != INSN_DONE) {
		return;
	}
	/* Behind the event there may be the next one, before the handler's first instruction. */
	if ((!injected || !soft_vcpu_must_stop(vcpu)) &&
	    vcpu->engine->run(vcpu, stop) == SOFT_END_STOP) {
		return;
	}
	if (kvm_vcpu_must_not_enter(kvm) || kvm->cpu.interrupt_shadow) {
		return;
	}
	if (kvm->want_nmi_window && !kvm->events.nmi.masked) {
		stop->reason = KVM_STOP_NMI_WINDOW;
	} else if (kvm->want_irq_window && (kvm->cpu.rflags & BIT(9)) != 0) {
		stop->reason = KVM_STOP_IRQ_WINDOW;
	}
}

void soft_vcpu_enter(struct kvm_vcpu *kvm, struct kvm_stop *stop)
{
	struct soft_vcpu *vcpu = soft_vcpu_of(kvm);

	*stop = (struct kvm_stop){.reason = KVM_STOP_NONE};
	vcpu->stop = stop;
	kvm->changed = 0;
	if (!enter_guest(vcpu)) {
		stop->undelivered = kvm->inject;
		return;
	}
	run(vcpu, stop);
	atomic_store(&vcpu->inside, false);
}

void soft_vcpu_kick(struct soft_vcpu *vcpu)
{
	char *at = (char *)vcpu->kick;

	/* Whichever it uses. */
	for (unsigned i = 0; i < SOFT_SPACES && at != NULL; i++) {
		atomic_store((_Atomic uint32_t *)(void *)at, 1);
		at += vcpu->kick_stride;
	}
}

void soft_vcpu_shoot(struct kvm_vm *vm)
{
	uint32_t count = kvm_vm_count(vm);

	for (uint32_t i = 0; i < count; i++) {
		atomic_store(&soft_vcpu_of(kvm_vm_vcpu(vm, i))->stale, true);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_vcpu *kvm = kvm_vm_vcpu(vm, i);
		struct soft_vcpu *vcpu = soft_vcpu_of(kvm);

		if (!atomic_load(&vcpu->inside)) {
			continue;
		}
		kvm_vcpu_note(kvm, KVM_REQ_KICK);
		soft_vcpu_kick(vcpu);
		/* It left, or it came back and has flushed. */
		while (atomic_load(&vcpu->inside) && atomic_load(&vcpu->stale)) {
			sched_yield();
		}
	}
}

void soft_vcpu_alone(struct soft_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->kvm->vm;
	uint32_t count;

	/* Who waits is outside, so that two that want it do not wait for each other. */
	atomic_store(&vcpu->inside, false);
	pthread_mutex_lock(&vcpu->vm->alone);
	atomic_store(&vcpu->vm->owner, vcpu);
	count = kvm_vm_count(vm);
	for (uint32_t i = 0; i < count; i++) {
		struct kvm_vcpu *kvm = kvm_vm_vcpu(vm, i);
		struct soft_vcpu *other = soft_vcpu_of(kvm);

		if (other == vcpu || !atomic_load(&other->inside)) {
			continue;
		}
		kvm_vcpu_note(kvm, KVM_REQ_KICK);
		soft_vcpu_kick(other);
		while (atomic_load(&other->inside)) {
			sched_yield();
		}
	}
	go_inside(vcpu);
}

void soft_vcpu_not_alone(struct soft_vcpu *vcpu)
{
	atomic_store(&vcpu->vm->owner, NULL);
	pthread_mutex_unlock(&vcpu->vm->alone);
}
