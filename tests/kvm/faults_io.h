/* The faults of I/O, injection and debugging: filters for the table of faults.c. */
#pragma once

#include "tests/kvm/door.h"

door_filter fault_in_wrong, fault_out_wide, fault_string_short, fault_io_not_completed;
door_filter fault_mmio_not_extended, fault_mmio_read_short, fault_mmio_read_twice;
door_filter fault_zone_large, fault_zone_stays, fault_ring_order;
door_filter fault_no_datamatch, fault_any_width, fault_doorbell_stays, fault_duplicates;
door_filter fault_interrupt_lost, fault_interrupt_vector, fault_always_ready, fault_nmi_lost;
door_filter fault_no_error_code, fault_nmi_unmasked, fault_payload_lost, fault_shadow_lost;
door_filter fault_step_ignored, fault_step_visible, fault_step_stays, fault_dr7_kept;
door_filter fault_translate_page, fault_translate_valid;
door_filter fault_msr_error_ignored, fault_msr_filter_ignored, fault_hypercall_number;
