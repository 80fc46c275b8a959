#include "vmm/dev/debug_port.h"

#include <errno.h>
#include <string.h>

#include "vmm/log.h"

/* What a read gives, so that firmware knows the port is there. */
#define DEBUG_PORT_MAGIC 0xe9

static uint64_t debug_port_read(void *dev, uint64_t offset, unsigned len)
{
	(void)dev;
	(void)offset;
	(void)len;
	return DEBUG_PORT_MAGIC;
}

static bool printable(uint8_t c)
{
	return c >= 0x20 && c < 0x7f;
}

static void debug_port_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct debug_port *port = dev;
	uint8_t c = (uint8_t)value;

	(void)offset;
	(void)len;
	pthread_mutex_lock(&port->lock);
	if (printable(c)) {
		port->line[port->len++] = (char)c;
	}
	if (port->len == DEBUG_PORT_LINE || (c == '\n' && port->len > 0)) {
		log_guest("debug port: %.*s", port->len, port->line);
		port->len = 0;
	}
	pthread_mutex_unlock(&port->lock);
}

const struct bus_ops debug_port_ops = {.read = debug_port_read, .write = debug_port_write};

void debug_port_init(struct debug_port *port)
{
	memset(port, 0, sizeof(*port));
	pthread_mutex_init(&port->lock, NULL);
}

void debug_port_fini(struct debug_port *port)
{
	pthread_mutex_destroy(&port->lock);
}

void debug_port_state(struct debug_port *port, struct state *s)
{
	uint8_t len;

	pthread_mutex_lock(&port->lock);
	len = port->len;
	state_begin(s, "debug port", 1);
	state_u8(s, &len);
	if (len >= DEBUG_PORT_LINE) {
		state_fail(s, -EINVAL);
	} else {
		state_bytes(s, port->line, len);
		port->len = s->error == 0 ? len : 0;
	}
	state_end(s);
	/* What is loaded may go to a terminal. */
	for (unsigned i = 0; i < port->len; i++) {
		if (!printable((uint8_t)port->line[i])) {
			state_fail(s, -EINVAL);
			port->len = 0;
		}
	}
	pthread_mutex_unlock(&port->lock);
}
