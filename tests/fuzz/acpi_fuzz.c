/*
 * Any bytes as the RSDP and the memory with ACPI's tables. Sums are put right, since a fuzzer does
 * not guess them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/hw/acpi.h"
#include "lib/base/bytes.h"
#include "tests/fuzz/input.h"

#define RSDP_BYTES 36
#define BASE	   0x1000

struct memory {
	uint8_t *data;
	size_t size;
};

static void put_right(uint8_t *p, size_t len, size_t at)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum = (uint8_t)(sum + p[i]);
	}
	p[at] = (uint8_t)(p[at] - sum);
}

static const void *map(void *ctx, uint64_t pa, uint64_t len)
{
	struct memory *m = ctx;

	if (!range_inside(pa, len, BASE, m->size)) {
		return NULL;
	}
	uint8_t *p = m->data + (pa - BASE);
	if (len > 36 && load_le32(p + 4) == len) {
		put_right(p, len, 9);
	}
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct acpi_info info;
	uint8_t rsdp[RSDP_BYTES];
	struct memory m = {.size = size - RSDP_BYTES};

	if (size < RSDP_BYTES) {
		return 0;
	}
	memcpy(rsdp, data, RSDP_BYTES);
	memcpy(rsdp, "RSD PTR ", 8);
	put_right(rsdp, 20, 8);
	/* Exactly as long, so that a read behind it is seen. */
	m.data = malloc(m.size > 0 ? m.size : 1);
	if (m.data == NULL) {
		return 0;
	}
	memcpy(m.data, data + RSDP_BYTES, m.size);
	if (acpi_parse(&info, rsdp, sizeof(rsdp), map, &m) == 0 &&
	    (info.n_cpus > ACPI_CPUS_MAX || info.n_ioapics > ACPI_IOAPICS_MAX ||
	     info.n_ecams > ACPI_ECAMS_MAX || info.s5_a > 7)) {
		abort();
	}
	free(m.data);
	return 0;
}
