/*
 * virtio-entropy: random bytes from the host's kernel.
 *
 * A guest may ask without end. A request gets at most 4 KiB (the specification lets a device give
 * less than was asked for) and one turn of the event loop serves 64 KiB; then others have theirs.
 *
 * Spec: VIRTIO 1.2, 5.4 "Entropy Device"
 */
#pragma once

#include "vmm/virtio/virtio.h"

/** entropy_create() - Return: 0 or -errno, logged. */
must_use int entropy_create(struct virtio_device **out);
