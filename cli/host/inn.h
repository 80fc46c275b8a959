/*
 * All VMs of a machine, and its one console. What is shown is either a VM or the host's prompt; all
 * others go on unseen, and what they say is kept.
 *
 *	the file is bad: REFUSED <---- start ----> STOPPED <-------------------------+
 *	                                              | start                        |
 *	                          +------------> RUNNING ---- stop ----> STOPPING ---+
 *	                 the time | has come      | it ends by itself    it has ended|
 *	                          +-- WAITING <---+------------------------> ---------+
 *	                             restart wanted        not wanted
 */
#pragma once

#include "cli/host/history.h"
#include "cli/host/keys.h"
#include "cli/host/line.h"
#include "cli/host/restart.h"
#include "cli/host/screen.h"
#include "cli/host/vm_file.h"
#include "cli/host/vm_process.h"
#include "cli/host_facts.h"

#define INN_DIRECTORY "/etc/yado"
/* What a VM's process needs besides the guest's memory. */
#define INN_PROCESS_BYTES (16 * MIB)

enum inn_vm_state {
	INN_VM_REFUSED,
	INN_VM_STOPPED,
	INN_VM_RUNNING,
	INN_VM_STOPPING,
	INN_VM_WAITING,
};

/** How far the end of a VM has been driven. */
enum inn_vm_stop {
	INN_STOP_BUTTON,
	INN_STOP_TERM,
	INN_STOP_KILL
};

struct inn_vm {
	struct inn *inn;
	char *file_name; /* in the inn's directory */
	struct vm_file file;
	enum inn_vm_state state;
	enum inn_vm_stop stop;
	struct vm_process process;
	struct loop_timer timer; /* the next step of a stop, or the next start */
	struct history history;
	uint64_t seen; /* of the history: what has been on the screen */
	uint64_t started_ns;
	struct restart restart;
	unsigned starts;
	char message[VM_PROCESS_MESSAGE]; /* the last one of its process */
	char ended[VM_FILE_REASON];	  /* how it ended last; empty: not yet */
};

struct inn {
	struct loop loop;
	struct loop_source signals;
	struct screen screen;
	const char *directory;
	struct host_facts facts; /* at the start */
	struct inn_vm *vms[VM_FILES_MAX];
	unsigned nvms;
	struct inn_vm *shown; /* NULL: the prompt */
	struct keys keys;
	struct line line;
	bool answering;		/* a command is being run: the prompt comes after it */
	struct history history; /* what the host has said */
	uint64_t seen;
	bool ending; /* everything is to be stopped, then the loop */
};

/**
 * inn_init() - takes the console, reads the files and starts the VMs. What is wrong with one VM is
 * said, and the others start.
 * @own_console: see screen_init().
 * Return: 0 or -errno, logged.
 */
must_use int inn_init(struct inn *inn, const char *directory, bool own_console);

/** inn_run() - until inn_end() and the end of all VMs. Return: 0 or -errno. */
must_use int inn_run(struct inn *inn);

/** inn_fini() - gives the console back. VMs that still run are killed. */
void inn_fini(struct inn *inn);

/** inn_end() - stops all VMs, @now or in order, and then the loop. */
void inn_end(struct inn *inn, bool now);

/** inn_say() - one line from the host: shown when the prompt is, and kept. */
void inn_say(struct inn *inn, const char *fmt, ...) printf_like(2, 3);

/** inn_print() - an answer at the prompt: lines that end in a line feed. Not kept. */
void inn_print(struct inn *inn, const char *fmt, ...) printf_like(2, 3);

/** inn_show() - puts a VM that is there on the screen, or the prompt (NULL). */
void inn_show(struct inn *inn, struct inn_vm *vm);

/** inn_find() - Return: the VM of that name, or NULL, and the reason is printed. */
struct inn_vm *inn_find(struct inn *inn, const char *name);

/** inn_vm_start() - reads its file again and starts it. What is wrong is said. */
void inn_vm_start(struct inn_vm *vm);

/** inn_vm_stop() - presses the power button; @now, or when a stop is under way, ends it. */
void inn_vm_stop(struct inn_vm *vm, bool now);

/** inn_vm_is_there() - does it have a process? */
bool inn_vm_is_there(const struct inn_vm *vm);

/** inn_vm_bytes() - the memory that is set aside for it. */
uint64_t inn_vm_bytes(const struct inn_vm *vm);

/** inn_memory() - the memory there is for VMs in all, 0: unknown. @taken: what is set aside. */
uint64_t inn_memory(const struct inn *inn, uint64_t *taken);
