#include "core/panic.h"

#include <stdarg.h>
#include <stdatomic.h>

#include "core/format.h"
#include "core/hw/console.h"
#include "core/hw/cpu.h"
#include "core/hw/entry.h"
#include "core/hw/ipi.h"
#include "core/hw/irq.h"
#include "core/hw/power.h"
#include "core/symbols.h"

#define FRAMES_MAX 32

extern const char kernel_start[], kernel_text_end[], kernel_end[];

static _Atomic bool panicked;

bool panic_is_on(void)
{
	return atomic_load_explicit(&panicked, memory_order_relaxed);
}

static void say(const char *fmt, ...) printf_like(1, 2);

static void say_list(const char *fmt, va_list args)
{
	char line[256];

	size_t len = format_list(line, sizeof(line), fmt, args);
	console_write(line, MIN(len, sizeof(line) - 1));
}

static void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_list(fmt, args);
	va_end(args);
}

/* @behind: 1 for return addresses: a call that does not return may be the last of its function. */
static void say_address(uint64_t rip, unsigned behind)
{
	uint64_t offset;
	const char *name = symbol_at(rip - behind, &offset);

	say("  %p %s+0x%lx\n", (void *)rip, name, offset + behind);
}

/* Frame pointers lie on this CPU's stack: upwards, and not far from each other. */
static void say_backtrace(uint64_t rbp)
{
	for (unsigned i = 0; i < FRAMES_MAX && rbp >= PHYS_BASE && (rbp & 7) == 0; i++) {
		const uint64_t *frame = (const uint64_t *)rbp;
		if (frame[1] < (uint64_t)kernel_start || frame[1] >= (uint64_t)kernel_text_end) {
			break;
		}
		say_address(frame[1], 1);
		if (frame[0] <= rbp || frame[0] - rbp > 65536) {
			break;
		}
		rbp = frame[0];
	}
}

static void begin(void)
{
	irq_off();
	if (atomic_exchange(&panicked, true)) {
		power_halt(); /* another CPU is at it, or this one fails to say what is wrong */
	}
	ipi_stop_others();
	console_break();
	say("\ncore: panic on CPU %u: ", cpu_index());
}

static _Noreturn void end(void)
{
	say("core: halted\n");
	console_drain();
	power_halt();
}

void panic(const char *fmt, ...)
{
	va_list args;

	begin();
	va_start(args, fmt);
	say_list(fmt, args);
	va_end(args);
	say("\n");
	say_backtrace((uint64_t)__builtin_frame_address(0));
	end();
}

void panic_frame(const struct user_frame *f, const char *fmt, ...)
{
	va_list args;

	begin();
	va_start(args, fmt);
	say_list(fmt, args);
	va_end(args);
	say("\n  rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
	say("  rsi %016lx rdi %016lx rbp %016lx rsp %016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
	say("  r8  %016lx r9  %016lx r10 %016lx r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
	say("  r12 %016lx r13 %016lx r14 %016lx r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
	say("  rip %016lx cs %lx rflags %lx ss %lx\n", f->rip, f->cs, f->rflags, f->ss);
	say_address(f->rip, 0);
	say_backtrace(f->rbp);
	end();
}

void refuse(const char *fmt, ...)
{
	va_list args;

	say("core: ");
	va_start(args, fmt);
	say_list(fmt, args);
	va_end(args);
	say("\n");
	power_halt();
}

void check_failed(const char *expression, const char *file, int line)
{
	panic("%s:%d: check failed: %s", file, line, expression);
}

/* What the compiler calls when a function's frame has been overwritten. */
_Noreturn void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
	panic("a stack was overrun");
}
