/*
 * Does a configuration make sense, on this host? Asked before anything is started.
 */
#pragma once

#include "cli/host_facts.h"
#include "vmm/config.h"

/**
 * config_check() - refuses what cannot work; warns of what may not.
 * What only the part that uses it can judge (is the kernel a kernel, the disk a disk) is not
 * looked at here.
 * Return: 0 or -EINVAL, and one line on stderr.
 */
must_use int config_check(const struct vm_config *config, const struct host_facts *host);

/**
 * config_same_file() - are both paths one file? By the inode; where there is none yet, or not to be
 * seen, by the name.
 */
bool config_same_file(const char *a, const char *b);
