/*
 * The guest's memory as its instructions see it: linear addresses, by a TLB in front of the guest's
 * page tables and of the VM's map of physical pages.
 */
#pragma once

#include "lib/insn/emulate.h"
#include "lib/kvm/backend.h"

struct soft_vcpu;
struct st_translator;

#define SOFT_TLB    512 /* entries of each view */
#define SOFT_SPACES 8	/* address spaces that are remembered */
#define SOFT_LARGE  65536

/** No linear page has this tag. */
#define SOFT_NO_PAGE UINT64_MAX

struct soft_tlb_entry {
	uint64_t read, write, fetch; /* tags: the linear page, if it may be accessed so */
	uint8_t *host;
};

/** What is known of an address space. */
struct soft_space {
	uint64_t cr3;  /* PCID included; SOFT_NO_SPACE: nothing that is valid */
	uint16_t keys; /* protection keys of pages that are known: bits */
	struct soft_tlb_entry user[SOFT_TLB]; /* what CPL 3 may do */
};

#define SOFT_NO_SPACE UINT64_MAX

struct soft_mmu {
	struct soft_space space[SOFT_SPACES];
	struct soft_space *now;
	/* What the others may do, in all spaces. */
	struct soft_tlb_entry kernel[SOFT_TLB];
	bool kernel_private;	  /* pages among these, or in ST_VIEW_KERNEL, are not global */
	uint16_t kernel_keys;	  /* of users' pages among these */
	uint32_t pkru;		  /* no more than this allows is in any of the TLBs */
	unsigned oldest;	  /* who is next to make room */
	struct st_translator *st; /* has further TLBs for each space; or NULL */
	uint64_t flushes;	  /* how often all was forgotten */
	/* Parts of pages of 2 MiB or 4 MiB, and of 1 GiB, are in it: bits by a hash of the address.
	 */
	uint64_t large[SOFT_LARGE / 64], huge[SOFT_LARGE / 64];
};

static inline unsigned soft_mmu_large_bit(uint64_t number)
{
	return (unsigned)(number * UINT64_C(0x9e3779b97f4a7c15) >> 48) % SOFT_LARGE;
}

enum soft_access {
	SOFT_READ,
	SOFT_WRITE,
	SOFT_FETCH,
};

/**
 * soft_mmu_host() - the host's address of @linear, for an access within its page.
 * @system: by the CPU itself, whatever the CPL is.
 * Return: INSN_DONE; INSN_FAULT with vcpu->env.fault; INSN_EXIT: nothing is mapped there, which
 * vcpu->stop tells.
 * Context: vCPU thread, inside.
 */
must_use enum insn_outcome soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear,
					 enum soft_access access, bool system, uint8_t **host);

/** soft_mmu_read() / soft_mmu_write() - any length up to a page; as a whole or not at all. */
must_use enum insn_outcome soft_mmu_read(struct soft_vcpu *vcpu, uint64_t linear, void *data,
					 unsigned len, bool system);
must_use enum insn_outcome soft_mmu_write(struct soft_vcpu *vcpu, uint64_t linear, const void *data,
					  unsigned len, bool system);

/** soft_mmu_probe() - could all of it be written to? */
must_use enum insn_outcome soft_mmu_probe(struct soft_vcpu *vcpu, uint64_t linear, unsigned len,
					  bool system);

/** soft_mmu_cmpxchg() - INSN_AGAIN if there was something else. Across pages, too, it is atomic. */
must_use enum insn_outcome soft_mmu_cmpxchg(struct soft_vcpu *vcpu, uint64_t linear,
					    const void *old, const void *new, unsigned len);

/**
 * soft_mmu_fetch() - bytes of code at @linear, up to INSN_MAX; as many as are in this page, and
 * with @more those of the next one.
 * @len: set to how many there are.
 */
must_use enum insn_outcome soft_mmu_fetch(struct soft_vcpu *vcpu, uint64_t linear, uint8_t *bytes,
					  unsigned *len, bool more);

/** soft_mmu_protect() - forgets who may write to the page at @host. Context: as above. */
void soft_mmu_protect(struct soft_vcpu *vcpu, uint64_t host);

/** soft_mmu_doubt_code() - translated code is compared with its page when it is next entered. */
void soft_mmu_doubt_code(struct soft_mmu *mmu);
/** soft_mmu_follow() - CR3 may have changed. */
void soft_mmu_follow(struct soft_vcpu *vcpu);
/**
 * soft_mmu_obey_keys() - PKRU may have changed. What it does not allow any more is forgotten, so
 * that changes cost nothing as long as the keys in question have no pages in the TLBs.
 */
void soft_mmu_obey_keys(struct soft_vcpu *vcpu);

/** soft_mmu_init() - @st: a translator, or NULL. */
void soft_mmu_init(struct soft_mmu *mmu, struct st_translator *st);
/** soft_mmu_flush() - forgets all. soft_mmu_flush_pcid() - what has this PCID. */
void soft_mmu_flush(struct soft_mmu *mmu);
void soft_mmu_flush_pcid(struct soft_mmu *mmu, uint64_t pcid);
/** soft_mmu_flush_page() - as INVLPG. */
void soft_mmu_flush_page(struct soft_mmu *mmu, uint64_t linear);

/**
 * soft_mmu_note_key() - a user's page with @key comes into a TLB of the space, or, if @kernel, into
 * that of all of them.
 */
static inline void soft_mmu_note_key(struct soft_mmu *mmu, unsigned key, bool kernel)
{
	mmu->now->keys |= (uint16_t)(1u << key);
	if (kernel) {
		mmu->kernel_keys |= (uint16_t)(1u << key);
	}
}

/** soft_mmu_in_use() - is anything known of it? */
static inline bool soft_mmu_in_use(const struct soft_mmu *mmu, const struct soft_space *space)
{
	return space->cr3 != SOFT_NO_SPACE || space == mmu->now;
}

/** soft_mmu_binds() - are among the rights in @taken, bits as in PKRU, some of @keys? */
static inline bool soft_mmu_binds(uint32_t taken, unsigned keys)
{
	uint32_t rights = keys;

	/* Each bit becomes two. */
	rights = (rights | rights << 8) & 0x00ff00ff;
	rights = (rights | rights << 4) & 0x0f0f0f0f;
	rights = (rights | rights << 2) & 0x33333333;
	rights = (rights | rights << 1) & 0x55555555;
	return (taken & (rights | rights << 1)) != 0;
}

/** soft_mmu_must_forget() - would soft_mmu_obey_keys() forget anything with this PKRU? */
static inline bool soft_mmu_must_forget(const struct soft_mmu *mmu, uint32_t pkru)
{
	unsigned keys = mmu->kernel_keys;

	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		keys |= soft_mmu_in_use(mmu, &mmu->space[i]) ? mmu->space[i].keys : 0U;
	}
	return soft_mmu_binds(pkru & ~mmu->pkru, keys);
}

/** soft_mmu_note_size() - the page at @linear has 2 to the power of @shift bytes. */
static inline void soft_mmu_note_size(struct soft_mmu *mmu, uint64_t linear, unsigned shift)
{
	unsigned bit;

	if (shift >= 30) {
		bit = soft_mmu_large_bit(linear >> 30);
		mmu->huge[bit / 64] |= BIT(bit % 64);
	} else if (shift > 12) {
		/* One of 4 MiB counts as both its halves. */
		bit = soft_mmu_large_bit(linear >> 21);
		mmu->large[bit / 64] |= BIT(bit % 64);
		bit = soft_mmu_large_bit(linear >> 21 ^ (shift > 21));
		mmu->large[bit / 64] |= BIT(bit % 64);
	}
}
