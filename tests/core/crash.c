/*
 * Each way for a program to end badly, most of them with a VM that runs meanwhile.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/core/hostile.h"

static void *volatile nowhere;

static void read_null(void)
{
	(void)*(volatile char *)nowhere;
}

static void read_kernel(void)
{
	(void)*(volatile char *)0xffff800000000000;
}

static void write_kernel(void)
{
	*(volatile char *)0xffffffff80200000 = 1;
}

static void read_not_canonical(void)
{
	(void)*(volatile char *)0x800000000000;
}

static void jump(uint64_t to)
{
	__asm__ volatile("jmp *%0" : : "r"(to));
}

static void jump_null(void)
{
	jump(0);
}

static void jump_kernel(void)
{
	jump(0xffffffff80200000);
}

static void jump_not_canonical(void)
{
	jump(0x8000000000000000);
}

static void jump_stack(void)
{
	volatile uint8_t code[16] = {0xc3};

	jump((uintptr_t)code);
}

static void undefined(void)
{
	__asm__ volatile("ud2");
}

static void divide(void)
{
	__asm__ volatile("xor %%ecx, %%ecx\n div %%ecx" : : "a"(1), "d"(0) : "ecx");
}

static void breakpoint(void)
{
	__asm__ volatile("int3");
}

static void trap_flag(void)
{
	__asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n nop\n nop" : : : "memory");
}

static void trap_flag_syscall(void)
{
	__asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n syscall\n nop"
			 :
			 : "a"(SYS_getpid)
			 : "rcx", "r11", "memory");
}

static void stack_gone(void)
{
	__asm__ volatile("xor %%esp, %%esp\n push %%rax" : : : "memory");
}

static void stack_not_canonical(void)
{
	__asm__ volatile("mov $0x8000000000000000, %%rsp\n syscall\n push %%rax"
			 :
			 : "a"(SYS_getpid)
			 : "rcx", "r11", "memory");
}

static int deeper(volatile char *above, int depth)
{
	volatile char room[4096];

	room[0] = above[0];
	return depth == 0 ? 0 : deeper(room, depth - 1) + room[0];
}

static void stack_overflow(void)
{
	volatile char first = 1;

	deeper(&first, 1 << 30);
}

static void handler_without_stack(void)
{
	struct sigaction action = {.sa_handler = (void (*)(int))read_null};

	sigaction(SIGSEGV, &action, NULL);
	stack_gone();
}

static void handler_nowhere(void)
{
	struct sigaction action = {.sa_handler = (void (*)(int))0x8000000000000000};

	sigaction(SIGSEGV, &action, NULL);
	read_null();
}

/* ---- what only the kernel may ---- */

/* Each is followed by `ud2`, so that those which do nothing end here, too. */
static const uint8_t forbidden[][8] = {
	{0xf4},				/* hlt */
	{0xfa},				/* cli */
	{0xfb},				/* sti */
	{0xe4, 0x60},			/* in */
	{0xe6, 0x80},			/* out */
	{0x6c},				/* insb */
	{0x0f, 0x30},			/* wrmsr */
	{0x0f, 0x32},			/* rdmsr */
	{0x0f, 0x20, 0xc0},		/* mov cr0 */
	{0x0f, 0x22, 0xd8},		/* mov to cr3 */
	{0x0f, 0x22, 0xe0},		/* mov to cr4 */
	{0x44, 0x0f, 0x22, 0xc0},	/* mov to cr8 */
	{0x0f, 0x23, 0xf8},		/* mov to dr7 */
	{0x0f, 0x21, 0xf8},		/* mov from dr7 */
	{0x0f, 0x01, 0x10},		/* lgdt */
	{0x0f, 0x01, 0x18},		/* lidt */
	{0x0f, 0x01, 0x30},		/* lmsw */
	{0x0f, 0x01, 0x38},		/* invlpg */
	{0x0f, 0x01, 0x00},		/* sgdt: UMIP */
	{0x0f, 0x01, 0x08},		/* sidt */
	{0x0f, 0x00, 0x00},		/* sldt */
	{0x0f, 0x00, 0xd8},		/* ltr */
	{0x0f, 0x00, 0xd0},		/* lldt */
	{0x0f, 0x06},			/* clts */
	{0x0f, 0x07},			/* sysretl */
	{0x48, 0x0f, 0x07},		/* sysretq */
	{0x0f, 0x34},			/* sysenter */
	{0x0f, 0x35},			/* sysexit */
	{0x0f, 0x08},			/* invd */
	{0x0f, 0x09},			/* wbinvd */
	{0x0f, 0x01, 0xf8},		/* swapgs */
	{0x0f, 0x01, 0xd8},		/* vmrun */
	{0x0f, 0x01, 0xd9},		/* vmmcall */
	{0x0f, 0x01, 0xda},		/* vmload */
	{0x0f, 0x01, 0xdb},		/* vmsave */
	{0x0f, 0x01, 0xdc},		/* stgi */
	{0x0f, 0x01, 0xdd},		/* clgi */
	{0x0f, 0x01, 0xde},		/* skinit */
	{0x0f, 0x01, 0xdf},		/* invlpga */
	{0x0f, 0x01, 0xc1},		/* vmcall */
	{0x0f, 0x01, 0xd1},		/* xsetbv */
	{0x0f, 0x01, 0xc8},		/* monitor */
	{0x0f, 0x01, 0xc9},		/* mwait */
	{0x0f, 0x01, 0xca},		/* clac */
	{0x0f, 0xaa},			/* rsm */
	{0x0f, 0x33},			/* rdpmc */
	{0xcf},				/* iretl */
	{0x48, 0xcf},			/* iretq */
	{0xcb},				/* lret */
	{0xf1},				/* icebp */
	{0xce},				/* into */
	{0xf0, 0x0f, 0xc7, 0xc8},	/* lock cmpxchg8b eax */
	{0x66, 0x0f, 0x38, 0x82, 0x00}, /* invpcid */
};

static sigjmp_buf back;
static volatile sig_atomic_t inside; /* in foreign code, from where one may come back */

static void go_back(int number)
{
	if (inside) {
		inside = 0;
		siglongjmp(back, number);
	}
	if (number == SIGSEGV || number == SIGILL) {
		_exit(0); /* that code led here */
	}
}

static void catch_all(void)
{
	static uint8_t stack[32768];
	const stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = go_back, .sa_flags = SA_ONSTACK | SA_NODEFER};

	sigaltstack(&other, NULL);
	for (int number = 1; number < 32; number++) {
		sigaction(number, &action, NULL);
	}
}

static _Atomic uint64_t steps;
static pid_t main_tid;

/* Code that loops is brought back. */
static void *watch(void *arg)
{
	uint64_t seen = 0;

	for (;;) {
		uint64_t now = atomic_load(&steps);

		if (now == seen) {
			tgkill(getpid(), main_tid, SIGALRM);
		}
		seen = now;
		usleep(3000);
	}
	return arg;
}

static void start_watch(void)
{
	pthread_t thread;

	main_tid = gettid();
	pthread_create(&thread, NULL, watch, NULL);
}

static uint8_t *code_page(void)
{
	static uint8_t *page;

	if (page == NULL) {
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	memset(page, 0x0f, PAGE); /* 0f 0b: ud2, wherever one comes out */
	for (unsigned i = 1; i < PAGE; i += 2) {
		page[i] = 0x0b;
	}
	return page;
}

/* Runs a few bytes, with a stack of zeros and RAX pointing to it; a signal of whatever kind brings
 * us back. */
static void try_code(const uint8_t *bytes, size_t len)
{
	static uint64_t room[1024];
	uint8_t *volatile page = code_page();

	memset(room, 0, sizeof(room));
	memcpy(page, bytes, len);
	memcpy(page + len, "\x0f\x0b", 2);
	mprotect(page, PAGE, PROT_READ | PROT_EXEC);
	atomic_fetch_add(&steps, 1);
	if (sigsetjmp(back, 1) == 0) {
		inside = 1;
		__asm__ volatile("mov %%rax, %%rsp\n"
				 "jmp *%0"
				 :
				 : "r"(page), "a"(room + 512), "b"(0), "c"(0), "d"(0)
				 : "memory");
	}
}

static void privileged(void)
{
	catch_all();
	start_watch();
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		size_t len = sizeof(forbidden[i]);

		while (forbidden[i][len - 1] == 0 && len > 1) {
			len--;
		}
		/* A last byte of 0 belongs to those with memory operands. */
		try_code(forbidden[i], len);
		try_code(forbidden[i], len + 1 < sizeof(forbidden[i]) ? len + 1 : len);
	}
}

static void vectors(void)
{
	catch_all();
	start_watch();
	for (unsigned vector = 0; vector < 256; vector++) {
		try_code((uint8_t[]){0xcd, (uint8_t)vector}, 2);
	}
}

/* All selectors into all segment registers, and far jumps to them. Ends raw: FS is lost. */
static void selectors(void)
{
	const uint64_t zero[6] = {0};

	catch_all();
	start_watch();
	for (unsigned selector = 0; selector < 0x100; selector++) {
		uint8_t s = (uint8_t)selector;

		/* push selector|..; lea; push; lretq: a far return */
		try_code((uint8_t[]){0x68, s, 0, 0, 0, 0x48, 0x8d, 0x05, 4, 0, 0, 0, 0x50, 0x48,
				     0xcb},
			 15);
		try_code((uint8_t[]){0x68, s, 0, 0, 0, 0x68, 0x00, 0x10, 0, 0, 0x48, 0xcb}, 12);
		try_code((uint8_t[]){0x66, 0xb8, s, 0, 0x8e, 0xd8}, 6); /* ds */
		try_code((uint8_t[]){0x66, 0xb8, s, 0, 0x8e, 0xc0}, 6); /* es */
		try_code((uint8_t[]){0x66, 0xb8, s, 0, 0x8e, 0xd0}, 6); /* ss */
		try_code((uint8_t[]){0x66, 0xb8, s, 0, 0x8e, 0xe8}, 6); /* gs */
	}
	raw_call(SYS_exit_group, zero);
}

/* Opcodes by chance. */
static void opcodes(void)
{
	struct random r;

	random_seed(&r, 4711);
	catch_all();
	start_watch();
	for (unsigned i = 0; i < 10000; i++) {
		uint8_t bytes[12];

		for (unsigned k = 0; k < sizeof(bytes); k++) {
			bytes[k] = (uint8_t)random_next(&r);
		}
		/* Not a system call: those have a test of their own. */
		for (unsigned k = 0; k + 1 < sizeof(bytes); k++) {
			if (bytes[k] == 0x0f && (bytes[k + 1] == 0x05 || bytes[k + 1] == 0x34)) {
				bytes[k] = 0x90;
			}
		}
		/* Nor what spoils FS, by which libc finds itself, or our memory by chance. */
		if ((bytes[0] & 0xfe) == 0x8e || bytes[0] == 0x64 || bytes[0] == 0x65) {
			bytes[0] = 0x0f;
		}
		try_code(bytes, sizeof(bytes));
	}
}

/* ---- signal frames ---- */

static struct random frame_random;

static void spoil_frame(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	uint8_t *fpu = (uint8_t *)u->uc_mcontext.fpregs;

	(void)number;
	(void)info;
	for (unsigned n = 1 + random_below(&frame_random, 4); n > 0; n--) {
		uint32_t at = random_below(&frame_random, 3);

		if (at == 0 && fpu != NULL) {
			fpu[random_below(&frame_random, 1024)] =
				(uint8_t)random_next(&frame_random);
		} else if (at == 1) {
			u->uc_mcontext.gregs[random_below(&frame_random, 23)] =
				(greg_t)random_word(&frame_random);
		} else {
			uint64_t *words = (uint64_t *)u;

			words[random_below(&frame_random, sizeof(*u) / 8)] =
				random_word(&frame_random);
		}
	}
}

static void *spoil_frames(void *arg)
{
	/* Until one of them is deadly. */
	for (unsigned i = 0; i < 1000; i++) {
		raise(SIGUSR1);
	}
	return arg;
}

static void frames(unsigned seed)
{
	struct sigaction action = {.sa_sigaction = spoil_frame, .sa_flags = SA_SIGINFO};

	random_seed(&frame_random, seed);
	sigaction(SIGUSR1, &action, NULL);
	spoil_frames(NULL);
}

/* rt_sigreturn() with nothing on the stack that it could mean. */
static void return_from_nothing(void)
{
	__asm__ volatile("syscall" : : "a"(SYS_rt_sigreturn) : "rcx", "r11", "memory");
	read_null();
}

/* ---- with VMs ---- */

static struct vm vms[3];

static void start_vms(void)
{
	vm_create(&vms[0], vm_spin, sizeof(vm_spin));
	vm_create(&vms[1], vm_storm, sizeof(vm_storm));
	vm_start(&vms[0]);
	vm_start(&vms[1]);
}

static void vm_fault(void)
{
	start_vms();
	read_null();
}

static void vm_exit(void)
{
	start_vms();
	_exit(0);
}

static void vm_kill(void)
{
	start_vms();
	kill(getpid(), SIGKILL);
	pause();
}

static void vm_unmap_all(void)
{
	start_vms();
	munmap(vms[0].memory, VM_MEMORY);
	munmap(vms[1].memory, VM_MEMORY);
	munmap(vms[1].run, PAGE);
	usleep(20000);
	_exit(0);
}

static void vm_close_all(void)
{
	start_vms();
	for (int i = 0; i < 2; i++) {
		close(vms[i].vcpu);
		close(vms[i].vm);
		close(vms[i].kvm);
	}
	usleep(20000);
	_exit(0);
}

static void *exit_thread(void *arg)
{
	(void)arg;
	usleep(10000);
	syscall(SYS_exit_group, 0);
	return NULL;
}

static void vm_exit_elsewhere(void)
{
	pthread_t thread;

	start_vms();
	pthread_create(&thread, NULL, exit_thread, NULL);
	ioctl(vms[0].vcpu, KVM_RUN, 0); /* another runs it: waits, or fails */
	pause();
}

static void vm_main_ends(void)
{
	pthread_t thread;

	start_vms();
	pthread_create(&thread, NULL, exit_thread, NULL);
	syscall(SYS_exit, 0);
}

static void vm_exec(void)
{
	char *const argv[] = {"init", "nothing", NULL};

	start_vms();
	execv("/init", argv);
	_exit(1);
}

/* Its memory is another mapping each moment. */
static void vm_remap(void)
{
	start_vms();
	for (unsigned i = 0; i < 300; i++) {
		mmap(vms[1].memory, VM_MEMORY, i % 3 == 0 ? PROT_NONE : PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (i % 3 != 0) {
			memcpy(vms[1].memory + 0x1000, vm_storm, sizeof(vm_storm));
		}
		usleep(100);
	}
	_exit(0);
}

static void stop_by_child(void)
{
	start_vms();
	abort();
}

#define FRAMES 60

static const struct {
	const char *name;
	void (*run)(void);
	int signal;
} ways[] = {
	{"read_null", read_null, SIGSEGV},
	{"read_kernel", read_kernel, SIGSEGV},
	{"write_kernel", write_kernel, SIGSEGV},
	{"read_not_canonical", read_not_canonical, SIGSEGV},
	{"jump_null", jump_null, SIGSEGV},
	{"jump_kernel", jump_kernel, SIGSEGV},
	{"jump_not_canonical", jump_not_canonical, SIGSEGV},
	{"jump_stack", jump_stack, SIGSEGV},
	{"undefined", undefined, SIGILL},
	{"divide", divide, SIGFPE},
	{"breakpoint", breakpoint, SIGTRAP},
	{"trap_flag", trap_flag, SIGTRAP},
	{"trap_flag_syscall", trap_flag_syscall, SIGTRAP},
	{"stack_gone", stack_gone, SIGSEGV},
	{"stack_not_canonical", stack_not_canonical, 0},
	{"stack_overflow", stack_overflow, SIGSEGV},
	{"handler_without_stack", handler_without_stack, SIGSEGV},
	{"handler_nowhere", handler_nowhere, SIGSEGV},
	{"privileged", privileged, 0},
	{"vectors", vectors, 0},
	{"selectors", selectors, 0},
	{"opcodes", opcodes, 0},
	{"return_from_nothing", return_from_nothing, SIGSEGV},
	{"vm_fault", vm_fault, SIGSEGV},
	{"vm_exit", vm_exit, 0},
	{"vm_kill", vm_kill, SIGKILL},
	{"vm_unmap_all", vm_unmap_all, 0},
	{"vm_close_all", vm_close_all, 0},
	{"vm_exit_elsewhere", vm_exit_elsewhere, 0},
	{"vm_main_ends", vm_main_ends, 0},
	{"vm_exec", vm_exec, 0},
	{"vm_remap", vm_remap, 0},
	{"vm_abort", stop_by_child, SIGABRT},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

const char *crash_name(unsigned number)
{
	return number < WAYS ? ways[number].name : number < WAYS + FRAMES ? "frames" : NULL;
}

int crash_signal(unsigned number)
{
	return number < WAYS ? ways[number].signal : 0;
}

int crash(unsigned number)
{
	if (crash_name(number) == NULL) {
		return 1;
	}
	if (number < WAYS) {
		ways[number].run();
	} else {
		frames(number);
	}
	return 0;
}
