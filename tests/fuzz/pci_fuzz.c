/*
 * A hostile guest of the PCI bus, for libFuzzer: the input is a program of accesses to ports,
 * configuration space and BARs of two virtio functions, with rings that it fills, and with states
 * that it tampers with. The sanitizers and check() judge, and at the end nothing may be left on the
 * buses or in the interrupt controller.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"
#include "tests/fake_irq.h"
#include "tests/fuzz/input.h"
#include "tests/virtio_driver.h"
#include "vmm/virtio/virtio_pci.h"

#define FUNCTIONS 2
#define QUEUES	  2
#define STEPS_MAX 500
#define ECAM	  UINT64_C(0xb0000000)
#define WINDOW	  UINT64_C(0xc0000000)

struct echo {
	struct virtio_device dev;
	struct virtqueue queue[QUEUES];
	uint8_t config[24];
	uint8_t wmask[24];
	struct virtio_pci *vp;
	bool activated;
};

static struct bus pio, mmio;
static struct pci_bus pci;
static struct irq irq;
static struct loop loop;
static struct loop_source stopper;
static struct guest_memory mem;
static struct echo echo[FUNCTIONS];
static struct driver_queue driver;

static struct echo *echo_of(struct virtio_device *dev)
{
	return container_of(dev, struct echo, dev);
}

static int echo_activate(struct virtio_device *dev)
{
	check(!echo_of(dev)->activated);
	/* The driver may make it fail. */
	echo_of(dev)->activated = dev->config[23] != 0xee;
	return echo_of(dev)->activated ? 0 : -1;
}

static void echo_reset(struct virtio_device *dev)
{
	check(echo_of(dev)->activated);
	echo_of(dev)->activated = false;
}

static void echo_notify(struct virtio_device *dev, unsigned queue)
{
	struct iovec iov[8];
	struct vq_chain chain = {.iov = iov, .max = ARRAY_SIZE(iov)};
	int r = 0;

	check(echo_of(dev)->activated);
	/* A guest that overwrites its ring by its requests may keep this busy: some at a time. */
	for (unsigned i = 0; i < 64 && (r = vq_pop(&dev->queue[queue], &chain)) == 1; i++) {
		vq_push(&dev->queue[queue], &chain, chain.nin);
	}
	virtio_notify(dev, queue);
	if (r < 0) {
		virtio_broken(dev, "a bad request");
	}
}

static void echo_config_read(struct virtio_device *dev)
{
	dev->config[0]++;
}

static void echo_config_written(struct virtio_device *dev, uint32_t offset, uint32_t len)
{
	check(len > 0 && len <= 8 && offset + len <= dev->config_len);
	virtio_notify_config(dev);
}

static void echo_state(struct virtio_device *dev, struct state *s)
{
	state_begin(s, "echo", 1);
	state_u8(s, &dev->config[0]);
	state_end(s);
}

static void echo_destroy(struct virtio_device *dev)
{
	virtio_fini(dev);
}

static const struct virtio_ops echo_ops = {
	.activate = echo_activate,
	.reset = echo_reset,
	.notify = echo_notify,
	.config_read = echo_config_read,
	.config_written = echo_config_written,
	.state = echo_state,
	.destroy = echo_destroy,
};

static void stop(void *arg, uint32_t events)
{
	eventfd_t n;

	(void)arg;
	(void)events;
	eventfd_read(stopper.fd, &n);
	loop_stop(&loop);
}

/* The loop looks at every doorbell that rang. */
static void turn(void)
{
	eventfd_write(stopper.fd, 1);
	check(loop_run(&loop) == 0);
}

static void build(void)
{
	memset(&irq, 0, sizeof(irq));
	bus_init(&pio);
	bus_init(&mmio);
	check(loop_add(&loop, &stopper, EPOLLIN) == 0);
	check(pci_bus_init(&pci, &pio, &mmio, &irq, gpa(ECAM)) == 0);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		struct echo *e = &echo[i];

		memset(e, 0, sizeof(*e));
		memset(e->wmask + 8, 0xff, sizeof(e->wmask) - 8);
		virtio_init(&e->dev, "echo", VIRTIO_TYPE_BLOCK, &echo_ops, 0x3f, e->queue, QUEUES,
			    64, e->config, sizeof(e->config));
		e->dev.config_wmask = e->wmask;
		check(virtio_pci_create(&e->vp, &e->dev, &pci, PCI_DEVFN(i + 1, 0), &loop, &mem) ==
		      0);
	}
	check(pci_assign(&pci, WINDOW, 0x100000) == 0);
}

static void take_down(void)
{
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		virtio_pci_destroy(echo[i].vp);
	}
	pci_bus_fini(&pci);
	check(irq.nmsis == 0 && irq.ndoorbells == 0);
	for (unsigned i = 0; i < FAKE_WIRES; i++) {
		check(!irq.wire[i]);
	}
	check(pio.nranges == 0 && mmio.nranges == 0);
	loop_del(&loop, &stopper);
	bus_fini(&mmio);
	bus_fini(&pio);
}

/* Where a BAR is now, as the guest would compute it. */
static uint64_t bar(unsigned slot, unsigned index)
{
	uint64_t at = ECAM + slot * 0x8000 + 0x10 + 4 * index;

	return (bus_read(&mmio, at, 4) & ~UINT64_C(15)) +
	       (index == 4 ? bus_read(&mmio, at + 4, 4) << 32 : 0);
}

static void access_bus(struct input *in, struct bus *bus, uint64_t addr, uint32_t how)
{
	static const uint8_t lens[] = {1, 2, 4, 8, 4, 2, 3, 7};
	unsigned len = lens[how & 7];

	if ((how & 8) != 0) {
		bus_write(bus, addr, len, input_take(in, MIN(len, 4U)));
	} else {
		check(len == 8 || bus_read(bus, addr, len) >> (8 * len) == 0);
	}
}

static void set(unsigned slot, unsigned reg, unsigned len, uint64_t value)
{
	bus_write(&mmio, bar(slot, 4) + reg, len, value);
}

/* What drivers do, so that the fuzzer need not find it out byte by byte. */
static void start(struct input *in, unsigned slot)
{
	uint32_t how = (uint32_t)input_take(in, 1);
	uint64_t features = BIT(VIRTIO_F_VERSION_1);

	features |= (how & 1) != 0 ? BIT(VIRTIO_F_RING_PACKED) : 0;
	features |= (how & 2) != 0 ? BIT(VIRTIO_RING_F_EVENT_IDX) : 0;
	features |= (how & 4) != 0 ? BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0;
	driver_queue_init(&driver, &mem, (how & 1) != 0, (how & 2) != 0, 16);
	set(slot, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	for (unsigned i = 0; i < 2; i++) {
		set(slot, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		set(slot, VIRTIO_PCI_COMMON_GF, 4, features >> (32 * i));
	}
	set(slot, VIRTIO_PCI_COMMON_STATUS, 1, 11);
	set(slot, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	set(slot, VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
	set(slot, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	set(slot, VIRTIO_PCI_COMMON_Q_DESCLO, 8, driver.desc);
	set(slot, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, driver.driver);
	set(slot, VIRTIO_PCI_COMMON_Q_USEDLO, 8, driver.device);
	if ((how & 8) == 0) {
		set(slot, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	set(slot, VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

static void add(struct input *in)
{
	struct driver_buf buf[4];
	unsigned n = 1 + input_take(in, 1) % 4;

	for (unsigned i = 0; i < n; i++) {
		uint64_t v = input_take(in, 2);

		buf[i] = (struct driver_buf){DRIVER_BUFFERS + (v & 0xfff), 1 + (v >> 12 & 7),
					     (v >> 15) != 0};
	}
	if (driver.mem != NULL) {
		driver_add(&driver, buf, n, (n & 1) != 0);
	}
}

static void reload(struct input *in, unsigned f)
{
	static uint8_t buf[4096];
	struct state s;
	size_t len;

	state_save_init(&s, buf, sizeof(buf));
	virtio_pci_state(echo[f].vp, &s);
	pci_bus_state(&pci, &s);
	check(s.error == 0);
	len = s.pos;
	buf[input_take(in, 2) % len] ^= (uint8_t)input_take(in, 1);
	state_load_init(&s, buf, len);
	virtio_pci_state(echo[f].vp, &s);
	check(s.error != 0 || echo[f].dev.active == echo[f].activated);
	check(s.error == 0 || !echo[f].dev.active);
	pci_bus_state(&pci, &s);
}

static void step(struct input *in)
{
	uint32_t op = (uint32_t)input_take(in, 1);
	unsigned f = op >> 7; /* which function */
	uint32_t how = op >> 3 & 15;
	uint64_t at;

	switch (op & 7) {
	case 0:
		access_bus(in, &pio, 0xcf8 + input_take(in, 1) % 8, how);
		break;
	case 1:
		at = input_take(in, 1) + (input_take(in, 1) & 0xf) * 0x100;
		access_bus(in, &mmio, ECAM + (f + 1) * 0x8000 + at % 0x1000, how);
		break;
	case 2:
		at = input_take(in, 2);
		access_bus(in, &mmio, bar(f + 1, (at & 0x8000) != 0 ? 1 : 4) + (at & 0x3fff), how);
		break;
	case 3:
		access_bus(in, &mmio, bar(f + 1, 4) + input_take(in, 1) % 64, how);
		break;
	case 4:
		if (how < 4) {
			reload(in, f);
		} else if (how < 8) {
			start(in, f + 1);
		} else if (how < 10) {
			irq.refuse_doorbells = how == 8;
		} else {
			access_bus(in, &mmio, input_take(in, 4) << 12, how);
		}
		break;
	case 5:
		add(in);
		break;
	case 6:
		bus_write(&mmio, bar(f + 1, 4) + 0x3000 + (how & 3) * 4, 2, 0);
		fake_irq_ring(&irq, bar(f + 1, 4) + 0x3000);
		turn();
		break;
	default:
		at = DRIVER_DESC + input_take(in, 2) % 0x2fff;
		*((uint8_t *)mem.region[0].host + at) = (uint8_t)input_take(in, 1);
		break;
	}
}

static void once(void)
{
	static bool done;

	if (!done) {
		driver_ram_init(&mem);
		check(loop_init(&loop) == 0);
		stopper = (struct loop_source){.fd = eventfd(0, EFD_NONBLOCK), .fn = stop};
		done = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	once();
	memset(mem.region[0].host, 0, DRIVER_LOW_BYTES);
	memset(&driver, 0, sizeof(driver));
	build();
	for (unsigned i = 0; in.size > 0 && i < STEPS_MAX; i++) {
		step(&in);
	}
	take_down();
	return 0;
}
