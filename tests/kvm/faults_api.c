/* Faults of the system ioctls, memory slots, the dirty log and KVM_RUN. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/faults.h"

static int older_version(int fd, unsigned long request, uintptr_t argument)
{
	return request == KVM_GET_API_VERSION ? 11 : door_call(fd, request, argument);
}

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

const struct fault api_faults[] = {
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
	FAULT_END,
};
