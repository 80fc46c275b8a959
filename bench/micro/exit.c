/*
 * Exits of one vCPU that no interrupt takes part in, and the calls that lead into a guest.
 *
 * The guest is in 64-bit mode with paging. In real mode the same exits cost some 5 % less where KVM
 * has to find an instruction's length by itself: there it fetches the code without page tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/micro/clock.h"
#include "bench/micro/machine.h"
#include "bench/micro/payload.h"
#include "bench/micro/row.h"

#define SAMPLES 512

/* The guest measures. */
static enum verdict guest_measures(struct machine *m, const struct start *start,
				   struct result *result)
{
	int64_t baseline;
	enum verdict verdict = machine_baseline(m, &baseline, result);

	if (verdict == MEASURED) {
		verdict = machine_start(m, 0, start, result);
	}
	if (verdict == MEASURED) {
		verdict = machine_run_to_port(m, 0, PORT_DONE, result);
	}
	if (verdict == MEASURED) {
		machine_collect(m, 0, start->samples, baseline, result);
	}
	return verdict;
}

static enum verdict in_guest(const struct row *row, struct result *result)
{
	struct start start = {.routine = row->routine, .samples = WARM_UP + SAMPLES};
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	if (verdict == MEASURED) {
		verdict = guest_measures(&m, &start, result);
	}
	machine_destroy(&m);
	return verdict;
}

/* To an eventfd that nobody reads. @variant: the flags of struct kvm_ioeventfd. */
static enum verdict to_eventfd(const struct row *row, struct result *result)
{
	bool pio = row->variant == KVM_IOEVENTFD_FLAG_PIO;
	struct kvm_ioeventfd doorbell = {
		.addr = pio ? PORT_TEST : MMIO_GPA,
		.len = pio ? 2 : 4,
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.flags = row->variant,
	};
	struct start start = {
		.routine = row->routine, .samples = WARM_UP + SAMPLES, .rbx = doorbell.addr};
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);
	uint64_t count = 0;

	if (verdict == MEASURED && ioctl(m.vm, KVM_IOEVENTFD, &doorbell) != 0) {
		verdict = result_errno(result, "KVM_IOEVENTFD");
	}
	if (verdict == MEASURED) {
		verdict = guest_measures(&m, &start, result);
	}
	if (verdict == MEASURED && (read(doorbell.fd, &count, sizeof(count)) != sizeof(count) ||
				    count != WARM_UP + SAMPLES)) {
		verdict = result_fail(result, "the eventfd counted %llu of %u writes",
				      (unsigned long long)count, WARM_UP + SAMPLES);
	}
	machine_destroy(&m);
	close(doorbell.fd);
	return verdict;
}

/* Each KVM_RUN is one operation. @variant: the exit reason it ends with. */
static enum verdict to_user(const struct row *row, struct result *result)
{
	struct start start = {.routine = row->routine, .rbx = MMIO_GPA};
	int64_t baseline = clock_baseline();
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	if (verdict == MEASURED) {
		verdict = machine_start(&m, 0, &start, result);
	}
	for (unsigned i = 0; i < WARM_UP + SAMPLES && verdict == MEASURED; i++) {
		int64_t begin = clock_ticks();
		int ret = ioctl(m.vcpu[0], KVM_RUN, 0);
		int64_t ticks = clock_ticks() - begin;

		verdict = machine_left(&m, 0, ret, row->variant, result);
		if (verdict == MEASURED && i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	machine_destroy(&m);
	return verdict;
}

static enum verdict null_ioctl(const struct row *row, struct result *result)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int64_t baseline = clock_baseline();

	(void)row;
	if (fd < 0) {
		return result_errno(result, "/dev/kvm");
	}
	for (unsigned i = 0; i < WARM_UP + SAMPLES; i++) {
		int64_t begin = clock_ticks();
		int version = ioctl(fd, KVM_GET_API_VERSION, 0);
		int64_t ticks = clock_ticks() - begin;

		if (version != KVM_API_VERSION) {
			close(fd);
			return result_fail(result, "KVM_GET_API_VERSION: %d", version);
		}
		if (i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	close(fd);
	return MEASURED;
}

static enum verdict run_nothing(const struct row *row, struct result *result)
{
	int64_t baseline = clock_baseline();
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_PLAIN, 1, result);

	(void)row;
	if (verdict == MEASURED) {
		m.run[0]->immediate_exit = 1;
	}
	for (unsigned i = 0; i < WARM_UP + SAMPLES && verdict == MEASURED; i++) {
		int64_t begin = clock_ticks();
		int ret = ioctl(m.vcpu[0], KVM_RUN, 0);
		int64_t ticks = clock_ticks() - begin;

		if (ret == 0 || errno != EINTR) {
			verdict = result_fail(result, "KVM_RUN does not give EINTR");
		} else if (i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	machine_destroy(&m);
	return verdict;
}

const struct row exit_rows[] = {
	{"null-ioctl", "KVM_GET_API_VERSION on /dev/kvm", "api.rst, KVM_GET_API_VERSION",
	 null_ioctl, NULL, 0},
	{"run-nothing", "KVM_RUN that does not enter the guest (immediate_exit)",
	 "api.rst, struct kvm_run", run_nothing, NULL, 0},
	{"cpuid", "CPUID leaf 0 of the table that KVM_GET_SUPPORTED_CPUID gives, in guest",
	 "SDM vol. 2A, CPUID", in_guest, guest_cpuid, 0},
	{"msr-read", "RDMSR of IA32_MISC_ENABLE, in guest", "SDM vol. 2B, RDMSR", in_guest,
	 guest_msr_read, 0},
	{"msr-write", "WRMSR of IA32_MISC_ENABLE with the value it has, in guest",
	 "SDM vol. 2B, WRMSR", in_guest, guest_msr_write, 0},
	{"port-write", "KVM_RUN from one OUT of a byte to the next", "api.rst, KVM_EXIT_IO",
	 to_user, guest_out, KVM_EXIT_IO},
	{"port-read", "KVM_RUN from one IN of a byte to the next", "api.rst, KVM_EXIT_IO", to_user,
	 guest_in, KVM_EXIT_IO},
	{"mmio-write", "KVM_RUN from one MOV to memory-mapped I/O to the next, 4 bytes",
	 "api.rst, KVM_EXIT_MMIO", to_user, guest_mmio_write, KVM_EXIT_MMIO},
	{"mmio-read", "KVM_RUN from one MOV from memory-mapped I/O to the next, 4 bytes",
	 "api.rst, KVM_EXIT_MMIO", to_user, guest_mmio_read, KVM_EXIT_MMIO},
	{"port-eventfd", "OUT of 2 bytes to an eventfd that nobody reads, in guest",
	 "api.rst, KVM_IOEVENTFD", to_eventfd, guest_port_notify, KVM_IOEVENTFD_FLAG_PIO},
	{"mmio-eventfd", "MOV of 4 bytes to an eventfd that nobody reads, in guest",
	 "api.rst, KVM_IOEVENTFD", to_eventfd, guest_mmio_notify, 0},
	{"hlt-user", "KVM_RUN from one HLT to the next, without local APIC in the kernel",
	 "api.rst, KVM_EXIT_HLT", to_user, guest_hlt, KVM_EXIT_HLT},
	{0},
};
