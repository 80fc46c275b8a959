/*
 * In a guest: has a disk write zeroes by itself.
 *
 *   zero FILE OFFSET LENGTH      the blocks stay allocated
 *   zero -u FILE OFFSET LENGTH   they may be given back
 *
 * Spec: Linux, fallocate(2) of a block device, FALLOC_FL_ZERO_RANGE and FALLOC_FL_PUNCH_HOLE
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int mode = FALLOC_FL_ZERO_RANGE;

	if (argc > 1 && strcmp(argv[1], "-u") == 0) {
		mode = FALLOC_FL_PUNCH_HOLE;
		argc--;
		argv++;
	}
	if (argc != 4) {
		fprintf(stderr, "usage: zero [-u] FILE OFFSET LENGTH\n");
		return 2;
	}

	int fd = open(argv[1], O_RDWR);

	if (fd < 0 || fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, strtoll(argv[2], NULL, 10),
				strtoll(argv[3], NULL, 10)) != 0) {
		perror(argv[1]);
		return 1;
	}
	return close(fd) == 0 ? 0 : 1;
}
