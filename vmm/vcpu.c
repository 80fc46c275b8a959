#include "vmm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/log.h"
#include "vmm/thread.h"

/* Interrupts KVM_RUN; sent to vCPU threads only. */
#define KICK_SIGNAL SIGUSR1

static void on_kick(int signal)
{
	(void)signal; /* being interrupted is all that is wanted */
}

/* Context: lock held. */
static void kick(struct vcpus *set, unsigned index)
{
	struct vcpu *v = &set->vcpu[index];

	if (set->stopped) {
		return; /* its thread may be gone */
	}
	/*
	 * immediate_exit covers a vCPU that is on its way into the guest, the signal one that is
	 * already there. Pairs with the clearing in run_once().
	 */
	__atomic_store_n(&v->host.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(v->thread, KICK_SIGNAL);
}

void vcpus_kick(struct vcpus *set, unsigned index)
{
	lock_take(&set->lock);
	kick(set, index);
	lock_give(&set->lock);
}

/* Context: lock held. */
static void set_gate(struct vcpus *set, enum vcpu_gate gate)
{
	if (set->gate != GATE_STOP) {
		/*
		 * Before the kick, and run_once() looks at it after it has cleared what the kick
		 * set: one of the two stops a vCPU. Pairs with the load in pass_gate().
		 */
		atomic_store_explicit(&set->gate, gate, memory_order_seq_cst);
	}
	pthread_cond_broadcast(&set->changed);
}

/* Waits until the vCPU may run. Return: false if it has to end. */
static bool pass_gate(struct vcpus *set)
{
	/* Pairs with the store in set_gate(). */
	int gate = atomic_load_explicit(&set->gate, memory_order_seq_cst);

	if (gate == GATE_OPEN) {
		return true;
	}
	lock_take(&set->lock);
	while ((gate = set->gate) == GATE_CLOSED) {
		lock_wait(&set->lock, &set->changed);
	}
	lock_give(&set->lock);
	return gate == GATE_OPEN;
}

static void serve_pio(struct vcpus *set, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	/* String instructions come as several items for one port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(set->env.pio, run->io.port, size, load_le(data, size));
		} else {
			store_le(data, bus_read(set->env.pio, run->io.port, size), size);
		}
	}
}

/*
 * An access that crosses a page, or comes from a wide register, arrives in pieces of any length up
 * to 8; devices see naturally sized ones.
 */
static void serve_mmio(struct vcpus *set, struct kvm_run *run)
{
	uint64_t addr = run->mmio.phys_addr;
	uint8_t *data = run->mmio.data;
	unsigned left = MIN(run->mmio.len, 8U);

	while (left > 0) {
		unsigned size = 1U << (31 - __builtin_clz(left));

		if (run->mmio.is_write) {
			bus_write(set->env.mmio, addr, size, load_le(data, size));
		} else {
			store_le(data, bus_read(set->env.mmio, addr, size), size);
		}
		addr += size;
		data += size;
		left -= size;
	}
}

static void report_registers(struct vcpu *v)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (host_vcpu_get_regs(&v->host, &r) != 0 || host_vcpu_get_sregs(&v->host, &s) != 0) {
		return;
	}
	log_error("vCPU %u: rip 0x%llx rsp 0x%llx rflags 0x%llx cr0 0x%llx cr2 0x%llx cr3 0x%llx "
		  "cr4 0x%llx efer 0x%llx cs 0x%x",
		  v->index, r.rip, r.rsp, r.rflags, s.cr0, s.cr2, s.cr3, s.cr4, s.efer,
		  s.cs.selector);
}

/*
 * A guest that jumps into a device's registers, or has its stack there, gets the provider's
 * emulator to where it has no answer.
 */
static bool guest_caused(uint32_t suberror)
{
	return suberror == KVM_INTERNAL_ERROR_EMULATION ||
	       suberror == KVM_INTERNAL_ERROR_DELIVERY_EV;
}

static void report_internal_error(struct vcpu *v)
{
	struct kvm_run *run = v->host.run;
	char data[16 * 19 + 1] = "";
	int n = 0;

	for (unsigned i = 0; i < MIN(run->internal.ndata, 16U); i++) {
		n += snprintf(data + n, sizeof(data) - (size_t)n, " 0x%llx", run->internal.data[i]);
	}
	log_error(
		"vCPU %u: %s (internal error %u,%s)", v->index,
		guest_caused(run->internal.suberror)
			? "the guest's kernel runs what cannot be emulated, as code that is no RAM"
			: "the provider cannot go on with this guest",
		run->internal.suberror, data);
	report_registers(v);
}

/* Serves one exit. Return: false if the vCPU cannot go on. */
static bool serve_exit(struct vcpu *v)
{
	struct vcpus *set = v->set;
	struct kvm_run *run = v->host.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_pio(set, run);
		return true;
	case KVM_EXIT_MMIO:
		serve_mmio(set, run);
		return true;
	case KVM_EXIT_IOAPIC_EOI:
		set->env.eoi(set->env.ctx, run->eoi.vector);
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT: /* with local APICs in the provider it waits itself */
		return true;
	case KVM_EXIT_SHUTDOWN:
		set->env.end(set->env.ctx, VCPU_TRIPLE_FAULT);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("vCPU %u: the CPU refuses to enter the guest (reason 0x%llx)", v->index,
			  run->fail_entry.hardware_entry_failure_reason);
		report_registers(v);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		report_internal_error(v);
		if (guest_caused(run->internal.suberror)) {
			set->env.end(set->env.ctx, VCPU_NOT_EMULATED);
			return false;
		}
		break;
	default:
		log_error("vCPU %u: the provider reports exit %u, which this program does not know",
			  v->index, run->exit_reason);
		report_registers(v);
		break;
	}
	set->env.end(set->env.ctx, VCPU_FAILED);
	return false;
}

/* With our own PIC, vCPU 0 takes its interrupts here, as the INTR and INTA wires would. */
static void offer_pic_interrupt(struct vcpu *v)
{
	struct vcpus *set = v->set;
	struct kvm_run *run = v->host.run;

	run->request_interrupt_window = 0;
	if (!set->env.pic_pending(set->env.ctx)) {
		return;
	}
	if (!run->ready_for_interrupt_injection) {
		run->request_interrupt_window = 1;
		return;
	}
	int vector = set->env.pic_ack(set->env.ctx);

	if (vector >= 0 && host_vcpu_interrupt(&v->host, (unsigned)vector) != 0) {
		log_error("vCPU 0: the provider lost interrupt %d of the PIC", vector);
	}
}

/* Return: false if the vCPU has to end. */
static bool run_once(struct vcpu *v)
{
	/* Cleared before the gate and the PIC are looked at: a kick from here on is not lost. */
	__atomic_store_n(&v->host.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (!pass_gate(v->set)) {
		return false;
	}
	if (v->index == 0 && v->set->pic) {
		offer_pic_interrupt(v);
	}

	int r = host_vcpu_run(&v->host);

	if (r == -EINTR || r == -EAGAIN) {
		return true;
	}
	if (r < 0) {
		log_error("vCPU %u: the provider fails with: %s", v->index, strerror(-r));
		report_registers(v);
		v->set->env.end(v->set->env.ctx, VCPU_FAILED);
		return false;
	}
	return serve_exit(v);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	while (run_once(v)) {
	}
	return NULL;
}

static int start_thread(struct vcpu *v)
{
	int r = thread_start(&v->thread, KICK_SIGNAL, vcpu_thread, v);

	if (r != 0) {
		log_error("cannot start the thread of vCPU %u: %s", v->index, strerror(-r));
	}
	return r;
}

int vcpus_create(struct vcpus *set, struct host_vm *vm, const struct vcpu_env *env, unsigned n)
{
	struct sigaction action = {.sa_handler = on_kick};
	int r;

	*set = (struct vcpus){.vm = vm, .env = *env, .pic = vm->split};
	sigaction(KICK_SIGNAL, &action, NULL);
	lock_init(&set->lock, LOCK_LEAF);
	pthread_cond_init(&set->changed, NULL);
	set->vcpu = calloc(n, sizeof(*set->vcpu));
	if (set->vcpu == NULL) {
		log_error("no memory for %u vCPUs", n);
		r = -ENOMEM;
		goto fail;
	}
	for (unsigned i = 0; i < n; i++) {
		struct vcpu *v = &set->vcpu[i];

		v->set = set;
		v->index = i;
		r = host_vcpu_create(vm, &v->host, i);
		if (r != 0) {
			goto fail;
		}
		r = start_thread(v);
		if (r != 0) {
			host_vcpu_destroy(vm, &v->host);
			goto fail;
		}
		set->n++;
	}
	return 0;
fail:
	vcpus_destroy(set);
	return r;
}

void vcpus_destroy(struct vcpus *set)
{
	vcpus_stop(set);
	for (unsigned i = 0; i < set->n; i++) {
		host_vcpu_destroy(set->vm, &set->vcpu[i].host);
	}
	free(set->vcpu);
	pthread_cond_destroy(&set->changed);
	lock_fini(&set->lock);
}

void vcpus_resume(struct vcpus *set)
{
	lock_take(&set->lock);
	set_gate(set, GATE_OPEN);
	lock_give(&set->lock);
}

/* Context: lock held. */
static void close_gate(struct vcpus *set, enum vcpu_gate gate)
{
	set_gate(set, gate);
	for (unsigned i = 0; i < set->n; i++) {
		kick(set, i);
	}
}

void vcpus_pause(struct vcpus *set)
{
	lock_take(&set->lock);
	close_gate(set, GATE_CLOSED);
	lock_give(&set->lock);
}

bool vcpus_paused(struct vcpus *set)
{
	return atomic_load_explicit(&set->gate, memory_order_relaxed) == GATE_CLOSED;
}

void vcpus_stop(struct vcpus *set)
{
	bool first;

	lock_take(&set->lock);
	first = !set->stopped;
	close_gate(set, GATE_STOP);
	set->stopped = true;
	lock_give(&set->lock);
	for (unsigned i = 0; first && i < set->n; i++) {
		pthread_join(set->vcpu[i].thread, NULL);
	}
}
