#include "soft/code.h"

#include <errno.h>
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

/* Nobody else writes to the page by an entry of a TLB any more. */
static void shoot_others(struct soft_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->kvm->vm;

	if (kvm_vm_count(vm) < 2) {
		return;
	}
	soft_vcpu_alone(vcpu);
	for (uint32_t i = 0; i < kvm_vm_count(vm); i++) {
		struct soft_vcpu *other = soft_vcpu_of(kvm_vm_vcpu(vm, i));

		if (other != vcpu) {
			atomic_store(&other->stale, true);
		}
	}
	soft_vcpu_not_alone(vcpu);
}

int soft_code_add(struct soft_vcpu *vcpu, uint64_t host, uint64_t mask)
{
	struct soft_code_page *page = find(&vcpu->vm->code, host);
	uint64_t before;

	if (page == NULL) {
		page = make(&vcpu->vm->code, host);
		if (page == NULL) {
			return -ENOMEM;
		}
	}
	before = atomic_fetch_or(&page->mask, mask);
	if (before == 0) {
		soft_mmu_protect(vcpu, host);
		shoot_others(vcpu);
	}
	return 0;
}

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
	kvm_vcpu_request(vcpu->kvm, KVM_REQ_KICK);
}

void soft_code_write(struct soft_vcpu *vcpu, uint64_t host, unsigned len)
{
	struct soft_code_page *page = find(&vcpu->vm->code, host & ~PAGE_MASK);
	unsigned first = (unsigned)(host & PAGE_MASK) / SOFT_CODE_PIECE;
	unsigned last = MIN((unsigned)(host & PAGE_MASK) + len - 1, 4095) / SOFT_CODE_PIECE;
	struct kvm_vm *vm = vcpu->kvm->vm;
	uint32_t count = kvm_vm_count(vm);
	uint64_t mask;

	if (page == NULL) {
		return;
	}
	mask = (UINT64_MAX >> (63 - last)) & (UINT64_MAX << first);
	if ((atomic_load(&page->mask) & mask) == 0) {
		return;
	}
	atomic_fetch_and(&page->mask, ~mask);
	for (uint32_t i = 0; i < count; i++) {
		struct soft_vcpu *other = soft_vcpu_of(kvm_vm_vcpu(vm, i));

		if (other == vcpu) {
			vcpu->engine->written(vcpu, page->host, mask);
		} else if (other != NULL) {
			post(other, page->host, mask);
		}
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
