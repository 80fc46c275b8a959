/* Model-specific registers: lists, GET and SET, and that guest and VMM see the same. */
#include <errno.h>
#include <string.h>

#include "tests/guest/bare/bare.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/saved.h"

#define MSR_TSC		 0x10
#define MSR_STAR	 0xc0000081
#define MSR_LSTAR	 0xc0000082
#define MSR_SFMASK	 0xc0000084
#define MSR_KERNEL_GS	 0xc0000102
#define MSR_TSC_AUX	 0xc0000103
#define MSR_SYSENTER_CS	 0x174
#define MSR_SYSENTER_EIP 0x176
#define MSR_PAT		 0x277
#define MSR_UNKNOWN	 0x4000ffff /* in no manual */
#define EFER_SCE	 0x1
#define CPUID_RDTSCP	 (1 << 27) /* leaf 0x80000001, EDX */

/* Three entries at most. */
union few_msrs {
	struct kvm_msrs head;
	struct kvm_msr_entry room[4];
};

/* RDMSR of ecx, WRMSR of rsi to it; and what #GP does to them. */
PAYLOAD(64, read_one,
	"rdmsr; shl $32, %rdx; or %rdx, %rax; hlt\n"
	"read_one_gp: mov $0x6b, %al; out %al, $0x10; hlt");
extern const char read_one_gp[];
PAYLOAD(64, write_one,
	"mov %esi, %eax; mov %rsi, %rdx; shr $32, %rdx; wrmsr; hlt\n"
	"write_one_gp: mov $0x6b, %al; out %al, $0x10; hlt");
extern const char write_one_gp[];

static struct vcpu *begin_read(struct vm *vm, uint32_t msr)
{
	struct vcpu *vcpu = START(vm, 64, read_one);
	struct kvm_regs regs = vcpu_regs(vcpu);

	vm_gate(vm, 64, VECTOR_GP, PAYLOAD_AT(read_one, read_one_gp));
	regs.rcx = msr;
	regs.rax = regs.rdx = UINT64_MAX;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

static struct vcpu *begin_write(struct vm *vm, uint32_t msr, uint64_t value)
{
	struct vcpu *vcpu = START(vm, 64, write_one);
	struct kvm_regs regs = vcpu_regs(vcpu);

	vm_gate(vm, 64, VECTOR_GP, PAYLOAD_AT(write_one, write_one_gp));
	regs.rcx = msr;
	regs.rsi = value;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

static void expect_guest_reads(uint32_t msr, uint64_t value)
{
	struct vm vm;
	struct vcpu *vcpu = begin_read(&vm, msr);

	expect_eq(vcpu_set_msr(vcpu, msr, value), 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, value);
}

static void expect_guest_writes(uint32_t msr, uint64_t value)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, msr, value);

	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_msr(vcpu, msr), value);
}

static void expect_write_faults(uint32_t msr, uint64_t value)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, msr, value);
	uint64_t before = vcpu_msr(vcpu, msr);

	expect_out(vcpu, 0x10, 1, 0x6b);
	expect_eq(vcpu_msr(vcpu, msr), before);
}

static void what_software_needs_is_listed(void)
{
	static const uint32_t wanted[] = {MSR_TSC,	    MSR_STAR,	  MSR_LSTAR,
					  MSR_SFMASK,	    MSR_PAT,	  MSR_SYSENTER_CS,
					  MSR_SYSENTER_EIP, MSR_KERNEL_GS};
	struct vm vm;
	uint32_t indices[SAVED_MSRS_MAX], count;

	vm_create_bare(&vm);
	count = saved_list(&vm, indices);
	for (unsigned int i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		bool found = false;

		for (uint32_t j = 0; j < count; j++) {
			found = found || indices[j] == wanted[i];
		}
		if (!found) {
			fail("MSR 0x%x is not listed", wanted[i]);
		}
	}
}

static void the_first_unknown_ends_a_get(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_one);
	union few_msrs msrs = {.head.nmsrs = 3};

	msrs.head.entries[0].index = MSR_STAR;
	msrs.head.entries[1].index = MSR_UNKNOWN;
	msrs.head.entries[2].index = MSR_LSTAR;
	expect_eq(must(kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msrs)), 1);
}

static void the_first_refused_ends_a_set(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_one);
	union few_msrs msrs = {.head.nmsrs = 3};

	msrs.head.entries[0].index = MSR_STAR;
	msrs.head.entries[0].data = 0x11;
	msrs.head.entries[1].index = MSR_UNKNOWN;
	msrs.head.entries[1].data = 0x22;
	msrs.head.entries[2].index = MSR_SFMASK;
	msrs.head.entries[2].data = 0x33;
	expect_eq(must(kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msrs)), 1);
	expect_eq(vcpu_msr(vcpu, MSR_STAR), 0x11);
	expect_eq(vcpu_msr(vcpu, MSR_SFMASK), 0);
}

static void too_many_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_one);
	union few_msrs msrs = {.head.nmsrs = 0x10000};

	expect_errno(kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &msrs), E2BIG);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &msrs), E2BIG);
}

static void an_unknown_read_faults(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_read(&vm, MSR_UNKNOWN);

	expect_out(vcpu, 0x10, 1, 0x6b);
}

static void an_unknown_write_faults(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, MSR_UNKNOWN, 1);

	expect_out(vcpu, 0x10, 1, 0x6b);
}

static void star_is_shared(void)
{
	expect_guest_reads(MSR_STAR, 0x0023001012345678);
	expect_guest_writes(MSR_STAR, 0x0033002087654321);
}

static void lstar_is_shared(void)
{
	expect_guest_reads(MSR_LSTAR, 0xffff800012345678);
	expect_guest_writes(MSR_LSTAR, 0xffffffff81000000);
}

static void sfmask_is_shared(void)
{
	expect_guest_reads(MSR_SFMASK, 0x47700);
	expect_guest_writes(MSR_SFMASK, 0x257fd5);
}

static void kernel_gs_base_is_shared(void)
{
	expect_guest_reads(MSR_KERNEL_GS, 0xffff888012340000);
	expect_guest_writes(MSR_KERNEL_GS, 0x7fff00001000);
}

static void sysenter_is_shared(void)
{
	expect_guest_reads(MSR_SYSENTER_CS, 0x10);
	expect_guest_writes(MSR_SYSENTER_CS, 0x20);
	expect_guest_reads(MSR_SYSENTER_EIP, 0x12345678);
	expect_guest_writes(MSR_SYSENTER_EIP, 0x87654);
}

static void pat_is_shared(void)
{
	expect_guest_reads(MSR_PAT, 0x0007040600070406);
	expect_guest_writes(MSR_PAT, 0x0407050600070106);
}

static void pat_refuses_types_that_do_not_exist(void)
{
	expect_write_faults(MSR_PAT, 0x0007040600070402); /* 2 is reserved */
	expect_write_faults(MSR_PAT, 0x0807040600070406);
}

static void pat_starts_as_the_manual_says(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_one);

	expect_eq(vcpu_msr(vcpu, MSR_PAT), 0x0007040600070406);
}

static void fs_and_gs_bases_are_those_of_sregs(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_read(&vm, 0xc0000100);
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.fs.base = 0x7f1234567000;
	vcpu_set_sregs(vcpu, &sregs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x7f1234567000);
	expect_eq(vcpu_set_msr(vcpu, 0xc0000101, 0x123456000), 1);
	expect_eq(vcpu_sregs(vcpu).gs.base, 0x123456000);
}

static void efer_is_that_of_sregs(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, MSR_EFER, EFER_AT_START | 0x400 | EFER_SCE);

	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_sregs(vcpu).efer, EFER_AT_START | 0x400 | EFER_SCE);
}

static void efer_refuses_reserved_bits(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, MSR_EFER, EFER_AT_START | 0x400 | 1 << 9);

	expect_out(vcpu, 0x10, 1, 0x6b);
}

static void lme_cannot_change_while_paging(void)
{
	struct vm vm;
	struct vcpu *vcpu = begin_write(&vm, MSR_EFER, 0x800 | EFER_SCE);

	expect_out(vcpu, 0x10, 1, 0x6b);
	expect_eq(vcpu_sregs(vcpu).efer >> 8 & 1, 1);
}

PAYLOAD(64, read_tsc,
	"rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, %rbx\n"
	"mov $0x10, %ecx; rdmsr; shl $32, %rdx; or %rdx, %rax; hlt");

static void tsc_is_what_rdtsc_reads(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_tsc);
	uint64_t before = vcpu_msr(vcpu, MSR_TSC);
	struct kvm_regs regs;

	expect_exit(vcpu, KVM_EXIT_HLT);
	regs = vcpu_regs(vcpu);
	expect(before < regs.rbx && regs.rbx < regs.rax);
	expect(regs.rax < vcpu_msr(vcpu, MSR_TSC));
}

static void tsc_can_be_set_far_ahead(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_tsc);

	/* Far from the VM's own time, so that it is no attempt to synchronise vCPUs. */
	expect_eq(vcpu_set_msr(vcpu, MSR_TSC, UINT64_C(1) << 60), 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rbx >> 60, 1);
}

PAYLOAD(64, read_aux, "rdtscp; hlt");

static void rdtscp_reads_tsc_aux(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_aux);

	if ((vm_cpuid_leaf(&vm, 0x80000001, 0).edx & CPUID_RDTSCP) == 0) {
		test_skip("the CPU has no RDTSCP");
	}
	expect_eq(vcpu_set_msr(vcpu, MSR_TSC_AUX, 0x12345), 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx, 0x12345);
}

static void rdmsr_clears_upper_halves(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, read_aux);
	static const char code[] = "\x0f\x32\xf4"; /* rdmsr; hlt */
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, code, code + 3);
	regs = vcpu_regs(vcpu);
	regs.rcx = 0xffffffff00000000 | MSR_STAR;
	regs.rax = regs.rdx = UINT64_MAX;
	vcpu_set_regs(vcpu, &regs);
	expect_eq(vcpu_set_msr(vcpu, MSR_STAR, 0x1234567887654321), 1);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0x87654321);
	expect_eq(vcpu_regs(vcpu).rdx, 0x12345678);
}

static void vcpus_have_their_own(void)
{
	struct vm vm;
	struct vcpu *first, *second;

	vm_create(&vm, IRQCHIP_NONE);
	first = vm_add_vcpu(&vm);
	second = vm_add_vcpu(&vm);
	expect_eq(vcpu_set_msr(first, MSR_LSTAR, 0x1000), 1);
	expect_eq(vcpu_set_msr(second, MSR_LSTAR, 0x2000), 1);
	expect_eq(vcpu_msr(first, MSR_LSTAR), 0x1000);
	expect_eq(vcpu_msr(second, MSR_LSTAR), 0x2000);
}

static void feature_msrs_are_listed_for_the_system(void)
{
	struct vm vm;
	union {
		struct kvm_msr_list head;
		uint32_t room[128];
	} list = {.head.nmsrs = 100};
	union few_msrs one = {.head.nmsrs = 1};

	vm_create_bare(&vm);
	vm_need(&vm, KVM_CAP_GET_MSR_FEATURES, "KVM_CAP_GET_MSR_FEATURES");
	must(kvm_ioctl(vm.kvm_fd, KVM_GET_MSR_FEATURE_INDEX_LIST, &list));
	for (uint32_t i = 0; i < list.head.nmsrs; i++) {
		one.head.entries[0].index = list.head.indices[i];
		expect_eq(must(kvm_ioctl(vm.kvm_fd, KVM_GET_MSRS, &one)), 1);
	}
}

const struct test_case msr_cases[] = {
	{"msr/what_software_needs_is_listed", "KVM API 4.3", what_software_needs_is_listed},
	{"msr/the_first_unknown_ends_a_get", "KVM API 4.18", the_first_unknown_ends_a_get},
	{"msr/the_first_refused_ends_a_set", "KVM API 4.19", the_first_refused_ends_a_set},
	{"msr/too_many_are_refused", "KVM API 4.18", too_many_are_refused},
	{"msr/an_unknown_read_faults", "AMD APM vol. 3, RDMSR", an_unknown_read_faults},
	{"msr/an_unknown_write_faults", "AMD APM vol. 3, WRMSR", an_unknown_write_faults},
	{"msr/star_is_shared", "AMD APM vol. 2, 6.1.1", star_is_shared},
	{"msr/lstar_is_shared", "AMD APM vol. 2, 6.1.1", lstar_is_shared},
	{"msr/sfmask_is_shared", "AMD APM vol. 2, 6.1.1", sfmask_is_shared},
	{"msr/kernel_gs_base_is_shared", "AMD APM vol. 3, SWAPGS", kernel_gs_base_is_shared},
	{"msr/sysenter_is_shared", "AMD APM vol. 2, 6.1.2", sysenter_is_shared},
	{"msr/pat_is_shared", "AMD APM vol. 2, 7.8", pat_is_shared},
	{"msr/pat_refuses_types_that_do_not_exist", "AMD APM vol. 2, 7.8.1",
	 pat_refuses_types_that_do_not_exist},
	{"msr/pat_starts_as_the_manual_says", "AMD APM vol. 2, 7.8.1",
	 pat_starts_as_the_manual_says},
	{"msr/fs_and_gs_bases_are_those_of_sregs", "AMD APM vol. 2, 4.5.3",
	 fs_and_gs_bases_are_those_of_sregs},
	{"msr/efer_is_that_of_sregs", "AMD APM vol. 2, 3.1.7", efer_is_that_of_sregs},
	{"msr/efer_refuses_reserved_bits", "AMD APM vol. 2, 3.1.7", efer_refuses_reserved_bits},
	{"msr/lme_cannot_change_while_paging", "AMD APM vol. 2, 14.6.1",
	 lme_cannot_change_while_paging},
	{"msr/tsc_is_what_rdtsc_reads", "AMD APM vol. 2, 13.2.4", tsc_is_what_rdtsc_reads},
	{"msr/tsc_can_be_set_far_ahead", "KVM API 4.19", tsc_can_be_set_far_ahead},
	{"msr/rdtscp_reads_tsc_aux", "AMD APM vol. 3, RDTSCP", rdtscp_reads_tsc_aux},
	{"msr/rdmsr_clears_upper_halves", "AMD APM vol. 3, RDMSR", rdmsr_clears_upper_halves},
	{"msr/vcpus_have_their_own", "KVM API 4.19", vcpus_have_their_own},
	{"msr/feature_msrs_are_listed_for_the_system", "KVM API 4.3",
	 feature_msrs_are_listed_for_the_system},
	TEST_END,
};
