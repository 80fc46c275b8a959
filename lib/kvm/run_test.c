/* Small scenes: what a guest does, what user space sees, and how it goes on. */
#include <errno.h>
#include <string.h>

#include "lib/kvm/emul.h"
#include "lib/kvm/emul_regs.h"
#include "lib/kvm/fake_env.h"
#include "lib/kvm/fake_irq.h"

#define PAGE 4096
#define RAM  (64 * PAGE)
#define CODE 0x1000
#define HOLE UINT64_C(0x80000)

static _Alignas(PAGE) uint8_t ram[RAM];

static struct fake f;
static struct kvm_vcpu *vcpu;
static struct kvm_run *run;

static int set_up(void **state)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = 0x8000};

	(void)state;
	fake_init(&f);
	fake_irq = (struct fake_irq){0};
	memset(ram, 0, sizeof(ram));
	(void)fake_vm(&f);
	assert_int_equal(fake_slot(&f, 0, 0, 0, RAM, ram), 0);
	vcpu = fake_vcpu(&f, 0);
	run = kvm_vcpu_mmap(vcpu, 0);
	/* Real mode, with data segments that reach above 64 KiB. */
	assert_int_equal(vcpu_call(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sregs.ds.base = HOLE;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fake_close(&f);
	fake_end(&f);
	return 0;
}

static struct kvm_regs get_regs(void)
{
	struct kvm_regs regs = {0};

	assert_int_equal(vcpu_call(vcpu, KVM_GET_REGS, &regs), 0);
	return regs;
}

static void set_reg(uint64_t *reg, uint64_t value)
{
	*reg = value;
	vcpu->changed |= KVM_REGS_CORE;
}

static int64_t go(void)
{
	return vcpu_call(vcpu, KVM_RUN, NULL);
}

static void code(const void *bytes, size_t len)
{
	memcpy(ram + CODE, bytes, len);
}

#define CODE_IS(string) code(string, sizeof(string) - 1)

static const struct fake_step at_device = {
	.stop = {.reason = KVM_STOP_MEMORY, .memory = {.gpa = HOLE}}};

/* ---- ports ---- */

static void out_and_in(void **state)
{
	static const struct fake_step steps[] = {
		{.stop = {.reason = KVM_STOP_IO, .insn_len = 2, .io = {.port = 0x10, .bytes = 2}}},
		{.stop = {.reason = KVM_STOP_IO,
			  .insn_len = 1,
			  .io = {.port = 0x20, .bytes = 1, .in = true}}},
	};
	uint8_t *data = (uint8_t *)run + PAGE;

	(void)state;
	data = kvm_vcpu_mmap(vcpu, 1);
	fake_play(&f, steps, 2);
	set_reg(&vcpu->cpu.gpr[0], 0x1122334455667788);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(run->io.port, 0x10);
	assert_int_equal(run->io.size, 2);
	assert_int_equal(run->io.count, 1);
	assert_int_equal(run->io.data_offset, PAGE);
	assert_int_equal(data[0] | data[1] << 8, 0x7788);
	assert_int_equal(get_regs().rip, CODE); /* not over yet */
	assert_int_equal(go(), 0);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_IN);
	assert_int_equal(get_regs().rip, CODE + 2);
	data[0] = 0xaa;
	run->immediate_exit = 1;
	assert_int_equal(go(), -EINTR);
	assert_int_equal(get_regs().rip, CODE + 3);
	assert_true(get_regs().rax == UINT64_C(0x11223344556677aa));
	assert_int_equal(f.enters, 2);
	run->immediate_exit = 0;
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(get_regs().rip, CODE + 4);
}

static void moved_rip_is_not_skipped(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_IO, .insn_len = 2, .io = {.port = 1, .bytes = 4}}};
	struct kvm_regs regs;

	(void)state;
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	regs = get_regs();
	regs.rip = 0x2000;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	run->immediate_exit = 1;
	assert_int_equal(go(), -EINTR);
	assert_int_equal(get_regs().rip, 0x2000);
}

static void length_is_decoded_where_it_is_unknown(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_IO, .io = {.port = 0x7f, .bytes = 1}}};

	(void)state;
	CODE_IS("\x66\xe6\x7f");
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(get_regs().rip, CODE + 3 + 1);
}

static void string_output_is_one_exit(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_EMULATE}};
	struct kvm_regs regs;
	uint8_t *data = kvm_vcpu_mmap(vcpu, 1);

	(void)state;
	CODE_IS("\x2e\xf3\x6e"); /* cs rep outsb */
	memcpy(ram + 0x3000, "hello", 5);
	regs = get_regs();
	regs.rsi = 0x3000;
	regs.rcx = 5;
	regs.rdx = 0x402;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.port, 0x402);
	assert_int_equal(run->io.count, 5);
	assert_memory_equal(data, "hello", 5);
	assert_int_equal(get_regs().rcx, 0);
}

static void string_input_waits_for_data(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_EMULATE}};
	struct kvm_regs regs;
	uint8_t *data = kvm_vcpu_mmap(vcpu, 1);

	(void)state;
	CODE_IS("\xf3\x6d"); /* rep insw */
	regs = get_regs();
	regs.rdi = 0x3000;
	regs.rcx = 3;
	regs.rdx = 0x1f0;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_IN);
	assert_int_equal(run->io.size, 2);
	assert_int_equal(get_regs().rcx, 3);
	memcpy(data, "abcdef", 6);
	assert_int_equal(go(), 0);
	while (run->exit_reason == KVM_EXIT_IO) {
		memcpy(data, "abcdef", 6);
		assert_int_equal(go(), 0);
	}
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_memory_equal(ram + 0x3000, "ab", 2);
}

/* ---- memory-mapped ---- */

static void load_from_a_device(void **state)
{
	(void)state;
	CODE_IS("\x66\xa1\x10\x00"); /* mov 0x10, %eax */
	fake_play(&f, &at_device, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_true(run->mmio.phys_addr == HOLE + 0x10);
	assert_int_equal(run->mmio.len, 4);
	assert_int_equal(run->mmio.is_write, 0);
	assert_int_equal(get_regs().rip, CODE);
	memcpy(run->mmio.data, "\x78\x56\x34\x12", 4);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(get_regs().rax, 0x12345678);
	assert_int_equal(get_regs().rip, CODE + 4 + 1);
}

static void store_to_a_device(void **state)
{
	(void)state;
	CODE_IS("\xc7\x06\x20\x00\x34\x12"); /* movw $0x1234, 0x20 */
	fake_play(&f, &at_device, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_true(run->mmio.phys_addr == HOLE + 0x20);
	assert_int_equal(run->mmio.is_write, 1);
	assert_int_equal(run->mmio.len, 2);
	assert_memory_equal(run->mmio.data, "\x34\x12", 2);
	assert_int_equal(get_regs().rip, CODE + 6);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
}

static void read_modify_write_of_a_device(void **state)
{
	(void)state;
	CODE_IS("\x83\x06\x20\x00\x05"); /* addw $5, 0x20 */
	fake_play(&f, &at_device, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->mmio.is_write, 0);
	memcpy(run->mmio.data, "\xff\x00", 2);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(run->mmio.is_write, 1);
	assert_memory_equal(run->mmio.data, "\x04\x01", 2);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
}

static void missing_memory_is_mapped(void **state)
{
	static const struct fake_step steps[] = {
		{.stop = {.reason = KVM_STOP_MEMORY, .memory = {.gpa = 0x5123}}},
		{.stop = {.reason = KVM_STOP_MEMORY, .memory = {.gpa = 0x5123, .write = true}}},
	};

	(void)state;
	fake_play(&f, steps, 2);
	assert_int_equal(fake_slot(&f, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RAM, ram), 0);
	f.changes = 0;
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(f.changes, 2);
	assert_int_equal(f.change[1].what, 'm');
	assert_int_equal(f.change[1].gfn, 5);
	assert_true(f.last_fault.user == (uintptr_t)ram + 0x5000);
	assert_true(f.last_fault.may_write);
	assert_false(f.last_fault.large);
	assert_int_equal(f.vm->slots.by_gfn[0]->dirty[0], 1 << 5);
}

static void reads_do_not_map_watched_memory_writable(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_MEMORY, .memory = {.gpa = 0x5123}}};

	(void)state;
	assert_int_equal(fake_slot(&f, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, RAM, ram), 0);
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_false(f.last_fault.may_write);
	assert_int_equal(f.vm->slots.by_gfn[0]->dirty[0], 0);
	f.map_result = -EFAULT;
	fake_play(&f, &step, 1);
	assert_int_equal(go(), -EFAULT);
	f.map_result = 0;
}

static void code_that_is_nowhere(void **state)
{
	struct kvm_regs regs = get_regs();
	struct kvm_sregs sregs;

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = HOLE;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
	fake_play(&f, &at_device, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	assert_int_equal(get_regs().rip, CODE);
}

/* ---- MSRs, CPUID, hypercalls ---- */

static void unknown_msr_is_a_fault_or_an_exit(void **state)
{
	static const struct fake_step steps[] = {
		{.stop = {.reason = KVM_STOP_MSR_READ, .insn_len = 2}},
		{.stop = {.reason = KVM_STOP_MSR_READ, .insn_len = 2}},
	};
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
				     .args = {KVM_MSR_EXIT_REASON_UNKNOWN}};

	(void)state;
	fake_play(&f, steps, 2);
	set_reg(&vcpu->cpu.gpr[1], 0x4000ffff);
	run->request_interrupt_window = 0;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_X86_RDMSR);
	assert_int_equal(run->msr.index, 0x4000ffff);
	assert_int_equal(run->msr.reason, KVM_MSR_EXIT_REASON_UNKNOWN);
	run->msr.data = 0x1234567800000001;
	cap.args[0] = 0;
	assert_int_equal(vm_call(&f, KVM_ENABLE_CAP, &cap), 0);
	/* The next one is not reported: #GP is delivered, and the guest halts. */
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(get_regs().rax, 1);
	assert_int_equal(get_regs().rdx, 0x12345678);
	assert_int_equal(f.deliveries, 1);
	assert_int_equal(f.delivered[0].kind, KVM_EVENT_EXCEPTION);
	assert_int_equal(f.delivered[0].vector, 13);
}

static void hypercall_result_is_in_rax(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_HYPERCALL, .insn_len = 3}};

	(void)state;
	fake_play(&f, &step, 1);
	set_reg(&vcpu->cpu.gpr[0], 0x7777);
	assert_int_equal(go(), 0);
	assert_int_equal(get_regs().rax, (uint32_t)-1000); /* KVM_ENOSYS, 32 bits */
	assert_int_equal(get_regs().rip, CODE + 3 + 1);
}

/* A kick that comes before the HLT ends it all the same; the next HLT waits. */
static void kick_is_kept_for_the_next_halt(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_HYPERCALL, .insn_len = 3}};

	(void)state;
	vcpu->apic = (struct kvm_apic *)&fake_irq;
	fake_play(&f, &step, 1);
	set_reg(&vcpu->cpu.gpr[0], 5);	      /* KVM_HC_KICK_CPU */
	set_reg(&vcpu->cpu.gpr[1], vcpu->id); /* RCX: whom */
	assert_int_equal(go(), -EINTR);
	assert_int_equal(f.blocks, 1);
	assert_int_equal(get_regs().rip, CODE + 3 + 1 + 1); /* in the second HLT */
	assert_int_equal(vcpu->mp_state, KVM_MP_STATE_HALTED);
}

static void foreign_hypercall_is_patched(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_EXCEPTION, .exception = {.vector = 6}}};

	(void)state;
	CODE_IS("\x0f\x01\xc1"); /* vmcall, on an AMD CPU */
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_memory_equal(ram + CODE, "\x0f\x01\xd9", 3);
	assert_int_equal(f.deliveries, 0);
}

/* ---- events ---- */

static void interrupts_of_user_space(void **state)
{
	struct kvm_interrupt irq = {.irq = 0x21};

	(void)state;
	run->request_interrupt_window = 1;
	set_reg(&vcpu->cpu.rflags, 0x202);
	assert_int_equal(go(), 0); /* the guest did something; then the window is open */
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
	assert_int_equal(run->ready_for_interrupt_injection, 1);
	assert_int_equal(run->if_flag, 1);
	assert_int_equal(vcpu_call(vcpu, KVM_INTERRUPT, &irq), 0);
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 1);
	assert_int_equal(f.delivered[0].kind, KVM_EVENT_INTERRUPT);
	assert_int_equal(f.delivered[0].vector, 0x21);
	irq.irq = 256;
	assert_int_equal(vcpu_call(vcpu, KVM_INTERRUPT, &irq), -EINVAL);
}

static void window_is_an_exit(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_IRQ_WINDOW}};

	(void)state;
	run->request_interrupt_window = 1;
	set_reg(&vcpu->cpu.rflags, 0x202);
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IRQ_WINDOW_OPEN);
}

static void nmis_come_one_after_the_other(void **state)
{
	static const struct fake_step steps[] = {
		{.stop = {.reason = KVM_STOP_NONE}},
		{.stop = {.reason = KVM_STOP_NONE}},
		{.stop = {.reason = KVM_STOP_HLT, .insn_len = 1}},
		{.stop = {.reason = KVM_STOP_NMI_WINDOW}}, /* behind the handler's IRET */
	};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(vcpu_call(vcpu, KVM_NMI, NULL), 0);
	}
	fake_play(&f, steps, ARRAY_SIZE(steps));
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 1); /* until its handler ends */
	assert_int_equal(f.delivered[0].kind, KVM_EVENT_NMI);
	assert_true(vcpu->want_nmi_window);
	vcpu->events.nmi.masked = false; /* IRET */
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 2);
	vcpu->events.nmi.masked = false;
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 2); /* one in service, one waited, the rest was lost */
}

static void undelivered_events_are_tried_again(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_NONE,
						       .undelivered = {.kind = KVM_EVENT_EXCEPTION,
								       .vector = 14,
								       .has_error = true,
								       .error = 2}}};

	(void)state;
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 1);
	assert_int_equal(f.delivered[0].vector, 14);
	assert_int_equal(f.delivered[0].error, 2);
}

static void request_at_entry(struct kvm_vcpu *running, struct kvm_stop *stop)
{
	/* Somebody kicked just before the guest ran. */
	stop->reason = KVM_STOP_NONE;
	stop->undelivered = (struct kvm_event){.kind = KVM_EVENT_EXCEPTION, .vector = 3};
	(void)running;
	f.guest = NULL;
}

static void a_kick_loses_no_breakpoint(void **state)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP};

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_GUEST_DEBUG, &debug), 0);
	f.guest = request_at_entry;
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 2);
	assert_int_equal(f.delivered[1].vector, 3);
}

/* A CPU takes no more of DR7 than its lower half, whatever user space asks for. */
static void debug_registers_fit(void **state)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
					.arch.debugreg = {[7] = UINT64_C(0x2400000403)}};

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_GUEST_DEBUG, &debug), 0);
	assert_true(vcpu->hw_dr7 == 0x403);
}

static void exceptions_meet(void **state)
{
	/* #GP while #NP is delivered; then #PF while the double fault is. */
	static const struct fake_step steps[] = {
		{.stop = {.reason = KVM_STOP_EXCEPTION,
			  .undelivered = {.kind = KVM_EVENT_EXCEPTION, .vector = 11},
			  .exception = {.vector = 13}}},
		{.stop = {.reason = KVM_STOP_EXCEPTION,
			  .undelivered = {.kind = KVM_EVENT_EXCEPTION, .vector = 8},
			  .exception = {.vector = 14}}},
	};

	(void)state;
	fake_play(&f, steps, 2);
	assert_int_equal(go(), 0);
	assert_int_equal(f.deliveries, 1);
	assert_int_equal(f.delivered[0].vector, 8);
	assert_int_equal(run->exit_reason, KVM_EXIT_SHUTDOWN);
}

static void shutdown_leaves_a_vcpu_after_init(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_SHUTDOWN}};

	(void)state;
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_SHUTDOWN);
	assert_int_equal(get_regs().rip, 0xfff0);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_HLT);
}

static void signals_end_it(void **state)
{
	(void)state;
	f.signal = true;
	assert_int_equal(go(), -EINTR);
	assert_int_equal(run->exit_reason, KVM_EXIT_INTR);
	assert_int_equal(f.enters, 0);
}

static void handler_asks_for_exit_at_the_last_moment(void **state)
{
	(void)state;
	f.late = true;
	assert_int_equal(go(), -EINTR);
	assert_int_equal(f.enters, 0);
}

static void requests_keep_the_guest_out(void **state)
{
	(void)state;
	kvm_vcpu_request(vcpu, KVM_REQ_KICK);
	assert_int_equal(f.kicks, 1);
	assert_int_equal(go(), 0); /* it was served before the guest was entered */
	assert_int_equal(f.enters, 1);
}

static void step_is_an_exit(void **state)
{
	static const struct fake_step step = {
		.stop = {.reason = KVM_STOP_EXCEPTION, .exception = {.vector = 1, .dr6 = 1 << 14}}};
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};

	(void)state;
	assert_int_equal(vcpu_call(vcpu, KVM_SET_GUEST_DEBUG, &debug), 0);
	fake_play(&f, &step, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_DEBUG);
	assert_int_equal(run->debug.arch.exception, 1);
	assert_true((run->debug.arch.dr6 & 1 << 14) != 0);
	assert_int_equal(get_regs().rflags & 0x100, 0);
	/* What is carried out here is a step, too. */
	fake_play(&f, &(struct fake_step){.stop = {.reason = KVM_STOP_CPUID, .insn_len = 2}}, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_DEBUG);
	assert_int_equal(run->debug.arch.pc, CODE + 2);
}

static void registers_travel_in_the_page(void **state)
{
	(void)state;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	assert_int_equal(go(), 0);
	assert_int_equal(run->s.regs.regs.rip, CODE + 1);
	run->s.regs.regs.rbx = 0x99;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	assert_int_equal(go(), 0);
	assert_int_equal(run->kvm_dirty_regs, 0);
	assert_int_equal(get_regs().rbx, 0x99);
	run->kvm_dirty_regs = 1 << 30;
	assert_int_equal(go(), -EINVAL);
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	run->s.regs.sregs.cr0 = UINT64_C(1) << 33;
	assert_int_equal(go(), -EINVAL);
}

/* Whatever stops come in whatever state: no check fails, nothing leaks. */
static void any_stop_is_survived(void **state)
{
	uint64_t seed = 88172645463325252;
	uint8_t fetched[16] = {0};

	(void)state;
	vcpu->fetched = fetched;
	for (unsigned i = 0; i < 20000; i++) {
		struct fake_step step;

		for (size_t at = 0; at < sizeof(ram) && i % 50 == 0; at += 8) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			memcpy(ram + at, &seed, 8);
		}
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memset(&step, 0, sizeof(step));
		step.stop.reason = (uint8_t)(seed % (KVM_STOP_UNKNOWN + 1));
		step.stop.insn_len = (uint8_t)(seed >> 8 & 3);
		if (step.stop.reason == KVM_STOP_MEMORY) {
			step.stop.memory.gpa = (seed >> 16) % (2 * RAM);
			step.stop.memory.write = (seed >> 60 & 1) != 0;
			step.stop.memory.exact = (seed >> 61 & 1) != 0;
			memcpy(fetched + 1, &seed, sizeof(seed));
			fetched[0] = (seed >> 62 & 1) != 0 ? INSN_MAX : (uint8_t)(seed >> 40);
		} else if (step.stop.reason == KVM_STOP_CR) {
			step.stop.cr.number = seed >> 16 & 15;
			step.stop.cr.gpr = seed >> 20 & 15;
			step.stop.cr.write = (seed >> 60 & 1) != 0;
		} else if (step.stop.reason == KVM_STOP_IO) {
			step.stop.io.port = (uint16_t)(seed >> 16);
			step.stop.io.bytes = (uint8_t)(1 << (seed >> 40) % 3);
			step.stop.io.in = (seed >> 60 & 1) != 0;
		} else if (step.stop.reason == KVM_STOP_EXCEPTION) {
			step.stop.exception.vector = (uint8_t)(seed >> 16 & 31);
		}
		vcpu->cpu.gpr[seed >> 20 & 15] = seed;
		vcpu->cpu.rip = seed >> 33 & 0xffff;
		fake_play(&f, &step, 1);
		memcpy(run->mmio.data, &seed, 8);
		run->request_interrupt_window = seed >> 50 & 1;
		assert_true(go() >= -133);
	}
}

static uint64_t chance_state;
static unsigned operations;

static uint64_t chance(void)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state >> 3;
}

/* An emulator that is wrong about everything but lengths. */
static enum insn_outcome emulate_by_chance(struct kvm_vcpu *v)
{
	uint64_t values[8] = {chance(), chance()};
	uint8_t data[256] = {0};
	uint8_t *image;

	for (uint64_t n = chance() % 80; n > 0; n--, operations++) {
		uint64_t linear = chance() % 3 == 0 ? HOLE + chance() % PAGE : chance() % (2 * RAM);
		unsigned len = (unsigned)(1 + chance() % sizeof(data));
		unsigned bytes = 1u << chance() % 3;
		unsigned count = (unsigned)(1 + chance() % (sizeof(data) / bytes));
		unsigned reg = (unsigned)(chance() % 17);
		unsigned access = (unsigned)(chance() % 4);

		switch (chance() % 14) {
		case 0:
			(void)!kvm_emul_fetch(v);
			break;
		case 1:
		case 2:
			(void)!kvm_emul_read(v, linear, data, len, access);
			break;
		case 3:
		case 4:
			(void)!kvm_emul_write(v, linear, data, len, access);
			break;
		case 5:
			(void)!kvm_emul_probe(v, linear, len);
			break;
		case 6:
		case 7:
			(void)!kvm_emul_cmpxchg(v, linear, values, values, 1u << chance() % 5);
			break;
		case 8:
			(void)!kvm_emul_port_in(v, (uint16_t)linear, bytes, data, &count);
			break;
		case 9:
			(void)!kvm_emul_port_out(v, (uint16_t)linear, bytes, data, &count);
			break;
		case 10:
			(void)!kvm_op_read_xmm(v, reg, values);
			(void)!kvm_op_write_xmm(v, reg, values, access == 0);
			break;
		case 11:
			assert_int_equal(kvm_op_x87_image(v, &image), INSN_DONE);
			break;
		case 12:
			(void)!kvm_op_write_cr(v, reg, chance());
			(void)!kvm_op_read_cr(v, reg, values);
			break;
		default:
			(void)!kvm_op_write_dr(v, reg, chance());
			(void)!kvm_op_read_dr(v, reg, values);
		}
	}
	v->exits->fault.vector = (uint8_t)(chance() % 32);
	v->exits->broken = chance() % 16 == 0;
	return (enum insn_outcome)(chance() % 7);
}

static void any_emulator_is_survived(void **state)
{
	static const struct fake_step step = {.stop = {.reason = KVM_STOP_EMULATE}};

	(void)state;
	chance_state = 88172645463325252;
	operations = 0;
	f.emulate = emulate_by_chance;
	for (unsigned i = 0; i < 20000; i++) {
		if (i % 16 == 0) {
			struct kvm_regs regs = {.rip = CODE, .rflags = 2};
			struct kvm_vcpu_events none = {0};

			tear_down(NULL);
			set_up(NULL);
			f.emulate = emulate_by_chance;
			assert_int_equal(vcpu_call(vcpu, KVM_SET_VCPU_EVENTS, &none), 0);
			assert_int_equal(vcpu_call(vcpu, KVM_SET_REGS, &regs), 0);
		}
		fake_play(&f, &step, 1);
		assert_true(go() >= -133);
		assert_true(vcpu->exits->written_count <= KVM_FRAGMENTS &&
			    vcpu->exits->answered_count <= KVM_FRAGMENTS);
	}
	assert_true(operations > 20000);
}

/* Who emulates does not answer: user space hears of that, whatever code it was. */
static enum insn_outcome emulate_not_at_all(struct kvm_vcpu *v)
{
	v->exits->broken = true;
	return INSN_UNSUPPORTED;
}

static void broken_emulator_is_an_internal_error(void **state)
{
	(void)state;
	CODE_IS("\x02\x06\x00\x00"); /* add al, [0] */
	f.emulate = emulate_not_at_all;
	vcpu->cpu.cpl = 3;
	fake_play(&f, &at_device, 1);
	assert_int_equal(go(), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
	assert_int_equal(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	assert_false(vcpu->events.exception.pending);
	assert_int_equal(get_regs().rip, CODE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(out_and_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(moved_rip_is_not_skipped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(length_is_decoded_where_it_is_unknown, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(string_output_is_one_exit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(string_input_waits_for_data, set_up, tear_down),
		cmocka_unit_test_setup_teardown(load_from_a_device, set_up, tear_down),
		cmocka_unit_test_setup_teardown(store_to_a_device, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_modify_write_of_a_device, set_up, tear_down),
		cmocka_unit_test_setup_teardown(missing_memory_is_mapped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_do_not_map_watched_memory_writable, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(code_that_is_nowhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unknown_msr_is_a_fault_or_an_exit, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hypercall_result_is_in_rax, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kick_is_kept_for_the_next_halt, set_up, tear_down),
		cmocka_unit_test_setup_teardown(foreign_hypercall_is_patched, set_up, tear_down),
		cmocka_unit_test_setup_teardown(interrupts_of_user_space, set_up, tear_down),
		cmocka_unit_test_setup_teardown(window_is_an_exit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nmis_come_one_after_the_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(undelivered_events_are_tried_again, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_kick_loses_no_breakpoint, set_up, tear_down),
		cmocka_unit_test_setup_teardown(debug_registers_fit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(exceptions_meet, set_up, tear_down),
		cmocka_unit_test_setup_teardown(shutdown_leaves_a_vcpu_after_init, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(signals_end_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(handler_asks_for_exit_at_the_last_moment, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(requests_keep_the_guest_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(step_is_an_exit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(registers_travel_in_the_page, set_up, tear_down),
		cmocka_unit_test_setup_teardown(any_stop_is_survived, set_up, tear_down),
		cmocka_unit_test_setup_teardown(any_emulator_is_survived, set_up, tear_down),
		cmocka_unit_test_setup_teardown(broken_emulator_is_an_internal_error, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
