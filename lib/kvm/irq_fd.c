/*
 * KVM_IRQFD: eventfds that raise interrupts. One of the plain kind gives its GSI an edge. One with
 * KVM_IRQFD_FLAG_RESAMPLE holds the line up until the guest's EOI, and then tells another eventfd,
 * so that its owner can raise it again.
 *
 * The list is guarded by a mutex of its own. An entry that was taken off the list is its remover's:
 * who finds that it is gone (a callback that was under way) leaves it alone, and the remover waits
 * for that callback in eventfd_unwatch().
 */
#include <errno.h>

#include "lib/kvm/irq_internal.h"

static void lock_list(struct kvm_irq *irq)
{
	kvm_ops(irq->vm->env)->lock(irq->vm->env, &irq->irqfds_lock);
}

static void unlock_list(struct kvm_irq *irq)
{
	kvm_ops(irq->vm->env)->unlock(irq->vm->env, &irq->irqfds_lock);
}

/* Is there another one that holds the same line? The lock is held. */
static bool line_is_shared(const struct kvm_irq *irq, uint32_t gsi)
{
	for (const struct kvm_irqfd_entry *e = irq->irqfds; e != NULL; e = e->next) {
		if (e->resample != NULL && e->gsi == gsi) {
			return true;
		}
	}
	return false;
}

/* Ends one that was taken off the list. */
static void end(struct kvm_irq *irq, struct kvm_irqfd_entry *entry)
{
	struct kvm_env *env = irq->vm->env;

	kvm_ops(env)->eventfd_unwatch(env, entry->eventfd, &entry->watch);
	if (entry->resample != NULL) {
		lock_list(irq);
		if (!line_is_shared(irq, entry->gsi)) {
			irq_lock(irq->vm);
			(void)irq_set(irq, KVM_SOURCE_RESAMPLE, entry->gsi, false);
			irq_unlock(irq->vm);
		}
		unlock_list(irq);
		atomic_fetch_sub_explicit(&irq->resamplers, 1, memory_order_relaxed);
		kvm_ops(env)->eventfd_put(env, entry->resample);
	}
	kvm_ops(env)->eventfd_put(env, entry->eventfd);
	kvm_ops(env)->free(env, KVM_STORE_TABLE, entry, sizeof(*entry));
}

/* Finds out whether a single local APIC gets all that comes, and which. irq_lock is held. */
static void find_target(struct kvm_irq *irq, struct kvm_irqfd_entry *entry)
{
	/* First: what changes from here on has another number. */
	uint32_t layout = atomic_load_explicit(&irq->layout, memory_order_acquire);
	uint32_t found = 0;

	entry->layout = 0;
	/* The lowest priority takes turns. */
	if (!irq_message(irq, entry->gsi, &entry->message) || entry->message.mode != LAPIC_FIXED ||
	    entry->message.vector < 16) {
		return;
	}
	for (uint32_t i = 0; i < kvm_vm_count(irq->vm); i++) {
		if (lapic_matches(irq->lapics[i], &entry->message)) {
			entry->target = irq->lapics[i];
			found++;
		}
	}
	if (found == 1) {
		entry->layout = layout;
	}
}

static rare void signal_slowly(struct kvm_irq *irq, struct kvm_irqfd_entry *entry)
{
	irq_lock(irq->vm);
	if (entry->resample != NULL) {
		(void)irq_set(irq, KVM_SOURCE_RESAMPLE, entry->gsi, true);
	} else {
		find_target(irq, entry);
		irq_edge(irq, entry->gsi);
	}
	irq_unlock(irq->vm);
}

static void signalled(struct kvm_eventfd_watch *watch)
{
	struct kvm_irqfd_entry *entry = container_of(watch, struct kvm_irqfd_entry, watch);
	struct kvm_irq *irq = entry->irq;

	/* Pairs with the release in irq_layout_changed(). */
	if (entry->layout == atomic_load_explicit(&irq->layout, memory_order_acquire)) {
		lapic_post_fixed(entry->target, &entry->message);
	} else {
		signal_slowly(irq, entry);
	}
}

void irq_fd_fini(struct kvm_irq *irq)
{
	for (;;) {
		struct kvm_irqfd_entry *entry;

		lock_list(irq);
		entry = irq->irqfds;
		if (entry != NULL) {
			irq->irqfds = entry->next;
		}
		unlock_list(irq);
		if (entry == NULL) {
			return;
		}
		end(irq, entry);
	}
}

static int deassign(struct kvm_irq *irq, const struct kvm_irqfd *args)
{
	struct kvm_env *env = irq->vm->env;
	struct kvm_irqfd_entry *found = NULL;
	void *eventfd;
	int error = kvm_ops(env)->eventfd_get(env, (int)args->fd, &eventfd);

	if (error != 0) {
		return error;
	}
	lock_list(irq);
	for (struct kvm_irqfd_entry **at = &irq->irqfds; *at != NULL; at = &(*at)->next) {
		if ((*at)->eventfd == eventfd && (*at)->gsi == args->gsi) {
			found = *at;
			*at = found->next;
			break;
		}
	}
	unlock_list(irq);
	if (found != NULL) {
		end(irq, found);
	}
	kvm_ops(env)->eventfd_put(env, eventfd);
	return 0;
}

/* Puts it on the list and watches. The lock is held meanwhile: nobody ends it halfway. */
static int add(struct kvm_irq *irq, struct kvm_irqfd_entry *entry)
{
	struct kvm_env *env = irq->vm->env;
	int error = 0;

	lock_list(irq);
	for (const struct kvm_irqfd_entry *e = irq->irqfds; e != NULL; e = e->next) {
		if (e->eventfd == entry->eventfd) {
			error = -EBUSY;
		}
	}
	if (error == 0) {
		error = kvm_ops(env)->eventfd_watch(env, entry->eventfd, &entry->watch);
	}
	if (error == 0) {
		entry->next = irq->irqfds;
		irq->irqfds = entry;
		if (entry->resample != NULL) {
			atomic_fetch_add_explicit(&irq->resamplers, 1, memory_order_relaxed);
		}
	}
	unlock_list(irq);
	return error;
}

static int assign(struct kvm_irq *irq, const struct kvm_irqfd *args)
{
	struct kvm_env *env = irq->vm->env;
	struct kvm_irqfd_entry *entry = kvm_ops(env)->alloc(env, KVM_STORE_TABLE, sizeof(*entry));
	int error;

	if (entry == NULL) {
		return -ENOMEM;
	}
	entry->irq = irq;
	entry->gsi = args->gsi;
	entry->watch.signalled = signalled;
	error = kvm_ops(env)->eventfd_get(env, (int)args->fd, &entry->eventfd);
	if (error != 0) {
		goto free_entry;
	}
	if ((args->flags & KVM_IRQFD_FLAG_RESAMPLE) != 0) {
		error = kvm_ops(env)->eventfd_get(env, (int)args->resamplefd, &entry->resample);
		if (error != 0) {
			goto put_eventfd;
		}
	}
	error = add(irq, entry);
	if (error == 0) {
		return 0;
	}
	if (entry->resample != NULL) {
		kvm_ops(env)->eventfd_put(env, entry->resample);
	}
put_eventfd:
	kvm_ops(env)->eventfd_put(env, entry->eventfd);
free_entry:
	kvm_ops(env)->free(env, KVM_STORE_TABLE, entry, sizeof(*entry));
	return error;
}

int kvm_irq_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *args)
{
	if ((args->flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE)) != 0) {
		return -EINVAL;
	}
	if ((args->flags & KVM_IRQFD_FLAG_DEASSIGN) != 0) {
		return deassign(vm->irq, args);
	}
	/* Without a chip of ours nobody would tell of an EOI. */
	if (vm->irqchip == KVM_IRQCHIP_NONE ||
	    ((args->flags & KVM_IRQFD_FLAG_RESAMPLE) != 0 && vm->irqchip != KVM_IRQCHIP_FULL)) {
		return -EINVAL;
	}
	return assign(vm->irq, args);
}

/* Does @gsi lead to one of the pins? irq_lock is held. */
static bool leads_to(const struct kvm_irq *irq, uint32_t gsi, unsigned chip, uint32_t pins)
{
	const struct kvm_routes *routes = irq->routes;

	if (routes == NULL || gsi >= routes->gsis) {
		return false;
	}
	for (uint32_t i = routes->first[gsi]; i < routes->first[gsi + 1]; i++) {
		const struct kvm_route *route = &routes->route[i];

		if (!route->msi && route->chip == chip && (pins & BIT(route->pin)) != 0) {
			return true;
		}
	}
	return false;
}

void irq_fd_acknowledged(struct kvm_irq *irq, unsigned chip, uint32_t pins)
{
	struct kvm_env *env = irq->vm->env;

	if (pins == 0 || atomic_load_explicit(&irq->resamplers, memory_order_relaxed) == 0) {
		return;
	}
	lock_list(irq);
	for (struct kvm_irqfd_entry *e = irq->irqfds; e != NULL; e = e->next) {
		bool mine;

		if (e->resample == NULL) {
			continue;
		}
		irq_lock(irq->vm);
		mine = leads_to(irq, e->gsi, chip, pins);
		if (mine) {
			(void)irq_set(irq, KVM_SOURCE_RESAMPLE, e->gsi, false);
		}
		irq_unlock(irq->vm);
		if (mine) {
			kvm_ops(env)->eventfd_signal(env, e->resample);
		}
	}
	unlock_list(irq);
}
