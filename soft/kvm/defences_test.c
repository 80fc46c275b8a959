#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "soft/kvm/surroundings.h"
#include "tests/unit.h"

#define BY_NATURE UINT64_C(0x141)

static void says(const char *directory, const char *attack, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, attack);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void forget(const char *directory, const char *attack)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, attack);
	assert_int_equal(unlink(path), 0);
}

/* What the host's kernel does not call safe, a guest defends against. */
static void what_the_host_need_not_fear(void **state)
{
	char directory[] = "/tmp/yado-defences-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(soft_defences(directory), BY_NATURE);
	assert_int_equal(soft_defences("/nowhere"), BY_NATURE);
	says(directory, "mds", "Not affected\n");
	says(directory, "mmio_stale_data", "Mitigation: Clear CPU buffers; SMT disabled\n");
	says(directory, "spec_store_bypass", "Vulnerable\n");
	says(directory, "gather_data_sampling", "");
	says(directory, "indirect_target_selection", "Not affected\n");
	assert_int_equal(soft_defences(directory), BY_NATURE | BIT(5) | BIT(62));
	says(directory, "mds", "Vulnerable\n");
	says(directory, "mmio_stale_data", "Not affected\n");
	assert_int_equal(soft_defences(directory), BY_NATURE | 0xe000 | BIT(62));
	forget(directory, "mds");
	forget(directory, "mmio_stale_data");
	forget(directory, "spec_store_bypass");
	forget(directory, "gather_data_sampling");
	forget(directory, "indirect_target_selection");
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_host_need_not_fear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
