/* KVM_RUN: what begins, ends and interrupts it, and on which threads. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "tests/kvm/access.h"
#include "tests/kvm/areas.h"
#include "tests/kvm/vm.h"

#define COUNTER (VM_FREE)
#define STOP	(VM_FREE + PAGE)

/* ---- immediate_exit ---- */

static void immediate_exit_executes_nothing(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	struct kvm_regs before, after;

	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
	before = vcpu_regs(vcpu);
	vcpu->run->immediate_exit = 1;
	for (int i = 0; i < 3; i++) {
		expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
	}
	after = vcpu_regs(vcpu);
	expect(memcmp(&before, &after, sizeof(before)) == 0);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
	vcpu->run->immediate_exit = 0;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(vm.ram + VM_FREE), 1);
}

PAYLOAD(64, io_in,
	"in %dx, %eax\n"
	"io_in_done: mov %eax, (%rbx); hlt\n");
PAYLOAD(64, io_out,
	"out %eax, %dx\n"
	"io_out_done: mov %eax, (%rbx); hlt\n");
PAYLOAD(64, mmio_load,
	"mov (%rsi), %eax\n"
	"mmio_load_done: mov %eax, (%rbx); hlt\n");
PAYLOAD(64, mmio_store,
	"mov %eax, (%rsi)\n"
	"mmio_store_done: mov %eax, (%rbx); hlt\n");

extern const char io_in_done[], io_out_done[], mmio_load_done[], mmio_store_done[];

static struct vcpu *start_io(struct vm *vm, const char *code, const char *code_end)
{
	struct vcpu *vcpu;
	struct kvm_regs regs;

	vm_create(vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(vm);
	vcpu_start(vcpu, 64, code, code_end);
	regs = vcpu_regs(vcpu);
	regs.rax = 0x11112222;
	regs.rbx = VM_FREE;
	regs.rdx = 0x510;
	regs.rsi = VM_HOLE;
	vcpu_set_regs(vcpu, &regs);
	return vcpu;
}

/* The instruction that user space has just served is completed, the next is not begun. */
static void expect_completed(struct vcpu *vcpu, uint64_t rip, uint64_t rax)
{
	vcpu->run->immediate_exit = 1;
	expect_errno(kvm_ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
	expect_eq(vcpu_regs(vcpu).rip, rip);
	expect_eq(vcpu_regs(vcpu).rax, rax);
	expect_eq(access_word(vcpu->vm->ram + VM_FREE), 0);
	vcpu->run->immediate_exit = 0;
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(vcpu->vm->ram + VM_FREE), rax);
}

static void immediate_exit_completes_port_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, io_in, io_in_end);

	expect_in(vcpu, 0x510, 4, 0x89abcdef);
	expect_completed(vcpu, PAYLOAD_AT(io_in, io_in_done), 0x89abcdef);
}

static void immediate_exit_completes_port_write(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, io_out, io_out_end);

	expect_out(vcpu, 0x510, 4, 0x11112222);
	expect_completed(vcpu, PAYLOAD_AT(io_out, io_out_done), 0x11112222);
}

static void immediate_exit_completes_mmio_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, mmio_load, mmio_load_end);

	expect_mmio_read(vcpu, VM_HOLE, 4, 0x89abcdef);
	expect_completed(vcpu, PAYLOAD_AT(mmio_load, mmio_load_done), 0x89abcdef);
}

static void immediate_exit_completes_mmio_write(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, mmio_store, mmio_store_end);

	expect_mmio_write(vcpu, VM_HOLE, 4, 0x11112222);
	expect_completed(vcpu, PAYLOAD_AT(mmio_store, mmio_store_done), 0x11112222);
}

/* ---- signals ---- */

static struct kvm_run *run_to_leave; /* by the handler, as VMMs do */
static int signals;

static void on_signal(int number)
{
	(void)number;
	__atomic_add_fetch(&signals, 1, __ATOMIC_RELEASE);
	if (run_to_leave != NULL) {
		run_to_leave->immediate_exit = 1;
	}
}

static void handle_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	expect_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	expect_eq(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
}

static bool signal_is_pending(void)
{
	sigset_t set;

	expect_eq(sigpending(&set), 0);
	return sigismember(&set, SIGUSR1) == 1;
}

/* Return: KVM_SET_SIGNAL_MASK's result. @blocked: bit n: signal n + 1 waits while the guest runs.
 */
static int set_signal_mask(struct vcpu *vcpu, uint64_t blocked, uint32_t len)
{
	union {
		struct kvm_signal_mask head;
		uint8_t room[sizeof(struct kvm_signal_mask) + 128];
	} mask = {.head.len = len};

	memcpy(mask.head.sigset, &blocked, sizeof(blocked));
	return kvm_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask);
}

/* With interrupts off: that is no reason for the host's to wait. */
PAYLOAD(64, count,
	"1: incl (%rdi); cmpl $0, (%rsi); je 1b\n"
	"hlt\n");

static void start_counting(struct vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_start(vcpu, 64, count, count_end);
	regs = vcpu_regs(vcpu);
	regs.rdi = COUNTER;
	regs.rsi = STOP;
	vcpu_set_regs(vcpu, &regs);
}

static struct vcpu *start_counter(struct vm *vm)
{
	struct vcpu *vcpu;

	handle_signals();
	vm_create(vm, IRQCHIP_NONE);
	vcpu = vm_add_vcpu(vm);
	start_counting(vcpu);
	return vcpu;
}

static uint32_t *counter_of(struct vm *vm)
{
	return (uint32_t *)(vm->ram + COUNTER);
}

static void stop_counting(struct vm *vm)
{
	__atomic_store_n((uint32_t *)(vm->ram + STOP), 1, __ATOMIC_RELEASE);
}

static void *run_once(void *vcpu)
{
	return (void *)(intptr_t)vcpu_run(vcpu);
}

/* Waits for the thread. Return: what vcpu_run() said in it. */
static int result_of(struct vcpu *vcpu)
{
	void *result;

	expect_eq(pthread_join(vcpu->thread, &result), 0);
	return (int)(intptr_t)result;
}

static void signal_ends_run(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_counter(&vm);
	uint32_t reached;

	for (int i = 0; i < 5; i++) {
		reached = *counter_of(&vm);
		vcpu_in_thread(vcpu, run_once);
		access_await(counter_of(&vm), reached);
		expect_eq(pthread_kill(vcpu->thread, SIGUSR1), 0);
		expect_errno(result_of(vcpu), EINTR);
		expect_eq(signals, i + 1);
	}
	stop_counting(&vm);
	reached = *counter_of(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
	/* It went on where it was: inside of the loop, not at its beginning. */
	expect(*counter_of(&vm) - reached <= 1);
}

static void signal_handler_asks_for_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_counter(&vm);

	run_to_leave = vcpu->run;
	vcpu_in_thread(vcpu, run_once);
	/* Whether it comes before KVM_RUN or in the guest: KVM_RUN ends. */
	expect_eq(pthread_kill(vcpu->thread, SIGUSR1), 0);
	expect_errno(result_of(vcpu), EINTR);
	expect_errno(vcpu_run(vcpu), EINTR);
	vcpu->run->immediate_exit = 0;
	stop_counting(&vm);
	expect_exit(vcpu, KVM_EXIT_HLT);
}

static void pending_signal_executes_nothing(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);
	uint64_t rip;

	handle_signals();
	block_signals();
	expect_eq(set_signal_mask(vcpu, 0, 8), 0);
	access_begin(vcpu, ACCESS_STORE_8, VM_FREE, 1);
	rip = vcpu_regs(vcpu).rip;
	raise(SIGUSR1);
	expect_errno(vcpu_run(vcpu), EINTR);
	expect_errno(vcpu_run(vcpu), EINTR);
	expect_eq(vcpu_regs(vcpu).rip, rip);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
	/* The mask was for the guest's time only: the signal still waits. */
	expect(signal_is_pending());
	expect_eq(signals, 0);
}

static void pending_signal_completes_port_read(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, io_in, io_in_end);

	handle_signals();
	block_signals();
	expect_eq(set_signal_mask(vcpu, 0, 8), 0);
	expect_in(vcpu, 0x510, 4, 0x89abcdef);
	raise(SIGUSR1);
	expect_errno(vcpu_run(vcpu), EINTR);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(io_in, io_in_done));
	expect_eq(vcpu_regs(vcpu).rax, 0x89abcdef);
	expect_eq(access_word(vm.ram + VM_FREE), 0);
}

static void blocked_signal_does_not_end_run(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	handle_signals();
	block_signals();
	raise(SIGUSR1);
	guest_store(vcpu, VM_FREE, 1);
	expect(signal_is_pending());
}

static void signal_mask_blocks_in_the_guest(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_counter(&vm);

	expect_eq(set_signal_mask(vcpu, UINT64_MAX, 8), 0);
	vcpu_in_thread(vcpu, run_once);
	access_await(counter_of(&vm), 0);
	expect_eq(pthread_kill(vcpu->thread, SIGUSR1), 0);
	access_await(counter_of(&vm), *counter_of(&vm));
	expect_eq(signals, 0);
	stop_counting(&vm);
	expect_eq(result_of(vcpu), KVM_EXIT_HLT);
	expect_eq(signals, 1);
}

static void signal_mask_can_be_removed(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	handle_signals();
	block_signals();
	raise(SIGUSR1);
	expect_eq(set_signal_mask(vcpu, 0, 8), 0);
	expect_eq(kvm_ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, 0), 0);
	guest_store(vcpu, VM_FREE, 1);
}

static void signal_mask_has_one_size(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	expect_errno(set_signal_mask(vcpu, 0, 0), EINVAL);
	expect_errno(set_signal_mask(vcpu, 0, 4), EINVAL);
	expect_errno(set_signal_mask(vcpu, 0, 128), EINVAL);
}

/* ---- exits ---- */

PAYLOAD(64, halt_twice,
	"hlt\n"
	"halt_twice_on: movl $1, (%rbx); hlt\n");

extern const char halt_twice_on[];

static void halt_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, halt_twice, halt_twice_end);

	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(vcpu_regs(vcpu).rip, PAYLOAD_AT(halt_twice, halt_twice_on));
	expect_eq(access_word(vm.ram + VM_FREE), 0);
	expect_exit(vcpu, KVM_EXIT_HLT);
	expect_eq(access_word(vm.ram + VM_FREE), 1);
}

static void shut_down(struct vcpu *vcpu)
{
	struct kvm_sregs sregs = vcpu_sregs(vcpu);

	sregs.idt.limit = 0;
	vcpu_set_sregs(vcpu, &sregs);
	memcpy(vcpu->vm->ram + VM_FREE, "\x0f\x0b", 2); /* ud2 */
	access_begin(vcpu, ACCESS_CALL, VM_FREE, 0);
	expect_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

static void triple_fault_is_a_shutdown(void)
{
	struct vm vm;

	shut_down(access_start(&vm));
}

static void vcpu_runs_again_after_shutdown(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	for (uint64_t i = 1; i < 4; i++) {
		shut_down(vcpu);
		access_start_vcpu(vcpu);
		guest_store(vcpu, VM_FREE + PAGE, i);
		expect_eq(access_word(vm.ram + VM_FREE + PAGE), i);
	}
}

static void shutdown_is_of_one_vcpu(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm), *other = vm_add_vcpu(&vm);

	access_start_vcpu(other);
	shut_down(vcpu);
	guest_store(other, VM_FREE + PAGE, 1);
	expect_eq(access_word(vm.ram + VM_FREE + PAGE), 1);
}

/* KVM API 5, KVM_EXIT_INTERNAL_ERROR: there is no instruction to emulate. */
static void code_where_no_memory_is(void)
{
	struct vm vm;
	struct vcpu *vcpu = access_start(&vm);

	access_begin(vcpu, ACCESS_CALL, VM_HOLE, 0);
	expect_exit(vcpu, KVM_EXIT_INTERNAL_ERROR);
	expect_eq(vcpu->run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	expect_eq(vcpu_regs(vcpu).rip, VM_HOLE);
	guest_store(vcpu, VM_FREE, 1);
}

PAYLOAD(64, window,
	"out %al, %dx; sti; nop\n"
	"1: incl (%rbx); jmp 1b\n");

static void interrupt_window_is_an_exit(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, window, window_end);
	struct kvm_regs regs;

	vcpu->run->request_interrupt_window = 1;
	expect_out(vcpu, 0x510, 1, 0x22);
	expect_eq(vcpu->run->if_flag, 0);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 0);
	expect_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
	expect_eq(vcpu->run->if_flag, 1);
	expect_eq(vcpu->run->ready_for_interrupt_injection, 1);
	regs = vcpu_regs(vcpu);
	expect_eq(regs.rflags & 0x200, 0x200);
	/* It is open: asked again, it is an exit again. */
	expect_exit(vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
}

/* ---- threads ---- */

PAYLOAD(64, ping_pong,
	"sti\n"
	"1: mov (%rdi), %eax; and $1, %eax; cmp %esi, %eax; jne 1b\n"
	"incl (%rdi); dec %ecx; jnz 1b\n"
	"hlt\n");

/* Each waits for the other: none gets on without both running. */
static void vcpus_run_at_the_same_time(void)
{
	enum {
		ROUNDS = 6
	};
	struct vm vm;

	vm_create(&vm, IRQCHIP_NONE);
	for (uint64_t i = 0; i < 2; i++) {
		struct vcpu *vcpu = vm_add_vcpu(&vm);
		struct kvm_regs regs;

		vcpu_start(vcpu, 64, ping_pong, ping_pong_end);
		regs = vcpu_regs(vcpu);
		regs.rdi = COUNTER;
		regs.rsi = i;
		regs.rcx = ROUNDS;
		vcpu_set_regs(vcpu, &regs);
	}
	vcpu_in_thread(vm.vcpus[1], run_once);
	vcpu_in_thread(vm.vcpus[0], run_once);
	expect_eq(result_of(vm.vcpus[0]), KVM_EXIT_HLT);
	expect_eq(result_of(vm.vcpus[1]), KVM_EXIT_HLT);
	expect_eq(*counter_of(&vm), 2 * ROUNDS);
}

static void vms_take_turns(void)
{
	struct vm vm, vm2;
	struct vcpu *vcpu = access_start(&vm), *vcpu2 = access_start(&vm2);

	for (uint64_t i = 1; i <= 8; i++) {
		access_begin(vcpu, ACCESS_XADD, VM_FREE, i);
		access_begin(vcpu2, ACCESS_XADD, VM_FREE, 100 * i);
		expect_exit(vcpu, KVM_EXIT_HLT);
		expect_exit(vcpu2, KVM_EXIT_HLT);
		expect_eq(vcpu_regs(vcpu).rax, i * (i - 1) / 2);
		expect_eq(vcpu_regs(vcpu2).rax, 100 * i * (i - 1) / 2);
	}
}

static void vcpu_changes_threads(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_io(&vm, io_in, io_in_end);

	vcpu_in_thread(vcpu, run_once);
	expect_eq(result_of(vcpu), KVM_EXIT_IO);
	expect_eq(vcpu->run->io.direction, KVM_EXIT_IO_IN);
	memset((char *)vcpu->run + vcpu->run->io.data_offset, 0x31, 4);
	vcpu_in_thread(vcpu, run_once);
	expect_eq(result_of(vcpu), KVM_EXIT_HLT);
	expect_eq(access_word(vm.ram + VM_FREE), 0x31313131);
	expect_eq(vcpu_regs(vcpu).rax, 0x31313131);
}

PAYLOAD(64, count_halts,
	"sti\n"
	"1: incl (%rdi); cmpl $0, (%rsi); je 1b\n"
	"2: hlt; incl 4(%rdi); jmp 2b\n");

/* The second thread comes in when the first is out, and goes on where that one left the guest. */
static void second_thread_waits(void)
{
	struct vm vm;
	struct vcpu *vcpu = start_counter(&vm), second;

	memcpy(vm.ram + VM_CODE, count_halts, (size_t)(count_halts_end - count_halts));
	vcpu_in_thread(vcpu, run_once);
	access_await(counter_of(&vm), 0);
	second = *vcpu;
	vcpu_in_thread(&second, run_once);
	access_await(counter_of(&vm), *counter_of(&vm));
	stop_counting(&vm);
	expect_eq(result_of(vcpu), KVM_EXIT_HLT);
	expect_eq(result_of(&second), KVM_EXIT_HLT);
	expect_eq(counter_of(&vm)[1], 1);
}

const struct test_case running_cases[] = {
	{"run/immediate_exit_executes_nothing", "KVM API 5, immediate_exit",
	 immediate_exit_executes_nothing},
	{"run/immediate_exit_completes_port_read", "KVM API 5", immediate_exit_completes_port_read},
	{"run/immediate_exit_completes_port_write", "KVM API 5",
	 immediate_exit_completes_port_write},
	{"run/immediate_exit_completes_mmio_read", "KVM API 5", immediate_exit_completes_mmio_read},
	{"run/immediate_exit_completes_mmio_write", "KVM API 5",
	 immediate_exit_completes_mmio_write},
	{"run/signal_ends_run", "KVM API 4.10", signal_ends_run},
	{"run/signal_handler_asks_for_exit", "KVM API 5, immediate_exit",
	 signal_handler_asks_for_exit},
	{"run/pending_signal_executes_nothing", "KVM API 4.10, 4.21, 5",
	 pending_signal_executes_nothing},
	{"run/pending_signal_completes_port_read", "KVM API 4.21, 5",
	 pending_signal_completes_port_read},
	{"run/blocked_signal_does_not_end_run", "KVM API 4.10", blocked_signal_does_not_end_run},
	{"run/signal_mask_blocks_in_the_guest", "KVM API 4.21", signal_mask_blocks_in_the_guest},
	{"run/signal_mask_can_be_removed", "KVM API 4.21", signal_mask_can_be_removed},
	{"run/signal_mask_has_one_size", "KVM API 4.21", signal_mask_has_one_size},
	{"run/halt_is_an_exit", "KVM API 5, KVM_EXIT_HLT", halt_is_an_exit},
	{"run/triple_fault_is_a_shutdown", "KVM API 5, KVM_EXIT_SHUTDOWN",
	 triple_fault_is_a_shutdown},
	{"run/vcpu_runs_again_after_shutdown", "KVM API 5, KVM_EXIT_SHUTDOWN",
	 vcpu_runs_again_after_shutdown},
	{"run/shutdown_is_of_one_vcpu", "KVM API 5, KVM_EXIT_SHUTDOWN", shutdown_is_of_one_vcpu},
	{"run/code_where_no_memory_is", "KVM API 5, KVM_EXIT_INTERNAL_ERROR",
	 code_where_no_memory_is},
	{"run/interrupt_window_is_an_exit", "KVM API 5, request_interrupt_window",
	 interrupt_window_is_an_exit},
	{"run/vcpus_run_at_the_same_time", "KVM API 4.10", vcpus_run_at_the_same_time},
	{"run/vms_take_turns", "KVM API 2", vms_take_turns},
	{"run/vcpu_changes_threads", "KVM API 2", vcpu_changes_threads},
	{"run/second_thread_waits", "KVM API 2", second_thread_waits},
	TEST_END,
};
