#include "vmm/virtio/virtio_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/fake_irq.h"
#include "tests/unit.h"
#include "tests/virtio_driver.h"
#include "vmm/board/layout.h"

#define SLOT	      1
#define ECAM	      UINT64_C(0xb0000000)
#define QUEUES	      3
#define WINDOW	      UINT64_C(0xc0000000)
#define WINDOW_LEN    0x1000000
#define FEATURE_OWN   5
#define CONFIG_VECTOR 0
#define DEVICE	      (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define FEATURES_OK   (DEVICE | VIRTIO_CONFIG_S_FEATURES_OK)
#define DRIVER_OK     (FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

/* A device that gives every request back, its first writable byte set to @answer. */
struct echo {
	struct virtio_device dev;
	struct virtqueue queue[QUEUES];
	uint8_t config[8]; /* the last four are the driver's to write */
	uint8_t answer;	   /* its own state */
	unsigned nactivate, nreset, nnotify[QUEUES], nconfig_read, nconfig_written;
	int activate_result;
	void (*in_reset)(void);
	bool late; /* a thread of its own is still at work when it is destroyed */
	bool destroyed;
};

static struct {
	struct guest_memory mem;
	struct loop loop;
	struct loop_source stopper;
	struct bus pio, mmio;
	struct pci_bus pci;
	struct irq irq;
	struct echo echo;
	struct virtio_pci *vp;
	struct driver_queue drv;
} t;

static struct echo *echo_of(struct virtio_device *dev)
{
	return container_of(dev, struct echo, dev);
}

static int echo_activate(struct virtio_device *dev)
{
	echo_of(dev)->nactivate++;
	echo_of(dev)->answer = 1;
	return echo_of(dev)->activate_result;
}

static void echo_reset(struct virtio_device *dev)
{
	echo_of(dev)->nreset++;
	if (echo_of(dev)->in_reset != NULL) {
		virtio_unlock(dev);
		echo_of(dev)->in_reset();
		virtio_lock(dev);
	}
}

static void echo_notify(struct virtio_device *dev, unsigned queue)
{
	struct echo *e = echo_of(dev);
	struct iovec iov[4];
	struct vq_chain chain = {.iov = iov, .max = ARRAY_SIZE(iov)};
	int r;

	e->nnotify[queue]++;
	while ((r = vq_pop(&e->queue[queue], &chain)) == 1) {
		uint32_t n = (uint32_t)iov_from_buf(vq_in(&chain), chain.nin, 0, &e->answer, 1);

		vq_push(&e->queue[queue], &chain, n);
	}
	virtio_notify(dev, queue);
	if (r < 0) {
		virtio_broken(dev, "a bad request");
	}
}

static void echo_config_read(struct virtio_device *dev)
{
	echo_of(dev)->config[1] = (uint8_t)++echo_of(dev)->nconfig_read;
}

static void echo_config_written(struct virtio_device *dev, uint32_t offset, uint32_t len)
{
	assert_true(offset + len <= sizeof(echo_of(dev)->config));
	echo_of(dev)->nconfig_written++;
}

static void echo_state(struct virtio_device *dev, struct state *s)
{
	state_begin(s, "echo", 1);
	state_u8(s, &echo_of(dev)->answer);
	state_end(s);
}

static void echo_destroy(struct virtio_device *dev)
{
	if (echo_of(dev)->late) {
		virtio_lock(dev);
		echo_notify(dev, 0);
		virtio_notify_config(dev);
		virtio_unlock(dev);
	}
	echo_of(dev)->destroyed = true;
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

static void echo_init(struct echo *e)
{
	static const uint8_t wmask[sizeof(e->config)] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0x0f};

	memset(e, 0, sizeof(*e));
	virtio_init(&e->dev, "echo", VIRTIO_TYPE_CONSOLE, &echo_ops, BIT(FEATURE_OWN), e->queue,
		    QUEUES, 64, e->config, sizeof(e->config));
	e->dev.config_wmask = wmask;
	e->config[0] = 0xc0;
}

static void stop(void *arg, uint32_t events)
{
	eventfd_t n;

	(void)arg;
	(void)events;
	eventfd_read(t.stopper.fd, &n);
	loop_stop(&t.loop);
}

/* Runs the loop until all that is ready now was looked at. */
static void turn(void)
{
	eventfd_write(t.stopper.fd, 1);
	assert_int_equal(loop_run(&t.loop), 0);
}

static void create(void)
{
	echo_init(&t.echo);
	assert_int_equal(
		virtio_pci_create(&t.vp, &t.echo.dev, &t.pci, PCI_DEVFN(SLOT, 0), &t.loop, &t.mem),
		0);
	assert_int_equal(pci_assign(&t.pci, WINDOW, WINDOW_LEN), 0);
}

static int setup(void **unused)
{
	(void)unused;
	memset(&t, 0, sizeof(t));
	driver_ram_init(&t.mem);
	assert_int_equal(loop_init(&t.loop), 0);
	t.stopper = (struct loop_source){.fd = eventfd(0, EFD_NONBLOCK), .fn = stop};
	assert_int_equal(loop_add(&t.loop, &t.stopper, EPOLLIN), 0);
	bus_init(&t.pio);
	bus_init(&t.mmio);
	assert_int_equal(pci_bus_init(&t.pci, &t.pio, &t.mmio, &t.irq, gpa(ECAM)), 0);
	create();
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	if (t.vp != NULL) {
		virtio_pci_destroy(t.vp);
		assert_true(t.echo.destroyed);
	}
	assert_int_equal(t.irq.ndoorbells, 0);
	assert_int_equal(t.irq.nmsis, 0);
	pci_bus_fini(&t.pci);
	bus_fini(&t.mmio);
	bus_fini(&t.pio);
	loop_del(&t.loop, &t.stopper);
	close(t.stopper.fd);
	loop_fini(&t.loop);
	driver_ram_fini(&t.mem);
	return 0;
}

/* ---- the driver's view ---- */

static uint32_t cfg(unsigned reg, unsigned len)
{
	return (uint32_t)bus_read(&t.mmio, ECAM + SLOT * 0x8000 + reg, len);
}

static void set_cfg(unsigned reg, unsigned len, uint32_t value)
{
	bus_write(&t.mmio, ECAM + SLOT * 0x8000 + reg, len, value);
}

/* The @n-th virtio capability of @type; 0 if there is none. */
static unsigned find_cap(uint8_t type)
{
	unsigned at = cfg(PCI_CAPABILITY_LIST, 1);

	while (at != 0) {
		if (cfg(at, 1) == PCI_CAP_ID_VNDR && cfg(at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type) {
			return at;
		}
		at = cfg(at + 1, 1);
	}
	return 0;
}

/* Where the structure of @type is, as a driver finds it. */
static uint64_t place(uint8_t type)
{
	unsigned cap = find_cap(type);
	unsigned bar = PCI_BASE_ADDRESS_0 + 4 * cfg(cap + VIRTIO_PCI_CAP_BAR, 1);

	assert_int_not_equal(cap, 0);
	return (cfg(bar, 4) & ~UINT64_C(15)) + ((uint64_t)cfg(bar + 4, 4) << 32) +
	       cfg(cap + VIRTIO_PCI_CAP_OFFSET, 4);
}

static uint32_t get(unsigned reg, unsigned len)
{
	return (uint32_t)bus_read(&t.mmio, place(VIRTIO_PCI_CAP_COMMON_CFG) + reg, len);
}

static void set(unsigned reg, unsigned len, uint32_t value)
{
	bus_write(&t.mmio, place(VIRTIO_PCI_CAP_COMMON_CFG) + reg, len, value);
}

static uint8_t status(void)
{
	return (uint8_t)get(VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(uint8_t value)
{
	set(VIRTIO_PCI_COMMON_STATUS, 1, value);
}

static uint64_t offered(void)
{
	uint64_t features;

	set(VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
	features = get(VIRTIO_PCI_COMMON_DF, 4);
	set(VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
	return features | (uint64_t)get(VIRTIO_PCI_COMMON_DF, 4) << 32;
}

static void choose(uint64_t features)
{
	set(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	set(VIRTIO_PCI_COMMON_GF, 4, (uint32_t)features);
	set(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	set(VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32));
}

/* Resets the device and goes as far as FEATURES_OK. */
static void negotiate(uint64_t features)
{
	set_status(0);
	assert_int_equal(status(), 0);
	set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
	set_status(DEVICE);
	choose(features);
	set_status(FEATURES_OK);
}

static void set_queue_address(unsigned reg, uint64_t addr)
{
	set(reg, 4, (uint32_t)addr);
	set(reg + 4, 4, (uint32_t)(addr >> 32));
}

static void setup_queue(uint16_t queue, const struct driver_queue *drv)
{
	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	set(VIRTIO_PCI_COMMON_Q_SIZE, 2, drv->size);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1u);
	set_queue_address(VIRTIO_PCI_COMMON_Q_DESCLO, drv->desc);
	set_queue_address(VIRTIO_PCI_COMMON_Q_AVAILLO, drv->driver);
	set_queue_address(VIRTIO_PCI_COMMON_Q_USEDLO, drv->device);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static uint64_t msix_table(void)
{
	return cfg(PCI_BASE_ADDRESS_1, 4);
}

static void enable_msix(void)
{
	unsigned cap = cfg(PCI_CAPABILITY_LIST, 1);

	while (cfg(cap, 1) != PCI_CAP_ID_MSIX) {
		cap = cfg(cap + 1, 1);
	}
	for (unsigned i = 0; i < QUEUES + 1; i++) {
		bus_write(&t.mmio, msix_table() + i * 16, 8, 0xfee00000);
		bus_write(&t.mmio, msix_table() + i * 16 + 8, 8, 0x40 + i);
	}
	set_cfg(cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

/* How often vector @vector was delivered since the last look. */
static unsigned fired(unsigned vector)
{
	struct pci_device *pci = t.pci.device[PCI_DEVFN(SLOT, 0)];

	return (unsigned)fake_irq_fired(&pci->msix[vector].msi);
}

/* Brings the device to DRIVER_OK with queue @queue of @size. */
static void start(uint64_t features, uint16_t queue, uint16_t size)
{
	negotiate(features | BIT(VIRTIO_F_VERSION_1));
	assert_int_equal(status(), FEATURES_OK);
	driver_queue_init(&t.drv, &t.mem, (features >> VIRTIO_F_RING_PACKED & 1) != 0,
			  (features >> VIRTIO_RING_F_EVENT_IDX & 1) != 0, size);
	setup_queue(queue, &t.drv);
	set(VIRTIO_PCI_COMMON_MSIX, 2, CONFIG_VECTOR);
	set_status(DRIVER_OK);
	assert_int_equal(status(), DRIVER_OK);
}

static uint64_t notify_address(uint16_t queue)
{
	unsigned cap = find_cap(VIRTIO_PCI_CAP_NOTIFY_CFG);

	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	return place(VIRTIO_PCI_CAP_NOTIFY_CFG) +
	       get(VIRTIO_PCI_COMMON_Q_NOFF, 2) * cfg(cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
}

static void add_request(void)
{
	static const struct driver_buf buf[] = {{DRIVER_BUFFERS, 4, false},
						{DRIVER_BUFFERS + 16, 4, true}};

	*(uint8_t *)driver_ptr(&t.drv, DRIVER_BUFFERS + 16) = 0;
	driver_add(&t.drv, buf, 2, false);
}

/* The request came back, with @answer in it. */
static void expect_answer(uint8_t answer)
{
	uint16_t id;
	uint32_t written;

	assert_true(driver_take(&t.drv, &id, &written));
	assert_int_equal(written, 1);
	assert_int_equal(*(uint8_t *)driver_ptr(&t.drv, DRIVER_BUFFERS + 16), answer);
}

/* ---- tests ---- */

static void identity(void **unused)
{
	unsigned cap;

	(void)unused;
	assert_int_equal(cfg(PCI_VENDOR_ID, 2), 0x1af4);
	assert_int_equal(cfg(PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_TYPE_CONSOLE);
	assert_int_equal(cfg(PCI_CLASS_REVISION, 4), 0x07800001);
	assert_int_equal(cfg(PCI_SUBSYSTEM_ID, 2), 0x1100);
	assert_int_equal(cfg(PCI_INTERRUPT_PIN, 1), 1);

	cap = find_cap(VIRTIO_PCI_CAP_COMMON_CFG);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LEN, 1), 16);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_BAR, 1), 4);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4), 56);
	cap = find_cap(VIRTIO_PCI_CAP_ISR_CFG);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_OFFSET, 4), 0x1000);
	cap = find_cap(VIRTIO_PCI_CAP_DEVICE_CFG);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4), 8);
	cap = find_cap(VIRTIO_PCI_CAP_NOTIFY_CFG);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LEN, 1), 20);
	assert_int_equal(cfg(cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4), 4 * QUEUES);
	assert_int_equal(get(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
}

static void features(void **unused)
{
	const uint64_t base = BIT(FEATURE_OWN) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
			      BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1) |
			      BIT(VIRTIO_F_RING_PACKED);

	(void)unused;
	assert_int_equal(offered(), base);
	set(VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
	assert_int_equal(get(VIRTIO_PCI_COMMON_DF, 4), 0);

	negotiate(base);
	assert_int_equal(status(), FEATURES_OK);
	assert_int_equal(t.echo.dev.driver_features, base);
	/* Fixed from here on. */
	choose(BIT(VIRTIO_F_VERSION_1));
	assert_int_equal(t.echo.dev.driver_features, base);
	assert_int_equal(get(VIRTIO_PCI_COMMON_GF, 4), base >> 32);

	negotiate(BIT(VIRTIO_F_VERSION_1) | BIT(6));
	assert_int_equal(status(), DEVICE);
	negotiate(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM));
	assert_int_equal(status(), DEVICE);
	negotiate(BIT(FEATURE_OWN));
	assert_int_equal(status(), DEVICE);
	/* The driver may try again with fewer. */
	choose(BIT(VIRTIO_F_VERSION_1));
	set(VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
	set(VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	assert_int_equal(get(VIRTIO_PCI_COMMON_GF, 4), 0);
	set_status(FEATURES_OK);
	assert_int_equal(status(), FEATURES_OK);
}

static void status_machine(void **unused)
{
	(void)unused;
	set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
	set_status(VIRTIO_CONFIG_S_DRIVER);
	assert_int_equal(status(), DEVICE); /* bits are not taken back */
	set_status(0x30 | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(status(), DEVICE); /* nor are these the driver's */

	/* DRIVER_OK needs FEATURES_OK. */
	set_status(DEVICE | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(status(), DEVICE);
	assert_int_equal(t.echo.nactivate, 0);

	negotiate(BIT(VIRTIO_F_VERSION_1));
	set_status(FEATURES_OK | VIRTIO_CONFIG_S_FAILED);
	set_status(DRIVER_OK);
	assert_int_equal(status(), FEATURES_OK | VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(t.echo.nactivate, 0);

	negotiate(BIT(VIRTIO_F_VERSION_1));
	assert_int_equal(t.echo.nreset, 0); /* it was never active */
	set_status(DRIVER_OK);
	set_status(DRIVER_OK);
	assert_int_equal(t.echo.nactivate, 1);
	assert_true(t.echo.dev.active);
	set_status(0);
	assert_int_equal(t.echo.nreset, 1);
	assert_false(t.echo.dev.active);
	assert_int_equal(t.echo.dev.driver_features, 0);

	/* A device that cannot start asks for a reset. */
	t.echo.activate_result = -ENOMEM;
	negotiate(BIT(VIRTIO_F_VERSION_1));
	set_status(DRIVER_OK);
	assert_int_equal(status(), DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(t.echo.dev.active);
	set_status(0);
	assert_int_equal(status(), 0);
}

static void queue_registers(void **unused)
{
	(void)unused;
	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, QUEUES);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	set(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);

	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 2, QUEUES);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), QUEUES);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 2, QUEUES + 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	set(VIRTIO_PCI_COMMON_MSIX, 2, 77);
	assert_int_equal(get(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);

	/* Too early: without features it is not known what kind of ring it is. */
	driver_queue_init(&t.drv, &t.mem, false, false, 16);
	setup_queue(1, &t.drv);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);

	negotiate(BIT(VIRTIO_F_VERSION_1));
	setup_queue(1, &t.drv);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), DRIVER_DESC);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_DESCHI, 4), 0);
	/* Fixed while it is enabled. */
	set(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	set(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0);
	set(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), DRIVER_DESC);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	/* 8 bytes at once. */
	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	bus_write(&t.mmio, place(VIRTIO_PCI_CAP_COMMON_CFG) + VIRTIO_PCI_COMMON_Q_AVAILLO, 8,
		  0x1122334455667788);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_AVAILHI, 4), 0x11223344);
	assert_int_equal(bus_read(&t.mmio,
				  place(VIRTIO_PCI_CAP_COMMON_CFG) + VIRTIO_PCI_COMMON_Q_AVAILLO,
				  8),
			 0x1122334455667788);
	set_status(0);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_AVAILHI, 4), 0);

	/* One that cannot be. */
	negotiate(BIT(VIRTIO_F_VERSION_1));
	t.drv.desc = DRIVER_LOW_BYTES;
	setup_queue(0, &t.drv);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(status(), FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	/* And nothing more until the reset. */
	t.drv.desc = DRIVER_DESC;
	setup_queue(1, &t.drv);
	assert_int_equal(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	set_status(DRIVER_OK);
	assert_int_equal(t.echo.nactivate, 0);
}

static const uint64_t ring_features[] = {
	0,
	BIT(VIRTIO_RING_F_EVENT_IDX),
	BIT(VIRTIO_F_RING_PACKED),
	BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX),
};

/* A request travels: doorbell, loop, device, message. */
static void requests(void **unused)
{
	(void)unused;
	enable_msix();
	for (unsigned i = 0; i < ARRAY_SIZE(ring_features); i++) {
		start(ring_features[i], 1, 16);
		assert_int_equal(t.irq.msi[t.pci.device[PCI_DEVFN(SLOT, 0)]->msix[2].msi.gsi].data,
				 0x42);
		t.echo.answer = (uint8_t)(i + 10);
		t.echo.nnotify[1] = 0;
		for (unsigned n = 0; n < 40; n++) {
			add_request();
			driver_interrupt_after(&t.drv, 1);
			if (!t.drv.event_idx) {
				driver_interrupts(&t.drv, true);
			}
			/* A device that has not run yet has asked for the first ring, too. */
			assert_true(driver_must_ring(&t.drv));
			assert_true(fake_irq_ring(&t.irq, notify_address(1)));
			assert_int_equal(t.echo.nnotify[1], n);
			turn();
			assert_int_equal(t.echo.nnotify[1], n + 1);
			expect_answer((uint8_t)(i + 10));
			assert_int_equal(fired(2), 1);
		}
		assert_int_equal(fired(0) + fired(1) + fired(3), 0);
		assert_int_equal(t.echo.nnotify[0] + t.echo.nnotify[2], 0);
	}
}

static void doorbells(void **unused)
{
	uint64_t bar, before;

	(void)unused;
	start(0, 0, 16);
	assert_int_equal(t.irq.ndoorbells, QUEUES);
	assert_int_equal(t.irq.doorbell[0].len, 0);

	/* They follow the BAR. */
	before = notify_address(2);
	bar = WINDOW + 0x100000;
	set_cfg(PCI_BASE_ADDRESS_4, 4, (uint32_t)bar);
	assert_int_equal(t.irq.ndoorbells, QUEUES);
	assert_int_equal(notify_address(2), bar + 0x3008);
	assert_false(fake_irq_ring(&t.irq, before));
	assert_true(fake_irq_ring(&t.irq, bar + 0x3000));
	add_request();
	turn();
	expect_answer(1);

	/* And go with it. A doorbell of a queue that is not enabled does nothing. */
	assert_true(fake_irq_ring(&t.irq, bar + 0x3004));
	turn();
	assert_int_equal(t.echo.nnotify[1], 0);
	set_cfg(PCI_COMMAND, 2, 0);
	assert_int_equal(t.irq.ndoorbells, 0);

	/* A provider that takes none: plain writes. */
	t.irq.refuse_doorbells = true;
	set_cfg(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(t.irq.ndoorbells, 0);
	add_request();
	bus_write(&t.mmio, bar + 0x3000, 2, 0);
	turn();
	expect_answer(1);
	bus_write(&t.mmio, bar + 0x3002, 2, 0); /* between two */
	bus_write(&t.mmio, bar + 0x300c, 2, 3); /* after the last */
	bus_write(&t.mmio, bar + 0x3ffe, 2, 3);
	turn();
	assert_int_equal(t.echo.nnotify[0], 2);
}

/* A doorbell that rings while the device is not active is not for it. */
static void not_active(void **unused)
{
	(void)unused;
	negotiate(BIT(VIRTIO_F_VERSION_1));
	driver_queue_init(&t.drv, &t.mem, false, false, 16);
	setup_queue(0, &t.drv);
	/* The provider does not even know of it; moving the BAR costs no system call. */
	assert_int_equal(t.irq.ndoorbells, 0);
	set_cfg(PCI_COMMAND, 2, 0);
	set_cfg(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(t.irq.ndoorbells, 0);
	bus_write(&t.mmio, notify_address(0), 2, 0);
	turn();
	assert_int_equal(t.echo.nnotify[0], 0);
	set_status(DRIVER_OK);
	assert_int_equal(t.irq.ndoorbells, QUEUES);
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	assert_int_equal(t.echo.nnotify[0], 1);
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	set_status(0);
	turn();
	assert_int_equal(t.echo.nnotify[0], 1);
}

static void broken(void **unused)
{
	const struct driver_buf bad = {DRIVER_LOW_BYTES, 4, true};

	(void)unused;
	enable_msix();
	start(0, 0, 16);
	driver_add(&t.drv, &bad, 1, false);
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	assert_int_equal(t.echo.nnotify[0], 1);
	assert_int_equal(status(), DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fired(CONFIG_VECTOR), 1);
	/* It stays still, and works again after a reset. */
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	assert_int_equal(t.echo.nnotify[0], 1);
	start(0, 0, 16);
	assert_int_equal(t.echo.nreset, 1);
	add_request();
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	expect_answer(1);
}

static void wires(void **unused)
{
	const unsigned gsi = GSI_PCI + SLOT;
	uint64_t isr = place(VIRTIO_PCI_CAP_ISR_CFG);

	(void)unused;
	start(0, 0, 16);
	assert_int_equal(bus_read(&t.mmio, isr, 1), 0);
	add_request();
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	assert_true(t.irq.wire[gsi]);
	virtio_lock(&t.echo.dev);
	virtio_notify_config(&t.echo.dev);
	virtio_unlock(&t.echo.dev);
	assert_int_equal(bus_read(&t.mmio, isr, 1), 3);
	assert_false(t.irq.wire[gsi]);
	assert_int_equal(bus_read(&t.mmio, isr, 1), 0);
	expect_answer(1);

	/* A reset lets go. */
	add_request();
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	assert_true(t.irq.wire[gsi]);
	set_status(0);
	assert_false(t.irq.wire[gsi]);
	assert_int_equal(bus_read(&t.mmio, isr, 1), 0);

	/* With messages there is no ISR, and without a vector no interrupt. */
	enable_msix();
	start(0, 0, 16);
	set(VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
	add_request();
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	expect_answer(1);
	assert_false(t.irq.wire[gsi]);
	assert_int_equal(bus_read(&t.mmio, isr, 1), 0);
	assert_int_equal(fired(0) + fired(1) + fired(2) + fired(3), 0);
}

static void configuration(void **unused)
{
	uint64_t at = place(VIRTIO_PCI_CAP_DEVICE_CFG);
	uint32_t generation = get(VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	(void)unused;
	assert_int_equal(bus_read(&t.mmio, at, 1), 0xc0);
	assert_int_equal(bus_read(&t.mmio, at, 4), 0x02c0);
	assert_int_equal(bus_read(&t.mmio, at + 8, 1), 0);
	assert_int_equal(bus_read(&t.mmio, at + 6, 4), 0);
	bus_write(&t.mmio, at, 8, 0xffeeddccbbaa9988);
	assert_int_equal(t.echo.nconfig_written, 1);
	assert_int_equal(bus_read(&t.mmio, at, 8), 0x0feeddcc000003c0);
	bus_write(&t.mmio, at + 6, 4, 0);
	bus_write(&t.mmio, at + 0xffc, 4, 0);
	assert_int_equal(t.echo.nconfig_written, 1);

	/* Changes are told to a driver that runs, and counted for one that reads. */
	enable_msix();
	virtio_lock(&t.echo.dev);
	virtio_notify_config(&t.echo.dev);
	virtio_unlock(&t.echo.dev);
	assert_int_equal(fired(CONFIG_VECTOR), 0);
	start(0, 0, 16);
	virtio_lock(&t.echo.dev);
	virtio_notify_config(&t.echo.dev);
	virtio_unlock(&t.echo.dev);
	assert_int_equal(fired(CONFIG_VECTOR), 1);
	assert_int_equal(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), (generation + 2) & 0xff);
}

/* The BAR, reached through configuration space. */
static void cfg_access(void **unused)
{
	unsigned cap = find_cap(VIRTIO_PCI_CAP_PCI_CFG);
	unsigned data = cap + 16;

	(void)unused;
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_LEN, 1), 20);
	set_cfg(cap + VIRTIO_PCI_CAP_BAR, 1, 4);
	set_cfg(cap + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_NUMQ);
	set_cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	assert_int_equal(cfg(data, 2), QUEUES);
	set_cfg(cap + VIRTIO_PCI_CAP_OFFSET, 4, VIRTIO_PCI_COMMON_STATUS);
	set_cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	set_cfg(data, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(status(), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	set_status(DEVICE);
	assert_int_equal(cfg(data, 1), DEVICE);

	/* Accesses that the BAR does not have. */
	set_cfg(cap + VIRTIO_PCI_CAP_BAR, 1, 1);
	set_cfg(data, 1, 0);
	assert_int_equal(status(), DEVICE);
	set_cfg(cap + VIRTIO_PCI_CAP_BAR, 1, 4);
	for (unsigned i = 0; i < 4; i++) {
		static const struct {
			uint32_t offset, len;
		} bad[] = {{20, 3}, {0x4000, 4}, {0xfffffffc, 4}, {18, 4}};

		set_cfg(cap + VIRTIO_PCI_CAP_OFFSET, 4, bad[i].offset);
		set_cfg(cap + VIRTIO_PCI_CAP_LENGTH, 4, bad[i].len);
		set_cfg(data, 4, 0);
		assert_int_equal(cfg(data, 4), 0);
		assert_int_equal(status(), DEVICE);
	}
	/* The rest of the capability is read-only. */
	set_cfg(cap, 4, 0);
	assert_int_equal(cfg(cap + VIRTIO_PCI_CAP_CFG_TYPE, 1), VIRTIO_PCI_CAP_PCI_CFG);
}

static void other_vcpu(void)
{
	/* The device is letting go of its requests: the driver must see that it is not done. */
	assert_int_equal(status(), DRIVER_OK);
	set_status(0);
	assert_int_equal(status(), DRIVER_OK);
	set(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	assert_int_not_equal(get(VIRTIO_PCI_COMMON_Q_SELECT, 2), 2);
	assert_false(t.echo.dev.active);
	assert_true(t.echo.queue[0].enabled);
	assert_true(fake_irq_ring(&t.irq, place(VIRTIO_PCI_CAP_NOTIFY_CFG)));
	turn();
}

static void reset_waits(void **unused)
{
	(void)unused;
	start(0, 0, 16);
	t.echo.in_reset = other_vcpu;
	set_status(0);
	assert_int_equal(status(), 0);
	assert_int_equal(t.echo.nreset, 1);
	assert_int_equal(t.echo.nnotify[0], 0);
	assert_false(t.echo.queue[0].enabled);
}

/* What finishes after the function is gone must not interrupt through it. */
static void destroy_at_work(void **unused)
{
	(void)unused;
	enable_msix();
	start(0, 0, 16);
	add_request();
	t.echo.late = true;
	virtio_pci_destroy(t.vp);
	t.vp = NULL;
	expect_answer(1);
}

static size_t save(uint8_t *buf, size_t size)
{
	struct state s;

	state_save_init(&s, buf, size);
	virtio_pci_state(t.vp, &s);
	assert_int_equal(s.error, 0);
	return s.pos;
}

static int load(const uint8_t *buf, size_t len)
{
	struct state s;

	state_load_init(&s, buf, len);
	virtio_pci_state(t.vp, &s);
	return s.error;
}

/* The device is saved with a request that it has not heard of, and loaded by another one. */
static void state(void **unused)
{
	uint8_t buf[4096];

	(void)unused;
	for (unsigned i = 0; i < ARRAY_SIZE(ring_features); i++) {
		uint64_t bar = WINDOW + 0x200000 + i * 0x10000;
		size_t len;

		enable_msix();
		set_cfg(PCI_BASE_ADDRESS_4, 4, (uint32_t)bar);
		start(ring_features[i], 1, 16);
		bus_write(&t.mmio, place(VIRTIO_PCI_CAP_DEVICE_CFG) + 4, 4, 0x01020304);
		t.echo.answer = 99;
		add_request();
		assert_true(fake_irq_ring(&t.irq, notify_address(1)));
		turn();
		expect_answer(99);
		assert_int_equal(fired(2), 1);
		if (t.drv.event_idx) {
			driver_interrupt_after(&t.drv, 1);
		}
		add_request();
		len = save(buf, sizeof(buf));

		virtio_pci_destroy(t.vp);
		create();
		assert_int_equal(load(buf, len), 0);
		assert_int_equal(status(), DRIVER_OK);
		assert_true(t.echo.dev.active);
		assert_int_equal(t.echo.nactivate, 1);
		assert_int_equal(t.echo.answer, 99);
		assert_int_equal(t.echo.config[0], 0xc0);
		assert_int_equal(t.echo.config[4], 4);
		assert_int_equal(place(VIRTIO_PCI_CAP_COMMON_CFG), bar);
		assert_int_equal(notify_address(1), bar + 0x3004);
		/* The ring that nobody heard is not lost. */
		turn();
		expect_answer(99);
		assert_int_equal(fired(2), 1);
		for (size_t n = 0; n < len; n++) {
			assert_int_not_equal(load(buf, n), 0);
			assert_false(t.echo.dev.active);
			assert_int_equal(t.echo.dev.status, 0);
		}
		/* Over what is there, too. */
		assert_int_equal(load(buf, len), 0);
		assert_int_equal(load(buf, len), 0);
		assert_int_equal(status(), DRIVER_OK);
	}
}

static void state_wires(void **unused)
{
	uint8_t buf[4096];
	size_t len;

	(void)unused;
	start(0, 0, 16);
	add_request();
	assert_true(fake_irq_ring(&t.irq, notify_address(0)));
	turn();
	len = save(buf, sizeof(buf));
	virtio_pci_destroy(t.vp);
	create();
	assert_int_equal(load(buf, len), 0);
	assert_true(t.irq.wire[GSI_PCI + SLOT]);
	assert_int_equal(bus_read(&t.mmio, place(VIRTIO_PCI_CAP_ISR_CFG), 1), 1);
	assert_false(t.irq.wire[GSI_PCI + SLOT]);
}

/* A stream that says what no device of this kind could have said. */
static void state_refuses(void **unused)
{
	uint8_t buf[4096];
	size_t len;

	(void)unused;
	for (unsigned i = 0; i < 10; i++) {
		struct virtio_device *dev = &t.echo.dev;
		struct virtqueue *vq = &t.echo.queue[1];
		uint64_t driver_features, offered_features = dev->features;
		uint8_t saved_status;

		start(0, 1, 16);
		driver_features = dev->driver_features;
		saved_status = dev->status;
		switch (i) {
		case 0:
			dev->driver_features |= BIT(6);
			break;
		case 1:
			dev->driver_features = 0;
			break;
		case 2:
			dev->status |= 0x10;
			break;
		case 3:
			dev->status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
			break;
		case 4:
			dev->status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
			break;
		case 5:
			vq->event_idx = true;
			break;
		case 6:
			vq->indirect = true;
			break;
		case 7:
			vq->desc = gpa(DRIVER_LOW_BYTES);
			break;
		case 8:
			dev->nqueues--;
			break;
		default:
			break; /* nothing wrong */
		}
		len = save(buf, sizeof(buf));
		dev->nqueues = QUEUES;
		dev->features = offered_features;
		dev->driver_features = driver_features;
		dev->status = saved_status;
		if (i < 9) {
			assert_int_not_equal(load(buf, len), 0);
			assert_int_equal(status(), 0);
			assert_false(dev->active);
		} else {
			assert_int_equal(load(buf, len), 0);
		}
		/* A device that cannot be started here. */
		if (i == 9) {
			t.echo.activate_result = -ENOMEM;
			assert_int_equal(load(buf, len), -ENOMEM);
			assert_false(dev->active);
		}
	}
}

static void create_refuses(void **unused)
{
	struct echo other;
	struct virtio_pci *vp = NULL;

	(void)unused;
	echo_init(&other);
	assert_int_equal(
		virtio_pci_create(&vp, &other.dev, &t.pci, PCI_DEVFN(SLOT, 0), &t.loop, &t.mem),
		-EEXIST);
	assert_true(other.destroyed);
	echo_init(&other);
	t.irq.msi_limit = QUEUES + 1 + 2;
	assert_int_equal(
		virtio_pci_create(&vp, &other.dev, &t.pci, PCI_DEVFN(SLOT + 1, 0), &t.loop, &t.mem),
		-ENOSPC);
	assert_true(other.destroyed);
	assert_null(vp);
	assert_int_equal(t.irq.nmsis, QUEUES + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(identity),	       TEST(features),	      TEST(status_machine),
		TEST(queue_registers), TEST(requests),	      TEST(doorbells),
		TEST(not_active),      TEST(broken),	      TEST(wires),
		TEST(configuration),   TEST(cfg_access),      TEST(reset_waits),
		TEST(state),	       TEST(state_wires),     TEST(state_refuses),
		TEST(create_refuses),  TEST(destroy_at_work),
	};

	alarm(120); /* a loop that is not woken would wait for ever */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
