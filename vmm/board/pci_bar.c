#include "vmm/board/pci_bar.h"

#include <errno.h>
#include <linux/pci_regs.h>

#include "lib/base/bytes.h"
#include "lib/base/check.h"
#include "vmm/log.h"

static unsigned bar_register(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

void pci_device_bar(struct pci_device *dev, unsigned bar, uint64_t size, bool is64,
		    const struct bus_ops *ops, void *bar_dev)
{
	unsigned reg = bar_register(bar);

	check(bar + is64 < PCI_BARS && dev->bar[bar].size == 0);
	check(size >= 4 * KIB && (size & (size - 1)) == 0 && (is64 || size <= 2 * GIB));
	dev->bar[bar] = (struct pci_bar){.size = size, .is64 = is64, .ops = ops, .dev = bar_dev};
	store_le32(dev->wmask + reg, (uint32_t) ~(size - 1));
	if (is64) {
		dev->config[reg] |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		store_le32(dev->wmask + reg + 4, (uint32_t)(~(size - 1) >> 32));
	}
}

static uint64_t bar_address(const struct pci_device *dev, unsigned bar)
{
	const uint8_t *reg = dev->config + bar_register(bar);
	uint64_t addr = load_le32(reg);

	if (dev->bar[bar].is64) {
		addr |= (uint64_t)load_le32(reg + 4) << 32;
	}
	return addr & ~(dev->bar[bar].size - 1);
}

/*
 * Where the guest wants the BAR. Address 0 is what it has before it is placed, and an end at the
 * top of a register's range is what is there while the guest sizes it.
 */
static bool wanted(const struct pci_device *dev, unsigned bar, uint64_t *addr)
{
	uint64_t last;

	if (dev->bar[bar].size == 0 ||
	    (load_le16(dev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY) == 0) {
		return false;
	}
	*addr = bar_address(dev, bar);
	last = *addr + (dev->bar[bar].size - 1);
	return *addr != 0 && last != UINT32_MAX && last != UINT64_MAX;
}

static void tell(struct pci_device *dev, unsigned bar, bool mapped)
{
	if (dev->ops != NULL && dev->ops->bar_moved != NULL) {
		dev->ops->bar_moved(dev, bar, mapped, gpa(dev->bar[bar].addr));
	}
}

static void unmap(struct pci_device *dev, unsigned bar)
{
	dev->bar[bar].mapped = false;
	bus_unmap(dev->bus->mmio, dev->bar[bar].addr);
	tell(dev, bar, false);
}

/* Maps the BARs of one function that are wanted and can be mapped. */
static void map_wanted(struct pci_device *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &dev->bar[i];
		uint64_t addr;

		if (bar->mapped || !wanted(dev, i, &addr)) {
			continue;
		}
		if (bus_map(dev->bus->mmio, addr, bar->size, bar->ops, bar->dev) == 0) {
			bar->mapped = true;
			bar->refused = false;
			bar->addr = addr;
			tell(dev, i, true);
		} else if (!bar->refused || bar->addr != addr) {
			bar->refused = true;
			bar->addr = addr;
			log_guest("PCI %s: BAR %u at 0x%llx lies over something else and is "
				  "not mapped",
				  dev->name, i, (unsigned long long)addr);
		}
	}
}

void pci_bars_refresh(struct pci_device *dev)
{
	struct pci_bus *pci = dev->bus;
	bool freed = false;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t addr;

		if (dev->bar[i].mapped && (!wanted(dev, i, &addr) || addr != dev->bar[i].addr)) {
			unmap(dev, i);
			freed = true;
		}
	}
	map_wanted(dev);
	for (unsigned i = 0; freed && i < PCI_DEVFNS; i++) {
		if (pci->device[i] != NULL && pci->device[i] != dev) {
			map_wanted(pci->device[i]);
		}
	}
}

void pci_bars_unmap(struct pci_device *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (dev->bar[i].mapped) {
			unmap(dev, i);
		}
	}
}

/* Puts the BARs of one function at *@next and after it. Return: 0 or -ENOSPC. */
static int assign(struct pci_device *dev, uint64_t *next, uint64_t end)
{
	lock_take(&dev->lock);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &dev->bar[i];
		uint8_t *reg = dev->config + bar_register(i);
		uint64_t addr;

		if (bar->size == 0) {
			continue;
		}
		if (!range_end(*next, bar->size - 1, &addr)) {
			addr = end;
		}
		addr = ALIGN_DOWN(addr, bar->size);
		if (addr >= end || bar->size > end - addr ||
		    (!bar->is64 && addr + (bar->size - 1) > UINT32_MAX)) {
			lock_give(&dev->lock);
			return -ENOSPC;
		}
		store_le32(reg, (load_le32(reg) & 0xf) | (uint32_t)addr);
		if (bar->is64) {
			store_le32(reg + 4, (uint32_t)(addr >> 32));
		}
		*next = addr + bar->size;
	}
	dev->config[PCI_COMMAND] |= PCI_COMMAND_MEMORY;
	lock_give(&dev->lock);
	pci_bars_refresh(dev);
	return 0;
}

int pci_assign(struct pci_bus *pci, uint64_t base, uint64_t len)
{
	uint64_t end;
	int r = range_end(base, len, &end) ? 0 : -ENOSPC;

	lock_take(&pci->lock);
	for (unsigned i = 0; r == 0 && i < PCI_DEVFNS; i++) {
		if (pci->device[i] != NULL) {
			r = assign(pci->device[i], &base, end);
		}
	}
	lock_give(&pci->lock);
	if (r != 0) {
		log_error("the PCI memory window is too small for the VM's devices");
	}
	return r;
}
