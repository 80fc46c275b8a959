#include "vmm/board/acpi.h"

#include <string.h>

#include "lib/base/check.h"
#include "vmm/board/dsdt.hex"
#include "vmm/board/layout.h"

#define OEM_ID	     "YADO  "
#define OEM_TABLE_ID "YADOVM  "
#define CREATOR_ID   "YADO"

struct __attribute__((packed)) acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};

struct __attribute__((packed)) acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_address;
	uint32_t length;
	uint64_t xsdt_address;
	uint8_t extended_checksum, reserved[3];
};

#define RSDP_V1_SIZE 20

/* Generic address structure. */
struct __attribute__((packed)) acpi_gas {
	uint8_t space_id, bit_width, bit_offset, access_size;
	uint64_t address;
};

#define SPACE_IO 1

struct __attribute__((packed)) acpi_fadt {
	struct acpi_header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved0, preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	uint32_t gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len;
	uint8_t gpe1_base, cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct acpi_gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct acpi_gas x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
	struct acpi_gas sleep_control_reg, sleep_status_reg;
	uint64_t hypervisor_vendor_identity;
};

#define FADT_REVISION	     6
#define FADT_MINOR	     3
#define IAPC_LEGACY_DEVICES  BIT(0)
#define IAPC_8042	     BIT(1)
#define IAPC_VGA_NOT_PRESENT BIT(2)
#define FADT_WBINVD	     BIT(0)
#define FADT_PROC_C1	     BIT(2)
#define FADT_SLP_BUTTON	     BIT(5) /* no fixed sleep button; the power button is fixed */
#define FADT_FIX_RTC	     BIT(6) /* no wake status of the RTC in fixed registers */
#define FADT_RESET_REG_SUP   BIT(10)
#define C_STATE_NONE	     0xfff /* longer than any latency that makes C2 or C3 worth it */

struct __attribute__((packed)) acpi_facs {
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved[31];
};

#define FACS_VERSION 2

struct __attribute__((packed)) acpi_madt {
	struct acpi_header header;
	uint32_t lapic_address, flags;
};

#define MADT_PCAT_COMPAT     1 /* there are 8259s too */
#define MADT_LAPIC	     0
#define MADT_IOAPIC	     1
#define MADT_OVERRIDE	     2
#define MADT_LAPIC_NMI	     4
#define MADT_X2APIC	     9
#define MADT_X2APIC_NMI	     10
#define MADT_ENABLED	     1
#define MADT_LEVEL_HIGH	     0xd
#define MADT_X2APIC_FROM     255 /* APIC IDs that one byte cannot name */
#define MADT_ALL_PROCESSORS8 0xff

struct __attribute__((packed)) madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
};

struct __attribute__((packed)) madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
};

struct __attribute__((packed)) madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
};

struct __attribute__((packed)) madt_lapic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
};

struct __attribute__((packed)) madt_x2apic {
	uint8_t type, length, reserved[2];
	uint32_t apic_id, flags, uid;
};

struct __attribute__((packed)) madt_x2apic_nmi {
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
};

struct __attribute__((packed)) acpi_mcfg {
	struct acpi_header header;
	uint8_t reserved0[8];
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved1;
};

_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.4, table 5.4");
_Static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.4, table 5.3");
_Static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.4, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, flags) == 112, "ACPI 6.4, table 5.9");
_Static_assert(offsetof(struct acpi_fadt, x_pm1a_evt_blk) == 148, "ACPI 6.4, table 5.9");
_Static_assert(sizeof(struct acpi_facs) == 64, "ACPI 6.4, table 5.13");
_Static_assert(sizeof(struct acpi_madt) == 44, "ACPI 6.4, table 5.19");
_Static_assert(sizeof(struct madt_lapic) == 8, "ACPI 6.4, table 5.21");
_Static_assert(sizeof(struct madt_ioapic) == 12, "ACPI 6.4, table 5.22");
_Static_assert(sizeof(struct madt_override) == 10, "ACPI 6.4, table 5.25");
_Static_assert(sizeof(struct madt_lapic_nmi) == 6, "ACPI 6.4, table 5.28");
_Static_assert(sizeof(struct madt_x2apic) == 16, "ACPI 6.4, table 5.33");
_Static_assert(sizeof(struct madt_x2apic_nmi) == 12, "ACPI 6.4, table 5.35");
_Static_assert(sizeof(struct acpi_mcfg) == 60, "PCI Firmware 3.3, table 4-2");

/* Where the next table goes. */
struct area {
	uint8_t *host; /* the VMM's view of LAYOUT_ACPI */
	uint32_t used;
};

/* Appends @len bytes on a boundary of @align. Return: their guest-physical address. */
static uint32_t append(struct area *a, const void *data, uint32_t len, uint32_t align)
{
	uint32_t at = ALIGN_UP(a->used, align);

	check(at <= LAYOUT_ACPI_SIZE && len <= LAYOUT_ACPI_SIZE - at);
	memcpy(a->host + at, data, len);
	a->used = at + len;
	return LAYOUT_ACPI + at;
}

/* What has to be added for all bytes to sum to zero. */
static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum = (uint8_t)(sum + p[i]);
	}
	return (uint8_t)-sum;
}

static struct acpi_header header(const char *signature, uint8_t revision, uint32_t length)
{
	struct acpi_header h = {
		.length = length, .revision = revision, .oem_revision = 1, .creator_revision = 1};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
	return h;
}

/* Closes the table that begins at @addr and reaches to here. Return: @addr. */
static uint32_t seal(struct area *a, uint32_t addr)
{
	uint8_t *host = a->host + (addr - LAYOUT_ACPI);
	struct acpi_header h;

	memcpy(&h, host, sizeof(h));
	h.length = a->used - (addr - LAYOUT_ACPI);
	h.checksum = 0;
	memcpy(host, &h, sizeof(h));
	h.checksum = checksum(host, h.length);
	memcpy(host, &h, sizeof(h));
	return addr;
}

static struct acpi_gas port(uint16_t address, uint8_t len_bytes)
{
	return (struct acpi_gas){
		.space_id = SPACE_IO, .bit_width = (uint8_t)(len_bytes * 8), .address = address};
}

static uint32_t add_fadt(struct area *a, uint32_t facs, uint32_t dsdt)
{
	struct acpi_fadt t = {
		.header = header("FACP", FADT_REVISION, sizeof(t)),
		.firmware_ctrl = facs,
		.dsdt = dsdt,
		.x_dsdt = dsdt,
		.sci_int = GSI_SCI,
		/* No SMI command: the machine is in ACPI mode from the start. */
		.pm1a_evt_blk = PORT_PM1A_EVT,
		.pm1_evt_len = 4,
		.x_pm1a_evt_blk = port(PORT_PM1A_EVT, 4),
		.pm1a_cnt_blk = PORT_PM1A_CNT,
		.pm1_cnt_len = 2,
		.x_pm1a_cnt_blk = port(PORT_PM1A_CNT, 2),
		.pm_tmr_blk = PORT_PM_TMR,
		.pm_tmr_len = 4,
		.x_pm_tmr_blk = port(PORT_PM_TMR, 4),
		.gpe0_blk = PORT_GPE0,
		.gpe0_blk_len = PORT_GPE0_LEN,
		.x_gpe0_blk = port(PORT_GPE0, PORT_GPE0_LEN),
		.p_lvl2_lat = C_STATE_NONE,
		.p_lvl3_lat = C_STATE_NONE,
		.century = RTC_CENTURY,
		.iapc_boot_arch = IAPC_LEGACY_DEVICES | IAPC_8042 | IAPC_VGA_NOT_PRESENT,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
			 FADT_RESET_REG_SUP,
		.reset_reg = port(PORT_RESET_CONTROL, 1),
		.reset_value = RESET_CONTROL_FULL,
		.minor_version = FADT_MINOR,
	};

	memcpy(&t.hypervisor_vendor_identity, "YadoYado", 8);
	return seal(a, append(a, &t, sizeof(t), 16));
}

static uint32_t add_facs(struct area *a)
{
	struct acpi_facs t = {
		.signature = {'F', 'A', 'C', 'S'}, .length = sizeof(t), .version = FACS_VERSION};

	return append(a, &t, sizeof(t), 64);
}

static void add_cpu(struct area *a, unsigned id)
{
	if (id < MADT_X2APIC_FROM) {
		struct madt_lapic e = {MADT_LAPIC, sizeof(e), (uint8_t)id, (uint8_t)id,
				       MADT_ENABLED};

		append(a, &e, sizeof(e), 1);
	} else {
		struct madt_x2apic e = {.type = MADT_X2APIC,
					.length = sizeof(e),
					.apic_id = id,
					.flags = MADT_ENABLED,
					.uid = id};

		append(a, &e, sizeof(e), 1);
	}
}

static uint32_t add_madt(struct area *a, unsigned ncpus)
{
	struct acpi_madt t = {
		.header = header("APIC", 5, 0),
		.lapic_address = LAYOUT_LAPIC,
		.flags = MADT_PCAT_COMPAT,
	};
	struct madt_ioapic ioapic = {
		.type = MADT_IOAPIC, .length = sizeof(ioapic), .address = LAYOUT_IOAPIC};
	struct madt_override pit = {
		.type = MADT_OVERRIDE, .length = sizeof(pit), .source = 0, .gsi = GSI_PIT};
	struct madt_override sci = {.type = MADT_OVERRIDE,
				    .length = sizeof(sci),
				    .source = GSI_SCI,
				    .gsi = GSI_SCI,
				    .flags = MADT_LEVEL_HIGH};
	struct madt_lapic_nmi nmi = {.type = MADT_LAPIC_NMI,
				     .length = sizeof(nmi),
				     .uid = MADT_ALL_PROCESSORS8,
				     .lint = 1};
	struct madt_x2apic_nmi nmi2 = {
		.type = MADT_X2APIC_NMI, .length = sizeof(nmi2), .uid = UINT32_MAX, .lint = 1};
	uint32_t addr = append(a, &t, sizeof(t), 16);

	for (unsigned id = 0; id < ncpus; id++) {
		add_cpu(a, id);
	}
	append(a, &ioapic, sizeof(ioapic), 1);
	append(a, &pit, sizeof(pit), 1);
	append(a, &sci, sizeof(sci), 1);
	append(a, &nmi, sizeof(nmi), 1);
	if (ncpus > MADT_X2APIC_FROM) {
		append(a, &nmi2, sizeof(nmi2), 1);
	}
	return seal(a, addr);
}

/*
 * The window is as large as the host bridge's PCIEXBAR says, and all of it is reserved; but of what
 * lies in it there is this much to find.
 */
static uint32_t add_mcfg(struct area *a)
{
	struct acpi_mcfg t = {
		.header = header("MCFG", 1, sizeof(t)),
		.base = LAYOUT_ECAM,
		.last_bus = PCI_LAST_BUS,
	};

	return seal(a, append(a, &t, sizeof(t), 16));
}

gpa_t acpi_build(struct guest_memory *mem, unsigned ncpus)
{
	struct area a = {.host = guest_ptr(mem, gpa(LAYOUT_ACPI), LAYOUT_ACPI_SIZE)};
	struct acpi_rsdp rsdp = {
		.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
		.oem_id = {'Y', 'A', 'D', 'O', ' ', ' '},
		.revision = 2,
		.length = sizeof(rsdp),
	};
	struct acpi_header xsdt = header("XSDT", 1, 0);
	uint64_t table[3];

	check(a.host != NULL && ncpus >= 1 && ncpus <= ACPI_CPUS_MAX);
	/* First, where also a search of the BIOS area finds it. */
	uint32_t root = append(&a, &rsdp, sizeof(rsdp), 16);
	uint32_t facs = add_facs(&a);
	uint32_t dsdt = append(&a, dsdt_aml_code, sizeof(dsdt_aml_code), 16);

	table[0] = add_fadt(&a, facs, dsdt);
	table[1] = add_madt(&a, ncpus);
	table[2] = add_mcfg(&a);
	rsdp.xsdt_address = append(&a, &xsdt, sizeof(xsdt), 16);
	append(&a, table, sizeof(table), 1);
	seal(&a, (uint32_t)rsdp.xsdt_address);

	rsdp.checksum = checksum(&rsdp, RSDP_V1_SIZE);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(a.host, &rsdp, sizeof(rsdp));
	return gpa(root);
}
