/*
 * The virtio console: one port, with the size of its window and emergency output.
 * Spec: VIRTIO 1.2, 5.3 "Console Device"
 */
#pragma once

#include "vmm/dev/char_backend.h"
#include "vmm/virtio/virtio.h"

/**
 * vconsole_create() - a console whose bytes go to and come from @be, which outlives it.
 * Sets the callbacks of @be.
 * Return: 0 or -errno, logged. The transport destroys it.
 */
must_use int vconsole_create(struct virtio_device **out, struct char_backend *be);

/**
 * vconsole_resize() - the size of the window, in characters; 0 and 0: unknown, as at first.
 * Context: any thread, no lock.
 */
void vconsole_resize(struct virtio_device *dev, uint16_t columns, uint16_t rows);
