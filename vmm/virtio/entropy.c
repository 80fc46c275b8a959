#include "vmm/virtio/entropy.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "lib/base/types.h"
#include "vmm/clock.h"
#include "vmm/log.h"

#define QUEUE_SIZE   64
#define REQUEST_MAX  (4 * KIB)
#define TURN_MAX     (64 * KIB)
#define REQUESTS_MAX 64 /* a turn; for a driver that asks for a byte at a time */

/* When the host's generator is not seeded yet. */
#define RETRY_NS UINT64_C(100000000)

struct entropy {
	struct virtio_device dev;

	/* guarded by dev.lock */
	struct virtqueue vq;
	struct iovec iov[QUEUE_SIZE];
	bool has_timer;
	struct loop_timer timer; /* the next turn */
};

static struct entropy *entropy_of(struct virtio_device *dev)
{
	return container_of(dev, struct entropy, dev);
}

/* Return: bytes put into the request's buffers, or -EAGAIN if the host has none to give yet. */
static int64_t fill(const struct vq_chain *c)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < c->nin && done < REQUEST_MAX; i++) {
		const struct iovec *iov = &vq_in(c)[i];
		size_t want = MIN(iov->iov_len, REQUEST_MAX - done);
		ssize_t got = getrandom(iov->iov_base, want, GRND_NONBLOCK);

		if (got < 0) {
			return done > 0 ? (int64_t)done : -EAGAIN;
		}
		done += (uint64_t)got;
		if ((size_t)got < want) {
			break; /* a signal came; what there is will do */
		}
	}
	return (int64_t)done;
}

/* One turn. Context: loop thread, device lock. */
static void serve(struct entropy *e)
{
	struct vq_chain c = {.iov = e->iov, .max = QUEUE_SIZE};
	uint64_t total = 0;

	for (unsigned i = 0; i < REQUESTS_MAX && total < TURN_MAX; i++) {
		int ret = vq_pop(&e->vq, &c);

		if (ret < 0) {
			virtio_broken(&e->dev, "the request queue breaks the ring's rules");
		}
		if (ret <= 0) {
			return;
		}
		int64_t done = fill(&c);
		if (done < 0) {
			vq_unpop(&e->vq, &c);
			loop_timer_set(&e->timer, clock_now_ns() + RETRY_NS);
			return;
		}
		vq_push(&e->vq, &c, (uint32_t)done);
		virtio_notify(&e->dev, 0);
		total += (uint64_t)done;
	}
	loop_timer_set(&e->timer, clock_now_ns());
}

static void next_turn(void *arg)
{
	struct entropy *e = arg;

	virtio_lock(&e->dev);
	if (e->dev.active) {
		serve(e);
	}
	virtio_unlock(&e->dev);
}

static void entropy_notify(struct virtio_device *dev, unsigned queue)
{
	(void)queue;
	serve(entropy_of(dev));
}

static int entropy_activate(struct virtio_device *dev)
{
	struct entropy *e = entropy_of(dev);

	if (e->has_timer) {
		return 0;
	}
	int ret = loop_timer_init(&e->timer, dev->loop, next_turn, e);
	e->has_timer = ret == 0;
	return ret;
}

static void entropy_reset(struct virtio_device *dev)
{
	struct entropy *e = entropy_of(dev);

	if (e->has_timer) {
		loop_timer_clear(&e->timer);
	}
}

/*
 * Random bytes leave nothing to remember. A ring that was not served to its end when the state was
 * saved is looked at again, whether the driver rings or not.
 */
static void entropy_state(struct virtio_device *dev, struct state *s)
{
	struct entropy *e = entropy_of(dev);

	state_begin(s, "virtio-entropy", 1);
	state_end(s);
	if (s->loading && s->error == 0 && e->has_timer) {
		loop_timer_set(&e->timer, clock_now_ns());
	}
}

static void entropy_destroy(struct virtio_device *dev)
{
	struct entropy *e = entropy_of(dev);

	if (e->has_timer) {
		loop_timer_fini(&e->timer, dev->loop);
	}
	virtio_fini(dev);
	free(e);
}

static const struct virtio_ops entropy_ops = {
	.activate = entropy_activate,
	.reset = entropy_reset,
	.notify = entropy_notify,
	.state = entropy_state,
	.destroy = entropy_destroy,
};

int entropy_create(struct virtio_device **out)
{
	struct entropy *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		log_error("entropy: no memory for the device");
		return -ENOMEM;
	}
	virtio_init(&e->dev, "entropy", VIRTIO_TYPE_ENTROPY, &entropy_ops, 0, &e->vq, 1, QUEUE_SIZE,
		    NULL, 0);
	*out = &e->dev;
	return 0;
}
