/*
 * The table of connections of a socket device, and their life on the event loop.
 * Context of all: device lock held; loop thread unless said otherwise.
 */
#pragma once

#include "vmm/virtio/vsock_device.h"

/** vsock_link_find() - the connection between these ports, or NULL. */
struct vsock_link *vsock_link_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);

/**
 * vsock_link_new() - puts a connection over @fd, which is its own, also on errors, into the table.
 * Where the table is full, one goes that the host has closed and the guest does not let go.
 * Return: NULL if there is no room or memory.
 */
struct vsock_link *vsock_link_new(struct vsock *v, int fd, enum vsock_conn_state state);

/** vsock_link_update() - waits for what the connection wants now, or frees it if it is done. */
void vsock_link_update(struct vsock_link *l);

/** vsock_link_drop_all() - empties the table; the rest is vsock_link_free_dead(). Any thread. */
void vsock_link_drop_all(struct vsock *v);

/** vsock_link_free_dead() - frees what is out of the table. */
void vsock_link_free_dead(struct vsock *v);

/** vsock_link_free_port() - a host port that no connection uses. */
uint32_t vsock_link_free_port(struct vsock *v);

/** vsock_accept_on() - waits for connections of the host, or not. */
void vsock_accept_on(struct vsock *v, bool on);
