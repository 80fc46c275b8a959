#include "core/hw/irq.h"

#include <errno.h>
#include <stdatomic.h>

#include "core/hw/cpu.h"
#include "core/hw/io_apic.h"
#include "core/hw/ipi.h"
#include "core/hw/local_apic.h"
#include "core/lock.h"
#include "core/panic.h"

static struct {
	struct spinlock lock;
	/* Written under lock; read by handlers without. fn is written last, cleared first. */
	struct {
		irq_handler *_Atomic fn;
		void *ctx;
		const char *name;
		bool is_level;
	} vector[256];
} irqs = {.lock = SPINLOCK_INIT(LOCK_IRQ)};

void irq_dispatch(unsigned vector)
{
	struct cpu *cpu = cpu_this();
	bool is_level = irqs.vector[vector].is_level;
	unsigned held = spin_enter_irq();

	cpu->irq_depth++;
	cpu->irqs++;
	if (!is_level && vector != IRQ_VECTOR_SPURIOUS) {
		local_apic_eoi();
	}
	/* Pairs with the release in set(). */
	irq_handler *fn = atomic_load_explicit(&irqs.vector[vector].fn, memory_order_acquire);
	if (fn != NULL) {
		fn(irqs.vector[vector].ctx);
	}
	if (is_level) {
		local_apic_eoi();
	}
	cpu->irq_depth--;
	spin_leave_irq(held);
}

static void set(unsigned vector, irq_handler *fn, void *ctx, const char *name)
{
	irqs.vector[vector].ctx = ctx;
	irqs.vector[vector].name = name;
	atomic_store_explicit(&irqs.vector[vector].fn, fn, memory_order_release);
}

void irq_set_handler(unsigned vector, irq_handler *fn, const char *name)
{
	set(vector, fn, NULL, name);
}

int irq_alloc_vector(irq_handler *fn, void *ctx, const char *name)
{
	uint64_t flags = spin_take_irq(&irqs.lock);
	int found = -ENOSPC;

	for (unsigned v = IRQ_VECTOR_FIRST; v <= IRQ_VECTOR_LAST && found < 0; v++) {
		if (irqs.vector[v].name == NULL) {
			found = (int)v;
			set(v, fn, ctx, name);
		}
	}
	spin_give_irq(&irqs.lock, flags);
	return found;
}

static void nothing(void *arg)
{
	(void)arg;
}

void irq_free_vector(int vector)
{
	atomic_store_explicit(&irqs.vector[vector].fn, NULL, memory_order_release);
	/* A CPU that answers is not in a handler. */
	ipi_call(cpu_all(), nothing, NULL);
	uint64_t flags = spin_take_irq(&irqs.lock);
	irqs.vector[vector].is_level = false;
	irqs.vector[vector].name = NULL;
	spin_give_irq(&irqs.lock, flags);
}

int irq_connect_isa(unsigned irq, irq_handler *fn, void *ctx, const char *name)
{
	bool is_level;
	int vector = irq_alloc_vector(fn, ctx, name);

	if (vector < 0) {
		return vector;
	}
	int r = io_apic_connect_isa(irq, (unsigned)vector, &is_level);
	if (r != 0) {
		irq_free_vector(vector);
		return r;
	}
	irqs.vector[vector].is_level = is_level;
	return vector;
}
