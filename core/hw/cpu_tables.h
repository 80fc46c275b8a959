/*
 * Start-up of CPUs, and the tables each of them has for itself.
 *
 * Spec: AMD APM vol. 2, 4.8 "Long-Mode Segment Descriptors", 12.2.5 "64-Bit Task State Segment"
 */
#pragma once

#include "core/hw/cpu.h"
#include "lib/base/types.h"

/* Stacks for exceptions that may come at any instruction; numbers for the IDT are one higher. */
enum {
	IST_DB,
	IST_NMI,
	IST_DF,
	IST_MC,
	IST_COUNT,
};

struct tss {
	uint32_t reserved0;
	uint64_t rsp0, rsp1, rsp2;
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t io_map_base;
} __attribute__((packed));

_Static_assert(sizeof(struct tss) == 104, "AMD APM vol. 2, figure 12-8");

struct cpu_tables {
	uint64_t gdt[7];
	struct tss tss;
};

extern struct cpu cpu_boot;

/** cpu_read_features() - fills cpu_features(). The first thing of all. */
void cpu_read_features(void);

/** cpu_start_boot() - the CPU that runs becomes CPU 0. Context: once, before any other call. */
void cpu_start_boot(void);

/** cpu_guard_stacks() - CPU 0 gets stacks with guard pages for these exceptions; until then they
 * share one without. Return: 0 or -ENOMEM. Context: once there is an allocator. */
must_use int cpu_guard_stacks(void);

/** cpu_create() - a CPU that does not run yet. Return: it, or NULL: no memory, or CPU_MAX. */
must_use struct cpu *cpu_create(uint32_t apic_id, uint32_t acpi_id);
void cpu_destroy(struct cpu *cpu);

/** cpu_load() - on the new CPU: loads its tables and all control registers. */
void cpu_load(struct cpu *cpu);

/** cpu_add() - on the new CPU: it counts from now on. */
void cpu_add(struct cpu *cpu);
