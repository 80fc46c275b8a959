/*
 * What the machine under yado has: asked once, and handed to whoever judges by it.
 */
#pragma once

#include "lib/base/types.h"

struct host_facts {
	uint64_t memory_bytes;	  /* RAM; 0: unknown */
	uint64_t available_bytes; /* what could be had without swapping; 0: unknown */
	unsigned cpus;		  /* that it may run on, as nproc(1) counts; 0: unknown */
};

/** host_facts_read() - asks the kernel; works without /proc, where it knows less. */
void host_facts_read(struct host_facts *facts);

/**
 * meminfo_value() - a line of /proc/meminfo.
 * @text: the file. @name: such as "MemAvailable".
 * Return: bytes for lines in kB, the plain number for others, 0 without such a line.
 */
uint64_t meminfo_value(const char *text, const char *name);

/** read_text() - the beginning of the file at @path, NUL-terminated; empty if there is none.
 * Return: was there a file? */
bool read_text(const char *path, char *buf, size_t size);
