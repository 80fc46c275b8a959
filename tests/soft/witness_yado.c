/*
 * In yado-witness: yado, whose translator has a witness if its code is judged.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tests/soft/witness.h"

__attribute__((constructor)) static void begin(void)
{
	witness_begin();
}

__attribute__((destructor)) static void end(void)
{
	fprintf(stderr,
		"witness: %" PRIu64 " blocks, %" PRIu64 " instructions, %" PRIu64 " links\n",
		witness_blocks(), witness_instructions(), witness_links());
}
