/* CPUID: what is supported, what a guest is told, and what of it changes by itself. */
#include <errno.h>
#include <string.h>

#include "tests/guest/bare/bare.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define ENTRIES 256

#define CPUID_OSXSAVE (1 << 27) /* leaf 1, ECX */
#define CPUID_XSAVE   (1 << 26)
#define CPUID_APIC    (1 << 9) /* leaf 1, EDX */
#define CR4_OSXSAVE   (1 << 18)

union cpuids {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 room[1 + ENTRIES];
};

PAYLOAD(64, ask, "cpuid; hlt");

static struct kvm_regs answer(struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, ask, ask_end);
	regs = vcpu_regs(vcpu);
	regs.rax = 0xffffffff00000000 | leaf;
	regs.rcx = 0xffffffff00000000 | subleaf;
	regs.rbx = regs.rdx = UINT64_MAX;
	vcpu_set_regs(vcpu, &regs);
	expect_exit(vcpu, KVM_EXIT_HLT);
	return vcpu_regs(vcpu);
}

/* A vCPU with one leaf of its own. */
static struct vcpu *with_leaf(struct vm *vm, struct kvm_cpuid_entry2 leaf)
{
	struct vcpu *vcpu;
	struct kvm_cpuid2 *cpuid;

	vm_create(vm, IRQCHIP_NONE);
	vcpu = vm_add_plain_vcpu(vm);
	cpuid = vm_supported_cpuid(vm);
	cpuid->entries[cpuid->nent++] = leaf;
	vcpu_set_cpuid(vcpu, cpuid);
	return vcpu;
}

static void guest_sees_what_was_set(void)
{
	struct vm vm;
	struct vcpu *vcpu = with_leaf(&vm, (struct kvm_cpuid_entry2){.function = 0x40000300,
								     .eax = 0x11111111,
								     .ebx = 0x22222222,
								     .ecx = 0x83333333,
								     .edx = 0x44444444});
	struct kvm_regs regs = answer(vcpu, 0x40000300, 0);

	expect_eq(regs.rax, 0x11111111);
	expect_eq(regs.rbx, 0x22222222);
	expect_eq(regs.rcx, 0x83333333); /* upper halves are cleared */
	expect_eq(regs.rdx, 0x44444444);
}

static void subleaves_are_told_apart(void)
{
	struct vm vm;
	struct kvm_cpuid_entry2 leaf = {.function = 0x40000300,
					.index = 5,
					.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
					.eax = 0x55};
	struct vcpu *vcpu = with_leaf(&vm, leaf);

	expect_eq(answer(vcpu, 0x40000300, 5).rax, 0x55);
	expect_eq(answer(vcpu, 0x40000300, 6).rax, 0);
}

static void an_index_may_not_matter(void)
{
	struct vm vm;
	struct vcpu *vcpu = with_leaf(
		&vm, (struct kvm_cpuid_entry2){.function = 0x40000300, .index = 0, .ebx = 0x66});

	expect_eq(answer(vcpu, 0x40000300, 77).rbx, 0x66);
}

static void supported_says_who_it_is(void)
{
	struct vm vm;
	struct kvm_cpuid_entry2 leaf;

	vm_create_bare(&vm);
	leaf = vm_cpuid_leaf(&vm, 0x40000000, 0);
	expect_eq(leaf.ebx, 0x4b4d564b); /* KVMK */
	expect_eq(leaf.ecx, 0x564b4d56); /* VMKV */
	expect_eq(leaf.edx, 0x4d);	 /* M */
	expect(leaf.eax >= 0x40000001);
}

static void supported_has_a_64_bit_cpu(void)
{
	struct vm vm;

	vm_create_bare(&vm);
	expect(vm_cpuid_leaf(&vm, 0, 0).eax >= 0xd);
	/* x87, TSC, MSR, PAE, CX8, CMOV, FXSR, SSE, SSE2 */
	expect_eq(vm_cpuid_leaf(&vm, 1, 0).edx & 0x07008170, 0x07008170);
	expect_eq(vm_cpuid_leaf(&vm, 0x80000001, 0).edx & 0x20100800, 0x20100800);
	expect((vm_cpuid_leaf(&vm, 0x80000008, 0).eax & 0xff) >= 36);
}

static void too_short_a_list_is_refused(void)
{
	struct vm vm;
	union cpuids list = {.head.nent = 1};

	vm_create_bare(&vm);
	expect_errno(kvm_ioctl(vm.kvm_fd, KVM_GET_SUPPORTED_CPUID, &list), E2BIG);
	expect(vm_supported_cpuid(&vm)->nent > 1);
}

static void get_returns_what_was_set(void)
{
	struct vm vm;
	struct vcpu *vcpu =
		with_leaf(&vm, (struct kvm_cpuid_entry2){.function = 0x40000300, .eax = 0x1234});
	static union cpuids got;
	bool found = false;

	got.head.nent = ENTRIES;
	must(kvm_ioctl(vcpu->fd, KVM_GET_CPUID2, &got));
	for (uint32_t i = 0; i < got.head.nent; i++) {
		found = found || (got.head.entries[i].function == 0x40000300 &&
				  got.head.entries[i].eax == 0x1234);
	}
	expect(found);
}

static void too_short_a_get_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	union cpuids got = {.head.nent = 1};

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_GET_CPUID2, &got), E2BIG);
}

static void too_many_entries_are_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	union cpuids list = {.head.nent = 0x10000};

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_plain_vcpu(&vm);
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, &list), E2BIG);
}

static void osxsave_follows_cr4(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_sregs sregs;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	if ((vm_cpuid_leaf(&vm, 1, 0).ecx & CPUID_XSAVE) == 0) {
		test_skip("the CPU has no XSAVE");
	}
	expect_eq(answer(vcpu, 1, 0).rcx & CPUID_OSXSAVE, 0);
	vcpu_start(vcpu, 64, ask, ask_end);
	sregs = vcpu_sregs(vcpu);
	sregs.cr4 |= CR4_OSXSAVE;
	vcpu_set_sregs(vcpu, &sregs);
	{
		struct kvm_regs regs = vcpu_regs(vcpu);

		regs.rax = 1;
		vcpu_set_regs(vcpu, &regs);
	}
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rcx & CPUID_OSXSAVE, CPUID_OSXSAVE);
}

static void apic_bit_follows_the_apic_base(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_sregs sregs;

	vm_create(&vm, IRQCHIP_SPLIT);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs));
	expect_eq(sregs.apic_base >> 11 & 1, 1);
	/* With a local APIC in the provider HLT would wait: read it by a port write. */
	{
		static const char code[] = "\x0f\xa2\xe6\x10"; /* cpuid; out %al, $0x10 */
		struct kvm_regs regs;

		for (int enabled = 1; enabled >= 0; enabled--) {
			vcpu_start(vcpu, 64, code, code + 4);
			sregs = vcpu_sregs(vcpu);
			sregs.apic_base = (sregs.apic_base & ~UINT64_C(0x800)) | (uint64_t)enabled
											 << 11;
			vcpu_set_sregs(vcpu, &sregs);
			regs = vcpu_regs(vcpu);
			regs.rax = 1;
			vcpu_set_regs(vcpu, &regs);
			expect_exit(vcpu, KVM_EXIT_IO);
			regs = vcpu_regs(vcpu);
			expect_eq(regs.rdx & CPUID_APIC, enabled ? CPUID_APIC : 0);
		}
	}
}

static void xsave_size_follows_xcr0(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};
	uint64_t supported;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	supported = vm_cpuid_leaf(&vm, 0xd, 0).eax;
	if ((supported & 4) == 0) {
		test_skip("the CPU has no AVX");
	}
	xcrs.xcrs[0].value = 1;
	must(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs));
	expect_eq(answer(vcpu, 0xd, 0).rbx, 576);
	xcrs.xcrs[0].value = 7;
	must(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs));
	expect_eq(answer(vcpu, 0xd, 0).rbx, 576 + 256);
}

static void vcpus_may_differ(void)
{
	struct vm vm;
	struct vcpu *first, *second;

	vm_create(&vm, IRQCHIP_NONE);
	first = vm_add_vcpu(&vm);
	second = vm_add_vcpu(&vm);
	expect_eq(answer(first, 1, 0).rbx >> 24, 0);
	expect_eq(answer(second, 1, 0).rbx >> 24, 1);
}

const struct test_case cpuid_cases[] = {
	{"cpuid/guest_sees_what_was_set", "KVM API 4.20", guest_sees_what_was_set},
	{"cpuid/subleaves_are_told_apart", "KVM API 4.20", subleaves_are_told_apart},
	{"cpuid/an_index_may_not_matter", "KVM API 4.20", an_index_may_not_matter},
	{"cpuid/supported_says_who_it_is", "Linux virt/kvm/x86/cpuid.rst",
	 supported_says_who_it_is},
	{"cpuid/supported_has_a_64_bit_cpu", "KVM API 4.46", supported_has_a_64_bit_cpu},
	{"cpuid/too_short_a_list_is_refused", "KVM API 4.46", too_short_a_list_is_refused},
	{"cpuid/get_returns_what_was_set", "KVM API 4.20", get_returns_what_was_set},
	{"cpuid/too_short_a_get_is_refused", "KVM API 4.20", too_short_a_get_is_refused},
	{"cpuid/too_many_entries_are_refused", "KVM API 4.20", too_many_entries_are_refused},
	{"cpuid/osxsave_follows_cr4", "AMD APM vol. 3, E.3.2", osxsave_follows_cr4},
	{"cpuid/apic_bit_follows_the_apic_base", "AMD APM vol. 2, 16.3.1",
	 apic_bit_follows_the_apic_base},
	{"cpuid/xsave_size_follows_xcr0", "AMD APM vol. 3, E.3.8", xsave_size_follows_xcr0},
	{"cpuid/vcpus_may_differ", "KVM API 4.20", vcpus_may_differ},
	TEST_END,
};
