/* Linked to the decoder by the guest's own compiler: what it makes of the bytes of a file. */
#include <stdio.h>

#include "lib/insn/decode.h"

int main(int argc, char **argv)
{
	static uint8_t bytes[65536 + INSN_MAX];
	uint64_t digest = 0, decoded = 0;
	FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;

	if (file == NULL) {
		return 2;
	}
	size_t len = fread(bytes, 1, 65536, file);

	fclose(file);
	for (size_t i = 0; i < len; i++) {
		struct insn insn;
		unsigned result = insn_decode(&insn, (unsigned)i % 3, bytes + i, INSN_MAX);

		digest = digest * 1000003 + result;
		if (result == INSN_OK) {
			decoded++;
			digest = digest * 31 + insn.mnemonic + insn.gpr_read * 7u +
				 insn.flags_written + insn.len + insn.imm[0];
		}
	}
	printf("%zu bytes, %llu instructions, %016llx\n", len, (unsigned long long)decoded,
	       (unsigned long long)digest);
	return 0;
}
