#include "core/hw/fake_hw.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "core/boot/memmap.h"
#include "core/mem/heap.h"
#include "core/mem/paging.h"
#include "core/mem/tlb.h"
#include "core/mem/view.h"
#include "lib/base/check.h"

#define HOLE	 0x9f000
#define HOLE_END 0x100000

uint64_t hosted_phys_base;
_Thread_local struct cpu *hosted_cpu;
_Thread_local bool hosted_irqs_off;

struct fake_tlb fake_tlb;

static struct cpu cpus[CPU_MAX];
static struct cpu_features features = {.gib_pages = true};

static struct {
	char *map;
	size_t len;
} machine;

const struct cpu_features *cpu_features(void)
{
	return &features;
}

void fake_cpu_join(unsigned index)
{
	cpus[index].self = &cpus[index];
	cpus[index].index = index;
	hosted_cpu = &cpus[index];
	hosted_irqs_off = false;
}

void fake_machine_start(unsigned mib)
{
	struct memmap ram = {0};
	struct memmap used = {0};

	fake_machine_stop();
	machine.len = mib * MIB + HUGE_SIZE;
	machine.map = mmap(NULL, machine.len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(machine.map != MAP_FAILED);
	hosted_phys_base = ALIGN_UP((uint64_t)machine.map, HUGE_SIZE);
	for (unsigned i = 0; i < CPU_MAX; i++) {
		cpus[i] = (struct cpu){0};
	}
	fake_cpu_join(0);
	memmap_add(&ram, PAGE_SIZE, HOLE - PAGE_SIZE);
	memmap_add(&ram, HOLE_END, mib * MIB - HOLE_END);
	uint64_t area = 2 * HUGE_SIZE;
	memmap_add(&used, area, page_area_bytes(ram.range, ram.n, 1));
	page_init(ram.range, ram.n, used.range, used.n, phys_ptr(hpa(area)));
	heap_start();
	object_start();
	space_start();
	fake_tlb = (struct fake_tlb){0};
}

void fake_machine_stop(void)
{
	if (machine.map != NULL) {
		page_drain_cpu();
		heap_stop();
		munmap(machine.map, machine.len);
		machine.map = NULL;
	}
}

hpa_t paging_root(void)
{
	return hpa(0);
}

void paging_share(uint64_t *root)
{
	(void)root;
}

void tlb_flush(uint64_t set, uint64_t start, uint64_t end)
{
	fake_tlb.flushes++;
	fake_tlb.cpus = set;
	fake_tlb.start = start;
	fake_tlb.end = end;
}

void tlb_load(hpa_t root, uint64_t id, uint64_t seq)
{
	(void)root;
	fake_tlb.id = id;
	fake_tlb.seq = seq;
}
