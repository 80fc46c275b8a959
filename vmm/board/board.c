#include "vmm/board/board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/board/fw_cfg.h"
#include "vmm/board/ich9.h"
#include "vmm/board/layout.h"
#include "vmm/board/pm.h"
#include "vmm/dev/char_log.h"
#include "vmm/dev/debug_port.h"
#include "vmm/dev/i8042.h"
#include "vmm/dev/pit_timer.h"
#include "vmm/dev/pvpanic.h"
#include "vmm/dev/rtc.h"
#include "vmm/dev/uart16550.h"
#include "vmm/log.h"

struct board {
	struct board_env env;
	struct ich9 ich9;
	struct pm pm;
	struct pit_timer pit;
	struct rtc rtc;
	struct i8042 i8042;
	struct uart com1, com2;
	struct fw_cfg fw_cfg;
	struct char_log debug_log;
	struct debug_port debug_port;
	struct pvpanic pvpanic;
};

/* ---- what devices tell ---- */

static void on_pm(void *ctx, enum pm_event event)
{
	struct board *b = ctx;

	b->env.event(b->env.ctx, event == PM_POWEROFF ? BOARD_POWEROFF : BOARD_RESET);
}

static void on_reset(void *ctx)
{
	struct board *b = ctx;

	b->env.event(b->env.ctx, BOARD_RESET);
}

/* A guest whose crash kernel takes over is not at its end. */
static void on_panic(void *ctx, uint8_t events)
{
	struct board *b = ctx;

	if ((events & PVPANIC_PANICKED) != 0) {
		b->env.event(b->env.ctx, BOARD_PANIC);
	} else {
		log_guest("the guest's kernel crashed; its crash kernel takes over");
	}
}

/* ---- construction, a device at a time ---- */

static int ich9_up(struct board *b)
{
	return ich9_init(&b->ich9, b->env.pci);
}

static void ich9_down(struct board *b)
{
	ich9_fini(&b->ich9);
}

static int pm_up(struct board *b)
{
	int r = pm_init(&b->pm, b->env.loop, irq_wire(b->env.irq, GSI_SCI), on_pm, b);

	if (r == 0) {
		pci_bus_cf9(b->env.pci, &pm_reset_ops, &b->pm);
		r = bus_map(b->env.pio, PORT_PM_BASE, PORT_PM_LEN, &pm_ops, &b->pm);
	}
	return r;
}

static void pm_down(struct board *b)
{
	pm_fini(&b->pm);
}

static int pit_up(struct board *b)
{
	if (!b->env.own_pit) {
		return 0;
	}
	return pit_timer_init(&b->pit, b->env.pio, b->env.loop, irq_wire(b->env.irq, 0));
}

static void pit_down(struct board *b)
{
	if (b->env.own_pit) {
		pit_timer_fini(&b->pit);
	}
}

static int rtc_up(struct board *b)
{
	uint64_t ram = guest_memory_size(b->env.mem);
	uint64_t low = guest_memory_low(ram);
	const struct rtc_machine machine = {
		.low_ram = low,
		.high_ram = ram - low,
		.cpus = b->env.cpus,
	};
	int r = rtc_init(&b->rtc, b->env.loop, irq_wire(b->env.irq, GSI_RTC), &machine);

	return r == 0 ? bus_map(b->env.pio, PORT_RTC, RTC_PORTS, &rtc_ops, &b->rtc) : r;
}

static void rtc_down(struct board *b)
{
	rtc_fini(&b->rtc);
}

static int i8042_up(struct board *b)
{
	int r;

	i8042_init(&b->i8042, irq_wire(b->env.irq, GSI_KBD), on_reset, b);
	r = bus_map(b->env.pio, PORT_KBD_DATA, 1, &i8042_data_ops, &b->i8042);
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_KBD_STATUS, 1, &i8042_command_ops, &b->i8042);
	}
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_92, 1, &i8042_port92_ops, &b->i8042);
	}
	return r;
}

static void i8042_down(struct board *b)
{
	i8042_fini(&b->i8042);
}

static int uarts_up(struct board *b)
{
	int r = uart_init(&b->com1, b->env.loop, irq_wire(b->env.irq, GSI_COM1), b->env.serial);

	if (r != 0) {
		return r;
	}
	r = uart_init(&b->com2, b->env.loop, irq_wire(b->env.irq, GSI_COM2), NULL);
	if (r != 0) {
		uart_fini(&b->com1);
		return r;
	}
	r = bus_map(b->env.pio, PORT_COM1, UART_PORTS, &uart_ops, &b->com1);
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_COM2, UART_PORTS, &uart_ops, &b->com2);
	}
	return r;
}

static void uarts_down(struct board *b)
{
	uart_fini(&b->com2);
	uart_fini(&b->com1);
}

static int fw_cfg_up(struct board *b)
{
	int r = fw_cfg_init(&b->fw_cfg, b->env.mem, b->env.cpus);

	if (r == 0) {
		r = bus_map(b->env.pio, PORT_FW_CFG, PORT_FW_CFG_LEN, &fw_cfg_bus_ops, &b->fw_cfg);
	}
	return r;
}

static void fw_cfg_down(struct board *b)
{
	fw_cfg_fini(&b->fw_cfg);
}

static int ports_up(struct board *b)
{
	int r;

	char_log_init(&b->debug_log, "debug port");
	r = debug_port_init(&b->debug_port, b->env.loop, &b->debug_log.be);
	b->pvpanic = (struct pvpanic){.event = on_panic, .ctx = b};
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_DEBUG, 1, &debug_port_ops, &b->debug_port);
	}
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_POST, 1, &debug_post_ops, NULL);
	}
	if (r == 0) {
		r = bus_map(b->env.pio, PORT_PVPANIC, 1, &pvpanic_ops, &b->pvpanic);
	}
	return r;
}

static void ports_down(struct board *b)
{
	debug_port_fini(&b->debug_port);
}

/* In this order up, in reverse down. */
static const struct step {
	const char *name;
	int (*up)(struct board *b);
	void (*down)(struct board *b);
} steps[] = {
	{"chipset", ich9_up, ich9_down},    {"power management", pm_up, pm_down},
	{"PIT", pit_up, pit_down},	    {"RTC", rtc_up, rtc_down},
	{"i8042", i8042_up, i8042_down},    {"serial ports", uarts_up, uarts_down},
	{"fw_cfg", fw_cfg_up, fw_cfg_down}, {"pvpanic and debug port", ports_up, ports_down},
};

static void take_down(struct board *b, unsigned nsteps)
{
	while (nsteps-- > 0) {
		steps[nsteps].down(b);
	}
	free(b);
}

int board_create(struct board **out, const struct board_env *env)
{
	struct board *b = calloc(1, sizeof(*b));

	if (b == NULL) {
		log_error("no memory for the board");
		return -ENOMEM;
	}
	b->env = *env;
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i].up(b);

		if (r != 0) {
			log_error("cannot set up the board's %s: %s", steps[i].name, strerror(-r));
			take_down(b, i);
			return r;
		}
	}
	*out = b;
	return 0;
}

void board_destroy(struct board *board)
{
	take_down(board, ARRAY_SIZE(steps));
}

void board_power_button(struct board *board)
{
	pm_power_button(&board->pm);
}
