/*
 * Bits of control registers, EFER, RFLAGS, debug registers, descriptors and page-table entries.
 * Spec: Intel SDM vol. 3A, 2.5 "Control Registers", 3.4.5 "Segment Descriptors", 4.5 "4-Level
 * Paging"; AMD APM vol. 2, 3.1 "System-Control Registers", 13.1 "Software-Debug Resources"
 */
#pragma once

#include "lib/base/types.h"

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR3_PCID     UINT64_C(0xfff)
#define CR3_NO_FLUSH BIT(63)

#define CR4_VME	       BIT(0)
#define CR4_PVI	       BIT(1)
#define CR4_TSD	       BIT(2)
#define CR4_DE	       BIT(3)
#define CR4_PSE	       BIT(4)
#define CR4_PAE	       BIT(5)
#define CR4_MCE	       BIT(6)
#define CR4_PGE	       BIT(7)
#define CR4_PCE	       BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define CR4_PKE	       BIT(22)

#define XCR0_PKRU BIT(9)

#define EFER_SCE   BIT(0)
#define EFER_LME   BIT(8)
#define EFER_LMA   BIT(10)
#define EFER_NXE   BIT(11)
#define EFER_FFXSR BIT(14)

#define RFLAGS_CF    BIT(0)
#define RFLAGS_FIXED BIT(1) /* always reads as 1 */
#define RFLAGS_PF    BIT(2)
#define RFLAGS_AF    BIT(4)
#define RFLAGS_ZF    BIT(6)
#define RFLAGS_SF    BIT(7)
#define RFLAGS_TF    BIT(8)
#define RFLAGS_IF    BIT(9)
#define RFLAGS_OF    BIT(11)
#define RFLAGS_RF    BIT(16)
#define RFLAGS_VM    BIT(17)
#define RFLAGS_AC    BIT(18)

#define DR6_BS	     BIT(14)
#define DR6_BUS_LOCK BIT(11) /* 0: it was one */
#define DR6_RTM	     BIT(16) /* likewise */
#define DR6_FIXED    UINT64_C(0xfffe07f0)
#define DR7_FIXED    UINT64_C(0x400)
#define DR7_GD	     BIT(13)
#define DR7_WRITABLE UINT64_C(0xffff2bff)

#define PTE_P	BIT(0)
#define PTE_RW	BIT(1)
#define PTE_US	BIT(2)
#define PTE_PWT BIT(3)
#define PTE_PCD BIT(4)
#define PTE_A	BIT(5)
#define PTE_D	BIT(6)
#define PTE_PS	BIT(7)
#define PTE_G	BIT(8)
#define PTE_NX	BIT(63)

/* Error code of a page fault. */
#define PFERR_P	   BIT(0)
#define PFERR_W	   BIT(1)
#define PFERR_U	   BIT(2)
#define PFERR_RSVD BIT(3)
#define PFERR_I	   BIT(4)
#define PFERR_PK   BIT(5)

/* Type field of code, data and system descriptors. */
#define SEG_DATA_RW_ACCESSED 0x3
#define SEG_CODE_RX_ACCESSED 0xb
#define SEG_TSS_BUSY	     0xb
