/*
 * What a VM is made of, as the command line and the JSON file say it. Strings are owned by whoever
 * filled it in, and live as long as the VM.
 */
#pragma once

#include "lib/base/types.h"

#define CONFIG_DISKS_MAX 16
#define CONFIG_NETS_MAX	 8
#define CONFIG_CPUS_MAX	 64

enum cpu_model {
	CPU_HOST,      /* what the provider offers */
	CPU_X86_64_V2, /* the same CPUID on every provider */
	CPU_X86_64_V3,
};

enum accel {
	ACCEL_AUTO,
	ACCEL_KVM,
	ACCEL_SOFT,
};

/** How ACCEL_SOFT executes guest code. */
enum soft_kind {
	SOFT_AUTO, /* the fastest that the host's CPU can have */
	SOFT_INTERPRET,
	SOFT_TRANSLATE,
	SOFT_TRANSLATE_CHECKED, /* judges all that the translator emits */
	SOFT_TRANSLATE_EXACT,	/* keeps flags that nobody reads but at a fault */
};

enum console_kind {
	CONSOLE_TTY,
	CONSOLE_SOCKET, /* a Unix stream socket that yado listens on */
	CONSOLE_FILE,	/* output only, appended */
	CONSOLE_NONE,
};

/** Where a console's bytes come from and go to. */
struct console_config {
	enum console_kind kind;
	const char *path; /* CONSOLE_SOCKET and CONSOLE_FILE, else NULL */
};

struct disk_config {
	const char *path;
	bool readonly;
	const char *serial; /* up to 20 bytes, or NULL */
	unsigned queues;    /* 1 to 16 */
	bool direct;	    /* O_DIRECT: past the host's page cache */
};

struct net_config {
	const char *tap;	/* the interface's name, or NULL for passt */
	const char *passt_args; /* NULL; or further arguments, separated by spaces */
	uint8_t mac[6];
	bool mac_given;
	unsigned queue_pairs; /* 1 to 8, TAP only above 1 */
};

struct vm_config {
	const char *name; /* "yado" unless given */
	const char *kernel;
	const char *initrd; /* or NULL */
	const char *cmdline;
	unsigned cpus; /* 1 to CONFIG_CPUS_MAX */
	uint64_t memory_bytes;
	enum cpu_model cpu;
	enum accel accel;
	enum soft_kind soft; /* not SOFT_AUTO: asks for ACCEL_SOFT */
	unsigned ndisks;
	struct disk_config disk[CONFIG_DISKS_MAX];
	unsigned nnets;
	struct net_config net[CONFIG_NETS_MAX];
	uint64_t vsock_cid; /* 0: no vsock; else 3 to 2^32-2 */
	const char *vsock_socket;
	struct console_config console;	      /* the first serial port's */
	struct console_config virtio_console; /* CONSOLE_NONE: the VM has no such device */
	uint64_t balloon_bytes;		      /* what the balloon takes from the guest at first */
	bool sandbox; /* seccomp and dropped capabilities; on unless turned off to debug */
	bool json;
};
