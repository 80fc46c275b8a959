#include "core/hw/local_apic.h"

#include <errno.h>

#include "core/hw/asm.h"
#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "core/hw/regs.h"
#include "core/mem/kmap.h"

/* Offsets. */
#define REG_ID	     0x20
#define REG_TPR	     0x80
#define REG_EOI	     0xb0
#define REG_SVR	     0xf0
#define REG_ESR	     0x280
#define REG_ICR_LOW  0x300
#define REG_ICR_HIGH 0x310
#define REG_TIMER    0x320
#define REG_LINT0    0x350
#define REG_LINT1    0x360
#define REG_ERROR    0x370
#define REG_INITIAL  0x380
#define REG_CURRENT  0x390
#define REG_DIVIDE   0x3e0

#define SVR_ENABLE	 0x100
#define LVT_MASKED	 0x10000
#define TIMER_DEADLINE	 0x40000
#define DIVIDE_BY_16	 3
#define DIVIDE_BY_1	 0xb
#define ICR_PENDING	 0x1000
#define SEND_TRIES_MAX	 1000000
#define CPUID_1_EDX_APIC BIT(9)

static struct {
	/* Constant after start-up. */
	bool x2apic;
	uint8_t *regs;
} lapic;

static uint32_t get(unsigned reg)
{
	if (lapic.x2apic) {
		return (uint32_t)asm_rdmsr(MSR_X2APIC + reg / 16);
	}
	return asm_read32(lapic.regs + reg);
}

static void put(unsigned reg, uint32_t value)
{
	if (lapic.x2apic) {
		asm_wrmsr(MSR_X2APIC + reg / 16, value);
	} else {
		asm_write32(lapic.regs + reg, value);
	}
}

int local_apic_init(uint64_t base)
{
	if ((asm_cpuid(1, 0).edx & CPUID_1_EDX_APIC) == 0) {
		return -ENODEV;
	}
	lapic.x2apic = cpu_features()->x2apic;
	if (!lapic.x2apic) {
		if (base == 0) {
			base = asm_rdmsr(MSR_IA32_APIC_BASE) & PTE_ADDR;
		}
		lapic.regs = kmap_device(hpa(base), PAGE_SIZE);
		if (lapic.regs == NULL) {
			return -ENOMEM;
		}
	}
	return 0;
}

void local_apic_start(void)
{
	uint64_t base = asm_rdmsr(MSR_IA32_APIC_BASE);

	/* From off to x2APIC one goes by way of xAPIC. */
	if ((base & APIC_BASE_ENABLE) == 0) {
		asm_wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE);
	}
	if (lapic.x2apic) {
		asm_wrmsr(MSR_IA32_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
	}
	put(REG_SVR, SVR_ENABLE | IRQ_VECTOR_SPURIOUS);
	put(REG_TPR, 0);
	put(REG_TIMER, LVT_MASKED);
	put(REG_LINT0, LVT_MASKED);
	put(REG_LINT1, LVT_MASKED | LOCAL_APIC_NMI);
	put(REG_ESR, 0);
	put(REG_ERROR, IRQ_VECTOR_ERROR);
	local_apic_timer_divide(LOCAL_APIC_DIVIDE);
	local_apic_eoi();
}

uint32_t local_apic_id(void)
{
	return lapic.x2apic ? get(REG_ID) : get(REG_ID) >> 24;
}

bool local_apic_is_x2apic(void)
{
	return lapic.x2apic;
}

void local_apic_eoi(void)
{
	put(REG_EOI, 0);
}

void local_apic_send(uint32_t apic_id, uint32_t command)
{
	if (lapic.x2apic) {
		/* What was written before it must be seen by whoever is interrupted: a write to
		 * these MSRs does not order. Spec: Intel SDM vol. 3A, "MSR Access in x2APIC Mode"
		 */
		atomic_thread_fence(memory_order_seq_cst);
		asm_wrmsr(MSR_X2APIC + REG_ICR_LOW / 16, (uint64_t)apic_id << 32 | command);
		return;
	}
	uint64_t flags = irq_save(); /* a handler on this CPU may send, too */
	put(REG_ICR_HIGH, apic_id << 24);
	put(REG_ICR_LOW, command);
	for (unsigned i = 0; i < SEND_TRIES_MAX && (get(REG_ICR_LOW) & ICR_PENDING) != 0; i++) {
		asm_pause();
	}
	irq_restore(flags);
}

void local_apic_timer_divide(unsigned by)
{
	put(REG_DIVIDE, by == 1 ? DIVIDE_BY_1 : DIVIDE_BY_16);
}

void local_apic_timer_mask(void)
{
	put(REG_TIMER, LVT_MASKED);
	put(REG_INITIAL, 0);
}

void local_apic_timer_set(unsigned vector, uint32_t count)
{
	put(REG_TIMER, vector);
	put(REG_INITIAL, count);
}

uint32_t local_apic_timer_count(void)
{
	return get(REG_CURRENT);
}

void local_apic_timer_deadline_mode(unsigned vector)
{
	put(REG_TIMER, vector | TIMER_DEADLINE);
	/* In xAPIC mode that write is not ordered with a write to the MSR. */
	atomic_thread_fence(memory_order_seq_cst);
}
