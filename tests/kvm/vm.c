#include "tests/kvm/vm.h"

#include <cpuid.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CPUID_MAX	   256
#define CPUID_TSC_DEADLINE (1 << 24) /* leaf 1, ECX */

/* ---- VMs ---- */

void *vm_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED) {
		fail("no memory: %s", strerror(errno));
	}
	return memory;
}

int vm_set_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t bytes,
		void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)memory,
	};

	return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

int vm_has(struct vm *vm, int capability)
{
	return must(kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, capability));
}

void vm_need(struct vm *vm, int capability, const char *name)
{
	if (vm_has(vm, capability) == 0) {
		test_skip("the provider has no %s", name);
	}
}

void vm_create_bare(struct vm *vm)
{
	*vm = (struct vm){.kvm_fd = kvm_open()};
	vm->fd = must(kvm_ioctl(vm->kvm_fd, KVM_CREATE_VM, 0));
	vm->run_bytes = (size_t)must(kvm_ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0));
}

void vm_add_irqchip(struct vm *vm, enum vm_irqchip irqchip)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	vm->irqchip = irqchip;
	if (irqchip == IRQCHIP_FULL) {
		must(kvm_ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0));
	} else if (irqchip == IRQCHIP_SPLIT) {
		must(kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &split));
	}
}

void vm_create(struct vm *vm, enum vm_irqchip irqchip)
{
	vm_create_bare(vm);
	/* Intel CPUs without unrestricted guest want three pages for real mode; nobody minds. */
	must(kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000));
	vm->ram = vm_memory(VM_RAM);
	must(vm_set_slot(vm, 0, 0, 0, VM_RAM, vm->ram));
	vm_add_irqchip(vm, irqchip);
}

void vm_destroy(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		munmap(vm->vcpus[i]->run, vm->run_bytes);
		must(kvm_close(vm->vcpus[i]->fd));
		free(vm->vcpus[i]);
	}
	must(kvm_close(vm->fd));
	must(kvm_close(vm->kvm_fd));
	if (vm->ram != NULL) {
		munmap(vm->ram, VM_RAM);
	}
}

/* ---- CPUID ---- */

struct kvm_cpuid2 *vm_supported_cpuid(struct vm *vm)
{
	static union {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 room[1 + CPUID_MAX];
	} all;

	memset(&all, 0, sizeof(all));
	all.head.nent = CPUID_MAX;
	must(kvm_ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, &all));
	return &all.head;
}

struct kvm_cpuid_entry2 vm_cpuid_leaf(struct vm *vm, uint32_t leaf, uint32_t subleaf)
{
	struct kvm_cpuid2 *cpuid = vm_supported_cpuid(vm);

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		bool indexed = (entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;

		if (entry->function == leaf && (!indexed || entry->index == subleaf)) {
			return *entry;
		}
	}
	return (struct kvm_cpuid_entry2){0};
}

void vcpu_set_cpuid(struct vcpu *vcpu, struct kvm_cpuid2 *cpuid)
{
	/* KVM_GET_SUPPORTED_CPUID leaves this one to a capability (KVM API 4.46 and 4.47). */
	uint32_t deadline = vcpu->vm->irqchip != IRQCHIP_NONE &&
					    vm_has(vcpu->vm, KVM_CAP_TSC_DEADLINE_TIMER) != 0
				    ? CPUID_TSC_DEADLINE
				    : 0;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == 1) {
			entry->ebx = (entry->ebx & 0x00ffffff) | vcpu->id << 24;
			entry->ecx |= deadline;
		} else if (entry->function == 0xb || entry->function == 0x1f) {
			entry->edx = vcpu->id;
		}
	}
	must(kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid));
}

bool vm_svm_is_emulated(void)
{
	static const char brand[12] = "QEMU TCG CPU";
	uint32_t r[4];

	return __get_cpuid(0x80000002, &r[0], &r[1], &r[2], &r[3]) != 0 &&
	       memcmp(r, brand, sizeof(brand)) == 0;
}

/* ---- vCPUs ---- */

struct vcpu *vm_add_plain_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

	expect(vcpu != NULL && vm->vcpu_count < VM_VCPUS_MAX);
	vcpu->vm = vm;
	vcpu->id = vm->vcpu_count;
	vcpu->fd = must(kvm_ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->id));
	vcpu->run = kvm_map_run(vcpu->fd, vm->run_bytes);
	vm->vcpus[vm->vcpu_count++] = vcpu;
	return vcpu;
}

struct vcpu *vm_add_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = vm_add_plain_vcpu(vm);

	vcpu_set_cpuid(vcpu, vm_supported_cpuid(vm));
	return vcpu;
}

struct kvm_regs vcpu_regs(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	must(kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs));
	return regs;
}

void vcpu_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs)
{
	must(kvm_ioctl(vcpu->fd, KVM_SET_REGS, regs));
}

struct kvm_sregs vcpu_sregs(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	must(kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	return sregs;
}

void vcpu_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs)
{
	must(kvm_ioctl(vcpu->fd, KVM_SET_SREGS, sregs));
}

/* A list of one; the entry lies in what follows the head. */
union one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry room[2];
};

uint64_t vcpu_msr(struct vcpu *vcpu, uint32_t msr)
{
	union one_msr one = {.head.nmsrs = 1};

	one.head.entries[0].index = msr;
	expect_eq(must(kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &one)), 1);
	return one.head.entries[0].data;
}

int vcpu_set_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	union one_msr one = {.head.nmsrs = 1};

	one.head.entries[0].index = msr;
	one.head.entries[0].data = value;
	return must(kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &one));
}

int vcpu_run(struct vcpu *vcpu)
{
	int result = kvm_ioctl(vcpu->fd, KVM_RUN, 0);

	return result < 0 ? result : (int)vcpu->run->exit_reason;
}

void vcpu_in_thread(struct vcpu *vcpu, void *(*function)(void *vcpu))
{
	int error = pthread_create(&vcpu->thread, NULL, function, vcpu);

	if (error != 0) {
		fail("no thread: %s", strerror(error));
	}
}

void vcpu_join(struct vcpu *vcpu)
{
	expect_eq(pthread_join(vcpu->thread, NULL), 0);
}

/* ---- exits ---- */

const char *vm_exit_name(uint32_t reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "KVM_EXIT_UNKNOWN",
		[KVM_EXIT_EXCEPTION] = "KVM_EXIT_EXCEPTION",
		[KVM_EXIT_IO] = "KVM_EXIT_IO",
		[KVM_EXIT_HYPERCALL] = "KVM_EXIT_HYPERCALL",
		[KVM_EXIT_DEBUG] = "KVM_EXIT_DEBUG",
		[KVM_EXIT_HLT] = "KVM_EXIT_HLT",
		[KVM_EXIT_MMIO] = "KVM_EXIT_MMIO",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "KVM_EXIT_IRQ_WINDOW_OPEN",
		[KVM_EXIT_SHUTDOWN] = "KVM_EXIT_SHUTDOWN",
		[KVM_EXIT_FAIL_ENTRY] = "KVM_EXIT_FAIL_ENTRY",
		[KVM_EXIT_INTR] = "KVM_EXIT_INTR",
		[KVM_EXIT_SET_TPR] = "KVM_EXIT_SET_TPR",
		[KVM_EXIT_TPR_ACCESS] = "KVM_EXIT_TPR_ACCESS",
		[KVM_EXIT_NMI] = "KVM_EXIT_NMI",
		[KVM_EXIT_INTERNAL_ERROR] = "KVM_EXIT_INTERNAL_ERROR",
		[KVM_EXIT_SYSTEM_EVENT] = "KVM_EXIT_SYSTEM_EVENT",
		[KVM_EXIT_IOAPIC_EOI] = "KVM_EXIT_IOAPIC_EOI",
		[KVM_EXIT_X86_RDMSR] = "KVM_EXIT_X86_RDMSR",
		[KVM_EXIT_X86_WRMSR] = "KVM_EXIT_X86_WRMSR",
		[KVM_EXIT_DIRTY_RING_FULL] = "KVM_EXIT_DIRTY_RING_FULL",
		[KVM_EXIT_X86_BUS_LOCK] = "KVM_EXIT_X86_BUS_LOCK",
	};

	return reason < sizeof(names) / sizeof(names[0]) && names[reason] != NULL
		       ? names[reason]
		       : "an exit of another kind";
}

static _Noreturn void unexpected(const char *file, int line, struct vcpu *vcpu, int result,
				 const char *want)
{
	struct kvm_run *run = vcpu->run;
	uint64_t rip = vcpu_regs(vcpu).rip;

	if (result < 0) {
		test_fail_at(file, line, "want %s, KVM_RUN says %s at RIP 0x%" PRIx64, want,
			     strerrorname_np(-result), rip);
	}
	switch (result) {
	case KVM_EXIT_IO:
		test_fail_at(
			file, line,
			"want %s, got KVM_EXIT_IO %s port 0x%x size %u count %u at RIP 0x%" PRIx64,
			want, run->io.direction == KVM_EXIT_IO_OUT ? "out" : "in", run->io.port,
			run->io.size, run->io.count, rip);
	case KVM_EXIT_MMIO:
		test_fail_at(file, line,
			     "want %s, got KVM_EXIT_MMIO %s 0x%llx len %u at RIP 0x%" PRIx64, want,
			     run->mmio.is_write ? "write" : "read", run->mmio.phys_addr,
			     run->mmio.len, rip);
	case KVM_EXIT_INTERNAL_ERROR:
		test_fail_at(file, line,
			     "want %s, got KVM_EXIT_INTERNAL_ERROR %u at RIP 0x%" PRIx64, want,
			     run->internal.suberror, rip);
	default:
		test_fail_at(file, line, "want %s, got %s (%d) at RIP 0x%" PRIx64, want,
			     vm_exit_name((uint32_t)result), result, rip);
	}
}

void vm_expect_exit(const char *file, int line, struct vcpu *vcpu, uint32_t reason)
{
	int result = vcpu_run(vcpu);

	if (result != (int)reason) {
		unexpected(file, line, vcpu, result, vm_exit_name(reason));
	}
}

static void expect_io(const char *file, int line, struct vcpu *vcpu, uint8_t direction,
		      uint16_t port, uint8_t bytes)
{
	struct kvm_run *run = vcpu->run;
	int result = vcpu_run(vcpu);

	if (result != KVM_EXIT_IO || run->io.direction != direction || run->io.port != port ||
	    run->io.size != bytes || run->io.count != 1) {
		char want[64];

		snprintf(want, sizeof(want), "%s port 0x%x size %u count 1",
			 direction == KVM_EXIT_IO_OUT ? "out" : "in", port, bytes);
		unexpected(file, line, vcpu, result, want);
	}
}

void vm_expect_out(const char *file, int line, struct vcpu *vcpu, uint16_t port, uint8_t bytes,
		   uint32_t value)
{
	uint32_t got = 0;

	expect_io(file, line, vcpu, KVM_EXIT_IO_OUT, port, bytes);
	memcpy(&got, (char *)vcpu->run + vcpu->run->io.data_offset, bytes);
	test_expect_eq(file, line, "the value written", got, value);
}

void vm_expect_in(const char *file, int line, struct vcpu *vcpu, uint16_t port, uint8_t bytes,
		  uint32_t value)
{
	expect_io(file, line, vcpu, KVM_EXIT_IO_IN, port, bytes);
	memcpy((char *)vcpu->run + vcpu->run->io.data_offset, &value, bytes);
}

static void expect_mmio(const char *file, int line, struct vcpu *vcpu, bool write, uint64_t gpa,
			uint32_t bytes)
{
	struct kvm_run *run = vcpu->run;
	int result = vcpu_run(vcpu);

	if (result != KVM_EXIT_MMIO || run->mmio.is_write != write || run->mmio.phys_addr != gpa ||
	    run->mmio.len != bytes) {
		char want[64];

		snprintf(want, sizeof(want), "MMIO %s 0x%" PRIx64 " len %u",
			 write ? "write" : "read", gpa, bytes);
		unexpected(file, line, vcpu, result, want);
	}
}

void vm_expect_mmio_write(const char *file, int line, struct vcpu *vcpu, uint64_t gpa,
			  uint32_t bytes, uint64_t value)
{
	uint64_t got = 0;

	expect_mmio(file, line, vcpu, true, gpa, bytes);
	memcpy(&got, vcpu->run->mmio.data, bytes);
	test_expect_eq(file, line, "the value written", got, value);
}

void vm_expect_mmio_read(const char *file, int line, struct vcpu *vcpu, uint64_t gpa,
			 uint32_t bytes, uint64_t value)
{
	expect_mmio(file, line, vcpu, false, gpa, bytes);
	memcpy(vcpu->run->mmio.data, &value, bytes);
}
