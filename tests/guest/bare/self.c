/* Cases about the run time itself: if these fail, look here before you blame a provider. */
#include "tests/guest/bare/bare.h"

static void divide(void *zero)
{
	__asm__ volatile("divl %0" : : "r"(*(uint32_t *)zero), "a"(1), "d"(0) : "cc");
}

BARE_CASE(exception_comes_back, "self/exception_comes_back", "AMD APM vol. 2, 8.2.1")
{
	struct bare_trap trap;
	uint32_t zero = 0;

	bare_try(&trap, divide, &zero);
	check(trap.happened);
	check_eq(trap.vector, VECTOR_DE);
	check_eq(trap.cs, SEL_CODE64);
}

static uint64_t user(uint64_t argument)
{
	uint64_t cs;

	__asm__("mov %%cs, %0" : "=r"(cs));
	return cs + argument;
}

BARE_CASE(user_comes_back, "self/user_comes_back", "AMD APM vol. 2, 4.9")
{
	check_eq(bare_in_user(user, 0x1000), SEL_USER_CODE64 + 0x1000);
	check_eq(bare_in_user(user, 0x2000), SEL_USER_CODE64 + 0x2000);
}

__asm__(".pushsection .rodata\n"
	".code16\n"
	"real16: mov %cs, (%bx)\n"
	"	smsw 2(%bx)\n"
	"	lret\n"
	"real16_end:\n"
	".code32\n"
	"flat32: mov %cs, (%ebx)\n"
	"	smsw 2(%ebx)\n"
	"	ret\n"
	"flat32_end:\n"
	".code64\n"
	".popsection");
extern const char real16[], real16_end[], flat32[], flat32_end[];

BARE_CASE(modes_come_back, "self/modes_come_back", "AMD APM vol. 2, 14.6")
{
	uint16_t data[2048] = {0};
	uint64_t cr0 = read_cr0(), cr4 = read_cr4(), efer = rdmsr(MSR_EFER);

	bare_run16(real16, real16_end, data);
	check_eq(data[0], 0);
	check_eq(data[1] & 1, 0);
	bare_run32(flat32, flat32_end, data);
	check_eq(data[0], SEL_CODE32);
	check_eq(data[1] & 1, 1);
	check_eq(read_cr0(), cr0);
	check_eq(read_cr4(), cr4);
	check_eq(rdmsr(MSR_EFER), efer);
}

static void say_index(void *word)
{
	__atomic_store_n((uint32_t *)word, 100 + bare_cpu()->index, __ATOMIC_RELEASE);
}

BARE_CASE_ON(cpus_start, "self/cpus_start", "AMD APM vol. 2, 14.1.2", 3, 0)
{
	volatile uint32_t word = 0;

	apic_enable();
	bare_start_cpu(1, say_index, (void *)(uintptr_t)&word);
	bare_wait(&word, 101);
	bare_start_cpu(2, say_index, (void *)(uintptr_t)&word);
	bare_wait(&word, 102);
}

/* Many times: between the write and the read the TLB may be flushed for reasons of its own. */
BARE_CASE(stale_tlb, "self/stale_tlb", "AMD APM vol. 2, 5.5.2")
{
	uint64_t va = UINT64_C(1) << 40, pages[] = {bare_page(), bare_page()};
	volatile uint64_t *word = (volatile uint64_t *)va;

	*(uint64_t *)pages[0] = 0;
	*(uint64_t *)pages[1] = 1;
	bare_map(va, pages[0], 1, PTE_P | PTE_W);
	for (unsigned int i = 1; i < 100; i++) {
		(void)*word;
		*bare_pte(va, 1) = pages[i % 2] | PTE_P | PTE_W;
		__asm__ volatile(".globl bare_fault_invlpg\nbare_fault_invlpg: invlpg (%0)"
				 :
				 : "a"(va)
				 : "memory");
		check_eq(*word, i % 2);
	}
}
