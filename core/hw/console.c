/*
 * Spec: National Semiconductor PC16550D, June 1995
 */
#include "core/hw/console.h"

#include "core/hw/asm.h"
#include "core/hw/irq.h"
#include "core/lock.h"

/* Registers, from the UART's first port on. */
#define RBR 0 /* read */
#define THR 0 /* write */
#define DLL 0 /* with LCR_DLAB */
#define IER 1
#define DLM 1 /* with LCR_DLAB */
#define IIR 2 /* read */
#define FCR 2 /* write */
#define LCR 3
#define MCR 4
#define LSR 5

#define IER_RDA	    0x01 /* received data available */
#define IER_THRE    0x02 /* transmitter holding register empty */
#define FCR_ENABLE  0x01
#define FCR_RESET   0x06
#define FCR_8	    0x80 /* receive trigger level */
#define LCR_8N1	    0x03
#define LCR_DLAB    0x80
#define MCR_DTR_RTS 0x03
#define MCR_OUT2    0x08 /* lets interrupts through */
#define LSR_DR	    0x01
#define LSR_THRE    0x20
#define FIFO_BYTES  16
#define TRIES_MAX   1000000 /* a UART that never becomes empty is no reason to hang */

struct ring {
	uint32_t head, tail; /* running numbers: next in, next out */
	uint8_t *data;	     /* CONSOLE_TX_BYTES */
};

/* By themselves, so that the image does not have them. */
static uint8_t rx_data[CONSOLE_RX_BYTES], tx_data[CONSOLE_TX_BYTES];

_Static_assert(CONSOLE_RX_BYTES == CONSOLE_TX_BYTES, "one struct for both");

static struct {
	/* Constant after start-up. */
	uint16_t port; /* 0: none */
	bool has_irq;
	void (*event)(void *ctx);
	void *ctx;

	struct spinlock lock;
	/* Guarded by lock. */
	bool is_dead;
	uint8_t ier;
	struct ring rx, tx;
} console = {
	.lock = SPINLOCK_INIT(LOCK_CONSOLE),
	.rx = {.data = rx_data},
	.tx = {.data = tx_data},
};

static uint8_t in(unsigned reg)
{
	return asm_in8((uint16_t)(console.port + reg));
}

static void out(unsigned reg, uint8_t value)
{
	asm_out8((uint16_t)(console.port + reg), value);
}

static uint32_t ring_used(const struct ring *r)
{
	return r->head - r->tail;
}

static void ring_put(struct ring *r, uint8_t byte)
{
	r->data[r->head++ % CONSOLE_TX_BYTES] = byte;
}

static uint8_t ring_get(struct ring *r)
{
	return r->data[r->tail++ % CONSOLE_TX_BYTES];
}

static void send(uint8_t byte)
{
	for (unsigned i = 0; (in(LSR)&LSR_THRE) == 0; i++) {
		if (i == TRIES_MAX) {
			console.is_dead = true;
		}
		if (console.is_dead) {
			return;
		}
		asm_pause();
	}
	out(THR, byte);
}

static void send_buffered(void)
{
	while (ring_used(&console.tx) > 0) {
		send(ring_get(&console.tx));
	}
}

void console_init(uint16_t port, unsigned baud)
{
	console.port = port;
	console.is_dead = false;
	if (port == 0) {
		return;
	}
	out(IER, 0);
	if (baud != 0) {
		unsigned divisor = 115200 / baud;
		out(LCR, LCR_8N1 | LCR_DLAB);
		out(DLL, (uint8_t)divisor);
		out(DLM, (uint8_t)(divisor >> 8));
	}
	out(LCR, LCR_8N1);
	out(FCR, FCR_ENABLE | FCR_RESET | FCR_8);
	out(MCR, MCR_DTR_RTS | MCR_OUT2);
	console.is_dead = in(LSR) == 0xff; /* nobody there */
}

/* Takes what has come, sends what waits. Return: is there news for whoever reads and writes? */
static bool serve(void)
{
	bool news = false;
	unsigned n;

	for (n = 0; n < 4 * FIFO_BYTES && (in(LSR)&LSR_DR) != 0; n++) {
		uint8_t byte = in(RBR);
		if (ring_used(&console.rx) < CONSOLE_RX_BYTES) {
			ring_put(&console.rx, byte);
			news = true;
		}
	}
	if (n == 4 * FIFO_BYTES) {
		/* There may be more, with the line up all the time: another edge for it. */
		out(IER, 0);
		out(IER, console.ier);
	}
	if ((console.ier & IER_THRE) != 0 && (in(LSR)&LSR_THRE) != 0) {
		for (n = 0; n < FIFO_BYTES && ring_used(&console.tx) > 0; n++) {
			out(THR, ring_get(&console.tx));
		}
		if (ring_used(&console.tx) == 0) {
			console.ier &= (uint8_t)~IER_THRE;
			out(IER, console.ier);
		}
		news = true;
	}
	return news;
}

static void on_irq(void)
{
	spin_take(&console.lock);
	(void)in(IIR); /* an empty transmitter is acknowledged by that */
	bool news = serve();
	spin_give(&console.lock);
	if (news && console.event != NULL) {
		console.event(console.ctx);
	}
}

bool console_connect(void)
{
	bool is_even = console.port == 0x2f8 || console.port == 0x2e8;

	if (console.port == 0 || console.is_dead) {
		return false;
	}
	/* COM1 and COM3 have IRQ 4, COM2 and COM4 have IRQ 3. */
	if (irq_connect_isa(is_even ? 3 : 4, IRQ_VECTOR_CONSOLE, on_irq) != 0) {
		return false;
	}
	uint64_t flags = spin_take_irq(&console.lock);
	console.has_irq = true;
	console.ier = IER_RDA;
	out(IER, console.ier);
	spin_give_irq(&console.lock, flags);
	return true;
}

void console_break(void)
{
	spin_init(&console.lock, LOCK_CONSOLE);
}

void console_write(const char *text, size_t len)
{
	uint64_t flags = spin_take_irq(&console.lock);

	if (console.port != 0 && !console.is_dead) {
		send_buffered();
		for (size_t i = 0; i < len; i++) {
			if (text[i] == '\n') {
				send('\r');
			}
			send((uint8_t)text[i]);
		}
	}
	spin_give_irq(&console.lock, flags);
}

size_t console_put(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint64_t flags = spin_take_irq(&console.lock);
	size_t n = 0;

	if (console.port == 0 || console.is_dead) {
		n = len; /* to nowhere */
	}
	while (n < len && ring_used(&console.tx) < CONSOLE_TX_BYTES) {
		ring_put(&console.tx, bytes[n++]);
	}
	if (!console.has_irq) {
		send_buffered();
	} else if (ring_used(&console.tx) > 0 && (console.ier & IER_THRE) == 0) {
		/* An empty transmitter interrupts as soon as that is wanted. */
		console.ier |= IER_THRE;
		out(IER, console.ier);
	}
	spin_give_irq(&console.lock, flags);
	return n;
}

size_t console_get(void *data, size_t len)
{
	uint8_t *bytes = data;
	uint64_t flags = spin_take_irq(&console.lock);
	size_t n = 0;

	while (n < len && ring_used(&console.rx) > 0) {
		bytes[n++] = ring_get(&console.rx);
	}
	spin_give_irq(&console.lock, flags);
	return n;
}

bool console_can_put(void)
{
	uint64_t flags = spin_take_irq(&console.lock);
	bool can = ring_used(&console.tx) < CONSOLE_TX_BYTES;

	spin_give_irq(&console.lock, flags);
	return can;
}

void console_set_events(void (*fn)(void *ctx), void *ctx)
{
	uint64_t flags = spin_take_irq(&console.lock);

	console.ctx = ctx;
	console.event = fn;
	spin_give_irq(&console.lock, flags);
}

void console_drain(void)
{
	console_write("", 0);
}
