/*
 * /dev: null, zero, full, urandom. Others add theirs (console.h, core/kvm).
 */
#pragma once

#include "lib/base/types.h"

struct node_ops;

/** dev_init() - makes /dev. Return: 0, -errno. */
must_use int dev_init(void);

/** dev_add() - a character device: @ops has open() and f_ops. Return: 0, -errno. */
must_use int dev_add(const char *path, unsigned major, unsigned minor, const struct node_ops *ops);
