#include "core/hw/ipi.h"

#include <stdatomic.h>

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "core/hw/local_apic.h"
#include "lib/base/check.h"

/*
 * A call lies on its caller's stack. Each CPU has a list of those that wait for it; links are in
 * the caller's array, one for each CPU it calls.
 */
struct call {
	ipi_fn *fn;
	void *arg;
	_Atomic unsigned left; /* CPUs that have not run it */
};

struct call_link {
	struct call_link *next;
	struct call *call;
};

static struct call_link *_Atomic waiting[CPU_MAX];

static void run_calls(void)
{
	/* Pairs with the release in post(). */
	struct call_link *l =
		atomic_exchange_explicit(&waiting[cpu_index()], NULL, memory_order_acquire);

	while (l != NULL) {
		struct call_link *next = l->next;
		struct call *c = l->call;
		c->fn(c->arg);
		/* Pairs with the acquire in ipi_call(), which then gives up *c and *l. */
		atomic_fetch_sub_explicit(&c->left, 1, memory_order_release);
		l = next;
	}
}

static void on_reschedule(void)
{
	/* That the interrupt came is all: on the way out the CPU looks at its work. */
}

void ipi_init(void)
{
	irq_set_handler(IRQ_VECTOR_CALL, run_calls);
	irq_set_handler(IRQ_VECTOR_RESCHED, on_reschedule);
}

static void post(unsigned cpu, struct call_link *l)
{
	struct call_link *first = atomic_load_explicit(&waiting[cpu], memory_order_relaxed);

	do {
		l->next = first;
	} while (!atomic_compare_exchange_weak_explicit(
		&waiting[cpu], &first, l, memory_order_release, memory_order_relaxed));
	/* Whoever found the list empty interrupts; later ones are taken along. */
	if (first == NULL) {
		local_apic_send(cpu_by_index(cpu)->apic_id, LOCAL_APIC_FIXED | IRQ_VECTOR_CALL);
	}
}

void ipi_call(uint64_t cpus, ipi_fn *fn, void *arg)
{
	struct call_link links[CPU_MAX];
	struct call call = {.fn = fn, .arg = arg};
	uint64_t flags = irq_save();
	uint64_t self = BIT(cpu_index());
	uint64_t others = cpus & cpu_all() & ~self;

	/* Two that call each other with interrupts off would wait for ever. */
	check(others == 0 || (flags & BIT(9)) != 0);
	unsigned n = 0;
	for (uint64_t rest = others; rest != 0; rest &= rest - 1) {
		n++;
	}
	atomic_init(&call.left, n);
	for (uint64_t rest = others; rest != 0; rest &= rest - 1) {
		unsigned cpu = (unsigned)__builtin_ctzll(rest);
		links[cpu].call = &call;
		post(cpu, &links[cpu]);
	}
	if ((cpus & self) != 0) {
		fn(arg);
	}
	irq_restore(flags);
	while (atomic_load_explicit(&call.left, memory_order_acquire) != 0) {
		asm_pause();
	}
}

void ipi_reschedule(unsigned cpu)
{
	local_apic_send(cpu_by_index(cpu)->apic_id, LOCAL_APIC_FIXED | IRQ_VECTOR_RESCHED);
}

void ipi_stop_others(void)
{
	if (cpu_count() > 1) {
		local_apic_send(0, LOCAL_APIC_OTHERS | LOCAL_APIC_NMI);
	}
}
