#include "core/task/process_end.h"

#include <errno.h>
#include <linux/reboot.h>

#include "core/hw/console.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/power.h"
#include "core/log.h"
#include "core/sys/syscall.h"
#include "core/task/process.h"

void process_init_ended(int status)
{
	if ((status & 0x7f) != 0) {
		log_err("init was ended by signal %d", status & 0x7f);
	} else {
		log_info("init has ended with status %d", (status >> 8) & 0xff);
	}
	power_off();
}

static _Noreturn void halt(void)
{
	log_info("the machine is halted");
	console_drain();
	irq_off();
	ipi_stop_others();
	power_halt();
}

/* Who is trusted with the machine: number 1, and what it has started itself. */
static bool may_reboot(void)
{
	const struct process *p = process_current();

	spin_take(&task_lock);
	bool may = p->pid == PROCESS_INIT || (p->parent != NULL && p->parent->pid == PROCESS_INIT);
	spin_give(&task_lock);
	return may;
}

SYSCALL(reboot)
{
	uint32_t magic = (uint32_t)a[1];

	if (!may_reboot()) {
		return -EPERM;
	}
	if ((uint32_t)a[0] != LINUX_REBOOT_MAGIC1 ||
	    (magic != LINUX_REBOOT_MAGIC2 && magic != LINUX_REBOOT_MAGIC2A &&
	     magic != LINUX_REBOOT_MAGIC2B && magic != LINUX_REBOOT_MAGIC2C)) {
		return -EINVAL;
	}
	switch ((uint32_t)a[2]) {
	case LINUX_REBOOT_CMD_CAD_ON:
	case LINUX_REBOOT_CMD_CAD_OFF:
		return 0; /* no keyboard is looked at */
	case LINUX_REBOOT_CMD_POWER_OFF:
		log_info("power off");
		power_off();
	case LINUX_REBOOT_CMD_RESTART:
		log_info("restart");
		power_reset();
	case LINUX_REBOOT_CMD_HALT:
		halt();
	default:
		return -EINVAL;
	}
}
