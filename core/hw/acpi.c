#include "core/hw/acpi.h"

#include <errno.h>
#include <string.h>

#include "lib/base/bytes.h"

#define HEADER_BYTES 36
#define TABLE_MAX    (4 * MIB) /* of one table */
#define TABLES_MAX   256
#define RSDP_V1	     20
#define RSDP_V2	     36

#define MADT_LAPIC	    0
#define MADT_IOAPIC	    1
#define MADT_OVERRIDE	    2
#define MADT_LAPIC_OVERRIDE 5
#define MADT_X2APIC	    9
#define MADT_ENABLED	    BIT(0)
#define MADT_PCAT_COMPAT    BIT(0)

#define FADT_RESET_REG BIT(10)

struct reader {
	struct acpi_info *info;
	acpi_map_fn *map;
	void *ctx;
};

struct table {
	const uint8_t *p;
	size_t len;
};

static bool sums_to_zero(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum = (uint8_t)(sum + p[i]);
	}
	return sum == 0;
}

/* A whole table whose checksum is right. */
static must_use bool read_table(const struct reader *r, uint64_t pa, struct table *t)
{
	const uint8_t *p = r->map(r->ctx, pa, HEADER_BYTES);

	if (p == NULL) {
		return false;
	}
	t->len = load_le32(p + 4);
	if (t->len < HEADER_BYTES || t->len > TABLE_MAX) {
		return false;
	}
	t->p = r->map(r->ctx, pa, t->len);
	return t->p != NULL && sums_to_zero(t->p, t->len);
}

/* A field that the table's length decides upon: 0 where the table is too short. */
static uint64_t field(const struct table *t, size_t offset, unsigned bytes)
{
	return offset + bytes <= t->len ? load_le(t->p + offset, bytes) : 0;
}

static void add_cpu(struct acpi_info *info, uint32_t apic_id, uint32_t acpi_id)
{
	for (size_t i = 0; i < info->n_cpus; i++) {
		if (info->cpus[i].apic_id == apic_id) {
			return; /* firmware may list one both as local APIC and as x2APIC */
		}
	}
	if (info->n_cpus == ACPI_CPUS_MAX) {
		info->cpus_left_out++;
		return;
	}
	info->cpus[info->n_cpus++] = (struct acpi_cpu){apic_id, acpi_id};
}

static void add_override(struct acpi_info *info, const uint8_t *e)
{
	unsigned polarity = load_le16(e + 8) & 3;
	unsigned trigger = load_le16(e + 8) >> 2 & 3;

	if (e[2] == 0 && e[3] < ACPI_ISA_IRQS) { /* bus 0 is ISA */
		info->isa[e[3]].gsi = load_le32(e + 4);
		info->isa[e[3]].is_low = polarity == 3;
		info->isa[e[3]].is_level = trigger == 3;
	}
}

static void read_madt_entry(struct acpi_info *info, const uint8_t *e, size_t len)
{
	switch (e[0]) {
	case MADT_LAPIC:
		if (len >= 8 && (load_le32(e + 4) & MADT_ENABLED) != 0) {
			add_cpu(info, e[3], e[2]);
		}
		break;
	case MADT_X2APIC:
		if (len >= 16 && (load_le32(e + 8) & MADT_ENABLED) != 0) {
			add_cpu(info, load_le32(e + 4), load_le32(e + 12));
		}
		break;
	case MADT_IOAPIC:
		if (len >= 12 && info->n_ioapics < ACPI_IOAPICS_MAX) {
			info->ioapics[info->n_ioapics++] = (struct acpi_ioapic){
				.base = load_le32(e + 4),
				.gsi_base = load_le32(e + 8),
				.id = e[2],
			};
		}
		break;
	case MADT_OVERRIDE:
		if (len >= 10) {
			add_override(info, e);
		}
		break;
	case MADT_LAPIC_OVERRIDE:
		if (len >= 12) {
			info->lapic_base = load_le64(e + 4);
		}
		break;
	default:
		break;
	}
}

static void read_madt(struct reader *r, const struct table *t)
{
	struct acpi_info *info = r->info;

	if (t->len < 44) {
		return;
	}
	info->lapic_base = load_le32(t->p + 36);
	info->has_pics = (load_le32(t->p + 40) & MADT_PCAT_COMPAT) != 0;
	for (size_t at = 44; t->len - at >= 2;) {
		size_t len = t->p[at + 1];
		if (len < 2 || len > t->len - at) {
			return;
		}
		read_madt_entry(info, t->p + at, len);
		at += len;
	}
}

static void read_mcfg(struct reader *r, const struct table *t)
{
	struct acpi_info *info = r->info;

	for (size_t at = 44; at + 16 <= t->len && info->n_ecams < ACPI_ECAMS_MAX; at += 16) {
		const uint8_t *e = t->p + at;
		if (e[10] <= e[11]) {
			info->ecams[info->n_ecams++] = (struct acpi_ecam){
				.base = load_le64(e),
				.segment = load_le16(e + 8),
				.bus_first = e[10],
				.bus_last = e[11],
			};
		}
	}
}

static void read_hpet(struct reader *r, const struct table *t)
{
	if (t->len >= 56 && t->p[40] == 0) { /* address space: memory */
		r->info->hpet = load_le64(t->p + 44);
	}
}

/* One number of AML: ZeroOp, OneOp, or BytePrefix and a byte. Return: bytes read, 0: no number. */
static size_t aml_byte(const uint8_t *p, size_t len, uint8_t *value)
{
	if (len >= 1 && p[0] <= 1) {
		*value = p[0];
		return 1;
	}
	if (len >= 2 && p[0] == 0x0a) {
		*value = p[1];
		return 2;
	}
	return 0;
}

/* Name (_S5, Package () {a, b, ...}), as AML has it: NameOp, perhaps a root prefix, "_S5_",
 * PackageOp, PkgLength, NumElements, elements. Spec: ACPI 6.4, 20.2 "AML Grammar Definition" */
static void read_s5(struct acpi_info *info, const struct table *t)
{
	for (size_t at = HEADER_BYTES + 2; at + 8 <= t->len; at++) {
		const uint8_t *p = t->p + at;
		if (memcmp(p, "_S5_", 4) != 0 || p[4] != 0x12 ||
		    (p[-1] != 0x08 && !(p[-1] == '\\' && p[-2] == 0x08))) {
			continue;
		}
		size_t i = at + 5;
		i += 1 + (t->p[i] >> 6); /* PkgLength tells in its first byte how many follow */
		i += 1;			 /* NumElements */
		if (i >= t->len) {
			return;
		}
		uint8_t a, b;
		size_t n = aml_byte(t->p + i, t->len - i, &a);
		if (n == 0 || aml_byte(t->p + i + n, t->len - i - n, &b) == 0) {
			return;
		}
		info->has_s5 = true;
		info->s5_a = a & 7;
		info->s5_b = b & 7;
		return;
	}
}

static void read_register(struct acpi_register *reg, const uint8_t *gas)
{
	static const enum acpi_register_kind kinds[] = {
		ACPI_REGISTER_MEMORY,
		ACPI_REGISTER_PORT,
		ACPI_REGISTER_PCI,
	};

	reg->address = load_le64(gas + 4);
	if (gas[0] < ARRAY_SIZE(kinds) && reg->address != 0 &&
	    (gas[0] != 1 || reg->address <= UINT16_MAX)) {
		reg->kind = kinds[gas[0]];
	}
}

/* A port, from the old 32-bit field or, if that is 0, from the new one. */
static uint16_t read_port(const struct table *t, size_t old, size_t gas)
{
	uint64_t port = field(t, old, 4);

	if (port == 0 && field(t, gas, 1) == 1) {
		port = field(t, gas + 4, 8);
	}
	return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void read_fadt(struct reader *r, const struct table *t)
{
	struct acpi_info *info = r->info;
	struct table dsdt;

	if (t->len < 116) {
		return;
	}
	uint64_t flags = field(t, 112, 4);
	info->has_fadt = true;
	info->smi_command = (uint16_t)field(t, 48, 2);
	info->acpi_enable = (uint8_t)field(t, 52, 1);
	info->pm1a_control = read_port(t, 64, 172);
	info->pm1b_control = read_port(t, 68, 184);
	info->pm_timer = field(t, 91, 1) == 4 ? read_port(t, 76, 208) : 0;
	if ((flags & FADT_RESET_REG) != 0 && t->len >= 129) {
		read_register(&info->reset, t->p + 116);
		info->reset_value = t->p[128];
	}
	uint64_t pa = field(t, 140, 8);
	if (pa == 0) {
		pa = field(t, 40, 4);
	}
	if (pa != 0 && read_table(r, pa, &dsdt) && memcmp(dsdt.p, "DSDT", 4) == 0) {
		read_s5(info, &dsdt);
	}
}

static const struct {
	char signature[5];
	void (*read)(struct reader *r, const struct table *t);
} readers[] = {
	{"APIC", read_madt},
	{"FACP", read_fadt},
	{"HPET", read_hpet},
	{"MCFG", read_mcfg},
};

/* The first table of each kind counts. */
static void read_tables(struct reader *r, const struct table *root, unsigned entry_bytes)
{
	size_t n = MIN((root->len - HEADER_BYTES) / entry_bytes, TABLES_MAX);
	unsigned seen = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t pa = load_le(root->p + HEADER_BYTES + i * entry_bytes, entry_bytes);
		const uint8_t *p = r->map(r->ctx, pa, HEADER_BYTES);
		for (size_t k = 0; p != NULL && k < ARRAY_SIZE(readers); k++) {
			struct table t;
			if (memcmp(p, readers[k].signature, 4) == 0 && (seen & 1U << k) == 0 &&
			    read_table(r, pa, &t)) {
				readers[k].read(r, &t);
				seen |= 1U << k;
				break;
			}
		}
	}
}

static bool is_rsdp(const uint8_t *p, size_t len)
{
	return len >= RSDP_V1 && memcmp(p, "RSD PTR ", 8) == 0 && sums_to_zero(p, RSDP_V1);
}

int acpi_parse(struct acpi_info *info, const void *rsdp, size_t rsdp_len, acpi_map_fn *map,
	       void *ctx)
{
	struct reader r = {.info = info, .map = map, .ctx = ctx};
	const uint8_t *p = rsdp;
	struct table root;

	*info = (struct acpi_info){0};
	for (size_t i = 0; i < ACPI_ISA_IRQS; i++) {
		info->isa[i].gsi = (uint32_t)i;
	}
	if (!is_rsdp(p, rsdp_len)) {
		return -ENOENT;
	}
	if (rsdp_len >= RSDP_V2 && p[15] >= 2 && read_table(&r, load_le64(p + 24), &root) &&
	    memcmp(root.p, "XSDT", 4) == 0) {
		read_tables(&r, &root, 8);
		return 0;
	}
	if (read_table(&r, load_le32(p + 16), &root) && memcmp(root.p, "RSDT", 4) == 0) {
		read_tables(&r, &root, 4);
		return 0;
	}
	return -ENOENT;
}

int64_t acpi_find_rsdp(const void *area, size_t len)
{
	const uint8_t *p = area;

	for (size_t at = 0; at <= len && len - at >= RSDP_V1; at += 16) {
		if (is_rsdp(p + at, len - at)) {
			return (int64_t)at;
		}
	}
	return -ENOENT;
}
