/* Is the guest's TSC a clock to measure with? */
#pragma once

#include "bench/micro/machine.h"
#include "bench/micro/result.h"

/**
 * guest_clock_check() - does a guest's TSC run as the host's does, also while it is not in the
 * guest? It may differ by an offset, which must not change. Spec: Intel SDM vol. 3C, "TSC Offset";
 * AMD APM vol. 2, "VMCB: TSC_OFFSET"
 */
enum verdict guest_clock_check(struct result *result) __attribute__((warn_unused_result));

/**
 * guest_clock_same() - have two vCPUs the same offset, as far as one can tell from outside?
 * Return: MEASURED, or SKIPPED.
 */
enum verdict guest_clock_same(struct machine *m, struct result *result)
	__attribute__((warn_unused_result));
