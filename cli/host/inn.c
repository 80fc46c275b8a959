#include "cli/host/inn.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/host/commands.h"
#include "cli/nearest.h"
#include "vmm/clock.h"
#include "vmm/log.h"

#define PROMPT	 "host> "
#define WIPE	 "\r\033[K" /* the line that the cursor is in */
#define REPLAYED 4096	    /* bytes of what a VM said unseen */
#define HELD	 4096	    /* a shown VM waits while this much is still to be shown */
#define LINE_MAX 512

/* Words on the screen */

static void show_prompt(struct inn *inn)
{
	screen_text(&inn->screen, PROMPT);
	screen_text(&inn->screen, inn->line.done ? "" : inn->line.text);
}

static void say(struct inn *inn, const char *text)
{
	history_add(&inn->history, text, strlen(text));
	history_add(&inn->history, "\n", 1);
	if (inn->shown == NULL && inn->screen.queue != NULL) {
		inn->seen = inn->history.end;
		screen_text(&inn->screen, inn->answering ? "" : WIPE);
		screen_text(&inn->screen, text);
		screen_text(&inn->screen, "\n");
		if (!inn->answering) {
			show_prompt(inn);
		}
	}
}

void inn_say(struct inn *inn, const char *fmt, ...)
{
	char text[LINE_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	say(inn, text);
}

void inn_print(struct inn *inn, const char *fmt, ...)
{
	char text[2048];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	screen_text(&inn->screen, text);
}

static void on_output(void *ctx, const uint8_t *buf, size_t n)
{
	struct inn_vm *vm = ctx;

	history_add(&vm->history, buf, n);
	if (vm->inn->shown == vm) {
		vm->seen = vm->history.end;
		screen_put(&vm->inn->screen, buf, n);
	}
}

/* A line of its own between what the guest says. */
static void add_line(struct inn_vm *vm, const char *text)
{
	const char *parts[] = {history_is_at_line_start(&vm->history) ? "" : "\r\n", text, "\r\n"};

	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		on_output(vm, (const uint8_t *)parts[i], strlen(parts[i]));
	}
}

/* Said by the host about a VM: to the host's user, and to whoever looks at the VM. */
static void vm_say(struct inn_vm *vm, const char *fmt, ...) printf_like(2, 3);

static void vm_say(struct inn_vm *vm, const char *fmt, ...)
{
	char text[LINE_MAX - VM_FILE_NAME], line[LINE_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(line, sizeof(line), "%s %s", vm->file.name, text);
	say(vm->inn, line);
	snprintf(line, sizeof(line), "[%s]", text);
	add_line(vm, line);
}

static void take_log(void *ctx, const char *level, const char *text)
{
	inn_say(ctx, "%s%s", strcmp(level, "warning") == 0 ? "warning: " : "", text);
}

/* Switching */

static void replay(struct inn *inn, const struct history *h, uint64_t *seen, bool raw)
{
	uint8_t buf[1024];
	size_t n;

	if (h->end - *seen > REPLAYED) {
		*seen = h->end - REPLAYED;
		while (history_read(h, seen, buf, 1) == 1 && buf[0] != '\n') {
			/* to the beginning of a line */
		}
	}
	while ((n = history_read(h, seen, buf, sizeof(buf) - 1)) > 0) {
		if (raw) {
			screen_put(&inn->screen, buf, n);
		} else {
			buf[n] = '\0';
			screen_text(&inn->screen, (const char *)buf);
		}
	}
}

void inn_show(struct inn *inn, struct inn_vm *vm)
{
	struct inn_vm *before = inn->shown;

	inn->shown = vm;
	if (before != NULL) {
		vm_process_update(&before->process); /* unseen it need not wait for the screen */
	}
	if (vm != NULL) {
		inn_print(inn, "%s[%s: Ctrl-] ? helps]\n", before == NULL ? WIPE : "\033[m\n",
			  vm->file.name);
		replay(inn, &vm->history, &vm->seen, true);
	} else {
		inn_print(inn, "\033[m\n[host]\n");
		replay(inn, &inn->history, &inn->seen, false);
		show_prompt(inn);
	}
}

static void show_next(struct inn *inn)
{
	unsigned first = 0;

	for (unsigned i = 0; i < inn->nvms; i++) {
		if (inn->vms[i] == inn->shown) {
			first = i + 1;
		}
	}
	for (unsigned i = 0; i < inn->nvms; i++) {
		struct inn_vm *vm = inn->vms[(first + i) % inn->nvms];

		if (inn_vm_is_there(vm)) {
			if (vm != inn->shown) {
				inn_show(inn, vm);
			}
			return;
		}
	}
	inn_say(inn, "no VM runs; `list` shows what there is");
}

static void show_help(struct inn *inn)
{
	inn_print(inn, "\nyado host: Ctrl-] and then\n"
		       "  n       the next VM\n"
		       "  0       the host's prompt\n"
		       "  Ctrl-]  send Ctrl-] to the VM\n"
		       "  ?       this list\n");
	if (inn->shown == NULL) {
		show_prompt(inn);
	}
}

/* Input */

static void type_at_prompt(struct inn *inn, uint8_t byte)
{
	struct line *l = &inn->line;

	switch (line_feed(l, byte)) {
	case LINE_NOTHING:
		break;
	case LINE_ECHO:
		screen_put(&inn->screen, &l->text[l->len - 1], 1);
		break;
	case LINE_ERASE:
		for (size_t i = 0; i < l->erased; i++) {
			screen_put(&inn->screen, "\b \b", 3);
		}
		break;
	case LINE_REFUSE:
		screen_put(&inn->screen, "\a", 1);
		break;
	case LINE_CANCEL:
		screen_text(&inn->screen, "^C\n");
		show_prompt(inn);
		break;
	case LINE_DONE:
		screen_text(&inn->screen, "\n");
		inn->answering = true;
		commands_run(inn, l->text);
		inn->answering = false;
		if (inn->shown == NULL && !inn->ending) {
			show_prompt(inn);
		}
		break;
	}
}

static void typed(struct inn *inn, uint8_t byte)
{
	switch (keys_feed(&inn->keys, byte)) {
	case KEYS_NOTHING:
		break;
	case KEYS_BYTE:
		if (inn->shown == NULL) {
			type_at_prompt(inn, byte);
		} else if (vm_process_input(&inn->shown->process, &byte, 1) == 0) {
			screen_put(&inn->screen, "\a", 1);
		}
		break;
	case KEYS_NEXT:
		show_next(inn);
		break;
	case KEYS_HOST:
		if (inn->shown != NULL) {
			inn_show(inn, NULL);
		}
		break;
	case KEYS_HELP:
		show_help(inn);
		break;
	case KEYS_UNKNOWN:
		screen_put(&inn->screen, "\a", 1);
		break;
	}
}

static void on_input(void *ctx, const uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		typed(ctx, buf[i]);
	}
}

static void on_drained(void *ctx)
{
	struct inn *inn = ctx;

	if (inn->shown != NULL) {
		vm_process_update(&inn->shown->process);
	}
}

/* What VMs say */

static bool wants_output(void *ctx)
{
	const struct inn_vm *vm = ctx;

	return vm->inn->shown != vm || screen_waiting(&vm->inn->screen) < HELD;
}

static void on_message(void *ctx, const char *line)
{
	struct inn_vm *vm = ctx;
	const char *own = "yado: ";

	snprintf(vm->message, sizeof(vm->message), "%s",
		 strncmp(line, own, strlen(own)) == 0 ? line + strlen(own) : line);
	add_line(vm, line);
}

static const struct vm_process_ops process_ops = {wants_output, on_output, on_message};
static const struct screen_ops screen_ops = {on_input, on_drained};

/* VMs */

bool inn_vm_is_there(const struct inn_vm *vm)
{
	return vm->state == INN_VM_RUNNING || vm->state == INN_VM_STOPPING;
}

uint64_t inn_vm_bytes(const struct inn_vm *vm)
{
	/* Who comes back soon keeps its place. */
	return inn_vm_is_there(vm) || vm->state == INN_VM_WAITING
		       ? vm->file.config.vm.memory_bytes + INN_PROCESS_BYTES
		       : 0;
}

uint64_t inn_memory(const struct inn *inn, uint64_t *taken)
{
	*taken = 0;
	for (unsigned i = 0; i < inn->nvms; i++) {
		*taken += inn_vm_bytes(inn->vms[i]);
	}
	return inn->facts.available_bytes != 0 ? inn->facts.available_bytes
					       : inn->facts.memory_bytes;
}

struct inn_vm *inn_find(struct inn *inn, const char *name)
{
	struct nearest near = {.word = name};
	char shown[NEAREST_WORD_MAX], hint[96] = "";

	for (unsigned i = 0; i < inn->nvms; i++) {
		if (strcmp(inn->vms[i]->file.name, name) == 0) {
			return inn->vms[i];
		}
		nearest_offer(&near, inn->vms[i]->file.name);
	}
	if (near.best != NULL) {
		nearest_hint(&near, hint, sizeof(hint));
	}
	inn_print(inn, "there is no VM \"%s\"%s\n", printable(name, shown, sizeof(shown)), hint);
	return NULL;
}

/* What it would need of others. The reason goes to @vm->file.reason. */
static void check_with_others(struct inn_vm *vm)
{
	struct inn *inn = vm->inn;
	char *why = vm->file.reason;
	uint64_t taken, there = inn_memory(inn, &taken);
	uint64_t wanted = vm->file.config.vm.memory_bytes + INN_PROCESS_BYTES;

	for (unsigned i = 0; i < inn->nvms && why[0] == '\0'; i++) {
		const struct inn_vm *other = inn->vms[i];
		const char *disk;

		if (other == vm || other->state == INN_VM_REFUSED) {
			continue;
		}
		disk = vm_file_conflict(&vm->file, &other->file);
		if (strcmp(other->file.name, vm->file.name) == 0) {
			snprintf(why, VM_FILE_REASON, "its name is also that of %.200s",
				 other->file.path);
		} else if (disk != NULL && inn_vm_bytes(other) != 0) {
			snprintf(why, VM_FILE_REASON,
				 "its disk \"%.100s\" is used by %s; that works only if both have "
				 "readonly",
				 disk, other->file.name);
		}
	}
	if (why[0] == '\0' && there != 0 && (taken > there || wanted > there - taken)) {
		snprintf(why, VM_FILE_REASON,
			 "it wants %llu MB of memory, with %llu MB for its process; of %llu MB for "
			 "VMs %llu are left",
			 (unsigned long long)(wanted / MIB),
			 (unsigned long long)(INN_PROCESS_BYTES / MIB),
			 (unsigned long long)(there / MIB),
			 (unsigned long long)((there - MIN(taken, there)) / MIB));
	}
}

static void load(struct inn_vm *vm)
{
	vm_file_fini(&vm->file);
	vm_file_load(&vm->file, vm->inn->directory, vm->file_name, &vm->inn->facts);
}

static int start_process(struct inn_vm *vm)
{
	char *argv[] = {"yado", "run", "--config", vm->file.path, "--name", vm->file.name, NULL};

	return vm_process_start(&vm->process, argv);
}

void inn_vm_start(struct inn_vm *vm)
{
	int error;

	loop_timer_clear(&vm->timer);
	vm->state = INN_VM_REFUSED; /* sets nothing aside any more */
	load(vm);
	if (vm->file.reason[0] == '\0') {
		check_with_others(vm);
	}
	if (vm->file.reason[0] != '\0') {
		vm_say(vm, "is not started: %s", vm->file.reason);
		return;
	}
	vm->message[0] = '\0';
	vm->state = INN_VM_RUNNING;
	vm->started_ns = clock_now_ns();
	error = start_process(vm);
	if (error != 0) {
		vm->state = INN_VM_STOPPED;
		snprintf(vm->ended, sizeof(vm->ended), "no process: %s", strerror(-error));
		vm_say(vm, "is not started: %s", vm->ended);
		return;
	}
	vm->starts++;
	vm_say(vm, "starts");
}

static void stop_step(struct inn_vm *vm)
{
	static const struct {
		int signal;
		unsigned seconds; /* to the next step */
	} steps[] = {
		[INN_STOP_BUTTON] = {SIGPWR, 120},
		[INN_STOP_TERM] = {SIGTERM, 5},
		[INN_STOP_KILL] = {SIGKILL, 0},
	};

	vm_process_signal(&vm->process, steps[vm->stop].signal);
	if (steps[vm->stop].seconds != 0) {
		loop_timer_set(&vm->timer,
			       clock_now_ns() + steps[vm->stop].seconds * UINT64_C(1000000000));
	}
}

void inn_vm_stop(struct inn_vm *vm, bool now)
{
	if (vm->state == INN_VM_WAITING) {
		loop_timer_clear(&vm->timer);
		vm->state = INN_VM_STOPPED;
		vm_say(vm, "is not started again");
		return;
	}
	if (!inn_vm_is_there(vm) || (vm->state == INN_VM_STOPPING && !now)) {
		return;
	}
	vm->stop = now && (vm->state != INN_VM_STOPPING || vm->stop == INN_STOP_BUTTON)
			   ? INN_STOP_TERM
		   : now ? INN_STOP_KILL
			 : INN_STOP_BUTTON;
	vm->state = INN_VM_STOPPING;
	stop_step(vm);
}

static void on_timer(void *arg)
{
	struct inn_vm *vm = arg;

	if (vm->state == INN_VM_WAITING) {
		inn_vm_start(vm);
	} else if (vm->state == INN_VM_STOPPING && vm->stop != INN_STOP_KILL) {
		vm->stop++;
		vm_say(vm, vm->stop == INN_STOP_TERM ? "does not turn itself off: it is ended"
						     : "does not end: it is killed");
		stop_step(vm);
	}
}

/* How it ended, as what follows "it ". */
static void describe_end(struct inn_vm *vm, int status)
{
	static const char *const how[] = {
		"powered off",
		"could not go on",
		"was refused by yado run",
		"asked for a reboot",
		"crashed: its kernel panicked, or its CPU could not go on",
		"was ended",
	};
	unsigned code = WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) : 0;

	if (vm->state == INN_VM_STOPPING && WIFSIGNALED(status)) {
		snprintf(vm->ended, sizeof(vm->ended), "was %s",
			 WTERMSIG(status) == SIGKILL ? "killed" : "ended");
	} else if (WIFSIGNALED(status)) {
		const char *name = sigabbrev_np(WTERMSIG(status));

		snprintf(vm->ended, sizeof(vm->ended), "lost its process: SIG%s%s",
			 name != NULL ? name : "?", WCOREDUMP(status) ? ", with a core dump" : "");
	} else if (code >= ARRAY_SIZE(how)) {
		snprintf(vm->ended, sizeof(vm->ended), "lost its process: exit status %u", code);
	} else if ((code == 1 || code == 2) && vm->message[0] != '\0') {
		snprintf(vm->ended, sizeof(vm->ended), "%s: %.200s", how[code], vm->message);
	} else {
		snprintf(vm->ended, sizeof(vm->ended), "%s", how[code]);
	}
}

static void show_host_if_shown(struct inn_vm *vm)
{
	if (vm->inn->shown == vm) {
		inn_show(vm->inn, NULL);
	}
}

static unsigned count_there(const struct inn *inn)
{
	unsigned n = 0;

	for (unsigned i = 0; i < inn->nvms; i++) {
		n += inn_vm_is_there(inn->vms[i]);
	}
	return n;
}

static void vm_ended(struct inn_vm *vm, int status)
{
	struct inn *inn = vm->inn;
	bool again = vm->state == INN_VM_RUNNING && !inn->ending &&
		     restart_wanted(vm->file.config.restart, status);

	vm_process_reaped(&vm->process);
	loop_timer_clear(&vm->timer);
	describe_end(vm, status);
	if (again) {
		uint64_t now_ns = clock_now_ns();
		uint64_t delay_ns = restart_delay_ns(&vm->restart, now_ns - vm->started_ns);

		vm->state = INN_VM_WAITING;
		loop_timer_set(&vm->timer, now_ns + delay_ns);
		vm_say(vm, "%s; it is started again in %llu.%llu s", vm->ended,
		       (unsigned long long)(delay_ns / 1000000000),
		       (unsigned long long)(delay_ns / 100000000 % 10));
	} else {
		vm->state = INN_VM_STOPPED;
		vm_say(vm, "%s", vm->ended);
		show_host_if_shown(vm);
	}
	if (inn->ending && count_there(inn) == 0) {
		loop_stop(&inn->loop);
	}
}

/* The whole */

/* As the first program we get the children of others, too: passt's, for one. */
static void reap(struct inn *inn)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < inn->nvms; i++) {
			if (inn->vms[i]->process.pid == pid) {
				vm_ended(inn->vms[i], status);
				break;
			}
		}
	}
}

void inn_end(struct inn *inn, bool now)
{
	if (!inn->ending && count_there(inn) > 0) {
		inn_say(inn,
			now ? "all VMs are ended" : "all VMs are asked to turn themselves off");
	}
	inn->ending = true;
	for (unsigned i = 0; i < inn->nvms; i++) {
		inn_vm_stop(inn->vms[i], now);
	}
	if (count_there(inn) == 0) {
		loop_stop(&inn->loop);
	}
}

static void on_signal(void *arg, uint32_t events)
{
	struct inn *inn = arg;
	struct signalfd_siginfo info;

	(void)events;
	if (read(inn->signals.fd, &info, sizeof(info)) != sizeof(info)) {
		return;
	}
	if (info.ssi_signo == SIGCHLD) {
		reap(inn);
	} else {
		inn_end(inn, inn->ending); /* who asks twice means it */
	}
}

static int init_signals(struct inn *inn)
{
	sigset_t set;
	int error;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGPWR);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	inn->signals = (struct loop_source){
		.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .arg = inn};
	error = inn->signals.fd < 0 ? -errno : loop_add(&inn->loop, &inn->signals, EPOLLIN);
	if (error != 0) {
		log_error("cannot wait for signals: %s", strerror(-error));
		if (inn->signals.fd >= 0) {
			close(inn->signals.fd);
		}
	}
	return error;
}

static void vm_destroy(struct inn_vm *vm)
{
	if (vm->process.pid != 0) {
		vm_process_signal(&vm->process, SIGKILL);
		while (waitpid(vm->process.pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	vm_process_fini(&vm->process);
	loop_timer_fini(&vm->timer, &vm->inn->loop);
	history_fini(&vm->history);
	vm_file_fini(&vm->file);
	free(vm->file_name);
	free(vm);
}

/* Takes @file_name over. */
static int vm_create(struct inn *inn, char *file_name)
{
	struct inn_vm *vm = calloc(1, sizeof(*vm));
	int error;

	if (vm == NULL) {
		free(file_name);
		return -ENOMEM;
	}
	vm->inn = inn;
	vm->file_name = file_name;
	vm->timer.source.fd = -1;
	cli_config_init(&vm->file.config);
	error = history_init(&vm->history);
	if (error == 0) {
		error = vm_process_init(&vm->process, &inn->loop, &process_ops, vm);
	}
	if (error == 0) {
		error = loop_timer_init(&vm->timer, &inn->loop, on_timer, vm);
	}
	if (error != 0) {
		vm_destroy(vm);
		return error;
	}
	inn->vms[inn->nvms++] = vm;
	return 0;
}

/* A VM that cannot be is said, and does not keep the others from starting. */
static void start_all(struct inn *inn)
{
	char **names;
	int n = vm_file_list(inn->directory, &names);

	if (n < 0) {
		inn_say(inn, "there are no VMs: %s: %s", inn->directory, strerror(-n));
		return;
	}
	for (int i = 0; i < n; i++) {
		int error = vm_create(inn, names[i]);

		if (error != 0) {
			inn_say(inn, "a VM is left out: %s", strerror(-error));
		}
	}
	free(names);
	for (unsigned i = 0; i < inn->nvms; i++) {
		inn_vm_start(inn->vms[i]);
	}
	if (n == 0) {
		inn_say(inn, "there are no VMs: no *.json in %s", inn->directory);
	}
}

int inn_init(struct inn *inn, const char *directory, bool own_console)
{
	int error;

	*inn = (struct inn){.directory = directory};
	host_facts_read(&inn->facts);
	error = history_init(&inn->history);
	if (error != 0) {
		log_error("out of memory");
		return error;
	}
	error = loop_init(&inn->loop);
	if (error != 0) {
		goto no_loop;
	}
	error = init_signals(inn);
	if (error != 0) {
		goto no_signals;
	}
	error = screen_init(&inn->screen, &inn->loop, &screen_ops, inn, own_console);
	if (error != 0) {
		goto no_screen;
	}
	(void)log_set_sink((struct log_sink){take_log, inn});
	inn_print(inn,
		  "yado host %s: `help` lists the commands, Ctrl-] n shows the next VM\n" PROMPT,
		  YADO_VERSION);
	start_all(inn);
	return 0;
no_screen:
	loop_del(&inn->loop, &inn->signals);
	close(inn->signals.fd);
no_signals:
	loop_fini(&inn->loop);
no_loop:
	history_fini(&inn->history);
	return error;
}

int inn_run(struct inn *inn)
{
	return loop_run(&inn->loop);
}

void inn_fini(struct inn *inn)
{
	for (unsigned i = 0; i < inn->nvms; i++) {
		vm_destroy(inn->vms[i]);
	}
	if (inn->shown == NULL) {
		inn_print(inn, WIPE);
	}
	(void)log_set_sink((struct log_sink){0});
	screen_fini(&inn->screen);
	loop_del(&inn->loop, &inn->signals);
	close(inn->signals.fd);
	loop_fini(&inn->loop);
	history_fini(&inn->history);
}
