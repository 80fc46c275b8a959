/*
 * What the kernel needs of this machine's registers beyond lib/x86/regs.h.
 * Spec: AMD APM vol. 2, 3.1 "System Registers", appendix A "MSR Cross-Reference"; Intel SDM vol. 4
 */
#pragma once

#include "lib/base/types.h"
#include "lib/x86/msr.h"
#include "lib/x86/regs.h"

#define APIC_BASE_ENABLE BIT(11)
#define APIC_BASE_X2APIC BIT(10)
#define APIC_BASE_BSP	 BIT(8)
#define VM_CR_SVMDIS	 BIT(4)
#define VM_CR_LOCK	 BIT(3)

#define RFLAGS_DF BIT(10)
#define RFLAGS_NT BIT(14)

#define PTE_ADDR UINT64_C(0x000ffffffffff000)
