/*
 * The instructions of AMD-V, and the way into a guest and back.
 * Spec: AMD APM vol. 2, chapter 15 "Secure Virtual Machine"; vol. 3, "System Instruction Reference"
 */
#pragma once

#include "core/hw/asm.h"
#include "lib/base/types.h"

#define EFER_SVME BIT(12)

#ifndef CORE_HOSTED

/* Interrupts, NMIs and machine checks wait between them, whatever RFLAGS.IF is. */

static inline void svm_clgi(void)
{
	__asm__ volatile("clgi" ::: "memory");
}

static inline void svm_stgi(void)
{
	__asm__ volatile("stgi" ::: "memory");
}

/** svm_vmsave() - saves this CPU's hidden segment state and SYSCALL MSRs in the VMCB at @pa. */
static inline void svm_vmsave(hpa_t pa)
{
	__asm__ volatile("vmsave %0" ::"a"(pa.v) : "memory");
}

/**
 * svm_run() - runs the guest of @vmcb until its next #VMEXIT.
 * @gpr: its general registers, in their order of encoding; RAX and RSP are not looked at, they are
 * in the VMCB.
 * @host: where svm_vmsave() has put what VMRUN does not switch, of this CPU and this thread: FS,
 * GS, TR, LDTR, KERNEL_GS, SYSCALL and SYSENTER MSRs. Context: GIF is 0, and so on return;
 * RFLAGS.IF is 1.
 */
void svm_run(hpa_t vmcb, uint64_t gpr[16], hpa_t host);

#endif
