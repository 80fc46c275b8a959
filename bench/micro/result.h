/* What measuring one row gives: samples, or the reason why there are none. */
#pragma once

#include <stdint.h>

#define SAMPLES_MAX 1024
#define WARM_UP	    16 /* samples that are taken before those that count */

enum verdict {
	MEASURED,
	SKIPPED, /* the provider or the host lacks what it takes */
	FAILED,	 /* something that is offered did not do what it should */
};

struct result {
	int64_t ticks[SAMPLES_MAX];
	unsigned count;
	char reason[160];
};

/**
 * result_add() - one more sample, in ticks of the TSC; the baseline is already taken off.
 * No more than SAMPLES_MAX are kept.
 */
void result_add(struct result *result, int64_t ticks);

/**
 * result_skip(), result_fail() - say why there is no figure, as printf() does.
 * Return: SKIPPED, FAILED.
 */
enum verdict result_skip(struct result *result, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
enum verdict result_fail(struct result *result, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * result_errno() - why there is no figure: @what failed, with errno's meaning.
 * Return: SKIPPED if the provider or the host does not know the call at all, else FAILED.
 */
enum verdict result_errno(struct result *result, const char *what);

/**
 * result_sort() - put the samples in order: the first is the least, that in the middle the median.
 */
void result_sort(struct result *result);
