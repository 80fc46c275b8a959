#include "vmm/host/accel.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/log.h"

#define API_VERSION 12 /* Linux: Documentation/virt/kvm/api.rst, 4.1 KVM_GET_API_VERSION */

/* Is @word one of the words between @from and @to? */
static bool has_word(const char *from, const char *to, const char *word)
{
	size_t len = strlen(word);

	while (from < to) {
		from += strspn(from, " \t:");

		size_t n = strcspn(from, " \t\n");

		if (n == len && strncmp(from, word, len) == 0) {
			return true;
		}
		from += n;
		if (*from == '\0' || *from == '\n') {
			break;
		}
	}
	return false;
}

bool cpuinfo_has_virtualization(const char *text)
{
	while (text != NULL) {
		const char *end = strchrnul(text, '\n');

		if (strncmp(text, "flags", 5) == 0 &&
		    (has_word(text + 5, end, "vmx") || has_word(text + 5, end, "svm"))) {
			return true;
		}
		text = *end == '\n' ? end + 1 : NULL;
	}
	return false;
}

/* CPUID itself, for where there is no /proc. Spec: Intel SDM vol. 2A, "CPUID", leaf 1: ECX.5 VMX;
 * AMD APM vol. 3, appendix E.4.2: Fn8000_0001 ECX.2 SVM */
static bool cpuid_has_virtualization(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c & BIT(5)) != 0) {
		return true;
	}
	return __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & BIT(2)) != 0;
}

static bool has_virtualization(void)
{
	char text[16384]; /* the first CPU is enough */
	FILE *file = fopen("/proc/cpuinfo", "re");

	if (file == NULL) {
		return cpuid_has_virtualization();
	}
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return cpuinfo_has_virtualization(text);
}

void accel_probe(struct accel_facts *facts)
{
	*facts = (struct accel_facts){.hardware = has_virtualization()};
	if (!facts->hardware) {
		facts->device_error = access(ACCEL_DEVICE, R_OK | W_OK) == 0 ? 0 : -errno;
		return;
	}

	int fd = open(ACCEL_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		facts->device_error = -errno;
		return;
	}
	facts->api_version = ioctl(fd, KVM_GET_API_VERSION, 0);
	close(fd);
}

bool accel_is_trap(const struct accel_facts *facts)
{
	return !facts->hardware && facts->device_error == 0;
}

const char *accel_why_not(const struct accel_facts *facts)
{
	if (accel_is_trap(facts)) {
		return "there is a " ACCEL_DEVICE ", but the CPU has neither vmx nor svm: it is "
		       "the PVM kind, on which unmodified guests hang for ever; use a machine with "
		       "hardware or nested virtualization";
	}
	if (!facts->hardware) {
		return "the CPU has neither vmx nor svm: switch virtualization on in the firmware, "
		       "or use a machine with hardware or nested virtualization";
	}
	switch (facts->device_error) {
	case 0:
		break;
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return "there is no " ACCEL_DEVICE
		       ": load its module, with `modprobe kvm-intel` or `modprobe kvm-amd`";
	case -EACCES:
	case -EPERM:
		return "you may not open " ACCEL_DEVICE
		       ": `sudo usermod -aG kvm $USER`, then log in again";
	default:
		return ACCEL_DEVICE " cannot be opened; the kernel's log may say why";
	}
	return facts->api_version == API_VERSION ? NULL : ACCEL_DEVICE " does not speak KVM API 12";
}

int accel_decide(enum accel wanted, const struct accel_facts *facts, bool soft, enum accel *chosen)
{
	const char *why_not = wanted == ACCEL_SOFT ? NULL : accel_why_not(facts);

	if (wanted != ACCEL_SOFT && why_not == NULL) {
		*chosen = ACCEL_KVM;
		return 0;
	}
	if (soft && wanted != ACCEL_KVM) {
		*chosen = ACCEL_SOFT;
		if (why_not != NULL) {
			log_info("the guest's CPUs run in software, which is slower: %s", why_not);
		}
		return 0;
	}
	if (wanted == ACCEL_SOFT) {
		log_error("--accel soft: this program was built without it");
	} else {
		log_error("KVM cannot run the guest's CPUs here: %s%s", why_not,
			  soft ? "; or let them run in software, with --accel soft" : "");
	}
	return -ENODEV;
}

int accel_choose(enum accel wanted, bool soft, enum accel *chosen)
{
	struct accel_facts facts;

	accel_probe(&facts);
	return accel_decide(wanted, &facts, soft, chosen);
}
