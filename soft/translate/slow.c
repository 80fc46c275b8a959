#include "soft/translate/slow.h"

#include "lib/x86/regs.h"
#include "soft/access.h"
#include "soft/interp.h"
#include "soft/translate/run.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(4095)

static struct st_view *view_of(const struct soft_vcpu *vcpu)
{
	struct st_frame *f = vcpu->translator->frame;

	return &f->view[st_view_of(f->mode)];
}

static void fill(struct soft_vcpu *vcpu, uint64_t linear, uint64_t host, bool write)
{
	st_view_fill(view_of(vcpu), linear, host,
		     write && soft_code_mask(vcpu->vm, host & ~PAGE_MASK) == 0);
}

uint64_t st_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access)
{
	struct st_translator *t = vcpu->translator;
	bool write = (access & ST_SLOW_WRITE) != 0;
	unsigned len = access & 0xffff;
	uint64_t dropped = t->dropped;
	uint8_t *host;

	if ((linear & PAGE_MASK) + len > 4096) {
		return 0;
	}
	switch (soft_mmu_host(vcpu, linear, write ? SOFT_WRITE : SOFT_READ, false, &host)) {
	case INSN_DONE:
		break;
	case INSN_FAULT:
		return vcpu->env.fault.vector == INSN_EXC_PF
			       ? st_page_fault(t, linear, access, vcpu->env.fault.error)
			       : 0;
	default:
		return 0;
	}
	if (t->dropped != dropped) {
		return 0;
	}
	fill(vcpu, linear, (uintptr_t)host, write);
	return (uintptr_t)host;
}

/* ---- strings ---- */

#define RAX 0
#define RCX 1
#define RSI 6
#define RDI 7

/* As st_slow(), for any length within the page. */
static uint8_t *host_of(struct soft_vcpu *vcpu, uint64_t linear, bool write)
{
	const struct st_view *v = view_of(vcpu);
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint8_t *host;

	if ((write ? v->write : v->read)[i] == (linear & ~PAGE_MASK)) {
		return (uint8_t *)(uintptr_t)(v->add[i] + (linear & PAGE_MASK));
	}
	if (soft_mmu_host(vcpu, linear, write ? SOFT_WRITE : SOFT_READ, false, &host) !=
	    INSN_DONE) {
		return NULL;
	}
	fill(vcpu, linear, (uintptr_t)host, write);
	return host;
}

/* Elements that are whole in the page at @linear. */
static uint64_t whole(uint64_t linear, unsigned bytes)
{
	return (4096 - (linear & PAGE_MASK)) / bytes;
}

/* The instruction may overwrite itself, and goes on as it is now. */
static bool keep(struct soft_vcpu *vcpu)
{
	struct st_translator *t = vcpu->translator;
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint64_t rip = cpu->rip;
	bool kept;

	if (vcpu->is_kept) {
		return true;
	}
	cpu->rip = st_site_rip(t);
	kept = soft_interp_keep(vcpu);
	cpu->rip = rip;
	return kept;
}

/* Return: how many elements of at most @count; 0: none. */
static uint64_t some(struct soft_vcpu *vcpu, uint32_t what, uint64_t count)
{
	uint64_t *gpr = vcpu->translator->frame->gpr;
	unsigned bytes = what & ST_STRING_BYTES;
	uint64_t n = MIN(count, whole(gpr[RDI], bytes));
	uint8_t *from = NULL, *to;
	int r;

	if ((what & ST_STRING_MOVS) != 0) {
		n = MIN(n, whole(gpr[RSI], bytes));
		from = n == 0 ? NULL : host_of(vcpu, gpr[RSI], false);
		if (from == NULL) {
			return 0;
		}
	}
	to = n == 0 ? NULL : host_of(vcpu, gpr[RDI], true);
	/* Elements that overlap those before are not copied as bytes are. */
	if (to == NULL || (from != NULL && to > from && to < from + bytes)) {
		return 0;
	}
	if (soft_code_mask(vcpu->vm, (uintptr_t)to & ~PAGE_MASK) != 0) {
		/* What follows may be what is written: the interpreter's is the last element, and
		 * then code is looked for again. */
		n -= n == count;
		if (n == 0) {
			return 0;
		}
		if (!keep(vcpu)) {
			return 0;
		}
		soft_code_write(vcpu, (uintptr_t)to, (unsigned)(n * bytes));
	}
	r = from != NULL ? soft_access_copy(to, from, n * bytes)
			 : soft_access_fill(to, gpr[RAX], bytes, n);
	return r == 0 ? n : 0;
}

uint64_t st_string(struct soft_vcpu *vcpu, uint32_t what)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	uint64_t mask = (f->mode & ST_MODE_INSN) == INSN_64 ? UINT64_MAX : UINT32_MAX;
	bool rep = (what & ST_STRING_REP) != 0;
	unsigned bytes = what & ST_STRING_BYTES;
	uint64_t dropped = t->dropped;
	uint64_t count = rep ? f->gpr[RCX] & mask : 1;

	if (f->df != 0) {
		return 0;
	}
	while (count != 0) {
		/* Whoever kicks, or a block that was written to, ends it in the middle. */
		uint64_t n = t->dropped != dropped || f->kick != 0 ? 0 : some(vcpu, what, count);

		if (n == 0) {
			return 0;
		}
		count -= n;
		f->gpr[RDI] = (f->gpr[RDI] + n * bytes) & mask;
		if ((what & ST_STRING_MOVS) != 0) {
			f->gpr[RSI] = (f->gpr[RSI] + n * bytes) & mask;
		}
		if (rep) {
			f->gpr[RCX] = count;
		}
	}
	vcpu->is_kept = false;
	return 1;
}
