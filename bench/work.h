/*
 * What the guest that works (guest/work.c), its peer on the network (host/peer.c) and the one who
 * measures it (host/measure.c) agree about.
 */
#pragma once

#include <stdint.h>

/* On the console: BEGIN row|count|unit, then END. A row without a name is work for nothing. */
#define WORK_BEGIN "bench: begin "
#define WORK_END   "bench: end"

#define WORK_GUEST_ADDRESS "10.9.0.2"
#define WORK_PEER_ADDRESS  "10.9.0.1"
#define WORK_PORT	   7000

enum {
	WORK_SINK = 's',
	WORK_SOURCE = 'g',
	WORK_ECHO = 'e'
};

/* The first bytes of a connection say what the peer shall do. */
struct work_order {
	uint64_t count; /* bytes to take or to give */
	uint64_t mode;
};
