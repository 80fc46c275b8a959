/*
 * An address space of devices: the port space and the memory-mapped space of a machine each have
 * one. A range belongs to one device; reads of nothing give ones, writes to nothing are dropped.
 */
#pragma once

#include <pthread.h>

#include "lib/base/types.h"

#define BUS_RANGES_MAX 160

/**
 * What a device does for an access in its range. @offset is from the range's base; @len is 1, 2, 4
 * or 8 bytes and lies inside the range.
 * Context: a vCPU's thread, several at once; the device locks for itself.
 */
struct bus_ops {
	uint64_t (*read)(void *dev, uint64_t offset, unsigned len);
	void (*write)(void *dev, uint64_t offset, unsigned len, uint64_t value);
};

struct bus_range {
	uint64_t base;
	uint64_t len;
	const struct bus_ops *ops;
	void *dev;
};

struct bus {
	pthread_rwlock_t lock; /* guards the rest; never held while a device is called */
	unsigned nranges;
	struct bus_range range[BUS_RANGES_MAX]; /* by base, not overlapping */
};

/** bus_init() / bus_fini() - an empty address space, in the caller's storage. */
void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);

/**
 * bus_map() - gives [@base, @base+@len) to a device, which lives as long as the bus.
 * Return: 0; -EEXIST if the range overlaps another; -ENOSPC; -EINVAL for an empty or wrapping one.
 */
must_use int bus_map(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops,
		     void *dev);

/** bus_unmap() - takes back the range that starts at @base, if there is one. */
void bus_unmap(struct bus *bus, uint64_t base);

/**
 * bus_read() / bus_write() - one guest access of 1 to 8 bytes.
 * An access that no single range holds reads as all ones, and its write is dropped.
 */
uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned len);
void bus_write(struct bus *bus, uint64_t addr, unsigned len, uint64_t value);
