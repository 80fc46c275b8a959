#include "core/hw/cpu.h"

#include <errno.h>
#include <string.h>

#include "core/hw/cpu_tables.h"
#include "core/hw/entry.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/regs.h"
#include "core/mem/heap.h"
#include "core/mem/kmap.h"
#include "lib/base/check.h"
#include "lib/x86/cpuid.h"

/* Spec: AMD APM vol. 3, appendix E; Intel SDM vol. 2A, "CPUID" */
#define CPUID_1_ECX_XSAVE  BIT(26)
#define CPUID_1_ECX_PCID   BIT(17)
#define CPUID_1_ECX_RDRAND BIT(30)
#define CPUID_1_EDX_PGE	   BIT(13)
#define CPUID_7_EBX_SMEP   BIT(7)
#define CPUID_7_EBX_SMAP   BIT(20)
#define CPUID_7_ECX_UMIP   BIT(2)
#define CPUID_D1_EAX_OPT   BIT(0)
#define CPUID_81_ECX_SVM   BIT(2)
#define CPUID_81_EDX_NX	   BIT(20)
#define CPUID_81_EDX_1G	   BIT(26)
#define CPUID_SVM	   0x8000000a
#define CPUID_SVM_NP	   BIT(0)
#define CPUID_SVM_NRIPS	   BIT(3)
#define CPUID_SVM_TSC_RATE BIT(4)
#define CPUID_SVM_CLEAN	   BIT(5)
#define CPUID_SVM_ASID	   BIT(6)
#define CPUID_SVM_ASSIST   BIT(7)
#define CPUID_SVM_VGIF	   BIT(16)
#define XCR0_KNOWN	   UINT64_C(0x2e7) /* x87 SSE AVX, AVX-512, PKRU */
#define XCR0_AVX512	   UINT64_C(0xe0)

struct cpu cpu_boot; /* start.S points GS to it */
static struct cpu_tables boot_tables;
static _Alignas(16) uint8_t boot_exception_stack[2048];

static struct {
	/* Constant after start-up. */
	struct cpu_features features;
	struct cpu *cpu[CPU_MAX];
	_Atomic unsigned n; /* release, acquire: with cpu[] */
} cpus;

const struct cpu_features *cpu_features(void)
{
	return &cpus.features;
}

unsigned cpu_count(void)
{
	return atomic_load_explicit(&cpus.n, memory_order_acquire);
}

uint64_t cpu_all(void)
{
	unsigned n = cpu_count();

	return n == CPU_MAX ? UINT64_MAX : BIT(n) - 1;
}

struct cpu *cpu_by_index(unsigned index)
{
	check(index < cpu_count());
	return cpus.cpu[index];
}

/* Components that belong together come together, and none that the kernel does not know. */
static uint64_t choose_xcr0(void)
{
	struct asm_cpuid r = asm_cpuid(CPUID_XSAVE, 0);
	uint64_t xcr0 = ((uint64_t)r.edx << 32 | r.eax) & XCR0_KNOWN;

	if ((xcr0 & XCR0_AVX512) != XCR0_AVX512 || (xcr0 & BIT(2)) == 0) {
		xcr0 &= ~XCR0_AVX512;
	}
	return xcr0;
}

static void read_svm(struct cpu_features *f)
{
	struct asm_cpuid r = asm_cpuid(CPUID_SVM, 0);

	f->svm_asids = r.ebx;
	f->npt = (r.edx & CPUID_SVM_NP) != 0;
	f->nrips = (r.edx & CPUID_SVM_NRIPS) != 0;
	f->tsc_rate = (r.edx & CPUID_SVM_TSC_RATE) != 0;
	f->vmcb_clean = (r.edx & CPUID_SVM_CLEAN) != 0;
	f->flush_by_asid = (r.edx & CPUID_SVM_ASID) != 0;
	f->decode_assists = (r.edx & CPUID_SVM_ASSIST) != 0;
	f->vgif = (r.edx & CPUID_SVM_VGIF) != 0;
}

static void read_extended(struct cpu_features *f)
{
	uint32_t most = asm_cpuid(CPUID_EXT_MAX, 0).eax;
	struct asm_cpuid r = asm_cpuid(CPUID_EXT_FEATURES, 0); /* start.S has seen to it */

	f->svm = (r.ecx & CPUID_81_ECX_SVM) != 0;
	f->nx = (r.edx & CPUID_81_EDX_NX) != 0;
	f->gib_pages = (r.edx & CPUID_81_EDX_1G) != 0;
	f->phys_bits = 36;
	if (most >= CPUID_EXT_SIZES) {
		f->phys_bits = asm_cpuid(CPUID_EXT_SIZES, 0).eax & 0xff;
	}
	if (f->svm && most >= CPUID_SVM) {
		read_svm(f);
	}
}

void cpu_read_features(void)
{
	struct cpu_features *f = &cpus.features;
	struct asm_cpuid r = asm_cpuid(CPUID_VENDOR, 0);
	uint32_t most = r.eax;

	memcpy(f->vendor, (uint32_t[]){r.ebx, r.edx, r.ecx}, 12);
	r = asm_cpuid(CPUID_FEATURES, 0);
	f->xsave = (r.ecx & CPUID_1_ECX_XSAVE) != 0 && most >= CPUID_XSAVE;
	f->rdrand = (r.ecx & CPUID_1_ECX_RDRAND) != 0;
	f->x2apic = (r.ecx & CPUID_1_ECX_X2APIC) != 0;
	f->tsc_deadline = (r.ecx & CPUID_1_ECX_TSC_DEADLINE) != 0;
	f->pge = (r.edx & CPUID_1_EDX_PGE) != 0;
	/* What is flushed of the kernel's own pages is to be gone in all contexts: it is global. */
	f->pcid = f->pge && (r.ecx & CPUID_1_ECX_PCID) != 0;
	if (most >= CPUID_FEATURES7) {
		r = asm_cpuid(CPUID_FEATURES7, 0);
		f->smep = (r.ebx & CPUID_7_EBX_SMEP) != 0;
		f->smap = (r.ebx & CPUID_7_EBX_SMAP) != 0;
		f->umip = (r.ecx & CPUID_7_ECX_UMIP) != 0;
	}
	if (f->xsave) {
		f->xcr0 = choose_xcr0();
		f->xsaveopt = (asm_cpuid(CPUID_XSAVE, 1).eax & CPUID_D1_EAX_OPT) != 0;
	}
	read_extended(f);
}

void cpu_set_kernel_stack(uint64_t top)
{
	struct cpu *cpu = cpu_this();

	cpu->kernel_rsp = top;
	cpu->tables->tss.rsp0 = top;
}

void cpu_set_doors(uint64_t top, bool (*syscall)(struct user_frame *frame))
{
	cpu_set_kernel_stack(top);
	cpu_this()->syscall = syscall;
}

void cpu_add_work(struct cpu *cpu, uint64_t work)
{
	/* Pairs with the acquire of whoever looks for work. */
	atomic_fetch_or_explicit(&cpu->work, work, memory_order_release);
	if (cpu != cpu_this()) {
		ipi_reschedule(cpu->index);
	}
}

void cpu_idle(void)
{
	uint64_t work = atomic_load_explicit(&cpu_this()->work, memory_order_acquire);

	if ((work & ~CPU_WORK_ARRIVED) == 0) {
		asm_wait_irq();
	}
}

/* Registers that decide what ring 3 and the kernel may do; alike on all CPUs. */
static void set_control_registers(void)
{
	const struct cpu_features *f = &cpus.features;
	uint64_t cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	asm_wrmsr(MSR_EFER, asm_rdmsr(MSR_EFER) | EFER_NXE | EFER_SCE);
	cr4 |= f->pge ? CR4_PGE : 0;
	cr4 |= f->pcid ? CR4_PCIDE : 0;
	cr4 |= f->smep ? CR4_SMEP : 0;
	cr4 |= f->smap ? CR4_SMAP : 0;
	cr4 |= f->umip ? CR4_UMIP : 0;
	cr4 |= f->xsave ? CR4_OSXSAVE : 0;
	asm_write_cr4(cr4);
	asm_write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG);
	if (f->xsave) {
		asm_xsetbv(0, f->xcr0);
	}
	/* The power-on value, which the firmware may have changed: WB, WT, UC-, UC, twice. */
	asm_wrmsr(MSR_PAT, UINT64_C(0x0007040600070406));
}

static void set_doors(void)
{
	asm_wrmsr(MSR_STAR, (uint64_t)(KERNEL_DS | 3) << 48 | (uint64_t)KERNEL_CS << 32);
	asm_wrmsr(MSR_LSTAR, (uint64_t)entry_syscall);
	asm_wrmsr(MSR_CSTAR, (uint64_t)entry_syscall32);
	asm_wrmsr(MSR_SFMASK, RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC);
}

static void fill_tables(struct cpu_tables *t)
{
	uint64_t base = (uint64_t)&t->tss;
	uint64_t limit = sizeof(t->tss) - 1;

	/* Present, accessed; code is 64-bit; user ones have DPL 3. */
	t->gdt[KERNEL_CS / 8] = UINT64_C(0x00af9b000000ffff);
	t->gdt[KERNEL_DS / 8] = UINT64_C(0x00cf93000000ffff);
	t->gdt[USER_DS / 8] = UINT64_C(0x00cff3000000ffff);
	t->gdt[USER_CS / 8] = UINT64_C(0x00affb000000ffff);
	t->gdt[TSS_SEL / 8] =
		limit | (base & 0xffffff) << 16 | UINT64_C(0x89) << 40 | (base >> 24 & 0xff) << 56;
	t->gdt[TSS_SEL / 8 + 1] = base >> 32;
	t->tss.io_map_base = sizeof(t->tss); /* behind the limit: no ports */
}

void cpu_load(struct cpu *cpu)
{
	struct asm_table gdt = {sizeof(cpu->tables->gdt) - 1, (uint64_t)cpu->tables->gdt};

	fill_tables(cpu->tables);
	asm_lgdt(&gdt);
	entry_reload_segments(); /* loading a selector clears GS's base */
	asm_wrmsr(MSR_GS_BASE, (uint64_t)cpu);
	asm_wrmsr(MSR_KERNEL_GS_BASE, 0);
	asm_wrmsr(MSR_FS_BASE, 0);
	asm_ltr(TSS_SEL);
	entry_load_idt();
	set_control_registers();
	set_doors();
}

static void add(struct cpu *cpu)
{
	unsigned n = atomic_load_explicit(&cpus.n, memory_order_relaxed);

	cpu->self = cpu;
	cpu->index = n;
	cpus.cpu[n] = cpu;
	/* Pairs with the acquire in cpu_count(). */
	atomic_store_explicit(&cpus.n, n + 1, memory_order_release);
}

void cpu_start_boot(void)
{
	cpu_boot.tables = &boot_tables;
	for (size_t i = 0; i < IST_COUNT; i++) {
		boot_tables.tss.ist[i] = (uint64_t)(&boot_exception_stack + 1);
	}
	add(&cpu_boot);
	cpu_load(&cpu_boot);
}

static must_use int make_exception_stacks(struct tss *tss, unsigned index)
{
	for (unsigned i = 0; i < IST_COUNT; i++) {
		uint64_t top = kmap_exception_stack(index * IST_COUNT + i);
		if (top == 0) {
			return -ENOMEM;
		}
		tss->ist[i] = top;
	}
	return 0;
}

int cpu_guard_stacks(void)
{
	return make_exception_stacks(&boot_tables.tss, cpu_boot.index);
}

struct cpu *cpu_create(uint32_t apic_id, uint32_t acpi_id)
{
	struct cpu *cpu = mem_alloc(sizeof(*cpu));
	struct cpu_tables *tables = mem_alloc(sizeof(*tables));

	if (cpu == NULL || tables == NULL || cpu_count() == CPU_MAX ||
	    make_exception_stacks(&tables->tss, cpu_count()) != 0) {
		mem_free(cpu, sizeof(*cpu));
		mem_free(tables, sizeof(*tables));
		return NULL;
	}
	cpu->self = cpu;
	cpu->tables = tables;
	cpu->apic_id = apic_id;
	cpu->acpi_id = acpi_id;
	cpu->stack_canary = cpu_boot.stack_canary;
	cpu->index = cpu_count(); /* if it comes up */
	return cpu;
}

void cpu_destroy(struct cpu *cpu)
{
	mem_free(cpu->tables, sizeof(*cpu->tables));
	mem_free(cpu, sizeof(*cpu));
}

void cpu_add(struct cpu *cpu)
{
	add(cpu);
	atomic_store_explicit(&cpu->online, true, memory_order_release);
}
