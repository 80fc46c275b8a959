/*
 * A guest that does its worst, and a neighbour that must not notice: instructions by chance and
 * nearly right ones in all modes, MSRs, ports, interrupts to all, registers of interrupt chips,
 * triple faults; two vCPUs, with and without interrupt chips in the kernel.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/core/hostile.h"

#define RAM	    (2ul << 20)
#define CODE	    0x1000
#define TABLES	    0x10000
#define VCPUS	    2
#define ROUNDS	    600
#define EXITS	    100 /* of a round, at most */
#define LATE_NS	    2000000000
#define SHARES	    5 /* who computes all the time takes turns, and may be this much later */
#define PATTERN	    0x2000
#define PATTERN_END 0xa000
#define HANDLERS    0x400

struct attacker {
	struct random random;
	pthread_t thread;
	_Atomic pid_t tid;
	_Atomic uint64_t steps;
	_Atomic bool done;
	int vcpu;
	struct kvm_run *run;
	uint8_t *ram;
};

static struct attacker attackers[VCPUS];

static size_t put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
	return sizeof(value);
}

static uint32_t any_msr(struct random *r)
{
	static const uint32_t first[] = {
		0x0,	    0x1b,	0x174,	    0x1a0,	0x1d9,	    0x200,	0x250,
		0x277,	    0x2ff,	0x400,	    0x6e0,	0x800,	    0x830,	0x4b564d00,
		0xc0000080, 0xc0000100, 0xc0010000, 0xc0010110, 0xc0011020, 0x40000000, 0xc0010058,
	};

	return random_one_in(r, 8) ? (uint32_t)random_word(r)
				   : first[random_below(r, sizeof(first) / sizeof(first[0]))] +
					     random_below(r, 16);
}

static uint32_t any_place(struct random *r)
{
	switch (random_below(r, 6)) {
	case 0:
		return 0xfee00000 + random_below(r, 64) * 16;
	case 1:
		return 0xfee00300; /* interrupts to all, of all kinds */
	case 2:
		return 0xfec00000 + random_below(r, 2) * 16;
	case 3:
		return (uint32_t)random_word(r);
	default:
		return random_below(r, RAM);
	}
}

/* One instruction, or what looks like one. Return: its length. */
static size_t put_insn(struct random *r, uint8_t *at)
{
	static const uint8_t system[][3] = {
		{0x0f, 0x20, 0xc0}, {0x0f, 0x22, 0xc0}, {0x0f, 0x22, 0xd8}, {0x0f, 0x22, 0xe0},
		{0x0f, 0x06, 0x90}, {0x0f, 0x21, 0xf8}, {0x0f, 0x01, 0x10}, {0x0f, 0x01, 0x18},
		{0x0f, 0x01, 0xf0}, {0x0f, 0x00, 0xd8}, {0x0f, 0x00, 0xd0}, {0x0f, 0x01, 0xd1},
		{0x0f, 0x01, 0xd8}, {0x0f, 0x01, 0xd9}, {0x0f, 0x01, 0xda}, {0x0f, 0x01, 0xdb},
		{0x0f, 0x01, 0xdc}, {0x0f, 0x01, 0xdd}, {0x0f, 0x01, 0xde}, {0x0f, 0x01, 0xdf},
		{0x0f, 0x01, 0xc1}, {0x0f, 0x01, 0xc8}, {0x0f, 0x01, 0xc9}, {0x0f, 0x01, 0xf8},
		{0x0f, 0xa2, 0x90}, {0x0f, 0x08, 0x90}, {0x0f, 0x09, 0x90}, {0x0f, 0xaa, 0x90},
		{0x0f, 0x31, 0x90}, {0x0f, 0x33, 0x90}, {0xf4, 0x90, 0x90}, {0xfb, 0xf4, 0x90},
		{0xfa, 0xf4, 0x90}, {0xcc, 0x90, 0x90}, {0xf1, 0x90, 0x90}, {0xcf, 0x90, 0x90},
		{0xf3, 0x6c, 0x90}, {0xf3, 0x6e, 0x90}, {0xf3, 0xa4, 0x90}, {0x9d, 0x90, 0x90},
	};
	size_t n = 0;

	switch (random_below(r, 8)) {
	case 0: /* mov ecx, eax, edx; rdmsr or wrmsr */
		at[n++] = 0xb9;
		n += put32(at + n, any_msr(r));
		at[n++] = 0xb8;
		n += put32(at + n, (uint32_t)random_word(r));
		at[n++] = 0xba;
		n += put32(at + n, (uint32_t)random_word(r));
		at[n++] = 0x0f;
		at[n++] = random_one_in(r, 3) ? 0x32 : 0x30;
		return n;
	case 1: /* mov edx, a port; in or out */
		at[n++] = 0xba;
		n += put32(at + n,
			   random_one_in(r, 2) ? random_below(r, 0x100) : random_below(r, 0x10000));
		at[n++] = (uint8_t)(0xec + random_below(r, 4));
		return n;
	case 2: /* mov dword [there], something */
	case 3:
		at[n++] = 0xc7;
		at[n++] = 0x04;
		at[n++] = 0x25;
		n += put32(at + n, any_place(r));
		n += put32(at + n, (uint32_t)random_word(r) ^ random_below(r, 0x100) << 12);
		return n;
	case 4:
		memcpy(at, system[random_below(r, sizeof(system) / sizeof(system[0]))], 3);
		return 3;
	case 5: /* int */
		at[n++] = 0xcd;
		at[n++] = (uint8_t)random_next(r);
		return n;
	default:
		for (; n < 6; n++) {
			at[n] = (uint8_t)random_next(r);
		}
		return n;
	}
}

static void put_code(struct attacker *a)
{
	uint8_t *code = a->ram + CODE + (size_t)(a - attackers) * PAGE;
	size_t n = 0;

	while (n < 200) {
		n += put_insn(&a->random, code + n);
	}
	/*
	 * Not to debug registers and CR8: QEMU 7.2 ends in the middle of it, by an assertion about
	 * its own lock, or by a watchpoint of the guest's that it takes for the host's.
	 */
	for (size_t i = 0; i + 1 < n; i++) {
		if (code[i] == 0x0f && (code[i + 1] & 0xfc) == 0x20 && i > 0 &&
		    code[i - 1] != 0x90) {
			code[i + 1] = code[i + 1] == 0x23 ? 0x21 : code[i + 1];
			code[i - 1] = (code[i - 1] & 0xf0) == 0x40 ? 0x90 : code[i - 1];
		}
	}
	code[n++] = 0xe9; /* back to the first */
	put32(code + n, (uint32_t) - (int32_t)(n + 4));
}

static void put_tables(uint8_t *ram)
{
	uint64_t *table = (uint64_t *)(ram + TABLES);

	table[0] = (TABLES + 0x1000) | 7;
	table[512] = (TABLES + 0x2000) | 7;
	table[512 + 3] = (TABLES + 0x3000) | 7;
	for (uint64_t i = 0; i < 512; i++) {
		table[1024 + i] = i << 21 | 0x87;
		table[1536 + i] = (UINT64_C(3) << 30 | i << 21) | 0x87;
	}
}

/* Real mode, 32 bits, or 64. */
static void put_state(struct attacker *a)
{
	struct kvm_regs regs = {
		.rflags = 2, .rsp = 0x8000, .rip = CODE + (uint64_t)(a - attackers) * PAGE};
	struct kvm_mp_state runs = {KVM_MP_STATE_RUNNABLE};
	struct kvm_vcpu_events none = {0};
	struct kvm_sregs s;
	uint32_t mode = random_below(&a->random, 3);
	struct kvm_segment flat = {.limit = 0xffffffff,
				   .type = 3,
				   .present = 1,
				   .s = 1,
				   .g = 1,
				   .db = 1,
				   .selector = 16};

	if (ioctl(a->vcpu, KVM_GET_SREGS, &s) != 0) {
		return;
	}
	s.cs.base = s.cs.selector = 0;
	if (mode > 0) {
		s.ds = s.es = s.ss = s.fs = s.gs = s.cs = flat;
		s.cs.type = 11;
		s.cs.selector = 8;
		s.cr0 = 0x11;
		s.cr4 = 0x600;
		s.efer = 0;
	}
	if (mode == 2) {
		s.cs.l = 1;
		s.cs.db = 0;
		s.cr0 = 0x80000011;
		s.cr4 = 0x620;
		s.cr3 = TABLES;
		s.efer = 0x500;
	}
	/* What the last round left may not fit: then that goes on. */
	ioctl(a->vcpu, KVM_SET_VCPU_EVENTS, &none);
	ioctl(a->vcpu, KVM_SET_SREGS, &s);
	ioctl(a->vcpu, KVM_SET_REGS, &regs);
	ioctl(a->vcpu, KVM_SET_MP_STATE, &runs);
}

static void *attack(void *arg)
{
	struct attacker *a = arg;

	atomic_store(&a->tid, gettid());
	for (unsigned round = 0; round < ROUNDS; round++) {
		put_tables(a->ram);
		put_code(a);
		put_state(a);
		for (unsigned i = 0; i < EXITS; i++) {
			atomic_fetch_add(&a->steps, 1);
			if (ioctl(a->vcpu, KVM_RUN, 0) != 0 ||
			    (a->run->exit_reason != KVM_EXIT_IO &&
			     a->run->exit_reason != KVM_EXIT_MMIO)) {
				break;
			}
		}
	}
	atomic_store(&a->done, true);
	return NULL;
}

static void interrupted(int number)
{
	(void)number;
}

/* A guest that has not come out for a while is fetched. */
static void watch(void)
{
	const struct timespec tick = {.tv_nsec = 3000000};
	uint64_t seen[VCPUS] = {0};

	while (!atomic_load(&attackers[0].done) || !atomic_load(&attackers[1].done)) {
		nanosleep(&tick, NULL);
		for (unsigned i = 0; i < VCPUS; i++) {
			uint64_t steps = atomic_load(&attackers[i].steps);

			if (steps == seen[i] && atomic_load(&attackers[i].tid) != 0) {
				tgkill(getpid(), atomic_load(&attackers[i].tid), SIGUSR1);
			}
			seen[i] = steps;
		}
	}
}

int guests_attack(unsigned seed)
{
	struct sigaction action = {.sa_handler = interrupted};
	uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct vm vm;

	sigaction(SIGUSR1, &action, NULL);
	vm_create(&vm, vm_spin, sizeof(vm_spin));
	int fd = ioctl(vm.kvm, KVM_CREATE_VM, 0);
	struct kvm_userspace_memory_region slot = {.memory_size = RAM,
						   .userspace_addr = (uintptr_t)ram};
	struct kvm_pit_config pit = {0};

	if (ram == MAP_FAILED || ioctl(fd, KVM_SET_USER_MEMORY_REGION, &slot) != 0) {
		return 9;
	}
	if (seed % 2 == 0) {
		ioctl(fd, KVM_CREATE_IRQCHIP, 0);
		ioctl(fd, KVM_CREATE_PIT2, &pit);
	}
	for (unsigned i = 0; i < VCPUS; i++) {
		struct attacker *a = &attackers[i];

		random_seed(&a->random, seed * VCPUS + i);
		a->ram = ram;
		a->vcpu = ioctl(fd, KVM_CREATE_VCPU, i);
		a->run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a->vcpu, 0);
		if (a->run == MAP_FAILED || pthread_create(&a->thread, NULL, attack, a) != 0) {
			return 9;
		}
	}
	watch();
	return 0;
}

/* ---- the neighbour ---- */

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int guests_neighbour(bool always)
{
	/* ax: the sum, turned at each step, of the words of PATTERN; OUT; again */
	static const uint8_t code[] = {0x31, 0xc0, 0xbe, 0x00, 0x20, 0xb9, 0x00,
				       0x40, 0x03, 0x04, 0xd1, 0xc0, 0x83, 0xc6,
				       0x02, 0xe2, 0xf7, 0xe7, 0x80, 0xeb, 0xeb};
	const struct timespec pause = {.tv_nsec = 10000000};
	struct sigaction action = {.sa_handler = end};
	uint64_t late_ns = always ? SHARES * (uint64_t)LATE_NS : LATE_NS;
	uint16_t sum = 0;
	struct random r;
	struct vm vm;
	unsigned rounds = 0;

	sigaction(SIGTERM, &action, NULL);
	random_seed(&r, 99);
	vm_create(&vm, code, sizeof(code));
	for (size_t at = PATTERN; at < PATTERN_END; at += 2) {
		uint16_t word = (uint16_t)random_next(&r);

		memcpy(vm.memory + at, &word, sizeof(word));
		sum = (uint16_t)(sum + word);
		sum = (uint16_t)(sum << 1 | sum >> 15);
	}
	/* There is nothing that may interrupt it: what does, says its vector at another port. */
	for (unsigned v = 0; v < 256; v++) {
		const uint8_t tells[] = {0xb0, (uint8_t)v, 0xe6, 0x81, 0xf4};
		uint16_t at = (uint16_t)(HANDLERS + v * 8);

		memcpy(vm.memory + v * 4, &at, sizeof(at));
		memcpy(vm.memory + at, tells, sizeof(tells));
	}
	while (!ended) {
		uint64_t before = now_ns();

		if (ioctl(vm.vcpu, KVM_RUN, 0) != 0) {
			continue;
		}
		if (vm.run->exit_reason != KVM_EXIT_IO || vm.run->io.port != 0x80 ||
		    memcmp((uint8_t *)vm.run + vm.run->io.data_offset, &sum, sizeof(sum)) != 0) {
			struct kvm_regs regs = {0};

			(void)ioctl(vm.vcpu, KVM_GET_REGS, &regs);
			if (vm.run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
				printf("neighbour: internal error %u, %#llx\n",
				       vm.run->internal.suberror, vm.run->internal.data[0]);
			}
			printf("neighbour: exit %u, port %#x, AX %#llx, not %#x, at %#llx, SP "
			       "%#llx, "
			       "round %u\n",
			       vm.run->exit_reason, vm.run->io.port, regs.rax, sum, regs.rip,
			       regs.rsp, rounds);
			fflush(stdout);
			return 1; /* its memory is not what it was */
		}
		if (!always) {
			nanosleep(&pause, NULL);
		}
		uint64_t took = now_ns() - before;

		if (took > late_ns) {
			printf("neighbour: a round took %lu ms\n", (unsigned long)(took / 1000000));
			fflush(stdout);
			return 2;
		}
		rounds++;
	}
	return rounds > 2 ? 0 : 3;
}
