#include "core/hw/entry.h"

#include <errno.h>
#include <stddef.h>

#include "core/hw/asm.h"
#include "core/hw/cpu_tables.h"
#include "core/hw/irq.h"
#include "core/hw/power.h"
#include "core/hw/regs.h"
#include "core/mem/kmap.h"
#include "core/mem/space.h"
#include "core/panic.h"

_Static_assert(sizeof(struct user_frame) == 168, "entry.S");
_Static_assert(offsetof(struct user_frame, rip) == 128, "entry.S");
_Static_assert(offsetof(struct user_frame, rcx) == 56, "entry.S");
_Static_assert(offsetof(struct cpu, user_rsp) == 8, "entry.S");
_Static_assert(offsetof(struct cpu, kernel_rsp) == 16, "entry.S");
_Static_assert(offsetof(struct cpu, work) == 24, "entry.S");
_Static_assert(offsetof(struct cpu, syscall) == 32, "entry.S");
_Static_assert(offsetof(struct cpu, stack_canary) == 40, "gcc, clang: -mcmodel=kernel");
_Static_assert(USER_RFLAGS_MASK == 0x250dd5, "entry.S");

#define GATE_INTERRUPT 0x8e /* present, DPL 0, interrupts off */
#define GATE_USER      0xee /* DPL 3 */
#define EXCEPTIONS     32

extern const uint8_t entry_gates[256][16]; /* entry.S */

/* What entry.S calls. Constant once ring 3 runs. */
void (*entry_leave_fn)(struct user_frame *frame);
void entry_interrupt(struct user_frame *frame, unsigned vector, uint64_t error);

static struct {
	/* Constant once ring 3 runs. */
	const struct entry_ops *ops;
	/* Constant after start-up. */
	_Alignas(16) struct gate {
		uint16_t offset0, selector;
		uint8_t ist, type;
		uint16_t offset16;
		uint32_t offset32, reserved;
	} idt[256];
} doors;

_Static_assert(sizeof(struct gate) == 16, "AMD APM vol. 2, figure 4-24");

/* Instructions that may fault on user memory, and where to go on then: made by user.S. */
struct fixup {
	uint64_t rip;
	uint64_t go_on;
	uint64_t no_fault; /* the fault is not to be served */
};

extern const struct fixup kernel_fixups[], kernel_fixups_end[];

void entry_set_ops(const struct entry_ops *ops)
{
	doors.ops = ops;
	entry_leave_fn = ops->leave;
}

void user_frame_init(struct user_frame *frame, uint64_t rip, uint64_t rsp)
{
	*frame = (struct user_frame){
		.orig_rax = ENTRY_NO_SYSCALL,
		.rip = rip,
		.cs = USER_CS,
		.rflags = RFLAGS_IF | RFLAGS_FIXED,
		.rsp = rsp,
		.ss = USER_DS,
	};
}

void entry_init(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t p = (uint64_t)entry_gates[i];
		bool is_user = i == EXCEPTION_BP || i == EXCEPTION_OF;
		doors.idt[i] = (struct gate){
			.offset0 = (uint16_t)p,
			.selector = KERNEL_CS,
			.type = is_user ? GATE_USER : GATE_INTERRUPT,
			.offset16 = (uint16_t)(p >> 16),
			.offset32 = (uint32_t)(p >> 32),
		};
	}
	doors.idt[EXCEPTION_DB].ist = IST_DB + 1;
	doors.idt[EXCEPTION_NMI].ist = IST_NMI + 1;
	doors.idt[EXCEPTION_DF].ist = IST_DF + 1;
	doors.idt[EXCEPTION_MC].ist = IST_MC + 1;
}

void entry_load_idt(void)
{
	struct asm_table idt = {sizeof(doors.idt) - 1, (uint64_t)doors.idt};

	asm_lidt(&idt);
}

static const struct fixup *find_fixup(uint64_t rip)
{
	const struct fixup *f = kernel_fixups;

	for (; (uint64_t)f < (uint64_t)kernel_fixups_end; f++) {
		if (f->rip == rip) {
			return f;
		}
	}
	return NULL;
}

static unsigned access_of(uint64_t error)
{
	return (error & PFERR_I) != 0	? SPACE_EXEC
	       : (error & PFERR_W) != 0 ? SPACE_WRITE
					: SPACE_READ;
}

static const char *const names[] = {
	"divide error",	  "debug exception",	"NMI",
	"breakpoint",	  "overflow",		"bound range",
	"invalid opcode", "device unavailable", "double fault",
	"vector 9",	  "invalid TSS",	"segment not present",
	"stack fault",	  "general protection", "page fault",
	"vector 15",	  "x87 error",		"alignment check",
	"machine check",  "SIMD error",
};

/* The kernel faulted. Page faults at user addresses are expected where user.S says so. */
static void kernel_exception(struct user_frame *frame, const struct exception *e)
{
	const struct fixup *f = find_fixup(frame->rip);
	struct space *s = space_current();

	if (f != NULL && e->vector == EXCEPTION_PF && e->address < USER_END) {
		int r = -EFAULT;
		if (f->no_fault == 0 && s != NULL) {
			irq_on(); /* user.h: they were on */
			r = space_fault(s, e->address, access_of(e->error));
			irq_off();
		}
		if (r != 0) {
			frame->rip = f->go_on;
		}
		return;
	}
	if (f != NULL && e->vector == EXCEPTION_GP) {
		frame->rip = f->go_on;
		return;
	}
	if ((e->vector == EXCEPTION_DF || e->vector == EXCEPTION_PF) &&
	    kmap_is_guard(asm_read_cr2())) {
		panic_frame(frame, "kernel stack overflow at %p", (void *)asm_read_cr2());
	}
	panic_frame(frame, "%s in the kernel, error code 0x%lx, address 0x%lx",
		    e->vector < ARRAY_SIZE(names) ? names[e->vector] : "exception", e->error,
		    e->address);
}

static void user_exception(struct user_frame *frame, struct exception *e)
{
	irq_on();
	if (e->vector == EXCEPTION_PF) {
		e->result = -EFAULT;
		if (e->address < USER_END && (e->error & PFERR_RSVD) == 0) {
			e->result = space_fault(space_current(), e->address, access_of(e->error));
		}
		if (e->result == 0) {
			irq_off();
			return;
		}
	}
	doors.ops->exception(frame, e);
	irq_off();
}

void entry_interrupt(struct user_frame *frame, unsigned vector, uint64_t error)
{
	bool is_user = (frame->cs & 3) != 0;

	if (vector >= EXCEPTIONS) {
		irq_dispatch(vector);
		return;
	}
	struct exception e = {.vector = vector, .error = error};
	if (vector == EXCEPTION_PF) {
		e.address = asm_read_cr2();
	}
	if (vector == EXCEPTION_NMI) {
		if (panic_is_on()) {
			power_halt();
		}
		return; /* nobody sends any on purpose */
	}
	if (vector == EXCEPTION_MC) {
		panic_frame(frame, "machine check");
	}
	if (is_user) {
		user_exception(frame, &e);
	} else {
		kernel_exception(frame, &e);
	}
}
