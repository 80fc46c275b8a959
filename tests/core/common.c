/*
 * What all the hostile programs use.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/core/hostile.h"

const uint8_t vm_spin[2] = {0xeb, 0xfe};
const uint8_t vm_storm[4] = {0xe6, 0x80, 0xeb, 0xfc};

void random_seed(struct random *r, uint64_t seed)
{
	r->state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

/* splitmix64 */
uint32_t random_next(struct random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(z >> 32 ^ z);
}

uint32_t random_below(struct random *r, uint32_t n)
{
	return (uint32_t)((uint64_t)random_next(r) * n >> 32);
}

bool random_one_in(struct random *r, uint32_t n)
{
	return random_below(r, n) == 0;
}

uint64_t random_word(struct random *r)
{
	uint64_t power = UINT64_C(1) << random_below(r, 64);

	switch (random_below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return (uint64_t)random_next(r) << 32 | random_next(r);
	case 2:
		return ~UINT64_C(0) - random_below(r, 16);
	case 3:
		return power - random_below(r, 3);
	case 4:
		return power * random_below(r, 8);
	case 5:
		return -power;
	default:
		return random_below(r, 64);
	}
}

/* A child that shares memory must not return on a stack that is its parent's, too. */
__asm__(".text\n"
	".globl raw_call\n"
	"raw_call:\n"
	"	push %rbx\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rbx\n"
	"	mov (%rbx), %rdi\n"
	"	mov 8(%rbx), %rsi\n"
	"	mov 16(%rbx), %rdx\n"
	"	mov 24(%rbx), %r10\n"
	"	mov 32(%rbx), %r8\n"
	"	mov 40(%rbx), %r9\n"
	"	mov %rax, %rbx\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jnz 1f\n"
	"	cmp $56, %rbx\n" /* clone */
	"	je 2f\n"
	"	cmp $57, %rbx\n" /* fork */
	"	je 2f\n"
	"	cmp $58, %rbx\n" /* vfork */
	"	je 2f\n"
	"	cmp $435, %rbx\n" /* clone3 */
	"	je 2f\n"
	"1:	pop %rbx\n"
	"	ret\n"
	"2:	mov $60, %eax\n" /* exit */
	"	xor %edi, %edi\n"
	"	syscall\n"
	"	ud2\n");

static void need(bool ok, const char *what)
{
	if (!ok) {
		printf("hostile: no %s\n", what);
		fflush(stdout);
		_exit(77);
	}
}

void vm_create(struct vm *vm, const void *code, size_t len)
{
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	struct kvm_sregs sregs;

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm->vm = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	need(vm->vm >= 0, "VM");
	vm->memory =
		mmap(NULL, VM_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(vm->memory != MAP_FAILED, "memory for a VM");
	memcpy(vm->memory + 0x1000, code, len);
	struct kvm_userspace_memory_region slot = {.memory_size = VM_MEMORY,
						   .userspace_addr = (uintptr_t)vm->memory};
	need(ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0, "memory slot");
	vm->vcpu = ioctl(vm->vm, KVM_CREATE_VCPU, 0);
	need(vm->vcpu >= 0, "vCPU");
	vm->run = mmap(NULL, (size_t)ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
		       PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	need(vm->run != MAP_FAILED, "mapping of a vCPU");
	need(ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) == 0, "registers");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	need(ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) == 0 &&
		     ioctl(vm->vcpu, KVM_SET_REGS, &regs) == 0,
	     "registers");
}

static void *run(void *arg)
{
	struct vm *vm = arg;

	for (;;) {
		ioctl(vm->vcpu, KVM_RUN, 0);
	}
	return NULL;
}

void vm_start(struct vm *vm)
{
	pthread_t thread;

	need(pthread_create(&thread, NULL, run, vm) == 0, "thread");
	usleep(20000); /* so that it is in the guest */
}

#define ENTRY(req, w, argument) {req, w, argument, #req},
#define IS_NONE			0
#define IS_VALUE		1
#define IS_IN			0
#define IS_OUT			0
#define IS_INOUT		0
#define IS_USER			0

const struct ioctl_entry ioctl_table[] = {
#define IOCTL_SYSTEM(request, argument, capability, handler) ENTRY(request, 's', IS_##argument)
#define IOCTL_VM(request, argument, capability, handler)     ENTRY(request, 'v', IS_##argument)
#define IOCTL_VCPU(request, argument, capability, handler)   ENTRY(request, 'c', IS_##argument)
#include "abi/kvm/ioctls.def"
};

const size_t ioctl_count = sizeof(ioctl_table) / sizeof(ioctl_table[0]);
