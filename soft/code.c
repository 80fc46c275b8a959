#include "soft/code.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "soft/vcpu.h"

#define PAGE_MASK UINT64_C(0xfff)

void soft_code_init(struct soft_code *code)
{
	pthread_mutex_init(&code->lock, NULL);
}

void soft_code_fini(struct soft_code *code)
{
	for (unsigned i = 0; i < SOFT_CODE_BUCKETS; i++) {
		struct soft_code_page *page = code->bucket[i];

		while (page != NULL) {
			struct soft_code_page *next = page->next;

			free(page);
			page = next;
		}
	}
	pthread_mutex_destroy(&code->lock);
}

static unsigned bucket_of(uint64_t host)
{
	return (unsigned)((host >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 51) % SOFT_CODE_BUCKETS;
}

static struct soft_code_page *find(const struct soft_code *code, uint64_t host)
{
	struct soft_code_page *page =
		atomic_load_explicit(&code->bucket[bucket_of(host)], memory_order_acquire);

	while (page != NULL && page->host != host) {
		page = page->next;
	}
	return page;
}

static struct soft_code_page *make(struct soft_code *code, uint64_t host)
{
	_Atomic(struct soft_code_page *) *bucket = &code->bucket[bucket_of(host)];
	struct soft_code_page *page;

	pthread_mutex_lock(&code->lock);
	page = find(code, host);
	if (page == NULL) {
		page = calloc(1, sizeof(*page));
		if (page != NULL) {
			page->host = host;
			page->next = atomic_load_explicit(bucket, memory_order_relaxed);
			/* Pairs with find(). */
			atomic_store_explicit(bucket, page, memory_order_release);
		}
	}
	pthread_mutex_unlock(&code->lock);
	return page;
}

uint64_t soft_code_mask(const struct soft_vm *vm, uint64_t host)
{
	const struct soft_code_page *page = find(&vm->code, host);

	return page == NULL ? 0 : atomic_load(&page->mask);
}

/* What @vcpu has in soft_code_page.writer. */
static uint64_t writer_of(const struct soft_vcpu *vcpu)
{
	uint64_t visit = atomic_load_explicit(&vcpu->visit, memory_order_relaxed);

	return visit << 32 | (vcpu->kvm->index + 1);
}

/* Has the vCPU not been outside since it told? Not if it is @self: that one is not at a store. */
static bool may_write(const struct soft_vcpu *self, uint64_t writer)
{
	const struct soft_vcpu *vcpu;

	if (writer == SOFT_CODE_NOBODY || writer == SOFT_CODE_ANYBODY) {
		return writer == SOFT_CODE_ANYBODY;
	}
	vcpu = soft_vcpu_of(kvm_vm_vcpu(self->kvm->vm, (uint32_t)writer - 1));
	return vcpu != self && atomic_load(&vcpu->inside) &&
	       atomic_load(&vcpu->visit) == writer >> 32;
}

/*
 * What others were about to write to the page is written. If @all, nobody writes to it by an entry
 * of a TLB any more, as who finds no pieces in the mask may do.
 */
static void stop_others(struct soft_vcpu *vcpu, struct soft_code_page *page, bool all)
{
	struct kvm_vm *vm = vcpu->kvm->vm;

	soft_vcpu_alone(vcpu);
	for (uint32_t i = 0; all && i < kvm_vm_count(vm); i++) {
		struct soft_vcpu *other = soft_vcpu_of(kvm_vm_vcpu(vm, i));

		if (other != vcpu) {
			atomic_store(&other->stale, true);
		}
	}
	atomic_store(&page->writer, SOFT_CODE_NOBODY);
	soft_vcpu_not_alone(vcpu);
}

int soft_code_add(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask)
{
	struct soft_code_page *page = find(&vcpu->vm->code, host);
	uint64_t before, writer;

	if (page == NULL) {
		page = make(&vcpu->vm->code, host);
		if (page == NULL) {
			return -ENOMEM;
		}
	}
	before = atomic_load(&page->mask);
	do {
		/* First, so that who sees our pieces sees that as well. */
		if (before == 0) {
			atomic_store(&page->writer, SOFT_CODE_ANYBODY);
		}
	} while (!atomic_compare_exchange_weak(&page->mask, &before, before | mask));
	/* Either we see who is about to write, or he sees the pieces: tell(). */
	writer = atomic_load(&page->writer);
	if (writer == SOFT_CODE_ANYBODY) {
		soft_mmu_protect(vcpu, host);
	}
	if (may_write(vcpu, writer)) {
		stop_others(vcpu, page, writer == SOFT_CODE_ANYBODY);
	}
	return 0;
}

/* Who sleeps reads it when it comes back. */
static void post(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask)
{
	struct soft_code_mail *mail = &vcpu->mail;

	pthread_mutex_lock(&mail->lock);
	if (mail->count < SOFT_CODE_MAIL) {
		mail->written[mail->count].host = host;
		mail->written[mail->count].mask = mask;
		mail->count++;
	} else {
		mail->all = true;
	}
	pthread_mutex_unlock(&mail->lock);
	atomic_store(&mail->there, true);
	kvm_vcpu_note(vcpu->kvm, KVM_REQ_KICK);
	soft_vcpu_kick(vcpu);
}

/*
 * The vCPU is about to write to the page, and may lose its CPU before it does. Whoever translates
 * what is there waits until all have been outside, and takes this back then.
 */
static void tell(struct soft_code_page *page, const struct soft_vcpu *self)
{
	uint64_t me = writer_of(self), now = atomic_load(&page->writer);

	if (now != me &&
	    (may_write(self, now) || !atomic_compare_exchange_strong(&page->writer, &now, me))) {
		atomic_store(&page->writer, SOFT_CODE_ANYBODY);
	}
}

/*
 * Of @len bytes at @host, of one page: all forget what was translated of them, @self at once.
 * Return: has there ever been anything in the page?
 */
static bool forget(struct kvm_vm *vm, uint64_t host, unsigned len, struct soft_vcpu *self)
{
	struct soft_vm *soft = vm->backend_data;
	struct soft_code_page *page = find(&soft->code, host & ~PAGE_MASK);
	unsigned first = (unsigned)(host & PAGE_MASK) / SOFT_CODE_PIECE;
	unsigned last = MIN((unsigned)(host & PAGE_MASK) + len - 1, 4095) / SOFT_CODE_PIECE;
	uint32_t count;
	uint64_t mask;

	if (page == NULL) {
		return false;
	}
	if (self != NULL) {
		tell(page, self);
	}
	mask = (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
	if ((atomic_load(&page->mask) & mask) == 0) {
		return true;
	}
	atomic_fetch_add(&soft->code.posting, 1);
	atomic_fetch_and(&page->mask, ~mask);
	/* Only now: one that is made later finds what is written, or waits for it. */
	count = kvm_vm_count(vm);
	for (uint32_t i = 0; i < count; i++) {
		struct soft_vcpu *vcpu = soft_vcpu_of(kvm_vm_vcpu(vm, i));

		if (vcpu != NULL && vcpu == self) {
			vcpu->engine->written(vcpu, page->host, mask);
		} else if (vcpu != NULL) {
			post(vcpu, page->host, mask);
		}
	}
	atomic_fetch_sub(&soft->code.posting, 1);
	return true;
}

void soft_code_write(struct soft_vcpu *vcpu, uint64_t host, unsigned len)
{
	(void)forget(vcpu->kvm->vm, host, len, vcpu);
}

/*
 * Each vCPU is outside, and reads its mail before it enters translated code; or it has read it.
 * Also that of others: who has written to the same code before may be telling of it only now.
 */
static void wait_for_all(struct kvm_vm *vm)
{
	const struct soft_vm *soft = vm->backend_data;
	uint32_t count = kvm_vm_count(vm);

	while (atomic_load(&soft->code.posting) != 0) {
		sched_yield();
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct soft_vcpu *vcpu = soft_vcpu_of(kvm_vm_vcpu(vm, i));

		while (vcpu != NULL && atomic_load(&vcpu->inside) &&
		       atomic_load(&vcpu->mail.there)) {
			sched_yield();
		}
	}
}

void soft_code_written(struct kvm_vm *vm, uint64_t host, uint64_t len)
{
	bool any = false;

	/* Who sets its bit of a mask behind this compares what it has read then: depend(). */
	atomic_thread_fence(memory_order_seq_cst);
	while (len != 0) {
		unsigned n = (unsigned)MIN(len, PAGE_MASK + 1 - (host & PAGE_MASK));

		any |= forget(vm, host, n, NULL);
		host += n;
		len -= n;
	}
	if (any) {
		wait_for_all(vm);
	}
}

void soft_code_receive(struct soft_vcpu *vcpu)
{
	struct soft_code_mail *mail = &vcpu->mail;

	if (!atomic_load(&mail->there)) {
		return;
	}
	pthread_mutex_lock(&mail->lock);
	atomic_store(&mail->there, false);
	if (mail->all) {
		vcpu->engine->forget(vcpu);
	}
	for (unsigned i = 0; i < mail->count; i++) {
		vcpu->engine->written(vcpu, mail->written[i].host, mail->written[i].mask);
	}
	mail->count = 0;
	mail->all = false;
	pthread_mutex_unlock(&mail->lock);
}
