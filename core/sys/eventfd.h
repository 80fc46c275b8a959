/*
 * Eventfds: counters to wait for. KVM's irqfds and ioeventfds are made of them: core/kvm signals
 * them, and hears of them by eventfd_watch().
 */
#pragma once

#include "core/sys/file.h"
#include "core/task/wait.h"
#include "lib/base/types.h"

/** eventfd_is() - is the file an eventfd? */
bool eventfd_is(const struct file *f);

/** eventfd_signal() - adds @count to it (as far as the counter goes) and wakes who waits.
 * Context: any. */
void eventfd_signal(struct file *f, uint64_t count);

/** eventfd_watch() - @fn is called with READY_IN each time it is signalled, until wait_remove().
 * The caller holds the file. */
void eventfd_watch(struct file *f, struct waiter *w, waiter_fn *fn);

/** eventfd_take_some() - for a watch's fn: empties it if there is something, but not so much that a
 * writer may be waiting for room, which eventfd_take() would have to wake. Return: is it done? */
bool eventfd_take_some(struct file *f);

/** eventfd_take() - if there is something, makes it so little that eventfd_take_some() takes it,
 * and calls the watch's fn. Context: any without its queue's lock: not within a watch's fn. */
void eventfd_take(struct file *f, struct waiter *w);
