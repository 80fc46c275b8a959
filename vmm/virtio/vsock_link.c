#include "vmm/virtio/vsock_link.h"

#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/virtio/vsock_packet.h"

/* Where host ports for the host's own connections begin, above those that programs choose. */
#define PORT_FIRST (UINT32_C(1) << 30)

struct vsock_link *vsock_link_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < v->nlinks; i++) {
		const struct vsock_conn *c = &v->link[i]->conn;

		if (c->guest_port == guest_port && c->host_port == host_port &&
		    (c->state == VSOCK_REQUESTED || c->state == VSOCK_OPEN)) {
			return v->link[i];
		}
	}
	return NULL;
}

uint32_t vsock_link_free_port(struct vsock *v)
{
	bool used;

	/* Ends, as there are fewer connections than ports. */
	do {
		if (v->next_port < PORT_FIRST || v->next_port >= 2 * PORT_FIRST) {
			v->next_port = PORT_FIRST;
		}
		used = false;
		for (unsigned i = 0; i < v->nlinks; i++) {
			used = used || v->link[i]->conn.host_port == v->next_port;
		}
		v->next_port++;
	} while (used);
	return v->next_port - 1;
}

void vsock_accept_on(struct vsock *v, bool on)
{
	if (v->accepting != on) {
		v->accepting = on;
		loop_mod(v->dev.loop, &v->accept, on ? EPOLLIN : 0);
	}
}

/* Takes it out of the table. Context: any thread. */
static void drop(struct vsock *v, unsigned index)
{
	struct vsock_link *l = v->link[index];

	v->link[index] = v->link[--v->nlinks];
	v->link[v->nlinks] = NULL;
	l->dead = true;
	l->next = v->dead;
	v->dead = l;
}

void vsock_link_free_dead(struct vsock *v)
{
	while (v->dead != NULL) {
		struct vsock_link *l = v->dead;

		v->dead = l->next;
		if (l->on_loop) {
			loop_del(v->dev.loop, &l->source);
		}
		vsock_conn_fini(&l->conn);
		free(l);
	}
}

void vsock_link_drop_all(struct vsock *v)
{
	while (v->nlinks > 0) {
		drop(v, v->nlinks - 1);
	}
}

/* The loop has something for a connection. */
static void link_ready(void *arg, uint32_t events)
{
	struct vsock_link *l = arg;
	struct vsock *v = l->vsock;
	struct vsock_conn *c = &l->conn;

	virtio_lock(&v->dev);
	if (l->dead) {
		goto out;
	}
	if ((events & EPOLLOUT) != 0) {
		vsock_conn_writable(c);
	}
	if (c->state == VSOCK_HELLO && (events & EPOLLIN) != 0) {
		int ret = vsock_conn_hello(c);

		if (ret < 0) {
			c->state = VSOCK_ENDED;
		} else if (ret > 0) {
			c->host_port = vsock_link_free_port(v);
			c->state = VSOCK_REQUESTED;
			c->due_request = true;
		}
	} else if ((events & EPOLLIN) != 0) {
		c->readable = true;
	}
	if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		/* It cannot be masked, and it will not change any more. */
		l->on_loop = false;
		loop_del(v->dev.loop, &l->source);
		vsock_conn_hang_up(c);
	}
	vsock_link_update(l);
	vsock_rx(v);
	vsock_link_free_dead(v);
out:
	virtio_unlock(&v->dev);
}

/* Room for one more: by ending a connection that only a guest's mistake keeps. */
static bool make_room(struct vsock *v)
{
	for (unsigned i = 0; i < v->nlinks && v->nlinks == VSOCK_LINKS_MAX; i++) {
		const struct vsock_conn *c = &v->link[i]->conn;

		if (c->hung_up && c->told_closed != 0 &&
		    vsock_send_rst(v, VMADDR_CID_HOST, c->host_port, v->config.guest_cid,
				   c->guest_port)) {
			drop(v, i);
		}
	}
	return v->nlinks < VSOCK_LINKS_MAX;
}

struct vsock_link *vsock_link_new(struct vsock *v, int fd, enum vsock_conn_state state)
{
	struct vsock_link *l = NULL;

	vsock_link_free_dead(v);
	if (make_room(v)) {
		l = calloc(1, sizeof(*l));
	}
	if (l == NULL) {
		close(fd);
		return NULL;
	}
	if (vsock_conn_init(&l->conn, fd, state) != 0) {
		free(l);
		return NULL;
	}
	l->vsock = v;
	l->source = (struct loop_source){.fd = fd, .fn = link_ready, .arg = l};
	l->events = vsock_conn_events(&l->conn);
	if (loop_add(v->dev.loop, &l->source, l->events) != 0) {
		vsock_conn_fini(&l->conn);
		free(l);
		return NULL;
	}
	l->on_loop = true;
	v->link[v->nlinks++] = l;
	return l;
}

void vsock_link_update(struct vsock_link *l)
{
	struct vsock *v = l->vsock;
	uint32_t events = vsock_conn_events(&l->conn);

	if (vsock_conn_done(&l->conn)) {
		for (unsigned i = 0; i < v->nlinks; i++) {
			if (v->link[i] == l) {
				drop(v, i);
				return;
			}
		}
	}
	if (l->on_loop && l->events != events) {
		l->events = events;
		loop_mod(v->dev.loop, &l->source, events);
	}
}
