#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "vmm/clock.h"
#include "vmm/log.h"

/* The driver wants room for 32 pieces in a report. */
#define QUEUE_SIZE 128

/*
 * The last two are one: the specification puts reports on queue 4, with a queue 3 for hints that
 * is there only if negotiated; Linux before 6.10 counts only queues that are there. Hints are not
 * offered, so that queue 3 can be nothing else.
 */
enum balloon_queue {
	QUEUE_INFLATE,
	QUEUE_DEFLATE,
	QUEUE_STATS,
	QUEUE_REPORT_COMPACT,
	QUEUE_REPORT,
	QUEUES,
};

#define PAGE_BYTES (UINT64_C(1) << VIRTIO_BALLOON_PFN_SHIFT)

/*
 * Pages of a request that are looked at; Linux sends 256. Of a longer one the rest stays where it
 * is, which the specification allows.
 */
#define REQUEST_PAGES 1024
/* Work of one turn of the loop: pages, or pieces of reports. */
#define TURN_WORK 1024

#define STAT_BYTES	10 /* 16 bits tag, 64 bits value, unaligned */
#define STATS_LOOKED_AT 32

struct balloon {
	struct virtio_device dev;

	/* guarded by dev.lock */
	struct virtio_balloon_config config;
	struct virtqueue vq[QUEUES];
	struct iovec iov[QUEUE_SIZE];
	struct balloon_stats stats;
	bool has_timer;
	struct loop_timer timer; /* the next turn */
	bool fixed;		 /* the host cannot take pages back one by one */
};

/* Pages that lie behind each other in the memfd and are given back at once. */
struct run {
	uint64_t start; /* offset in the memfd */
	uint64_t end;
};

static const struct virtio_balloon_config writable_config = {.actual = UINT32_MAX};

static struct balloon *balloon_of(struct virtio_device *dev)
{
	return container_of(dev, struct balloon, dev);
}

/* What was given back reads as zeroes. */
static void tell(const struct guest_memory *mem, const struct run *run)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct guest_region *r = &mem->region[i];
		uint64_t start = MAX(run->start, r->file_offset);
		uint64_t end = MIN(run->end, r->file_offset + r->len);

		if (start < end) {
			guest_wrote(mem, r->host + (start - r->file_offset), end - start);
		}
	}
}

static void give_back(struct balloon *b, struct run *run)
{
	if (run->start < run->end && !b->fixed) {
		if (fallocate(b->dev.mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)run->start, (off_t)(run->end - run->start)) == 0) {
			tell(b->dev.mem, run);
		} else if (errno != EINTR) {
			log_warn(
				"balloon: the host does not take memory back (%s); the VM keeps it",
				strerror(errno));
			b->fixed = true;
		}
	}
	*run = (struct run){0, 0};
}

/* Adds [@start, @end) to @run, or gives that back first. Drivers go up or down through memory. */
static void run_add(struct balloon *b, struct run *run, uint64_t start, uint64_t end)
{
	if (start == run->end) {
		run->end = end;
	} else if (end == run->start) {
		run->start = start;
	} else {
		give_back(b, run);
		*run = (struct run){start, end};
	}
}

/* Where the page at @addr lies in the memfd. Return: false if it is not in guest RAM. */
static bool page_offset(const struct guest_memory *mem, gpa_t addr, uint64_t *offset)
{
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct guest_region *r = &mem->region[i];

		if (range_inside(addr.v, PAGE_BYTES, r->base.v, r->len)) {
			*offset = r->file_offset + (addr.v - r->base.v);
			return true;
		}
	}
	return false;
}

/* The guest gives pages up: their numbers. Return: how much work it was. */
static unsigned inflate(struct balloon *b, const struct vq_chain *c)
{
	struct run run = {0, 0};
	unsigned n = 0;
	uint8_t pfn[4];
	uint64_t offset;

	while (n < REQUEST_PAGES &&
	       iov_to_buf(c->iov, c->nout, n * sizeof(pfn), pfn, sizeof(pfn)) == sizeof(pfn)) {
		if (page_offset(b->dev.mem, gpa(load_le32(pfn) * PAGE_BYTES), &offset)) {
			run_add(b, &run, offset, offset + PAGE_BYTES);
		}
		n++;
	}
	give_back(b, &run);
	return n;
}

/* The guest does not use these pieces of its memory now; it waits for the answer before it does. */
static unsigned report(struct balloon *b, const struct vq_chain *c)
{
	const struct guest_memory *mem = b->dev.mem;
	struct run run = {0, 0};
	gpa_t addr;

	for (unsigned i = 0; i < c->nin; i++) {
		const struct iovec *iov = &vq_in(c)[i];
		uint64_t offset;

		if (!guest_addr(mem, iov->iov_base, &addr)) {
			continue;
		}
		uint64_t start = ALIGN_UP(addr.v, PAGE_BYTES);
		uint64_t end = ALIGN_DOWN(addr.v + iov->iov_len, PAGE_BYTES);
		/* A buffer lies in one region, and so do its whole pages. */
		if (start < end && page_offset(mem, gpa(start), &offset)) {
			run_add(b, &run, offset, offset + (end - start));
		}
	}
	give_back(b, &run);
	return c->nin;
}

static void learn_stats(struct balloon *b, const struct vq_chain *c)
{
	uint8_t stat[STAT_BYTES];

	b->stats.known = 0;
	for (unsigned i = 0; i < STATS_LOOKED_AT; i++) {
		if (iov_to_buf(c->iov, c->nout, (size_t)i * STAT_BYTES, stat, STAT_BYTES) !=
		    STAT_BYTES) {
			break;
		}
		uint16_t tag = load_le16(stat);
		if (tag < BALLOON_STATS) {
			b->stats.value[tag] = load_le64(stat + 2);
			b->stats.known |= 1u << tag;
		}
	}
	b->stats.when_ns = clock_now_ns();
}

/* Takes a request. Return: false if there is none. */
static bool take(struct balloon *b, unsigned queue, struct vq_chain *c)
{
	*c = (struct vq_chain){.iov = b->iov, .max = QUEUE_SIZE};
	int ret = vq_pop(&b->vq[queue], c);

	if (ret < 0) {
		virtio_broken(&b->dev, "a queue breaks the ring's rules");
	}
	return ret > 0;
}

/*
 * The statistics buffer stays in the ring until new ones are wanted: to give it back is to ask.
 */
static void serve_stats(struct balloon *b)
{
	struct vq_chain c;

	if (take(b, QUEUE_STATS, &c)) {
		learn_stats(b, &c);
		vq_unpop(&b->vq[QUEUE_STATS], &c);
	}
}

/* Return: the work that is left of @budget; 0 if the turn is over. */
static unsigned serve_pages(struct balloon *b, unsigned queue, unsigned budget)
{
	struct vq_chain c;

	while (budget > 0) {
		unsigned work = 1;

		if (!take(b, queue, &c)) {
			return budget;
		}
		if (queue == QUEUE_INFLATE) {
			work += inflate(b, &c);
		} else if (queue != QUEUE_DEFLATE) {
			work += report(b, &c);
		} /* What is deflated comes back when the guest touches it. */
		vq_push(&b->vq[queue], &c, 0);
		virtio_notify(&b->dev, queue);
		budget -= MIN(work, budget);
	}
	return 0;
}

/* All queues; what does not fit into this turn is done in the next one. */
static void serve(struct balloon *b)
{
	static const unsigned order[] = {QUEUE_DEFLATE, QUEUE_INFLATE, QUEUE_REPORT_COMPACT,
					 QUEUE_REPORT};
	unsigned budget = TURN_WORK;

	for (unsigned i = 0; i < ARRAY_SIZE(order) && budget > 0; i++) {
		budget = serve_pages(b, order[i], budget);
	}
	if (budget == 0) {
		loop_timer_set(&b->timer, clock_now_ns());
	}
}

static void next_turn(void *arg)
{
	struct balloon *b = arg;

	virtio_lock(&b->dev);
	if (b->dev.active) {
		serve(b);
	}
	virtio_unlock(&b->dev);
}

static void balloon_notify(struct virtio_device *dev, unsigned queue)
{
	if (queue == QUEUE_STATS) {
		serve_stats(balloon_of(dev));
	} else {
		serve(balloon_of(dev));
	}
}

static int balloon_activate(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);

	if (b->has_timer) {
		return 0;
	}
	int ret = loop_timer_init(&b->timer, dev->loop, next_turn, b);
	b->has_timer = ret == 0;
	b->fixed = dev->mem->huge;
	if (b->fixed && b->config.num_pages > 0) {
		log_warn("balloon: guest memory is in reserved huge pages, and they stay with the "
			 "VM");
	}
	return ret;
}

static void balloon_reset(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);

	if (b->has_timer) {
		loop_timer_clear(&b->timer);
	}
	b->config.actual = 0;
	b->stats = (struct balloon_stats){0};
}

static void balloon_state(struct virtio_device *dev, struct state *s)
{
	struct balloon *b = balloon_of(dev);

	state_begin(s, "virtio-balloon", 1);
	state_u32(s, &b->config.num_pages);
	state_u32(s, &b->config.actual);
	state_end(s);
	/* A turn may have been left when the state was saved. */
	if (s->loading && s->error == 0 && b->has_timer) {
		loop_timer_set(&b->timer, clock_now_ns());
	}
}

static void balloon_destroy(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);

	if (b->has_timer) {
		loop_timer_fini(&b->timer, dev->loop);
	}
	virtio_fini(dev);
	free(b);
}

static const struct virtio_ops balloon_ops = {
	.activate = balloon_activate,
	.reset = balloon_reset,
	.notify = balloon_notify,
	.state = balloon_state,
	.destroy = balloon_destroy,
};

static uint32_t to_pages(uint64_t bytes)
{
	return (uint32_t)MIN(bytes / PAGE_BYTES, UINT32_MAX);
}

int balloon_create(struct virtio_device **out, uint64_t target_bytes)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		log_error("balloon: no memory for the device");
		return -ENOMEM;
	}
	b->config.num_pages = to_pages(target_bytes);
	virtio_init(&b->dev, "balloon", VIRTIO_TYPE_BALLOON, &balloon_ops,
		    BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			    BIT(VIRTIO_BALLOON_F_REPORTING),
		    b->vq, QUEUES, QUEUE_SIZE, &b->config, sizeof(b->config));
	b->dev.config_wmask = (const uint8_t *)&writable_config;
	*out = &b->dev;
	return 0;
}

void balloon_set_target(struct virtio_device *dev, uint64_t bytes)
{
	struct balloon *b = balloon_of(dev);

	virtio_lock(dev);
	b->config.num_pages = to_pages(bytes);
	virtio_notify_config(dev);
	virtio_unlock(dev);
}

uint64_t balloon_actual(struct virtio_device *dev)
{
	virtio_lock(dev);
	uint64_t bytes = balloon_of(dev)->config.actual * PAGE_BYTES;
	virtio_unlock(dev);
	return bytes;
}

void balloon_stats(struct virtio_device *dev, struct balloon_stats *stats)
{
	virtio_lock(dev);
	*stats = balloon_of(dev)->stats;
	virtio_unlock(dev);
}

int balloon_ask_stats(struct virtio_device *dev)
{
	struct balloon *b = balloon_of(dev);
	struct vq_chain c;
	int ret = -EAGAIN;

	virtio_lock(dev);
	if (dev->active && take(b, QUEUE_STATS, &c)) {
		vq_push(&b->vq[QUEUE_STATS], &c, 0);
		virtio_notify(dev, QUEUE_STATS);
		if (vq_doorbell(&b->vq[QUEUE_STATS], true)) {
			serve_stats(b);
		}
		ret = 0;
	}
	virtio_unlock(dev);
	return ret;
}
