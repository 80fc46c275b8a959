#include "vmm/boot/entry.h"

#include <errno.h>
#include <string.h>

#include "lib/x86/regs.h"
#include "vmm/board/layout.h"

/* Linux calls them __BOOT_CS and __BOOT_DS, and wants these values. */
#define SELECTOR_CS 0x10
#define SELECTOR_DS 0x18
#define GDT_ENTRIES 4

#define PAGE	    4096
#define PDS	    4 /* page directories, each for 1 GiB */
#define PER_PAGE    (PAGE / 8)
#define HUGE_PAGE   (2 * MIB)
#define PML4_ADDR   LAYOUT_BOOT_PAGES
#define PDPT_ADDR   (LAYOUT_BOOT_PAGES + PAGE)
#define PD_ADDR(gb) (LAYOUT_BOOT_PAGES + (2 + (uint64_t)(gb)) * PAGE)

static struct kvm_segment code_segment(enum boot_mode mode)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = SELECTOR_CS,
		.type = SEG_CODE_RX_ACCESSED,
		.present = 1,
		.db = mode == BOOT_PROTECTED,
		.s = 1,
		.l = mode == BOOT_LONG,
		.g = 1,
	};
}

static struct kvm_segment data_segment(void)
{
	return (struct kvm_segment){
		.limit = UINT32_MAX,
		.selector = SELECTOR_DS,
		.type = SEG_DATA_RW_ACCESSED,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

/* The descriptor of a flat segment, as it lies in memory. */
static uint64_t descriptor(const struct kvm_segment *s)
{
	uint64_t access = s->type | (uint64_t)s->s << 4 | (uint64_t)s->present << 7;
	uint64_t flags = (uint64_t)s->l << 1 | (uint64_t)s->db << 2 | (uint64_t)s->g << 3;

	return UINT64_C(0xffff) | access << 40 | UINT64_C(0xf) << 48 | flags << 52;
}

static int write_page_tables(struct guest_memory *mem)
{
	uint64_t *pml4 = guest_ptr(mem, gpa(PML4_ADDR), (2 + PDS) * PAGE);

	if (pml4 == NULL) {
		return -EFAULT;
	}
	memset(pml4, 0, 2 * PAGE);
	pml4[0] = PDPT_ADDR | PTE_P | PTE_RW;

	uint64_t *pdpt = pml4 + PER_PAGE;
	uint64_t *pd = pdpt + PER_PAGE;
	for (unsigned i = 0; i < PDS; i++) {
		pdpt[i] = PD_ADDR(i) | PTE_P | PTE_RW;
	}
	for (unsigned i = 0; i < PDS * PER_PAGE; i++) {
		pd[i] = i * HUGE_PAGE | PTE_P | PTE_RW | PTE_PS;
	}
	return 0;
}

int boot_entry_tables(const struct boot_entry *entry, struct guest_memory *mem)
{
	struct kvm_segment cs = code_segment(entry->mode);
	struct kvm_segment ds = data_segment();
	uint64_t gdt[GDT_ENTRIES] = {0, 0, descriptor(&cs), descriptor(&ds)};
	int error = guest_write(mem, gpa(LAYOUT_BOOT_GDT), gdt, sizeof(gdt));

	if (error == 0 && entry->mode == BOOT_LONG) {
		error = write_page_tables(mem);
	}
	return error;
}

void boot_entry_apply(const struct boot_entry *entry, struct kvm_regs *regs,
		      struct kvm_sregs *sregs)
{
	bool paged = entry->mode == BOOT_LONG;

	*regs = (struct kvm_regs){
		.rip = entry->rip.v,
		.rflags = RFLAGS_FIXED,
		.rsi = paged ? entry->params.v : 0,
		.rbx = paged ? 0 : entry->params.v,
	};

	sregs->cs = code_segment(entry->mode);
	sregs->ds = data_segment();
	sregs->es = sregs->ds;
	sregs->fs = sregs->ds;
	sregs->gs = sregs->ds;
	sregs->ss = sregs->ds;
	/* No task is ever switched to, but VT-x wants a busy TSS in TR. */
	sregs->tr = (struct kvm_segment){.limit = 0x67, .type = SEG_TSS_BUSY, .present = 1};
	sregs->ldt = (struct kvm_segment){.unusable = 1};
	sregs->gdt = (struct kvm_dtable){.base = LAYOUT_BOOT_GDT,
					 .limit = GDT_ENTRIES * sizeof(uint64_t) - 1};
	/* An exception before the guest has its own table is a triple fault, and is seen. */
	sregs->idt = (struct kvm_dtable){0};

	sregs->cr0 = CR0_PE | CR0_ET | (paged ? CR0_PG : 0);
	sregs->cr2 = 0;
	sregs->cr3 = paged ? PML4_ADDR : 0;
	sregs->cr4 = paged ? CR4_PAE : 0;
	sregs->efer = paged ? EFER_LME | EFER_LMA : 0;
}
