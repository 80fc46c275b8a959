/*
 * Which attacks a guest need not defend against: its kernel would pay for it with each system call.
 */
#include <stdio.h>
#include <string.h>

#include "soft/kvm/surroundings.h"

/* Bits of IA32_ARCH_CAPABILITIES. Spec: Intel SDM vol. 4, table 2-2, register 10AH */
#define RDCL_NO	       UINT64_C(1)
#define SSB_NO	       BIT(4)
#define MDS_NO	       BIT(5)
#define PSCHANGE_MC_NO BIT(6)
#define TAA_NO	       BIT(8)
#define SBDR_SSDP_NO   BIT(13)
#define FBSDP_NO       BIT(14)
#define PSDP_NO	       BIT(15)
#define GDS_NO	       BIT(26)
#define RFDS_NO	       BIT(27)
#define ITS_NO	       BIT(62)

/*
 * Meltdown, L1TF and ITLB multihit go by page tables that the CPU walks, and TAA by transactions: a
 * guest has neither, but for ours.
 */
#define BY_NATURE (RDCL_NO | PSCHANGE_MC_NO | TAA_NO)

/* Does the host's kernel say that its CPU is not open to that? */
static bool host_is_safe(const char *directory, const char *attack)
{
	char path[256], line[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, attack);
	f = fopen(path, "re");
	if (f != NULL) {
		if (fgets(line, sizeof(line), f) == NULL) {
			*line = '\0';
		}
		fclose(f);
	}
	return strncmp(line, "Not affected", strlen("Not affected")) == 0;
}

uint64_t soft_defences(const char *directory)
{
	static const struct {
		const char *attack; /* its file's name */
		uint64_t bits;
	} attacks[] = {
		{"spec_store_bypass", SSB_NO},
		{"mds", MDS_NO},
		{"mmio_stale_data", SBDR_SSDP_NO | FBSDP_NO | PSDP_NO},
		{"gather_data_sampling", GDS_NO},
		{"reg_file_data_sampling", RFDS_NO},
		{"indirect_target_selection", ITS_NO},
	};
	uint64_t bits = BY_NATURE;

	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		if (host_is_safe(directory, attacks[i].attack)) {
			bits |= attacks[i].bits;
		}
	}
	return bits;
}
