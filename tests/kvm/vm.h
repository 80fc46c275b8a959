/*
 * Small machines for the cases: RAM from address 0, vCPUs, and a few instructions to run.
 *
 * A payload is assembler text beside its case:
 *
 *	PAYLOAD(64, store_twice, "mov %rax, (%rbx); mov %rax, 8(%rbx); hlt");
 *
 *	static void mmio_64_bit(void)
 *	{
 *		struct vm vm;
 *		struct vcpu *vcpu;
 *		struct kvm_regs regs;
 *
 *		vm_create(&vm, IRQCHIP_NONE);
 *		vcpu = vm_add_vcpu(&vm);
 *		vcpu_start(vcpu, 64, store_twice, store_twice_end);
 *		regs = vcpu_regs(vcpu);
 *		regs.rbx = VM_HOLE;
 *		vcpu_set_regs(vcpu, &regs);
 *		expect_mmio_write(vcpu, VM_HOLE, 8, 0);
 *		...
 *
 * What must succeed fails the case when it does not.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/guest/bare/layout.h" /* the selectors */
#include "tests/kvm/door.h"
#include "tests/kvm/test.h"

#define VM_RAM	     (UINT64_C(16) << 20) /* bytes, slot 0, from address 0 */
#define VM_HOLE	     UINT64_C(0xd0000000) /* no slot here: MMIO */
#define VM_VCPUS_MAX 16

/* What lies where in RAM after vcpu_start(). */
#define VM_IVT	  0x0 /* of real mode, 1 KiB */
#define VM_GDT	  0x1000
#define VM_TSS	  0x1800
#define VM_IDT	  0x2000  /* 256 gates of 16 bytes, or of 8 in 32-bit mode */
#define VM_TABLES 0x4000  /* PML4, PDPT, 4 PDs: 4 GiB to themselves by 2 MiB pages */
#define VM_STACK  0xf000  /* grows down; of vCPU n 0x400 * n lower */
#define VM_CODE	  0x10000 /* the payload, up to 64 KiB */
#define VM_FREE	  0x20000 /* from here RAM is the case's */

#define PAYLOAD(bits, name, text)                                        \
	__asm__(".pushsection .rodata\n"                                 \
		".code" #bits "\n" #name ":\n" text "\n" #name "_end:\n" \
		".code64\n"                                              \
		".popsection");                                          \
	extern const char name[], name##_end[]

/* Where a label inside of a payload lies in RAM. Declare it: extern const char label[]; */
#define PAYLOAD_AT(name, label) (VM_CODE + (uint64_t)((label) - (name)))

enum vm_irqchip {
	IRQCHIP_NONE,  /* no interrupt controller but what the case is */
	IRQCHIP_SPLIT, /* local APICs, 24 IOAPIC pins left to the case */
	IRQCHIP_FULL,  /* local APICs, IOAPIC, PICs */
};

struct vm {
	int kvm_fd;
	int fd;
	uint8_t *ram; /* VM_RAM bytes */
	enum vm_irqchip irqchip;
	size_t run_bytes; /* of a vCPU's run structure */
	unsigned int vcpu_count;
	struct vcpu *vcpus[VM_VCPUS_MAX];
};

struct vcpu {
	struct vm *vm;
	int fd;
	uint32_t id;
	struct kvm_run *run;
	pthread_t thread;
};

/** vm_create() - a VM with RAM; vm_create_bare() - one without slots, CPUs and chips. */
void vm_create(struct vm *vm, enum vm_irqchip irqchip);
void vm_create_bare(struct vm *vm);

/** vm_add_irqchip() - for a VM by vm_create_bare(), before its first vCPU. */
void vm_add_irqchip(struct vm *vm, enum vm_irqchip irqchip);

/** vm_destroy() - closes all of it; needed only where that is what a case is about, or it makes
 *  many. */
void vm_destroy(struct vm *vm);

/** vm_has() - KVM_CHECK_EXTENSION on the VM. vm_need() - skips the case where it is 0. */
int vm_has(struct vm *vm, int capability);
void vm_need(struct vm *vm, int capability, const char *name);

/** vm_svm_is_emulated() - is this machine's processor QEMU's TCG, with gaps in its SVM
 *  (docs/lab.md)? For cases that cannot be right there, and for nothing else. */
bool vm_svm_is_emulated(void);

/** vm_set_slot() - KVM_SET_USER_MEMORY_REGION. Return: 0 or -errno. */
int vm_set_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t bytes,
		void *memory);

/** vm_memory() - fresh, zeroed, page-aligned memory of this process for a slot. */
void *vm_memory(size_t bytes);

/** vm_add_vcpu() - the next vCPU (ids 0, 1, ...), with all of the supported CPUID. */
struct vcpu *vm_add_vcpu(struct vm *vm);

/** vm_add_plain_vcpu() - the same, without KVM_SET_CPUID2. */
struct vcpu *vm_add_plain_vcpu(struct vm *vm);

/** vm_supported_cpuid() - KVM_GET_SUPPORTED_CPUID; static storage, overwritten by the next call. */
struct kvm_cpuid2 *vm_supported_cpuid(struct vm *vm);

/** vcpu_set_cpuid() - KVM_SET_CPUID2 with APIC ids put in place. */
void vcpu_set_cpuid(struct vcpu *vcpu, struct kvm_cpuid2 *cpuid);

/** vcpu_cpuid() - one leaf of what vm_supported_cpuid() says; all 0 where it has none. */
struct kvm_cpuid_entry2 vm_cpuid_leaf(struct vm *vm, uint32_t leaf, uint32_t subleaf);

/**
 * vcpu_start() - puts a payload at VM_CODE and the vCPU at its first instruction.
 * @bits: 16: real mode, CS = VM_CODE >> 4, IP = 0, other segments 0; 32: protected mode, flat, no
 *	paging; 64: long mode, VM_TABLES. CPL 0, interrupts off, RSP = VM_STACK, other registers 0;
 *	GDT, TSS and (32 and 64) an IDT without gates are in place.
 * A vCPU of a VM with local APICs that is not the first is made runnable, too.
 */
void vcpu_start(struct vcpu *vcpu, int bits, const char *code, const char *code_end);

/** vm_begin() - vm_create(), vm_add_vcpu() and vcpu_start() in one. */
struct vcpu *vm_begin(struct vm *vm, enum vm_irqchip irqchip, int bits, const char *code,
		      const char *code_end);

/* The same without an interrupt controller, for PAYLOAD(bits, name, ...). */
#define START(vm, bits, name) vm_begin((vm), IRQCHIP_NONE, (bits), name, name##_end)

/** vm_gate() - has a vector of the IDT (bits 32, 64; or the IVT: 16) go to @handler (an address in
 *  RAM), interrupts off, CPL 0. */
void vm_gate(struct vm *vm, int bits, uint8_t vector, uint64_t handler);

struct kvm_regs vcpu_regs(struct vcpu *vcpu);
void vcpu_set_regs(struct vcpu *vcpu, const struct kvm_regs *regs);
struct kvm_sregs vcpu_sregs(struct vcpu *vcpu);
void vcpu_set_sregs(struct vcpu *vcpu, const struct kvm_sregs *sregs);
uint64_t vcpu_msr(struct vcpu *vcpu, uint32_t msr);
/** vcpu_set_msr() - Return: KVM_SET_MSRS's: 1 if it took it, 0 if not. */
int vcpu_set_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value);

/** vcpu_run() - KVM_RUN. Return: the exit reason, or -errno. */
int vcpu_run(struct vcpu *vcpu);

/** vcpu_in_thread() - runs a function in a thread; vcpu_join() waits for its end. */
void vcpu_in_thread(struct vcpu *vcpu, void *(*function)(void *vcpu));
void vcpu_join(struct vcpu *vcpu);

/* Each runs the vCPU until its next exit, which must be this one. */
#define expect_exit(vcpu, reason) vm_expect_exit(__FILE__, __LINE__, (vcpu), (reason))
#define expect_out(vcpu, port, bytes, value) \
	vm_expect_out(__FILE__, __LINE__, (vcpu), (port), (bytes), (value))
/* The guest's IN is given @value; it has it after the next KVM_RUN has begun. */
#define expect_in(vcpu, port, bytes, value) \
	vm_expect_in(__FILE__, __LINE__, (vcpu), (port), (bytes), (value))
#define expect_mmio_write(vcpu, gpa, bytes, value) \
	vm_expect_mmio_write(__FILE__, __LINE__, (vcpu), (gpa), (bytes), (value))
#define expect_mmio_read(vcpu, gpa, bytes, value) \
	vm_expect_mmio_read(__FILE__, __LINE__, (vcpu), (gpa), (bytes), (value))

void vm_expect_exit(const char *file, int line, struct vcpu *vcpu, uint32_t reason);
void vm_expect_out(const char *file, int line, struct vcpu *vcpu, uint16_t port, uint8_t bytes,
		   uint32_t value);
void vm_expect_in(const char *file, int line, struct vcpu *vcpu, uint16_t port, uint8_t bytes,
		  uint32_t value);
void vm_expect_mmio_write(const char *file, int line, struct vcpu *vcpu, uint64_t gpa,
			  uint32_t bytes, uint64_t value);
void vm_expect_mmio_read(const char *file, int line, struct vcpu *vcpu, uint64_t gpa,
			 uint32_t bytes, uint64_t value);

/** vm_exit_name() - "KVM_EXIT_IO". */
const char *vm_exit_name(uint32_t reason);
