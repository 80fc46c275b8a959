/*
 * How eager the loop's thread is to take a CPU from a vCPU of its own guest.
 *
 * Where both share a CPU, an eager loop runs at each doorbell and finds one request: the best there
 * is for a guest that waits for each answer. A guest with more to ask gets more done if the loop
 * has the patience to let it ask all of it: then one wake-up, one switch and one interrupt serve
 * many requests. But a patient loop waits for a guest that computes, too, and then each request
 * takes milliseconds. Which of the two it is shows by trying only: now and then patience is tried
 * for some requests, and kept as long as they take clearly less time with it. With a CPU for each
 * thread there is no difference, and the loop stays eager.
 */
#pragma once

#include "lib/base/types.h"

enum pace_step {
	PACE_EAGER,
	PACE_TRIAL,   /* patience is tried */
	PACE_PATIENT, /* patience has won */
};

struct pace {
	enum pace_step step;
	uint64_t last_ns;     /* the last call */
	uint64_t began_ns;    /* the window: what is counted at a time */
	unsigned requests;    /* in the window */
	unsigned calls;	      /* in the window */
	uint64_t eager_ns;    /* what PACE_WINDOW requests took with an eager loop */
	uint64_t patient_ns;  /* and with a patient one */
	uint64_t next_try_ns; /* when it is worthwhile to try the other way again */
};

#define PACE_WINDOW 64 /* requests */

/** pace_init() - eager, without experience. */
void pace_init(struct pace *p);

/**
 * pace_served() - the loop was woken by a doorbell and took requests.
 * @requests: how many; 0 is a doorbell for nothing.
 * @now_ns: monotonic time, ns.
 * Return: shall it be patient from now on?
 */
must_use bool pace_served(struct pace *p, unsigned requests, uint64_t now_ns);
