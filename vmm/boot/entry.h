/*
 * The state in which a guest's first vCPU starts, without any firmware before it.
 */
#pragma once

#include <linux/kvm.h>

#include "lib/base/types.h"
#include "vmm/memory.h"

enum boot_mode {
	BOOT_LONG,	/* 64-bit, paged one to one: Linux's 64-bit entry */
	BOOT_PROTECTED, /* 32-bit, not paged: PVH */
};

struct boot_entry {
	enum boot_mode mode;
	gpa_t rip;
	gpa_t params; /* long: zero page, in RSI; protected: start info, in EBX */
};

/**
 * boot_entry_tables() - writes the descriptor table and, for BOOT_LONG, page tables that map the
 * first 4 GiB one to one by 2 MiB pages. Return: 0, or -EFAULT if RAM is too small for them.
 */
must_use int boot_entry_tables(const struct boot_entry *entry, struct guest_memory *mem);

/**
 * boot_entry_apply() - the first vCPU's registers at its start.
 * @regs: overwritten. @sregs: those of the vCPU after its creation; changed where it matters.
 * Spec: Linux Documentation/x86/boot.rst, "64-bit Boot Protocol"; Xen docs/misc/pvh.pandoc,
 * "x86/HVM direct boot ABI"
 */
void boot_entry_apply(const struct boot_entry *entry, struct kvm_regs *regs,
		      struct kvm_sregs *sregs);
