/* Faults of interrupt controllers. */
#include <string.h>

#include "tests/kvm/faults.h"

static int no_irq_line(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_IRQ_LINE ? 0 : door_call(fd, request, argument);
}

static int line_stays_high(int fd, unsigned long request, uintptr_t argument)
{
	const struct kvm_irq_level *line = (const struct kvm_irq_level *)argument;

	return request == KVM_IRQ_LINE && line->level == 0 ? 0 : door_call(fd, request, argument);
}

/* The last set of routes stays in force. */
static int first_routes_stay(int fd, unsigned long request, uintptr_t argument)
{
	static bool set;

	if (request != KVM_SET_GSI_ROUTING) {
		return door_call(fd, request, argument);
	}
	if (set) {
		return 0;
	}
	set = true;
	return door_call(fd, request, argument);
}

static int wrong_eoi_vector(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_RUN && kvm_run_of(fd)->exit_reason == KVM_EXIT_IOAPIC_EOI) {
		kvm_run_of(fd)->eoi.vector++;
	}
	return result;
}

static int saved_without_irr(int fd, unsigned long request, uintptr_t argument)
{
	if (request == KVM_SET_LAPIC) {
		memset(((struct kvm_lapic_state *)argument)->regs + 0x200, 0, 0x80);
	}
	return door_call(fd, request, argument);
}

static int halted_is_forgotten(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_mp_state *state = (struct kvm_mp_state *)argument;
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_MP_STATE && state->mp_state == KVM_MP_STATE_HALTED) {
		state->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	return result;
}

static int irqfd_is_deaf(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_IRQFD && ((struct kvm_irqfd *)argument)->flags == 0
		       ? 0
		       : door_call(fd, request, argument);
}

const struct fault irq_faults[] = {
	{"lost_line", "lines/ioapic_level_comes_until_lowered", no_irq_line, NULL, 0},
	{"stuck_line", "lines/pic_level_comes_until_lowered", line_stays_high, NULL, 0},
	{"stale_routes", "routing/a_set_replaces_the_last", first_routes_stay, NULL, 0},
	{"wrong_eoi_vector", "split/eoi_of_a_level_vector_exits", wrong_eoi_vector, NULL, 0},
	{"pending_not_saved", "irqchip/lapic_pending_is_delivered", saved_without_irr, NULL, 0},
	{"halted_is_forgotten", "mp/states_round_trip", halted_is_forgotten, NULL, 0},
	{"irqfd_refuses_nothing", "irqfd/refusals", irqfd_is_deaf, NULL, 0},
	{"hlt_goes_on", "timer/one_shot_wakes_hlt_once", NULL, "bare_fault_timer_hlt", 3},
	{"eoi_is_lost", "lapic/eoi_ends_the_highest_in_service", NULL, "bare_fault_eoi", 6},
	{"cr8_is_lost", "lapic/lowering_cr8_lets_it_through", NULL, "bare_fault_cr8", 4},
	FAULT_END,
};
