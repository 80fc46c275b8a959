#include "tests/fake_irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/check.h"

static void set_wire(void *ctx, unsigned pin, bool level)
{
	struct irq *irq = ctx;

	irq->wire[pin] = level;
	irq->wire_changes[pin]++;
}

struct irq_line irq_wire(struct irq *irq, unsigned gsi)
{
	check(gsi < FAKE_WIRES);
	return (struct irq_line){.set = set_wire, .ctx = irq, .pin = gsi};
}

int irq_msi_create(struct irq *irq, struct irq_msi *msi)
{
	unsigned gsi = 0;

	if (irq->msi_limit != 0 && irq->nmsis == irq->msi_limit) {
		return -ENOSPC;
	}
	while (irq->msi[gsi].exists) {
		gsi++;
		check(gsi < FAKE_MSIS);
	}
	irq->msi[gsi].exists = true;
	irq->msi[gsi].sets = 0;
	irq->nmsis++;
	msi->gsi = gsi;
	msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(msi->fd >= 0);
	return 0;
}

void irq_msi_destroy(struct irq *irq, struct irq_msi *msi)
{
	check(irq->msi[msi->gsi].exists);
	irq->msi[msi->gsi].exists = false;
	irq->nmsis--;
	close(msi->fd);
}

void irq_msi_set(struct irq *irq, struct irq_msi *msi, uint64_t addr, uint32_t data)
{
	check(irq->msi[msi->gsi].exists);
	irq->msi[msi->gsi].addr = addr;
	irq->msi[msi->gsi].data = data;
	irq->msi[msi->gsi].sets++;
}

void irq_msi_trigger(const struct irq_msi *msi)
{
	check(eventfd_write(msi->fd, 1) == 0);
}

uint64_t fake_irq_fired(const struct irq_msi *msi)
{
	eventfd_t n;

	return eventfd_read(msi->fd, &n) == 0 ? n : 0;
}

int irq_doorbell_add(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd)
{
	check(datamatch == NULL);
	if (irq->refuse_doorbells || irq->ndoorbells == FAKE_DOORBELLS) {
		return -ENOSPC;
	}
	irq->doorbell[irq->ndoorbells].addr = addr.v;
	irq->doorbell[irq->ndoorbells].len = len;
	irq->doorbell[irq->ndoorbells].fd = fd;
	irq->ndoorbells++;
	return 0;
}

void irq_doorbell_del(struct irq *irq, gpa_t addr, unsigned len, const uint64_t *datamatch, int fd)
{
	check(datamatch == NULL);
	for (unsigned i = 0; i < irq->ndoorbells; i++) {
		if (irq->doorbell[i].addr == addr.v && irq->doorbell[i].len == len &&
		    irq->doorbell[i].fd == fd) {
			irq->doorbell[i] = irq->doorbell[--irq->ndoorbells];
			return;
		}
	}
	check(false); /* there is none such */
}

bool fake_irq_ring(struct irq *irq, uint64_t addr)
{
	for (unsigned i = 0; i < irq->ndoorbells; i++) {
		if (irq->doorbell[i].addr == addr) {
			check(eventfd_write(irq->doorbell[i].fd, 1) == 0);
			return true;
		}
	}
	return false;
}
