/* The areas of the suite: tables of cases that end with TEST_END. */
#pragma once

#include "tests/kvm/test.h"

extern const struct test_case api_cases[];
extern const struct test_case backing_cases[];
extern const struct test_case clock_cases[];
extern const struct test_case coalesced_cases[];
extern const struct test_case cpu_cases[];
extern const struct test_case cpuid_cases[];
extern const struct test_case debug_cases[];
extern const struct test_case dirty_cases[];
extern const struct test_case dirty_ring_cases[];
extern const struct test_case entry_cases[];
extern const struct test_case events_cases[];
extern const struct test_case fpu_cases[];
extern const struct test_case inject_cases[];
extern const struct test_case ioeventfd_cases[];
extern const struct test_case irqchip_cases[];
extern const struct test_case irqfd_cases[];
extern const struct test_case lines_cases[];
extern const struct test_case mmio_cases[];
extern const struct test_case mmio_again_cases[];
extern const struct test_case mmio_edge_cases[];
extern const struct test_case mmio_rmw_cases[];
extern const struct test_case moved_cases[];
extern const struct test_case mp_cases[];
extern const struct test_case msr_cases[];
extern const struct test_case pio_cases[];
extern const struct test_case pio_string_cases[];
extern const struct test_case routing_cases[];
extern const struct test_case running_cases[];
extern const struct test_case slots_cases[];
extern const struct test_case split_cases[];
extern const struct test_case state_cases[];
extern const struct test_case steal_cases[];
extern const struct test_case translate_cases[];
extern const struct test_case user_exits_cases[];
