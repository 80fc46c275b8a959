/* Writes that signal an eventfd instead of ending KVM_RUN. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define PIO   KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define PORT  0x170

static int new_event(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	expect(fd >= 0);
	return fd;
}

/* How often it has been signalled since the last time. */
static uint64_t signals(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) != sizeof(count)) {
		expect_eq(errno, EAGAIN);
		return 0;
	}
	return count;
}

static int assign(struct vm *vm, int fd, uint64_t address, uint32_t bytes, uint32_t flags,
		  uint64_t match)
{
	struct kvm_ioeventfd it = {
		.datamatch = match, .addr = address, .len = bytes, .fd = fd, .flags = flags};

	vm_need(vm, KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD");
	return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &it);
}

static int deassign(struct vm *vm, int fd, uint64_t address, uint32_t bytes, uint32_t flags,
		    uint64_t match)
{
	return assign(vm, fd, address, bytes, flags | KVM_IOEVENTFD_FLAG_DEASSIGN, match);
}

PAYLOAD(64, doorbells,
	"mov $0xd0000000, %ebx; mov $7, %eax; mov %al, (%rbx); mov %ax, (%rbx);"
	"mov %eax, (%rbx); mov %rax, (%rbx); mov %al, 1(%rbx); hlt");

/* Of the five writes all but the one of this width to this address are exits. */
static void only_width(uint32_t bytes)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, doorbells);
	int fd = new_event();

	must(assign(&vm, fd, VM_HOLE, bytes, 0, 0));
	for (uint32_t width = 1; width <= 8; width *= 2) {
		if (width != bytes) {
			expect_mmio_write(vcpu, VM_HOLE, width, 7);
		}
	}
	expect_mmio_write(vcpu, VM_HOLE + 1, 1, 7);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(signals(fd), 1);
}

static void mmio_1(void)
{
	only_width(1);
}

static void mmio_2(void)
{
	only_width(2);
}

static void mmio_4(void)
{
	only_width(4);
}

static void mmio_8(void)
{
	only_width(8);
}

static void mmio_any_width(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, doorbells);
	int fd = new_event();

	vm_need(&vm, KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH");
	must(assign(&vm, fd, VM_HOLE, 0, 0, 0));
	expect_mmio_write(vcpu, VM_HOLE + 1, 1, 7);
	expect_eq(signals(fd), 4);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

PAYLOAD(64, outs,
	"mov $0x170, %edx; mov $7, %eax; out %al, %dx; out %ax, %dx; out %eax, %dx;"
	"mov $0x172, %dx; out %ax, %dx; mov $0x170, %dx; in %dx, %al; hlt");

static void ports(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, outs);
	int one = new_event(), two = new_event();

	must(assign(&vm, one, PORT, 1, PIO, 0));
	must(assign(&vm, two, PORT, 2, PIO, 0));
	expect_out(vcpu, PORT, 4, 7);
	expect_out(vcpu, 0x172, 2, 7);
	expect_in(vcpu, PORT, 1, 0); /* reads never signal */
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(signals(one), 1);
	expect_eq(signals(two), 1);
}

static void ports_any_width(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, outs);
	int fd = new_event();

	vm_need(&vm, KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH");
	must(assign(&vm, fd, PORT, 0, PIO, 0));
	expect_out(vcpu, 0x172, 2, 7);
	expect_eq(signals(fd), 3);
}

static void ports_and_memory_are_apart(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, outs);
	int fd = new_event();

	must(assign(&vm, fd, PORT, 1, 0, 0));
	expect_out(vcpu, PORT, 1, 7);
	expect_eq(signals(fd), 0);
}

PAYLOAD(64, data,
	"mov $0xd0000000, %ebx; movl $7, (%rbx); movl $8, (%rbx); movl $0x107, (%rbx);"
	"movl $7, (%rbx); hlt");

static void data_must_match(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, data);
	int fd = new_event();

	must(assign(&vm, fd, VM_HOLE, 4, MATCH, 7));
	expect_mmio_write(vcpu, VM_HOLE, 4, 8);
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x107);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(signals(fd), 2);
}

static void data_choose_the_event(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, data);
	int seven = new_event(), eight = new_event();

	must(assign(&vm, seven, VM_HOLE, 4, MATCH, 7));
	must(assign(&vm, eight, VM_HOLE, 4, MATCH, 8));
	expect_mmio_write(vcpu, VM_HOLE, 4, 0x107);
	expect_eq(signals(seven), 1);
	expect_eq(signals(eight), 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(signals(seven), 1);
	expect_eq(signals(eight), 0);
}

PAYLOAD(64, wide_data,
	"mov $0xd0000000, %ebx; movabs $0x1122334455667788, %rax; mov %rax, (%rbx);"
	"mov %eax, %eax; mov %rax, (%rbx); hlt");

static void data_match_8_bytes(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, wide_data);
	int fd = new_event();

	must(assign(&vm, fd, VM_HOLE, 8, MATCH, 0x1122334455667788));
	expect_mmio_write(vcpu, VM_HOLE, 8, 0x55667788);
	expect_eq(signals(fd), 1);
}

static void deassigned_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, data);
	int fd = new_event();

	must(assign(&vm, fd, VM_HOLE, 4, 0, 0));
	must(deassign(&vm, fd, VM_HOLE, 4, 0, 0));
	expect_mmio_write(vcpu, VM_HOLE, 4, 7);
	expect_eq(signals(fd), 0);
}

static void deassign_names_the_same(void)
{
	struct vm vm;
	int fd = new_event(), other = new_event();

	vm_create(&vm, IRQCHIP_NONE);
	must(assign(&vm, fd, VM_HOLE, 4, MATCH, 7));
	expect_errno(deassign(&vm, other, VM_HOLE, 4, MATCH, 7), ENOENT);
	expect_errno(deassign(&vm, fd, VM_HOLE + 4, 4, MATCH, 7), ENOENT);
	expect_errno(deassign(&vm, fd, VM_HOLE, 2, MATCH, 7), ENOENT);
	expect_errno(deassign(&vm, fd, VM_HOLE, 4, MATCH, 8), ENOENT);
	expect_errno(deassign(&vm, fd, VM_HOLE, 4, 0, 7), ENOENT);
	expect_errno(deassign(&vm, fd, VM_HOLE, 4, MATCH | PIO, 7), ENOENT);
	must(deassign(&vm, fd, VM_HOLE, 4, MATCH, 7));
	expect_errno(deassign(&vm, fd, VM_HOLE, 4, MATCH, 7), ENOENT);
}

static void ambiguous_is_refused(void)
{
	struct vm vm;
	int fd = new_event(), other = new_event();

	vm_create(&vm, IRQCHIP_NONE);
	must(assign(&vm, fd, VM_HOLE, 4, MATCH, 7));
	expect_errno(assign(&vm, other, VM_HOLE, 4, MATCH, 7), EEXIST);
	expect_errno(assign(&vm, other, VM_HOLE, 4, 0, 0), EEXIST);
	must(assign(&vm, other, VM_HOLE, 2, 0, 0));
	must(assign(&vm, other, VM_HOLE, 4, PIO | MATCH, 7));
}

static void any_width_stands_alone(void)
{
	struct vm vm;
	int fd = new_event();

	vm_create(&vm, IRQCHIP_NONE);
	vm_need(&vm, KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH");
	must(assign(&vm, fd, VM_HOLE, 0, 0, 0));
	expect_errno(assign(&vm, fd, VM_HOLE, 4, 0, 0), EEXIST);
	must(deassign(&vm, fd, VM_HOLE, 0, 0, 0));
	must(assign(&vm, fd, VM_HOLE, 4, 0, 0));
	expect_errno(assign(&vm, fd, VM_HOLE, 0, 0, 0), EEXIST);
}

static void wrong_arguments(void)
{
	struct vm vm;
	int fd = new_event(), pipes[2];

	vm_create(&vm, IRQCHIP_NONE);
	expect_eq(pipe(pipes), 0);
	expect_errno(assign(&vm, fd, VM_HOLE, 3, 0, 0), EINVAL);
	expect_errno(assign(&vm, fd, VM_HOLE, 16, 0, 0), EINVAL);
	expect_errno(assign(&vm, fd, VM_HOLE, 4, 1u << 31, 0), EINVAL);
	expect_errno(assign(&vm, fd, UINT64_MAX - 1, 4, 0, 0), EINVAL);
	expect_errno(assign(&vm, fd, VM_HOLE, 0, MATCH, 7), EINVAL);
	expect_errno(assign(&vm, -1, VM_HOLE, 4, 0, 0), EBADF);
	expect_errno(assign(&vm, pipes[0], VM_HOLE, 4, 0, 0), EINVAL);
}

/* The VM keeps the event; the descriptor is the caller's. */
static void descriptor_may_be_closed(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, data);
	int fd = new_event(), twin = dup(fd);

	must(assign(&vm, fd, VM_HOLE, 4, MATCH, 7));
	expect_eq(close(fd), 0);
	expect_mmio_write(vcpu, VM_HOLE, 4, 8);
	expect_eq(signals(twin), 1);
}

PAYLOAD(64, ringing,
	"mov $0xd0000000, %ebx; mov $1000, %ecx; ringing_next: mov %ecx, (%rbx);"
	"dec %ecx; jnz ringing_next; hlt");

static void *ring(void *vcpu)
{
	expect_exit((struct vcpu *)vcpu, KVM_EXIT_HLT);
	return NULL;
}

static void from_several_vcpus(void)
{
	struct vm vm;
	int fd = new_event();

	vm_create(&vm, IRQCHIP_NONE);
	must(assign(&vm, fd, VM_HOLE, 4, 0, 0));
	for (unsigned int i = 0; i < 3; i++) {
		vcpu_start(vm_add_vcpu(&vm), 64, ringing, ringing_end);
	}
	for (unsigned int i = 0; i < 3; i++) {
		vcpu_in_thread(vm.vcpus[i], ring);
	}
	for (unsigned int i = 0; i < 3; i++) {
		vcpu_join(vm.vcpus[i]);
	}
	expect_eq(signals(fd), 3000);
}

#define SPEC "KVM API 4.59"

const struct test_case ioeventfd_cases[] = {
	{"ioeventfd/mmio_1", SPEC, mmio_1},
	{"ioeventfd/mmio_2", SPEC, mmio_2},
	{"ioeventfd/mmio_4", SPEC, mmio_4},
	{"ioeventfd/mmio_8", SPEC, mmio_8},
	{"ioeventfd/mmio_any_width", SPEC, mmio_any_width},
	{"ioeventfd/ports", SPEC, ports},
	{"ioeventfd/ports_any_width", SPEC, ports_any_width},
	{"ioeventfd/ports_and_memory_are_apart", SPEC, ports_and_memory_are_apart},
	{"ioeventfd/data_must_match", SPEC, data_must_match},
	{"ioeventfd/data_choose_the_event", SPEC, data_choose_the_event},
	{"ioeventfd/data_match_8_bytes", SPEC, data_match_8_bytes},
	{"ioeventfd/deassigned_is_an_exit", SPEC, deassigned_is_an_exit},
	{"ioeventfd/deassign_names_the_same", SPEC, deassign_names_the_same},
	{"ioeventfd/ambiguous_is_refused", SPEC, ambiguous_is_refused},
	{"ioeventfd/any_width_stands_alone", SPEC, any_width_stands_alone},
	{"ioeventfd/wrong_arguments", SPEC, wrong_arguments},
	{"ioeventfd/descriptor_may_be_closed", SPEC, descriptor_may_be_closed},
	{"ioeventfd/from_several_vcpus", SPEC, from_several_vcpus},
	TEST_END,
};
