/*
 * Programs of ring 3 that do their worst to core. hostile.c, as /init, starts each as a child, and
 * compares what the kernel holds before and after (/proc/vmstat, /proc/slabinfo).
 */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE 4096ul

/* ---- numbers that repeat ---- */

struct random {
	uint64_t state;
};

void random_seed(struct random *r, uint64_t seed);
uint32_t random_next(struct random *r);

/** random_below() - 0 to @n - 1. */
uint32_t random_below(struct random *r, uint32_t n);

/** random_word() - 64 bits; mostly those where limits are. */
uint64_t random_word(struct random *r);

/** random_one_in() - true once in @n times. */
bool random_one_in(struct random *r, uint32_t n);

/* ---- system calls without libc between ---- */

/** raw_call() - a system call. In a child or thread that it makes, it ends that at once, so any
 * flags of clone() may be given. Return: what the kernel says. */
int64_t raw_call(uint64_t number, const uint64_t a[6]);

/* ---- a small VM ---- */

struct vm {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	uint8_t *memory; /* VM_MEMORY bytes, at 0 of the guest */
};

#define VM_MEMORY (64ul * 1024)

/** vm_create() - one vCPU in real mode, at guest address 0x1000 where @code is. Ends the program if
 * there is no VM to be had. */
void vm_create(struct vm *vm, const void *code, size_t len);

/** vm_start() - a thread that runs it for good. */
void vm_start(struct vm *vm);

extern const uint8_t vm_spin[2];  /* a guest that loops */
extern const uint8_t vm_storm[4]; /* one that leaves for its VMM as often as it can */

/* ---- what children do ---- */

/** crash() - @number: which way. Ends in a signal or exits 0. Return: 1 if there is no such way. */
int crash(unsigned number);

/** crash_signal() - what it ends with; 0: any. */
int crash_signal(unsigned number);
const char *crash_name(unsigned number);

/** leak() - takes all there is of a kind and leaves it behind. Return: 0, or 1 if the kernel did
 * not refuse before the limit. */
int leak(unsigned number);
const char *leak_name(unsigned number);

/** annex_attack() - spoils the emulator of its own process in any way. Return: 0, or what went
 * wrong. */
int annex_attack(unsigned number);

/** annex_signal() - what it ends with; 0: none. */
int annex_signal(unsigned number);
const char *annex_name(unsigned number);

/** pointers() - bad addresses to each system call and each ioctl. */
int pointers(unsigned seed);

/** fuzz() - random calls; counts them in the memory of descriptor FUZZ_FD. */
int fuzz(unsigned seed, unsigned long calls);

#define FUZZ_FD 3 /* a memfd with a struct fuzz_count */

struct fuzz_count {
	_Atomic uint64_t calls, errors, vm_runs;
};

/** guests_attack() - a guest that does its worst. Return: 0, 9: it could not start. */
int guests_attack(unsigned seed);

/** guests_neighbour() - another, until SIGTERM. @always: it does not pause. Return: 0, or 1: its
 * memory changed; 2: it had to wait too long; 3: it did not run. */
int guests_neighbour(bool always);

/* ---- ioctls ---- */

struct ioctl_entry {
	uint32_t request;
	char where;    /* 's'ystem, 'v'm, 'c'pu */
	bool is_value; /* its argument is a number */
	const char *name;
};

extern const struct ioctl_entry ioctl_table[];
extern const size_t ioctl_count;
