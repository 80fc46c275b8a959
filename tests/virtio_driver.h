/*
 * The driver's side of a virtqueue, for tests: it builds requests in guest RAM, decides whether to
 * ring, and takes back what the device used, as the specification tells a driver to.
 */
#pragma once

#include "vmm/virtio/queue.h"

#define DRIVER_LOW_BYTES  (256 * KIB)	      /* RAM from 0 */
#define DRIVER_HIGH_BASE  (UINT64_C(4) << 30) /* RAM from 4 GiB */
#define DRIVER_HIGH_BYTES (64 * KIB)
#define DRIVER_HUGE_BASE  (UINT64_C(8) << 30) /* addresses only: touching them faults */
#define DRIVER_HUGE_BYTES (UINT64_C(2) << 30)

/* Where driver_queue_init() puts a queue of up to 256 entries, and what is free for buffers. */
#define DRIVER_DESC	0x1000
#define DRIVER_AVAIL	0x2000
#define DRIVER_USED	0x3000
#define DRIVER_INDIRECT 0x10000
#define DRIVER_BUFFERS	0x30000

/** driver_ram_init() - guest RAM of three regions. */
void driver_ram_init(struct guest_memory *mem);
void driver_ram_fini(struct guest_memory *mem);

struct driver_buf {
	uint64_t addr;
	uint32_t len;
	bool writable;
};

struct driver_queue {
	const struct guest_memory *mem;
	bool packed, event_idx;
	uint16_t size;
	uint64_t desc, driver, device; /* addresses of the areas */
	uint16_t next_desc;	       /* split: the next descriptor to take */
	uint16_t avail;		       /* split: idx; packed: position */
	bool avail_wrap;
	uint16_t used; /* the same */
	bool used_wrap;
	uint32_t unrung; /* ring entries added since the last decision to ring */
	uint16_t next_id;
	uint16_t ndesc[1024]; /* packed: ring entries of a request, by id */
};

/** driver_queue_init() - clears the areas of a queue of @size at the addresses above. */
void driver_queue_init(struct driver_queue *q, const struct guest_memory *mem, bool packed,
		       bool event_idx, uint16_t size);

/** driver_setup() - does what a transport does for the driver: sets and enables @vq. */
void driver_setup(const struct driver_queue *q, struct virtqueue *vq, bool indirect);

/** driver_add() - makes a request of @n buffers available. Return: its id. */
uint16_t driver_add(struct driver_queue *q, const struct driver_buf *buf, unsigned n,
		    bool indirect);

/** driver_must_ring() - does the device want to be rung for what was added since the last call? */
bool driver_must_ring(struct driver_queue *q);

/** driver_take() - takes the next used request. Return: false if there is none. */
bool driver_take(struct driver_queue *q, uint16_t *id, uint32_t *written);

/** driver_interrupts() - asks for interrupts at the next used request, or for none. */
void driver_interrupts(struct driver_queue *q, bool on);

/** driver_interrupt_after() - event index: an interrupt when @n more entries are used. */
void driver_interrupt_after(struct driver_queue *q, uint16_t n);

/** driver_ptr() - guest RAM at @addr. */
void *driver_ptr(const struct driver_queue *q, uint64_t addr);
