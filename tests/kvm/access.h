/*
 * One access of a guest at a time: for cases about memory. The vCPU is in 64-bit mode, where linear
 * addresses below 4 GiB are the physical ones.
 */
#pragma once

#include "tests/kvm/vm.h"

#define PAGE 0x1000

enum access {
	ACCESS_LOAD,	/* 8 bytes; the others are stores */
	ACCESS_STORE_1, /* bytes */
	ACCESS_STORE_2,
	ACCESS_STORE_4,
	ACCESS_STORE_8,
	ACCESS_ADD,  /* 8 bytes, read and written, not locked */
	ACCESS_XADD, /* 8 bytes, locked */
	ACCESS_CALL, /* of code there, which ends by RET */
	ACCESS_KINDS,
};

/** access_start() - makes the VM (without irqchip), its first vCPU, and puts the payload in place.
 *  access_start_vcpu() - for one more vCPU, or a VM with something special. */
struct vcpu *access_start(struct vm *vm);
void access_start_vcpu(struct vcpu *vcpu);

/** access_begin() - puts the vCPU before an access; the next KVM_RUN does it, and HLT follows. */
void access_begin(struct vcpu *vcpu, enum access access, uint64_t address, uint64_t value);

/* Each does the access and comes to the HLT; any other exit fails the case. */
#define guest_load(vcpu, address) access_do(__FILE__, __LINE__, (vcpu), ACCESS_LOAD, (address), 0)
#define guest_store(vcpu, address, value) \
	access_do(__FILE__, __LINE__, (vcpu), ACCESS_STORE_8, (address), (value))
#define guest_access(vcpu, access, address, value) \
	access_do(__FILE__, __LINE__, (vcpu), (access), (address), (value))
/* Return: RAX after it. */
uint64_t access_do(const char *file, int line, struct vcpu *vcpu, enum access access,
		   uint64_t address, uint64_t value);

/* A load from an address that has no memory: an MMIO exit, whose answer arrives. */
#define expect_hole(vcpu, address) access_expect_hole(__FILE__, __LINE__, (vcpu), (address))
void access_expect_hole(const char *file, int line, struct vcpu *vcpu, uint64_t address);

/** access_await() - waits until a word that a guest writes to differs from @old. Return: it. */
uint32_t access_await(const uint32_t *word, uint32_t old);

/** access_word() - a 64-bit word of memory that is shared with a guest, as it is now. */
uint64_t access_word(const void *at);
