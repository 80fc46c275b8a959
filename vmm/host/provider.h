/*
 * Who answers the KVM API: Linux, by system calls, or a library of this process. What the program
 * is linked from says whether there is one; see vmm_run().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** All return what the system call of that name returns, with errno. */
struct host_provider {
	const char *name; /* in messages */
	int (*open)(void);
	int (*ioctl)(int fd, unsigned long request, uintptr_t argument);
	void *(*map)(size_t bytes, int protection, int flags, int fd, off_t offset);
	int (*close)(int fd);

	/*
	 * Devices' writes to guest RAM, for a provider that does not see them by itself; else NULL,
	 * all three. Of a VM; what the first one returns, or NULL and errno, is for the others.
	 */
	void *(*writes_open)(int vm_fd);
	void (*writes_close)(void *writes);
	void (*wrote)(void *writes, const void *at, size_t bytes);
};

/** Linux, or a kernel that is like it: /dev/kvm. */
extern const struct host_provider host_kvm;
