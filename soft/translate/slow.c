#include "soft/translate/slow.h"

#include "lib/x86/regs.h"
#include "soft/translate/run.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(4095)

static uint64_t free_tag(unsigned i)
{
	return i == ST_TLB - 1 ? 0 : UINT64_MAX;
}

static void fill(struct soft_vcpu *vcpu, uint64_t linear, uint64_t host, bool write)
{
	struct st_view *v = &vcpu->translator->frame->view[st_view_of(st_mode(vcpu))];
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint64_t page = linear & ~PAGE_MASK;

	host &= ~PAGE_MASK;
	if (v->add[i] != host || (v->read[i] != page && v->write[i] != page)) {
		v->read[i] = v->write[i] = free_tag(i);
		v->add[i] = host;
	}
	/* What may be written to may be read, too. */
	v->read[i] = page;
	if (write && soft_code_mask(vcpu->vm, host) == 0) {
		v->write[i] = page;
	}
}

uint64_t st_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access)
{
	struct st_translator *t = vcpu->translator;
	bool write = (access & ST_SLOW_WRITE) != 0;
	unsigned len = access & 0xffff;
	uint64_t dropped = t->dropped;
	uint8_t *host;

	t->stat_slow++;
	if ((linear & PAGE_MASK) + len > 4096) {
		return 0;
	}
	if (soft_mmu_host(vcpu, linear, write ? SOFT_WRITE : SOFT_READ, false, &host) !=
		    INSN_DONE ||
	    t->dropped != dropped) {
		return 0;
	}
	fill(vcpu, linear, (uintptr_t)host, write);
	return (uintptr_t)host;
}
