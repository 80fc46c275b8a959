/* Steal time: what a guest learns of the time that others had its CPU. */
#include <linux/kvm_para.h>
#include <sched.h>
#include <time.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define RECORD	 VM_FREE
#define STOP	 (VM_FREE + PAGE)
#define TURNS	 (VM_FREE + PAGE + 64)
#define ENABLED	 1
#define RESERVED 0x3e
#define MS	 UINT64_C(1000000)

/* Writes its MSR, as rsi says; counts, and stops when it is told to. */
PAYLOAD(64, count,
	"	mov $0x4b564d03, %ecx; mov %esi, %eax; xor %edx, %edx; wrmsr; sti\n"
	"1:	incq (%rdi); cmpl $0, (%rbx); je 1b; hlt");

static volatile struct kvm_steal_time *record(struct vm *vm)
{
	return (volatile struct kvm_steal_time *)(vm->ram + RECORD);
}

static void stop(struct vm *vm)
{
	__atomic_store_n((uint32_t *)(vm->ram + STOP), 1, __ATOMIC_RELEASE);
}

static void set_off(struct vcpu *vcpu, uint64_t msr_value)
{
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, count, count_end);
	regs = vcpu_regs(vcpu);
	regs.rsi = msr_value;
	regs.rdi = TURNS;
	regs.rbx = STOP;
	vcpu_set_regs(vcpu, &regs);
}

static struct vcpu *begin(struct vm *vm, uint64_t msr_value)
{
	struct vcpu *vcpu;

	vm_create(vm, IRQCHIP_NONE);
	if ((vm_cpuid_leaf(vm, KVM_CPUID_FEATURES, 0).eax & 1u << KVM_FEATURE_STEAL_TIME) == 0) {
		test_skip("steal time is not offered");
	}
	vcpu = vm_add_vcpu(vm);
	set_off(vcpu, msr_value);
	return vcpu;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	expect_eq(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- the MSR ---- */

static void msr_reads_as_written(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);

	expect_eq(vcpu_msr(vcpu, MSR_KVM_STEAL_TIME), 0);
	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_msr(vcpu, MSR_KVM_STEAL_TIME), RECORD | ENABLED);
}

static void reserved_bits_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);

	for (uint64_t bit = 1; bit <= RESERVED; bit <<= 1) {
		expect_eq(vcpu_set_msr(vcpu, MSR_KVM_STEAL_TIME, RECORD | bit), bit == ENABLED);
	}
}

/* ---- the record ---- */

static void record_is_filled_in(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);

	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(record(&vm)->version != 0);
	expect_eq(record(&vm)->version & 1, 0);
	expect_eq(record(&vm)->flags, 0);
	expect_eq(record(&vm)->preempted, 0);
}

static void disabled_record_is_not_filled_in(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD);

	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(record(&vm)->version, 0);
	expect_eq(record(&vm)->steal, 0);
}

/* What a guest that comes from elsewhere has lost there stays lost. */
static void steal_is_added_to(void)
{
	const uint64_t before = UINT64_C(1) << 60;
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);

	record(&vm)->steal = before;
	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(record(&vm)->steal >= before);
	expect(record(&vm)->steal < before + 3600 * 1000 * MS);
}

static void record_without_memory_is_none(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, 0x80000000 | ENABLED);

	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

/* ---- time ---- */

static void *run_until_halt(void *vcpu)
{
	expect_exit((struct vcpu *)vcpu, KVM_EXIT_HLT);
	return NULL;
}

static uint64_t turns(const struct vm *vm)
{
	return access_word(vm->ram + TURNS);
}

/* Starts the guest; its thread and this one share a CPU from now on. */
static void share_a_cpu(struct vcpu *vcpu)
{
	cpu_set_t cpus, first;
	size_t cpu = 0;

	expect_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	while (!CPU_ISSET(cpu, &cpus)) {
		cpu++;
	}
	CPU_ZERO(&first);
	CPU_SET(cpu, &first);
	expect_eq(sched_setaffinity(0, sizeof(first), &first), 0);
	vcpu_in_thread(vcpu, run_until_halt);
	while (turns(vcpu->vm) == 0) {
		sched_yield();
	}
}

/* Runs until so much time has passed, and the guest has been here meanwhile, too. */
static uint64_t compete(struct vm *vm, uint64_t ns)
{
	uint64_t start = now_ns(), first = turns(vm), now = start;

	while (now - start < ns || turns(vm) == first) {
		now = now_ns();
	}
	return now - start;
}

static void time_of_others_is_stolen(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);
	uint64_t before, took, stolen;

	share_a_cpu(vcpu);
	before = record(&vm)->steal;
	took = compete(&vm, 400 * MS);
	stop(&vm);
	vcpu_join(vcpu);
	stolen = record(&vm)->steal - before;
	if (stolen < took / 5 || stolen > took + 100 * MS) {
		fail("%llu ns of %llu ns", (unsigned long long)stolen, (unsigned long long)took);
	}
	expect_eq(record(&vm)->version & 1, 0);
}

static void steal_grows_while_running(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);
	uint64_t last;

	share_a_cpu(vcpu);
	for (unsigned int i = 0; i < 5; i++) {
		last = record(&vm)->steal;
		do {
			(void)compete(&vm, 20 * MS);
		} while (record(&vm)->steal == last);
		expect(record(&vm)->steal > last);
	}
	stop(&vm);
	vcpu_join(vcpu);
}

/* Whoever sleeps waits for no CPU. */
static void sleep_is_not_stolen(void)
{
	const struct timespec pause = {.tv_nsec = (long)(300 * MS)};
	struct vm vm;
	struct vcpu *vcpu = begin(&vm, RECORD | ENABLED);
	uint64_t before;

	stop(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	before = record(&vm)->steal;
	expect_eq(nanosleep(&pause, NULL), 0);
	set_off(vcpu, RECORD | ENABLED);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect(record(&vm)->steal - before < 150 * MS);
}

#define DOCUMENT "Linux virt/kvm/x86/msr.rst"

const struct test_case steal_cases[] = {
	{"steal/msr_reads_as_written", DOCUMENT, msr_reads_as_written},
	{"steal/reserved_bits_are_refused", DOCUMENT, reserved_bits_are_refused},
	{"steal/record_is_filled_in", DOCUMENT, record_is_filled_in},
	{"steal/disabled_record_is_not_filled_in", DOCUMENT, disabled_record_is_not_filled_in},
	{"steal/steal_is_added_to", DOCUMENT, steal_is_added_to},
	{"steal/record_without_memory_is_none", DOCUMENT, record_without_memory_is_none},
	{"steal/time_of_others_is_stolen", DOCUMENT, time_of_others_is_stolen},
	{"steal/steal_grows_while_running", DOCUMENT, steal_grows_while_running},
	{"steal/sleep_is_not_stolen", DOCUMENT, sleep_is_not_stolen},
	TEST_END,
};
