#include "vmm/board/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "vmm/board/layout.h"
#include "vmm/board/msix.h"
#include "vmm/board/pci_bar.h"

#define ADDRESS_ENABLE	 0x80000000
#define ADDRESS_WRITABLE 0x80fffffc
#define PORTS_LEN	 8
#define FIRST_CAP	 0x40
#define CAP_HEADER	 2	/* id and next pointer, before a capability's body */
#define ECAM_FUNCTION	 0x1000 /* bytes of a function in the ECAM window */

_Static_assert(PCI_INTX_WIRES == GSI_PCI_COUNT, "one count a wire");

static uint32_t ones(unsigned len)
{
	return UINT32_MAX >> (32 - 8 * len);
}

/* ---- wires ---- */

/* Which of the bus's wires the function's pin is connected to, as the ACPI tables say too. */
static unsigned wire_of(const struct pci_device *dev)
{
	unsigned slot = dev->devfn >> 3;

	return (slot + dev->config[PCI_INTERRUPT_PIN] - 1) % PCI_INTX_WIRES;
}

/* Moves the wire to what the function wants and may. Context: the function's lock held. */
static void refresh_intx(struct pci_device *dev)
{
	struct pci_bus *pci = dev->bus;
	bool level = dev->intx_level && !msix_enabled(dev) &&
		     (load_le16(dev->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) == 0;
	unsigned *users;

	if (level == dev->intx_driven || dev->config[PCI_INTERRUPT_PIN] == 0) {
		return;
	}
	dev->intx_driven = level;
	lock_take(&pci->wire_lock);
	users = &pci->wire_users[wire_of(dev)];
	if (level && (*users)++ == 0) {
		irq_line_set(&dev->intx, true);
	} else if (!level && --*users == 0) {
		irq_line_set(&dev->intx, false);
	}
	lock_give(&pci->wire_lock);
}

void pci_intx(struct pci_device *dev, bool level)
{
	lock_take(&dev->lock);
	dev->intx_level = level;
	dev->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	dev->config[PCI_STATUS] |= level ? PCI_STATUS_INTERRUPT : 0;
	refresh_intx(dev);
	lock_give(&dev->lock);
}

/* ---- configuration space ---- */

/* Does [@offset, @offset+@len) meet the @n bytes at @reg? */
static bool touches(unsigned offset, unsigned len, unsigned reg, unsigned n)
{
	return offset < reg + n && reg < offset + len;
}

/*
 * A configuration request reaches one function, and never crosses a double word.
 * @reg: 0 to 0xfff. Context: bus lock held.
 */
static uint32_t config_read(struct pci_bus *pci, unsigned devfn, unsigned reg, unsigned len)
{
	struct pci_device *dev = pci->device[devfn];
	uint32_t value;

	if (dev == NULL || reg % 4 + len > 4) {
		return ones(len);
	}
	if (reg >= PCI_CONFIG_SIZE) {
		return 0;
	}
	if (dev->ops != NULL && dev->ops->config_read != NULL) {
		dev->ops->config_read(dev, (uint8_t)reg, len);
	}
	lock_take(&dev->lock);
	value = (uint32_t)load_le(dev->config + reg, len);
	lock_give(&dev->lock);
	return value;
}

static void config_write(struct pci_bus *pci, unsigned devfn, unsigned reg, unsigned len,
			 uint32_t value)
{
	struct pci_device *dev = pci->device[devfn];

	if (dev == NULL || reg % 4 + len > 4 || reg >= PCI_CONFIG_SIZE) {
		return;
	}
	lock_take(&dev->lock);
	for (unsigned i = 0; i < len; i++) {
		uint8_t *byte = &dev->config[reg + i];
		uint8_t new = (uint8_t)(value >> (8 * i));

		*byte = (uint8_t)((*byte & ~dev->wmask[reg + i]) | (new & dev->wmask[reg + i]));
		*byte &= (uint8_t) ~(new & dev->w1cmask[reg + i]);
	}
	if (dev->msix_cap != 0 && touches(reg, len, dev->msix_cap + PCI_MSIX_FLAGS, 2)) {
		msix_refresh(dev);
	}
	refresh_intx(dev);
	lock_give(&dev->lock);

	if (touches(reg, len, PCI_COMMAND, 2) ||
	    touches(reg, len, PCI_BASE_ADDRESS_0, 4 * PCI_BARS)) {
		pci_bars_refresh(dev);
	}
	if (dev->ops != NULL && dev->ops->config_written != NULL) {
		dev->ops->config_written(dev, (uint8_t)reg, len);
	}
}

/* ---- ports 0xcf8 to 0xcff ---- */

static uint64_t port_read(void *arg, uint64_t offset, unsigned len)
{
	struct pci_bus *pci = arg;
	uint64_t value = ones(MIN(len, 4U));
	uint32_t address;

	if (offset == PORT_RESET_CONTROL - PORT_PCI_ADDRESS && len == 1 && pci->cf9 != NULL) {
		return pci->cf9->read(pci->cf9_dev, 0, 1);
	}
	if (len > 4) {
		return value;
	}
	lock_take(&pci->lock);
	address = pci->config_address;
	if (offset == 0 && len == 4) {
		value = address;
	} else if (offset >= 4 && (address & ADDRESS_ENABLE) != 0 && (address >> 16 & 0xff) == 0) {
		value = config_read(pci, address >> 8 & 0xff,
				    (address & 0xfc) + (unsigned)offset - 4, len);
	}
	lock_give(&pci->lock);
	return value;
}

static void port_write(void *arg, uint64_t offset, unsigned len, uint64_t value)
{
	struct pci_bus *pci = arg;
	uint32_t address;

	if (offset == PORT_RESET_CONTROL - PORT_PCI_ADDRESS && len == 1 && pci->cf9 != NULL) {
		pci->cf9->write(pci->cf9_dev, 0, 1, value);
		return;
	}
	if (len > 4) {
		return;
	}
	lock_take(&pci->lock);
	address = pci->config_address;
	if (offset == 0 && len == 4) {
		pci->config_address = (uint32_t)value & ADDRESS_WRITABLE;
	} else if (offset >= 4 && (address & ADDRESS_ENABLE) != 0 && (address >> 16 & 0xff) == 0) {
		config_write(pci, address >> 8 & 0xff, (address & 0xfc) + (unsigned)offset - 4, len,
			     (uint32_t)value);
	}
	lock_give(&pci->lock);
}

static const struct bus_ops port_ops = {port_read, port_write};

/* ---- the ECAM window: 1 MiB a bus, of which there is bus 0 ---- */

static uint64_t ecam_read(void *arg, uint64_t offset, unsigned len)
{
	struct pci_bus *pci = arg;
	uint64_t value;

	if (len == 8) {
		return ecam_read(arg, offset, 4) | ecam_read(arg, offset + 4, 4) << 32;
	}
	if (offset >= PCI_DEVFNS * ECAM_FUNCTION) {
		return ones(len);
	}
	lock_take(&pci->lock);
	value = config_read(pci, (unsigned)(offset / ECAM_FUNCTION),
			    (unsigned)(offset % ECAM_FUNCTION), len);
	lock_give(&pci->lock);
	return value;
}

static void ecam_write(void *arg, uint64_t offset, unsigned len, uint64_t value)
{
	struct pci_bus *pci = arg;

	if (len == 8) {
		ecam_write(arg, offset, 4, (uint32_t)value);
		ecam_write(arg, offset + 4, 4, value >> 32);
		return;
	}
	if (offset >= PCI_DEVFNS * ECAM_FUNCTION) {
		return;
	}
	lock_take(&pci->lock);
	config_write(pci, (unsigned)(offset / ECAM_FUNCTION), (unsigned)(offset % ECAM_FUNCTION),
		     len, (uint32_t)value);
	lock_give(&pci->lock);
}

static const struct bus_ops ecam_ops = {ecam_read, ecam_write};

/* ---- the bus ---- */

int pci_bus_init(struct pci_bus *pci, struct bus *pio, struct bus *mmio, struct irq *irq,
		 gpa_t ecam)
{
	int r;

	*pci = (struct pci_bus){.pio = pio, .mmio = mmio, .irq = irq, .ecam = ecam};
	r = bus_map(pio, PORT_PCI_ADDRESS, PORTS_LEN, &port_ops, pci);
	if (r != 0) {
		return r;
	}
	r = bus_map(mmio, ecam.v, LAYOUT_ECAM_SIZE, &ecam_ops, pci);
	if (r != 0) {
		bus_unmap(pio, PORT_PCI_ADDRESS);
		return r;
	}
	lock_init(&pci->lock, LOCK_PCI_BUS);
	lock_init(&pci->wire_lock, LOCK_PCI_WIRES);
	return 0;
}

void pci_bus_fini(struct pci_bus *pci)
{
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		check(pci->device[i] == NULL);
	}
	bus_unmap(pci->pio, PORT_PCI_ADDRESS);
	bus_unmap(pci->mmio, pci->ecam.v);
	lock_fini(&pci->wire_lock);
	lock_fini(&pci->lock);
}

void pci_bus_cf9(struct pci_bus *pci, const struct bus_ops *ops, void *dev)
{
	pci->cf9 = ops;
	pci->cf9_dev = dev;
}

void pci_bus_state(struct pci_bus *pci, struct state *s)
{
	uint32_t address;

	lock_take(&pci->lock);
	address = pci->config_address;
	state_begin(s, "pci-bus", 1);
	state_u32(s, &address);
	state_end(s);
	if ((address & ~ADDRESS_WRITABLE) != 0) {
		state_fail(s, -EINVAL);
	}
	if (s->error == 0) {
		pci->config_address = address;
	}
	lock_give(&pci->lock);
}

/* ---- functions ---- */

void pci_device_init(struct pci_device *dev, const char *name, const struct pci_id *id,
		     const struct pci_ops *ops)
{
	*dev = (struct pci_device){.name = name, .ops = ops, .cap_end = FIRST_CAP};
	lock_init(&dev->lock, LOCK_PCI_FUNCTION);

	store_le16(dev->config + PCI_VENDOR_ID, id->vendor);
	store_le16(dev->config + PCI_DEVICE_ID, id->device);
	store_le32(dev->config + PCI_CLASS_REVISION, id->class_code << 8 | id->revision);
	dev->config[PCI_HEADER_TYPE] = id->multifunction ? 0x80 : 0;
	store_le16(dev->config + PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
	store_le16(dev->config + PCI_SUBSYSTEM_ID, id->subsystem);

	store_le16(dev->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
						     PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
						     PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	dev->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
	dev->wmask[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_device_fini(struct pci_device *dev)
{
	struct pci_bus *pci = dev->bus;

	if (pci != NULL) {
		pci_intx(dev, false);
		lock_take(&pci->lock);
		pci_bars_unmap(dev);
		pci->device[dev->devfn] = NULL;
		lock_give(&pci->lock);
		msix_destroy_irqs(dev);
	}
	free(dev->msix);
	lock_fini(&dev->lock);
}

void pci_device_intx(struct pci_device *dev)
{
	dev->config[PCI_INTERRUPT_PIN] = 1; /* INTA */
}

uint8_t pci_device_cap(struct pci_device *dev, uint8_t id, const void *body, const void *wmask,
		       uint8_t len)
{
	uint8_t at = (uint8_t)dev->cap_end;

	check(len > CAP_HEADER && dev->cap_end + len <= PCI_CONFIG_SIZE);
	if (dev->cap_last == 0) {
		dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
		dev->config[PCI_CAPABILITY_LIST] = at;
	} else {
		dev->config[dev->cap_last + PCI_CAP_LIST_NEXT] = at;
	}
	dev->config[at + PCI_CAP_LIST_ID] = id;
	memcpy(dev->config + at + CAP_HEADER, body, (size_t)len - CAP_HEADER);
	if (wmask != NULL) {
		memcpy(dev->wmask + at + CAP_HEADER, wmask, (size_t)len - CAP_HEADER);
	}
	dev->cap_last = at;
	dev->cap_end = (uint16_t)ALIGN_UP(at + len, 4);
	return at;
}

int pci_add(struct pci_bus *pci, struct pci_device *dev, uint8_t devfn)
{
	int r;

	check(dev->bus == NULL);
	lock_take(&pci->lock);
	if (pci->device[devfn] != NULL) {
		r = -EEXIST;
	} else {
		dev->bus = pci;
		dev->devfn = devfn;
		r = msix_create_irqs(dev);
	}
	if (r != 0) {
		dev->bus = NULL;
	} else {
		if (dev->config[PCI_INTERRUPT_PIN] != 0) {
			unsigned gsi = GSI_PCI + wire_of(dev);

			dev->intx = irq_wire(pci->irq, gsi);
			dev->config[PCI_INTERRUPT_LINE] = (uint8_t)gsi;
		}
		pci->device[devfn] = dev;
	}
	lock_give(&pci->lock);
	return r;
}

/* ---- state ---- */

/* Are @config's read-only bits those of @dev, so that it is the same function? */
static bool same_function(const struct pci_device *dev, const uint8_t *config)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t fixed = (uint8_t) ~(dev->wmask[i] | dev->w1cmask[i]);

		if (i == PCI_STATUS) {
			fixed &= (uint8_t)~PCI_STATUS_INTERRUPT;
		}
		if (((config[i] ^ dev->config[i]) & fixed) != 0) {
			return false;
		}
	}
	return true;
}

void pci_device_state(struct pci_device *dev, struct state *s)
{
	struct pci_bus *pci = dev->bus;
	uint8_t config[PCI_CONFIG_SIZE];
	bool level;

	check(pci != NULL);
	lock_take(&pci->lock);
	lock_take(&dev->lock);
	memcpy(config, dev->config, sizeof(config));
	level = dev->intx_level;
	state_begin(s, "pci", 1);
	state_bytes(s, config, sizeof(config));
	state_bool(s, &level);
	if (!same_function(dev, config)) {
		state_fail(s, -EINVAL);
	}
	msix_state(dev, s);
	state_end(s);
	if (s->loading && s->error == 0) {
		memcpy(dev->config, config, sizeof(config));
		msix_refresh(dev);
	}
	lock_give(&dev->lock);
	if (s->loading && s->error == 0) {
		pci_bars_unmap(dev);
		pci_bars_refresh(dev);
		pci_intx(dev, level);
	}
	lock_give(&pci->lock);
}
