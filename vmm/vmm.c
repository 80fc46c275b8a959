#include "vmm/vmm.h"

#include "vmm/boot/boot.h"
#include "vmm/host/accel.h"
#include "vmm/log.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"

static const char *const end_text[] = {
	[VM_END_POWEROFF] = "the guest powered off",
	[VM_END_FAILED] = "the VM could not go on",
	[VM_END_RESET] = "the guest asked for a reboot; start the VM again",
	[VM_END_PANIC] = "the guest crashed",
	[VM_END_QUIT] = "ended by the user",
};

enum vm_end vmm_run(const struct vm_config *config, const struct host_provider *soft)
{
	struct machine *m;
	enum vm_end end = VM_END_FAILED;
	enum accel accel;

	log_init(config->name, config->json);
	if (boot_check(config) != 0) {
		return VM_END_USAGE;
	}
	if (accel_choose(config->accel, soft != NULL, &accel) != 0) {
		return VM_END_FAILED;
	}
	if (machine_create(&m, config, accel == ACCEL_SOFT ? soft : &host_kvm, &end) != 0) {
		return end;
	}
	if (!config->sandbox || sandbox_enter(accel) == 0) {
		end = machine_run(m);
		log_info("%s", end_text[end]);
	}
	machine_destroy(m);
	return end;
}
