#include "soft/translate/x87.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/registers.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

/* In the XSAVE area. Spec: Intel SDM vol. 1, 13.4 "XSAVE Area" */
#define AT_FOP 6
#define AT_FIP 8
#define AT_FDP 16

/* In the image of FNSTENV, of 32-bit protected mode: dwords. */
#define ENV_FCW 0
#define ENV_FIP 3
#define ENV_FOP 4 /* its upper half */
#define ENV_FDP 5

#define PAGE_MASK UINT64_C(4095)

struct places {
	uint64_t ip, dp;
	uint64_t known; /* bits of them */
};

bool st_x87_always_saved(void)
{
	_Alignas(64) uint8_t area[576];

	memset(area, 0, sizeof(area));
	__asm__ volatile("fninit\n\tfld1\n\tfxsave64 %0\n\tfninit" : "=m"(area) : : "memory");
	return load_le64(area + AT_FIP) != 0;
}

void st_x87_enter(struct st_frame *f, const uint8_t *area)
{
	bool there = (area[KVM_AT_XSTATE_BV] & 1) != 0;

	f->x87_ip = there ? load_le64(area + AT_FIP) : 0;
	f->x87_dp = there ? load_le64(area + AT_FDP) : 0;
}

/* ---- from the host's to the guest's ---- */

/* The block with the instruction; *@offset: of the guest's, in its page. */
static const struct st_block *block_of(const struct st_translator *t, const struct places *p,
				       unsigned *offset)
{
	uint64_t at = (p->ip - (uintptr_t)t->rx) & p->known;
	const struct st_block *b = NULL;

	if (at >= t->start && at < ST_CACHE_BYTES) {
		b = st_block_at(t, (uint32_t)at);
	}
	if (b != NULL) {
		*offset = st_guest_offset(t, b, (uint32_t)at) & ~(ST_NO_FLAGS | ST_SAVED);
	}
	return b;
}

/* The instruction, as it was translated. Return: false: not known. */
static bool insn_of(struct st_translator *t, const struct st_block *b, unsigned offset,
		    struct insn *insn)
{
	const struct st_page *page = st_page_find(t, b->page);

	return page != NULL && offset < 4096 &&
	       insn_decode(insn, b->mode & ST_MODE_INSN, page->bytes + offset, 4096 - offset) ==
		       INSN_OK &&
	       insn->klass == INSN_CLASS_X87;
}

/* The linear address that code of the view reaches a byte of the host's by, or 0. */
static uint64_t linear_in(const struct st_view *v, uint64_t host, uint64_t known)
{
	for (unsigned k = 0; k < v->pages; k++) {
		unsigned i = v->page[k];

		if (v->add[i] != 0 && ((v->add[i] ^ host) & known & ~PAGE_MASK) == 0 &&
		    v->read[i] != st_free_tag(i)) {
			return v->read[i] | (host & PAGE_MASK);
		}
	}
	return 0;
}

static uint64_t segment_base(const struct st_frame *f, const struct insn *insn)
{
	if (insn->nmem == 0 || insn->mode != INSN_64) {
		return 0;
	}
	return insn->mem[0].seg == INSN_FS   ? f->fs_base
	       : insn->mem[0].seg == INSN_GS ? f->gs_base
					     : 0;
}

/* ---- leaving ---- */

/* Return: false: they are what they were when the registers were loaded. */
static bool find_places(struct st_frame *f, const uint8_t *area, struct places *p)
{
	p->ip = load_le64(area + AT_FIP);
	p->dp = load_le64(area + AT_FDP);
	p->known = UINT64_MAX;
	if (f->x87_env[ENV_FCW] != 0 && p->ip == 0) {
		p->ip = f->x87_env[ENV_FIP];
		p->dp = f->x87_env[ENV_FDP];
		p->known = UINT32_MAX;
	}
	return ((p->ip ^ f->x87_ip) & p->known) != 0 || ((p->dp ^ f->x87_dp) & p->known) != 0;
}

static void put(uint8_t *area, unsigned fop, uint64_t ip, uint64_t dp)
{
	store_le16(area + AT_FOP, (uint16_t)fop);
	store_le64(area + AT_FIP, ip);
	store_le64(area + AT_FDP, dp);
}

/* Of the operand of @insn, or of one before it. */
static uint64_t guest_dp(const struct st_frame *f, const struct places *p, const struct insn *insn)
{
	uint64_t linear;

	if (((p->dp ^ f->x87_dp) & p->known) == 0) {
		return f->x87_dp;
	}
	linear = linear_in(&f->view[st_view_of(f->mode)], p->dp, p->known);
	return linear == 0 ? 0 : linear - segment_base(f, insn);
}

/* What is known of them for the guest. */
static void replace(struct st_translator *t, uint8_t *area, const struct places *p)
{
	const struct st_frame *f = t->frame;
	uint64_t ip = f->x87_ip;
	const struct st_block *b;
	unsigned offset = 0;
	struct insn insn;

	b = block_of(t, p, &offset);
	if (((p->ip ^ ip) & p->known) != 0) {
		ip = b == NULL ? 0 : b->linear + offset;
	}
	if (b != NULL && insn_of(t, b, offset, &insn)) {
		put(area, (insn.opcode & 7U) << 8 | insn.modrm, ip, guest_dp(f, p, &insn));
	} else {
		put(area, 0, ip, 0);
	}
}

void st_x87_leave(struct soft_vcpu *vcpu)
{
	struct st_frame *f = vcpu->translator->frame;
	uint8_t *area = vcpu->kvm->xsave;
	struct places p;

	if (f->fpu == 0) {
		return;
	}
	if ((area[KVM_AT_XSTATE_BV] & 1) == 0) {
		put(area, 0, 0, 0);
	} else if (find_places(f, area, &p)) {
		replace(vcpu->translator, area, &p);
	} else if (p.known != UINT64_MAX) {
		put(area, f->x87_env[ENV_FOP] >> 16, f->x87_ip, f->x87_dp);
	}
	f->x87_env[ENV_FCW] = 0;
}
