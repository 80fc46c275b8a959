/*
 * What the kernel wants to know from ACPI's tables: CPUs, IOAPICs, where PCI's configuration space
 * is, the PM timer, and how to turn the machine off. The tables are hostile input: every length is
 * checked, and nothing in them can make the reader run for long. No AML is interpreted; of the DSDT
 * only the package \_S5 is looked for.
 *
 * Spec: ACPI 6.4, chapter 5 "ACPI Software Programming Model"; PCI Firmware
 * Specification 3.2, 4.1.2 "MCFG"; IA-PC HPET Specification 1.0a, 3.2.4
 */
#pragma once

#include "lib/base/types.h"

#define ACPI_CPUS_MAX	 256
#define ACPI_IOAPICS_MAX 16
#define ACPI_ECAMS_MAX	 16
#define ACPI_ISA_IRQS	 16

struct acpi_cpu {
	uint32_t apic_id;
	uint32_t acpi_id;
};

struct acpi_ioapic {
	uint64_t base;
	uint32_t gsi_base;
	uint8_t id;
};

struct acpi_ecam {
	uint64_t base;
	uint16_t segment;
	uint8_t bus_first, bus_last;
};

/* Generic Address Structure, as far as the kernel follows it. */
struct acpi_register {
	enum acpi_register_kind {
		ACPI_REGISTER_NONE,
		ACPI_REGISTER_MEMORY,
		ACPI_REGISTER_PORT,
		ACPI_REGISTER_PCI, /* configuration space: bus 0 */
	} kind;
	uint64_t address;
};

struct acpi_info {
	struct acpi_cpu cpus[ACPI_CPUS_MAX]; /* those that are enabled */
	size_t n_cpus;
	size_t cpus_left_out; /* for lack of room */
	struct acpi_ioapic ioapics[ACPI_IOAPICS_MAX];
	size_t n_ioapics;
	struct acpi_ecam ecams[ACPI_ECAMS_MAX];
	size_t n_ecams;
	uint64_t lapic_base; /* 0: not told */
	bool has_pics;	     /* two 8259s, which have to be masked */
	/* ISA interrupts: where they go, and whether active low or level. */
	struct acpi_isa_irq {
		uint32_t gsi;
		bool is_low, is_level;
	} isa[ACPI_ISA_IRQS];
	bool has_fadt;
	uint16_t pm1a_control, pm1b_control; /* ports; 0: none */
	uint16_t smi_command;		     /* port; 0: none, ACPI mode is on */
	uint8_t acpi_enable;		     /* what to write there */
	uint16_t pm_timer;		     /* port; 0: none */
	struct acpi_register reset;
	uint8_t reset_value;
	bool has_s5;
	uint8_t s5_a, s5_b; /* SLP_TYP for the two PM1 control registers */
	uint64_t hpet;	    /* registers; 0: none */
};

/**
 * acpi_map_fn - makes physical memory readable.
 * Return: a pointer to [pa, pa + len), good until acpi_parse() returns; NULL: not readable.
 */
typedef const void *acpi_map_fn(void *ctx, uint64_t pa, uint64_t len);

/**
 * acpi_parse() - from the RSDP down. Broken tables are passed over, as if they were not there.
 * @rsdp: its bytes; @rsdp_len: at least 20.
 * Return: 0; -ENOENT when there is no RSDP with a root table that can be read.
 */
must_use int acpi_parse(struct acpi_info *info, const void *rsdp, size_t rsdp_len, acpi_map_fn *map,
			void *ctx);

/** acpi_find_rsdp() - in [area, area + len), at steps of 16. Return: its offset, or -ENOENT. */
must_use int64_t acpi_find_rsdp(const void *area, size_t len);
