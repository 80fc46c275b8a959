/* What of the CPU's rules takes a view from outside: shutdown, and code that the host changes. */
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define FUNCTION VM_FREE /* what the payload calls: mov $NUMBER, %eax; ret */
#define NUMBER	 (FUNCTION + 1)
#define DOORBELL (VM_FREE + 0x1000)

PAYLOAD(64, invalid, "ud2");
PAYLOAD(32, invalid32, "ud2");
PAYLOAD(64, call_and_tell, "1: call *%rbx; outl %eax, $0x10; jmp 1b");
PAYLOAD(64, call_until_changed,
	"sti; mov $1, %ecx\n"
	"1: call *%rbx; mov %ecx, (%rdx); cmp $1, %eax; je 1b; outl %eax, $0x10");

#define PAUSES                                                    \
	"	xor %eax, %eax; mov $1000, %ecx\n"                      \
	"1:	stc; pause; adc $0, %eax; clc; pause; adc $0, %eax\n" \
	"	loop 1b; outl %eax, $0x10"
PAYLOAD(64, pauses, PAUSES);
PAYLOAD(32, pauses32, PAUSES);

static void start(struct vm *vm, struct vcpu **vcpu, int bits, const char *code, const char *end)
{
	vm_create(vm, IRQCHIP_NONE);
	*vcpu = vm_add_vcpu(vm);
	vcpu_start(*vcpu, bits, code, end);
}

/* The table has no gates: #UD, #GP or #NP, #DF, and then nothing is left. */
static void triple_fault_64(void)
{
	struct vcpu *vcpu;
	struct vm vm;

	start(&vm, &vcpu, 64, invalid, invalid_end);
	expect_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

static void triple_fault_32(void)
{
	struct vcpu *vcpu;
	struct vm vm;

	start(&vm, &vcpu, 32, invalid32, invalid32_end);
	expect_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

static void put_function(struct vm *vm)
{
	static const uint8_t function[] = {0xb8, 1, 0, 0, 0, 0xc3};

	for (size_t i = 0; i < sizeof(function); i++) {
		vm->ram[FUNCTION + i] = function[i];
	}
}

static void set_rbx_rdx(struct vcpu *vcpu)
{
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rbx = FUNCTION;
	regs.rdx = DOORBELL;
	vcpu_set_regs(vcpu, &regs);
}

static void host_writes_between_runs(void)
{
	struct vcpu *vcpu;
	struct vm vm;

	start(&vm, &vcpu, 64, call_and_tell, call_and_tell_end);
	put_function(&vm);
	set_rbx_rdx(vcpu);
	expect_out(vcpu, 0x10, 4, 1);
	for (uint8_t i = 2; i < 20; i++) {
		vm.ram[NUMBER] = i;
		expect_out(vcpu, 0x10, 4, i);
	}
}

static atomic_bool has_seen;

static void *run_to_out(void *vcpu)
{
	expect_out((struct vcpu *)vcpu, 0x10, 4, 2);
	atomic_store(&has_seen, true);
	return NULL;
}

/* The guest is in its loop, and never leaves it by itself: it has to see the new code there. */
static void host_writes_while_it_runs(void)
{
	volatile uint32_t *doorbell;
	struct vcpu *vcpu;
	struct vm vm;

	start(&vm, &vcpu, 64, call_until_changed, call_until_changed_end);
	put_function(&vm);
	set_rbx_rdx(vcpu);
	doorbell = (volatile uint32_t *)(void *)(vm.ram + DOORBELL);
	vcpu_in_thread(vcpu, run_to_out);
	while (__atomic_load_n(doorbell, __ATOMIC_ACQUIRE) == 0) {
		sched_yield();
	}
	__atomic_store_n(vm.ram + NUMBER, 2, __ATOMIC_RELEASE);
	/* QEMU's TCG with several CPUs misses one such write in a hundred, whoever is its guest. */
	while (vm_svm_is_emulated() && !atomic_load(&has_seen)) {
		sleep(1);
		__atomic_store_n(vm.ram + NUMBER, 2, __ATOMIC_RELEASE);
	}
	vcpu_join(vcpu);
}

/* However many there are, and whoever sees one. */
static void pause_changes_nothing(void)
{
	struct vcpu *vcpu;
	struct vm vm[2];

	start(&vm[0], &vcpu, 64, pauses, pauses_end);
	expect_out(vcpu, 0x10, 4, 1000);
	start(&vm[1], &vcpu, 32, pauses32, pauses32_end);
	expect_out(vcpu, 0x10, 4, 1000);
}

const struct test_case cpu_cases[] = {
	{"exceptions/triple_fault_64", "KVM API 5, KVM_EXIT_SHUTDOWN", triple_fault_64},
	{"exceptions/triple_fault_32", "KVM API 5, KVM_EXIT_SHUTDOWN", triple_fault_32},
	{"code/host_writes_between_runs", "KVM API 4.35", host_writes_between_runs},
	{"code/host_writes_while_it_runs", "KVM API 4.35", host_writes_while_it_runs},
	{"code/pause_changes_nothing", "Intel SDM vol. 2B, PAUSE", pause_changes_nothing},
	TEST_END,
};
