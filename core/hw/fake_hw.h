/*
 * A machine for unit tests of core/mem: some RAM, and CPUs that are threads of the test.
 */
#pragma once

#include "core/hw/cpu.h"
#include "lib/base/types.h"

/**
 * fake_machine_start() - RAM of @mib MiB, with a hole as PCs have it, and allocators over it. The
 * calling thread is CPU 0. What was before is gone.
 */
void fake_machine_start(unsigned mib);
void fake_machine_stop(void);

/** fake_cpu_join() - the calling thread is CPU @index from now on. */
void fake_cpu_join(unsigned index);

/* What the fake TLB has been asked for, since the last look. */
extern struct fake_tlb {
	unsigned flushes;
	uint64_t cpus, start, end; /* of the last one */
	uint64_t id, seq;	   /* what was loaded last */
} fake_tlb;
