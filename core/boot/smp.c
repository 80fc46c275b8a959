/*
 * Spec: Intel SDM vol. 3A, "MP Initialization Protocol Algorithm"; MultiProcessor
 * Specification 1.4, B.4
 */
#include "core/boot/smp.h"

#include <stdatomic.h>
#include <string.h>

#include "core/hw/clock.h"
#include "core/hw/context.h"
#include "core/hw/cpu_tables.h"
#include "core/hw/local_apic.h"
#include "core/hw/timer_device.h"
#include "core/log.h"
#include "core/mem/kmap.h"
#include "core/mem/paging.h"
#include "core/panic.h"
#include "lib/base/bytes.h"

#define STARTUP_NS 200000     /* after the first start-up IPI, before the second */
#define COME_UP_NS 5000000000 /* an emulated CPU on a busy machine may take its time */

extern const uint8_t trampoline[], trampoline_end[], trampoline_gdt_base[], trampoline_jump[];

/* trampoline.S knows the first three. */
struct smp_start {
	uint64_t root;
	uint64_t stack;
	struct cpu *cpu;
	void (*main)(void);
};

/* What the next CPU takes when it comes. */
struct smp_start *_Atomic smp_next;

void smp_cpu_start(struct smp_start *start);

void smp_cpu_start(struct smp_start *start)
{
	void (*main)(void) = start->main;

	cpu_load(start->cpu);
	local_apic_start();
	timer_device_start();
	fpu_start_cpu();
	/* From here on whoever started it may give up *start. */
	cpu_add(start->cpu);
	main();
}

static bool wait_for(struct cpu *cpu, uint64_t ns)
{
	uint64_t end = clock_now_ns() + ns;

	while (!atomic_load_explicit(&cpu->online, memory_order_acquire)) {
		if (clock_now_ns() > end) {
			return false;
		}
		asm_pause();
	}
	return true;
}

static bool wake(struct cpu *cpu, hpa_t page)
{
	uint32_t startup = LOCAL_APIC_STARTUP | (uint32_t)(page.v >> PAGE_SHIFT);

	local_apic_send(cpu->apic_id, LOCAL_APIC_INIT);
	clock_spin_ns(STARTUP_NS);
	local_apic_send(cpu->apic_id, startup);
	if (wait_for(cpu, STARTUP_NS)) {
		return true;
	}
	local_apic_send(cpu->apic_id, startup);
	return wait_for(cpu, COME_UP_NS);
}

/* Return: did it come up? */
static bool start_cpu(const struct acpi_cpu *who, hpa_t page, void (*main)(void))
{
	/* In the image: the tables of start.S have no kernel stacks. */
	static struct smp_start start;
	bool is_up = false;

	start = (struct smp_start){.root = paging_root().v, .main = main};
	start.cpu = cpu_create(who->apic_id, who->acpi_id);
	start.stack = kmap_stack_create();
	if (start.cpu == NULL || start.stack == 0) {
		log_warning("cpu: no memory for the one with APIC ID %u", who->apic_id);
	} else {
		atomic_store_explicit(&smp_next, &start, memory_order_release);
		is_up = wake(start.cpu, page);
		if (!is_up && atomic_exchange(&smp_next, NULL) == NULL) {
			/* It has begun, and uses all of that: it has to come. */
			is_up = wait_for(start.cpu, COME_UP_NS);
			if (!is_up) {
				panic("CPU with APIC ID %u began to start and stopped",
				      who->apic_id);
			}
		}
	}
	if (!is_up) {
		if (start.cpu != NULL) {
			cpu_destroy(start.cpu);
		}
		if (start.stack != 0) {
			kmap_stack_destroy(start.stack);
		}
	}
	return is_up;
}

void smp_start(const struct acpi_info *acpi, hpa_t page, unsigned most, void (*main)(void))
{
	uint8_t *p = phys_ptr(page);
	uint32_t at = (uint32_t)page.v;
	uint32_t self = local_apic_id();

	memcpy(p, trampoline, (size_t)(trampoline_end - trampoline));
	uint8_t *base = p + (trampoline_gdt_base - trampoline);
	uint8_t *jump = p + (trampoline_jump - trampoline);
	store_le32(base, load_le32(base) + at);
	store_le32(jump, load_le32(jump) + at);
	for (size_t i = 0; i < acpi->n_cpus && cpu_count() < MIN(most, CPU_MAX); i++) {
		const struct acpi_cpu *who = &acpi->cpus[i];
		if (who->apic_id == self) {
			continue;
		}
		if (who->apic_id > 254 && !local_apic_is_x2apic()) {
			continue; /* out of an xAPIC's reach */
		}
		if (!start_cpu(who, page, main)) {
			log_warning(
				"cpu: the one with APIC ID %u does not start; no more are tried",
				who->apic_id);
			break;
		}
	}
}
