#include "tests/kvm/faults.h"

#include <string.h>

#include "tests/kvm/bare_machine.h"
#include "tests/kvm/faults_io.h"

static const struct fault *current;

static int older_version(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_GET_API_VERSION ? 11 : door_call(fd, request, argument);
}

static const struct fault faults[] = {
	{"older_version", "api/version_is_12", older_version, NULL, 0},
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
