/*
 * The translating engine. Translated code runs until it meets something that is not known yet (a
 * jump, a page) or that is the interpreter's; then this decides and goes on.
 */
#include "soft/translate/run.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "lib/x86/regs.h"
#include "soft/access.h"
#include "soft/interp.h"
#include "soft/translate/check.h"
#include "soft/translate/fast.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"
#include "soft/translate/x87.h"
#include "soft/vcpu.h"

#define HWCAP2_FSGSBASE BIT(1)

#define PAGE_MASK   UINT64_C(4095)
#define FLAG_DF	    BIT(10)
#define CR0_TS	    BIT(3)
#define CR0_EM	    BIT(2)
#define CR0_AM	    BIT(18)
#define CR4_OSFXSR  BIT(9)
#define DR7_ENABLED UINT64_C(0xff)
#define AT_MXCSR    24 /* in the XSAVE area */
#define AVX	    UINT64_C(0x06)
#define AVX512	    UINT64_C(0xe6)

/* After so many blocks or instructions lib/kvm looks whether a signal is pending. */
#define SLICE 2000

/* Of the cache that is full soon. */
#define SMALL_BYTES 65536

/* ---- what translated code depends on ---- */

static bool flat_data(const struct insn_segment *s)
{
	return s->base == 0 && s->limit == UINT32_MAX &&
	       (s->attr & (INSN_SEG_P | INSN_SEG_S | 0xe)) == (INSN_SEG_P | INSN_SEG_S | 2);
}

static bool flat(const struct insn_cpu *cpu)
{
	return cpu->seg[INSN_CS].base == 0 && cpu->seg[INSN_CS].limit == UINT32_MAX &&
	       flat_data(&cpu->seg[INSN_DS]) && flat_data(&cpu->seg[INSN_ES]) &&
	       flat_data(&cpu->seg[INSN_SS]) && (cpu->seg[INSN_SS].attr & INSN_SEG_DB) != 0;
}

static unsigned fpu_mode(const struct kvm_vcpu *kvm)
{
	uint64_t cr0 = kvm->cpu.cr0, cr4 = kvm->cpu.cr4;
	unsigned mode = 0;

	if ((cr0 & CR0_TS) != 0) {
		return 0;
	}
	if ((cr0 & CR0_EM) == 0) {
		mode |= ST_MODE_X87 | ST_MODE_MMX;
		mode |= (cr4 & CR4_OSFXSR) != 0 ? ST_MODE_SSE : 0;
	}
	if ((cr4 & CR4_OSXSAVE) != 0) {
		mode |= (kvm->xcr0 & AVX) == AVX ? ST_MODE_AVX : 0;
		mode |= (kvm->xcr0 & AVX512) == AVX512 ? ST_MODE_AVX512 : 0;
	}
	return mode;
}

unsigned st_mode(const struct soft_vcpu *vcpu)
{
	const struct kvm_vcpu *kvm = vcpu->kvm;
	const struct insn_cpu *cpu = &kvm->cpu;
	unsigned mode = insn_mode(cpu);
	bool ac = (cpu->rflags & RFLAGS_AC) != 0;

	if (mode == INSN_16 || (mode == INSN_32 && !flat(cpu)) ||
	    (cpu->rflags & (RFLAGS_TF | RFLAGS_RF)) != 0 || cpu->interrupt_shadow ||
	    cpu->trap_shadow || (kvm->hw_dr7 & DR7_ENABLED) != 0 || cpu->cpl == 1 ||
	    cpu->cpl == 2) {
		return ST_MODE_INTERPRET;
	}
	if (cpu->cpl == 3) {
		if (ac && (cpu->cr0 & CR0_AM) != 0) {
			return ST_MODE_INTERPRET;
		}
		mode |= ST_MODE_USER;
	} else if (ac) {
		mode |= ST_MODE_AC;
	}
	mode |= kvm->tsc_ratio == 0 && (cpu->cr4 & CR4_TSD) == 0 ? ST_MODE_TSC : 0;
	return mode | fpu_mode(kvm) | ST_MODE_SAVED;
}

/* ---- registers ---- */

static void sync_in(struct soft_vcpu *vcpu, struct st_frame *f)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;

	memcpy(f->gpr, cpu->gpr, sizeof(f->gpr));
	f->flags = (cpu->rflags & ST_FLAGS) | 2;
	f->saved = st_pack_flags(f->flags);
	f->system = cpu->rflags & ~(ST_FLAGS | FLAG_DF | RFLAGS_IF);
	f->df = (cpu->rflags & FLAG_DF) != 0;
	f->interrupts = (cpu->rflags & RFLAGS_IF) != 0;
	f->window = vcpu->kvm->want_irq_window;
	f->fs_base = cpu->seg[INSN_FS].base;
	f->gs_base = cpu->seg[INSN_GS].base;
	f->kernel_gs = vcpu->kvm->msr[KVM_MSR_KERNEL_GS_BASE];
	f->tsc_offset = vcpu->kvm->tsc_offset;
	f->tsc_aux = (uint32_t)vcpu->kvm->msr[KVM_MSR_TSC_AUX];
}

static void sync_out(struct soft_vcpu *vcpu, const struct st_frame *f)
{
	struct insn_cpu *cpu = &vcpu->kvm->cpu;

	memcpy(cpu->gpr, f->gpr, sizeof(f->gpr));
	cpu->seg[INSN_FS].base = f->fs_base;
	cpu->seg[INSN_GS].base = f->gs_base;
	vcpu->kvm->msr[KVM_MSR_KERNEL_GS_BASE] = f->kernel_gs;
	cpu->rip = f->rip;
	cpu->rflags = f->system | (f->flags & ST_FLAGS) | (f->df != 0 ? FLAG_DF : 0) |
		      (f->interrupts != 0 ? RFLAGS_IF : 0);
}

/* ---- blocks ---- */

/* Does the instruction at @offset end in the next page? */
static bool ends_in_next(const struct st_source *source, unsigned offset, unsigned mode)
{
	struct insn insn;

	return insn_decode(&insn, (mode & ST_MODE_INSN) | (source->amd ? INSN_AMD : 0),
			   source->bytes + offset, 4096 - offset) == INSN_MORE;
}

/* What is at @linear may be executed. Return: its number; 0: not now. */
static uint32_t executable(struct soft_vcpu *vcpu, uint64_t linear, unsigned mode, uint64_t *host)
{
	struct st_translator *t = vcpu->translator;
	struct st_view *v = &t->frame->view[st_exec_of(st_view_of(mode))];
	uint32_t map;
	uint8_t *at;

	if (soft_mmu_host(vcpu, linear, SOFT_FETCH, false, &at) != INSN_DONE) {
		return 0;
	}
	*host = (uintptr_t)at & ~PAGE_MASK;
	map = st_map(t, linear & ~PAGE_MASK, *host);
	if (map == 0) {
		st_reset(t);
		return 0;
	}
	if (v->exec[(linear >> 12) % ST_EXEC] != map) {
		if (!st_verify(t, *host)) {
			return 0;
		}
		st_view_exec(v, linear, map);
	}
	return map;
}

/* The source goes on in the next page. Return: false: not now. */
static bool add_next(struct soft_vcpu *vcpu, struct st_source *source, uint8_t *bytes,
		     unsigned mode)
{
	uint64_t linear = source->linear + 4096, dropped = vcpu->translator->dropped;

	if ((mode & ST_MODE_INSN) != INSN_64) {
		linear &= UINT32_MAX;
	}
	source->next_map = executable(vcpu, linear, mode, &source->next_page);
	source->length += INSN_MAX;
	return source->next_map != 0 && vcpu->translator->dropped == dropped &&
	       soft_access_copy(bytes, (const void *)(uintptr_t)source->next_page, 4096) == 0;
}

/* Writes to the pieces @mask of the page are seen from now on; until now it has @bytes. */
static bool depend(struct soft_vcpu *vcpu, struct st_page *page, uint64_t mask,
		   const uint8_t *bytes)
{
	unsigned from = (unsigned)__builtin_ctzll(mask) * SOFT_CODE_PIECE;
	unsigned to = (64 - (unsigned)__builtin_clzll(mask)) * SOFT_CODE_PIECE;
	const uint8_t *now = (const uint8_t *)(uintptr_t)page->host;
	uint8_t again[4096];

	if (soft_code_add(vcpu, page->host, mask) != 0 ||
	    soft_access_copy(again, now + from, to - from) != 0 ||
	    memcmp(bytes + from, again, to - from) != 0) {
		return false;
	}
	for (uint64_t m = mask & ~page->mask; m != 0; m &= m - 1) {
		unsigned at = (unsigned)__builtin_ctzll(m) * SOFT_CODE_PIECE;

		memcpy(page->bytes + at, bytes + at, SOFT_CODE_PIECE);
	}
	page->mask |= mask;
	return true;
}

/* Return: the block, or ST_NONE: once more, or by the interpreter. */
static uint32_t translate(struct soft_vcpu *vcpu, const struct st_source *of, uint64_t rip,
			  unsigned mode)
{
	struct st_translator *t = vcpu->translator;
	struct st_source source = *of;
	struct st_page *page, *next = NULL;
	uint8_t bytes[2 * 4096];
	uint32_t b = ST_NONE;
	uint64_t mask;

	source.bytes = bytes;
	if (soft_access_copy(bytes, (const void *)(uintptr_t)source.page, 4096) != 0 ||
	    (ends_in_next(&source, (unsigned)(rip & PAGE_MASK), mode) &&
	     !add_next(vcpu, &source, bytes + 4096, mode))) {
		return ST_NONE;
	}
	page = st_page_make(t, source.page);
	if (page != NULL && source.length > 4096) {
		next = st_page_make(t, source.next_page);
	}
	if (page != NULL && (next != NULL || source.length == 4096)) {
		b = st_translate(t, &source, (unsigned)(rip & PAGE_MASK), mode);
	}
	if (b == ST_NONE) {
		st_reset(t);
		return ST_NONE;
	}
	st_judge_block(t, &t->blocks[b]);
	mask = t->blocks[b].pieces;
	if (!depend(vcpu, page, mask, bytes) ||
	    (next != NULL && !depend(vcpu, next, 1, bytes + 4096))) {
		t->blocks[b].dead = true;
		return ST_NONE;
	}
	st_block_add(t, b, next);
	st_link_known(t, &t->blocks[b]);
	return b;
}

/* Return: as above. */
static uint32_t make(struct soft_vcpu *vcpu, uint64_t host, uint32_t map, uint64_t rip,
		     unsigned mode)
{
	struct st_translator *t = vcpu->translator;
	struct st_source source = {
		.page = host,
		.linear = rip & ~PAGE_MASK,
		.map = map,
		.amd = vcpu->kvm->features.amd,
		.length = 4096,
	};
	uint32_t b = st_relocate(t, &source, (unsigned)(rip & PAGE_MASK), mode);

	if (b == ST_NONE) {
		b = translate(vcpu, &source, rip, mode);
	}
	return b;
}

static uint32_t find_block(struct soft_vcpu *vcpu, uint64_t rip, unsigned mode)
{
	struct st_translator *t = vcpu->translator;
	uint64_t flushes, host;
	uint32_t b, map = executable(vcpu, rip, mode, &host);

	if (map == 0) {
		return ST_NONE;
	}
	b = st_find(t, host, rip, mode);
	flushes = vcpu->mmu.flushes;
	if (b == ST_NONE) {
		b = make(vcpu, host, map, rip, mode);
	}
	return vcpu->mmu.flushes == flushes ? b : ST_NONE;
}

/* Indirect jumps compare addresses only: what the table leads to is of the mode that runs. */
static void use_jumps(struct st_translator *t, unsigned mode)
{
	enum st_view_kind kind = st_view_of(mode);

	if (t->view_mode[kind] != mode) {
		st_flush_jumps(t->frame, kind);
		t->view_mode[kind] = mode;
	}
}

/* From now on indirect jumps find it. */
static void remember(struct st_translator *t, uint64_t rip, unsigned mode, uint32_t b)
{
	st_jump_enter(t->frame, st_view_of(mode), rip, (uintptr_t)t->rx + t->blocks[b].code);
}

/* ---- leaving ---- */

static void link_site(struct soft_vcpu *vcpu, unsigned mode)
{
	struct st_translator *t = vcpu->translator;
	uint32_t site = (uint32_t)(t->frame->site - (uintptr_t)t->rx), to;
	struct st_block *b = st_block_at(t, site - 1);
	struct st_link *link = NULL;
	uint64_t dropped = t->dropped;

	for (uint32_t i = 0; b != NULL && i < b->links; i++) {
		if (t->link[b->first_link + i].site == site) {
			link = &t->link[b->first_link + i];
		}
	}
	if (link == NULL) {
		abort();
	}
	t->frame->rip = link->rip;
	if ((link->how & ST_MODE_SAVED) != 0) {
		t->frame->flags = st_unpack_flags(t->frame->saved);
		sync_out(vcpu, t->frame);
	}
	vcpu->kvm->cpu.rip = link->rip;
	if (b->dead || ((b->mode & ~ST_MODE_PLAIN) | ST_MODE_SAVED) != mode) {
		return;
	}
	to = find_block(vcpu, link->rip, (mode & ~ST_MODE_SAVED) | link->how);
	/* Nothing was forgotten meanwhile: neither the block, nor all of them. */
	if (to != ST_NONE && t->dropped == dropped) {
		st_link_to(t, b, link, to);
		t->next_how = link->how;
	}
}

/* Of the instruction whose code has left. *@guest: st_guest_offset(). */
static uint64_t rip_of_site(const struct st_translator *t, unsigned *guest)
{
	/* Behind the call that left. */
	uint32_t site = (uint32_t)(t->frame->site - (uintptr_t)t->rx) - 1;
	const struct st_block *b = st_block_at(t, site);

	if (b == NULL) {
		abort();
	}
	*guest = st_guest_offset(t, b, site);
	return b->linear + (*guest & ~(ST_NO_FLAGS | ST_SAVED));
}

uint64_t st_site_rip(const struct st_translator *t)
{
	unsigned guest;

	return rip_of_site(t, &guest);
}

/* @entry: where the block began that was entered, with registers @before. */
static uint64_t site_rip(struct st_translator *t, uint64_t entry, const struct insn_cpu *before)
{
	unsigned guest;
	uint64_t rip = rip_of_site(t, &guest);

	if ((guest & ST_SAVED) != 0) {
		t->frame->flags = st_unpack_flags(t->frame->saved);
	}
	/* If it is the first instruction that failed, then what was lost is known. */
	if ((guest & ST_NO_FLAGS) != 0 && rip == entry &&
	    memcmp(before->gpr, t->frame->gpr, sizeof(before->gpr)) == 0) {
		t->frame->flags = before->rflags & ST_FLAGS;
	}
	return rip;
}

static __thread struct st_translator *current;

static void set_gs(struct st_translator *t)
{
	if (t->gs == t->frame) {
		return;
	}
	t->gs = t->frame;
	if (t->fsgsbase) {
		__asm__ volatile("wrgsbase %0" : : "r"((uintptr_t)t->frame));
	} else {
		syscall(SYS_arch_prctl, ARCH_SET_GS, (uintptr_t)t->frame);
	}
}

void st_use_space(struct st_translator *t, unsigned n)
{
	while (t->nframes <= n) {
		st_frame_init(&t->frames[t->nframes++], false);
	}
	st_move_frame(t, &t->frames[n]);
}

/* Return: false: there is a stop. */
static bool enter(struct soft_vcpu *vcpu, uint32_t b, unsigned mode)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;

	sync_in(vcpu, f);
	f->fpu = 0;
	if ((load_le32(vcpu->kvm->xsave + AT_MXCSR) & ~vcpu->native.mxcsr) != 0) {
		soft_native_restorable(vcpu);
	}
	st_x87_enter(f, vcpu->kvm->xsave);
	f->mode = mode;
	f->shadow_kind = st_view_of(mode);
	f->jump_to = (uintptr_t)t->rx + t->blocks[b].entry;
	set_gs(t);
	((void (*)(void))(uintptr_t)t->enter)();
	f = t->frame; /* it may have gone to another address space */
	if (f->reason == ST_REASON_INSN) {
		f->rip = site_rip(t, vcpu->kvm->cpu.rip, &vcpu->kvm->cpu);
	}
	sync_out(vcpu, f);
	st_x87_leave(vcpu);
	switch (f->reason) {
	case ST_REASON_LINK:
		link_site(vcpu, f->mode);
		return true;
	case ST_REASON_INSN:
		vcpu->stop->reason = KVM_STOP_NONE;
		return soft_interp_step(vcpu);
	default:
		return true;
	}
}

static bool one(struct soft_vcpu *vcpu)
{
	unsigned mode = st_mode(vcpu);
	uint64_t rip = vcpu->kvm->cpu.rip;
	uint32_t b = ST_NONE;

	if (mode != ST_MODE_INTERPRET) {
		b = find_block(vcpu, rip, (mode & ~ST_MODE_SAVED) | vcpu->translator->next_how);
		vcpu->translator->next_how = ST_MODE_SAVED;
	}
	if (b == ST_NONE) {
		vcpu->stop->reason = KVM_STOP_NONE;
		return soft_interp_step(vcpu);
	}
	/* It may have been outside: soft_code_written() has not waited for it then. */
	if (atomic_load(&vcpu->mail.there)) {
		return true;
	}
	use_jumps(vcpu->translator, mode);
	if (vcpu->translator->frame->reason == ST_REASON_LOOKUP &&
	    vcpu->translator->blocks[b].mode == mode) {
		remember(vcpu->translator, rip, mode, b);
	}
	return enter(vcpu, b, mode);
}

static enum soft_end translate_run(struct soft_vcpu *vcpu, struct kvm_stop *stop)
{
	struct st_translator *t = vcpu->translator;
	bool go = true;

	(void)stop;
	current = t;
	t->gs = NULL; /* the thread may be another */
	for (unsigned i = 0; i < t->nframes; i++) {
		atomic_store(&t->frames[i].kick, 0);
	}
	if (atomic_exchange(&vcpu->recheck, false)) {
		/* Pages are compared when they are next executed. */
		soft_mmu_doubt_code(&vcpu->mmu);
	}
	soft_code_receive(vcpu);
	for (unsigned i = 0; i < SLICE && go && t->frame->kick == 0 && !soft_vcpu_must_stop(vcpu);
	     i++) {
		go = one(vcpu);
	}
	current = NULL;
	return go ? SOFT_END_AGAIN : SOFT_END_STOP;
}

/* ---- faults of the host in translated code ---- */

static bool on_fault(int number, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	struct st_translator *t = current;
	uintptr_t at = (uintptr_t)*rip;

	(void)number;
	if (t == NULL || at < (uintptr_t)t->rx + t->start ||
	    at >= (uintptr_t)t->rx + ST_CACHE_BYTES) {
		return false;
	}
	t->frame->site = at + 1; /* as if it were a call of one byte */
	*rip = (greg_t)(uintptr_t)t->fault;
	return true;
}

/* ---- life ---- */

static void translate_forget(struct soft_vcpu *vcpu)
{
	soft_interp.forget(vcpu);
	st_reset(vcpu->translator);
}

static void translate_written(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask)
{
	st_drop(vcpu->translator, host, mask);
}

static void translate_fini(struct soft_vcpu *vcpu)
{
	struct st_translator *t = vcpu->translator;

	vcpu->kick = NULL;
	vcpu->mmu.st = NULL;
	vcpu->translator = NULL;
	if (t != NULL) {
		st_cache_fini(t);
		free(t);
	}
}

static int translate_init(struct soft_vcpu *vcpu)
{
	struct st_translator *t = aligned_alloc(_Alignof(struct st_translator), sizeof(*t));
	struct st_frame *f;
	int r;

	if (t == NULL) {
		return -ENOMEM;
	}
	memset(t, 0, sizeof(*t));
	vcpu->translator = t;
	r = st_cache_init(t);
	if (r != 0) {
		return r;
	}
	t->x87_saved = st_x87_always_saved();
	t->fsgsbase = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
	st_frame_init(t->frame, true);
	t->nframes = 1;
	f = t->frame;
	f->slow = (uintptr_t)st_slow;
	f->string = (uintptr_t)st_string;
	f->fast_slow = (uintptr_t)st_fast_slow;
	f->fast_jump = (uintptr_t)st_fast_jump;
	f->fast_fault = (uintptr_t)st_fast_fault;
	f->fast_system = (uintptr_t)st_fast_system;
	f->fast_string = (uintptr_t)st_fast_string;
	f->fast_moved = (uintptr_t)st_fast_moved;
	f->bit_mask = 63;
	f->self = (uintptr_t)vcpu;
	f->tlb_mask = (uint64_t)(ST_TLB - 1) << 12;
	f->page_mask = ~PAGE_MASK;
	f->xsave = (uintptr_t)vcpu->kvm->xsave;
	f->xsave_mask = soft_native_mask(vcpu->kvm->env->backend->xcr0);
	st_common(t);
	st_reset(t);
	soft_mmu_init(&vcpu->mmu, t);
	vcpu->kick_stride = sizeof(*f);
	vcpu->kick = &f->kick;
	soft_access_hook(on_fault);
	t->checked = DEBUG_LOCKS != 0;
	return 0;
}

static int checked_init(struct soft_vcpu *vcpu)
{
	int r = translate_init(vcpu);

	if (r == 0) {
		vcpu->translator->checked = true;
	}
	return r;
}

/* Room for some blocks: it is full all the time. */
static int small_init(struct soft_vcpu *vcpu)
{
	int r = checked_init(vcpu);

	if (r == 0) {
		vcpu->translator->em.end = vcpu->translator->em.at + SMALL_BYTES;
	}
	return r;
}

static int exact_init(struct soft_vcpu *vcpu)
{
	int r = translate_init(vcpu);

	if (r == 0) {
		vcpu->translator->exact = true;
	}
	return r;
}

/* They differ in how they begin. */
#define ENGINE(called, begin)                                                          \
	{                                                                              \
		.name = (called), .run = translate_run, .forget = translate_forget,    \
		.written = translate_written, .init = (begin), .fini = translate_fini, \
	}

const struct soft_engine soft_translate = ENGINE("translate", translate_init);
const struct soft_engine soft_translate_checked = ENGINE("translate-checked", checked_init);
const struct soft_engine soft_translate_small = ENGINE("translate-small", small_init);
const struct soft_engine soft_translate_exact = ENGINE("translate-exact", exact_init);
