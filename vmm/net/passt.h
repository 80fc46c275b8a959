/*
 * Packets to and from `passt`, a program that gives a guest the host's network without privileges.
 * One passt is started for each device; frames go over a socket pair, each with its length in front
 * (32 bits, big-endian).
 *
 * passt takes and gives complete packets only. A checksum that the guest left to us is finished
 * here; a large TCP segment goes over as it is, as passt reads segments of any size up to 64 KiB.
 * See passt(1).
 */
#pragma once

#include "vmm/net/backend.h"

/**
 * passt_open() - starts passt and waits until it is ready.
 * @args: NULL, or further arguments for it, separated by spaces.
 * Return: 0, or -errno and logged what the user can do.
 */
must_use int passt_open(struct net_backend **out, const char *args, struct loop *loop);

/**
 * passt_attach() - the same over a connected stream socket that something else reads, and that
 * now belongs to the back end.
 */
must_use int passt_attach(struct net_backend **out, int fd, struct loop *loop);
