/*
 * The emulator of ring 3 (core/annex/annex.h) in the hands of its own process: what it executes,
 * what it works with and what it tells the kernel. A process may put what it likes at its address:
 * mostly a jump to a function of ours, which then is called in the midst of KVM_RUN.
 */
#include "core/annex/annex.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/core/hostile.h"

#define TEXT	   ((uint8_t *)ANNEX_TEXT)
#define TEXT_BYTES (64 * PAGE)
#define ROUNDS	   3000
#define WRITES	   3000
#define MS	   1000

/* mov ax, 0x2000; mov ds, ax; again: add [0], al; rep outsb; mov [2], cx; jmp again: there is no
 * memory at 0x20000 */
static const uint8_t needs_emulation[] = {0xb8, 0x00, 0x20, 0x8e, 0xd8, 0x00, 0x06,
					  0x00, 0x00, 0xb1, 0x03, 0xf3, 0x6e, 0x89,
					  0x0e, 0x02, 0x00, 0xeb, 0xf2};

static struct vm vm;
static uint8_t *annex; /* the original, elsewhere */
static struct annex_page *volatile page;
static struct random numbers;
static _Atomic uint64_t calls;
static _Atomic bool inside; /* in the annex's place */

/* ---- in the annex's place ---- */

static uint64_t raw(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
}

static void end(uint64_t outcome)
{
	raw(ANNEX_END, outcome, 0, 0);
	__builtin_trap();
}

static void loop_for_good(struct annex_page *p)
{
	page = p;
	inside = true;
	for (;;) {
	}
}

static void fault(struct annex_page *p)
{
	page = p;
	__builtin_trap();
}

static void spoil_page(struct annex_page *p)
{
	uint8_t *bytes = (uint8_t *)p;

	for (unsigned n = random_below(&numbers, 200); n > 0; n--) {
		bytes[random_below(&numbers, sizeof(*p))] = (uint8_t)random_next(&numbers);
	}
}

/* All calls there are, and none, in any order; then any outcome. */
static void call_by_chance(struct annex_page *p)
{
	for (unsigned n = random_below(&numbers, 80); n > 0; n--) {
		uint64_t number = random_one_in(&numbers, 10) ? random_word(&numbers)
							      : 1 + random_below(&numbers, 17);
		uint64_t a = random_one_in(&numbers, 3) ? 0x20000 + random_below(&numbers, 8192)
							: random_word(&numbers);
		uint64_t b = random_one_in(&numbers, 3) ? random_word(&numbers)
							: random_below(&numbers, 260);
		uint64_t c = random_one_in(&numbers, 3) ? random_word(&numbers)
							: random_below(&numbers, 260);

		/* QEMU 7.2 ends itself in the midst of guests with CR8 and debug registers. */
		if (number >= ANNEX_READ_XMM) {
			a = random_below(&numbers, 20);
			a = number == ANNEX_WRITE_CR && a == 8 ? 0 : a;
		}
		spoil_page(p);
		if (number != ANNEX_END && number != ANNEX_WRITE_DR) {
			raw(number, a, b, c);
			atomic_fetch_add(&calls, 1);
		}
	}
	spoil_page(p);
	end(random_one_in(&numbers, 10) ? random_word(&numbers) : random_below(&numbers, 8));
}

/* Questions without an end, of devices and of user space. */
static void ask_too_much(struct annex_page *p)
{
	(void)p;
	for (unsigned i = 0; i < 200; i++) {
		raw(ANNEX_CMPXCHG, 0x20000, 8, 0);
		raw(ANNEX_READ, 0x20ff0, 250, 0);
		raw(ANNEX_WRITE, 0x20ff0, 239, 0);
		raw(ANNEX_PORT_OUT, 0x10, 1, 256);
	}
	end(random_below(&numbers, 6));
}

static _Atomic int linux_calls_served;

/* Not one of them may do what it does outside. */
static void call_linux(struct annex_page *p)
{
	/* Lower numbers are the annex's own. */
	static const uint16_t some[] = {SYS_exit_group, SYS_exit,   SYS_fork,
					SYS_vfork,	SYS_execve, SYS_getpid,
					SYS_gettid,	SYS_mremap, SYS_clone};

	(void)p;
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		if (raw(some[i], 0, 0, 0) != 5 /* INSN_UNSUPPORTED */) {
			linux_calls_served++;
		}
	}
	end(5);
}

/* ---- outside ---- */

static void state(void)
{
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x8000};
	struct kvm_debugregs debug = {.dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_vcpu_events none = {0};
	struct kvm_sregs sregs;

	/* Guests that go astray write over their code. */
	memcpy(vm.memory + 0x1000, needs_emulation, sizeof(needs_emulation));
	ioctl(vm.vcpu, KVM_GET_SREGS, &sregs);
	memset(&sregs.ds, 0, sizeof(sregs.ds));
	sregs.cr0 = 0x10;
	sregs.cr4 = sregs.efer = 0;
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds =
		(struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
	sregs.cs = sregs.ds;
	sregs.cs.type = 11;
	ioctl(vm.vcpu, KVM_SET_SREGS, &sregs);
	ioctl(vm.vcpu, KVM_SET_VCPU_EVENTS, &none);
	ioctl(vm.vcpu, KVM_SET_DEBUGREGS, &debug);
	ioctl(vm.vcpu, KVM_SET_REGS, &regs);
}

static int run(void)
{
	return ioctl(vm.vcpu, KVM_RUN, 0);
}

static bool broke(void)
{
	return run() == 0 && vm.run->exit_reason == KVM_EXIT_INTERNAL_ERROR;
}

/* It works as ever: a read, then the write of a sum. */
static bool works(void)
{
	state();
	if (run() != 0 || vm.run->exit_reason != KVM_EXIT_MMIO || vm.run->mmio.is_write ||
	    vm.run->mmio.phys_addr != 0x20000) {
		return false;
	}
	vm.run->mmio.data[0] = 5;
	return run() == 0 && vm.run->exit_reason == KVM_EXIT_MMIO && vm.run->mmio.is_write &&
	       vm.run->mmio.data[0] == 5;
}

/* The annex's code gives way to a jump. */
static void replace(void (*by)(struct annex_page *))
{
	uint64_t to = (uintptr_t)by;

	if (annex == NULL) {
		annex = mmap(NULL, TEXT_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mremap(TEXT, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, annex) != annex) {
			_exit(20);
		}
	}
	if (mmap(TEXT, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != TEXT) {
		_exit(21);
	}
	/* mov rax, to; call rax */
	memcpy(TEXT, "\x48\xb8", 2);
	memcpy(TEXT + 2, &to, 8);
	memcpy(TEXT + 10, "\xff\xd0", 2);
	mprotect(TEXT, PAGE, PROT_READ | PROT_EXEC);
}

static void put_back(void)
{
	if (mremap(annex, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TEXT) != TEXT) {
		_exit(22);
	}
	annex = NULL;
}

static int faults(void)
{
	replace(fault);
	for (unsigned i = 0; i < 100; i++) {
		state();
		if (!broke()) {
			return 1;
		}
	}
	put_back();
	return works() ? 0 : 2;
}

static int text_unmapped(void)
{
	if (!works()) {
		return 1;
	}
	munmap(TEXT, TEXT_BYTES);
	state();
	return broke() ? 0 : 2;
}

static int area_unmapped(void)
{
	uintptr_t at;

	replace(fault);
	if (!broke() || page == NULL) {
		return 1;
	}
	put_back();
	at = (uintptr_t)page & ~(PAGE - 1);
	munmap((void *)(at - PAGE), PAGE); /* its stack */
	state();
	if (!broke()) {
		return 2;
	}
	munmap((void *)at, PAGE);
	state();
	return broke() ? 0 : 3;
}

static void ignore(int number)
{
	(void)number;
}

static _Atomic bool enough;

/* A guest may loop. */
static void *kick(void *arg)
{
	while (!enough) {
		usleep(3 * MS);
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	}
	return NULL;
}

/* The rest of the process is as it was: no child, no new program, the same numbers. */
static int by_chance(void (*what)(struct annex_page *))
{
	struct sigaction action = {.sa_handler = ignore};
	pthread_t self = pthread_self(), thread;
	pid_t me = getpid();

	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&thread, NULL, kick, &self);
	random_seed(&numbers, 99);
	replace(what);
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (random_one_in(&numbers, 3)) {
			state();
		}
		run();
	}
	put_back();
	if (getpid() != me || waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
		return 2;
	}
	enough = true;
	pthread_join(thread, NULL);
	/* What it was asked last may wait for an answer. */
	vm.run->immediate_exit = 1;
	for (unsigned i = 0; i < 100 && run() == 0; i++) {
		state();
	}
	vm.run->immediate_exit = 0;
	return works() ? 0 : 3;
}

static int outcomes(void)
{
	int r = by_chance(call_by_chance);

	return r == 0 && calls < ROUNDS ? 4 : r;
}

static int questions(void)
{
	return by_chance(ask_too_much);
}

static int linux_calls(void)
{
	int r = by_chance(call_linux);

	return r == 0 && linux_calls_served != 0 ? 4 : r;
}

static void *write_meanwhile(void *arg)
{
	struct random own;
	uint8_t *area = (uint8_t *)((uintptr_t)page & ~(PAGE - 1)) - 2 * PAGE;

	random_seed(&own, 7);
	for (;;) {
		area[random_below(&own, 3 * PAGE)] = (uint8_t)random_next(&own);
	}
	return arg;
}

/* What is written over may make it loop. */
static void *leave_at_last(void *arg)
{
	usleep(5000 * MS);
	_exit(0);
	return arg;
}

static int written_meanwhile(void)
{
	pthread_t thread;

	replace(fault);
	if (!broke()) {
		return 1;
	}
	put_back();
	pthread_create(&thread, NULL, leave_at_last, NULL);
	pthread_create(&thread, NULL, write_meanwhile, NULL);
	for (unsigned i = 0; i < WRITES; i++) {
		state();
		run();
	}
	return 0;
}

static void *spin(void *arg)
{
	state();
	run();
	return arg;
}

static void start_spinning(void)
{
	pthread_t thread;

	replace(loop_for_good);
	pthread_create(&thread, NULL, spin, NULL);
	while (!inside) {
		usleep(MS);
	}
	usleep(20 * MS);
}

static int killed(void)
{
	start_spinning();
	kill(getpid(), SIGKILL);
	pause();
	return 1;
}

static int exits(void)
{
	start_spinning();
	_exit(0);
}

static int executes(void)
{
	char *const next[] = {"hostile", "nothing", NULL};

	start_spinning();
	execv("/init", next);
	return 1;
}

static int forks(void)
{
	int status;
	pid_t child;

	start_spinning();
	child = fork();
	if (child == 0) {
		memset((void *)((uintptr_t)page & ~(PAGE - 1)), 0xff, PAGE);
		_exit(run() == -1 && errno == EIO ? 0 : 1);
	}
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}

static int closes(void)
{
	start_spinning();
	close(vm.vcpu);
	close(vm.vm);
	close(vm.kvm);
	munmap(vm.memory, VM_MEMORY);
	return 0;
}

static _Atomic int signals;

static void count(int number)
{
	(void)number;
	signals++;
}

static void wait_a_little(struct annex_page *p)
{
	page = p;
	inside = true;
	for (volatile unsigned i = 0; i < 3000000; i++) {
	}
	if (signals != 0) {
		__builtin_trap(); /* a handler ran where none may */
	}
	end(0);
}

static void *signal_it(void *arg)
{
	while (!inside) {
		usleep(MS);
	}
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

/* A handler runs when the annex is done, not within. */
static int signals_wait(void)
{
	struct sigaction action = {.sa_handler = count};
	pthread_t self = pthread_self(), thread;
	int r;

	sigaction(SIGUSR1, &action, NULL);
	replace(wait_a_little);
	pthread_create(&thread, NULL, signal_it, &self);
	state();
	r = run();
	put_back();
	return r == -1 && errno == EINTR && signals == 1 && works() ? 0 : 1;
}

/* One VM after the other has it, in one process; the last of all leaves no area behind. */
static int again_and_again(void)
{
	for (unsigned i = 0; i < 300; i++) {
		if (!works()) {
			return 1;
		}
		munmap(vm.run, PAGE);
		munmap(vm.memory, VM_MEMORY);
		close(vm.vcpu);
		close(vm.vm);
		close(vm.kvm);
		vm_create(&vm, needs_emulation, sizeof(needs_emulation));
	}
	return 0;
}

static int place_is_taken(void)
{
	int kvm, other;

	munmap(TEXT, TEXT_BYTES);
	if (mmap(TEXT, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != TEXT) {
		return 1;
	}
	kvm = vm.kvm;
	other = ioctl(kvm, KVM_CREATE_VM, 0);
	return other == -1 && errno == EEXIST ? 0 : 2;
}

static const struct {
	const char *name;
	int (*run)(void);
	int signal;
} tests[] = {
	{"faults", faults, 0},
	{"text_unmapped", text_unmapped, 0},
	{"area_unmapped", area_unmapped, 0},
	{"outcomes", outcomes, 0},
	{"questions", questions, 0},
	{"linux_calls", linux_calls, 0},
	{"written_meanwhile", written_meanwhile, 0},
	{"killed", killed, SIGKILL},
	{"exits", exits, 0},
	{"executes", executes, 0},
	{"forks", forks, 0},
	{"closes", closes, 0},
	{"signals_wait", signals_wait, 0},
	{"again_and_again", again_and_again, 0},
	{"place_is_taken", place_is_taken, 0},
};

const char *annex_name(unsigned number)
{
	return number < sizeof(tests) / sizeof(tests[0]) ? tests[number].name : NULL;
}

int annex_signal(unsigned number)
{
	return tests[number].signal;
}

int annex_attack(unsigned number)
{
	vm_create(&vm, needs_emulation, sizeof(needs_emulation));
	return works() ? tests[number].run() : 30;
}
