#include "cli/host/commands.h"

#include <stdio.h>

#include "cli/host/plain.h"
#include "cli/host/prompt.h"
#include "cli/nearest.h"
#include "vmm/clock.h"

#define NS_PER_S UINT64_C(1000000000)

static const char *state_name(const struct inn_vm *vm)
{
	static const char *const names[] = {
		[INN_VM_REFUSED] = "refused",	 [INN_VM_STOPPED] = "stopped",
		[INN_VM_RUNNING] = "running",	 [INN_VM_STOPPING] = "stopping",
		[INN_VM_WAITING] = "restarting",
	};

	return names[vm->state];
}

/* What there is to say of a VM's state in a few words. */
static const char *remark(const struct inn_vm *vm, char *buf, size_t size)
{
	uint64_t ran_s = (clock_now_ns() - vm->started_ns) / NS_PER_S;

	if (vm->state == INN_VM_REFUSED) {
		return vm->file.reason;
	}
	if (!inn_vm_is_there(vm)) {
		return vm->ended;
	}
	snprintf(buf, size, "for %llu s, process %d%s", (unsigned long long)ran_s,
		 (int)vm->process.pid, vm->starts > 1 ? ", not for the first time" : "");
	return buf;
}

static void list(struct inn *inn)
{
	static const char *const restarts[] = {"no", "on-failure", "always"};
	char buf[96];

	if (inn->nvms == 0) {
		inn_print(inn, "there are no VMs: no *.json in %s\n", inn->directory);
		return;
	}
	inn_print(inn, "%-16s %-10s %4s %9s %-10s\n", "NAME", "STATE", "CPUS", "MEMORY", "RESTART");
	for (unsigned i = 0; i < inn->nvms; i++) {
		const struct inn_vm *vm = inn->vms[i];
		const struct cli_config *c = &vm->file.config;

		if (vm->state == INN_VM_REFUSED) {
			inn_print(inn, "%-16s %-10s %4s %9s %-10s %s\n", vm->file.name,
				  state_name(vm), "-", "-", "-", vm->file.reason);
			continue;
		}
		inn_print(inn, "%-16s %-10s %4u %6llu MB %-10s %s\n", vm->file.name, state_name(vm),
			  c->vm.cpus, (unsigned long long)(c->vm.memory_bytes / MIB),
			  restarts[c->restart], remark(vm, buf, sizeof(buf)));
	}
}

static void print_log(struct inn *inn, const struct history *h, unsigned lines)
{
	uint64_t at = history_lines(h, lines);
	struct plain plain = {0};
	uint8_t buf[1024];
	char text[sizeof(buf) + 1];
	uint8_t last = '\n';
	size_t n;

	while ((n = history_read(h, &at, buf, sizeof(buf))) > 0) {
		size_t len = 0;

		for (size_t i = 0; i < n; i++) {
			if (plain_feed(&plain, buf[i])) {
				last = buf[i];
				text[len++] = (char)buf[i];
			}
		}
		text[len] = '\0';
		screen_text(&inn->screen, text);
	}
	if (last != '\n') {
		screen_text(&inn->screen, "\n");
	}
}

static void memory(struct inn *inn)
{
	uint64_t taken, there = inn_memory(inn, &taken);

	inn_print(inn, "%llu MB in all; %llu MB for VMs, %llu MB of it set aside\n",
		  (unsigned long long)(inn->facts.memory_bytes / MIB),
		  (unsigned long long)(there / MIB), (unsigned long long)(taken / MIB));
	for (unsigned i = 0; i < inn->nvms; i++) {
		const struct inn_vm *vm = inn->vms[i];

		if (inn_vm_bytes(vm) != 0) {
			inn_print(inn, "  %-16s %6llu MB, %llu MB of it for its process\n",
				  vm->file.name, (unsigned long long)(inn_vm_bytes(vm) / MIB),
				  (unsigned long long)(INN_PROCESS_BYTES / MIB));
		}
	}
}

static void cpus(struct inn *inn)
{
	unsigned vcpus = 0;

	for (unsigned i = 0; i < inn->nvms; i++) {
		if (inn_vm_is_there(inn->vms[i])) {
			vcpus += inn->vms[i]->file.config.vm.cpus;
		}
	}
	inn_print(inn, "%u CPU%s, for %u vCPU%s\n", inn->facts.cpus,
		  inn->facts.cpus == 1 ? "" : "s", vcpus, vcpus == 1 ? "" : "s");
	for (unsigned i = 0; i < inn->nvms; i++) {
		const struct inn_vm *vm = inn->vms[i];

		if (inn_vm_is_there(vm)) {
			inn_print(inn, "  %-16s %u\n", vm->file.name, vm->file.config.vm.cpus);
		}
	}
}

static void start(struct inn_vm *vm)
{
	if (vm->inn->ending) {
		inn_print(vm->inn, "everything is being stopped\n");
	} else if (inn_vm_is_there(vm)) {
		inn_print(vm->inn, "%s runs already\n", vm->file.name);
	} else {
		inn_vm_start(vm);
	}
}

static void stop(struct inn_vm *vm, bool now)
{
	if (vm->state == INN_VM_STOPPING && !now) {
		inn_print(vm->inn, "%s is being stopped; stop %s --now ends it at once\n",
			  vm->file.name, vm->file.name);
	} else if (!inn_vm_is_there(vm) && vm->state != INN_VM_WAITING) {
		inn_print(vm->inn, "%s does not run\n", vm->file.name);
	} else {
		inn_vm_stop(vm, now);
	}
}

static void console(struct inn_vm *vm)
{
	if (inn_vm_is_there(vm)) {
		inn_show(vm->inn, vm);
	} else {
		inn_print(vm->inn, "%s does not run; `log %s` shows what it said\n", vm->file.name,
			  vm->file.name);
	}
}

static void run_on_vm(struct inn_vm *vm, const struct prompt_command *c)
{
	switch (c->verb) {
	case PROMPT_START:
		start(vm);
		break;
	case PROMPT_STOP:
		stop(vm, c->now);
		break;
	case PROMPT_CONSOLE:
		console(vm);
		break;
	default:
		print_log(vm->inn, &vm->history, c->lines);
		break;
	}
}

static void run(struct inn *inn, const struct prompt_command *c)
{
	switch (c->verb) {
	case PROMPT_NOTHING:
		break;
	case PROMPT_LIST:
		list(inn);
		break;
	case PROMPT_MEMORY:
		memory(inn);
		break;
	case PROMPT_CPUS:
		cpus(inn);
		break;
	case PROMPT_POWEROFF:
		inn_end(inn, c->now);
		break;
	case PROMPT_HELP:
		inn_print(inn,
			  "%sCtrl-] n shows the next VM, Ctrl-] 0 this prompt, Ctrl-] ? helps\n",
			  prompt_help());
		break;
	default:
		print_log(inn, &inn->history, c->lines);
		break;
	}
}

void commands_run(struct inn *inn, const char *text)
{
	struct prompt_command c;
	char why[160];

	if (prompt_parse(text, &c, why, sizeof(why)) != 0) {
		inn_print(inn, "%s\n", why);
	} else if (c.name[0] == '\0') {
		run(inn, &c);
	} else {
		struct inn_vm *vm = inn_find(inn, c.name);

		if (vm != NULL) {
			run_on_vm(vm, &c);
		}
	}
}
