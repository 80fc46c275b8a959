/*
 * Runs a fuzzer's entry point on every file of a directory, without a fuzzer: what was once found
 * must not come back, whichever compiler builds it.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/input.h"

static void replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	long size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) {
		perror(path);
		exit(1);
	}
	rewind(f);
	/* Exactly as long as the file, so that a read past it is seen. */
	data = malloc((size_t)size);
	if (size > 0 && (data == NULL || fread(data, (size_t)size, 1, f) != 1)) {
		perror(path);
		exit(1);
	}
	fclose(f);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	unsigned n = 0;

	if (dir == NULL) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 1;
	}
	while ((entry = readdir(dir)) != NULL) {
		char path[PATH_MAX];

		if (entry->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
			replay(path);
			n++;
		}
	}
	closedir(dir);
	printf("%u inputs\n", n);
	return n > 0 ? 0 : 1;
}
