/* Making and ending VMs and vCPUs, while there is another VM: the first one has more to do. */
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench/micro/clock.h"
#include "bench/micro/machine.h"
#include "bench/micro/row.h"

#define ROUNDS 24
#define WARM   4 /* rounds that do not count */

enum {
	CREATE_VM,
	CREATE_VCPU,
	DESTROY_VM,
	DESTROY_VM_VCPU
};

struct round {
	int64_t create_vm, create_vcpu, destroy_vm;
};

static int64_t destroy(int vm, int vcpu)
{
	int64_t begin = clock_ticks();

	/* A vCPU lives as long as its VM: api.rst, 3. */
	if (vcpu >= 0) {
		close(vcpu);
	}
	close(vm);
	return clock_ticks() - begin;
}

static enum verdict one_round(int kvm, bool with_vcpu, struct round *round, struct result *result)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	int64_t begin = clock_ticks();
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int vcpu = -1;

	round->create_vm = clock_ticks() - begin;
	if (vm < 0) {
		return result_errno(result, "KVM_CREATE_VM");
	}
	if (with_vcpu) {
		if (ioctl(vm, KVM_ENABLE_CAP, &split) != 0 &&
		    ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0) {
			close(vm);
			return result_errno(result, "KVM_CREATE_IRQCHIP");
		}
		begin = clock_ticks();
		vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
		round->create_vcpu = clock_ticks() - begin;
		if (vcpu < 0) {
			close(vm);
			return result_errno(result, "KVM_CREATE_VCPU");
		}
	}
	round->destroy_vm = destroy(vm, vcpu);
	return MEASURED;
}

static int64_t chosen(const struct round *round, unsigned variant)
{
	switch (variant) {
	case CREATE_VM:
		return round->create_vm;
	case CREATE_VCPU:
		return round->create_vcpu;
	default:
		return round->destroy_vm;
	}
}

/* @variant: which part. */
static enum verdict create(const struct row *row, struct result *result)
{
	bool with_vcpu = row->variant == CREATE_VCPU || row->variant == DESTROY_VM_VCPU;
	int64_t baseline = clock_baseline();
	struct machine other;
	enum verdict verdict = machine_create(&other, MACHINE_PLAIN, 1, result);

	for (unsigned i = 0; i < WARM + ROUNDS && verdict == MEASURED; i++) {
		struct round round = {0};

		verdict = one_round(other.kvm, with_vcpu, &round, result);
		if (verdict == MEASURED && i >= WARM) {
			result_add(result, chosen(&round, row->variant) - baseline);
		}
	}
	machine_destroy(&other);
	return verdict;
}

const struct row create_rows[] = {
	{"vm-create", "KVM_CREATE_VM; the time that it waits is in it", "api.rst, KVM_CREATE_VM",
	 create, NULL, CREATE_VM},
	{"vm-destroy", "close() of a VM without slots and vCPUs; waiting is in it",
	 "api.rst, General description", create, NULL, DESTROY_VM},
	{"vcpu-create", "KVM_CREATE_VCPU, with a local APIC in the kernel",
	 "api.rst, KVM_CREATE_VCPU", create, NULL, CREATE_VCPU},
	{"vm-vcpu-destroy",
	 "close() of a VM with such a vCPU, which ends with it; waiting is in it",
	 "api.rst, General description", create, NULL, DESTROY_VM_VCPU},
	{0},
};
