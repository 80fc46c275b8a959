/*
 * A guest that tries all there is, one after the other: opcodes, MSRs, ports, addresses, messages
 * to local APICs. What it gets does not matter; that host and neighbours live on does, and so does
 * that it really comes to the end of each list.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/kvm/vm.h"

#define SWEEP_IMAGE	0x30000 /* bytes of RAM that are put back before the guest starts again */
#define SWEEP_DATA	0x28000 /* 4 KiB of anything */
#define SWEEP_PROGRESS	0x2f450 /* where the guest says what it is at, 8 bytes */
#define SWEEP_DONE	(VM_HOLE + 0xff0) /* a write there: the guest is done */
#define SWEEP_DONE_PORT 0xf4		  /* an OUT there: the case is done */
#define SWEEP_STACKS	0x2e000		  /* of vCPU n 0x400 * n lower */

/* One vCPU, and what came of it. */
struct sweep {
	struct vm *vm;
	struct vcpu *vcpu;
	struct kvm_sregs sregs; /* as it starts */
	struct kvm_regs regs;
	uint8_t *image; /* SWEEP_IMAGE bytes; NULL: another vCPU's */
	unsigned tick_ms;
	bool msrs;    /* the guest writes some */
	bool by_port; /* SWEEP_DONE_PORT ends a case */
	uint64_t cases, exits[64], refused, fetched, restarts;

	pthread_t watcher;
	_Atomic int tid;
	_Atomic uint64_t steps;
	_Atomic bool stop, ended; /* the thread of a further vCPU; the watcher */
};

/* How a run ends. */
enum sweep_end {
	SWEEP_ENDED,   /* the guest said so, or it cannot go on */
	SWEEP_FETCHED, /* it had not come out for a tick */
	SWEEP_BUSY,    /* it has come out as often as it may */
};

/**
 * sweep_begin() - puts the payload of a new VM in place, with all vectors leading to @handler.
 * @tick_ms: after so long without an exit the guest is fetched.
 */
void sweep_begin(struct sweep *s, struct vm *vm, enum vm_irqchip chip, int bits, const char *code,
		 const char *code_end, const char *handler, unsigned tick_ms);

/** sweep_add() - a further vCPU at @label of the payload; it is not watched yet. */
void sweep_add(struct sweep *s, struct sweep *first, const char *code, const char *label);

/** sweep_watch() - @s is run by this thread from now on; fetches it each tick that it stays in. */
void sweep_watch(struct sweep *s);

/** sweep_reset() - the vCPU as it started, and if it has the image, the RAM. */
void sweep_reset(struct sweep *s);

/** sweep_run() - until an end; ports and MMIO are answered by ones. */
enum sweep_end sweep_run(struct sweep *s, unsigned exits_max);

/** sweep_loop() - has the payload go from RAX = @first by @step to @end (R12, R14, R13). What ends
 * it is left out, and it starts again behind that. */
void sweep_loop(struct sweep *s, uint64_t first, uint64_t end, uint64_t step);

/** sweep_done() - says what came of it, and ends its watcher. @least: of cases that did
 * not end the guest, or it fails. */
void sweep_done(struct sweep *s, const char *name, uint64_t least);

void sweep_opcodes(int bits);
void sweep_msrs(void);
void sweep_ports(void);
void sweep_places(void);
void sweep_svm(void);
void sweep_interrupts(bool x2apic);
void sweep_storm(void);
void sweep_triple(void);
