/*
 * KVM in software: the calls of /dev/kvm, answered in this process, on hosts whose CPU cannot run
 * guests. Whoever can speak to /dev/kvm speaks to this by four functions in the places of open(),
 * ioctl(), mmap() and close(). Descriptors are real ones: they have a number of the process, dup()
 * makes a second one of the same thing, and poll() takes them.
 *
 * What differs from a kernel's: VMs do not survive fork() in the child; a plain close() leaves the
 * VM's memory to the end of the process; SIGSEGV, SIGBUS, SIGFPE and SIGILL are handled here when
 * a guest's memory turns out not to be there or its instruction faults, and are otherwise passed on
 * to who had them before.
 * Spec: Linux Documentation/virt/kvm/api.rst (6.1)
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** soft_open() - as open("/dev/kvm", O_RDWR | O_CLOEXEC). Return: a descriptor, or -1 and errno. */
int soft_open(void);

/**
 * soft_ioctl() - as ioctl(). Signals are held back while KVM_RUN lasts, and end it.
 * Return: 0 or more, or -1 and errno; EBADF and ENOTTY for descriptors of others.
 */
int soft_ioctl(int fd, unsigned long request, uintptr_t argument);

/** soft_mmap() - as mmap(NULL, ...) of a vCPU. munmap() ends it. Return: MAP_FAILED and errno. */
void *soft_mmap(size_t bytes, int protection, int flags, int fd, off_t offset);

/** soft_close() - as close(). */
int soft_close(int fd);

/*
 * What hardware sees by itself, and a translator does not: devices write to the guest's memory,
 * perhaps over code. Who tells of it has guests see new code as soon as they can know of it; who
 * does not, at the next KVM_RUN, or within 16 ms.
 */

/** soft_writes_open() - of a VM, which is there until soft_writes_close(). Return: NULL and errno.
 */
void *soft_writes_open(int vm_fd);
void soft_writes_close(void *writes);

/**
 * soft_wrote() - @bytes at @at, in this process, were written to: when it returns, no vCPU executes
 * what was there before. To be called before the guest can know of it: before the used index of a
 * ring is published, or an interrupt sent. If they do not hold code, as nearly always, that is a
 * look-up for each page, without a lock.
 * Context: any thread that is not in KVM_RUN; any locks of the caller's.
 */
void soft_wrote(void *writes, const void *at, size_t bytes);
