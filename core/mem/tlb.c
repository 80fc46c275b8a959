#include "core/mem/tlb.h"

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/hw/ipi.h"
#include "core/mem/pcid.h"
#include "core/mem/phys.h"

#define ONE_BY_ONE_MAX 32 /* pages; from there on all at once is cheaper */

static struct pcids pcids[CPU_MAX]; /* each its CPU's */

struct flush {
	uint64_t start, end;
};

/* Kernel pages are global: they stay. If this CPU has another space loaded by now, what it keeps of
 * this one is of a number that is past. */
static void flush_here(void *arg)
{
	const struct flush *f = arg;

	if (f->end - f->start > ONE_BY_ONE_MAX * PAGE_SIZE) {
		asm_write_cr3(asm_read_cr3());
		return;
	}
	for (uint64_t va = f->start; va < f->end; va += PAGE_SIZE) {
		asm_invlpg(va);
	}
}

void tlb_flush(uint64_t cpus, uint64_t start, uint64_t end)
{
	struct flush f = {start, end};

	ipi_call(cpus, flush_here, &f);
}

void tlb_load(hpa_t root, uint64_t id, uint64_t seq)
{
	uint64_t pcid =
		cpu_features()->pcid && id != 0 ? pcid_choose(&pcids[cpu_index()], id, seq) : 0;

	asm_write_cr3(root.v | pcid);
}
