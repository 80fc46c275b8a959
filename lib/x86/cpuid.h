/*
 * CPUID: functions (leaves), and the bits of them that the parts of Yado talk about.
 * Spec: Intel SDM vol. 2A, "CPUID"; AMD APM vol. 3, appendix E; Linux
 * Documentation/virt/kvm/x86/cpuid.rst
 */
#pragma once

#include "lib/base/types.h"

enum cpuid_reg {
	CPUID_EAX,
	CPUID_EBX,
	CPUID_ECX,
	CPUID_EDX,
};

#define CPUID_VENDOR	      0x0
#define CPUID_FEATURES	      0x1
#define CPUID_CACHES	      0x4 /* Intel */
#define CPUID_POWER	      0x6
#define CPUID_FEATURES7	      0x7
#define CPUID_TOPOLOGY	      0xb
#define CPUID_XSAVE	      0xd
#define CPUID_TOPOLOGY_V2     0x1f
#define CPUID_KVM_SIGNATURE   0x40000000
#define CPUID_KVM_FEATURES    0x40000001
#define CPUID_EXT_MAX	      0x80000000
#define CPUID_EXT_FEATURES    0x80000001
#define CPUID_EXT_BRAND	      0x80000002 /* and the next two */
#define CPUID_EXT_L1	      0x80000005
#define CPUID_EXT_L2	      0x80000006
#define CPUID_EXT_POWER	      0x80000007
#define CPUID_EXT_SIZES	      0x80000008
#define CPUID_EXT_CACHES      0x8000001d /* AMD */
#define CPUID_EXT_TOPOLOGY    0x8000001e /* AMD */
#define CPUID_EXT_TOPOLOGY_V2 0x80000026 /* AMD */

/* CPUID_FEATURES */
#define CPUID_1_ECX_X2APIC	 BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_HYPERVISOR	 BIT(31)
#define CPUID_1_EDX_HTT		 BIT(28)

/* CPUID_POWER */
#define CPUID_6_EAX_ARAT BIT(2)

/* CPUID_TOPOLOGY, ECX[15:8] */
#define CPUID_LEVEL_SMT	 1
#define CPUID_LEVEL_CORE 2

/* CPUID_EXT_FEATURES */
#define CPUID_EXT_ECX_CMP_LEGACY BIT(1)
#define CPUID_EXT_ECX_TOPOEXT	 BIT(22)

/** cpuid_bits_for() - how many bits number @n things (1 to 2^31) from 0 on. */
static inline unsigned cpuid_bits_for(unsigned n)
{
	return n <= 1 ? 0 : 32 - (unsigned)__builtin_clz(n - 1);
}
