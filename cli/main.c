#include "vmm/log.h"

int main(void)
{
	log_error("there is no command yet");
	return 2;
}
