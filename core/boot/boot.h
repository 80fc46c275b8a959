/*
 * What the kernel was started with.
 */
#pragma once

#include "lib/base/types.h"

#define BOOT_CMDLINE_BYTES 1024
#define BOOT_INIT_BYTES	   256

/* The command line: words `key=value`. Unknown keys are told and passed over. */
struct boot_options {
	char init[BOOT_INIT_BYTES]; /* init=: the first program; "/init" */
	unsigned loglevel;	    /* loglevel=: 0 to 8 */
	unsigned cpus;		    /* cpus=: how many to use; CPU_MAX: all */
	uint64_t isolated_cpus;	    /* isolcpus=: a bit for each; programs ask to run there */
	uint64_t memory_bytes;	    /* memory=: how much RAM to use; UINT64_MAX: all */
	uint16_t console_port;	    /* console=ttyS0 to ttyS3 or a port: the UART; 0: none */
	unsigned console_baud;	    /* console=ttyS0,115200; 0: left as it is */
	unsigned argument_count;    /* --: words behind it, for the first program */
	char arguments[BOOT_CMDLINE_BYTES]; /* those words, each with its zero */
};

/** boot_options() - constant after start-up. */
const struct boot_options *boot_options(void);

/**
 * boot_initramfs() - the module's archive, unpacked if it was compressed; an intact cpio archive as
 * far as cpio_next() goes. It stays where it is for ever, and counts as PAGE_USE_BOOT.
 * @len: its bytes; 0 without a module.
 */
const void *boot_initramfs(size_t *len);
