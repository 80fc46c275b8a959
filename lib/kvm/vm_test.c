/* The API as a whole: what each descriptor takes and refuses; doorbells and zones; the clock. */
#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/kvm/bus.h"
#include "lib/kvm/clock.h"
#include "lib/kvm/fake_env.h"
#include "lib/kvm/fake_irq.h"
#include "lib/kvm/msr.h"

#define PAGE 4096

static _Alignas(PAGE) uint8_t ram[16 * PAGE];
static uint8_t room[16384];

static struct fake f;

static int set_up(void **state)
{
	(void)state;
	fake_init(&f);
	fake_irq = (struct fake_irq){0};
	memset(room, 0, sizeof(room));
	(void)fake_vm(&f);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

static const uint32_t known[] = {
#define IOCTL_SYSTEM(request, argument, capability, handler) (uint32_t) request,
#define IOCTL_VM(request, argument, capability, handler)     (uint32_t) request,
#define IOCTL_VCPU(request, argument, capability, handler)   (uint32_t) request,
#include "abi/kvm/ioctls.def"
};

static void system_calls(void **state)
{
	(void)state;
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_API_VERSION, 0), 12);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_API_VERSION, 1), -EINVAL);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CREATE_VM, 1), -EINVAL);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_VCPU_MMAP_SIZE, 0), 3 * PAGE);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP), 1);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), 32764);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CHECK_EXTENSION, 99999), 0);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CHECK_EXTENSION, UINT64_MAX), 0);
	assert_int_equal(vm_call(&f, KVM_CHECK_EXTENSION, (void *)KVM_CAP_SYNC_REGS), 7);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_RUN, 0), -EINVAL);
	assert_int_equal(vm_call(&f, KVM_RUN, NULL), -ENOTTY);
}

static void lists_tell_their_size(void **state)
{
	struct kvm_msr_list *list = (void *)room;
	struct kvm_cpuid2 *cpuid = (void *)room;
	uint32_t count;

	(void)state;
	list->nmsrs = 1;
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_MSR_INDEX_LIST, (uintptr_t)list), -E2BIG);
	count = list->nmsrs;
	assert_true(count > 20);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_MSR_INDEX_LIST, (uintptr_t)list), 0);
	assert_int_equal(list->nmsrs, count);
	memset(room, 0, sizeof(room));
	cpuid->nent = 2;
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid),
			 -E2BIG);
	cpuid->nent = 200;
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid), 0);
	assert_true(cpuid->nent > 10 && cpuid->nent < 100);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 1) {
			assert_true((cpuid->entries[i].ecx & 1 << 21) != 0); /* x2APIC */
			assert_int_equal(cpuid->entries[i].ecx & 1 << 5, 0); /* no VMX */
		}
		if (cpuid->entries[i].function == 0xd && cpuid->entries[i].index == 0) {
			assert_int_equal(cpuid->entries[i].eax, 7);
			assert_int_equal(cpuid->entries[i].ebx, 832);
		}
	}
}

/* Each call with an address where nothing is. */
static void bad_pointers(void **state)
{
	static const uint64_t bad[] = {1, 0xfff, UINT64_C(0xffff800000000000), UINT64_MAX - 7};
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		uint32_t size = known[i] >> 16 & 0x3fff;

		for (size_t j = 0; j < ARRAY_SIZE(bad) && size != 0; j++) {
			assert_in_range(-kvm_system_ioctl(&f.env, known[i], bad[j]), 1, 133);
			assert_in_range(-kvm_vm_ioctl(f.vm, known[i], bad[j]), 1, 133);
			assert_in_range(-kvm_vcpu_ioctl(vcpu, known[i], bad[j]), 1, 133);
		}
	}
}

/* Each call with whatever may stand in memory. */
static void random_structures(void **state)
{
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);
	uint64_t seed = 88172645463325252;
	int64_t r;

	(void)state;
	f.only = (uintptr_t)room;
	f.only_end = f.only + sizeof(room);
	for (unsigned i = 0; i < 30000; i++) {
		uint32_t request = known[seed % ARRAY_SIZE(known)];

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		for (unsigned j = 0; j < 64; j++) {
			/* Mostly small numbers, so that some are valid. */
			uint64_t value = seed >> (j * 7 % 60);

			memcpy(room + j * 8, &(uint64_t){j % 3 == 0 ? value & 0xff : value}, 8);
		}
		if (request == KVM_CREATE_VM || request == KVM_CREATE_VCPU ||
		    request == (uint32_t)KVM_SET_USER_MEMORY_REGION) {
			continue;
		}
		r = kvm_system_ioctl(&f.env, request, (uintptr_t)room);
		assert_true(r >= -133);
		r = kvm_vm_ioctl(f.vm, request, (uintptr_t)room);
		assert_true(r >= -133);
		r = kvm_vcpu_ioctl(vcpu, request, (uintptr_t)room);
		assert_true(r >= -133);
		if (i % 16 == 0) {
			r = vcpu_call(vcpu, KVM_RUN, NULL);
			assert_true(r >= -133);
			f.signal = false;
		}
	}
}

static void vcpus_have_numbers(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MAX_VCPU_ID, .args = {10}};

	(void)state;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	(void)fake_vcpu(&f, 3);
	assert_int_equal(kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 3), -EEXIST);
	assert_int_equal(kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 10), -EINVAL);
	assert_int_equal(kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 4096), -EINVAL);
	for (uint32_t i = 4; i < 10; i++) {
		(void)fake_vcpu(&f, i);
	}
	(void)fake_vcpu(&f, 0);
	assert_int_equal(kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 1), -EINVAL); /* the ninth */
	assert_int_equal(vm_call(&f, KVM_SET_BOOT_CPU_ID, NULL), -EBUSY);
	assert_int_equal(vm_call(&f, KVM_SET_NR_MMU_PAGES, (void *)63), -EINVAL);
	assert_int_equal(vm_call(&f, KVM_SET_NR_MMU_PAGES, (void *)64), 0);
	assert_int_equal(vm_call(&f, KVM_GET_NR_MMU_PAGES, NULL), 64);
	assert_int_equal(vm_call(&f, KVM_CREATE_IRQCHIP, NULL), -EINVAL);
}

static void nothing_is_left_when_memory_ends(void **state)
{
	(void)state;
	for (int i = 1; i < 12; i++) {
		f.fail_in = i;
		if (kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 0) >= 0) {
			assert_true(i > 5);
			break;
		}
	}
	f.fail_in = 0;
	f.no_fds = true;
	assert_int_equal(kvm_vm_ioctl(f.vm, KVM_CREATE_VCPU, 1), -EMFILE);
	assert_int_equal(kvm_vm_count(f.vm), 1);
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_CREATE_VM, 0), -EMFILE);
	f.no_fds = false;
}

static void others_are_refused(void **state)
{
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);

	(void)state;
	f.stranger = true;
	assert_int_equal(vm_call(&f, KVM_CHECK_EXTENSION, NULL), -EIO);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), -EIO);
	f.stranger = false;
	assert_ptr_equal(kvm_vcpu_mmap(vcpu, 2), f.vm->ring_page);
	assert_null(kvm_vcpu_mmap(vcpu, 3));
}

/* ---- buses ---- */

static int64_t doorbell(uint64_t addr, uint32_t len, uint32_t flags, uint64_t data, int fd)
{
	struct kvm_ioeventfd spec = {
		.addr = addr, .len = len, .flags = flags, .datamatch = data, .fd = fd};

	return vm_call(&f, KVM_IOEVENTFD, &spec);
}

static bool ring(bool pio, uint64_t addr, unsigned bytes, uint64_t value)
{
	bool done;

	f.env.ops->lock_read(&f.env, &f.vm->memory);
	done = kvm_bus_write(f.vm, pio, addr, bytes, &value);
	f.env.ops->unlock_read(&f.env, &f.vm->memory);
	return done;
}

static void doorbells_ring(void **state)
{
	(void)state;
	assert_int_equal(doorbell(0x1000, 4, 0, 0, 100), 0);
	assert_int_equal(doorbell(0x1000, 2, KVM_IOEVENTFD_FLAG_DATAMATCH, 7, 101), 0);
	assert_int_equal(doorbell(0x1000, 2, KVM_IOEVENTFD_FLAG_DATAMATCH, 8, 102), 0);
	assert_int_equal(doorbell(0x1000, 2, KVM_IOEVENTFD_FLAG_PIO, 0, 103), 0);
	assert_int_equal(doorbell(0x800, 0, 0, 0, 104), 0);
	assert_true(ring(false, 0x1000, 4, 1));
	assert_true(ring(false, 0x1000, 2, 8));
	assert_false(ring(false, 0x1000, 2, 9));
	assert_false(ring(false, 0x1000, 8, 7));
	assert_false(ring(false, 0x1001, 4, 7));
	assert_true(ring(true, 0x1000, 2, 9));
	assert_true(ring(false, 0x800, 1, 0));
	assert_int_equal(f.rings[0], 1);
	assert_int_equal(f.rings[1], 0);
	assert_int_equal(f.rings[2], 1);
	assert_int_equal(f.rings[3], 1);
	assert_int_equal(f.rings[4], 1);
	assert_int_equal(doorbell(0x1000, 4, 4, 0, 100), 0); /* deassign */
	assert_false(ring(false, 0x1000, 4, 1));
	assert_int_equal(f.event_refs[0], 0);
}

static void doorbells_are_refused(void **state)
{
	(void)state;
	assert_int_equal(doorbell(0x1000, 3, 0, 0, 100), -EINVAL);
	assert_int_equal(doorbell(0x1000, 16, 0, 0, 100), -EINVAL);
	assert_int_equal(doorbell(UINT64_MAX, 4, 0, 0, 100), -EINVAL);
	assert_int_equal(doorbell(0x1000, 4, 16, 0, 100), -EINVAL);
	assert_int_equal(doorbell(0x1000, 0, 1, 0, 100), -EINVAL);
	assert_int_equal(doorbell(0x1000, 4, 0, 0, 5), -EBADF);
	assert_int_equal(doorbell(0x1000, 4, 0, 0, 100), 0);
	assert_int_equal(doorbell(0x1000, 4, 1, 7, 101), -EEXIST);
	assert_int_equal(doorbell(0x1000, 0, 0, 0, 101), -EEXIST);
	assert_int_equal(doorbell(0x1000, 4, 4, 0, 101), -ENOENT);
	assert_int_equal(doorbell(0x1000, 2, 4, 0, 100), -ENOENT);
	assert_int_equal(f.event_refs[1], 0);
	for (uint64_t i = 1; i < 1000; i++) {
		assert_int_equal(doorbell(0x10000 + i, 1, 0, 0, 100), 0);
	}
	assert_int_equal(doorbell(0x30000, 1, 0, 0, 100), -ENOSPC);
}

static void writes_wait_in_the_ring(void **state)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = 0x2000, .size = 0x100};
	struct kvm_coalesced_mmio_ring *waiting = f.vm->ring_page;
	unsigned count = 0;

	(void)state;
	assert_int_equal(vm_call(&f, KVM_REGISTER_COALESCED_MMIO, &zone), 0);
	assert_true(ring(false, 0x20fc, 4, 0x11223344));
	assert_false(ring(false, 0x20fd, 4, 1)); /* partly outside */
	assert_false(ring(true, 0x2000, 4, 1));
	assert_int_equal(waiting->last, 1);
	assert_true(waiting->coalesced_mmio[0].phys_addr == 0x20fc);
	assert_int_equal(waiting->coalesced_mmio[0].len, 4);
	assert_memory_equal(waiting->coalesced_mmio[0].data, "\x44\x33\x22\x11", 4);
	while (ring(false, 0x2000, 1, 0)) {
		count++;
	}
	assert_int_equal(count + 1, (PAGE - 8) / 24 - 1);
	waiting->first = 5;
	assert_true(ring(false, 0x2000, 1, 0));
	waiting->last = UINT32_MAX; /* user space writes nonsense */
	assert_false(ring(false, 0x2000, 1, 0));
	waiting->last = 0;
	zone.pio = 2;
	assert_int_equal(vm_call(&f, KVM_REGISTER_COALESCED_MMIO, &zone), -EINVAL);
	zone.pio = 0;
	zone.size = 1;
	assert_int_equal(vm_call(&f, KVM_UNREGISTER_COALESCED_MMIO, &zone), 0);
	assert_false(ring(false, 0x2000, 1, 0));
}

/* ---- time ---- */

static uint64_t to_ns(uint64_t ticks, int8_t shift, uint32_t mul)
{
	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return (uint64_t)((unsigned __int128)ticks * mul >> 32);
}

static void scale_is_right(void **state)
{
	static const uint64_t hz[] = {1000000,	  10000000,   999999999,  1000000000,
				      1000000001, 2400000000, 5000000000, 39000000000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hz); i++) {
		int8_t shift;
		uint32_t mul;
		uint64_t ns;

		kvm_clock_scale(1000000000, hz[i], &shift, &mul);
		ns = to_ns(hz[i], shift, mul);
		assert_in_range(ns, 999999000, 1000000000);
	}
}

static void clock_page_is_written(void **state)
{
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);
	struct {
		uint32_t version, pad;
		uint64_t tsc, ns;
		uint32_t mul;
		int8_t shift;
		uint8_t flags;
	} *page = (void *)(ram + 0x100);

	(void)state;
	memset(ram, 0, sizeof(ram));
	assert_int_equal(fake_slot(&f, 0, 0, 0, sizeof(ram), ram), 0);
	f.now_ns += 777;
	f.tsc += 777;
	assert_int_equal(vcpu_call(vcpu, KVM_KVMCLOCK_CTRL, NULL), -EINVAL);
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0x101, false), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(page->version % 2, 0);
	assert_int_not_equal(page->version, 0);
	assert_int_equal(page->ns, 777);
	assert_int_equal(page->tsc, kvm_vcpu_guest_tsc(vcpu));
	assert_int_equal(page->flags, 1);
	assert_in_range(to_ns(1000000000, page->shift, page->mul), 999999990, 1000000000);
	assert_int_equal(vcpu_call(vcpu, KVM_KVMCLOCK_CTRL, NULL), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(page->flags, 3);
	/* Where no memory is: nothing happens. */
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0xfffff001, false), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
}

static void stolen_time_is_written(void **state)
{
	struct kvm_vcpu *vcpu = fake_vcpu(&f, 0);
	struct {
		uint64_t steal;
		uint32_t version;
	} *record = (void *)(ram + 0x200);

	(void)state;
	memset(ram, 0, sizeof(ram));
	record->steal = 1000000;
	assert_int_equal(fake_slot(&f, 0, 0, 0, sizeof(ram), ram), 0);
	f.steal_ns = 12345;
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_STEAL_TIME, 0x203, false), -EINVAL);
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_STEAL_TIME, 0x201, false), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(record->steal, 1012345);
	assert_int_equal(record->version, 2);
	/* Only when the surroundings say so. */
	f.steal_ns += 5;
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(record->version, 2);
	kvm_vcpu_note(vcpu, KVM_REQ_STEAL);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(record->steal, 1012350);
	assert_int_equal(record->version, 4);
	/* Where no memory is, nothing happens; what was not told is told later. */
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_STEAL_TIME, 0xffffff01, false), 0);
	f.steal_ns += 5;
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_STEAL_TIME, 0x201, false), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(record->steal, 1012355);
	assert_int_equal(kvm_msr_set(vcpu, MSR_KVM_STEAL_TIME, 0x200, false), 0);
	f.steal_ns += 5;
	kvm_vcpu_note(vcpu, KVM_REQ_STEAL);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(record->steal, 1012355);
}

static void clock_can_be_set(void **state)
{
	struct kvm_clock_data data = {.clock = 5000};

	(void)state;
	assert_int_equal(vm_call(&f, KVM_SET_CLOCK, &data), 0);
	f.now_ns += 10;
	assert_int_equal(vm_call(&f, KVM_GET_CLOCK, &data), 0);
	assert_int_equal(data.clock, 5010);
	assert_int_equal(data.flags, 14);
	assert_int_equal(vm_call(&f, KVM_SET_CLOCK, &data), -EINVAL); /* flags of a get */
	data.flags = KVM_CLOCK_REALTIME;
	data.realtime = f.wall_ns - 1000;
	assert_int_equal(vm_call(&f, KVM_SET_CLOCK, &data), 0);
	assert_int_equal(vm_call(&f, KVM_GET_CLOCK, &data), 0);
	assert_int_equal(data.clock, 6010);
}

static void tscs_that_belong_together(void **state)
{
	struct kvm_vcpu *first = fake_vcpu(&f, 0);
	struct kvm_vcpu *second;
	uint64_t offset = UINT64_MAX / 2;
	struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
				       .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uintptr_t)&offset};

	(void)state;
	assert_int_equal(kvm_vcpu_guest_tsc(first), 0);
	f.tsc += 500;
	f.now_ns += 500;
	second = fake_vcpu(&f, 1);
	assert_int_equal(kvm_vcpu_guest_tsc(second), 500);
	assert_int_equal(kvm_msr_set(first, 0x10, 1000000, true), 0);
	f.tsc += 500;
	f.now_ns += 500;
	assert_int_equal(kvm_msr_set(second, 0x10, 1000000, true), 0);
	assert_true(first->tsc_offset == second->tsc_offset);
	assert_int_equal(kvm_msr_set(second, 0x10, UINT64_C(1) << 60, true), 0);
	assert_true(kvm_vcpu_guest_tsc(second) == UINT64_C(1) << 60);
	assert_int_equal(vcpu_call(first, KVM_SET_DEVICE_ATTR, &attr), 0);
	assert_true(first->tsc_offset == offset);
	attr.attr = 1;
	assert_int_equal(vcpu_call(first, KVM_HAS_DEVICE_ATTR, &attr), -ENXIO);
	assert_int_equal(vcpu_call(first, KVM_GET_TSC_KHZ, NULL), 1000000);
	assert_int_equal(vcpu_call(first, KVM_SET_TSC_KHZ, (void *)1000100), 0);
	assert_int_equal(vcpu_call(first, KVM_SET_TSC_KHZ, (void *)2000000), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(system_calls, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lists_tell_their_size, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bad_pointers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(random_structures, set_up, tear_down),
		cmocka_unit_test_setup_teardown(vcpus_have_numbers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_left_when_memory_ends, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(others_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(doorbells_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(doorbells_are_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_wait_in_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(scale_is_right, set_up, tear_down),
		cmocka_unit_test_setup_teardown(clock_page_is_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stolen_time_is_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(clock_can_be_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tscs_that_belong_together, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
