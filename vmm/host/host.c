#include "vmm/host/host.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/board/layout.h"
#include "vmm/log.h"

#define IOAPIC_PINS 24

/* What the VMM cannot do without, each with the name that a message shows. */
static const struct {
	long cap;
	const char *name;
} required[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
};

/* The one place where a request leaves for the provider. 0 or positive results, or -errno. */
static int request(const struct host_provider *provider, int fd, unsigned long number,
		   uintptr_t arg)
{
	int r = provider->ioctl(fd, number, arg);

	return r < 0 ? -errno : r;
}

static int vm_request(const struct host_vm *vm, unsigned long number, const void *arg)
{
	return request(vm->provider, vm->vm_fd, number, (uintptr_t)arg);
}

static int vcpu_request(const struct host_vcpu *vcpu, unsigned long number, const void *arg)
{
	return request(vcpu->provider, vcpu->fd, number, (uintptr_t)arg);
}

static int capability(const struct host_vm *vm, long cap)
{
	int r = request(vm->provider, vm->kvm_fd, KVM_CHECK_EXTENSION, (uintptr_t)cap);

	return r < 0 ? 0 : r;
}

static int check_provider(struct host_vm *vm)
{
	int version = request(vm->provider, vm->kvm_fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION) {
		log_error("%s answers with API version %d instead of %d; it is not usable",
			  vm->provider->name, version, KVM_API_VERSION);
		return -ENOTSUP;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(required); i++) {
		if (capability(vm, required[i].cap) <= 0) {
			log_error("%s lacks %s; a Linux kernel of version 5.10 or later "
				  "has it",
				  vm->provider->name, required[i].name);
			return -ENOTSUP;
		}
	}

	int size = request(vm->provider, vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	int max = capability(vm, KVM_CAP_MAX_VCPUS);

	if (size < (int)sizeof(struct kvm_run)) {
		log_error("%s reports a vCPU page of %d bytes; it is not usable",
			  vm->provider->name, size);
		return -ENOTSUP;
	}
	vm->run_size = (size_t)size;
	vm->max_vcpus = max > 0 ? (unsigned)max : 4; /* 4: api.rst, 4.7 */
	return 0;
}

/* The PIT must exist before the first vCPU, and needs the provider's own PIC and IOAPIC. */
static int create_full_chips(struct host_vm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int r = request(vm->provider, vm->vm_fd, KVM_CREATE_IRQCHIP, 0);

	if (r == 0) {
		r = vm_request(vm, KVM_CREATE_PIT2, &pit);
	}
	return r;
}

static int create_chips(struct host_vm *vm)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {IOAPIC_PINS}};
	struct kvm_enable_cap x2apic = {
		.cap = KVM_CAP_X2APIC_API,
		.args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK},
	};
	uint64_t identity = LAYOUT_KVM_IDENTITY;
	int r = 0;

	/* For Intel CPUs that cannot run real mode by themselves; without effect on AMD. */
	if (capability(vm, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
		r = vm_request(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	}
	if (r == 0 && capability(vm, KVM_CAP_SET_TSS_ADDR) > 0) {
		r = request(vm->provider, vm->vm_fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS);
	}
	if (r < 0) {
		log_error("%s refuses the places of its helper pages: %s", vm->provider->name,
			  strerror(-r));
		return r;
	}

	vm->split = capability(vm, KVM_CAP_SPLIT_IRQCHIP) > 0;
	r = vm->split ? vm_request(vm, KVM_ENABLE_CAP, &split) : create_full_chips(vm);
	if (r < 0) {
		log_error("%s cannot create interrupt chips: %s", vm->provider->name, strerror(-r));
		return r;
	}
	if (vm->split && capability(vm, KVM_CAP_X2APIC_API) > 0) {
		r = vm_request(vm, KVM_ENABLE_CAP, &x2apic);
		if (r < 0) {
			log_error("%s refuses 32-bit APIC IDs: %s", vm->provider->name,
				  strerror(-r));
			return r;
		}
	}
	return 0;
}

int host_open(struct host_vm *vm, const struct host_provider *provider)
{
	int r;

	*vm = (struct host_vm){.provider = provider, .kvm_fd = -1, .vm_fd = -1};
	vm->kvm_fd = provider->open();
	if (vm->kvm_fd < 0) {
		r = -errno;
		log_error("cannot open %s: %s; see 'yado doctor'", provider->name, strerror(-r));
		return r;
	}
	r = check_provider(vm);
	if (r < 0) {
		goto fail;
	}
	do {
		/* Interrupted by a signal: api.rst allows that, and creation starts afresh. */
		vm->vm_fd = request(vm->provider, vm->kvm_fd, KVM_CREATE_VM, 0);
	} while (vm->vm_fd == -EINTR);
	if (vm->vm_fd < 0) {
		r = vm->vm_fd;
		log_error("%s cannot create a VM: %s; see 'yado doctor'", vm->provider->name,
			  strerror(-r));
		goto fail;
	}
	r = create_chips(vm);
	if (r == 0 && provider->writes_open != NULL) {
		vm->writes = provider->writes_open(vm->vm_fd);
		r = vm->writes == NULL ? -errno : 0;
	}
	if (r < 0) {
		goto fail;
	}
	return 0;
fail:
	host_close(vm);
	return r;
}

void host_close(struct host_vm *vm)
{
	if (vm->writes != NULL) {
		vm->provider->writes_close(vm->writes);
	}
	if (vm->vm_fd >= 0) {
		vm->provider->close(vm->vm_fd);
	}
	vm->provider->close(vm->kvm_fd);
	*vm = (struct host_vm){.provider = vm->provider, .kvm_fd = -1, .vm_fd = -1};
}

int host_memory_slot(struct host_vm *vm, unsigned slot, gpa_t addr, uint64_t len, void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = addr.v,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};
	int r = vm_request(vm, KVM_SET_USER_MEMORY_REGION, &region);

	if (r < 0) {
		log_error("%s refuses %llu MiB of guest memory at 0x%llx: %s", vm->provider->name,
			  (unsigned long long)(len / MIB), (unsigned long long)addr.v,
			  strerror(-r));
	}
	return r;
}

void host_wrote(const struct host_vm *vm, const void *at, uint64_t len)
{
	if (vm->writes != NULL) {
		vm->provider->wrote(vm->writes, at, len);
	}
}

int host_cpuid_supported(struct host_vm *vm, union host_cpuid *out)
{
	memset(out, 0, sizeof(*out));
	out->table.nent = HOST_CPUID_MAX;
	int r = request(vm->provider, vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, (uintptr_t)out);

	if (r < 0) {
		log_error("%s does not say which CPU features it supports: %s", vm->provider->name,
			  strerror(-r));
	}
	return r;
}

void host_irq_line(struct host_vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	/* Fails only without chips or for a GSI that is not there: both are fixed at start. */
	(void)vm_request(vm, KVM_IRQ_LINE, &line);
}

void host_signal_msi(struct host_vm *vm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};

	/* A guest may send it to nobody; as on hardware, nothing happens then. */
	(void)vm_request(vm, KVM_SIGNAL_MSI, &msi);
}

int host_set_routing(struct host_vm *vm, struct kvm_irq_routing *table)
{
	return vm_request(vm, KVM_SET_GSI_ROUTING, table);
}

int host_irqfd(struct host_vm *vm, int fd, unsigned gsi, bool on)
{
	struct kvm_irqfd spec = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return vm_request(vm, KVM_IRQFD, &spec);
}

int host_ioeventfd(struct host_vm *vm, const struct kvm_ioeventfd *spec)
{
	return vm_request(vm, KVM_IOEVENTFD, spec);
}

int host_vcpu_create(struct host_vm *vm, struct host_vcpu *vcpu, unsigned index)
{
	int fd = request(vm->provider, vm->vm_fd, KVM_CREATE_VCPU, index);

	if (fd < 0) {
		log_error("%s cannot create vCPU %u: %s; it takes up to %u", vm->provider->name,
			  index, strerror(-fd), vm->max_vcpus);
		return fd;
	}
	void *run = vm->provider->map(vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (run == MAP_FAILED) {
		int r = -errno;

		log_error("cannot map the page of vCPU %u: %s", index, strerror(errno));
		vm->provider->close(fd);
		return r;
	}
	*vcpu = (struct host_vcpu){.provider = vm->provider, .fd = fd, .run = run};
	return 0;
}

void host_vcpu_destroy(struct host_vm *vm, struct host_vcpu *vcpu)
{
	munmap(vcpu->run, vm->run_size);
	vm->provider->close(vcpu->fd);
	*vcpu = (struct host_vcpu){.fd = -1};
}

int host_vcpu_run(struct host_vcpu *vcpu)
{
	return request(vcpu->provider, vcpu->fd, KVM_RUN, 0);
}

int host_vcpu_interrupt(struct host_vcpu *vcpu, unsigned vector)
{
	struct kvm_interrupt interrupt = {.irq = vector};

	return vcpu_request(vcpu, KVM_INTERRUPT, &interrupt);
}

int host_vcpu_set_cpuid(struct host_vcpu *vcpu, const struct kvm_cpuid2 *table)
{
	return vcpu_request(vcpu, KVM_SET_CPUID2, table);
}

int host_vcpu_get_regs(struct host_vcpu *vcpu, struct kvm_regs *regs)
{
	return vcpu_request(vcpu, KVM_GET_REGS, regs);
}

int host_vcpu_set_regs(struct host_vcpu *vcpu, const struct kvm_regs *regs)
{
	return vcpu_request(vcpu, KVM_SET_REGS, regs);
}

int host_vcpu_get_sregs(struct host_vcpu *vcpu, struct kvm_sregs *sregs)
{
	return vcpu_request(vcpu, KVM_GET_SREGS, sregs);
}

int host_vcpu_set_sregs(struct host_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	return vcpu_request(vcpu, KVM_SET_SREGS, sregs);
}

int host_vcpu_get_lapic(struct host_vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	return vcpu_request(vcpu, KVM_GET_LAPIC, lapic);
}

int host_vcpu_set_lapic(struct host_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	return vcpu_request(vcpu, KVM_SET_LAPIC, lapic);
}

int host_vcpu_set_msr(struct host_vcpu *vcpu, uint32_t index, uint64_t value)
{
	union {
		struct kvm_msrs table;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs;

	memset(&msrs, 0, sizeof(msrs));
	msrs.table.nmsrs = 1;
	msrs.table.entries[0].index = index;
	msrs.table.entries[0].data = value;

	int r = vcpu_request(vcpu, KVM_SET_MSRS, &msrs);

	if (r < 0) {
		return r;
	}
	return r == 1 ? 0 : -EINVAL;
}
