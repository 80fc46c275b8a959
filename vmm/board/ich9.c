#include "vmm/board/ich9.h"

#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/board/layout.h"
#include "vmm/board/pm.h"

_Static_assert(PM_BASE == PORT_PM_BASE && PM_LEN == PORT_PM_LEN && PM_SCI_GSI == GSI_SCI &&
		       PM_SLP_TYP_S5 == LAYOUT_S5_SLEEPTYPE,
	       "the ACPI tables tell where the power management is");

#define VENDOR_INTEL	 0x8086
#define DEVICE_MCH	 0x29c0
#define DEVICE_LPC	 0x2918
#define SUBSYSTEM_VENDOR 0x1af4 /* as QEMU's q35 */
#define SUBSYSTEM	 0x1100
#define CLASS_HOST	 0x060000
#define CLASS_ISA	 0x060100

/* Of the MCH. */
#define MCH_PCIEXBAR	0x60
#define PCIEXBAR_ENABLE 0x01 /* and a length of 256 MiB */
#define MCH_PAM0	0x90
#define MCH_PAMS	7
#define PAM0_WRITABLE	0x30
#define PAM_WRITABLE	0x33
#define MCH_SMRAM	0x9d
#define SMRAM_RESET	0x02
#define SMRAM_WRITABLE	0x70 /* D_OPEN, D_CLS, D_LCK */
#define MCH_ESMRAMC	0x9e
#define ESMRAMC_RESET	0x38
#define ESMRAMC_WRITE	0x87

/* Of the LPC bridge. */
#define LPC_PMBASE	   0x40
#define PMBASE_IO	   0x01
#define LPC_ACPI_CNTL	   0x44
#define ACPI_CNTL_EN	   0x80 /* and the SCI on IRQ 9 */
#define LPC_PIRQA	   0x60 /* to PIRQD */
#define LPC_PIRQE	   0x68 /* to PIRQH */
#define PIRQ_DISABLED	   0x80
#define PIRQ_WRITABLE	   0x8f
#define LPC_IO_DEC	   0x80 /* with the enables behind it */
#define LPC_EN_WRITABLE	   0x3f0f
#define IO_DEC_WRITABLE	   0x1377
#define LPC_GEN_PMCON_1	   0xa0
#define GEN_PMCON_WRITABLE 0x3ebf
#define LPC_RCBA	   0xf0
#define RCBA_WRITABLE	   0xffffc001

static void init_mch(struct pci_device *dev)
{
	static const struct pci_id id = {
		.vendor = VENDOR_INTEL,
		.device = DEVICE_MCH,
		.subsystem_vendor = SUBSYSTEM_VENDOR,
		.subsystem = SUBSYSTEM,
		.class_code = CLASS_HOST,
	};

	pci_device_init(dev, "mch", &id, NULL);
	store_le64(dev->config + MCH_PCIEXBAR, LAYOUT_ECAM | PCIEXBAR_ENABLE);
	/* Shadowing of the BIOS area: all of it is RAM, whatever these say. */
	memset(dev->wmask + MCH_PAM0, PAM_WRITABLE, MCH_PAMS);
	dev->wmask[MCH_PAM0] = PAM0_WRITABLE;
	dev->config[MCH_SMRAM] = SMRAM_RESET;
	dev->wmask[MCH_SMRAM] = SMRAM_WRITABLE;
	dev->config[MCH_ESMRAMC] = ESMRAMC_RESET;
	dev->wmask[MCH_ESMRAMC] = ESMRAMC_WRITE;
}

static void init_lpc(struct pci_device *dev)
{
	static const struct pci_id id = {
		.vendor = VENDOR_INTEL,
		.device = DEVICE_LPC,
		.subsystem_vendor = SUBSYSTEM_VENDOR,
		.subsystem = SUBSYSTEM,
		.class_code = CLASS_ISA,
		.revision = 2,
		.multifunction = true,
	};

	pci_device_init(dev, "lpc", &id, NULL);
	store_le32(dev->config + LPC_PMBASE, PM_BASE | PMBASE_IO);
	dev->config[LPC_ACPI_CNTL] = ACPI_CNTL_EN;
	for (unsigned i = 0; i < 4; i++) {
		dev->config[LPC_PIRQA + i] = PIRQ_DISABLED;
		dev->config[LPC_PIRQE + i] = PIRQ_DISABLED;
		dev->wmask[LPC_PIRQA + i] = PIRQ_WRITABLE;
		dev->wmask[LPC_PIRQE + i] = PIRQ_WRITABLE;
	}
	store_le32(dev->wmask + LPC_IO_DEC, IO_DEC_WRITABLE | (uint32_t)LPC_EN_WRITABLE << 16);
	store_le16(dev->wmask + LPC_GEN_PMCON_1, GEN_PMCON_WRITABLE);
	/* Disabled, as after reset. Nothing lies behind it, and a guest that sees it enabled looks.
	 */
	store_le32(dev->wmask + LPC_RCBA, RCBA_WRITABLE);
}

int ich9_init(struct ich9 *ich9, struct pci_bus *pci)
{
	int err;

	init_mch(&ich9->mch);
	init_lpc(&ich9->lpc);
	err = pci_add(pci, &ich9->mch, ICH9_MCH_DEVFN);
	if (err == 0) {
		err = pci_add(pci, &ich9->lpc, ICH9_LPC_DEVFN);
	}
	if (err < 0) {
		ich9_fini(ich9);
	}
	return err;
}

void ich9_fini(struct ich9 *ich9)
{
	pci_device_fini(&ich9->lpc);
	pci_device_fini(&ich9->mch);
}

void ich9_state(struct ich9 *ich9, struct state *s)
{
	state_begin(s, "ich9", 1);
	pci_device_state(&ich9->mch, s);
	pci_device_state(&ich9->lpc, s);
	state_end(s);
}
