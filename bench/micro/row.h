/*
 * The rows, by topic. A new one is an entry in a table, and for what a guest does a routine in
 * payload.S beside it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bench/micro/result.h"

struct row {
	const char *name;
	const char *what; /* from where to where it is measured */
	const char *spec; /* where the manual or the API document tells of it */
	enum verdict (*measure)(const struct row *row, struct result *result);
	const uint8_t *routine; /* of payload.S, or NULL */
	unsigned variant;	/* what tells rows apart that share a function */
};

/* Each ends with a row without a name. */
extern const struct row exit_rows[];
extern const struct row apic_rows[];
extern const struct row wake_rows[];
extern const struct row memory_rows[];
extern const struct row create_rows[];
