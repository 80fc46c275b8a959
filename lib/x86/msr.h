/*
 * Numbers of MSRs. Spec: Intel SDM vol. 4; AMD APM vol. 2, appendix A
 */
#pragma once

#define MSR_IA32_TSC		   0x10
#define MSR_IA32_PLATFORM_ID	   0x17
#define MSR_IA32_APIC_BASE	   0x1b
#define MSR_EBL_CR_POWERON	   0x2a
#define MSR_EBC_FREQUENCY_ID	   0x2c
#define MSR_IA32_TSC_ADJUST	   0x3b
#define MSR_IA32_SPEC_CTRL	   0x48
#define MSR_IA32_PRED_CMD	   0x49
#define MSR_IA32_BIOS_UPDT_TRIG	   0x79
#define MSR_IA32_BIOS_SIGN_ID	   0x8b
#define MSR_PERFCTR0		   0xc1
#define MSR_FSB_FREQ		   0xcd
#define MSR_PLATFORM_INFO	   0xce
#define MSR_MTRR_CAP		   0xfe
#define MSR_IA32_ARCH_CAPABILITIES 0x10a
#define MSR_BBL_CR_CTL3		   0x11e
#define MSR_MISC_FEATURES_ENABLES  0x140
#define MSR_IA32_SYSENTER_CS	   0x174
#define MSR_IA32_SYSENTER_ESP	   0x175
#define MSR_IA32_SYSENTER_EIP	   0x176
#define MSR_IA32_MCG_CAP	   0x179
#define MSR_IA32_MCG_STATUS	   0x17a
#define MSR_IA32_MCG_CTL	   0x17b
#define MSR_PERFEVTSEL0		   0x186
#define MSR_IA32_PERF_STATUS	   0x198
#define MSR_IA32_MISC_ENABLE	   0x1a0
#define MSR_DEBUGCTL		   0x1d9
#define MSR_LAST_BRANCH_FROM	   0x1db /* and the next three */
#define MSR_POWER_CTL		   0x1fc
#define MSR_MTRR_PHYS_BASE0	   0x200 /* to 0x20f */
#define MSR_MTRR_FIX64K		   0x250
#define MSR_MTRR_FIX16K		   0x258 /* two */
#define MSR_MTRR_FIX4K		   0x268 /* eight */
#define MSR_PAT			   0x277
#define MSR_MTRR_DEF_TYPE	   0x2ff
#define MSR_PERF_CAPABILITIES	   0x345
#define MSR_MC0_CTL		   0x400 /* four for each bank */
#define MSR_IA32_TSC_DEADLINE	   0x6e0
#define MSR_X2APIC		   0x800 /* to 0x8ff */
#define MSR_IA32_XSS		   0xda0

#define MSR_EFER	   0xc0000080
#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_CSTAR	   0xc0000083
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX	   0xc0000103
#define MSR_TSC_RATIO	   0xc0000104
#define MSR_K7_EVNTSEL0	   0xc0010000 /* four, then four counters */
#define MSR_SYSCFG	   0xc0010010
#define MSR_HWCR	   0xc0010015
#define MSR_K7_CLK_CTL	   0xc001001b
#define MSR_NB_CFG	   0xc001001f
#define MSR_PATCH_LOADER   0xc0010020
#define MSR_INT_PENDING	   0xc0010055
#define MSR_MMIO_CONF_BASE 0xc0010058
#define MSR_PSTATE_CTL	   0xc0010062
#define MSR_SMM_ADDR	   0xc0010112 /* and SMMMask */
#define MSR_VM_CR	   0xc0010114
#define MSR_IGNNE	   0xc0010115
#define MSR_VM_HSAVE_PA	   0xc0010117
#define MSR_DC_CFG	   0xc0011022
#define MSR_DE_CFG	   0xc0011029
#define MSR_BU_CFG2	   0xc001102a
#define MSR_EX_CFG	   0xc001102c
