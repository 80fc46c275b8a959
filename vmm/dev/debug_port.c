#include "vmm/dev/debug_port.h"

/* What a read of the port gives: the sign by which firmware knows that it is there. */
#define DEBUG_PRESENT 0xe9

static uint64_t debug_read(void *dev, uint64_t offset, unsigned len)
{
	(void)dev;
	(void)offset;
	(void)len;
	return DEBUG_PRESENT;
}

static void debug_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct debug_port *port = dev;

	(void)offset;
	(void)len;
	/* It has no flow control: what does not fit is lost. */
	(void)char_queue_put(&port->queue, (uint8_t)value);
}

const struct bus_ops debug_port_ops = {.read = debug_read, .write = debug_write};

static uint64_t post_read(void *dev, uint64_t offset, unsigned len)
{
	(void)dev;
	(void)offset;
	(void)len;
	return UINT64_MAX;
}

static void post_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)dev;
	(void)offset;
	(void)len;
	(void)value;
}

const struct bus_ops debug_post_ops = {.read = post_read, .write = post_write};

/* The wire has one direction: what comes the other way is taken and dropped. */
static size_t backend_input(void *user, const uint8_t *buf, size_t n)
{
	(void)user;
	(void)buf;
	return n;
}

static void backend_writable(void *user)
{
	struct debug_port *port = user;

	char_queue_writable(&port->queue);
}

int debug_port_init(struct debug_port *port, struct loop *loop, struct char_backend *be)
{
	int err = char_queue_init(&port->queue, loop, be, NULL, NULL);

	if (err == 0 && be != NULL) {
		be->input = backend_input;
		be->writable = backend_writable;
		be->user = port;
	}
	return err;
}

void debug_port_fini(struct debug_port *port)
{
	char_queue_fini(&port->queue);
}

void debug_port_state(struct debug_port *port, struct state *s)
{
	state_begin(s, "debug_port", 1);
	char_queue_state(&port->queue, s);
	state_end(s);
}
