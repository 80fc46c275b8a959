#include "tests/kvm/faults.h"

#include <errno.h>
#include <string.h>

#include "tests/kvm/bare_machine.h"
#include "tests/kvm/faults_io.h"

static const struct fault *current;

static int older_version(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_GET_API_VERSION ? 11 : door_call(fd, request, argument);
}

/* ---- api ---- */

static int every_capability(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_CHECK_EXTENSION ? 1 : door_call(fd, request, argument);
}

static int silent_list(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_msr_list *list = (struct kvm_msr_list *)argument;
	uint32_t room = request == KVM_GET_MSR_INDEX_LIST ? list->nmsrs : 0;
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_MSR_INDEX_LIST && result == -E2BIG) {
		list->nmsrs = room;
	}
	return result;
}

static int wrong_errno(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	return result == -EEXIST ? -EINVAL : result;
}

/* ---- memory slots and the dirty log ---- */

static int kept_slot(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_userspace_memory_region *region = (void *)argument;

	if (request == KVM_SET_USER_MEMORY_REGION && region->memory_size == 0) {
		return 0;
	}
	return door_call(fd, request, argument);
}

static int accepted_overlap(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	return request == KVM_SET_USER_MEMORY_REGION && result == -EEXIST ? 0 : result;
}

static int writable_rom(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_userspace_memory_region *region = (void *)argument;

	if (request == KVM_SET_USER_MEMORY_REGION) {
		region->flags &= ~(uint32_t)KVM_MEM_READONLY;
	}
	return door_call(fd, request, argument);
}

static int dropped_dirty_bit(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_DIRTY_LOG && result == 0) {
		uint64_t *word = ((struct kvm_dirty_log *)argument)->dirty_bitmap;

		*word &= *word - 1;
	}
	return result;
}

static int uncleared_log(int fd, unsigned long request, uintptr_t argument)
{
	static uint64_t before;
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_DIRTY_LOG && result == 0) {
		uint64_t *word = ((struct kvm_dirty_log *)argument)->dirty_bitmap;

		before = *word |= before;
	}
	return result;
}

static int long_bitmap(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_DIRTY_LOG && result == 0) {
		((uint64_t *)((struct kvm_dirty_log *)argument)->dirty_bitmap)[1] = 0;
	}
	return result;
}

static int no_manual_clear(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_CLEAR_DIRTY_LOG ? 0 : door_call(fd, request, argument);
}

/* ---- running ---- */

static int late_immediate_exit(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = kvm_run_of(fd);
	int result;

	if (request != KVM_RUN || run == NULL || run->immediate_exit == 0) {
		return door_call(fd, request, argument);
	}
	run->immediate_exit = 0;
	result = door_call(fd, request, argument);
	run->immediate_exit = 1;
	return result == 0 ? -EINTR : result;
}

static int no_signal_mask(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_SIGNAL_MASK ? 0 : door_call(fd, request, argument);
}

static int swallowed_halt(int fd, unsigned long request, uintptr_t argument)
{
	static bool swallowed;
	int result = door_call(fd, request, argument);

	if (request == KVM_RUN && result == 0 && kvm_run_of(fd)->exit_reason == KVM_EXIT_HLT &&
	    !swallowed) {
		swallowed = true;
		return door_call(fd, request, argument);
	}
	return result;
}

static int any_sregs(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	return request == KVM_SET_SREGS && result == -EINVAL ? 0 : result;
}

static int all_runnable(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_MP_STATE && result == 0) {
		((struct kvm_mp_state *)argument)->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	return result;
}

/* ---- interrupt controllers ---- */

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

static const struct fault faults[] = {
	{"older_version", "api/version_is_12", older_version, NULL, 0},
	{"every_capability", "api/unknown_capability_is_0", every_capability, NULL, 0},
	{"silent_list", "api/msr_list_says_its_size", silent_list, NULL, 0},
	{"wrong_errno", "api/vcpu_id_is_unique", wrong_errno, NULL, 0},
	{"kept_slot", "slots/deleted_memory_is_gone", kept_slot, NULL, 0},
	{"kept_code", "slots/recreated_code_is_the_new_code", kept_slot, NULL, 0},
	{"accepted_overlap", "slots/overlap_is_refused", accepted_overlap, NULL, 0},
	{"writable_rom", "backing/read_only_store_of_4_bytes", writable_rom, NULL, 0},
	{"dropped_dirty_bit", "dirty/first_write_is_logged", dropped_dirty_bit, NULL, 0},
	{"lost_page", "dirty/no_write_is_lost_while_running", dropped_dirty_bit, NULL, 0},
	{"uncleared_log", "dirty/written_again_is_logged_again", uncleared_log, NULL, 0},
	{"long_bitmap", "dirty/bitmap_of_64_pages", long_bitmap, NULL, 0},
	{"no_manual_clear", "dirty/manual_log_is_kept_until_cleared", no_manual_clear, NULL, 0},
	{"late_immediate_exit", "run/immediate_exit_executes_nothing", late_immediate_exit, NULL,
	 0},
	{"no_signal_mask", "run/pending_signal_executes_nothing", no_signal_mask, NULL, 0},
	{"swallowed_halt", "run/halt_is_an_exit", swallowed_halt, NULL, 0},
	{"any_sregs", "entry/paging_needs_protection", any_sregs, NULL, 0},
	{"all_runnable", "entry/with_split_chips_the_others_wait", all_runnable, NULL, 0},
	{"stale_tlb", "self/stale_tlb", NULL, "bare_fault_invlpg", 3},
	{"in_wrong", "pio/in_32_clears_the_upper_half", fault_in_wrong, NULL, 0},
	{"out_wide", "pio/writes_long_mode", fault_out_wide, NULL, 0},
	{"string_short", "pio/rep_ins_8", fault_string_short, NULL, 0},
	{"io_not_completed", "pio/immediate_exit_completes_in", fault_io_not_completed, NULL, 0},
	{"mmio_not_extended", "mmio/immediates_are_sign_extended", fault_mmio_not_extended, NULL,
	 0},
	{"mmio_read_short", "mmio/load_widths", fault_mmio_read_short, NULL, 0},
	{"mmio_read_twice", "mmio/movs_from_a_device", fault_mmio_read_twice, NULL, 0},
	{"zone_large", "coalesced/partly_outside_is_an_exit", fault_zone_large, NULL, 0},
	{"zone_stays", "coalesced/unregistered_is_an_exit", fault_zone_stays, NULL, 0},
	{"ring_order", "coalesced/writes_wait_in_order", fault_ring_order, NULL, 0},
	{"no_datamatch", "ioeventfd/data_must_match", fault_no_datamatch, NULL, 0},
	{"any_width", "ioeventfd/mmio_4", fault_any_width, NULL, 0},
	{"doorbell_stays", "ioeventfd/deassigned_is_an_exit", fault_doorbell_stays, NULL, 0},
	{"duplicates", "ioeventfd/ambiguous_is_refused", fault_duplicates, NULL, 0},
	{"interrupt_lost", "inject/interrupt_long_mode", fault_interrupt_lost, NULL, 0},
	{"interrupt_vector", "inject/vector_256_is_refused", fault_interrupt_vector, NULL, 0},
	{"always_ready", "inject/window_opens_with_if", fault_always_ready, NULL, 0},
	{"nmi_lost", "inject/nmi_waits_for_iret", fault_nmi_lost, NULL, 0},
	{"no_error_code", "events/exception_with_error_code", fault_no_error_code, NULL, 0},
	{"nmi_unmasked", "events/nmi_masked_holds_it_off", fault_nmi_unmasked, NULL, 0},
	{"payload_lost", "events/payload_of_a_page_fault_is_cr2", fault_payload_lost, NULL, 0},
	{"shadow_lost", "events/shadow_holds_interrupts_off", fault_shadow_lost, NULL, 0},
	{"step_ignored", "debug/step_is_one_instruction", fault_step_ignored, NULL, 0},
	{"step_visible", "debug/step_hides_its_flag", fault_step_visible, NULL, 0},
	{"step_stays", "debug/step_ends_when_told", fault_step_stays, NULL, 0},
	{"dr7_kept", "debug/debugregs_are_the_guests", fault_dr7_kept, NULL, 0},
	{"translate_page", "translate/paging_32_bit", fault_translate_page, NULL, 0},
	{"translate_valid", "translate/paging_long_mode", fault_translate_valid, NULL, 0},
	{"msr_error_ignored", "msr_exits/error_is_a_fault", fault_msr_error_ignored, NULL, 0},
	{"msr_filter_ignored", "msr_exits/filtered_read", fault_msr_filter_ignored, NULL, 0},
	{"hypercall_number", "hypercall/unknown", fault_hypercall_number, NULL, 0},
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
};

const struct fault *fault_listed(size_t index)
{
	return index < sizeof(faults) / sizeof(faults[0]) ? &faults[index] : NULL;
}

const struct fault *fault_find(const char *name)
{
	const struct fault *fault;

	for (size_t i = 0; (fault = fault_listed(i)) != NULL; i++) {
		if (strcmp(fault->name, name) == 0) {
			return fault;
		}
	}
	return NULL;
}

void fault_put_in(const struct fault *fault)
{
	current = fault;
	door_set_filter(fault->filter);
}

void fault_patch(uint8_t *ram)
{
	if (current != NULL && current->symbol != NULL) {
		memset(ram + bare_symbol(current->symbol), 0x90, current->symbol_bytes);
	}
}
