/* PKRU in images that the host's CPU makes and takes, while it is not in the host's register. */
#include "soft/translate/image.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/kvm/registers.h"
#include "soft/access.h"
#include "soft/translate/fast.h"
#include "soft/translate/test_translator.h"
#include "soft/vcpu.h"
#include "tests/unit.h"

#define SITE   0x1234
#define LINEAR UINT64_C(0x10000)

#define AT_STATE 512
#define AT_FORM	 520
#define COMPACT	 BIT(63)
#define SAVE	 ((uint32_t)ST_SYSTEM_XSAVEC)
#define RESTORE	 ((uint32_t)ST_SYSTEM_XRSTOR)

static struct kvm_backend backend;
static struct kvm_env env = {.backend = &backend};
static struct kvm_vcpu kvm;
static struct st_translator *t;
static struct soft_vcpu *vcpu;
static _Alignas(4096) uint8_t image[2 * 4096];
static _Alignas(64) uint8_t area[SOFT_NATIVE_IMAGE];

static void start(uint32_t pkru)
{
	backend.xcr0 = soft_native_features();
	backend.pkru_at = soft_native_pkru_at();
	memset(&kvm, 0, sizeof(kvm));
	memset(area, 0, sizeof(area));
	memset(image, 0, sizeof(image));
	store_le16(area, 0x37f);
	store_le32(area + 24, 0x1f80);
	kvm.env = &env;
	kvm.xsave = area;
	kvm.xcr0 = backend.xcr0;
	kvm.cpu.cr4 = CR4_OSXSAVE | CR4_PKE;
	vcpu->kvm = &kvm;
	vcpu->translator = t;
	kvm_reg_set_pkru(&kvm, pkru);
	vcpu->mmu.pkru = pkru;
	t->frame->site = SITE;
	t->frame->xsave = (uintptr_t)area;
	t->frame->xsave_mask = soft_native_mask(backend.xcr0);
	t->frame->fpu = 0;
	for (unsigned i = 0; i < 2; i++) {
		st_view_fill(&t->frame->view[st_view_of(t->frame->mode)], LINEAR + i * 4096,
			     (uintptr_t)image + i * 4096, true);
	}
}

static uint64_t go(uint32_t what, uint64_t components)
{
	t->frame->gpr[0] = (uint32_t)components;
	t->frame->gpr[2] = components >> 32;
	return st_image_insn(vcpu, LINEAR, what);
}

static void saves_what_is_in_use(void **state)
{
	const uint64_t all = soft_native_features();
	unsigned at = (all & 4) != 0 ? 832 : 576;

	(void)state;
	start(0x55555554);
	assert_int_equal(go(SAVE, UINT64_MAX), SITE);
	assert_int_equal(load_le64(image + AT_FORM), COMPACT | all);
	assert_int_equal(load_le64(image + AT_STATE) & XCR0_PKRU, XCR0_PKRU);
	assert_int_equal(load_le32(image + at), 0x55555554);
	assert_int_equal(go(SAVE, XCR0_PKRU | 1), SITE);
	assert_int_equal(load_le64(image + AT_FORM), COMPACT | XCR0_PKRU | 1);
	assert_int_equal(load_le32(image + 576), 0x55555554);
	/* 0 is not. */
	start(0);
	memset(image + 576, 0xee, 512);
	assert_int_equal(go(SAVE, XCR0_PKRU | 1), SITE);
	assert_int_equal(load_le64(image + AT_FORM), COMPACT | XCR0_PKRU | 1);
	assert_int_equal(load_le64(image + AT_STATE) & XCR0_PKRU, 0);
	assert_int_equal(load_le32(image + 576), 0xeeeeeeee);
	/* Nor is what is not asked for, or not the guest's. */
	start(4);
	assert_int_equal(go(SAVE, 1), SITE);
	assert_int_equal(load_le64(image + AT_FORM), COMPACT | 1);
	kvm.xcr0 &= ~XCR0_PKRU;
	assert_int_equal(go(SAVE, UINT64_MAX), SITE);
	assert_int_equal((load_le64(image + AT_FORM) | load_le64(image + AT_STATE)) & XCR0_PKRU, 0);
}

static void leaves_another_pkru_alone(void **state)
{
	(void)state;
	start(4);
	assert_int_equal(go(SAVE, UINT64_MAX), SITE);
	assert_int_equal(go(RESTORE, UINT64_MAX), SITE);
	vcpu->mmu.pkru = 8;
	assert_int_equal(go(RESTORE, UINT64_MAX), 0);
	assert_int_equal(go(RESTORE, 7), SITE); /* it is not asked for */
	/* In standard format, it is elsewhere. */
	start(4);
	store_le64(image + AT_STATE, XCR0_PKRU);
	store_le32(image + 24, 0x1f80);
	assert_int_equal(go(RESTORE, XCR0_PKRU), 0);
	store_le32(image + backend.pkru_at, 4);
	assert_int_equal(go(RESTORE, XCR0_PKRU), SITE);
	/* Its initial value is 0. */
	store_le64(image + AT_STATE, 0);
	assert_int_equal(go(RESTORE, XCR0_PKRU), 0);
	start(0);
	store_le32(image + 24, 0x1f80);
	assert_int_equal(go(RESTORE, XCR0_PKRU), SITE);
	assert_int_equal(kvm_reg_pkru(&kvm), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(saves_what_is_in_use),
		cmocka_unit_test(leaves_another_pkru_alone),
	};
	int failed;

	if (soft_native_pkru_at() == 0) {
		print_message("no protection keys here\n");
		return 77;
	}
	t = test_translator();
	vcpu = aligned_alloc(_Alignof(struct soft_vcpu), sizeof(*vcpu));
	assert_non_null(t);
	assert_non_null(vcpu);
	memset(vcpu, 0, sizeof(*vcpu));
	t->x87_saved = false;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	test_translator_free(t);
	free(vcpu);
	return failed;
}
