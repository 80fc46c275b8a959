/*
 * Spec: Intel SDM vol. 3A, "APIC Timer", "TSC-Deadline Mode"
 */
#include "core/hw/timer_device.h"

#include "core/hw/asm.h"
#include "core/hw/clock.h"
#include "core/hw/cpu.h"
#include "core/hw/irq.h"
#include "core/hw/local_apic.h"
#include "core/hw/regs.h"
#include "core/hw/timer.h"

static struct {
	/* Constant after start-up. */
	bool deadlines;
	uint64_t mult;	 /* counts = ns * mult >> 32 */
	uint64_t ns_max; /* what the counter can hold */
} device;

static void on_timer(void)
{
	cpu_this()->timer_irqs++;
	timer_run();
}

void timer_device_init(void)
{
	device.deadlines = cpu_features()->tsc_deadline;
	if (!device.deadlines) {
		device.mult = clock_lapic_mult();
		device.ns_max = (UINT64_C(1) << 63) / MAX(device.mult, UINT64_C(1));
	}
	irq_set_handler(IRQ_VECTOR_TIMER, on_timer);
}

void timer_device_start(void)
{
	timer_init_cpu();
	if (device.deadlines) {
		local_apic_timer_deadline_mode(IRQ_VECTOR_TIMER);
	}
}

void timer_device_set(uint64_t deadline_ns)
{
	if (device.deadlines) {
		/* A deadline that has passed fires at once; 0 means none. */
		asm_wrmsr(MSR_IA32_TSC_DEADLINE,
			  deadline_ns == CLOCK_NEVER ? 0 : clock_ns_to_tsc(deadline_ns));
		return;
	}
	if (deadline_ns == CLOCK_NEVER) {
		local_apic_timer_mask();
		return;
	}
	uint64_t now = clock_now_ns();
	uint64_t ns = deadline_ns > now ? MIN(deadline_ns - now, device.ns_max) : 0;
	/* Rounded up: an interrupt before its time would have to be set again. */
	local_apic_timer_set(IRQ_VECTOR_TIMER, (uint32_t)((ns * device.mult >> 32) + 1));
}
