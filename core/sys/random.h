/*
 * Random bytes: a ChaCha20 generator, keyed from RDRAND and the clock, that replaces its key after
 * each use.
 *
 * Spec: RFC 8439, 2.3 "The ChaCha20 Block Function"
 */
#pragma once

#include "lib/base/types.h"

/** random_bytes() - Context: any without LOCK_LEAF. */
void random_bytes(void *buf, size_t len);

/** random_stir() - something that happened by chance goes into the key. */
void random_stir(uint64_t value);
