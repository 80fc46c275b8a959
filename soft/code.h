/*
 * Which memory holds code that an engine has translated: 64 pieces of 64 bytes of each page, by the
 * page's address in the VMM. A page with such pieces is never entered into a TLB for writing, so
 * that each write to it comes here first.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/types.h"

struct kvm_vm;
struct soft_vcpu;
struct soft_vm;

#define SOFT_CODE_BUCKETS 8192
#define SOFT_CODE_MAIL	  1024
#define SOFT_CODE_PIECE	  64

/** Of soft_code_page.writer; all else is a vCPU's index plus one, and from bit 32 on its visit. */
#define SOFT_CODE_NOBODY  UINT64_C(0)
#define SOFT_CODE_ANYBODY UINT64_MAX

struct soft_code_page {
	uint64_t host;		     /* constant */
	_Atomic uint64_t mask;	     /* of pieces with translated code, of any vCPU */
	_Atomic uint64_t writer;     /* which vCPU may be about to write to it */
	struct soft_code_page *next; /* constant */
};

/** Of a VM. Pages stay to its end. */
struct soft_code {
	pthread_mutex_t lock;	  /* for adding pages */
	_Atomic unsigned posting; /* who has taken pieces from a mask, and has yet to tell all */
	_Atomic(struct soft_code_page *) bucket[SOFT_CODE_BUCKETS];
};

/** What others have written to, of which this vCPU may have translations. */
struct soft_code_mail {
	pthread_mutex_t lock;
	/* by lock */
	unsigned count;
	bool all; /* more than fits */
	struct {
		uint64_t host, mask;
	} written[SOFT_CODE_MAIL];
	_Atomic bool there;
};

void soft_code_init(struct soft_code *code);
void soft_code_fini(struct soft_code *code);

/** soft_code_mask() - pieces with code of the page at @host. Context: any. */
uint64_t soft_code_mask(const struct soft_vm *vm, uint64_t host);

/**
 * soft_code_add() - code of the pieces @mask of the page at @host is about to be read and
 * translated. When it returns, each write to the page is noticed, and those are done that other
 * vCPUs have told of. The vCPU may have been outside meanwhile: its TLB may be empty.
 * Return: 0 or -ENOMEM.
 * Context: vCPU thread, inside.
 */
must_use int soft_code_add(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask);

/**
 * soft_code_write() - @len bytes at @host, of one page, are going to be written to, before the vCPU
 * is outside again: forgets what was translated of them.
 * Context: vCPU thread, inside.
 */
void soft_code_write(struct soft_vcpu *vcpu, uint64_t host, unsigned len);

/**
 * soft_code_written() - somebody who is no vCPU has written to @len bytes at @host.
 * When it returns, no vCPU executes what was translated of what was there before.
 * Context: any thread that is not inside. It may wait until vCPUs that are inside look at their
 * requests; those wait for nobody but each other.
 */
void soft_code_written(struct kvm_vm *vm, uint64_t host, uint64_t len);

/** soft_code_receive() - forgets what others have written to. Context: vCPU thread, inside. */
void soft_code_receive(struct soft_vcpu *vcpu);
