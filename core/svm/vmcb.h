/*
 * The virtual machine control block: what the hardware is told of a guest, and tells.
 * Spec: AMD APM vol. 2, appendix B "VMCB Layout", appendix C "SVM Intercept Exit Codes"
 */
#pragma once

#include "lib/base/types.h"

struct vmcb_segment {
	uint16_t selector;
	uint16_t attr; /* the descriptor's bits 40 to 47, 52 to 55 */
	uint32_t limit;
	uint64_t base;
};

struct vmcb_control {
	uint16_t intercept_cr_read, intercept_cr_write;
	uint16_t intercept_dr_read, intercept_dr_write;
	uint32_t intercept_exceptions;
	uint32_t intercept1, intercept2, intercept3;
	uint8_t reserved_18[0x3c - 0x18];
	uint16_t pause_filter_threshold, pause_filter_count;
	uint64_t iopm_base_pa, msrpm_base_pa;
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control;
	uint8_t reserved_5d[3];
	uint32_t virtual_interrupt; /* VMCB_V_* */
	uint32_t reserved_64;
	uint64_t interrupt_shadow;
	uint64_t exitcode, exitinfo1, exitinfo2, exitintinfo;
	uint64_t nested_paging; /* bit 0 */
	uint8_t reserved_98[0xa8 - 0x98];
	uint64_t eventinj;
	uint64_t n_cr3;
	uint64_t lbr_virtualization;
	uint32_t clean;
	uint32_t reserved_c4;
	uint64_t nrip;
	uint8_t fetched; /* bytes at RIP, by a fault: with decode assists, 0 if there are none */
	uint8_t bytes[15];
	uint8_t reserved_e0[0x400 - 0xe0];
};

struct vmcb_save {
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved_a0[0xcb - 0xa0];
	uint8_t cpl;
	uint32_t reserved_cc;
	uint64_t efer;
	uint8_t reserved_d8[0x148 - 0xd8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved_180[0x1d8 - 0x180];
	uint64_t rsp;
	uint8_t reserved_1e0[0x1f8 - 0x1e0];
	uint64_t rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t cr2;
	uint8_t reserved_248[0x268 - 0x248];
	uint64_t g_pat;
	uint64_t dbgctl, br_from, br_to, last_excp_from, last_excp_to;
	uint8_t reserved_298[0xc00 - 0x298];
};

struct vmcb {
	struct vmcb_control c;
	struct vmcb_save s;
};

_Static_assert(offsetof(struct vmcb, c.pause_filter_threshold) == 0x3c, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.asid) == 0x58, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.virtual_interrupt) == 0x60, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.interrupt_shadow) == 0x68, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.exitcode) == 0x70, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.nested_paging) == 0x90, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.eventinj) == 0xa8, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.clean) == 0xc0, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.nrip) == 0xc8, "APM table B-1");
_Static_assert(offsetof(struct vmcb, c.bytes) == 0xd1, "APM table B-1");
_Static_assert(offsetof(struct vmcb, s) == 0x400, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, tr) == 0x90, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, efer) == 0xd0, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, cr4) == 0x148, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, rip) == 0x178, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, rsp) == 0x1d8, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, rax) == 0x1f8, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, cr2) == 0x240, "APM table B-2");
_Static_assert(offsetof(struct vmcb_save, g_pat) == 0x268, "APM table B-2");
_Static_assert(sizeof(struct vmcb) == 0x1000, "one page");

/* intercept1 */
#define VMCB_INTR     BIT(0)
#define VMCB_NMI      BIT(1)
#define VMCB_INIT     BIT(3)
#define VMCB_VINTR    BIT(4)
#define VMCB_CR0_SEL  BIT(5) /* writes of CR0 that change more than TS and MP */
#define VMCB_RDPMC    BIT(15)
#define VMCB_CPUID    BIT(18)
#define VMCB_RSM      BIT(19)
#define VMCB_IRET     BIT(20)
#define VMCB_INVD     BIT(22)
#define VMCB_PAUSE    BIT(23)
#define VMCB_HLT      BIT(24)
#define VMCB_INVLPGA  BIT(26)
#define VMCB_IOIO     BIT(27)
#define VMCB_MSR      BIT(28)
#define VMCB_SHUTDOWN BIT(31)

/* intercept2 */
#define VMCB_VMRUN   BIT(0)
#define VMCB_VMMCALL BIT(1)
#define VMCB_VMLOAD  BIT(2)
#define VMCB_VMSAVE  BIT(3)
#define VMCB_STGI    BIT(4)
#define VMCB_CLGI    BIT(5)
#define VMCB_SKINIT  BIT(6)
#define VMCB_RDTSCP  BIT(7)
#define VMCB_WBINVD  BIT(9)
#define VMCB_MONITOR BIT(10)
#define VMCB_MWAIT   BIT(11)
#define VMCB_XSETBV  BIT(13)
#define VMCB_RDPRU   BIT(14)

/* intercept3 */
#define VMCB_INVLPGB BIT(0)
#define VMCB_INVPCID BIT(2)
#define VMCB_MCOMMIT BIT(3)
#define VMCB_TLBSYNC BIT(4)

/* tlb_control */
#define VMCB_TLB_KEEP	     0
#define VMCB_TLB_FLUSH_ALL   1
#define VMCB_TLB_FLUSH_GUEST 3

/* virtual_interrupt */
#define VMCB_V_TPR	    UINT32_C(0xff)
#define VMCB_V_IRQ	    UINT32_C(0x100)
#define VMCB_V_PRIO_HIGHEST UINT32_C(0xf0000)
#define VMCB_V_IGN_TPR	    UINT32_C(0x100000)
#define VMCB_V_INTR_MASKING UINT32_C(0x1000000)

/* eventinj, exitintinfo */
#define VMCB_EVENT_TYPE	     UINT64_C(0x700)
#define VMCB_EVENT_INTERRUPT UINT64_C(0x000)
#define VMCB_EVENT_NMI	     UINT64_C(0x200)
#define VMCB_EVENT_EXCEPTION UINT64_C(0x300)
#define VMCB_EVENT_SOFT	     UINT64_C(0x400)
#define VMCB_EVENT_HAS_ERROR BIT(11)
#define VMCB_EVENT_VALID     BIT(31)

/* clean: parts of the VMCB that are as at the last VMRUN, so that a CPU may use its copies. */
#define VMCB_CLEAN_INTERCEPTS BIT(0) /* intercepts, TSC offset, pause filter */
#define VMCB_CLEAN_MAPS	      BIT(1)
#define VMCB_CLEAN_ASID	      BIT(2)
#define VMCB_CLEAN_INTERRUPT  BIT(3)
#define VMCB_CLEAN_NESTED     BIT(4) /* N_CR3, g_pat */
#define VMCB_CLEAN_CONTROL    BIT(5) /* CR0, CR3, CR4, EFER */
#define VMCB_CLEAN_DEBUG      BIT(6)
#define VMCB_CLEAN_TABLES     BIT(7) /* GDTR, IDTR */
#define VMCB_CLEAN_SEGMENTS   BIT(8) /* CS, DS, SS, ES, CPL */
#define VMCB_CLEAN_CR2	      BIT(9)
#define VMCB_CLEAN_LBR	      BIT(10)
#define VMCB_CLEAN_ALL	      UINT32_C(0x7ff)

/* exitcode */
#define VMEXIT_CR_READ	 UINT64_C(0x00)
#define VMEXIT_CR_WRITE	 UINT64_C(0x10)
#define VMEXIT_DR_READ	 UINT64_C(0x20)
#define VMEXIT_DR_WRITE	 UINT64_C(0x30)
#define VMEXIT_EXCEPTION UINT64_C(0x40)
#define VMEXIT_INTR	 UINT64_C(0x60)
#define VMEXIT_NMI	 UINT64_C(0x61)
#define VMEXIT_SMI	 UINT64_C(0x62)
#define VMEXIT_INIT	 UINT64_C(0x63)
#define VMEXIT_VINTR	 UINT64_C(0x64)
#define VMEXIT_CR0_SEL	 UINT64_C(0x65)
#define VMEXIT_RDPMC	 UINT64_C(0x6f)
#define VMEXIT_CPUID	 UINT64_C(0x72)
#define VMEXIT_RSM	 UINT64_C(0x73)
#define VMEXIT_IRET	 UINT64_C(0x74)
#define VMEXIT_INVD	 UINT64_C(0x76)
#define VMEXIT_PAUSE	 UINT64_C(0x77)
#define VMEXIT_HLT	 UINT64_C(0x78)
#define VMEXIT_INVLPGA	 UINT64_C(0x7a)
#define VMEXIT_IOIO	 UINT64_C(0x7b)
#define VMEXIT_MSR	 UINT64_C(0x7c)
#define VMEXIT_TASK	 UINT64_C(0x7d)
#define VMEXIT_SHUTDOWN	 UINT64_C(0x7f)
#define VMEXIT_VMRUN	 UINT64_C(0x80)
#define VMEXIT_VMMCALL	 UINT64_C(0x81)
#define VMEXIT_VMLOAD	 UINT64_C(0x82)
#define VMEXIT_VMSAVE	 UINT64_C(0x83)
#define VMEXIT_STGI	 UINT64_C(0x84)
#define VMEXIT_CLGI	 UINT64_C(0x85)
#define VMEXIT_SKINIT	 UINT64_C(0x86)
#define VMEXIT_RDTSCP	 UINT64_C(0x87)
#define VMEXIT_WBINVD	 UINT64_C(0x89)
#define VMEXIT_MONITOR	 UINT64_C(0x8a)
#define VMEXIT_MWAIT	 UINT64_C(0x8b)
#define VMEXIT_XSETBV	 UINT64_C(0x8d)
#define VMEXIT_RDPRU	 UINT64_C(0x8e)
#define VMEXIT_INVLPGB	 UINT64_C(0xa0)
#define VMEXIT_INVPCID	 UINT64_C(0xa2)
#define VMEXIT_MCOMMIT	 UINT64_C(0xa3)
#define VMEXIT_TLBSYNC	 UINT64_C(0xa4)
#define VMEXIT_NPF	 UINT64_C(0x400)
#define VMEXIT_INVALID	 UINT64_MAX

/* exitinfo1 of VMEXIT_IOIO */
#define VMCB_IO_IN	   BIT(0)
#define VMCB_IO_STRING	   BIT(2)
#define VMCB_IO_SIZE(info) ((unsigned)((info) >> 4 & 7)) /* bytes: the bits are one-hot */
#define VMCB_IO_PORT(info) ((uint16_t)((info) >> 16))

/* exitinfo1 of VMEXIT_CR_READ, VMEXIT_CR_WRITE and VMEXIT_CR0_SEL, with decode assists */
#define VMCB_CR_MOV	  BIT(63) /* not CLTS, LMSW or SMSW */
#define VMCB_CR_GPR(info) ((uint8_t)((info)&0xf))

/* exitinfo1 of VMEXIT_NPF, beyond a page fault's error code */
#define VMCB_NPF_WRITE BIT(1)
#define VMCB_NPF_FETCH BIT(4)
#define VMCB_NPF_WALK  BIT(33) /* by the walk of the guest's tables */
