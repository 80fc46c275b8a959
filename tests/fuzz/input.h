/*
 * The input of a fuzzer, read as a program: it is taken from the front, a few bytes a step, and
 * where it has ended the rest is zeroes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *data;
	size_t size;
};

/** input_take() - the next @bytes, up to 8, as a number; big-endian, so that a short one is small.
 */
uint64_t input_take(struct input *in, unsigned bytes);

/** input_copy() - moves the next @len bytes to @to, or all that are left. */
void input_copy(struct input *in, void *to, size_t len);

/** LLVMFuzzerTestOneInput() - what libFuzzer, or replay.c, calls for each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
