/*
 * MOVS and STOS, as long as all that they touch is found easily.
 */
#include "soft/access.h"
#include "soft/translate/fast.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(4095)

#define RAX 0
#define RCX 1
#define RSI 6
#define RDI 7

/* Where the guest's byte is; NULL: not known. A page with code has no entry for writing. */
static uint8_t *place(struct soft_vcpu *vcpu, uint64_t linear, bool write)
{
	const struct st_frame *f = vcpu->translator->frame;
	const struct st_view *v = &f->view[st_view_of(f->mode)];
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint64_t host;

	if ((write ? v->write : v->read)[i] == (linear & ~PAGE_MASK)) {
		return (uint8_t *)(uintptr_t)(v->add[i] + (linear & PAGE_MASK));
	}
	host = st_fast_slow(vcpu, linear, 1 | (write ? ST_SLOW_WRITE : 0));
	return host > ST_SLOW_FAULT ? (uint8_t *)(uintptr_t)host : NULL;
}

/* Elements that are whole in the page at @linear. */
static uint64_t whole(uint64_t linear, unsigned bytes)
{
	return (4096 - (linear & PAGE_MASK)) / bytes;
}

static int fill(uint8_t *to, uint64_t value, unsigned bytes, uint64_t n)
{
	switch (bytes) {
	case 1:
		return soft_fill1(to, value, n);
	case 2:
		return soft_fill2(to, value, n);
	case 4:
		return soft_fill4(to, value, n);
	default:
		return soft_fill8(to, value, n);
	}
}

/* Return: whether @n elements that are whole in their pages were written. */
static bool some(struct soft_vcpu *vcpu, uint32_t what, uint64_t n)
{
	const uint64_t *gpr = vcpu->translator->frame->gpr;
	unsigned bytes = what & ST_STRING_BYTES;
	uint8_t *to = place(vcpu, gpr[RDI], true), *from;

	if (to == NULL) {
		return false;
	}
	if ((what & ST_STRING_MOVS) == 0) {
		return fill(to, gpr[RAX], bytes, n) == 0;
	}
	from = place(vcpu, gpr[RSI], false);
	/* Elements that overlap those before are not copied as bytes are. */
	return from != NULL && (to <= from || to >= from + bytes) &&
	       soft_copy_bytes(to, from, n * bytes) == 0;
}

/* Return: whether one element was written, from or to two pages. */
static bool across(struct soft_vcpu *vcpu, uint32_t what)
{
	const uint64_t *gpr = vcpu->translator->frame->gpr;
	unsigned bytes = what & ST_STRING_BYTES;
	uint8_t *from[8], *to[8];
	uint64_t value = gpr[RAX];

	for (unsigned i = 0; i < bytes; i++) {
		to[i] = place(vcpu, gpr[RDI] + i, true);
		from[i] = (what & ST_STRING_MOVS) != 0 ? place(vcpu, gpr[RSI] + i, false)
						       : (uint8_t *)&value + i;
		if (to[i] == NULL || from[i] == NULL) {
			return false;
		}
	}
	if ((what & ST_STRING_MOVS) != 0) {
		for (unsigned i = 0; i < bytes; i++) {
			if (soft_copy_bytes((uint8_t *)&value + i, from[i], 1) != 0) {
				return false;
			}
		}
	}
	for (unsigned i = 0; i < bytes; i++) {
		if (soft_copy_bytes(to[i], (uint8_t *)&value + i, 1) != 0) {
			return false;
		}
	}
	return true;
}

uint64_t st_fast_string(struct soft_vcpu *vcpu, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	bool rep = (what & ST_STRING_REP) != 0, movs = (what & ST_STRING_MOVS) != 0;
	unsigned bytes = what & ST_STRING_BYTES;
	uint64_t count = rep ? f->gpr[RCX] : 1;

	if ((f->mode & ST_MODE_INSN) != INSN_64 || f->df != 0) {
		return 0;
	}
	while (count != 0) {
		uint64_t n = MIN(count, whole(f->gpr[RDI], bytes));

		n = movs ? MIN(n, whole(f->gpr[RSI], bytes)) : n;
		/* Whoever kicks ends it in the middle. */
		if (f->kick != 0 || !(n != 0 ? some(vcpu, what, n) : across(vcpu, what))) {
			return 0;
		}
		n += n == 0;
		count -= n;
		f->gpr[RDI] += n * bytes;
		f->gpr[RSI] += movs ? n * bytes : 0;
		f->gpr[RCX] -= rep ? n : 0;
	}
	return 1;
}
