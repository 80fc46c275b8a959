/* The routing table: which wires and messages a GSI stands for. */
#include <errno.h>

#include "lib/kvm/irq_internal.h"

static struct kvm_routes *alloc_routes(struct kvm_irq *irq, uint32_t count, uint32_t gsis)
{
	struct kvm_env *env = irq->vm->env;
	size_t first_at = sizeof(struct kvm_routes) + count * sizeof(struct kvm_route);
	size_t bytes = first_at + (gsis + 1) * sizeof(uint16_t);
	struct kvm_routes *routes = kvm_ops(env)->alloc(env, KVM_STORE_TABLE, bytes);

	if (routes != NULL) {
		routes->bytes = bytes;
		routes->count = count;
		routes->gsis = gsis;
		routes->first = (uint16_t *)(void *)((char *)routes + first_at);
	}
	return routes;
}

void irq_routes_free(struct kvm_irq *irq, struct kvm_routes *routes)
{
	struct kvm_env *env = irq->vm->env;

	if (routes != NULL) {
		kvm_ops(env)->free(env, KVM_STORE_TABLE, routes, routes->bytes);
	}
}

/* As Linux: GSIs 0 to 15 lead to both chips, 16 to 23 to the IOAPIC; pins have their numbers. */
struct kvm_routes *irq_routes_default(struct kvm_irq *irq)
{
	struct kvm_routes *routes = alloc_routes(irq, PIC_PINS + IOAPIC_PINS, IOAPIC_PINS);
	uint32_t n = 0;

	if (routes == NULL) {
		return NULL;
	}
	for (uint16_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		routes->first[gsi] = (uint16_t)n;
		routes->route[n++] = (struct kvm_route){
			.gsi = gsi, .chip = KVM_IRQCHIP_IOAPIC, .pin = (uint8_t)gsi};
		if (gsi < PIC_PINS) {
			routes->route[n++] = (struct kvm_route){
				.gsi = gsi,
				.chip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				.pin = gsi & 7};
		}
	}
	routes->first[IOAPIC_PINS] = (uint16_t)n;
	return routes;
}

static int take_entry(struct kvm_irq *irq, const struct kvm_irq_routing_entry *e,
		      struct kvm_route *route)
{
	uint32_t flags = atomic_load_explicit(&irq->x2apic_flags, memory_order_relaxed);

	*route = (struct kvm_route){.gsi = (uint16_t)e->gsi};
	if (e->type == KVM_IRQ_ROUTING_MSI) {
		if ((e->flags & ~(uint32_t)KVM_MSI_VALID_DEVID) != 0 ||
		    ((flags & KVM_X2APIC_API_USE_32BIT_IDS) != 0 &&
		     (e->u.msi.address_hi & 0xff) != 0)) {
			return -EINVAL;
		}
		route->msi = true;
		route->address = (uint64_t)e->u.msi.address_hi << 32 | e->u.msi.address_lo;
		route->data = e->u.msi.data;
		return 0;
	}
	if (e->type != KVM_IRQ_ROUTING_IRQCHIP || e->flags != 0 ||
	    irq->vm->irqchip != KVM_IRQCHIP_FULL || e->u.irqchip.irqchip > KVM_IRQCHIP_IOAPIC ||
	    e->u.irqchip.pin >= (e->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC ? IOAPIC_PINS : 8u)) {
		return -EINVAL;
	}
	route->chip = (uint8_t)e->u.irqchip.irqchip;
	route->pin = (uint8_t)e->u.irqchip.pin;
	return 0;
}

/* A GSI is one message, or at most one pin of each chip. So no GSI has more than three. */
static int check_gsi(const struct kvm_route *route, uint32_t count)
{
	if (count > 3) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < i; j++) {
			if (route[i].msi || route[j].msi || route[i].chip == route[j].chip) {
				return -EINVAL;
			}
		}
	}
	return 0;
}

/* Sorts the entries into @routes by GSI, keeping their order otherwise. */
static int fill(struct kvm_irq *irq, struct kvm_routes *routes,
		const struct kvm_irq_routing_entry *entries)
{
	uint16_t *first = routes->first;
	int error = 0;

	for (uint32_t i = 0; i < routes->count; i++) {
		first[entries[i].gsi]++;
	}
	for (uint32_t gsi = 0, sum = 0; gsi <= routes->gsis; gsi++) {
		sum += first[gsi];
		first[gsi] = (uint16_t)sum; /* behind its last, for now */
	}
	for (uint32_t i = routes->count; i-- > 0 && error == 0;) {
		error = take_entry(irq, &entries[i], &routes->route[--first[entries[i].gsi]]);
	}
	for (uint32_t gsi = 0; gsi < routes->gsis && error == 0; gsi++) {
		error = check_gsi(&routes->route[first[gsi]], first[gsi + 1] - first[gsi]);
	}
	return error;
}

int kvm_irq_set_routing(struct kvm_vm *vm, const struct kvm_irq_routing_entry *entries,
			uint32_t count, uint32_t flags)
{
	struct kvm_irq *irq = vm->irq;
	struct kvm_routes *routes, *old;
	uint32_t gsis = 0;
	int error;

	if (vm->irqchip == KVM_IRQCHIP_NONE || count > KVM_MAX_IRQ_ROUTES || flags != 0) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i].gsi >= KVM_MAX_IRQ_ROUTES) {
			return -EINVAL;
		}
		gsis = MAX(gsis, entries[i].gsi + 1);
	}
	routes = alloc_routes(irq, count, gsis);
	if (routes == NULL) {
		return -ENOMEM;
	}
	error = fill(irq, routes, entries);
	if (error != 0) {
		irq_routes_free(irq, routes);
		return error;
	}
	irq_lock(vm);
	old = irq->routes;
	irq->routes = routes;
	irq_layout_changed(irq);
	irq_unlock(vm);
	irq_routes_free(irq, old);
	return 0;
}

bool irq_routes_level(struct kvm_irq *irq, uint8_t vector)
{
	const struct kvm_routes *routes;
	bool found = false;

	irq_lock(irq->vm);
	routes = irq->routes;
	for (uint32_t i = 0; routes != NULL && !found && i < routes->count; i++) {
		const struct kvm_route *route = &routes->route[i];

		found = route->msi && route->gsi < irq->pins_reserved &&
			(route->data & BIT(15)) != 0 && (uint8_t)route->data == vector;
	}
	irq_unlock(irq->vm);
	return found;
}
