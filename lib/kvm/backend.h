/*
 * Who executes the guest: SVM, VMX or a translator, below one table of operations. lib/kvm decides
 * what a vCPU does next; the backend lets it run until there is something to decide.
 *
 * Registers. struct kvm_vcpu holds all of them, in groups. While the guest runs they are the
 * backend's, and after a stop it has brought back KVM_REGS_CORE at least; it says which groups in
 * vcpu->loaded, and lib/kvm asks for others by load() when it needs them. What lib/kvm changes it
 * enters in vcpu->changed; enter() takes those groups over and clears the field. A backend that
 * works on struct kvm_vcpu itself (a software CPU) always has all groups loaded.
 */
#pragma once

#include "lib/base/types.h"
#include "lib/insn/cpu.h"

struct kvm_vm;
struct kvm_vcpu;
struct kvm_slot;

/** Groups of registers. */
#define KVM_REGS_CORE	  BIT(0) /* GPRs, RIP, RFLAGS, interrupt shadow; always there */
#define KVM_REGS_CONTROL  BIT(1) /* CR0, CR2, CR3, CR4, EFER */
#define KVM_REGS_SEGMENTS BIT(2) /* ES to GS, LDTR, TR, GDTR, IDTR */
#define KVM_REGS_DEBUG	  BIT(3) /* DR0 to DR3, DR6, DR7 as the guest sees them */
#define KVM_REGS_MSRS	  BIT(4) /* vcpu->msr[]: SYSCALL, SYSENTER, ...; how the TSC runs */
#define KVM_REGS_FPU	  BIT(5) /* vcpu->xsave, XCR0, XSS */
#define KVM_REGS_MODE	  BIT(6) /* CS, CPL, CR0, CR3, CR4 and EFER, to look at only */
#define KVM_REGS_ALL	  (BIT(7) - 1)

/** Why the guest does not run any more. */
enum kvm_stop_reason {
	KVM_STOP_NONE,	     /* a kick, an interrupt of the host, a request: nothing to be done */
	KVM_STOP_IRQ_WINDOW, /* vcpu->want_irq_window: an interrupt could be taken now */
	KVM_STOP_NMI_WINDOW, /* vcpu->want_nmi_window: an NMI could; after IRET */
	KVM_STOP_EXCEPTION,  /* one that is intercepted; .exception */
	KVM_STOP_CPUID,
	KVM_STOP_HLT,
	KVM_STOP_PAUSE,
	KVM_STOP_MSR_READ,
	KVM_STOP_MSR_WRITE,
	KVM_STOP_IO,	    /* IN or OUT; .io. Strings come as KVM_STOP_EMULATE */
	KVM_STOP_MEMORY,    /* a guest-physical access that has no mapping; .memory */
	KVM_STOP_EMULATE,   /* an intercepted instruction that the emulator knows */
	KVM_STOP_CR,	    /* MOV to or from a control register, not a fault; .cr, .insn_len */
	KVM_STOP_CR8_WRITE, /* .value: MOV to CR8, TPR threshold; RIP still at it */
	KVM_STOP_XSETBV,
	KVM_STOP_RDPMC,
	KVM_STOP_HYPERCALL, /* VMMCALL or VMCALL */
	KVM_STOP_MONITOR,   /* MONITOR, MWAIT: a NOP, or #UD if CPUID hides them */
	KVM_STOP_MWAIT,
	KVM_STOP_FLUSH,	      /* INVD, WBINVD: a NOP */
	KVM_STOP_UNDEFINED,   /* an instruction of virtualization: #UD */
	KVM_STOP_TASK_SWITCH, /* refused: internal error */
	KVM_STOP_SHUTDOWN,    /* triple fault */
	KVM_STOP_FAIL_ENTRY,  /* the hardware refuses the state; .hardware */
	KVM_STOP_UNKNOWN,     /* .hardware */
};

/** An event on its way into the guest. */
enum kvm_event_kind {
	KVM_EVENT_NONE,
	KVM_EVENT_EXCEPTION,	  /* a fault or trap of the CPU; vector 3 and 4 as INT3, INTO */
	KVM_EVENT_INTERRUPT,	  /* external */
	KVM_EVENT_SOFT_INTERRUPT, /* INT n, that was interrupted; RIP is at it */
	KVM_EVENT_NMI,
};

struct kvm_event {
	uint8_t kind;
	uint8_t vector;
	bool has_error;
	uint32_t error;
};

struct kvm_stop {
	uint8_t reason;
	uint8_t insn_len; /* of the instruction that stopped; 0: unknown, it is decoded then */
	/*
	 * What enter() was to deliver (vcpu->inject) or the CPU was delivering when it stopped, and
	 * is not delivered: it is tried again.
	 */
	struct kvm_event undelivered;
	union {
		struct {
			uint8_t vector;
			bool has_error;
			uint32_t error;
			uint64_t dr6; /* of #DB: the new bits; of #PF: the address */
		} exception;
		struct {
			uint16_t port;
			uint8_t bytes;
			bool in;
		} io;
		struct {
			uint64_t gpa;
			bool write, fetch;
			bool exact; /* @gpa is that of the access's first byte */
		} memory;
		struct {
			uint8_t number, gpr;
			bool write;
		} cr;
		uint64_t value;
		uint64_t hardware;
	};
};

/** A page that the guest lacks, which lib/kvm has found memory for. */
struct kvm_fault {
	const struct kvm_slot *slot;
	uint64_t gfn;
	uint64_t user; /* the page's address in the VMM */
	bool write;    /* it has to be writable now */
	/*
	 * May the mapping be writable although the access is a read? Not if the slot is read-only
	 * or its log waits for a write.
	 */
	bool may_write;
	bool fetch;
	/* May neighbours be mapped along (huge pages within the slot)? Not while it is logged. */
	bool large;
};

struct kvm_backend {
	/* ---- facts, constant ---- */
	const char *name;
	bool waits;		/* enter() knows vcpu->not_before */
	bool amd;		/* an AMD CPU: hypercalls by VMMCALL, #GP rules */
	uint8_t phys_bits;	/* of guest-physical addresses */
	uint64_t xcr0;		/* features that XCR0 may have; 0 without XSAVE */
	uint32_t xsave_bytes;	/* of vcpu->xsave, standard format; at least 576 */
	uint32_t pkru_at;	/* of PKRU in vcpu->xsave, if XCR0 may have it */
	uint8_t tsc_scale_bits; /* fraction bits of the TSC's multiplier; 0: no scaling */
	uint64_t
		arch_capabilities; /* IA32_ARCH_CAPABILITIES: what guests need not defend against */

	/**
	 * What the CPU below offers a guest, before lib/kvm takes away what it does not know and
	 * adds what it emulates. @regs: EAX, EBX, ECX, EDX.
	 */
	void (*host_cpuid)(uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);

	/* ---- life ---- */
	int (*vm_init)(struct kvm_vm *vm);
	void (*vm_fini)(struct kvm_vm *vm);
	int (*vcpu_init)(struct kvm_vcpu *vcpu);
	void (*vcpu_fini)(struct kvm_vcpu *vcpu);

	/* ---- registers ---- */
	/** Brings @groups into the vCPU's struct, and enters them in vcpu->loaded. */
	void (*load)(struct kvm_vcpu *vcpu, uint32_t groups);
	/** CPUID, the MSR filter or guest debugging changed: what to intercept is to be redone. */
	void (*features_changed)(struct kvm_vcpu *vcpu);

	/* ---- execution ---- */
	/**
	 * Runs the guest, after delivering vcpu->inject. With kicks held off it asks
	 * kvm_vcpu_must_not_enter(), and comes back with KVM_STOP_NONE and the event undelivered
	 * if so. It also comes back so, soon, when the surroundings have something for the thread:
	 * signal_pending(), resched(). @stop: reason, insn_len and undelivered.kind are 0, the rest
	 * is anything. The fields of struct kvm_vcpu that it obeys stand under "orders" there. It
	 * clears vcpu->events.nmi.masked when the guest's IRET ends the handler of an NMI.
	 * Context: the vCPU's thread, vcpu->lock; vm->memory is not held.
	 */
	void (*enter)(struct kvm_vcpu *vcpu, struct kvm_stop *stop);
	/** The guest's branches from here on are not predicted by what was before (IBPB). NULL: no
	 * guest is told that it could ask for that. Context: the vCPU's thread, as enter(). */
	void (*predict_anew)(void);
	/** Forgets what it knows of the guest's own page tables: after CR writes from outside. */
	void (*flush_guest_tlb)(struct kvm_vcpu *vcpu);

	/* ---- memory; vm->memory is held ---- */
	/* What user space does to the memory of a slot (munmap(), mremap(), mprotect()), while the
	 * guest runs, too, is the backend's to follow. */
	/**
	 * Maps a page. Return: 0; -EAGAIN if the user's memory just changed: the guest tries
	 * again; -EFAULT if there is nothing or it may not be accessed so; -ENOMEM.
	 */
	int (*map)(struct kvm_vcpu *vcpu, const struct kvm_fault *fault);
	/** Takes mappings away. When it returns, no vCPU uses them any more. */
	void (*unmap)(struct kvm_vm *vm, uint64_t gfn, uint64_t pages);
	/** Takes the right to write from pages @gfn + i with bit i of @mask; flush() follows. */
	void (*write_protect)(struct kvm_vm *vm, uint64_t gfn, uint64_t mask);
	/** When it returns, no vCPU writes by a mapping that was protected before. */
	void (*flush)(struct kvm_vm *vm);
};
