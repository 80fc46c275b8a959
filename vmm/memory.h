/*
 * Guest RAM: a memfd, mapped once, seen by the guest in up to GUEST_REGIONS_MAX regions.
 *
 *	guest-physical                                    the memfd
 *	0 .. low end (at most 0xb0000000)          <->    0 .. low end
 *	0xb0000000 .. 4 GiB: ECAM, PCI, chips, ROM        (nothing)
 *	4 GiB ..                                   <->    low end ..
 *
 * Everything in here may be changed by the guest at any time: what is read once must not be read
 * again and be expected to be the same.
 */
#pragma once

#include "lib/base/types.h"

#define GUEST_REGIONS_MAX 4

struct guest_region {
	gpa_t base;
	uint64_t len;
	uint8_t *host;	      /* where the VMM sees it */
	uint64_t file_offset; /* where it lies in the memfd */
};

struct guest_memory {
	int fd;	   /* constant after init, as all of this */
	bool huge; /* it is made of reserved huge pages */
	unsigned nregions;
	struct guest_region region[GUEST_REGIONS_MAX];
	/* Set before the guest runs; NULL: nobody wants to know what devices write. */
	void (*wrote)(void *ctx, const void *at, uint64_t len);
	void *wrote_ctx;
};

/**
 * guest_memory_init() - RAM of @size bytes, with the hole below 4 GiB left out.
 * @size: a multiple of 4 KiB, at most 1 TiB.
 * Huge pages are taken where the host has them free. Errors are logged.
 * Return: 0 or -errno.
 */
must_use int guest_memory_init(struct guest_memory *mem, uint64_t size);

/** guest_memory_fini() - unmaps RAM; no device may reach it any more. */
void guest_memory_fini(struct guest_memory *mem);

/** guest_memory_low() - how much of @size bytes of RAM lies below the hole, from address 0 on. */
uint64_t guest_memory_low(uint64_t size);

/** guest_memory_size() - all of RAM, bytes. */
uint64_t guest_memory_size(const struct guest_memory *mem);

/**
 * guest_ptr() - the VMM's view of guest RAM, for devices that fill iovecs.
 * Return: NULL unless all of [@addr, @addr+@len) lies in one region.
 * Context: any thread; no lock.
 */
void *guest_ptr(const struct guest_memory *mem, gpa_t addr, uint64_t len);

/**
 * guest_addr() - the guest-physical address of @host, a place that guest_ptr() gave.
 * Return: false if it is not in guest RAM.
 */
static inline must_use bool guest_addr(const struct guest_memory *mem, const void *host,
				       gpa_t *addr)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct guest_region *r = &mem->region[i];
		uintptr_t offset = (uintptr_t)host - (uintptr_t)r->host;

		if (offset < r->len) {
			*addr = gpa_add(r->base, offset);
			return true;
		}
	}
	return false;
}

/**
 * guest_wrote() - a device has written to @len bytes of guest RAM at @at. Called before the guest
 * can know of it, by an interrupt or by a ring that it polls: vq_push() does so for what it gives
 * back, guest_write() for what it writes. Before the guest runs, nobody needs to.
 * Context: any thread that is not in KVM_RUN; any locks.
 */
static inline void guest_wrote(const struct guest_memory *mem, const void *at, uint64_t len)
{
	if (mem->wrote != NULL) {
		mem->wrote(mem->wrote_ctx, at, len);
	}
}

/** guest_read() - copies out of guest RAM. Return: 0, or -EFAULT and nothing copied. */
must_use int guest_read(const struct guest_memory *mem, gpa_t addr, void *dst, uint64_t len);

/** guest_write() - copies into guest RAM. Return: 0, or -EFAULT and nothing copied. */
must_use int guest_write(const struct guest_memory *mem, gpa_t addr, const void *src, uint64_t len);
