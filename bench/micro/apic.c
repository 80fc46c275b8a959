/* Interrupts that a vCPU sends to itself by its local APIC. */
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "bench/micro/machine.h"
#include "bench/micro/payload.h"
#include "bench/micro/row.h"

#define SAMPLES	    256
#define DELAY_TICKS 200000 /* from arming a timer to its deadline */

/* The first array is until the handler begins, the second is its EOI. */
#define UNTIL_HANDLER 0
#define EOI	      1

/* @variant: which array. */
static enum verdict interrupts(const struct row *row, enum machine_kind kind, struct result *result)
{
	struct start start = {
		.routine = row->routine, .samples = WARM_UP + SAMPLES, .r12 = DELAY_TICKS};
	struct machine m;
	int64_t baseline;
	enum verdict verdict = machine_create(&m, kind, 1, result);

	if (verdict == MEASURED) {
		verdict = machine_baseline(&m, &baseline, result);
	}
	if (verdict == MEASURED) {
		machine_handler(&m, VECTOR,
				kind == MACHINE_XAPIC ? guest_handler_xapic : guest_handler_x2apic);
		verdict = machine_start(&m, 0, &start, result);
	}
	if (verdict == MEASURED) {
		verdict = machine_run_to_port(&m, 0, PORT_DONE, result);
	}
	if (verdict == MEASURED) {
		machine_collect(&m, row->variant, start.samples, baseline, result);
	}
	machine_destroy(&m);
	return verdict;
}

static enum verdict with_xapic(const struct row *row, struct result *result)
{
	return interrupts(row, MACHINE_XAPIC, result);
}

static enum verdict with_x2apic(const struct row *row, struct result *result)
{
	return interrupts(row, MACHINE_X2APIC, result);
}

static enum verdict with_deadline(const struct row *row, struct result *result)
{
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_X2APIC, 1, result);

	if (verdict == MEASURED &&
	    ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) <= 0) {
		verdict = result_skip(result, "no KVM_CAP_TSC_DEADLINE_TIMER");
	}
	machine_destroy(&m);
	return verdict == MEASURED ? interrupts(row, MACHINE_X2APIC, result) : verdict;
}

const struct row apic_rows[] = {
	{"eoi-xapic", "EOI of an edge-triggered interrupt by a memory access, in guest",
	 "SDM vol. 3A, Signaling Interrupt Servicing Completion", with_xapic, guest_ipi_self_xapic,
	 EOI},
	{"eoi-x2apic", "EOI of an edge-triggered interrupt by WRMSR, in guest",
	 "SDM vol. 3A, x2APIC Register Address Space", with_x2apic, guest_ipi_self_x2apic, EOI},
	{"eoi-xapic-idle", "EOI by a memory access while no interrupt is in service, in guest",
	 "SDM vol. 3A, Signaling Interrupt Servicing Completion", with_xapic, guest_eoi_idle,
	 UNTIL_HANDLER},
	{"apic-test", "TEST of a register of the local APIC, which is emulated, in guest",
	 "AMD APM vol. 2, Nested Page Fault", with_xapic, guest_apic_test, UNTIL_HANDLER},
	{"cr4-write", "MOV to CR4 of what is there, in guest", "AMD APM vol. 2, CR Intercepts",
	 with_xapic, guest_cr4_write, UNTIL_HANDLER},
	{"ipi-self-xapic", "from the write to ICR in memory to the handler", "SDM vol. 3A, ICR",
	 with_xapic, guest_ipi_self_xapic, UNTIL_HANDLER},
	{"ipi-self-x2apic", "from the WRMSR to ICR to the handler",
	 "SDM vol. 3A, ICR in x2APIC Mode", with_x2apic, guest_ipi_self_x2apic, UNTIL_HANDLER},
	{"hlt-pending", "from STI, HLT to the handler of an interrupt that is there already",
	 "SDM vol. 2A, HLT", with_x2apic, guest_hlt_pending, UNTIL_HANDLER},
	{"deadline-due", "from the WRMSR of a TSC deadline that is over to the handler",
	 "SDM vol. 3A, TSC-Deadline Mode", with_deadline, guest_deadline_due, UNTIL_HANDLER},
	/* Linux wakes up before the deadline and waits for it: its lapic_timer_advance. */
	{"deadline-late", "from the deadline to the handler, while the guest spins",
	 "SDM vol. 3A, TSC-Deadline Mode", with_deadline, guest_deadline_late, UNTIL_HANDLER},
	{"deadline-halted", "from the deadline to the handler, while the guest is in HLT",
	 "SDM vol. 3A, TSC-Deadline Mode", with_deadline, guest_deadline_halted, UNTIL_HANDLER},
	{0},
};
