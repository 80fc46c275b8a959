#include "vmm/dev/char_queue.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "vmm/log.h"

_Static_assert((CHAR_QUEUE_SIZE & (CHAR_QUEUE_SIZE - 1)) == 0, "a power of two");

/* To the back end, up to what was put in before the call, so that a guest cannot hold us here. */
static void drain(struct char_queue *q)
{
	lock_take(&q->lock);
	uint32_t end = q->head;
	uint32_t tail = q->tail;
	bool blocked = q->blocked;
	lock_give(&q->lock);

	while (tail != end && !blocked) {
		uint32_t at = tail % CHAR_QUEUE_SIZE;
		size_t n = MIN(end - tail, CHAR_QUEUE_SIZE - at);
		/* Nobody else changes bytes between tail and head. */
		size_t taken = q->be->ops->write(q->be, q->buf + at, n);

		check(taken <= n);
		blocked = taken < n;
		tail += (uint32_t)taken;
		lock_take(&q->lock);
		q->tail = tail;
		q->blocked = blocked;
		lock_give(&q->lock);
	}
}

static void on_event(void *arg, uint32_t events)
{
	struct char_queue *q = arg;
	uint64_t count;

	(void)events;
	/* Before the flag: a kick after it writes again. Nothing to read is no harm. */
	(void)!read(q->source.fd, &count, sizeof(count));
	lock_take(&q->lock);
	q->kicked = false;
	lock_give(&q->lock);

	drain(q);
	if (q->drained != NULL) {
		q->drained(q->user);
	}
}

int char_queue_init(struct char_queue *q, struct loop *loop, struct char_backend *be,
		    void (*drained)(void *user), void *user)
{
	int err;

	*q = (struct char_queue){
		.loop = loop, .be = be, .drained = drained, .user = user, .source.fd = -1};
	lock_init(&q->lock, LOCK_LEAF);
	if (be == NULL) {
		return 0;
	}
	q->source = (struct loop_source){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = on_event, .arg = q};
	err = q->source.fd < 0 ? -errno : loop_add(loop, &q->source, EPOLLIN);
	if (err < 0) {
		log_error("cannot watch a character device: %s", strerror(-err));
		if (q->source.fd >= 0) {
			close(q->source.fd);
		}
		lock_fini(&q->lock);
	}
	return err;
}

void char_queue_fini(struct char_queue *q)
{
	if (q->be != NULL) {
		drain(q);
		loop_del(q->loop, &q->source);
		close(q->source.fd);
	}
	lock_fini(&q->lock);
}

static void wake(struct char_queue *q)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full, and then the loop is awake anyway. */
	(void)!write(q->source.fd, &one, sizeof(one));
}

bool char_queue_put(struct char_queue *q, uint8_t byte)
{
	bool full, kick = false;

	if (q->be == NULL) {
		return true;
	}
	lock_take(&q->lock);
	full = q->head - q->tail == CHAR_QUEUE_SIZE;
	if (!full) {
		q->buf[q->head++ % CHAR_QUEUE_SIZE] = byte;
		kick = !q->kicked && !q->blocked;
		q->kicked |= kick;
	}
	lock_give(&q->lock);
	if (kick) {
		wake(q);
	}
	return !full;
}

size_t char_queue_room(struct char_queue *q)
{
	lock_take(&q->lock);
	size_t room = CHAR_QUEUE_SIZE - (q->head - q->tail);
	lock_give(&q->lock);
	return room;
}

void char_queue_kick(struct char_queue *q)
{
	if (q->be == NULL) {
		return;
	}
	lock_take(&q->lock);
	bool kick = !q->kicked;
	q->kicked = true;
	lock_give(&q->lock);
	if (kick) {
		wake(q);
	}
}

void char_queue_writable(struct char_queue *q)
{
	lock_take(&q->lock);
	q->blocked = false;
	lock_give(&q->lock);
	drain(q);
	if (q->drained != NULL) {
		q->drained(q->user);
	}
}

void char_queue_state(struct char_queue *q, struct state *s)
{
	uint32_t len = q->head - q->tail;
	uint32_t head = q->head;
	uint32_t tail = q->tail;

	state_begin(s, "char_queue", 1);
	state_u32(s, &len);
	if (len > CHAR_QUEUE_SIZE) {
		state_fail(s, -EINVAL);
	} else if (s->loading) {
		tail = 0;
		head = len;
	}
	for (uint32_t at = tail; at != head && s->error == 0;) {
		uint32_t n = MIN(head - at, CHAR_QUEUE_SIZE - at % CHAR_QUEUE_SIZE);

		state_bytes(s, q->buf + at % CHAR_QUEUE_SIZE, n);
		at += n;
	}
	state_end(s);
	if (!s->loading || s->error != 0) {
		return;
	}
	if (q->be == NULL) {
		head = 0; /* this machine has nobody there */
	}
	q->head = head;
	q->tail = tail;
	char_queue_kick(q);
}
