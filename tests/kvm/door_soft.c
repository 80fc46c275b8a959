#include "lib/base/check.h"
#include "soft/engine.h"
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

static int open_with(const char *engine)
{
	expect(soft_engine_choose(engine) == 0);
	return soft_open();
}

static int open_interpreter(void)
{
	return open_with("interpret");
}

static int open_translator(void)
{
	return open_with("translate");
}

static int open_checked(void)
{
	return open_with("translate-checked");
}

static int open_small(void)
{
	return open_with("translate-small");
}

static const struct door_provider small = {
	.name = "soft:translate-small",
	.open = open_small,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

static const struct door_provider checked = {
	.name = "soft:translate-checked",
	.open = open_checked,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

static const struct door_provider interpreter = {
	.name = "soft:interpret",
	.open = open_interpreter,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

static const struct door_provider translator = {
	.name = "soft:translate",
	.open = open_translator,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

const struct door_provider *const door_providers[] = {&soft,	&interpreter, &translator,
						      &checked, &small,	      NULL};

/* What lib/ asks of the program that it is linked into. */
_Noreturn void check_failed(const char *expression, const char *file, int line)
{
	fail("%s:%d: %s", file, line, expression);
}
