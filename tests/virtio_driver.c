#include "tests/virtio_driver.h"

#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/check.h"

#define load16(p, order)     atomic_load_explicit((_Atomic uint16_t *)(p), memory_order_##order)
#define store16(p, v, order) atomic_store_explicit((_Atomic uint16_t *)(p), v, memory_order_##order)

void driver_ram_init(struct guest_memory *mem)
{
	*mem = (struct guest_memory){.fd = -1, .nregions = 3};
	mem->region[0] = (struct guest_region){gpa(0), DRIVER_LOW_BYTES, NULL, 0};
	mem->region[1] = (struct guest_region){gpa(DRIVER_HIGH_BASE), DRIVER_HIGH_BYTES, NULL, 0};
	mem->region[2] = (struct guest_region){gpa(DRIVER_HUGE_BASE), DRIVER_HUGE_BYTES, NULL, 0};
	for (unsigned i = 0; i < 2; i++) {
		mem->region[i].host = aligned_alloc(4096, mem->region[i].len);
		check(mem->region[i].host != NULL);
		memset(mem->region[i].host, 0, mem->region[i].len);
	}
	mem->region[2].host = mmap(NULL, DRIVER_HUGE_BYTES, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(mem->region[2].host != MAP_FAILED);
}

void driver_ram_fini(struct guest_memory *mem)
{
	free(mem->region[0].host);
	free(mem->region[1].host);
	munmap(mem->region[2].host, DRIVER_HUGE_BYTES);
}

void *driver_ptr(const struct driver_queue *q, uint64_t addr)
{
	const struct guest_region *high = &q->mem->region[1];

	if (addr >= high->base.v) {
		check(addr < high->base.v + high->len);
		return high->host + (addr - high->base.v);
	}
	check(addr < DRIVER_LOW_BYTES);
	return q->mem->region[0].host + addr;
}

void driver_queue_init(struct driver_queue *q, const struct guest_memory *mem, bool packed,
		       bool event_idx, uint16_t size)
{
	*q = (struct driver_queue){
		.mem = mem,
		.packed = packed,
		.event_idx = event_idx,
		.size = size,
		.desc = DRIVER_DESC,
		.driver = DRIVER_AVAIL,
		.device = DRIVER_USED,
		.avail_wrap = true,
		.used_wrap = true,
	};
	memset(driver_ptr(q, DRIVER_DESC), 0, DRIVER_INDIRECT - DRIVER_DESC);
}

void driver_setup(const struct driver_queue *q, struct virtqueue *vq, bool indirect)
{
	*vq = (struct virtqueue){.mem = q->mem, .size_max = 256, .size = q->size};
	vq->packed = q->packed;
	vq->event_idx = q->event_idx;
	vq->indirect = indirect;
	vq->desc = gpa(q->desc);
	vq->driver = gpa(q->driver);
	vq->device = gpa(q->device);
	check(vq_enable(vq) == 0);
}

/* A table for request @id; tables do not overlap for 64 requests of up to 64 buffers. */
static uint64_t indirect_table(uint16_t id)
{
	return DRIVER_INDIRECT + (uint64_t)(id % 64) * 64 * sizeof(struct vring_desc);
}

static uint16_t split_add(struct driver_queue *q, const struct driver_buf *buf, unsigned n,
			  bool indirect)
{
	struct vring_desc *table = driver_ptr(q, q->desc);
	struct vring_avail *avail = driver_ptr(q, q->driver);
	uint16_t head = q->next_desc;
	uint16_t at = head;

	if (indirect) {
		uint64_t addr = indirect_table(head);

		table[head] = (struct vring_desc){addr, (uint32_t)(n * sizeof(*table)),
						  VRING_DESC_F_INDIRECT, 0};
		q->next_desc = (uint16_t)((head + 1) % q->size);
		table = driver_ptr(q, addr);
		at = 0;
	}
	for (unsigned i = 0; i < n; i++) {
		uint16_t next = (uint16_t)(indirect ? at + 1 : (at + 1) % q->size);

		table[at] = (struct vring_desc){buf[i].addr, buf[i].len, 0, next};
		table[at].flags = (uint16_t)((buf[i].writable ? VRING_DESC_F_WRITE : 0) |
					     (i + 1 < n ? VRING_DESC_F_NEXT : 0));
		at = next;
	}
	if (!indirect) {
		q->next_desc = at;
	}
	store16(&avail->ring[q->avail % q->size], head, relaxed);
	q->avail++;
	store16(&avail->idx, q->avail, release);
	q->unrung++;
	return head;
}

static uint16_t packed_flags(const struct driver_queue *q, unsigned flags)
{
	flags |= q->avail_wrap ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED;
	return (uint16_t)flags;
}

static void packed_advance(const struct driver_queue *q, uint16_t *pos, bool *wrap, unsigned n)
{
	*pos = (uint16_t)(*pos + n);
	if (*pos >= q->size) {
		*pos = (uint16_t)(*pos - q->size);
		*wrap = !*wrap;
	}
}

static uint16_t packed_add(struct driver_queue *q, const struct driver_buf *buf, unsigned n,
			   bool indirect)
{
	struct vring_packed_desc *ring = driver_ptr(q, q->desc);
	struct vring_packed_desc *first = &ring[q->avail];
	uint16_t id = (uint16_t)(q->next_id++ % ARRAY_SIZE(q->ndesc));
	uint16_t first_flags = 0;

	q->ndesc[id] = (uint16_t)(indirect ? 1 : n);
	if (indirect) {
		uint64_t addr = indirect_table(id);
		struct vring_packed_desc *table = driver_ptr(q, addr);

		for (unsigned i = 0; i < n; i++) {
			table[i] = (struct vring_packed_desc){
				buf[i].addr, buf[i].len, 0,
				(uint16_t)(buf[i].writable ? VRING_DESC_F_WRITE : 0)};
		}
		first->addr = addr;
		first->len = (uint32_t)(n * sizeof(*table));
		first->id = id;
		first_flags = packed_flags(q, VRING_DESC_F_INDIRECT);
		packed_advance(q, &q->avail, &q->avail_wrap, 1);
	} else {
		for (unsigned i = 0; i < n; i++) {
			struct vring_packed_desc *d = &ring[q->avail];
			uint16_t flags =
				packed_flags(q, (buf[i].writable ? VRING_DESC_F_WRITE : 0) |
							(i + 1 < n ? VRING_DESC_F_NEXT : 0));

			d->addr = buf[i].addr;
			d->len = buf[i].len;
			d->id = id;
			if (d == first) {
				first_flags = flags;
			} else {
				d->flags = flags;
			}
			packed_advance(q, &q->avail, &q->avail_wrap, 1);
		}
	}
	store16(&first->flags, first_flags, release);
	q->unrung += q->ndesc[id];
	return id;
}

uint16_t driver_add(struct driver_queue *q, const struct driver_buf *buf, unsigned n, bool indirect)
{
	return q->packed ? packed_add(q, buf, n, indirect) : split_add(q, buf, n, indirect);
}

bool driver_must_ring(struct driver_queue *q)
{
	uint16_t new = q->avail;
	uint16_t old = (uint16_t)(new - q->unrung);

	if (q->unrung == 0) {
		return false;
	}
	q->unrung = 0;
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->packed) {
		struct vring_used *used = driver_ptr(q, q->device);

		if (!q->event_idx) {
			return (load16(&used->flags, relaxed) & VRING_USED_F_NO_NOTIFY) == 0;
		}
		return vring_need_event(load16(&used->ring[q->size], relaxed), new, old) != 0;
	}

	struct vring_packed_desc_event *e = driver_ptr(q, q->device);
	uint16_t flags = load16(&e->flags, acquire);
	uint16_t off_wrap = load16(&e->off_wrap, relaxed);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC) {
		return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	}
	uint16_t off = off_wrap & 0x7fff;

	if ((off_wrap >> 15 != 0) != q->avail_wrap) {
		off = (uint16_t)(off - q->size);
	}
	return vring_need_event(off, new, old) != 0;
}

bool driver_take(struct driver_queue *q, uint16_t *id, uint32_t *written)
{
	if (!q->packed) {
		struct vring_used *used = driver_ptr(q, q->device);

		if (load16(&used->idx, acquire) == q->used) {
			return false;
		}
		*id = (uint16_t)used->ring[q->used % q->size].id;
		*written = used->ring[q->used % q->size].len;
		q->used++;
		return true;
	}

	struct vring_packed_desc *d =
		&((struct vring_packed_desc *)driver_ptr(q, q->desc))[q->used];
	uint16_t flags = load16(&d->flags, acquire);
	bool avail_bit = (flags >> VRING_PACKED_DESC_F_AVAIL & 1) != 0;
	bool used_bit = (flags >> VRING_PACKED_DESC_F_USED & 1) != 0;

	if (avail_bit != used_bit || used_bit != q->used_wrap) {
		return false;
	}
	*id = d->id;
	*written = d->len;
	check(*id < ARRAY_SIZE(q->ndesc));
	packed_advance(q, &q->used, &q->used_wrap, q->ndesc[*id]);
	return true;
}

void driver_interrupts(struct driver_queue *q, bool on)
{
	if (q->packed) {
		struct vring_packed_desc_event *e = driver_ptr(q, q->driver);

		store16(&e->flags,
			on ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE,
			relaxed);
	} else {
		struct vring_avail *avail = driver_ptr(q, q->driver);

		store16(&avail->flags, on ? 0 : VRING_AVAIL_F_NO_INTERRUPT, relaxed);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

void driver_interrupt_after(struct driver_queue *q, uint16_t n)
{
	uint16_t pos = q->used;
	bool wrap = q->used_wrap;

	if (q->packed) {
		struct vring_packed_desc_event *e = driver_ptr(q, q->driver);

		packed_advance(q, &pos, &wrap, n - 1u);
		store16(&e->off_wrap, (uint16_t)(pos | (wrap ? 1u << 15 : 0)), relaxed);
		store16(&e->flags, VRING_PACKED_EVENT_FLAG_DESC, release);
	} else {
		struct vring_avail *avail = driver_ptr(q, q->driver);

		store16(&avail->ring[q->size], (uint16_t)(pos + n - 1), relaxed);
	}
	atomic_thread_fence(memory_order_seq_cst);
}
