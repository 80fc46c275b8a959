/*
 * A hostile driver of one virtqueue, for libFuzzer: the input chooses the kind and place of the
 * ring, then takes steps between which it writes anything into guest RAM, and fills RAM. RAM is
 * exactly as large as it says, so that the address sanitizer sees what goes past it. What a device
 * relies on is checked: the form of a request, and how many there can be.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/check.h"
#include "tests/fuzz/input.h"
#include "vmm/virtio/queue.h"

#define LOW_BYTES  (8 * KIB)
#define HIGH_BASE  (UINT64_C(4) << 30)
#define HIGH_BYTES (4 * KIB)
#define SIZE_MAX_Q 64
#define IOV_MAX_Q  80
#define STEPS_MAX  2000

struct request {
	struct iovec iov[IOV_MAX_Q];
	struct vq_chain chain;
};

static struct guest_memory mem;
static struct virtqueue vq;
static struct request out[SIZE_MAX_Q]; /* in the order in which they were popped */
static unsigned nout;
static bool newest_out; /* the last of them is the last that was popped */
static unsigned iov_max;

static void add_region(uint64_t base, uint64_t len)
{
	struct guest_region *r = &mem.region[mem.nregions++];

	*r = (struct guest_region){.base = gpa(base), .len = len};
	r->host = aligned_alloc(4096, len);
	check(r->host != NULL);
}

static gpa_t next_address(struct input *in)
{
	uint32_t v = input_take(in, 2);

	return gpa((v & 0x8000) != 0 ? HIGH_BASE + (v & 0x7fff) : v);
}

/* A new ring. Return: false if it cannot be one. */
static bool enable(struct input *in)
{
	uint32_t kind = input_take(in, 1);

	vq_reset(&vq);
	nout = 0;
	newest_out = false;
	vq.packed = (kind & 1) != 0;
	vq.event_idx = (kind & 2) != 0;
	vq.indirect = (kind & 4) != 0;
	vq.size = (uint16_t)input_take(in, 1);
	if ((kind & 8) != 0) {
		vq.size = (uint16_t)(1U << (vq.size % 7));
	}
	vq.desc = next_address(in);
	vq.driver = next_address(in);
	vq.device = next_address(in);
	if ((kind & 16) != 0) {
		vq.desc.v &= ~UINT64_C(15);
		vq.driver.v &= ~UINT64_C(3);
		vq.device.v &= ~UINT64_C(3);
	}
	iov_max = input_take(in, 1) % (IOV_MAX_Q + 1);
	return vq_enable(&vq) == 0;
}

/* The buffers lie in RAM: use them, which may overwrite the ring itself. */
static void use(const struct vq_chain *c, uint8_t fill)
{
	uint64_t out_len = 0, in_len = 0;
	volatile uint8_t sum = 0;

	check(c->nout + c->nin <= c->max);
	for (unsigned i = 0; i < c->nout; i++) {
		const uint8_t *p = c->iov[i].iov_base;

		check(c->iov[i].iov_len > 0);
		out_len += c->iov[i].iov_len;
		for (size_t n = 0; n < c->iov[i].iov_len; n++) {
			sum = (uint8_t)(sum + p[n]);
		}
	}
	for (unsigned i = 0; i < c->nin; i++) {
		check(vq_in(c)[i].iov_len > 0);
		in_len += vq_in(c)[i].iov_len;
		memset(vq_in(c)[i].iov_base, fill, vq_in(c)[i].iov_len);
	}
	check(out_len == c->out_len && in_len == c->in_len);
}

static void pop(uint8_t fill)
{
	struct request probe = {.chain = {.iov = probe.iov, .max = iov_max}};
	int r = vq_pop(&vq, &probe.chain);

	if (r == 1) {
		check(nout < vq.size && nout < SIZE_MAX_Q); /* what devices count on */
		out[nout] = probe;
		out[nout].chain.iov = out[nout].iov;
		use(&out[nout].chain, fill);
		nout++;
		newest_out = true;
	} else {
		check(r == 0 || vq.broken);
	}
}

static void push(unsigned which, uint32_t written)
{
	if (nout == 0) {
		return;
	}
	which %= nout;
	vq_push(&vq, &out[which].chain, written);
	nout--;
	newest_out = newest_out && which != nout;
	for (unsigned i = which; i < nout; i++) {
		out[i] = out[i + 1];
		out[i].chain.iov = out[i].iov;
	}
}

static void unpop(void)
{
	if (nout > 0 && newest_out) {
		nout--;
		vq_unpop(&vq, &out[nout].chain);
	}
}

/* Saves, changes a byte of it, and loads. */
static void reload(struct input *in)
{
	uint8_t buf[256];
	struct state s;
	size_t len;

	state_save_init(&s, buf, sizeof(buf));
	vq_state(&vq, &s);
	check(s.error == 0);
	len = s.pos;
	buf[input_take(in, 1) % len] ^= (uint8_t)input_take(in, 1);
	state_load_init(&s, buf, len);
	vq_state(&vq, &s);
	/* A device that had requests asks how many there can be. */
	nout = 0;
	newest_out = false;
	check(vq_in_flight(&vq) <= vq.size);
}

static void poke(struct input *in)
{
	gpa_t addr = next_address(in);
	uint8_t value[4];
	uint32_t n = 1 + input_take(in, 1) % 4;
	uint8_t *p = guest_ptr(&mem, addr, n);

	for (unsigned i = 0; i < n; i++) {
		value[i] = (uint8_t)input_take(in, 1);
	}
	if (p != NULL) {
		memcpy(p, value, n);
	}
}

static void step(struct input *in)
{
	uint32_t op = input_take(in, 1);

	switch (op % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
		pop((uint8_t)(op >> 4));
		break;
	case 4:
	case 5:
	case 6:
		push(op >> 4, op);
		break;
	case 7:
		unpop();
		break;
	case 8:
		vq_doorbell(&vq, (op >> 4 & 1) != 0);
		break;
	case 9:
		vq_wants_interrupt(&vq);
		break;
	case 10:
		reload(in);
		break;
	case 11:
		enable(in);
		break;
	default:
		poke(in);
		break;
	}
	check(vq_in_flight(&vq) <= vq.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	mem = (struct guest_memory){.fd = -1};
	add_region(0, LOW_BYTES);
	add_region(HIGH_BASE, HIGH_BYTES);
	for (unsigned r = 0; r < mem.nregions; r++) {
		struct guest_region *region = &mem.region[r];

		memset(region->host, 0, region->len);
		memcpy(region->host, data, MIN(size, region->len));
	}
	vq = (struct virtqueue){.mem = &mem, .size_max = SIZE_MAX_Q, .size = SIZE_MAX_Q};
	if (enable(&in)) {
		for (unsigned i = 0; in.size > 0 && i < STEPS_MAX; i++) {
			step(&in);
		}
	}
	for (unsigned r = 0; r < mem.nregions; r++) {
		free(mem.region[r].host);
	}
	return 0;
}
