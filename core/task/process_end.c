#include "core/task/process_end.h"

#include "core/hw/console.h"
#include "core/hw/power.h"
#include "core/log.h"

void process_init_ended(int status)
{
	if ((status & 0x7f) != 0) {
		log_err("init was ended by signal %d", status & 0x7f);
	} else {
		log_info("init has ended with status %d", (status >> 8) & 0xff);
	}
	console_drain();
	power_off();
}
