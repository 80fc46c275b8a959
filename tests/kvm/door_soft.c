#include "soft/soft.h"
#include "tests/kvm/door.h"

static const struct door_provider soft = {
	.name = "soft",
	.open = soft_open,
	.ioctl = soft_ioctl,
	.map = soft_mmap,
	.close = soft_close,
};

const struct door_provider *const door_providers[] = {&soft, NULL};
