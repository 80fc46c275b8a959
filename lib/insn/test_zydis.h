/*
 * Compares the decoder with Zydis, an independent one (Debian's libzydis).
 */
#pragma once

#include "lib/base/types.h"

/** What is compared, and may be excused. */
enum zydis_aspect {
	ZYDIS_VALIDITY,
	ZYDIS_LENGTH,
	ZYDIS_MNEMONIC,
	ZYDIS_IMMEDIATES,
	ZYDIS_MEMORY,
	ZYDIS_REGISTERS, /* explicit ones: class, number, size */
	ZYDIS_GPRS,	 /* read and written, implied ones too */
	ZYDIS_VECTORS,	 /* so for vector, MMX, mask and segment registers */
	ZYDIS_FLAGS,
	ZYDIS_PRIVILEGE,
	ZYDIS_NASPECTS,
};

extern const char *const zydis_aspect_names[ZYDIS_NASPECTS];

#define ZYDIS_NREASONS_MAX 64

struct zydis_report {
	unsigned aspect;	  /* of the first difference that has no reason */
	char what[200];		  /* it, in words */
	char text[100];		  /* Zydis's mnemonic */
	uint64_t compared, valid; /* instructions, and those that both decode */
	uint64_t excused[ZYDIS_NREASONS_MAX];
};

void zydis_init(void);

/**
 * zydis_compare() - decodes @bytes by both.
 * @mode: as insn_decode() has it.
 * @len: 16 or more, so that the bytes do not end within an instruction.
 * Return: are they the same, or is there a reason for all differences? If not, @report says what.
 */
bool zydis_compare(unsigned mode, const uint8_t *bytes, unsigned len, struct zydis_report *report);

/** zydis_reason() - the words for excused[i]; NULL past the last one. */
const char *zydis_reason(unsigned i);
