/*
 * The vCPUs of a VM: one thread each, which runs the guest and serves its exits. Starting, pausing
 * and stopping go through one gate that every thread passes between two runs.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/types.h"
#include "vmm/board/bus.h"
#include "vmm/host/host.h"
#include "vmm/lock.h"

/** Why a vCPU cannot go on. */
enum vcpu_end {
	VCPU_TRIPLE_FAULT, /* the guest's doing */
	VCPU_NOT_EMULATED, /* the same: it runs what nobody can emulate; said by log_error() */
	VCPU_FAILED,	   /* the provider gave up; said by log_error() */
};

/** What the vCPU threads need of the machine around them; constant. */
struct vcpu_env {
	struct bus *pio;
	struct bus *mmio;
	void *ctx;
	/* A level interrupt of the IOAPIC with this vector was acknowledged (split only). */
	void (*eoi)(void *ctx, uint8_t vector);
	/* vCPU 0 only: does the PIC ask for attention? Then its vector (split only). */
	bool (*pic_pending)(void *ctx);
	int (*pic_ack)(void *ctx); /* a vector, or -1 when the request went away */
	/* The vCPU cannot go on. Context: its thread. */
	void (*end)(void *ctx, enum vcpu_end why);
};

struct vcpus;

struct vcpu {
	/* constant after vcpus_create() */
	struct vcpus *set;
	unsigned index;
	struct host_vcpu host;
	pthread_t thread;
};

enum vcpu_gate {
	GATE_CLOSED, /* paused, or not yet started */
	GATE_OPEN,
	GATE_STOP,
};

struct vcpus {
	/* constant after vcpus_create() */
	struct host_vm *vm;
	struct vcpu_env env;
	unsigned n;
	struct vcpu *vcpu;
	bool pic; /* the PIC is ours: vCPU 0 fetches its interrupts */

	struct lock lock;
	pthread_cond_t changed; /* of @gate */
	atomic_int gate;	/* enum vcpu_gate; written under @lock, read without */
	bool stopped;		/* no thread is kicked any more; guarded by @lock */
};

/**
 * vcpus_create() - @n vCPUs with their threads, which wait at the closed gate.
 * Return: 0 or -errno, logged; nothing is left behind.
 */
must_use int vcpus_create(struct vcpus *set, struct host_vm *vm, const struct vcpu_env *env,
			  unsigned n);

/**
 * vcpus_destroy() - stops them if need be, and frees them. Nobody may pause or kick them any more.
 */
void vcpus_destroy(struct vcpus *set);

/** vcpus_resume() - opens the gate. Context: any thread. */
void vcpus_resume(struct vcpus *set);

/**
 * vcpus_pause() - closes the gate and makes every vCPU leave the guest. Does not wait for it, so
 * that device threads with locks held may call it. Context: any thread.
 */
void vcpus_pause(struct vcpus *set);

/** vcpus_paused() - is the gate closed? */
bool vcpus_paused(struct vcpus *set);

/**
 * vcpus_stop() - ends and joins all threads. Pausing, resuming and kicking do nothing from then on.
 * Context: not a vCPU's thread; no locks held.
 */
void vcpus_stop(struct vcpus *set);

/** vcpus_kick() - makes vCPU @index leave the guest once, to look at its interrupts again. */
void vcpus_kick(struct vcpus *set, unsigned index);
