/* Protection keys: the instructions, what is in TLBs already, images of XSAVE. */
#include "tests/guest/bare/snippet.h"

#define VA (UINT64_C(1) << 40)

#define ALL (PTE_P | PTE_W | PTE_U)

#define LEAF1_PCID    (1u << 17)
#define LEAF7_PKU     (1u << 3)
#define LEAF13_XSAVEC (1u << 1)
#define PTE_PKEY(k)   ((uint64_t)(k) << 59)
#define XCR0_PKRU     0x200u

#define KEY 3
#define AD  (1u << 2 * KEY)
#define WD  (2u << 2 * KEY)

static void need_keys(void)
{
	if ((cpuid(7, 0).ecx & LEAF7_PKU) == 0) {
		bare_skip("the CPU has no protection keys");
	}
}

static void write_pkru(uint32_t value)
{
	__asm__ volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static uint32_t read_pkru(void)
{
	uint32_t value, high;

	__asm__ volatile("rdpkru" : "=a"(value), "=d"(high) : "c"(0));
	return value;
}

/* Keys are on, and a page at VA has KEY. */
static void start(void)
{
	need_keys();
	write_cr4(read_cr4() | CR4_PKE);
	write_pkru(0);
	bare_map(VA, bare_page(), 1, ALL | PTE_PKEY(KEY));
	invlpg(VA);
}

/* ---- the instructions ---- */

struct registers {
	uint32_t eax, ecx, edx;
	uint64_t rax, rdx; /* afterwards */
};

SNIPPET(read_by, "mov 4(%rdi), %ecx; mov $-1, %rax; mov $-1, %rdx; rdpkru;"
		 "mov %rax, 16(%rdi); mov %rdx, 24(%rdi)");
SNIPPET(write_by, "mov (%rdi), %eax; mov 4(%rdi), %ecx; mov 8(%rdi), %edx; wrpkru");
USER_SNIPPET(user_keys, "mov %edi, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru;"
			"mov $-1, %rax; rdpkru");

static void expect(void (*function)(void *), struct registers r, unsigned int vector)
{
	struct bare_trap trap;

	bare_try(&trap, function, &r);
	check(trap.happened);
	check_eq(trap.vector, vector);
	if (vector == VECTOR_GP) {
		check_eq(trap.error, 0);
	}
}

BARE_CASE(pkru_instructions, "paging/pkru_instructions", "AMD APM vol. 3, RDPKRU, WRPKRU")
{
	struct registers r = {.eax = 0x55555550};
	struct bare_trap trap;

	need_keys();
	write_cr4(read_cr4() & ~CR4_PKE);
	expect(read_by, (struct registers){0}, VECTOR_UD);
	expect(write_by, (struct registers){0}, VECTOR_UD);
	expect(write_by, (struct registers){.ecx = 1}, VECTOR_UD);
	write_cr4(read_cr4() | CR4_PKE);
	expect(read_by, (struct registers){.ecx = 1}, VECTOR_GP);
	expect(write_by, (struct registers){.ecx = 1}, VECTOR_GP);
	expect(write_by, (struct registers){.edx = 0x80000000}, VECTOR_GP);
	bare_try(&trap, write_by, &r);
	check(!trap.happened);
	bare_try(&trap, read_by, &r);
	check(!trap.happened);
	check_eq(r.rax, 0x55555550);
	check_eq(r.rdx, 0);
	check_eq(snippet_in_user(&trap, user_keys, 0xfffffff0), 0xfffffff0);
	check(!trap.happened);
	check_eq(read_pkru(), 0xfffffff0);
}

/* ---- what is known already ---- */

/* The same address before and behind it, in code without a jump. */
SNIPPET(denied_between, "mov (%rdi), %al; mov $0x40, %eax; xor %ecx, %ecx; xor %edx, %edx;"
			"wrpkru; denied_at: mov 1(%rdi), %al");
SNIPPET(read_only_between, "movb $1, (%rdi); mov $0x80, %eax; xor %ecx, %ecx; xor %edx, %edx;"
			   "wrpkru; mov 1(%rdi), %al; read_only_at: movb $2, 2(%rdi)");
LABEL(denied_at);
LABEL(read_only_at);

BARE_CASE(keys_obeyed_at_once, "paging/keys_obeyed_at_once", "Intel SDM vol. 2B, WRPKRU")
{
	struct bare_trap trap;

	start();
	for (unsigned int i = 0; i < 4; i++) {
		write_pkru(0);
		bare_try(&trap, denied_between, (void *)VA);
		check(trap.happened);
		check_eq(trap.vector, VECTOR_PF);
		check_eq(trap.rip, (uint64_t)(uintptr_t)denied_at);
		check_eq(trap.error, PF_P | PF_PK);
		check_eq(trap.cr2, VA + 1);
		write_pkru(0);
		bare_try(&trap, read_only_between, (void *)VA);
		check(trap.happened);
		check_eq(trap.rip, (uint64_t)(uintptr_t)read_only_at);
		check_eq(trap.error, PF_P | PF_W | PF_PK);
		check_eq(trap.cr2, VA + 2);
	}
	/* Writing is a matter of CR0.WP for who is not CPL 3, reading is not. */
	write_cr0(read_cr0() & ~CR0_WP);
	check_eq(access_try(ACCESS_WRITE, false, VA), NO_FAULT);
	check_eq(access_try(ACCESS_WRITE, true, VA), PF_P | PF_W | PF_U | PF_PK);
	write_pkru(AD);
	check_eq(access_try(ACCESS_WRITE, false, VA), PF_P | PF_W | PF_PK);
	write_pkru(WD);
	write_cr0(read_cr0() | CR0_WP);
	check_eq(access_try(ACCESS_WRITE, false, VA), PF_P | PF_W | PF_PK);
	/* They are nothing to pages that are not CPL 3's. */
	write_pkru(AD | WD);
	*bare_pte(VA, 1) &= ~PTE_U;
	invlpg(VA);
	check_eq(access_try(ACCESS_WRITE, false, VA), NO_FAULT);
}

BARE_CASE(keys_off, "paging/keys_off", "Intel SDM vol. 3A, 4.6.2, CR4.PKE")
{
	uint64_t found;

	start();
	write_pkru(AD);
	for (unsigned int i = 0; i < 4; i++) {
		write_cr4(read_cr4() & ~CR4_PKE);
		check_eq(access_try(ACCESS_WRITE, true, VA), NO_FAULT);
		check_eq(access_try(ACCESS_READ, false, VA), NO_FAULT);
		write_cr4(read_cr4() | CR4_PKE);
		check_eq(read_pkru(), AD);
		found = access_try(ACCESS_WRITE, true, VA);
		if (found == NO_FAULT) {
			bare_excuse("QEMU's TCG keeps its TLB when CR4.PKE is set");
		}
		check_eq(found, PF_P | PF_W | PF_U | PF_PK);
		check_eq(access_try(ACCESS_READ, false, VA), PF_P | PF_PK);
	}
}

BARE_CASE(keys_in_all_spaces, "paging/keys_in_all_spaces", "Intel SDM vol. 3A, 4.6.2, 4.10.1")
{
	uint64_t a, b = bare_page();

	start();
	if ((cpuid(1, 0).ecx & LEAF1_PCID) == 0) {
		bare_skip("the CPU has no PCID");
	}
	a = read_cr3() & ~UINT64_C(0xfff);
	__builtin_memcpy((void *)b, (void *)a, 4096);
	write_cr4(read_cr4() | CR4_PCIDE);
	for (unsigned int i = 0; i < 4; i++) {
		write_pkru(0);
		write_cr3(a | 1 | UINT64_C(1) << 63);
		check_eq(access_try(ACCESS_WRITE, true, VA), NO_FAULT);
		check_eq(access_try(ACCESS_WRITE, false, VA), NO_FAULT);
		write_cr3(b | 2 | UINT64_C(1) << 63);
		write_pkru(i % 2 == 0 ? AD : WD);
		write_cr3(a | 1 | UINT64_C(1) << 63);
		check_eq(access_try(ACCESS_WRITE, true, VA), PF_P | PF_W | PF_U | PF_PK);
		check_eq(access_try(ACCESS_WRITE, false, VA), PF_P | PF_W | PF_PK);
		check_eq(access_try(ACCESS_READ, true, VA),
			 i % 2 == 0 ? (uint64_t)(PF_P | PF_U | PF_PK) : NO_FAULT);
	}
}

/* ---- images ---- */

static uint8_t image[4096] __attribute__((aligned(64)));

static uint64_t word_at(uint32_t at)
{
	return *(volatile uint64_t *)(image + at);
}

static uint32_t pkru_at(uint32_t at)
{
	return *(volatile uint32_t *)(image + at);
}

static void clear_image(void)
{
	for (unsigned int i = 0; i < sizeof(image); i++) {
		image[i] = 0;
	}
}

static void restore(uint32_t components)
{
	__asm__ volatile("xrstor64 %0" : : "m"(image), "a"(components), "d"(0) : "memory");
}

BARE_CASE(pkru_in_images, "paging/pkru_in_images", "Intel SDM vol. 1, 13.5.7, 13.7 to 13.10")
{
	uint32_t at = cpuid(13, 9).ebx;

	if (bare_told("emulated-svm")) {
		bare_skip("QEMU's TCG does not intercept XSETBV");
	}
	start();
	check_eq(cpuid(13, 9).eax, 8);
	check((cpuid(13, 0).eax & XCR0_PKRU) != 0);
	write_cr4(read_cr4() | CR4_OSXSAVE);
	__asm__ volatile("xsetbv" : : "a"(XCR0_PKRU | 3), "d"(0), "c"(0));
	check_eq(cpuid(13, 0).ebx, at + 8);
	write_pkru(WD);
	__asm__ volatile("xsave64 %0" : "+m"(image) : "a"(XCR0_PKRU), "d"(0));
	check_eq(word_at(512) & XCR0_PKRU, XCR0_PKRU);
	check_eq(pkru_at(at), WD);
	/* What is asked for comes, and binds. */
	check_eq(access_try(ACCESS_READ, true, VA), NO_FAULT);
	*(volatile uint32_t *)(image + at) = AD;
	restore(1);
	check_eq(read_pkru(), WD);
	restore(XCR0_PKRU);
	check_eq(read_pkru(), AD);
	check_eq(access_try(ACCESS_READ, true, VA), PF_P | PF_U | PF_PK);
	clear_image();
	restore(XCR0_PKRU);
	check_eq(read_pkru(), 0);
	check_eq(access_try(ACCESS_WRITE, true, VA), NO_FAULT);
	if ((cpuid(13, 1).eax & LEAF13_XSAVEC) != 0) {
		write_pkru(AD);
		__asm__ volatile("xsavec64 %0" : "+m"(image) : "a"(XCR0_PKRU), "d"(0));
		check_eq(word_at(512), XCR0_PKRU);
		check_eq(word_at(520), XCR0_PKRU | UINT64_C(1) << 63);
		check_eq(pkru_at(576), AD);
		write_pkru(0);
		restore(XCR0_PKRU);
		check_eq(read_pkru(), AD);
	}
}
