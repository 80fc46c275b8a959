/* The dirty ring: the same as the dirty log, a vCPU at a time and in order. Optional. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define BASE	UINT64_C(0x10000000)
#define PAGES	2048
#define ENTRIES 1024
#define BYTES	(ENTRIES * sizeof(struct kvm_dirty_gfn))

static int enable(struct vm *vm, uint64_t bytes)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {bytes}};

	return kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static struct kvm_dirty_gfn *map_ring(struct vcpu *vcpu)
{
	struct kvm_dirty_gfn *ring = kvm_map(BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
					     KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);

	expect(ring != MAP_FAILED);
	return ring;
}

/* A VM with a ring for each vCPU, and slot 1 logged. */
static struct vcpu *start(struct vm *vm)
{
	struct vcpu *vcpu;

	vm_create(vm, IRQCHIP_NONE);
	vm_need(vm, KVM_CAP_DIRTY_LOG_RING, "KVM_CAP_DIRTY_LOG_RING");
	expect_eq(enable(vm, BYTES), 0);
	must(vm_set_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, BASE, PAGES * PAGE,
			 vm_memory(PAGES * PAGE)));
	vcpu = vm_add_vcpu(vm);
	access_start_vcpu(vcpu);
	return vcpu;
}

static void expect_entry(const struct kvm_dirty_gfn *entry, uint64_t page)
{
	expect_eq(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE), KVM_DIRTY_GFN_F_DIRTY);
	expect_eq(entry->slot, 1);
	expect_eq(entry->offset, page);
}

static void harvest(struct kvm_dirty_gfn *entry)
{
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
}

static void writes_are_entered_in_order(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_dirty_gfn *ring = map_ring(vcpu);

	guest_store(vcpu, BASE + 9 * PAGE, 1);
	guest_store(vcpu, BASE + 3 * PAGE, 1);
	guest_store(vcpu, BASE + 9 * PAGE + 8, 1);
	guest_store(vcpu, BASE + 2000 * PAGE, 1);
	expect_entry(&ring[0], 9);
	expect_entry(&ring[1], 3);
	expect_entry(&ring[2], 2000);
	expect_eq(ring[3].flags, 0);
}

static void reset_watches_again(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_dirty_gfn *ring = map_ring(vcpu);

	guest_store(vcpu, BASE + 9 * PAGE, 1);
	guest_store(vcpu, BASE + 3 * PAGE, 1);
	harvest(&ring[0]);
	expect_eq(kvm_ioctl(vm.fd, KVM_RESET_DIRTY_RINGS, 0), 1);
	expect_eq(kvm_ioctl(vm.fd, KVM_RESET_DIRTY_RINGS, 0), 0);
	expect_eq(ring[0].flags, 0);
	guest_store(vcpu, BASE + 3 * PAGE, 2);
	guest_store(vcpu, BASE + 9 * PAGE, 2);
	expect_entry(&ring[1], 3);
	expect_entry(&ring[2], 9);
	expect_eq(ring[3].flags, 0);
}

static void each_vcpu_has_its_own(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm), *other = vm_add_vcpu(&vm);
	struct kvm_dirty_gfn *ring = map_ring(vcpu), *other_ring = map_ring(other);

	access_start_vcpu(other);
	guest_store(other, BASE + 5 * PAGE, 1);
	guest_store(vcpu, BASE + 6 * PAGE, 1);
	expect_entry(&other_ring[0], 5);
	expect_entry(&ring[0], 6);
	expect_eq(ring[1].flags | other_ring[1].flags, 0);
}

PAYLOAD(64, write_pages,
	"1: incq (%rdi); add $0x1000, %rdi; dec %rcx; jnz 1b\n"
	"hlt\n");

/* Takes all entries from @next on. @pages: the pages entered so far, which come one by one; the
 * write that filled the ring is tried again, and may be entered twice. Return: how many entries. */
static int harvest_all(struct kvm_dirty_gfn *ring, uint64_t *next, uint64_t *pages)
{
	struct kvm_dirty_gfn *entry;
	int count = 0;

	while (entry = &ring[*next % ENTRIES], (entry->flags & KVM_DIRTY_GFN_F_DIRTY) != 0) {
		bool again = count == 0 && *pages != 0 && entry->offset == *pages - 1;

		expect_entry(entry, again ? *pages - 1 : *pages);
		*pages += !again;
		(*next)++;
		count++;
		harvest(entry);
	}
	return count;
}

static void full_ring_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = start(&vm);
	struct kvm_dirty_gfn *ring = map_ring(vcpu);
	struct kvm_regs regs;
	uint64_t next = 0, pages = 0;
	int result, exits = 0;

	vcpu_start(vcpu, 64, write_pages, write_pages_end);
	regs = vcpu_regs(vcpu);
	regs.rdi = BASE;
	regs.rcx = PAGES;
	vcpu_set_regs(vcpu, &regs);
	while ((result = vcpu_run(vcpu)) == KVM_EXIT_DIRTY_RING_FULL) {
		int count = harvest_all(ring, &next, &pages);

		expect(count > 0 && count <= ENTRIES);
		expect_eq(kvm_ioctl(vm.fd, KVM_RESET_DIRTY_RINGS, 0), count);
		exits++;
	}
	expect_eq(result, KVM_EXIT_HLT);
	harvest_all(ring, &next, &pages);
	expect_eq(pages, PAGES);
	expect(exits >= 1);
}

static void ring_excludes_the_log(void)
{
	uint64_t bitmap[PAGES / 64];
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = bitmap};
	struct vm vm;

	start(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_GET_DIRTY_LOG, &log), ENXIO);
}

static void bad_sizes_are_refused(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	vm_need(&vm, KVM_CAP_DIRTY_LOG_RING, "KVM_CAP_DIRTY_LOG_RING");
	expect_errno(kvm_ioctl(vm.fd, KVM_RESET_DIRTY_RINGS, 0), EINVAL);
	expect_errno(enable(&vm, 0), EINVAL);
	expect_errno(enable(&vm, 3 * BYTES), EINVAL);
	expect_errno(enable(&vm, 16), EINVAL);
	expect_errno(enable(&vm, 2 * (uint64_t)vm_has(&vm, KVM_CAP_DIRTY_LOG_RING)), E2BIG);
	expect_eq(enable(&vm, BYTES), 0);
	expect_errno(enable(&vm, 2 * BYTES), EINVAL);
}

static void ring_comes_before_vcpus(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	vm_need(&vm, KVM_CAP_DIRTY_LOG_RING, "KVM_CAP_DIRTY_LOG_RING");
	vm_add_vcpu(&vm);
	expect_errno(enable(&vm, BYTES), EINVAL);
}

const struct test_case dirty_ring_cases[] = {
	{"dirty_ring/writes_are_entered_in_order", "KVM API 8.29", writes_are_entered_in_order},
	{"dirty_ring/reset_watches_again", "KVM API 8.29", reset_watches_again},
	{"dirty_ring/each_vcpu_has_its_own", "KVM API 8.29", each_vcpu_has_its_own},
	{"dirty_ring/full_ring_is_an_exit", "KVM API 8.29", full_ring_is_an_exit},
	{"dirty_ring/ring_excludes_the_log", "KVM API 8.29", ring_excludes_the_log},
	{"dirty_ring/bad_sizes_are_refused", "KVM API 8.29", bad_sizes_are_refused},
	{"dirty_ring/ring_comes_before_vcpus", "KVM API 8.29", ring_comes_before_vcpus},
	TEST_END,
};
