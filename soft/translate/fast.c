#include "soft/translate/fast.h"

#include "lib/kvm/irq_internal.h"
#include "lib/kvm/registers.h"
#include "soft/access.h"
#include "soft/translate/image.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK    UINT64_C(4095)
#define ADDRESS_BITS UINT64_C(0x000ffffffffff000)
#define FLAG_DF	     BIT(10)
#define FLAG_NT	     BIT(14)
#define NO_FAST	     (RFLAGS_TF | RFLAGS_VM)
#define EXC_PF	     14

/* Descriptors without their DPL. */
#define FLAT_CODE UINT64_C(0x00af9b000000ffff)
#define FLAT_DATA UINT64_C(0x00cf93000000ffff)

/* ---- pages ---- */

/* The mode is that of 4-level paging, and nothing that is rare. */
static bool common_paging(const struct insn_cpu *cpu)
{
	return (cpu->efer & EFER_LMA) != 0 && (cpu->cr4 & CR4_LA57) == 0;
}

/* The entry at @gpa of the guest's. */
static bool entry_at(const struct soft_vcpu *vcpu, uint64_t gpa, uint64_t *entry)
{
	uint64_t page = soft_map_get(&vcpu->vm->map, gpa >> 12);

	return page != 0 &&
	       soft_access_load8(entry, (const void *)(uintptr_t)((page & ~PAGE_MASK) |
								  (gpa & PAGE_MASK))) == 0;
}

struct leaf {
	bool present; /* else nothing of what follows */
	uint64_t gpa;
	unsigned shift;
	bool user, writable, dirty, global;
	uint8_t key; /* 0 without protection keys */
};

/* A walk that finds all as it is most of the time: accessed bits are set, no reserved one is. */
static bool walk_easy(const struct soft_vcpu *vcpu, uint64_t linear, struct leaf *leaf)
{
	const struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t wrong = ADDRESS_BITS & ~(BIT(kvm->features.phys_bits) - 1);
	uint64_t table = kvm->cr3 & ADDRESS_BITS, all = PTE_US | PTE_RW, entry;
	unsigned shift = 39;

	wrong |= (kvm->cpu.efer & EFER_NXE) == 0 ? PTE_NX : 0;
	for (;; shift -= 9) {
		if (!entry_at(vcpu, table | (linear >> shift & 511) << 3, &entry)) {
			return false;
		}
		leaf->present = (entry & PTE_P) != 0;
		if (!leaf->present) {
			return true;
		}
		if ((entry & PTE_A) == 0 || (entry & wrong) != 0) {
			return false;
		}
		all &= entry;
		if (shift == 12) {
			break;
		}
		if ((entry & PTE_PS) != 0) {
			if (shift == 39 || (shift == 30 && !kvm->features.pages_1g) ||
			    (entry & (BIT(shift) - 1) & ~UINT64_C(0x1fff)) != 0) {
				return false;
			}
			break;
		}
		table = entry & ADDRESS_BITS;
	}
	leaf->gpa = (entry & ADDRESS_BITS & ~(BIT(shift) - 1)) | (linear & (BIT(shift) - 1));
	leaf->shift = shift;
	leaf->user = (all & PTE_US) != 0;
	leaf->writable = (all & PTE_RW) != 0;
	leaf->dirty = (entry & PTE_D) != 0;
	leaf->global = (entry & PTE_G) != 0 && (kvm->cpu.cr4 & CR4_PGE) != 0;
	leaf->key = (kvm->cpu.cr4 & CR4_PKE) != 0 ? entry >> 59 & 15 : 0;
	return true;
}

static bool is_apic_page(const struct kvm_vcpu *kvm, uint64_t gpa)
{
	return kvm->apic != NULL && (gpa ^ kvm->apic->lapic.base) >> 12 == 0;
}

static uint64_t across(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access);

/* The access fails, by a page fault that is known. */
static uint64_t page_fault(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access, uint64_t error)
{
	struct st_translator *t = vcpu->translator;

	error |= (access & ST_SLOW_WRITE) != 0 ? PFERR_W : 0;
	error |= (t->frame->mode & ST_MODE_USER) != 0 ? PFERR_U : 0;
	return st_page_fault(t, linear, access, (uint32_t)error);
}

uint64_t st_fast_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	struct st_frame *f = vcpu->translator->frame;
	bool write = (access & ST_SLOW_WRITE) != 0, may_write;
	struct leaf leaf = {0};
	uint64_t page;

	if ((linear & PAGE_MASK) + (access & 0xffff) > 4096) {
		return across(vcpu, linear, access);
	}
	if ((uint64_t)((int64_t)(linear << 16) >> 16) != linear || !common_paging(cpu) ||
	    !walk_easy(vcpu, linear, &leaf)) {
		return 0;
	}
	if (!leaf.present) {
		return page_fault(vcpu, linear, access, 0);
	}
	if (write && !leaf.writable && (f->mode & ST_MODE_USER) != 0 && leaf.user) {
		return page_fault(vcpu, linear, access, PFERR_P);
	}
	if ((f->mode & ST_MODE_USER) != 0
		    ? !leaf.user
		    : leaf.user && (cpu->cr4 & CR4_SMAP) != 0 && (f->mode & ST_MODE_AC) == 0) {
		return 0;
	}
	/* Whoever has no key in mind has all rights of that of all pages. */
	if (leaf.user && (cpu->cr4 & CR4_PKE) != 0 && (vcpu->mmu.pkru >> 2 * leaf.key & 3) != 0) {
		return 0;
	}
	page = soft_map_get(&vcpu->vm->map, leaf.gpa >> 12);
	may_write = leaf.writable && leaf.dirty && (page & SOFT_MAP_WRITE) != 0 &&
		    soft_code_mask(vcpu->vm, page & ~PAGE_MASK) == 0;
	if (page == 0 || (write && !may_write) || is_apic_page(vcpu->kvm, leaf.gpa)) {
		return 0;
	}
	if (!leaf.global && (f->mode & (ST_MODE_USER | ST_MODE_AC)) == 0) {
		vcpu->mmu.kernel_private = true;
	}
	if (leaf.user) {
		soft_mmu_note_key(&vcpu->mmu, leaf.key,
				  (f->mode & (ST_MODE_USER | ST_MODE_AC)) == 0);
	}
	soft_mmu_note_size(&vcpu->mmu, linear, leaf.shift);
	st_view_fill(&f->view[st_view_of(f->mode)], linear, page, may_write);
	return (page & ~PAGE_MASK) | (linear & PAGE_MASK);
}

uint64_t st_fast_page(struct soft_vcpu *vcpu, uint64_t linear, bool write)
{
	struct st_frame *f = vcpu->translator->frame;
	const struct st_view *v = &f->view[st_view_of(f->mode)];
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint64_t host;

	if ((write ? v->write : v->read)[i] == (linear & ~PAGE_MASK)) {
		return v->add[i];
	}
	host = st_fast_slow(vcpu, linear, 1 | (write ? ST_SLOW_WRITE : 0));
	return host > ST_SLOW_FAULT ? host & ~PAGE_MASK : 0;
}

/*
 * An access to two pages: where it is if they are neighbours in the VMM, too, or else a copy of
 * what is to be read, that lies as the guest's bytes do.
 */
static uint64_t across(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access)
{
	struct st_translator *t = vcpu->translator;
	bool write = (access & ST_SLOW_WRITE) != 0;
	unsigned len = access & 0xffff, room = (unsigned)(4096 - (linear & PAGE_MASK));
	uint8_t *copy = t->across + linear % (sizeof(t->across) / 2);
	uint64_t first, second;

	if ((t->frame->mode & ST_MODE_INSN) != INSN_64) {
		return 0; /* it could wrap */
	}
	first = st_fast_page(vcpu, linear, write);
	second = first == 0 ? 0 : st_fast_page(vcpu, (linear & ~PAGE_MASK) + 4096, write);
	if (first == 0 || second == 0) {
		return 0;
	}
	first |= linear & PAGE_MASK;
	if (second == first + room) {
		return first;
	}
	if (write || len > sizeof(t->across) / 2 ||
	    soft_copy_bytes(copy, (const void *)(uintptr_t)first, room) != 0 ||
	    soft_copy_bytes(copy + room, (const void *)(uintptr_t)second, len - room) != 0) {
		return 0;
	}
	return (uintptr_t)copy;
}

/* 8 bytes of the guest's. */
static bool load(struct soft_vcpu *vcpu, uint64_t linear, uint64_t *value)
{
	struct st_frame *f = vcpu->translator->frame;
	const struct st_view *v = &f->view[st_view_of(f->mode)];
	unsigned i = (unsigned)(linear >> 12) % ST_TLB;
	uint64_t host;

	if ((linear & PAGE_MASK) > 4096 - 8) {
		return false;
	}
	host = v->read[i] == (linear & ~PAGE_MASK) ? v->add[i] + (linear & PAGE_MASK)
						   : st_fast_slow(vcpu, linear, 8);
	return host > ST_SLOW_FAULT && soft_access_load8(value, (const void *)(uintptr_t)host) == 0;
}

/* ---- jumps ---- */

/* The entry for frame.rip, if the table is for frame.mode. */
static uint64_t known(const struct st_translator *t)
{
	const struct st_frame *f = t->frame;
	enum st_view_kind kind = st_view_of(f->mode);
	const struct st_jump *jump = &f->jump[kind][st_jump_slot(f->rip)];

	return jump->rip == f->rip && t->view_mode[kind] == f->mode ? jump->code : 0;
}

/* ---- system instructions ---- */

static uint64_t rflags(const struct st_frame *f)
{
	return f->system | (f->flags & ST_FLAGS) | (f->df != 0 ? FLAG_DF : 0) |
	       (f->interrupts != 0 ? RFLAGS_IF : 0);
}

/* Can code be translated with these? */
static bool flags_easy(const struct insn_cpu *cpu, uint64_t value, unsigned cpl)
{
	return (value & NO_FAST) == 0 &&
	       !(cpl == 3 && (value & RFLAGS_AC) != 0 && (cpu->cr0 & CR0_AM) != 0);
}

/* The shadow stack is that of @kind from now on. */
static void use_shadow(const struct st_translator *t, struct st_frame *f, enum st_view_kind kind)
{
	uint64_t *stopper;

	if (kind > f->shadow_kind) {
		f->shadow_tops[f->shadow_kind] = f->shadow;
		f->shadow -= ST_SHADOW_ENTRY;
		stopper = (uint64_t *)(uintptr_t)f->shadow;
		stopper[0] = (uintptr_t)t->stopper;
		stopper[1] = 0;
		for (unsigned k = f->shadow_kind + 1; k <= kind; k++) {
			f->shadow_bases[k] = f->shadow_tops[k] = f->shadow;
		}
	} else if (kind < f->shadow_kind) {
		f->shadow = f->shadow_tops[kind];
	}
	f->shadow_base = f->shadow_bases[kind];
	f->shadow_kind = kind;
}

/* To @rip with new flags; CPL and code segment are already new. */
static uint64_t go(struct soft_vcpu *vcpu, uint64_t rip, uint64_t flags)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	uint64_t code;

	vcpu->kvm->cpu.rflags = flags;
	f->flags = (flags & ST_FLAGS) | 2;
	f->saved = st_pack_flags(f->flags);
	f->system = flags & ~(ST_FLAGS | FLAG_DF | RFLAGS_IF);
	f->df = (flags & FLAG_DF) != 0;
	f->interrupts = (flags & RFLAGS_IF) != 0;
	f->mode &= ~(ST_MODE_USER | ST_MODE_AC);
	if (vcpu->kvm->cpu.cpl == 3) {
		f->mode |= ST_MODE_USER;
	} else if ((flags & RFLAGS_AC) != 0) {
		f->mode |= ST_MODE_AC;
	}
	use_shadow(t, f, st_view_of(f->mode));
	f->rip = rip;
	code = st_must_leave(f) ? 0 : known(t);
	return code != 0 ? code : (uintptr_t)t->exit_lookup;
}

/* Flat ones, of 64-bit code. */
static void set_segments(struct insn_cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl)
{
	uint16_t dpl = (uint16_t)(cpl << 5);

	cpu->seg[INSN_CS].selector = (uint16_t)((cs & ~3U) | cpl);
	cpu->seg[INSN_CS].attr = 0xa9b | dpl;
	cpu->seg[INSN_CS].limit = UINT32_MAX;
	cpu->seg[INSN_CS].base = 0;
	cpu->seg[INSN_SS].selector = (uint16_t)((ss & ~3U) | cpl);
	cpu->seg[INSN_SS].attr = 0xc93 | dpl;
	cpu->seg[INSN_SS].limit = UINT32_MAX;
	cpu->seg[INSN_SS].base = 0;
	cpu->cpl = (uint8_t)cpl;
}

/* Of CPL 0. */
static void set_null_ss(struct insn_cpu *cpu)
{
	cpu->seg[INSN_SS].selector = cpu->seg[INSN_SS].attr = 0;
	cpu->seg[INSN_SS].limit = 0;
	cpu->seg[INSN_SS].base = 0;
}

static bool canonical(uint64_t linear)
{
	return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static uint64_t do_syscall(struct soft_vcpu *vcpu, uint64_t next)
{
	struct st_frame *f = vcpu->translator->frame;
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t before = rflags(f), star = kvm->msr[KVM_MSR_STAR];
	uint64_t after = (before & ~kvm->msr[KVM_MSR_SFMASK]) | RFLAGS_FIXED;

	if ((kvm->cpu.efer & EFER_SCE) == 0 || !flags_easy(&kvm->cpu, after, 0)) {
		return 0;
	}
	f->gpr[1] = next;
	f->gpr[11] = before;
	set_segments(&kvm->cpu, (uint16_t)(star >> 32), (uint16_t)((star >> 32 & ~3U) + 8), 0);
	return go(vcpu, kvm->msr[KVM_MSR_LSTAR], after);
}

static uint64_t do_sysret(struct soft_vcpu *vcpu)
{
	const struct st_frame *f = vcpu->translator->frame;
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t flags = (f->gpr[11] & 0x3c7fd7) | RFLAGS_FIXED, rip = f->gpr[1];
	uint16_t base = (uint16_t)(kvm->msr[KVM_MSR_STAR] >> 48);

	if ((kvm->cpu.efer & EFER_SCE) == 0 || !canonical(rip) ||
	    !flags_easy(&kvm->cpu, flags, 3)) {
		return 0;
	}
	set_segments(&kvm->cpu, (uint16_t)(base + 16), (uint16_t)(base + 8), 3);
	return go(vcpu, rip, flags);
}

/* Is @selector that of the flat segment with this descriptor, apart from its DPL? */
static bool is_flat(struct soft_vcpu *vcpu, uint64_t selector, unsigned cpl, uint64_t flat)
{
	const struct insn_table_register *gdt = &vcpu->kvm->cpu.gdtr;
	uint64_t descriptor, offset = selector & 0xfff8;

	return offset != 0 && (selector & 4) == 0 && (selector & 3) == cpl &&
	       offset + 7 <= gdt->limit && load(vcpu, gdt->base + offset, &descriptor) &&
	       descriptor == (flat | (uint64_t)cpl << 45);
}

/* Segments that a return to CPL 3 would take away. */
static bool has_data_segments(const struct insn_cpu *cpu)
{
	return ((cpu->seg[INSN_DS].selector | cpu->seg[INSN_ES].selector |
		 cpu->seg[INSN_FS].selector | cpu->seg[INSN_GS].selector) &
		~3U) != 0;
}

/* Between flat segments of 64-bit code. Without breakpoints RF means nothing. */
static uint64_t do_iret(struct soft_vcpu *vcpu)
{
	const uint64_t which = ST_FLAGS | RFLAGS_TF | RFLAGS_IF | FLAG_DF | UINT64_C(0x3000) |
			       FLAG_NT | RFLAGS_AC | UINT64_C(0x380000);
	struct st_frame *f = vcpu->translator->frame;
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t rip, cs, flags, rsp, ss, top = f->gpr[4];
	unsigned cpl;

	if ((f->system & (FLAG_NT | RFLAGS_AC)) != 0 || kvm->events.nmi.masked ||
	    !load(vcpu, top, &rip) || !load(vcpu, top + 8, &cs) || !load(vcpu, top + 16, &flags) ||
	    !load(vcpu, top + 24, &rsp) || !load(vcpu, top + 32, &ss)) {
		return 0;
	}
	cs &= 0xffff;
	ss &= 0xffff;
	cpl = (unsigned)cs & 3;
	if ((cpl != 0 && (cpl != 3 || has_data_segments(&kvm->cpu))) || !canonical(rip) ||
	    !is_flat(vcpu, cs, cpl, FLAT_CODE) ||
	    ((cpl != 0 || ss != 0) && !is_flat(vcpu, ss, cpl, FLAT_DATA))) {
		return 0;
	}
	flags = (rflags(f) & ~which) | (flags & which);
	if (!flags_easy(&kvm->cpu, flags, cpl)) {
		return 0;
	}
	f->gpr[4] = rsp;
	set_segments(&kvm->cpu, (uint16_t)cs, (uint16_t)ss, cpl);
	if (ss == 0) {
		set_null_ss(&kvm->cpu);
	}
	return go(vcpu, rip, flags);
}

/* ---- page faults ---- */

struct gate {
	uint64_t rip;
	uint16_t cs;
};

/* An interrupt gate to flat 64-bit code of CPL 0, on the stack as usual. */
static bool read_gate(struct soft_vcpu *vcpu, unsigned vector, struct gate *gate)
{
	const struct insn_table_register *idt = &vcpu->kvm->cpu.idtr;
	uint64_t at = idt->base + 16UL * vector, raw[2];

	if (16 * vector + 15 > idt->limit || !load(vcpu, at, &raw[0]) ||
	    !load(vcpu, at + 8, &raw[1]) || (raw[0] >> 40 & 0x9f) != 0x8e ||
	    (raw[0] >> 32 & 7) != 0) {
		return false;
	}
	gate->rip = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32;
	gate->cs = (uint16_t)(raw[0] >> 16 & ~3U);
	return canonical(gate->rip) && is_flat(vcpu, gate->cs, 0, FLAT_CODE);
}

/* Return: false: part of it may have been written. */
static bool push_all(struct soft_vcpu *vcpu, uint64_t rsp, const uint64_t *slots, unsigned n)
{
	const struct st_frame *f = vcpu->translator->frame;
	const struct st_view *v = &f->view[st_view_of(f->mode)];
	unsigned i = (unsigned)(rsp >> 12) % ST_TLB;
	uint64_t host;

	if ((rsp & PAGE_MASK) + 8UL * n > 4096) {
		return false;
	}
	host = v->write[i] == (rsp & ~PAGE_MASK) ? v->add[i] + (rsp & PAGE_MASK)
						 : st_fast_slow(vcpu, rsp, (8 * n) | ST_SLOW_WRITE);
	for (unsigned k = 0; k < n && host > ST_SLOW_FAULT; k++) {
		if (soft_access_load8((void *)(uintptr_t)(host + 8UL * k), &slots[k]) != 0) {
			return false;
		}
	}
	return host > ST_SLOW_FAULT;
}

/* As insn_deliver(), with frame.mode being that of the handler already. */
static bool enter_handler(struct soft_vcpu *vcpu, uint64_t rip, uint32_t error, struct gate *gate)
{
	struct st_frame *f = vcpu->translator->frame;
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint64_t rsp = f->gpr[4];
	const uint64_t slots[] = {
		error,
		rip,
		cpu->seg[INSN_CS].selector,
		rflags(f) | RFLAGS_RF,
		rsp,
		cpu->seg[INSN_SS].selector,
	};

	if (!read_gate(vcpu, EXC_PF, gate) ||
	    (cpu->cpl != 0 && (cpu->tr.limit < 11 || !load(vcpu, cpu->tr.base + 4, &rsp))) ||
	    !canonical(rsp)) {
		return false;
	}
	rsp = (rsp & ~UINT64_C(15)) - sizeof(slots);
	if (!push_all(vcpu, rsp, slots, ARRAY_SIZE(slots))) {
		return false;
	}
	f->gpr[4] = rsp;
	return true;
}

uint64_t st_fast_fault(struct soft_vcpu *vcpu)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	struct insn_cpu *cpu = &vcpu->kvm->cpu;
	uint32_t site = (uint32_t)(f->site - (uintptr_t)t->rx) - 1, mode = f->mode;
	uint32_t error = t->fault_error;
	uint64_t rip, linear = t->fault_linear;
	const struct st_block *b = st_block_at(t, site);
	struct gate gate;
	unsigned guest;

	if (b == NULL || (mode & ST_MODE_INSN) != INSN_64) {
		return 0;
	}
	guest = st_guest_offset(t, b, site);
	rip = b->linear + (guest & ~(ST_NO_FLAGS | ST_SAVED));
	/* The first instruction may have flags that are not lost: the slow way knows. */
	if ((guest & ST_NO_FLAGS) != 0 && rip == cpu->rip) {
		return 0;
	}
	if ((guest & ST_SAVED) != 0) {
		f->flags = st_unpack_flags(f->saved);
	}
	f->mode &= ~(ST_MODE_USER | ST_MODE_AC);
	if (!enter_handler(vcpu, rip, error, &gate)) {
		f->mode = mode;
		return 0;
	}
	vcpu->kvm->cr2 = linear;
	if (cpu->cpl != 0) {
		set_null_ss(cpu);
		cpu->cpl = 0;
	}
	cpu->seg[INSN_CS].selector = gate.cs;
	cpu->seg[INSN_CS].attr = 0xa9b;
	cpu->seg[INSN_CS].limit = UINT32_MAX;
	cpu->seg[INSN_CS].base = 0;
	return go(vcpu, gate.rip, rflags(f) & ~(RFLAGS_TF | FLAG_NT | RFLAGS_RF | RFLAGS_IF));
}

/* ---- other system instructions ---- */

/* To an address space that is known, whose translations are kept. */
static uint64_t write_cr3(struct soft_vcpu *vcpu, uint64_t next, uint64_t value)
{
	struct st_translator *t = vcpu->translator;
	struct soft_mmu *mmu = &vcpu->mmu;
	unsigned n = 0;

	if ((vcpu->kvm->cpu.cr4 & CR4_PCIDE) == 0 || (value & CR3_NO_FLUSH) == 0 || !t->fsgsbase ||
	    mmu->kernel_private) {
		return 0;
	}
	value &= ~CR3_NO_FLUSH;
	while (n < t->nframes && mmu->space[n].cr3 != value) {
		n++;
	}
	if (n == t->nframes) {
		return 0;
	}
	vcpu->kvm->cr3 = value;
	mmu->now = &mmu->space[n];
	st_move_frame(t, &t->frames[n]);
	t->gs = t->frame;
	__asm__ volatile("wrgsbase %0" : : "r"((uintptr_t)t->frame));
	return go(vcpu, next, rflags(t->frame));
}

static uint64_t base_of_segment(struct soft_vcpu *vcpu, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	unsigned kind = ST_SYSTEM_KIND(what);
	bool fs = kind == ST_SYSTEM_RDFSBASE || kind == ST_SYSTEM_WRFSBASE;
	uint64_t mask = (what & ST_SYSTEM_WIDE) != 0 ? UINT64_MAX : UINT32_MAX;
	uint64_t *gpr = &f->gpr[ST_SYSTEM_GPR(what)], *base = fs ? &f->fs_base : &f->gs_base;

	if ((vcpu->kvm->cpu.cr4 & CR4_FSGSBASE) == 0) {
		return 0;
	}
	if (kind == ST_SYSTEM_RDFSBASE || kind == ST_SYSTEM_RDGSBASE) {
		*gpr = *base & mask;
		return f->site;
	}
	if (!canonical(*gpr & mask) || (vcpu->kvm->cpu.cr4 & CR4_LA57) != 0) {
		return 0;
	}
	*base = *gpr & mask;
	return f->site;
}

static uint64_t read_cr(struct soft_vcpu *vcpu, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	const struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t value;

	switch (ST_SYSTEM_NUMBER(what)) {
	case 0:
		value = kvm->cpu.cr0;
		break;
	case 2:
		value = kvm->cr2;
		break;
	case 3:
		value = kvm->cr3;
		break;
	default:
		value = kvm->cpu.cr4;
		break;
	}
	f->gpr[ST_SYSTEM_GPR(what)] = value;
	return f->site;
}

/* ---- protection keys ---- */

static uint64_t read_pkru(struct soft_vcpu *vcpu)
{
	struct st_frame *f = vcpu->translator->frame;

	if ((vcpu->kvm->cpu.cr4 & CR4_PKE) == 0 || (uint32_t)f->gpr[1] != 0) {
		return 0;
	}
	f->gpr[0] = vcpu->mmu.pkru;
	f->gpr[2] = 0;
	return f->site;
}

/* If nothing has to be forgotten. */
static uint64_t write_pkru(struct soft_vcpu *vcpu, uint64_t next)
{
	const struct st_frame *f = vcpu->translator->frame;
	struct kvm_vcpu *kvm = vcpu->kvm;
	uint32_t value = (uint32_t)f->gpr[0];

	if ((kvm->cpu.cr4 & CR4_PKE) == 0 || (uint32_t)(f->gpr[1] | f->gpr[2]) != 0 ||
	    soft_mmu_must_forget(&vcpu->mmu, value)) {
		return 0;
	}
	kvm_reg_set_pkru(kvm, value);
	vcpu->mmu.pkru = value;
	return go(vcpu, next, rflags(f));
}

/* ---- others ---- */

/* Who spins long is sent to the interpreter now and then, which lets others run. */
static uint64_t do_pause(struct soft_vcpu *vcpu)
{
	if (soft_vcpu_yields(vcpu)) {
		return 0;
	}
	vcpu->pauses++;
	__builtin_ia32_pause();
	return vcpu->translator->frame->site;
}

uint64_t st_fast_system(struct soft_vcpu *vcpu, uint64_t next, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	unsigned gpr = ST_SYSTEM_GPR(what);

	switch (ST_SYSTEM_KIND(what)) {
	case ST_SYSTEM_RDFSBASE:
	case ST_SYSTEM_RDGSBASE:
	case ST_SYSTEM_WRFSBASE:
	case ST_SYSTEM_WRGSBASE:
		return base_of_segment(vcpu, what);
	case ST_SYSTEM_XSAVEC:
	case ST_SYSTEM_XRSTOR:
		return st_image_insn(vcpu, next, what);
	case ST_SYSTEM_RDPKRU:
		return read_pkru(vcpu);
	case ST_SYSTEM_WRPKRU:
		return write_pkru(vcpu, next);
	case ST_SYSTEM_READ_CR:
		return read_cr(vcpu, what);
	case ST_SYSTEM_READ_SEG:
		f->gpr[gpr] = vcpu->kvm->cpu.seg[ST_SYSTEM_NUMBER(what)].selector;
		return f->site;
	case ST_SYSTEM_STORE_SEG:
		f->temp = vcpu->kvm->cpu.seg[ST_SYSTEM_NUMBER(what)].selector;
		return f->site;
	case ST_SYSTEM_PAUSE:
		return do_pause(vcpu);
	case ST_SYSTEM_SYSCALL:
		return do_syscall(vcpu, next);
	case ST_SYSTEM_SYSRET:
		return do_sysret(vcpu);
	case ST_SYSTEM_IRET:
		return do_iret(vcpu);
	case ST_SYSTEM_STAC:
		return go(vcpu, next, rflags(f) | RFLAGS_AC);
	case ST_SYSTEM_CLAC:
		return go(vcpu, next, rflags(f) & ~RFLAGS_AC);
	case ST_SYSTEM_WRITE_CR3:
		return write_cr3(vcpu, next, f->gpr[gpr]);
	default:
		return 0;
	}
}

/* ---- which instructions ---- */

static uint32_t move_system(const struct insn *insn, bool kernel)
{
	const struct insn_operand *to = &insn->operand[0], *from = &insn->operand[1];

	if (insn->noperands != 2 || from->kind != INSN_OP_REG) {
		return 0;
	}
	if (from->klass == INSN_SEG && (to->kind == INSN_OP_MEM || insn->op_bytes == 2)) {
		return ST_SYSTEM_STORE_SEG | (uint32_t)from->reg << 12;
	}
	if (to->kind != INSN_OP_REG) {
		return 0;
	}
	if (to->klass == INSN_GPR && from->klass == INSN_SEG) {
		return ST_SYSTEM_READ_SEG | (uint32_t)to->reg << 8 | (uint32_t)from->reg << 12;
	}
	if (to->klass == INSN_GPR && from->klass == INSN_CR && kernel &&
	    (BIT(from->reg) & (BIT(0) | BIT(2) | BIT(3) | BIT(4))) != 0) {
		return ST_SYSTEM_READ_CR | (uint32_t)to->reg << 8 | (uint32_t)from->reg << 12;
	}
	if (to->klass == INSN_CR && to->reg == 3 && from->klass == INSN_GPR && kernel) {
		return ST_SYSTEM_WRITE_CR3 | (uint32_t)from->reg << 8;
	}
	return 0;
}

static uint32_t xsave_kind(const struct insn *insn, bool kernel)
{
	if (insn->nmem != 1 || insn->mem[0].kind != INSN_MEM_MODRM || insn->op_bytes != 8) {
		return 0;
	}
	switch (insn->mnemonic) {
	case INSN_XSAVEC:
		return ST_SYSTEM_XSAVEC;
	case INSN_XSAVES:
		return kernel ? ST_SYSTEM_XSAVEC : 0;
	case INSN_XRSTOR:
		return ST_SYSTEM_XRSTOR;
	default:
		return kernel ? ST_SYSTEM_XRSTOR | (uint32_t)ST_SYSTEM_SUPERVISOR : 0;
	}
}

static uint32_t kind_of(const struct insn *insn, bool kernel)
{
	switch (insn->mnemonic) {
	case INSN_MOV:
		return move_system(insn, kernel);
	case INSN_XSAVEC:
	case INSN_XSAVES:
	case INSN_XRSTOR:
	case INSN_XRSTORS:
		return xsave_kind(insn, kernel);
	case INSN_RDPKRU:
		return ST_SYSTEM_RDPKRU;
	case INSN_WRPKRU:
		return ST_SYSTEM_WRPKRU;
	case INSN_SYSCALL:
		return ST_SYSTEM_SYSCALL;
	case INSN_SYSRET:
		return kernel && insn->op_bytes == 8 ? ST_SYSTEM_SYSRET : 0;
	case INSN_IRET:
		return kernel && insn->op_bytes == 8 ? ST_SYSTEM_IRET : 0;
	case INSN_STAC:
		return kernel ? ST_SYSTEM_STAC : 0;
	case INSN_CLAC:
		return kernel ? ST_SYSTEM_CLAC : 0;
	case INSN_RDFSBASE:
		return ST_SYSTEM_RDFSBASE | (uint32_t)insn->operand[0].reg << 8;
	case INSN_RDGSBASE:
		return ST_SYSTEM_RDGSBASE | (uint32_t)insn->operand[0].reg << 8;
	case INSN_WRFSBASE:
		return ST_SYSTEM_WRFSBASE | (uint32_t)insn->operand[0].reg << 8;
	case INSN_WRGSBASE:
		return ST_SYSTEM_WRGSBASE | (uint32_t)insn->operand[0].reg << 8;
	default:
		return 0;
	}
}

uint32_t st_system_of(const struct insn *insn, unsigned mode)
{
	uint32_t what = 0;

	if (insn->mnemonic == INSN_PAUSE) {
		return ST_SYSTEM_PAUSE;
	}
	if ((mode & ST_MODE_INSN) == INSN_64) {
		what = kind_of(insn, (mode & ST_MODE_USER) == 0);
	}
	return what != 0 && insn->op_bytes == 8 ? what | (uint32_t)ST_SYSTEM_WIDE : what;
}
