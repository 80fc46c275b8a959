/* The system ioctls: version, capabilities, lists; vCPUs, file descriptors; and what they refuse.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

static void version_is_12(void)
{
	expect_eq(kvm_ioctl(kvm_open(), KVM_GET_API_VERSION, 0), 12);
}

/* ---- capabilities ---- */

struct capability {
	int number;
	const char *name;
};

#define CAP(name)                     \
	{                             \
		KVM_CAP_##name, #name \
	}

static const struct capability memory_capabilities[] = {
	CAP(USER_MEMORY),
	CAP(DESTROY_MEMORY_REGION_WORKS),
	CAP(READONLY_MEM),
	CAP(JOIN_MEMORY_REGIONS_WORKS),
	CAP(NR_MEMSLOTS),
	CAP(SYNC_MMU),
	{0},
};

static const struct capability interrupt_capabilities[] = {
	CAP(IRQCHIP),
	CAP(SPLIT_IRQCHIP),
	CAP(IRQ_ROUTING),
	CAP(SIGNAL_MSI),
	CAP(IRQFD),
	CAP(IRQFD_RESAMPLE),
	CAP(IOEVENTFD),
	CAP(IOEVENTFD_ANY_LENGTH),
	CAP(PIT2),
	CAP(PIT_STATE2),
	CAP(USER_NMI),
	CAP(X2APIC_API),
	CAP(TSC_DEADLINE_TIMER),
	{0},
};

static const struct capability cpu_capabilities[] = {
	CAP(EXT_CPUID),
	CAP(NR_VCPUS),
	CAP(MAX_VCPUS),
	CAP(HLT),
	CAP(IMMEDIATE_EXIT),
	CAP(SET_TSS_ADDR),
	CAP(SET_IDENTITY_MAP_ADDR),
	CAP(MP_STATE),
	CAP(VCPU_EVENTS),
	CAP(DEBUGREGS),
	CAP(XSAVE),
	CAP(SET_GUEST_DEBUG),
	CAP(X86_ROBUST_SINGLESTEP),
	CAP(GET_TSC_KHZ),
	CAP(ADJUST_CLOCK),
	CAP(INTERNAL_ERROR_DATA),
	CAP(CHECK_EXTENSION_VM),
	CAP(ENABLE_CAP_VM),
	{0},
};

static void expect_capabilities(const struct capability *capability)
{
	int fd = kvm_open();

	for (; capability->name != NULL; capability++) {
		if (must(kvm_ioctl(fd, KVM_CHECK_EXTENSION, capability->number)) == 0) {
			fail("KVM_CAP_%s is not there", capability->name);
		}
	}
}

static void memory_capabilities_are_there(void)
{
	expect_capabilities(memory_capabilities);
}

static void interrupt_capabilities_are_there(void)
{
	expect_capabilities(interrupt_capabilities);
}

static void cpu_capabilities_are_there(void)
{
	expect_capabilities(cpu_capabilities);
}

static void expect_same_on_both(struct vm *vm, const struct capability *capability)
{
	for (; capability->name != NULL; capability++) {
		int system = kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, capability->number);

		if (system != vm_has(vm, capability->number)) {
			fail("KVM_CAP_%s: %d on the device, %d on the VM", capability->name, system,
			     vm_has(vm, capability->number));
		}
	}
}

static void capabilities_agree_on_both_fds(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	expect_same_on_both(&vm, memory_capabilities);
	expect_same_on_both(&vm, interrupt_capabilities);
	expect_same_on_both(&vm, cpu_capabilities);
}

static void unknown_capability_is_0(void)
{
	static const int unknown[] = {0x7fff, 100000, INT32_MAX, -1};
	struct vm vm;

	vm_create_bare(&vm);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		expect_eq(kvm_ioctl(vm.kvm_fd, KVM_CHECK_EXTENSION, unknown[i]), 0);
		expect_eq(vm_has(&vm, unknown[i]), 0);
	}
}

/* Without KVM_CAP_MAX_VCPU_ID the ids end where the number of vCPUs does. */
static int vcpu_id_limit(struct vm *vm)
{
	int limit = vm_has(vm, KVM_CAP_MAX_VCPU_ID);

	return limit != 0 ? limit : vm_has(vm, KVM_CAP_MAX_VCPUS);
}

static void limits_are_consistent(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	expect(vm_has(&vm, KVM_CAP_NR_VCPUS) >= 1);
	expect(vm_has(&vm, KVM_CAP_NR_VCPUS) <= vm_has(&vm, KVM_CAP_MAX_VCPUS));
	expect(vm_has(&vm, KVM_CAP_MAX_VCPUS) <= vcpu_id_limit(&vm));
	/* A q35 board with its ROMs, hot-plugged memory and shadow RAM needs some tens. */
	expect(vm_has(&vm, KVM_CAP_NR_MEMSLOTS) >= 32);
}

static void run_structure_has_room(void)
{
	size_t bytes = (size_t)must(kvm_ioctl(kvm_open(), KVM_GET_VCPU_MMAP_SIZE, 0));

	expect(bytes >= sizeof(struct kvm_run));
	expect_eq(bytes % PAGE, 0);
}

static void ioctls_without_argument_refuse_one(void)
{
	int fd = kvm_open();

	expect_errno(kvm_ioctl(fd, KVM_GET_API_VERSION, 1), EINVAL);
	expect_errno(kvm_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 1), EINVAL);
}

/* ---- refusals ---- */

static void unknown_vm_type_is_refused(void)
{
	expect_errno(kvm_ioctl(kvm_open(), KVM_CREATE_VM, 0x7fff), EINVAL);
}

/* Linux says EINVAL on one kind of descriptor and ENOTTY on another. */
static void expect_refused(int fd, unsigned long request, uintptr_t argument)
{
	int result = kvm_ioctl(fd, request, argument);

	if (result != -EINVAL && result != -ENOTTY) {
		fail("request 0x%lx: result %d, want EINVAL or ENOTTY", request, result);
	}
}

static void unknown_ioctls_are_refused(void)
{
	static const unsigned long unknown[] = {
		0, _IO(KVMIO, 0xfe), _IOWR(KVMIO, 0xfe, uint64_t), _IO('U', 1), _IO(0xaf, 0x80),
	};
	static uint64_t room[16];
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		expect_refused(vm.kvm_fd, unknown[i], (uintptr_t)room);
		expect_refused(vm.fd, unknown[i], (uintptr_t)room);
		expect_refused(vcpu->fd, unknown[i], (uintptr_t)room);
	}
	guest_store(vcpu, VM_FREE, 1);
}

static void ioctls_of_another_kind_are_refused(void)
{
	static uint64_t room[1024];
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	expect_refused(vm.kvm_fd, KVM_CREATE_VCPU, 1);
	expect_refused(vm.kvm_fd, KVM_RUN, 0);
	expect_refused(vm.kvm_fd, KVM_SET_USER_MEMORY_REGION, (uintptr_t)room);
	expect_refused(vm.fd, KVM_CREATE_VM, 0);
	expect_refused(vm.fd, KVM_RUN, 0);
	expect_refused(vm.fd, KVM_GET_REGS, (uintptr_t)room);
	expect_refused(vcpu->fd, KVM_CREATE_VCPU, 1);
	expect_refused(vcpu->fd, KVM_CREATE_VM, 0);
	expect_refused(vcpu->fd, KVM_CREATE_IRQCHIP, 0);
}

static void unknown_enable_cap_is_refused(void)
{
	struct kvm_enable_cap cap = {.cap = 0x7fff};
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_ENABLE_CAP, &cap), EINVAL);
}

static void enable_cap_flags_are_refused(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .flags = 1, .args = {24}};
	struct vm vm;

	vm_create_bare(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.flags = 0;
	expect_eq(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap), 0);
}

static void run_refuses_an_argument(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 1), EINVAL);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
}

/* ---- user pointers ---- */

struct pointer_ioctl {
	unsigned long request;
	const char *name;
};

#define POINTER(name)       \
	{                   \
		name, #name \
	}

static const struct pointer_ioctl system_pointers[] = {
	POINTER(KVM_GET_SUPPORTED_CPUID),
	POINTER(KVM_GET_MSR_INDEX_LIST),
	{0},
};

static const struct pointer_ioctl vm_pointers[] = {
	POINTER(KVM_SET_USER_MEMORY_REGION),
	POINTER(KVM_GET_DIRTY_LOG),
	POINTER(KVM_ENABLE_CAP),
	POINTER(KVM_IRQFD),
	POINTER(KVM_IOEVENTFD),
	POINTER(KVM_SET_GSI_ROUTING),
	POINTER(KVM_SIGNAL_MSI),
	POINTER(KVM_IRQ_LINE),
	POINTER(KVM_GET_IRQCHIP),
	POINTER(KVM_SET_IRQCHIP),
	POINTER(KVM_GET_CLOCK),
	POINTER(KVM_SET_CLOCK),
	{0},
};

static const struct pointer_ioctl get_pointers[] = {
	POINTER(KVM_GET_REGS),
	POINTER(KVM_GET_SREGS),
	POINTER(KVM_GET_FPU),
	POINTER(KVM_GET_MSRS),
	POINTER(KVM_GET_CPUID2),
	POINTER(KVM_GET_LAPIC),
	POINTER(KVM_GET_MP_STATE),
	POINTER(KVM_GET_DEBUGREGS),
	POINTER(KVM_GET_VCPU_EVENTS),
	POINTER(KVM_GET_XSAVE),
	{0},
};

static const struct pointer_ioctl set_pointers[] = {
	POINTER(KVM_SET_REGS),	      POINTER(KVM_SET_SREGS),	    POINTER(KVM_SET_FPU),
	POINTER(KVM_SET_MSRS),	      POINTER(KVM_SET_CPUID2),	    POINTER(KVM_SET_LAPIC),
	POINTER(KVM_SET_MP_STATE),    POINTER(KVM_SET_DEBUGREGS),   POINTER(KVM_SET_XSAVE),
	POINTER(KVM_SET_VCPU_EVENTS), POINTER(KVM_SET_GUEST_DEBUG), {0},
};

static void expect_fault(int fd, const struct pointer_ioctl *table, const void *pointer)
{
	for (; table->name != NULL; table++) {
		int result = kvm_ioctl(fd, table->request, pointer);

		if (result != -EFAULT) {
			fail("%s: result %d, want EFAULT", table->name, result);
		}
	}
}

/* An address that is nobody's, and one that is not to be touched. */
static void expect_faults(int fd, const struct pointer_ioctl *table)
{
	void *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(none != MAP_FAILED);
	expect_fault(fd, table, none);
	expect_fault(fd, table, (void *)(uintptr_t)8);
	expect_fault(fd, table, (void *)(uintptr_t)0xffff800000001000);
}

static void bad_pointers_to_the_system(void)
{
	expect_faults(kvm_open(), system_pointers);
}

static void bad_pointers_to_a_vm(void)
{
	struct vm vm;

	vm_create(&vm, IRQCHIP_FULL);
	expect_faults(vm.fd, vm_pointers);
}

static void bad_pointers_to_a_vcpu(void)
{
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	expect_faults(vcpu->fd, get_pointers);
	expect_faults(vcpu->fd, set_pointers);
}

static void half_a_structure_changes_nothing(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_regs regs = vcpu_regs(vcpu), after;
	uint8_t *memory = vm_memory(2 * PAGE);
	struct kvm_regs *half = (void *)(memory + PAGE - sizeof(*half) / 2);

	regs.rax = ~regs.rax;
	memcpy(half, &regs, sizeof(regs));
	expect_eq(munmap(memory + PAGE, PAGE), 0);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_REGS, half), EFAULT);
	after = vcpu_regs(vcpu);
	expect_eq(after.rax, ~regs.rax);
}

static void read_only_result_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	void *memory = vm_memory(PAGE);

	expect_eq(mprotect(memory, PAGE, PROT_READ), 0);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_GET_REGS, memory), EFAULT);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_GET_SREGS, memory), EFAULT);
}

/* ---- vCPUs ---- */

static void vcpu_id_is_unique(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	must(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, 3));
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, 3), EEXIST);
	must(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, 0));
}

static void vcpu_id_has_a_limit(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, vcpu_id_limit(&vm)), EINVAL);
	expect_errno(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, UINT32_MAX), EINVAL);
	must(kvm_ioctl(vm.fd, KVM_CREATE_VCPU, vcpu_id_limit(&vm) - 1));
}

static void vcpus_have_their_own_run_structure(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm), *other = vm_add_vcpu(&vm);

	access_start_vcpu(other);
	expect(vcpu->run != other->run);
	expect_hole(vcpu, VM_HOLE);
	access_begin(vcpu, ACCESS_LOAD, VM_HOLE, 0);
	expect_mmio_read(vcpu, VM_HOLE, 8, 0x1234);
	access_begin(other, ACCESS_STORE_8, VM_HOLE + 64, 7);
	expect_mmio_write(other, VM_HOLE + 64, 8, 7);
	expect_eq(vcpu->run->mmio.phys_addr, VM_HOLE);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x1234);
}

static void run_structure_is_shared(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_run *again =
		kvm_map(vm.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);

	expect(again != MAP_FAILED);
	access_begin(vcpu, ACCESS_LOAD, VM_HOLE, 0);
	expect_exit(vcpu, KVM_EXIT_MMIO);
	expect_eq(again->exit_reason, KVM_EXIT_MMIO);
	expect_eq(again->mmio.phys_addr, VM_HOLE);
	memset(again->mmio.data, 0x77, 8);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x7777777777777777);
}

/* ---- descriptors ---- */

static void vcpu_outlives_closed_vm(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	guest_store(vcpu, VM_FREE, 1);
	expect_eq(kvm_close(vm.fd), 0);
	expect_eq(kvm_close(vm.kvm_fd), 0);
	guest_store(vcpu, VM_FREE, 2);
	guest_store(vcpu, VM_FREE + 0x100000, 3);
	expect_eq(access_word(vm.ram + VM_FREE), 2);
	expect_eq(access_word(vm.ram + VM_FREE + 0x100000), 3);
}

static void duplicate_fd_is_the_same_vcpu(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	int other = dup(vcpu->fd);
	struct kvm_regs regs;

	expect(other >= 0);
	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 5);
	expect_eq(kvm_close(vcpu->fd), 0);
	expect_eq(kvm_ioctl(other, KVM_RUN, 0), 0);
	expect_eq(vcpu->run->exit_reason, KVM_EXIT_HLT);
	expect_eq(access_word(vm.ram + VM_FREE), 5);
	expect_eq(kvm_ioctl(other, KVM_GET_REGS, &regs), 0);
	expect_eq(regs.rax, 5);
}

static void vms_come_and_go(void)
{
	for (uint64_t i = 1; i <= 6; i++) {
		struct vm vm;
		struct vcpu *vcpu = access_start(&vm);

		guest_store(vcpu, VM_FREE, i);
		expect_eq(access_word(vm.ram + VM_FREE), i);
		vm_destroy(&vm);
	}
}

/* In the child. Return: its exit status, 0 if all was as it should be, else which was not. */
static int use_from_child(struct vm *vm, struct vcpu *vcpu)
{
	static struct kvm_regs regs;
	static struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	if (kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != -EIO) {
		return 1;
	}
	if (kvm_ioctl(vm->fd, KVM_CREATE_VCPU, 1) != -EIO) {
		return 2;
	}
	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) != -EIO) {
		return 3;
	}
	if (kvm_ioctl(vcpu->fd, KVM_RUN, 0) != -EIO) {
		return 4;
	}
	if (kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap) != -EIO) {
		return 5;
	}
	return kvm_ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) == 12 ? 0 : 6;
}

static void other_process_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	int status = -1;
	pid_t child = fork();

	if (child < 0) {
		test_skip("this system has no fork(): %s", strerror(errno));
	}
	if (child == 0) {
		_exit(use_from_child(&vm, vcpu));
	}
	expect_eq(waitpid(child, &status, 0), child);
	expect_eq(status >> 8, 0);
	expect_eq(status, 0);
	guest_store(vcpu, VM_FREE, 1);
}

/* ---- lists ---- */

#define LIST_MAX 4096

/* A KVM_GET_MSR_INDEX_LIST with room for @nmsrs; its result goes to @result. */
static struct kvm_msr_list *msr_list(unsigned long request, uint32_t nmsrs, int *result)
{
	struct kvm_msr_list *list = calloc(1 + LIST_MAX, sizeof(uint32_t));

	expect(list != NULL && nmsrs <= LIST_MAX);
	list->nmsrs = nmsrs;
	*result = kvm_ioctl(kvm_open(), request, list);
	return list;
}

static void expect_list_says_its_size(unsigned long request)
{
	int result;
	struct kvm_msr_list *list = msr_list(request, 0, &result);
	uint32_t size = list->nmsrs;

	if (size == 0) {
		expect_eq(result, 0);
		return;
	}
	expect_errno(result, E2BIG);
	expect(size <= LIST_MAX);
	list = msr_list(request, size - 1, &result);
	expect_errno(result, E2BIG);
	expect_eq(list->nmsrs, size);
	list = msr_list(request, LIST_MAX, &result);
	expect_eq(result, 0);
	expect_eq(list->nmsrs, size);
	expect_eq(list->indices[size], 0);
	list = msr_list(request, size, &result);
	expect_eq(result, 0);
	expect_eq(list->nmsrs, size);
	for (uint32_t i = 0; i < size; i++) {
		for (uint32_t j = 0; j < i; j++) {
			expect(list->indices[i] != list->indices[j]);
		}
	}
}

static void msr_list_says_its_size(void)
{
	expect_list_says_its_size(KVM_GET_MSR_INDEX_LIST);
}

static void feature_list_says_its_size(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	vm_need(&vm, KVM_CAP_GET_MSR_FEATURES, "KVM_CAP_GET_MSR_FEATURES");
	expect_list_says_its_size(KVM_GET_MSR_FEATURE_INDEX_LIST);
}

/* What a 64-bit guest keeps in MSRs, and KVM_GET_SREGS does not have. */
static void msr_list_has_what_guests_use(void)
{
	static const uint32_t wanted[] = {
		0x10,	    /* IA32_TSC */
		0x174,	    /* IA32_SYSENTER_CS */
		0x175,	    /* IA32_SYSENTER_ESP */
		0x176,	    /* IA32_SYSENTER_EIP */
		0x277,	    /* IA32_PAT */
		0xc0000081, /* IA32_STAR */
		0xc0000082, /* IA32_LSTAR */
		0xc0000083, /* CSTAR */
		0xc0000084, /* IA32_FMASK */
		0xc0000102, /* IA32_KERNEL_GS_BASE */
	};
	int result;
	struct kvm_msr_list *list = msr_list(KVM_GET_MSR_INDEX_LIST, LIST_MAX, &result);

	expect_eq(result, 0);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		uint32_t j = 0;

		while (j < list->nmsrs && list->indices[j] != wanted[i]) {
			j++;
		}
		if (j == list->nmsrs) {
			fail("MSR 0x%x is not in the list", wanted[i]);
		}
	}
}

static void listed_msrs_can_be_read(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	int result;
	struct kvm_msr_list *list = msr_list(KVM_GET_MSR_INDEX_LIST, LIST_MAX, &result);

	expect_eq(result, 0);
	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		vcpu_msr(vcpu, list->indices[i]);
	}
}

/* Return: KVM_GET_SUPPORTED_CPUID's result; @nent: room for so many; then, how many. */
static int supported_cpuid(uint32_t *nent)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + (LIST_MAX + 1) * sizeof(cpuid->entries[0]));
	int result;

	expect(cpuid != NULL && *nent <= LIST_MAX);
	cpuid->nent = *nent;
	result = kvm_ioctl(kvm_open(), KVM_GET_SUPPORTED_CPUID, cpuid);
	*nent = cpuid->nent;
	free(cpuid);
	return result;
}

static void supported_cpuid_needs_room(void)
{
	uint32_t all = LIST_MAX, nent;

	expect_eq(supported_cpuid(&all), 0);
	expect(all > 1 && all < LIST_MAX);
	nent = all;
	expect_eq(supported_cpuid(&nent), 0);
	expect_eq(nent, all);
	nent = all - 1;
	expect_errno(supported_cpuid(&nent), E2BIG);
	nent = 1;
	expect_errno(supported_cpuid(&nent), E2BIG);
	nent = 0;
	expect_errno(supported_cpuid(&nent), E2BIG);
}

const struct test_case api_cases[] = {
	{"api/version_is_12", "KVM API 4.1", version_is_12},
	{"api/memory_capabilities_are_there", "KVM API 4.4", memory_capabilities_are_there},
	{"api/interrupt_capabilities_are_there", "KVM API 4.4", interrupt_capabilities_are_there},
	{"api/cpu_capabilities_are_there", "KVM API 4.4", cpu_capabilities_are_there},
	{"api/capabilities_agree_on_both_fds", "KVM API 4.4", capabilities_agree_on_both_fds},
	{"api/unknown_capability_is_0", "KVM API 4.4", unknown_capability_is_0},
	{"api/limits_are_consistent", "KVM API 4.7, 4.35", limits_are_consistent},
	{"api/run_structure_has_room", "KVM API 4.5", run_structure_has_room},
	{"api/ioctls_without_argument_refuse_one", "KVM API 4.1, 4.5",
	 ioctls_without_argument_refuse_one},
	{"api/unknown_vm_type_is_refused", "KVM API 4.2", unknown_vm_type_is_refused},
	{"api/unknown_ioctls_are_refused", "KVM API 1", unknown_ioctls_are_refused},
	{"api/ioctls_of_another_kind_are_refused", "KVM API 1, 2",
	 ioctls_of_another_kind_are_refused},
	{"api/unknown_enable_cap_is_refused", "KVM API 4.37", unknown_enable_cap_is_refused},
	{"api/enable_cap_flags_are_refused", "KVM API 4.37", enable_cap_flags_are_refused},
	{"api/run_refuses_an_argument", "KVM API 4.10", run_refuses_an_argument},
	{"api/bad_pointers_to_the_system", "KVM API 4", bad_pointers_to_the_system},
	{"api/bad_pointers_to_a_vm", "KVM API 4", bad_pointers_to_a_vm},
	{"api/bad_pointers_to_a_vcpu", "KVM API 4", bad_pointers_to_a_vcpu},
	{"api/half_a_structure_changes_nothing", "KVM API 4.12", half_a_structure_changes_nothing},
	{"api/read_only_result_is_refused", "KVM API 4.11", read_only_result_is_refused},
	{"api/vcpu_id_is_unique", "KVM API 4.7", vcpu_id_is_unique},
	{"api/vcpu_id_has_a_limit", "KVM API 4.7", vcpu_id_has_a_limit},
	{"api/vcpus_have_their_own_run_structure", "KVM API 4.10, 5",
	 vcpus_have_their_own_run_structure},
	{"api/run_structure_is_shared", "KVM API 4.5, 5", run_structure_is_shared},
	{"api/vcpu_outlives_closed_vm", "KVM API 2", vcpu_outlives_closed_vm},
	{"api/duplicate_fd_is_the_same_vcpu", "KVM API 2", duplicate_fd_is_the_same_vcpu},
	{"api/vms_come_and_go", "KVM API 2", vms_come_and_go},
	{"api/other_process_is_refused", "KVM API 2", other_process_is_refused},
	{"api/msr_list_says_its_size", "KVM API 4.3", msr_list_says_its_size},
	{"api/feature_list_says_its_size", "KVM API 4.3", feature_list_says_its_size},
	{"api/msr_list_has_what_guests_use", "KVM API 4.3", msr_list_has_what_guests_use},
	{"api/listed_msrs_can_be_read", "KVM API 4.3, 4.18", listed_msrs_can_be_read},
	{"api/supported_cpuid_needs_room", "KVM API 4.46", supported_cpuid_needs_room},
	TEST_END,
};
