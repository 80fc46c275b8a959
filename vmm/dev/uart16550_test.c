#include "vmm/dev/uart16550.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/capture.h"
#include "tests/state_rig.h"
#include "tests/unit.h"
#include "vmm/dev/fake_loop.h"

enum {
	DATA,
	IER,
	IIR,
	LCR,
	MCR,
	LSR,
	MSR,
	SCR,
	FCR = IIR
};

#define THRE 0x60 /* with TEMT */

/* A back end that takes as much as the test lets it. */
struct wire {
	struct char_backend be;
	struct uart uart;
	bool irq;
	size_t limit; /* bytes it takes before it blocks */
	size_t len;
	unsigned writes, readies;
	uint8_t got[3 * CHAR_QUEUE_SIZE];
	const uint8_t *input; /* what it still has for the guest */
	size_t input_len;
};

static size_t wire_write(struct char_backend *be, const uint8_t *buf, size_t n)
{
	struct wire *w = container_of(be, struct wire, be);

	n = MIN(n, w->limit);
	w->limit -= n;
	assert_in_range(w->len + n, 0, sizeof(w->got));
	memcpy(w->got + w->len, buf, n);
	w->len += n;
	w->writes++;
	return n;
}

static void offer(struct wire *w)
{
	size_t taken = w->be.input(w->be.user, w->input, w->input_len);

	w->input += taken;
	w->input_len -= taken;
}

static void wire_ready(struct char_backend *be)
{
	struct wire *w = container_of(be, struct wire, be);

	w->readies++;
	offer(w);
}

static const struct char_backend_ops wire_ops = {wire_write, wire_ready};

static void irq_set(void *ctx, unsigned pin, bool level)
{
	struct wire *w = ctx;

	assert_int_equal(pin, 4);
	assert_int_not_equal(level, w->irq);
	w->irq = level;
}

static struct irq_line irq_of(struct wire *w)
{
	return (struct irq_line){.set = irq_set, .ctx = w, .pin = 4};
}

static struct wire *connect(void)
{
	struct wire *w = test_calloc(1, sizeof(*w));

	fake_loop_reset(0, 0);
	w->be.ops = &wire_ops;
	w->limit = SIZE_MAX;
	assert_int_equal(uart_init(&w->uart, NULL, irq_of(w), &w->be), 0);
	return w;
}

static void disconnect(struct wire *w)
{
	uart_fini(&w->uart);
	test_free(w);
}

static uint8_t in(struct wire *w, unsigned reg)
{
	return (uint8_t)uart_ops.read(&w->uart, reg, 1);
}

static void out(struct wire *w, unsigned reg, uint8_t value)
{
	uart_ops.write(&w->uart, reg, 1, value);
}

static void registers(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	assert_int_equal(in(w, IER), 0);
	assert_int_equal(in(w, IIR), 0x01);
	assert_int_equal(in(w, LSR), THRE);
	assert_int_equal(in(w, MSR), 0xb0);
	out(w, IER, 0xff);
	assert_int_equal(in(w, IER), 0x0f);
	out(w, MCR, 0xef);
	assert_int_equal(in(w, MCR), 0x0f);
	out(w, SCR, 0x5a);
	assert_int_equal(in(w, SCR), 0x5a);
	out(w, LSR, 0xff);
	out(w, MSR, 0xff);
	assert_int_equal(in(w, LSR), THRE);
	assert_int_equal(in(w, MSR), 0xb0);

	out(w, LCR, 0x83);
	out(w, DATA, 0x34);
	out(w, IER, 0x12);
	assert_int_equal(in(w, DATA), 0x34);
	assert_int_equal(in(w, IER), 0x12);
	assert_int_equal(in(w, LCR), 0x83);
	out(w, LCR, 0x03);
	assert_int_equal(in(w, IER), 0x0f);
	assert_int_equal(fake_loop_run(), 0); /* the divisor is no output */

	out(w, FCR, 0x01);
	assert_int_equal(in(w, IIR) & 0xf0, 0xc0);
	out(w, FCR, 0x00);
	assert_int_equal(in(w, IIR) & 0xf0, 0x00);

	/* Wider accesses touch one register after the other. */
	uart_ops.write(&w->uart, LCR, 2, 0x0b03);
	assert_int_equal(in(w, MCR), 0x0b);
	assert_int_equal(uart_ops.read(&w->uart, LCR, 4), 0xb0600b03);
	assert_int_equal(uart_ops.read(&w->uart, 0, 8) >> 56, 0x5a);
	disconnect(w);
}

static void output_wakes_the_loop_once(void **unused)
{
	static const char text[] = "Hello, wire.";
	struct wire *w = connect();
	uint64_t count;

	(void)unused;
	for (size_t i = 0; i < strlen(text); i++) {
		assert_int_equal(in(w, LSR), THRE);
		out(w, DATA, (uint8_t)text[i]);
	}
	assert_int_equal(w->len, 0);
	assert_int_equal(read(w->uart.tx.source.fd, &count, 8), 8);
	assert_int_equal(count, 1);
	count = 1;
	assert_int_equal(write(w->uart.tx.source.fd, &count, 8), 8);
	assert_int_equal(fake_loop_run(), 1);
	assert_int_equal(w->writes, 1);
	assert_int_equal(w->len, strlen(text));
	assert_memory_equal(w->got, text, strlen(text));
	assert_int_equal(fake_loop_run(), 0);
	out(w, DATA, '!');
	assert_int_equal(fake_loop_run(), 1);
	assert_int_equal(w->got[w->len - 1], '!');
	disconnect(w);
}

static void transmit_interrupt(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	out(w, IER, 0x02); /* enabling it while THR is empty asks at once */
	assert_true(w->irq);
	assert_int_equal(in(w, IIR), 0x02);
	assert_false(w->irq); /* reading IIR took it back */
	assert_int_equal(in(w, IIR), 0x01);
	out(w, DATA, 'a');
	assert_true(w->irq);
	out(w, IER, 0x00);
	assert_false(w->irq);
	out(w, IER, 0x02);
	assert_true(w->irq);
	disconnect(w);
}

/* The guest writes while nobody reads: THRE goes away in time, and not one byte is lost. */
static void flow_control(void **unused)
{
	struct wire *w = connect();
	size_t sent = 0;

	(void)unused;
	w->limit = 100;
	out(w, FCR, 0x01);
	out(w, IER, 0x02);
	assert_int_equal(in(w, IIR), 0xc2);
	for (size_t i = 0; i < 2 * CHAR_QUEUE_SIZE; i++) {
		if ((in(w, LSR) & THRE) == 0) {
			break;
		}
		for (unsigned k = 0; k < UART_FIFO_SIZE; k++) { /* a FIFO's worth each time */
			out(w, DATA, (uint8_t)(sent++ * 7));
		}
	}
	assert_in_range(sent, CHAR_QUEUE_SIZE - 2 * UART_FIFO_SIZE, CHAR_QUEUE_SIZE);
	assert_false(w->irq);
	assert_int_equal(fake_loop_run(), 1);
	assert_int_equal(w->len, 100);
	assert_int_equal(in(w, LSR) & THRE, 0);
	/* While the back end is blocked, output does not wake the loop. */
	out(w, DATA, (uint8_t)(sent++ * 7));
	assert_int_equal(fake_loop_run(), 0);

	w->limit = CHAR_QUEUE_SIZE / 4;
	w->be.writable(w->be.user);
	assert_int_equal(in(w, LSR) & THRE, 0);
	assert_false(w->irq);
	w->limit = CHAR_QUEUE_SIZE / 2;
	w->be.writable(w->be.user);
	assert_int_equal(in(w, LSR) & THRE, THRE);
	assert_true(w->irq);
	out(w, DATA, (uint8_t)(sent++ * 7));
	w->limit = SIZE_MAX;
	w->be.writable(w->be.user);
	assert_int_equal(w->len, sent);
	for (size_t i = 0; i < sent; i++) {
		assert_int_equal(w->got[i], (uint8_t)(i * 7));
	}

	/* A guest that does not look at THRE loses what is too much, and nothing else happens. */
	w->limit = w->len = 0;
	for (size_t i = 0; i < CHAR_QUEUE_SIZE + 1000; i++) {
		out(w, DATA, (uint8_t)(i >> 8));
	}
	w->limit = SIZE_MAX;
	fake_loop_run();
	assert_int_equal(w->len, CHAR_QUEUE_SIZE);
	assert_int_equal(w->got[CHAR_QUEUE_SIZE - 1], (CHAR_QUEUE_SIZE - 1) >> 8);
	disconnect(w);
}

/* A CPU that polls is not held by a reader that sleeps; one that waits for the interrupt is. */
static void impatience(void **unused)
{
	struct wire *w = connect();
	struct capture cap;
	size_t sent = 0;

	(void)unused;
	w->limit = 100;
	while ((in(w, LSR) & THRE) != 0) {
		out(w, DATA, (uint8_t)(sent++ * 7));
	}
	assert_int_equal(fake_loop_run(), 1);
	fake_time_pass(UART_PATIENCE_NS - 1);
	assert_int_equal(in(w, LSR) & THRE, 0);
	/* A sign of life: from here on it has all the time again. */
	w->limit = 10;
	w->be.writable(w->be.user);
	fake_time_pass(1);
	assert_int_equal(in(w, LSR) & THRE, 0);
	fake_time_pass(UART_PATIENCE_NS - 1);
	assert_int_equal(in(w, LSR) & THRE, 0);
	capture_begin(&cap);
	fake_time_pass(1);
	assert_int_equal(in(w, LSR) & THRE, THRE);
	assert_said(&cap, "nobody reads");
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(in(w, LSR) & THRE, THRE);
		out(w, DATA, 'l'); /* lost */
	}
	/* Who waits for the interrupt waits on, and loses nothing. */
	out(w, IER, 0x02);
	assert_false(w->irq);
	assert_int_equal(in(w, LSR) & THRE, 0);
	w->limit = SIZE_MAX;
	w->be.writable(w->be.user);
	assert_true(w->irq);
	assert_int_equal(in(w, LSR) & THRE, THRE);
	out(w, DATA, (uint8_t)(sent++ * 7));
	fake_loop_run();
	assert_int_equal(w->len, sent);
	for (size_t i = 0; i < sent; i++) {
		assert_int_equal(w->got[i], (uint8_t)(i * 7));
	}
	/* And the next time begins with patience. */
	w->limit = 0;
	out(w, IER, 0x00);
	while ((in(w, LSR) & THRE) != 0) {
		out(w, DATA, 'x');
	}
	disconnect(w);
}

static void last_words(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	out(w, DATA, 'x');
	uart_fini(&w->uart);
	assert_int_equal(w->len, 1);
	test_free(w);
}

static void without_back_end(void **unused)
{
	struct uart *u = test_calloc(1, sizeof(*u));

	(void)unused;
	fake_loop_reset(0, 0);
	assert_int_equal(uart_init(u, NULL, (struct irq_line){0}, NULL), 0);
	for (unsigned i = 0; i < CHAR_QUEUE_SIZE + 100; i++) {
		uart_ops.write(u, DATA, 1, 'x');
		assert_int_equal(uart_ops.read(u, LSR, 1), THRE);
	}
	assert_int_equal(fake_loop_run(), 0);
	uart_fini(u);
	test_free(u);
}

static void receive_without_fifo(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	out(w, IER, 0x01);
	w->input = (const uint8_t *)"abc";
	w->input_len = 3;
	offer(w);
	assert_int_equal(w->input_len, 2);
	for (const char *c = "abc"; *c != 0; c++) {
		assert_true(w->irq);
		assert_int_equal(in(w, IIR), 0x04);
		assert_int_equal(in(w, LSR), THRE | 0x01);
		assert_int_equal(in(w, DATA), *c);
		assert_false(w->irq);
		assert_int_equal(in(w, LSR), THRE);
		fake_loop_run();
	}
	assert_int_equal(w->readies, 2);
	assert_false(w->irq);
	assert_int_equal(in(w, DATA), 0);
	disconnect(w);
}

static void receive_fifo(void **unused)
{
	static const uint8_t levels[] = {1, 4, 8, 14};
	struct wire *w = connect();

	(void)unused;
	out(w, IER, 0x01);
	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
		out(w, FCR, (uint8_t)(i << 6 | 0x03));
		for (uint8_t n = 1; n <= UART_FIFO_SIZE; n++) {
			assert_int_equal(uart_receive(&w->uart, &n, 1), 1);
			assert_true(w->irq);
			/* Below the trigger level by the time-out. */
			assert_int_equal(in(w, IIR), n < levels[i] ? 0xcc : 0xc4);
		}
		assert_int_equal(uart_receive(&w->uart, levels, 1), 0);
		for (uint8_t n = 1; n <= UART_FIFO_SIZE; n++) {
			assert_int_equal(in(w, IIR), 17 - n < levels[i] ? 0xcc : 0xc4);
			assert_int_equal(in(w, DATA), n);
		}
		assert_int_equal(in(w, IIR), 0xc1);
		assert_false(w->irq);
	}
	disconnect(w);
}

/* A long paste: it comes in FIFO by FIFO, and the loop is woken once for each. */
static void receive_flow_control(void **unused)
{
	static uint8_t paste[1000];
	struct wire *w = connect();
	size_t got = 0;
	unsigned wakes = 0;

	(void)unused;
	for (size_t i = 0; i < sizeof(paste); i++) {
		paste[i] = (uint8_t)(i * 3);
	}
	out(w, FCR, 0xc1);
	w->input = paste;
	w->input_len = sizeof(paste);
	offer(w);
	while ((in(w, LSR) & 1) != 0 && got < sizeof(paste)) {
		assert_int_equal(in(w, DATA), paste[got++]);
		wakes += fake_loop_run();
	}
	assert_int_equal(got, sizeof(paste));
	assert_int_equal(wakes, sizeof(paste) / UART_FIFO_SIZE);
	assert_int_equal(w->readies, wakes);

	/* Clearing the FIFO, and leaving loopback, make room too. */
	w->input = paste;
	w->input_len = 40;
	offer(w);
	assert_int_equal(w->input_len, 24);
	out(w, FCR, 0xc3);
	fake_loop_run();
	assert_int_equal(w->input_len, 8);
	out(w, MCR, 0x10);
	out(w, FCR, 0xc3);
	fake_loop_run();
	assert_int_equal(w->input_len, 8);
	out(w, MCR, 0x00);
	fake_loop_run();
	assert_int_equal(w->input_len, 0);
	assert_int_equal(in(w, DATA), paste[32]);
	disconnect(w);
}

static void loopback(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	out(w, FCR, 0x01);
	out(w, MCR, 0x10);
	assert_int_equal(in(w, MSR), 0x0b); /* CTS, DSR and DCD went away */
	assert_int_equal(in(w, MSR), 0x00);
	out(w, MCR, 0x1f);
	assert_int_equal(in(w, MSR), 0xfb); /* RI rose: TERI tells of falls only */
	out(w, MCR, 0x1b);
	assert_int_equal(in(w, MSR), 0xb4);

	assert_int_equal(uart_receive(&w->uart, (const uint8_t *)"x", 1), 0);
	for (unsigned i = 0; i < UART_FIFO_SIZE; i++) {
		out(w, DATA, (uint8_t)i);
	}
	assert_int_equal(in(w, LSR), THRE | 0x01);
	out(w, DATA, 0xff);
	assert_int_equal(in(w, LSR), THRE | 0x03); /* overrun: the last one is lost ... */
	assert_int_equal(in(w, LSR), THRE | 0x01); /* ... and reading LSR takes the error back */
	for (unsigned i = 0; i < UART_FIFO_SIZE; i++) {
		assert_int_equal(in(w, DATA), i);
	}
	assert_int_equal(in(w, LSR), THRE);
	assert_int_equal(w->len, 0);
	disconnect(w);
}

static void interrupt_priorities(void **unused)
{
	struct wire *w = connect();

	(void)unused;
	out(w, MCR, 0x10);
	out(w, DATA, 'a');
	out(w, DATA, 'b'); /* an overrun */
	out(w, IER, 0x0f);
	assert_true(w->irq);
	assert_int_equal(in(w, IIR), 0x06);
	in(w, LSR);
	assert_int_equal(in(w, IIR), 0x04);
	in(w, DATA);
	assert_int_equal(in(w, IIR), 0x02); /* this read takes it back */
	assert_int_equal(in(w, IIR), 0x00);
	assert_true(w->irq);
	in(w, MSR);
	assert_int_equal(in(w, IIR), 0x01);
	assert_false(w->irq);
	disconnect(w);
}

static void state_round_trip(void **unused)
{
	static uint8_t buf[CHAR_QUEUE_SIZE + 512], again[CHAR_QUEUE_SIZE + 512];
	struct wire *w = connect();
	struct wire *other;
	size_t len;

	(void)unused;
	/* The queue wraps, the FIFO wraps, an interrupt is up. */
	for (unsigned i = 0; i < CHAR_QUEUE_SIZE - 3; i++) {
		out(w, DATA, 'x');
	}
	fake_loop_run();
	out(w, LCR, 0x93);
	out(w, DATA, 0x77);
	out(w, LCR, 0x13);
	out(w, SCR, 0x42);
	out(w, FCR, 0x81);
	out(w, IER, 0x05);
	uart_receive(&w->uart, (const uint8_t *)"0123456789", 10);
	for (unsigned i = 0; i < 9; i++) {
		in(w, DATA);
	}
	uart_receive(&w->uart, (const uint8_t *)"abcdefghijk", 11);
	for (unsigned i = 0; i < 10; i++) {
		out(w, DATA, (uint8_t)('0' + i));
	}
	len = state_saved(uart_state, &w->uart, buf, sizeof(buf));
	disconnect(w);

	other = connect();
	assert_int_equal(state_loaded(uart_state, &other->uart, buf, len), 0);
	assert_false(other->irq); /* not driven */
	other->irq = true;
	assert_int_equal(state_saved(uart_state, &other->uart, again, sizeof(again)), len);
	assert_memory_equal(buf, again, len);
	assert_int_equal(fake_loop_run(), 1);
	assert_int_equal(other->len, 10);
	assert_memory_equal(other->got, "0123456789", 10);
	assert_int_equal(in(other, IIR), 0xc4);
	assert_int_equal(in(other, DATA), '9');
	for (unsigned i = 0; i < 11; i++) {
		assert_int_equal(in(other, DATA), 'a' + i);
	}
	assert_false(other->irq);
	assert_int_equal(in(other, SCR), 0x42);
	out(other, LCR, 0x80);
	assert_int_equal(in(other, DATA), 0x77);
	disconnect(other);
}

/* A queue that was full is loaded where nobody takes it: the guest must not wait for ever. */
static void state_without_back_end(void **unused)
{
	static uint8_t buf[CHAR_QUEUE_SIZE + 512];
	struct wire *w = connect();
	struct uart *u = test_calloc(1, sizeof(*u));
	size_t len;

	(void)unused;
	for (unsigned i = 0; i < CHAR_QUEUE_SIZE; i++) {
		out(w, DATA, 'x');
	}
	assert_int_equal(in(w, LSR), 0);
	len = state_saved(uart_state, &w->uart, buf, sizeof(buf));
	disconnect(w);
	assert_int_equal(uart_init(u, NULL, (struct irq_line){0}, NULL), 0);
	assert_int_equal(state_loaded(uart_state, u, buf, len), 0);
	assert_int_equal(uart_ops.read(u, LSR, 1), THRE);
	uart_fini(u);
	test_free(u);
}

static void state_refusals(void **unused)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} bad[] = {
		{0, 0x10},	   {1, 0x21},	      {1, 0xc0},
		{3, 0x20},	   {6, 0x01},	      {9, 2},
		{11, 16},	   {12, 2},	      {29 + 24 + 1, 65},
		{29 + 24 + 2, 65}, {29 + 24 + 0, 65},
	};
	static uint8_t buf[512];
	struct wire *w = connect();
	size_t len;

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		len = state_saved(uart_state, &w->uart, buf, sizeof(buf));
		assert_int_equal(len, 24 + 29 + 24 + 4);
		buf[24 + bad[i].offset] = bad[i].value;
		assert_int_equal(state_loaded(uart_state, &w->uart, buf, len), -EINVAL);
		in(w, DATA);
	}
	disconnect(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),	      cmocka_unit_test(output_wakes_the_loop_once),
		cmocka_unit_test(transmit_interrupt), cmocka_unit_test(flow_control),
		cmocka_unit_test(impatience),	      cmocka_unit_test(last_words),
		cmocka_unit_test(without_back_end),   cmocka_unit_test(receive_without_fifo),
		cmocka_unit_test(receive_fifo),	      cmocka_unit_test(receive_flow_control),
		cmocka_unit_test(loopback),	      cmocka_unit_test(interrupt_priorities),
		cmocka_unit_test(state_round_trip),   cmocka_unit_test(state_without_back_end),
		cmocka_unit_test(state_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
