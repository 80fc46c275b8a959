#include "vmm/board/msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"

#define PBA_OFFSET 0x800
#define BAR_SIZE   0x1000

_Static_assert(PCI_MSIX_MAX *PCI_MSIX_ENTRY_SIZE <= PBA_OFFSET, "table and pending bits");

static uint16_t message_control(const struct pci_device *dev)
{
	return dev->msix_cap == 0 ? 0 : load_le16(dev->config + dev->msix_cap + PCI_MSIX_FLAGS);
}

bool msix_enabled(const struct pci_device *dev)
{
	return (message_control(dev) & PCI_MSIX_FLAGS_ENABLE) != 0;
}

/* May the vector interrupt now? */
static bool open_now(const struct pci_device *dev, const struct pci_msix_entry *e)
{
	uint16_t flags = message_control(dev) & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);

	return flags == PCI_MSIX_FLAGS_ENABLE && (e->control & PCI_MSIX_ENTRY_CTRL_MASKBIT) == 0;
}

static void refresh_entry(struct pci_device *dev, struct pci_msix_entry *e)
{
	if (!open_now(dev, e)) {
		return;
	}
	/* Only while it is open: guests write address and data one after the other under the mask.
	 */
	if (!e->routed || e->routed_addr != e->addr || e->routed_data != e->data) {
		irq_msi_set(dev->bus->irq, &e->msi, e->addr, e->data);
		e->routed = true;
		e->routed_addr = e->addr;
		e->routed_data = e->data;
	}
	if (e->pending) {
		e->pending = false;
		irq_msi_trigger(&e->msi);
	}
}

void msix_refresh(struct pci_device *dev)
{
	for (unsigned i = 0; i < dev->nvectors; i++) {
		refresh_entry(dev, &dev->msix[i]);
	}
}

/* The BAR as bytes: 8 of them at @offset, which is 8-aligned. */
static uint64_t read_quad(const struct pci_device *dev, uint64_t offset)
{
	uint64_t vector = offset / PCI_MSIX_ENTRY_SIZE;
	uint64_t bits = 0;

	if (vector < dev->nvectors) {
		const struct pci_msix_entry *e = &dev->msix[vector];

		return offset % PCI_MSIX_ENTRY_SIZE == 0 ? e->addr
							 : e->data | (uint64_t)e->control << 32;
	}
	if (offset >= PBA_OFFSET) {
		uint64_t first = (offset - PBA_OFFSET) * 8;

		for (unsigned i = 0; i < 64 && first + i < dev->nvectors; i++) {
			bits |= (uint64_t)dev->msix[first + i].pending << i;
		}
	}
	return bits;
}

static uint64_t table_read(void *arg, uint64_t offset, unsigned len)
{
	struct pci_device *dev = arg;
	uint8_t bytes[16];

	lock_take(&dev->lock);
	store_le64(bytes, read_quad(dev, ALIGN_DOWN(offset, 8)));
	store_le64(bytes + 8, read_quad(dev, ALIGN_DOWN(offset, 8) + 8));
	lock_give(&dev->lock);
	return load_le(bytes + offset % 8, len);
}

static void write_dword(struct pci_msix_entry *e, unsigned offset, uint32_t value)
{
	switch (offset) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		e->addr = (e->addr & ~UINT64_C(0xffffffff)) | (value & ~3U);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		e->addr = (uint32_t)e->addr | (uint64_t)value << 32;
		break;
	case PCI_MSIX_ENTRY_DATA:
		e->data = value;
		break;
	default:
		e->control = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
		break;
	}
}

/*
 * Only aligned accesses of 4 and 8 bytes have a meaning; the pending bits are read-only.
 * Spec: PCI Local Bus 3.0, 6.8.2.6 "MSI-X Table entries"
 */
static void table_write(void *arg, uint64_t offset, unsigned len, uint64_t value)
{
	struct pci_device *dev = arg;
	uint64_t vector = offset / PCI_MSIX_ENTRY_SIZE;

	if (vector >= dev->nvectors || len < 4 || offset % len != 0) {
		return;
	}
	lock_take(&dev->lock);
	struct pci_msix_entry *e = &dev->msix[vector];

	for (unsigned done = 0; done < len; done += 4) {
		write_dword(e, (unsigned)(offset + done) % PCI_MSIX_ENTRY_SIZE,
			    (uint32_t)(value >> (8 * done)));
	}
	refresh_entry(dev, e);
	lock_give(&dev->lock);
}

static const struct bus_ops table_ops = {table_read, table_write};

int pci_device_msix(struct pci_device *dev, unsigned nvectors, unsigned bar)
{
	uint8_t body[PCI_CAP_MSIX_SIZEOF - 2];
	uint8_t wmask[sizeof(body)] = {0};

	check(nvectors > 0 && nvectors <= PCI_MSIX_MAX && dev->msix_cap == 0);
	dev->msix = calloc(nvectors, sizeof(*dev->msix));
	if (dev->msix == NULL) {
		return -ENOMEM;
	}
	dev->nvectors = nvectors;
	for (unsigned i = 0; i < nvectors; i++) {
		dev->msix[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		dev->msix[i].msi.fd = -1;
	}
	store_le16(body, (uint16_t)(nvectors - 1));
	store_le32(body + PCI_MSIX_TABLE - 2, bar);
	store_le32(body + PCI_MSIX_PBA - 2, PBA_OFFSET | bar);
	store_le16(wmask, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	dev->msix_cap = pci_device_cap(dev, PCI_CAP_ID_MSIX, body, wmask, PCI_CAP_MSIX_SIZEOF);
	pci_device_bar(dev, bar, BAR_SIZE, false, &table_ops, dev);
	return 0;
}

int msix_create_irqs(struct pci_device *dev)
{
	for (unsigned i = 0; i < dev->nvectors; i++) {
		int r = irq_msi_create(dev->bus->irq, &dev->msix[i].msi);

		if (r != 0) {
			dev->msix[i].msi.fd = -1;
			msix_destroy_irqs(dev);
			return r;
		}
	}
	return 0;
}

void msix_destroy_irqs(struct pci_device *dev)
{
	for (unsigned i = 0; i < dev->nvectors; i++) {
		if (dev->msix[i].msi.fd >= 0) {
			irq_msi_destroy(dev->bus->irq, &dev->msix[i].msi);
			dev->msix[i].msi.fd = -1;
		}
	}
}

void pci_notify(struct pci_device *dev, unsigned vector)
{
	if (vector >= dev->nvectors) {
		return;
	}
	lock_take(&dev->lock);
	struct pci_msix_entry *e = &dev->msix[vector];

	if (open_now(dev, e)) {
		irq_msi_trigger(&e->msi);
	} else if (msix_enabled(dev)) {
		e->pending = true;
	}
	lock_give(&dev->lock);
}

bool pci_msix_enabled(struct pci_device *dev)
{
	lock_take(&dev->lock);
	bool enabled = msix_enabled(dev);

	lock_give(&dev->lock);
	return enabled;
}

void msix_state(struct pci_device *dev, struct state *s)
{
	uint32_t nvectors = dev->nvectors;

	state_begin(s, "msix", 1);
	state_u32(s, &nvectors);
	if (nvectors != dev->nvectors) {
		state_fail(s, -EINVAL); /* another device */
	}
	for (unsigned i = 0; i < dev->nvectors; i++) {
		struct pci_msix_entry e = dev->msix[i];

		state_u64(s, &e.addr);
		state_u32(s, &e.data);
		state_u32(s, &e.control);
		state_bool(s, &e.pending);
		if ((e.control & ~PCI_MSIX_ENTRY_CTRL_MASKBIT) != 0 || (e.addr & 3) != 0) {
			state_fail(s, -EINVAL);
		}
		if (s->loading && s->error == 0) {
			e.routed = false;
			dev->msix[i] = e;
		}
	}
	state_end(s);
}
