/* Writes that wait in a ring instead of ending KVM_RUN: KVM_REGISTER_COALESCED_MMIO. */
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

/* KVM_COALESCED_MMIO_MAX wants a page size of the includer's. */
#define PAGE 4096u
#define RING_MAX \
	((PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

static int zone(struct vm *vm, unsigned long request, uint64_t address, uint32_t bytes,
		uint32_t pio)
{
	struct kvm_coalesced_mmio_zone it = {.addr = address, .size = bytes, .pio = pio};

	return kvm_ioctl(vm->fd, request, &it);
}

static struct kvm_coalesced_mmio_ring *need_ring(struct vcpu *vcpu)
{
	int page = vm_has(vcpu->vm, KVM_CAP_COALESCED_MMIO);

	if (page == 0) {
		test_skip("the provider has no KVM_CAP_COALESCED_MMIO");
	}
	expect((size_t)page * PAGE + PAGE <= vcpu->vm->run_bytes);
	return (struct kvm_coalesced_mmio_ring *)((char *)vcpu->run + (size_t)page * PAGE);
}

static void expect_entry(struct kvm_coalesced_mmio_ring *ring, uint64_t address, uint32_t bytes,
			 uint64_t value)
{
	struct kvm_coalesced_mmio *entry = &ring->coalesced_mmio[ring->first];
	uint64_t got = 0;

	expect(ring->first != ring->last);
	expect_eq(entry->phys_addr, address);
	expect_eq(entry->len, bytes);
	memcpy(&got, entry->data, bytes);
	expect_eq(got, value);
	ring->first = (uint32_t)((ring->first + 1) % RING_MAX);
}

PAYLOAD(64, writes,
	"mov $0xd0000000, %ebx; movabs $0x1122334455667788, %rax; mov %rax, 8(%rbx);"
	"mov %al, (%rbx); mov %ax, 0x1e(%rbx); mov %eax, 4(%rbx); hlt");

static void writes_wait_in_order(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, writes);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, VM_HOLE, 0x20, 0));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_entry(ring, VM_HOLE + 8, 8, 0x1122334455667788);
	expect_entry(ring, VM_HOLE, 1, 0x88);
	expect_entry(ring, VM_HOLE + 0x1e, 2, 0x7788);
	expect_entry(ring, VM_HOLE + 4, 4, 0x55667788);
	expect_eq(ring->first, ring->last);
}

/* A write that is not all inside ends KVM_RUN, and comes after what waits. */
static void partly_outside_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, writes);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, VM_HOLE, 0x1f, 0));
	expect_mmio_write(vcpu, VM_HOLE + 0x1e, 2, 0x7788);
	expect_entry(ring, VM_HOLE + 8, 8, 0x1122334455667788);
	expect_entry(ring, VM_HOLE, 1, 0x88);
	expect_eq(ring->first, ring->last);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_entry(ring, VM_HOLE + 4, 4, 0x55667788);
}

PAYLOAD(64, reads, "mov $0xd0000000, %ebx; mov %ebx, (%rbx); mov (%rbx), %eax; hlt");

static void reads_are_exits(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, reads);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, VM_HOLE, 0x1000, 0));
	expect_mmio_read(vcpu, VM_HOLE, 4, 0x81828384);
	expect_entry(ring, VM_HOLE, 4, VM_HOLE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x81828384);
}

PAYLOAD(64, many, "mov $0xd0000000, %ebx; many_next: mov %ecx, (%rbx); inc %ecx; jmp many_next");

static void full_ring_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, many);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);
	uint32_t next = 0;

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, VM_HOLE, 4, 0));
	for (unsigned int round = 0; round < 2; round++) {
		uint32_t waiting = 0;

		expect_exit(vcpu, KVM_EXIT_MMIO);
		/* One place at least stays free; kernels before 6.10 use only half of them. */
		for (; ring->first != ring->last; waiting++) {
			expect_entry(ring, VM_HOLE, 4, next++);
		}
		expect(waiting >= 1 && waiting < RING_MAX);
		expect_eq(vcpu->run->mmio.data[0], (uint8_t)next++);
	}
}

static void unregistered_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, reads);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, VM_HOLE, 0x1000, 0));
	must(zone(&vm, KVM_UNREGISTER_COALESCED_MMIO, VM_HOLE, 0x1000, 0));
	expect_mmio_write(vcpu, VM_HOLE, 4, VM_HOLE);
	expect_eq(ring->first, ring->last);
}

PAYLOAD(64, ports,
	"mov $0x55667788, %eax; mov $0x170, %edx; out %al, %dx; out %eax, %dx;"
	"mov $0x174, %dx; out %ax, %dx; mov $0x171, %dx; in %dx, %al; hlt");

static void ports_wait_too(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, ports);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	vm_need(&vm, KVM_CAP_COALESCED_PIO, "KVM_CAP_COALESCED_PIO");
	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, 0x170, 4, 1));
	expect_out(vcpu, 0x174, 2, 0x7788);
	expect_eq(ring->coalesced_mmio[0].pio, 1);
	expect_entry(ring, 0x170, 1, 0x88);
	expect_entry(ring, 0x170, 4, 0x55667788);
	expect_in(vcpu, 0x171, 1, 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void ports_and_memory_are_apart(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, ports);
	struct kvm_coalesced_mmio_ring *ring = need_ring(vcpu);

	must(zone(&vm, KVM_REGISTER_COALESCED_MMIO, 0x170, 8, 0));
	expect_out(vcpu, 0x170, 1, 0x88);
	expect_eq(ring->first, ring->last);
}

static void pio_is_0_or_1(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, ports);

	need_ring(vcpu);
	vm_need(&vm, KVM_CAP_COALESCED_PIO, "KVM_CAP_COALESCED_PIO");
	expect_errno(zone(&vm, KVM_REGISTER_COALESCED_MMIO, 0x170, 4, 2), EINVAL);
	expect_errno(zone(&vm, KVM_UNREGISTER_COALESCED_MMIO, 0x170, 4, 2), EINVAL);
}

#define SPEC "KVM API 4.116"

const struct test_case coalesced_cases[] = {
	{"coalesced/writes_wait_in_order", SPEC, writes_wait_in_order},
	{"coalesced/partly_outside_is_an_exit", SPEC, partly_outside_is_an_exit},
	{"coalesced/reads_are_exits", SPEC, reads_are_exits},
	{"coalesced/full_ring_is_an_exit", SPEC, full_ring_is_an_exit},
	{"coalesced/unregistered_is_an_exit", SPEC, unregistered_is_an_exit},
	{"coalesced/ports_wait_too", SPEC, ports_wait_too},
	{"coalesced/ports_and_memory_are_apart", SPEC, ports_and_memory_are_apart},
	{"coalesced/pio_is_0_or_1", SPEC, pio_is_0_or_1},
	TEST_END,
};
