/*
 * /dev/kvm: lib/kvm over this kernel's services, with core/svm below.
 */
#pragma once

#include "lib/base/types.h"

/**
 * kvm_start() - makes /dev/kvm, if this machine can run guests; else says why not.
 * Return: 0; -ENODEV: there is no /dev/kvm; -errno.
 * Context: start-up; all CPUs run, dev_init() was called.
 */
must_use int kvm_start(void);
