/* MSRs that user space answers, and hypercalls. */
#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/scene.h"

#define UNKNOWN_MSR  0x4b564dff /* in no manual, and not in a range that a provider answers */
#define SPARE_MSR    0x277	/* PAT: every provider has it */
#define PAT_AT_RESET UINT64_C(0x0007040600070406)
#define PAT_CHANGED  UINT64_C(0x0007040600070400)

PAYLOAD(64, read_msr, "rdmsr; read_msr_after: hlt; read_msr_gp: pop %rbx; mov $13, %esi; hlt");
PAYLOAD(64, write_msr, "wrmsr; write_msr_after: hlt; write_msr_gp: pop %rbx; mov $13, %esi; hlt");
extern const char read_msr_after[], read_msr_gp[], write_msr_after[], write_msr_gp[];

/* RSI: 13 if it ended with #GP. */
static struct vcpu *start_msr(struct vm *vm, bool write, uint32_t msr)
{
	struct vcpu *vcpu = write ? START(vm, 64, write_msr) : START(vm, 64, read_msr);
	struct kvm_regs regs = vcpu_regs(vcpu);

	vm_gate(vm, 64, 13,
		write ? PAYLOAD_AT(write_msr, write_msr_gp) : PAYLOAD_AT(read_msr, read_msr_gp));
	regs.rcx = msr;
	regs.rax = 0xffffffff55667788;
	regs.rdx = 0xffffffff11223344;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

static void want_exits(struct vm *vm, uint64_t reasons)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {reasons}};

	vm_need(vm, KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR");
	must(kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap));
}

/* The accesses of @flags to one MSR are refused, all others allowed. */
static int filter(struct vm *vm, uint32_t flags, uint32_t msr)
{
	static uint8_t none[8];
	struct kvm_msr_filter it = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};

	vm_need(vm, KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER");
	it.ranges[0] = (struct kvm_msr_filter_range){
		.flags = flags, .nmsrs = 1, .base = msr, .bitmap = none};
	return kvm_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &it);
}

static void expect_msr(struct vcpu *vcpu, uint32_t reason, uint32_t msr, uint32_t why)
{
	expect_exit(vcpu, reason);
	expect_eq(vcpu->run->msr.index, msr);
	expect_eq(vcpu->run->msr.reason, why);
}

static void expect_gp(struct vcpu *vcpu)
{
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rsi, 13);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
	expect_eq(*scene_word(vcpu->vm, VM_STACK - 40), VM_CODE);
}

static void unknown_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, UNKNOWN_MSR);

	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_msr(vcpu, KVM_EXIT_X86_RDMSR, UNKNOWN_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.data = 0x8182838485868788;
	vcpu->run->msr.error = 0;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x85868788);
	expect_eq(vcpu_regs(vcpu).rdx, 0x81828384);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(read_msr, read_msr_after) + 1);
}

static void unknown_write(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, true, UNKNOWN_MSR);

	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_msr(vcpu, KVM_EXIT_X86_WRMSR, UNKNOWN_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_eq(vcpu->run->msr.data, 0x1122334455667788);
	vcpu->run->msr.error = 0;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(write_msr, write_msr_after) + 1);
}

static void unknown_is_a_fault(void)
{
	struct vm vm;

	expect_gp(start_msr(&vm, false, UNKNOWN_MSR));
	expect_gp(start_msr(&vm, true, UNKNOWN_MSR));
}

static void error_is_a_fault(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, UNKNOWN_MSR);

	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_exit(vcpu, KVM_EXIT_X86_RDMSR);
	vcpu->run->msr.data = 0;
	vcpu->run->msr.error = 1;
	expect_gp(vcpu);
	expect_eq(vcpu_regs(vcpu).rax, 0xffffffff55667788);
	vcpu = start_msr(&vm, true, UNKNOWN_MSR);
	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_exit(vcpu, KVM_EXIT_X86_WRMSR);
	vcpu->run->msr.error = 1;
	expect_gp(vcpu);
}

static void error_starts_as_0(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, true, UNKNOWN_MSR);

	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	vcpu->run->msr.error = 1;
	expect_exit(vcpu, KVM_EXIT_X86_WRMSR);
	expect_eq(vcpu->run->msr.error, 0);
}

static void filtered_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, SPARE_MSR);

	must(filter(&vm, KVM_MSR_FILTER_READ, SPARE_MSR));
	want_exits(&vm, KVM_MSR_EXIT_REASON_FILTER);
	expect_msr(vcpu, KVM_EXIT_X86_RDMSR, SPARE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	vcpu->run->msr.data = 0x123;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x123);
	expect_eq(vcpu_regs(vcpu).rdx, 0);
}

static void filtered_write_stays_out(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, true, SPARE_MSR);

	must(filter(&vm, KVM_MSR_FILTER_WRITE, SPARE_MSR));
	want_exits(&vm, KVM_MSR_EXIT_REASON_FILTER);
	expect_msr(vcpu, KVM_EXIT_X86_WRMSR, SPARE_MSR, KVM_MSR_EXIT_REASON_FILTER);
	expect_eq(vcpu->run->msr.data, 0x1122334455667788);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rsi, 0);
	expect_eq(vcpu_msr(vcpu, SPARE_MSR), PAT_AT_RESET);
}

static void filter_tells_reads_from_writes(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, SPARE_MSR);

	expect_eq(vcpu_set_msr(vcpu, SPARE_MSR, PAT_CHANGED), 1);
	must(filter(&vm, KVM_MSR_FILTER_WRITE, SPARE_MSR));
	want_exits(&vm, KVM_MSR_EXIT_REASON_FILTER);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, (uint32_t)PAT_CHANGED);
}

static void filtered_without_exit_is_a_fault(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, SPARE_MSR);

	must(filter(&vm, KVM_MSR_FILTER_READ, SPARE_MSR));
	expect_gp(vcpu);
}

/* The filter is the guest's: the caller's own ioctls pass. */
static void filter_is_not_for_ioctls(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, SPARE_MSR);

	must(filter(&vm, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, SPARE_MSR));
	expect_eq(vcpu_set_msr(vcpu, SPARE_MSR, PAT_CHANGED), 1);
	expect_eq(vcpu_msr(vcpu, SPARE_MSR), PAT_CHANGED);
}

static void filter_may_refuse_what_is_not_listed(void)
{
	static uint8_t all[8] = {1};
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, SPARE_MSR);
	struct kvm_msr_filter it = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};

	vm_need(&vm, KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER");
	it.ranges[0] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ, .nmsrs = 1, .base = SPARE_MSR, .bitmap = all};
	must(kvm_ioctl(vm.fd, KVM_X86_SET_MSR_FILTER, &it));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, (uint32_t)PAT_AT_RESET);
	vcpu = start_msr(&vm, false, SPARE_MSR + 1);
	must(kvm_ioctl(vm.fd, KVM_X86_SET_MSR_FILTER, &it));
	expect_gp(vcpu);
}

static void filter_refuses_unknown_flags(void)
{
	struct vm vm;

	start_msr(&vm, false, SPARE_MSR);
	expect_errno(filter(&vm, 1u << 31, SPARE_MSR), EINVAL);
}

static void immediate_exit_completes_rdmsr(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_msr(&vm, false, UNKNOWN_MSR);

	want_exits(&vm, KVM_MSR_EXIT_REASON_UNKNOWN);
	expect_exit(vcpu, KVM_EXIT_X86_RDMSR);
	vcpu->run->msr.data = 0x8182838485868788;
	complete_only(vcpu);
	expect_eq(vcpu_regs(vcpu).rax, 0x85868788);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(read_msr, read_msr_after));
}

/* ---- hypercalls ---- */

#define NO_SUCH_CALL 0x7fff

PAYLOAD(64, amd64, "vmmcall; hlt; amd64_ud: mov $6, %ebx; hlt");
PAYLOAD(64, intel64, "vmcall; hlt; intel64_ud: mov $6, %ebx; hlt");
PAYLOAD(32, amd32, "vmmcall; hlt");
PAYLOAD(32, intel32, "vmcall; hlt");
PAYLOAD(64, kick_self, "vmmcall; cli; hlt; out %al, $0x80");
extern const char amd64_ud[], intel64_ud[];

static uint64_t call(struct vcpu *vcpu)
{
	struct kvm_regs regs = vcpu_regs(vcpu);

	regs.rax = NO_SUCH_CALL;
	regs.rbx = 0x1111;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rip, VM_CODE + 4);
	expect_eq(vcpu_regs(vcpu).rbx, 0x1111);
	return vcpu_regs(vcpu).rax;
}

/* A guest may use either maker's instruction; that of the other is made to work, too. */
static void unknown_hypercall(void)
{
	struct vm vm;

	expect_eq(call(START(&vm, 64, amd64)), (uint64_t)-KVM_ENOSYS);
}

static void unknown_hypercall_other_maker(void)
{
	struct vm vm;

	expect_eq(call(START(&vm, 64, intel64)), (uint64_t)-KVM_ENOSYS);
}

static void unknown_hypercall_32_bit(void)
{
	struct vm vm;

	expect_eq(call(START(&vm, 32, amd32)), (uint32_t)-KVM_ENOSYS);
	expect_eq(call(START(&vm, 32, intel32)), (uint32_t)-KVM_ENOSYS);
}

/* Without the quirk one of the two instructions is what the CPU says it is: undefined. */
static void hypercall_unpatched(void)
{
	struct vm vm[2];
	struct vcpu *vcpus[2] = {START(&vm[0], 64, amd64), START(&vm[1], 64, intel64)};
	unsigned int undefined = 0;

	for (unsigned int i = 0; i < 2; i++) {
		struct kvm_enable_cap cap = {.cap = KVM_CAP_DISABLE_QUIRKS2,
					     .args = {KVM_X86_QUIRK_FIX_HYPERCALL_INSN}};
		uint8_t code[3];

		if ((vm_has(&vm[i], KVM_CAP_DISABLE_QUIRKS2) & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) ==
		    0) {
			test_skip("the provider has no KVM_X86_QUIRK_FIX_HYPERCALL_INSN");
		}
		must(kvm_ioctl(vm[i].fd, KVM_ENABLE_CAP, &cap));
		vm_gate(&vm[i], 64, 6,
			i == 0 ? PAYLOAD_AT(amd64, amd64_ud) : PAYLOAD_AT(intel64, intel64_ud));
		memcpy(code, vm[i].ram + VM_CODE, sizeof(code));
		expect_exit(vcpus[i], KVM_EXIT_HLT);
		undefined += vcpu_regs(vcpus[i]).rbx == 6;
		expect(memcmp(code, vm[i].ram + VM_CODE, sizeof(code)) == 0);
	}
	expect_eq(undefined, 1);
}

static void hypercall_is_for_the_kernel(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, amd64);
	struct kvm_regs regs;

	scene_user(vcpu, 0);
	regs = vcpu_regs(vcpu);
	regs.rax = KVM_HC_VAPIC_POLL_IRQ;
	regs.rip = VM_CODE;
	vcpu_set_regs(vcpu, &regs);
	/* The HLT behind it is not for users. */
	vm_gate(&vm, 64, 13, PAYLOAD_AT(amd64, amd64_ud));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx, 6);
	expect_eq(vcpu_regs(vcpu).rax, (uint64_t)-KVM_EPERM);
}

static void hypercall_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, amd64);
	struct kvm_regs regs = vcpu_regs(vcpu);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_HYPERCALL,
				     .args = {1u << KVM_HC_MAP_GPA_RANGE}};

	if ((vm_has(&vm, KVM_CAP_EXIT_HYPERCALL) & 1 << KVM_HC_MAP_GPA_RANGE) == 0) {
		test_skip("the provider has no KVM_CAP_EXIT_HYPERCALL");
	}
	must(kvm_ioctl(vm.fd, KVM_ENABLE_CAP, &cap));
	regs.rax = KVM_HC_MAP_GPA_RANGE;
	regs.rbx = 0x123000;
	regs.rcx = 4;
	regs.rdx = 1 << 4;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HYPERCALL);
	expect_eq(vcpu->run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	expect_eq(vcpu->run->hypercall.args[0], 0x123000);
	expect_eq(vcpu->run->hypercall.args[1], 4);
	expect_eq(vcpu->run->hypercall.args[2], 1 << 4);
	vcpu->run->hypercall.ret = 0x5566;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x5566);
	expect_eq(vcpu_regs(vcpu).rip, VM_CODE + 4);
}

/* Who waits for a lock halts after it has said so; the kick may come in between. */
static void kick_before_hlt(void)
{
	struct vm vm;
	struct vcpu *vcpu = vm_begin(&vm, IRQCHIP_FULL, 64, kick_self, kick_self_end);
	struct kvm_regs regs = vcpu_regs(vcpu);
	struct kvm_lapic_state lapic;

	/* Linux finds APICs by a map that it makes when one is first written to. */
	must(kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic));
	must(kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic));
	regs.rax = KVM_HC_KICK_CPU;
	regs.rbx = 0;
	regs.rcx = 0; /* the APIC's ID: its own */
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(vcpu_regs(vcpu).rax, 0);
}

#define SPEC_MSR    "KVM API 7.21; 5, KVM_EXIT_X86_RDMSR"
#define SPEC_FILTER "KVM API 4.97"
#define SPEC_CALL   "Linux Documentation/virt/kvm/x86/hypercalls.rst"

const struct test_case user_exits_cases[] = {
	{"msr_exits/unknown_read", SPEC_MSR, unknown_read},
	{"msr_exits/unknown_write", SPEC_MSR, unknown_write},
	{"msr_exits/unknown_is_a_fault", "AMD APM vol. 3, RDMSR", unknown_is_a_fault},
	{"msr_exits/error_is_a_fault", SPEC_MSR, error_is_a_fault},
	{"msr_exits/error_starts_as_0", SPEC_MSR, error_starts_as_0},
	{"msr_exits/immediate_exit_completes_rdmsr", SPEC_MSR, immediate_exit_completes_rdmsr},
	{"msr_exits/filtered_read", SPEC_FILTER, filtered_read},
	{"msr_exits/filtered_write_stays_out", SPEC_FILTER, filtered_write_stays_out},
	{"msr_exits/filter_tells_reads_from_writes", SPEC_FILTER, filter_tells_reads_from_writes},
	{"msr_exits/filtered_without_exit_is_a_fault", SPEC_FILTER,
	 filtered_without_exit_is_a_fault},
	{"msr_exits/filter_is_not_for_ioctls", SPEC_FILTER, filter_is_not_for_ioctls},
	{"msr_exits/filter_may_refuse_what_is_not_listed", SPEC_FILTER,
	 filter_may_refuse_what_is_not_listed},
	{"msr_exits/filter_refuses_unknown_flags", SPEC_FILTER, filter_refuses_unknown_flags},
	{"hypercall/unknown", SPEC_CALL, unknown_hypercall},
	{"hypercall/unknown_other_maker", SPEC_CALL, unknown_hypercall_other_maker},
	{"hypercall/unknown_32_bit", SPEC_CALL, unknown_hypercall_32_bit},
	{"hypercall/is_for_the_kernel", SPEC_CALL, hypercall_is_for_the_kernel},
	{"hypercall/kick_before_hlt_is_kept", SPEC_CALL, kick_before_hlt},
	{"hypercall/exit", "KVM API 8.34", hypercall_exit},
	{"hypercall/unpatched_is_undefined", "KVM API 7.31", hypercall_unpatched},
	TEST_END,
};
