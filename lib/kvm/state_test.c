/* What user space reads is what it wrote; what no CPU can hold is refused and changes nothing. */
#include "lib/kvm/state.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <string.h>

#include "lib/kvm/cpuid.h"
#include "lib/kvm/fake_env.h"
#include "lib/kvm/fake_irq.h"
#include "lib/kvm/msr.h"
#include "lib/kvm/registers.h"
#include "lib/x86/msr.h"
#include "lib/x86/regs.h"

#define PAGE 4096

static _Alignas(PAGE) uint8_t ram[16 * PAGE];

static struct fake f;
static struct kvm_vcpu *vcpu;
static struct kvm_cpuid2 *cpuid;
static uint64_t cpuid_room[2048];

static int set_up(void **state)
{
	(void)state;
	fake_init(&f);
	fake_irq = (struct fake_irq){0};
	(void)fake_vm(&f);
	assert_int_equal(fake_slot(&f, 0, 0, 0, sizeof(ram), ram), 0);
	vcpu = fake_vcpu(&f, 0);
	cpuid = (struct kvm_cpuid2 *)cpuid_room;
	cpuid->nent = 200;
	assert_int_equal(kvm_system_ioctl(&f.env, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_CPUID2, cpuid), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

static struct kvm_sregs get_sregs(void)
{
	struct kvm_sregs sregs = {0};

	assert_int_equal(vcpu_call(vcpu, KVM_GET_SREGS, &sregs), 0);
	return sregs;
}

static struct kvm_sregs long_mode(void)
{
	struct kvm_sregs s = get_sregs();

	s.cr0 = CR0_PE | CR0_PG | CR0_ET;
	s.cr3 = 0x1000;
	s.cr4 = CR4_PAE;
	s.efer = EFER_LME | EFER_LMA;
	s.cs.l = 1;
	return s;
}

static void a_new_vcpu_is_reset(void **state)
{
	struct kvm_sregs s = get_sregs();
	struct kvm_regs regs;
	struct kvm_fpu fpu;

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rip, 0xfff0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(s.cs.selector, 0xf000);
	assert_true(s.cs.base == 0xffff0000);
	assert_int_equal(s.cs.type, 0xb);
	assert_int_equal(s.cr0, 0x60000010);
	assert_int_equal(s.tr.type, 0xb);
	assert_true(s.apic_base == 0xfee00900);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_FPU, &fpu), 0);
	assert_int_equal(fpu.fcw, 0x37f);
	assert_int_equal(fpu.mxcsr, 0x1f80);
}

static void special_registers_come_back(void **state)
{
	struct kvm_sregs s = long_mode();
	struct kvm_sregs got;

	(void)state;
	s.ds = (struct kvm_segment){.base = 0x12345678,
				    .limit = 0xffffffff,
				    .selector = 0x2b,
				    .type = 3,
				    .present = 1,
				    .dpl = 3,
				    .db = 1,
				    .s = 1,
				    .g = 1};
	s.ldt = (struct kvm_segment){.unusable = 1};
	s.ss.dpl = 3;
	s.gdt.base = 0xffff800000001000;
	s.gdt.limit = 0x7f;
	s.cr2 = 0xdeadbeef;
	s.cr8 = 5;
	s.interrupt_bitmap[1] = 1 << 4;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &s), 0);
	got = get_sregs();
	assert_memory_equal(&got, &s, sizeof(s));
	assert_int_equal(vcpu->cpu.cpl, 3);
}

static void expect_refused(const struct kvm_sregs *s)
{
	struct kvm_sregs before = get_sregs();
	struct kvm_sregs after;

	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, s), -EINVAL);
	after = get_sregs();
	assert_memory_equal(&before, &after, sizeof(after));
}

static void impossible_states_are_refused(void **state)
{
	struct kvm_sregs s;

	(void)state;
#define REFUSED(change)             \
	do {                        \
		s = long_mode();    \
		change;             \
		expect_refused(&s); \
	} while (0)
	REFUSED(s.cr4 = 0);
	REFUSED(s.efer &= ~EFER_LMA);
	REFUSED(s.efer &= ~EFER_LME);
	REFUSED(s.efer |= BIT(9));
	REFUSED(s.cr0 &= ~CR0_PG);
	REFUSED(s.cr0 &= ~CR0_PE);
	REFUSED(s.cr0 |= CR0_NW);
	REFUSED(s.cr0 |= BIT(32));
	REFUSED(s.cr3 |= BIT(52));
	REFUSED(s.cr4 |= BIT(33));
	REFUSED(s.cr4 |= BIT(15));
	REFUSED(s.cs.db = 1);
	REFUSED(s.cr8 = 16);
	REFUSED(s.apic_base = 1);
#undef REFUSED
}

static void cr4_follows_cpuid(void **state)
{
	struct kvm_sregs s = long_mode();
	struct kvm_vcpu *other = fake_vcpu(&f, 1);

	(void)state;
	s.cr4 |= CR4_SMEP;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &s), 0);
	/* Without a CPUID all may be set that there is; with one, what it shows. */
	assert_int_equal(vcpu_call(other, KVM_SET_SREGS, &s), 0);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 7 && cpuid->entries[i].index == 0) {
			cpuid->entries[i].ebx &= ~(uint32_t)BIT(7);
		}
	}
	assert_int_equal(vcpu_call(other, KVM_SET_CPUID2, cpuid), 0);
	assert_int_equal(vcpu_call(other, KVM_SET_SREGS, &s), -EINVAL);
}

/* CPUID's MONITOR follows IA32_MISC_ENABLE only where user space wants it. */
static void monitor_follows_misc_enable_on_request(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DISABLE_QUIRKS2,
				     .args = {KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT}};
	uint64_t was;

	(void)state;
	assert_int_equal(kvm_msr_get(vcpu, MSR_IA32_MISC_ENABLE, &was, true), 0);
	assert_int_equal(kvm_msr_set(vcpu, MSR_IA32_MISC_ENABLE, was | BIT(18), true), 0);
	assert_false(kvm_cpuid_has(vcpu, 1, CPUID_ECX, BIT(3)));
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	assert_int_equal(kvm_msr_set(vcpu, MSR_IA32_MISC_ENABLE, was, true), 0);
	assert_false(kvm_cpuid_has(vcpu, 1, CPUID_ECX, BIT(3)));
	assert_int_equal(kvm_msr_set(vcpu, MSR_IA32_MISC_ENABLE, was | BIT(18), true), 0);
	assert_true(kvm_cpuid_has(vcpu, 1, CPUID_ECX, BIT(3)));
}

static void pae_pointers_travel(void **state)
{
	struct kvm_sregs2 s;

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_GET_SREGS2, &s), 0);
	assert_int_equal(s.flags, 0);
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS2, &s), -EINVAL);
	s.cr0 = CR0_PE | CR0_PG | CR0_ET;
	s.cr4 = CR4_PAE;
	s.cr3 = 0x1000;
	s.pdptrs[2] = 0x5001;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS2, &s), 0);
	memset(&s, 0, sizeof(s));
	assert_int_equal(vcpu_call(vcpu, KVM_GET_SREGS2, &s), 0);
	assert_int_equal(s.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
	assert_int_equal(s.pdptrs[2], 0x5001);
	s.flags = 2;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS2, &s), -EINVAL);
}

static void events_come_back(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
	struct kvm_vcpu_events e = {0};
	struct kvm_vcpu_events got;

	(void)state;
	e.exception.injected = 1;
	e.exception.nr = 13;
	e.exception.has_error_code = 1;
	e.exception.error_code = 0x18;
	e.nmi.masked = 1;
	e.interrupt.shadow = 1;
	e.flags = KVM_VCPUEVENT_VALID_SHADOW;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_VCPU_EVENTS, &got), 0);
	assert_int_equal(got.exception.injected, 1);
	assert_int_equal(got.exception.error_code, 0x18);
	assert_int_equal(got.nmi.masked, 1);
	assert_int_not_equal(got.interrupt.shadow, 0);
	e.exception.nr = 32;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.exception.nr = 2;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.exception.nr = 14;
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = 1u << 20;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	e.flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), -EINVAL);
	/* A page fault with its address: CR2 changes when it is delivered. */
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
	e.exception.injected = 0;
	e.exception.pending = 1;
	e.exception_has_payload = 1;
	e.exception_payload = 0x1234000;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &e), 0);
	assert_int_equal(get_sregs().cr2, 0);
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(get_sregs().cr2, 0x1234000);
	assert_int_equal(f.delivered[0].vector, 14);
}

static void mp_states(void **state)
{
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_HALTED};

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_MP_STATE, &mp), -EINVAL); /* no local APIC */
	mp.mp_state = 77;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_MP_STATE, &mp), -EINVAL);
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_MP_STATE, &mp), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_MP_STATE, &mp), 0);
	assert_int_equal(mp.mp_state, KVM_MP_STATE_RUNNABLE);
}

static void extended_state(void **state)
{
	static _Alignas(64) uint8_t area[4096];
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
	struct kvm_fpu fpu;

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XCRS, &xcrs), 0);
	assert_int_equal(kvm_cpuid_find(vcpu, 0xd, 0)->ebx, 832);
	xcrs.xcrs[0].value = 5;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XCRS, &xcrs), -EINVAL);
	xcrs.xcrs[0].value = 0x207;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XCRS, &xcrs), -EINVAL);
	xcrs.xcrs[0].value = 1;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XCRS, &xcrs), 0);
	assert_int_equal(kvm_cpuid_find(vcpu, 0xd, 0)->ebx, 576);
	xcrs.nr_xcrs = 17;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XCRS, &xcrs), -EINVAL);

	assert_int_equal(vcpu_call(vcpu, KVM_GET_XSAVE, area), 0);
	area[512] = 7;
	memset(area + 160, 0xab, 256);
	area[576] = 0xcd;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, area), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_FPU, &fpu), 0);
	assert_int_equal(fpu.xmm[15][15], 0xab);
	fpu.fpr[7][9] = 0x7f;
	fpu.mxcsr = 0x1fc0;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_FPU, &fpu), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_XSAVE2, area), 0);
	assert_int_equal(area[32 + 7 * 16 + 9], 0x7f);
	assert_int_equal(area[576], 0xcd);
	assert_int_equal(area[24], 0xc0);
	area[512] = 8;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, area), -EINVAL);
	area[512] = 7;
	area[527] = 0x80; /* compacted */
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, area), -EINVAL);
	area[527] = 0;
	area[27] = 0x80; /* MXCSR */
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, area), -EINVAL);
}

static void debug_registers(void **state)
{
	struct kvm_debugregs d = {.db = {1, 2, 3, 4}, .dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_debugregs got;

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_DEBUGREGS, &d), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_DEBUGREGS, &got), 0);
	assert_memory_equal(&got, &d, sizeof(d));
	d.dr7 = UINT64_C(1) << 32;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_DEBUGREGS, &d), -EINVAL);
	d.dr7 = 0x400;
	d.flags = 1;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_DEBUGREGS, &d), -EINVAL);
}

/* ---- MSRs ---- */

static void listed_msrs_can_be_saved(void **state)
{
	uint32_t list[KVM_MSR_LIST_MAX];
	uint32_t count = kvm_msr_list(&f.env, list);

	(void)state;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t value;

		assert_int_equal(kvm_msr_get(vcpu, list[i], &value, true), 0);
		assert_int_equal(kvm_msr_set(vcpu, list[i], value, true), 0);
	}
	for (uint32_t i = 1; i < count; i++) {
		for (uint32_t j = 0; j < i; j++) {
			assert_int_not_equal(list[i], list[j]);
		}
	}
}

static void msrs_refuse_what_they_cannot_hold(void **state)
{
	static const struct {
		uint32_t msr;
		uint64_t value;
		int guest, host;
	} cases[] = {
		{0x277, 0x0007040600070406, 0, 0},
		{0x277, 0x0007040600070402, -EINVAL, -EINVAL},
		{0xc0000082, 0xffff800000000000, 0, 0},
		{0xc0000082, 0x0000800000000000, -EINVAL, -EINVAL},
		{0xc0000102, 0x1234000000000000, -EINVAL, -EINVAL},
		{0xc0000080, 0x1, 0, 0},
		{0xc0000080, 0x200, -EINVAL, -EINVAL},
		{0x4000ffff, 0, -ENOENT, -ENOENT},
		{0xfe, 0, -EINVAL, -EINVAL},
		{0x10a, 0, -EINVAL, 0},
		{0xc0010015, 0x40, 0, 0},
		{0xc0010015, 0x2, -EINVAL, -EINVAL},
		{0x2ff, 0xc06, 0, 0},
		{0x2ff, 0xc07, -EINVAL, -EINVAL},
		{0x250, 0x0606060606060606, 0, 0},
		{0x250, 0x0606060606060602, -EINVAL, -EINVAL},
		{0x400, 1, -EINVAL, -EINVAL},
		{0x401, 1, -EINVAL, 0},
		{0x4b564d05, 2, -EINVAL, -EINVAL},
		{0x140, 1, 0, 0},
		{0x140, 2, -EINVAL, -EINVAL},
		{0x8b, 5, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(kvm_msr_set(vcpu, cases[i].msr, cases[i].value, false),
				 cases[i].guest);
		assert_int_equal(kvm_msr_set(vcpu, cases[i].msr, cases[i].value, true),
				 cases[i].host);
	}
}

static unsigned barriers;

static void count_barrier(void)
{
	barriers++;
}

static void what_cpuid_says_of_predictions_is_so(void **state)
{
	struct kvm_cpuid_entry2 *sizes = kvm_cpuid_find(vcpu, CPUID_EXT_SIZES, 0);

	(void)state;
	f.backend.predict_anew = count_barrier;
	barriers = 0;
	kvm_cpuid_find(vcpu, CPUID_FEATURES7, 0)->edx &= ~(uint32_t)BIT(26);
	sizes->ebx &= ~(uint32_t)BIT(12);
	assert_int_equal(kvm_msr_set(vcpu, 0x49, 1, false), -EINVAL);
	assert_int_equal(barriers, 0);
	sizes->ebx |= (uint32_t)BIT(12);
	assert_int_equal(kvm_msr_set(vcpu, 0x49, 0, false), 0);
	assert_int_equal(barriers, 0);
	assert_int_equal(kvm_msr_set(vcpu, 0x49, 1, false), 0);
	assert_int_equal(barriers, 1);
	assert_int_equal(kvm_msr_set(vcpu, 0x49, 2, false), -EINVAL);
	assert_int_equal(barriers, 1);
}

static void lists_of_msrs_end_at_the_first_bad_one(void **state)
{
	union {
		struct kvm_msrs head;
		struct kvm_msr_entry room[4];
	} m = {.head.nmsrs = 3};
	struct kvm_msr_entry *entry = m.head.entries;

	(void)state;
	entry[0] = (struct kvm_msr_entry){.index = 0xc0000081, .data = 0x11};
	entry[1] = (struct kvm_msr_entry){.index = 0x4000ffff, .data = 0x22};
	entry[2] = (struct kvm_msr_entry){.index = 0xc0000084, .data = 0x33};
	assert_int_equal(vcpu_call(vcpu, KVM_SET_MSRS, &m), 1);
	entry[0].data = 0;
	assert_int_equal(vcpu_call(vcpu, KVM_GET_MSRS, &m), 1);
	assert_int_equal(entry[0].data, 0x11);
	m.head.nmsrs = 256;
	assert_int_equal(vcpu_call(vcpu, KVM_GET_MSRS, &m), -E2BIG);
}

static void kvm_msrs_obey_enforcement(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};
	uint64_t value;

	(void)state;
	kvm_cpuid_find(vcpu, CPUID_KVM_FEATURES, 0)->eax = 0;
	kvm_cpuid_defaults(vcpu);
	assert_int_equal(kvm_msr_get(vcpu, MSR_KVM_SYSTEM_TIME_NEW, &value, false), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_ENABLE_CAP, &cap), 0);
	assert_int_equal(kvm_msr_get(vcpu, MSR_KVM_SYSTEM_TIME_NEW, &value, false), -ENOENT);
}

/* ---- control registers, as a guest writes them ---- */

static void control_registers_of_a_guest(void **state)
{
	struct kvm_sregs s = long_mode();

	(void)state;
	vcpu->env->ops->lock_read(vcpu->env, &vcpu->vm->memory);
	assert_int_equal(kvm_reg_set_efer(vcpu, EFER_LME, false), 0);
	assert_int_equal(kvm_reg_set_cr0(vcpu, CR0_PE | CR0_PG), -EINVAL); /* no PAE */
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_PAE), 0);
	assert_int_equal(kvm_reg_set_cr0(vcpu, CR0_PG), -EINVAL);
	assert_int_equal(kvm_reg_set_cr0(vcpu, CR0_PE | CR0_PG), 0);
	assert_true((vcpu->cpu.efer & EFER_LMA) != 0);
	assert_int_equal(kvm_reg_set_efer(vcpu, 0, false), -EINVAL);
	assert_int_equal(kvm_reg_set_cr4(vcpu, 0), -EINVAL);
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_PAE | BIT(15)), -EINVAL);
	assert_int_equal(kvm_reg_set_cr3(vcpu, BIT(51)), -EINVAL);
	assert_int_equal(kvm_reg_set_cr3(vcpu, 0x5003), 0);
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_PAE | CR4_PCIDE), -EINVAL);
	assert_int_equal(kvm_reg_set_cr3(vcpu, 0x5000), 0);
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_PAE | CR4_PCIDE), 0);
	assert_int_equal(kvm_reg_set_cr3(vcpu, CR3_NO_FLUSH | 0x5003), 0);
	assert_true(vcpu->cr3 == 0x5003);
	assert_int_equal(kvm_reg_set_cr0(vcpu, CR0_PE), -EINVAL);
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_PAE), 0);
	assert_int_equal(kvm_reg_set_cr0(vcpu, CR0_PE), 0);
	assert_int_equal(vcpu->cpu.efer & EFER_LMA, 0);
	vcpu->env->ops->unlock_read(vcpu->env, &vcpu->vm->memory);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &s), 0);
}

static void cpuid_answers(void **state)
{
	uint32_t regs[4] = {0xd, 1, 1, 1};

	(void)state;
	kvm_cpuid_query(vcpu, regs);
	assert_int_equal(regs[0], 3 | 4 | 8);
	regs[0] = 0x12345;
	kvm_cpuid_query(vcpu, regs);
	assert_int_equal(regs[0] | regs[1] | regs[2] | regs[3], 0);
	/* CR4.OSXSAVE shows. */
	assert_false(kvm_cpuid_has(vcpu, 1, CPUID_ECX, BIT(27)));
	assert_int_equal(kvm_reg_set_cr4(vcpu, CR4_OSXSAVE), 0);
	assert_true(kvm_cpuid_has(vcpu, 1, CPUID_ECX, BIT(27)));
	/* After the first run it stays what it is. */
	assert_int_equal(vcpu_call(vcpu, KVM_RUN, NULL), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_CPUID2, cpuid), 0);
	cpuid->entries[2].ebx ^= 1;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_CPUID2, cpuid), -EINVAL);
}

static void translation(void **state)
{
	struct kvm_translation t = {.linear_address = 0x1234};
	struct kvm_sregs s = long_mode();

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.physical_address, 0x1234);
	assert_int_equal(t.valid, 1);
	memset(ram, 0, sizeof(ram));
	*(uint64_t *)(ram + 0x1000) = 0x2003;
	*(uint64_t *)(ram + 0x2000) = 0x3003;
	*(uint64_t *)(ram + 0x3000) = 0x00200083;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.physical_address, 0x201234);
	t.linear_address = 0x200000;
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 0);
	assert_int_equal(*(uint64_t *)(ram + 0x3000), 0x00200083); /* nothing was touched */
}

/* KVM_SET_XSAVE brings the rights of keys, which bind the CPU in lib/kvm, too. */
static void translation_by_protection_keys(void **state)
{
	struct kvm_translation t = {.linear_address = 0x1234};
	struct kvm_sregs s = long_mode();
	struct kvm_xsave xsave = {0};
	uint8_t *area = (uint8_t *)&xsave;

	(void)state;
	f.backend.xcr0 = 7 | XCR0_PKRU;
	f.backend.pkru_at = 824;
	memset(ram, 0, sizeof(ram));
	*(uint64_t *)(ram + 0x1000) = 0x2007;
	*(uint64_t *)(ram + 0x2000) = 0x3007;
	*(uint64_t *)(ram + 0x3000) = 0x00200087 | UINT64_C(3) << 59;
	vcpu->features.cr4_allowed |= CR4_PKE;
	s.cr4 |= CR4_PKE;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &s), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 1);
	store_le64(area + KVM_AT_XSTATE_BV, XCR0_PKRU);
	store_le32(area + 824, 1u << 6);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, &xsave), 0);
	assert_int_equal(kvm_reg_pkru(vcpu), 1u << 6);
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 0);
	/* What is in its initial state is not in the image. */
	store_le64(area + KVM_AT_XSTATE_BV, 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_XSAVE, &xsave), 0);
	assert_int_equal(kvm_reg_pkru(vcpu), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_TRANSLATE, &t), 0);
	assert_int_equal(t.valid, 1);
	kvm_reg_set_pkru(vcpu, 4);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_XSAVE, &xsave), 0);
	assert_int_equal(load_le64(area + KVM_AT_XSTATE_BV), XCR0_PKRU);
	assert_int_equal(load_le32(area + 824), 4);
	kvm_reg_set_pkru(vcpu, 0);
	assert_int_equal(vcpu_call(vcpu, KVM_GET_XSAVE, &xsave), 0);
	assert_int_equal(load_le64(area + KVM_AT_XSTATE_BV), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(a_new_vcpu_is_reset),
		TEST(special_registers_come_back),
		TEST(impossible_states_are_refused),
		TEST(cr4_follows_cpuid),
		TEST(monitor_follows_misc_enable_on_request),
		TEST(pae_pointers_travel),
		TEST(events_come_back),
		TEST(mp_states),
		TEST(extended_state),
		TEST(debug_registers),
		TEST(listed_msrs_can_be_saved),
		TEST(msrs_refuse_what_they_cannot_hold),
		TEST(what_cpuid_says_of_predictions_is_so),
		TEST(lists_of_msrs_end_at_the_first_bad_one),
		TEST(kvm_msrs_obey_enforcement),
		TEST(control_registers_of_a_guest),
		TEST(cpuid_answers),
		TEST(translation),
		TEST(translation_by_protection_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
