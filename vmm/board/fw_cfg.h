/*
 * QEMU's firmware configuration device: numbered items and named files that firmware and guests
 * read, byte by byte through a port or by DMA.
 * Spec: QEMU docs/specs/fw_cfg.rst
 */
#pragma once

#include "lib/base/state.h"
#include "lib/base/types.h"
#include "vmm/board/bus.h"
#include "vmm/lock.h"
#include "vmm/memory.h"

#define FW_CFG_FILES_MAX 32
#define FW_CFG_NAME_MAX	 56 /* with the terminating zero */
#define FW_CFG_ITEMS	 (0x20 + FW_CFG_FILES_MAX)

struct fw_cfg_item {
	uint8_t *data; /* owned; NULL: there is no such item */
	uint32_t len;
};

struct fw_cfg {
	/* constant once the guest runs */
	const struct guest_memory *mem;
	unsigned nfiles;
	char name[FW_CFG_FILES_MAX][FW_CFG_NAME_MAX];
	struct fw_cfg_item item[FW_CFG_ITEMS];

	struct lock lock; /* guards the rest */
	uint16_t selector;
	uint32_t offset;      /* into the selected item; at most its length */
	uint64_t dma_address; /* as far as it was written */
};

/**
 * fw_cfg_init() - a device with the items that every machine has: signature, ID, RAM size, number
 * of CPUs, file directory, and the file "etc/e820". Return: 0 or -ENOMEM, logged.
 */
must_use int fw_cfg_init(struct fw_cfg *fw, const struct guest_memory *mem, unsigned ncpus);
void fw_cfg_fini(struct fw_cfg *fw);

/**
 * fw_cfg_add_file() - one more file, before the guest runs; @data is copied.
 * @name: at most FW_CFG_NAME_MAX - 1 bytes.
 * Return: 0; -EEXIST if the name is taken; -ENAMETOOLONG; -ENOSPC after FW_CFG_FILES_MAX files;
 * -ENOMEM.
 */
must_use int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, uint32_t len);

/** Accesses to ports 0x510 to 0x51b. */
extern const struct bus_ops fw_cfg_bus_ops;

/** fw_cfg_state() - what the guest selected; items are made anew from the VM's configuration. */
void fw_cfg_state(struct fw_cfg *fw, struct state *s);
