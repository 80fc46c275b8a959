#include "soft/mmu.h"

#include <errno.h>
#include <string.h>

#include "lib/kvm/irq.h"
#include "lib/kvm/registers.h"
#include "lib/x86/regs.h"
#include "lib/x86/walk.h"
#include "soft/access.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE	  UINT64_C(4096)
#define PAGE_MASK (PAGE - 1)

#define EXC_GP	13
#define LONGEST 64 /* writes are not longer */

#define PCID_MASK UINT64_C(0xfff)

static bool has_bit(const uint64_t *bits, uint64_t number)
{
	unsigned bit = soft_mmu_large_bit(number);

	return (bits[bit / 64] >> bit % 64 & 1) != 0;
}

/* ---- address spaces ---- */

/* Tables of a space: the users', and that of the kernel when it accesses the users' memory. */
static struct st_view *view_of(const struct soft_mmu *mmu, const struct soft_space *space,
			       enum st_view_kind kind)
{
	unsigned n = (unsigned)(space - mmu->space);

	return mmu->st != NULL && n < mmu->st->nframes ? &mmu->st->frames[n].view[kind] : NULL;
}

/* What may be read and written. */
static void flush_data(struct soft_mmu *mmu, struct soft_space *space)
{
	struct st_view *user = view_of(mmu, space, ST_VIEW_USER);
	struct st_view *ac = view_of(mmu, space, ST_VIEW_KERNEL_AC);

	/* All bits set: SOFT_NO_PAGE. What the interpreter fetches goes along. */
	memset(space->user, 0xff, sizeof(space->user));
	space->keys = 0;
	if (user != NULL) {
		st_flush_pages(user);
		st_flush_pages(ac);
	}
}

static void flush_space(struct soft_mmu *mmu, struct soft_space *space)
{
	struct st_view *user = view_of(mmu, space, ST_VIEW_USER);

	flush_data(mmu, space);
	if (user != NULL) {
		st_flush_exec(user);
		st_flush_exec(view_of(mmu, space, ST_VIEW_KERNEL_AC));
	}
}

/* What is the same in all spaces. */
static void flush_kernel(struct soft_mmu *mmu)
{
	struct st_view *v = view_of(mmu, mmu->now, ST_VIEW_KERNEL);

	memset(mmu->kernel, 0xff, sizeof(mmu->kernel));
	if (v != NULL) {
		st_flush_view(v);
	}
	mmu->kernel_private = false;
	mmu->kernel_keys = 0;
}

void soft_mmu_init(struct soft_mmu *mmu, struct st_translator *st)
{
	mmu->st = st;
	mmu->now = &mmu->space[0];
	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		mmu->space[i].cr3 = SOFT_NO_SPACE;
	}
	flush_space(mmu, mmu->now);
	flush_kernel(mmu);
}

void soft_mmu_flush(struct soft_mmu *mmu)
{
	uint64_t cr3 = mmu->now->cr3;

	/* The others when they are used again. */
	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		mmu->space[i].cr3 = SOFT_NO_SPACE;
	}
	mmu->now->cr3 = cr3;
	flush_space(mmu, mmu->now);
	flush_kernel(mmu);
	memset(mmu->large, 0, sizeof(mmu->large));
	memset(mmu->huge, 0, sizeof(mmu->huge));
	mmu->flushes++;
}

void soft_mmu_flush_pcid(struct soft_mmu *mmu, uint64_t pcid)
{
	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		struct soft_space *space = &mmu->space[i];

		if (space == mmu->now) {
			if ((space->cr3 & PCID_MASK) == pcid) {
				flush_space(mmu, space);
				mmu->flushes++;
			}
		} else if (space->cr3 != SOFT_NO_SPACE && (space->cr3 & PCID_MASK) == pcid) {
			space->cr3 = SOFT_NO_SPACE;
		}
	}
	if (mmu->kernel_private) {
		flush_kernel(mmu);
	}
}

void soft_mmu_doubt_code(struct soft_mmu *mmu)
{
	struct st_view *kernel = view_of(mmu, mmu->now, ST_VIEW_KERNEL);

	for (unsigned n = 0; n < SOFT_SPACES && kernel != NULL; n++) {
		struct st_view *user = view_of(mmu, &mmu->space[n], ST_VIEW_USER);

		if (user != NULL && soft_mmu_in_use(mmu, &mmu->space[n])) {
			st_doubt_exec(user);
		}
	}
	if (kernel != NULL) {
		st_doubt_exec(kernel);
	}
}

static void protect(struct soft_tlb_entry *tlb, struct st_view *v, uint64_t host)
{
	for (unsigned i = 0; i < SOFT_TLB; i++) {
		if ((uintptr_t)tlb[i].host == host) {
			tlb[i].write = SOFT_NO_PAGE;
		}
	}
	if (v != NULL) {
		st_flush_writes(v, host);
	}
}

void soft_mmu_protect(struct soft_vcpu *vcpu, uint64_t host)
{
	struct soft_mmu *mmu = &vcpu->mmu;

	for (unsigned n = 0; n < SOFT_SPACES; n++) {
		struct soft_space *space = &mmu->space[n];
		struct st_view *ac = view_of(mmu, space, ST_VIEW_KERNEL_AC);

		if (!soft_mmu_in_use(mmu, space)) {
			continue;
		}
		protect(space->user, view_of(mmu, space, ST_VIEW_USER), host);
		if (ac != NULL) {
			st_flush_writes(ac, host);
		}
	}
	protect(mmu->kernel, view_of(mmu, mmu->now, ST_VIEW_KERNEL), host);
}

/* One that is free, or that has been for longest. */
static struct soft_space *make_room(struct soft_mmu *mmu)
{
	struct soft_space *space;

	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		space = &mmu->space[i];
		if (space->cr3 == SOFT_NO_SPACE && space != mmu->now) {
			return space;
		}
	}
	do {
		space = &mmu->space[mmu->oldest++ % SOFT_SPACES];
	} while (space == mmu->now);
	return space;
}

void soft_mmu_follow(struct soft_vcpu *vcpu)
{
	struct soft_mmu *mmu = &vcpu->mmu;
	uint64_t cr3 = vcpu->kvm->cr3;
	struct soft_space *space = mmu->now;

	if (space->cr3 == cr3) {
		return;
	}
	space = NULL;
	for (unsigned i = 0; i < SOFT_SPACES && space == NULL; i++) {
		space = mmu->space[i].cr3 == cr3 ? &mmu->space[i] : NULL;
	}
	if (space == NULL) {
		space = make_room(mmu);
		space->cr3 = cr3;
		flush_space(mmu, space);
	}
	if (mmu->kernel_private) {
		flush_kernel(mmu);
	}
	mmu->now = space;
	if (mmu->st != NULL) {
		st_use_space(mmu->st, (unsigned)(space - mmu->space));
	}
}

void soft_mmu_obey_keys(struct soft_vcpu *vcpu)
{
	struct soft_mmu *mmu = &vcpu->mmu;
	uint32_t pkru = kvm_reg_pkru(vcpu->kvm);
	uint32_t taken = pkru & ~mmu->pkru;

	mmu->pkru = pkru;
	if (taken == 0) {
		return;
	}
	for (unsigned i = 0; i < SOFT_SPACES; i++) {
		struct soft_space *space = &mmu->space[i];

		/* ST_VIEW_KERNEL_AC of any may have what the kernel's have. */
		if (soft_mmu_in_use(mmu, space) &&
		    soft_mmu_binds(taken, space->keys | mmu->kernel_keys)) {
			flush_data(mmu, space);
		}
	}
	if (soft_mmu_binds(taken, mmu->kernel_keys)) {
		flush_kernel(mmu);
	}
}

static void flush_page(struct soft_tlb_entry *tlb, struct st_view *v, uint64_t linear)
{
	struct soft_tlb_entry *e = &tlb[(linear >> 12) % SOFT_TLB];

	/* Another page's entry may go along. */
	e->read = e->write = e->fetch = SOFT_NO_PAGE;
	if (v != NULL) {
		st_flush_page(v, linear);
	}
}

void soft_mmu_flush_page(struct soft_mmu *mmu, uint64_t linear)
{
	if (has_bit(mmu->large, linear >> 21) || has_bit(mmu->huge, linear >> 30)) {
		soft_mmu_flush(mmu);
		return;
	}
	/* Of all spaces: it may be global. */
	for (unsigned n = 0; n < SOFT_SPACES; n++) {
		struct soft_space *space = &mmu->space[n];
		struct st_view *ac = view_of(mmu, space, ST_VIEW_KERNEL_AC);

		if (!soft_mmu_in_use(mmu, space)) {
			continue;
		}
		flush_page(space->user, view_of(mmu, space, ST_VIEW_USER), linear);
		if (ac != NULL) {
			st_flush_page(ac, linear);
		}
	}
	flush_page(mmu->kernel, view_of(mmu, mmu->now, ST_VIEW_KERNEL), linear);
}

/* ---- the walk ---- */

/* A physical address that is not mapped: lib/kvm is to look at it. */
static enum insn_outcome nowhere(struct soft_vcpu *vcpu, uint64_t gpa, enum soft_access access)
{
	vcpu->stop->reason = KVM_STOP_MEMORY;
	vcpu->stop->memory.gpa = gpa;
	vcpu->stop->memory.write = access == SOFT_WRITE;
	vcpu->stop->memory.fetch = access == SOFT_FETCH;
	return INSN_EXIT;
}

static uint8_t *host_of(uint64_t entry, uint64_t gpa)
{
	return (uint8_t *)(uintptr_t)((entry & ~PAGE_MASK) | (gpa & PAGE_MASK));
}

struct walk_context {
	struct soft_vcpu *vcpu;
	uint64_t gpa; /* where it ended, if it did */
	bool write;
};

/* The VMM took the memory away without a word: forget it, lib/kvm finds out what it is now. */
static void forget_page(struct soft_vcpu *vcpu, uint64_t gpa)
{
	soft_map_clear(&vcpu->vm->map, gpa >> 12, 1);
	soft_mmu_flush(&vcpu->mmu);
}

static int walk_read(void *ctx, uint64_t gpa, void *entry, unsigned bytes)
{
	struct walk_context *w = ctx;
	uint64_t page = soft_map_get(&w->vcpu->vm->map, gpa >> 12);

	if (page == 0 || soft_access_load(entry, host_of(page, gpa), bytes) != 0) {
		forget_page(w->vcpu, gpa);
		w->gpa = gpa;
		w->write = false;
		return -ENOENT;
	}
	return 0;
}

static int walk_cmpxchg(void *ctx, uint64_t gpa, const void *old, const void *new, unsigned bytes)
{
	struct walk_context *w = ctx;
	uint64_t page = soft_map_get(&w->vcpu->vm->map, gpa >> 12);
	int r = -EFAULT;

	if ((page & SOFT_MAP_WRITE) != 0) {
		r = soft_access_cmpxchg(host_of(page, gpa), old, new, bytes);
	}
	if (r == -EFAULT) {
		w->gpa = gpa;
		w->write = true;
		return -ENOENT;
	}
	return r;
}

static const struct walk_ops walk_ops = {walk_read, walk_cmpxchg};

static enum walk_outcome translate(struct soft_vcpu *vcpu, uint64_t linear, enum soft_access access,
				   bool system, struct walk_context *w, struct walk_result *result)
{
	const struct kvm_vcpu *kvm = vcpu->kvm;
	const struct walk_mode mode = {
		.cr0 = kvm->cpu.cr0,
		.cr3 = kvm->cr3,
		.cr4 = kvm->cpu.cr4,
		.efer = kvm->cpu.efer,
		.pdptr = kvm->pdptr,
		.phys_bits = kvm->features.phys_bits,
		.pages_1g = kvm->features.pages_1g,
		.ac = (kvm->cpu.rflags & RFLAGS_AC) != 0,
		.pkru = vcpu->mmu.pkru,
	};
	unsigned bits = WALK_SET_AD;

	bits |= access == SOFT_WRITE ? WALK_WRITE : 0;
	bits |= access == SOFT_FETCH ? WALK_FETCH : 0;
	if (system) {
		bits |= WALK_IMPLICIT;
	} else if (kvm->cpu.cpl == 3) {
		bits |= WALK_USER;
	}
	return walk(&mode, &walk_ops, w, linear, bits, result);
}

/* ---- the TLB ---- */

static struct soft_tlb_entry *entry_of(struct soft_vcpu *vcpu, uint64_t linear, bool system)
{
	struct soft_mmu *mmu = &vcpu->mmu;
	struct soft_tlb_entry *tlb =
		vcpu->kvm->cpu.cpl == 3 && !system ? mmu->now->user : mmu->kernel;

	return &tlb[(linear >> 12) % SOFT_TLB];
}

static void fill(struct soft_vcpu *vcpu, uint64_t linear, enum soft_access access, bool system,
		 const struct walk_result *result, uint64_t page)
{
	struct soft_tlb_entry *e = entry_of(vcpu, linear, system);
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint64_t tag = linear >> 12;
	uint8_t *host = host_of(page, 0);
	bool user_view = cpu->cpl == 3 && !system;

	/* What SMAP and RFLAGS.AC have a say in is asked each time, or is in ST_VIEW_KERNEL_AC. */
	bool asked = !user_view && result->user && (cpu->cr4 & CR4_SMAP) != 0;

	if (result->user && access != SOFT_FETCH) {
		soft_mmu_note_key(&vcpu->mmu, result->key, !user_view && !asked);
	}
	soft_mmu_note_size(&vcpu->mmu, linear, result->page_shift);
	if (asked && access != SOFT_FETCH) {
		return;
	}
	if (!user_view && !result->global) {
		vcpu->mmu.kernel_private = true;
	}
	if (e->host != host || (e->read != tag && e->write != tag && e->fetch != tag)) {
		e->read = e->write = e->fetch = SOFT_NO_PAGE;
		e->host = host;
	}
	if (access == SOFT_FETCH) {
		e->fetch = tag;
	} else {
		e->read = tag;
	}
	/* The dirty bit is set by the first write. */
	if (access == SOFT_WRITE && (page & SOFT_MAP_WRITE) != 0 &&
	    soft_code_mask(vcpu->vm, (uintptr_t)host) == 0) {
		e->write = tag;
	}
}

static bool canonical(const struct insn_cpu *cpu, uint64_t linear)
{
	unsigned shift = (cpu->cr4 & CR4_LA57) != 0 ? 7 : 16;

	return (cpu->efer & EFER_LMA) == 0 ||
	       (uint64_t)((int64_t)(linear << shift) >> shift) == linear;
}

static enum insn_outcome miss(struct soft_vcpu *vcpu, uint64_t linear, enum soft_access access,
			      bool system, uint8_t **host)
{
	struct walk_context w = {.vcpu = vcpu};
	struct walk_result result;
	uint32_t offset;
	uint64_t page;

	if (!canonical(&vcpu->kvm->cpu, linear)) {
		return insn_raise(&vcpu->env, EXC_GP, 0);
	}
	switch (translate(vcpu, linear, access, system, &w, &result)) {
	case WALK_OK:
		break;
	case WALK_FAULT:
		return insn_raise_page_fault(&vcpu->env, linear, result.error);
	default:
		return nowhere(vcpu, w.gpa, w.write ? SOFT_WRITE : SOFT_READ);
	}
	page = soft_map_get(&vcpu->vm->map, result.gpa >> 12);
	if (page == 0 || (access == SOFT_WRITE && (page & SOFT_MAP_WRITE) == 0) ||
	    (vcpu->kvm->apic != NULL && kvm_irq_apic_page(vcpu->kvm, result.gpa, &offset))) {
		return nowhere(vcpu, result.gpa, access);
	}
	*host = host_of(page, linear);
	if (access == SOFT_WRITE) {
		soft_code_write(vcpu, (uintptr_t)*host, LONGEST);
	}
	fill(vcpu, linear, access, system, &result, page);
	return INSN_DONE;
}

enum insn_outcome soft_mmu_host(struct soft_vcpu *vcpu, uint64_t linear, enum soft_access access,
				bool system, uint8_t **host)
{
	const struct soft_tlb_entry *e = entry_of(vcpu, linear, system);
	uint64_t tag = linear >> 12;

	if ((access == SOFT_READ && e->read == tag) || (access == SOFT_WRITE && e->write == tag) ||
	    (access == SOFT_FETCH && e->fetch == tag)) {
		*host = e->host + (linear & PAGE_MASK);
		return INSN_DONE;
	}
	return miss(vcpu, linear, access, system, host);
}

/* ---- accesses of any length ---- */

/* The one or two pages of an access, translated before any is touched. */
struct parts {
	uint8_t *host[2];
	unsigned bytes[2];
};

static enum insn_outcome split(struct soft_vcpu *vcpu, uint64_t linear, unsigned len,
			       enum soft_access access, bool system, struct parts *parts)
{
	unsigned room = (unsigned)(PAGE - (linear & PAGE_MASK));
	enum insn_outcome outcome;

	parts->bytes[0] = MIN(len, room);
	parts->bytes[1] = len - parts->bytes[0];
	outcome = soft_mmu_host(vcpu, linear, access, system, &parts->host[0]);
	if (outcome == INSN_DONE && parts->bytes[1] != 0) {
		uint64_t next = linear + room;

		if ((vcpu->kvm->cpu.efer & EFER_LMA) == 0) {
			next &= UINT32_MAX;
		}
		outcome = soft_mmu_host(vcpu, next, access, system, &parts->host[1]);
	}
	return outcome;
}

/* The memory behind a mapping is gone: the instruction begins anew, and finds no mapping. */
static enum insn_outcome vanished(struct soft_vcpu *vcpu, uint64_t linear, enum soft_access access,
				  bool system)
{
	struct walk_context w = {.vcpu = vcpu};
	struct walk_result result;

	if (translate(vcpu, linear, access, system, &w, &result) != WALK_OK) {
		soft_mmu_flush(&vcpu->mmu);
		vcpu->stop->reason = KVM_STOP_NONE;
		return INSN_EXIT;
	}
	forget_page(vcpu, result.gpa);
	return nowhere(vcpu, result.gpa, access);
}

enum insn_outcome soft_mmu_read(struct soft_vcpu *vcpu, uint64_t linear, void *data, unsigned len,
				bool system)
{
	struct parts parts;
	enum insn_outcome outcome = split(vcpu, linear, len, SOFT_READ, system, &parts);
	uint8_t *to = data;

	if (outcome != INSN_DONE) {
		return outcome;
	}
	if (soft_access_load(to, parts.host[0], parts.bytes[0]) != 0) {
		return vanished(vcpu, linear, SOFT_READ, system);
	}
	if (parts.bytes[1] != 0 &&
	    soft_access_load(to + parts.bytes[0], parts.host[1], parts.bytes[1]) != 0) {
		return vanished(vcpu, linear + parts.bytes[0], SOFT_READ, system);
	}
	return INSN_DONE;
}

enum insn_outcome soft_mmu_write(struct soft_vcpu *vcpu, uint64_t linear, const void *data,
				 unsigned len, bool system)
{
	struct parts parts;
	enum insn_outcome outcome = split(vcpu, linear, len, SOFT_WRITE, system, &parts);
	const uint8_t *from = data;

	if (outcome != INSN_DONE) {
		return outcome;
	}
	if (soft_access_store(parts.host[0], from, parts.bytes[0]) != 0) {
		return vanished(vcpu, linear, SOFT_WRITE, system);
	}
	if (parts.bytes[1] != 0 &&
	    soft_access_store(parts.host[1], from + parts.bytes[0], parts.bytes[1]) != 0) {
		return vanished(vcpu, linear + parts.bytes[0], SOFT_WRITE, system);
	}
	return INSN_DONE;
}

enum insn_outcome soft_mmu_probe(struct soft_vcpu *vcpu, uint64_t linear, unsigned len, bool system)
{
	struct parts parts;

	return split(vcpu, linear, len, SOFT_WRITE, system, &parts);
}

enum insn_outcome soft_mmu_cmpxchg(struct soft_vcpu *vcpu, uint64_t linear, const void *old,
				   const void *new, unsigned len)
{
	struct parts parts;
	enum insn_outcome outcome = split(vcpu, linear, len, SOFT_WRITE, false, &parts);
	uint8_t now[16];

	if (outcome != INSN_DONE) {
		return outcome;
	}
	if (parts.bytes[1] == 0) {
		switch (soft_access_cmpxchg(parts.host[0], old, new, len)) {
		case 0:
			return INSN_DONE;
		case -EAGAIN:
			return INSN_AGAIN;
		case -EINVAL:
			return INSN_UNSUPPORTED;
		default:
			return vanished(vcpu, linear, SOFT_WRITE, false);
		}
	}
	/* Pages that are neighbours here, too, the host's CPU can lock. */
	if (len <= 8 && parts.host[1] == parts.host[0] + parts.bytes[0]) {
		int r = soft_access_cmpxchg(parts.host[0], old, new, len);

		if (r != -EFAULT) {
			return r == 0 ? INSN_DONE : INSN_AGAIN;
		}
	}
	soft_vcpu_alone(vcpu);
	outcome = soft_mmu_probe(vcpu, linear, len, false);
	if (outcome == INSN_DONE) {
		outcome = soft_mmu_read(vcpu, linear, now, len, false);
	}
	if (outcome == INSN_DONE) {
		outcome = memcmp(now, old, len) != 0
				  ? INSN_AGAIN
				  : soft_mmu_write(vcpu, linear, new, len, false);
	}
	soft_vcpu_not_alone(vcpu);
	return outcome;
}

enum insn_outcome soft_mmu_fetch(struct soft_vcpu *vcpu, uint64_t linear, uint8_t *bytes,
				 unsigned *len, bool more)
{
	unsigned room = (unsigned)(PAGE - (linear & PAGE_MASK));
	unsigned first = MIN((unsigned)INSN_MAX, room);
	enum insn_outcome outcome;
	uint8_t *host = NULL;

	outcome = soft_mmu_host(vcpu, linear, SOFT_FETCH, false, &host);
	if (outcome != INSN_DONE) {
		return outcome;
	}
	if (soft_access_copy(bytes, host, first) != 0) {
		return vanished(vcpu, linear, SOFT_FETCH, false);
	}
	*len = first;
	if (!more || first == INSN_MAX) {
		return INSN_DONE;
	}
	outcome = soft_mmu_host(vcpu, linear + first, SOFT_FETCH, false, &host);
	if (outcome != INSN_DONE) {
		return outcome;
	}
	if (soft_access_copy(bytes + first, host, INSN_MAX - first) != 0) {
		return vanished(vcpu, linear + first, SOFT_FETCH, false);
	}
	*len = INSN_MAX;
	return INSN_DONE;
}
