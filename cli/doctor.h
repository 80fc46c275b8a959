/*
 * `yado doctor`: what this machine offers a VM, why not, and what to do.
 */
#pragma once

#include <stdio.h>

#include "cli/host_facts.h"
#include "vmm/host/accel.h"

struct doctor_facts {
	struct accel_facts accel;
	struct host_facts host;
	const char *soft_engine;  /* how guests are run in software: soft/engine.h */
	char cpu_model[64];	  /* empty: unknown */
	char shmem_huge[16];	  /* the setting for shared memory; empty: unknown */
	uint64_t huge_pages_free; /* of the reserved pool */
	uint64_t huge_page_bytes; /* size of one of them; 0: no such pool */
	char passt[128];	  /* where it is; empty: nowhere in PATH */
	int tun_error;		  /* of opening /dev/net/tun: 0 or -errno */
};

/** doctor_probe() - looks at this machine; changes nothing. @soft_engine: the default one's name.
 */
void doctor_probe(struct doctor_facts *facts, const char *soft_engine);

/** doctor_report() - says it. */
void doctor_report(FILE *out, const struct doctor_facts *facts);

/** find_program() - looks for @name in PATH. Return: true, and where it is in @buf. */
bool find_program(const char *name, char *buf, size_t size);

/** chosen_word() - the word in brackets of a line such as "always [never] advise"; else empty. */
void chosen_word(const char *line, char *buf, size_t size);

/** cpuinfo_model() - the value of "model name" in @text, of /proc/cpuinfo; else empty. */
void cpuinfo_model(const char *text, char *buf, size_t size);
