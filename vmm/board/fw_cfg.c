#include "vmm/board/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/boot/e820.h"
#include "vmm/log.h"

/* Offsets of the registers from port 0x510. */
#define REG_SELECTOR 0 /* 16 bits, write only */
#define REG_DATA     1 /* 8 bits, read only */
#define REG_DMA	     4 /* 64 bits, big-endian; reads as the signature */
#define REG_DMA_LOW  8

/* Items. */
#define KEY_SIGNATURE 0x00
#define KEY_ID	      0x01
#define KEY_RAM_SIZE  0x03
#define KEY_NB_CPUS   0x05
#define KEY_MAX_CPUS  0x0f
#define KEY_FILE_DIR  0x19
#define KEY_FILE      0x20

#define ID_TRADITIONAL BIT(0)
#define ID_DMA	       BIT(1)

#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */
#define DMA_ERROR     BIT(0)
#define DMA_READ      BIT(1)
#define DMA_SKIP      BIT(2)
#define DMA_SELECT    BIT(3)
#define DMA_WRITE     BIT(4)
#define DMA_SIZE      16 /* control, length, address; big-endian */

/* Zeroes that one transfer gives past an item's end. All of 4 GiB would hold every vCPU for long.
 */
#define PAST_END_MAX MIB

#define DIR_ENTRY_SIZE 64

/* ---- items ---- */

static int set_item(struct fw_cfg *fw, unsigned key, const void *data, uint32_t len)
{
	/* Never NULL, also for an empty file. */
	uint8_t *copy = malloc((size_t)len + 1);

	if (copy == NULL) {
		return -ENOMEM;
	}
	memcpy(copy, data, len);
	free(fw->item[key].data);
	fw->item[key] = (struct fw_cfg_item){.data = copy, .len = len};
	return 0;
}

/* Writes the directory anew: count, then size, selector and name of each file. */
static int update_directory(struct fw_cfg *fw)
{
	uint8_t dir[4 + FW_CFG_FILES_MAX * DIR_ENTRY_SIZE] = {0};
	uint8_t *p = dir;

	store_le32(p, __builtin_bswap32(fw->nfiles));
	p += 4;
	for (unsigned i = 0; i < fw->nfiles; i++) {
		store_le32(p, __builtin_bswap32(fw->item[KEY_FILE + i].len));
		store_le16(p + 4, __builtin_bswap16((uint16_t)(KEY_FILE + i)));
		memcpy(p + 8, fw->name[i], FW_CFG_NAME_MAX);
		p += DIR_ENTRY_SIZE;
	}
	return set_item(fw, KEY_FILE_DIR, dir, (uint32_t)(p - dir));
}

int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, uint32_t len)
{
	if (strlen(name) >= FW_CFG_NAME_MAX) {
		return -ENAMETOOLONG;
	}
	if (fw->nfiles == FW_CFG_FILES_MAX) {
		return -ENOSPC;
	}
	for (unsigned i = 0; i < fw->nfiles; i++) {
		if (strcmp(fw->name[i], name) == 0) {
			return -EEXIST;
		}
	}
	int error = set_item(fw, KEY_FILE + fw->nfiles, data, len);
	if (error != 0) {
		return error;
	}
	memset(fw->name[fw->nfiles], 0, FW_CFG_NAME_MAX);
	memcpy(fw->name[fw->nfiles], name, strlen(name));
	fw->nfiles++;
	error = update_directory(fw);
	if (error != 0) {
		/* Not in the directory, hence not there. */
		fw->nfiles--;
		free(fw->item[KEY_FILE + fw->nfiles].data);
		fw->item[KEY_FILE + fw->nfiles] = (struct fw_cfg_item){0};
	}
	return error;
}

static int add_standard_items(struct fw_cfg *fw, unsigned ncpus)
{
	struct boot_e820_entry map[E820_ENTRIES_MAX];
	uint64_t ram = guest_memory_size(fw->mem);
	uint32_t id = ID_TRADITIONAL | ID_DMA;
	uint16_t cpus = (uint16_t)ncpus;
	unsigned n = e820_build(fw->mem, map);
	int error = set_item(fw, KEY_SIGNATURE, "QEMU", 4);

	if (error == 0) {
		error = set_item(fw, KEY_ID, &id, sizeof(id));
	}
	if (error == 0) {
		error = set_item(fw, KEY_RAM_SIZE, &ram, sizeof(ram));
	}
	if (error == 0) {
		error = set_item(fw, KEY_NB_CPUS, &cpus, sizeof(cpus));
	}
	if (error == 0) {
		error = set_item(fw, KEY_MAX_CPUS, &cpus, sizeof(cpus));
	}
	if (error == 0) {
		error = fw_cfg_add_file(fw, "etc/e820", map, n * (uint32_t)sizeof(map[0]));
	}
	return error;
}

int fw_cfg_init(struct fw_cfg *fw, const struct guest_memory *mem, unsigned ncpus)
{
	*fw = (struct fw_cfg){.mem = mem};
	lock_init(&fw->lock, LOCK_DEVICE);
	int error = add_standard_items(fw, ncpus);
	if (error != 0) {
		log_error("cannot make the firmware configuration: %s", strerror(-error));
		fw_cfg_fini(fw);
	}
	return error;
}

void fw_cfg_fini(struct fw_cfg *fw)
{
	for (unsigned i = 0; i < FW_CFG_ITEMS; i++) {
		free(fw->item[i].data);
		fw->item[i].data = NULL;
	}
	lock_fini(&fw->lock);
}

/* ---- registers ---- */

static const struct fw_cfg_item *selected(const struct fw_cfg *fw)
{
	static const struct fw_cfg_item none;

	return fw->selector < FW_CFG_ITEMS ? &fw->item[fw->selector] : &none;
}

static void select_item(struct fw_cfg *fw, uint16_t key)
{
	fw->selector = key;
	fw->offset = 0;
}

/*
 * Copies the next @len bytes of the item to @addr; what lies past its end reads as zero.
 * Return: false if that is not RAM, or far too much.
 */
static bool dma_read(struct fw_cfg *fw, gpa_t addr, uint32_t len)
{
	const struct fw_cfg_item *item = selected(fw);
	uint32_t n = MIN(len, item->len - fw->offset);
	uint8_t *p = guest_ptr(fw->mem, addr, len);

	if (p == NULL || len - n > PAST_END_MAX) {
		return false;
	}
	if (n > 0) {
		memcpy(p, item->data + fw->offset, n);
	}
	memset(p + n, 0, len - n);
	guest_wrote(fw->mem, p, len);
	fw->offset += n;
	return true;
}

/* One transfer, which the structure at @addr describes; its control word gets the outcome. */
static void dma_run(struct fw_cfg *fw, gpa_t addr)
{
	uint8_t request[DMA_SIZE];
	uint8_t outcome[4];

	if (guest_read(fw->mem, addr, request, sizeof(request)) != 0) {
		log_guest("fw_cfg: DMA request at 0x%llx is not in RAM",
			  (unsigned long long)addr.v);
		return;
	}
	uint32_t control = __builtin_bswap32(load_le32(request));
	uint32_t len = __builtin_bswap32(load_le32(request + 4));
	gpa_t data = gpa(__builtin_bswap64(load_le64(request + 8)));
	bool good = true;

	if ((control & DMA_SELECT) != 0) {
		select_item(fw, (uint16_t)(control >> 16));
	}
	/* As on QEMU: read goes before write, and write before skip. Nothing here is writable. */
	if ((control & DMA_READ) != 0) {
		good = dma_read(fw, data, len);
	} else if ((control & DMA_WRITE) != 0) {
		good = false;
	} else if ((control & DMA_SKIP) != 0) {
		fw->offset += MIN(len, selected(fw)->len - fw->offset);
	}
	store_le32(outcome, good ? 0 : __builtin_bswap32(DMA_ERROR));
	if (guest_write(fw->mem, addr, outcome, sizeof(outcome)) != 0) {
		return; /* it was readable above: RAM does not go away */
	}
}

static uint64_t fw_cfg_read(void *dev, uint64_t offset, unsigned len)
{
	struct fw_cfg *fw = dev;
	uint64_t value = 0;

	if (offset >= REG_DMA) {
		/* Big-endian: the first port has the highest byte. */
		for (unsigned i = 0; i < len; i++) {
			unsigned byte = (unsigned)(offset - REG_DMA) + i;

			value |= (DMA_SIGNATURE >> (56 - 8 * byte) & 0xff) << (8 * i);
		}
		return value;
	}
	if (offset != REG_DATA || len != 1) {
		return UINT64_MAX;
	}
	lock_take(&fw->lock);
	const struct fw_cfg_item *item = selected(fw);
	if (fw->offset < item->len) {
		value = item->data[fw->offset++];
	}
	lock_give(&fw->lock);
	return value;
}

static void fw_cfg_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct fw_cfg *fw = dev;

	lock_take(&fw->lock);
	if (offset == REG_SELECTOR && len == 2) {
		select_item(fw, (uint16_t)value);
	} else if (offset == REG_DMA && len == 4) {
		fw->dma_address = (uint64_t)__builtin_bswap32((uint32_t)value) << 32;
	} else if (offset == REG_DMA_LOW && len == 4) {
		gpa_t addr = gpa(fw->dma_address | __builtin_bswap32((uint32_t)value));

		fw->dma_address = 0;
		dma_run(fw, addr);
	}
	lock_give(&fw->lock);
}

const struct bus_ops fw_cfg_bus_ops = {.read = fw_cfg_read, .write = fw_cfg_write};

void fw_cfg_state(struct fw_cfg *fw, struct state *s)
{
	lock_take(&fw->lock);
	uint16_t selector = fw->selector;
	uint32_t offset = fw->offset;
	uint64_t dma_address = fw->dma_address;

	state_begin(s, "fw_cfg", 1);
	state_u16(s, &selector);
	state_u32(s, &offset);
	state_u64(s, &dma_address);
	state_end(s);
	if (s->loading && s->error == 0) {
		uint32_t len = selector < FW_CFG_ITEMS ? fw->item[selector].len : 0;

		if (offset > len || (uint32_t)dma_address != 0) {
			state_fail(s, -EINVAL);
		} else {
			fw->selector = selector;
			fw->offset = offset;
			fw->dma_address = dma_address;
		}
	}
	lock_give(&fw->lock);
}
