/* The local APIC's registers as MSRs. */
#include "tests/guest/bare/apic_regs.h"

#define X2(offset) (MSR_X2APIC + (offset) / 16)
#define VECTOR	   0x60

static void turn_on(void)
{
	if ((cpuid(1, 0).ecx >> 21 & 1) == 0) {
		bare_skip("the CPU has no x2APIC");
	}
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2);
}

struct access {
	uint32_t msr;
	uint64_t value;
};

static void do_read(void *access)
{
	((struct access *)access)->value = rdmsr(((struct access *)access)->msr);
}

static void do_write(void *access)
{
	wrmsr(((struct access *)access)->msr, ((struct access *)access)->value);
}

static void check_gp(void (*function)(void *), uint32_t msr, uint64_t value)
{
	struct access access = {msr, value};
	struct bare_trap trap;

	bare_try(&trap, function, &access);
	if (!trap.happened || trap.vector != VECTOR_GP || trap.error != 0) {
		bare_print("MSR ");
		bare_print_hex(msr);
		bare_print(" value ");
		bare_print_hex(value);
		bare_print(": ");
		check_eq(trap.vector, VECTOR_GP);
		check_eq(trap.error, 0);
	}
}

BARE_CASE(id, "x2apic/id_and_version", "Intel SDM vol. 3A, 10.12.2")
{
	uint32_t version = apic_read(APIC_VERSION);

	turn_on();
	check_eq(rdmsr(X2(APIC_ID)), cpuid(0xb, 0).edx);
	check_eq(rdmsr(X2(APIC_VERSION)), version);
	check_eq(cpuid(1, 0).ecx >> 21 & 1, 1);
}

static void check_ldr(void *done)
{
	uint32_t id;

	turn_on();
	id = (uint32_t)rdmsr(X2(APIC_ID));
	check_eq(id, bare_cpu()->index);
	check_eq(rdmsr(X2(APIC_LDR)), (id >> 4) << 16 | UINT32_C(1) << (id & 15));
	if (done != NULL) {
		__atomic_store_n((uint32_t *)done, 1, __ATOMIC_RELEASE);
	}
}

BARE_CASE_ON(ldr, "x2apic/logical_id_is_derived", "Intel SDM vol. 3A, 10.12.10.2", 2, 0)
{
	uint32_t done = 0;

	check_ldr(NULL);
	bare_start_cpu(1, check_ldr, &done);
	bare_wait(&done, 1);
}

BARE_CASE(transitions, "x2apic/illegal_transitions_gp", "Intel SDM vol. 3A, 10.12.5")
{
	uint64_t xapic = rdmsr(MSR_APIC_BASE), off = xapic & ~(uint64_t)APIC_BASE_EN;

	apic_not_of_tcg("it takes any value for its base");
	check_gp(do_write, MSR_APIC_BASE, off | APIC_BASE_X2);
	turn_on();
	check_gp(do_write, MSR_APIC_BASE, xapic); /* back only by off */
	check_gp(do_write, MSR_APIC_BASE, off | APIC_BASE_X2);
	check_eq(rdmsr(MSR_APIC_BASE), xapic | APIC_BASE_X2);
	wrmsr(MSR_APIC_BASE, off);
	check_gp(do_write, MSR_APIC_BASE, xapic | APIC_BASE_X2);
	check_gp(do_write, MSR_APIC_BASE, off | APIC_BASE_X2);
	check_eq(rdmsr(MSR_APIC_BASE), off);
	wrmsr(MSR_APIC_BASE, xapic);
	check_eq(apic_read(APIC_ID), 0);
}

BARE_CASE(not_in_xapic, "x2apic/msrs_gp_in_xapic_mode", "Intel SDM vol. 3A, 10.12.2")
{
	if ((cpuid(1, 0).ecx >> 21 & 1) == 0) {
		bare_skip("the CPU has no x2APIC");
	}
	check_gp(do_read, X2(APIC_ID), 0);
	check_gp(do_read, X2(APIC_TPR), 0);
	check_gp(do_write, X2(APIC_EOI), 0);
	check_gp(do_write, X2(APIC_SELF_IPI), 0x40);
	check_gp(do_write, X2(APIC_ICR), 0x44040);
}

BARE_CASE(read_only, "x2apic/writing_read_only_gp", "Intel SDM vol. 3A, 10.12.1.3")
{
	static const uint32_t offsets[] = {
		APIC_ID,  APIC_VERSION,	   APIC_PPR, APIC_LDR,	      APIC_ISR,
		APIC_TMR, APIC_IRR + 0x70, APIC_IRR, APIC_ISR + 0x70, APIC_TIMER_CUR,
	};

	turn_on();
	for (unsigned int i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		check_gp(do_write, X2(offsets[i]), 0);
	}
}

BARE_CASE(write_only, "x2apic/reading_write_only_gp", "Intel SDM vol. 3A, 10.12.1.3")
{
	turn_on();
	check_gp(do_read, X2(APIC_EOI), 0);
	check_gp(do_read, X2(APIC_SELF_IPI), 0);
}

BARE_CASE(no_register, "x2apic/where_no_register_is_gp", "Intel SDM vol. 3A, 10.12.1.2")
{
	static const uint32_t offsets[] = {0x00, 0x40, 0x90, 0xc0, APIC_DFR, APIC_ICR_HIGH, 0x3a0};

	turn_on();
	for (unsigned int i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		check_gp(do_read, X2(offsets[i]), 0);
		check_gp(do_write, X2(offsets[i]), 0);
	}
}

BARE_CASE(reserved, "x2apic/reserved_bits_gp", "Intel SDM vol. 3A, 10.12.1.3")
{
	turn_on();
	check_gp(do_write, X2(APIC_SELF_IPI), 0x140);
	check_gp(do_write, X2(APIC_ESR), 1);
	wrmsr(X2(APIC_ESR), 0);
	wrmsr(X2(APIC_EOI), 0);
}

BARE_CASE(self, "x2apic/self_ipi", "Intel SDM vol. 3A, 10.12.11")
{
	turn_on();
	apic_enable();
	irq_take(VECTOR);
	wrmsr(X2(APIC_SELF_IPI), VECTOR);
	check_eq(rdmsr(X2(APIC_IRR + VECTOR / 32 * 16)), UINT32_C(1) << VECTOR % 32);
	irq_open();
	check_eq(irq_log(0)->count[VECTOR], 1);
	check_eq(rdmsr(X2(APIC_ISR + VECTOR / 32 * 16)), 0);
}

BARE_CASE(memory, "x2apic/memory_has_no_registers", "Intel SDM vol. 3A, 10.12.2")
{
	turn_on();
	check_eq(*(volatile uint32_t *)(0xfee00000u + APIC_VERSION), 0xffffffff);
	*(volatile uint32_t *)(0xfee00000u + APIC_TPR) = 0x40;
	check_eq(rdmsr(X2(APIC_TPR)), 0);
}

BARE_CASE(tpr, "x2apic/tpr_and_cr8", "Intel SDM vol. 3A, 10.12.1.2")
{
	turn_on();
	apic_enable();
	irq_take(VECTOR);
	wrmsr(X2(APIC_TPR), 0x6f);
	check_eq(read_cr8(), 6);
	check_eq(rdmsr(X2(APIC_PPR)) & 0xf0, 0x60);
	wrmsr(X2(APIC_SELF_IPI), VECTOR);
	irq_open();
	check_eq(irq_log(0)->total, 0);
	wrmsr(X2(APIC_TPR), 0x5f);
	irq_open();
	check_eq(irq_log(0)->total, 1);
}

BARE_CASE(timer, "x2apic/timer", "Intel SDM vol. 3A, 10.12.1.2")
{
	turn_on();
	apic_enable();
	irq_take(VECTOR);
	wrmsr(X2(APIC_TIMER_DCR), 0xb);
	wrmsr(X2(APIC_LVT_TIMER), VECTOR);
	wrmsr(X2(APIC_TIMER_INIT), 100000);
	check(rdmsr(X2(APIC_TIMER_CUR)) <= 100000);
	irq_wait(VECTOR, 1);
	check_eq(rdmsr(X2(APIC_TIMER_CUR)), 0);
}

/* ---- the other CPUs ---- */

static volatile uint32_t ready;

static void idle(void *argument)
{
	(void)argument;
	turn_on();
	apic_enable();
	__atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		cpu_sti_hlt_cli();
	}
}

#define CPUS  3
#define AFTER 0x30

static void check_sent(uint64_t icr, uint32_t want)
{
	irq_take(VECTOR);
	irq_take(AFTER);
	turn_on();
	apic_enable();
	for (uint32_t i = 1; i < CPUS; i++) {
		bare_start_cpu(i, idle, NULL);
	}
	bare_wait(&ready, CPUS - 1);
	wrmsr(X2(APIC_ICR), icr);
	check_eq(rdmsr(X2(APIC_ICR)), icr);
	wrmsr(X2(APIC_ICR), ICR_ASSERT | ICR_ALL | AFTER);
	irq_wait(AFTER, 1);
	for (uint32_t i = 0; i < CPUS; i++) {
		bare_wait(&irq_log(i)->count[AFTER], 1);
		check_eq(irq_log(i)->count[VECTOR], want >> i & 1);
	}
}

BARE_CASE_ON(to_one, "x2apic/icr_of_64_bits_sends", "Intel SDM vol. 3A, 10.12.9", CPUS, 0)
{
	check_sent(UINT64_C(2) << 32 | ICR_ASSERT | VECTOR, 1 << 2);
}

BARE_CASE_ON(to_all, "x2apic/broadcast_is_32_bits", "Intel SDM vol. 3A, 10.12.9", CPUS, 0)
{
	check_sent(UINT64_C(0xffffffff) << 32 | ICR_ASSERT | VECTOR, 0x7);
}

BARE_CASE_ON(to_255, "x2apic/id_255_is_no_broadcast", "Intel SDM vol. 3A, 10.12.9", CPUS, 0)
{
	check_sent(UINT64_C(0x1ff) << 32 | ICR_ASSERT | VECTOR, 0);
}

BARE_CASE_ON(logical, "x2apic/logical_is_cluster_and_set", "Intel SDM vol. 3A, 10.12.10.2", CPUS, 0)
{
	check_sent(UINT64_C(0x0000fff6) << 32 | ICR_ASSERT | ICR_LOGICAL | VECTOR, 0x6);
}

BARE_CASE_ON(other_cluster, "x2apic/logical_of_another_cluster_is_nobody",
	     "Intel SDM vol. 3A, 10.12.10.2", CPUS, 0)
{
	check_sent(UINT64_C(0x00010007) << 32 | ICR_ASSERT | ICR_LOGICAL | VECTOR, 0);
}
