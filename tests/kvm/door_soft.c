#include "lib/base/check.h"
#include "soft/soft.h"
#include "tests/kvm/door.h"
#include "tests/kvm/test.h"

static const struct door_provider soft = {
	.name = "soft",
	.open = soft_open,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

const struct door_provider *const door_providers[] = {&soft, NULL};

/* What lib/ asks of the program that it is linked into. */
_Noreturn void check_failed(const char *expression, const char *file, int line)
{
	fail("%s:%d: %s", file, line, expression);
}
