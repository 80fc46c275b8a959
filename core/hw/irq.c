#include "core/hw/irq.h"

#include <stdatomic.h>

#include "core/hw/cpu.h"
#include "core/hw/io_apic.h"
#include "core/hw/local_apic.h"
#include "core/lock.h"

/* Constant after start-up. */
static struct {
	irq_handler *_Atomic fn;
	bool is_level;
} vectors[256];

void irq_dispatch(unsigned vector)
{
	bool is_level = vectors[vector].is_level;
	unsigned held = spin_enter_irq();

	cpu_this()->irqs++;
	if (!is_level && vector != IRQ_VECTOR_SPURIOUS) {
		local_apic_eoi();
	}
	/* Pairs with the release in irq_set_handler(). */
	irq_handler *fn = atomic_load_explicit(&vectors[vector].fn, memory_order_acquire);
	if (fn != NULL) {
		fn();
	}
	if (is_level) {
		local_apic_eoi();
	}
	spin_leave_irq(held);
}

void irq_set_handler(unsigned vector, irq_handler *fn)
{
	atomic_store_explicit(&vectors[vector].fn, fn, memory_order_release);
}

int irq_connect_isa(unsigned irq, unsigned vector, irq_handler *fn)
{
	irq_set_handler(vector, fn);
	return io_apic_connect_isa(irq, vector, &vectors[vector].is_level);
}
