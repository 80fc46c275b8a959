#include "soft/engine.h"

#include <errno.h>
#include <string.h>

static const struct soft_engine *chosen; /* NULL: the fastest that this host's CPU can have */

/* What the translator emits for flags and tags wants PEXT and RORX. */
static bool can_translate(void)
{
	return __builtin_cpu_supports("bmi2");
}

int soft_engine_choose(const char *name)
{
	static const struct soft_engine *const all[] = {
		&soft_interp, &soft_translate, &soft_translate_checked, &soft_translate_small};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (strcmp(all[i]->name, name) == 0) {
			if (all[i] != &soft_interp && !can_translate()) {
				return -EOPNOTSUPP;
			}
			chosen = all[i];
			return 0;
		}
	}
	return -EINVAL;
}

const struct soft_engine *soft_engine_chosen(void)
{
	const struct soft_engine *best = can_translate() ? &soft_translate : &soft_interp;

	return chosen != NULL ? chosen : best;
}
