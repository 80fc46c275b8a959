/*
 * A translator without a guest, for tests of what it emits.
 */
#pragma once

#include "soft/translate/translator.h"

#define TEST_RIP UINT64_C(0x400000) /* where the page of test_block() is */

/** test_translator() - Return: one with a frame and nothing translated; NULL without memory.
 * test_translator_free() takes it. */
struct st_translator *test_translator(void);
void test_translator_free(struct st_translator *t);

/** test_block() - translates 64-bit user code. @offset: where in the page that begins with @code.
 * Return: the block; the test fails if there is none. */
struct st_block *test_block(struct st_translator *t, const uint8_t *code, size_t len,
			    unsigned offset);
