/*
 * A small VM: memory, vCPUs in 64-bit mode that run routines of payload.S, and with in-kernel local
 * APICs if asked for.
 *
 *	0x0000001000	page tables: the first 4 GiB, one to one, in pages of 2 MiB
 *	0x0000008000	GDT, TSS, IDT
 *	0x0000010000	the payload
 *	0x0000020000	stacks; a word shared by vCPUs
 *	0x0000040000	arrays of samples
 *	0x0000100000	end of memory
 *	0x0010000000	nothing: accesses are MMIO
 *	0x0040000000	further slots
 */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/micro/result.h"
#include "bench/micro/row.h"

#define MACHINE_CPUS 2
#define RAM_BYTES    0x100000
#define MMIO_GPA     0x10000000
#define SLOT_GPA     0x40000000

enum machine_kind {
	MACHINE_PLAIN,	/* no interrupt controller in the kernel */
	MACHINE_XAPIC,	/* local APICs in the kernel, driven by memory accesses */
	MACHINE_X2APIC, /* and by MSRs */
};

struct machine {
	int kvm, vm;
	unsigned cpus;
	int vcpu[MACHINE_CPUS];
	struct kvm_run *run[MACHINE_CPUS];
	size_t run_bytes;
	uint8_t *ram;
	bool started[MACHINE_CPUS];
};

/* What a routine begins with; see payload.S. */
struct start {
	const uint8_t *routine;
	unsigned samples;
	uint64_t rbx, r12;
};

/**
 * machine_irqchip() - give a VM local APICs in the kernel, by the split irqchip if there is one.
 * Return: 0, or -1 with errno.
 * Spec: Linux Documentation/virt/kvm/api.rst, KVM_CAP_SPLIT_IRQCHIP and KVM_CREATE_IRQCHIP
 */
int machine_irqchip(int kvm, int vm) __attribute__((warn_unused_result));

/**
 * machine_create() - make a VM with @cpus vCPUs, which have no registers yet.
 * Return: MEASURED, or why not; then, too, machine_destroy() must be called.
 */
enum verdict machine_create(struct machine *m, enum machine_kind kind, unsigned cpus,
			    struct result *result) __attribute__((warn_unused_result));

/**
 * machine_destroy() - end it. No thread may be in one of its vCPUs.
 */
void machine_destroy(struct machine *m);

/**
 * machine_handler() - what handles an interrupt vector, on all vCPUs.
 */
void machine_handler(struct machine *m, uint8_t vector, const uint8_t *handler);

/**
 * machine_start() - set a vCPU's registers, so that it begins a routine when it runs next.
 */
enum verdict machine_start(struct machine *m, unsigned cpu, const struct start *start,
			   struct result *result) __attribute__((warn_unused_result));

/**
 * machine_run() - one KVM_RUN, which must end with @exit_reason.
 */
enum verdict machine_run(struct machine *m, unsigned cpu, uint32_t exit_reason,
			 struct result *result) __attribute__((warn_unused_result));

/**
 * machine_left() - did the last KVM_RUN end as it should? For callers that make the call
 * themselves.
 * @ret: what ioctl() gave.
 */
enum verdict machine_left(struct machine *m, unsigned cpu, int ret, uint32_t exit_reason,
			  struct result *result) __attribute__((warn_unused_result));

/**
 * machine_run_to_port() - one KVM_RUN, which must end by an access to @port.
 */
enum verdict machine_run_to_port(struct machine *m, unsigned cpu, uint16_t port,
				 struct result *result) __attribute__((warn_unused_result));

/**
 * machine_port() - the port where a vCPU left last, or 0.
 */
uint16_t machine_port(const struct machine *m, unsigned cpu);

/**
 * machine_samples() - the first or second array of samples.
 */
int64_t *machine_samples(struct machine *m, unsigned array);

/**
 * machine_baseline() - what two readings of the TSC with nothing between differ by in the guest.
 */
enum verdict machine_baseline(struct machine *m, int64_t *ticks, struct result *result)
	__attribute__((warn_unused_result));

/**
 * machine_collect() - add a routine's samples but the first WARM_UP, without the baseline.
 * @samples: how many the routine took, WARM_UP among them.
 */
void machine_collect(struct machine *m, unsigned array, unsigned samples, int64_t baseline,
		     struct result *result);

/**
 * machine_add_slot() - let memory appear in the guest; 0 bytes take it away.
 * Return: 0, or -1 with errno.
 */
int machine_add_slot(int vm, unsigned slot, uint64_t gpa, void *memory, size_t bytes)
	__attribute__((warn_unused_result));
