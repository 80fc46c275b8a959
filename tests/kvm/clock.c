/* kvmclock and the TSC: what a guest's time is made of. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define MSR_WALL_CLOCK	0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
#define ENABLE		1

/* struct pvclock_vcpu_time_info; Linux virt/kvm/x86/msr.rst */
struct time_info {
	uint32_t version;
	uint32_t pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad2[2];
};
_Static_assert(sizeof(struct time_info) == 32, "the guest's layout");

#define FLAG_TSC_STABLE 1
#define FLAG_PAUSED	2

/* Enables the clock at rsi, exits each time round with the TSC in rbx. */
PAYLOAD(64, use_clock,
	"	mov $0x4b564d01, %ecx; mov %esi, %eax; xor %edx, %edx; wrmsr\n"
	"1:	rdtsc; shl $32, %rdx; or %rax, %rdx; mov %rdx, %rbx; out %al, $0x10; jmp 1b");

static struct vcpu *begin(struct vm *vm, uint64_t msr_value)
{
	struct vcpu *vcpu = START(vm, 64, use_clock);
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rsi = msr_value;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

static volatile struct time_info *info(struct vm *vm)
{
	return (volatile struct time_info *)(vm->ram + VM_FREE);
}

/* What a guest makes of it; ns. */
static uint64_t time_at(const volatile struct time_info *t, uint64_t tsc)
{
	uint64_t delta = tsc - t->tsc_timestamp;

	delta = t->tsc_shift >= 0 ? delta << t->tsc_shift : delta >> -t->tsc_shift;
	return t->system_time + (uint64_t)((unsigned __int128)delta * t->tsc_to_system_mul >> 32);
}

static uint64_t guest_time(struct vcpu *vcpu)
{
	expect_exit(vcpu, KVM_EXIT_IO);
	return time_at(info(vcpu->vm), vcpu_regs(vcpu).rbx);
}

static uint64_t vm_time(struct vm *vm)
{
	struct kvm_clock_data clock = {0};

	must(kvm_ioctl(vm->fd, KVM_GET_CLOCK, &clock));
	return clock.clock;
}

static void enabled_clock_is_filled_in(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);

	expect_exit(vcpu, KVM_EXIT_IO);
	expect(info(&vm)->version != 0);
	expect_eq(info(&vm)->version & 1, 0);
	expect(info(&vm)->tsc_to_system_mul != 0);
}

static void disabled_clock_is_not_filled_in(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE);

	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(info(&vm)->version, 0);
	expect_eq(info(&vm)->tsc_to_system_mul, 0);
}

static void msr_reads_as_written(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);

	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(vcpu_msr(vcpu, MSR_SYSTEM_TIME), VM_FREE | ENABLE);
}

static void guests_time_is_the_vms(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);

	for (unsigned int i = 0; i < 5; i++) {
		uint64_t before = vm_time(&vm), now = guest_time(vcpu), after = vm_time(&vm);

		/* Both are derived from the same source, with rounding of their own. */
		if (now + 1000000 < before || now > after + 1000000) {
			fail("got %llu ns, want %llu to %llu", (unsigned long long)now,
			     (unsigned long long)before, (unsigned long long)after);
		}
	}
}

static void guests_time_never_goes_back(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);
	uint64_t last = guest_time(vcpu);

	for (unsigned int i = 0; i < 200; i++) {
		uint64_t now = guest_time(vcpu);

		expect(now >= last);
		last = now;
	}
}

static void clock_can_be_set(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);
	struct kvm_clock_data clock = {.clock = UINT64_C(1000000000000)};
	uint64_t now;

	expect_exit(vcpu, KVM_EXIT_IO);
	must(kvm_ioctl(vm.fd, KVM_SET_CLOCK, &clock));
	now = vm_time(&vm);
	expect(now >= clock.clock && now < clock.clock + UINT64_C(100000000000));
	now = guest_time(vcpu);
	expect(now + 1000000 >= clock.clock && now < clock.clock + UINT64_C(100000000000));
}

static void unknown_clock_flags_are_refused(void)
{
	struct vm vm;
	struct kvm_clock_data clock = {.clock = 1, .flags = 1u << 31};

	vm_create(&vm, IRQCHIP_NONE);
	expect_errno(kvm_ioctl(vm.fd, KVM_SET_CLOCK, &clock), EINVAL);
}

static void update_makes_another_even_version(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);
	struct kvm_clock_data clock = {.clock = 5000000000};
	uint32_t version;

	expect_exit(vcpu, KVM_EXIT_IO);
	version = info(&vm)->version;
	must(kvm_ioctl(vm.fd, KVM_SET_CLOCK, &clock));
	expect_exit(vcpu, KVM_EXIT_IO);
	expect(info(&vm)->version != version);
	expect_eq(info(&vm)->version & 1, 0);
}

static void guest_is_told_that_it_was_paused(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);

	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(info(&vm)->flags & FLAG_PAUSED, 0);
	must(kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0));
	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(info(&vm)->flags & FLAG_PAUSED, FLAG_PAUSED);
}

static void pause_without_a_clock_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE);

	expect_errno(kvm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0), EINVAL);
}

static void vcpus_have_one_time(void)
{
	struct vm vm;
	struct vcpu *first = begin(&vm, VM_FREE | ENABLE), *second = vm_add_vcpu(&vm);
	struct kvm_regs regs;
	uint64_t last = 0;

	vcpu_start(second, 64, use_clock, use_clock_end);
	regs = vcpu_regs(second);
	regs.rsi = (VM_FREE + 64) | ENABLE;
	vcpu_set_regs(second, &regs);
	guest_time(first);
	expect_exit(second, KVM_EXIT_IO);
	if ((info(&vm)->flags & FLAG_TSC_STABLE) == 0) {
		test_skip("the host's TSC is no stable clock");
	}
	for (unsigned int i = 0; i < 50; i++) {
		uint64_t now = guest_time(first);

		expect(now >= last);
		last = now;
		expect_exit(second, KVM_EXIT_IO);
		now = time_at(info(&vm) + 2, vcpu_regs(second).rbx);
		expect(now >= last);
		last = now;
	}
}

PAYLOAD(64, ask_wall,
	"mov $0x4b564d00, %ecx; mov $0x20000, %eax; xor %edx, %edx; wrmsr\n"
	"out %al, $0x10");

static void wall_clock_is_filled_in(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	const volatile uint32_t *wall; /* version, seconds, nanoseconds */

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	vcpu_start(vcpu, 64, ask_wall, ask_wall_end);
	expect_exit(vcpu, KVM_EXIT_IO);
	wall = (const volatile uint32_t *)(vm.ram + VM_FREE);
	expect(wall[0] != 0 && (wall[0] & 1) == 0);
	expect(wall[1] > 1000000000); /* later than 2001 */
	expect(wall[2] < 1000000000);
}

/* ---- the TSC ---- */

static void tsc_frequency_is_known(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE | ENABLE);
	int khz = must(kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0));
	uint64_t ns;

	expect(khz > 1000);
	expect_exit(vcpu, KVM_EXIT_IO);
	/* A second of ticks is a second of kvmclock, to 1 in 1000. */
	ns = time_at(info(&vm), info(&vm)->tsc_timestamp + (uint64_t)khz * 1000) -
	     info(&vm)->system_time;
	expect(ns > 999000000 && ns < 1001000000);
}

static void own_tsc_frequency_can_be_set_again(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	int khz;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	khz = must(kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0));
	must(kvm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz));
	expect_eq(must(kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0)), khz);
}

static void tsc_offset_moves_the_tsc(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE);
	uint64_t offset = 0, before, after;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	if (kvm_ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr) != 0) {
		test_skip("the provider has no KVM_VCPU_TSC_OFFSET");
	}
	must(kvm_ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr));
	expect_exit(vcpu, KVM_EXIT_IO);
	before = vcpu_regs(vcpu).rbx;
	offset += UINT64_C(1) << 50;
	must(kvm_ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr));
	expect_exit(vcpu, KVM_EXIT_IO);
	after = vcpu_regs(vcpu).rbx;
	expect(after - before >= UINT64_C(1) << 50 && after - before < UINT64_C(2) << 50);
}

static void new_vcpus_tsc_starts_near_zero(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, VM_FREE);
	int khz = must(kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0));

	expect_exit(vcpu, KVM_EXIT_IO);
	expect(vcpu_regs(vcpu).rbx / 1000 < (uint64_t)khz * 100);
}

const struct test_case clock_cases[] = {
	{"clock/enabled_clock_is_filled_in", "Linux virt/kvm/x86/msr.rst",
	 enabled_clock_is_filled_in},
	{"clock/disabled_clock_is_not_filled_in", "Linux virt/kvm/x86/msr.rst",
	 disabled_clock_is_not_filled_in},
	{"clock/msr_reads_as_written", "Linux virt/kvm/x86/msr.rst", msr_reads_as_written},
	{"clock/guests_time_is_the_vms", "KVM API 4.29", guests_time_is_the_vms},
	{"clock/guests_time_never_goes_back", "Linux virt/kvm/x86/timekeeping.rst",
	 guests_time_never_goes_back},
	{"clock/clock_can_be_set", "KVM API 4.30", clock_can_be_set},
	{"clock/unknown_clock_flags_are_refused", "KVM API 4.30", unknown_clock_flags_are_refused},
	{"clock/update_makes_another_even_version", "Linux virt/kvm/x86/msr.rst",
	 update_makes_another_even_version},
	{"clock/guest_is_told_that_it_was_paused", "KVM API 4.70",
	 guest_is_told_that_it_was_paused},
	{"clock/pause_without_a_clock_is_refused", "KVM API 4.70",
	 pause_without_a_clock_is_refused},
	{"clock/vcpus_have_one_time", "Linux virt/kvm/x86/timekeeping.rst", vcpus_have_one_time},
	{"clock/wall_clock_is_filled_in", "Linux virt/kvm/x86/msr.rst", wall_clock_is_filled_in},
	{"clock/tsc_frequency_is_known", "KVM API 4.56", tsc_frequency_is_known},
	{"clock/own_tsc_frequency_can_be_set_again", "KVM API 4.55",
	 own_tsc_frequency_can_be_set_again},
	{"clock/tsc_offset_moves_the_tsc", "Linux virt/kvm/devices/vcpu.rst, 4.1",
	 tsc_offset_moves_the_tsc},
	{"clock/new_vcpus_tsc_starts_near_zero", "Intel SDM vol. 3A, table 10-1",
	 new_vcpus_tsc_starts_near_zero},
	TEST_END,
};
