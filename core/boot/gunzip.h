/*
 * Unpacks the initramfs, by the inflate of zlib as Debian compiles it (libz.a). That code is made
 * for programs: it uses SSE, the red zone and a stack canary at FS:28h. All of that is right here,
 * and only here: before there are threads, with interrupts off.
 */
#pragma once

#include "lib/base/types.h"

#define GUNZIP_WORK_BYTES (64 * KIB)

/** gunzip_is_packed() - does it begin as gzip does? */
bool gunzip_is_packed(const void *data, size_t len);

/** gunzip_size() - how long it claims to be unpacked: a hint, as hostile as the rest. */
uint64_t gunzip_size(const void *data, size_t len);

/**
 * gunzip() - unpacks one gzip member.
 * @work: GUNZIP_WORK_BYTES for zlib to work in.
 * @out_len: room at @out; how much of it was used.
 * Return: 0; -EINVAL: broken, or there is more than it claimed.
 * Context: start-up, interrupts off.
 */
must_use int gunzip(const void *data, size_t len, void *out, size_t *out_len, void *work);
