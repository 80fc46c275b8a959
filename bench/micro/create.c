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
	CREATE_VCPU_PLAIN,
	DESTROY_VM,
	DESTROY_VM_VCPU
};

struct round {
	int64_t create_vm, create_vcpu, destroy_vm;
};

static enum verdict add_vcpu(int kvm, int vm, bool apic, int *vcpu, struct round *round,
			     struct result *result)
{
	int64_t begin;

	if (apic && machine_irqchip(kvm, vm) != 0) {
		return result_errno(result, "KVM_CREATE_IRQCHIP");
	}
	begin = clock_ticks();
	*vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	round->create_vcpu = clock_ticks() - begin;
	return *vcpu < 0 ? result_errno(result, "KVM_CREATE_VCPU") : MEASURED;
}

static enum verdict one_round(int kvm, unsigned variant, struct round *round, struct result *result)
{
	enum verdict verdict = MEASURED;
	int64_t begin = clock_ticks();
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int vcpu = -1;

	round->create_vm = clock_ticks() - begin;
	if (vm < 0) {
		return result_errno(result, "KVM_CREATE_VM");
	}
	if (variant != CREATE_VM && variant != DESTROY_VM) {
		verdict = add_vcpu(kvm, vm, variant != CREATE_VCPU_PLAIN, &vcpu, round, result);
	}
	begin = clock_ticks();
	/* A vCPU lives as long as its VM: api.rst, "General description". */
	if (vcpu >= 0) {
		close(vcpu);
	}
	close(vm);
	round->destroy_vm = clock_ticks() - begin;
	return verdict;
}

static int64_t chosen(const struct round *round, unsigned variant)
{
	switch (variant) {
	case CREATE_VM:
		return round->create_vm;
	case CREATE_VCPU:
	case CREATE_VCPU_PLAIN:
		return round->create_vcpu;
	default:
		return round->destroy_vm;
	}
}

/* @variant: which part. */
static enum verdict create(const struct row *row, struct result *result)
{
	int64_t baseline = clock_baseline();
	struct machine other;
	enum verdict verdict = machine_create(&other, MACHINE_PLAIN, 0, result);

	for (unsigned i = 0; i < WARM + ROUNDS && verdict == MEASURED; i++) {
		struct round round = {0};

		verdict = one_round(other.kvm, row->variant, &round, result);
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
	/* Linux changes its own code when the first of these comes, and again when the last goes.
	 */
	{"vcpu-create-plain", "KVM_CREATE_VCPU without it, while there is no other such vCPU",
	 "api.rst, KVM_CREATE_VCPU", create, NULL, CREATE_VCPU_PLAIN},
	{"vm-vcpu-destroy", "close() of a VM with a vCPU that has a local APIC; waiting is in it",
	 "api.rst, General description", create, NULL, DESTROY_VM_VCPU},
	{0},
};
