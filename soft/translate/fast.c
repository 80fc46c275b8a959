#include "soft/translate/fast.h"

#include "lib/kvm/irq_internal.h"
#include "lib/x86/regs.h"
#include "soft/access.h"
#include "soft/translate/slow.h"
#include "soft/translate/translator.h"
#include "soft/vcpu.h"

#define PAGE_MASK    UINT64_C(4095)
#define ADDRESS_BITS UINT64_C(0x000ffffffffff000)
#define FLAG_DF	     BIT(10)
#define FLAG_NT	     BIT(14)
#define NO_FAST	     (RFLAGS_TF | RFLAGS_VM)

/* ---- pages ---- */

/* The mode is that of 4-level paging, and nothing that is rare. */
static bool common_paging(const struct insn_cpu *cpu)
{
	return (cpu->efer & EFER_LMA) != 0 && (cpu->cr4 & (CR4_LA57 | CR4_PKE)) == 0;
}

/* The entry at @gpa of the guest's, or 0. */
static uint64_t entry_at(const struct soft_vcpu *vcpu, uint64_t gpa)
{
	uint64_t page = soft_map_get(&vcpu->vm->map, gpa >> 12), entry;

	if (page == 0 ||
	    soft_access_load8(&entry, (const void *)(uintptr_t)((page & ~PAGE_MASK) |
								(gpa & PAGE_MASK))) != 0) {
		return 0;
	}
	return entry;
}

struct leaf {
	uint64_t gpa;
	unsigned shift;
	bool user, writable, dirty;
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
		entry = entry_at(vcpu, table | (linear >> shift & 511) << 3);
		if ((entry & (PTE_P | PTE_A)) != (PTE_P | PTE_A) || (entry & wrong) != 0) {
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
	return true;
}

static bool is_apic_page(const struct kvm_vcpu *kvm, uint64_t gpa)
{
	return kvm->apic != NULL && (gpa ^ kvm->apic->lapic.base) >> 12 == 0;
}

uint64_t st_fast_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access)
{
	const struct insn_cpu *cpu = &vcpu->kvm->cpu;
	struct st_frame *f = vcpu->translator->frame;
	bool write = (access & ST_SLOW_WRITE) != 0, may_write;
	struct leaf leaf;
	uint64_t page;

	if ((linear & PAGE_MASK) + (access & 0xffff) > 4096 ||
	    (uint64_t)((int64_t)(linear << 16) >> 16) != linear || !common_paging(cpu) ||
	    !walk_easy(vcpu, linear, &leaf)) {
		return 0;
	}
	if ((f->mode & ST_MODE_USER) != 0
		    ? !leaf.user
		    : leaf.user && (cpu->cr4 & CR4_SMAP) != 0 && (f->mode & ST_MODE_AC) == 0) {
		return 0;
	}
	page = soft_map_get(&vcpu->vm->map, leaf.gpa >> 12);
	may_write = leaf.writable && leaf.dirty && (page & SOFT_MAP_WRITE) != 0 &&
		    soft_code_mask(vcpu->vm, page & ~PAGE_MASK) == 0;
	if (page == 0 || (write && !may_write) || is_apic_page(vcpu->kvm, leaf.gpa)) {
		return 0;
	}
	soft_mmu_note_size(&vcpu->mmu, linear, leaf.shift);
	st_view_fill(&f->view[st_view_of(f->mode)], linear, page, may_write);
	return (page & ~PAGE_MASK) | (linear & PAGE_MASK);
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
	return host != 0 && soft_access_load8(value, (const void *)(uintptr_t)host) == 0;
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

uint64_t st_fast_jump(struct soft_vcpu *vcpu)
{
	struct st_translator *t = vcpu->translator;
	struct st_frame *f = t->frame;
	enum st_view_kind kind = st_view_of(f->mode);
	uint32_t map = f->view[kind].exec[(f->rip >> 12) % ST_EXEC], b;
	uint64_t code;

	if (f->kick != 0 || map == 0 || t->maps[map - 1].linear != (f->rip & ~PAGE_MASK) ||
	    t->view_mode[kind] != f->mode) {
		return 0;
	}
	b = st_find(t, t->maps[map - 1].host, f->rip, f->mode);
	if (b == ST_NONE) {
		return 0;
	}
	code = (uintptr_t)t->rx + t->blocks[b].code;
	st_jump_enter(f, kind, f->rip, code);
	return code;
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
	f->rip = rip;
	if (f->kick != 0 || (f->window != 0 && f->interrupts != 0)) {
		return (uintptr_t)t->exit_kick;
	}
	code = known(t);
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
	    !is_flat(vcpu, cs, cpl, UINT64_C(0x00af9b000000ffff)) ||
	    !is_flat(vcpu, ss, cpl, UINT64_C(0x00cf93000000ffff))) {
		return 0;
	}
	flags = (rflags(f) & ~which) | (flags & which);
	if (!flags_easy(&kvm->cpu, flags, cpl)) {
		return 0;
	}
	f->gpr[4] = rsp;
	set_segments(&kvm->cpu, (uint16_t)cs, (uint16_t)ss, cpl);
	return go(vcpu, rip, flags);
}

/* To an address space that is known, whose translations are kept. */
static uint64_t write_cr3(struct soft_vcpu *vcpu, uint64_t next, uint64_t value)
{
	struct st_translator *t = vcpu->translator;
	struct soft_mmu *mmu = &vcpu->mmu;
	unsigned n = 0;

	if ((vcpu->kvm->cpu.cr4 & CR4_PCIDE) == 0 || (value & CR3_NO_FLUSH) == 0 || !t->fsgsbase) {
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

static uint64_t swapgs(struct soft_vcpu *vcpu)
{
	struct st_frame *f = vcpu->translator->frame;
	uint64_t *other = &vcpu->kvm->msr[KVM_MSR_KERNEL_GS_BASE], base = f->gs_base;

	f->gs_base = vcpu->kvm->cpu.seg[INSN_GS].base = *other;
	*other = base;
	return f->site;
}

static uint64_t read_tsc(struct soft_vcpu *vcpu, bool aux)
{
	struct st_frame *f = vcpu->translator->frame;
	const struct kvm_vcpu *kvm = vcpu->kvm;
	uint64_t tsc;

	if (kvm->tsc_ratio != 0 || ((kvm->cpu.cr4 & CR4_TSD) != 0 && kvm->cpu.cpl != 0)) {
		return 0;
	}
	if (aux) {
		__asm__ volatile("lfence" : : : "memory");
		f->gpr[1] = (uint32_t)kvm->msr[KVM_MSR_TSC_AUX];
	}
	tsc = __builtin_ia32_rdtsc() + kvm->tsc_offset;
	f->gpr[0] = (uint32_t)tsc;
	f->gpr[2] = tsc >> 32;
	return f->site;
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
	*base = vcpu->kvm->cpu.seg[fs ? INSN_FS : INSN_GS].base = *gpr & mask;
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

uint64_t st_fast_system(struct soft_vcpu *vcpu, uint64_t next, uint32_t what)
{
	struct st_frame *f = vcpu->translator->frame;
	unsigned gpr = ST_SYSTEM_GPR(what);

	switch (ST_SYSTEM_KIND(what)) {
	case ST_SYSTEM_SWAPGS:
		return swapgs(vcpu);
	case ST_SYSTEM_RDTSC:
	case ST_SYSTEM_RDTSCP:
		return read_tsc(vcpu, ST_SYSTEM_KIND(what) == ST_SYSTEM_RDTSCP);
	case ST_SYSTEM_RDFSBASE:
	case ST_SYSTEM_RDGSBASE:
	case ST_SYSTEM_WRFSBASE:
	case ST_SYSTEM_WRGSBASE:
		return base_of_segment(vcpu, what);
	case ST_SYSTEM_READ_CR:
		return read_cr(vcpu, what);
	case ST_SYSTEM_READ_SEG:
		f->gpr[gpr] = vcpu->kvm->cpu.seg[ST_SYSTEM_NUMBER(what)].selector;
		return f->site;
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

	if (insn->noperands != 2 || to->kind != INSN_OP_REG || from->kind != INSN_OP_REG) {
		return 0;
	}
	if (to->klass == INSN_GPR && from->klass == INSN_SEG && insn->op_bytes >= 4) {
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

static uint32_t kind_of(const struct insn *insn, bool kernel)
{
	switch (insn->mnemonic) {
	case INSN_MOV:
		return move_system(insn, kernel);
	case INSN_SWAPGS:
		return kernel ? ST_SYSTEM_SWAPGS : 0;
	case INSN_RDTSC:
		return ST_SYSTEM_RDTSC;
	case INSN_RDTSCP:
		return ST_SYSTEM_RDTSCP;
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

	if ((mode & ST_MODE_INSN) == INSN_64) {
		what = kind_of(insn, (mode & ST_MODE_USER) == 0);
	}
	return what != 0 && insn->op_bytes == 8 ? what | (uint32_t)ST_SYSTEM_WIDE : what;
}
