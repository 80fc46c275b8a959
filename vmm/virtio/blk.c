#include "vmm/virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "vmm/block/block.h"
#include "vmm/block/pool.h"
#include "vmm/log.h"

#define QUEUES_MAX 16
#define QUEUE_SIZE 256
/* Buffers of a request: header and status, and the rest for data. */
#define SEGMENTS_MAX (QUEUE_SIZE - 2)
/* Requests of one queue in work at a time; the driver may have more in the ring. */
#define QUEUE_REQUESTS 64
#define WORKERS_MIN    4

/* One read or write; what Linux' read() and write() can do in a call, in whole sectors. */
#define DATA_MAX 0x7ffff000

#define RANGES_MAX	 16
#define DISCARD_MAX	 (2 * GIB)  /* bytes a range */
#define WRITE_ZEROES_MAX (64 * MIB) /* smaller, since the host may have to write them */

struct blk_range {
	uint64_t offset; /* bytes */
	uint64_t len;
	bool unmap;
};

struct blk_request {
	struct block_task task;
	struct blk *blk;	  /* constant, as the next one */
	unsigned queue;		  /* that it belongs to */
	struct blk_request *next; /* on the free or the kept list */

	struct vq_chain chain;
	uint32_t type;
	uint8_t status; /* not VIRTIO_BLK_S_OK: nothing is done but to say so */
	bool sync;	/* to be on stable storage before it completes */
	uint64_t offset;
	uint64_t len;
	unsigned nranges;
	struct blk_range range[RANGES_MAX];
};

struct blk_queue {
	struct blk_request *free;
	bool starved; /* the ring may have more, but no request was free */
};

struct blk {
	struct virtio_device dev;

	/* constant after blk_create() */
	struct block block;
	char serial[VIRTIO_BLK_ID_BYTES + 1];
	void (*pause)(void *ctx, const char *reason);
	void *pause_ctx;
	char full_reason[512];
	struct blk_request *request; /* QUEUE_REQUESTS for each queue */
	struct iovec *iov;	     /* QUEUE_SIZE for each request */

	struct block_pool pool;

	/* guarded by dev.lock */
	struct virtio_blk_config config;
	struct virtqueue vq[QUEUES_MAX];
	struct blk_queue queue[QUEUES_MAX];
	unsigned in_work; /* requests the workers have */
	bool held;	  /* nothing is taken off the rings: drained, or about to be reset */
	bool pausing;	  /* the VM was asked to pause */
	struct blk_request *kept; /* in the order they failed */
	struct blk_request **kept_tail;
	pthread_cond_t idle; /* in_work became 0 */
};

static const struct virtio_blk_config writable_config = {.wce = 1};

static struct blk *blk_of(struct virtio_device *dev)
{
	return container_of(dev, struct blk, dev);
}

static struct blk_request *request_take(struct blk_queue *q)
{
	struct blk_request *r = q->free;

	if (r != NULL) {
		q->free = r->next;
	}
	return r;
}

static void request_put(struct blk_request *r)
{
	struct blk_queue *q = &r->blk->queue[r->queue];

	r->next = q->free;
	q->free = r;
}

static void keep(struct blk_request *r)
{
	r->next = NULL;
	*r->blk->kept_tail = r;
	r->blk->kept_tail = &r->next;
}

/* Empties the list of kept requests. Return: its first. */
static struct blk_request *kept_take_all(struct blk *b)
{
	struct blk_request *first = b->kept;

	b->kept = NULL;
	b->kept_tail = &b->kept;
	return first;
}

static void kept_drop(struct blk *b)
{
	for (struct blk_request *r = kept_take_all(b); r != NULL;) {
		struct blk_request *next = r->next;

		request_put(r);
		r = next;
	}
}

/* Is what a driver wrote lost with the host's power, until it asks for a flush? */
static bool writeback(const struct blk *b)
{
	return virtio_has(&b->dev, VIRTIO_BLK_F_FLUSH) &&
	       (!virtio_has(&b->dev, VIRTIO_BLK_F_CONFIG_WCE) || b->config.wce != 0);
}

/* Parsing: the driver's words into a request. */

static uint8_t parse_data(struct blk_request *r, uint64_t sector, uint64_t len)
{
	const struct blk *b = r->blk;

	if (len % BLOCK_SECTOR != 0 || len > DATA_MAX ||
	    !range_inside(sector, len / BLOCK_SECTOR, 0, b->config.capacity)) {
		return VIRTIO_BLK_S_IOERR;
	}
	r->offset = sector * BLOCK_SECTOR;
	r->len = len;
	return VIRTIO_BLK_S_OK;
}

static uint8_t parse_range(struct blk_request *r,
			   const struct virtio_blk_discard_write_zeroes *segment)
{
	const struct blk *b = r->blk;
	bool zeroes = r->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t known = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint32_t max = zeroes ? b->config.max_write_zeroes_sectors : b->config.max_discard_sectors;

	if ((segment->flags & ~known) != 0) {
		return VIRTIO_BLK_S_UNSUPP;
	}
	if (segment->num_sectors > max ||
	    !range_inside(segment->sector, segment->num_sectors, 0, b->config.capacity)) {
		return VIRTIO_BLK_S_IOERR;
	}
	r->range[r->nranges++] = (struct blk_range){
		.offset = segment->sector * BLOCK_SECTOR,
		.len = (uint64_t)segment->num_sectors * BLOCK_SECTOR,
		.unmap = segment->flags != 0,
	};
	return VIRTIO_BLK_S_OK;
}

static uint8_t parse_ranges(struct blk_request *r, unsigned feature)
{
	const struct vq_chain *c = &r->chain;
	size_t at = sizeof(struct virtio_blk_outhdr);
	struct virtio_blk_discard_write_zeroes segment;
	uint8_t status = VIRTIO_BLK_S_OK;

	r->nranges = 0;
	if (!virtio_has(&r->blk->dev, feature)) {
		return VIRTIO_BLK_S_UNSUPP;
	}
	if ((c->out_len - at) % sizeof(segment) != 0 ||
	    (c->out_len - at) / sizeof(segment) > RANGES_MAX) {
		return VIRTIO_BLK_S_IOERR;
	}
	while (at < c->out_len && status == VIRTIO_BLK_S_OK) {
		at += iov_to_buf(c->iov, c->nout, at, &segment, sizeof(segment));
		status = parse_range(r, &segment);
	}
	return status;
}

static uint8_t parse(struct blk_request *r, const struct virtio_blk_outhdr *header)
{
	const struct blk *b = r->blk;

	r->type = header->type;
	r->sync = !writeback(b);
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		return parse_data(r, header->sector, r->chain.in_len - 1);
	case VIRTIO_BLK_T_OUT:
		if (b->block.readonly) {
			return VIRTIO_BLK_S_IOERR;
		}
		return parse_data(r, header->sector, r->chain.out_len - sizeof(*header));
	case VIRTIO_BLK_T_FLUSH:
	case VIRTIO_BLK_T_GET_ID:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_DISCARD:
		return parse_ranges(r, VIRTIO_BLK_F_DISCARD);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_ranges(r, VIRTIO_BLK_F_WRITE_ZEROES);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/*
 * Hands a request to the workers. Refused ones go there too: so a driver can keep no more requests
 * coming back in a round of the loop than there are.
 */
static void start(struct blk_request *r)
{
	struct blk *b = r->blk;
	const struct vq_chain *c = &r->chain;
	struct virtio_blk_outhdr header;

	if (iov_to_buf(c->iov, c->nout, 0, &header, sizeof(header)) != sizeof(header) ||
	    c->in_len == 0) {
		virtio_broken(&b->dev, "a request has no room for its header or status");
		request_put(r);
		return;
	}
	r->status = parse(r, &header);
	b->in_work++;
	block_pool_submit(&b->pool, &r->task);
}

/* Takes requests off the ring while there are free ones to hold them. Context: device lock. */
static void serve(struct blk *b, unsigned queue)
{
	struct blk_queue *q = &b->queue[queue];
	struct blk_request *r;
	int ret;

	q->starved = false;
	if (b->held || !b->dev.active) {
		return;
	}
	while ((r = request_take(q)) != NULL) {
		r->chain.iov = b->iov + (size_t)(r - b->request) * QUEUE_SIZE;
		r->chain.max = QUEUE_SIZE;
		ret = vq_pop(&b->vq[queue], &r->chain);
		if (ret <= 0) {
			request_put(r);
			if (ret < 0) {
				virtio_broken(&b->dev, "a request queue breaks the ring's rules");
			}
			return;
		}
		start(r);
	}
	q->starved = true;
}

/* The work: on a worker's thread, without the device's lock. */

static int do_ranges(struct blk_request *r)
{
	struct block *block = &r->blk->block;
	int ret = 0;

	for (unsigned i = 0; i < r->nranges && ret == 0; i++) {
		const struct blk_range *g = &r->range[i];

		if (r->type == VIRTIO_BLK_T_DISCARD) {
			ret = block_discard(block, g->offset, g->len);
		} else {
			ret = block_write_zeroes(block, g->offset, g->len, g->unmap);
		}
	}
	return ret;
}

/* @written: set to the bytes put into the request's buffers, without its status. */
static int do_request(struct blk_request *r, uint32_t *written)
{
	struct blk *b = r->blk;
	const struct vq_chain *c = &r->chain;
	int ret;

	*written = 0;
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		ret = block_readv(&b->block, vq_in(c), c->nin, 0, r->len, r->offset);
		*written = ret == 0 ? (uint32_t)r->len : 0;
		return ret;
	case VIRTIO_BLK_T_GET_ID:
		*written = (uint32_t)iov_from_buf(vq_in(c), c->nin, 0, b->serial,
						  MIN(c->in_len - 1, VIRTIO_BLK_ID_BYTES));
		return 0;
	case VIRTIO_BLK_T_FLUSH:
		ret = block_flush(&b->block);
		/* Kept data that went missing cannot be written again by another flush. */
		return ret == 0 ? 0 : -EIO;
	case VIRTIO_BLK_T_OUT:
		ret = block_writev(&b->block, c->iov, c->nout, sizeof(struct virtio_blk_outhdr),
				   r->len, r->offset);
		break;
	default:
		ret = do_ranges(r);
		break;
	}
	return ret == 0 && r->sync ? block_flush(&b->block) : ret;
}

/* Gives a request back to the driver. Context: device lock. */
static void finish(struct blk_request *r, uint32_t written)
{
	struct blk *b = r->blk;
	const struct vq_chain *c = &r->chain;
	const struct iovec *last = vq_in(c) + c->nin - 1;

	/* The status is the last byte; start() has seen that there is one. */
	memcpy((uint8_t *)last->iov_base + last->iov_len - 1, &r->status, 1);
	/* The used length counts from the first byte on, without gaps. */
	if (written == c->in_len - 1) {
		written++;
	} else {
		/* The status, and what came before it failed. */
		vq_wrote(&b->vq[r->queue], c, c->in_len);
	}
	vq_push(&b->vq[r->queue], c, written);
	virtio_notify(&b->dev, r->queue);
	request_put(r);
}

static uint8_t status_of(int ret)
{
	if (ret == 0) {
		return VIRTIO_BLK_S_OK;
	}
	return ret == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void run(struct block_task *task)
{
	struct blk_request *r = container_of(task, struct blk_request, task);
	struct blk *b = r->blk;
	unsigned queue = r->queue;
	uint32_t written = 0;
	bool tell = false;
	int ret = 0;

	if (r->status == VIRTIO_BLK_S_OK) {
		ret = do_request(r, &written);
		r->status = status_of(ret);
	}
	virtio_lock(&b->dev);
	if ((ret == -ENOSPC || ret == -EDQUOT) && b->pause != NULL) {
		keep(r);
		tell = !b->pausing;
		b->pausing = true;
	} else {
		finish(r, written);
	}
	b->in_work--;
	if (b->queue[queue].starved) {
		serve(b, queue);
	}
	if (b->in_work == 0) {
		pthread_cond_broadcast(&b->idle);
	}
	virtio_unlock(&b->dev);
	if (tell) {
		b->pause(b->pause_ctx, b->full_reason);
	}
}

/* Context: device lock, which is given up meanwhile. */
static void wait_idle(struct blk *b)
{
	b->held = true;
	while (b->in_work > 0) {
		lock_wait(&b->dev.lock, &b->idle);
	}
}

void blk_drain(struct virtio_device *dev)
{
	virtio_lock(dev);
	wait_idle(blk_of(dev));
	virtio_unlock(dev);
}

void blk_resume(struct virtio_device *dev)
{
	struct blk *b = blk_of(dev);

	virtio_lock(dev);
	b->held = false;
	b->pausing = false;
	for (struct blk_request *r = kept_take_all(b); r != NULL;) {
		struct blk_request *next = r->next;

		start(r);
		r = next;
	}
	for (unsigned i = 0; i < dev->nqueues; i++) {
		serve(b, i);
	}
	virtio_unlock(dev);
}

/* What the transport asks for. */

static int blk_activate(struct virtio_device *dev)
{
	return block_pool_start(&blk_of(dev)->pool);
}

static void blk_reset(struct virtio_device *dev)
{
	struct blk *b = blk_of(dev);

	wait_idle(b);
	kept_drop(b);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		b->queue[i].starved = false;
	}
	b->held = false;
	b->pausing = false;
	b->config.wce = 1;
}

static void blk_notify(struct virtio_device *dev, unsigned queue)
{
	serve(blk_of(dev), queue);
}

/*
 * A driver without FLUSH cannot make writes last, so they do at once.
 * Spec: VIRTIO 1.2, 5.2.5.2 "Device Requirements: Device Initialization"
 */
static void blk_config_read(struct virtio_device *dev)
{
	struct blk *b = blk_of(dev);

	if (virtio_has(dev, VIRTIO_BLK_F_CONFIG_WCE) && !virtio_has(dev, VIRTIO_BLK_F_FLUSH)) {
		b->config.wce = 0;
	}
}

static void blk_destroy(struct virtio_device *dev)
{
	struct blk *b = blk_of(dev);

	block_pool_fini(&b->pool);
	block_close(&b->block);
	pthread_cond_destroy(&b->idle);
	virtio_fini(dev);
	free(b->iov);
	free(b->request);
	free(b);
}

/* The state: which requests are kept, as the guest-physical places of their buffers. */

static void segment_state(struct blk *b, struct state *s, struct iovec *iov)
{
	gpa_t addr = gpa(0);
	uint64_t len = iov->iov_len;

	if (!s->loading) {
		check(guest_addr(b->dev.mem, iov->iov_base, &addr));
	}
	state_u64(s, &addr.v);
	state_u64(s, &len);
	if (!s->loading || s->error != 0) {
		return;
	}
	*iov = (struct iovec){.iov_base = guest_ptr(b->dev.mem, addr, len), .iov_len = len};
	if (iov->iov_base == NULL || len == 0 || len > UINT32_MAX) {
		state_fail(s, -EINVAL);
	}
}

static void chain_state(struct blk *b, struct state *s, struct vq_chain *c)
{
	uint16_t nout = (uint16_t)c->nout;
	uint16_t nin = (uint16_t)c->nin;

	state_u16(s, &c->id);
	state_u16(s, &c->ndesc);
	state_u16(s, &nout);
	state_u16(s, &nin);
	if (s->loading && (c->ndesc == 0 || c->ndesc > QUEUE_SIZE || nout > QUEUE_SIZE ||
			   nin > QUEUE_SIZE - nout)) {
		state_fail(s, -EINVAL);
	}
	if (s->error != 0) {
		return;
	}
	c->nout = nout;
	c->nin = nin;
	c->out_len = 0;
	c->in_len = 0;
	for (unsigned i = 0; i < c->nout + c->nin && s->error == 0; i++) {
		segment_state(b, s, &c->iov[i]);
		*(i < c->nout ? &c->out_len : &c->in_len) += c->iov[i].iov_len;
	}
}

/* Loads one kept request, or refuses it. */
static void kept_load(struct blk *b, struct state *s)
{
	uint16_t queue = 0;

	state_u16(s, &queue);
	if (queue >= b->dev.nqueues) {
		state_fail(s, -EINVAL);
	}
	if (s->error != 0) {
		return;
	}
	struct blk_request *r = request_take(&b->queue[queue]);
	if (r == NULL) {
		state_fail(s, -EINVAL);
		return;
	}
	r->chain = (struct vq_chain){
		.iov = b->iov + (size_t)(r - b->request) * QUEUE_SIZE,
		.max = QUEUE_SIZE,
	};
	chain_state(b, s, &r->chain);
	if (s->error != 0) {
		request_put(r);
	} else {
		keep(r);
	}
}

static void kept_save(struct blk *b, struct state *s)
{
	for (struct blk_request *r = b->kept; r != NULL; r = r->next) {
		uint16_t queue = (uint16_t)r->queue;

		state_u16(s, &queue);
		chain_state(b, s, &r->chain);
	}
}

/* Does each queue know of the requests that were loaded for it? */
static bool kept_known(const struct blk *b)
{
	unsigned entries[QUEUES_MAX] = {0};

	for (const struct blk_request *r = b->kept; r != NULL; r = r->next) {
		entries[r->queue] += b->vq[r->queue].packed ? r->chain.ndesc : 1;
	}
	for (unsigned i = 0; i < b->dev.nqueues; i++) {
		if (entries[i] > vq_in_flight(&b->vq[i])) {
			return false;
		}
	}
	return b->dev.active || b->kept == NULL;
}

static void kept_state(struct blk *b, struct state *s)
{
	uint32_t n = 0;

	if ((b->dev.status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0) {
		kept_drop(b); /* they will never be given back */
	}
	for (const struct blk_request *r = b->kept; r != NULL; r = r->next) {
		n++;
	}
	state_u32(s, &n);
	if (!s->loading) {
		kept_save(b, s);
		return;
	}
	kept_drop(b);
	for (uint32_t i = 0; i < n && s->error == 0; i++) {
		kept_load(b, s);
	}
	if (!kept_known(b)) {
		state_fail(s, -EINVAL);
	}
	if (s->error != 0) {
		kept_drop(b);
	}
}

/* The transport has loaded the queues before. */
static void blk_state(struct virtio_device *dev, struct state *s)
{
	struct blk *b = blk_of(dev);
	uint64_t capacity = b->config.capacity;
	bool readonly = b->block.readonly;

	state_begin(s, "virtio-blk", 1);
	if (b->in_work > 0) {
		state_fail(s, -EBUSY); /* blk_drain() was forgotten */
	}
	/* The guest has seen these; it must find the same disk again. */
	state_u64(s, &capacity);
	state_bool(s, &readonly);
	if (capacity != b->config.capacity || readonly != b->block.readonly) {
		state_fail(s, -EINVAL);
	}
	kept_state(b, s);
	state_end(s);
}

static const struct virtio_ops blk_ops = {
	.activate = blk_activate,
	.reset = blk_reset,
	.notify = blk_notify,
	.config_read = blk_config_read,
	.state = blk_state,
	.destroy = blk_destroy,
};

/* Creation. */

static uint64_t fill_config(struct blk *b, unsigned nqueues)
{
	const struct block *d = &b->block;
	uint64_t features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
			    BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_FLUSH) |
			    BIT(VIRTIO_BLK_F_CONFIG_WCE);
	uint32_t blocks = d->physical_block / d->logical_block;

	b->config = (struct virtio_blk_config){
		.capacity = d->size / BLOCK_SECTOR,
		.seg_max = SEGMENTS_MAX,
		.blk_size = d->logical_block,
		.physical_block_exp = (uint8_t)__builtin_ctz(blocks),
		.min_io_size = (uint16_t)blocks,
		.wce = 1,
		.num_queues = (uint16_t)nqueues,
	};
	if (nqueues > 1) {
		features |= BIT(VIRTIO_BLK_F_MQ);
	}
	if (d->readonly) {
		return features | BIT(VIRTIO_BLK_F_RO);
	}
	if (d->can_discard) {
		features |= BIT(VIRTIO_BLK_F_DISCARD);
		b->config.max_discard_sectors = DISCARD_MAX / BLOCK_SECTOR;
		b->config.max_discard_seg = RANGES_MAX;
		b->config.discard_sector_alignment = d->discard_block / BLOCK_SECTOR;
	}
	b->config.max_write_zeroes_sectors = WRITE_ZEROES_MAX / BLOCK_SECTOR;
	b->config.max_write_zeroes_seg = RANGES_MAX;
	b->config.write_zeroes_may_unmap = 1;
	return features | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

/* A serial number of its own, the same at each start: FNV-1a of the path. */
static void fill_serial(struct blk *b, const struct disk_config *config)
{
	uint64_t hash = 0xcbf29ce484222325;

	if (config->serial != NULL) {
		memcpy(b->serial, config->serial, strlen(config->serial));
		return;
	}
	for (const char *c = config->path; *c != '\0'; c++) {
		hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
	}
	snprintf(b->serial, sizeof(b->serial), "yado%016llx", (unsigned long long)hash);
}

static int refuse_config(const struct disk_config *config)
{
	if (config->queues < 1 || config->queues > QUEUES_MAX) {
		log_error("disk %s: queues=%u; a disk has 1 to %d", config->path, config->queues,
			  QUEUES_MAX);
		return -EINVAL;
	}
	if (config->serial != NULL && strlen(config->serial) > VIRTIO_BLK_ID_BYTES) {
		log_error("disk %s: the serial number '%s' has more than %d bytes", config->path,
			  config->serial, VIRTIO_BLK_ID_BYTES);
		return -EINVAL;
	}
	return 0;
}

static int alloc_requests(struct blk *b, unsigned nqueues)
{
	size_t count = (size_t)nqueues * QUEUE_REQUESTS;

	b->request = calloc(count, sizeof(*b->request));
	b->iov = calloc(count * QUEUE_SIZE, sizeof(*b->iov));
	if (b->request == NULL || b->iov == NULL) {
		log_error("disk %s: no memory for its requests", b->block.path);
		return -ENOMEM;
	}
	for (size_t i = count; i-- > 0;) {
		struct blk_request *r = &b->request[i];

		r->task.run = run;
		r->blk = b;
		r->queue = (unsigned)(i / QUEUE_REQUESTS);
		request_put(r);
	}
	return 0;
}

int blk_create(struct virtio_device **out, const struct disk_config *config,
	       void (*pause)(void *ctx, const char *reason), void *ctx)
{
	int ret = refuse_config(config);

	if (ret != 0) {
		return ret;
	}
	struct blk *b = calloc(1, sizeof(*b));
	if (b == NULL) {
		log_error("disk %s: no memory for it", config->path);
		return -ENOMEM;
	}
	ret = block_open(&b->block, config);
	if (ret == 0) {
		ret = alloc_requests(b, config->queues);
	}
	if (ret != 0) {
		block_close(&b->block);
		free(b->iov);
		free(b->request);
		free(b);
		return ret;
	}
	b->pause = pause;
	b->pause_ctx = ctx;
	snprintf(b->full_reason, sizeof(b->full_reason),
		 "disk %s: the host has no space left for what the guest writes; make room",
		 config->path);
	fill_serial(b, config);
	b->kept_tail = &b->kept;
	pthread_cond_init(&b->idle, NULL);
	block_pool_init(&b->pool, MAX(config->queues, WORKERS_MIN));
	uint64_t features = fill_config(b, config->queues);
	virtio_init(&b->dev, "block", VIRTIO_TYPE_BLOCK, &blk_ops, features, b->vq, config->queues,
		    QUEUE_SIZE, &b->config, sizeof(b->config));
	b->dev.config_wmask = (const uint8_t *)&writable_config;
	*out = &b->dev;
	return 0;
}
