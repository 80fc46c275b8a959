/* Faults of I/O, injection and debugging. */
#include <errno.h>
#include <linux/kvm_para.h>
#include <stdbool.h>
#include <string.h>

#include "tests/kvm/faults.h"

/* What the exit was that the next KVM_RUN answers; NULL: this is not a KVM_RUN. */
static struct kvm_run *answering(int fd, unsigned long request)
{
	return request == KVM_RUN ? kvm_run_of(fd) : NULL;
}

/* Runs. Return: the run structure if it is an exit for this reason now, else NULL. */
static struct kvm_run *ran(int fd, unsigned long request, uintptr_t argument, int *result,
			   uint32_t reason)
{
	struct kvm_run *run = answering(fd, request);

	*result = door_call(fd, request, argument);
	return run != NULL && *result == 0 && run->exit_reason == reason ? run : NULL;
}

static uint8_t *io_data(struct kvm_run *run)
{
	return (uint8_t *)run + run->io.data_offset;
}

/* ---- port and memory-mapped I/O ---- */

static int fault_in_wrong(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);

	if (run != NULL && run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN) {
		io_data(run)[run->io.size - 1] ^= 0x80;
	}
	return door_call(fd, request, argument);
}

static int fault_out_wide(int fd, unsigned long request, uintptr_t argument)
{
	int result;
	struct kvm_run *run = ran(fd, request, argument, &result, KVM_EXIT_IO);

	if (run != NULL && run->io.size == 2) {
		run->io.size = 4;
	}
	return result;
}

static int fault_string_short(int fd, unsigned long request, uintptr_t argument)
{
	int result;
	struct kvm_run *run = ran(fd, request, argument, &result, KVM_EXIT_IO);

	if (run != NULL && run->io.count > 1) {
		run->io.count--;
	}
	return result;
}

/* immediate_exit comes back before the access is done. */
static int fault_io_not_completed(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);

	return run != NULL && run->immediate_exit ? -EINTR : door_call(fd, request, argument);
}

static int fault_mmio_not_extended(int fd, unsigned long request, uintptr_t argument)
{
	int result;
	struct kvm_run *run = ran(fd, request, argument, &result, KVM_EXIT_MMIO);

	if (run != NULL && run->mmio.is_write && run->mmio.len == 8) {
		memset(run->mmio.data + 4, 0, 4);
	}
	return result;
}

static int fault_mmio_read_short(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);

	if (run != NULL && run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write &&
	    run->mmio.len == 8) {
		memset(run->mmio.data + 4, 0, 4);
	}
	return door_call(fd, request, argument);
}

/* A read has been answered; the device is asked again. */
static int fault_mmio_read_twice(int fd, unsigned long request, uintptr_t argument)
{
	static bool again;
	struct kvm_run *run = answering(fd, request);

	again = run != NULL && !again && run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write;
	return again ? 0 : door_call(fd, request, argument);
}

static int fault_zone_large(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_coalesced_mmio_zone zone;

	if (request == KVM_REGISTER_COALESCED_MMIO) {
		memcpy(&zone, (const void *)argument, sizeof(zone));
		zone.size = (zone.size + 0xfff) & ~0xfffu;
		argument = (uintptr_t)&zone;
	}
	return door_call(fd, request, argument);
}

static int fault_zone_stays(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_UNREGISTER_COALESCED_MMIO ? 0 : door_call(fd, request, argument);
}

static int fault_ring_order(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);
	int result = door_call(fd, request, argument);

	if (run != NULL) {
		struct kvm_coalesced_mmio_ring *ring =
			(struct kvm_coalesced_mmio_ring *)((char *)run +
							   KVM_COALESCED_MMIO_PAGE_OFFSET * 4096);
		struct kvm_coalesced_mmio first = ring->coalesced_mmio[0];

		if (ring->last >= 2) {
			ring->coalesced_mmio[0] = ring->coalesced_mmio[1];
			ring->coalesced_mmio[1] = first;
		}
	}
	return result;
}

static int change_doorbell(int fd, unsigned long request, uintptr_t argument, uint32_t clear,
			   bool any_width)
{
	struct kvm_ioeventfd doorbell;

	if (request == KVM_IOEVENTFD) {
		memcpy(&doorbell, (const void *)argument, sizeof(doorbell));
		doorbell.flags &= ~clear;
		doorbell.len = any_width ? 0 : doorbell.len;
		argument = (uintptr_t)&doorbell;
	}
	return door_call(fd, request, argument);
}

static int fault_no_datamatch(int fd, unsigned long request, uintptr_t argument)
{
	return change_doorbell(fd, request, argument, KVM_IOEVENTFD_FLAG_DATAMATCH, false);
}

static int fault_any_width(int fd, unsigned long request, uintptr_t argument)
{
	return change_doorbell(fd, request, argument, 0, true);
}

static int fault_doorbell_stays(int fd, unsigned long request, uintptr_t argument)
{
	bool off = request == KVM_IOEVENTFD && (((const struct kvm_ioeventfd *)argument)->flags &
						KVM_IOEVENTFD_FLAG_DEASSIGN) != 0;

	return off ? 0 : door_call(fd, request, argument);
}

static int fault_duplicates(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	return request == KVM_IOEVENTFD && result == -EEXIST ? 0 : result;
}

/* ---- events ---- */

static int fault_interrupt_lost(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_INTERRUPT ? 0 : door_call(fd, request, argument);
}

static int fault_interrupt_vector(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_interrupt interrupt;

	if (request == KVM_INTERRUPT) {
		interrupt.irq = ((const struct kvm_interrupt *)argument)->irq & 0xff;
		argument = (uintptr_t)&interrupt;
	}
	return door_call(fd, request, argument);
}

static int fault_always_ready(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);
	int result = door_call(fd, request, argument);

	if (run != NULL) {
		run->ready_for_interrupt_injection = 1;
	}
	return result;
}

/* Of the NMIs each second one. */
static int fault_nmi_lost(int fd, unsigned long request, uintptr_t argument)
{
	static unsigned int count;

	return request == KVM_NMI && count++ % 2 == 1 ? 0 : door_call(fd, request, argument);
}

static int change_events(int fd, uintptr_t argument, void (*change)(struct kvm_vcpu_events *))
{
	struct kvm_vcpu_events events;

	memcpy(&events, (const void *)argument, sizeof(events));
	change(&events);
	return door_call(fd, KVM_SET_VCPU_EVENTS, (uintptr_t)&events);
}

static void drop_error(struct kvm_vcpu_events *events)
{
	events->exception.error_code = 0;
}

static int fault_no_error_code(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_VCPU_EVENTS ? change_events(fd, argument, drop_error)
					      : door_call(fd, request, argument);
}

static void drop_mask(struct kvm_vcpu_events *events)
{
	events->nmi.masked = 0;
}

static int fault_nmi_unmasked(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_VCPU_EVENTS ? change_events(fd, argument, drop_mask)
					      : door_call(fd, request, argument);
}

static void drop_payload(struct kvm_vcpu_events *events)
{
	events->exception_has_payload = 0;
}

static int fault_payload_lost(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_VCPU_EVENTS ? change_events(fd, argument, drop_payload)
					      : door_call(fd, request, argument);
}

static void drop_shadow(struct kvm_vcpu_events *events)
{
	events->interrupt.shadow = 0;
}

static int fault_shadow_lost(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_VCPU_EVENTS ? change_events(fd, argument, drop_shadow)
					      : door_call(fd, request, argument);
}

/* ---- debugging and what user space answers ---- */

static int fault_step_ignored(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_SET_GUEST_DEBUG ? 0 : door_call(fd, request, argument);
}

static int fault_step_visible(int fd, unsigned long request, uintptr_t argument)
{
	static bool stepping;
	int result = door_call(fd, request, argument);

	if (request == KVM_SET_GUEST_DEBUG) {
		stepping = ((const struct kvm_guest_debug *)argument)->control != 0;
	} else if (request == KVM_GET_REGS && stepping) {
		((struct kvm_regs *)argument)->rflags |= 0x100;
	}
	return result;
}

static int fault_step_stays(int fd, unsigned long request, uintptr_t argument)
{
	bool off = request == KVM_SET_GUEST_DEBUG &&
		   ((const struct kvm_guest_debug *)argument)->control == 0;

	return off ? 0 : door_call(fd, request, argument);
}

static int fault_dr7_kept(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_debugregs regs;

	if (request == KVM_SET_DEBUGREGS) {
		memcpy(&regs, (const void *)argument, sizeof(regs));
		regs.dr7 = 0x400;
		argument = (uintptr_t)&regs;
	}
	return door_call(fd, request, argument);
}

static int fault_translate_page(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_TRANSLATE) {
		((struct kvm_translation *)argument)->physical_address &= ~UINT64_C(0xfff);
	}
	return result;
}

static int fault_translate_valid(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_TRANSLATE) {
		((struct kvm_translation *)argument)->valid = 1;
	}
	return result;
}

static int fault_msr_error_ignored(int fd, unsigned long request, uintptr_t argument)
{
	struct kvm_run *run = answering(fd, request);

	if (run != NULL &&
	    (run->exit_reason == KVM_EXIT_X86_RDMSR || run->exit_reason == KVM_EXIT_X86_WRMSR)) {
		run->msr.error = 0;
	}
	return door_call(fd, request, argument);
}

static int fault_msr_filter_ignored(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_X86_SET_MSR_FILTER ? 0 : door_call(fd, request, argument);
}

/* -KVM_ENOSYS comes as Linux's -ENOSYS. */
static int fault_hypercall_number(int fd, unsigned long request, uintptr_t argument)
{
	int result = door_call(fd, request, argument);

	if (request == KVM_GET_REGS &&
	    ((struct kvm_regs *)argument)->rax == (uint64_t)-KVM_ENOSYS) {
		((struct kvm_regs *)argument)->rax = (uint64_t)-ENOSYS;
	}
	return result;
}

const struct fault io_faults[] = {
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
	FAULT_END,
};
