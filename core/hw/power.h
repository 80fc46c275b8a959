/*
 * Turning the machine off or starting it again, as ACPI has it.
 */
#pragma once

#include "lib/base/types.h"

/** power_off() - S5. Where that does not work: says so and halts. Context: any. */
_Noreturn void power_off(void);

/** power_reset() - the FADT's reset register, port 0xcf9, the keyboard controller, a triple fault,
 * whichever works first. Context: any. */
_Noreturn void power_reset(void);

/** power_halt() - this CPU stops for good. */
_Noreturn void power_halt(void);

struct acpi_info;

/** power_init() - start-up: keeps what ACPI says. */
void power_init(const struct acpi_info *acpi);
