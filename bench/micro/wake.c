/* Interrupts that come from outside of a vCPU: from another one, and by irqfd. */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "bench/micro/clock.h"
#include "bench/micro/guest_clock.h"
#include "bench/micro/machine.h"
#include "bench/micro/payload.h"
#include "bench/micro/row.h"

#define SAMPLES	  128
#define SETTLE_NS 1000000 /* until a vCPU is in HLT again, and its CPU idle */
#define GSI	  24

/* ipi-vcpu: what the two arrays of the routine hold. irqfd: where the sample ends. */
enum {
	ROUND_TRIP = 0,
	ONE_WAY = 1,
	WRITE_ONLY = 0,
	TO_HANDLER = 1,
};

/* A vCPU with a thread of its own, which halts and tells when it has left the guest. */
struct sleeper {
	struct machine *m;
	unsigned cpu;
	int told; /* eventfd: at the beginning, and at each interrupt */
	_Atomic int64_t when;
	struct result result;
	enum verdict verdict;
	pthread_t thread;
};

static uint32_t message_address(unsigned apic_id)
{
	return 0xfee00000U | apic_id << 12;
}

static void settle(void)
{
	struct timespec time = {.tv_nsec = SETTLE_NS};

	while (nanosleep(&time, &time) != 0 && errno == EINTR) {
	}
}

static bool tell(int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one);
}

static bool hear(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* Leaves at PORT_DONE, the first time, to say that it is ready; the second time it ends. */
static void *sleep_in_guest(void *arg)
{
	struct sleeper *s = arg;
	unsigned done = 0;

	while (done < 2) {
		int ret = ioctl(s->m->vcpu[s->cpu], KVM_RUN, 0);
		uint16_t port;

		atomic_store_explicit(&s->when, clock_ticks(), memory_order_relaxed);
		s->verdict = machine_left(s->m, s->cpu, ret, KVM_EXIT_IO, &s->result);
		port = s->verdict == MEASURED ? machine_port(s->m, s->cpu) : 0;
		done += port == PORT_DONE;
		if ((port != PORT_DONE && port != PORT_TAKEN) || !tell(s->told)) {
			break;
		}
	}
	tell(s->told);
	return NULL;
}

static enum verdict sleeper_start(struct sleeper *s, struct machine *m, unsigned cpu,
				  struct result *result)
{
	struct start start = {.routine = guest_halted};
	enum verdict verdict = machine_start(m, cpu, &start, result);

	*s = (struct sleeper){.m = m, .cpu = cpu, .told = -1};
	if (verdict != MEASURED) {
		return verdict;
	}
	machine_handler(m, VECTOR_STOP, guest_handler_stop);
	s->told = eventfd(0, EFD_CLOEXEC);
	if (s->told < 0) {
		return result_errno(result, "eventfd");
	}
	errno = pthread_create(&s->thread, NULL, sleep_in_guest, s);
	if (errno != 0) {
		close(s->told);
		s->told = -1;
		return result_errno(result, "pthread_create");
	}
	if (!hear(s->told)) {
		return result_errno(result, "read of an eventfd");
	}
	settle();
	return MEASURED;
}

/* An interrupt from outside leads it to its end. */
static enum verdict sleeper_stop(struct sleeper *s, struct result *result)
{
	struct kvm_msi stop = {.address_lo = message_address(s->cpu), .data = VECTOR_STOP};

	if (s->told < 0) {
		return MEASURED;
	}
	if (ioctl(s->m->vm, KVM_SIGNAL_MSI, &stop) <= 0 && s->verdict == MEASURED) {
		return result_errno(result, "KVM_SIGNAL_MSI");
	}
	pthread_join(s->thread, NULL);
	close(s->told);
	if (s->verdict != MEASURED) {
		return result_fail(result, "the other vCPU: %s", s->result.reason);
	}
	return MEASURED;
}

/* Runs vCPU 0 to its end. It says before each operation that the other must be in HLT. */
static enum verdict send_all(struct machine *m, unsigned samples, struct result *result)
{
	struct start start = {.routine = guest_ipi_vcpu, .samples = samples, .r12 = 1};
	enum verdict verdict = machine_start(m, 0, &start, result);

	for (unsigned i = 0; i < samples && verdict == MEASURED; i++) {
		verdict = machine_run_to_port(m, 0, PORT_SETTLE, result);
		settle();
	}
	return verdict == MEASURED ? machine_run_to_port(m, 0, PORT_DONE, result) : verdict;
}

static enum verdict ipi_vcpu(const struct row *row, struct result *result)
{
	unsigned samples = WARM_UP + SAMPLES;
	struct machine m;
	struct sleeper target = {.told = -1};
	int64_t baseline = 0;
	enum verdict verdict = machine_create(&m, MACHINE_X2APIC, 2, result);

	if (verdict == MEASURED && row->variant == ONE_WAY) {
		verdict = guest_clock_same(&m, result);
	}
	if (verdict == MEASURED) {
		machine_handler(&m, VECTOR, guest_handler_answer);
		machine_handler(&m, VECTOR_REPLY, guest_handler_x2apic);
		verdict = machine_baseline(&m, &baseline, result);
	}
	if (verdict == MEASURED) {
		verdict = sleeper_start(&target, &m, 1, result);
	}
	if (verdict == MEASURED) {
		verdict = send_all(&m, samples, result);
	}
	if (sleeper_stop(&target, result) != MEASURED) {
		return FAILED; /* its thread may still be in the guest */
	}
	if (verdict == MEASURED) {
		machine_collect(&m, row->variant, samples, baseline, result);
	}
	machine_destroy(&m);
	return verdict;
}

/* An eventfd that sends VECTOR to vCPU 0. Return: it, or -1 with the verdict set. */
static int create_irqfd(struct machine *m, enum verdict *verdict, struct result *result)
{
	_Alignas(struct kvm_irq_routing) uint8_t
		space[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)] = {0};
	struct kvm_irq_routing *table = (void *)space;
	struct kvm_irqfd irqfd = {.gsi = GSI};
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	table->nr = 1;
	table->entries[0] = (struct kvm_irq_routing_entry){
		.gsi = GSI,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = message_address(0), .data = VECTOR},
	};
	irqfd.fd = (uint32_t)fd;
	if (ioctl(m->vm, KVM_SET_GSI_ROUTING, table) != 0) {
		*verdict = result_errno(result, "KVM_SET_GSI_ROUTING");
	} else if (ioctl(m->vm, KVM_IRQFD, &irqfd) != 0) {
		*verdict = result_errno(result, "KVM_IRQFD");
	} else {
		return fd;
	}
	close(fd);
	return -1;
}

static enum verdict one_irqfd(struct machine *m, int fd, unsigned end, int64_t *ticks,
			      struct result *result)
{
	enum verdict verdict = machine_run_to_port(m, 0, PORT_DONE, result);
	int64_t begin, written, taken;
	int ret;

	if (verdict != MEASURED) {
		return verdict;
	}
	begin = clock_ticks();
	if (!tell(fd)) {
		return result_errno(result, "write to the irqfd");
	}
	written = clock_ticks();
	ret = ioctl(m->vcpu[0], KVM_RUN, 0);
	taken = clock_ticks();
	*ticks = (end == WRITE_ONLY ? written : taken) - begin;
	verdict = machine_left(m, 0, ret, KVM_EXIT_IO, result);
	if (verdict == MEASURED && machine_port(m, 0) != PORT_TAKEN) {
		return result_fail(result, "the guest did not take the interrupt at once");
	}
	return verdict;
}

/* The same thread writes and runs the vCPU. */
static enum verdict irqfd(const struct row *row, struct result *result)
{
	struct start start = {.routine = guest_open};
	int64_t baseline = clock_baseline();
	struct machine m;
	enum verdict verdict = machine_create(&m, MACHINE_X2APIC, 1, result);
	int fd = -1;

	if (verdict == MEASURED) {
		machine_handler(&m, VECTOR, guest_handler_out);
		fd = create_irqfd(&m, &verdict, result);
	}
	if (verdict == MEASURED) {
		verdict = machine_start(&m, 0, &start, result);
	}
	for (unsigned i = 0; i < WARM_UP + SAMPLES && verdict == MEASURED; i++) {
		int64_t ticks = 0;

		verdict = one_irqfd(&m, fd, row->variant, &ticks, result);
		if (verdict == MEASURED && i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	machine_destroy(&m);
	if (fd >= 0) {
		close(fd);
	}
	return verdict;
}

static enum verdict one_wake(struct sleeper *s, int fd, int64_t *ticks, struct result *result)
{
	int64_t begin = clock_ticks();

	if (!tell(fd) || !hear(s->told)) {
		return result_errno(result, "an eventfd");
	}
	*ticks = atomic_load_explicit(&s->when, memory_order_relaxed) - begin;
	settle();
	return s->verdict;
}

static enum verdict irqfd_halted(const struct row *row, struct result *result)
{
	int64_t baseline = clock_baseline();
	struct machine m;
	struct sleeper sleeper = {.told = -1};
	enum verdict verdict = machine_create(&m, MACHINE_X2APIC, 1, result);
	int fd = -1;

	(void)row;
	if (verdict == MEASURED) {
		machine_handler(&m, VECTOR, guest_handler_out);
		fd = create_irqfd(&m, &verdict, result);
	}
	if (verdict == MEASURED) {
		verdict = sleeper_start(&sleeper, &m, 0, result);
	}
	for (unsigned i = 0; i < WARM_UP + SAMPLES && verdict == MEASURED; i++) {
		int64_t ticks = 0;

		verdict = one_wake(&sleeper, fd, &ticks, result);
		if (verdict == MEASURED && i >= WARM_UP) {
			result_add(result, ticks - baseline);
		}
	}
	if (sleeper_stop(&sleeper, result) != MEASURED) {
		return FAILED; /* its thread may still be in the guest */
	}
	machine_destroy(&m);
	if (fd >= 0) {
		close(fd);
	}
	return verdict;
}

const struct row wake_rows[] = {
	{"ipi-vcpu", "from the WRMSR to ICR to the handler of another vCPU, which is in HLT",
	 "SDM vol. 3A, ICR in x2APIC Mode", ipi_vcpu, NULL, ONE_WAY},
	{"ipi-vcpu-round-trip", "the same until its answer is handled; both are in HLT meanwhile",
	 "SDM vol. 3A, ICR in x2APIC Mode", ipi_vcpu, NULL, ROUND_TRIP},
	{"irqfd-write", "write() to an irqfd; its vCPU is not in KVM_RUN", "api.rst, KVM_IRQFD",
	 irqfd, NULL, WRITE_ONLY},
	{"irqfd", "the same and the KVM_RUN that takes the interrupt, to an OUT in its handler",
	 "api.rst, KVM_IRQFD", irqfd, NULL, TO_HANDLER},
	{"irqfd-halted", "from write() to an irqfd until another thread has left HLT, by that OUT",
	 "api.rst, KVM_IRQFD", irqfd_halted, NULL, 0},
	{0},
};
