/*
 * Where kernel, initrd and command line go in guest memory, decided before anything is loaded.
 */
#pragma once

#include "lib/base/types.h"
#include "vmm/config.h"

/** What a kernel asks of whoever loads it. */
struct boot_needs {
	uint64_t end;	       /* first free byte after the kernel and what it needs to start */
	uint64_t initrd_limit; /* the initrd must end at or below it */
	uint64_t cmdline_max;  /* bytes, without the terminating zero */
};

struct boot_place {
	gpa_t initrd;
	uint64_t initrd_size; /* 0: none */
	const char *cmdline;
	uint64_t cmdline_len;
	gpa_t rsdp; /* ACPI root pointer */
};

/**
 * boot_place() - places initrd and command line, or says why the VM's memory cannot hold them.
 * @initrd_size: bytes, 0 without one.
 * Return: 0, -ENOMEM, or -E2BIG for the command line; logged.
 */
must_use int boot_place(const struct vm_config *config, const struct boot_needs *needs,
			uint64_t initrd_size, struct boot_place *out);
