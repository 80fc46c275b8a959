#include "cli/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/capture.h"

static const struct doctor_facts good = {
	.accel = {.hardware = true, .api_version = 12},
	.host = {.memory_bytes = 8 * GIB, .available_bytes = 4 * GIB, .cpus = 4},
	.soft_engine = "translate",
	.cpu_model = "A CPU",
	.shmem_huge = "advise",
	.huge_page_bytes = 2 * MIB,
	.passt = "/usr/bin/passt",
};

/* The report has @part in it. */
static void reports(const struct doctor_facts *facts, const char *part)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	doctor_report(out, facts);
	fclose(out);
	if (strstr(text, part) == NULL) {
		fail_msg("no \"%s\" in:\n%s", part, text);
	}
	free(text);
}

static void a_good_machine(void **unused)
{
	(void)unused;
	reports(&good, "kvm         yes   /dev/kvm, on hardware virtualization\n");
	reports(&good, "A guest can run here, by KVM");
	reports(&good, "8192 MiB, 4096 MiB available");
	reports(&good, "4 usable, A CPU");
	reports(&good, "huge pages  yes   transparent ones for shared memory: \"advise\"");
	reports(&good, "passt       yes   /usr/bin/passt");
	reports(&good, "tap         yes");
}

static void what_can_be_wrong_with_kvm(void **unused)
{
	struct doctor_facts f = good;

	(void)unused;
	f.accel = (struct accel_facts){.hardware = false};
	reports(&f, "kvm         no    there is a /dev/kvm, but the CPU has neither vmx nor svm");
	reports(&f, "A guest can run here, in software");
	reports(&f, "soft        yes   by its translator: ");
	f.soft_engine = "interpret";
	reports(&f, "soft        yes   by its interpreter, some hundred times slower");
	f.accel = (struct accel_facts){.hardware = false, .device_error = -ENOENT};
	reports(&f, "switch virtualization on in the firmware");
	f.accel = (struct accel_facts){.hardware = true, .device_error = -ENOENT};
	reports(&f, "modprobe kvm-intel");
	f.accel = (struct accel_facts){.hardware = true, .device_error = -EACCES};
	reports(&f, "usermod -aG kvm");
	f.accel = (struct accel_facts){.hardware = true, .device_error = -EIO};
	reports(&f, "cannot be opened");
	f.accel = (struct accel_facts){.hardware = true, .api_version = 11};
	reports(&f, "does not speak KVM API 12");
}

static void the_rest_is_not_fatal(void **unused)
{
	struct doctor_facts f = good;

	(void)unused;
	f.passt[0] = '\0';
	reports(&f, "apt-get install passt");
	f.tun_error = -ENOENT;
	reports(&f, "modprobe tun");
	f.tun_error = -EACCES;
	reports(&f, "--net passt needs no privileges");
	strcpy(f.shmem_huge, "never");
	reports(&f, "huge pages  no ");
	f.huge_pages_free = 7;
	reports(&f, "7 reserved ones of 2048 KiB are free");
}

static void texts_of_the_kernel(void **unused)
{
	static const char meminfo[] = "MemTotal:       16384 kB\nMemAvailable:    1000 kB\n"
				      "HugePages_Free:        3\nHugepagesize:       2048 kB\n";
	char buf[32];

	(void)unused;
	assert_int_equal(meminfo_value(meminfo, "MemTotal"), 16 * MIB);
	assert_int_equal(meminfo_value(meminfo, "MemAvailable"), 1000 * KIB);
	assert_int_equal(meminfo_value(meminfo, "HugePages_Free"), 3);
	assert_int_equal(meminfo_value(meminfo, "Mem"), 0);
	assert_int_equal(meminfo_value("", "MemTotal"), 0);
	chosen_word("always within_size [advise] never", buf, sizeof(buf));
	assert_string_equal(buf, "advise");
	chosen_word("always [never", buf, sizeof(buf));
	assert_string_equal(buf, "");
	cpuinfo_model("vendor_id : X\nmodel name\t: Some CPU @ 2GHz\nflags : a\n", buf,
		      sizeof(buf));
	assert_string_equal(buf, "Some CPU @ 2GHz");
	cpuinfo_model("model name\nx : y\n", buf, sizeof(buf));
	assert_string_equal(buf, "");
}

static void programs_are_found_in_the_path(void **unused)
{
	char directory[] = "/tmp/yado-path-XXXXXX";
	char path[64], wanted[64], buf[64], tiny[8];
	FILE *file;

	(void)unused;
	assert_non_null(mkdtemp(directory));
	snprintf(wanted, sizeof(wanted), "%s/passt", directory);
	snprintf(path, sizeof(path), "/nonexistent::%s", directory);
	assert_int_equal(setenv("PATH", path, 1), 0);
	assert_false(find_program("passt", buf, sizeof(buf)));
	assert_string_equal(buf, "");
	file = fopen(wanted, "w");
	assert_non_null(file);
	fclose(file);
	assert_false(find_program("passt", buf, sizeof(buf))); /* not executable */
	assert_int_equal(chmod(wanted, 0755), 0);
	assert_true(find_program("passt", buf, sizeof(buf)));
	assert_string_equal(buf, wanted);
	assert_false(find_program("passt", tiny, sizeof(tiny)));
	unlink(wanted);
	rmdir(directory);
}

static void a_probe_of_this_machine(void **unused)
{
	struct doctor_facts f;

	(void)unused;
	doctor_probe(&f, "translate");
	assert_true(f.host.cpus > 0);
	assert_true(f.host.memory_bytes > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_machine),
		cmocka_unit_test(what_can_be_wrong_with_kvm),
		cmocka_unit_test(the_rest_is_not_fatal),
		cmocka_unit_test(texts_of_the_kernel),
		cmocka_unit_test(programs_are_found_in_the_path),
		cmocka_unit_test(a_probe_of_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
