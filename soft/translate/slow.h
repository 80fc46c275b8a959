/*
 * What translated code calls when the TLB does not have a page.
 */
#pragma once

#include "lib/base/types.h"

#define ST_SLOW_WRITE UINT32_C(0x10000)
#define ST_SLOW_FAULT UINT64_C(1)

/** What a string instruction is: its element's bytes, and these. */
#define ST_STRING_REP	UINT32_C(0x10)
#define ST_STRING_MOVS	UINT32_C(0x20) /* else STOS */
#define ST_STRING_BYTES UINT32_C(0x0f)

struct soft_vcpu;

/**
 * st_slow() - the host's address for an access to @linear, of @access & 0xffff bytes.
 * @access: with ST_SLOW_WRITE it is (also) written to.
 * Return: the address; 0: the interpreter is to execute the instruction; ST_SLOW_FAULT: it ends
 * with the page fault in st_translator.fault_linear and .fault_error.
 * Context: called by translated code, on the vCPU's thread.
 */
uint64_t st_slow(struct soft_vcpu *vcpu, uint64_t linear, uint32_t access);

/**
 * st_string() - MOVS or STOS, on the registers in the frame, by pieces that are within pages.
 * Return: 1: it is done; 0: the interpreter is to go on with it.
 * Context: as above.
 */
uint64_t st_string(struct soft_vcpu *vcpu, uint32_t what);
