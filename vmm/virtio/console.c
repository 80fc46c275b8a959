#include "vmm/virtio/console.h"

#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "vmm/clock.h"
#include "vmm/log.h"

#define QUEUE_SIZE    64
#define BUFFERS_MAX   64	 /* buffers of one request; a Linux driver uses one */
#define EMERGENCY_MAX 256	 /* bytes that wait for the loop */
#define TURN_BYTES    (64 * KIB) /* that go out in one turn of the loop */

/*
 * How long a back end may take no bytes before output is thrown away. Linux' driver waits for each
 * request with interrupts off: to wait for a reader that sleeps would be to stop the guest.
 */
#define PATIENCE_NS UINT64_C(2000000000)

enum {
	QUEUE_RX,
	QUEUE_TX,
	QUEUES
};

/* Spec: VIRTIO 1.2, 5.3.4 "Device configuration layout" */
_Static_assert(sizeof(struct virtio_console_config) == 12, "the layout of the configuration space");

struct vconsole {
	struct virtio_device dev;
	struct virtqueue queue[QUEUES];
	/* constant after vconsole_create() */
	struct char_backend *be;
	struct loop_source work; /* an eventfd: transmit() shall run on the loop */
	/* guarded by the device's lock */
	struct virtio_console_config config;
	bool watched; /* @work and @patience are on the loop */
	bool waiting; /* a request waits for the back end, and @patience runs */
	uint64_t wait_until_ns;
	bool losing; /* @patience is over: what the back end does not take is lost */
	bool warned; /* of that */
	struct loop_timer patience;
	uint32_t tx_done;   /* bytes of the next transmit request that are out already */
	uint16_t emergency; /* how many there are */
	uint8_t emergency_buf[EMERGENCY_MAX];
	struct iovec iov[BUFFERS_MAX];
};

static struct vconsole *vconsole(struct virtio_device *dev)
{
	return container_of(dev, struct vconsole, dev);
}

static void out_of_patience(void *arg);

static int watch(struct vconsole *vc)
{
	int error = loop_timer_init(&vc->patience, vc->dev.loop, out_of_patience, vc);

	if (error == 0) {
		error = loop_add(vc->dev.loop, &vc->work, EPOLLIN);
		if (error != 0) {
			loop_timer_fini(&vc->patience, vc->dev.loop);
		}
	}
	return error;
}

/* Has the loop call worked(); on the first time puts the eventfd there. */
static void schedule(struct vconsole *vc)
{
	uint64_t one = 1;

	if (!vc->watched) {
		int error = watch(vc);

		if (error != 0) {
			log_warn("virtio console: output may be late: %s", strerror(-error));
			return;
		}
		vc->watched = true;
	}
	if (write(vc->work.fd, &one, sizeof(one)) < 0) {
		/* The counter is full: it is scheduled already. */
	}
}

/* Return: true if all is out. */
static bool flush_emergency(struct vconsole *vc)
{
	while (vc->emergency > 0) {
		size_t n = vc->be->ops->write(vc->be, vc->emergency_buf, vc->emergency);

		if (n == 0) {
			return false;
		}
		vc->emergency = (uint16_t)(vc->emergency - n);
		memmove(vc->emergency_buf, vc->emergency_buf + n, vc->emergency);
	}
	return true;
}

/* Return: bytes of the chain, from @done on and up to @max, that the back end took. */
static uint64_t write_chain(struct vconsole *vc, const struct vq_chain *chain, uint64_t done,
			    uint64_t max)
{
	uint64_t before = 0;
	uint64_t sum = 0;

	for (unsigned i = 0; i < chain->nout && sum < max; i++) {
		const struct iovec *iov = &chain->iov[i];
		uint64_t skip = done > before ? MIN(done - before, iov->iov_len) : 0;
		size_t len = MIN(iov->iov_len - skip, max - sum);

		before += iov->iov_len;
		if (len > 0) {
			size_t n = vc->be->ops->write(vc->be, (uint8_t *)iov->iov_base + skip, len);

			sum += n;
			if (n < len) {
				break;
			}
		}
	}
	return sum;
}

/* The back end did not take all of a request: from its last sign of life on it has some time. */
static void wait_for_back_end(struct vconsole *vc, bool alive)
{
	if (vc->watched && (alive || !vc->waiting)) {
		vc->waiting = true;
		vc->wait_until_ns = clock_now_ns() + PATIENCE_NS;
		loop_timer_set(&vc->patience, vc->wait_until_ns);
	}
}

/*
 * What the guest sends. A request that the back end does not take as a whole goes back to the ring,
 * so that nothing is in flight when the state is saved. At most a queue's length at a time, as the
 * driver can add as fast as we take, and not too many bytes, as one buffer can be 4 GiB long.
 */
static void transmit(struct vconsole *vc)
{
	struct virtqueue *vq = &vc->queue[QUEUE_TX];
	unsigned budget = QUEUE_SIZE;
	uint64_t bytes = TURN_BYTES;
	int result = 0;

	if (!flush_emergency(vc) || !vc->dev.active) {
		return;
	}
	while (budget > 0 && bytes > 0) {
		struct vq_chain chain = {.iov = vc->iov, .max = BUFFERS_MAX};

		result = vq_pop(vq, &chain);
		if (result != 1) {
			break;
		}
		/* The driver may have made it shorter since the last try. */
		uint64_t done = MIN((uint64_t)vc->tx_done, chain.out_len);
		uint64_t n = write_chain(vc, &chain, done, bytes);

		bytes -= n;
		done += n;
		if (done < chain.out_len && (bytes == 0 || !vc->losing)) {
			vc->tx_done = (uint32_t)MIN(done, UINT32_MAX);
			vq_unpop(vq, &chain);
			if (bytes > 0) {
				wait_for_back_end(vc, n > 0);
			}
			break;
		}
		vc->tx_done = 0;
		vc->waiting = false;
		vq_push(vq, &chain, 0);
		budget--;
	}
	virtio_notify(&vc->dev, QUEUE_TX);
	if (result < 0) {
		virtio_broken(&vc->dev, "a transmit request breaks the rules of the ring");
	} else if (budget == 0 || bytes == 0) {
		schedule(vc);
	}
}

static void worked(void *arg, uint32_t events)
{
	struct vconsole *vc = arg;
	uint64_t count;

	(void)events;
	if (read(vc->work.fd, &count, sizeof(count)) < 0) {
		return;
	}
	virtio_lock(&vc->dev);
	transmit(vc);
	virtio_unlock(&vc->dev);
}

static void out_of_patience(void *arg)
{
	struct vconsole *vc = arg;

	virtio_lock(&vc->dev);
	/* A socket that is full has room long before it says so: it may take something. */
	uint64_t waited_until = vc->wait_until_ns;
	if (vc->waiting) {
		transmit(vc);
	}
	if (vc->waiting && vc->wait_until_ns == waited_until) {
		vc->waiting = false;
		vc->losing = true;
		if (!vc->warned) {
			log_warn("virtio console: nobody reads what the guest says; it is lost "
				 "until somebody does");
		}
		vc->warned = true;
		transmit(vc);
	}
	virtio_unlock(&vc->dev);
}

/* The back end takes bytes again. */
static void writable(void *user)
{
	struct vconsole *vc = user;

	virtio_lock(&vc->dev);
	vc->losing = false;
	transmit(vc);
	virtio_unlock(&vc->dev);
}

/* The back end has input. Return: bytes that found room in the guest's buffers. */
static size_t receive(struct vconsole *vc, const uint8_t *buf, size_t n)
{
	struct virtqueue *vq = &vc->queue[QUEUE_RX];
	size_t done = 0;

	while (done < n) {
		struct vq_chain chain = {.iov = vc->iov, .max = BUFFERS_MAX};
		int result = vq_pop(vq, &chain);

		if (result == 0) {
			break;
		}
		if (result < 0 || chain.nin == 0) {
			virtio_broken(&vc->dev, "a receive buffer breaks the rules of the ring");
			break;
		}

		size_t len = iov_from_buf(vq_in(&chain), chain.nin, 0, buf + done, n - done);

		vq_push(vq, &chain, (uint32_t)len);
		done += len;
	}
	virtio_notify(&vc->dev, QUEUE_RX);
	return done;
}

static size_t input(void *user, const uint8_t *buf, size_t n)
{
	struct vconsole *vc = user;
	size_t done;

	virtio_lock(&vc->dev);
	done = vc->dev.active ? receive(vc, buf, n) : 0;
	virtio_unlock(&vc->dev);
	return done;
}

static int activate(struct virtio_device *dev)
{
	struct vconsole *vc = vconsole(dev);

	vc->tx_done = 0;
	vc->waiting = false;
	schedule(vc); /* requests may be in the ring already */
	vc->be->ops->input_ready(vc->be);
	return 0;
}

static void reset(struct virtio_device *dev)
{
	struct vconsole *vc = vconsole(dev);

	vc->tx_done = 0;
	vc->waiting = false;
}

static void notify(struct virtio_device *dev, unsigned queue)
{
	struct vconsole *vc = vconsole(dev);

	if (queue == QUEUE_TX) {
		transmit(vc);
	} else {
		vc->be->ops->input_ready(vc->be);
	}
}

/*
 * Emergency output: a character in a register, for drivers that have no queues yet. It comes on a
 * vCPU's thread; the back end is the loop's, so it waits for that. A driver that is faster than the
 * back end loses characters: it is told nothing of them anyway.
 * Spec: VIRTIO 1.2, 5.3.4 "emerg_wr"
 */
static void config_written(struct virtio_device *dev, uint32_t offset, uint32_t len)
{
	struct vconsole *vc = vconsole(dev);
	const uint32_t at = offsetof(struct virtio_console_config, emerg_wr);

	if (offset > at || len == 0 || offset + len <= at) {
		return;
	}
	if (vc->emergency < EMERGENCY_MAX) {
		vc->emergency_buf[vc->emergency++] = (uint8_t)load_le32(&vc->config.emerg_wr);
		schedule(vc);
	}
}

static void vconsole_state(struct virtio_device *dev, struct state *s)
{
	struct vconsole *vc = vconsole(dev);
	uint32_t tx_done = vc->tx_done;
	uint16_t emergency = vc->emergency;
	uint8_t buf[EMERGENCY_MAX];

	memcpy(buf, vc->emergency_buf, sizeof(buf));
	state_begin(s, "virtio-console", 1);
	state_u32(s, &tx_done);
	state_u16(s, &emergency);
	if (emergency > EMERGENCY_MAX) {
		state_fail(s, -EINVAL);
	} else {
		state_bytes(s, buf, emergency);
	}
	state_end(s);
	if (s->error != 0 || !s->loading) {
		return;
	}
	vc->tx_done = tx_done;
	vc->emergency = emergency;
	memcpy(vc->emergency_buf, buf, sizeof(buf));
	if (emergency > 0) {
		schedule(vc);
	}
}

static void destroy(struct virtio_device *dev)
{
	struct vconsole *vc = vconsole(dev);

	vc->be->input = NULL;
	vc->be->writable = NULL;
	if (vc->watched) {
		loop_del(dev->loop, &vc->work);
		loop_timer_fini(&vc->patience, dev->loop);
	}
	close(vc->work.fd);
	virtio_fini(dev);
	free(vc);
}

static const struct virtio_ops ops = {
	.activate = activate,
	.reset = reset,
	.notify = notify,
	.config_written = config_written,
	.state = vconsole_state,
	.destroy = destroy,
};

/* Only the emergency register can be written. */
static const struct virtio_console_config config_wmask = {.emerg_wr = 0xffffffff};

int vconsole_create(struct virtio_device **out, struct char_backend *be)
{
	struct vconsole *vc = calloc(1, sizeof(*vc));
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (vc == NULL || fd < 0) {
		int error = vc == NULL ? -ENOMEM : -errno;

		log_error("cannot make the virtio console: %s", strerror(-error));
		free(vc);
		if (fd >= 0) {
			close(fd);
		}
		return error;
	}
	virtio_init(&vc->dev, "console", VIRTIO_TYPE_CONSOLE, &ops,
		    BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE), vc->queue,
		    QUEUES, QUEUE_SIZE, &vc->config, sizeof(vc->config));
	vc->dev.config_wmask = (const uint8_t *)&config_wmask;
	store_le32(&vc->config.max_nr_ports, 1);
	vc->work = (struct loop_source){.fd = fd, .fn = worked, .arg = vc};
	vc->be = be;
	be->input = input;
	be->writable = writable;
	be->user = vc;
	*out = &vc->dev;
	return 0;
}

void vconsole_resize(struct virtio_device *dev, uint16_t columns, uint16_t rows)
{
	struct vconsole *vc = vconsole(dev);

	virtio_lock(dev);
	if (load_le16(&vc->config.cols) != columns || load_le16(&vc->config.rows) != rows) {
		store_le16(&vc->config.cols, columns);
		store_le16(&vc->config.rows, rows);
		virtio_notify_config(dev);
	}
	virtio_unlock(dev);
}
