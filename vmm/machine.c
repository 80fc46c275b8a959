#include "vmm/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "vmm/board/acpi.h"
#include "vmm/board/board.h"
#include "vmm/board/cpu_setup.h"
#include "vmm/board/layout.h"
#include "vmm/boot/boot.h"
#include "vmm/console/console.h"
#include "vmm/host/host.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/vcpu.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/entropy.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/virtio/vsock.h"

/* PCI slots 1 to 30: between the host bridge and the LPC bridge. */
#define SLOT_FIRST 1
#define SLOTS	   30

struct machine {
	/* constant while the guest runs */
	const struct vm_config *config;
	const struct host_provider *provider;
	struct host_vm host;
	struct guest_memory mem;
	struct loop loop;
	struct bus pio, mmio;
	struct irq *irq;
	struct pci_bus pci;
	struct board *board;
	struct console *console, *virtio_console;
	unsigned nvirtio;
	struct virtio_pci *virtio[SLOTS];
	unsigned ndisks;
	struct virtio_device *disk[CONFIG_DISKS_MAX];
	struct virtio_device *balloon;
	struct virtio_device *virtio_console_dev; /* NULL: there is none */
	struct boot_entry entry;
	struct vcpus vcpus;
	struct loop_source signals;

	atomic_int end; /* enum vm_end, or NOT_ENDED */
};

#define NOT_ENDED (-1)

/* ---- what the guest, the user and the host's troubles bring about ---- */

/* The first reason counts. Context: any thread. */
static void machine_end(struct machine *m, enum vm_end end)
{
	int expected = NOT_ENDED;

	/* Seen by machine_run(), as loop_stop() and loop_run() pair. */
	atomic_compare_exchange_strong(&m->end, &expected, (int)end);
	loop_stop(&m->loop);
}

static void on_vcpu_end(void *ctx, enum vcpu_end why)
{
	/* An error, and not log_guest(): it is why the VM ends, whatever was said before. */
	if (why == VCPU_TRIPLE_FAULT) {
		log_error("a vCPU shut down: triple fault");
	}
	machine_end(ctx, why == VCPU_FAILED ? VM_END_FAILED : VM_END_PANIC);
}

static void on_board_event(void *ctx, enum board_event event)
{
	static const enum vm_end ends[] = {
		[BOARD_POWEROFF] = VM_END_POWEROFF,
		[BOARD_RESET] = VM_END_RESET,
		[BOARD_PANIC] = VM_END_PANIC,
	};

	machine_end(ctx, ends[event]);
}

/* A back end cannot go on for now. Context: any thread, a device's lock may be held. */
static void on_trouble(void *ctx, const char *reason)
{
	struct machine *m = ctx;

	vcpus_pause(&m->vcpus);
	log_warn("the VM is paused: %s; then continue it with Ctrl-] p or kill -CONT %d", reason,
		 (int)getpid());
}

static void machine_resume(struct machine *m)
{
	for (unsigned i = 0; i < m->ndisks; i++) {
		blk_resume(m->disk[i]);
	}
	vcpus_resume(&m->vcpus);
	log_info("the VM goes on");
}

static void on_quit(void *ctx)
{
	machine_end(ctx, VM_END_QUIT);
}

static void on_pause(void *ctx)
{
	struct machine *m = ctx;

	if (vcpus_paused(&m->vcpus)) {
		machine_resume(m);
	} else {
		vcpus_pause(&m->vcpus);
		log_info("the VM is paused; Ctrl-] p or kill -CONT %d continues it", (int)getpid());
	}
}

static void on_power_button(void *ctx)
{
	struct machine *m = ctx;

	board_power_button(m->board);
}

static void on_balloon(void *ctx, uint64_t bytes)
{
	struct machine *m = ctx;

	balloon_set_target(m->balloon, bytes);
}

/* The user's window has another size. */
static void on_resized(void *ctx)
{
	struct machine *m = ctx;
	uint16_t columns, rows;

	if (m->virtio_console_dev != NULL) {
		console_size(m->virtio_console, &columns, &rows);
		vconsole_resize(m->virtio_console_dev, columns, rows);
	}
}

static const struct console_commands commands = {
	.quit = on_quit,
	.pause = on_pause,
	.power_button = on_power_button,
	.balloon = on_balloon,
	.resized = on_resized,
};

static void on_signal(void *arg, uint32_t events)
{
	struct machine *m = arg;
	struct signalfd_siginfo info;

	(void)events;
	if (read(m->signals.fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (info.ssi_signo == SIGPWR) {
		on_power_button(m);
		return;
	}
	if (info.ssi_signo != SIGCONT) {
		machine_end(m, VM_END_QUIT);
		return;
	}
	console_resume(m->console);
	if (m->virtio_console != NULL) {
		console_resume(m->virtio_console);
	}
	if (vcpus_paused(&m->vcpus)) {
		machine_resume(m);
	}
}

/* ---- construction, a step at a time ---- */

static int signals_up(struct machine *m)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGPWR);
	sigaddset(&set, SIGCONT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* A guest writes until a file's limit is reached; that is an error of the write. */
	signal(SIGXFSZ, SIG_IGN);
	m->signals = (struct loop_source){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK),
		.fn = on_signal,
		.arg = m,
	};
	r = m->signals.fd < 0 ? -errno : loop_add(&m->loop, &m->signals, EPOLLIN);
	if (r != 0) {
		log_error("cannot wait for signals: %s", strerror(-r));
		if (m->signals.fd >= 0) {
			close(m->signals.fd);
		}
	}
	return r;
}

static void signals_down(struct machine *m)
{
	loop_del(&m->loop, &m->signals);
	close(m->signals.fd);
}

static int loop_up(struct machine *m)
{
	return loop_init(&m->loop);
}

static void loop_down(struct machine *m)
{
	loop_fini(&m->loop);
}

static int host_up(struct machine *m)
{
	int r = host_open(&m->host, m->provider);

	if (r == 0 && m->config->cpus > m->host.max_vcpus) {
		log_error("this host runs at most %u vCPUs in a VM, not %u", m->host.max_vcpus,
			  m->config->cpus);
		host_close(&m->host);
		r = -EINVAL;
	}
	return r;
}

static void host_down(struct machine *m)
{
	host_close(&m->host);
}

static void on_device_write(void *ctx, const void *at, uint64_t len)
{
	const struct machine *m = ctx;

	host_wrote(&m->host, at, len);
}

static int memory_up(struct machine *m)
{
	int r = guest_memory_init(&m->mem, m->config->memory_bytes);

	if (r != 0) {
		return r;
	}
	for (unsigned i = 0; i < m->mem.nregions; i++) {
		const struct guest_region *region = &m->mem.region[i];

		r = host_memory_slot(&m->host, i, region->base, region->len, region->host);
		if (r != 0) {
			guest_memory_fini(&m->mem);
			return r;
		}
	}
	if (m->host.writes != NULL) {
		m->mem.wrote = on_device_write;
		m->mem.wrote_ctx = m;
	}
	return 0;
}

static void memory_down(struct machine *m)
{
	guest_memory_fini(&m->mem);
}

static int buses_up(struct machine *m)
{
	bus_init(&m->pio);
	bus_init(&m->mmio);
	return 0;
}

static void buses_down(struct machine *m)
{
	bus_fini(&m->mmio);
	bus_fini(&m->pio);
}

/* The PIC's INTR wire, which nothing drives before the vCPUs are there. */
static void kick_boot_cpu(void *ctx)
{
	struct machine *m = ctx;

	vcpus_kick(&m->vcpus, 0);
}

static int irq_up(struct machine *m)
{
	int r = irq_create(&m->irq, &m->host, kick_boot_cpu, m);

	if (r == 0) {
		r = irq_map(m->irq, &m->pio, &m->mmio);
		if (r != 0) {
			irq_destroy(m->irq);
		}
	}
	return r;
}

static void irq_down(struct machine *m)
{
	irq_destroy(m->irq);
}

static int pci_up(struct machine *m)
{
	return pci_bus_init(&m->pci, &m->pio, &m->mmio, m->irq, gpa(LAYOUT_ECAM));
}

static void pci_down(struct machine *m)
{
	pci_bus_fini(&m->pci);
}

static void on_eoi(void *ctx, uint8_t vector)
{
	struct machine *m = ctx;

	irq_eoi(m->irq, vector);
}

static bool on_pic_pending(void *ctx)
{
	struct machine *m = ctx;

	return irq_pic_pending(m->irq);
}

static int on_pic_ack(void *ctx)
{
	struct machine *m = ctx;

	return irq_pic_ack(m->irq);
}

static int vcpus_up(struct machine *m)
{
	const struct vcpu_env env = {
		.pio = &m->pio,
		.mmio = &m->mmio,
		.ctx = m,
		.eoi = on_eoi,
		.pic_pending = on_pic_pending,
		.pic_ack = on_pic_ack,
		.end = on_vcpu_end,
	};

	return vcpus_create(&m->vcpus, &m->host, &env, m->config->cpus);
}

static void vcpus_down(struct machine *m)
{
	vcpus_destroy(&m->vcpus);
}

static int consoles_up(struct machine *m)
{
	const struct vm_config *c = m->config;
	int r = console_create(&m->console, &c->console, &m->loop, &commands, m);

	if (r == 0 && c->virtio_console.kind != CONSOLE_NONE) {
		r = console_create(&m->virtio_console, &c->virtio_console, &m->loop, &commands, m);
		if (r != 0) {
			console_destroy(m->console);
		}
	}
	return r;
}

static void consoles_down(struct machine *m)
{
	if (m->virtio_console != NULL) {
		console_destroy(m->virtio_console);
	}
	console_destroy(m->console);
}

static int board_up(struct machine *m)
{
	const struct board_env env = {
		.pio = &m->pio,
		.mmio = &m->mmio,
		.pci = &m->pci,
		.irq = m->irq,
		.loop = &m->loop,
		.mem = &m->mem,
		.own_pit = m->host.split,
		.cpus = m->config->cpus,
		.serial = console_backend(m->console),
		.event = on_board_event,
		.ctx = m,
	};

	return board_create(&m->board, &env);
}

static void board_down(struct machine *m)
{
	board_destroy(m->board);
}

/* Puts a device into the next slot, or destroys it. */
static int add_virtio(struct machine *m, struct virtio_device *dev)
{
	int r = -ENOSPC;

	if (m->nvirtio == SLOTS) {
		log_error("no PCI slot is left for the %s device: a VM has %d", dev->name, SLOTS);
		dev->ops->destroy(dev);
		return r;
	}
	r = virtio_pci_create(&m->virtio[m->nvirtio], dev, &m->pci,
			      PCI_DEVFN(SLOT_FIRST + m->nvirtio, 0), &m->loop, &m->mem);
	if (r == 0) {
		m->nvirtio++;
	}
	return r;
}

static int create_disk(struct machine *m, unsigned i)
{
	struct virtio_device *dev;
	int r = blk_create(&dev, &m->config->disk[i], on_trouble, m);

	if (r == 0) {
		r = add_virtio(m, dev);
	}
	if (r == 0) {
		m->disk[m->ndisks++] = dev;
	}
	return r;
}

static int create_net(struct machine *m, unsigned i)
{
	struct virtio_device *dev;
	int r = net_create(&dev, &m->config->net[i], &m->loop);

	return r == 0 ? add_virtio(m, dev) : r;
}

static int create_vsock(struct machine *m)
{
	struct virtio_device *dev;
	int r;

	if (m->config->vsock_cid == 0) {
		return 0;
	}
	r = vsock_create(&dev, m->config->vsock_cid, m->config->vsock_socket, &m->loop);
	return r == 0 ? add_virtio(m, dev) : r;
}

static int create_entropy(struct machine *m)
{
	struct virtio_device *dev;
	int r = entropy_create(&dev);

	return r == 0 ? add_virtio(m, dev) : r;
}

static int create_balloon(struct machine *m)
{
	int r = balloon_create(&m->balloon, m->config->balloon_bytes);

	return r == 0 ? add_virtio(m, m->balloon) : r;
}

static int create_virtio_console(struct machine *m)
{
	struct virtio_device *dev;
	int r;

	if (m->virtio_console == NULL) {
		return 0;
	}
	r = vconsole_create(&dev, console_backend(m->virtio_console));
	if (r == 0) {
		r = add_virtio(m, dev);
	}
	if (r == 0) {
		m->virtio_console_dev = dev;
		on_resized(m);
	}
	return r;
}

static void virtio_down(struct machine *m)
{
	while (m->nvirtio > 0) {
		virtio_pci_destroy(m->virtio[--m->nvirtio]);
	}
}

static int virtio_up(struct machine *m)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < m->config->ndisks; i++) {
		r = create_disk(m, i);
	}
	for (unsigned i = 0; r == 0 && i < m->config->nnets; i++) {
		r = create_net(m, i);
	}
	if (r == 0) {
		r = create_vsock(m);
	}
	if (r == 0) {
		r = create_entropy(m);
	}
	if (r == 0) {
		r = create_balloon(m);
	}
	if (r == 0) {
		r = create_virtio_console(m);
	}
	if (r == 0) {
		r = pci_assign(&m->pci, LAYOUT_PCI_MEM, LAYOUT_PCI_MEM_SIZE);
	}
	if (r != 0) {
		virtio_down(m);
	}
	return r;
}

static int boot_up(struct machine *m)
{
	gpa_t rsdp = acpi_build(&m->mem, m->config->cpus);

	return boot_load(m->config, &m->mem, rsdp, &m->entry);
}

static int start_up(struct machine *m)
{
	const struct guest_region *last = &m->mem.region[m->mem.nregions - 1];

	return cpu_setup(&m->vcpus, m->config, last->base.v + last->len, &m->entry);
}

static void start_down(struct machine *m)
{
	vcpus_stop(&m->vcpus);
}

/*
 * In this order up, in reverse down. The vCPUs are there before anything that kicks or pauses them,
 * and stop before anything that they use goes. @blame: whose fault a failure is.
 */
static const struct step {
	int (*up)(struct machine *m);
	void (*down)(struct machine *m);
	enum vm_end blame;
} steps[] = {
	{loop_up, loop_down, VM_END_FAILED},	    {signals_up, signals_down, VM_END_FAILED},
	{host_up, host_down, VM_END_FAILED},	    {memory_up, memory_down, VM_END_FAILED},
	{buses_up, buses_down, VM_END_FAILED},	    {irq_up, irq_down, VM_END_FAILED},
	{pci_up, pci_down, VM_END_FAILED},	    {vcpus_up, vcpus_down, VM_END_FAILED},
	{consoles_up, consoles_down, VM_END_USAGE}, {board_up, board_down, VM_END_FAILED},
	{virtio_up, virtio_down, VM_END_USAGE},	    {boot_up, NULL, VM_END_USAGE},
	{start_up, start_down, VM_END_USAGE},
};

static void take_down(struct machine *m, unsigned nsteps)
{
	while (nsteps-- > 0) {
		if (steps[nsteps].down != NULL) {
			steps[nsteps].down(m);
		}
	}
	free(m);
}

int machine_create(struct machine **out, const struct vm_config *config,
		   const struct host_provider *provider, enum vm_end *end)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (m == NULL) {
		log_error("no memory for the VM");
		*end = VM_END_FAILED;
		return -ENOMEM;
	}
	m->config = config;
	m->provider = provider;
	atomic_init(&m->end, NOT_ENDED);
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		int r = steps[i].up(m);

		if (r != 0) {
			*end = steps[i].blame;
			take_down(m, i);
			return r;
		}
	}
	*out = m;
	return 0;
}

enum vm_end machine_run(struct machine *m)
{
	vcpus_resume(&m->vcpus);
	int r = loop_run(&m->loop);

	if (r != 0) {
		log_error("the event loop fails: %s", strerror(-r));
		machine_end(m, VM_END_FAILED);
	}
	vcpus_pause(&m->vcpus);
	return (enum vm_end)atomic_load(&m->end);
}

void machine_destroy(struct machine *m)
{
	take_down(m, ARRAY_SIZE(steps));
}
