#include "lib/base/check.h"

#include <stdlib.h>

#include "vmm/log.h"

_Noreturn void check_failed(const char *expression, const char *file, int line)
{
	log_error("bug in yado: %s:%d: %s; please report it", file, line, expression);
	abort();
}
