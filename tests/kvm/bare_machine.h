/*
 * The bare payloads of tests/guest/bare under a provider: a machine that holds their image, starts
 * a case by its PVH entry, and answers the ports of tests/guest/bare/ports.h. A case of the image
 * is a case of the suite; and a case here may drive one step by step.
 */
#pragma once

#include "tests/guest/bare/ports.h"
#include "tests/kvm/vm.h"

struct bare_machine {
	struct vm vm;
	uint8_t *ram;
	char text[4096]; /* what it said; further text is dropped */
	size_t text_bytes;
	uint32_t synced; /* what it wrote last to BARE_PORT_SYNC */
};

/* A case of the image, as tests/guest/bare/bare.h describes it. */
struct bare_listed {
	const char *name;
	const char *spec;
	uint32_t cpus;
	uint32_t needs;
};

/** bare_listed() - case number @index of the image. Return: false past the last one. */
bool bare_listed(size_t index, struct bare_listed *listed);

/** bare_symbol() - the address of a global symbol of the image; fails the case if there is none. */
uint64_t bare_symbol(const char *name);

/** bare_machine_init() - a machine with the image in its RAM and @cpus vCPUs, CPU 0 at the entry of
 *  the case called @name; the others wait for their SIPI. */
void bare_machine_init(struct bare_machine *machine, const char *name, uint32_t cpus,
		       enum vm_irqchip irqchip);

/** bare_machine_init_empty() - the same without image and registers: what a saved one is loaded
 *  into. */
void bare_machine_init_empty(struct bare_machine *machine, uint32_t cpus, enum vm_irqchip irqchip);

/**
 * bare_run() - runs CPU 0 until it ends, or writes to BARE_PORT_SYNC.
 * Return: the verdict, or 0: it synced. A failed or skipped case ends this one so, too.
 */
enum bare_verdict bare_run(struct bare_machine *machine);

/** bare_run_others() - runs the CPUs after the first in threads, for good. */
void bare_run_others(struct bare_machine *machine);

/** bare_run_case() - runs a case of the image to its end and ends this one with its verdict. */
_Noreturn void bare_run_case(const struct bare_listed *listed);
