/*
 * Providers with one fault each: between the case and the real provider stands a filter that makes
 * one thing wrong. A case that still passes does not test what it says. Each fault names the case
 * that must catch it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tests/kvm/door.h"

struct fault {
	const char *name;      /* "lost_interrupt" */
	const char *case_name; /* the case that must fail */
	door_filter *filter;   /* what the provider does instead; NULL: nothing else */
	/* A global symbol of the bare image, and how many bytes from there on become NOPs, for
	 * faults of a CPU that does not do what an instruction says. NULL: none. */
	const char *symbol;
	size_t symbol_bytes;
};

/* Ends a table. */
#define FAULT_END                         \
	{                                 \
		NULL, NULL, NULL, NULL, 0 \
	}

/* The tables, an area or some a file. */
extern const struct fault api_faults[];
extern const struct fault io_faults[];
extern const struct fault irq_faults[];
extern const struct fault state_faults[];

/** fault_listed() - fault number @index, or NULL past the last one. */
const struct fault *fault_listed(size_t index);

/** fault_find() - by its name; NULL if there is none. */
const struct fault *fault_find(const char *name);

/** fault_put_in() - from now on this process's provider has the fault. */
void fault_put_in(const struct fault *fault);

/** fault_patch() - applies what of the fault is in the image to RAM that holds it. */
void fault_patch(uint8_t *ram);
