/* Descriptors: /dev/kvm itself, VMs, vCPUs. */
#include <errno.h>

#include "core/hw/clock.h"
#include "core/hw/cpu.h"
#include "core/kvm/internal.h"
#include "core/kvm/kvm.h"
#include "core/mem/heap.h"
#include "core/mem/object.h"
#include "core/mem/space.h"
#include "core/mem/view.h"
#include "core/svm/svm.h"
#include "core/sys/dev.h"
#include "core/sys/file.h"
#include "core/sys/node.h"
#include "lib/kvm/kvm.h"

/* As Linux: misc device 10, 232. */
#define KVM_MAJOR 10
#define KVM_MINOR 232

#define VCPUS_MAX 256

static struct kvm_env kvm_env = {.ops = &env_ops, .max_vcpus = VCPUS_MAX};

/* ---- vCPUs ---- */

static int64_t vcpu_ioctl(struct file *f, uint32_t command, uint64_t argument)
{
	return kvm_vcpu_ioctl(f->data, command, argument);
}

/* There is nothing between the first pages and the ring: a bus error. */
static int no_page(void *ctx, uint64_t offset, void *page)
{
	(void)ctx;
	(void)offset;
	(void)page;
	return -EFBIG;
}

/* The pages are counted: a mapping may outlive the descriptor. */
static int vcpu_map(struct file *f, struct file_map *m)
{
	struct object *o;

	if (!m->shared) {
		return -EINVAL;
	}
	o = object_create_filled(KVM_MAP_END * PAGE_SIZE, no_page, NULL);
	if (o == NULL) {
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < KVM_MAP_END; i++) {
		void *memory = kvm_vcpu_mmap(f->data, i);
		hpa_t page;
		int r;

		if (memory == NULL) {
			continue;
		}
		page = phys_of(memory);
		page_get(page);
		r = object_add_page(o, i * PAGE_SIZE, page);
		if (r != 0) {
			page_put(page);
			object_put(o);
			return r;
		}
	}
	m->object = o;
	return 0;
}

/* A descriptor of the VM or a vCPU of it is gone; so is, with the last one, the VM. */
static void put_data(struct vm_data *data)
{
	/* Pairs with the other puts: the last one sees what they did. */
	if (atomic_fetch_sub_explicit(&data->descriptors, 1, memory_order_acq_rel) != 1) {
		return;
	}
	while (data->threads != NULL) {
		struct vcpu_thread *t = data->threads;

		data->threads = t->next;
		annex_vcpu_fini(t);
		mem_free(t, sizeof(*t));
	}
	annex_vm_fini(data);
	space_put(data->space);
	mem_free(data, sizeof(*data));
}

static void vcpu_release(struct file *f)
{
	struct kvm_vcpu *vcpu = f->data;
	struct vm_data *data = vcpu->vm->env_data;

	kvm_vcpu_release(vcpu);
	put_data(data);
}

static const struct file_ops vcpu_ops = {
	.ioctl = vcpu_ioctl,
	.map = vcpu_map,
	.release = vcpu_release,
	.name = "anon_inode:kvm-vcpu",
};

int env_vcpu_fd(struct kvm_env *env, struct kvm_vcpu *vcpu)
{
	struct vm_data *data = vcpu->vm->env_data;
	struct vcpu_thread *t = mem_alloc(sizeof(*t));
	int fd;

	(void)env;
	if (t == NULL) {
		return -ENOMEM;
	}
	fd = annex_vcpu_init(data, t, vcpu->index);
	if (fd != 0) {
		mem_free(t, sizeof(*t));
		return fd;
	}
	spin_init(&t->lock, LOCK_WAIT);
	vcpu->env_data = t;
	t->next = data->threads;
	data->threads = t;
	atomic_fetch_add_explicit(&data->descriptors, 1, memory_order_relaxed);
	fd = anon_fd(&vcpu_ops, vcpu, FILE_READWRITE, true);
	if (fd < 0) {
		atomic_fetch_sub_explicit(&data->descriptors, 1, memory_order_relaxed);
		data->threads = t->next;
		vcpu->env_data = NULL;
		annex_vcpu_fini(t);
		mem_free(t, sizeof(*t));
	}
	return fd;
}

/* ---- VMs ---- */

static int64_t vm_ioctl(struct file *f, uint32_t command, uint64_t argument)
{
	return kvm_vm_ioctl(f->data, command, argument);
}

static void vm_release(struct file *f)
{
	struct kvm_vm *vm = f->data;
	struct vm_data *data = vm->env_data;

	kvm_vm_release(vm);
	put_data(data);
}

static const struct file_ops vm_ops = {
	.ioctl = vm_ioctl,
	.release = vm_release,
	.name = "anon_inode:kvm-vm",
};

int env_vm_fd(struct kvm_env *env, struct kvm_vm *vm)
{
	struct vm_data *data = mem_alloc(sizeof(*data));
	int fd;

	(void)env;
	if (data == NULL) {
		return -ENOMEM;
	}
	data->space = space_current();
	fd = annex_vm_init(data, data->space, VCPUS_MAX);
	if (fd != 0) {
		mem_free(data, sizeof(*data));
		return fd;
	}
	space_get(data->space);
	data->descriptors = 1;
	vm->env_data = data;
	fd = anon_fd(&vm_ops, vm, FILE_READWRITE, true);
	if (fd < 0) {
		vm->env_data = NULL;
		annex_vm_fini(data);
		space_put(data->space);
		mem_free(data, sizeof(*data));
	}
	return fd;
}

/* ---- /dev/kvm ---- */

static int64_t system_ioctl(struct file *f, uint32_t command, uint64_t argument)
{
	(void)f;
	return kvm_system_ioctl(&kvm_env, command, argument);
}

static const struct file_ops system_ops = {
	.ioctl = system_ioctl,
	.name = "/dev/kvm",
};

static const struct node_ops node_ops = {.f_ops = &system_ops};

int kvm_start(void)
{
	kvm_env.backend = svm_start();
	if (kvm_env.backend == NULL) {
		return -ENODEV;
	}
	kvm_env.cpus = cpu_count();
	kvm_env.tsc_khz = clock_tsc_khz();
	return dev_add("/dev/kvm", KVM_MAJOR, KVM_MINOR, &node_ops);
}
