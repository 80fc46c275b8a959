/*
 * The guest of `yado run debian`: Debian's kernel and a small root disk, made from Debian's
 * packages by mmdebstrap. It stands in ${XDG_DATA_HOME:-~/.local/share}/yado/debian.
 */
#pragma once

#include "lib/base/types.h"

/** Where the guest's parts are, and what its kernel wants to be told. */
struct debian_guest {
	char *kernel;
	char *initrd;
	char *disk; /* raw, the VM's own, writable */
	char *cmdline;
};

/**
 * debian_prepare() - makes the guest unless it is there, which takes a minute and a network.
 * @out: filled in on success; given back by debian_guest_fini().
 * It shows its progress on stderr. A run that is interrupted leaves nothing that a later one
 * takes for a guest.
 * Return: 0; -ENOENT: a program is missing, -EBUSY: another yado is at it, or another -errno.
 * What to do about it has been said.
 * Context: before threads are started: it forks, and waits for the children.
 */
int debian_prepare(struct debian_guest *out) must_use;

/** debian_guest_fini() - gives back what debian_prepare() allocated. */
void debian_guest_fini(struct debian_guest *guest);
