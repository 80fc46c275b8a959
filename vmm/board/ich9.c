#include "vmm/board/ich9.h"

#include "lib/base/bytes.h"
#include "vmm/board/layout.h"

#define VENDOR_INTEL	0x8086
#define DEVICE_MCH	0x29c0
#define DEVICE_LPC	0x2918
#define VENDOR_QUMRANET 0x1af4 /* QEMU's subsystem IDs: guests know the pair */
#define SUBSYSTEM_QEMU	0x1100

/* Host bridge: Intel 3 Series Express Chipset data sheet, "DRAM Controller Registers". */
#define MCH_PCIEXBAR	     0x60
#define MCH_PCIEXBAR_ENABLED 1 /* and the size field is 0: 256 MiB */
#define MCH_PAM0	     0x90
#define MCH_PAM_LEN	     7
#define MCH_SMRAM	     0x9d
#define MCH_SMRAM_RESET	     0x02
#define MCH_SMRAM_WRITABLE   0x70 /* D_OPEN, D_CLS, D_LCK */

/* LPC bridge: ICH9 data sheet, "LPC Interface PCI Configuration Registers". */
#define LPC_PMBASE	      0x40
#define LPC_PMBASE_IO	      1
#define LPC_ACPI_CNTL	      0x44
#define LPC_ACPI_CNTL_ENABLED 0x80 /* ACPI_EN; SCI_IRQ_SEL 0 is IRQ 9 */
#define LPC_PIRQA	      0x60
#define LPC_PIRQE	      0x68
#define LPC_PIRQ_OFF	      0x80 /* not routed to the PIC */
#define LPC_PIRQ_WRITABLE     0x8f
#define LPC_RCBA	      0xf0
#define LPC_RCBA_WRITABLE     0xffffc001

static void init_host(struct pci_device *dev)
{
	static const struct pci_id id = {
		.vendor = VENDOR_INTEL,
		.device = DEVICE_MCH,
		.subsystem_vendor = VENDOR_QUMRANET,
		.subsystem = SUBSYSTEM_QEMU,
		.class_code = 0x060000,
	};

	pci_device_init(dev, "host bridge", &id, NULL);
	store_le64(dev->config + MCH_PCIEXBAR, LAYOUT_ECAM | MCH_PCIEXBAR_ENABLED);
	/* RAM lies behind the BIOS area in any case; firmware may still write these. */
	memset(dev->wmask + MCH_PAM0, 0x33, MCH_PAM_LEN);
	dev->config[MCH_SMRAM] = MCH_SMRAM_RESET;
	dev->wmask[MCH_SMRAM] = MCH_SMRAM_WRITABLE;
}

static void init_lpc(struct pci_device *dev)
{
	static const struct pci_id id = {
		.vendor = VENDOR_INTEL,
		.device = DEVICE_LPC,
		.subsystem_vendor = VENDOR_QUMRANET,
		.subsystem = SUBSYSTEM_QEMU,
		.class_code = 0x060100,
		.revision = 2,
		.multifunction = true,
	};

	pci_device_init(dev, "LPC bridge", &id, NULL);
	store_le32(dev->config + LPC_PMBASE, PORT_PM_BASE | LPC_PMBASE_IO);
	dev->config[LPC_ACPI_CNTL] = LPC_ACPI_CNTL_ENABLED;
	for (unsigned i = 0; i < 4; i++) {
		dev->config[LPC_PIRQA + i] = LPC_PIRQ_OFF;
		dev->config[LPC_PIRQE + i] = LPC_PIRQ_OFF;
		dev->wmask[LPC_PIRQA + i] = LPC_PIRQ_WRITABLE;
		dev->wmask[LPC_PIRQE + i] = LPC_PIRQ_WRITABLE;
	}
	/*
	 * Off, as after reset, and only kept when firmware sets it: nothing lies behind it, and an
	 * operating system that finds it on would look for a timer there.
	 */
	store_le32(dev->wmask + LPC_RCBA, LPC_RCBA_WRITABLE);
}

int ich9_init(struct ich9 *ich9, struct pci_bus *pci)
{
	int r;

	init_host(&ich9->host);
	init_lpc(&ich9->lpc);
	r = pci_add(pci, &ich9->host, PCI_DEVFN(SLOT_HOST, 0));
	if (r == 0) {
		r = pci_add(pci, &ich9->lpc, PCI_DEVFN(SLOT_LPC, 0));
	}
	if (r != 0) {
		ich9_fini(ich9);
	}
	return r;
}

void ich9_fini(struct ich9 *ich9)
{
	pci_device_fini(&ich9->lpc);
	pci_device_fini(&ich9->host);
}

void ich9_state(struct ich9 *ich9, struct state *s)
{
	state_begin(s, "ich9", 1);
	pci_device_state(&ich9->host, s);
	pci_device_state(&ich9->lpc, s);
	state_end(s);
}
