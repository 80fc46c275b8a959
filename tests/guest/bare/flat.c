/* 32-bit protected mode for cases; see flat.h. */
#include "tests/guest/bare/flat.h"

extern const char flat_low[], flat_low_end[], flat_entries[];

struct flat_frame flat_frame;
struct flat_start flat_start;
struct flat_tss flat_tss;
uint64_t flat_gdt[FLAT_GDT_MAX], flat_idt[256];
uint32_t flat_argument, flat_cr4;
char flat_user_stack[4096];

static bool initialised;
static char kernel_stack[4096];

uint64_t flat_segment(uint32_t base, uint32_t limit, uint32_t type, uint32_t flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)type << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
	       (uint64_t)(base >> 24) << 56;
}

uint64_t flat_gate(uint16_t selector, uint32_t offset, uint32_t type, uint32_t parameters)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
	       (uint64_t)type << 40 | (uint64_t)(offset >> 16) << 48;
}

void flat_init(void)
{
	initialised = true;
	for (unsigned int i = 0; i < SEL_SPARE / 8; i++) {
		flat_gdt[i] = bare_gdt[i];
	}
	flat_tss = (struct flat_tss){
		.esp0 = (uint32_t)(uintptr_t)(kernel_stack + sizeof(kernel_stack)),
		.ss0 = SEL_DATA,
		.iomap = offsetof(struct flat_tss, ports),
	};
	flat_tss.ports[sizeof(flat_tss.ports) - 1] = 0xff;
	flat_gdt[FLAT_TSS / 8] =
		flat_segment((uint32_t)(uintptr_t)&flat_tss, sizeof(flat_tss) - 1, 0x89, 0);
	for (unsigned int i = 0; i < 256; i++) {
		flat_idt[i] = flat_gate(SEL_CODE32, (uint32_t)(uintptr_t)flat_entries + 16 * i,
					i == FLAT_END ? 0xee : 0x8e, 0);
	}
}

void flat_run(void)
{
	static uint8_t data[4096];
	uint64_t *tss = &bare_gdt[SEL_TSS / 8];

	if (!initialised) {
		flat_init();
	}
	flat_gdt[FLAT_TSS / 8] &= ~(UINT64_C(2) << 40); /* not busy */
	flat_frame = (struct flat_frame){0};
	bare_run32(flat_low, flat_low_end, data);
	/* TR still holds the other one. */
	*tss &= ~(UINT64_C(2) << 40);
	__asm__ volatile("ltr %w0; lldt %w1" : : "r"(SEL_TSS), "r"(0));
}

void flat_kernel(const char *entry, uint32_t argument)
{
	flat_start = (struct flat_start){
		.eip = (uint32_t)(uintptr_t)entry, .cs = SEL_CODE32, .eflags = 2};
	flat_argument = argument;
	flat_run();
}

void flat_user(const char *entry, uint32_t argument)
{
	flat_start = (struct flat_start){
		.eip = (uint32_t)(uintptr_t)entry,
		.cs = SEL_USER_CODE32,
		.eflags = 2,
		.esp = (uint32_t)(uintptr_t)(flat_user_stack + sizeof(flat_user_stack)),
		.ss = SEL_USER_DATA,
	};
	flat_argument = argument;
	flat_run();
}

void check_flat(uint32_t vector, uint32_t error, const char *eip)
{
	check_eq(flat_frame.vector, vector);
	check_eq(flat_frame.error, error);
	if (eip != NULL) {
		check_eq(flat_frame.eip, eip);
	}
}
