#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sweep/sweep.h"

#define TOLD	  4	/* starts again that are shown */
#define EXITS_MAX 40000 /* of a loop between two looks at its progress */

static void interrupted(int number)
{
	(void)number;
}

static void *watch(void *arg)
{
	struct sweep *s = arg;
	const struct timespec tick = {s->tick_ms / 1000, s->tick_ms % 1000 * 1000000L};
	uint64_t seen = UINT64_MAX;

	while (!atomic_load(&s->ended)) {
		uint64_t steps = atomic_load(&s->steps);

		if (steps == seen) {
			tgkill(getpid(), atomic_load(&s->tid), SIGUSR1);
		}
		seen = steps;
		nanosleep(&tick, NULL);
	}
	return NULL;
}

void sweep_watch(struct sweep *s)
{
	struct sigaction action = {.sa_handler = interrupted};

	must(sigaction(SIGUSR1, &action, NULL));
	atomic_store(&s->tid, gettid());
	if (pthread_create(&s->watcher, NULL, watch, s) != 0) {
		fail("no thread");
	}
}

void sweep_begin(struct sweep *s, struct vm *vm, enum vm_irqchip chip, int bits, const char *code,
		 const char *code_end, const char *handler, unsigned tick_ms)
{
	struct kvm_pit_config pit = {0};

	*s = (struct sweep){.vm = vm, .tick_ms = tick_ms};
	vm_create(vm, chip);
	if (chip == IRQCHIP_FULL) {
		must(kvm_ioctl(vm->fd, KVM_CREATE_PIT2, &pit));
	}
	s->vcpu = vm_add_vcpu(vm);
	vcpu_start(s->vcpu, bits, code, code_end);
	for (unsigned i = 0; i < 256; i++) {
		vm_gate(vm, bits, (uint8_t)i, PAYLOAD_AT(code, handler));
	}
	s->sregs = vcpu_sregs(s->vcpu);
	s->regs = vcpu_regs(s->vcpu);
	s->image = malloc(SWEEP_IMAGE);
	expect(s->image != NULL);
	memcpy(s->image, vm->ram, SWEEP_IMAGE);
}

void sweep_add(struct sweep *s, struct sweep *first, const char *code, const char *label)
{
	*s = (struct sweep){.vm = first->vm, .tick_ms = first->tick_ms};
	s->vcpu = vm_add_vcpu(first->vm);
	s->sregs = first->sregs;
	s->sregs.apic_base &= ~UINT64_C(0x100); /* not the first of them */
	s->regs = first->regs;
	s->regs.rip = PAYLOAD_AT(code, label);
	s->regs.r10 = SWEEP_STACKS - s->vcpu->id * 0x400;
	s->regs.rsp = s->regs.r10;
}

/* What KVM writes into memory by itself, at the address in an MSR: no longer. */
static void end_clocks(struct vcpu *vcpu)
{
	static const uint32_t numbers[] = {0x11,       0x12,	   0x4b564d00, 0x4b564d01,
					   0x4b564d02, 0x4b564d03, 0x4b564d04};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		vcpu_set_msr(vcpu, numbers[i], 0);
	}
}

/* What the last run left half done is completed, and does not disturb the next one. */
void sweep_reset(struct sweep *s)
{
	struct kvm_mp_state runs = {KVM_MP_STATE_RUNNABLE};
	struct kvm_vcpu_events none = {.flags = KVM_VCPUEVENT_VALID_SMM};
	int fd = s->vcpu->fd;

	s->vcpu->run->immediate_exit = 1;
	kvm_ioctl(fd, KVM_RUN, 0);
	s->vcpu->run->immediate_exit = 0;
	if (kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &none) != 0) {
		none.flags = 0;
		kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &none);
	}
	if (s->vm->irqchip != IRQCHIP_NONE) {
		must(kvm_ioctl(fd, KVM_SET_MP_STATE, &runs));
	}
	if (s->msrs) {
		end_clocks(s->vcpu);
	}
	must(kvm_ioctl(fd, KVM_SET_SREGS, &s->sregs));
	must(kvm_ioctl(fd, KVM_SET_REGS, &s->regs));
	if (s->image != NULL) {
		memcpy(s->vm->ram, s->image, SWEEP_IMAGE);
	}
}

/* Return: does it go on? */
static bool serve(struct sweep *s)
{
	struct kvm_run *run = s->vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		if (s->by_port && run->io.port == SWEEP_DONE_PORT) {
			return false;
		}
		if (run->io.direction == KVM_EXIT_IO_IN) {
			memset((uint8_t *)run + run->io.data_offset, 0xff,
			       (size_t)run->io.size * run->io.count);
		}
		return true;
	case KVM_EXIT_MMIO:
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		return !(run->mmio.is_write && run->mmio.phys_addr == SWEEP_DONE);
	case KVM_EXIT_IOAPIC_EOI:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_HLT:
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_INTERNAL_ERROR:
	case KVM_EXIT_FAIL_ENTRY:
	case KVM_EXIT_SYSTEM_EVENT:
	case KVM_EXIT_DEBUG:
		return false;
	default:
		fail("%s (%u)", vm_exit_name(run->exit_reason), run->exit_reason);
	}
}

enum sweep_end sweep_run(struct sweep *s, unsigned exits_max)
{
	struct kvm_run *run = s->vcpu->run;

	for (unsigned i = 0; i < exits_max; i++) {
		int result = kvm_ioctl(s->vcpu->fd, KVM_RUN, 0);

		atomic_fetch_add(&s->steps, 1);
		if (result == -EINTR || result == -EAGAIN) {
			s->fetched++;
			return SWEEP_FETCHED;
		}
		if (result < 0) {
			s->refused++;
			return SWEEP_ENDED;
		}
		s->exits[run->exit_reason & 63]++;
		if (!serve(s)) {
			return SWEEP_ENDED;
		}
	}
	return SWEEP_BUSY;
}

static bool is_done(const struct sweep *s)
{
	const struct kvm_run *run = s->vcpu->run;

	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
	       run->mmio.phys_addr == SWEEP_DONE;
}

void sweep_loop(struct sweep *s, uint64_t first, uint64_t end, uint64_t step)
{
	volatile uint64_t *progress = (volatile uint64_t *)(s->vm->ram + SWEEP_PROGRESS);
	uint64_t at = first, seen = UINT64_MAX;
	bool fresh = true;

	while (at < end) {
		if (fresh) {
			s->regs.r12 = at;
			s->regs.r13 = end;
			s->regs.r14 = step;
			sweep_reset(s);
			*progress = at;
		}
		enum sweep_end how = sweep_run(s, EXITS_MAX);

		if (how == SWEEP_ENDED && is_done(s)) {
			s->cases += (end - at + step - 1) / step;
			return;
		}
		fresh = false;
		if (how == SWEEP_ENDED || *progress == seen) {
			uint64_t next = *progress;

			if (s->restarts < TOLD) {
				printf("  at 0x%" PRIx64 ": %s, rip 0x%llx\n", next,
				       how == SWEEP_ENDED ? vm_exit_name(s->vcpu->run->exit_reason)
							  : "fetched",
				       vcpu_regs(s->vcpu).rip);
			}
			/* Behind what ended it, whatever became of the number itself. */
			next = next < at || next >= end ? at + step : next + step;
			s->cases += (next - at + step - 1) / step;
			s->restarts++;
			at = next;
			fresh = true;
		}
		seen = fresh ? UINT64_MAX : *progress;
	}
}

void sweep_done(struct sweep *s, const char *name, uint64_t least)
{
	atomic_store(&s->ended, true);
	pthread_join(s->watcher, NULL);
	printf("%s: %" PRIu64 " cases, %" PRIu64 " fetched, %" PRIu64 " restarts, %" PRIu64
	       " refused;",
	       name, s->cases, s->fetched, s->restarts, s->refused);
	for (uint32_t i = 0; i < 64; i++) {
		if (s->exits[i] != 0) {
			printf(" %s %" PRIu64, vm_exit_name(i), s->exits[i]);
		}
	}
	printf("\n");
	fflush(stdout);
	if (s->cases < least + s->restarts || s->fetched * 8 > s->cases + 8 ||
	    s->refused * 8 > s->cases + 8) {
		fail("%s did not do what it is for", name);
	}
	free(s->image);
	vm_destroy(s->vm);
}
