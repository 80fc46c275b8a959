#include "lib/x86/walk.h"

#include <errno.h>

#include "lib/x86/regs.h"

#define LEVELS	4 /* those of 4-level paging, and one more in 5-level */
#define RETRIES 64

#define ADDRESS_BITS UINT64_C(0x000ffffffffff000)

/* One level of a walk, as it was found. */
struct step {
	uint64_t gpa;
	uint64_t entry;
};

struct walker {
	const struct walk_mode *mode;
	const struct walk_ops *ops;
	void *ctx;
	uint64_t linear;
	unsigned access;
	unsigned bytes; /* of an entry: 4 or 8 */
	unsigned count;
	struct step step[LEVELS + 1];
	bool user, writable, executable;
};

static bool nx_enabled(const struct walk_mode *mode)
{
	return (mode->efer & EFER_NXE) != 0 && (mode->cr4 & CR4_PAE) != 0;
}

static enum walk_outcome fault(const struct walker *w, struct walk_result *result, uint32_t bits)
{
	result->error = bits;
	if ((w->access & WALK_WRITE) != 0) {
		result->error |= (uint32_t)PFERR_W;
	}
	if ((w->access & WALK_USER) != 0) {
		result->error |= (uint32_t)PFERR_U;
	}
	/* Bit 4 is only there if fetches can be told apart. Spec: Intel SDM vol. 3A, 4.7 */
	if ((w->access & WALK_FETCH) != 0 &&
	    (nx_enabled(w->mode) || (w->mode->cr4 & CR4_SMEP) != 0)) {
		result->error |= (uint32_t)PFERR_I;
	}
	return WALK_FAULT;
}

/* Bits that have to be zero in an 8-byte entry at @shift. */
static uint64_t reserved8(const struct walker *w, unsigned shift, uint64_t entry)
{
	const struct walk_mode *mode = w->mode;
	uint64_t bits =
		ADDRESS_BITS & ~(mode->phys_bits >= 52 ? ADDRESS_BITS : BIT(mode->phys_bits) - 1);

	if (!nx_enabled(mode)) {
		bits |= PTE_NX;
	}
	if ((mode->efer & EFER_LMA) == 0) {
		bits |= UINT64_C(0x7ff0000000000000);
	}
	if (shift > 12 && (entry & PTE_PS) != 0) {
		if (shift > 30 || (shift == 30 && !mode->pages_1g)) {
			return bits | PTE_PS;
		}
		bits |= (BIT(shift) - 1) & ~UINT64_C(0x1fff);
	}
	return bits;
}

/* Likewise in a 4-byte entry: only bit 21 of a 4 MiB page, which holds address bits in 13 to 20. */
static uint64_t reserved4(const struct walker *w, unsigned shift, uint64_t entry)
{
	bool large = shift == 22 && (entry & PTE_PS) != 0 && (w->mode->cr4 & CR4_PSE) != 0;

	return large ? BIT(21) : 0;
}

static bool is_leaf(const struct walker *w, unsigned shift, uint64_t entry)
{
	if (shift == 12) {
		return true;
	}
	return (entry & PTE_PS) != 0 && (w->bytes == 8 || (w->mode->cr4 & CR4_PSE) != 0);
}

static uint64_t page_address(const struct walker *w, unsigned shift, uint64_t entry)
{
	uint64_t offset = w->linear & (BIT(shift) - 1);

	if (w->bytes == 4) {
		uint64_t base = entry & ~(BIT(shift) - 1) & UINT32_MAX;

		/* PSE-36: bits 13 to 20 are address bits 32 to 39. */
		return base | (shift == 22 ? (entry >> 13 & 0xff) << 32 : 0) | offset;
	}
	return (entry & ADDRESS_BITS & ~(BIT(shift) - 1)) | offset;
}

static bool keys_enabled(const struct walk_mode *mode)
{
	return (mode->cr4 & CR4_PKE) != 0 && (mode->efer & EFER_LMA) != 0;
}

static unsigned key_of(uint64_t leaf)
{
	return leaf >> 59 & 0xf;
}

/* Do the access and the page's rights agree? Return: bits of the error code, 0: yes. */
static uint32_t refused(const struct walker *w, uint64_t leaf)
{
	const struct walk_mode *mode = w->mode;
	bool user = (w->access & WALK_USER) != 0;
	bool write = (w->access & WALK_WRITE) != 0;
	bool fetch = (w->access & WALK_FETCH) != 0;

	if (user && !w->user) {
		return PFERR_P;
	}
	if (write && !w->writable && (user || (mode->cr0 & CR0_WP) != 0)) {
		return PFERR_P;
	}
	if (fetch && (!w->executable || (!user && w->user && (mode->cr4 & CR4_SMEP) != 0))) {
		return PFERR_P;
	}
	if (!fetch && !user && w->user && (mode->cr4 & CR4_SMAP) != 0 &&
	    ((w->access & WALK_IMPLICIT) != 0 || !mode->ac)) {
		return PFERR_P;
	}
	if (!fetch && w->user && keys_enabled(mode)) {
		uint32_t rights = mode->pkru >> 2 * key_of(leaf) & 3;

		if ((rights & 1) != 0 ||
		    ((rights & 2) != 0 && write && (user || (mode->cr0 & CR0_WP) != 0))) {
			return PFERR_P | PFERR_PK;
		}
	}
	return 0;
}

/* Sets A in all entries, D in the last of a write. Return: 0; -EAGAIN: walk anew; -errno. */
static int set_accessed_dirty(struct walker *w)
{
	for (unsigned i = 0; i < w->count; i++) {
		struct step *step = &w->step[i];
		uint64_t bits = PTE_A;
		uint64_t entry;
		int r;

		if (i == w->count - 1 && (w->access & WALK_WRITE) != 0) {
			bits |= PTE_D;
		}
		entry = step->entry | bits;
		if (entry == step->entry) {
			continue;
		}
		r = w->ops->cmpxchg(w->ctx, step->gpa, &step->entry, &entry, w->bytes);
		if (r != 0) {
			return r;
		}
		step->entry = entry;
	}
	return 0;
}

/* The walk from @table, whose index is at bit @shift of the linear address. */
static enum walk_outcome descend(struct walker *w, uint64_t table, unsigned shift,
				 struct walk_result *result)
{
	unsigned index_bits = w->bytes == 8 ? 9 : 10;

	for (;;) {
		uint64_t index = w->linear >> shift & (BIT(index_bits) - 1);
		struct step *step = &w->step[w->count++];
		uint64_t reserved;

		step->gpa = table + index * w->bytes;
		step->entry = 0;
		if (w->ops->read(w->ctx, step->gpa, &step->entry, w->bytes) != 0) {
			result->gpa = step->gpa;
			return WALK_NOWHERE;
		}
		if ((step->entry & PTE_P) == 0) {
			return fault(w, result, 0);
		}
		reserved = w->bytes == 8 ? reserved8(w, shift, step->entry)
					 : reserved4(w, shift, step->entry);
		if ((step->entry & reserved) != 0) {
			return fault(w, result, PFERR_P | PFERR_RSVD);
		}
		w->user = w->user && (step->entry & PTE_US) != 0;
		w->writable = w->writable && (step->entry & PTE_RW) != 0;
		w->executable = w->executable && (w->bytes == 4 || (step->entry & PTE_NX) == 0);
		if (is_leaf(w, shift, step->entry)) {
			result->page_shift = (uint8_t)shift;
			return WALK_OK;
		}
		table = w->bytes == 8 ? step->entry & ADDRESS_BITS
				      : step->entry & UINT64_C(0xfffff000);
		shift -= index_bits;
	}
}

/* Where the walk begins, by mode. */
static enum walk_outcome begin(struct walker *w, struct walk_result *result)
{
	const struct walk_mode *mode = w->mode;

	w->count = 0;
	w->user = true;
	w->writable = true;
	w->executable = true;
	w->bytes = (mode->cr4 & CR4_PAE) != 0 ? 8 : 4;
	if ((mode->efer & EFER_LMA) != 0) {
		unsigned shift = (mode->cr4 & CR4_LA57) != 0 ? 48 : 39;

		return descend(w, mode->cr3 & ADDRESS_BITS, shift, result);
	}
	w->linear &= UINT32_MAX;
	if (w->bytes == 8) {
		uint64_t pdpte = mode->pdptr[w->linear >> 30];

		if ((pdpte & PTE_P) == 0) {
			return fault(w, result, 0);
		}
		return descend(w, pdpte & ADDRESS_BITS, 21, result);
	}
	return descend(w, mode->cr3 & UINT64_C(0xfffff000), 22, result);
}

enum walk_outcome walk(const struct walk_mode *mode, const struct walk_ops *ops, void *ctx,
		       uint64_t linear, unsigned access, struct walk_result *result)
{
	struct walker w = {
		.mode = mode, .ops = ops, .ctx = ctx, .linear = linear, .access = access};

	*result = (struct walk_result){0};
	if ((mode->cr0 & CR0_PG) == 0) {
		*result = (struct walk_result){.gpa = linear & UINT32_MAX,
					       .page_shift = 12,
					       .writable = true,
					       .user = true,
					       .dirty = true};
		return WALK_OK;
	}
	for (unsigned i = 0; i < RETRIES; i++) {
		enum walk_outcome outcome = begin(&w, result);
		uint64_t leaf;
		uint32_t bits;
		int r;

		if (outcome != WALK_OK) {
			return outcome;
		}
		leaf = w.step[w.count - 1].entry;
		bits = refused(&w, leaf);
		if (bits != 0) {
			return fault(&w, result, bits);
		}
		r = (access & WALK_SET_AD) != 0 ? set_accessed_dirty(&w) : 0;
		if (r == -EAGAIN) {
			continue; /* another CPU changed an entry: see what it says now */
		}
		if (r != 0) {
			result->gpa = w.step[w.count - 1].gpa;
			return WALK_NOWHERE;
		}
		leaf = w.step[w.count - 1].entry;
		result->gpa = page_address(&w, result->page_shift, leaf);
		result->user = w.user;
		result->writable =
			w.writable || ((access & WALK_USER) == 0 && (mode->cr0 & CR0_WP) == 0);
		result->global = (leaf & PTE_G) != 0 && (mode->cr4 & CR4_PGE) != 0;
		result->dirty = (leaf & PTE_D) != 0;
		result->key = keys_enabled(mode) ? (uint8_t)key_of(leaf) : 0;
		return WALK_OK;
	}
	/* Tables that never hold still: as if the entry were not there; the guest tries again. */
	return fault(&w, result, 0);
}
