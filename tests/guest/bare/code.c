/* Code that changes: by itself, by aliases, by other CPUs; and code at the edge of a page. */
#include "tests/guest/bare/snippet.h"

#define VA  (UINT64_C(1) << 40)
#define ALL (PTE_P | PTE_W)

typedef uint32_t number_function(void);

/* At @at: mov $@number, %eax; ret. */
static void put_function(uint64_t at, uint32_t number)
{
	volatile uint8_t *code = (volatile uint8_t *)at;

	code[0] = 0xb8;
	for (unsigned int i = 0; i < 4; i++) {
		code[1 + i] = (uint8_t)(number >> (8 * i));
	}
	code[5] = 0xc3;
}

static uint32_t call(uint64_t at)
{
	return ((number_function *)at)();
}

BARE_CASE(written_code, "code/written_code", "AMD APM vol. 2, 7.6.1; Intel SDM vol. 3A, 11.6")
{
	uint64_t page = bare_page();

	for (uint32_t i = 0; i < 100; i++) {
		put_function(page, i);
		check_eq(call(page), i);
	}
}

/* The store changes the instruction right after it. Copied to a page of its own each time. */
SNIPPET(store_ahead,
	"movb $0x22, store_target+1(%rip); store_target: mov $0x11, %al; mov %al, (%rdi)");
SNIPPET(store_ahead_jump,
	"movb $0x33, 2f+1(%rip); jmp 1f; 1: nop; 2: mov $0x11, %al; mov %al, (%rdi)");

BARE_CASE(next_instruction, "code/next_instruction", "AMD APM vol. 2, 7.6.1")
{
	uint8_t value = 0;

	store_ahead(&value);
	check_eq(value, 0x22);
	store_ahead_jump(&value);
	check_eq(value, 0x33);
}

/* A loop that changes its own body each time round. */
SNIPPET(changing_loop, "mov $5, %ecx; xor %eax, %eax; 1: 2: add $1, %eax; incb 2b+2(%rip);"
		       "dec %ecx; jnz 1b; mov %eax, (%rdi)");

BARE_CASE(own_loop, "code/own_loop", "AMD APM vol. 2, 7.6.1")
{
	uint32_t sum = 0;

	changing_loop(&sum);
	check_eq(sum, 1 + 2 + 3 + 4 + 5);
}

BARE_CASE(written_by_alias, "code/written_by_alias",
	  "AMD APM vol. 2, 7.6.1; Intel SDM vol. 3A, 11.6")
{
	uint64_t page = bare_page();

	bare_map(VA, page, 1, ALL);
	bare_map(VA + 0x5000, page, 1, ALL);
	for (uint32_t i = 0; i < 50; i++) {
		put_function(VA + 0x5010, i);
		cpuid(0, 0); /* an alias wants a serializing instruction */
		check_eq(call(VA + 0x10), i);
		check_eq(call(page + 0x10), i);
	}
}

BARE_CASE(written_by_string, "code/written_by_string", "AMD APM vol. 2, 7.6.1")
{
	uint64_t page = bare_page(), from = bare_page();

	for (uint32_t i = 0; i < 50; i++) {
		uint64_t rdi = page + 0xff0, rsi = from, rcx = 6;

		put_function(from, i);
		__asm__ volatile("rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
		check_eq(call(page + 0xff0), i);
	}
}

BARE_CASE(written_by_atomics, "code/written_by_atomics", "AMD APM vol. 2, 7.6.1")
{
	uint64_t page = bare_page();

	put_function(page + 3, 0);
	for (uint32_t i = 0; i < 50; i++) {
		/* Aligned, as Linux's static calls are: the number of the instruction. */
		__atomic_exchange_n((uint32_t *)(page + 4), i, __ATOMIC_SEQ_CST);
		check_eq(call(page + 3), i);
		__atomic_fetch_add((uint32_t *)(page + 4), 1000, __ATOMIC_SEQ_CST);
		check_eq(call(page + 3), i + 1000);
	}
}

BARE_CASE(neighbour_on_page, "code/neighbour_on_page", "AMD APM vol. 2, 7.6.1")
{
	uint64_t page = bare_page();
	volatile uint64_t *data = (volatile uint64_t *)(page + 64);

	/* Data on a page of code: both are right, always. */
	put_function(page, 7);
	for (uint32_t i = 0; i < 200; i++) {
		*data = i;
		check_eq(call(page), 7);
		check_eq(*data, i);
	}
}

BARE_CASE(remapped, "code/remapped", "AMD APM vol. 2, 5.5.2")
{
	uint64_t first = bare_page(), second = bare_page();

	put_function(first, 1);
	put_function(second, 2);
	for (unsigned int i = 0; i < 20; i++) {
		bare_map(VA, first, 1, ALL);
		invlpg(VA);
		check_eq(call(VA), 1);
		bare_map(VA, second, 1, ALL);
		invlpg(VA);
		check_eq(call(VA), 2);
	}
}

BARE_CASE(other_address_space, "code/other_address_space", "AMD APM vol. 2, 5.5.2")
{
	uint64_t start = read_cr3(), other = bare_page(), page = bare_page();

	((uint64_t *)other)[0] = ((uint64_t *)start)[0];
	put_function(page, 2);
	write_cr3(other);
	bare_map(VA, page, 1, ALL);
	write_cr3(start);
	page = bare_page();
	put_function(page, 1);
	bare_map(VA, page, 1, ALL);
	for (unsigned int i = 0; i < 20; i++) {
		check_eq(call(VA), 1);
		write_cr3(other);
		check_eq(call(VA), 2);
		write_cr3(start);
	}
}

BARE_CASE(across_pages, "code/across_pages", "AMD APM vol. 2, 8.2.15")
{
	uint64_t first = bare_page(), second = bare_page();
	uint8_t code[6];
	struct bare_trap trap;

	/* Two pages that do not lie side by side in RAM. */
	for (uint64_t back = 1; back < 6; back++) {
		uint64_t at = VA + 4096 - back;

		bare_map(VA, first, 1, ALL);
		bare_map(VA + 4096, second, 1, 0);
		invlpg(VA);
		invlpg(VA + 4096);
		put_function((uint64_t)code, 0x12345678 + (uint32_t)back);
		for (uint64_t i = 0; i < 6; i++) {
			*(volatile uint8_t *)(i < back ? first + 4096 - back + i
						       : second + i - back) = code[i];
		}
		bare_try(&trap, (void (*)(void *))(uintptr_t)at, NULL);
		check(trap.happened);
		check_eq(trap.vector, VECTOR_PF);
		check_eq(trap.error, PF_I);
		check_eq(trap.cr2, VA + 4096);
		check_eq(trap.rip, back == 5 ? VA + 4096 : at);
		bare_map(VA + 4096, second, 1, ALL);
		check_eq(call(at), 0x12345678 + (uint32_t)back);
		/* The part on the second page changes. */
		if (back < 5) {
			*(volatile uint8_t *)(second + 4 - back) = 0xee;
			check_eq(call(at) >> 24, 0xee);
		}
	}
}

/* ---- other CPUs ---- */

static volatile uint32_t go, patched_calls;
static uint64_t patch_page;

static void caller(void *argument)
{
	(void)argument;
	for (uint32_t i = 1; i <= 20; i++) {
		bare_wait(&go, 2 * i);
		cpuid(0, 0); /* serializes, as the protocol wants */
		check_eq(call(patch_page), i);
		__atomic_store_n(&go, 2 * i + 1, __ATOMIC_RELEASE);
	}
}

BARE_CASE_ON(cross_modifying, "code/cross_modifying",
	     "AMD APM vol. 2, 7.6.1; Intel SDM vol. 3A, 8.1.3", 2, 0)
{
	patch_page = bare_page();
	put_function(patch_page, 0);
	apic_enable();
	bare_start_cpu(1, caller, NULL);
	for (uint32_t i = 1; i <= 20; i++) {
		put_function(patch_page, i);
		__atomic_store_n(&go, 2 * i, __ATOMIC_RELEASE);
		bare_wait(&go, 2 * i + 1);
	}
}

#define PATCH_VECTOR 0x62

static volatile uint32_t synced, stop, breakpoints, bad, listening;

static void on_patch_break(struct bare_frame *frame)
{
	/* As Linux does: emulate what will stand there, a five-byte MOV. */
	breakpoints++;
	frame->rax = 1;
	frame->rip += 4;
}

static void on_patch_sync(struct bare_frame *frame)
{
	(void)frame;
	cpuid(0, 0);
	synced++;
	apic_eoi();
}

static void patched_caller(void *argument)
{
	(void)argument;
	apic_enable();
	cpu_sti();
	__atomic_store_n(&listening, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&stop, __ATOMIC_ACQUIRE) == 0) {
		uint32_t number = call(patch_page);

		/* One of the two, never a mixture of both. */
		if (number != 1 && number != 0x01010101) {
			bad = number;
		}
		patched_calls++;
	}
	__atomic_store_n(&stop, 2, __ATOMIC_RELEASE);
	for (;;) {
		cpu_pause();
	}
}

static void sync_other(uint32_t *count)
{
	apic_send(1, 0x4000 | PATCH_VECTOR);
	bare_wait(&synced, ++*count);
}

BARE_CASE_ON(patch_by_breakpoint, "code/patch_by_breakpoint", "Intel SDM vol. 3A, 8.1.3", 2, 0)
{
	volatile uint8_t *code;
	uint32_t count = 0;

	patch_page = bare_page();
	code = (volatile uint8_t *)patch_page;
	put_function(patch_page, 1);
	bare_on(VECTOR_BP, on_patch_break);
	bare_on(PATCH_VECTOR, on_patch_sync);
	apic_enable();
	bare_start_cpu(1, patched_caller, NULL);
	/* An APIC that is not enabled yet drops what is sent to it. */
	bare_wait(&listening, 1);
	for (unsigned int i = 0; i < 20; i++) {
		uint32_t number = i % 2 == 0 ? 0x01010101 : 1;

		code[0] = 0xcc;
		sync_other(&count);
		for (unsigned int byte = 1; byte < 5; byte++) {
			code[byte] = (uint8_t)(number >> (8 * (byte - 1)));
		}
		sync_other(&count);
		code[0] = 0xb8;
		sync_other(&count);
		check_eq(bad, 0);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	bare_wait(&stop, 2);
	check_eq(bad, 0);
	check(patched_calls != 0);
}
