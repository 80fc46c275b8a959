/*
 * A disk's back end: a raw image file or a block device of the host.
 *
 * An image file is locked while it is open, so that no second VM writes to it. All transfers are
 * complete or fail; they may block and are meant for a worker's thread (pool.h).
 */
#pragma once

#include <stdatomic.h>
#include <sys/uio.h>

#include "lib/base/types.h"
#include "vmm/config.h"

#define BLOCK_SECTOR 512

struct block {
	/* constant after block_open() */
	const char *path;
	int fd;	       /* through the host's page cache; carries the lock */
	int direct_fd; /* past the page cache; -1 without direct=on */
	uint32_t direct_align;
	bool readonly;
	bool is_device;
	bool can_discard;
	uint32_t logical_block;	 /* bytes, at least 512 */
	uint32_t physical_block; /* bytes, at least logical_block */
	uint32_t discard_block;	 /* bytes: what a discard frees at least; 0 without can_discard */
	uint64_t size;		 /* bytes, a multiple of 512 */

	/* what the host turned out not to have; set once, by any thread */
	atomic_bool no_punch;
	atomic_bool no_zero_range;
};

/**
 * block_open() - opens and locks the disk that @config names; its strings are kept, not copied.
 * A file that is missing, of the wrong kind or size, not accessible, or used by another VM is
 * refused with one line that says so.
 * Return: 0 or -errno, logged; -EBUSY if somebody else uses it.
 */
must_use int block_open(struct block *b, const struct disk_config *config);

/** block_close() - unlocks and closes; a block that failed to open is allowed. */
void block_close(struct block *b);

/**
 * block_readv() - reads @len bytes at @offset into the iovecs, from their byte @skip on.
 * @iov: holds at least @skip + @len bytes; not changed.
 * The caller keeps the range inside the disk.
 * Return: 0 or -errno; -EIO if the file became shorter.
 * Context: any thread; blocks.
 */
must_use int block_readv(struct block *b, const struct iovec *iov, unsigned n, uint64_t skip,
			 uint64_t len, uint64_t offset);

/** block_writev() - as block_readv(), the other way. -ENOSPC or -EDQUOT if the host is full. */
must_use int block_writev(struct block *b, const struct iovec *iov, unsigned n, uint64_t skip,
			  uint64_t len, uint64_t offset);

/** block_flush() - all writes that were completed before are on stable storage after it. */
must_use int block_flush(struct block *b);

/**
 * block_discard() - the content of the range is not needed any more; what it reads as is undefined.
 * Return: 0 or -errno; -EOPNOTSUPP if the host cannot do it.
 */
must_use int block_discard(struct block *b, uint64_t offset, uint64_t len);

/**
 * block_write_zeroes() - the range reads as zeroes after it.
 * @unmap: the host may free the space; without it the space stays allocated.
 * Works on every host: where it has no quicker way, zeroes are written.
 */
must_use int block_write_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap);
