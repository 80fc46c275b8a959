/* The interrupt half: a VM's and a vCPU's life, and what the other files have in common. */
#include "lib/kvm/irq.h"

#include <errno.h>

#include "lib/kvm/irq_internal.h"

static size_t lapics_bytes(const struct kvm_vm *vm)
{
	return vm->env->max_vcpus * sizeof(struct lapic *);
}

int kvm_irq_vm_init(struct kvm_vm *vm)
{
	struct kvm_env *env = vm->env;
	struct kvm_irq *irq = kvm_ops(env)->alloc(env, KVM_STORE_VM, sizeof(*irq));

	if (irq == NULL) {
		return -ENOMEM;
	}
	irq->lapics = kvm_ops(env)->alloc(env, KVM_STORE_TABLE, lapics_bytes(vm));
	if (irq->lapics == NULL) {
		kvm_ops(env)->free(env, KVM_STORE_VM, irq, sizeof(*irq));
		return -ENOMEM;
	}
	irq->vm = vm;
	irq->layout = 1;
	vm->irq = irq;
	kvm_ops(env)->lock_init(env, &irq->irqfds_lock, KVM_LOCK_MUTEX);
	return 0;
}

void kvm_irq_vm_closed(struct kvm_vm *vm)
{
	irq_fd_fini(vm->irq);
}

void kvm_irq_vm_stop(struct kvm_vm *vm)
{
	if (vm->irq->pit_there) {
		kvm_ops(vm->env)->timer_cancel(vm->env, &vm->irq->pit_timer);
	}
}

void kvm_irq_vm_fini(struct kvm_vm *vm)
{
	struct kvm_env *env = vm->env;
	struct kvm_irq *irq = vm->irq;

	irq_fd_fini(irq);
	irq_routes_free(irq, irq->routes);
	kvm_ops(env)->lock_fini(env, &irq->irqfds_lock);
	kvm_ops(env)->free(env, KVM_STORE_TABLE, irq->lapics, lapics_bytes(vm));
	kvm_ops(env)->free(env, KVM_STORE_VM, irq, sizeof(*irq));
	vm->irq = NULL;
}

int kvm_irq_create_full(struct kvm_vm *vm)
{
	struct kvm_irq *irq = vm->irq;
	struct kvm_routes *routes;

	if (vm->irqchip != KVM_IRQCHIP_NONE) {
		return -EEXIST;
	}
	if (kvm_vm_count(vm) != 0) {
		return -EINVAL;
	}
	routes = irq_routes_default(irq);
	if (routes == NULL) {
		return -ENOMEM;
	}
	irq_lock(vm);
	irq_chips_init(irq);
	irq->routes = routes;
	irq_unlock(vm);
	vm->irqchip = KVM_IRQCHIP_FULL;
	return 0;
}

int kvm_irq_create_split(struct kvm_vm *vm, uint64_t pins)
{
	if (pins > KVM_MAX_IRQ_ROUTES) {
		return -EINVAL;
	}
	if (vm->irqchip != KVM_IRQCHIP_NONE || kvm_vm_count(vm) != 0) {
		return -EEXIST;
	}
	vm->irq->pins_reserved = (uint32_t)pins;
	vm->irqchip = KVM_IRQCHIP_SPLIT;
	return 0;
}

void kvm_irq_x2apic_api(struct kvm_vm *vm, uint64_t flags)
{
	atomic_fetch_or_explicit(&vm->irq->x2apic_flags, (uint32_t)flags, memory_order_relaxed);
	irq_layout_changed(vm->irq);
}

void kvm_irq_vcpu_added(struct kvm_vm *vm)
{
	irq_layout_changed(vm->irq);
}

static struct lapic_message message_of(const struct kvm_irq *irq, uint64_t address, uint32_t data)
{
	uint32_t flags = atomic_load_explicit(&irq->x2apic_flags, memory_order_relaxed);

	return lapic_msi(address, data, (flags & KVM_X2APIC_API_USE_32BIT_IDS) != 0);
}

int irq_send_msi(struct kvm_irq *irq, uint64_t address, uint32_t data)
{
	struct lapic_message message = message_of(irq, address, data);
	unsigned accepted = lapic_bus_send(irq->lapics, kvm_vm_count(irq->vm), NULL, &message);

	return accepted == 0 ? -1 : (int)accepted;
}

int kvm_irq_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi)
{
	struct kvm_irq *irq = vm->irq;
	uint32_t flags = atomic_load_explicit(&irq->x2apic_flags, memory_order_relaxed);

	if (vm->irqchip == KVM_IRQCHIP_NONE || msi->flags != 0 ||
	    ((flags & KVM_X2APIC_API_USE_32BIT_IDS) != 0 && (msi->address_hi & 0xff) != 0)) {
		return -EINVAL;
	}
	/* Nobody took it: -1, which user space sees as EPERM, as with Linux. */
	return irq_send_msi(irq, (uint64_t)msi->address_hi << 32 | msi->address_lo, msi->data);
}

/* Linux adds up what the wires of a GSI say, but for those that refuse (-1). */
int irq_set(struct kvm_irq *irq, enum kvm_irq_source source, uint32_t gsi, bool level)
{
	const struct kvm_routes *routes = irq->routes;
	int status = -1;

	if (routes == NULL || gsi >= routes->gsis) {
		return -1;
	}
	for (uint32_t i = routes->first[gsi]; i < routes->first[gsi + 1]; i++) {
		const struct kvm_route *route = &routes->route[i];
		int one = -1;

		if (!route->msi) {
			one = irq_chip_set(irq, source, route->chip, route->pin, level);
		} else if (level) {
			one = irq_send_msi(irq, route->address, route->data);
		}
		if (one >= 0) {
			status = one + (status < 0 ? 0 : status);
		}
	}
	return status;
}

bool irq_message(const struct kvm_irq *irq, uint32_t gsi, struct lapic_message *message)
{
	const struct kvm_routes *routes = irq->routes;

	if (routes == NULL || gsi >= routes->gsis || routes->first[gsi] == routes->first[gsi + 1]) {
		return false;
	}
	/* A message is the only route of its GSI. */
	const struct kvm_route *route = &routes->route[routes->first[gsi]];

	if (route->msi) {
		*message = message_of(irq, route->address, route->data);
	}
	return route->msi;
}

void irq_edge(struct kvm_irq *irq, uint32_t gsi)
{
	struct lapic_message message;

	if (irq_message(irq, gsi, &message)) {
		(void)lapic_bus_send(irq->lapics, kvm_vm_count(irq->vm), NULL, &message);
	} else {
		(void)irq_set(irq, KVM_SOURCE_USER, gsi, true);
		(void)irq_set(irq, KVM_SOURCE_USER, gsi, false);
	}
}

int kvm_irq_line(struct kvm_vm *vm, uint32_t line, bool level, int *status)
{
	if (vm->irqchip == KVM_IRQCHIP_NONE) {
		return -ENXIO;
	}
	irq_lock(vm);
	*status = irq_set(vm->irq, KVM_SOURCE_USER, line, level);
	irq_unlock(vm);
	return 0;
}
