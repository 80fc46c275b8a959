/*
 * The first program of a bare machine that is to run one other with arguments, since core's command
 * line has no room for them: /words names it, one word a line, and the program takes this one's
 * place.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORDS 128

extern char **environ;

int main(void)
{
	static char text[8192];
	char *argv[WORDS + 1];
	int fd = open("/words", O_RDONLY), count = 0;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0) {
		perror("/words");
		return 127;
	}
	close(fd);
	for (char *word = strtok(text, "\n"); word != NULL && count < WORDS;
	     word = strtok(NULL, "\n")) {
		argv[count++] = word;
	}
	argv[count] = NULL;
	if (count > 0) {
		execve(argv[0], argv, environ);
		perror(argv[0]);
	}
	return 127;
}
