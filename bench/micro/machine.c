#include "bench/micro/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/micro/payload.h"

#define PML4	    0x1000
#define PDPT	    0x2000
#define PD	    0x3000 /* four of them */
#define GDT	    0x8000
#define TSS	    0x8800
#define IDT	    0x9000
#define PAYLOAD	    0x10000
#define SHARED	    0x20000
#define STACK	    0x30000 /* of vCPU 0: down from here; the next has the 16 KiB below */
#define STACK_BYTES 0x4000
#define SAMPLES	    0x40000
#define ARRAY	    (SAMPLES_MAX * 8)

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x18

#define CPUID_MAX	 256
#define CPUID_1_DEADLINE (1U << 24) /* of ECX */
#define APIC_BASE_X2APIC 0x400
#define IOAPIC_PINS	 24

/* Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging" */
#define PTE_PRESENT_WRITE 0x3ULL
#define PTE_PAGE	  0x80ULL

static void put64(struct machine *m, uint64_t gpa, uint64_t value)
{
	memcpy(m->ram + gpa, &value, sizeof(value));
}

static void fill_ram(struct machine *m)
{
	put64(m, PML4, PDPT | PTE_PRESENT_WRITE);
	for (unsigned gib = 0; gib < 4; gib++) {
		put64(m, PDPT + 8 * gib, (PD + 0x1000 * gib) | PTE_PRESENT_WRITE);
	}
	for (uint64_t page = 0; page < 4 * 512; page++) {
		put64(m, PD + 8 * page, page << 21 | PTE_PAGE | PTE_PRESENT_WRITE);
	}
	put64(m, GDT + SELECTOR_CODE, 0x00af9b000000ffff);
	put64(m, GDT + SELECTOR_DATA, 0x00cf93000000ffff);
	put64(m, GDT + SELECTOR_TSS, 0x00008b0000000067 | (uint64_t)TSS << 16);
	memcpy(m->ram + PAYLOAD, payload_start, (size_t)(payload_end - payload_start));
}

static uint64_t guest_address(const uint8_t *routine)
{
	return PAYLOAD + (uint64_t)(routine - payload_start);
}

/* Spec: Intel SDM vol. 3A, "64-Bit Mode IDT" */
void machine_handler(struct machine *m, uint8_t vector, const uint8_t *handler)
{
	uint64_t at = guest_address(handler);

	put64(m, IDT + 16 * vector,
	      (at & 0xffff) | SELECTOR_CODE << 16 | 0x8e00ULL << 32 | (at >> 16 & 0xffff) << 48);
	put64(m, IDT + 16 * vector + 8, at >> 32);
}

int machine_add_slot(int vm, unsigned slot, uint64_t gpa, void *memory, size_t bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = (uintptr_t)memory,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

int machine_irqchip(int kvm, int vm)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS}};

	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP) > 0) {
		return ioctl(vm, KVM_ENABLE_CAP, &split);
	}
	return ioctl(vm, KVM_CREATE_IRQCHIP, 0);
}

static enum verdict create_vm(struct machine *m, enum machine_kind kind, struct result *result)
{
	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm < 0) {
		return result_errno(result, "/dev/kvm");
	}
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	if (m->vm < 0) {
		return result_errno(result, "KVM_CREATE_VM");
	}
	if (kind != MACHINE_PLAIN && machine_irqchip(m->kvm, m->vm) != 0) {
		return result_errno(result, "KVM_CREATE_IRQCHIP");
	}
	m->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->ram == MAP_FAILED) {
		m->ram = NULL;
		return result_errno(result, "mmap");
	}
	fill_ram(m);
	if (machine_add_slot(m->vm, 0, 0, m->ram, RAM_BYTES) != 0) {
		return result_errno(result, "KVM_SET_USER_MEMORY_REGION");
	}
	return MEASURED;
}

static enum verdict set_cpuid(struct machine *m, unsigned cpu, enum machine_kind kind,
			      struct result *result)
{
	_Alignas(struct kvm_cpuid2)
		uint8_t space[sizeof(struct kvm_cpuid2) +
			      CPUID_MAX * sizeof(struct kvm_cpuid_entry2)] = {0};
	struct kvm_cpuid2 *table = (void *)space;

	table->nent = CPUID_MAX;
	if (ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, table) != 0) {
		return result_errno(result, "KVM_GET_SUPPORTED_CPUID");
	}
	/* Never in the table, since it takes a local APIC: api.rst, KVM_GET_SUPPORTED_CPUID. */
	if (kind != MACHINE_PLAIN &&
	    ioctl(m->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0) {
		for (unsigned i = 0; i < table->nent; i++) {
			if (table->entries[i].function == 1) {
				table->entries[i].ecx |= CPUID_1_DEADLINE;
			}
		}
	}
	if (ioctl(m->vcpu[cpu], KVM_SET_CPUID2, table) != 0) {
		return result_errno(result, "KVM_SET_CPUID2");
	}
	return MEASURED;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = type == 11,
		.db = type != 11,
	};
}

/* Spec: Intel SDM vol. 3A, "Initializing IA-32e Mode" */
static enum verdict set_sregs(struct machine *m, unsigned cpu, enum machine_kind kind,
			      struct result *result)
{
	struct kvm_segment data = segment(SELECTOR_DATA, 3);
	struct kvm_sregs sregs;

	if (ioctl(m->vcpu[cpu], KVM_GET_SREGS, &sregs) != 0) {
		return result_errno(result, "KVM_GET_SREGS");
	}
	sregs.cs = segment(SELECTOR_CODE, 11);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = (struct kvm_segment){
		.base = TSS, .limit = 0x67, .selector = SELECTOR_TSS, .type = 11, .present = 1};
	sregs.ldt = (struct kvm_segment){.unusable = 1};
	sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = 0x27};
	sregs.idt = (struct kvm_dtable){.base = IDT, .limit = 0xfff};
	sregs.cr0 = 0x80000031; /* PG, NE, ET, PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LMA, LME */
	if (kind == MACHINE_X2APIC) {
		sregs.apic_base |= APIC_BASE_X2APIC;
	}
	if (ioctl(m->vcpu[cpu], KVM_SET_SREGS, &sregs) != 0) {
		return result_errno(result, "KVM_SET_SREGS");
	}
	return MEASURED;
}

static enum verdict create_vcpu(struct machine *m, unsigned cpu, enum machine_kind kind,
				struct result *result)
{
	struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
	int fd = ioctl(m->vm, KVM_CREATE_VCPU, cpu);
	enum verdict verdict;

	if (fd < 0) {
		return result_errno(result, "KVM_CREATE_VCPU");
	}
	m->vcpu[cpu] = fd;
	m->cpus = cpu + 1;
	m->run[cpu] = mmap(NULL, m->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->run[cpu] == MAP_FAILED) {
		m->run[cpu] = NULL;
		return result_errno(result, "mmap of a vCPU");
	}
	verdict = set_cpuid(m, cpu, kind, result);
	if (verdict == MEASURED) {
		verdict = set_sregs(m, cpu, kind, result);
	}
	/* A second vCPU would wait for INIT and SIPI. */
	if (verdict == MEASURED && cpu > 0 && ioctl(fd, KVM_SET_MP_STATE, &runnable) != 0) {
		return result_errno(result, "KVM_SET_MP_STATE");
	}
	return verdict;
}

enum verdict machine_create(struct machine *m, enum machine_kind kind, unsigned cpus,
			    struct result *result)
{
	enum verdict verdict;
	int bytes;

	*m = (struct machine){.kvm = -1, .vm = -1};
	verdict = create_vm(m, kind, result);
	if (verdict != MEASURED) {
		return verdict;
	}
	bytes = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (bytes < (int)sizeof(struct kvm_run)) {
		return result_fail(result, "KVM_GET_VCPU_MMAP_SIZE: %d bytes", bytes);
	}
	m->run_bytes = (size_t)bytes;
	for (unsigned cpu = 0; cpu < cpus && verdict == MEASURED; cpu++) {
		verdict = create_vcpu(m, cpu, kind, result);
	}
	return verdict;
}

void machine_destroy(struct machine *m)
{
	for (unsigned cpu = 0; cpu < m->cpus; cpu++) {
		if (m->run[cpu] != NULL) {
			munmap(m->run[cpu], m->run_bytes);
		}
		close(m->vcpu[cpu]);
	}
	if (m->vm >= 0) {
		close(m->vm);
	}
	if (m->ram != NULL) {
		munmap(m->ram, RAM_BYTES);
	}
	if (m->kvm >= 0) {
		close(m->kvm);
	}
}

/* The access that the last KVM_RUN ended with is over only after the next: api.rst, kvm_run. */
static enum verdict complete_exit(struct machine *m, unsigned cpu, struct result *result)
{
	int ret;

	m->run[cpu]->immediate_exit = 1;
	ret = ioctl(m->vcpu[cpu], KVM_RUN, 0);
	m->run[cpu]->immediate_exit = 0;
	if (ret == 0 || errno != EINTR) {
		return result_fail(result, "KVM_RUN with immediate_exit does not give EINTR");
	}
	return MEASURED;
}

enum verdict machine_start(struct machine *m, unsigned cpu, const struct start *start,
			   struct result *result)
{
	struct kvm_regs regs = {
		.rip = guest_address(start->routine),
		.rsp = STACK - STACK_BYTES * cpu,
		.rflags = 2,
		.rdi = SAMPLES,
		.rsi = start->samples,
		.rbx = start->rbx,
		.r12 = start->r12,
		.r14 = SHARED,
		.r15 = ARRAY,
	};

	if (m->started[cpu]) {
		enum verdict verdict = complete_exit(m, cpu, result);

		if (verdict != MEASURED) {
			return verdict;
		}
	}
	m->started[cpu] = true;
	if (ioctl(m->vcpu[cpu], KVM_SET_REGS, &regs) != 0) {
		return result_errno(result, "KVM_SET_REGS");
	}
	return MEASURED;
}

enum verdict machine_left(struct machine *m, unsigned cpu, int ret, uint32_t exit_reason,
			  struct result *result)
{
	if (ret != 0) {
		return result_errno(result, "KVM_RUN");
	}
	if (m->run[cpu]->exit_reason != exit_reason) {
		return result_fail(result, "KVM_RUN ended with exit reason %u instead of %u",
				   m->run[cpu]->exit_reason, exit_reason);
	}
	return MEASURED;
}

enum verdict machine_run(struct machine *m, unsigned cpu, uint32_t exit_reason,
			 struct result *result)
{
	int ret;

	do {
		ret = ioctl(m->vcpu[cpu], KVM_RUN, 0);
	} while (ret != 0 && errno == EINTR);
	return machine_left(m, cpu, ret, exit_reason, result);
}

uint16_t machine_port(const struct machine *m, unsigned cpu)
{
	return m->run[cpu]->exit_reason == KVM_EXIT_IO ? m->run[cpu]->io.port : 0;
}

enum verdict machine_run_to_port(struct machine *m, unsigned cpu, uint16_t port,
				 struct result *result)
{
	enum verdict verdict = machine_run(m, cpu, KVM_EXIT_IO, result);

	if (verdict == MEASURED && machine_port(m, cpu) != port) {
		return result_fail(result, "the guest came to port %#x instead of %#x",
				   machine_port(m, cpu), port);
	}
	return verdict;
}

int64_t *machine_samples(struct machine *m, unsigned array)
{
	return (int64_t *)(void *)(m->ram + SAMPLES + ARRAY * array);
}

enum verdict machine_baseline(struct machine *m, int64_t *ticks, struct result *result)
{
	struct start nothing = {.routine = guest_nothing, .samples = WARM_UP};
	enum verdict verdict = machine_start(m, 0, &nothing, result);

	if (verdict == MEASURED) {
		verdict = machine_run_to_port(m, 0, PORT_DONE, result);
	}
	*ticks = INT64_MAX;
	for (unsigned i = 0; i < WARM_UP; i++) {
		if (machine_samples(m, 0)[i] < *ticks) {
			*ticks = machine_samples(m, 0)[i];
		}
	}
	return verdict;
}

void machine_collect(struct machine *m, unsigned array, unsigned samples, int64_t baseline,
		     struct result *result)
{
	const int64_t *ticks = machine_samples(m, array);

	for (unsigned i = WARM_UP; i < samples; i++) {
		result_add(result, ticks[i] - baseline);
	}
}
