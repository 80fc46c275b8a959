/* The local APIC as its own CPU sees it: registers, priorities, acceptance and EOI. */
#include "tests/guest/bare/apic_regs.h"

BARE_CASE(ids, "lapic/id_is_that_of_cpuid", "Intel SDM vol. 3A, 10.4.6")
{
	check_eq(apic_read(APIC_ID) >> 24, cpuid(1, 0).ebx >> 24);
	check_eq(apic_read(APIC_ID) & 0xffffff, 0);
}

BARE_CASE(version, "lapic/version_is_integrated", "Intel SDM vol. 3A, 10.4.8")
{
	uint32_t value = apic_read(APIC_VERSION);

	check_eq(value & 0xf0, 0x10);
	check((value >> 16 & 0xff) >= 3);
	check_eq(value & 0xfe00ff00 & ~0x80000000u, 0);
	apic_write(APIC_VERSION, 0);
	check_eq(apic_read(APIC_VERSION), value);
}

static void check_reset_values(void)
{
	static const uint32_t zero[] = {APIC_TPR, APIC_PPR,	   APIC_LDR,	   APIC_ESR,
					APIC_ICR, APIC_TIMER_INIT, APIC_TIMER_CUR, APIC_TIMER_DCR};
	static const uint32_t masked[] = {APIC_LVT_TIMER, APIC_LVT_LINT0, APIC_LVT_LINT1,
					  APIC_LVT_ERROR};

	for (unsigned int i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
		check_eq(apic_read(zero[i]), 0);
	}
	for (unsigned int i = 0; i < sizeof(masked) / sizeof(masked[0]); i++) {
		check_eq(apic_read(masked[i]), LVT_MASKED);
	}
	for (uint32_t i = 0; i < 8; i++) {
		check_eq(apic_read(APIC_ISR + 16 * i), 0);
		check_eq(apic_read(APIC_TMR + 16 * i), 0);
		check_eq(apic_read(APIC_IRR + 16 * i), 0);
	}
	check_eq(apic_read(APIC_SVR), 0xff);
	check_eq(apic_read(APIC_DFR), 0xffffffff);
}

static void other_checks(void *done)
{
	check_reset_values();
	check_eq(apic_read(APIC_ID) >> 24, 1);
	*(volatile uint32_t *)done = 1;
}

BARE_CASE_ON(reset_values, "lapic/reset_values", "Intel SDM vol. 3A, 10.4.7.1", 2, 0)
{
	uint32_t done = 0;

	apic_enable();
	bare_start_cpu(1, other_checks, &done);
	bare_wait(&done, 1);
}

static void other_spoils(void *done)
{
	apic_enable();
	apic_write(APIC_TPR, 0x55);
	apic_write(APIC_LDR, 0x7f000000);
	apic_write(APIC_DFR, 0x0fffffff);
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | 0x40);
	apic_write(APIC_TIMER_DCR, 0xb);
	apic_write(APIC_TIMER_INIT, 0x7fffffff);
	apic_write(APIC_LVT_LINT1, 0x400);
	irq_self(0x61);
	check(apic_bit(APIC_IRR, 0x61));
	__atomic_store_n((uint32_t *)done, 1, __ATOMIC_RELEASE);
}

BARE_CASE_ON(init_resets, "lapic/init_resets_it_and_drops_what_is_pending",
	     "Intel SDM vol. 3A, 10.4.7.3", 2, 0)
{
	uint32_t done = 0;

	apic_enable();
	bare_start_cpu(1, other_spoils, &done);
	bare_wait(&done, 1);
	done = 0;
	bare_start_cpu(1, other_checks, &done);
	bare_wait(&done, 1);
}

static void other_base(void *done)
{
	check_eq(rdmsr(MSR_APIC_BASE) & (APIC_BASE_BSP | APIC_BASE_EN), APIC_BASE_EN);
	*(volatile uint32_t *)done = 1;
}

BARE_CASE_ON(bsp_flag, "lapic/only_the_first_cpu_has_the_bsp_flag", "AMD APM vol. 2, 16.3.1", 2, 0)
{
	uint32_t done = 0;

	check_eq(rdmsr(MSR_APIC_BASE) & ~APIC_BASE_ADDRESS, APIC_BASE_EN | APIC_BASE_BSP);
	check_eq(rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDRESS, 0xfee00000);
	apic_enable();
	bare_start_cpu(1, other_base, &done);
	bare_wait(&done, 1);
}

BARE_CASE(soft_disable_masks, "lapic/soft_disable_masks_lvts", "Intel SDM vol. 3A, 10.4.7.2")
{
	apic_not_of_tcg("software disable does not mask");
	apic_enable();
	apic_write(APIC_LVT_TIMER, 0x40);
	apic_write(APIC_LVT_ERROR, 0x41);
	apic_write(APIC_SVR, 0xff);
	check_eq(apic_read(APIC_LVT_TIMER), LVT_MASKED | 0x40);
	check_eq(apic_read(APIC_LVT_ERROR), LVT_MASKED | 0x41);
	apic_write(APIC_LVT_TIMER, 0x42); /* the mask cannot be taken off now */
	check_eq(apic_read(APIC_LVT_TIMER), LVT_MASKED | 0x42);
	apic_write(APIC_SVR, 0x1ff); /* and does not go by itself */
	check_eq(apic_read(APIC_LVT_TIMER), LVT_MASKED | 0x42);
	apic_write(APIC_LVT_TIMER, 0x42);
	check_eq(apic_read(APIC_LVT_TIMER), 0x42);
}

BARE_CASE(soft_disabled, "lapic/soft_disabled_takes_no_fixed_ipi", "Intel SDM vol. 3A, 10.4.7.2")
{
	apic_not_of_tcg("software disable does not stop IPIs");
	irq_take(0x40);
	irq_take(0x41);
	apic_write(APIC_SVR, 0xff);
	irq_self(0x41);
	check(!apic_bit(APIC_IRR, 0x41));
	apic_enable();
	irq_self(0x40);
	irq_wait(0x40, 1);
	check_eq(irq_log(0)->count[0x41], 0);
}

BARE_CASE(svr_bits, "lapic/svr_keeps_vector_and_enable", "Intel SDM vol. 3A, 10.9")
{
	apic_write(APIC_SVR, 0x1a5);
	check_eq(apic_read(APIC_SVR), 0x1a5);
	apic_write(APIC_SVR, 0xffffffff);
	check_eq(apic_read(APIC_SVR) & ~0x1200u, 0x1ff);
}

BARE_CASE(tpr_class, "lapic/tpr_holds_its_class_and_below", "Intel SDM vol. 3A, 10.8.3.1")
{
	struct irq_log *log = irq_log(0);

	irq_take(0x4f);
	irq_take(0x50);
	irq_take(0x31);
	apic_enable();
	apic_write(APIC_TPR, 0x40);
	irq_self(0x4f);
	irq_self(0x31);
	irq_self(0x50);
	irq_open();
	check_eq(log->total, 1);
	check_eq(log->count[0x50], 1);
	check(apic_bit(APIC_IRR, 0x4f) && apic_bit(APIC_IRR, 0x31));
	apic_write(APIC_TPR, 0x30);
	irq_open();
	check_eq(log->total, 2);
	check_eq(log->count[0x4f], 1);
	apic_write(APIC_TPR, 0);
	irq_open();
	check_eq(log->count[0x31], 1);
}

BARE_CASE(tpr_subclass, "lapic/tpr_sub_class_holds_nothing", "Intel SDM vol. 3A, 10.8.3.1")
{
	irq_take(0x40);
	irq_take(0x50);
	apic_enable();
	apic_write(APIC_TPR, 0x3f);
	check_eq(apic_read(APIC_TPR) & 0xf0, 0x30);
	irq_self(0x40);
	irq_open();
	check_eq(irq_log(0)->count[0x40], 1);
	apic_write(APIC_TPR, 0x41);
	irq_self(0x50);
	irq_open();
	check_eq(irq_log(0)->count[0x50], 1);
}

static volatile uint32_t seen[8];

static void look_at_ppr(struct bare_frame *frame)
{
	(void)frame;
	seen[0] = apic_read(APIC_PPR);
	apic_write(APIC_TPR, 0x65);
	seen[1] = apic_read(APIC_PPR);
	apic_write(APIC_TPR, 0x5f);
	seen[2] = apic_read(APIC_PPR);
	apic_write(APIC_TPR, 0x71);
	seen[3] = apic_read(APIC_PPR);
	apic_write(APIC_TPR, 0x21);
	apic_eoi();
}

/* The lower half of TPR is not looked at: where TPR is a copy of CR8, as under Linux KVM on AMD
 * CPUs, it is lost at times. */
BARE_CASE(ppr, "lapic/ppr_is_the_higher_of_tpr_and_isr", "Intel SDM vol. 3A, 10.8.3.1")
{
	bare_on(0x63, look_at_ppr);
	apic_enable();
	apic_write(APIC_TPR, 0x21);
	check_eq(apic_read(APIC_PPR) & 0xf0, 0x20);
	irq_self(0x63);
	irq_open();
	check_eq(seen[0], 0x60);
	check_eq(seen[1] & 0xf0, 0x60);
	check_eq(seen[2], 0x60);
	check_eq(seen[3] & 0xf0, 0x70);
	check_eq(apic_read(APIC_PPR) & 0xf0, 0x20);
}

BARE_CASE(cr8, "lapic/cr8_is_the_class_of_tpr", "AMD APM vol. 2, 16.6.4")
{
	apic_enable();
	write_cr8(5);
	check_eq(apic_read(APIC_TPR), 0x50);
	apic_write(APIC_TPR, 0x7f);
	check_eq(read_cr8(), 7);
	write_cr8(15);
	check_eq(apic_read(APIC_TPR), 0xf0);
	apic_write(APIC_TPR, 0);
	check_eq(read_cr8(), 0);
}

BARE_CASE(cr8_holds, "lapic/lowering_cr8_lets_it_through", "AMD APM vol. 2, 16.6.4")
{
	irq_take(0x4f);
	apic_enable();
	write_cr8(4);
	irq_self(0x4f);
	irq_open();
	check_eq(irq_log(0)->total, 0);
	cpu_sti();
	__asm__ volatile(".globl bare_fault_cr8\nbare_fault_cr8: mov %0, %%cr8"
			 :
			 : "a"(UINT64_C(3))
			 : "memory");
	irq_open();
	check_eq(irq_log(0)->count[0x4f], 1);
}

BARE_CASE(order, "lapic/pending_come_by_priority", "AMD APM vol. 2, 16.6.2")
{
	static const uint8_t sent[] = {0x31, 0x52, 0xf0, 0x41, 0x53, 0x9f, 0xa0, 0x20};
	static const uint8_t want[] = {0xf0, 0xa0, 0x9f, 0x53, 0x52, 0x41, 0x31, 0x20};
	struct irq_log *log = irq_log(0);

	apic_enable();
	for (unsigned int i = 0; i < sizeof(sent); i++) {
		irq_take(sent[i]);
		irq_self(sent[i]);
	}
	irq_wait(0x20, 1);
	check_eq(log->total, sizeof(want));
	for (unsigned int i = 0; i < sizeof(want); i++) {
		check_eq(log->order[i], want[i]);
	}
}

static void look_at_bits(struct bare_frame *frame)
{
	uint8_t vector = (uint8_t)frame->vector;

	check(apic_bit(APIC_ISR, vector));
	check(!apic_bit(APIC_IRR, vector));
	check(!apic_bit(APIC_TMR, vector));
	apic_eoi();
	check(!apic_bit(APIC_ISR, vector));
	seen[0]++;
}

BARE_CASE(bits, "lapic/irr_then_isr_then_eoi", "AMD APM vol. 2, 16.6.3")
{
	static const uint8_t vectors[] = {0x20, 0x3f, 0x40, 0x7e, 0x81, 0xbf, 0xc0, 0xfe};

	apic_enable();
	for (uint32_t i = 0; i < sizeof(vectors); i++) {
		uint32_t at = APIC_IRR + vectors[i] / 32 * 16;

		bare_on(vectors[i], look_at_bits);
		irq_self(vectors[i]);
		check_eq(apic_read(at), UINT32_C(1) << vectors[i] % 32);
		irq_open();
		check_eq(seen[0], i + 1);
		check_eq(apic_read(at), 0);
	}
}

static void send_itself_twice(struct bare_frame *frame)
{
	if (seen[0]++ == 0) {
		irq_self((uint8_t)frame->vector);
		irq_self((uint8_t)frame->vector);
		check(apic_bit(APIC_ISR, (uint8_t)frame->vector));
		check(apic_bit(APIC_IRR, (uint8_t)frame->vector));
	}
	apic_eoi();
}

BARE_CASE(collapse, "lapic/two_of_a_vector_at_most_wait", "AMD APM vol. 2, 16.6.3")
{
	bare_on(0x45, send_itself_twice);
	irq_take(0x30);
	apic_enable();
	irq_self(0x45);
	irq_self(0x45);
	irq_self(0x45);
	irq_self(0x30);
	irq_wait(0x30, 1);
	check_eq(seen[0], 2);
}

static void outer(struct bare_frame *frame)
{
	struct irq_log *log = irq_log(0);

	(void)frame;
	irq_self(0x4f); /* of the same class: held */
	irq_self(0x80); /* of a higher one: comes now */
	irq_open();
	check_eq(log->total, 1);
	check_eq(log->order[0], 0x80);
	apic_eoi();
	irq_open();
	check_eq(log->count[0x4f], 1);
}

BARE_CASE(nested, "lapic/only_a_higher_class_nests", "AMD APM vol. 2, 16.6.3")
{
	bare_on(0x40, outer);
	irq_take(0x4f);
	irq_take(0x80);
	apic_enable();
	irq_self(0x40);
	irq_open();
	check_eq(irq_log(0)->total, 2);
}

static void inner_of_two(struct bare_frame *frame)
{
	(void)frame;
	check(apic_bit(APIC_ISR, 0x40) && apic_bit(APIC_ISR, 0x80));
	check_eq(apic_read(APIC_PPR), 0x80);
	__asm__ volatile(".globl bare_fault_eoi\nbare_fault_eoi: movl $0, (%0)"
			 :
			 : "a"(UINT64_C(0xfee000b0))
			 : "memory");
	check(apic_bit(APIC_ISR, 0x40) && !apic_bit(APIC_ISR, 0x80));
	check_eq(apic_read(APIC_PPR), 0x40);
	apic_eoi();
	check(!apic_bit(APIC_ISR, 0x40));
	check_eq(apic_read(APIC_PPR), 0);
	seen[0]++;
}

static void outer_of_two(struct bare_frame *frame)
{
	(void)frame;
	irq_self(0x80);
	irq_open();
}

BARE_CASE(eoi, "lapic/eoi_ends_the_highest_in_service", "AMD APM vol. 2, 16.6.5")
{
	bare_on(0x40, outer_of_two);
	bare_on(0x80, inner_of_two);
	apic_enable();
	irq_self(0x40);
	irq_open();
	check_eq(seen[0], 1);
}

BARE_CASE(eoi_of_nothing, "lapic/eoi_of_nothing_does_nothing", "AMD APM vol. 2, 16.6.5")
{
	irq_take(0x40);
	apic_enable();
	irq_self(0x40);
	apic_eoi();
	check(apic_bit(APIC_IRR, 0x40));
	irq_open();
	check_eq(irq_log(0)->count[0x40], 1);
	apic_eoi();
	check_eq(apic_read(APIC_PPR), 0);
}

BARE_CASE(illegal_vector, "lapic/vectors_below_16_do_not_arrive", "AMD APM vol. 2, 16.6.2")
{
	apic_not_of_tcg("it delivers vectors below 16");
	for (uint8_t vector = 0; vector < 16; vector++) {
		irq_take(vector);
	}
	irq_take(0x20);
	apic_enable();
	irq_self(5);
	irq_self(15);
	irq_self(0x20);
	irq_wait(0x20, 1);
	irq_open();
	check_eq(irq_log(0)->total, 1);
}

BARE_CASE(lvt_reserved, "lapic/lvt_reserved_bits_stay_zero", "Intel SDM vol. 3A, 10.5.1")
{
	uint32_t status = 0x1000; /* for the CPU to write; Linux KVM lets it be written */

	apic_not_of_tcg("LVT bits that are reserved may be set");
	apic_enable();
	apic_write(APIC_LVT_ERROR, 0xffffffff);
	check_eq(apic_read(APIC_LVT_ERROR) & ~status, LVT_MASKED | 0xff);
	apic_write(APIC_LVT_LINT1, 0xffff0fff);
	check_eq(apic_read(APIC_LVT_LINT1) & ~status, LVT_MASKED | 0x7ff);
	apic_write(APIC_LVT_TIMER, ~(uint32_t)(LVT_DEADLINE | LVT_PERIODIC));
	check_eq(apic_read(APIC_LVT_TIMER) & ~status, LVT_MASKED | 0xff);
}

BARE_CASE(read_only, "lapic/read_only_registers_stay", "AMD APM vol. 2, 16.3.2")
{
	apic_enable();
	apic_write(APIC_PPR, 0xf0);
	apic_write(APIC_ISR + 0x20, 0xffffffff);
	apic_write(APIC_IRR + 0x20, 0xffffffff);
	apic_write(APIC_TMR + 0x20, 0xffffffff);
	apic_write(APIC_TIMER_CUR, 0x1234);
	check_eq(apic_read(APIC_PPR), 0);
	check_eq(apic_read(APIC_ISR + 0x20), 0);
	check_eq(apic_read(APIC_IRR + 0x20), 0);
	check_eq(apic_read(APIC_TMR + 0x20), 0);
	check_eq(apic_read(APIC_TIMER_CUR), 0);
}

static void write_base(void *value)
{
	wrmsr(MSR_APIC_BASE, *(const uint64_t *)value);
}

BARE_CASE(base_reserved, "lapic/base_reserved_bits_gp", "AMD APM vol. 2, 16.3.1")
{
	static const uint64_t bits[] = {0x1, 0x80, 0x200, UINT64_C(1) << 63};
	uint64_t base = rdmsr(MSR_APIC_BASE);
	struct bare_trap trap;

	apic_not_of_tcg("no #GP for reserved bits of its base");
	for (unsigned int i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		uint64_t value = base | bits[i];

		bare_try(&trap, write_base, &value);
		check_eq(trap.happened, true);
		check_eq(trap.vector, VECTOR_GP);
		check_eq(trap.error, 0);
		check_eq(rdmsr(MSR_APIC_BASE), base);
	}
}

BARE_CASE(disabled, "lapic/disabled_leaves_cpuid_and_memory", "Intel SDM vol. 3A, 10.4.3")
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	apic_not_of_tcg("its registers stay where they are");
	apic_enable();
	check_eq(cpuid(1, 0).edx >> 9 & 1, 1);
	wrmsr(MSR_APIC_BASE, base & ~(uint64_t)APIC_BASE_EN);
	check_eq(rdmsr(MSR_APIC_BASE), base & ~(uint64_t)APIC_BASE_EN);
	check_eq(cpuid(1, 0).edx >> 9 & 1, 0);
	check_eq(*(volatile uint32_t *)(0xfee00000u + APIC_VERSION), 0xffffffff);
	wrmsr(MSR_APIC_BASE, base);
	check_eq(cpuid(1, 0).edx >> 9 & 1, 1);
	irq_take(0x40);
	apic_enable();
	irq_self(0x40);
	irq_open();
	check_eq(irq_log(0)->count[0x40], 1);
}

static uint64_t after_shadow;

static void note_rip(struct bare_frame *frame)
{
	after_shadow = frame->rip;
	apic_eoi();
}

BARE_CASE(sti_shadow, "lapic/sti_holds_for_one_instruction", "AMD APM vol. 3, STI")
{
	uint64_t want;

	bare_on(0x40, note_rip);
	apic_enable();
	irq_self(0x40);
	__asm__ volatile("lea 2f(%%rip), %0\n"
			 "	sti\n"
			 "	nop\n"
			 "2:	nop\n"
			 "	nop\n"
			 "	cli"
			 : "=&r"(want)
			 :
			 : "memory");
	check_eq(after_shadow, want);
}

BARE_CASE(if_holds, "lapic/if_clear_holds_all", "AMD APM vol. 2, 8.1.4")
{
	irq_take(0xf0);
	apic_enable();
	irq_self(0xf0);
	for (int i = 0; i < 1000; i++) {
		cpu_pause();
	}
	check_eq(irq_log(0)->total, 0);
	check(apic_bit(APIC_IRR, 0xf0));
	__asm__ volatile("sti; cli; nop; nop" : : : "memory"); /* no window */
	check_eq(irq_log(0)->total, 0);
	irq_open();
	check_eq(irq_log(0)->total, 1);
}
