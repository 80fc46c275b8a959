/* The areas of the suite: tables of cases that end with TEST_END. */
#pragma once

#include "tests/kvm/test.h"

extern const struct test_case api_cases[];
extern const struct test_case pio_cases[];
extern const struct test_case pio_string_cases[];
extern const struct test_case mmio_cases[];
extern const struct test_case mmio_rmw_cases[];
extern const struct test_case mmio_edge_cases[];
extern const struct test_case coalesced_cases[];
extern const struct test_case ioeventfd_cases[];
extern const struct test_case inject_cases[];
extern const struct test_case events_cases[];
extern const struct test_case debug_cases[];
extern const struct test_case translate_cases[];
extern const struct test_case user_exits_cases[];
