/* The one way to the provider under test: the KVM API's calls, and nothing else. */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** A provider in this program, in the places of open(), ioctl(), mmap() and close(). */
struct door_provider {
	const char *name;
	int (*open)(void);
	int (*ioctl)(int fd, unsigned long request, uintptr_t argument);
	void *(*map)(size_t bytes, int protection, int flags, int fd, off_t offset);
	int (*close)(int fd);
};

/** Those that are linked in, up to NULL: door_kernel.c has none. */
extern const struct door_provider *const door_providers[];

/**
 * door_set_path() - which provider: the path of its device, /dev/kvm if never called, or the name
 * of one in this program.
 */
void door_set_path(const char *path);

/** door_is_linked() - is it the name of one in this program? */
bool door_is_linked(const char *path);

/** kvm_open() - opens the provider; fails the case if there is none. */
int kvm_open(void);

/* Return: what the ioctl returns, or -errno. The argument: a pointer or a number. */
#define kvm_ioctl(fd, request, argument) door_ioctl((fd), (request), (uintptr_t)(argument))
int door_ioctl(int fd, unsigned long request, uintptr_t argument);

/** kvm_map() - mmap() of a vCPU's descriptor. Return: MAP_FAILED and errno. */
void *kvm_map(size_t bytes, int protection, int flags, int fd, off_t offset);

/** kvm_map_run() - maps the run structure of a vCPU (@bytes: KVM_GET_VCPU_MMAP_SIZE). */
struct kvm_run *kvm_map_run(int vcpu_fd, size_t bytes);

/** kvm_run_of() - the run structure of a vCPU that has been mapped; NULL if @fd is none. */
struct kvm_run *kvm_run_of(int fd);

int kvm_close(int fd);

/* What faults.c puts between the cases and the provider. NULL: nothing. */
typedef int door_filter(int fd, unsigned long request, uintptr_t argument);
void door_set_filter(door_filter *filter);

/** door_call() - the system call itself, for filters. Return: as kvm_ioctl(). */
int door_call(int fd, unsigned long request, uintptr_t argument);
