/* The areas of the suite: tables of cases that end with TEST_END. */
#pragma once

#include "tests/kvm/test.h"

extern const struct test_case api_cases[];
extern const struct test_case irqchip_cases[];
extern const struct test_case irqfd_cases[];
extern const struct test_case lines_cases[];
extern const struct test_case mp_cases[];
extern const struct test_case routing_cases[];
extern const struct test_case split_cases[];
