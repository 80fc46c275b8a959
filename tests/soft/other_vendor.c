/*
 * Linked with --wrap=soft_ioctl: guests are told that their CPU is of the other maker, Intel's on a
 * host of AMD's and AMD's on all others. Whoever shows a VM what KVM supports shows that.
 */
#include <linux/kvm.h>
#include <stdbool.h>

#include "lib/base/bytes.h"
#include "soft/soft.h"

#define SAPPHIRE 0x806f8
#define ZEN	 0x800f12

int __real_soft_ioctl(int fd, unsigned long request, uintptr_t argument);
int __wrap_soft_ioctl(int fd, unsigned long request, uintptr_t argument);

static void set_vendor(struct kvm_cpuid_entry2 *e, const char *name)
{
	e->ebx = load_le32(name);
	e->edx = load_le32(name + 4);
	e->ecx = load_le32(name + 8);
}

static void change(struct kvm_cpuid2 *list)
{
	bool amd = false;

	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 *e = &list->entries[i];

		if (e->function == 0) {
			amd = e->ecx == load_le32("cAMD");
			set_vendor(e, amd ? "GenuineIntel" : "AuthenticAMD");
		} else if (e->function == 1) {
			e->eax = amd ? SAPPHIRE : ZEN;
		} else if (e->function == 0x80000000) {
			/* Intel's have none there. */
			set_vendor(e, amd ? "\0\0\0\0\0\0\0\0\0\0\0" : "AuthenticAMD");
		}
	}
}

int __wrap_soft_ioctl(int fd, unsigned long request, uintptr_t argument)
{
	int r = __real_soft_ioctl(fd, request, argument);

	/* The call's own structure is the caller's, as it is for the kernel. */
	if (r == 0 && request == KVM_GET_SUPPORTED_CPUID) {
		change((struct kvm_cpuid2 *)argument);
	}
	return r;
}
