/*
 * sweep DEVICE PART...: runs parts of the sweep, one after the other, in this process, on the
 * provider named, or on that of a path. It ends with 0 if each came to its end.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sweep/sweep.h"

static void opcodes_16(void)
{
	sweep_opcodes(16);
}

static void opcodes_32(void)
{
	sweep_opcodes(32);
}

static void opcodes_64(void)
{
	sweep_opcodes(64);
}

static void interrupts(void)
{
	sweep_interrupts(false);
}

static void interrupts_x2apic(void)
{
	sweep_interrupts(true);
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{"opcodes-16", opcodes_16},
	{"opcodes-32", opcodes_32},
	{"opcodes-64", opcodes_64},
	{"msrs", sweep_msrs},
	{"ports", sweep_ports},
	{"places", sweep_places},
	{"svm", sweep_svm},
	{"interrupts", interrupts},
	{"interrupts-x2apic", interrupts_x2apic},
	{"storm", sweep_storm},
	{"triple", sweep_triple},
};

static bool run(const char *name)
{
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(name, parts[i].name) == 0) {
			parts[i].run();
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: sweep DEVICE PART...\n");
		return 2;
	}
	door_set_path(argv[1]);
	for (int i = 2; i < argc; i++) {
		if (!run(argv[i])) {
			fprintf(stderr, "sweep: there is no part \"%s\"\n", argv[i]);
			return 2;
		}
	}
	return 0;
}
