#include "vmm/board/bus.h"

#include <errno.h>
#include <string.h>

#include "lib/base/check.h"

void bus_init(struct bus *bus)
{
	pthread_rwlockattr_t attr;

	*bus = (struct bus){0};
	check(pthread_rwlockattr_init(&attr) == 0);
	/* Many vCPUs that read all the time shall not keep one from moving a BAR. */
	check(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) ==
	      0);
	check(pthread_rwlock_init(&bus->lock, &attr) == 0);
	pthread_rwlockattr_destroy(&attr);
}

void bus_fini(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

/* How many ranges start at or below @addr; the last of them is the only one that can hold it. */
static unsigned count_below(const struct bus *bus, uint64_t addr)
{
	unsigned low = 0;
	unsigned high = bus->nranges;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (bus->range[mid].base <= addr) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return low;
}

static int insert(struct bus *bus, const struct bus_range *new)
{
	unsigned at = count_below(bus, new->base);

	if (at > 0) {
		const struct bus_range *below = &bus->range[at - 1];

		if (new->base - below->base < below->len) {
			return -EEXIST;
		}
	}
	if (at < bus->nranges && bus->range[at].base - new->base < new->len) {
		return -EEXIST;
	}
	if (bus->nranges == BUS_RANGES_MAX) {
		return -ENOSPC;
	}
	memmove(&bus->range[at + 1], &bus->range[at], (bus->nranges - at) * sizeof(bus->range[0]));
	bus->range[at] = *new;
	bus->nranges++;
	return 0;
}

int bus_map(struct bus *bus, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev)
{
	const struct bus_range new = {.base = base, .len = len, .ops = ops, .dev = dev};
	uint64_t end;
	int r;

	if (len == 0 || !range_end(base, len, &end)) {
		return -EINVAL;
	}
	pthread_rwlock_wrlock(&bus->lock);
	r = insert(bus, &new);
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

void bus_unmap(struct bus *bus, uint64_t base)
{
	pthread_rwlock_wrlock(&bus->lock);
	unsigned at = count_below(bus, base);

	if (at > 0 && bus->range[at - 1].base == base) {
		memmove(&bus->range[at - 1], &bus->range[at],
			(bus->nranges - at) * sizeof(bus->range[0]));
		bus->nranges--;
	}
	pthread_rwlock_unlock(&bus->lock);
}

/* A copy of the range that holds the whole access, so that its device is called without the lock.
 */
static bool find(struct bus *bus, uint64_t addr, unsigned len, struct bus_range *found)
{
	bool hit = false;

	pthread_rwlock_rdlock(&bus->lock);
	unsigned at = count_below(bus, addr);

	if (at > 0) {
		*found = bus->range[at - 1];
		hit = range_inside(addr, len, found->base, found->len);
	}
	pthread_rwlock_unlock(&bus->lock);
	return hit;
}

/* The next piece of @len bytes that is of a size devices know. */
static unsigned piece(unsigned len)
{
	return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static uint64_t low_bytes(uint64_t v, unsigned len)
{
	return len >= 8 ? v : v & ((UINT64_C(1) << (8 * len)) - 1);
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned len)
{
	struct bus_range r;
	uint64_t value = 0;

	check(len >= 1 && len <= 8);
	if (!find(bus, addr, len, &r)) {
		return low_bytes(UINT64_MAX, len);
	}
	for (unsigned done = 0; done < len;) {
		unsigned n = piece(len - done);
		uint64_t part = r.ops->read(r.dev, addr - r.base + done, n);

		value |= low_bytes(part, n) << (8 * done);
		done += n;
	}
	return value;
}

void bus_write(struct bus *bus, uint64_t addr, unsigned len, uint64_t value)
{
	struct bus_range r;

	check(len >= 1 && len <= 8);
	if (!find(bus, addr, len, &r)) {
		return;
	}
	for (unsigned done = 0; done < len;) {
		unsigned n = piece(len - done);

		r.ops->write(r.dev, addr - r.base + done, n, low_bytes(value >> (8 * done), n));
		done += n;
	}
}
