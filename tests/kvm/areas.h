/* The areas of the suite: tables of cases that end with TEST_END. */
#pragma once

#include "tests/kvm/test.h"

extern const struct test_case api_cases[];
extern const struct test_case cpu_cases[];
