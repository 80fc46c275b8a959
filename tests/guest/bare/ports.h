/* How a bare payload talks to what runs it: ports that QEMU's test devices have, too. */
#pragma once

/* Bytes written are text for people (QEMU: -debugcon). */
#define BARE_PORT_TEXT 0xe9

/* A 32-bit write of a verdict ends the machine (QEMU: -device isa-debug-exit,iobase=0xf4, whose
 * exit status is then 2 * verdict + 1). */
#define BARE_PORT_END 0xf4

/* A 32-bit write tells a driving case how far the payload is; others take no notice. */
#define BARE_PORT_SYNC 0x1e0

enum bare_verdict {
	BARE_PASSED = 1,
	BARE_FAILED = 2,
	BARE_SKIPPED = 3,
};
