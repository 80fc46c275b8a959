/*
 * The lock that keeps two VMs off one image file, and who holds it.
 */
#pragma once

#include "lib/base/types.h"

/**
 * block_lock() - takes the lock of the file that @fd has open: shared if @readonly, else
 * exclusive. It lives as long as the open file description.
 * A file system without locks is a warning, not an error.
 * Return: 0, or -EBUSY, logged with the holder where the host tells.
 */
must_use int block_lock(int fd, const char *path, bool readonly);
