/*
 * Which memory holds code that an engine has translated: 64 pieces of 64 bytes of each page, by the
 * page's address in the VMM. A page with such pieces is never entered into a TLB for writing, so
 * that each write to it comes here first.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/types.h"

struct soft_vcpu;
struct soft_vm;

#define SOFT_CODE_BUCKETS 8192
#define SOFT_CODE_MAIL	  64
#define SOFT_CODE_PIECE	  64

struct soft_code_page {
	uint64_t host;		     /* constant */
	_Atomic uint64_t mask;	     /* of pieces with translated code, of any vCPU */
	struct soft_code_page *next; /* constant */
};

/** Of a VM. Pages stay to its end. */
struct soft_code {
	pthread_mutex_t lock; /* for adding pages */
	_Atomic(struct soft_code_page *) bucket[SOFT_CODE_BUCKETS];
};

/** What other vCPUs have written to, of which this one may have translations. */
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
 * translated. When it returns, each write to the page is noticed. The vCPU may have been outside
 * meanwhile: its TLB may be empty. Return: 0 or -ENOMEM.
 * Context: vCPU thread, inside.
 */
must_use int soft_code_add(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask);

/**
 * soft_code_write() - @len bytes at @host, of one page, are going to be written to: forgets what
 * was translated of them.
 * Context: vCPU thread, inside.
 */
void soft_code_write(struct soft_vcpu *vcpu, uint64_t host, unsigned len);

/** soft_code_receive() - forgets what others have written to. Context: vCPU thread, inside. */
void soft_code_receive(struct soft_vcpu *vcpu);
