/* Several CPUs: atomic operations, and the order in which memory is seen. */
#include "tests/guest/bare/snippet.h"

#define ROUNDS 1000

static volatile uint32_t ready, done;
static uint8_t arena[3 * 4096] __attribute__((aligned(4096)));

/* Where an atomic operation is tried: inside of a line, across two lines, across two pages. */
static void *const places[] = {arena + 64, arena + 128 - 2, arena + 4096 - 3};

static void (*volatile step)(void *at, uint32_t cpu);
static void *volatile place;

static void worker(void *argument)
{
	uint32_t cpu = (uint32_t)(uintptr_t)argument;

	for (uint32_t round = 1;; round++) {
		bare_wait(&ready, round);
		for (uint32_t i = 0; i < ROUNDS; i++) {
			step(place, cpu);
		}
		__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
	}
}

static void start_workers(void)
{
	apic_enable();
	for (uint32_t i = 1; i < 3; i++) {
		bare_start_cpu(i, worker, (void *)(uintptr_t)i);
	}
}

/* All three do the step many times, at the same place. */
static void all_together(void (*function)(void *, uint32_t), void *at)
{
	step = function;
	place = at;
	__atomic_store_n(&done, 0, __ATOMIC_RELEASE);
	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		function(at, 0);
	}
	bare_wait(&done, 2);
}

static void clear_arena(void)
{
	for (size_t i = 0; i < sizeof(arena); i++) {
		arena[i] = 0;
	}
	__asm__ volatile("" : : : "memory");
}

static uint32_t value_at(const void *at)
{
	uint32_t value;

	__asm__ volatile("mov (%1), %0" : "=r"(value) : "r"(at) : "memory");
	return value;
}

static void lock_add(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("lock addl $1, (%0)" : : "r"(at) : "memory", "cc");
}

static void lock_inc(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("lock incl (%0)" : : "r"(at) : "memory", "cc");
}

static void lock_xadd(void *at, uint32_t cpu)
{
	uint32_t one = 1; /* XADD gives it another value */

	(void)cpu;
	__asm__ volatile("lock xaddl %0, (%1)" : "+r"(one) : "r"(at) : "memory", "cc");
}

static void lock_cmpxchg(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("mov (%0), %%eax\n"
			 "1: lea 1(%%rax), %%ecx\n"
			 "lock cmpxchgl %%ecx, (%0)\n"
			 "jnz 1b"
			 :
			 : "r"(at)
			 : "rax", "rcx", "memory", "cc");
}

static void lock_sub_byte(void *at, uint32_t cpu)
{
	/* Each its own byte of the word: none may undo another's. */
	__asm__ volatile("lock subb $1, (%0)" : : "r"((uint8_t *)at + cpu) : "memory", "cc");
}

static void count_everywhere(void (*function)(void *, uint32_t))
{
	start_workers();
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		clear_arena();
		all_together(function, places[i]);
		check_eq(value_at(places[i]), 3 * ROUNDS);
	}
}

BARE_CASE_ON(atomic_add, "smp/lock_add", "AMD APM vol. 2, 7.3.2; vol. 3, 1.2.5", 3, 0)
{
	count_everywhere(lock_add);
}

BARE_CASE_ON(atomic_inc, "smp/lock_inc", "AMD APM vol. 2, 7.3.2", 3, 0)
{
	count_everywhere(lock_inc);
}

BARE_CASE_ON(atomic_xadd, "smp/lock_xadd", "AMD APM vol. 2, 7.3.2", 3, 0)
{
	count_everywhere(lock_xadd);
}

BARE_CASE_ON(atomic_cmpxchg, "smp/lock_cmpxchg", "AMD APM vol. 2, 7.3.2", 3, 0)
{
	count_everywhere(lock_cmpxchg);
}

BARE_CASE_ON(atomic_bytes, "smp/lock_bytes", "AMD APM vol. 2, 7.3.2", 3, 0)
{
	uint8_t each = (uint8_t)-ROUNDS;

	start_workers();
	clear_arena();
	all_together(lock_sub_byte, arena + 64);
	check_eq(value_at(arena + 64), each * 0x010101u);
}

static void plain_byte(void *at, uint32_t cpu)
{
	__asm__ volatile("incb (%0)" : : "r"((uint8_t *)at + cpu) : "memory", "cc");
}

/* Plain stores of bytes side by side do not disturb each other either. */
BARE_CASE_ON(neighbours, "smp/neighbours", "AMD APM vol. 2, 7.3.2", 3, 0)
{
	start_workers();
	clear_arena();
	all_together(plain_byte, arena + 64);
	check_eq(value_at(arena + 64), (uint8_t)ROUNDS * 0x010101u);
}

/* Two halves that stay equal, by CMPXCHG8B and CMPXCHG16B. */
static void double_8b(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("mov (%0), %%eax\n"
			 "mov 4(%0), %%edx\n"
			 "1: lea 1(%%rax), %%ebx\n"
			 "lea 1(%%rdx), %%ecx\n"
			 "lock cmpxchg8b (%0)\n"
			 "jnz 1b"
			 :
			 : "r"(at)
			 : "rax", "rbx", "rcx", "rdx", "memory", "cc");
}

static void double_16b(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("mov (%0), %%rax\n"
			 "mov 8(%0), %%rdx\n"
			 "1: lea 1(%%rax), %%rbx\n"
			 "lea 1(%%rdx), %%rcx\n"
			 "lock cmpxchg16b (%0)\n"
			 "jnz 1b"
			 :
			 : "r"(at)
			 : "rax", "rbx", "rcx", "rdx", "memory", "cc");
}

BARE_CASE_ON(double_width, "smp/cmpxchg8b_16b", "AMD APM vol. 3, CMPXCHG8B/16B", 3, 0)
{
	start_workers();
	clear_arena();
	all_together(double_8b, arena + 64);
	check_eq(value_at(arena + 64), 3 * ROUNDS);
	check_eq(value_at(arena + 68), 3 * ROUNDS);
	clear_arena();
	all_together(double_8b, arena + 4096 - 4);
	check_eq(value_at(arena + 4096 - 4), 3 * ROUNDS);
	check_eq(value_at(arena + 4096), 3 * ROUNDS);
	clear_arena();
	all_together(double_16b, arena + 64);
	check_eq(value_at(arena + 64), 3 * ROUNDS);
	check_eq(value_at(arena + 72), 3 * ROUNDS);
}

static void bit_locked(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("1: lock btsl $5, (%0)\n"
			 "jnc 2f\n"
			 "pause\n"
			 "jmp 1b\n"
			 "2: incl 64(%0)\n"
			 "lock btrl $5, (%0)"
			 :
			 : "r"(at)
			 : "memory", "cc");
}

static void xchg_locked(void *at, uint32_t cpu)
{
	(void)cpu;
	__asm__ volatile("1: mov $1, %%eax\n"
			 "xchg %%eax, (%0)\n" /* without LOCK, and locked all the same */
			 "test %%eax, %%eax\n"
			 "jz 2f\n"
			 "pause\n"
			 "jmp 1b\n"
			 "2: incl 64(%0)\n"
			 "movl $0, (%0)" /* a plain store gives it back */
			 :
			 : "r"(at)
			 : "rax", "memory", "cc");
}

BARE_CASE_ON(spinlocks, "smp/spinlocks", "AMD APM vol. 2, 7.3.2; vol. 3, XCHG, BTS", 3, 0)
{
	start_workers();
	clear_arena();
	all_together(bit_locked, arena);
	check_eq(value_at(arena + 64), 3 * ROUNDS);
	clear_arena();
	all_together(xchg_locked, arena);
	check_eq(value_at(arena + 64), 3 * ROUNDS);
}

/* ---- the order of loads and stores: litmus tests of two CPUs ---- */

#define TURNS 30
#define SLOTS 64

/* Each slot is one try; all of them are run through at about the same time by both CPUs. */
struct slot {
	volatile uint32_t x __attribute__((aligned(64)));
	volatile uint32_t y __attribute__((aligned(64)));
	volatile uint32_t seen[2] __attribute__((aligned(64)));
};

static struct slot slots[SLOTS];
static volatile uint32_t turn, answer;
static void (*volatile other_side)(struct slot *slot, uint32_t n);

static void second_side(void *argument)
{
	(void)argument;
	for (uint32_t i = 1;; i++) {
		bare_wait(&turn, i);
		for (uint32_t n = 0; n < SLOTS; n++) {
			other_side(&slots[n], n);
		}
		__atomic_store_n(&answer, i, __ATOMIC_RELEASE);
	}
}

/* @seen0, @seen1: what must never be seen together. */
static void run_litmus(void (*first)(struct slot *, uint32_t),
		       void (*second)(struct slot *, uint32_t), uint32_t seen0, uint32_t seen1)
{
	other_side = second;
	apic_enable();
	bare_start_cpu(1, second_side, NULL);
	for (uint32_t i = 1; i <= TURNS; i++) {
		for (uint32_t n = 0; n < SLOTS; n++) {
			slots[n].x = 0;
			slots[n].y = 0;
			slots[n].seen[0] = 0;
			slots[n].seen[1] = 0;
		}
		__atomic_store_n(&turn, i, __ATOMIC_SEQ_CST);
		for (uint32_t n = 0; n < SLOTS; n++) {
			first(&slots[n], n);
		}
		bare_wait(&answer, i);
		for (uint32_t n = 0; n < SLOTS; n++) {
			check(!(slots[n].seen[0] == seen0 && slots[n].seen[1] == seen1));
		}
	}
}

static void store_both(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->x = 1;
	slot->y = 1;
}

static void load_both(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->seen[0] = slot->y;
	slot->seen[1] = slot->x;
}

BARE_CASE_ON(message_passing, "smp/message_passing",
	     "AMD APM vol. 2, 7.2; Intel SDM vol. 3A, 8.2.3.2", 2, 0)
{
	run_litmus(store_both, load_both, 1, 0);
}

static void load_x_store_y(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->seen[0] = slot->x;
	slot->y = 1;
}

static void load_y_store_x(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->seen[1] = slot->y;
	slot->x = 1;
}

BARE_CASE_ON(load_buffering, "smp/load_buffering",
	     "AMD APM vol. 2, 7.2; Intel SDM vol. 3A, 8.2.3.3", 2, 0)
{
	run_litmus(load_x_store_y, load_y_store_x, 1, 1);
}

static void store_x_fence_load_y(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->x = 1;
	__asm__ volatile("mfence" : : : "memory");
	slot->seen[0] = slot->y + 1;
}

static void store_y_fence_load_x(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->y = 1;
	__asm__ volatile("mfence" : : : "memory");
	slot->seen[1] = slot->x + 1;
}

BARE_CASE_ON(store_buffering_fenced, "smp/store_buffering_fenced",
	     "AMD APM vol. 2, 7.2; vol. 3, MFENCE", 2, 0)
{
	run_litmus(store_x_fence_load_y, store_y_fence_load_x, 1, 1);
}

static void store_x_lock_load_y(struct slot *slot, uint32_t n)
{
	(void)n;
	slot->x = 1;
	__asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
	slot->seen[0] = slot->y + 1;
}

static void xchg_y_load_x(struct slot *slot, uint32_t n)
{
	uint32_t one = 1;

	(void)n;
	__asm__ volatile("xchg %0, %1" : "+r"(one), "+m"(slot->y) : : "memory");
	slot->seen[1] = slot->x + 1;
}

BARE_CASE_ON(store_buffering_locked, "smp/store_buffering_locked",
	     "AMD APM vol. 2, 7.2; Intel SDM vol. 3A, 8.2.3.9", 2, 0)
{
	run_litmus(store_x_lock_load_y, xchg_y_load_x, 1, 1);
}

static volatile uint64_t whole;

static void store_whole(struct slot *slot, uint32_t n)
{
	(void)slot;
	whole = n % 2 != 0 ? ~UINT64_C(0) : 0;
}

static void load_whole(struct slot *slot, uint32_t n)
{
	uint64_t value = whole;

	(void)n;
	slot->seen[0] = value != 0 && value != ~UINT64_C(0);
	slot->seen[1] = slot->seen[0];
}

BARE_CASE_ON(aligned_is_whole, "smp/aligned_is_whole", "AMD APM vol. 2, 7.3.2", 2, 0)
{
	run_litmus(store_whole, load_whole, 1, 1);
}
