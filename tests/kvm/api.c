/* The system ioctls: version, capabilities, lists; and what they refuse. */
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

static void version_is_12(void)
{
	expect_eq(kvm_ioctl(kvm_open(), KVM_GET_API_VERSION, 0), 12);
}

const struct test_case api_cases[] = {
	{"api/version_is_12", "KVM API 4.1", version_is_12},
	TEST_END,
};
