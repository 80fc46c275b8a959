/* lib/kvm's surroundings: storage, user memory, time. */
#include <errno.h>

#include "core/hw/clock.h"
#include "core/hw/regs.h"
#include "core/hw/user.h"
#include "core/hw/wide.h"
#include "core/kvm/internal.h"
#include "core/mem/heap.h"
#include "core/mem/space.h"
#include "lib/kvm/slots.h"

/* ---- storage ---- */

/* XSAVE areas are among it: 64-aligned, which whole pages are, and powers of two. */
static size_t rounded(size_t bytes)
{
	size_t size = 64;

	while (size < bytes && size < 512) {
		size *= 2;
	}
	return size >= bytes ? size : ALIGN_UP(bytes, (size_t)PAGE_SIZE);
}

static void *env_alloc(struct kvm_env *env, enum kvm_store kind, size_t bytes)
{
	hpa_t page;

	(void)env;
	if (kind != KVM_STORE_PAGES) {
		return mem_alloc(rounded(bytes));
	}
	if (bytes != PAGE_SIZE) {
		return NULL; /* pages are counted one by one */
	}
	page = page_alloc_zero(0, PAGE_USE_KVM);
	return page_is_none(page) ? NULL : phys_ptr(page);
}

static void env_free(struct kvm_env *env, enum kvm_store kind, void *p, size_t bytes)
{
	(void)env;
	if (kind == KVM_STORE_PAGES) {
		page_put(phys_of(p)); /* a mapping may hold it still */
	} else {
		mem_free(p, rounded(bytes));
	}
}

/* ---- user memory ---- */

static int env_copy_in(struct kvm_env *env, void *to, uint64_t user, size_t bytes)
{
	(void)env;
	return user_read(to, user, bytes);
}

/* The tables are a guest's: each address in them is held against the slot's bounds. */
static int env_find_code(struct kvm_env *env, const struct kvm_slot *slot, struct kvm_code *code)
{
	uint64_t first = slot->gfn << PAGE_SHIFT, bytes = slot->pages << PAGE_SHIFT;
	uint64_t entry = code->cr3;
	unsigned shift = 48;

	(void)env;
	code->levels = 0;
	do {
		uint64_t at = (entry & PTE_ADDR) - first;
		struct user_word w;

		shift -= 9;
		at += (code->linear >> shift & 0x1ff) * 8;
		if (at >= bytes) {
			return -EAGAIN;
		}
		w = user_get_word(slot->user + at);
		if (w.error != 0 || (w.value & PTE_P) == 0) {
			return -EAGAIN;
		}
		entry = w.value;
		code->table[code->levels].user = slot->user + at;
		code->table[code->levels++].entry = entry;
	} while (shift > PAGE_SHIFT && (shift == 39 || (entry & PTE_PS) == 0));
	entry &= PTE_ADDR & ~(BIT(shift) - 1);
	entry += (code->linear & (BIT(shift) - 1)) - first;
	code->user = slot->user + entry;
	return entry < bytes ? 0 : -EAGAIN;
}

_Static_assert(sizeof(struct user_step) == sizeof(((struct kvm_code *)0)->table[0]), "layout");

static struct kvm_code_bytes env_fetch_code(struct kvm_env *env, const struct kvm_code *code,
					    unsigned at)
{
	struct user_words w =
		user_recheck((const void *)code->table, code->levels, code->user + at);

	(void)env;
	return (struct kvm_code_bytes){{w.word[0], w.word[1]}};
}

static int env_copy_out(struct kvm_env *env, uint64_t user, const void *from, size_t bytes)
{
	(void)env;
	return user_write(user, from, bytes);
}

/* By the direct map: the page is held, so it stays that long. */
static int env_cmpxchg(struct kvm_env *env, uint64_t user, const void *old, const void *new,
		       unsigned bytes)
{
	hpa_t page;
	uint64_t size;
	bool writable, done;
	void *p;

	(void)env;
	if (!user_range_ok(user, bytes) || user % bytes != 0 ||
	    space_page(space_current(), user, SPACE_WRITE, &page, &size, &writable) != 0) {
		return -EFAULT;
	}
	p = (char *)phys_ptr(page) + (user & (size - 1));
	done = wide_cmpxchg(p, old, new, bytes);
	page_put(page);
	return done ? 0 : -EAGAIN;
}

static bool env_user_range(struct kvm_env *env, uint64_t user, uint64_t bytes)
{
	(void)env;
	return user_range_ok(user, bytes);
}

static bool env_owns(struct kvm_env *env, struct kvm_vm *vm)
{
	(void)env;
	return ((const struct vm_data *)vm->env_data)->space == space_current();
}

/* ---- time ---- */

static uint64_t env_now_ns(struct kvm_env *env)
{
	(void)env;
	return clock_now_ns();
}

static uint64_t env_wall_ns(struct kvm_env *env)
{
	(void)env;
	return clock_wall_ns();
}

static uint64_t env_tsc(struct kvm_env *env)
{
	(void)env;
	return asm_rdtsc();
}

static bool env_now_and_tsc(struct kvm_env *env, uint64_t *now_ns, uint64_t *tsc)
{
	(void)env;
	*tsc = asm_rdtsc();
	*now_ns = clock_tsc_to_ns(*tsc);
	return true; /* the clock is the TSC */
}

const struct kvm_env_ops env_ops = {
	.alloc = env_alloc,
	.free = env_free,
	.lock_init = env_lock_init,
	.lock_fini = env_lock_fini,
	.lock = env_lock,
	.unlock = env_unlock,
	.lock_read = env_lock_read,
	.unlock_read = env_unlock_read,
	.lock_killable = env_lock_killable,
	.copy_in = env_copy_in,
	.find_code = env_find_code,
	.fetch_code = env_fetch_code,
	.copy_out = env_copy_out,
	.cmpxchg = env_cmpxchg,
	.user_range = env_user_range,
	.owns = env_owns,
	.now_ns = env_now_ns,
	.wall_ns = env_wall_ns,
	.tsc = env_tsc,
	.now_and_tsc = env_now_and_tsc,
	.timer_arm = env_timer_arm,
	.timer_cancel = env_timer_cancel,
	.eventfd_get = env_eventfd_get,
	.eventfd_put = env_eventfd_put,
	.eventfd_signal = env_eventfd_signal,
	.eventfd_watch = env_eventfd_watch,
	.eventfd_unwatch = env_eventfd_unwatch,
	.vm_fd = env_vm_fd,
	.vcpu_fd = env_vcpu_fd,
	.run_begin = env_run_begin,
	.run_end = env_run_end,
	.signal_pending = env_signal_pending,
	.resched = env_resched,
	.signal_mask = env_signal_mask,
	.block = env_block,
	.kick = env_kick,
	.emulate = env_emulate,
	.steal_ns = env_steal_ns,
};
