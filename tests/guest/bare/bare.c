/* The run time of bare payloads: which case, how it went, exceptions, calls of CPL 3 and of other
 * modes, the other CPUs. */
#include "tests/guest/bare/bare.h"

#define USER_STACK_BYTES   0x4000
#define START_INFO_CMDLINE 24	       /* struct hvm_start_info, cmdline_paddr */
#define TICKS_MAX	   20000000000 /* of the TSC, until bare_wait() gives up */

#define GATE_INTERRUPT 0x8e
#define GATE_USER      0xee

struct bare_guard {
	struct bare_guard *outer;
	struct bare_trap *trap;
	uint64_t rsp;
};

extern const char bare_low[], bare_low_end[], bare_entries[];
extern char bare_stacks[];
extern const struct bare_case bare_cases[], bare_cases_end[];
void bare_switch_down(unsigned int bits);
void bare_guarded(void (*function)(void *), void *argument, uint64_t *rsp);
void bare_guarded_end(void);
uint64_t bare_user_call(uint64_t function, uint64_t argument, uint64_t user_rsp, uint64_t *rsp);
void bare_user_exit(void);
void bare_user_returned(void);
void bare_trapped(struct bare_frame *frame);
_Noreturn void bare_main(void);
_Noreturn void bare_ap_main(void);

uint32_t bare_start_info;
uint64_t bare_ap_stack, bare_ap_cr3, bare_ap_cr4;
struct bare_gate bare_idt[256];

uint64_t bare_gdt[GDT_ENTRIES] = {
	[SEL_CODE32 / 8] = 0x00cf9b000000ffff,	  [SEL_CODE64 / 8] = 0x00af9b000000ffff,
	[SEL_DATA / 8] = 0x00cf93000000ffff,	  [SEL_USER_CODE32 / 8] = 0x00cffb000000ffff,
	[SEL_USER_DATA / 8] = 0x00cff3000000ffff, [SEL_USER_CODE64 / 8] = 0x00affb000000ffff,
	[SEL_CODE16 / 8] = 0x00009b000000ffff,	  [SEL_DATA16 / 8] = 0x000093000000ffff,
};

static void (*handlers[256])(struct bare_frame *frame);
static char user_stacks[BARE_CPUS_MAX][USER_STACK_BYTES] __attribute__((aligned(16)));

static struct {
	void (*function)(void *);
	void *argument;
	uint32_t index;
	volatile uint32_t entered;
} next_cpu;

/* ---- what the compiler calls ---- */

void *memcpy(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *a, const void *b, size_t len);

void *memcpy(void *to, const void *from, size_t len)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
	return start;
}

void *memset(void *to, int value, size_t len)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(value) : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < len; i++) {
		if (x[i] != y[i]) {
			return x[i] < y[i] ? -1 : 1;
		}
	}
	return 0;
}

/* ---- saying how it went ---- */

void bare_print(const char *text)
{
	while (*text != '\0') {
		out8(BARE_PORT_TEXT, (uint8_t)*text++);
	}
}

void bare_print_hex(uint64_t value)
{
	char text[19] = "0x";

	for (int i = 0; i < 16; i++) {
		text[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
	}
	text[18] = '\0';
	bare_print(text);
}

static void print_number(uint32_t value)
{
	char text[11];
	char *digit = text + sizeof(text) - 1;

	*digit = '\0';
	do {
		*--digit = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	bare_print(digit);
}

void bare_end(enum bare_verdict verdict)
{
	out32(BARE_PORT_END, verdict);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

void bare_skip(const char *why)
{
	bare_print(why);
	bare_end(BARE_SKIPPED);
}

void bare_fail(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
	bare_print(file);
	bare_print(":");
	print_number((uint32_t)line);
	bare_print(": ");
	bare_print(what);
	bare_print(": got ");
	bare_print_hex(got);
	bare_print(", want ");
	bare_print_hex(want);
	bare_print("\n");
	bare_end(BARE_FAILED);
}

/* ---- exceptions and interrupts ---- */

struct bare_cpu *bare_cpu(void)
{
	uint64_t rsp;

	__asm__("mov %%rsp, %0" : "=r"(rsp));
	return (struct bare_cpu *)(rsp & ~(uint64_t)(STACK_BYTES - 1));
}

void bare_idt_set(uint8_t vector, void (*entry)(void), uint8_t type, uint8_t ist)
{
	uint64_t at = (uint64_t)entry;

	bare_idt[vector] = (struct bare_gate){
		.offset0 = (uint16_t)at,
		.selector = SEL_CODE64,
		.ist = ist,
		.type = type,
		.offset16 = (uint16_t)(at >> 16),
		.offset32 = (uint32_t)(at >> 32),
	};
}

void bare_idt_reset(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(bare_idt) - 1, (uint64_t)bare_idt};

	for (unsigned int i = 0; i < 256; i++) {
		bare_idt_set((uint8_t)i, (void (*)(void))(uintptr_t)(bare_entries + 16 * i),
			     GATE_INTERRUPT, i == VECTOR_DF);
	}
	bare_idt[BARE_USER_VECTOR].type = GATE_USER;
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void bare_on(uint8_t vector, void (*handler)(struct bare_frame *frame))
{
	handlers[vector] = handler;
}

static void end_guarded(struct bare_frame *frame, struct bare_guard *guard)
{
	*guard->trap = (struct bare_trap){
		.happened = true,
		.vector = (uint8_t)frame->vector,
		.error = frame->error,
		.rip = frame->rip,
		.cs = frame->cs,
		.rflags = frame->rflags,
		.rsp = frame->rsp,
		.ss = frame->ss,
		.cr2 = frame->vector == VECTOR_PF ? read_cr2() : 0,
		.dr6 = frame->vector == VECTOR_DB ? read_dr6() : 0,
	};
	frame->rip = (uint64_t)bare_guarded_end;
	frame->cs = SEL_CODE64;
	frame->rflags = 2;
	frame->rsp = guard->rsp;
	frame->ss = SEL_DATA;
}

void bare_trapped(struct bare_frame *frame)
{
	struct bare_cpu *cpu = bare_cpu();

	if (handlers[frame->vector] != NULL) {
		handlers[frame->vector](frame);
	} else if (frame->vector == BARE_USER_VECTOR && cpu->user_return_rsp != 0) {
		frame->rip = (uint64_t)bare_user_returned;
		frame->cs = SEL_CODE64;
		frame->rflags = 2;
		frame->rsp = cpu->user_return_rsp;
		frame->ss = SEL_DATA;
	} else if (cpu->guard != NULL && frame->vector < 32) {
		end_guarded(frame, cpu->guard);
	} else {
		bare_print("unexpected exception or interrupt ");
		bare_print_hex(frame->vector);
		bare_print(", error ");
		bare_print_hex(frame->error);
		bare_print(", CR2 ");
		bare_print_hex(read_cr2());
		bare_print(", RIP ");
		bare_print_hex(frame->rip);
		bare_print("\n");
		bare_end(BARE_FAILED);
	}
}

void bare_try(struct bare_trap *trap, void (*function)(void *), void *argument)
{
	struct bare_cpu *cpu = bare_cpu();
	struct bare_guard guard = {.outer = cpu->guard, .trap = trap};
	uint64_t user_return_rsp = cpu->user_return_rsp, rsp0 = cpu->tss.rsp[0];

	*trap = (struct bare_trap){0};
	cpu->guard = &guard;
	bare_guarded(function, argument, &guard.rsp);
	cpu->guard = guard.outer;
	cpu->user_return_rsp = user_return_rsp;
	cpu->tss.rsp[0] = rsp0;
}

/* ---- CPUs ---- */

static void set_up_cpu(uint32_t index)
{
	struct bare_cpu *cpu = bare_cpu();
	uint64_t tss = (uint64_t)&cpu->tss, limit = sizeof(cpu->tss) - 1;
	uint64_t *descriptor = &bare_gdt[SEL_TSS / 8 + 2 * index];

	cpu->index = index;
	cpu->apic_id = cpuid(1, 0).ebx >> 24;
	/* The lower half of the block is the stack of double faults. */
	cpu->tss.ist[0] = (uint64_t)cpu + STACK_BYTES / 2;
	cpu->tss.iomap = offsetof(struct bare_tss, ports);
	cpu->tss.ports[sizeof(cpu->tss.ports) - 1] = 0xff;
	descriptor[0] =
		limit | (tss & 0xffffff) << 16 | UINT64_C(0x89) << 40 | (tss >> 24 & 0xff) << 56;
	descriptor[1] = tss >> 32;
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS + 16 * index));
}

void bare_ap_main(void)
{
	void (*function)(void *) = next_cpu.function;
	void *argument = next_cpu.argument;

	bare_idt_reset();
	set_up_cpu(next_cpu.index);
	next_cpu.entered = 1;
	function(argument);
	for (;;) {
		__asm__ volatile("cli; hlt");
	}
}

void bare_start_cpu(uint32_t index, void (*function)(void *), void *argument)
{
	bare_ap_cr3 = read_cr3();
	bare_ap_cr4 = read_cr4();
	bare_ap_stack = (uint64_t)bare_stacks + (uint64_t)STACK_BYTES * (index + 1);
	next_cpu.function = function;
	next_cpu.argument = argument;
	next_cpu.index = index;
	next_cpu.entered = 0;
	apic_send(index, 0x4500); /* INIT, assert */
	apic_send(index, 0x4600 | LOW_BASE >> 12);
	apic_send(index, 0x4600 | LOW_BASE >> 12);
	bare_wait(&next_cpu.entered, 1);
}

void bare_wait(const volatile uint32_t *word, uint32_t value)
{
	uint64_t start = rdtsc();

	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
		if (rdtsc() - start > TICKS_MAX) {
			bare_fail(__FILE__, __LINE__, "waited too long", *word, value);
		}
		cpu_pause();
	}
}

uint64_t bare_in_user(uint64_t (*function)(uint64_t), uint64_t argument)
{
	struct bare_cpu *cpu = bare_cpu();
	uint64_t *top = (uint64_t *)(user_stacks[cpu->index] + USER_STACK_BYTES - 8);
	uint64_t outer = cpu->user_return_rsp, rsp0 = cpu->tss.rsp[0], result;

	*top = BARE_USER + (uint64_t)bare_user_exit;
	/* Traps from CPL 3 land below all that is in use here. */
	cpu->tss.rsp[0] = ((uint64_t)__builtin_frame_address(0) - 1024) & ~UINT64_C(15);
	result = bare_user_call(BARE_USER + (uint64_t)function, argument, BARE_USER + (uint64_t)top,
				&cpu->user_return_rsp);
	cpu->user_return_rsp = outer;
	cpu->tss.rsp[0] = rsp0;
	return result;
}

static void run_down(unsigned int bits, const void *code, const void *code_end, void *data)
{
	memcpy((void *)(uintptr_t)LOW_CODE, code, (size_t)((uintptr_t)code_end - (uintptr_t)code));
	memcpy((void *)(uintptr_t)LOW_DATA, data, 4096);
	bare_switch_down(bits);
	memcpy(data, (void *)(uintptr_t)LOW_DATA, 4096);
}

void bare_run16(const void *code, const void *code_end, void *data)
{
	run_down(16, code, code_end, data);
}

void bare_run32(const void *code, const void *code_end, void *data)
{
	run_down(32, code, code_end, data);
}

/* ---- which case ---- */

static bool same(const char *name, const char *word)
{
	while (*name != '\0' && *name == *word) {
		name++;
		word++;
	}
	return *name == '\0' && (*word == '\0' || *word == ' ');
}

static const char *command_line(void)
{
	uintptr_t at = bare_start_info + START_INFO_CMDLINE;

	return (const char *)(uintptr_t) * (const volatile uint32_t *)at;
}

bool bare_told(const char *word)
{
	for (const char *at = command_line(); *at != '\0'; at++) {
		if (at[0] == ' ' && same(word, at + 1)) {
			return true;
		}
	}
	return false;
}

/* A PC's firmware leaves its timer running, with vectors of its own; cases that use the PICs set
 * them up. */
static void mask_pics(void)
{
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
}

void bare_main(void)
{
	bare_idt_reset();
	set_up_cpu(0);
	mask_pics();
	memcpy((void *)(uintptr_t)LOW_BASE, bare_low, (size_t)(bare_low_end - bare_low));
	for (const struct bare_case *c = bare_cases; c < bare_cases_end; c++) {
		if (same(c->name, command_line())) {
			c->run();
			bare_end(BARE_PASSED);
		}
	}
	bare_print("no such case: ");
	bare_print(command_line());
	bare_print("\n");
	bare_end(BARE_FAILED);
}
