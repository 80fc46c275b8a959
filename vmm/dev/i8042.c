#include "vmm/dev/i8042.h"

#include <errno.h>

#define STATUS_OBF     0x01
#define STATUS_SYS     0x04
#define STATUS_A2      0x08 /* the last write was a command */
#define STATUS_UNLOCK  0x10 /* the key lock is open */
#define STATUS_TIMEOUT 0x40
#define STATUS_KEPT    (STATUS_OBF | STATUS_A2 | STATUS_TIMEOUT)

#define CONFIG_INT	0x01
#define CONFIG_SYS	0x04
#define CONFIG_DISABLE	0x10 /* of the keyboard */
#define CONFIG_NO_AUX	0x20
#define CONFIG_XLATE	0x40
#define CONFIG_WRITABLE 0x77

#define CMD_READ_CONFIG	  0x20
#define CMD_WRITE_CONFIG  0x60
#define CMD_TEST_AUX	  0xa9
#define CMD_SELF_TEST	  0xaa
#define CMD_TEST_KEYBOARD 0xab
#define CMD_DISABLE	  0xad
#define CMD_ENABLE	  0xae
#define CMD_READ_INPUT	  0xc0
#define CMD_READ_OUTPUT	  0xd0
#define CMD_WRITE_OUTPUT  0xd1
#define CMD_WRITE_OBF	  0xd2
#define CMD_WRITE_AUX_OBF 0xd3
#define CMD_WRITE_AUX	  0xd4
#define CMD_A20_OFF	  0xdd
#define CMD_A20_ON	  0xdf
#define CMD_PULSE	  0xf0

#define OUTPUT_NO_RESET 0x01
#define OUTPUT_A20	0x02

#define INPUT_UNLOCKED 0x80

#define REPLY_SELF_TEST_OK 0x55
#define REPLY_OK	   0x00
#define REPLY_CLOCK_LOW	   0x01
#define REPLY_RESEND	   0xfe

#define PORT92_RESET 0x01
#define PORT92_A20   0x02

static void update_irq(struct i8042 *k)
{
	bool level = (k->status & STATUS_OBF) != 0 && (k->config & CONFIG_INT) != 0;

	if (level != k->level) {
		k->level = level;
		irq_line_set(&k->irq, level);
	}
}

static void reply(struct i8042 *k, uint8_t byte)
{
	k->output = byte;
	k->status = (uint8_t)((k->status & ~STATUS_TIMEOUT) | STATUS_OBF);
}

/* A byte for a device that is not there. */
static void time_out(struct i8042 *k)
{
	reply(k, REPLY_RESEND);
	k->status |= STATUS_TIMEOUT;
}

/* Return: does it reset the machine? */
static bool write_output(struct i8042 *k, uint8_t value)
{
	k->a20 = (value & OUTPUT_A20) != 0;
	return (value & OUTPUT_NO_RESET) == 0;
}

/* A byte at port 0x60. Return: does it reset the machine? */
static bool data(struct i8042 *k, uint8_t value)
{
	uint8_t command = k->command;

	k->command = 0;
	k->status &= (uint8_t)~STATUS_A2;
	switch (command) {
	case CMD_WRITE_CONFIG:
		k->config = value & CONFIG_WRITABLE;
		return false;
	case CMD_WRITE_OUTPUT:
		return write_output(k, value);
	case CMD_WRITE_OBF:
	case CMD_WRITE_AUX_OBF: /* without an auxiliary port, not marked as coming from it */
		reply(k, value);
		return false;
	case CMD_WRITE_AUX:
		time_out(k);
		return false;
	default:
		k->config &= (uint8_t)~CONFIG_DISABLE; /* talking to the keyboard enables it */
		time_out(k);
		return false;
	}
}

/* A byte at port 0x64. Return: does it reset the machine? */
static bool command(struct i8042 *k, uint8_t value)
{
	k->command = 0;
	k->status |= STATUS_A2;
	switch (value) {
	case CMD_READ_CONFIG:
		reply(k, k->config);
		break;
	case CMD_TEST_AUX:
		reply(k, REPLY_CLOCK_LOW);
		break;
	case CMD_SELF_TEST:
		k->config |= CONFIG_SYS;
		reply(k, REPLY_SELF_TEST_OK);
		break;
	case CMD_TEST_KEYBOARD:
		reply(k, REPLY_OK);
		break;
	case CMD_DISABLE:
		k->config |= CONFIG_DISABLE;
		break;
	case CMD_ENABLE:
		k->config &= (uint8_t)~CONFIG_DISABLE;
		break;
	case CMD_READ_INPUT:
		reply(k, INPUT_UNLOCKED);
		break;
	case CMD_READ_OUTPUT:
		reply(k, OUTPUT_NO_RESET | (k->a20 ? OUTPUT_A20 : 0));
		break;
	case CMD_WRITE_CONFIG:
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_OBF:
	case CMD_WRITE_AUX_OBF:
	case CMD_WRITE_AUX:
		k->command = value;
		break;
	case CMD_A20_OFF:
	case CMD_A20_ON:
		k->a20 = value == CMD_A20_ON;
		break;
	default:
		/* Pulses the lines of the output port whose bits are 0. */
		return (value & CMD_PULSE) == CMD_PULSE && (value & OUTPUT_NO_RESET) == 0;
	}
	return false;
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned len)
{
	struct i8042 *k = dev;
	uint8_t value;

	(void)offset;
	(void)len;
	lock_take(&k->lock);
	value = k->output;
	k->status &= (uint8_t) ~(STATUS_OBF | STATUS_TIMEOUT);
	update_irq(k);
	lock_give(&k->lock);
	return value;
}

static uint64_t command_read(void *dev, uint64_t offset, unsigned len)
{
	struct i8042 *k = dev;
	uint8_t value;

	(void)offset;
	(void)len;
	lock_take(&k->lock);
	value = k->status | STATUS_UNLOCK;
	if ((k->config & CONFIG_SYS) != 0) {
		value |= STATUS_SYS;
	}
	lock_give(&k->lock);
	return value;
}

static void write_port(struct i8042 *k, bool (*fn)(struct i8042 *k, uint8_t value), uint8_t value)
{
	bool reset;

	lock_take(&k->lock);
	reset = fn(k, value);
	update_irq(k);
	lock_give(&k->lock);
	if (reset) {
		k->reset(k->ctx);
	}
}

static void data_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset;
	(void)len;
	write_port(dev, data, (uint8_t)value);
}

static void command_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset;
	(void)len;
	write_port(dev, command, (uint8_t)value);
}

static uint64_t port92_read(void *dev, uint64_t offset, unsigned len)
{
	struct i8042 *k = dev;

	(void)offset;
	(void)len;
	lock_take(&k->lock);
	bool a20 = k->a20;
	lock_give(&k->lock);
	return a20 ? PORT92_A20 : 0;
}

static bool port92(struct i8042 *k, uint8_t value)
{
	k->a20 = (value & PORT92_A20) != 0;
	return (value & PORT92_RESET) != 0;
}

static void port92_write(void *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset;
	(void)len;
	write_port(dev, port92, (uint8_t)value);
}

const struct bus_ops i8042_data_ops = {.read = data_read, .write = data_write};
const struct bus_ops i8042_command_ops = {.read = command_read, .write = command_write};
const struct bus_ops i8042_port92_ops = {.read = port92_read, .write = port92_write};

void i8042_init(struct i8042 *k, struct irq_line irq, void (*reset)(void *ctx), void *ctx)
{
	*k = (struct i8042){
		.irq = irq,
		.reset = reset,
		.ctx = ctx,
		.config = CONFIG_INT | CONFIG_SYS | CONFIG_NO_AUX | CONFIG_XLATE,
		.a20 = true,
	};
	lock_init(&k->lock, LOCK_DEVICE);
}

void i8042_fini(struct i8042 *k)
{
	lock_fini(&k->lock);
}

static bool awaits_data(uint8_t command)
{
	return command == CMD_WRITE_CONFIG ||
	       (command >= CMD_WRITE_OUTPUT && command <= CMD_WRITE_AUX);
}

void i8042_state(struct i8042 *k, struct state *s)
{
	uint8_t config, status, output, waiting;
	bool a20;

	lock_take(&k->lock);
	config = k->config;
	status = k->status;
	output = k->output;
	waiting = k->command;
	a20 = k->a20;
	state_begin(s, "i8042", 1);
	state_u8(s, &config);
	state_u8(s, &status);
	state_u8(s, &output);
	state_u8(s, &waiting);
	state_bool(s, &a20);
	if ((config & ~CONFIG_WRITABLE) != 0 || (status & ~STATUS_KEPT) != 0 ||
	    (waiting != 0 && !awaits_data(waiting))) {
		state_fail(s, -EINVAL);
	}
	state_end(s);
	if (s->loading && s->error == 0) {
		k->config = config;
		k->status = status;
		k->output = output;
		k->command = waiting;
		k->a20 = a20;
		k->level = (status & STATUS_OBF) != 0 && (config & CONFIG_INT) != 0;
	}
	lock_give(&k->lock);
}
