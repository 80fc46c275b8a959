#include "vmm/dev/uart16550.h"

#include <errno.h>

#include "vmm/clock.h"
#include "vmm/log.h"

/* Registers, by offset; some depend on the direction and on DLAB. */
#define RBR 0 /* read */
#define THR 0 /* write */
#define DLL 0 /* DLAB */
#define IER 1
#define DLM 1 /* DLAB */
#define IIR 2 /* read */
#define FCR 2 /* write */
#define LCR 3
#define MCR 4
#define LSR 5
#define MSR 6
#define SCR 7

#define IER_RDA	     0x01
#define IER_THRE     0x02
#define IER_LINE     0x04
#define IER_MODEM    0x08
#define IER_WRITABLE 0x0f

#define IIR_MODEM   0x00
#define IIR_NONE    0x01
#define IIR_THRE    0x02
#define IIR_RDA	    0x04
#define IIR_LINE    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS   0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xc9

#define LCR_DLAB 0x80

#define MCR_DTR	     0x01
#define MCR_RTS	     0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define MCR_WRITABLE 0x1f

#define LSR_DR	   0x01
#define LSR_OE	   0x02
#define LSR_THRE   0x20
#define LSR_TEMT   0x40
#define LSR_ERRORS 0x1e

#define MSR_TERI   0x04
#define MSR_DELTAS 0x0f
#define MSR_CTS	   0x10
#define MSR_DSR	   0x20
#define MSR_RI	   0x40
#define MSR_DCD	   0x80
#define MSR_LINES  0xf0

/* The other end of the wire is there and ready. */
#define MSR_CONNECTED (MSR_CTS | MSR_DSR | MSR_DCD)

static const uint8_t trigger_levels[] = {1, 4, 8, 14};

static unsigned rx_capacity(const struct uart *u)
{
	return (u->fcr & FCR_ENABLE) != 0 ? UART_FIFO_SIZE : 1;
}

/* What asks for an interrupt, by the priorities of the manual. */
static uint8_t interrupt_id(const struct uart *u)
{
	if ((u->ier & IER_LINE) != 0 && u->errors != 0) {
		return IIR_LINE;
	}
	if ((u->ier & IER_RDA) != 0 && u->rx_count > 0) {
		if ((u->fcr & FCR_ENABLE) == 0 || u->rx_count >= trigger_levels[u->fcr >> 6]) {
			return IIR_RDA;
		}
		/*
		 * Bytes below the trigger level ask after a pause of four characters. On a wire
		 * without a speed that is no time.
		 */
		return IIR_TIMEOUT;
	}
	if ((u->ier & IER_THRE) != 0 && u->thr_empty) {
		return IIR_THRE;
	}
	if ((u->ier & IER_MODEM) != 0 && (u->msr & MSR_DELTAS) != 0) {
		return IIR_MODEM;
	}
	return IIR_NONE;
}

static void update_irq(struct uart *u)
{
	bool level = interrupt_id(u) != IIR_NONE;

	if (level != u->level) {
		u->level = level;
		irq_line_set(&u->irq, level);
	}
}

static void rx_put(struct uart *u, uint8_t byte)
{
	u->rx[(u->rx_head + u->rx_count) % UART_FIFO_SIZE] = byte;
	u->rx_count++;
}

static size_t rx_room(const struct uart *u)
{
	/* In loopback the receiver is not connected to the wire. */
	return (u->mcr & MCR_LOOP) != 0 ? 0 : rx_capacity(u) - MIN(u->rx_count, rx_capacity(u));
}

/* Lets the back end know of room that it waits for; once the FIFO is empty, not for each byte. */
static void ask_for_input(struct uart *u)
{
	if (u->refused && u->rx_count == 0) {
		char_queue_kick(&u->tx);
	}
}

static uint8_t read_rbr(struct uart *u)
{
	uint8_t byte = u->rx[u->rx_head];

	if (u->rx_count == 0) {
		return 0;
	}
	u->rx_head = (u->rx_head + 1) % UART_FIFO_SIZE;
	u->rx_count--;
	ask_for_input(u);
	return byte;
}

static void write_thr(struct uart *u, uint8_t byte)
{
	if ((u->mcr & MCR_LOOP) != 0) {
		if (u->rx_count < rx_capacity(u)) {
			rx_put(u, byte);
		} else {
			u->errors |= LSR_OE;
		}
		u->thr_empty = true;
		return;
	}
	if (u->losing) {
		return;
	}
	/* A guest that writes although the transmitter is busy loses bytes, as on the chip. */
	(void)char_queue_put(&u->tx, byte);
	u->tx_full |= char_queue_room(&u->tx) < UART_FIFO_SIZE;
	u->thr_empty = !u->tx_full;
}

/* A CPU polls while the transmitter is busy. Return: true if it has done so for long enough. */
static bool out_of_patience(struct uart *u)
{
	size_t room = char_queue_room(&u->tx);
	uint64_t now = clock_now_ns();

	if (u->polled_ns == 0 || room > u->polled_room) {
		u->polled_ns = now;
	}
	u->polled_room = room;
	return now - u->polled_ns >= UART_PATIENCE_NS;
}

/* What LSR says of the transmitter. */
static bool transmitter_ready(struct uart *u)
{
	if (!u->tx_full) {
		return true;
	}
	if ((u->ier & IER_THRE) != 0) {
		return false; /* the interrupt will tell */
	}
	if (!u->losing && out_of_patience(u)) {
		u->losing = true;
		if (!u->warned) {
			log_warn("serial port: nobody reads what the guest says; what its kernel "
				 "says is lost until somebody does");
		}
		u->warned = true;
	}
	return u->losing;
}

static uint8_t read_lsr(struct uart *u)
{
	uint8_t value = u->errors;

	u->errors = 0;
	if (u->rx_count > 0) {
		value |= LSR_DR;
	}
	if (transmitter_ready(u)) {
		value |= LSR_THRE | LSR_TEMT;
	}
	return value;
}

/* The modem lines as they are now, with what changed since the guest last looked. */
static void update_msr(struct uart *u)
{
	uint8_t lines = MSR_CONNECTED;
	uint8_t changed;

	if ((u->mcr & MCR_LOOP) != 0) {
		lines = (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) |
				  (u->mcr & MCR_DTR ? MSR_DSR : 0) |
				  (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
				  (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
	}
	changed = (uint8_t)((u->msr ^ lines) >> 4);
	if ((lines & MSR_RI) != 0) {
		changed &= (uint8_t)~MSR_TERI; /* it tells of the trailing edge only */
	}
	u->msr = (uint8_t)(lines | (u->msr & MSR_DELTAS) | changed);
}

static void write_fcr(struct uart *u, uint8_t value)
{
	if (((value ^ u->fcr) & FCR_ENABLE) != 0) {
		value |= FCR_CLEAR_RX;
	}
	u->fcr = (value & FCR_ENABLE) != 0 ? value & FCR_KEPT : 0;
	/* The transmitter's FIFO is empty at all times: its bytes have left for the queue. */
	if ((value & FCR_CLEAR_RX) != 0) {
		u->rx_count = 0;
		ask_for_input(u);
	}
}

static void write_ier(struct uart *u, uint8_t value)
{
	value &= IER_WRITABLE;
	if ((value & ~u->ier & IER_THRE) != 0 && !u->tx_full) {
		u->thr_empty = true;
	}
	u->ier = value;
}

static uint8_t read_register(struct uart *u, unsigned reg)
{
	bool dlab = (u->lcr & LCR_DLAB) != 0;
	uint8_t value;

	switch (reg) {
	case RBR:
		return dlab ? (uint8_t)u->divisor : read_rbr(u);
	case IER:
		return dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
	case IIR:
		value = interrupt_id(u);
		if (value == IIR_THRE) {
			u->thr_empty = false;
		}
		return (u->fcr & FCR_ENABLE) != 0 ? value | IIR_FIFOS : value;
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		return read_lsr(u);
	case MSR:
		value = u->msr;
		u->msr &= MSR_LINES;
		return value;
	default:
		return u->scr;
	}
}

static void write_register(struct uart *u, unsigned reg, uint8_t value)
{
	bool dlab = (u->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case THR:
		if (dlab) {
			u->divisor = (uint16_t)((u->divisor & 0xff00) | value);
		} else {
			write_thr(u, value);
		}
		break;
	case IER:
		if (dlab) {
			u->divisor = (uint16_t)((u->divisor & 0x00ff) | value << 8);
		} else {
			write_ier(u, value);
		}
		break;
	case FCR:
		write_fcr(u, value);
		break;
	case LCR:
		u->lcr = value;
		break;
	case MCR:
		u->mcr = value & MCR_WRITABLE;
		update_msr(u);
		ask_for_input(u);
		break;
	case SCR:
		u->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* A wide access is one access to each register, as on an 8-bit bus. */
static uint64_t uart_read(void *dev, uint64_t offset, unsigned len)
{
	struct uart *u = dev;
	uint64_t value = 0;

	lock_take(&u->lock);
	for (unsigned i = 0; i < len; i++) {
		value |= (uint64_t)read_register(u, (unsigned)offset + i) << 8 * i;
	}
	update_irq(u);
	lock_give(&u->lock);
	return value;
}

static void uart_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct uart *u = dev;

	lock_take(&u->lock);
	for (unsigned i = 0; i < len; i++) {
		write_register(u, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
	}
	update_irq(u);
	lock_give(&u->lock);
}

const struct bus_ops uart_ops = {.read = uart_read, .write = uart_write};

static void resume_tx(struct uart *u)
{
	if (u->tx_full && char_queue_room(&u->tx) >= CHAR_QUEUE_SIZE / 2) {
		u->tx_full = u->losing = false;
		u->polled_ns = 0;
		u->thr_empty = true;
	}
}

/* On the loop thread: the queue has room again, or the receiver. */
static void on_drained(void *user)
{
	struct uart *u = user;
	bool ready;

	lock_take(&u->lock);
	resume_tx(u);
	ready = u->refused && rx_room(u) > 0;
	if (ready) {
		u->refused = false;
	}
	update_irq(u);
	lock_give(&u->lock);
	if (ready) {
		u->be->ops->input_ready(u->be);
	}
}

size_t uart_receive(struct uart *uart, const uint8_t *buf, size_t n)
{
	size_t taken;

	lock_take(&uart->lock);
	taken = MIN(n, rx_room(uart));
	for (size_t i = 0; i < taken; i++) {
		rx_put(uart, buf[i]);
	}
	if (taken < n) {
		uart->refused = true;
	}
	update_irq(uart);
	lock_give(&uart->lock);
	return taken;
}

static size_t backend_input(void *user, const uint8_t *buf, size_t n)
{
	return uart_receive(user, buf, n);
}

static void backend_writable(void *user)
{
	struct uart *u = user;

	char_queue_writable(&u->tx);
}

static void reset(struct uart *u)
{
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->errors = 0;
	u->msr = MSR_CONNECTED;
	u->divisor = 12; /* 9600 baud */
	u->thr_empty = u->tx_full = u->level = u->losing = false;
	u->polled_ns = 0;
	u->rx_head = u->rx_count = 0;
}

int uart_init(struct uart *uart, struct loop *loop, struct irq_line irq, struct char_backend *be)
{
	int err = char_queue_init(&uart->tx, loop, be, on_drained, uart);

	if (err < 0) {
		return err;
	}
	uart->irq = irq;
	uart->be = be;
	lock_init(&uart->lock, LOCK_DEVICE);
	uart->refused = uart->warned = false;
	reset(uart);
	if (be != NULL) {
		be->input = backend_input;
		be->writable = backend_writable;
		be->user = uart;
	}
	return 0;
}

void uart_fini(struct uart *uart)
{
	char_queue_fini(&uart->tx);
	lock_fini(&uart->lock);
}

static void registers_state(struct uart *u, struct state *s)
{
	state_u8(s, &u->ier);
	state_u8(s, &u->fcr);
	state_u8(s, &u->lcr);
	state_u8(s, &u->mcr);
	state_u8(s, &u->msr);
	state_u8(s, &u->scr);
	state_u8(s, &u->errors);
	state_u16(s, &u->divisor);
	state_bool(s, &u->thr_empty);
	state_bool(s, &u->tx_full);
	state_u8(s, &u->rx_head);
	state_u8(s, &u->rx_count);
	state_bytes(s, u->rx, sizeof(u->rx));
	if ((u->ier & ~IER_WRITABLE) != 0 || (u->fcr & ~FCR_KEPT) != 0 ||
	    ((u->fcr & FCR_ENABLE) == 0 && u->fcr != 0) || (u->mcr & ~MCR_WRITABLE) != 0 ||
	    (u->errors & ~LSR_ERRORS) != 0 || u->rx_head >= UART_FIFO_SIZE ||
	    u->rx_count > rx_capacity(u)) {
		state_fail(s, -EINVAL);
	}
}

void uart_state(struct uart *uart, struct state *s)
{
	struct uart *u = uart;

	lock_take(&u->lock);
	state_begin(s, "uart16550", 1);
	registers_state(u, s);
	char_queue_state(&u->tx, s);
	state_end(s);
	if (s->loading) {
		if (s->error != 0) {
			reset(u);
		}
		resume_tx(u); /* this machine may have nobody who drains the queue */
		u->level = interrupt_id(u) != IIR_NONE;
		ask_for_input(u);
	}
	lock_give(&u->lock);
}
