#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "soft/soft.h"
#include "tests/unit.h"

#define MOST 6 /* descriptors that making a vCPU needs, and more */

/* Those of memory that has a descriptor; the allocator's own come and go. */
static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned found = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		found += strstr(line, "/memfd:") != NULL;
	}
	fclose(f);
	return found;
}

/* Tries it with @more descriptors than there are. Return: it, or -1. */
static int make_vcpu(int vm, unsigned more)
{
	struct rlimit before, few;
	int next = dup(vm), vcpu;

	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)next + more, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	vcpu = soft_ioctl(vm, KVM_CREATE_VCPU, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	return vcpu;
}

/* Wherever it fails, what was made before is taken back. */
static void vcpu_that_fails_leaves_nothing(void **state)
{
	int kvm = soft_open(), vm;
	unsigned failed = 0;

	(void)state;
	if (kvm < 0 && errno == ENODEV) {
		skip();
	}
	assert_true(kvm >= 0);
	vm = soft_ioctl(kvm, KVM_CREATE_VM, 0);
	assert_true(vm >= 0);
	for (unsigned more = 0; more < MOST; more++) {
		unsigned before = mappings();
		int vcpu = make_vcpu(vm, more);

		if (vcpu >= 0) {
			assert_int_equal(soft_close(vcpu), 0);
			break;
		}
		assert_int_equal(mappings(), before);
		failed++;
	}
	assert_in_range(failed, 2, MOST - 1);
	assert_int_equal(soft_close(vm), 0);
	assert_int_equal(soft_close(kvm), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vcpu_that_fails_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
