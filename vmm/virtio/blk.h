/*
 * virtio-blk: a disk. The loop takes requests off the queues and hands them to the disk's worker
 * threads (vmm/block/pool.h), which do the I/O and give them back.
 *
 * When the host has no space left for what the guest writes, the request is not failed: it is
 * kept, the VM is asked to pause, and when it goes on the request is tried again.
 *
 * Spec: VIRTIO 1.2, 5.2 "Block Device"
 */
#pragma once

#include "vmm/config.h"
#include "vmm/virtio/virtio.h"

/**
 * blk_create() - a disk for the guest, on the file or device that @config names.
 * @config: its strings are kept, not copied.
 * @pause: called when the host is full: stop the vCPUs, tell the user @reason. It is called on a
 * worker's thread without locks, and must not wait for the disk. Once until blk_resume(). With NULL
 * the guest gets an I/O error instead.
 * Return: 0 or -errno, logged.
 */
must_use int blk_create(struct virtio_device **out, const struct disk_config *config,
			void (*pause)(void *ctx, const char *reason), void *ctx);

/**
 * blk_drain() - finishes what was begun and begins nothing more until blk_resume(). Call it after
 * the vCPUs have stopped and before the VM is saved. Requests that are kept stay so, and are saved.
 * Context: any thread, no lock; waits.
 */
void blk_drain(struct virtio_device *dev);

/**
 * blk_resume() - tries the kept requests again and looks at all queues. Call it whenever the vCPUs
 * start to run again: after a pause, after blk_drain(), and after a state was loaded.
 * Context: any thread, no lock.
 */
void blk_resume(struct virtio_device *dev);
