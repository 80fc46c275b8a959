/*
 * What a vCPU asks user space for, and how it goes on with the answer: port I/O, memory-mapped I/O,
 * MSRs, hypercalls. One such thing can be outstanding.
 */
#pragma once

#include "lib/kvm/plain.h"
#include "lib/kvm/vcpu.h"

/** What to do when KVM_RUN comes the next time. */
enum kvm_pending {
	KVM_PENDING_NONE,
	KVM_PENDING_PORT_IN,	/* IN: a register takes kvm_run's data */
	KVM_PENDING_PORT_OUT,	/* OUT: the instruction is over */
	KVM_PENDING_STRING_IN,	/* INS: the emulator goes on with the data */
	KVM_PENDING_MMIO_READ,	/* the emulator goes on with the data */
	KVM_PENDING_MMIO_LOAD,	/* of a plain instruction, which goes on with the data */
	KVM_PENDING_MMIO_WRITE, /* the next part of what was written, if there is more */
	KVM_PENDING_MSR_READ,
	KVM_PENDING_MSR_WRITE,
	KVM_PENDING_HYPERCALL,
};

#define KVM_FRAGMENTS 32

/** A part of a memory-mapped access. */
struct kvm_fragment {
	uint64_t gpa;
	uint8_t bytes; /* 1 to 8 */
	uint8_t data[8];
};

#define KVM_DECODED 32

/** What an instruction of 64-bit code was, and of which bytes: those that are there now are
 * compared. */
struct kvm_decoded {
	uint64_t bytes[2]; /* 15, then 1; 0: none */
	struct kvm_plain plain;
};

struct kvm_exits {
	uint8_t pending; /* enum kvm_pending */

	/* port I/O */
	uint16_t port;
	uint8_t bytes;
	uint32_t count;
	bool string_ready; /* the port page holds what INS asked for */
	bool string_out;   /* the port page holds what OUTS wrote: exit when it is committed */
	uint8_t insn_len;
	bool moved;	     /* user space may have moved the vCPU meanwhile */
	uint64_t linear_rip; /* where it was before */

	/* the instruction that is emulated: it is begun anew until it has all answers */
	bool resumed; /* it is in code already */
	struct kvm_decoded decoded[KVM_DECODED];
	struct kvm_plain plain;	    /* of KVM_PENDING_MMIO_LOAD */
	struct kvm_plain found;	    /* what env->emulate() says that it was; len 0: nothing */
	uint8_t code[INSN_MAX + 1]; /* of the last instruction that was emulated */
	uint8_t code_bytes;
	/* where the CPU says that an operand of it lies; 0: it does not say */
	uint64_t operand_gpa;
	bool operand_write;
	struct insn_fault fault; /* of the last INSN_FAULT */
	bool broken;		 /* the emulator itself was: that is no guest's fault */
	/* what devices answered so far, in order */
	struct kvm_fragment answered[KVM_FRAGMENTS];
	uint8_t answered_count;
	uint8_t cursor; /* of the emulation that runs */
	struct kvm_fragment asked;
	/* what it wrote and user space has not seen */
	struct kvm_fragment written[KVM_FRAGMENTS];
	uint8_t written_count;
	uint8_t written_seen;
};

/**
 * kvm_exit_before_move() - RIP or what it is relative to is about to be changed from outside: an IN
 * or OUT that user space has is over only if the vCPU is still at it then.
 */
void kvm_exit_before_move(struct kvm_vcpu *vcpu);

/**
 * kvm_exit_port_served() - IN or OUT of one element, not of a string: by the chips, or by whom user
 * space has told to listen. Not to be asked without kvm_bus_has_ports().
 * Return: has it been served? The instruction is to be skipped then.
 * Context: as for all here but kvm_exit_port(): vCPU thread, vm->memory for reading.
 */
must_use bool kvm_exit_port_served(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, bool in);

/** kvm_exit_port() - it is user space's. */
void kvm_exit_port(struct kvm_vcpu *vcpu, uint16_t port, unsigned bytes, bool in,
		   unsigned insn_len);

/** kvm_exit_msr() - RDMSR or WRMSR: the registers, the filter, user space. Return: as above. */
must_use bool kvm_exit_msr(struct kvm_vcpu *vcpu, bool write, unsigned insn_len);

/** kvm_exit_hypercall() - VMCALL or VMMCALL. Return: as above. */
must_use bool kvm_exit_hypercall(struct kvm_vcpu *vcpu, unsigned insn_len);

/** kvm_exit_mmio() - the next written fragment or the question goes to user space. */
void kvm_exit_mmio(struct kvm_vcpu *vcpu, const struct kvm_fragment *fragment, bool write);

/**
 * kvm_exit_complete() - KVM_RUN came with the answer.
 * Return: true: user space has another exit; false: the guest goes on.
 */
must_use bool kvm_exit_complete(struct kvm_vcpu *vcpu);

/** kvm_exit_internal() - KVM_EXIT_INTERNAL_ERROR. @suberror: KVM_INTERNAL_ERROR_* */
void kvm_exit_internal(struct kvm_vcpu *vcpu, uint32_t suberror);
