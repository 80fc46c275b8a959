/* The interrupt half for tests that need none: a VM without chips. */
#include "lib/kvm/fake_irq.h"

#include <errno.h>

#include "lib/kvm/irq.h"
#include "lib/kvm/vcpu.h"
#include "tests/unit.h"

struct fake_irq fake_irq;

int kvm_irq_vm_init(struct kvm_vm *vm)
{
	(void)vm;
	return 0;
}

void kvm_irq_vm_fini(struct kvm_vm *vm)
{
	(void)vm;
}

void kvm_irq_vm_stop(struct kvm_vm *vm)
{
	(void)vm;
	fake_irq.stopped = true;
}

void kvm_irq_vm_closed(struct kvm_vm *vm)
{
	(void)vm;
}

int kvm_irq_vcpu_init(struct kvm_vcpu *vcpu)
{
	if (vcpu->vm->irqchip != KVM_IRQCHIP_NONE) {
		vcpu->apic = (struct kvm_apic *)&fake_irq;
	}
	return 0;
}

void kvm_irq_vcpu_fini(struct kvm_vcpu *vcpu)
{
	/* Its VM's timers would look for it. */
	assert_true(vcpu->vm->refs != 0 || fake_irq.stopped);
	vcpu->apic = NULL;
}

void kvm_irq_vcpu_reset(struct kvm_vcpu *vcpu, bool init)
{
	(void)vcpu;
	(void)init;
}

void kvm_irq_vcpu_added(struct kvm_vm *vm)
{
	(void)vm;
}

int kvm_irq_create_full(struct kvm_vm *vm)
{
	vm->irqchip = KVM_IRQCHIP_FULL;
	return 0;
}

int kvm_irq_create_split(struct kvm_vm *vm, uint64_t pins)
{
	(void)pins;
	vm->irqchip = KVM_IRQCHIP_SPLIT;
	return 0;
}

int kvm_irq_create_pit(struct kvm_vm *vm, uint32_t flags)
{
	(void)vm;
	(void)flags;
	return -ENXIO;
}

int kvm_irq_get_chip(struct kvm_vm *vm, struct kvm_irqchip *chip)
{
	(void)vm;
	(void)chip;
	return -ENXIO;
}

int kvm_irq_set_chip(struct kvm_vm *vm, const struct kvm_irqchip *chip)
{
	(void)vm;
	(void)chip;
	return -ENXIO;
}

int kvm_irq_get_pit(struct kvm_vm *vm, struct kvm_pit_state2 *pit)
{
	(void)vm;
	(void)pit;
	return -ENXIO;
}

int kvm_irq_set_pit(struct kvm_vm *vm, const struct kvm_pit_state2 *pit)
{
	(void)vm;
	(void)pit;
	return -ENXIO;
}

int kvm_irq_reinject(const struct kvm_vm *vm)
{
	(void)vm;
	return -ENXIO;
}

int kvm_irq_line(struct kvm_vm *vm, uint32_t line, bool level, int *status)
{
	(void)vm;
	(void)line;
	(void)level;
	(void)status;
	return -ENXIO;
}

int kvm_irq_set_routing(struct kvm_vm *vm, const struct kvm_irq_routing_entry *entries,
			uint32_t count, uint32_t flags)
{
	(void)vm;
	(void)entries;
	(void)count;
	(void)flags;
	return -EINVAL;
}

int kvm_irq_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi)
{
	(void)vm;
	(void)msi;
	return -EINVAL;
}

int kvm_irq_irqfd(struct kvm_vm *vm, const struct kvm_irqfd *irqfd)
{
	(void)vm;
	(void)irqfd;
	return -EINVAL;
}

void kvm_irq_x2apic_api(struct kvm_vm *vm, uint64_t flags)
{
	(void)vm;
	(void)flags;
}

int kvm_irq_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	(void)vcpu;
	(void)lapic;
	return -EINVAL;
}

int kvm_irq_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	(void)vcpu;
	(void)lapic;
	return -EINVAL;
}

int kvm_irq_extint(struct kvm_vcpu *vcpu, uint32_t vector)
{
	(void)vcpu;
	fake_irq.pending = (int)vector + 1;
	return 0;
}

bool kvm_irq_extint_free(const struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return fake_irq.pending == 0;
}

int kvm_irq_pending(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return fake_irq.pending - 1;
}

int kvm_irq_accept(struct kvm_vcpu *vcpu, bool *more)
{
	int vector = fake_irq.pending - 1;

	(void)vcpu;
	*more = false;
	fake_irq.pending = 0;
	return vector;
}

void kvm_irq_sync(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
}

bool kvm_irq_has_init_sipi(const struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return fake_irq.init_sipi;
}

void kvm_irq_take_init_sipi(struct kvm_vcpu *vcpu)
{
	fake_irq.init_sipi = false;
	kvm_vcpu_init_reset(vcpu);
	kvm_vcpu_sipi(vcpu, vcpu->sipi_page);
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
}

void kvm_irq_queue_sipi(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	fake_irq.init_sipi = true;
}

bool kvm_irq_apic_page(const struct kvm_vcpu *vcpu, uint64_t gpa, uint32_t *offset)
{
	(void)vcpu;
	*offset = (uint32_t)(gpa & 0xfff);
	return gpa >> 12 == 0xfee00;
}

bool kvm_irq_mmio(struct kvm_vcpu *vcpu, uint64_t gpa, unsigned bytes, void *data, bool write)
{
	(void)bytes;
	(void)data;
	(void)write;
	return vcpu->apic != NULL && gpa >> 12 == 0xfee00;
}

bool kvm_irq_pio(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, void *data, bool write)
{
	(void)vcpu;
	(void)port;
	(void)bytes;
	(void)data;
	(void)write;
	return false;
}

int kvm_irq_x2apic_read(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	(void)vcpu;
	*value = msr;
	return 0;
}

int kvm_irq_x2apic_write(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t value)
{
	(void)vcpu;
	(void)msr;
	(void)value;
	return 0;
}

int kvm_irq_set_apic_base(struct kvm_vcpu *vcpu, uint64_t value, bool host)
{
	(void)host;
	if ((value & 0x2ff) != 0) {
		return -EINVAL;
	}
	vcpu->apic_base = value;
	return 0;
}

uint64_t kvm_irq_apic_base(const struct kvm_vcpu *vcpu)
{
	return vcpu->apic_base;
}

uint64_t kvm_irq_cr8(const struct kvm_vcpu *vcpu)
{
	return vcpu->cr8;
}

void kvm_irq_set_cr8(struct kvm_vcpu *vcpu, uint64_t cr8)
{
	vcpu->cr8 = cr8;
}

uint64_t kvm_irq_tsc_deadline(const struct kvm_vcpu *vcpu)
{
	(void)vcpu;
	return fake_irq.deadline;
}

void kvm_irq_set_tsc_deadline(struct kvm_vcpu *vcpu, uint64_t value)
{
	(void)vcpu;
	fake_irq.deadline = value;
}

void kvm_irq_tsc_changed(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
}

void kvm_irq_cpuid_changed(struct kvm_vcpu *vcpu)
{
	(void)vcpu;
}
