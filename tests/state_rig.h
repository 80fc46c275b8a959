/*
 * For tests of state functions: one call saves, one loads. The state function is named, so that
 * one macro serves every device; what it takes behind the struct state follows the length.
 */
#pragma once

#include <errno.h>

#include "lib/base/state.h"
#include "tests/unit.h"

/** state_saved() - saves @obj to @buf, which is large enough. Return: bytes written. */
#define state_saved(state_fn, obj, buf, size, ...)     \
	({                                             \
		struct state saved_;                   \
		state_save_init(&saved_, buf, size);   \
		state_fn(obj, &saved_, ##__VA_ARGS__); \
		assert_int_equal(saved_.error, 0);     \
		saved_.pos;                            \
	})

/** state_loaded() - loads @obj; on success every byte was used. Return: 0 or -errno. */
#define state_loaded(state_fn, obj, buf, len, ...)          \
	({                                                  \
		struct state loaded_;                       \
		state_load_init(&loaded_, buf, len);        \
		state_fn(obj, &loaded_, ##__VA_ARGS__);     \
		if (loaded_.error == 0) {                   \
			assert_int_equal(loaded_.pos, len); \
		}                                           \
		loaded_.error;                              \
	})

/** assert_short_refused() - a state that ends early, wherever that is, is no state. */
#define assert_short_refused(state_fn, obj, buf, len)                                    \
	do {                                                                             \
		for (size_t n_ = 0; n_ < (len); n_++) {                                  \
			assert_int_equal(state_loaded(state_fn, obj, buf, n_), -EINVAL); \
		}                                                                        \
	} while (0)
