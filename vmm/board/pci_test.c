#include "vmm/board/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "tests/fake_irq.h"
#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/board/layout.h"

#define ECAM	   0xb0000000
#define WINDOW	   0xc0000000
#define WINDOW_LEN 0x1000000
#define MSIX_BAR   1
#define VECTORS	   3

/* A function with a 32-bit BAR of 4 KiB (0), MSI-X (1), and a 64-bit BAR of 16 KiB (4). */
struct function {
	struct pci_device pci; /* first: the hooks find the rest by it */
	unsigned nwritten, nread, nmoved;
	uint8_t written_offset;
	unsigned written_len;
	struct {
		unsigned bar;
		bool mapped;
		uint64_t addr;
	} moved[8];	    /* the first ones */
	uint64_t bar_value; /* what its BARs hold */
};

static struct bus pio, mmio;
static struct pci_bus pci;
static struct irq irq;
static struct function fn[3];

static void config_written(struct pci_device *dev, uint8_t offset, unsigned len)
{
	struct function *f = (struct function *)dev;

	f->nwritten++;
	f->written_offset = offset;
	f->written_len = len;
}

/* The last byte of the space counts reads of it. */
static void config_read(struct pci_device *dev, uint8_t offset, unsigned len)
{
	struct function *f = (struct function *)dev;

	if (offset + len == PCI_CONFIG_SIZE) {
		dev->config[PCI_CONFIG_SIZE - 1] = (uint8_t)++f->nread;
	}
}

static void bar_moved(struct pci_device *dev, unsigned bar, bool mapped, gpa_t addr)
{
	struct function *f = (struct function *)dev;

	if (f->nmoved < ARRAY_SIZE(f->moved)) {
		f->moved[f->nmoved].bar = bar;
		f->moved[f->nmoved].mapped = mapped;
		f->moved[f->nmoved].addr = addr.v;
	}
	f->nmoved++;
}

static const struct pci_ops ops = {config_written, config_read, bar_moved};

static uint64_t bar_read(void *dev, uint64_t offset, unsigned len)
{
	(void)len;
	return ((struct function *)dev)->bar_value + offset;
}

static void bar_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset;
	(void)len;
	((struct function *)dev)->bar_value = value;
}

static const struct bus_ops bar_ops = {bar_read, bar_write};

static void function_init(struct function *f)
{
	static const struct pci_id id = {.vendor = 0x1234,
					 .device = 0x5678,
					 .subsystem_vendor = 0x9abc,
					 .subsystem = 0xdef0,
					 .class_code = 0x020304,
					 .revision = 5};
	static const uint8_t body[] = {0x11, 0x22, 0x33};
	static const uint8_t body_wmask[] = {0, 0xf0, 0xff};

	memset(f, 0, sizeof(*f));
	pci_device_init(&f->pci, "test", &id, &ops);
	pci_device_intx(&f->pci);
	pci_device_bar(&f->pci, 0, 4 * KIB, false, &bar_ops, f);
	pci_device_bar(&f->pci, 4, 16 * KIB, true, &bar_ops, f);
	assert_int_equal(pci_device_cap(&f->pci, PCI_CAP_ID_VNDR, body, body_wmask, 5), 0x40);
	assert_int_equal(pci_device_msix(&f->pci, VECTORS, MSIX_BAR), 0);
	assert_int_equal(f->pci.msix_cap, 0x48);
	f->pci.wmask[PCI_CONFIG_SIZE - 1] = 0xff;
}

/* Two of the three functions are on the bus: slots 1 and 2. */
static int setup(void **unused)
{
	(void)unused;
	memset(&irq, 0, sizeof(irq));
	bus_init(&pio);
	bus_init(&mmio);
	assert_int_equal(pci_bus_init(&pci, &pio, &mmio, &irq, gpa(ECAM)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(fn); i++) {
		function_init(&fn[i]);
	}
	assert_int_equal(pci_add(&pci, &fn[0].pci, PCI_DEVFN(1, 0)), 0);
	assert_int_equal(pci_add(&pci, &fn[1].pci, PCI_DEVFN(2, 0)), 0);
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(fn); i++) {
		pci_device_fini(&fn[i].pci);
	}
	assert_int_equal(irq.nmsis, 0);
	for (unsigned i = 0; i < FAKE_WIRES; i++) {
		assert_false(irq.wire[i]);
	}
	pci_bus_fini(&pci);
	assert_int_equal(mmio.nranges + pio.nranges, 0);
	bus_fini(&mmio);
	bus_fini(&pio);
	return 0;
}

static uint64_t ecam(unsigned slot, unsigned reg)
{
	return ECAM + slot * 0x8000 + reg;
}

static uint32_t cfg(unsigned slot, unsigned reg, unsigned len)
{
	return (uint32_t)bus_read(&mmio, ecam(slot, reg), len);
}

static void set_cfg(unsigned slot, unsigned reg, unsigned len, uint32_t value)
{
	bus_write(&mmio, ecam(slot, reg), len, value);
}

static void header(void **unused)
{
	(void)unused;
	assert_int_equal(cfg(1, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(cfg(1, PCI_CLASS_REVISION, 4), 0x02030405);
	assert_int_equal(cfg(1, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	assert_int_equal(cfg(1, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(cfg(1, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(cfg(1, PCI_INTERRUPT_LINE, 1), GSI_PCI + 1);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(cfg(1, PCI_CAPABILITY_LIST, 1), 0x40);
	assert_int_equal(cfg(1, 0x40, 4), 0x22114809);
	assert_int_equal(cfg(1, 0x44, 4), 0x33);
	assert_int_equal(cfg(1, 0x48, 4), (VECTORS - 1) << 16 | PCI_CAP_ID_MSIX);
	assert_int_equal(cfg(1, 0x4c, 4), MSIX_BAR);
	assert_int_equal(cfg(1, 0x50, 4), 0x800 | MSIX_BAR);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_4, 4), PCI_BASE_ADDRESS_MEM_TYPE_64);

	/* Read-only, partly and fully writable. */
	set_cfg(1, PCI_VENDOR_ID, 4, 0);
	assert_int_equal(cfg(1, PCI_VENDOR_ID, 4), 0x56781234);
	set_cfg(1, 0x40, 4, 0xffffffff);
	assert_int_equal(cfg(1, 0x40, 4), 0xf2114809);
	set_cfg(1, 0x44, 1, 0xa5);
	assert_int_equal(cfg(1, 0x44, 4), 0xa5);
	set_cfg(1, PCI_COMMAND, 2, 0xfff8);
	assert_int_equal(cfg(1, PCI_COMMAND, 2), 0x0540);
	set_cfg(1, PCI_COMMAND, 2, 0);
	/* The rest of a function's 4 KiB. */
	assert_int_equal(cfg(1, 0x100, 4), 0);
	set_cfg(1, 0x100, 4, 0xffffffff);
	assert_int_equal(cfg(1, 0xffc, 4), 0);
}

static void hooks(void **unused)
{
	(void)unused;
	set_cfg(1, 0x46, 2, 0);
	assert_int_equal(fn[0].nwritten, 1);
	assert_int_equal(fn[0].written_offset, 0x46);
	assert_int_equal(fn[0].written_len, 2);
	assert_int_equal(fn[1].nwritten, 0);
	assert_int_equal(cfg(1, 0xff, 1), 1);
	assert_int_equal(cfg(1, 0xfc, 4), 0x02000000);
	assert_int_equal(cfg(1, 0xfc, 2), 0);
	/* 8 bytes at once are two requests. */
	assert_int_equal(bus_read(&mmio, ecam(1, 0xf8), 8), UINT64_C(3) << 56);
	fn[0].nwritten = 0;
	bus_write(&mmio, ecam(1, 0x40), 8, 0xffffffffffffffff);
	assert_int_equal(fn[0].nwritten, 2);
	assert_int_equal(cfg(1, 0x40, 4), 0xf2114809);
	assert_int_equal(cfg(1, 0x44, 4), 0xff);
}

static void write_one_to_clear(void **unused)
{
	(void)unused;
	fn[0].pci.w1cmask[0x80] = 0x0f;
	fn[0].pci.config[0x80] = 0x3c;
	set_cfg(1, 0x80, 1, 0x14);
	assert_int_equal(cfg(1, 0x80, 1), 0x38);
	set_cfg(1, 0x80, 1, 0);
	assert_int_equal(cfg(1, 0x80, 1), 0x38);
}

static void nobody_there(void **unused)
{
	(void)unused;
	assert_int_equal(cfg(0, 0, 4), 0xffffffff);
	assert_int_equal(cfg(3, 0, 2), 0xffff);
	assert_int_equal(bus_read(&mmio, ecam(1, 0) + 0x1000, 4), 0xffffffff);	    /* function 1 */
	assert_int_equal(bus_read(&mmio, ECAM + 0x100000 + 0x8000, 4), 0xffffffff); /* bus 1 */
	assert_int_equal(bus_read(&mmio, ECAM + 0xffffffc, 4), 0xffffffff);
	bus_write(&mmio, ECAM + 0x100000 + 0x8000, 4, 0);
	bus_write(&mmio, ecam(3, 0), 4, 0);
	/* Across a double word. */
	assert_int_equal(bus_read(&mmio, ecam(1, 2), 4), 0xffffffff);
	assert_int_equal(bus_read(&mmio, ecam(1, 0xff), 2), 0xffff);
	bus_write(&mmio, ecam(1, 0x43), 2, 0);
	assert_int_equal(fn[0].nwritten, 0);
}

static void ports(void **unused)
{
	(void)unused;
	/* Not enabled, and only 4 bytes at once set the address. */
	assert_int_equal(bus_read(&pio, 0xcfc, 4), 0xffffffff);
	bus_write(&pio, 0xcf8, 4, 0xffffffff);
	assert_int_equal(bus_read(&pio, 0xcf8, 4), 0x80fffffc);
	bus_write(&pio, 0xcf8, 2, 0);
	bus_write(&pio, 0xcf9, 1, 0);
	assert_int_equal(bus_read(&pio, 0xcf8, 4), 0x80fffffc);
	assert_int_equal(bus_read(&pio, 0xcf8, 2), 0xffff);
	assert_int_equal(bus_read(&pio, 0xcfc, 4), 0xffffffff);

	bus_write(&pio, 0xcf8, 4, 0x80000800);
	assert_int_equal(bus_read(&pio, 0xcfc, 4), 0x56781234);
	assert_int_equal(bus_read(&pio, 0xcfe, 2), 0x5678);
	assert_int_equal(bus_read(&pio, 0xcfd, 2), 0x7812);
	assert_int_equal(bus_read(&pio, 0xcff, 1), 0x56);
	bus_write(&pio, 0xcf8, 4, 0x80000844);
	bus_write(&pio, 0xcfc, 1, 0x77);
	assert_int_equal(bus_read(&pio, 0xcfc, 4), 0x77);
	bus_write(&pio, 0xcf8, 4, 0x00000844);
	assert_int_equal(bus_read(&pio, 0xcfc, 1), 0xff);
	bus_write(&pio, 0xcf8, 4, 0x80010844); /* bus 1 */
	assert_int_equal(bus_read(&pio, 0xcfc, 1), 0xff);
	bus_write(&pio, 0xcfc, 1, 0);
	bus_write(&pio, 0xcf8, 4, 0x80000844);
	assert_int_equal(bus_read(&pio, 0xcfc, 1), 0x77);
	assert_int_equal(bus_read(&pio, 0xcfc, 8), UINT64_MAX);
}

/* The reset control register lies under the configuration address. */
static void reset_control(void **unused)
{
	struct function reset = {.bar_value = 0x40};

	(void)unused;
	assert_int_equal(bus_read(&pio, 0xcf9, 1), 0xff);
	pci_bus_cf9(&pci, &bar_ops, &reset);
	assert_int_equal(bus_read(&pio, 0xcf9, 1), 0x40);
	bus_write(&pio, 0xcf9, 1, 6);
	assert_int_equal(reset.bar_value, 6);
	bus_write(&pio, 0xcf8, 4, 0x80000800);
	bus_write(&pio, 0xcf9, 2, 0);
	assert_int_equal(reset.bar_value, 6);
	assert_int_equal(bus_read(&pio, 0xcf8, 4), 0x80000800);
}

static void assign(void **unused)
{
	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW + 0x1000, WINDOW_LEN), 0);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_0, 4), WINDOW + 0x1000);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_1, 4), WINDOW + 0x2000);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_4, 4), WINDOW + 0x4004);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_5, 4), 0);
	assert_int_equal(cfg(2, PCI_BASE_ADDRESS_0, 4), WINDOW + 0x8000);
	assert_int_equal(cfg(1, PCI_COMMAND, 2), PCI_COMMAND_MEMORY);
	assert_int_equal(fn[0].nmoved, 3);
	assert_int_equal(fn[0].moved[2].bar, 4);
	assert_true(fn[0].moved[2].mapped);
	assert_int_equal(fn[0].moved[2].addr, WINDOW + 0x4000);
	fn[0].bar_value = 0x100;
	assert_int_equal(bus_read(&mmio, WINDOW + 0x4010, 4), 0x110);
	bus_write(&mmio, WINDOW + 0x4010, 4, 0x55);
	assert_int_equal(fn[0].bar_value, 0x55);
	fn[1].bar_value = 0x200;
	assert_int_equal(bus_read(&mmio, WINDOW + 0x8fff, 1), (0x200 + 0xfff) & 0xff);
}

static void assign_refuses(void **unused)
{
	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, 0x9000), -ENOSPC);
	assert_int_equal(pci_assign(&pci, UINT64_MAX - 0x2000, 0x2000), -ENOSPC);
	assert_int_equal(pci_assign(&pci, UINT64_MAX - 0x2000, 0x4000), -ENOSPC);
	/* The 32-bit BARs must be reachable. */
	assert_int_equal(pci_assign(&pci, 0x100000000, 0x1000000), -ENOSPC);
	/* Just enough. */
	assert_int_equal(pci_assign(&pci, WINDOW, 0x10000), 0);
}

/* What a guest does to find out how large a BAR is. */
static void sizing(void **unused)
{
	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	fn[0].nmoved = 0;
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_0, 4), 0xfffff000);
	assert_int_equal(fn[0].nmoved, 1);
	assert_false(fn[0].moved[0].mapped);
	assert_int_equal(fn[0].moved[0].addr, WINDOW);
	assert_int_equal(bus_read(&mmio, 0xfffff000, 1), 0xff);
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, WINDOW);
	assert_int_equal(fn[0].nmoved, 2);
	assert_true(fn[0].moved[1].mapped);

	set_cfg(1, PCI_BASE_ADDRESS_4, 4, 0xffffffff);
	set_cfg(1, PCI_BASE_ADDRESS_5, 4, 0xffffffff);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_4, 4), 0xffffc004);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_5, 4), 0xffffffff);
	/* Far above 4 GiB works as well. */
	set_cfg(1, PCI_BASE_ADDRESS_4, 4, 0x00004000);
	set_cfg(1, PCI_BASE_ADDRESS_5, 4, 0x00000012);
	fn[0].bar_value = 0;
	assert_int_equal(bus_read(&mmio, 0x1200004008, 4), 8);
}

static void decode(void **unused)
{
	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	fn[0].bar_value = 7;
	assert_int_equal(bus_read(&mmio, WINDOW, 1), 7);
	fn[0].nmoved = 0;
	set_cfg(1, PCI_COMMAND, 2, 0);
	assert_int_equal(fn[0].nmoved, 3);
	assert_int_equal(bus_read(&mmio, WINDOW, 1), 0xff);
	/* Moved while off: nothing is mapped until it is on. */
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, WINDOW + 0x100000);
	assert_int_equal(bus_read(&mmio, WINDOW + 0x100000, 1), 0xff);
	fn[0].nmoved = 0;
	set_cfg(1, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
	assert_int_equal(fn[0].nmoved, 3);
	assert_int_equal(bus_read(&mmio, WINDOW + 0x100000, 1), 7);
	/* Address 0 is none. */
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, 0);
	assert_int_equal(bus_read(&mmio, 0, 1), 0xff);
}

/* A BAR over another device is not mapped until the place is free. */
static void overlap(void **unused)
{
	uint32_t place;

	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	fn[0].bar_value = 0x11;
	fn[1].bar_value = 0x22;
	place = cfg(2, PCI_BASE_ADDRESS_0, 4);
	fn[0].nmoved = 0;
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, place);
	assert_int_equal(fn[0].nmoved, 1); /* left its place only */
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_0, 4), place);
	assert_int_equal(bus_read(&mmio, place, 1), 0x22);
	set_cfg(2, PCI_BASE_ADDRESS_0, 4, WINDOW + 0x200000);
	assert_int_equal(bus_read(&mmio, WINDOW + 0x200000, 1), 0x22);
	assert_int_equal(bus_read(&mmio, place, 1), 0x11);

	/* Over the ECAM window, and over one's own. */
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, ECAM);
	assert_int_equal(cfg(1, PCI_BASE_ADDRESS_0, 4), ECAM);
	assert_int_equal(cfg(0, 0, 4), 0xffffffff);
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, cfg(1, PCI_BASE_ADDRESS_1, 4));
	assert_int_equal(bus_read(&mmio, cfg(1, PCI_BASE_ADDRESS_1, 4) + 12, 4), 1);
}

static uint64_t table(unsigned slot, unsigned vector, unsigned offset)
{
	return cfg(slot, PCI_BASE_ADDRESS_1, 4) + vector * 16 + offset;
}

static void program(unsigned vector, uint64_t addr, uint32_t data, bool masked)
{
	bus_write(&mmio, table(1, vector, 0), 4, (uint32_t)addr);
	bus_write(&mmio, table(1, vector, 4), 4, addr >> 32);
	bus_write(&mmio, table(1, vector, 8), 4, data);
	bus_write(&mmio, table(1, vector, 12), 4, masked);
}

static const struct irq_msi *msi(unsigned vector)
{
	return &fn[0].pci.msix[vector].msi;
}

static void set_control(uint16_t value)
{
	set_cfg(1, 0x48 + PCI_MSIX_FLAGS, 2, value);
}

static void msix(void **unused)
{
	unsigned gsi = msi(1)->gsi;

	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	assert_int_equal(irq.nmsis, 2 * VECTORS);
	assert_false(pci_msix_enabled(&fn[0].pci));
	/* Off: nothing happens, and nothing stays pending. */
	pci_notify(&fn[0].pci, 1);
	program(1, 0xfee01000, 0x4041, false);
	assert_int_equal(irq.msi[gsi].sets, 0);

	set_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(cfg(1, 0x48 + PCI_MSIX_FLAGS, 2), PCI_MSIX_FLAGS_ENABLE | (VECTORS - 1));
	assert_true(pci_msix_enabled(&fn[0].pci));
	assert_int_equal(irq.msi[gsi].sets, 1);
	assert_int_equal(irq.msi[gsi].addr, 0xfee01000);
	assert_int_equal(irq.msi[gsi].data, 0x4041);
	assert_int_equal(irq.msi[msi(0)->gsi].sets, 0); /* masked after power-on */
	assert_int_equal(fake_irq_fired(msi(1)), 0);
	pci_notify(&fn[0].pci, 1);
	assert_int_equal(fake_irq_fired(msi(1)), 1);
	pci_notify(&fn[0].pci, VECTORS);
	pci_notify(&fn[0].pci, 0xffff);

	/* The route is set only when it changes, and once for a change under the mask. */
	program(1, 0xfee01000, 0x4041, true);
	program(1, 0xfee01000, 0x4041, false);
	assert_int_equal(irq.msi[gsi].sets, 1);
	bus_write(&mmio, table(1, 1, 12), 4, 1);
	program(1, 0x1fee02000, 0x4042, false);
	assert_int_equal(irq.msi[gsi].sets, 2);
	assert_int_equal(irq.msi[gsi].addr, 0x1fee02000);
	assert_int_equal(irq.msi[gsi].data, 0x4042);
	assert_int_equal(bus_read(&mmio, table(1, 1, 0), 8), 0x1fee02000);
	assert_int_equal(bus_read(&mmio, table(1, 1, 8), 8), 0x4042);
	assert_int_equal(bus_read(&mmio, table(1, 1, 9), 1), 0x40);
	bus_write(&mmio, table(1, 1, 0), 8, 0xfee03003);
	assert_int_equal(irq.msi[gsi].addr, 0xfee03000);

	/* No entry: small, misaligned, beyond the table. */
	bus_write(&mmio, table(1, 1, 8), 1, 0);
	bus_write(&mmio, table(1, 1, 8), 2, 0);
	bus_write(&mmio, table(1, 1, 6), 4, 0);
	bus_write(&mmio, table(1, 1, 4), 8, 0);
	bus_write(&mmio, table(1, VECTORS, 0), 4, 0xfee01000);
	bus_write(&mmio, table(1, 0, 0xffc), 4, 1);
	assert_int_equal(bus_read(&mmio, table(1, VECTORS, 0), 8), 0);
	assert_int_equal(bus_read(&mmio, table(1, 1, 0), 8), 0xfee03000);
	assert_int_equal(bus_read(&mmio, table(1, 1, 8), 8), 0x4042);
}

static uint64_t pending_bits(void)
{
	return bus_read(&mmio, table(1, 0, 0x800), 8);
}

static void msix_masks(void **unused)
{
	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	set_control(PCI_MSIX_FLAGS_ENABLE);
	for (unsigned i = 0; i < VECTORS; i++) {
		program(i, 0xfee00000, i, false);
	}
	/* A masked vector waits, once. */
	bus_write(&mmio, table(1, 2, 12), 4, 1);
	pci_notify(&fn[0].pci, 2);
	pci_notify(&fn[0].pci, 2);
	assert_int_equal(fake_irq_fired(msi(2)), 0);
	assert_int_equal(pending_bits(), 4);
	bus_write(&mmio, table(1, 0, 0x800), 8, 0); /* read-only */
	assert_int_equal(pending_bits(), 4);
	assert_int_equal(bus_read(&mmio, table(1, 0, 0x808), 8), 0);
	bus_write(&mmio, table(1, 2, 12), 4, 0);
	assert_int_equal(fake_irq_fired(msi(2)), 1);
	assert_int_equal(pending_bits(), 0);

	/* So do all of a masked function; a new route is set before they go. */
	set_control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_notify(&fn[0].pci, 0);
	pci_notify(&fn[0].pci, 1);
	program(1, 0xfee00000, 77, false);
	assert_int_equal(irq.msi[msi(1)->gsi].data, 1);
	assert_int_equal(pending_bits(), 3);
	set_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(irq.msi[msi(1)->gsi].data, 77);
	assert_int_equal(fake_irq_fired(msi(0)), 1);
	assert_int_equal(fake_irq_fired(msi(1)), 1);
	assert_int_equal(pending_bits(), 0);

	/* Both masks. */
	bus_write(&mmio, table(1, 0, 12), 4, 1);
	set_control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_notify(&fn[0].pci, 0);
	set_control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake_irq_fired(msi(0)), 0);
	bus_write(&mmio, table(1, 0, 12), 4, 0);
	assert_int_equal(fake_irq_fired(msi(0)), 1);
}

static void intx(void **unused)
{
	(void)unused;
	/* Slot 1 and, on the same wire, slot 9. */
	assert_int_equal(pci_add(&pci, &fn[2].pci, PCI_DEVFN(9, 0)), 0);
	pci_intx(&fn[0].pci, true);
	assert_true(irq.wire[GSI_PCI + 1]);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	pci_intx(&fn[2].pci, true);
	pci_intx(&fn[0].pci, false);
	assert_true(irq.wire[GSI_PCI + 1]);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	pci_intx(&fn[2].pci, false);
	assert_false(irq.wire[GSI_PCI + 1]);
	assert_int_equal(irq.wire_changes[GSI_PCI + 1], 2);

	/* The guest's switch hides the level, and shows it again; status tells the truth. */
	set_cfg(1, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	pci_intx(&fn[0].pci, true);
	assert_false(irq.wire[GSI_PCI + 1]);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	set_cfg(1, PCI_COMMAND, 2, 0);
	assert_true(irq.wire[GSI_PCI + 1]);
	/* With MSI-X there is no INTx. */
	set_control(PCI_MSIX_FLAGS_ENABLE);
	assert_false(irq.wire[GSI_PCI + 1]);
	set_control(0);
	assert_true(irq.wire[GSI_PCI + 1]);
	/* Left up: taking the function away lets go of the wire, see teardown(). */
}

static void add_refuses(void **unused)
{
	(void)unused;
	assert_int_equal(pci_add(&pci, &fn[2].pci, PCI_DEVFN(1, 0)), -EEXIST);
	irq.msi_limit = 2 * VECTORS + 1;
	assert_int_equal(pci_add(&pci, &fn[2].pci, PCI_DEVFN(3, 0)), -ENOSPC);
	assert_int_equal(irq.nmsis, 2 * VECTORS);
	assert_int_equal(cfg(3, 0, 4), 0xffffffff);
	irq.msi_limit = 0;
	assert_int_equal(pci_add(&pci, &fn[2].pci, PCI_DEVFN(3, 0)), 0);
	assert_int_equal(cfg(3, 0, 4), 0x56781234);
}

static void state(void **unused)
{
	uint8_t buf[1024];
	size_t len;

	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	set_cfg(1, PCI_BASE_ADDRESS_0, 4, WINDOW + 0x300000);
	set_cfg(1, 0x44, 1, 0x5a);
	set_control(PCI_MSIX_FLAGS_ENABLE);
	program(0, 0xfee00000, 0x31, false);
	program(2, 0xfee00000, 0x33, true);
	pci_notify(&fn[0].pci, 2);
	pci_intx(&fn[0].pci, true);
	len = state_saved(pci_device_state, &fn[0].pci, buf, sizeof(buf));

	/* Into another function of the same kind, elsewhere: slot 1's twin after a move. */
	pci_device_fini(&fn[0].pci);
	assert_false(irq.wire[GSI_PCI + 1]);
	function_init(&fn[0]);
	assert_int_equal(pci_add(&pci, &fn[0].pci, PCI_DEVFN(1, 0)), 0);
	assert_int_equal(state_loaded(pci_device_state, &fn[0].pci, buf, len), 0);
	assert_int_equal(fn[0].nmoved, 3);
	assert_int_equal(fn[0].moved[0].addr, WINDOW + 0x300000);
	assert_int_equal(cfg(1, 0x44, 1), 0x5a);
	fn[0].bar_value = 3;
	assert_int_equal(bus_read(&mmio, WINDOW + 0x300000, 1), 3);
	assert_int_equal(irq.msi[msi(0)->gsi].sets, 1);
	assert_int_equal(irq.msi[msi(0)->gsi].data, 0x31);
	assert_int_equal(irq.msi[msi(2)->gsi].sets, 0);
	assert_int_equal(pending_bits(), 4);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
	assert_false(irq.wire[GSI_PCI + 1]);
	set_control(0);
	assert_true(irq.wire[GSI_PCI + 1]);
	set_control(PCI_MSIX_FLAGS_ENABLE);
	program(2, 0xfee00000, 0x33, false);
	assert_int_equal(fake_irq_fired(msi(2)), 1);

	/* Loading over what is there tells of each BAR anew, and routes anew. */
	fn[0].nmoved = 0;
	assert_int_equal(state_loaded(pci_device_state, &fn[0].pci, buf, len), 0);
	assert_int_equal(fn[0].nmoved, 6);
	assert_int_equal(irq.msi[msi(0)->gsi].sets, 2);

	assert_short_refused(pci_device_state, &fn[0].pci, buf, len);
}

static void state_refuses(void **unused)
{
	/* The sections: pci, 24 bytes, then config, intx level; then msix, 24 bytes. */
	enum {
		CONFIG = 24,
		LEVEL = CONFIG + 256,
		COUNT = LEVEL + 1 + 24,
		ENTRY = COUNT + 4
	};
	static const struct {
		size_t at;
		uint8_t flip;
	} cases[] = {
		{CONFIG + PCI_VENDOR_ID, 1},
		{CONFIG + PCI_STATUS, PCI_STATUS_CAP_LIST},
		{CONFIG + PCI_BASE_ADDRESS_0 + 1, 1},
		{CONFIG + PCI_BASE_ADDRESS_4, 1},
		{CONFIG + 0x40, 1},
		{CONFIG + 0x48 + PCI_MSIX_FLAGS, 1},
		{LEVEL, 2},
		{COUNT, 1},
		{ENTRY, 1},
		{ENTRY + 12, 2},
		{ENTRY + 16, 2},
	};
	uint8_t buf[1024];
	size_t len;

	(void)unused;
	assert_int_equal(pci_assign(&pci, WINDOW, WINDOW_LEN), 0);
	len = state_saved(pci_device_state, &fn[0].pci, buf, sizeof(buf));
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		buf[cases[i].at] ^= cases[i].flip;
		assert_int_equal(state_loaded(pci_device_state, &fn[0].pci, buf, len), -EINVAL);
		buf[cases[i].at] ^= cases[i].flip;
	}
	assert_int_equal(state_loaded(pci_device_state, &fn[0].pci, buf, len), 0);
	/* The interrupt bit of status is no property of the function. */
	buf[CONFIG + PCI_STATUS] ^= PCI_STATUS_INTERRUPT;
	assert_int_equal(state_loaded(pci_device_state, &fn[0].pci, buf, len), 0);
	assert_int_equal(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
}

static void bus_state(void **unused)
{
	uint8_t buf[64];
	size_t len;

	(void)unused;
	bus_write(&pio, 0xcf8, 4, 0x80000840);
	len = state_saved(pci_bus_state, &pci, buf, sizeof(buf));
	bus_write(&pio, 0xcf8, 4, 0);
	assert_int_equal(state_loaded(pci_bus_state, &pci, buf, len), 0);
	assert_int_equal(bus_read(&pio, 0xcf8, 4), 0x80000840);
	buf[24] |= 1;
	assert_int_equal(state_loaded(pci_bus_state, &pci, buf, len), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(header),	    TEST(hooks),	  TEST(write_one_to_clear),
		TEST(nobody_there), TEST(ports),	  TEST(reset_control),
		TEST(assign),	    TEST(assign_refuses), TEST(sizing),
		TEST(decode),	    TEST(overlap),	  TEST(msix),
		TEST(msix_masks),   TEST(intx),		  TEST(add_refuses),
		TEST(state),	    TEST(state_refuses),  TEST(bus_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
