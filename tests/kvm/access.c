#include "tests/kvm/access.h"

#include <sched.h>

PAYLOAD(64, accesses,
	"access_load: mov (%rbx), %rax; hlt\n"
	"access_store_1: mov %al, (%rbx); hlt\n"
	"access_store_2: mov %ax, (%rbx); hlt\n"
	"access_store_4: mov %eax, (%rbx); hlt\n"
	"access_store_8: mov %rax, (%rbx); hlt\n"
	"access_add: add %rax, (%rbx); hlt\n"
	"access_xadd: lock xadd %rax, (%rbx); hlt\n"
	"access_call: call *%rbx; hlt\n");

extern const char access_load[], access_store_1[], access_store_2[], access_store_4[],
	access_store_8[], access_add[], access_xadd[], access_call[];

static const char *const entries[ACCESS_KINDS] = {
	[ACCESS_LOAD] = access_load,	   [ACCESS_STORE_1] = access_store_1,
	[ACCESS_STORE_2] = access_store_2, [ACCESS_STORE_4] = access_store_4,
	[ACCESS_STORE_8] = access_store_8, [ACCESS_ADD] = access_add,
	[ACCESS_XADD] = access_xadd,	   [ACCESS_CALL] = access_call,
};

void access_start_vcpu(struct vcpu *vcpu)
{
	vcpu_start(vcpu, 64, accesses, accesses_end);
}

struct vcpu *access_start(struct vm *vm)
{
	struct vcpu *vcpu;

	vm_create(vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(vm);
	access_start_vcpu(vcpu);
	return vcpu;
}

void access_begin(struct vcpu *vcpu, enum access access, uint64_t address, uint64_t value)
{
	struct kvm_regs regs = {
		.rip = PAYLOAD_AT(accesses, entries[access]),
		.rsp = VM_STACK - 0x400 * vcpu->id,
		.rflags = 2,
		.rax = value,
		.rbx = address,
	};

	vcpu_set_regs(vcpu, &regs);
}

uint64_t access_do(const char *file, int line, struct vcpu *vcpu, enum access access,
		   uint64_t address, uint64_t value)
{
	access_begin(vcpu, access, address, value);
	vm_expect_exit(file, line, vcpu, KVM_EXIT_HLT);
	return vcpu_regs(vcpu).rax;
}

void access_expect_hole(const char *file, int line, struct vcpu *vcpu, uint64_t address)
{
	access_begin(vcpu, ACCESS_LOAD, address, 0);
	vm_expect_mmio_read(file, line, vcpu, address, 8, 0x5ca1ab1e0ddba115);
	vm_expect_exit(file, line, vcpu, KVM_EXIT_HLT);
	test_expect_eq(file, line, "what MMIO answered", vcpu_regs(vcpu).rax, 0x5ca1ab1e0ddba115);
}

uint32_t access_await(const uint32_t *word, uint32_t old)
{
	uint32_t now;

	while ((now = __atomic_load_n(word, __ATOMIC_ACQUIRE)) == old) {
		sched_yield();
	}
	return now;
}

uint64_t access_word(const void *at)
{
	return __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
}
