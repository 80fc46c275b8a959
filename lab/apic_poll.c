/*
 * A library that is loaded into QEMU: has every CPU look into its local APIC's IRR every 100 ms.
 *
 * QEMU's TCG loses interrupts: #VMEXIT clears the request of a virtual interrupt, and VMRUN sets
 * it, in the word where other threads ask for the CPU's attention, without the lock that these hold
 * (do_vmexit() and helper_vmrun() in target/i386/tcg/sysemu/svm_helper.c of 7.2). What was asked
 * for in the same nanoseconds waits in the IRR until the next interrupt, and a CPU that has lost
 * its timer's gets none any more: the machine stands still. This repairs it, as long as nobody
 * counts on 100 ms.
 *
 * The functions are QEMU's, which exports them to its modules, and its timers ask in the same way.
 * To leave work to a CPU's thread (async_run_on_cpu()) would be worse: VMRUN with an event to
 * inject leaves that event's vector behind, and a CPU that is only told to come out delivers it
 * once more.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#define PERIOD_NS	   100000000
#define CPU_INTERRUPT_POLL 0x10 /* of include/exec/cpu-all.h and target/i386/cpu.h */

struct CPUState;

#define OF_QEMU __attribute__((weak)) extern

OF_QEMU struct CPUState *qemu_get_cpu(int index);
OF_QEMU void cpu_interrupt(struct CPUState *cpu, int mask);
OF_QEMU void qemu_mutex_lock_iothread_impl(const char *file, int line);
OF_QEMU void qemu_mutex_unlock_iothread(void);

static void *poll_all(void *argument)
{
	for (;;) {
		struct CPUState *cpu;

		nanosleep(&(struct timespec){.tv_nsec = PERIOD_NS}, NULL);
		if (qemu_get_cpu(0) == NULL) {
			continue; /* the lock is perhaps not there yet either */
		}
		/* Who makes the machine holds it: then there are all CPUs, and their threads. */
		qemu_mutex_lock_iothread_impl(__FILE__, __LINE__);
		for (int i = 0; (cpu = qemu_get_cpu(i)) != NULL; i++) {
			cpu_interrupt(cpu, CPU_INTERRUPT_POLL);
		}
		qemu_mutex_unlock_iothread();
	}
	return argument;
}

__attribute__((constructor)) static void start(void)
{
	pthread_t thread;

	if (!qemu_get_cpu || !cpu_interrupt || !qemu_mutex_lock_iothread_impl ||
	    !qemu_mutex_unlock_iothread || pthread_create(&thread, NULL, poll_all, NULL) != 0) {
		fputs("lab: not the QEMU that is expected; interrupts that it loses stay lost\n",
		      stderr);
	}
}
