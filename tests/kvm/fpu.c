/* x87, SSE and extended state: by the ioctls, and apart between vCPUs, guest and host. */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define XSAVE_XMM0  160 /* bytes into the area: AMD APM vol. 2, figure 11-9 */
#define XSAVE_MXCSR 24
#define XSAVE_BV    512

static void fpu_round_trip(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_fpu set = {.fcw = 0x27f, .fsw = 0x3800, .ftwx = 0x81},
		       got; /* Linux leaves MXCSR to KVM_SET_XSAVE */

	memset(set.fpr[0], 0x5a, 10);
	memset(set.fpr[7], 0xa5, 10);
	for (unsigned int i = 0; i < 16; i++) {
		memset(set.xmm[i], (int)(0x10 + i), 16);
	}
	set.last_opcode = 0x123;
	set.last_ip = 0x1234567890;
	set.last_dp = 0x9876543210;
	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_SET_FPU, &set));
	must(kvm_ioctl(vcpu->fd, KVM_GET_FPU, &got));
	expect_eq(got.fcw, set.fcw);
	expect_eq(got.fsw, set.fsw);
	expect_eq(got.ftwx, set.ftwx);
	expect_eq(got.last_opcode, set.last_opcode);
	expect_eq(got.last_ip, set.last_ip);
	expect_eq(got.last_dp, set.last_dp);
	expect(memcmp(got.fpr, set.fpr, sizeof(set.fpr)) == 0);
	expect(memcmp(got.xmm, set.xmm, sizeof(set.xmm)) == 0);
}

PAYLOAD(64, store_xmm,
	"movdqu %xmm0, 0x20000; movdqu %xmm15, 0x20010; stmxcsr 0x20020\n"
	"fnstcw 0x20024; fnstsw 0x20026; hlt");

/* An XSAVE area with @byte in all of XMM0 to XMM15, its components as the mask says. */
static struct kvm_xsave *xsave_with(int byte, uint32_t components)
{
	static struct kvm_xsave xsave;

	memset(&xsave, 0, sizeof(xsave));
	xsave.region[0] = 0x3800 << 16 | 0x27f; /* FSW, FCW */
	xsave.region[XSAVE_MXCSR / 4] = 0x1fa0;
	memset((char *)xsave.region + XSAVE_XMM0, byte, 256);
	xsave.region[XSAVE_BV / 4] = components;
	return &xsave;
}

static void xsave_reaches_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_xmm);

	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, xsave_with(0x11, 3)));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(*(uint64_t *)(vm.ram + VM_FREE), 0x1111111111111111);
	expect_eq(*(uint64_t *)(vm.ram + VM_FREE + 0x18), 0x1111111111111111);
	expect_eq(*(uint32_t *)(vm.ram + VM_FREE + 0x20), 0x1fa0);
	expect_eq(*(uint16_t *)(vm.ram + VM_FREE + 0x24), 0x27f);
	expect_eq(*(uint16_t *)(vm.ram + VM_FREE + 0x26), 0x3800);
}

static void xsave_comes_from_the_guest(void)
{
	static struct kvm_xsave xsave;
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_xmm);

	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, xsave_with(0x22, 3)));
	expect_exit(vcpu, KVM_EXIT_HLT);
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
	expect_eq(xsave.region[XSAVE_XMM0 / 4], 0x22222222);
	expect_eq(xsave.region[XSAVE_MXCSR / 4], 0x1fa0);
	expect_eq(xsave.region[0], 0x3800 << 16 | 0x27f);
}

PAYLOAD(64, load_xmm, "movdqu 0x20000, %xmm3; ldmxcsr 0x20010; fldpi; fld1; hlt");

static void fpu_comes_from_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, load_xmm);
	struct kvm_fpu fpu;
	static const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};

	memset(vm.ram + VM_FREE, 0x77, 16);
	*(uint32_t *)(vm.ram + VM_FREE + 0x10) = 0x1f00;
	expect_exit(vcpu, KVM_EXIT_HLT);
	must(kvm_ioctl(vcpu->fd, KVM_GET_FPU, &fpu));
	expect(memcmp(fpu.xmm[3], vm.ram + VM_FREE, 16) == 0);
	expect_eq(fpu.fsw >> 11 & 7, 6);
	expect_eq(fpu.ftwx, 0xc0);
	expect(memcmp(fpu.fpr[0], one, 10) == 0);
}

static void created_as_the_api_says(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_fpu fpu;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_GET_FPU, &fpu));
	expect_eq(fpu.fcw, 0x37f);
	expect_eq(fpu.fsw, 0);
	expect_eq(fpu.ftwx, 0);
}

static void xsave_round_trip(void)
{
	static struct kvm_xsave set, got;
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &set));
	memset((char *)set.region + XSAVE_XMM0, 0x3c, 256);
	set.region[XSAVE_MXCSR / 4] = 0x1fa0;
	set.region[XSAVE_BV / 4] |= 2;
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, &set));
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &got));
	expect(memcmp((char *)got.region + XSAVE_XMM0, (char *)set.region + XSAVE_XMM0, 256) == 0);
	expect_eq(got.region[XSAVE_MXCSR / 4], 0x1fa0);
}

static void xsave_and_fpu_agree(void)
{
	struct kvm_fpu fpu;
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, xsave_with(0x99, 3)));
	must(kvm_ioctl(vcpu->fd, KVM_GET_FPU, &fpu));
	expect_eq(fpu.xmm[15][15], 0x99);
	expect_eq(fpu.fcw, 0x27f);
	expect_eq(fpu.fsw, 0x3800);
}

static void absent_components_are_reset(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, store_xmm);

	if ((vm_cpuid_leaf(&vm, 1, 0).ecx & 1 << 26) == 0) {
		test_skip("the CPU has no XSAVE");
	}
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, xsave_with(0x99, 3)));
	/* SSE in its initial state, whatever the bytes say. */
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, xsave_with(0x77, 1)));
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(*(uint64_t *)(vm.ram + VM_FREE), 0);
}

/* CR4.PKE; then whatever PKRU is. */
PAYLOAD(64, tell_pkru,
	"mov %cr4, %rax; or $0x400000, %rax; mov %rax, %cr4; xor %ecx, %ecx; xor %edx, %edx\n"
	"mov $0x55555554, %eax; wrpkru\n"
	"1: out %al, $0x10; rdpkru; jmp 1b");

static void xsave_has_protection_keys(void)
{
	static struct kvm_xsave xsave;
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, tell_pkru);
	unsigned int at = vm_cpuid_leaf(&vm, 0xd, 9).ebx / 4;

	if ((vm_cpuid_leaf(&vm, 7, 0).ecx & 1 << 3) == 0) {
		test_skip("the CPU has no protection keys");
	}
	expect_exit(vcpu, KVM_EXIT_IO);
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
	expect_eq(xsave.region[at], 0x55555554);
	for (uint32_t i = 0; i < 4; i++) {
		xsave.region[at] = 0x1000 << i;
		xsave.region[XSAVE_BV / 4] |= 1 << 9;
		must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave));
		expect_exit(vcpu, KVM_EXIT_IO);
		expect_eq(vcpu_regs(vcpu).rax, 0x1000 << i);
		must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
		expect_eq(xsave.region[at], 0x1000 << i);
		expect_eq(xsave.region[XSAVE_BV / 4] & 1 << 9, 1 << 9);
	}
	/* It is the guest's, not this program's. */
	xsave.region[at] = 0xfffffffc;
	must(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave));
	expect_exit(vcpu, KVM_EXIT_IO);
	expect_eq(vcpu_regs(vcpu).rax, 0xfffffffc);
}

static void unknown_components_are_refused(void)
{
	static struct kvm_xsave xsave;
	struct vm vm;
	struct vcpu *vcpu;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	if ((vm_cpuid_leaf(&vm, 1, 0).ecx & 1 << 26) == 0) {
		test_skip("the CPU has no XSAVE");
	}
	must(kvm_ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave));
	xsave.region[XSAVE_BV / 4 + 1] |= 1u << 29;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_XSAVE, &xsave), EINVAL);
}

static void xcrs_round_trip(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_xcrs xcrs;

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	must(kvm_ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs));
	expect_eq(xcrs.nr_xcrs, 1);
	expect_eq(xcrs.xcrs[0].xcr, 0);
	expect_eq(xcrs.xcrs[0].value, 1);
	if ((vm_cpuid_leaf(&vm, 0xd, 0).eax & 2) == 0) {
		test_skip("the CPU has no XSAVE");
	}
	xcrs.xcrs[0].value = 3;
	must(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs));
	xcrs.xcrs[0].value = 0;
	must(kvm_ioctl(vcpu->fd, KVM_GET_XCRS, &xcrs));
	expect_eq(xcrs.xcrs[0].value, 3);
}

static void impossible_xcr0_is_refused(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};

	vm_create(&vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(&vm);
	xcrs.xcrs[0].value = 2; /* x87 cannot be off */
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
	xcrs.xcrs[0].value = 5; /* AVX without SSE */
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
	xcrs.xcrs[0].value = UINT64_C(1) << 62 | 3;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs), EINVAL);
}

/* ---- apart ---- */

PAYLOAD(64, own_xmm,
	"movq %rbx, %xmm0; movq %rbx, %xmm7; movq %rbx, %xmm15; ldmxcsr 0x20000\n"
	"1: out %al, $0x10; movq %xmm0, %rcx; movq %xmm7, %rdx; movq %xmm15, %rsi\n"
	"stmxcsr 0x20008; mov 0x20008, %edi; jmp 1b");

static struct vcpu *add_with(struct vm *vm, uint64_t value)
{
	struct vcpu *vcpu = vm_add_vcpu(vm);
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, own_xmm, own_xmm_end);
	regs = vcpu_regs(vcpu);
	regs.rbx = value;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

static void expect_own(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	expect_exit(vcpu, KVM_EXIT_IO);
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rcx, regs.rbx);
	expect_eq(regs.rdx, regs.rbx);
	expect_eq(regs.rsi, regs.rbx);
}

static void vcpus_do_not_share(void)
{
	struct vm vm;
	struct vcpu *first, *second;

	vm_create(&vm, IRQCHIP_NONE);
	*(uint32_t *)(vm.ram + VM_FREE) = 0x1f80;
	first = add_with(&vm, 0x1111111111111111);
	second = add_with(&vm, 0x2222222222222222);
	expect_exit(first, KVM_EXIT_IO);
	expect_exit(second, KVM_EXIT_IO);
	for (unsigned int i = 0; i < 20; i++) {
		expect_own(first);
		expect_own(second);
	}
}

static void *run_own(void *vcpu)
{
	expect_exit((struct vcpu *)vcpu, KVM_EXIT_IO);
	for (unsigned int i = 0; i < 2000; i++) {
		expect_own(vcpu);
	}
	return NULL;
}

static void vcpus_in_threads_do_not_share(void)
{
	struct vm vm;
	struct vcpu *vcpus[3];

	vm_create(&vm, IRQCHIP_NONE);
	*(uint32_t *)(vm.ram + VM_FREE) = 0x1f80;
	for (uint64_t i = 0; i < 3; i++) {
		vcpus[i] = add_with(&vm, 0x0101010101010101 * (i + 1));
	}
	for (unsigned int i = 0; i < 3; i++) {
		vcpu_in_thread(vcpus[i], run_own);
	}
	for (unsigned int i = 0; i < 3; i++) {
		vcpu_join(vcpus[i]);
	}
}

static void guest_and_host_do_not_share(void)
{
	struct vm vm;
	struct vcpu *vcpu;
	uint32_t mxcsr = 0x1f80, host = 0x3f80, seen; /* the host rounds down */

	vm_create(&vm, IRQCHIP_NONE);
	*(uint32_t *)(vm.ram + VM_FREE) = mxcsr;
	vcpu = add_with(&vm, 0x7777777777777777);
	__asm__ volatile("ldmxcsr %0" : : "m"(host));
	expect_exit(vcpu, KVM_EXIT_IO);
	expect_own(vcpu);
	__asm__ volatile("stmxcsr %0" : "=m"(seen));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	expect_eq(seen, host);
	expect_eq(vcpu_regs(vcpu).rdi, 0x1f80);
}

PAYLOAD(64, peek, "movq %xmm5, %rax; movq %xmm11, %rbx; hlt");

static void a_new_vcpu_sees_nothing_of_the_host(void)
{
	struct vm vm;
	struct vcpu *vcpu = START(&vm, 64, peek);
	uint64_t secret = 0x5ec7e75ec7e75ec7;

	__asm__ volatile("movq %0, %%xmm5; movq %0, %%xmm11" : : "r"(secret) : "xmm5", "xmm11");
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rax, 0);
	expect_eq(vcpu_regs(vcpu).rbx, 0);
}

const struct test_case fpu_cases[] = {
	{"fpu/fpu_round_trip", "KVM API 4.22, 4.23", fpu_round_trip},
	{"fpu/xsave_reaches_the_guest", "KVM API 4.43", xsave_reaches_the_guest},
	{"fpu/xsave_comes_from_the_guest", "KVM API 4.42", xsave_comes_from_the_guest},
	{"fpu/fpu_comes_from_the_guest", "KVM API 4.22", fpu_comes_from_the_guest},
	{"fpu/created_as_the_api_says", "KVM API 4.22", created_as_the_api_says},
	{"fpu/xsave_round_trip", "KVM API 4.42, 4.43", xsave_round_trip},
	{"fpu/xsave_and_fpu_agree", "KVM API 4.42", xsave_and_fpu_agree},
	{"fpu/absent_components_are_reset", "AMD APM vol. 2, 11.5.7", absent_components_are_reset},
	{"fpu/xsave_has_protection_keys", "KVM API 4.42, 4.43; Intel SDM vol. 1, 13.5.7",
	 xsave_has_protection_keys},
	{"fpu/unknown_components_are_refused", "KVM API 4.43", unknown_components_are_refused},
	{"fpu/xcrs_round_trip", "KVM API 4.44, 4.45", xcrs_round_trip},
	{"fpu/impossible_xcr0_is_refused", "AMD APM vol. 2, 11.5.2", impossible_xcr0_is_refused},
	{"fpu/vcpus_do_not_share", "KVM API 4.22", vcpus_do_not_share},
	{"fpu/vcpus_in_threads_do_not_share", "KVM API 4.22", vcpus_in_threads_do_not_share},
	{"fpu/guest_and_host_do_not_share", "KVM API 4.10", guest_and_host_do_not_share},
	{"fpu/a_new_vcpu_sees_nothing_of_the_host", "KVM API 4.10",
	 a_new_vcpu_sees_nothing_of_the_host},
	TEST_END,
};
