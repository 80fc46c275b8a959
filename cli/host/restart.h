/*
 * Whether a VM that has ended is started again, and when.
 */
#pragma once

#include "cli/config.h"

#define RESTART_FIRST_NS   UINT64_C(500000000)
#define RESTART_LONGEST_NS UINT64_C(60000000000)
#define RESTART_HEALTHY_NS                                                    \
	UINT64_C(60000000000) /* who ran that long is no failure at the start \
			       */

/** What is known of a VM's last ends; all zero at first. */
struct restart {
	unsigned quick_ends; /* one after the other */
};

/**
 * restart_wanted() - shall a VM be started again?
 * @status: how its process ended, as wait4() tells.
 * Bad options and files stay what they are, so that a VM which was refused is not tried again.
 * A guest that asks for a reboot has not shut itself down: with RESTART_ON_FAILURE it comes back.
 */
bool restart_wanted(enum restart_policy policy, int status);

/**
 * restart_delay_ns() - how long to wait first: each time twice as long, unless the VM ran well.
 * @ran_ns: how long it was there.
 */
uint64_t restart_delay_ns(struct restart *r, uint64_t ran_ns);
