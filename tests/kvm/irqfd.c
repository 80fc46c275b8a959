/* KVM_IRQFD: interrupts by eventfds. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/hand.h"

#define GSI   20
#define LEVEL 0x8000

static int make_event(unsigned int count)
{
	return must(eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void signal_event(int fd)
{
	uint64_t one = 1;

	expect_eq(write(fd, &one, sizeof(one)), sizeof(one));
}

/* Waits until it is signalled, and takes that back. */
static void await_event(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	uint64_t count;

	expect_eq(poll(&poll_fd, 1, 30000), 1);
	expect_eq(read(fd, &count, sizeof(count)), sizeof(count));
}

static int assign(struct vm *vm, int fd, uint32_t gsi, uint32_t flags, int resample_fd)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = flags,
		.resamplefd = (uint32_t)resample_fd,
	};

	return kvm_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

static void route_msi(struct vm *vm, uint32_t gsi, uint32_t vector)
{
	union {
		struct kvm_irq_routing head;
		char room[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)];
	} routes = {.head.nr = 1};

	routes.head.entries[0] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = 0xfee00000, .data = vector},
	};
	must(kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes));
}

static void eoi(struct vcpu *vcpu)
{
	hand_write32(vcpu, HAND_APIC_EOI, 0);
}

static void msi(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(0);

	route_msi(&vm, GSI, 0x45);
	must(assign(&vm, fd, GSI, 0, 0));
	for (int i = 0; i < 3; i++) {
		signal_event(fd);
		expect_irq_wakes(vcpu, 0x45);
		eoi(vcpu);
	}
}

static void pin(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);
	int fd = make_event(0);

	hand_ioapic_write(vcpu, 0x10 + 2 * GSI, 0x51);
	must(assign(&vm, fd, GSI, 0, 0));
	for (int i = 0; i < 3; i++) {
		signal_event(fd); /* up and down: an edge each time */
		expect_irq_wakes(vcpu, 0x51);
		eoi(vcpu);
	}
}

static void written_before(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(1);

	route_msi(&vm, GSI, 0x45);
	must(assign(&vm, fd, GSI, 0, 0));
	expect_irq_wakes(vcpu, 0x45);
}

static void counter_is_taken(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(0);
	uint64_t count;

	route_msi(&vm, GSI, 0x45);
	must(assign(&vm, fd, GSI, 0, 0));
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x45);
	expect(read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN);
}

static void deassigned(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(0), other = make_event(0);
	uint64_t count;

	route_msi(&vm, GSI, 0x45);
	must(assign(&vm, fd, GSI, 0, 0));
	must(assign(&vm, other, GSI, 0, 0));
	must(assign(&vm, fd, GSI, KVM_IRQFD_FLAG_DEASSIGN, 0));
	signal_event(fd);
	expect_no_irq(vcpu);
	expect_eq(read(fd, &count, sizeof(count)), sizeof(count)); /* nobody has taken it */
	signal_event(other);
	expect_irq_wakes(vcpu, 0x45);
	must(assign(&vm, fd, GSI, 0, 0)); /* and it may come again */
}

static void deassign_names_both(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(0);

	route_msi(&vm, GSI, 0x45);
	must(assign(&vm, fd, GSI, 0, 0));
	must(assign(&vm, fd, GSI + 1, KVM_IRQFD_FLAG_DEASSIGN, 0)); /* none such: no error */
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x45);
}

static void refusals(void)
{
	struct vm vm, none;
	int fd = make_event(0), pipe_fds[2];

	vm_create(&none, IRQCHIP_NONE);
	expect_errno(assign(&none, fd, GSI, 0, 0), EINVAL);
	vm_create(&vm, IRQCHIP_FULL);
	expect_errno(assign(&vm, fd, GSI, 0x80, 0), EINVAL);
	expect_errno(assign(&vm, 12345, GSI, 0, 0), EBADF);
	expect_eq(pipe(pipe_fds), 0);
	expect_errno(assign(&vm, pipe_fds[0], GSI, 0, 0), EINVAL);
	expect_errno(assign(&vm, fd, GSI, KVM_IRQFD_FLAG_RESAMPLE, 12345), EBADF);
	must(assign(&vm, fd, GSI, 0, 0));
	expect_errno(assign(&vm, fd, GSI + 1, 0, 0), EBUSY);
	expect_errno(assign(&vm, fd, GSI, 0, 0), EBUSY);
}

static void split_has_no_resample(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_SPLIT);
	expect_errno(assign(&vm, make_event(0), GSI, KVM_IRQFD_FLAG_RESAMPLE, make_event(0)),
		     EINVAL);
}

static void follows_the_routing(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_SPLIT);
	int fd = make_event(0);

	must(assign(&vm, fd, GSI, 0, 0)); /* a line that leads nowhere yet */
	route_msi(&vm, GSI, 0x45);
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x45);
	eoi(vcpu);
	route_msi(&vm, GSI, 0x46);
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x46);
	eoi(vcpu);
	route_msi(&vm, GSI + 1, 0x47);
	signal_event(fd);
	expect_no_irq(vcpu);
	route_msi(&vm, GSI, 0x48);
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x48);
}

static void many(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);
	int fds[4];

	for (uint32_t i = 0; i < 4; i++) {
		fds[i] = make_event(0);
		hand_ioapic_write(vcpu, (uint8_t)(0x10 + 2 * (16 + i)), 0x60 + i);
		must(assign(&vm, fds[i], 16 + i, 0, 0));
	}
	for (uint32_t i = 4; i-- > 0;) {
		signal_event(fds[i]);
		expect_irq_wakes(vcpu, (uint8_t)(0x60 + i));
		eoi(vcpu);
	}
}

/* ---- level: down again by itself at EOI, which the other eventfd tells ---- */

static void resample(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);
	int fd = make_event(0), back = make_event(0);
	uint64_t count;

	hand_ioapic_write(vcpu, 0x10 + 2 * GSI, LEVEL | 0x51);
	must(assign(&vm, fd, GSI, KVM_IRQFD_FLAG_RESAMPLE, back));
	for (int i = 0; i < 3; i++) {
		signal_event(fd);
		expect_irq_wakes(vcpu, 0x51);
		expect(read(back, &count, sizeof(count)) < 0 && errno == EAGAIN);
		eoi(vcpu);
		await_event(back);
		expect_no_irq(vcpu); /* the line is down */
	}
}

static void resample_shared(void)
{
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);
	int fds[2] = {make_event(0), make_event(0)}, backs[2] = {make_event(0), make_event(0)};

	hand_ioapic_write(vcpu, 0x10 + 2 * GSI, LEVEL | 0x51);
	for (int i = 0; i < 2; i++) {
		must(assign(&vm, fds[i], GSI, KVM_IRQFD_FLAG_RESAMPLE, backs[i]));
	}
	signal_event(fds[1]);
	expect_irq_wakes(vcpu, 0x51);
	eoi(vcpu);
	await_event(backs[0]); /* all who share the line are asked */
	await_event(backs[1]);
	must(assign(&vm, fds[0], GSI, KVM_IRQFD_FLAG_DEASSIGN, 0));
	signal_event(fds[1]);
	expect_irq_wakes(vcpu, 0x51);
	eoi(vcpu);
	await_event(backs[1]);
}

static void resample_and_line(void)
{
	struct kvm_irq_level line = {.irq = GSI, .level = 1};
	struct vm vm;
	struct vcpu *vcpu = hand_vm(&vm, IRQCHIP_FULL);
	int fd = make_event(0), back = make_event(0);

	hand_ioapic_write(vcpu, 0x10 + 2 * GSI, LEVEL | 0x51);
	must(assign(&vm, fd, GSI, KVM_IRQFD_FLAG_RESAMPLE, back));
	signal_event(fd);
	expect_irq_wakes(vcpu, 0x51);
	must(kvm_ioctl(vm.fd, KVM_IRQ_LINE, &line)); /* another source of the same line */
	eoi(vcpu);
	await_event(back);
	expect_irqs(vcpu, 0x51);
	line.level = 0;
	must(kvm_ioctl(vm.fd, KVM_IRQ_LINE, &line));
	eoi(vcpu);
	expect_no_irq(vcpu);
}

const struct test_case irqfd_cases[] = {
	{"irqfd/sends_an_msi", "KVM API 4.75", msi},
	{"irqfd/gives_a_pin_an_edge", "KVM API 4.75", pin},
	{"irqfd/written_before_counts", "KVM API 4.75", written_before},
	{"irqfd/takes_the_counter", "KVM API 4.75", counter_is_taken},
	{"irqfd/deassigned_is_dead", "KVM API 4.75", deassigned},
	{"irqfd/deassign_names_fd_and_line", "KVM API 4.75", deassign_names_both},
	{"irqfd/refusals", "KVM API 4.75", refusals},
	{"irqfd/split_irqchip_has_no_resample", "KVM API 4.75", split_has_no_resample},
	{"irqfd/follows_the_routing", "KVM API 4.52", follows_the_routing},
	{"irqfd/each_has_its_line", "KVM API 4.75", many},
	{"irqfd/resample_lowers_and_tells_at_eoi", "KVM API 4.75", resample},
	{"irqfd/resample_asks_all_of_a_line", "KVM API 4.75", resample_shared},
	{"irqfd/resample_lowers_its_own_source_only", "KVM API 4.75", resample_and_line},
	TEST_END,
};
