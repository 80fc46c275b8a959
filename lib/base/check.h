/*
 * check(): an invariant of our own code, always on. Never for anything that a guest, a file or a
 * user can bring about: that is an error to be handled, not a bug to be stopped at.
 */
#pragma once

/**
 * check_failed() - says where an invariant broke and ends the program (or panics the kernel).
 * Each program that links lib/ provides its own.
 */
_Noreturn void check_failed(const char *expression, const char *file, int line);

#define check(expression)                                              \
	do {                                                           \
		if (!(expression)) {                                   \
			check_failed(#expression, __FILE__, __LINE__); \
		}                                                      \
	} while (0)
