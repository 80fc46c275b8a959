#include "vmm/virtio/console.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_console.h>
#include <string.h>

#include "tests/capture.h"
#include "tests/state_rig.h"
#include "tests/test_run.h"
#include "tests/virtio_driver.h"

enum {
	RX,
	TX
};

/* A back end that takes as much as it has room for. */
struct end {
	struct char_backend be;
	char got[4096];
	size_t len, room;
	bool counts;	/* what it gets; keeps nothing */
	unsigned ready; /* calls of input_ready() */
};

struct fixture {
	struct loop loop;
	struct guest_memory mem;
	struct driver_queue rx, tx;
	struct virtio_transport transport;
	struct virtio_device *dev;
	struct end end;
};

static unsigned queue_interrupts[2], config_interrupts;

static void notify_queue(struct virtio_transport *t, unsigned queue)
{
	(void)t;
	queue_interrupts[queue]++;
}

static void notify_config(struct virtio_transport *t)
{
	(void)t;
	config_interrupts++;
}

static size_t end_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct end *e = container_of(be, struct end, be);

	n = MIN(n, e->room);
	if (e->counts) {
		e->len += n;
		e->room -= n;
		return n;
	}
	assert_true(e->len + n < sizeof(e->got));
	memcpy(e->got + e->len, buf, n);
	e->len += n;
	e->room -= n;
	return n;
}

static void end_input_ready(struct char_backend *be)
{
	container_of(be, struct end, be)->ready++;
}

static const struct char_backend_ops end_ops = {end_write, end_input_ready};

/* The second queue lies at other addresses than driver_queue_init() gives. */
static void place_tx(struct fixture *f)
{
	driver_queue_init(&f->tx, &f->mem, false, false, 16);
	f->tx.desc = 0x5000;
	f->tx.driver = 0x6000;
	f->tx.device = 0x7000;
	for (unsigned i = 0; i < 3; i++) {
		memset(driver_ptr(&f->tx, 0x5000 + 0x1000 * i), 0, 0x1000);
	}
}

static void activate(struct fixture *f)
{
	struct virtio_device *dev = f->dev;

	driver_setup(&f->rx, &dev->queue[RX], false);
	driver_setup(&f->tx, &dev->queue[TX], false);
	virtio_lock(dev);
	dev->status = VIRTIO_CONFIG_S_DRIVER_OK;
	dev->active = true;
	assert_int_equal(dev->ops->activate(dev), 0);
	virtio_unlock(dev);
}

static int set_up(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	*state = f;
	assert_int_equal(loop_init(&f->loop), 0);
	driver_ram_init(&f->mem);
	place_tx(f);
	driver_queue_init(&f->rx, &f->mem, false, false, 16);
	f->end.be.ops = &end_ops;
	f->end.room = 1000;
	assert_int_equal(vconsole_create(&f->dev, &f->end.be), 0);
	f->transport = (struct virtio_transport){notify_queue, notify_config};
	f->dev->transport = &f->transport;
	f->dev->loop = &f->loop;
	f->dev->mem = &f->mem;
	queue_interrupts[RX] = queue_interrupts[TX] = config_interrupts = 0;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->dev->ops->destroy(f->dev);
	assert_null(f->end.be.input);
	driver_ram_fini(&f->mem);
	loop_fini(&f->loop);
	test_free(f);
	return 0;
}

static void run_loop(struct fixture *f)
{
	(void)test_run(&f->loop, NULL, NULL, 5);
}

static void ring(struct fixture *f, unsigned queue)
{
	virtio_lock(f->dev);
	f->dev->ops->notify(f->dev, queue);
	virtio_unlock(f->dev);
}

/* The driver sends @text, in @nbuf buffers. */
static void send_text(struct fixture *f, unsigned slot, const char *text, unsigned nbuf)
{
	struct driver_buf buf[4];
	uint64_t at = DRIVER_BUFFERS + slot * 256;
	uint32_t len = (uint32_t)strlen(text), part = len / nbuf;

	memcpy(driver_ptr(&f->tx, at), text, len);
	for (unsigned i = 0; i < nbuf; i++) {
		buf[i] = (struct driver_buf){at + i * part, i + 1 < nbuf ? part : len - i * part,
					     false};
	}
	driver_add(&f->tx, buf, nbuf, false);
}

static void end_got(struct fixture *f, const char *text)
{
	f->end.got[f->end.len] = '\0';
	assert_string_equal(f->end.got, text);
	f->end.len = 0;
}

static unsigned used(struct driver_queue *q)
{
	uint16_t id;
	uint32_t written;
	unsigned n = 0;

	while (driver_take(q, &id, &written)) {
		n++;
	}
	return n;
}

static void what_it_offers(void **state)
{
	struct fixture *f = *state;
	struct virtio_console_config config;

	assert_int_equal(f->dev->type, 3);
	assert_int_equal(f->dev->nqueues, 2);
	assert_int_equal(f->dev->config_len, 12);
	assert_true(f->dev->features & BIT(VIRTIO_CONSOLE_F_SIZE));
	assert_true(f->dev->features & BIT(VIRTIO_CONSOLE_F_EMERG_WRITE));
	assert_false(f->dev->features & BIT(VIRTIO_CONSOLE_F_MULTIPORT));
	memcpy(&config, f->dev->config, sizeof(config));
	assert_int_equal(config.cols, 0);
	assert_int_equal(config.max_nr_ports, 1);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(f->dev->config_wmask[i], i < 8 ? 0 : 0xff);
	}
}

static void output(void **state)
{
	struct fixture *f = *state;

	send_text(f, 0, "early ", 1); /* before it is active */
	activate(f);
	run_loop(f);
	end_got(f, "early ");
	send_text(f, 0, "one ", 1);
	send_text(f, 1, "two parts", 3);
	ring(f, TX);
	end_got(f, "one two parts");
	assert_int_equal(used(&f->tx), 3);
	assert_true(queue_interrupts[TX] > 0);
	ring(f, TX); /* nothing more to say */
	end_got(f, "");
}

static void output_waits_for_the_back_end(void **state)
{
	struct fixture *f = *state;

	activate(f);
	f->end.room = 5;
	send_text(f, 0, "0123456789", 3);
	send_text(f, 1, "abc", 1);
	ring(f, TX);
	end_got(f, "01234");
	assert_int_equal(used(&f->tx), 0);
	f->end.room = 2;
	f->end.be.writable(f->end.be.user);
	end_got(f, "56");
	f->end.room = 100;
	f->end.be.writable(f->end.be.user);
	end_got(f, "789abc");
	assert_int_equal(used(&f->tx), 2);
}

static void run_for(struct fixture *f, unsigned ms)
{
	(void)test_run(&f->loop, NULL, NULL, ms);
}

/* Nothing is lost as long as the back end takes something now and then. */
static void a_slow_back_end(void **state)
{
	struct fixture *f = *state;

	activate(f);
	run_loop(f);
	f->end.room = 0;
	send_text(f, 0, "0123", 1);
	ring(f, TX);
	run_for(f, 1500);
	f->end.room = 1;
	f->end.be.writable(f->end.be.user);
	run_for(f, 1500);
	f->end.room = 1; /* it does not say so */
	run_for(f, 1000);
	assert_int_equal(f->end.len, 2);
	assert_int_equal(used(&f->tx), 0);
	f->end.room = 2;
	f->end.be.writable(f->end.be.user);
	end_got(f, "0123");
	assert_int_equal(used(&f->tx), 1);
	run_for(f, 2100); /* nothing waits, so the time means nothing */
	send_text(f, 1, "abc", 1);
	ring(f, TX);
	assert_int_equal(used(&f->tx), 0);
}

/* The driver does not wait for longer: Linux does it with a CPU that does nothing else. */
static void a_back_end_that_sleeps(void **state)
{
	struct fixture *f = *state;
	struct capture cap;

	activate(f);
	run_loop(f);
	f->end.room = 3;
	send_text(f, 0, "012lost", 1);
	send_text(f, 1, "lost, too", 1);
	ring(f, TX);
	run_for(f, 1500);
	assert_int_equal(used(&f->tx), 0);
	capture_begin(&cap);
	run_for(f, 700);
	assert_said(&cap, "nobody reads");
	assert_int_equal(used(&f->tx), 2);
	send_text(f, 2, "and this", 1);
	ring(f, TX);
	assert_int_equal(used(&f->tx), 1);
	f->end.room = 5;
	f->end.be.writable(f->end.be.user);
	send_text(f, 3, "there again", 1);
	ring(f, TX);
	end_got(f, "012there"); /* and the rest is waited for */
	assert_int_equal(used(&f->tx), 0);
}

/* A driver that shortens what it waits for does itself no good, and us no harm. */
static void a_request_that_changes_while_it_waits(void **state)
{
	struct fixture *f = *state;

	activate(f);
	f->end.room = 8;
	send_text(f, 0, "0123456789", 1);
	ring(f, TX);
	end_got(f, "01234567");
	*(uint32_t *)driver_ptr(&f->tx, f->tx.desc + 8) = 4; /* its length */
	f->end.room = 100;
	f->end.be.writable(f->end.be.user);
	end_got(f, "");
	assert_int_equal(used(&f->tx), 1);
	send_text(f, 1, "next", 1);
	ring(f, TX);
	end_got(f, "next");
}

static void more_than_a_queue_at_a_time(void **state)
{
	struct fixture *f = *state;
	char expected[129] = "";

	activate(f);
	for (unsigned lap = 0; lap < 8; lap++) {
		for (unsigned i = 0; i < 16; i++) {
			send_text(f, i, "x", 1);
			strcat(expected, "x");
		}
		ring(f, TX);
		run_loop(f);
		assert_int_equal(used(&f->tx), 16);
	}
	end_got(f, expected);
}

/* A back end that takes all, such as a file, must not hold the loop for gigabytes. */
static void long_requests_take_turns(void **state)
{
	struct fixture *f = *state;
	struct driver_buf buf[2] = {{DRIVER_BUFFERS, 0x10000, false},
				    {DRIVER_BUFFERS, 0x8001, false}};

	activate(f);
	run_loop(f);
	f->end.counts = true;
	f->end.room = 1 << 30;
	for (unsigned i = 0; i < 4; i++) {
		driver_add(&f->tx, buf, 2, false);
	}
	ring(f, TX);
	assert_int_equal(f->end.len, 0x10000);
	for (unsigned i = 0; i < 100 && f->end.len < 4 * 0x18001; i++) {
		run_loop(f);
	}
	assert_int_equal(f->end.len, 4 * 0x18001);
	assert_int_equal(used(&f->tx), 4);
}

static void input(void **state)
{
	struct fixture *f = *state;
	struct driver_buf buf[] = {{DRIVER_BUFFERS + 8192, 4, true},
				   {DRIVER_BUFFERS + 8200, 4, true}};
	uint16_t id;
	uint32_t written;
	struct char_backend *be = &f->end.be;

	assert_int_equal(be->input(be->user, (const uint8_t *)"x", 1), 0); /* not active */
	activate(f);
	assert_int_equal(f->end.ready, 1);				   /* it may try again */
	assert_int_equal(be->input(be->user, (const uint8_t *)"x", 1), 0); /* no buffers */
	driver_add(&f->rx, buf, 2, false);
	ring(f, RX);
	assert_int_equal(f->end.ready, 2);
	assert_int_equal(be->input(be->user, (const uint8_t *)"abcdef", 6), 6);
	assert_int_equal(queue_interrupts[RX], 1);
	assert_true(driver_take(&f->rx, &id, &written));
	assert_int_equal(written, 6);
	assert_memory_equal(driver_ptr(&f->rx, buf[0].addr), "abcd", 4);
	assert_memory_equal(driver_ptr(&f->rx, buf[1].addr), "ef", 2);
	driver_add(&f->rx, buf, 1, false);
	assert_int_equal(be->input(be->user, (const uint8_t *)"123456", 6), 4);
}

static void emergency_output(void **state)
{
	struct fixture *f = *state;
	struct virtio_device *dev = f->dev;

	for (unsigned i = 0; i < 300; i++) { /* more than is kept */
		virtio_lock(dev);
		dev->config[8] = (uint8_t)('a' + i % 26);
		dev->ops->config_written(dev, 8, 4);
		virtio_unlock(dev);
	}
	assert_int_equal(f->end.len, 0); /* it is the loop that writes */
	run_loop(f);
	assert_int_equal(f->end.len, 256);
	assert_memory_equal(f->end.got, "abcdefghijklmnopqrstuvwxyzab", 28);
	f->end.len = 0;
	virtio_lock(dev);
	dev->ops->config_written(dev, 9, 1); /* the upper bytes */
	dev->ops->config_written(dev, 0, 4);
	dev->ops->config_written(dev, 8, 0);
	virtio_unlock(dev);
	run_loop(f);
	assert_int_equal(f->end.len, 0);
}

static void the_size_of_the_window(void **state)
{
	struct fixture *f = *state;
	struct virtio_console_config config;

	vconsole_resize(f->dev, 80, 25);
	assert_int_equal(config_interrupts, 0); /* nobody to tell yet */
	activate(f);
	vconsole_resize(f->dev, 132, 43);
	assert_int_equal(config_interrupts, 1);
	vconsole_resize(f->dev, 132, 43);
	assert_int_equal(config_interrupts, 1);
	memcpy(&config, f->dev->config, sizeof(config));
	assert_int_equal(config.cols, 132);
	assert_int_equal(config.rows, 43);
}

static void drivers_that_break_the_rules(void **state)
{
	struct fixture *f = *state;
	struct driver_buf readable = {DRIVER_BUFFERS, 4, false};
	struct driver_buf outside = {UINT64_C(1) << 50, 4, false};

	activate(f);
	driver_add(&f->rx, &readable, 1, false);
	assert_int_equal(f->end.be.input(f->end.be.user, (const uint8_t *)"x", 1), 0);
	assert_true(f->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET);

	virtio_lock(f->dev);
	f->dev->ops->reset(f->dev);
	vq_reset(&f->dev->queue[RX]);
	vq_reset(&f->dev->queue[TX]);
	virtio_unlock(f->dev);
	place_tx(f);
	driver_queue_init(&f->rx, &f->mem, false, false, 16);
	activate(f);
	assert_false(f->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_add(&f->tx, &outside, 1, false);
	ring(f, TX);
	assert_true(f->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	end_got(f, "");
	send_text(f, 1, "more", 1);
	ring(f, TX);
	end_got(f, "");
}

static void a_transmit_buffer_to_write_to_is_ignored(void **state)
{
	struct fixture *f = *state;
	struct driver_buf writable = {DRIVER_BUFFERS, 4, true};

	activate(f);
	driver_add(&f->tx, &writable, 1, false);
	send_text(f, 1, "good", 1);
	ring(f, TX);
	end_got(f, "good");
	assert_int_equal(used(&f->tx), 2);
}

static void saved_in_the_middle(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[1024];
	size_t len;

	activate(f);
	f->end.room = 5;
	send_text(f, 0, "0123456789", 1);
	ring(f, TX);
	virtio_lock(f->dev);
	f->dev->config[8] = '!';
	f->dev->ops->config_written(f->dev, 8, 1);
	virtio_unlock(f->dev);
	run_loop(f);
	end_got(f, "01234");
	len = state_saved(f->dev->ops->state, f->dev, buf, sizeof(buf));

	/* As after a restore: activated, then loaded. */
	virtio_lock(f->dev);
	assert_int_equal(f->dev->ops->activate(f->dev), 0);
	assert_int_equal(state_loaded(f->dev->ops->state, f->dev, buf, len), 0);
	virtio_unlock(f->dev);
	f->end.room = 100;
	run_loop(f);
	f->end.be.writable(f->end.be.user);
	end_got(f, "!56789");
}

static void states_that_cannot_be(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[1024];
	size_t len = state_saved(f->dev->ops->state, f->dev, buf, sizeof(buf));

	assert_int_equal(state_loaded(f->dev->ops->state, f->dev, buf, len), 0);
	for (size_t i = 0; i < len; i++) {
		assert_int_not_equal(state_loaded(f->dev->ops->state, f->dev, buf, i), 0);
	}
	/* Name, version and length take 24 bytes; then tx_done, and how many characters. */
	assert_int_equal(len, 24 + 4 + 2);
	buf[28] = 0x01;
	buf[29] = 0x01; /* 257 */
	assert_int_equal(state_loaded(f->dev->ops->state, f->dev, buf, len), -EINVAL);
	buf[16] = 2; /* version */
	assert_int_equal(state_loaded(f->dev->ops->state, f->dev, buf, len), -ENOTSUP);
}

#define test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(what_it_offers),
		test(output),
		test(output_waits_for_the_back_end),
		test(a_slow_back_end),
		test(a_back_end_that_sleeps),
		test(a_request_that_changes_while_it_waits),
		test(more_than_a_queue_at_a_time),
		test(long_requests_take_turns),
		test(input),
		test(emergency_output),
		test(the_size_of_the_window),
		test(drivers_that_break_the_rules),
		test(a_transmit_buffer_to_write_to_is_ignored),
		test(saved_in_the_middle),
		test(states_that_cannot_be),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
