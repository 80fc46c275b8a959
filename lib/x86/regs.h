/*
 * Bits of control registers, EFER, descriptors and page-table entries.
 * Spec: Intel SDM vol. 3A, 2.5 "Control Registers", 3.4.5 "Segment Descriptors", 4.5 "4-Level
 * Paging"; AMD APM vol. 2, 3.1.7 "Extended Feature Enable Register"
 */
#pragma once

#include "lib/base/types.h"

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_PG BIT(31)

#define CR4_PAE BIT(5)

#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)

#define RFLAGS_FIXED BIT(1) /* always reads as 1 */

#define PTE_P  BIT(0)
#define PTE_RW BIT(1)
#define PTE_PS BIT(7)

/* Type field of code, data and system descriptors. */
#define SEG_DATA_RW_ACCESSED 0x3
#define SEG_CODE_RX_ACCESSED 0xb
#define SEG_TSS_BUSY	     0xb
